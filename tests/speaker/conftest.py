from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture
def real_corpora(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    if not os.environ.get("AURISCOPE_CORPORA"):
        pytest.skip("AURISCOPE_CORPORA is not set")
    monkeypatch.setenv("AURISCOPE_CACHE", str(tmp_path_factory.mktemp("cache")))
    return Path(os.environ["AURISCOPE_CORPORA"])
