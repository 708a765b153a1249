"""``auriscope export``: a model as an ONNX file."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from auriscope.cli.console import emit, one_line_for, say
from auriscope.cli.options import Json, Offline


def export(
    model: Annotated[str, typer.Argument(metavar="MODEL", help="Address of a separation model.", show_default=False)],
    out: Annotated[
        Path, typer.Option("--out", "-o", metavar="FILE", help="The file to write, such as model.onnx.")
    ] = Path("model.onnx"),
    seconds: Annotated[
        float, typer.Option("--seconds", metavar="S", min=0.1, help="Length of the mixtures it will take.")
    ] = 8.0,
    json: Json = False,
    offline: Offline = False,
) -> None:
    """Write a separation model as ONNX, checked against the original, to run without torch.

    Needs the extra `onnx`. The file holds the sample rate, the number of sources and the configuration too.
    """
    with one_line_for([model], json=json):
        from auriscope.verbs.export import export as run

        result = run(model, out, seconds=seconds, offline=offline or None)
    if json:
        emit(result)
    else:
        say(f"{result.output}: {result.seconds:g} s at {result.sample_rate} Hz, within {result.difference:.1e}")
