"""The verb ``export``: a separation model as an ONNX file."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from auriscope.errors import AuriscopeError
from auriscope.pretrained import load
from auriscope.separation.onnx import export_onnx


@dataclass(frozen=True)
class ExportResult:
    """A model that was exported; ``difference`` is that of the tracks from the original's, relative to them."""

    model: str
    output: str
    sample_rate: int
    seconds: float
    difference: float


def export(model: str, out: str | Path, *, seconds: float = 8.0, offline: bool | None = None) -> ExportResult:
    """Write a separation model as an ONNX file for mixtures of ``seconds``, which ONNX Runtime runs without torch.

    Raises:
        AuriscopeError: the model is no separation model, cannot be expressed, or the file cannot be written.
    """
    network = load(model, offline=offline)
    if network.name.split("/")[0] != "separation" or network.fitted:
        raise AuriscopeError(f"{model}: only trained separation models can be exported, not {network.name}")
    difference = export_onnx(network.eval(), out, seconds=seconds)
    return ExportResult(model, str(out), network.config.sample_rate, seconds, difference)
