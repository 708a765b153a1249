from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from auriscope.data.augmentation import AugmentationConfig
from auriscope.data.manifest import Entry, write_manifest
from auriscope.data.synthetic import voice
from auriscope.data.transcribed import JoiningConfig, TranscribedBatches, TranscribedConfig, join, letters, spoken_set
from auriscope.errors import CorpusError, RecipeError

SOUND = TranscribedConfig(corpora=("libri_251spk", "libri_readers_3spk"), batch_seconds=7.0, max_seconds=6.0)


@pytest.fixture
def digits(tmp_path: Path) -> Path:
    """Six takes of three digits, by two speakers of the train split and one of the test split."""
    folder = tmp_path / "corpora" / "fsdd_digits"
    (folder / "audio").mkdir(parents=True)
    entries = []
    for person, (speaker, split) in enumerate([("ann", "train"), ("bob", "train"), ("eve", "test")]):
        name = f"audio/{speaker}.wav"
        sound = [voice(person, number, seconds=0.3, sample_rate=16_000) for number in range(18)]
        soundfile.write(folder / name, np.concatenate(sound), 16_000)
        for number in range(18):
            more = {"take": str(number % 6)}
            span = {"start_frame": 4800 * number, "end_frame": 4800 * (number + 1)}
            entries.append(Entry(name, split, 0.3, speaker=speaker, label=str(number // 6), more=more, **span))
    write_manifest(folder / "manifest.csv", entries)
    return tmp_path / "corpora"


@pytest.mark.parametrize(
    ("text", "written"),
    [
        ("Missus Lynde's", "MISSUS LYNDE'S"),
        ("'Tis—well, 'the dogs' tea", "TIS WELL THE DOGS TEA"),
        ("it\u2019s 5", "IT'S"),
        ("...", ""),
    ],
)
def test_texts_are_written_in_letters(text: str, written: str) -> None:
    assert letters(text) == written


def test_an_epoch_has_every_utterance_once(corpora: Path) -> None:
    batches = TranscribedBatches(SOUND, seed=1)
    assert batches.num_seconds == pytest.approx(33.0)
    found: Counter[str] = Counter()
    for index in range(6):
        batch = batches.batch(index)
        assert batch["waveform"].numel() <= 7.0 * 16_000
        assert set(batch["text"]) == {"ANYTHING REALLY"}
        assert batch["lengths"].tolist() == [48_000] * len(batch["id"])
        found.update(batch["id"])
    assert found == Counter(map(str, range(11)))


def test_a_batch_depends_on_its_index_alone(corpora: Path) -> None:
    whole = TranscribedBatches(SOUND, seed=1, num_threads=2)
    first = [batch["id"] for batch, _ in zip(whole.iterate(), range(14), strict=False)]
    later = TranscribedBatches(SOUND, seed=1).iterate(9)
    assert [next(later)["id"] for _ in range(5)] == first[9:]
    assert first[:6] != first[6:12]
    assert [TranscribedBatches(SOUND, seed=2).batch(index)["id"] for index in range(6)] != first[:6]


def test_every_utterance_is_augmented_anew(corpora: Path) -> None:
    fast = dataclasses.replace(SOUND, augmentation=AugmentationConfig(speed_factors=(0.8, 1.25)))
    plain, changed, again = (TranscribedBatches(config, seed=1) for config in (SOUND, fast, fast))
    lengths = set()
    for index in range(6):
        batch = changed.batch(index)
        assert batch["id"] == plain.batch(index)["id"]
        assert torch.equal(batch["waveform"], again.batch(index)["waveform"])
        lengths.update(batch["lengths"].tolist())
    assert lengths == {60_000, 38_400}


def test_training_begins_with_what_is_short_and_clear(digits: Path) -> None:
    config = TranscribedConfig(
        corpora=("libri_other_10spk",),
        batch_seconds=7.0,
        max_seconds=6.0,
        augmentation=AugmentationConfig(level_db=(6.0, 6.0)),
        sorted_epochs=1,
        plain_batches=2,
    )
    folder = digits / "libri_other_10spk"
    folder.mkdir()
    entries = []
    for number in range(5):
        soundfile.write(folder / f"{number}.wav", voice(1, number, seconds=1.0 + number, sample_rate=16_000), 16_000)
        entries.append(Entry(f"{number}.wav", "train", 1.0 + number, speaker="1", text="WORDS"))
    write_manifest(folder / "manifest.csv", entries)
    batches = TranscribedBatches(config, seed=1, root=digits, folder=digits / "cache")
    made = [batches.batch(index) for index in range(3)]
    longest = [int(batch["lengths"].max()) for batch in made]
    assert longest == sorted(longest)
    assert [batch["plain"] for batch in made] == [True, True, False]
    assert made[2]["waveform"].abs().max() > 1.5 * made[0]["waveform"].abs().max()


def test_digits_are_joined_to_numbers(digits: Path) -> None:
    config = TranscribedConfig(corpora=("fsdd_digits",), batch_seconds=20.0, joining=JoiningConfig((3, 5)))
    batch = TranscribedBatches(config, seed=0, root=digits, folder=digits / "cache").batch(3)
    assert batch["waveform"].numel() <= 20.0 * 16_000
    for text, name, length in zip(batch["text"], batch["id"], batch["lengths"].tolist(), strict=True):
        clips = [int(clip) for clip in name.split("-")]
        # Of six takes only the last may be trained on: one clip of each digit and speaker.
        assert text == " ".join(("ZERO", "ONE", "TWO")[clip % 3] for clip in clips)
        assert len({clip // 3 for clip in clips}) == 1
        assert 3 <= len(clips) <= 5
        quiet = length / 16_000 - 0.3 * len(clips)
        assert 0.05 * (len(clips) + 1) <= quiet <= 0.4 * (len(clips) + 1)


def test_numbers_grow_from_single_digits(digits: Path) -> None:
    joining = JoiningConfig((1, 7), growing_batches=6)
    config = TranscribedConfig(corpora=("fsdd_digits",), batch_seconds=60.0, joining=joining)
    batches = TranscribedBatches(config, seed=0, root=digits, folder=digits / "cache")
    longest = [max(len(text.split()) for text in batches.batch(index)["text"]) for index in (0, 2, 6, 50)]
    assert longest == [1, 3, 7, 7]
    assert JoiningConfig((1, 7)).largest(0) == 7


def test_sets_of_digits_are_of_new_takes_or_new_speakers(digits: Path) -> None:
    places = {"root": digits, "folder": digits / "cache"}
    known, unseen = spoken_set("digits", "test", **places), spoken_set("digits-unseen", "test", max_items=20, **places)
    assert {item.speaker for item in known} == {"fsdd_digits:ann", "fsdd_digits:bob"}
    assert {item.speaker for item in unseen} == {"fsdd_digits:eve"}
    assert len(unseen) == 20
    assert all(3 <= len(item.text.split()) <= 7 for item in [*known, *unseen])
    again = spoken_set("digits", "test", **places)
    assert all(np.array_equal(a.waveform, b.waveform) and a.text == b.text for a, b in zip(known, again, strict=True))


def test_a_corpus_is_a_set(corpora: Path) -> None:
    items = spoken_set("libri_eval50_flac", "test", max_items=3)
    assert [item.text for item in items] == ["ANYTHING REALLY"] * 3
    assert len(items[0].waveform) == 80_000
    with pytest.raises(CorpusError, match=r"'noise' has no texts|needs speaker"):
        spoken_set("noise", "test")


def test_joined_utterances_are_equally_loud() -> None:
    rng = np.random.default_rng(0)
    quiet, loud = (level * rng.standard_normal(1600).astype(np.float32) for level in (0.001, 0.3))
    joined = join([quiet, loud], JoiningConfig(gap_seconds=(0.1, 0.1)), 16_000, rng)
    assert len(joined) == 3 * 1600 + 2 * 1600
    levels = [np.sqrt(np.mean(joined[begin : begin + 1600] ** 2)) for begin in (1600, 4800)]
    assert levels == pytest.approx([0.05, 0.05])


def test_settings_that_make_no_batches_are_refused(corpora: Path) -> None:
    with pytest.raises(RecipeError, match="max_seconds <= batch_seconds"):
        TranscribedConfig(max_seconds=20.0, batch_seconds=10.0)
    with pytest.raises(CorpusError, match="no utterance of the split train"):
        TranscribedBatches(TranscribedConfig(min_seconds=5.0), seed=0)
