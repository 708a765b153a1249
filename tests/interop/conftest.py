from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def peer_outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what the original implementations compute, one file a case: see peer_outputs.py."""
    return run_peers("peer_outputs.py", tmp_path_factory.mktemp("peers"))


@pytest.fixture(scope="session")
def peer_folders(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of models as SpeechBrain publishes them, and what it computes with them: see peer_folders.py."""
    return run_peers("peer_folders.py", tmp_path_factory.mktemp("folders"))


@pytest.fixture(scope="session")
def peer_features(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what SpeechBrain hears: see peer_features.py."""
    return run_peers("peer_features.py", tmp_path_factory.mktemp("features"))


def run_peers(script: str, folder: Path) -> Path:
    """Run a script in the peers' environment; it fills the folder."""
    python = Path(os.environ.get("AURISCOPE_PEERS_PYTHON", ROOT / ".venv-peers" / "bin" / "python"))
    if not python.exists():
        pytest.skip("no peers' environment: run benchmarks/peers.sh, or set AURISCOPE_PEERS_PYTHON")
    subprocess.run([python, Path(__file__).with_name(script), folder], check=True, timeout=300)
    return folder
