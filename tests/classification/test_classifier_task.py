"""Training classifiers: mixtures, targets, balanced accuracy; a run from its recipe to a model that tells classes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch.nn import functional as F

from auriscope.classification import CNN, ImageCNN
from auriscope.classification.task import ClassifierOptions, ClassifierTask, build, mixed, restyled
from auriscope.data.images import ImageSet
from auriscope.data.labelled import LabelledSet
from auriscope.errors import RecipeError
from auriscope.pretrained import load
from auriscope.training.config import TrainingConfig
from auriscope.training.evaluation import evaluate
from auriscope.training.recipe import ModelRecipe, Recipe
from auriscope.verbs.train import train

LABELS = ("low", "high", "noise")
SMALL = {
    **{"sample_rate": 8000, "window_length": 256, "hop_length": 100, "fft_length": 256, "num_mels": 16},
    **{"stem_channels": 4, "channels": [8, 12], "strides": [2, 2], "dropout": 0.0},
}


def recipe(folder: Path, architecture: str = "classification/cnn", **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "task": "classification",
        "model": ModelRecipe(architecture, SMALL if architecture == "classification/cnn" else {}),
        "data": {"prepared": str(folder), "batch_size": 8},
        "validation": {"batch_size": 4},
        "seed": 1,
    }
    return Recipe(**{**values, **changes})


def tiny(**options: Any) -> ClassifierTask:
    torch.manual_seed(0)
    model = CNN.from_config({**CNN.Tiny, "labels": LABELS, "dropout": 0.0})
    return ClassifierTask(model, [1, 2, 0], ClassifierOptions(**options))


def batch(size: int = 4, time: int = 3000) -> dict[str, Any]:
    waveform = 0.1 * torch.randn(size, time, generator=torch.Generator().manual_seed(1))
    return {"waveform": waveform, "lengths": torch.full((size,), time), "label": torch.arange(size) % 3}


def test_without_options_the_loss_is_plain_cross_entropy() -> None:
    task, entries = tiny().eval(), batch()
    logits = task.model(entries["waveform"])
    losses = task(entries, "main")
    torch.testing.assert_close(losses["loss"], F.cross_entropy(logits, entries["label"]))
    assert losses["accuracy"] == (logits.argmax(1) == entries["label"]).float().mean()


def test_mixing_makes_sounds_equally_loud_first() -> None:
    waveform = torch.stack([0.5 * torch.ones(100), 0.01 * torch.ones(100), torch.zeros(100)])
    waveform[1, 40:] = 9.0  # behind its end
    share, partner = torch.tensor([0.75, 0.6, 0.5]), torch.tensor([1, 0, 1])
    output, lengths = mixed(waveform, torch.tensor([100, 40, 70]), share, partner)
    torch.testing.assert_close(output[0], torch.cat((0.5 * torch.ones(40), 0.375 * torch.ones(60))))
    torch.testing.assert_close(output[1], torch.cat((0.01 * torch.ones(40), 0.004 * torch.ones(60))))
    assert lengths.tolist() == [100, 100, 70]
    # Silence has no loudness to which the other could be brought.
    torch.testing.assert_close(output[2], torch.cat((0.005 * torch.ones(40), torch.zeros(60))))


def test_bands_take_each_others_mean_and_deviation_and_frames_behind_the_end_stay_zero() -> None:
    torch.manual_seed(0)
    features, lengths = (
        torch.randn(4, 30, 5) * torch.rand(4, 1, 5) + torch.randn(4, 1, 5),
        torch.tensor([30, 9, 20, 30]),
    )
    valid = torch.arange(30) < lengths[:, None]
    features = torch.where(valid[..., None], features, 0.0)
    means = torch.stack([own[:length].mean(0) for own, length in zip(features, lengths, strict=True)])
    output = restyled(features, lengths)
    assert (output[~valid] == 0).all()
    low, high = means.amin(0) - 1e-5, means.amax(0) + 1e-5
    for own, new, length in zip(features, output, lengths, strict=True):
        # A mix of means lies between them, and what is left of a band is the sound's own course.
        assert ((new[:length].mean(0) >= low) & (new[:length].mean(0) <= high)).all()
        both = torch.stack([own[:length], new[:length]]).movedim(2, 0)
        courses = (both - both.mean(2, keepdim=True)) / both.std(2, keepdim=True)
        torch.testing.assert_close(courses[:, 0], courses[:, 1], rtol=1e-3, atol=1e-3)
    assert not torch.allclose(output, features)


@pytest.mark.parametrize("kind", ["sounds", "images"])
def test_targets_are_mixed_as_the_examples_are(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    share, partner = torch.tensor([0.9, 0.3, 1.0, 0.5]), torch.tensor([1, 2, 3, 0])
    if kind == "sounds":
        task, entries = tiny(mixup_alpha=1.0), batch()
        x: Any = mixed(entries["waveform"], entries["lengths"], share, partner)[0]
    else:
        torch.manual_seed(0)
        task = ClassifierTask(
            ImageCNN.from_config({**ImageCNN.Tiny, "labels": LABELS, "dropout": 0.0}),
            [1, 1, 1],
            ClassifierOptions(mixup_alpha=1.0),
        )
        entries = {"image": torch.rand(4, 1, 12, 12), "label": torch.arange(4) % 3}
        own = share[:, None, None, None]
        x = own * entries["image"] + (1 - own) * entries["image"][partner]
    task.train()
    monkeypatch.setattr(task, "_mixing", lambda size, device: (share, partner))
    loss = task(entries, "main")["loss"]
    entropies = F.cross_entropy(task.model(x), entries["label"], reduction="none")
    other = F.cross_entropy(task.model(x), entries["label"][partner], reduction="none")
    torch.testing.assert_close(loss, (share * entropies + (1 - share) * other).mean())


def test_shares_are_drawn_in_training_only() -> None:
    task = tiny(mixup_alpha=0.4)
    torch.manual_seed(0)
    share, partner = task._mixing(2000, torch.device("cpu"))
    assert share is not None
    assert partner is not None
    assert sorted(partner.tolist()) == list(range(2000))
    # Beta(a, a) has the variance 1 / (4 (2 a + 1)).
    assert share.mean().item() == pytest.approx(0.5, abs=0.03)
    assert share.var().item() == pytest.approx(1 / (4 * 1.8), abs=0.01)
    assert task.eval()._mixing(4, torch.device("cpu")) == (None, None)
    assert tiny()._mixing(4, torch.device("cpu")) == (None, None)


def test_spec_augment_blanks_to_the_quietest_in_training_only() -> None:
    task = tiny(num_mel_masks=2, max_mel_width=6, num_time_masks=2, max_time_width=10)
    features, lengths = -50.0 + torch.rand(3, 30, 16), torch.tensor([30, 30, 30])
    torch.manual_seed(0)
    blanked = task._blanked(features, lengths)
    changed = blanked != features
    assert changed.any()
    torch.testing.assert_close(blanked[changed], features.amin((1, 2), keepdim=True).expand_as(features)[changed])
    entries = batch()
    torch.testing.assert_close(task.eval()(entries, "main")["loss"], tiny().eval()(entries, "main")["loss"])


def test_padding_changes_no_loss() -> None:
    task, entries = tiny().eval(), batch()
    cut = {**entries, "lengths": torch.tensor([3000, 2000, 1500, 900])}
    losses = [
        task(
            {**entries, "waveform": cut["waveform"][[i], :n], "lengths": torch.tensor([n]), "label": torch.tensor([k])},
            "main",
        )["loss"]
        for i, (n, k) in enumerate(zip(cut["lengths"].tolist(), cut["label"].tolist(), strict=True))
    ]
    torch.testing.assert_close(task(cut, "main")["loss"], torch.stack(losses).mean(), rtol=1e-4, atol=1e-4)


def test_balanced_accuracy_is_the_mean_over_the_classes_that_there_are() -> None:
    # One of class 0, told; two of class 1, of which one is told; none of class 2.
    task = tiny()
    task.model.classify_features = lambda features, lengths: torch.eye(3)[torch.tensor([0, 1, 2])]  # type: ignore[method-assign]
    table = evaluate(task, [{**batch(3), "label": torch.tensor([0, 1, 1])}])
    means = table.means()
    assert means["accuracy_percent"] == pytest.approx(200 / 3)
    assert means["balanced_accuracy_percent"] == pytest.approx(75.0)
    assert task.selection_metric == "accuracy_percent"
    assert tiny(select_by="balanced_accuracy").selection_metric in means
    by_loss = tiny(select_by="cross_entropy")
    assert by_loss.selection_metric in means
    assert not by_loss.higher_is_better


def test_a_run_gives_a_model_that_tells_sounds(sounds: Path, tmp_path: Path) -> None:
    data = {"prepared": str(sounds), "batch_size": 8, "segment_seconds": 0.4, "balance": 0.5}
    training = TrainingConfig(max_steps=40, learning_rate=1e-2, validate_every_steps=20, accelerator="cpu", seed=1)
    options = {"mixup_alpha": 0.1, "num_mel_masks": 1, "max_mel_width": 2}
    result = train(recipe(sounds, data=data, training=training, task_options=options), tmp_path / "run")
    assert result.best is not None
    model = load(tmp_path / "run" / "model")
    assert isinstance(model, CNN)
    assert model.labels == LABELS
    test = LabelledSet(str(sounds), "test", sample_rate=8000)
    with torch.no_grad():
        told = [int(model(torch.from_numpy(sound.waveform)[None]).argmax()) for sound in test]
    assert sum(one == other for one, other in zip(told, test.numbers, strict=True)) >= len(test) - 1


def test_a_run_gives_a_model_that_tells_images(bars: Path, tmp_path: Path) -> None:
    small = {"height": 12, "width": 12, "stage_channels": [6, 12], "strides": [1, 2], "dropout": 0.0}
    training = TrainingConfig(max_steps=40, learning_rate=1e-2, validate_every_steps=20, accelerator="cpu", seed=1)
    model_recipe = ModelRecipe("classification/image-cnn", small)
    train(recipe(bars, model=model_recipe, training=training), tmp_path / "run")
    model = load(tmp_path / "run" / "model")
    assert isinstance(model, ImageCNN)
    assert model.labels == ("upright", "lying")
    (test,) = ImageSet(str(bars), "test").batches(8)
    assert (model(test["image"]).argmax(1) == test["label"]).float().mean() >= 7 / 8


def test_validation_hears_the_beginning_only(sounds: Path) -> None:
    _, _, validation = build(recipe(sounds, validation={"batch_size": 4, "max_seconds": 0.2}))
    heard = [each for _ in range(2) for each in validation]
    assert {each["waveform"].shape[1] for each in heard} == {1600}
    assert all(int(each["lengths"].max()) <= 1600 for each in heard)
    assert len({name for each in heard for name in each["id"]}) == 8


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"model": ModelRecipe("speaker/xvector")}, "speaker/xvector does not classify"),
        ({"model": ModelRecipe("classification/cmm")}, "there is no model 'classification/cmm'"),
        ({"model": ModelRecipe("classification/cnn", {**SMALL, "labels": ["a", "b"]})}, "leave labels out"),
        ({"task_options": {"mixup_alpha": -1.0}}, "mixup_alpha must be at least 0"),
        ({"task_options": {"style_probability": 1.5}}, "style_probability must lie in"),
        ({"task_options": {"num_time_masks": -1}}, "must not be negative"),
        ({"task_options": {"select_by": "luck"}}, "select_by"),
        ({"validation": {"max_seconds": 0.0}}, "max_seconds above 0"),
    ],
)
def test_recipes_that_make_no_sense_are_refused(changes: dict[str, Any], says: str, sounds: Path) -> None:
    with pytest.raises(RecipeError, match=says):
        build(recipe(sounds, **changes))


def test_data_must_fit_the_model(sounds: Path, bars: Path) -> None:
    with pytest.raises(RecipeError, match="data is at 16000 Hz, the model at 8000 Hz"):
        build(recipe(sounds, data={"prepared": str(sounds), "sample_rate": 16_000}))
    with pytest.raises(RecipeError, match="1 channel and 12 x 12 pixels"):
        build(recipe(bars, "classification/image-cnn"))


def test_one_class_is_nothing_to_tell(tmp_path: Path, sounds: Path) -> None:
    folder = tmp_path / "one"
    folder.mkdir()
    for name in ("corpus.json", "manifest.csv"):
        text = (sounds / name).read_text(encoding="utf-8")
        if name == "corpus.json":
            text = json.dumps({**json.loads(text), "labels": ["low"]})
        else:
            lines = text.splitlines(keepends=True)
            text = "".join(line for line in lines if line is lines[0] or ",low," in line)
        (folder / name).write_text(text, encoding="utf-8")
    with pytest.raises(RecipeError, match="there is one class only, low"):
        build(recipe(folder))
