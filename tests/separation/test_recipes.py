"""Every recipe of the repository is valid: it can be read, its settings exist, and its model can be built."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

import pytest
from omegaconf import OmegaConf

from auriscope.data.excerpts import PreparedConfig
from auriscope.data.mixing import MixingConfig
from auriscope.data.prepare import LAYOUTS, Layout
from auriscope.errors import RecipeError
from auriscope.pretrained import model_class
from auriscope.separation.task import SeparationOptions, ValidationOptions
from auriscope.training.recipe import parse, read_recipe

FOLDER = Path(__file__).parents[2] / "recipes" / "separation"
PATHS = sorted(FOLDER.glob("*.yaml"))


@cache
def whole(path: Path) -> dict[str, Any]:
    """A recipe's own values over those of its bases, whether it is complete or not."""
    values: Any = OmegaConf.load(path)
    base = values.pop("base", None)
    merged = values if base is None else OmegaConf.merge(whole(FOLDER / base), values)
    return OmegaConf.to_container(OmegaConf.create(merged))  # type: ignore[return-value]


@cache
def num_parameters(architecture: str, config: Any) -> int:
    """Build a model, once for all recipes that have it: some of them are large."""
    return int(model_class(architecture)(config).num_parameters)


# What recipes have in common names no model: it is a base, no run.
RUNS = [path for path in PATHS if "architecture" in whole(path).get("model", {})]
BASES = [path for path in PATHS if path not in RUNS]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_recipe_is_valid(path: Path) -> None:
    recipe = read_recipe(path)
    kind = model_class(recipe.model.architecture)
    config = parse(kind.Config, recipe.model.config, "model.config")
    assert num_parameters(recipe.model.architecture, config) > 0
    parse(SeparationOptions, recipe.task_options, "task_options")
    validation = parse(ValidationOptions, recipe.validation, "validation")
    if "prepared" not in recipe.data:
        parse(MixingConfig, recipe.data, "data")
        return
    data = parse(PreparedConfig, recipe.data, "data")
    corpus = Path(data.prepared).name
    layout = LAYOUTS[corpus]
    assert isinstance(layout, Layout)
    assert len(layout.sources(layout.select({}))) == config.num_sources
    assert (layout.order == "fixed") == (recipe.task_options.get("permutation") == "fixed")
    assert not data.dynamic_mixing or layout.remixable(layout.select({}))
    assert validation.sets == (data.prepared,)
    assert corpus in path.stem


@pytest.mark.parametrize("path", BASES, ids=lambda path: path.stem)
def test_a_base_lacks_a_model_only(path: Path) -> None:
    with pytest.raises(RecipeError, match="model"):
        read_recipe(path)
    recipe = read_recipe(path, ["model.architecture=separation/convtasnet"])
    parse(PreparedConfig if "prepared" in recipe.data else MixingConfig, recipe.data, "data")
    parse(ValidationOptions, recipe.validation, "validation")


def test_every_corpus_has_recipes() -> None:
    prepared = {path: str(whole(path).get("data", {}).get("prepared", "")) for path in RUNS}
    for corpus, layout in LAYOUTS.items():
        assert f"manifests/{corpus}" in prepared.values() or not isinstance(layout, Layout)
    for path, folder in prepared.items():
        if folder and path.stem.endswith("-wsj0-2mix"):
            assert folder == "manifests/wsj0-2mix"
