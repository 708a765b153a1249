"""The recipes of classifiers are valid: their settings exist, and their models can be built."""

from __future__ import annotations

from pathlib import Path

import pytest

from auriscope.classification import ImageClassifier
from auriscope.classification.task import ClassifierOptions, ClassifierValidation, build
from auriscope.data.images import IMAGE_SETS, ImagesConfig
from auriscope.data.labelled import LabelledConfig
from auriscope.data.labelled_sets import labelled_set_names
from auriscope.data.prepare import LAYOUTS
from auriscope.pretrained import model_class
from auriscope.training.recipe import parse, read_recipe

FOLDER = Path(__file__).parents[2] / "recipes" / "classification"
PATHS = sorted(FOLDER.glob("*.yaml"))
SMALL = [path for path in PATHS if path.stem.endswith("-mini")]


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_recipe_is_valid(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.task == "classification"
    kind = model_class(recipe.model.architecture)
    config = parse(kind.Config, recipe.model.config, "model.config")
    parse(ClassifierOptions, recipe.task_options, "task_options")
    parse(ClassifierValidation, recipe.validation, "validation")
    if issubclass(kind, ImageClassifier):
        images = parse(ImagesConfig, recipe.data, "data")
        prepared, known = {images.prepared} - {None}, images.set in IMAGE_SETS
    else:
        sounds = parse(LabelledConfig, {"sample_rate": config.sample_rate, **recipe.data}, "data")
        prepared, known = {sounds.prepared, *sounds.more} - {None}, sounds.set in labelled_set_names()
    assert known
    assert {Path(str(folder)).name for folder in prepared} <= set(LAYOUTS)
    assert (not prepared) == (path in SMALL)


def test_small_networks_are_small() -> None:
    recipes = [read_recipe(path) for path in SMALL]
    sizes = [model_class(each.model.architecture).from_config(each.model.config).num_parameters for each in recipes]
    assert len(sizes) == 7
    assert max(sizes) < 1e6


@pytest.mark.corpora
@pytest.mark.parametrize(("name", "num_labels"), [("digits", 10), ("sound-events", 31), ("mnist", 10)])
def test_a_small_recipe_makes_a_step(name: str, num_labels: int, real_corpora: Path) -> None:
    # Without noises and rooms, which take minutes to make ready.
    changes = ["data.batch_size=4"]
    if name != "mnist":
        changes += [f"data.augmentation.{each}_probability=0" for each in ("noise", "room")]
    task, batches, validation = build(read_recipe(FOLDER / f"{name}-mini.yaml", changes))
    assert len(task.model.labels) == num_labels
    losses = task(batches.batch(0), "main")
    losses["loss"].backward()
    assert losses["loss"].isfinite()
    metrics = task.eval().evaluate(next(iter(validation)))
    assert metrics["accuracy_percent"].isfinite().all()
