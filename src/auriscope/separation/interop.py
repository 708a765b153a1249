"""Checkpoints of other toolkits as ours: what configuration they are, and which of our weights each of theirs is.

Nothing of the other toolkits is imported, and nothing is unpickled but plain data and tensors.
"""

from __future__ import annotations

import pickle
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.torch_version import TorchVersion

from auriscope.errors import CheckpointError
from auriscope.pretrained.model import Model, model_class

_NORMS = {"gLN": "global", "cLN": "channel", "cgLN": "cumulative"}
_FILTERBANK = (
    (r"encoder\.filterbank\._filters", "encoder.weight"),
    (r"decoder\.filterbank\._filters", "decoder.weight"),
)
# Where two toolkits name a normalisation's weights differently, the names are equal after these replacements.
_NORM_WEIGHTS = ((r"\.gamma$", ".weight"), (r"\.beta$", ".bias"))

_ASTEROID_CONVTASNET = (
    *_FILTERBANK,
    (r"masker\.bottleneck\.0\.", "masker.norm."),
    (r"masker\.bottleneck\.1\.", "masker.bottleneck."),
    (r"masker\.TCN\.(\d+)\.shared_block\.0\.", r"masker.blocks.\1.expand."),
    (r"masker\.TCN\.(\d+)\.shared_block\.1\.", r"masker.blocks.\1.prelu1."),
    (r"masker\.TCN\.(\d+)\.shared_block\.2\.", r"masker.blocks.\1.norm1."),
    # A causal network wraps the convolution together with the cut of its surplus.
    (r"masker\.TCN\.(\d+)\.shared_block\.3\.(?:0\.)?", r"masker.blocks.\1.depthwise."),
    (r"masker\.TCN\.(\d+)\.shared_block\.4\.", r"masker.blocks.\1.prelu2."),
    (r"masker\.TCN\.(\d+)\.shared_block\.5\.", r"masker.blocks.\1.norm2."),
    (r"masker\.TCN\.(\d+)\.res_conv\.", r"masker.blocks.\1.residual."),
    (r"masker\.TCN\.(\d+)\.skip_conv\.", r"masker.blocks.\1.skip."),
    (r"masker\.mask_net\.0\.", "masker.prelu."),
    (r"masker\.mask_net\.1\.", "masker.to_masks."),
    *_NORM_WEIGHTS,
)
_ASTEROID_DPRNN = (
    *_FILTERBANK,
    (r"masker\.bottleneck\.0\.", "masker.norm."),
    (r"masker\.bottleneck\.1\.", "masker.bottleneck."),
    (r"masker\.net\.(\d+)\.(intra|inter)_RNN\.rnn1?\.", r"masker.blocks.\1.\2.networks.0."),
    (r"masker\.net\.(\d+)\.(intra|inter)_RNN\.rnn2\.", r"masker.blocks.\1.\2.networks.1."),
    (r"masker\.net\.(\d+)\.(intra|inter)_linear\.", r"masker.blocks.\1.\2.projection."),
    (r"masker\.net\.(\d+)\.(intra|inter)_norm\.", r"masker.blocks.\1.\2_norm."),
    (r"masker\.first_out\.0\.", "masker.prelu."),
    (r"masker\.first_out\.1\.", "masker.to_sources."),
    (r"masker\.net_out\.0\.", "masker.output."),
    (r"masker\.net_gate\.0\.", "masker.gate."),
    (r"masker\.mask_net\.", "masker.to_mask."),
    *_NORM_WEIGHTS,
)
_SPEECHBRAIN_SEPFORMER = (
    (r"encoder\.conv1d\.", "encoder."),
    (r"masknet\.norm\.", "masker.norm."),
    (r"masknet\.conv1d\.", "masker.bottleneck."),
    (r"masknet\.dual_mdl\.(\d+)\.(intra|inter)_mdl\.mdl\.norm\.norm\.", r"masker.blocks.\1.\2.norm."),
    (r"masknet\.dual_mdl\.(\d+)\.(intra|inter)_mdl\.mdl\.layers\.(\d+)\.", r"masker.blocks.\1.\2.layers.\3."),
    (r"masknet\.dual_mdl\.(\d+)\.(intra|inter)_norm\.", r"masker.blocks.\1.\2_norm."),
    (r"\.self_att\.att\.in_proj_", ".qkv."),
    (r"\.self_att\.att\.out_proj\.", ".out."),
    (r"\.pos_ffn\.ffn\.0\.", ".feedforward1."),
    (r"\.pos_ffn\.ffn\.3\.", ".feedforward2."),
    (r"\.(norm[12])\.norm\.", r".\1."),
    (r"masknet\.prelu\.", "masker.prelu."),
    (r"masknet\.conv2d\.", "masker.to_sources."),
    (r"masknet\.output\.0\.", "masker.output."),
    (r"masknet\.output_gate\.0\.", "masker.gate."),
    (r"masknet\.end_conv1x1\.", "masker.to_mask."),
)


@dataclass(frozen=True)
class Foreign:
    """A foreign checkpoint in our terms: the architecture, its configuration values, and its weights by our names."""

    architecture: str
    config: dict[str, Any]
    weights: dict[str, Tensor]

    def build(self) -> Model:
        """Make the model, in evaluation mode; missing, surplus or misshaped weights raise ``CheckpointError``."""
        model = model_class(self.architecture).from_config(self.config)
        own = model.state_dict()
        missing, surplus = sorted(own.keys() - self.weights.keys()), sorted(self.weights.keys() - own.keys())
        if missing or surplus:
            kind, name = ("lacks", missing[0]) if missing else ("has an unknown weight", surplus[0])
            raise CheckpointError(
                f"the checkpoint is not a {self.architecture} of that configuration: it {kind} {name}"
            )
        shaped = {}
        for name, weight in self.weights.items():
            # A convolution with a kernel of one is a linear layer here: drop its dimensions of size one.
            if weight.numel() != own[name].numel():
                raise CheckpointError(
                    f"the checkpoint's {name} has shape {tuple(weight.shape)} instead of {tuple(own[name].shape)}"
                )
            shaped[name] = weight.reshape(own[name].shape)
        model.load_state_dict(shaped)
        return model.eval()


def read_tensors(path: Path) -> Any:
    """Read a file that ``torch.save`` wrote, if it holds nothing but plain data and tensors."""
    try:
        # Asteroid notes torch's version in its files, as torch's own kind of string.
        with torch.serialization.safe_globals([TorchVersion]):
            return torch.load(path, map_location="cpu", weights_only=True)
    except (OSError, RuntimeError, EOFError, ValueError, pickle.UnpicklingError) as error:
        raise CheckpointError(f"{path} is not a checkpoint of plain data and tensors; it was not loaded") from error


def from_asteroid(checkpoint: Mapping[str, Any]) -> Foreign:
    """Translate what Asteroid's models save: a mapping with ``model_name``, ``model_args`` and ``state_dict``.

    ConvTasNet and DPRNNTasNet with free filterbanks; other models and variants raise ``CheckpointError``.
    """
    try:
        name, given, weights = checkpoint["model_name"], dict(checkpoint["model_args"]), checkpoint["state_dict"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            "this is not an Asteroid checkpoint: model_name, model_args or state_dict is missing"
        ) from error
    readers = {"ConvTasNet": _asteroid_convtasnet, "DPRNNTasNet": _asteroid_dprnn}
    if name not in readers:
        raise CheckpointError(f"Asteroid's {name} cannot be loaded; {' and '.join(readers)} can")
    arguments = _Arguments(name, given)
    arguments.require("fb_name", {"free", "FreeFB", None})
    if arguments.take("out_chan", None) not in {None, given.get("n_filters"), given.get("in_chan")}:
        raise CheckpointError(f"Asteroid's {name} with masks of another size than its features cannot be loaded")
    architecture, config, renames = readers[name](arguments)
    arguments.finish()
    translated = _rename(weights, renames)
    if architecture == "separation/convtasnet" and config["skip_channels"]:
        # The last block's residual feeds nothing; our network does without it.
        last = config["num_blocks"] * config["num_repeats"] - 1
        translated = {key: value for key, value in translated.items() if f"blocks.{last}.residual." not in key}
    return Foreign(architecture, config, translated)


def _asteroid_convtasnet(arguments: _Arguments) -> tuple[str, dict[str, Any], tuple[tuple[str, str], ...]]:
    causal = bool(arguments.take("causal", False))
    norm = arguments.norm()
    config = {
        **arguments.filterbank(num_filters=512),
        "bottleneck_channels": arguments.take("bn_chan", 128),
        "hidden_channels": arguments.take("hid_chan", 512),
        "skip_channels": arguments.take("skip_chan", 128) or 0,
        "block_kernel_size": arguments.take("conv_kernel_size", 3),
        "num_blocks": arguments.take("n_blocks", 8),
        "num_repeats": arguments.take("n_repeats", 3),
        # Asteroid replaces a norm that sees the future, too.
        "norm": "channel" if causal and norm == "global" else norm,
        "causal": causal,
        "mask_activation": arguments.take("mask_act", "sigmoid"),
    }
    return "separation/convtasnet", config, _ASTEROID_CONVTASNET


def _asteroid_dprnn(arguments: _Arguments) -> tuple[str, dict[str, Any], tuple[tuple[str, str], ...]]:
    chunk_size = arguments.take("chunk_size", 100)
    config = {
        **arguments.filterbank(num_filters=64),
        "bottleneck_channels": arguments.take("bn_chan", 128),
        "hidden_size": arguments.take("hid_size", 128),
        "chunk_size": chunk_size,
        "hop_size": arguments.take("hop_size", None) or chunk_size // 2,
        "num_blocks": arguments.take("n_repeats", 6),
        "num_layers": arguments.take("num_layers", 1),
        "cell": str(arguments.take("rnn_type", "LSTM")).lower(),
        "bidirectional": bool(arguments.take("bidirectional", True)),
        "multiply_concatenate": bool(arguments.take("use_mulcat", False)),
        "dropout": float(arguments.take("dropout", 0)),
        "norm": arguments.norm(),
        "mask_activation": arguments.take("mask_act", "sigmoid"),
    }
    return "separation/dprnn", config, _ASTEROID_DPRNN


class _Arguments:
    """An Asteroid model's arguments; each is taken once, and one that nobody took is an error."""

    def __init__(self, model: str, values: dict[str, Any]) -> None:
        self.model, self.values = model, values

    def take(self, name: str, default: Any) -> Any:
        return self.values.pop(name, default)

    def require(self, name: str, allowed: set[Any]) -> None:
        value = self.take(name, None)
        if value not in allowed:
            raise CheckpointError(f"Asteroid's {self.model} with {name}={value!r} cannot be loaded")

    def norm(self) -> str:
        name = self.take("norm_type", "gLN")
        if name not in _NORMS:
            raise CheckpointError(f"Asteroid's {self.model} with norm_type={name!r} cannot be loaded")
        return _NORMS[name]

    def filterbank(self, num_filters: int) -> dict[str, Any]:
        self.take("in_chan", None)
        kernel_size = self.take("kernel_size", 16)
        return {
            # Checkpoints from before Asteroid wrote the rate are all at 8 kHz.
            "sample_rate": int(self.take("sample_rate", None) or 8000),
            "num_sources": self.take("n_src", 2),
            "num_filters": self.take("n_filters", num_filters),
            "kernel_size": kernel_size,
            "stride": self.take("stride", 8) or kernel_size // 2,
            "encoder_activation": self.take("encoder_activation", None) or "linear",
        }

    def finish(self) -> None:
        if self.values:
            raise CheckpointError(
                f"Asteroid's {self.model} with the argument {sorted(self.values)[0]!r} cannot be loaded"
            )


def from_speechbrain_sepformer(
    encoder: Mapping[str, Tensor],
    decoder: Mapping[str, Tensor],
    masknet: Mapping[str, Tensor],
    *,
    sample_rate: int = 8000,
    stride: int | None = None,
    chunk_size: int = 250,
    num_heads: int = 8,
) -> Foreign:
    """Translate SpeechBrain's SepFormer: its files ``encoder.ckpt``, ``decoder.ckpt`` and ``masknet.ckpt``.

    The sizes are read off the weights, but for what leaves no trace in them: ``sample_rate``, ``stride`` (half the
    filter's length by default), ``chunk_size`` and ``num_heads``.
    """
    parts = {"encoder": encoder, "decoder": decoder, "masknet": masknet}
    weights = {f"{part}.{key}": value for part, values in parts.items() for key, value in values.items()}
    try:
        num_filters, _, kernel_size = weights["encoder.conv1d.weight"].shape
        config = {
            "sample_rate": sample_rate,
            "num_sources": weights["masknet.conv2d.bias"].numel() // num_filters,
            "num_filters": num_filters,
            "kernel_size": kernel_size,
            "stride": stride or kernel_size // 2,
            "chunk_size": chunk_size,
            "num_blocks": _count(weights, r"masknet\.dual_mdl\.(\d+)\."),
            "num_intra_layers": _count(weights, r"masknet\.dual_mdl\.0\.intra_mdl\.mdl\.layers\.(\d+)\."),
            "num_inter_layers": _count(weights, r"masknet\.dual_mdl\.0\.inter_mdl\.mdl\.layers\.(\d+)\."),
            "num_heads": num_heads,
            "feedforward_size": weights["masknet.dual_mdl.0.intra_mdl.mdl.layers.0.pos_ffn.ffn.0.bias"].numel(),
        }
    except (KeyError, ValueError, AttributeError) as error:
        raise CheckpointError(
            f"this is not a SepFormer checkpoint of SpeechBrain: {error} is missing or misshaped"
        ) from error
    # The positions are computed here; their table in the file is the same sinusoid.
    if not any(key.endswith(".pos_enc.pe") for key in weights):
        raise CheckpointError("a SepFormer of SpeechBrain without positional encoding cannot be loaded")
    learned = {key: value for key, value in weights.items() if not key.endswith(".pos_enc.pe")}
    return Foreign("separation/sepformer", config, _rename(learned, _SPEECHBRAIN_SEPFORMER))


def _count(weights: Mapping[str, Tensor], pattern: str) -> int:
    return len({match[1] for key in weights if (match := re.match(pattern, key))})


def _rename(weights: Mapping[str, Tensor], renames: tuple[tuple[str, str], ...]) -> dict[str, Tensor]:
    renamed = {}
    for key, value in weights.items():
        name = key
        for pattern, replacement in renames:
            name = re.sub(pattern, replacement, name)
        renamed[name] = value
    return renamed
