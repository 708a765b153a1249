"""Images with classes: what sets and batches hold, how images are moved, and mixtures of two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import torch

from auriscope.data.images import ImageBatches, ImagesConfig, ImageSet, moved
from auriscope.data.labelled_mixtures import ImageMixtureSet
from auriscope.data.manifest import Entry, write_manifest
from auriscope.errors import CorpusError, RecipeError


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Images whose class is their brightness: class c is 20 + 20 c, with a corner that numbers it."""
    for corpus, names in (
        ("mnist_10k", "0123"),
        ("mnist_train_10k", "0123"),
        ("fashion_mnist_900", ("Trouser", "Bag", "Dress", "Coat")),
    ):
        folder = tmp_path / corpus
        folder.mkdir()
        labels = np.arange(24) % 4
        images = np.zeros((24, 28, 28), np.uint8)
        images[:, 4:24, 4:24] = (20 + 20 * labels)[:, None, None]
        images[:, 0, 0] = np.arange(24)
        np.savez(folder / "images.npz", images=images)
        splits = ["train"] * 12 + ["valid"] * 4 + ["test"] * 8
        entries = [
            Entry("images.npz", split, label=str(label), text=names[label], more={"index": str(number)})
            for number, (split, label) in enumerate(zip(splits, labels.tolist(), strict=True))
        ]
        write_manifest(folder / "manifest.csv", entries)
    monkeypatch.setenv("AURISCOPE_CORPORA", str(tmp_path))
    return tmp_path


def test_sets(root: Path) -> None:
    train, test = ImageSet("mnist", "train"), ImageSet("mnist", "test")
    # Test images are of one of the two corpora alone.
    assert (len(train), len(test)) == (24, 8)
    assert {name.partition(":")[0] for name in train.ids} == {"mnist_10k", "mnist_train_10k"}
    assert {name.partition(":")[0] for name in test.ids} == {"mnist_10k"}
    assert np.array_equal(test.images[:, 10, 10], 20 + 20 * test.numbers)
    assert test.images[:, 0, 0].tolist() == list(range(16, 24))
    assert ImageSet("fashion-mnist").labels == ("Trouser", "Bag", "Dress", "Coat")
    first, last = test.batches(5)
    assert first["image"].shape == (5, 1, 28, 28)
    assert float(first["image"].max()) == pytest.approx(80 / 255)
    assert first["label"].tolist() + last["label"].tolist() == test.numbers.tolist()
    assert first["id"] + last["id"] == test.ids


def test_batches(root: Path) -> None:
    batches = ImageBatches(ImagesConfig(batch_size=6), seed=1)
    made = [batches.batch(index) for index in range(8)]
    names = [name for batch in made for name in batch["id"]]
    assert sorted(names[:24]) == sorted(names[24:]) == sorted(set(names))
    for batch in made:
        assert torch.allclose(batch["image"][:, 0, 10, 10], (20 + 20 * batch["label"]) / 255)
    changed = ImagesConfig(batch_size=6, shift=0.1, rotation_degrees=20.0, scale=0.2, shear=0.2, flip_probability=0.5)
    first = ImageBatches(changed, seed=1, num_threads=2).iterate(3)
    batch = next(first)
    assert torch.equal(batch["image"], ImageBatches(changed, seed=1).batch(3)["image"])
    assert not torch.equal(batch["image"], made[3]["image"])
    assert batch["id"] == made[3]["id"]
    # Whatever moves, the brightest stays as bright as the class says.
    assert torch.allclose(batch["image"].amax((1, 2, 3)), (20 + 20 * batch["label"]) / 255, atol=1e-5)


def test_moves_are_what_they_are_called(root: Path) -> None:
    """A corner is where each move puts it."""

    def bright(config: ImagesConfig) -> list[tuple[float, float]]:
        batches = ImageBatches(config, seed=3)
        spot = torch.zeros(config.batch_size, 1, 28, 28)
        spot[:, :, 6:8, 6:8] = 1.0
        image = moved(spot, batches._drawn(0))[:, 0]
        rows, columns = torch.meshgrid(torch.arange(28.0), torch.arange(28.0), indexing="ij")
        weight = image.sum((1, 2))
        places = zip(((image * rows).sum((1, 2)) / weight).tolist(), ((image * columns).sum((1, 2)) / weight).tolist(),
                     strict=True)  # fmt: skip
        return [(row - 13.5, column - 13.5) for row, column in places]

    for row, column in bright(ImagesConfig(batch_size=20, flip_probability=0.5)):
        assert (row, abs(column)) == (pytest.approx(-7.0, abs=1e-3), pytest.approx(7.0, abs=1e-3))
    for row, column in bright(ImagesConfig(batch_size=20, rotation_degrees=30.0)):
        assert np.hypot(row, column) == pytest.approx(7.0 * np.sqrt(2), rel=0.02)
        assert abs(np.rad2deg(np.arctan2(row, column)) + 135.0) < 31.0
    for row, column in bright(ImagesConfig(batch_size=20, shift=0.1)):
        assert max(abs(row + 7.0), abs(column + 7.0)) < 2.9
    for row, column in bright(ImagesConfig(batch_size=20, scale=0.2)):
        assert row == pytest.approx(column, abs=1e-3)
        assert -8.6 < row < -5.4
    for row, column in bright(ImagesConfig(batch_size=20, shear=0.3)):
        assert row == pytest.approx(-7.0, abs=0.01)
        assert abs(column + 7.0) < 2.2
    assert len({round(row, 3) for row, _ in bright(ImagesConfig(batch_size=20, shift=0.1))}) > 10


def test_mixtures(root: Path) -> None:
    both = ImageMixtureSet("two-digits")
    (batch,) = both.batches(16)
    assert batch["image"].shape == (8, 1, 28, 28)
    assert (batch["label"] != batch["other"]).all()
    assert torch.equal(batch["image"], batch["sources"].amax(1, keepdim=True))
    assert torch.allclose(batch["sources"][:, 0, 10, 10], (20 + 20 * batch["label"]) / 255)
    assert torch.allclose(batch["sources"][:, 1, 10, 10], (20 + 20 * batch["other"]) / 255)
    (apart,) = ImageMixtureSet("two-digits", shift=0.5).batches(16)
    assert apart["id"] == batch["id"]
    # Fourteen pixels apart, seven each: to the left the first, to the right the second.
    assert torch.equal(apart["sources"][:, 0, :, :21], batch["sources"][:, 0, :, 7:])
    assert torch.equal(apart["sources"][:, 1, :, 7:], batch["sources"][:, 1, :, :21])
    mixed = ImageMixtureSet("digit-on-clothes", num_mixtures=3)
    (few,) = mixed.batches(16)
    assert len(mixed) == len(few["id"]) == 3
    assert (mixed.labels[0], mixed.other_labels[0]) == ("0", "Trouser")
    assert all(name.startswith("mnist_10k") and "+fashion_mnist_900" in name for name in few["id"])


def test_what_is_wrong_is_one_line(root: Path) -> None:
    with pytest.raises(CorpusError, match="no set of images 'mnits'; did you mean 'mnist'"):
        ImageSet("mnits")
    with pytest.raises(CorpusError, match="split 'dev' must be one of"):
        ImageSet("mnist", "dev")
    with pytest.raises(RecipeError, match="must not be negative, and scale below 1"):
        ImagesConfig(scale=1.0)
    (root / "mnist_10k" / "images.npz").write_bytes(b"nothing")
    with pytest.raises(CorpusError, match=r"images\.npz: cannot be read as images"):
        ImageSet("mnist")
    (root / "mnist_10k" / "manifest.csv").unlink()
    with pytest.raises(CorpusError, match="there is no corpus 'mnist_10k'"):
        ImageSet("mnist")
