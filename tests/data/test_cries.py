"""Cries joined by baby and period, cut into crops, and compared: on made corpora, and on the real one's lists."""

from __future__ import annotations

import os
from collections import Counter
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from auriscope.data.augmentation import AugmentationConfig
from auriscope.data.cache import AudioStore
from auriscope.data.cries import CRY_SETS, CriesBatches, CriesConfig, JoinedStore, cry_trials
from auriscope.data.pool import ClipPool
from auriscope.data.prepared_speech import PreparedSpeech, PreparedUtterance, write_speech
from auriscope.errors import CorpusError, RecipeError

RATE = 16_000
HOUR = 3600


def made_corpus(root: Path) -> Path:
    """Babies with recordings of a level of their own, at times (in hours) that make periods."""
    folder = root / "infant_cry"
    (folder / "audio").mkdir(parents=True)
    babies = {
        "train": {"a": ("f", [0, 0.1]), "b": ("m", [0]), "c": ("f", [0, 5]), "d": ("m", [0, 0.2, 3])},
        "valid": {"e": ("f", [0, 0.1]), "g": ("m", [2, 0])},
        "test": {"h": ("f", [0, 0.5, 9]), "i": ("m", [0]), "j": ("mf", [0, 0.1])},
    }
    rows = ["path,speaker,sex,label,duration_s,split"]
    number = 0
    for split, of_split in babies.items():
        for baby, (sexes, hours) in of_split.items():
            number += 1
            for place, hour in enumerate(hours):
                moment = 1_430_000_000 + round(hour * HOUR)
                # Seconds and milliseconds, as the phones of two makers wrote them.
                name = f"audio/{baby}_{moment}{'123' if place % 2 else ''}.flac"
                waveform = np.full(RATE // 2 + 100 * place, (number + place / 10) / 20)
                soundfile.write(folder / name, waveform, RATE)
                sex = sexes[place % len(sexes)]
                rows.append(f"{name},{baby},{sex},hungry,{len(waveform) / RATE:.4f},{split}")
    (folder / "manifest.csv").write_text("\n".join(rows) + "\n")
    return root


@pytest.fixture
def corpora(tmp_path: Path) -> dict[str, Path]:
    return {"root": made_corpus(tmp_path / "corpora"), "folder": tmp_path / "cache"}


def test_joined_clips_read_as_one() -> None:
    rng = np.random.default_rng(0)
    waveforms = [rng.uniform(-1, 1, length) for length in (100, 7, 50)]
    pool = ClipPool([AudioStore.of(waveforms[:1], RATE), AudioStore.of(waveforms[1:], RATE)])
    joined = JoinedStore(pool, [(2, 0, 1), (1,)])
    whole = np.concatenate([waveforms[2], waveforms[0], waveforms[1]])
    assert (len(joined), joined.num_frames(0), joined.num_frames(1)) == (2, 157, 7)
    for start, length in [(0, None), (0, 157), (49, 2), (50, 100), (10, 1), (140, 30), (151, 6), (30, 120)]:
        expected = whole[start:] if length is None else whole[start : start + length]
        np.testing.assert_allclose(joined.read(0, start, length), expected, atol=1e-4)
    assert len(joined.read(0, 157, 5)) == 0


def config(**more: object) -> CriesConfig:
    return CriesConfig(batch_size=4, segment_seconds=(0.3, 0.5), **more)  # type: ignore[arg-type]


def test_crops_are_of_the_baby_that_they_say(corpora: dict[str, Path]) -> None:
    batches = CriesBatches(config(), seed=3, **corpora)
    assert batches.num_speakers == 4
    seen = set()
    for index in range(6):
        batch = batches.batch(index)
        assert batch["waveform"].shape[0] == 4
        assert 0.3 * RATE <= batch["waveform"].shape[1] <= 0.5 * RATE
        assert batch["lengths"].tolist() == [batch["waveform"].shape[1]] * 4
        # A baby's recordings are of its level, and a little more for each recording.
        levels = batch["waveform"].numpy() * 20
        assert (np.floor(levels + 1e-2) == batch["speaker"].numpy()[:, None] + 1).all()
        assert len(set(batch["speaker"].tolist())) == 4
        seen.update(np.round(levels.ravel().astype(float), 1).tolist())
        assert torch.equal(batches.batch(index)["waveform"], batch["waveform"])
    assert {4.0, 4.1, 4.2} <= seen, "crops reach over all recordings of a baby"


def test_two_views_are_of_one_recording(corpora: dict[str, Path]) -> None:
    batches = CriesBatches(config(joined="recordings", views=2), seed=3, **corpora)
    assert batches.num_speakers == 8
    batch = batches.batch(0)
    assert batch["waveform"].shape[0] == 8
    first, second = batch["waveform"].chunk(2)
    torch.testing.assert_close(first[:, 0], second[:, 0])
    assert batch["speaker"][:4].tolist() == batch["speaker"][4:].tolist()
    changed = config(joined="recordings", views=2, augmentation=AugmentationConfig(level_db=(-12.0, 0.0)))
    first, second = CriesBatches(changed, seed=3, **corpora).batch(0)["waveform"].chunk(2)
    assert (first[:, 0] != second[:, 0]).all(), "each view is augmented in its own way"


def test_a_share_of_the_labels(corpora: dict[str, Path]) -> None:
    half = CriesBatches(config(labelled_share=0.5), seed=0, **corpora)
    again = CriesBatches(config(labelled_share=0.5), seed=5, **corpora)
    more = CriesBatches(config(labelled_share=0.75), seed=0, **corpora)

    def levels(batches: CriesBatches) -> set[int]:
        return {int(level) for index in range(9) for level in batches.batch(index)["waveform"][:, 0] * 20 + 1e-2}

    assert (half.num_speakers, more.num_speakers) == (2, 3)
    assert levels(half) == levels(again)
    assert levels(half) < levels(more), "more labels are those of the smaller share, and others"
    others = [levels(CriesBatches(config(labelled_share=0.5, labelled_seed=n), seed=0, **corpora)) for n in range(6)]
    assert any(found != levels(half) for found in others)


def test_cries_of_babies_without_a_name(corpora: dict[str, Path]) -> None:
    folder = corpora["root"] / "more_cries"
    folder.mkdir()
    for number in range(3):
        soundfile.write(folder / f"{number}.flac", np.full(RATE, 0.9), RATE)
    rows = [f"{number}.flac,crying_baby,1.0,train" for number in range(3)]
    (folder / "manifest.csv").write_text("path,label,duration_s,split\n" + "\n".join(rows) + "\n")
    batches = CriesBatches(config(joined="recordings", unlabelled=("more_cries",)), seed=0, **corpora)
    assert batches.num_speakers == 11
    assert any((batches.batch(index)["waveform"] > 0.85).all(1).any() for index in range(5))


def listed(found) -> list[tuple[str, str, bool]]:
    pairs = zip(found.first, found.second, found.targets, strict=True)
    return [(found.speakers[a], found.speakers[b], bool(same)) for a, b, same in pairs]


def test_every_two_recordings(corpora: dict[str, Path]) -> None:
    found = cry_trials("infant-cries", "test", **corpora)
    assert len(found) == 6
    assert Counter(same for _, _, same in listed(found)) == {True: 3, False: 11}
    pairs = {frozenset((a, b)) for a, b, _ in listed(found)}
    # A phone of a boy and a girl: nobody knows.
    assert frozenset(("infant_cry:j-F", "infant_cry:j-M")) not in pairs
    assert frozenset(("infant_cry:j-F", "infant_cry:h-F")) in pairs


def test_periods_end_where_nothing_is_recorded_for_an_hour(corpora: dict[str, Path]) -> None:
    found = cry_trials("infant-cries-periods", "test", **corpora)
    assert Counter(found.speakers)["infant_cry:h-F"] == 2
    assert [each for each in listed(found) if each[2]] == [("infant_cry:h-F", "infant_cry:h-F", True)]
    # The two recordings of the first half hour are joined, in the order in which they were made.
    (one,) = [n for n, name in enumerate(found.speakers) if name == "infant_cry:h-F" and found.seconds[n] > 0.6]
    waveform = found[one]
    assert len(waveform) == RATE + 100
    assert waveform[0] < waveform[-1]
    # Of baby g the later recording stands first in the list.
    valid = cry_trials("infant-cries-periods", "valid", **corpora)
    assert Counter(valid.speakers)["infant_cry:g-M"] == 2


def test_cryceleb_compares_birth_with_discharge(tmp_path: Path) -> None:
    cries = []
    for number, baby in enumerate(["x", "y", "z"]):
        for period in "BD" if baby != "z" else "B":
            for cry in range(3):
                path = f"{baby}{period}{cry}.flac"
                level = (number + 1 + cry / 10) / 10
                soundfile.write(tmp_path / path, np.full(800, level), RATE)
                cries.append(PreparedUtterance(path, "test", 800, RATE, "", baby, period=period))
    write_speech(PreparedSpeech("cryceleb", "cries", tmp_path, tuple(cries)), tmp_path / "out")
    found = cry_trials(str(tmp_path / "out"), "test")
    x, y, z = (f"cryceleb:{baby}" for baby in "xyz")
    assert listed(found) == [(x, x, True), (x, y, False), (y, x, False), (y, y, True), (z, x, False), (z, y, False)]
    assert found.seconds == (0.15,) * 5
    np.testing.assert_allclose(found[0][[0, 800, 1600]], [0.1, 0.11, 0.12], atol=1e-3)


def test_what_is_wrong_is_one_line(corpora: dict[str, Path]) -> None:
    with pytest.raises(CorpusError, match="there are no trials 'cats'; there are: infant-cries, infant-cries-periods"):
        cry_trials("cats", "test", **corpora)
    with pytest.raises(CorpusError, match="valid or test, not 'train'"):
        cry_trials("infant-cries", "train", **corpora)
    for wrong, message in [
        ({"joined": "days"}, "joined must be"),
        ({"unlabelled": ("noise",)}, "goes with joined: recordings"),
        ({"batch_size": 1}, "batch_size"),
        ({"segment_seconds": (2.0, 1.0)}, "segment_seconds"),
        ({"labelled_share": 0.0}, "labelled_share"),
    ]:
        with pytest.raises(RecipeError, match=message):
            CriesConfig(**wrong)  # type: ignore[arg-type]
    manifest = corpora["root"] / "infant_cry" / "manifest.csv"
    manifest.write_text(manifest.read_text().replace("audio/a_1430000000.flac", "audio/a.flac"))
    with pytest.raises(CorpusError, match="does not tell when it was recorded"):
        CriesBatches(config(), seed=0, **corpora)


@pytest.mark.corpora
def test_the_real_corpus(tmp_path: Path) -> None:
    if "AURISCOPE_CORPORA" not in os.environ:
        pytest.skip("AURISCOPE_CORPORA names no corpora")
    people: dict[str, set[str]] = {}
    for split in ("valid", "test"):
        for name in CRY_SETS:
            found = cry_trials(name, split, folder=tmp_path)
            assert found.targets.any()
            assert not found.targets.all()
            people.setdefault(split, set()).update(found.speakers)
    assert not people["valid"] & people["test"]
