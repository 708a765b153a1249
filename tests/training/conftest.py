from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

import pytest

PATH = Path(__file__).with_name("tiny_runs.py")


@pytest.fixture(scope="session")
def tiny():
    """The module of the tiny task and its runs."""
    name = "training_tiny_runs"
    if name not in sys.modules:
        spec = importlib.util.spec_from_file_location(name, PATH)
        module = importlib.util.module_from_spec(spec)
        sys.modules[name] = module
        spec.loader.exec_module(module)
    return sys.modules[name]
