"""``auriscope models``: what architectures there are, what weights ship, and what lies at an address."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from auriscope.cli.console import complain, emit, printable
from auriscope.cli.options import Json, Offline
from auriscope.errors import AuriscopeError


def models(
    addresses: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[ADDRESS]...",
            help="Describe these models instead: a folder or file of any toolkit that can be loaded, or hf://owner/name.",
            show_default=False,
        ),
    ] = None,
    json: Json = False,
    shipped: Annotated[bool, typer.Option("--shipped", help="Only models whose weights are installed.")] = False,
    offline: Offline = False,
) -> None:
    """List the shipped models and the architectures that can be trained, or describe the models at addresses.

    A shipped name (room/system.name) goes where an ADDRESS is asked for, an architecture (room/system) into a recipe.
    """
    if addresses:
        _describe_each(addresses, json, offline or None)
        return
    entries = _shipped() + ([] if shipped else _architectures())
    if json:
        for entry in entries:
            emit(entry)
        return
    _print_table(entries)


def _describe_each(addresses: list[str], json: bool, offline: bool | None) -> None:
    entries, failed = [], False
    for address in addresses:
        try:
            entries.append(_describe(address, offline))
        except AuriscopeError as error:
            failed = True
            complain(error)
            if json:
                emit({"input": address, "error": str(error)})
            continue
        if json:
            emit(entries[-1])
    if entries and not json:
        _print_table(entries)
    if failed:
        raise typer.Exit(1)


def _describe(address: str, offline: bool | None) -> dict[str, Any]:
    """Load the model at an address, and tell what it is."""
    from auriscope.pretrained import ModelCard, load, resolve
    from auriscope.pretrained.files import CARD_NAME

    model = load(address, offline=offline)
    folder = resolve(address, offline=offline)
    card = ModelCard.read(folder) if (folder / CARD_NAME).is_file() else None
    return {
        "address": address,
        "room": model.name.split("/")[0],
        "architecture": model.name,
        "shipped": False,
        "num_parameters": model.num_parameters,
        "sample_rate": getattr(model.config, "sample_rate", None),
        "num_sources": getattr(model.config, "num_sources", None),
        "licence": None if card is None else card.licence,
        "metrics": {} if card is None else dict(card.metrics),
    }


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
    from auriscope.errors import AuriscopeError
    from auriscope.pretrained import list_architectures, model_class

    entries: list[dict[str, Any]] = []
    for name in list_architectures():
        cls = model_class(name)
        try:
            num_parameters = cls.from_config({}).num_parameters
        except AuriscopeError:  # a library that it needs is not installed, which the list need not know
            num_parameters = None
        entries.append(
            {
                "address": name,
                "room": name.split("/")[0],
                "shipped": False,
                "num_parameters": num_parameters,
                "sample_rate": getattr(cls.Config(), "sample_rate", None),
                "licence": None,
                "metrics": {},
            }
        )
    return entries


def _print_table(entries: list[dict[str, Any]]) -> None:
    from rich.console import Console
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    described = any("architecture" in entry for entry in entries)
    table.add_column("address", overflow="fold")
    if described:
        table.add_column("architecture", no_wrap=True)
        table.add_column("talkers", justify="right")
    for heading in ("parameters", "rate"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("licence")
    table.add_column("figures", overflow="fold")
    for entry in entries:
        rate = f"{entry['sample_rate'] / 1000:g} kHz" if entry["sample_rate"] else ""
        figures = "\n".join(f"{name}: {value:.4g}" for name, value in entry["metrics"].items())
        licence = entry["licence"] or ("not stated" if "architecture" in entry else "architecture only")
        size = "" if entry["num_parameters"] is None else f"{entry['num_parameters']:,}"
        what = [entry["architecture"], str(entry["num_sources"] or "")] if described else []
        table.add_row(printable(entry["address"]), *what, size, rate, licence, figures)
    Console().print(table, markup=False)
