"""The one training loop: tasks, batches, recipes, checkpoints, progress and curves; imports torch on first use only."""

from __future__ import annotations

from importlib import import_module
from typing import Any

_PUBLIC = {
    "BatchSource": "batches",
    "EvaluationTable": "evaluation",
    "IndexedBatches": "batches",
    "Recipe": "recipe",
    "RunResult": "loop",
    "Task": "task",
    "TrainingConfig": "config",
    "evaluate": "evaluation",
    "fit": "loop",
    "load_weights": "checkpoints",
    "parse": "recipe",
    "read_recipe": "recipe",
    "room_task_builder": "recipe",
    "train": "recipe",
}

__all__ = sorted(_PUBLIC)


def __getattr__(name: str) -> Any:
    if name in _PUBLIC:
        return getattr(import_module(f"auriscope.training.{_PUBLIC[name]}"), name)
    raise AttributeError(f"module 'auriscope.training' has no attribute {name!r}")


def __dir__() -> list[str]:
    return __all__
