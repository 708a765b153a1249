"""Labelled sounds: which clip is of which class, what batches hold, and mixtures of two."""

from __future__ import annotations

import csv
import shutil
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import torch

from auriscope.data import synthetic_speech
from auriscope.data.augmentation import AugmentationConfig
from auriscope.data.cache import AudioStore
from auriscope.data.labelled import LabelledBatches, LabelledConfig, LabelledSet
from auriscope.data.labelled_mixtures import LabelledMixtureSet
from auriscope.data.labelled_sets import SETS, SOUND_EVENTS, labelled_set_names, open_labelled
from auriscope.data.manifest import Entry, write_manifest
from auriscope.data.prepare.espeak import PROGRAM
from auriscope.data.prepared_labelled import PreparedSound, PreparedSounds, write_labelled
from auriscope.data.render import active_rms
from auriscope.data.synthetic_speech import real_and_synthetic
from auriscope.errors import CorpusError, RecipeError

RATE = 16_000
FREQUENCY = {"kick": 300.0, "snare": 900.0, "tom": 1800.0}


@pytest.fixture
def root(tmp_path: Path, trees: object, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Drums that are tones, more kicks than others, and a corpus of each other set of ``sound-events``."""
    place = tmp_path / "corpora"
    entries = []
    for label, count in (("kick", 12), ("snare", 4), ("tom", 4)):
        for number in range(count):
            name, seconds = f"audio/{label}{number}.wav", 0.4 + 0.1 * (number % 3)
            tone = 0.2 * np.sin(2 * np.pi * FREQUENCY[label] * np.arange(round(seconds * RATE)) / RATE)
            trees.write(place / "sound_effects" / name, tone[:, None], RATE)  # type: ignore[attr-defined]
            more = {"source_file": f"drum-samples/kit{number}/{label}.wav"}
            entries.append(Entry(name, "train" if number % 4 else "test", seconds, label=label, more=more))
    write_manifest(place / "sound_effects" / "manifest.csv", entries)
    silence = np.full((1600, 1), 0.1)
    rows = {
        "sound_events": [("bird", "CC0", {"group": "a"}), ("weather", "CC BY-SA 4.0", {"group": "b"})],
        "noise": [("rain", "CC0", {"source_file": "rain.ogg"}), ("white_noise", "CC0", {})],
        "esc10_crying_baby": [("crying_baby", "", {"source_file": "1-60997-B.mp3"})],
    }
    for corpus, own in rows.items():
        found = []
        for number, (label, licence, more) in enumerate(own):
            for split in ("train", "test"):
                name = f"audio/{split}{number}.wav"
                trees.write(place / corpus / name, silence, RATE)  # type: ignore[attr-defined]
                found.append(Entry(name, split, 0.1, label=label, more={"licence": licence, **more}))
        write_manifest(place / corpus / "manifest.csv", found)
    monkeypatch.setenv("AURISCOPE_CORPORA", str(place))
    monkeypatch.setenv("AURISCOPE_CACHE", str(tmp_path / "cache"))
    return place


def peak_hertz(waveform: np.ndarray) -> float:
    return float(np.abs(np.fft.rfft(waveform, RATE)).argmax())


def test_sound_events_are_of_three_corpora(root: Path) -> None:
    found = LabelledSet("sound-events", "test")
    assert found.labels == SOUND_EVENTS
    assert len(found.labels) == 31
    told = {sound.id: found.labels[sound.label] for sound in found}
    assert told == {
        "sound_events:audio/test0.wav": "bird",
        "sound_events:audio/test1.wav": "weather",
        "noise:audio/test0.wav": "weather",
        "esc10_crying_baby:audio/test0.wav": "human_voice",
    }
    assert found.groups == ("sound_events:a", "sound_events:b", "noise:rain.ogg", "esc10_crying_baby:1-60997")
    # What is under a share-alike licence is measured on and not trained on.
    assert [clip.label for clip in open_labelled("sound-events", "train", sample_rate=RATE)[1]] == [
        "bird",
        "weather",
        "human_voice",
    ]


def test_every_set_names_its_classes_once() -> None:
    for name in labelled_set_names():
        named = SETS[name]
        assert len(set(named.labels)) == len(named.labels) >= 2
        assert {label for called in named.corpora.values() for label in called.values()} == set(named.labels)


@pytest.mark.corpora
def test_the_real_sets_hold_every_class_and_no_group_twice(real_corpora: Path) -> None:
    for name in ("sound-events", "digits", "cries-reasons", "sound-effects"):
        clips = {
            split: open_labelled(name, split, sample_rate=RATE, root=real_corpora)[1] for split in ("valid", "test")
        }
        assert {clip.label for clip in clips["test"]} == set(SETS[name].labels)
        assert not {clip.group for clip in clips["valid"]} & {clip.group for clip in clips["test"]}


@pytest.mark.corpora
def test_esc10_goes_by_fine_labels_and_noise_by_sources(real_corpora: Path) -> None:
    _, clips, _ = open_labelled("esc10", "test", sample_rate=RATE, root=real_corpora)
    assert {clip.label for clip in clips} == set(SETS["esc10"].labels) - {"chainsaw"}
    assert sum(clip.label == "crying_baby" for clip in clips) == 8
    splits = [
        {clip.label for clip in open_labelled("noise", split, sample_rate=RATE, root=real_corpora)[1]}
        for split in ("train", "test")
    ]
    assert not splits[0] & splits[1]
    assert splits[1] == {"boat", "city", "running_tap", "summer_night"}


def test_batches_hold_every_sound_once_before_any_twice(root: Path) -> None:
    config = LabelledConfig(set="sound-effects", batch_size=5, segment_seconds=2.0)
    batches = LabelledBatches(config, seed=1)
    assert len(batches) == 15
    made = [batches.batch(index) for index in range(6)]
    names = [name for batch in made for name in batch["id"]]
    assert len(set(names[:15])) == 15
    assert set(names[15:]) == set(names[:15])
    assert names[15:] != names[:15]
    for batch in made:
        assert batch["waveform"].shape == (5, batch["lengths"].max())
        for name, waveform, length, label in zip(
            batch["id"], batch["waveform"].numpy(), batch["lengths"].tolist(), batch["label"].tolist(), strict=True
        ):
            assert not waveform[length:].any()
            assert peak_hertz(waveform[:length]) == pytest.approx(FREQUENCY[batches.labels[label]], abs=3)
            assert batches.labels[label] in name


def test_a_batch_depends_on_its_index_alone(root: Path) -> None:
    noisy = AugmentationConfig(noise_probability=1.0, speed_factors=(0.9, 1.1), level_db=(-6.0, 0.0))
    config = LabelledConfig(set="sound-effects", batch_size=4, segment_seconds=0.3, augmentation=noisy)
    first = LabelledBatches(config, seed=1, num_threads=2).iterate(2)
    again = LabelledBatches(config, seed=1)
    for index in (2, 3):
        batch = next(first)
        assert torch.equal(batch["waveform"], again.batch(index)["waveform"])
        assert batch["index"] == index
        # Longer sounds are cut, to the length that was asked for at any speed.
        assert batch["lengths"].tolist() == [4800] * 4
    assert not torch.equal(LabelledBatches(config, seed=2).batch(2)["waveform"], again.batch(2)["waveform"])


@pytest.mark.parametrize(("balance", "share"), [(0.0, 9 / 15), (1.0, 1 / 3)])
def test_balance_draws_every_class_alike(root: Path, balance: float, share: float) -> None:
    batches = LabelledBatches(LabelledConfig(set="sound-effects", batch_size=30, balance=balance), seed=1)
    counts: Counter[int] = Counter()
    for index in range(20):
        counts.update(batches.batch(index)["label"].tolist())
    assert counts[batches.labels.index("kick")] / 600 == pytest.approx(share, abs=0.06)


def test_a_set_is_read_in_its_order(root: Path) -> None:
    found = LabelledSet("sound-effects")
    (batch,) = found.batches(16)
    assert batch["label"].tolist() == list(found.numbers)
    assert batch["lengths"].tolist() == [round(seconds * RATE) for seconds in found.seconds]
    assert batch["id"] == [sound.id for sound in found]
    with pytest.raises(IndexError):
        found[len(found)]


@pytest.mark.parametrize("level_db", [-5.0, 0.0, 10.0])
def test_mixtures_are_the_sum_of_two_classes_at_a_level(root: Path, level_db: float) -> None:
    mixtures = LabelledMixtureSet("sound-effects", level_db=level_db)
    assert len(mixtures) == 5
    for number, mixture in enumerate(mixtures):
        first, second = mixture.sources
        assert np.allclose(mixture.mixture, first + second, atol=1e-6)
        assert mixture.labels[0] == mixtures.sounds[number].label != mixture.labels[1]
        found = 20 * np.log10(active_rms(first, RATE) / active_rms(second, RATE))
        assert found == pytest.approx(level_db, abs=0.01)
        # The shorter one starts over.
        for source, label in zip(mixture.sources, mixture.labels, strict=True):
            assert np.abs(source[-400:]).max() > 0.5 * np.abs(source).max()
            assert peak_hertz(source) == pytest.approx(FREQUENCY[mixtures.labels[label]], abs=8)
    quiet = LabelledMixtureSet("sound-effects", level_db=0.0)
    assert [each.id for each in quiet] == [each.id for each in mixtures]
    (batch,) = mixtures.batches(8)
    assert batch["sources"].shape == (5, 2, batch["waveform"].shape[1])
    assert torch.allclose(batch["sources"].sum(1), batch["waveform"], atol=1e-6)
    assert (batch["label"] != batch["other"]).all()
    few = LabelledMixtureSet("sound-effects", num_mixtures=2, max_seconds=0.2)
    assert [len(each.mixture) for each in few] == [3200, 3200]


def prepared_beside(place: Path, trees: object, labels: tuple[str, ...], split: str = "train") -> Path:
    """A prepared folder of a sound of each class, all of one split, at two rates."""
    sounds = []
    for number, label in enumerate(labels):
        rate = (RATE, 44_100)[number % 2]
        trees.write(place / "audio" / f"{label}.wav", np.full((rate // 10, 1), 0.1), rate)  # type: ignore[attr-defined]
        sounds.append(PreparedSound(f"audio/{label}.wav", split, label, label, rate // 10, rate))
    write_labelled(PreparedSounds("own", "", place / "audio" / "..", labels, tuple(sounds)), place / "prepared")
    return place / "prepared"


def test_more_is_learnt_from_beside_the_set(root: Path, trees: object, tmp_path: Path) -> None:
    more = prepared_beside(tmp_path / "more", trees, ("kick", "laser", "tom"))
    alone = LabelledBatches(LabelledConfig(set="sound-effects"), seed=1)
    config = LabelledConfig(set="sound-effects", more=(str(more),), batch_size=17)
    batches = LabelledBatches(config, seed=1)
    assert batches.labels == alone.labels, "the classes stay those of the set"
    assert len(alone) == 15
    assert len(batches) == 17, "the laser is of no class of the set"
    batch = batches.batch(0)
    told = {name: batches.labels[label] for name, label in zip(batch["id"], batch["label"].tolist(), strict=True)}
    own = {name: label for name, label in told.items() if name.startswith("own:")}
    assert own == {"own:audio/kick.wav": "kick", "own:audio/tom.wav": "tom"}
    for name, length in zip(batch["id"], batch["lengths"].tolist(), strict=True):
        assert length == RATE // 10 or not name.startswith("own:"), "at whatever rate they lie there"
    measured = LabelledBatches(config, seed=1, split="test")
    assert len(measured) == 5, "only to learn from"


def test_more_that_is_none_is_one_line(root: Path, trees: object, tmp_path: Path) -> None:
    def learn(place: Path) -> None:
        LabelledBatches(LabelledConfig(set="sound-effects", more=(str(place),)), seed=1)

    laser = prepared_beside(tmp_path / "laser", trees, ("laser", "zap"))
    with pytest.raises(CorpusError, match=r"laser.*: no sound of the split train is of one of the classes hihat"):
        learn(laser)
    with pytest.raises(CorpusError, match="'own' has no sound in the split 'train'"):
        learn(prepared_beside(tmp_path / "test", trees, ("kick", "tom"), "test"))
    with pytest.raises(CorpusError, match=r"nowhere: holds no corpus\.json; write it with: auriscope prepare"):
        learn(tmp_path / "nowhere")


def test_what_is_wrong_is_one_line(root: Path) -> None:
    with pytest.raises(CorpusError, match="there is no set 'sound-event'; did you mean 'sound-events'"):
        LabelledSet("sound-event")
    with pytest.raises(CorpusError, match="split 'dev' must be one of train, valid, test"):
        LabelledSet("sound-effects", "dev")
    with pytest.raises(CorpusError, match=r"there is no corpus 'wake_words' in .*; there are: "):
        LabelledSet("wake-words")
    with pytest.raises(CorpusError, match="the set 'sound-effects' has no folds"):
        LabelledSet("sound-effects", fold=1)
    with pytest.raises(RecipeError, match=r"data\.balance must lie between 0 and 1"):
        LabelledConfig(balance=2.0)
    with pytest.raises(RecipeError, match=r"segment_seconds above 0"):
        LabelledConfig(segment_seconds=0.0)
    place = root / "sound_effects" / "manifest.csv"
    rows = [row for row in csv.DictReader(place.open()) if row["label"] == "kick"]
    with place.open("w", newline="") as stream:
        writer = csv.DictWriter(stream, rows[0])
        writer.writeheader()
        writer.writerows(rows)
    with pytest.raises(CorpusError, match="holds one class only in the split test; two are needed for a mixture"):
        LabelledMixtureSet("sound-effects")


@pytest.mark.skipif(shutil.which(PROGRAM) is None, reason="espeak-ng is not installed")
def test_people_and_machines_say_the_same(tmp_path: Path, trees: object, monkeypatch: pytest.MonkeyPatch) -> None:
    place = tmp_path / "corpora"
    for corpus in synthetic_speech.CORPORA:
        entries = []
        for number in range(2):
            trees.write(place / corpus / f"{number}.wav", trees.voice(number, RATE), RATE)  # type: ignore[attr-defined]
            entries.append(Entry(f"{number}.wav", "train", 1.0, speaker=str(number), text="SEVEN SHIPS"))
        write_manifest(place / corpus / "manifest.csv", entries)
    clips, store = real_and_synthetic("train", root=place, folder=tmp_path / "cache")
    assert [clip.label for clip in clips] == ["real", "synthetic", "synthetic"] * 4
    assert len({clip.group for clip in clips}) == 4
    assert [clip.name.rpartition(":")[2] for clip in clips[:3]] == ["real", "griffin-lim", "espeak-ng"]
    sounds = [store.read(number) for number in range(12)]
    levels = [float(np.sqrt(np.mean(np.square(sound)))) for sound in sounds]
    assert levels == pytest.approx([0.05] * 12, rel=0.01)
    real, copy, read = sounds[:3]
    # A copy is as long as what it copies, and is another waveform of a like spectrum.
    assert len(copy) == len(real) == RATE
    assert abs(np.corrcoef(real, copy)[0, 1]) < 0.9
    assert 0.2 * RATE < len(read) < 4 * RATE
    # What is made once is found again, whoever is there to speak.
    monkeypatch.setattr(synthetic_speech, "speak", None)
    again: AudioStore = real_and_synthetic("train", root=place, folder=tmp_path / "cache")[1]
    assert np.array_equal(again.read(2), read)


def test_without_the_program_it_is_named(tmp_path: Path, trees: object, monkeypatch: pytest.MonkeyPatch) -> None:
    for corpus in synthetic_speech.CORPORA:
        trees.write(tmp_path / corpus / "a.wav", trees.voice(0, 1600), RATE)  # type: ignore[attr-defined]
        write_manifest(tmp_path / corpus / "manifest.csv", [Entry("a.wav", "valid", 0.1, speaker="a", text="SEVEN")])
    monkeypatch.setenv("PATH", "")
    with pytest.raises(CorpusError, match="the program espeak-ng, which is to read the texts, is not installed"):
        real_and_synthetic("valid", root=tmp_path, folder=tmp_path / "cache")
