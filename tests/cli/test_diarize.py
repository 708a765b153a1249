"""``diarize`` from Python and from the command line, on made voices that take turns."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

import auriscope
from auriscope.data.conversations import Conversation, ConversationConfig, Conversations
from auriscope.data.rttm import read_rttm, write_rttm
from auriscope.errors import AuriscopeError
from auriscope.metrics.der import diarization_errors
from auriscope.verbs import diarizer
from auriscope.verbs.diarizer import beside

from .voices import RATE, Timbre


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "timbre"
    Timbre.from_config({}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Conversation:
    """Half a minute of two synthetic voices."""
    config = ConversationConfig(
        corpora=("synthetic",), seconds=30.0, min_speaker_seconds=5.0, snr_db=None, overlap_probability=0.0
    )
    return Conversations(config, "test", folder=tmp_path_factory.mktemp("cache"))[0]


@pytest.fixture
def recording(tmp_path: Path, talk: Conversation) -> Path:
    path = tmp_path / "the talk.wav"
    soundfile.write(path, talk.waveform, talk.sample_rate)
    write_rttm(tmp_path / "true.rttm", {"the talk": talk.turns})
    return path


def test_turns_are_printed_as_rttm_and_as_json(call: Callable[..., Any], model: Path, recording: Path) -> None:
    outcome = call("diarize", recording, "--model", model, "--speakers", 2)
    assert outcome.code == 0
    lines = outcome.out.splitlines()
    assert all(line.startswith("SPEAKER the_talk 1 ") for line in lines)
    outcome = call("diarize", recording, "--model", model, "--speakers", 2, "--json")
    (found,) = outcome.objects
    assert found["num_speakers"] == 2
    assert len(found["turns"]) == len(lines)
    assert set(found["turns"][0]) == {"speaker", "start_seconds", "end_seconds"}
    assert found["turns"][0]["speaker"] == "speaker1"
    assert "error" not in found


def test_speech_is_found_where_it_is(talk: Conversation, model: Path, recording: Path) -> None:
    (result,) = auriscope.diarize(recording, model=model, speakers=2)
    one = [turn._replace(speaker="x") for turn in result.turns]
    errors = diarization_errors(one, [turn._replace(speaker="x") for turn in talk.turns])
    assert errors.missed_seconds < 0.1 * errors.total_seconds
    assert errors.false_alarm_seconds < 0.1 * errors.total_seconds
    assert result.duration_seconds == 30.0
    assert result.speech_seconds == pytest.approx(errors.total_seconds, rel=0.15)


def test_what_is_written_is_not_done_again(
    model: Path, recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    out = tmp_path / "out"
    (first,) = auriscope.diarize(recording, out, model=model)
    folder = out / "the talk"
    assert first.files == (str(folder / "diarization.rttm"), str(folder / "diarize.json"))
    assert len(read_rttm(folder / "diarization.rttm")["the_talk"]) == len(first.turns)
    assert json.loads((folder / "diarize.json").read_text())["turns"][0]["speaker"] == "speaker1"
    with monkeypatch.context() as patch:
        patch.setattr(diarizer, "diarize", lambda *_, **__: pytest.fail("done again"))
        (second,) = auriscope.diarize(recording, out, model=model)
    assert second.resumed
    assert second.turns == first.turns
    (third,) = auriscope.diarize(recording, out, model=model, speakers=1)
    assert not third.resumed
    assert {turn.speaker for turn in third.turns} == {"speaker1"}


def test_the_error_is_told_against_true_turns(call: Callable[..., Any], model: Path, recording: Path) -> None:
    ref = recording.parent / "true.rttm"
    (found,) = call("diarize", recording, "--model", model, "--speakers", 2, "--ref", ref, "--json").objects
    parts = [found[f"{name}_seconds"] for name in ("missed", "false_alarm", "confusion")]
    assert found["diarization_error_rate"] == pytest.approx(sum(parts) / found["total_seconds"])
    collared = call(
        "diarize",
        recording,
        "--model",
        model,
        "--speakers",
        2,
        "--ref",
        ref,
        "--collar",
        0.25,
        "--skip-overlap",
        "--json",
    ).objects[0]
    assert collared["total_seconds"] < found["total_seconds"]
    told = call("diarize", recording, "--model", model, "--ref", ref)
    assert "diarization error" in told.err
    assert "diarization error" not in told.out
    written = call("diarize", recording, "--model", model, "--ref", ref, "--out", recording.parent / "out")
    assert "diarization error" in written.out


def test_a_separator_tells_two_at_once_apart(model: Path, recording: Path, separator: Path) -> None:
    (result,) = auriscope.diarize(recording, model=model, separator=separator, speakers=2)
    assert result.error is None
    assert result.separator == str(separator)
    assert result.num_speakers == 2


def test_a_recording_lies_beside_its_streams_however_late_they_come() -> None:
    sound = np.arange(1000, dtype=np.float32)
    blocks = [sound[start : start + 90] for start in range(0, 1000, 90)]

    def late(given):
        kept = np.zeros(0, np.float32)
        for block in given:
            kept = np.concatenate([kept, block])
            if len(kept) > 300:
                yield np.stack([kept[:170], -kept[:170]])
                kept = kept[170:]
        yield np.stack([kept, -kept])

    whole = np.concatenate(list(beside(blocks, late)), axis=1)
    assert np.array_equal(whole, np.stack([sound, sound, -sound]))


def test_silence_a_bad_file_and_a_good_one(
    call: Callable[..., Any], model: Path, recording: Path, tmp_path: Path
) -> None:
    silent, bad = tmp_path / "silent.wav", tmp_path / "bad.wav"
    soundfile.write(silent, np.zeros(2 * RATE), RATE)
    bad.write_bytes(b"no sound")
    outcome = call("diarize", silent, bad, recording, "--model", model, "--json")
    assert outcome.code == 1
    quiet, broken, good = outcome.objects
    assert quiet["turns"] == []
    assert quiet["warnings"] == ["nobody speaks in this recording"]
    assert set(broken) == {"input", "error"}
    assert good["turns"]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--speakers", "0"], "is not a number from 1 on, or auto"),
        (["--speakers", "many"], "is not a number from 1 on, or auto"),
        (["--collar", "-1"], "collar"),
    ],
)
def test_wrong_usage(call: Callable[..., Any], recording: Path, options: list[str], message: str) -> None:
    outcome = call("diarize", recording, *options)
    assert outcome.code == 2
    assert message in outcome.err


def test_one_line_where_nothing_can_be_done(
    call: Callable[..., Any], model: Path, recording: Path, separator: Path, tmp_path: Path
) -> None:
    outcome = call("diarize", recording, "--model", separator)
    assert outcome.code == 1
    assert "does not embed voices" in outcome.complaints[0]
    outcome = call("diarize", recording, "--model", model, "--separator", model)
    assert "is not a separation model" in outcome.complaints[0]
    write_rttm(tmp_path / "other.rttm", {"another": []})
    outcome = call("diarize", recording, "--model", model, "--ref", tmp_path / "other.rttm")
    assert "has no turns of a recording 'the_talk'" in outcome.complaints[0]
    with pytest.raises(AuriscopeError, match="at least 1"):
        auriscope.diarize(recording, model=model, speakers=0)
