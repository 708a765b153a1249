"""Asteroid's checkpoints: a mapping with ``model_name``, ``model_args`` and ``state_dict``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from auriscope.errors import CheckpointError
from auriscope.pretrained.foreign import Foreign, Renames, rename

_NORMS = {"gLN": "global", "cLN": "channel", "cgLN": "cumulative"}
_FILTERBANK = (
    # SuDORMRF writes the encoder's filters twice.
    (r"^(?:encoder\.)?encoder\.filterbank\._filters", "encoder.weight"),
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
_ASTEROID_DPTNET = (
    *_FILTERBANK,
    (r"masker\.in_norm\.", "masker.norm."),
    (r"masker\.layers\.(\d+)\.0\.", r"masker.intra.\1."),
    (r"masker\.layers\.(\d+)\.1\.", r"masker.inter.\1."),
    (r"\.mha\.in_proj_", ".qkv."),
    (r"\.mha\.out_proj\.", ".out."),
    (r"\.norm_mha\.", ".attention_norm."),
    (r"\.norm_ff\.", ".feedforward_norm."),
    (r"(masker\.int(?:ra|er)\.\d+)\.linear\.", r"\1.projection."),
    (r"masker\.first_out\.0\.", "masker.prelu."),
    (r"masker\.first_out\.1\.", "masker.to_sources."),
    (r"masker\.net_out\.0\.", "masker.output."),
    (r"masker\.net_gate\.0\.", "masker.gate."),
    *_NORM_WEIGHTS,
)
_UBLOCK = (
    (r"masker\.sm\.(\d+)\.proj_1x1\.conv\.", r"masker.blocks.\1.expand."),
    (r"masker\.sm\.(\d+)\.proj_1x1\.norm\.", r"masker.blocks.\1.expand_norm."),
    (r"masker\.sm\.(\d+)\.proj_1x1\.act\.", r"masker.blocks.\1.expand_prelu."),
    (r"masker\.sm\.(\d+)\.spp_dw\.(\d+)\.conv\.", r"masker.blocks.\1.convolutions.\2."),
    (r"masker\.sm\.(\d+)\.spp_dw\.(\d+)\.norm\.", r"masker.blocks.\1.norms.\2."),
    (r"masker\.sm\.(\d+)\.final_norm\.norm\.", r"masker.blocks.\1.sum_norm."),
    (r"masker\.sm\.(\d+)\.final_norm\.act\.", r"masker.blocks.\1.sum_prelu."),
)
_ASTEROID_SUDORMRF = (
    *_FILTERBANK,
    (r"masker\.ln\.", "masker.norm."),
    (r"masker\.l1\.", "masker.bottleneck."),
    *_UBLOCK,
    (r"masker\.sm\.(\d+)\.conv_1x1_exp\.conv\.", r"masker.blocks.\1.reduce."),
    (r"masker\.sm\.(\d+)\.conv_1x1_exp\.norm\.", r"masker.blocks.\1.reduce_norm."),
    (r"masker\.sm\.(\d+)\.module_act\.norm\.", r"masker.blocks.\1.output_norm."),
    (r"masker\.sm\.(\d+)\.module_act\.act\.", r"masker.blocks.\1.output_prelu."),
    (r"masker\.reshape_before_masks\.", "masker.to_features."),
    (r"masker\.m\.", "masker.along_features."),
)
_ASTEROID_SUDORMRF_IMPROVED = (
    *_FILTERBANK,
    (r"masker\.ln\.", "masker.norm."),
    *_UBLOCK,
    (r"masker\.sm\.(\d+)\.res_conv\.", r"masker.blocks.\1.reduce."),
    (r"masker\.mask_net\.0\.", "masker.prelu."),
    (r"masker\.mask_net\.1\.", "masker.to_masks."),
    *_NORM_WEIGHTS,
)


def from_asteroid(checkpoint: Mapping[str, Any]) -> Foreign:
    """Translate what Asteroid's models save: a mapping with ``model_name``, ``model_args`` and ``state_dict``.

    ConvTasNet, DPRNNTasNet, DPTNet, SuDORMRFNet and SuDORMRFImprovedNet with free filterbanks; other models and
    variants raise ``CheckpointError``.
    """
    try:
        name, given, weights = checkpoint["model_name"], dict(checkpoint["model_args"]), checkpoint["state_dict"]
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(
            "this is not an Asteroid checkpoint: model_name, model_args or state_dict is missing"
        ) from error
    readers = {
        "ConvTasNet": _asteroid_convtasnet,
        "DPRNNTasNet": _asteroid_dprnn,
        "DPTNet": _asteroid_dptnet,
        "SuDORMRFNet": _asteroid_sudormrf,
        "SuDORMRFImprovedNet": _asteroid_sudormrf_improved,
    }
    if name not in readers:
        raise CheckpointError(f"Asteroid's {name} cannot be loaded; {', '.join(readers)} can")
    arguments = _Arguments(name, given)
    arguments.require("fb_name", {"free", "FreeFB", None})
    if arguments.take("out_chan", None) not in {None, given.get("n_filters"), given.get("in_chan")}:
        raise CheckpointError(f"Asteroid's {name} with masks of another size than its features cannot be loaded")
    architecture, config, renames = readers[name](arguments)
    arguments.finish()
    translated = rename(weights, renames)
    if architecture == "separation/convtasnet" and config["skip_channels"]:
        # The last block's residual feeds nothing; our network does without it.
        last = config["num_blocks"] * config["num_repeats"] - 1
        translated = {key: value for key, value in translated.items() if f"blocks.{last}.residual." not in key}
    return Foreign(architecture, config, translated)


def _asteroid_convtasnet(arguments: _Arguments) -> tuple[str, dict[str, Any], Renames]:
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


def _asteroid_dprnn(arguments: _Arguments) -> tuple[str, dict[str, Any], Renames]:
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


def _asteroid_dptnet(arguments: _Arguments) -> tuple[str, dict[str, Any], Renames]:
    chunk_size = arguments.take("chunk_size", 100)
    config = {
        **arguments.filterbank(num_filters=64, encoder_activation="relu"),
        "num_heads": arguments.take("n_heads", 4),
        "hidden_size": arguments.take("ff_hid", 256),
        "chunk_size": chunk_size,
        "hop_size": arguments.take("hop_size", None) or chunk_size // 2,
        "num_blocks": arguments.take("n_repeats", 6),
        "bidirectional": bool(arguments.take("bidirectional", True)),
        "dropout": float(arguments.take("dropout", 0)),
        "norm": arguments.norm(),
        "feedforward_activation": arguments.take("ff_activation", "relu"),
        "mask_activation": arguments.take("mask_act", "relu"),
    }
    return "separation/dptnet", config, _ASTEROID_DPTNET


def _asteroid_sudormrf(arguments: _Arguments) -> tuple[str, dict[str, Any], Renames]:
    config = _sudormrf_config(arguments, "original", mask_activation="softmax")
    # Asteroid obeys no other stride here.
    config["stride"] = config["kernel_size"] // 2
    return "separation/sudormrf", config, _ASTEROID_SUDORMRF


def _asteroid_sudormrf_improved(arguments: _Arguments) -> tuple[str, dict[str, Any], Renames]:
    config = _sudormrf_config(arguments, "improved", mask_activation="relu")
    return "separation/sudormrf", config, _ASTEROID_SUDORMRF_IMPROVED


def _sudormrf_config(arguments: _Arguments, variant: str, mask_activation: str) -> dict[str, Any]:
    config = arguments.filterbank(num_filters=512, kernel_size=21, stride=None)
    # Asteroid notes the encoder's activation, but every network of a variant has the same.
    del config["encoder_activation"]
    return {
        **config,
        "variant": variant,
        "bottleneck_channels": arguments.take("bn_chan", 128),
        "hidden_channels": config["num_filters"],
        "num_blocks": arguments.take("num_blocks", 16),
        "depth": arguments.take("upsampling_depth", 4),
        "mask_activation": arguments.take("mask_act", mask_activation),
    }


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

    def filterbank(
        self,
        num_filters: int,
        kernel_size: int = 16,
        stride: int | None = 8,
        encoder_activation: str | None = None,
    ) -> dict[str, Any]:
        self.take("in_chan", None)
        kernel_size = self.take("kernel_size", kernel_size)
        return {
            # Checkpoints from before Asteroid wrote the rate are all at 8 kHz.
            "sample_rate": int(self.take("sample_rate", None) or 8000),
            "num_sources": self.take("n_src", 2),
            "num_filters": self.take("n_filters", num_filters),
            "kernel_size": kernel_size,
            "stride": self.take("stride", stride) or kernel_size // 2,
            "encoder_activation": self.take("encoder_activation", encoder_activation) or "linear",
        }

    def finish(self) -> None:
        if self.values:
            raise CheckpointError(
                f"Asteroid's {self.model} with the argument {sorted(self.values)[0]!r} cannot be loaded"
            )
