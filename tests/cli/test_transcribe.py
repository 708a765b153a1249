"""``auriscope transcribe``: what it prints, its files, and its exit codes."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from auriscope.recognition import ConformerCTC


@pytest.fixture(scope="module")
def recognizer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("models") / "recognizer"
    model = ConformerCTC.from_config({**ConformerCTC.Tiny, "sample_rate": 8000})
    model.head.weight.data.mul_(40.0)
    model.save_pretrained(folder)
    return folder


def test_text_is_printed_and_the_model_is_told(
    call: Callable[..., Any], recording: Callable[..., Path], recognizer: Path
) -> None:
    done = call("transcribe", recording("a.wav", seconds=3.0), "--model", recognizer, "--everything")
    assert done.code == 0
    (line,) = done.out.splitlines()
    assert line == line.strip() != ""
    (complaint,) = done.complaints
    assert f"transcribing with {recognizer}: " in complaint
    assert "--model hf://facebook/wav2vec2-base-960h" in complaint
    several = call(
        "transcribe", recording("a.wav", seconds=3.0), recording("b.wav"), "--model", recognizer, "--everything"
    )
    assert [Path(text.partition(": ")[0]).name for text in several.out.splitlines()] == ["a.wav", "b.wav"]
    assert several.out.splitlines()[0].endswith(f": {line}")


def test_one_object_per_recording_and_one_line_per_failure(
    call: Callable[..., Any], recording: Callable[..., Path], recognizer: Path, tmp_path: Path
) -> None:
    (tmp_path / "broken.wav").write_text("no sound")
    mute = recording("mute.wav", amplitude=0)
    done = call(
        "transcribe", recording("a.wav"), tmp_path / "broken.wav", tmp_path / "gone.wav", mute,
        "--model", recognizer, "--everything", "--num-best", "3", "--json",
    )  # fmt: skip
    assert done.code == 1
    made, broken, gone, nothing = done.objects
    assert set(broken) == set(gone) == {"input", "error"}
    assert made.keys() >= {"input", "model", "text", "words", "segments", "warnings", "duration_seconds"}
    assert (made["input"], made["model"]) == (str(tmp_path / "a.wav"), str(recognizer))
    assert made["text"] == " ".join(word["word"] for word in made["words"])
    for word in made["words"]:
        assert set(word) == {"word", "start_seconds", "end_seconds", "confidence"}
        assert 0.0 <= word["start_seconds"] <= word["end_seconds"] <= 2.0
        assert 0.0 <= word["confidence"] <= 1.0
    assert len(made["segments"][0]["alternatives"]) == 3
    assert (nothing["text"], nothing["words"], nothing["warnings"]) == ("", [], ["the recording is silent"])
    # The line about the model, and one for each failure.
    assert len(done.complaints) == 3


def test_files_are_written_and_not_again(
    call: Callable[..., Any], recording: Callable[..., Path], recognizer: Path, tmp_path: Path
) -> None:
    arguments = ("transcribe", recording("a.wav"), "--model", recognizer, "--out", tmp_path / "out", "--everything")
    done = call(*arguments, "--format", "srt,txt")
    assert done.code == 0
    names = [Path(line.strip()).name for line in done.out.splitlines()[1:]]
    assert names == ["transcript.txt", "transcribe.json", "transcript.srt"]
    assert sorted(path.name for path in (tmp_path / "out" / "a").iterdir()) == sorted(names)
    assert json.loads((tmp_path / "out" / "a" / "transcribe.json").read_text())["text"]
    assert "(done before)" in call(*arguments, "--format", "srt,txt").out
    assert "(done before)" not in call(*arguments, "--format", "srt,txt", "--force").out
    assert "(done before)" not in call(*arguments).out


def test_wrong_models_and_usage(
    call: Callable[..., Any], recording: Callable[..., Path], separator: Path, recognizer: Path, tmp_path: Path
) -> None:
    path = recording("a.wav")
    (tmp_path / "bad.arpa").write_text("\\data\\\nngram 1=x\n")
    for options, code, line in (
        (("--model", separator), 1, "is no recogniser"),
        (("--model", tmp_path / "nowhere"), 1, "there is no such folder"),
        (("--model", recognizer, "--language-model", tmp_path / "bad.arpa"), 1, "bad.arpa"),
        (("--model", recognizer, "--format", "doc"), 2, "'doc' is none of txt, json, srt, vtt"),
        (("--model", recognizer, "--num-best", "20"), 2, "cannot be more than beam_size 10"),
        (("--model", recognizer, "--workers", "0"), 2, "workers"),
    ):
        done = call("transcribe", path, *options)
        assert done.code == code, options
        (complaint,) = done.complaints
        assert line in complaint
        assert done.out == ""
    (one,) = call("transcribe", path, "--model", separator, "--json").objects
    assert set(one) == {"input", "error"}
