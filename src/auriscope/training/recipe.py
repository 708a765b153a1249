"""Recipes: a run described by one YAML file and, on the command line, ``key=value`` changes to it."""

from __future__ import annotations

import dataclasses
import importlib
import importlib.util
import os
import types
import typing
from collections.abc import Callable, Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

from auriscope.errors import CheckpointError, RecipeError
from auriscope.pretrained.addresses import import_room, suggest
from auriscope.training.config import TrainingConfig

if TYPE_CHECKING:
    from auriscope.training.batches import BatchSource
    from auriscope.training.loop import RunResult
    from auriscope.training.task import Batch, Task

    TaskBuilder = Callable[["Recipe"], tuple[Task, BatchSource | Any, Iterable[Batch]]]

T = TypeVar("T")


@dataclass(frozen=True)
class ModelRecipe:
    """Which model is trained: its registered name and the values that differ from its default configuration."""

    architecture: str
    config: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class Recipe:
    """A training run as data.

    ``task`` is a room: its ``task.py`` has ``build(recipe)``, which returns the task, the training batches and the
    validation batches. ``data``, ``validation`` and ``task_options`` are that room's own; its builder checks them with
    ``parse``. Everything random in the run follows from ``seed``. ``init_from`` is the address of a model whose weights
    the run begins with; with ``init_partly`` only those whose name and shape fit, the others being drawn anew (a
    network for three talkers that begins as one for two). ``init_share``, from 0 to below 1, is how much of those
    weights is in the model that the run gives: of a network that knows much and is trained on with little, the mean of
    both is often better than either (M. Wortsman et al., "Robust fine-tuning of zero-shot models", arXiv 2109.01903,
    section 3).
    """

    task: str
    model: ModelRecipe
    data: dict[str, Any] = field(default_factory=dict)
    validation: dict[str, Any] = field(default_factory=dict)
    training: TrainingConfig = field(default_factory=TrainingConfig)
    task_options: dict[str, Any] = field(default_factory=dict)
    seed: int = 0
    init_from: str | None = None
    init_partly: bool = False
    init_share: float = 0.0

    def __post_init__(self) -> None:
        if not 0 <= self.init_share < 1:
            raise RecipeError(f"init_share must lie in [0, 1), not {self.init_share}")
        if self.init_share and self.init_from is None:
            raise RecipeError("init_share needs init_from, the model whose weights are a part of the result")


def read_recipe(path: str | Path, overrides: Iterable[str] = ()) -> Recipe:
    """Read a recipe and apply overrides such as ``training.learning_rate=3e-4`` (the value is YAML).

    A recipe may name another as its ``base`` (a path relative to itself): its own keys are merged over those.
    ``RecipeError`` if the file is missing or not YAML, an override is not ``key=value``, or a key or value is wrong.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException
    from yaml import YAMLError

    path = Path(path)
    overrides = list(overrides)
    for override in overrides:
        key, equals, _ = override.partition("=")
        if not equals or not key.strip():
            raise RecipeError(f"{override!r} is not an override: write key=value, such as training.max_steps=1000")
    try:
        merged = OmegaConf.merge(*_with_bases(path), OmegaConf.from_dotlist(overrides))
        values = OmegaConf.to_container(merged, resolve=True)
    except FileNotFoundError as error:
        raise RecipeError(f"{path}: there is no such recipe") from error
    except (OSError, UnicodeDecodeError) as error:
        raise RecipeError(f"{path}: the recipe cannot be read: {error}") from error
    except (OmegaConfBaseException, YAMLError, ValueError, TypeError) as error:
        raise RecipeError(f"{path}: not a valid recipe: {' '.join(str(error).split())}") from error
    if not isinstance(values, dict):
        raise RecipeError(f"{path}: a recipe is a mapping of keys to values")
    return _recipe_from_values(typing.cast(dict[str, Any], values), str(path))


def _with_bases(path: Path) -> list[Any]:
    """A recipe and those it is based on, the most general first."""
    from omegaconf import DictConfig, OmegaConf

    chain: list[Any] = []
    seen: list[Path] = []
    following: Path | None = path
    while following is not None:
        if following.resolve() in seen:
            raise RecipeError(f"{following}: is its own base, by way of {seen[-1].name}")
        seen.append(following.resolve())
        try:
            values = OmegaConf.load(following)
        except FileNotFoundError as error:
            if len(seen) == 1:
                raise
            raise RecipeError(f"{seen[-2]}: its base {following} does not exist") from error
        base = values.pop("base", None) if isinstance(values, DictConfig) else None
        chain.insert(0, values)
        following = None if base is None else following.parent / str(base)
    return chain


def _recipe_from_values(values: dict[str, Any], where: str) -> Recipe:
    if isinstance(values.get("training"), dict) and "seed" in values["training"]:
        raise RecipeError(f"{where}: write the run's seed as 'seed', not as 'training.seed'")
    recipe = parse(Recipe, values, where)
    return dataclasses.replace(recipe, training=dataclasses.replace(recipe.training, seed=recipe.seed))


def parse(dataclass_type: type[T], values: Mapping[str, Any], where: str) -> T:
    """Make a dataclass of plain values, converting and checking every type, nested dataclasses included.

    ``where`` begins the error line. ``RecipeError`` names an unknown key and the nearest known one, a missing key, or
    the key whose value is of the wrong type.

    >>> from auriscope.training.config import TrainingConfig
    >>> parse(TrainingConfig, {"max_stps": 10}, "my.yaml")
    Traceback (most recent call last):
    ...
    auriscope.errors.RecipeError: my.yaml: unknown key 'max_stps'; did you mean 'max_steps'?
    """
    from pydantic import TypeAdapter, ValidationError

    _refuse_unknown_keys(dataclass_type, values, where, "")
    try:
        return TypeAdapter(dataclass_type).validate_python(dict(values))
    except ValidationError as error:
        first = error.errors()[0]
        key = ".".join(map(str, first["loc"]))
        raise RecipeError(f"{where}: {key}: {first['msg'].lower()}, got {first['input']!r}") from error


def _refuse_unknown_keys(kind: Any, values: Any, where: str, prefix: str) -> None:
    """Go through nested dataclasses, bare or optional; other types are pydantic's business."""
    if isinstance(kind, types.UnionType) or typing.get_origin(kind) is typing.Union:
        kind = next((member for member in typing.get_args(kind) if dataclasses.is_dataclass(member)), None)
    if not (isinstance(kind, type) and dataclasses.is_dataclass(kind) and isinstance(values, Mapping)):
        return
    hints = typing.get_type_hints(kind)
    known = [item.name for item in dataclasses.fields(kind) if item.init]
    for key, value in values.items():
        if key not in known:
            raise RecipeError(f"{where}: unknown key {prefix + str(key)!r}{_near(str(key), known, prefix)}")
        _refuse_unknown_keys(hints[key], value, where, f"{prefix}{key}.")


def _near(key: str, known: list[str], prefix: str) -> str:
    return suggest(prefix + key, [prefix + name for name in known])


def room_task_builder(room: str) -> TaskBuilder:
    """Find ``build`` in ``auriscope.<room>.task``; ``RecipeError`` if the room does not exist or trains nothing."""
    try:
        package = import_room(room)
    except CheckpointError as error:
        raise RecipeError(str(error)) from error
    if importlib.util.find_spec(f"{package.__name__}.task") is None:
        raise RecipeError(f"the room {room!r} has no task to train")
    builder: TaskBuilder = importlib.import_module(f"{package.__name__}.task").build
    return builder


def build_model(recipe: Recipe) -> Any:
    """Build the recipe's model, with random weights drawn from its seed or with those of ``init_from``.

    ``RecipeError`` if the architecture or a configuration value is unknown, or ``init_from`` does not fit.
    """
    import torch

    from auriscope.pretrained.addresses import load
    from auriscope.pretrained.model import model_class

    try:
        architecture = model_class(recipe.model.architecture)
    except CheckpointError as error:
        raise RecipeError(f"model.architecture: {error}") from error
    if architecture.fitted:
        raise RecipeError(f"model.architecture: {architecture.name} is not trained by gradients: fit it in Python")
    config = parse(architecture.Config, recipe.model.config, "model.config")
    # Only the model's weights: whatever else is random in the process is not this function's to fix.
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(recipe.seed)
        model = architecture(config)
    if recipe.init_from:
        weights = load(recipe.init_from).state_dict()
        if recipe.init_partly:
            weights = _fitting(weights, model.state_dict(), recipe.init_from)
        try:
            model.load_state_dict(weights)
        except RuntimeError as error:
            raise RecipeError(
                f"init_from: the weights of {recipe.init_from} do not fit the recipe's model; see model.config"
            ) from error
    return model


def _fitting(weights: Mapping[str, Any], drawn: Mapping[str, Any], address: str) -> dict[str, Any]:
    """The drawn weights, replaced where the other model has one of the same name and shape."""
    fitting = {name: value for name, value in weights.items() if name in drawn and value.shape == drawn[name].shape}
    if not fitting:
        raise RecipeError(f"init_from: no weight of {address} fits this model")
    return {**drawn, **fitting}


def train(recipe: Recipe, run_folder: str | Path) -> RunResult:
    """Run a recipe in ``run_folder``, or continue it there; the recipe is kept beside the checkpoints.

    Raises what the room's builder and ``loop.fit`` raise.
    """
    from auriscope.training.loop import fit

    task, train_batches, valid_batches = room_task_builder(recipe.task)(recipe)
    save_recipe(recipe, Path(run_folder) / "recipe.yaml")
    return fit(task, train_batches, valid_batches, recipe.training, run_folder)


def save_recipe(recipe: Recipe, path: Path) -> None:
    """Write a recipe with all its defaults and overrides, such that ``read_recipe`` gives it back."""
    from omegaconf import OmegaConf

    values = dataclasses.asdict(recipe)
    del values["training"]["seed"]  # it is the recipe's own
    # Several processes of one run may write at once: each has its own file to write, and all write the same.
    aside = path.with_name(f"{path.name}.{os.getpid()}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        OmegaConf.save(OmegaConf.create(values), aside)
        aside.replace(path)
    except OSError as error:
        with suppress(OSError):
            aside.unlink()
        raise RecipeError(f"{path}: the recipe cannot be written: {error.strerror}") from error
