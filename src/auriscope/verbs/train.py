"""``train``: run a recipe, or continue it, and keep its best weights as a model that ``load`` takes."""

from __future__ import annotations

import importlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auriscope.pretrained.card import ModelCard
from auriscope.pretrained.model import Model
from auriscope.training.checkpoints import load_weights
from auriscope.training.loop import RunResult
from auriscope.training.recipe import Recipe, build_model
from auriscope.training.recipe import train as run_recipe


def train(recipe: Recipe, run_folder: str | Path) -> RunResult:
    """Train by a recipe in ``run_folder``, or continue there, and write the best weights to its folder ``model``.

    Raises ``AuriscopeError`` in one of its forms: for the recipe, the data or the checkpoints.
    """
    result = run_recipe(recipe, run_folder)
    if result.best is not None:
        export(recipe, result.best, Path(run_folder) / "model")
    return result


def export(recipe: Recipe, weights: Path, folder: Path, *, card: ModelCard | None = None, half: bool = False) -> Model:
    """Write a run's weights as a model folder and return the model, finished as its room finishes models."""
    model = finished(recipe, weights)
    model.save_pretrained(folder, card=card, half=half)
    return model


def finished(recipe: Recipe, weights: Path) -> Model:
    """Load a run's weights, mixed with those that it began with if the recipe has an ``init_share``.

    A room whose ``task`` has ``finish(recipe, model)`` calibrates them there.

    A room whose ``task`` has ``untrained(recipe)`` makes its model by that: of classifiers, the data tell the classes.
    """
    task: Any = importlib.import_module(f"auriscope.{recipe.task}.task")
    model: Model = getattr(task, "untrained", build_model)(recipe)
    began = {name: value.clone() for name, value in model.state_dict().items()} if recipe.init_share else {}
    load_weights(weights, model)
    if began:
        _mix(model, began, recipe.init_share)
    if hasattr(task, "finish"):
        task.finish(recipe, model)
    return model.eval()


def _mix(model: Model, began: Mapping[str, Tensor], share: float) -> None:
    """Move a model's weights towards those that it began with; counts and other whole numbers stay."""
    mixed = {
        name: torch.lerp(value, began[name], share) if value.is_floating_point() else value
        for name, value in model.state_dict().items()
    }
    model.load_state_dict(mixed)
