"""The leaderboard as one page that opens offline."""

from __future__ import annotations

import base64
import hashlib
from collections.abc import Sequence
from importlib import resources
from pathlib import Path
from typing import Any

from jinja2 import Environment, StrictUndefined

from auriscope import __version__
from auriscope.verbs.compare.charts import Chart
from auriscope.verbs.compare.cost import Cost
from auriscope.verbs.compare.results import PUBLISHED, PUBLISHED_SIZE, ComparedModel
from auriscope.verbs.evaluate import Figure

NAME = "leaderboard.html"


def render(
    models: Sequence[ComparedModel],
    sets: Sequence[str],
    split: str,
    speed_seconds: float,
    folder: Path,
    charts: Sequence[Chart],
) -> str:
    """Make the page; the charts are read from ``folder`` and become part of it."""
    script = _resource("auriscope.verbs.compare", "leaderboard.js")
    durations = sorted({cost.duration_seconds for model in models for cost in model.costs})
    page: dict[str, Any] = {
        "version": __version__,
        # The page of listen and this one look alike.
        "style": _resource("auriscope.verbs.listen", "listen.css")
        + _resource("auriscope.verbs.compare", "leaderboard.css"),
        "script": script,
        "script_hash": "sha256-" + base64.b64encode(hashlib.sha256(script.encode()).digest()).decode(),
        "split": split,
        "sets": sets,
        "speed_seconds": f"{speed_seconds:g}",
        "headline": _headline(models, sets),
        "rows": [_row(model, sets, speed_seconds) for model in models],
        "problems": [f"{model.label}: {error}" for model in models for error in model.errors.values()],
        "durations": [f"{duration:g}" for duration in durations],
        "costs": [
            {"label": model.label, "cells": [_cost(model.cost_at(duration)) for duration in durations]}
            for model in models
            if model.costs
        ],
        "charts": [
            {
                "title": chart.title,
                "description": chart.description,
                "source": "data:image/png;base64," + base64.b64encode((folder / chart.name).read_bytes()).decode(),
            }
            for chart in charts
        ],
    }
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    return environment.from_string(_resource("auriscope.verbs.compare", "leaderboard.html.j2")).render(page=page)


def _resource(package: str, name: str) -> str:
    return resources.files(package).joinpath(name).read_text(encoding="utf-8")


def _headline(models: Sequence[ComparedModel], sets: Sequence[str]) -> str:
    if not models or not sets:
        return f"{len(models)} models"
    best = models[0].figures.get(sets[0], {}).get("si_snri_db")
    if best is None or best.value is None:
        return f"{len(models)} models on {sets[0]}"
    return f"{models[0].label} is ahead on {sets[0]}, with {best.value:.1f} dB of improvement; {len(models)} compared"


def _row(model: ComparedModel, sets: Sequence[str], speed_seconds: float) -> dict[str, Any]:
    cost = model.cost_at(speed_seconds)
    speed = cost.duration_seconds / cost.seconds if cost and cost.seconds else None
    cells: list[dict[str, Any]] = []
    for name in sets:
        for figure in ("si_snri_db", "sdri_db"):
            cells.append(_figure(model.figures.get(name, {}).get(figure)))
    return {
        "label": model.label,
        "architecture": model.architecture,
        "figures": cells,
        "parameters": _number(model.num_parameters / 1e6, 2),
        "macs": _number(model.macs_per_second / 1e9, 2),
        "hours": _number(model.hours_of_audio, 1),
        "speed": _number(speed, 1),
        "published": _number(model.published.get(PUBLISHED), 1),
        "published_parameters": _number(model.published.get(PUBLISHED_SIZE), 1),
    }


def _figure(figure: Figure | None) -> dict[str, Any]:
    if figure is None or figure.value is None:
        return {"text": "–", "value": "", "interval": ""}
    interval = "" if figure.low is None else f"[{figure.low:.2f}, {figure.high:.2f}]"
    return {"text": f"{figure.value:.2f}", "value": figure.value, "interval": interval}


def _number(value: float | None, digits: int) -> dict[str, Any]:
    return {"text": "–", "value": ""} if value is None else {"text": f"{value:.{digits}f}", "value": value}


def _cost(cost: Cost | None) -> str:
    if cost is None:
        return "–"
    if cost.seconds is None or cost.peak_mib is None:
        return cost.reason
    return f"{cost.seconds:.3g} s, {cost.peak_mib:.0f} MiB"
