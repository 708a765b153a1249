from __future__ import annotations

import dataclasses
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from auriscope.data.conversations import Conversation, ConversationConfig, Conversations, speech_spans
from auriscope.data.corpora import utterances
from auriscope.errors import CorpusError
from auriscope.signal.turns import SpeakerTurn

CONFIG = ConversationConfig(
    corpora=("synthetic",), sample_rate=8_000, seconds=60.0, min_speaker_seconds=5.0, snr_db=None
)


@pytest.fixture
def made(shared_cache: Path) -> list[Conversation]:
    conversations = Conversations(CONFIG, "test", folder=shared_cache)
    return [conversations[index] for index in range(3)]


def test_numbers_of_people_take_turns(made: list[Conversation]) -> None:
    assert [len(each.speakers) for each in made] == [2, 3, 4]
    assert all(len(each.waveform) == 480_000 for each in made)


def test_the_same_seed_gives_the_same_conversation(made: list[Conversation], shared_cache: Path) -> None:
    again = Conversations(CONFIG, "test", folder=shared_cache)[1]
    assert again.turns == made[1].turns
    assert np.array_equal(again.waveform, made[1].waveform)
    other = Conversations(CONFIG, "test", seed=1, folder=shared_cache)[1]
    assert other.turns != made[1].turns


def test_turns_are_where_the_sound_is(made: list[Conversation]) -> None:
    for each in made:
        inside = np.zeros(len(each.waveform), dtype=bool)
        for turn in each.turns:
            inside[round(turn.start_seconds * 8_000) : round(turn.end_seconds * 8_000)] = True
        energy = np.square(each.waveform.astype(np.float64))
        assert energy[inside].sum() > 0.99 * energy.sum()
        assert inside.mean() > 0.6


def test_nobody_speaks_over_himself_and_no_three_at_once(made: list[Conversation]) -> None:
    assert sum(each.overlap_seconds for each in made) > 1.0
    for each in made:
        for name in each.speakers:
            own = [turn for turn in each.turns if turn.speaker == name]
            assert all(a.end_seconds <= b.start_seconds for a, b in pairwise(own))
        times = np.arange(0.0, 60.0, 0.01)
        depth = sum((times >= turn.start_seconds) & (times < turn.end_seconds) for turn in each.turns)
        assert np.max(depth) <= 2


def test_without_overlaps_there_are_none(shared_cache: Path) -> None:
    config = dataclasses.replace(CONFIG, overlap_probability=0.0)
    assert Conversations(config, "test", folder=shared_cache)[0].overlap_seconds == 0.0


def test_overlap_is_the_time_of_two() -> None:
    turns = (SpeakerTurn("a", 0.0, 5.0), SpeakerTurn("b", 4.0, 6.0), SpeakerTurn("a", 5.5, 7.0))
    assert Conversation("x", np.zeros(1, np.float32), 1, turns).overlap_seconds == pytest.approx(1.5)


def test_noise_is_so_far_below_the_speech(corpora: Path, shared_cache: Path) -> None:
    config = dataclasses.replace(CONFIG, sample_rate=16_000, seconds=20.0)
    quiet = Conversations(config, "test", root=corpora, folder=shared_cache)[0].waveform
    noisy = Conversations(dataclasses.replace(config, snr_db=20.0), "test", root=corpora, folder=shared_cache)[
        0
    ].waveform
    noise = noisy - quiet
    assert 10 * np.log10(np.sum(quiet**2) / np.sum(noise**2)) == pytest.approx(20.0, abs=0.1)


def test_too_few_people_are_told(shared_cache: Path) -> None:
    with pytest.raises(CorpusError, match="hold 0 people"):
        Conversations(dataclasses.replace(CONFIG, min_speaker_seconds=100.0), "test", folder=shared_cache)


def test_settings_are_checked() -> None:
    with pytest.raises(ValueError, match="num_speakers"):
        ConversationConfig(num_speakers=(3, 2))
    with pytest.raises(ValueError, match="seconds"):
        ConversationConfig(seconds=0.0)


def test_speech_is_found_without_the_pauses() -> None:
    rng = np.random.default_rng(0)
    waveform = 1e-4 * rng.standard_normal(16_000 * 4).astype(np.float32)
    waveform[8_000:24_000] += 0.1 * rng.standard_normal(16_000).astype(np.float32)
    waveform[28_000:30_000] += 0.1 * rng.standard_normal(2_000).astype(np.float32)
    waveform[48_000:56_000] += 0.1 * rng.standard_normal(8_000).astype(np.float32)
    assert speech_spans(waveform, 16_000) == [pytest.approx((0.5, 1.88), abs=0.02), pytest.approx((3.0, 3.5), abs=0.02)]
    assert speech_spans(np.zeros(16_000, np.float32), 16_000) == []
    assert speech_spans(np.zeros(10, np.float32), 16_000) == []


@pytest.mark.corpora
def test_people_of_the_test_are_in_no_training_split(real_corpora: Path) -> None:
    conversations = Conversations(dataclasses.replace(ConversationConfig(), seconds=60.0), "test", root=real_corpora)
    trained_on = {
        utterance.speaker
        for corpus in ("libri_251spk", "libri_other_10spk", "libri_readers_3spk", "commonvoice_en")
        for utterance in utterances(corpus, "train", root=real_corpora)
    }
    assert not trained_on & set(conversations[2].speakers)
