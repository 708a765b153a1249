from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from auriscope.data.augmentation import AugmentationConfig
from auriscope.data.corpora import utterances
from auriscope.data.prepared_speech import PreparedSpeech, PreparedUtterance, write_speech
from auriscope.data.voices import CLIPS, HALVES, VoicesBatches, VoicesConfig, trial_set_names, trials
from auriscope.errors import CorpusError, RecipeError

CONFIG = VoicesConfig(
    corpora=("libri_251spk", "libri_readers_3spk"), batch_size=8, segment_seconds=(1.0, 2.0), cap_seconds=6.0
)


def test_crops_are_of_one_length_and_name_their_speakers(corpora: Path) -> None:
    batches = VoicesBatches(CONFIG, seed=1)
    # Reader 10 is in both corpora.
    assert batches.num_speakers == 6
    lengths = set()
    for index in range(4):
        batch = batches.batch(index)
        assert batch["index"] == index
        assert batch["waveform"].shape == (8, batch["lengths"][0])
        assert set(batch["lengths"].tolist()) == {batch["waveform"].shape[1]}
        assert batch["speaker"].shape == (8,)
        assert 16_000 <= batch["waveform"].shape[1] <= 32_000
        assert (batch["waveform"].abs().amax(1) > 0.01).all()
        lengths.add(batch["waveform"].shape[1])
        for crop, speaker in zip(batch["waveform"].numpy(), batch["speaker"].tolist(), strict=True):
            voice = batches.pool.voices[speaker]
            wholes = [batches.pool.read(int(clip)) for clip in voice.clips]
            assert any(_holds(whole, crop) for whole in wholes)
    assert len(lengths) > 1


def _holds(whole: np.ndarray, part: np.ndarray) -> bool:
    starts = np.flatnonzero(whole[: len(whole) - len(part) + 1] == part[0])
    return any(np.array_equal(whole[start : start + len(part)], part) for start in starts)


def test_prolific_speakers_are_capped(corpora: Path) -> None:
    batches = VoicesBatches(dataclasses.replace(CONFIG, segment_seconds=(0.1, 0.1)), seed=1)
    counts = Counter(speaker for index in range(100) for speaker in batches.batch(index)["speaker"].tolist())
    prolific = next(voice.number for voice in batches.pool.voices if voice.name == "librispeech:10")
    # 18 s counted as 6, beside five with 3 s each.
    assert counts[prolific] / 800 == pytest.approx(6 / 21, abs=0.05)


def test_a_batch_depends_on_its_index_alone(corpora: Path) -> None:
    first = VoicesBatches(CONFIG, seed=1, num_threads=2).iterate(3)
    again = VoicesBatches(CONFIG, seed=1)
    for index in range(3, 6):
        batch = next(first)
        assert np.array_equal(batch["waveform"], again.batch(index)["waveform"])
    other = VoicesBatches(CONFIG, seed=2).batch(3)
    assert not np.array_equal(other["waveform"][:, :100], again.batch(3)["waveform"][:, :100])


def test_speeds_may_be_voices_of_their_own(corpora: Path) -> None:
    fast = AugmentationConfig(speed_factors=(0.8, 1.0, 1.0, 1.25))
    plain = VoicesBatches(dataclasses.replace(CONFIG, augmentation=fast), seed=1)
    changed = VoicesBatches(dataclasses.replace(CONFIG, augmentation=fast, speeds_are_voices=True), seed=1)
    assert (plain.num_speakers, changed.num_speakers) == (6, 18)
    found = set()
    for index in range(6):
        batch = changed.batch(index)
        assert np.array_equal(batch["waveform"], plain.batch(index)["waveform"])
        assert (batch["speaker"] % 6).tolist() == plain.batch(index)["speaker"].tolist()
        found |= set((batch["speaker"] // 6).tolist())
    assert found == {0, 1, 2}


def test_utterances_that_are_too_short_start_over(corpora: Path) -> None:
    batch = VoicesBatches(dataclasses.replace(CONFIG, segment_seconds=(4.0, 4.0)), seed=1).batch(0)
    assert batch["waveform"].shape == (8, 64_000)
    assert np.array_equal(batch["waveform"][:, :16_000], batch["waveform"][:, 48_000:])


def test_noise_is_added_anew(corpora: Path) -> None:
    noisy = AugmentationConfig(noise_probability=1.0)
    plain, changed = (
        VoicesBatches(dataclasses.replace(CONFIG, augmentation=each), seed=1).batch(0)["waveform"]
        for each in (AugmentationConfig(), noisy)
    )
    assert plain.shape == changed.shape
    assert not np.array_equal(plain, changed)


def test_who_is_not_known_is_not_told_apart(corpora: Path) -> None:
    with pytest.raises(CorpusError, match="coffee_commands does not tell its speakers apart"):
        VoicesBatches(dataclasses.replace(CONFIG, corpora=("libri_251spk", "coffee_commands")), seed=1)
    with pytest.raises(CorpusError, match="evaluation only"):
        VoicesBatches(dataclasses.replace(CONFIG, corpora=("libri_eval50_flac",)), seed=1)
    with pytest.raises(RecipeError, match="batch_size must be at least 2"):
        VoicesConfig(batch_size=1)
    with pytest.raises(RecipeError, match="segment_seconds must be a range"):
        VoicesConfig(segment_seconds=(3.0, 2.0))


def test_a_prepared_folder_takes_the_place_of_the_corpora(corpora: Path, tmp_path: Path) -> None:
    listed = utterances("libri_251spk", "train")[:3]
    rows = tuple(
        PreparedUtterance(f"libri_251spk/{entry.name}", "train", 48_000, 16_000, "", entry.speaker) for entry in listed
    )
    write_speech(PreparedSpeech("three", "", corpora, rows), tmp_path / "three")
    config = dataclasses.replace(CONFIG, prepared=str(tmp_path / "three"))
    batches = VoicesBatches(config, seed=1)
    assert batches.num_speakers == 3
    assert batches.batch(0)["waveform"].shape[0] == 8


@pytest.mark.corpora
@pytest.mark.parametrize(("name", "speakers"), [(HALVES, 25 + 3), (CLIPS, 51)])
def test_trials_are_of_speakers_that_training_has_not_heard(name: str, speakers: int, real_corpora: Path) -> None:
    test, valid = trials(name, "test"), trials(name, "valid")
    assert name in trial_set_names()
    trained = {entry.speaker for corpus in VoicesConfig().corpora for entry in utterances(corpus, "train")}
    assert len(set(test.speakers)) == speakers
    assert not set(test.speakers) & (trained | set(valid.speakers))
    assert not set(valid.speakers) & trained
    for found in (test, valid):
        assert (found.first != found.second).all()
        same = [
            found.speakers[one] == found.speakers[other] for one, other in zip(found.first, found.second, strict=True)
        ]
        assert found.targets.tolist() == same
        assert len({*zip(found.first.tolist(), found.second.tolist(), strict=True)}) == len(found.first)
        assert 20 < found.targets.sum() < len(found.targets) / 10
        assert len(found[0]) == round(found.seconds[0] * 16_000)
    if name == HALVES:
        assert test.targets.sum() == len(test) / 2 == 55
        assert np.array_equal(test.second[test.targets], test.first[test.targets] + 1)


def test_other_trials_are_refused() -> None:
    with pytest.raises(CorpusError, match="there are no trials 'voxceleb'; there are: libri-halves, commonvoice-clips"):
        trials("voxceleb", "test")
    with pytest.raises(CorpusError, match="not 'train'"):
        trials(HALVES, "train")
