from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
import pytest
import torch

from auriscope.metrics.der import diarization_errors
from auriscope.signal.turns import SpeakerTurn
from auriscope.speaker import diarization
from auriscope.speaker.clustering import ClusteringConfig
from auriscope.speaker.diarization import (
    NOTHING,
    RECORDING,
    DiarizationConfig,
    diarize,
    embed_with,
    talker_blocks,
)

RATE = 8_000
PITCHES = (200.0, 450.0, 1000.0, 2200.0)


def tone(person: int, seconds: float, *, seed: int = 0) -> np.ndarray:
    """A voice that the embedding below knows by its band: a tone that wavers, of level 0.1."""
    rng = np.random.default_rng([person, seed])
    drift = np.cumsum(rng.standard_normal(round(seconds * RATE))) * 0.01
    times = np.arange(round(seconds * RATE)) / RATE
    return (0.1 * np.sin(2 * np.pi * PITCHES[person] * times + drift)).astype(np.float32)


def embed(waveforms: Sequence[np.ndarray]) -> np.ndarray:
    """The root of the power in octaves."""
    edges = [100, 300, 700, 1500, 3000]
    found = []
    for waveform in waveforms:
        spectrum = np.abs(np.fft.rfft(waveform, 4 * RATE)) ** 2
        hertz = np.fft.rfftfreq(4 * RATE, 1 / RATE)
        bands = [spectrum[(hertz >= a) & (hertz < b)].sum() for a, b in pairwise(edges)]
        found.append(np.sqrt(bands))
    return np.stack(found)


def recording(turns: list[tuple[int, float, float]], seconds: float) -> tuple[np.ndarray, list[SpeakerTurn]]:
    waveform = np.zeros(round(seconds * RATE), np.float32)
    for number, (person, start, end) in enumerate(turns):
        sound = tone(person, end - start, seed=number)
        waveform[round(start * RATE) : round(start * RATE) + len(sound)] += sound
    return waveform, [SpeakerTurn(f"p{person}", start, end) for person, start, end in turns]


MEETING = [
    (0, 0.5, 6.0),
    (1, 6.0, 11.0),
    (2, 12.0, 17.0),
    (0, 17.5, 20.0),
    (3, 20.0, 26.0),
    (1, 27.0, 30.0),
    (2, 30.0, 33.5),
    (3, 34.0, 38.0),
]


def spans_of(turns: list[SpeakerTurn]) -> list[tuple[int, int]]:
    """Where anybody speaks."""
    found: list[list[float]] = []
    for turn in sorted(turns, key=lambda turn: turn.start_seconds):
        if found and turn.start_seconds <= found[-1][1]:
            found[-1][1] = max(found[-1][1], turn.end_seconds)
        else:
            found.append([turn.start_seconds, turn.end_seconds])
    return [(round(start * RATE), round(end * RATE)) for start, end in found]


def blocks_of(sounds: np.ndarray, size: int) -> list[np.ndarray]:
    return [sounds[:, start : start + size] for start in range(0, sounds.shape[1], size)]


@pytest.mark.parametrize("method", ["spectral", "agglomerative"])
@pytest.mark.parametrize("num_speakers", [None, 4])
def test_finds_how_many_speak_and_when(method, num_speakers) -> None:
    waveform, truth = recording(MEETING, 39.0)
    config = DiarizationConfig(clustering=ClusteringConfig(method))
    found = diarize(
        [waveform[None]], spans_of(truth), embed, sample_rate=RATE, num_speakers=num_speakers, config=config
    )
    errors = diarization_errors(found.turns, truth)
    assert found.num_speakers == 4
    assert [turn.speaker for turn in found.turns[:3]] == ["speaker1", "speaker2", "speaker3"]
    assert errors.rate < 0.03
    assert errors.missed_seconds < 0.1


@pytest.mark.parametrize("size", [501, 7_919, 65_536])
def test_the_sizes_of_blocks_change_nothing(size: int) -> None:
    waveform, truth = recording(MEETING, 39.0)
    whole = diarize([waveform[None]], spans_of(truth), embed, sample_rate=RATE)
    parts = diarize(blocks_of(waveform[None], size), spans_of(truth), embed, sample_rate=RATE)
    assert parts.turns == whole.turns
    assert np.array_equal(parts.sources, whole.sources)
    np.testing.assert_allclose(parts.voices, whole.voices, atol=1e-12)


def test_little_sound_is_held(monkeypatch: pytest.MonkeyPatch) -> None:
    """No more than a block and two windows of sound are in memory, however long the recording."""
    held = []
    concatenate = np.concatenate

    def watched(arrays, *args, **kwargs):
        out = concatenate(arrays, *args, **kwargs)
        held.append(out.shape[-1] if out.ndim == 2 and out.dtype == np.float32 and out.shape[0] == 1 else 0)
        return out

    monkeypatch.setattr(diarization.np, "concatenate", watched)
    waveform, truth = recording(MEETING, 39.0)
    seconds = 39 * 20
    spans = [(begin + k * len(waveform), end + k * len(waveform)) for k in range(20) for begin, end in spans_of(truth)]
    found = diarize((waveform[None] for _ in range(20)), spans, embed, sample_rate=RATE)
    monkeypatch.undo()
    assert found.num_speakers == 4
    assert len(found.sources) == seconds / found.frame_seconds
    assert max(held) <= len(waveform) + 2 * RATE


def test_two_at_once_are_told_apart_by_the_streams() -> None:
    turns = [*MEETING[:5], (1, 24.0, 29.0), (2, 30.0, 36.0), (0, 34.0, 38.5)]
    waveform, truth = recording(turns, 39.0)
    # Streams as a separator makes them: whoever speaks is in either, now and then in the other.
    streams = np.zeros((2, len(waveform)), np.float32)
    for number, (person, start, end) in enumerate(turns):
        sound = tone(person, end - start, seed=number)
        streams[number % 2, round(start * RATE) : round(start * RATE) + len(sound)] += sound
    alone = diarize([waveform[None]], spans_of(truth), embed, sample_rate=RATE, num_speakers=4)
    sounds = np.concatenate([waveform[None], streams])
    both = diarize(blocks_of(sounds, 6_000), spans_of(truth), embed, sample_rate=RATE, num_speakers=4)
    before, after = diarization_errors(alone.turns, truth), diarization_errors(both.turns, truth)
    assert before.missed_seconds == pytest.approx(4.0, abs=0.3)
    assert after.missed_seconds < 1.5
    assert after.error_seconds < 0.6 * before.error_seconds
    assert ((both.sources > RECORDING).sum(axis=1) <= 2).all()
    crowded = (both.sources != NOTHING).sum(axis=1) == 2
    assert (both.sources[crowded] != RECORDING).all()

    tracks = np.concatenate(list(talker_blocks(blocks_of(sounds, 5_000), both, sample_rate=RATE)), axis=1)
    assert tracks.shape == (4, len(waveform))
    people = after.mapping
    for number in range(4):
        person = int(people[f"speaker{number + 1}"][1:])
        own = np.zeros(len(waveform), np.float32)
        for index, (who, start, end) in enumerate(turns):
            if who == person:
                own[round(start * RATE) : round(end * RATE)] += tone(who, end - start, seed=index)
        error = np.sum((tracks[number] - own) ** 2) / np.sum(own**2)
        assert error < 0.2, f"track {number} holds others than {person}"


def test_tracks_add_up_to_the_recording_where_people_speak_alone() -> None:
    waveform, truth = recording(MEETING, 39.0)
    found = diarize([waveform[None]], spans_of(truth), embed, sample_rate=RATE)
    tracks = np.concatenate(list(talker_blocks(blocks_of(waveform[None], 3_001), found, sample_rate=RATE)), axis=1)
    whole = np.concatenate(list(talker_blocks([waveform[None]], found, sample_rate=RATE)), axis=1)
    np.testing.assert_allclose(tracks, whole, atol=1e-6)
    np.testing.assert_allclose(tracks.sum(axis=0), waveform, atol=1e-6)


def test_nothing_said_and_a_recording_shorter_than_a_window() -> None:
    silence = np.zeros((1, RATE), np.float32)
    found = diarize([silence], [], embed, sample_rate=RATE)
    assert found.turns == ()
    assert found.num_speakers == 0
    assert diarize([], [], embed, sample_rate=RATE).turns == ()
    short = tone(1, 0.3)[None]
    found = diarize([short], [(0, short.shape[1])], embed, sample_rate=RATE)
    assert [turn.speaker for turn in found.turns] == ["speaker1"]
    assert found.turns[0].end_seconds == pytest.approx(0.3, abs=0.05)


def test_spans_beyond_the_end_are_cut_off() -> None:
    waveform = tone(0, 3.0)[None]
    found = diarize([waveform], [(0, 2 * RATE), (5 * RATE, 6 * RATE)], embed, sample_rate=RATE)
    assert max(turn.end_seconds for turn in found.turns) <= 3.0


def test_a_speaker_model_embeds_waveforms_of_any_length() -> None:
    class Mean(torch.nn.Module):
        config = type("Config", (), {"sample_rate": RATE})
        device = torch.device("cpu")
        min_seconds = 0.25

        def embed(self, waveform: torch.Tensor, lengths: torch.Tensor) -> torch.Tensor:
            assert int(lengths.min()) >= 0.25 * RATE
            sums = waveform.sum(dim=1) / lengths
            return torch.stack([sums, torch.ones_like(sums)], dim=1)

    found = embed_with(Mean())([np.ones(RATE, np.float32), np.ones(10, np.float32)])
    np.testing.assert_allclose(found[0], [1.0, 1.0])
    assert found[1, 0] == pytest.approx(10 / (0.25 * RATE), rel=1e-2)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="hop_seconds"):
        DiarizationConfig(hop_seconds=2.0)
    with pytest.raises(ValueError, match="min_seconds"):
        DiarizationConfig(min_seconds=0.0)
    with pytest.raises(ValueError, match="certainty"):
        DiarizationConfig(certainty=0.0)
