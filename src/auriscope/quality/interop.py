"""Checkpoints of other toolkits as ours: SpeechBrain's blind SI-SNR estimator of REAL-M."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from auriscope.pretrained.foreign import Foreign, read_parts
from auriscope.pretrained.hyperpyyaml import FILE_NAME, HyperPyYaml, Part
from auriscope.quality.calibration import Calibration
from auriscope.quality.realm import RealMEstimator

_PARTS = ("encoder", "encoder_out")

FILE_PATTERNS = (FILE_NAME, *(f"{part}.ckpt" for part in _PARTS))
"""The files of the checkpoints that :func:`recognise` knows."""


def recognise(path: Path) -> Foreign | None:
    """Read SpeechBrain's estimator: a folder with ``hyperparams.yaml``, ``encoder.ckpt`` and ``encoder_out.ckpt``.

    None when the folder is not one; ``CheckpointError`` when it is, but not whole, or of another network.
    """
    if not (path / FILE_NAME).is_file():
        return None
    file = HyperPyYaml.read(path / FILE_NAME)
    modules = file.get("modules")
    if not isinstance(modules, dict) or "encoder_out" not in modules or "snrmax" not in file.entries:
        return None
    return from_speechbrain(file, read_parts(path, _PARTS))


def from_speechbrain(file: HyperPyYaml, weights: Mapping[str, Tensor]) -> Foreign:
    """Translate the estimator from its ``hyperparams.yaml`` and its weights, keyed ``<part>.<key>``."""
    encoder, head = file.part("modules", "encoder"), file.part("modules", "encoder_out")
    if file.get("separation_norm_type") != "stnorm":
        raise encoder.refused("another separation_norm_type than stnorm")
    encoder.take_any("input_shape")
    num_channels = 0
    for index, stride in enumerate(RealMEstimator.strides):
        if index:
            encoder.part(f"relu{index}").require_kind("ReLU")
        convolution = encoder.part(f"cnn{index + 1}")
        convolution.require_kind("Conv1d")
        num_channels = convolution.take("out_channels", int) if index == 0 else num_channels
        convolution.require("in_channels", num_channels if index else 2, None)
        if index:
            convolution.require("out_channels", num_channels, None)
        convolution.require("kernel_size", 4, None)
        convolution.require("stride", stride, 1)
        convolution.require("padding", "valid", "same")
        convolution.require("skip_transpose", True, False)
        convolution.finish()
    encoder.finish()
    head.take_any("input_shape")
    hidden, output = head.part("layer1"), head.part("layer2")
    num_hidden = hidden.take("n_neurons", int)
    _linear(hidden, 2 * num_channels)
    head.part("relu").require_kind("ReLU")
    output.require("n_neurons", 1, None)
    _linear(output, num_hidden)
    head.part("sigm").require_kind("Sigmoid")
    head.finish()
    config = {
        "sample_rate": file.take("sample_rate", int),
        "num_channels": num_channels,
        "num_hidden": num_hidden,
        "minimum_db": float(file.take("snrmin", float)),
        "maximum_db": float(file.take("snrmax", float)),
    }
    # Ours can be calibrated; theirs is not.
    uncalibrated = Calibration(num_hidden).state_dict()
    renamed = {key.split(".", 1)[1]: value for key, value in weights.items()}
    return Foreign(
        "quality/sisnr-realm",
        config,
        {**{f"calibration.{key}": value for key, value in uncalibrated.items()}, **renamed},
    )


def _linear(layer: Part, num_inputs: int) -> None:
    layer.require_kind("Linear")
    layer.require("input_size", num_inputs, None)
    layer.require("bias", True, True)
    layer.finish()
