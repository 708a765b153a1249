"""What all tests share: where data, peers or a browser are promised, no test may be skipped for want of them."""

from __future__ import annotations

import importlib.util
import os
import random
from collections.abc import Generator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch

# What AURISCOPE_REQUIRE may name, and the words by which a skip's reason tells that it is missing.
NEEDS = {"corpora": "AURISCOPE_CORPORA", "peers": "peers' environment", "browser": "chromium", "postgres": "PostgreSQL"}

_SEED = 618_033_988


def pytest_configure(config: pytest.Config) -> None:
    unknown = set(_required()) - set(NEEDS)
    if unknown:
        raise pytest.UsageError(f"AURISCOPE_REQUIRE names {unknown.pop()!r}; it may name {', '.join(NEEDS)}")


@pytest.fixture(autouse=True)
def same_draws(monkeypatch: pytest.MonkeyPatch) -> None:
    """Begin every test with the same random numbers, whichever tests ran before it in the same process.

    The seed is one that no test's own generator begins with: what such a one draws would come again.
    """
    random.seed(_SEED)
    np.random.seed(_SEED)
    torch.manual_seed(_SEED)
    # Sessions of studies draw their seeds from the system.
    monkeypatch.setattr("secrets.randbits", random.Random(_SEED).getrandbits)


@pytest.fixture
def lstm_in_bfloat16() -> None:
    """Skip where recurrent networks cannot run in bfloat16 at all: oneDNN has no such LSTM for some CPUs."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        try:
            torch.nn.LSTM(2, 2)(torch.zeros(1, 1, 2))
        except RuntimeError as error:
            pytest.skip(f"this CPU has no LSTM in bfloat16: {str(error).partition('.')[0]}")


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item, call: pytest.CallInfo[None]
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Turn a skip into a failure where what is missing is required."""
    report = yield
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2]
        missing = [name for name in _required() if NEEDS[name] in reason]
        if missing:
            report.outcome = "failed"
            report.longrepr = f"AURISCOPE_REQUIRE={missing[0]}, but {reason}"
    return report


@pytest.fixture(scope="session")
def trees() -> ModuleType:
    """The module ``corpus_trees``, which writes miniature corpora."""
    spec = importlib.util.spec_from_file_location("corpus_trees", Path(__file__).with_name("corpus_trees.py"))
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _required() -> list[str]:
    return os.environ.get("AURISCOPE_REQUIRE", "").split()
