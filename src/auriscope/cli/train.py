"""``auriscope train``: run a recipe, or continue it."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from auriscope.cli.console import emit, one_line_for, say, to_json
from auriscope.cli.options import Json, Threads, use_threads


def train(
    recipe: Annotated[
        Path,
        typer.Argument(metavar="RECIPE", help="Recipe, such as recipes/separation/….yaml.", show_default=False),
    ],
    overrides: Annotated[
        list[str] | None,
        typer.Argument(metavar="KEY=VALUE", help="Changes to the recipe, such as training.learning_rate=3e-4."),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--run",
            metavar="FOLDER",
            help="Folder of the run; one that exists is continued.",
            show_default="runs/ and the recipe's name",
        ),
    ] = None,
    minutes: Annotated[
        float | None,
        typer.Option("--minutes", metavar="M", min=0.0, help="Stop after so many minutes; the next call goes on."),
    ] = None,
    threads: Threads = None,
    json: Json = False,
) -> None:
    """Train a model by a recipe; run the same line again to continue where it stopped.

    The run's folder holds the recipe, the checkpoints, the curves (CSV, PNG, TensorBoard) and, in model/, the best
    weights as a model for --model.
    """
    use_threads(threads)
    from auriscope.training.recipe import read_recipe
    from auriscope.verbs.train import train as run_recipe

    changes = list(overrides or [])
    if minutes is not None:
        changes.append(f"training.max_minutes_per_call={minutes!r}")
    folder = run if run is not None else Path("runs") / recipe.stem
    model = folder / "model"
    with one_line_for([recipe], json=json):
        settings = read_recipe(recipe, changes)
        result = run_recipe(settings, folder)
    if json:
        emit({"recipe": recipe, "model": model if result.best is not None else None, **to_json(result)})
    else:
        best = "" if result.best_metric is None else f", best {result.best_metric:.4g} at step {result.best_step}"
        say(f"{folder}: {result.step} steps in {result.minutes:.1f} min{best}")
        if result.best is not None:
            say(f"model: {model}")
    if result.stopped_by == "signal":
        raise KeyboardInterrupt
