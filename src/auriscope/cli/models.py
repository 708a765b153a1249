"""``auriscope models``: what architectures there are and what weights ship."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from auriscope.cli.console import emit, printable
from auriscope.cli.options import Json


def models(
    json: Json = False,
    shipped: Annotated[bool, typer.Option("--shipped", help="Only models whose weights are installed.")] = False,
) -> None:
    """List the shipped models and the architectures that can be trained.

    A shipped name (room/system.name) goes where an ADDRESS is asked for, an architecture (room/system) into a recipe.
    """
    entries = _shipped() + ([] if shipped else _architectures())
    if json:
        for entry in entries:
            emit(entry)
        return
    _print_table(entries)


def _shipped() -> list[dict[str, Any]]:
    from auriscope.pretrained import list_shipped

    return [
        {
            "address": model.address,
            "room": model.room,
            "shipped": True,
            "num_parameters": model.num_parameters,
            "sample_rate": model.sample_rate,
            "licence": model.licence,
            "metrics": dict(model.metrics),
        }
        for model in list_shipped()
    ]


def _architectures() -> list[dict[str, Any]]:
    """List every architecture with the size of its default configuration, which is the paper's."""
    from auriscope.pretrained import list_architectures, model_class

    entries: list[dict[str, Any]] = []
    for name in list_architectures():
        model = model_class(name).from_config({})
        entries.append(
            {
                "address": name,
                "room": name.split("/")[0],
                "shipped": False,
                "num_parameters": model.num_parameters,
                "sample_rate": getattr(model.config, "sample_rate", None),
                "licence": None,
                "metrics": {},
            }
        )
    return entries


def _print_table(entries: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("address", overflow="fold")
    for heading in ("parameters", "rate"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("licence")
    table.add_column("figures", overflow="fold")
    for entry in entries:
        rate = f"{entry['sample_rate'] / 1000:g} kHz" if entry["sample_rate"] else ""
        figures = "\n".join(f"{name}: {value:.4g}" for name, value in entry["metrics"].items())
        licence = entry["licence"] or "architecture only"
        table.add_row(printable(entry["address"]), f"{entry['num_parameters']:,}", rate, licence, figures)
    Console().print(table, markup=False)
