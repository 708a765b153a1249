from __future__ import annotations

import sys
import types
from dataclasses import dataclass

import pytest
import torch
from torch import nn

from auriscope.errors import RecipeError
from auriscope.pretrained.model import Model
from auriscope.training import recipe as recipes
from auriscope.training.recipe import (
    ModelRecipe,
    build_model,
    parse,
    read_recipe,
    room_task_builder,
    save_recipe,
    train,
)

TEXT = """
task: separation
model:
  architecture: separation/tiny
  config: {num_channels: 4, sizes: [1, 2]}
data: {corpora: [libri_mini], level_db: [-5, 5]}
training:
  max_steps: 20
  learning_rate: 1e-3
  betas: [0.9, 0.98]
  accelerator: cpu
seed: 3
"""


@pytest.fixture
def path(tmp_path):
    path = tmp_path / "recipe.yaml"
    path.write_text(TEXT)
    return path


def test_a_recipe_is_read_with_its_types(path):
    recipe = read_recipe(path)
    assert recipe.model == ModelRecipe("separation/tiny", {"num_channels": 4, "sizes": [1, 2]})
    assert recipe.training.learning_rate == 0.001
    assert recipe.training.betas == (0.9, 0.98)
    assert recipe.training.seed == recipe.seed == 3
    assert recipe.data == {"corpora": ["libri_mini"], "level_db": [-5, 5]}
    assert recipe.init_from is None


def test_overrides_win_and_are_yaml(path):
    overrides = [
        "training.learning_rate=3e-4",
        "training.max_minutes=null",
        "model.config.sizes=[3]",
        "seed=9",
        "data.x=a",
    ]
    recipe = read_recipe(path, overrides)
    assert recipe.training.learning_rate == 3e-4
    assert recipe.training.max_minutes is None
    assert recipe.model.config["sizes"] == [3]
    assert recipe.training.seed == 9
    assert recipe.data["x"] == "a"


def test_interpolations_are_resolved(path):
    path.write_text(TEXT + "task_options: {rate: '${seed}'}\n")
    assert read_recipe(path).task_options == {"rate": 3}


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("training.learnin_rate=1", "unknown key 'training.learnin_rate'; did you mean 'training.learning_rate'"),
        ("modle.architecture=x", "unknown key 'modle'; did you mean 'model'"),
        ("training.max_steps=many", "training.max_steps: .*integer.*'many'"),
        ("training.precision=fp8", "training.precision"),
        ("training.max_steps=0", "training.max_steps must be positive"),
        ("training.seed=1", "write the run's seed as 'seed'"),
        ("training", "write key=value"),
        ("=3", "write key=value"),
        ("data.a=${nothing}", "not a valid recipe"),
        ("data.a=[1", "not a valid recipe"),
        ("model=null", "model"),
    ],
)
def test_a_wrong_override_is_one_clear_line(path, override, message):
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe(path, [override])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"a: [", "not a valid recipe"),
        (b"- 1\n- 2\n", "recipe"),
        (b"", "recipe.yaml: model|recipe.yaml: task"),
        (b"\xff\xfe\x00", "recipe"),
        (b"just words", "recipe"),
    ],
)
def test_a_wrong_file_is_one_clear_line(path, content, message):
    path.write_bytes(content)
    with pytest.raises(RecipeError, match=message) as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)


def test_a_missing_file_is_said(tmp_path):
    with pytest.raises(RecipeError, match="no such recipe"):
        read_recipe(tmp_path / "none.yaml")


def test_a_saved_recipe_reads_back_equal(path, tmp_path):
    recipe = read_recipe(path, ["training.schedule=cosine"])
    save_recipe(recipe, tmp_path / "run" / "recipe.yaml")
    assert read_recipe(tmp_path / "run" / "recipe.yaml") == recipe
    assert [file.name for file in (tmp_path / "run").iterdir()] == ["recipe.yaml"]


@dataclass(frozen=True)
class Inner:
    depth: int = 1


@dataclass(frozen=True)
class Outer:
    inner: Inner | None = None
    sizes: tuple[int, ...] = (1,)


def test_parse_goes_through_nested_and_optional_dataclasses():
    assert parse(Outer, {"inner": {"depth": "2"}, "sizes": [4, 5]}, "data") == Outer(Inner(2), (4, 5))
    assert parse(Outer, {"inner": None}, "data") == Outer(None)
    with pytest.raises(RecipeError, match=r"data: unknown key 'inner.dept'; did you mean 'inner.depth'"):
        parse(Outer, {"inner": {"dept": 2}}, "data")


@dataclass(frozen=True)
class TinyConfig:
    num_channels: int = 2
    sizes: tuple[int, ...] = (1,)


class TinyModel(Model, name="separation/recipe_test_model"):
    Config = TinyConfig

    def __init__(self, config):
        super().__init__(config)
        self.layer = nn.Linear(8, config.num_channels)


def described(**values):
    return recipes.Recipe(task="separation", model=ModelRecipe(TinyModel.name, values), seed=5)


def test_a_model_is_built_from_its_seed_and_leaves_the_generator_alone():
    torch.manual_seed(0)
    first = build_model(described(num_channels=3, sizes=[2]))
    after = torch.rand(1)
    torch.manual_seed(1)
    second = build_model(described(num_channels=3, sizes=[2]))
    assert first.config == TinyConfig(3, (2,))
    assert torch.equal(first.layer.weight, second.layer.weight)
    torch.manual_seed(0)
    assert torch.equal(after, torch.rand(1))


def test_a_model_begins_with_the_weights_of_init_from(tmp_path):
    source = TinyModel(TinyConfig(num_channels=3))
    source.save_pretrained(tmp_path / "model")
    recipe = recipes.dataclasses.replace(described(num_channels=3), init_from=str(tmp_path / "model"))
    assert torch.equal(build_model(recipe).layer.weight, source.layer.weight)
    with pytest.raises(RecipeError, match="do not fit"):
        build_model(recipes.dataclasses.replace(described(num_channels=4), init_from=str(tmp_path / "model")))


def test_a_model_begins_with_what_fits_of_another_when_asked():
    other = {"layer.bias": torch.ones(3), "layer.weight": torch.full((4, 8), 2.0)}
    fresh = build_model(described(num_channels=3))
    weights = recipes._fitting(other, fresh.state_dict(), "address")
    assert torch.equal(weights["layer.bias"], torch.ones(3))
    assert torch.equal(weights["layer.weight"], fresh.layer.weight)
    with pytest.raises(RecipeError, match="no weight of address fits"):
        recipes._fitting({"other": torch.ones(3)}, fresh.state_dict(), "address")


def test_unknown_architectures_and_values_are_named():
    with pytest.raises(RecipeError, match=r"model.config: unknown key 'num_chanels'; did you mean 'num_channels'"):
        build_model(described(num_chanels=3))
    with pytest.raises(RecipeError, match=r"model.architecture: .*'separation/recipe_test_modl'"):
        build_model(recipes.Recipe(task="separation", model=ModelRecipe("separation/recipe_test_modl")))


def test_a_room_is_found_by_name_and_its_task_trained(path, tmp_path, tiny, monkeypatch):
    module = types.ModuleType("auriscope.separation.task")
    module.__spec__ = types.SimpleNamespace(name=module.__name__)
    built = []

    def build(recipe):
        built.append(recipe)
        return tiny.TinyTask(), tiny.TinyBatches(), tiny.VALID

    module.build = build
    monkeypatch.setitem(sys.modules, module.__name__, module)
    assert room_task_builder("separation") is build
    recipe = read_recipe(path)
    result = train(recipe, tmp_path / "run")
    assert result.step == 20
    assert built == [recipe]
    assert read_recipe(tmp_path / "run" / "recipe.yaml") == recipe


def test_a_room_that_does_not_exist_is_said():
    with pytest.raises(RecipeError, match=r"no room 'separatoin'.*'separation'"):
        room_task_builder("separatoin")


def test_a_recipe_is_merged_over_its_base(path, tmp_path):
    (tmp_path / "middle.yaml").write_text("base: recipe.yaml\nseed: 4\ntraining: {max_steps: 30}\n")
    (tmp_path / "own.yaml").write_text("base: middle.yaml\nmodel: {config: {num_channels: 8}}\n")
    recipe = read_recipe(tmp_path / "own.yaml", ["seed=5"])
    assert recipe.model == ModelRecipe("separation/tiny", {"num_channels": 8, "sizes": [1, 2]})
    assert (recipe.seed, recipe.training.max_steps, recipe.training.learning_rate) == (5, 30, 0.001)


@pytest.mark.parametrize(
    ("base", "message"), [("missing.yaml", "its base .*missing.yaml does not exist"), ("own.yaml", "is its own base")]
)
def test_a_base_that_cannot_be_is_named(tmp_path, base, message):
    (tmp_path / "own.yaml").write_text(f"base: {base}\n")
    with pytest.raises(RecipeError, match=message):
        read_recipe(tmp_path / "own.yaml")


def test_a_system_that_is_fitted_is_not_trained(path):
    recipe = read_recipe(path, ["task=separation", "model.architecture=separation/ica", "model.config={}"])
    with pytest.raises(RecipeError, match="separation/ica is not trained by gradients"):
        build_model(recipe)
