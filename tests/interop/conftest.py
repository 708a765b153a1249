from __future__ import annotations

import os
import subprocess
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def peer_outputs(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder of what the original implementations compute, one file a case: see peer_outputs.py."""
    python = Path(os.environ.get("AURISCOPE_PEERS_PYTHON", ROOT / ".venv-peers" / "bin" / "python"))
    if not python.exists():
        pytest.skip("no peers' environment: run benchmarks/peers.sh, or set AURISCOPE_PEERS_PYTHON")
    folder = tmp_path_factory.mktemp("peers")
    subprocess.run([python, Path(__file__).with_name("peer_outputs.py"), folder], check=True, timeout=300)
    return folder
