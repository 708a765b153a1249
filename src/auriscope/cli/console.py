"""What commands print: results and JSON on stdout, one line per problem and the progress bar on stderr."""

from __future__ import annotations

import dataclasses
import json
import math
import sys
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import typer

from auriscope.errors import AuriscopeError


def printable(text: object) -> str:
    """One line that any terminal can show: control characters (a file name may hold a newline) become spaces."""
    line = "".join(character if character.isprintable() else " " for character in str(text))
    return line.encode("utf-8", "backslashreplace").decode()


def complain(message: object) -> None:
    """Print one line on stderr."""
    print(f"auriscope: {printable(message)}", file=sys.stderr, flush=True)


def say(message: str = "") -> None:
    """Print a result for people on stdout."""
    print(message, flush=True)


def to_json(value: object) -> Any:
    """Plain JSON values of anything a result holds: dataclasses become objects, NaN and infinities ``null``.

    >>> from pathlib import Path
    >>> to_json({"path": Path("a.wav"), "blind_si_snr_db": float("nan"), "turns": (1, 2.5)})
    {'path': 'a.wav', 'blind_si_snr_db': None, 'turns': [1, 2.5]}
    """
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: to_json(getattr(value, field.name)) for field in dataclasses.fields(value)}
    if isinstance(value, Mapping):
        return {str(key): to_json(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [to_json(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int | str):
        return value
    return str(value)


def emit(value: object) -> None:
    """Print one JSON object on one line of stdout, at once, so that a reader may follow a long batch."""
    print(json.dumps(to_json(value), allow_nan=False), flush=True)


@contextmanager
def one_line_for(inputs: Iterable[object], *, json: bool) -> Iterator[None]:
    """Turn an ``AuriscopeError`` that keeps all of a command from being done into one line and exit code 1.

    With ``json``, every one of the inputs gets an object with the error, as if each had failed by itself.
    """
    import typer

    try:
        yield
    except AuriscopeError as error:
        complain(error)
        if json:
            for given in inputs:
                emit({"input": given, "error": printable(error)})
        raise typer.Exit(1) from error


@contextmanager
def progress_bar(description: str) -> Iterator[Callable[[str, float], None]]:
    """Show a progress bar on stderr (only on a terminal); yields ``update(description, fraction)``, 0 to 1.

    The bar is removed at the end: what stays on the screen is the result.
    """
    from rich.console import Console
    from rich.progress import (
        BarColumn,
        Progress,
        TaskProgressColumn,
        TextColumn,
        TimeElapsedColumn,
        TimeRemainingColumn,
    )

    console = Console(stderr=True)
    columns = (
        TextColumn("{task.description}", markup=False),
        BarColumn(),
        TaskProgressColumn(),
        TimeElapsedColumn(),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=console, transient=True, disable=not console.is_terminal) as progress:
        bar = progress.add_task(printable(description), total=1.0)

        def update(text: str, fraction: float) -> None:
            progress.update(bar, description=printable(text), completed=min(max(fraction, 0.0), 1.0))

        yield update


class Outcome:
    """Tells the results of a batch as they come, and whether any of them failed."""

    def __init__(self, describe: Callable[[Any], None], *, json: bool) -> None:
        self._describe, self._json = describe, json
        self._failed = False

    def tell(self, result: Any) -> None:
        """Tell one result: its error in a line, or what came of it, or all of it as JSON."""
        if result.error is not None:
            self._failed = True
            complain(result.error)
        elif not self._json:
            self._describe(result)
        if self._json:
            emit(result.to_dict())

    def exit_if_failed(self) -> None:
        """Leave with status 1 if a result was a failure."""
        if self._failed:
            raise typer.Exit(1)
