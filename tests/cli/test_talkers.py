"""A track is a talker: four people, a separator of two outputs, and voices that tell which piece is whose."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile

from auriscope.data.conversations import Conversation, ConversationConfig, Conversations
from auriscope.errors import AuriscopeError
from auriscope.separation.counting import CountClassifier
from auriscope.signal.files import read
from auriscope.speaker.diarization import Diarization
from auriscope.verbs.diarizer import Diarizer, Found
from auriscope.verbs.separate import separate
from auriscope.verbs.talkers import TalkerTracks

from .voices import Timbre

RATE = 16_000


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "timbre"
    Timbre.from_config({}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def talk(tmp_path_factory: pytest.TempPathFactory) -> Conversation:
    config = ConversationConfig(
        corpora=("synthetic",),
        seconds=30.0,
        num_speakers=(4, 4),
        min_speaker_seconds=5.0,
        snr_db=None,
        overlap_probability=0.0,
    )
    return Conversations(config, "test", folder=tmp_path_factory.mktemp("cache"))[0]


@pytest.fixture
def meeting(tmp_path: Path, talk: Conversation) -> Path:
    path = tmp_path / "meeting.wav"
    soundfile.write(path, talk.waveform, talk.sample_rate, subtype="FLOAT")
    return path


def test_four_talkers_get_four_tracks_of_a_separator_of_two(
    call: Callable[..., Any], meeting: Path, model: Path, separator: Path, talk: Conversation
) -> None:
    out = meeting.parent / "out"
    options = ["--model", separator, "--embedder", model, "--speakers", 4, "--out", out, "--json"]
    (result,) = call("separate", meeting, *options).objects
    assert result["num_speakers"] == 4
    assert result["embedder"] == str(model)
    assert [Path(track).name for track in result["tracks"]] == [f"track{number}.wav" for number in range(1, 5)]
    tracks = np.stack([read(track)[0] for track in result["tracks"]])
    assert tracks.shape == (4, len(talk.waveform))
    assert all(np.abs(track).max() > 0.01 for track in tracks)
    # Where one is heard alone, the track is the recording itself.
    alone = (np.abs(tracks) > 0).sum(axis=0) == 1
    assert alone.mean() > 0.5
    exact = np.abs(tracks.sum(axis=0) - talk.waveform) < 1e-6
    assert exact[alone].mean() > 0.7
    assert sorted(path.name for path in (out / "meeting").iterdir()) == [
        "separate.json",
        *(f"track{number}.wav" for number in range(1, 5)),
    ]
    (again,) = call("separate", meeting, *options).objects
    assert again["resumed"]


def test_the_page_has_a_lane_and_a_colour_for_each(
    call: Callable[..., Any], tmp_path: Path, model: Path, separator: Path, estimator: Path, talk: Conversation
) -> None:
    out, meeting = tmp_path / "out", tmp_path / "meeting.wav"
    soundfile.write(meeting, talk.waveform[: 8 * RATE], RATE)
    options = ["--model", separator, "--embedder", model, "--quality-model", estimator, "--no-transcribe"]
    (result,) = call("listen", meeting, *options, "--speakers", 4, "--out", out, "--json").objects
    assert "error" not in result
    assert result["num_speakers"] == len(result["tracks"]) == 4
    assert any(track["turns"] for track in result["tracks"])
    page = (out / "meeting" / "report.html").read_text(encoding="utf-8")
    assert "4 talkers, each in a track of their own" in page
    assert page.count('<div class="lane hue') == 4
    assert '<div class="lane hue4">' in page
    assert f"{model}, which told the voices apart" in page
    assert f"--embedder {model}" in page
    assert json.loads((out / "meeting" / "report.json").read_text())["embedder"] == str(model)


def found(seconds: list[float]) -> Found:
    """A result in which each person speaks for so long."""
    ends = np.round(np.cumsum([0.0, *seconds]) / 0.05).astype(int)
    sources = np.full((ends[-1], len(seconds)), -1, dtype=np.int8)
    for number in range(len(seconds)):
        sources[ends[number] : ends[number + 1], number] = 0
    return Found(Diarization((), np.eye(len(seconds)), sources, 0.05), float(sum(seconds)), float(sum(seconds)))


@pytest.mark.parametrize(
    ("seconds", "tracks", "warned"),
    [([9.0, 9.0, 9.0, 9.0, 9.0], 5, False), ([9.0, 9.0, 9.0, 9.0, 1.0], 4, False), ([9.0, 9.0], 2, True)],
)
def test_voices_count_who_takes_turns(
    meeting: Path,
    model: Path,
    separator: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    seconds: list[float],
    tracks: int,
    warned: bool,
) -> None:
    bias = np.array([0.0, 9.0 * (not warned), 0.0, 9.0 * warned])
    names = ["2:level_db_2"]
    CountClassifier(
        names, [1, 2, 3, 4], np.zeros(1), np.ones(1), np.zeros((4, 1)), bias, separators=[str(separator)]
    ).save(tmp_path / "counting.json")
    monkeypatch.setattr("auriscope.verbs.talkers.SHIPPED_COUNTER", tmp_path / "counting.json")
    monkeypatch.setattr(Diarizer, "find", lambda *_, num_speakers=None, **__: found(seconds[:num_speakers]))
    (result,) = separate(meeting, tmp_path / "out", model=separator, embedder=model, speakers="auto")
    assert result.error is None
    assert len(result.tracks) == tracks
    assert any("at least 3" in warning for warning in result.warnings) == warned
    assert result.at_least == warned


def test_voices_that_are_not_found_leave_silent_tracks(model: Path, tmp_path: Path) -> None:
    talkers = TalkerTracks(Diarizer(model), 4)
    sounds = np.zeros((3, RATE), np.float32)
    blocks = list(talkers.assign([sounds], RATE, tmp_path, lambda _: None))
    assert np.concatenate(blocks, axis=1).shape == (4, RATE)
    assert talkers.num_found == 0
    assert list(talkers.assign([], RATE, tmp_path, lambda _: None)) == []
    assert list(tmp_path.iterdir()) == []


def test_an_enhancer_tells_nobody_apart(meeting: Path, model: Path, tmp_path: Path) -> None:
    with pytest.raises(AuriscopeError, match="has one output and tells nobody apart"):
        separate(meeting, tmp_path / "out", model="separation/twostep.enhance", embedder=model, speakers=4)


def test_more_than_three_without_a_speaker_model_are_one_line(
    meeting: Path, separator: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("auriscope.verbs.defaults.DEFAULT_EMBEDDER", "speaker/none")
    with pytest.raises(AuriscopeError, match="no speaker model is installed"):
        separate(meeting, tmp_path / "out", model=separator, speakers=4)
