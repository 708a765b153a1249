"""Texts with their mels and voices: what a batch holds, and that its index says it all."""

from __future__ import annotations

import dataclasses
import itertools
import math
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from auriscope.data.speech_pairs import SpeechPairs, SpeechPairsConfig, bounds, levelled
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
        waveform = pairs._pool.read(clip)
        first, last = bounds(waveform, 16_000, 30.0, 0.05)
        waveform = waveform[first:last]
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


def test_frames_are_where_their_letters_were_said(corpora: Path) -> None:
    asked: list[int] = []

    def align(clip: np.ndarray, text: str) -> list[tuple[int, float]]:
        asked.append(len(clip))
        assert text == "anything, really"
        return [(0, 1.0), (8, 1.5), (10, 2.5)]

    pairs = SpeechPairs(SPEECH, MEL_16K, seed=1, write=str.lower, align=align)
    for _ in range(2):
        batch = pairs.pairs([0, 3], np.random.default_rng(0))
        # Who is asked is told once for each clip.
        assert asked == [48_000, 48_000]
    assert batch["path"].shape == batch["mel"].shape[:2]
    path = batch["path"][1]
    seconds = (torch.arange(len(path)) + 0.5) * MEL_16K.frame_seconds
    end = len(path) * MEL_16K.frame_seconds
    for second, place in ((0.5, 0.0), (1.25, 4.0), (2.0, 9.0), ((2.5 + end - 0.1) / 2, 13.0), (end, 16.0)):
        assert float(path[(seconds - second).abs().argmin()]) == pytest.approx(place, abs=0.2)
    unheard = SpeechPairs(SPEECH, MEL_16K, seed=1, write=str.lower, align=lambda _clip, _text: [])
    path = unheard.pairs([0], np.random.default_rng(0))["path"][0]
    assert path.diff().min() >= 0
    torch.testing.assert_close(path[:100], (torch.arange(100) + 0.5) * 16 / (len(path) - 0.1 / MEL_16K.frame_seconds))


def test_phrases_are_rows_of_their_own(corpora: Path) -> None:
    def align(clip: np.ndarray, text: str) -> list[tuple[int, float]]:
        return [(0, 0.2), (7, 1.0), (10, 1.6), (15, 2.6)]

    config = dataclasses.replace(SPEECH, phrase_seconds=1.0)
    pairs = SpeechPairs(config, MEL_16K, seed=1, write=str.lower, embed=embed, align=align)
    assert len(pairs.numbers) == 22
    assert pairs.num_seconds == pytest.approx(33.0)
    batch = pairs.pairs([0, 1, 2], np.random.default_rng(0))
    assert batch["text"] == ["anything,", "really", "anything,"]
    assert batch["id"][0] == batch["id"][1] != batch["id"][2]
    assert len(batch["voice"]) == 3
    frames = [MEL_16K.num_frames(20_800), MEL_16K.num_frames(27_200)]
    assert batch["frame_lengths"].tolist() == [*frames, frames[0]]
    # Batches hold phrases of about the same length, and an epoch all of them.
    texts: Counter[str] = Counter()
    for index in itertools.count():
        texts.update(pairs.batch(index)["text"])
        if texts.total() >= 22:
            break
    assert texts == {"anything,": 11, "really": 11}
    # 1.3 s before the second phrase, whose first letter is said 0.3 s after its beginning.
    assert float(batch["path"][1, round(0.8 / MEL_16K.frame_seconds)]) == pytest.approx(2.5, abs=0.15)
    mel = speech_mel(torch.from_numpy(pairs._pool.read(0)[20_800:])[None], MEL_16K)[0]
    assert torch.equal(batch["mel"][1, : len(mel)], mel)


def test_fixed_batches_are_the_shortest_first(corpora: Path) -> None:
    pairs = SpeechPairs(SPEECH, MEL_16K, seed=1)
    batches = pairs.fixed(4, 6)
    assert [len(batch["id"]) for batch in batches] == [4, 2]
    assert [batch["id"] for batch in pairs.fixed(4, 6)] == [batch["id"] for batch in batches]


def test_speakers_may_be_chosen(corpora: Path) -> None:
    pairs = SpeechPairs(dataclasses.replace(SPEECH, speakers=("10",)), MEL_16K, seed=1)
    assert len(pairs.numbers) == 6
    with pytest.raises(CorpusError, match="no utterance of the split train"):
        SpeechPairs(dataclasses.replace(SPEECH, speakers=("99",)), MEL_16K, seed=1)
    with pytest.raises(CorpusError, match="no utterance"):
        SpeechPairs(SPEECH, MEL_16K, seed=1, write=lambda _: "")


def test_silence_at_the_ends_goes_but_for_a_margin() -> None:
    speech = 0.1 * np.sin(np.arange(8_000, dtype=np.float32))
    waveform = np.concatenate([np.zeros(4_800, np.float32), speech, np.full(6_400, 1e-5, np.float32)])
    assert bounds(waveform, 16_000, 40.0, 0.0) == (4_800, 12_800)
    assert bounds(waveform, 16_000, 40.0, 0.1) == (3_200, 14_400)
    assert bounds(waveform, 16_000, 40.0, 1.0) == (0, 19_200)
    assert bounds(waveform, 16_000, 90.0, 0.0) == (4_800, 19_200)
    assert bounds(np.zeros(3_000, np.float32), 16_000, 40.0, 0.0) == (0, 3_000)
    assert bounds(speech[:9], 16_000, 40.0, 0.0) == (0, 9)


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
    with pytest.raises(RecipeError, match="phrase_seconds"):
        SpeechPairsConfig(phrase_seconds=0.0)
    with pytest.raises(RecipeError, match="voice_seconds"):
        SpeechPairsConfig(voice_seconds=0.0)
