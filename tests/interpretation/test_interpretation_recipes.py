"""Every recipe of the room says nothing but what its interpreter, its data and the task know."""

from __future__ import annotations

from pathlib import Path

import pytest

from auriscope.data.images import ImagesConfig
from auriscope.data.labelled import LabelledConfig
from auriscope.interpretation import TrainedInterpreter
from auriscope.interpretation.task import InterpretationOptions, InterpretationValidation
from auriscope.pretrained import model_class
from auriscope.training.recipe import parse, read_recipe

RECIPES = sorted((Path(__file__).parents[2] / "recipes" / "interpretation").glob("*.yaml"))


@pytest.mark.parametrize("path", RECIPES, ids=lambda path: path.stem)
def test_a_recipe_says_what_is_known(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.task == "interpretation"
    kind = model_class(recipe.model.architecture)
    assert issubclass(kind, TrainedInterpreter)
    assert kind.method in path.stem or path.stem in {"mnist", "sound-events", "esc50"}
    # What training finds at the classifier only has to make sense together.
    sounds = "image" not in recipe.model.config["classifier"]
    found = {"sample_rate": 16_000 if sounds else 0, **({"num_classes": 50} if "esc50" in path.stem else {})}
    config = parse(kind.Config, {**found, **recipe.model.config}, "model.config")
    assert config.classifier
    parse(LabelledConfig if sounds else ImagesConfig, recipe.data, "data")
    parse(InterpretationValidation, recipe.validation, "validation")
    options = parse(InterpretationOptions, recipe.task_options, "task_options")
    assert recipe.training.max_steps >= recipe.training.validate_every_steps
    assert options.select_by == "merit"
