"""Near copies: an excerpt of a recording, quieter and coded, is found; other sounds of its kind are not."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile
from numpy.typing import NDArray

FloatArray = NDArray[np.float32]
RATE = 16_000


@pytest.fixture
def near(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    monkeypatch.syspath_prepend(str(Path(__file__).resolve().parents[2] / "benchmarks"))
    import near_copies

    yield near_copies
    del sys.modules["near_copies"]


def knocks(seed: int) -> FloatArray:
    """Two seconds of knocks on something: bursts of noise that ring at its own pitches."""
    rng = np.random.default_rng(seed)
    found = np.zeros(2 * RATE)
    seconds = np.arange(RATE // 4) / RATE
    for start in rng.integers(0, len(found) - len(seconds), 6):
        ringing = sum(np.sin(2 * np.pi * pitch * seconds) for pitch in rng.uniform(300, 3000, 3))
        found[start : start + len(seconds)] += np.exp(-25 * seconds) * (rng.standard_normal(len(seconds)) + ringing)
    return (0.2 * found / np.abs(found).max()).astype(np.float32)


def coded(waveform: FloatArray) -> FloatArray:
    stream = io.BytesIO()
    soundfile.write(stream, waveform, RATE, format="OGG", subtype="OPUS")
    stream.seek(0)
    decoded: FloatArray = soundfile.read(stream, dtype="float32")[0]
    return decoded


def test_a_quiet_coded_excerpt_is_found_and_other_sounds_of_the_kind_are_not(
    near: ModuleType, monkeypatch: pytest.MonkeyPatch
) -> None:
    # Every pair is compared by its waveform.
    monkeypatch.setattr(near, "ALIKE_BY_MELS", -1.0)
    recordings = [near.Heard.of(knocks(seed)) for seed in range(8)]
    excerpt = coded(0.5 * recordings[3].waveform[5_000:22_000])
    longer = coded(np.concatenate([np.zeros(3_000, np.float32), 0.5 * recordings[5].waveform, knocks(77)]))
    others = [near.Heard.of(waveform) for waveform in (excerpt, longer, knocks(100), knocks(101))]
    found = near.near_copies(recordings, others, 0.0)
    assert {(one, other) for _, one, other in found[:2]} == {(3, 0), (5, 1)}
    assert found[1][0] > 0.6
    assert len(found) == len(recordings) * len(others)
    assert found[2][0] < near.LEAST - 0.1


def test_silence_and_clicks_are_like_nothing(near: ModuleType) -> None:
    click = np.zeros(RATE, np.float32)
    silence = near.Heard.of(click.copy())
    click[500] = 0.5
    others = [silence, near.Heard.of(click), near.Heard.of(knocks(1))]
    assert near.near_copies([silence, near.Heard.of(click)], others) == []


def test_snippets_are_the_loudest_seconds(near: ModuleType) -> None:
    waveform = np.full(5 * RATE, 0.01, np.float32)
    waveform[3 * RATE : 4 * RATE] = 0.5
    chosen = near.snippets(waveform)
    assert chosen[0] == (3 * RATE, 4 * RATE)
    assert len(chosen) == near.SNIPPETS
    assert near.snippets(waveform[:100]) == [(0, 100)]
