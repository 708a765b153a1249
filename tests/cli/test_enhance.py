"""``auriscope enhance``: what it prints, and its exit codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from auriscope.separation import ConvTasNet


@pytest.fixture(scope="module")
def enhancer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "enhancer"
    ConvTasNet.from_config({**ConvTasNet.Tiny, "sample_rate": 8000, "num_sources": 1}).save_pretrained(folder)
    return folder


def test_one_object_per_recording_and_one_line_per_failure(
    call: Callable[..., Any], recording: Callable[..., Path], enhancer: Path, tmp_path: Path
) -> None:
    good, bad = recording("good.wav", seconds=1.0), tmp_path / "bad.wav"
    bad.write_bytes(b"no sound")
    done = call("enhance", bad, good, "--out", tmp_path / "out", "--model", enhancer, "--json")
    assert done.code == 1
    failed, made = done.objects
    assert set(failed) == {"input", "error"}
    assert (made["input"], made["model"], made["sample_rate"]) == (str(good), str(enhancer), 8000)
    assert made["tracks"] == [str(tmp_path / "out" / "good" / "enhanced.wav")]
    assert len(done.complaints) == 1
    again = call("enhance", good, "--out", tmp_path / "out", "--model", enhancer)
    assert again.code == 0
    assert "done before" in again.out
    assert "enhanced.wav" in again.out


def test_wrong_models_and_usage(
    call: Callable[..., Any], recording: Callable[..., Path], separator: Path, tmp_path: Path
) -> None:
    good = recording("good.wav", seconds=1.0)
    wrong = call("enhance", good, "--out", tmp_path / "out", "--model", separator)
    assert wrong.code == 1
    assert "does not enhance; choose a model of one source" in wrong.err
    assert call("enhance").code == 2
    assert call("enhance", good, "--speakers", "2").code == 2


@pytest.mark.parametrize("verb", ["separate", "listen"])
def test_enhancing_before_separating_is_an_option(verb: str, call: Callable[..., Any]) -> None:
    assert "--enhance" in call(verb, "--help").out
