"""The arguments that the commands of ``auriscope study`` share."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from auriscope.errors import AuriscopeError

if TYPE_CHECKING:
    from auriscope.study.study import Study

Folder = Annotated[
    Path, typer.Argument(metavar="FOLDER", help="The study's folder, which holds campaign.yaml.", show_default=False)
]


@contextmanager
def needs_study() -> Iterator[None]:
    """Say what to install if an import in the block fails."""
    try:
        yield
    except ModuleNotFoundError as error:
        raise AuriscopeError(f"studies need the package {error.name}: pip install 'auriscope[study]'") from None


@contextmanager
def opened(folder: Path) -> Iterator[Study]:
    """Open the study of a folder for a command."""
    with needs_study():
        from auriscope.study.study import Study
    study = Study.open(folder)
    try:
        yield study
    finally:
        study.close()
