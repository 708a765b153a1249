"""``auriscope align``: what it prints, and its exit codes."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from auriscope.recognition import BLSTMCTC


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "recognizer"
    BLSTMCTC.from_config({**BLSTMCTC.Tiny, "sample_rate": 8000}).save_pretrained(folder)
    return folder


def test_one_object_per_recording_and_one_line_per_failure(
    call: Callable[..., Any], recording: Callable[..., Path], recognizer: Path, tmp_path: Path
) -> None:
    good, bad, mute = recording("good.wav", seconds=3.0), recording("bad.wav", seconds=0.2), recording("mute.wav")
    good.with_suffix(".txt").write_text("Two words")
    bad.with_suffix(".txt").write_text("many more words than this can hold")
    done = call("align", bad, good, mute, "--out", tmp_path / "out", "--model", recognizer, "--json")
    assert done.code == 1
    long, made, missing = done.objects
    assert set(long) == set(missing) == {"input", "error"}
    assert (made["input"], made["model"], made["text"]) == (str(good), str(recognizer), "Two words")
    assert [word["word"] for word in made["words"]] == ["Two", "words"]
    for word in made["words"]:
        assert 0.0 <= word["start_seconds"] <= word["end_seconds"] <= 3.0
        assert 0.0 <= word["confidence"] <= 1.0
    assert all(Path(file).is_file() for file in made["files"])
    assert len(done.complaints) == 2


def test_a_text_is_given_by_itself_or_by_its_file(
    call: Callable[..., Any], recording: Callable[..., Path], recognizer: Path, tmp_path: Path
) -> None:
    good = recording("good.wav", seconds=3.0)
    (tmp_path / "said.txt").write_text("Two words\n")
    arguments = ("align", good, "--out", tmp_path / "out", "--model", recognizer, "--text")
    shown = call(*arguments, "Two words")
    assert shown.code == 0
    assert shown.out == call(*arguments, tmp_path / "said.txt").out
    lines = shown.out.splitlines()
    assert [line.split()[-1] for line in lines[1:3]] == ["Two", "words"]
    assert [Path(line.strip()).name for line in lines[3:]] == ["align.json", "words.TextGrid", "words.srt"]


def test_wrong_models_and_usage(
    call: Callable[..., Any], recording: Callable[..., Path], separator: Path, recognizer: Path, tmp_path: Path
) -> None:
    first, second = recording("a.wav"), recording("b.wav")
    wrong = call("align", first, "--text", "a", "--out", tmp_path / "out", "--model", separator)
    assert wrong.code == 1
    assert "is no recogniser with CTC" in wrong.err
    two = call("align", first, second, "--text", "a", "--out", tmp_path / "out", "--model", recognizer)
    assert two.code == 1
    assert "one text cannot be that of 2 recordings" in two.err
    assert call("align").code == 2
