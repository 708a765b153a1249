"""Tiny models and the ways to run the command line."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

RATE = 8000


@dataclass(frozen=True)
class Outcome:
    """What a command printed and returned."""

    code: int
    out: str
    err: str

    @property
    def objects(self) -> list[Any]:
        """The JSON objects on stdout, one per line; anything else there fails, and so does NaN."""

        def refuse(constant: str) -> None:
            raise AssertionError(f"{constant} is not JSON")

        return [json.loads(line, parse_constant=refuse) for line in self.out.splitlines()]

    @property
    def complaints(self) -> list[str]:
        """The lines of stderr that tell of a problem."""
        return [line for line in self.err.splitlines() if line.startswith("auriscope: ")]


@pytest.fixture
def call() -> Callable[..., Outcome]:
    """Run the application in this process."""
    from auriscope.cli import app

    def run(*arguments: object) -> Outcome:
        result = CliRunner(env={"COLUMNS": "200"}).invoke(app, [str(argument) for argument in arguments])
        assert result.exception is None or isinstance(result.exception, SystemExit), result.exception
        assert "Traceback" not in result.stderr
        return Outcome(result.exit_code, result.stdout, result.stderr)

    return run


@pytest.fixture
def start() -> Callable[..., Outcome]:
    """Run the application as a process of its own."""

    def run(*arguments: object, **environment: str) -> Outcome:
        done = subprocess.run(
            [sys.executable, "-c", "from auriscope.cli import main; main()", *map(str, arguments)],
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
            env={**os.environ, **environment},
        )
        return Outcome(done.returncode, done.stdout, done.stderr)

    return run


@pytest.fixture(scope="session")
def separator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A separation model of a few thousand random weights."""
    import torch

    from auriscope.separation import ConvTasNet

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "separator"
    ConvTasNet.from_config({**ConvTasNet.Tiny, "sample_rate": RATE, "num_sources": 2}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def estimator(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A quality model of a few thousand random weights."""
    import torch

    from auriscope.quality import SiSnrEstimator

    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "estimator"
    SiSnrEstimator.from_config({**SiSnrEstimator.Tiny, "sample_rate": RATE}).save_pretrained(folder)
    return folder


@pytest.fixture
def recording(tmp_path: Path) -> Callable[..., Path]:
    """Write a recording of noise that comes and goes."""

    def make(
        name: str,
        *,
        seconds: float = 2.0,
        rate: int = RATE,
        channels: int = 1,
        amplitude: float = 0.1,
        subtype: str = "PCM_16",
        seed: int = 0,
    ) -> Path:
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        waveform = amplitude * np.random.default_rng(seed).standard_normal((max(1, round(seconds * rate)), channels))
        soundfile.write(path, waveform.clip(-1, 1), rate, subtype=subtype)
        return path

    return make
