"""Texts with their mels and voices: what a batch holds, and that its index says it all."""

from __future__ import annotations

import dataclasses
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from auriscope.data.speech_pairs import SpeechPairs, SpeechPairsConfig, levelled, trimmed
from auriscope.errors import CorpusError, RecipeError
from auriscope.signal.vocoding import MEL_16K, MEL_22K, speech_mel

SPEECH = SpeechPairsConfig(
    corpora=("libri_251spk", "libri_readers_3spk"), batch_seconds=7.0, max_seconds=6.0, trim_db=None
)


def embed(clip: np.ndarray) -> Tensor:
    """A stand-in for a speaker model: the clip's length and the sum of its samples."""
    return torch.tensor([float(len(clip)), float(clip.sum())])


def test_an_epoch_has_every_utterance_once_with_its_mel(corpora: Path) -> None:
    pairs = SpeechPairs(SPEECH, MEL_16K, seed=1, write=str.lower)
    assert pairs.num_seconds == pytest.approx(33.0)
    found: Counter[str] = Counter()
    for index in range(6):
        batch = pairs.batch(index)
        assert set(batch) == {"text", "mel", "frame_lengths", "lengths", "id"}
        assert batch["lengths"].tolist() == [256 * frames for frames in batch["frame_lengths"].tolist()]
        assert set(batch["text"]) == {"anything, really"}
        assert batch["frame_lengths"].tolist() == [MEL_16K.num_frames(48_000)] * len(batch["id"])
        found.update(batch["id"])
    assert sorted(found.values()) == [1] * 11


def test_mels_are_those_of_the_recording_alone(corpora: Path) -> None:
    pairs = SpeechPairs(dataclasses.replace(SPEECH, trim_db=30.0), MEL_16K, seed=1)
    clips = [0, 1, 7]
    batch = pairs.pairs(clips, np.random.default_rng(0))
    for row, clip in enumerate(clips):
        waveform = trimmed(pairs._pool.read(clip), 16_000, 30.0, 0.05)
        mel = speech_mel(torch.from_numpy(waveform)[None], MEL_16K)[0]
        length = int(batch["frame_lengths"][row])
        assert length == len(mel)
        assert torch.equal(batch["mel"][row, :length], mel)
        assert (batch["mel"][row, length:] == torch.tensor(math.log(MEL_16K.floor))).all()


def test_a_batch_depends_on_its_index_alone(corpora: Path) -> None:
    whole = SpeechPairs(SPEECH, MEL_16K, seed=1, embed=embed, num_threads=2)
    first = [batch for batch, _ in zip(whole.iterate(), range(12), strict=False)]
    later = SpeechPairs(SPEECH, MEL_16K, seed=1, embed=embed).iterate(8)
    for expected in first[8:]:
        found = next(later)
        assert found["id"] == expected["id"]
        assert torch.equal(found["voice"], expected["voice"])
        assert torch.equal(found["mel"], expected["mel"])
    assert [batch["id"] for batch in first[:6]] != [batch["id"] for batch in first[6:]]


def test_a_voice_is_that_of_another_clip_if_there_is_one(corpora: Path) -> None:
    config = dataclasses.replace(SPEECH, voice_seconds=1.25)
    pairs = SpeechPairs(config, MEL_16K, seed=1, embed=embed)
    prolific, others = pairs._by_speaker["librispeech:10"], pairs._by_speaker["librispeech:12"]
    assert (len(prolific), len(others)) == (6, 1)

    def pieces(clip: int) -> set[tuple[float, ...]]:
        waveform = pairs._pool.read(clip)
        return {tuple(embed(part).tolist()) for part in (waveform[:20_000], waveform[20_000:])}

    drawn = {tuple(pairs.pairs([prolific[0]], np.random.default_rng(seed))["voice"][0].tolist()) for seed in range(40)}
    assert drawn <= set.union(*(pieces(clip) for clip in prolific[1:]))
    assert len(drawn) > 5
    drawn = {tuple(pairs.pairs(others, np.random.default_rng(seed))["voice"][0].tolist()) for seed in range(10)}
    assert drawn == pieces(others[0])


def test_fixed_batches_are_the_shortest_first(corpora: Path) -> None:
    pairs = SpeechPairs(SPEECH, MEL_16K, seed=1)
    batches = pairs.fixed(4, 6)
    assert [len(batch["id"]) for batch in batches] == [4, 2]
    assert [batch["id"] for batch in pairs.fixed(4, 6)] == [batch["id"] for batch in batches]


def test_speakers_may_be_chosen(corpora: Path) -> None:
    pairs = SpeechPairs(dataclasses.replace(SPEECH, speakers=("10",)), MEL_16K, seed=1)
    assert len(pairs.clips) == 6
    with pytest.raises(CorpusError, match="no utterance of the split train"):
        SpeechPairs(dataclasses.replace(SPEECH, speakers=("99",)), MEL_16K, seed=1)
    with pytest.raises(CorpusError, match="no utterance"):
        SpeechPairs(SPEECH, MEL_16K, seed=1, write=lambda _: "")


def test_silence_at_the_ends_goes_but_for_a_margin() -> None:
    speech = 0.1 * np.sin(np.arange(8_000, dtype=np.float32))
    waveform = np.concatenate([np.zeros(4_800, np.float32), speech, np.full(6_400, 1e-5, np.float32)])
    assert np.array_equal(trimmed(waveform, 16_000, 40.0, 0.0), speech)
    assert len(trimmed(waveform, 16_000, 40.0, 0.1)) == 8_000 + 2 * 1_600
    assert np.array_equal(trimmed(waveform, 16_000, 90.0, 0.0), waveform[4_800:])
    silent = np.zeros(3_000, np.float32)
    assert len(trimmed(silent, 16_000, 40.0, 0.0)) == 3_000


def test_levels_are_those_of_the_speech() -> None:
    speech = 0.02 * np.sin(np.arange(8_000, dtype=np.float32))
    paused = np.concatenate([speech, np.zeros(32_000, np.float32)])
    loud = levelled(paused, 16_000, -20.0)
    assert np.sqrt(np.mean(np.square(loud[:8_000]))) == pytest.approx(0.1, rel=0.01)
    peaked = speech.copy()
    peaked[10] = 0.5
    assert np.abs(levelled(peaked, 16_000, -20.0)).max() == pytest.approx(0.95)
    assert not levelled(np.zeros(1_000, np.float32), 16_000, -20.0).any()


def test_settings_that_do_not_fit_are_one_line(corpora: Path) -> None:
    with pytest.raises(RecipeError, match="data is at 16000 Hz, the mels at 22050 Hz"):
        SpeechPairs(SPEECH, MEL_22K, seed=1)
    with pytest.raises(RecipeError, match="max_seconds"):
        SpeechPairsConfig(max_seconds=20.0, batch_seconds=10.0)
    with pytest.raises(RecipeError, match="voice_seconds"):
        SpeechPairsConfig(voice_seconds=0.0)
