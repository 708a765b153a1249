"""Training interpreters: what is frozen, what is chosen by, what is mixed in, and recipes from beginning to end."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

from auriscope.classification import CNN, ImageCNN, XVectorClassifier
from auriscope.data.prepared_images import PreparedImages, PreparedStretch, write_images
from auriscope.data.prepared_labelled import PreparedSound, PreparedSounds, write_labelled
from auriscope.errors import AuriscopeError, RecipeError
from auriscope.interpretation import L2I, METHODS, PIQ, TrainedInterpreter, interpreter_of
from auriscope.interpretation.interpreter import facts
from auriscope.interpretation.task import (
    InterpretationOptions,
    InterpretationTask,
    build,
    classified,
    see,
    with_others,
)
from auriscope.pretrained import load
from auriscope.separation import NMF
from auriscope.training.config import TrainingConfig
from auriscope.training.recipe import ModelRecipe, Recipe
from auriscope.verbs.train import train

from .conftest import draw_pictures

RATE = 8000
NET: dict[str, Any] = {"num_codes": 24, "halve": False, "kernel_sizes": [4, 3], "resize": True}


@pytest.fixture(scope="session")
def tones(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of low and high tones."""
    root, folder = tmp_path_factory.mktemp("audio"), tmp_path_factory.mktemp("manifests") / "tones"
    rng = np.random.default_rng(0)
    rows = []
    for split, number in (("train", 5), ("valid", 2), ("test", 2)):
        for label, hertz in (("low", 200.0), ("high", 1500.0)):
            for take in range(number):
                time = np.arange(int(rng.integers(2700, 4000))) / RATE
                name = f"{split}-{label}-{take}.wav"
                soundfile.write(root / name, 0.1 * np.sin(2 * np.pi * hertz * rng.uniform(0.9, 1.1) * time), RATE)
                rows.append(PreparedSound(name, split, label, name, len(time), RATE))
    write_labelled(PreparedSounds("tones", "made", root, ("low", "high"), tuple(rows)), folder)
    return folder


@pytest.fixture(scope="session")
def bars(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A prepared folder of pictures of bars."""
    root, folder = tmp_path_factory.mktemp("pixels"), tmp_path_factory.mktemp("manifests") / "bars"
    drawn = draw_pictures(90, 1)
    stretches = []
    for number, label in enumerate(("lying", "upright", "crossed")):
        images = (255 * drawn.x[drawn.label == number, 0][:20]).numpy().astype(np.uint8)
        np.save(root / f"{label}.npy", images.reshape(20, -1))
        stretches += [
            PreparedStretch(f"{label}.npy", split, start, end, label)
            for split, start, end in (("train", 0, 12), ("valid", 12, 16), ("test", 16, 20))
        ]
    write_images(PreparedImages("bars", "made", root, ("lying", "upright", "crossed"), tuple(stretches)), folder)
    return folder


@pytest.fixture(scope="session")
def pictures(bars_classifier: ImageCNN, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of the classifier of bars."""
    folder = tmp_path_factory.mktemp("classifiers") / "bars"
    bars_classifier.save_pretrained(folder)
    return folder


@pytest.fixture(scope="session")
def hearing(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of a classifier of tones that has learnt nothing."""
    torch.manual_seed(0)
    folder = tmp_path_factory.mktemp("classifiers") / "tones"
    CNN.from_config({**CNN.Tiny, "labels": ("low", "high"), "sample_rate": RATE}).save_pretrained(folder)
    return folder


def recipe(classifier: Path, data: Path, architecture: str = "interpretation/piq", **changes: Any) -> Recipe:
    config = {"classifier": str(classifier), **(NET if architecture.endswith("piq") else {"num_components": 4})}
    values: dict[str, Any] = {
        "model": ModelRecipe(architecture, config),
        "data": {"prepared": str(data), "batch_size": 4},
        "validation": {"batch_size": 3},
        "training": TrainingConfig(max_steps=4, validate_every_steps=2, log_every_steps=1),
    }
    return Recipe(task="interpretation", **{**values, **changes})


def tiny(classifier: ImageCNN, **options: Any) -> InterpretationTask:
    torch.manual_seed(0)
    model = PIQ.from_config({**facts(classifier, PIQ.Config), **NET})
    return InterpretationTask(model, classifier, InterpretationOptions(**options))


@pytest.mark.parametrize("architecture", ["interpretation/piq", "interpretation/l2i"])
def test_a_run_gives_an_interpreter_of_images(architecture: str, pictures: Path, bars: Path, tmp_path: Path) -> None:
    before = load(pictures).state_dict()
    result = train(recipe(pictures, bars, architecture), tmp_path / "run")
    # The best weights are chosen by a figure that every validation gives.
    assert result.best is not None
    assert result.best_metric is not None
    model = interpreter_of(architecture.split("/")[1], tmp_path / "run" / "model")
    assert isinstance(model, TrainedInterpreter)
    assert model.config.classifier == str(pictures)
    assert (model.config.num_classes, model.config.hidden_channels) == (3, (8, 16))
    classifier = load(model.config.classifier)
    assert isinstance(classifier, ImageCNN)
    x = draw_pictures(3, 2).x
    found = model.interpret(classifier, x)
    assert found.mask.shape == x.shape
    assert bool(((found.mask >= 0) & (found.mask <= 1)).all())
    assert all(torch.equal(value, classifier.state_dict()[name]) for name, value in before.items())


@pytest.mark.parametrize("architecture", ["interpretation/piq", "interpretation/l2i"])
def test_a_run_gives_an_interpreter_of_sounds(architecture: str, hearing: Path, tones: Path, tmp_path: Path) -> None:
    options = {"mixed_share": 0.5}
    result = train(recipe(hearing, tones, architecture, task_options=options), tmp_path / "run")
    assert set(result.metrics) == {"merit", "input_fidelity", "faithfulness", "kept"}
    model, classifier = load(tmp_path / "run" / "model"), load(hearing)
    assert isinstance(model, TrainedInterpreter)
    assert isinstance(classifier, CNN)
    assert model.config.sample_rate == RATE
    assert model.config.classifier == str(hearing)
    x = classifier.spectrogram(0.1 * torch.randn(2, 3333)).abs()[:, None]
    assert model.interpret(classifier, x).mask.shape == x.shape


@pytest.mark.parametrize("select_by", ["merit", "input_fidelity", "faithfulness"])
def test_what_is_chosen_by_is_given_by_every_validation(select_by: Any, bars_classifier: ImageCNN) -> None:
    task = tiny(bars_classifier, select_by=select_by).eval()
    values = task.evaluate({"image": draw_pictures(5, 1).x})
    assert values[task.selection_metric].shape == (5,)
    torch.testing.assert_close(values["merit"], (values["input_fidelity"] + values["faithfulness"]) / 2)


def test_the_classifier_is_frozen_and_no_part_of_the_task(bars_classifier: ImageCNN) -> None:
    classifier = copy.deepcopy(bars_classifier).train().requires_grad_(True)
    task = tiny(classifier)
    task.train()
    assert not classifier.training
    assert not any(parameter.requires_grad for parameter in classifier.parameters())
    names = {name.split(".")[0] for name in task.state_dict()}
    assert names == {"model", "batches_seen"}
    before = {name: value.clone() for name, value in classifier.state_dict().items()}
    losses = task({"image": draw_pictures(8, 1).x}, "main")
    losses["loss"].backward()
    assert all(parameter.grad is None for parameter in classifier.parameters())
    assert all(torch.equal(value, before[name]) for name, value in classifier.state_dict().items())


def test_the_number_of_batches_survives_a_restart(bars_classifier: ImageCNN) -> None:
    task = tiny(bars_classifier).train()
    for _ in range(3):
        task({"image": draw_pictures(4, 1).x}, "main")
    again = tiny(bars_classifier)
    again.load_state_dict(task.state_dict())
    assert int(again.batches_seen) == 3
    again.eval()({"image": draw_pictures(4, 1).x}, "main")
    assert int(again.batches_seen) == 3


def test_what_is_mixed_in_is_as_loud_as_asked() -> None:
    waveform = torch.randn(4, 1000) * torch.tensor([0.1, 1.0, 0.01, 0.0])[:, None]
    lengths, partner = torch.tensor([1000, 600, 800, 1000]), torch.tensor([1, 2, 0, 0])
    level_db, chosen = torch.tensor([6.0, -3.0, 0.0, 0.0]), torch.tensor([True, True, False, True])
    mixed = with_others({"waveform": waveform, "lengths": lengths}, partner, level_db, chosen)
    assert mixed["lengths"].tolist() == [1000, 800, 800, 1000]
    clean = torch.where(torch.arange(1000) < lengths[:, None], waveform, 0.0)
    other = mixed["waveform"] - clean
    for item in (0, 1):
        source, added = clean[item, : lengths[item]], other[item, : lengths[partner[item]]]
        level = 20 * torch.log10(source.square().mean().sqrt() / added.square().mean().sqrt())
        torch.testing.assert_close(level, level_db[item], atol=0.01, rtol=0.0)
        assert not other[item, lengths[partner[item]] :].any()
    assert torch.equal(mixed["waveform"][2], clean[2])
    # Nothing can be as loud as silence.
    assert not mixed["waveform"][3].any()
    images = torch.rand(2, 1, 3, 3)
    mixed = with_others({"image": images}, torch.tensor([1, 0]), torch.zeros(2), torch.tensor([True, False]))
    assert torch.equal(mixed["image"], torch.stack(((images[0] + images[1]).clamp(max=1.0), images[1])))


def test_of_mixtures_the_class_before_is_explained(bars_classifier: ImageCNN, monkeypatch: pytest.MonkeyPatch) -> None:
    task, seen = tiny(bars_classifier, mixed_share=1.0).train(), []
    monkeypatch.setattr(task.model, "losses", lambda given, index: seen.append(given) or {"loss": torch.zeros(())})
    x = draw_pictures(16, 1).x
    alone = see(bars_classifier, x)
    task({"image": x}, "main")
    (given,) = seen
    assert torch.equal(given.source, x)
    assert torch.equal(given.label, alone.label)
    mixed = (given.x != x).flatten(1).any(1)
    assert mixed.any()
    assert not mixed.all()
    torch.testing.assert_close(given.logits, bars_classifier(given.x))
    task.eval()({"image": x}, "main")
    assert torch.equal(seen[1].x, x)


def test_spectra_of_a_fitted_separator_are_handed_in(hearing: Path, tones: Path, tmp_path: Path) -> None:
    classifier = load(hearing)
    torch.manual_seed(0)
    length = classifier.config.fft_length
    nmf = NMF.from_config({**NMF.Tiny, "sample_rate": RATE, "num_components": 2, "window_length": length})
    nmf.fit(0.1 * torch.randn(1, 2, 8000)).save_pretrained(tmp_path / "nmf")
    options = {"nmf": str(tmp_path / "nmf")}
    task, _, _ = build(recipe(hearing, tones, "interpretation/l2i", task_options=options))
    assert isinstance(task.model, L2I)
    spectra = nmf.dictionaries.movedim(0, 1).flatten(1)
    torch.testing.assert_close(task.model.dictionary, torch.nn.functional.normalize(spectra, dim=0))
    with pytest.raises(RecipeError, match="piq has no dictionary of spectra"):
        build(recipe(hearing, tones, task_options=options))
    with pytest.raises(RecipeError, match=r"task_options.nmf: .* is a classification/cnn and has no dictionaries"):
        build(recipe(hearing, tones, "interpretation/l2i", task_options={"nmf": str(hearing)}))
    NMF.from_config({**NMF.Tiny, "num_components": 3}).fit(torch.randn(1, 2, 4000)).save_pretrained(tmp_path / "other")
    with pytest.raises(RecipeError, match=r"task_options\.nmf: the dictionary is of"):
        build(recipe(hearing, tones, "interpretation/l2i", task_options={"nmf": str(tmp_path / "other")}))


def test_recipes_that_make_no_sense_are_refused(pictures: Path, bars: Path, tones: Path, tmp_path: Path) -> None:
    torch.manual_seed(0)
    embedding = tmp_path / "xvector"
    XVectorClassifier.from_config(XVectorClassifier.Tiny).save_pretrained(embedding)
    cases = [
        (recipe(embedding, tones), "piq needs the hidden maps of a classifier, and classification/xvector has none"),
        (recipe(tmp_path / "nowhere", bars), "model.config.classifier: .*nowhere"),
        (recipe(pictures, bars, model=ModelRecipe("interpretation/piq", NET)), "give the address of the classifier"),
        (recipe(pictures, bars, model=ModelRecipe("classification/cnn", {})), "classification/cnn does not interpret"),
        (recipe(pictures, bars, "interpretation/pig"), "model.architecture: .*did you mean 'interpretation/piq'"),
        (recipe(pictures, bars, task_options={"mixed_share": 2.0}), "mixed_share must lie between"),
        (recipe(pictures, bars, task_options={"first_batches": 0}), "first_batches must be at least 1"),
        (recipe(pictures, bars, validation={"max_items": 0}), "max_items must be at least 1"),
    ]
    for wrong, says in cases:
        with pytest.raises(RecipeError, match=says):
            build(wrong)


def test_methods_are_made_by_their_names(pictures: Path) -> None:
    assert {"piq", "l2i", "vibi", "flint", "lmac", "lime", "grad-cam"} <= set(METHODS)
    for name, kind in METHODS.items():
        assert kind.method == name
    assert interpreter_of("lime").method == "lime"
    for method, address, says in (
        ("piqq", None, "no method 'piqq'; did you mean 'piq'"),
        ("piq", None, "piq is trained for a classifier: give the address"),
        ("lime", "somewhere", "lime is not trained"),
        ("piq", pictures, "is a classification/image-cnn, not an interpreter by piq"),
    ):
        with pytest.raises(AuriscopeError, match=says):
            interpreter_of(method, address)


def test_what_sounds_and_images_are_to_a_classifier(hearing: Path) -> None:
    classifier: Any = load(hearing)
    waveform, lengths = 0.1 * torch.randn(2, 3000), torch.tensor([3000, 1500])
    x = classified(classifier, {"waveform": waveform, "lengths": lengths})
    with torch.no_grad():
        torch.testing.assert_close(classifier.classify_maps(x)[0], classifier(waveform)[0])
    assert not x[1, 0, 12 + 1500 // classifier.config.hop_length :].any()
    image = torch.rand(2, 1, 4, 4)
    assert classified(classifier, {"image": image}) is image
