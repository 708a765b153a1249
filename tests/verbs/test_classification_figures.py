"""What evaluate tells of classifiers: exact where the answer is known."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from auriscope.classification import CNN, ImageCNN
from auriscope.classification.imagecnn import ImageCNNConfig
from auriscope.cli import app
from auriscope.data.labelled import LabelledSet
from auriscope.errors import AuriscopeError
from auriscope.pretrained import load
from auriscope.verbs.evaluate import evaluate

EFFECTS = ("hihat", "hyper_reality", "kick", "pool_table", "snare", "tom")


@pytest.fixture
def corpora(tmp_path: Path, trees: ModuleType, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three kits of six drums, each a tone of its own, and twenty pictures."""
    root = tmp_path / "corpora"
    trees.build_labelled(root, 3, lambda _, kit: 8000 + 100 * kit)
    monkeypatch.setenv("AURISCOPE_CORPORA", str(root))
    monkeypatch.setenv("AURISCOPE_CACHE", str(tmp_path / "cache"))
    return root


def saved(folder: Path, labels: tuple[str, ...]) -> Path:
    torch.manual_seed(0)
    CNN.from_config({**CNN.Tiny, "labels": labels}).save_pretrained(folder)
    return folder


def test_equal_to_counting_by_hand(corpora: Path, tmp_path: Path) -> None:
    # The model's classes are in another order, and more.
    folder = saved(tmp_path / "model", ("other", *reversed(EFFECTS)))
    model = load(folder)
    sounds = LabelledSet("sound-effects", sample_rate=model.config.sample_rate)
    assert len(set(sounds.groups)) == 3
    right = []
    for sound in sounds:
        with torch.inference_mode():
            found = int(model(torch.from_numpy(sound.waveform)[None]).argmax())
        right.append(model.labels[found] == sounds.labels[sound.label])
    result = evaluate(str(folder), "sound-effects")
    assert result.num_mixtures == 18
    assert result.figures["accuracy_percent"].value == pytest.approx(100 * np.mean(right))
    # As many of every class.
    assert result.figures["balanced_accuracy_percent"].value == pytest.approx(100 * np.mean(right))
    mixed = evaluate(str(folder), "sound-effects-mixtures")
    assert set(mixed.figures) == {"accuracy_percent", "mean_average_precision_percent"}


def test_images(corpora: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    model = ImageCNN(ImageCNNConfig(labels=tuple("9876543210"))).eval()
    model.save_pretrained(tmp_path / "model")
    with torch.inference_mode():
        pixels = np.load(corpora / "mnist_10k" / "images.npz")["images"]
        found = model(torch.from_numpy(pixels)[:, None] / 255).argmax(1).numpy()
    result = evaluate(str(tmp_path / "model"), "mnist")
    assert result.figures["accuracy_percent"].value == pytest.approx(100 * np.mean(9 - found == np.arange(20) % 10))
    with pytest.raises(AuriscopeError, match="images have no folds; leave --fold out"):
        evaluate(str(tmp_path / "model"), "mnist", fold=1)


def test_the_command(corpora: Path, tmp_path: Path) -> None:
    folder = saved(tmp_path / "model", EFFECTS)
    ran = CliRunner().invoke(app, ["evaluate", str(folder), "sound-effects", "--json"])
    assert ran.exit_code == 0, ran.output
    printed = json.loads(ran.stdout)
    assert printed["accuracy_percent_low"] <= printed["accuracy_percent"] <= printed["accuracy_percent_high"]
    ran = CliRunner().invoke(app, ["evaluate", str(folder), "sound-effects"])
    assert "(test, 18 sounds or images)" in ran.stdout


@pytest.mark.parametrize(
    ("labels", "name", "asked", "line"),
    [
        (("kick", "snare"), "sound-effects", {}, "has the class 'hihat', which the model does not know"),
        (EFFECTS, "sound-efects", {}, "no set 'sound-efects'; did you mean 'sound-effects'"),
        (EFFECTS, "sound-effects", {"fold": 2}, "has no folds; leave the fold out"),
        (EFFECTS, "sound-effects", {"split": "valid"}, "no entry in the split 'valid'"),
    ],
)
def test_what_does_not_fit_is_one_line(
    corpora: Path, tmp_path: Path, labels: tuple[str, ...], name: str, asked: dict[str, object], line: str
) -> None:
    with pytest.raises(AuriscopeError, match=line):
        evaluate(str(saved(tmp_path / "model", labels)), name, **asked)  # type: ignore[arg-type]
