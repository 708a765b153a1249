"""Separators as ONNX files: made here, run anywhere that ONNX Runtime runs, without torch.

A file holds the network for mixtures of one length, which is written into it beside everything else that is needed to
use it: the sample rate, the number of sources, the architecture and its configuration.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import os
import warnings
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional as F

from auriscope.errors import AuriscopeError, CheckpointError
from auriscope.pretrained.model import Model
from auriscope.signal.outputs import StrPath, printable, written_aside

_TOLERANCE = 1e-3
"""60 dB below the tracks: ONNX Runtime rounds recurrent networks otherwise, and over seconds of noise that adds up."""
_INPUT, _OUTPUT = "mixture", "estimates"
_KEYS = ("architecture", "config", "num_samples")


def export_onnx(model: Model, path: StrPath, *, seconds: float = 8.0) -> float:
    """Write a separator, in evaluation mode, as an ONNX file for mixtures (1, time) of ``seconds``.

    The file is compared with the model on noise before it takes its place. Returns the root mean square of the
    difference, relative to that of the tracks; 0.001 at most.

    Raises:
        AuriscopeError: the extra ``onnx`` is not installed, ONNX cannot express the model (complex spectra, so far), or
            the file gives something else than the model.
    """
    onnx, _ = _libraries()
    num_samples = round(seconds * model.config.sample_rate)
    mixture = 0.1 * torch.randn(1, num_samples, generator=torch.Generator().manual_seed(0))
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    with torch.no_grad(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        expected = model(mixture)
        try:
            program = torch.onnx.export(
                model, (mixture,), dynamo=True, verbose=False, input_names=[_INPUT], output_names=[_OUTPUT]
            )
        except Exception as error:
            reason = type(error).__name__
            raise AuriscopeError(
                f"{model.name} cannot be written as ONNX ({reason}); others can, see the guide on export"
            ) from error
    proto = program.model_proto  # type: ignore[union-attr]
    facts = {
        "architecture": model.name,
        "config": json.dumps(dataclasses.asdict(model.config)),
        "num_samples": str(num_samples),
    }
    onnx.helper.set_model_props(proto, facts)
    with written_aside(path) as aside:
        aside.write_bytes(proto.SerializeToString())
        estimates = OnnxSeparator(aside)(mixture)
        difference = float((estimates - expected).norm() / expected.norm().clamp(min=1e-9))
        if not difference <= _TOLERANCE:
            raise AuriscopeError(
                f"{printable(path)}: the file would differ from the model by {difference:.1e}; it was not written"
            )
    return difference


class OnnxSeparator:
    """A separator read from an ONNX file that :func:`export_onnx` wrote, run by ONNX Runtime.

    It offers what a model of the room offers, so that :func:`~auriscope.separation.long.separate_waveform` takes it:
    ``config`` (``sample_rate``, ``num_sources`` and all else), ``name`` and the call. ``num_samples`` is the length it
    was made for; shorter mixtures are continued with silence, longer ones are refused.

    Raises:
        CheckpointError: no such file, or not one of ours.
    """

    def __init__(self, path: StrPath, *, threads: int | None = None) -> None:
        _, runtime = _libraries()
        options = runtime.SessionOptions()
        options.intra_op_num_threads = threads or torch.get_num_threads()
        try:
            self._session = runtime.InferenceSession(os.fspath(path), options, providers=["CPUExecutionProvider"])
            facts = self._session.get_modelmeta().custom_metadata_map
            self.name, config, num_samples = (facts[key] for key in _KEYS)
        except KeyError as error:
            raise CheckpointError(f"{printable(path)}: not an ONNX file that auriscope wrote") from error
        except Exception as error:
            what = "there is no such file" if not Path(path).exists() else "not an ONNX file that can be read"
            raise CheckpointError(f"{printable(path)}: {what}") from error
        self.config: Any = SimpleNamespace(**json.loads(config))
        self.num_samples = int(num_samples)

    def __call__(self, mixture: Tensor) -> Tensor:
        """Separate a mixture (B, time) into estimates (B, S, time)."""
        length = mixture.shape[-1]
        if length > self.num_samples:
            raise AuriscopeError(
                f"the ONNX file takes {self.num_samples} samples at once, not {length}; cut the recording, or export "
                "the model for a longer duration"
            )
        padded = F.pad(mixture, (0, self.num_samples - length)).numpy()
        rows = [self._session.run([_OUTPUT], {_INPUT: row[None]})[0] for row in padded]
        return torch.from_numpy(np.concatenate(rows))[..., :length]


def _libraries() -> tuple[Any, Any]:
    try:
        import onnx
        import onnxruntime
        import onnxscript  # noqa: F401 (torch's exporter asks for it)
    except ImportError as error:
        raise AuriscopeError("ONNX needs further packages: pip install 'auriscope[onnx]'") from error
    return onnx, onnxruntime
