"""SpeechBrain's checkpoints: ``hyperparams.yaml``, and one file of weights a part of the model.

Everything that ``hyperparams.yaml`` sets is either obeyed or refused: an argument that is not known here is an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auriscope.errors import CheckpointError
from auriscope.pretrained.foreign import Foreign, Renames, count_modules, read_parts, rename
from auriscope.pretrained.hyperpyyaml import FILE_NAME, HyperPyYaml, Part

_PARTS = ("encoder", "decoder", "masknet")
FILE_PATTERNS = (FILE_NAME, *(f"{part}.ckpt" for part in _PARTS))
_TRANSFORMER_LAYER = (
    (r"\.self_att\.att\.in_proj_", ".qkv."),
    (r"\.self_att\.att\.out_proj\.", ".out."),
    (r"\.pos_ffn\.ffn\.0\.", ".feedforward1."),
    (r"\.pos_ffn\.ffn\.3\.", ".feedforward2."),
    (r"\.(norm[12])\.norm\.", r".\1."),
)
_ENCODER = ((r"^encoder\.conv1d\.", "encoder."),)
_DUAL_PATH = (
    *_ENCODER,
    (r"^masknet\.norm\.", "masker.norm."),
    (r"^masknet\.conv1d\.", "masker.bottleneck."),
    (r"^masknet\.dual_mdl\.(\d+)\.(intra|inter)_norm\.", r"masker.blocks.\1.\2_norm."),
    (r"^masknet\.prelu\.", "masker.prelu."),
    (r"^masknet\.conv2d\.", "masker.to_sources."),
    (r"^masknet\.output\.0\.", "masker.output."),
    (r"^masknet\.output_gate\.0\.", "masker.gate."),
    (r"^masknet\.end_conv1x1\.", "masker.to_mask."),
)
_SEPFORMER = (
    *_DUAL_PATH,
    (r"^masknet\.dual_mdl\.(\d+)\.(intra|inter)_mdl\.mdl\.norm\.norm\.", r"masker.blocks.\1.\2.norm."),
    (r"^masknet\.dual_mdl\.(\d+)\.(intra|inter)_mdl\.mdl\.layers\.(\d+)\.", r"masker.blocks.\1.\2.layers.\3."),
    *_TRANSFORMER_LAYER,
)
_DPRNN = (
    *_DUAL_PATH,
    (r"^masknet\.dual_mdl\.(\d+)\.(intra|inter)_mdl\.mdl\.rnn\.", r"masker.blocks.\1.\2.networks.0."),
    (r"^masknet\.dual_mdl\.(\d+)\.(intra|inter)_linear\.w\.", r"masker.blocks.\1.\2.projection."),
)
_CONVTASNET = (
    *_ENCODER,
    (r"^masknet\.layer_norm\.", "masker.norm."),
    (r"^masknet\.bottleneck_conv1x1\.conv\.", "masker.bottleneck."),
    (r"^masknet\.mask_conv1x1\.conv\.", "masker.to_masks."),
    (r"^masknet\.temporal_conv_net\.", "masker.blocks."),
    (r"\.layers\.conv\.conv\.", ".expand."),
    (r"\.layers\.act\.", ".prelu1."),
    (r"\.layers\.norm\.", ".norm1."),
    (r"\.layers\.DSconv\.conv_0\.conv\.", ".depthwise."),
    (r"\.layers\.DSconv\.act\.", ".prelu2."),
    (r"\.layers\.DSconv\.act_0\.", ".norm2."),
    (r"\.layers\.DSconv\.conv_1\.conv\.", ".residual."),
    (r"\.gamma$", ".weight"),
    (r"\.beta$", ".bias"),
)
_RESEPFORMER = (
    *_ENCODER,
    (r"^masknet\.model\.seg_model\.(\d+)\.", r"masker.blocks.\1."),
    (r"^masknet\.model\.mem_model\.(\d+)\.", r"masker.memories.\1."),
    (r"^masknet\.model\.output_fc\.0\.", "masker.prelu."),
    (r"^masknet\.model\.output_fc\.1\.", "masker.to_masks."),
    (r"\.mdl\.norm\.norm\.", ".transformer.norm."),
    (r"\.mdl\.layers\.", ".transformer.layers."),
    *_TRANSFORMER_LAYER,
)


def recognise(folder: Path) -> Foreign | None:
    """Read a separator of SpeechBrain's: a folder with ``hyperparams.yaml`` and ``<part>.ckpt`` of every part.

    None when the folder is not one; ``CheckpointError`` when it is, but not whole or not one that can be loaded.
    """
    if not (folder / FILE_NAME).is_file():
        if (folder / "masknet.ckpt").is_file():
            raise CheckpointError(
                f"{folder}: has a masknet.ckpt of SpeechBrain, but not its {FILE_NAME}; copy it there"
            )
        return None
    file = HyperPyYaml.read(folder / FILE_NAME)
    modules = file.get("modules")
    if not isinstance(modules, dict) or not modules.keys() >= set(_PARTS):
        return None
    return from_speechbrain(file, read_parts(folder, _PARTS))


def from_speechbrain(file: HyperPyYaml, weights: Mapping[str, Tensor]) -> Foreign:
    """Translate a separator from its ``hyperparams.yaml`` and its weights, keyed ``<part>.<key>``.

    SepFormer, RE-SepFormer, DPRNN and Conv-TasNet of SpeechBrain's recipes; others raise ``CheckpointError``.
    """
    masknet = file.part("modules", "masknet")
    readers = {"Dual_Path_Model": _dual_path, "MaskNet": _convtasnet, "ResourceEfficientSeparator": _resepformer}
    if masknet.kind not in readers:
        raise CheckpointError(f"{file.path}: a {masknet.kind} cannot be loaded; {', '.join(readers)} can")
    sample_rate = file.take("sample_rate", int)
    if not 1000 <= sample_rate <= 384000:
        raise CheckpointError(f"{file.path}: sample_rate is {sample_rate}, which no recording has; give it in hertz")
    common = {"sample_rate": sample_rate, **_filterbank(file)}
    architecture, config, renames = readers[masknet.kind](masknet, common)
    masknet.finish()
    # The positions are computed here; their table in the file is the same sinusoid.
    learned = {key: value for key, value in weights.items() if not key.endswith(".pos_enc.pe")}
    translated = rename(learned, renames)
    if architecture == "separation/convtasnet":
        translated = _number_blocks(translated, config["num_blocks"])
    return Foreign(architecture, config, _filled(translated, architecture))


def _filterbank(file: HyperPyYaml) -> dict[str, Any]:
    """Read the sizes of the encoder, which the decoder's must match."""
    encoder, decoder = file.part("modules", "encoder"), file.part("modules", "decoder")
    for part in (encoder, decoder):
        if not part.path.endswith(("dual_path.Encoder", "dual_path.Decoder")):
            raise CheckpointError(f"{file.path}: the {part.path} of {part.where} cannot be loaded")
    kernel_size, num_filters = encoder.take("kernel_size", int, 2), encoder.take("out_channels", int, 64)
    encoder.require("in_channels", 1, 1)
    encoder.finish()
    decoder.require("in_channels", num_filters, None)
    decoder.require("out_channels", 1, None)
    decoder.require("kernel_size", kernel_size, None)
    decoder.require("stride", kernel_size // 2, 1)
    decoder.require("bias", False, True)
    decoder.finish()
    return {"num_filters": num_filters, "kernel_size": kernel_size, "stride": kernel_size // 2}


def _dual_path(net: Part, common: dict[str, Any]) -> tuple[str, dict[str, Any], Renames]:
    net.require("in_channels", common["num_filters"], None)
    net.require("skip_around_intra", True, True)
    net.require("use_global_pos_enc", False, False)
    net.take("max_length", int, 0)
    channels, chunk_size = net.take("out_channels", int), net.take("K", int, 200)
    norm, has_linear = net.take("norm", str, "ln"), net.take("linear_layer_after_inter_intra", bool, True)
    config = {
        **common,
        "num_sources": net.take("num_spks", int, 2),
        "chunk_size": chunk_size,
        "num_blocks": net.take("num_layers", int, 1),
    }
    intra, inter = net.part("intra_model"), net.part("inter_model")
    kinds = {intra.kind, inter.kind}
    if kinds == {"SBTransformerBlock"}:
        if has_linear or channels != common["num_filters"] or norm not in ("ln", "gln"):
            raise net.refused("transformers and a linear layer after them, a bottleneck, or another norm than ln")
        layers = {"num_intra_layers": intra.take("num_layers", int), "num_inter_layers": inter.take("num_layers", int)}
        return "separation/sepformer", {**config, **layers, **_transformers(channels, intra, inter)}, _SEPFORMER
    if kinds == {"SBRNNBlock"}:
        if not has_linear or norm not in ("ln", "gln", "cln"):
            raise net.refused("recurrent networks and no linear layer after them, or another norm than ln, gln or cln")
        config["hop_size"] = chunk_size // 2
        config["bottleneck_channels"] = channels
        config["norm"] = "channel" if norm == "cln" else "global"
        return "separation/dprnn", {**config, **_recurrent(channels, intra, inter)}, _DPRNN
    raise net.refused(f"{' and '.join(sorted(kinds))} in it")


def _transformers(channels: int, *parts: Part) -> dict[str, Any]:
    """Read what transformers have in common; their number of layers must be taken before."""
    sizes = []
    for part in parts:
        part.require("d_model", channels, None)
        part.require("use_positional_encoding", True, False)
        part.require("norm_before", True, False)
        part.require("activation", "relu", "relu")
        part.require("attention_type", "regularMHA", "regularMHA")
        for unused in ("input_shape", "kdim", "vdim"):
            part.require(unused, None, None)
        part.take("dropout", float, 0.1)
        sizes.append({"num_heads": part.take("nhead", int), "feedforward_size": part.take("d_ffn", int, 2048)})
        part.finish()
    if sizes[0] != sizes[1]:
        raise parts[0].refused("another nhead or d_ffn than the other transformer's")
    return sizes[0]


def _recurrent(channels: int, *parts: Part) -> dict[str, Any]:
    sizes = []
    for part in parts:
        part.require("input_size", channels, None)
        part.require("bidirectional", True, True)
        cell = part.take("rnn_type", str, "LSTM")
        if cell not in ("LSTM", "GRU", "RNN"):
            raise part.refused(f"rnn_type: {cell}")
        sizes.append(
            {
                "hidden_size": part.take("hidden_channels", int),
                "num_layers": part.take("num_layers", int),
                "cell": cell.lower(),
                "dropout": float(part.take("dropout", float, 0)),
            }
        )
        part.finish()
    if sizes[0] != sizes[1]:
        raise parts[0].refused("other sizes than the other recurrent network's")
    # Its mask is never negative, and neither are its features; chunks begin half a chunk before the first frame.
    return {**sizes[0], "encoder_activation": "relu", "mask_activation": "relu", "chunk_padding": "half"}


def _convtasnet(net: Part, common: dict[str, Any]) -> tuple[str, dict[str, Any], Renames]:
    net.require("N", common["num_filters"], None)
    # Its softmax is over the filters, not over the sources.
    net.require("mask_nonlinear", "relu", "relu")
    norm, causal = net.take("norm_type", str, "gLN"), net.take("causal", bool, False)
    norms = {"gLN": "global", "cLN": "channel"}
    if norm not in norms:
        raise net.refused(f"norm_type: {norm}")
    config = {
        **common,
        "num_sources": net.take("C", int),
        "bottleneck_channels": net.take("B", int),
        "hidden_channels": net.take("H", int),
        "skip_channels": 0,
        "block_kernel_size": net.take("P", int),
        "num_blocks": net.take("X", int),
        "num_repeats": net.take("R", int),
        "norm": norms[norm],
        "input_norm": "channel",
        # Its causal convolutions come with a norm that sees the whole recording, unless norm_type says otherwise.
        "causal": causal and norm == "cLN",
        "block_padding": "late" if causal else "reflect",
        "encoder_activation": "relu",
        "mask_activation": "relu",
    }
    return "separation/convtasnet", config, _CONVTASNET


def _number_blocks(weights: Mapping[str, Tensor], num_blocks: int) -> dict[str, Tensor]:
    """Count the blocks through, which are named by repeat and place in it."""
    pattern = re.compile(r"\.temporalblock_(\d+)_(\d+)\.")
    return {
        pattern.sub(lambda match: f".{int(match[1]) * num_blocks + int(match[2])}.", key): value
        for key, value in weights.items()
    }


def _resepformer(net: Part, common: dict[str, Any]) -> tuple[str, dict[str, Any], Renames]:
    net.require("input_dim", common["num_filters"], None)
    net.require("nonlinear", "relu", "relu")
    # These matter to recurrent networks in it alone.
    for unused, kind in (("causal", bool), ("unit", int), ("dropout", float)):
        net.take(unused, kind, None)
    config = {
        **common,
        "num_sources": net.take("num_spk", int, 2),
        "chunk_size": net.take("segment_size", int, 20),
        "num_blocks": net.take("layer", int, 3),
    }
    blocks, memory = net.part("seg_model"), net.part("mem_model")
    kinds = {blocks.kind, memory.kind}
    if kinds != {"SBTransformerBlock_wnormandskip"}:
        raise net.refused(f"{' and '.join(sorted(kinds))} in it")
    net.require("mem_type", "av", "hc")
    for part in (blocks, memory):
        part.require("causal", False, False)
        part.require("use_norm", True, True)
        part.require("use_skip", True, True)
        part.require("norm_type", "gln", "gln")
    config["num_chunk_layers"] = blocks.take("num_layers", int)
    config["num_memory_layers"] = memory.take("num_layers", int)
    return "separation/resepformer", {**config, **_transformers(common["num_filters"], blocks, memory)}, _RESEPFORMER


def _filled(weights: dict[str, Tensor], architecture: str) -> dict[str, Tensor]:
    """Add what our networks have and theirs do without, so that it does nothing: zero biases, a slope of one."""
    if architecture not in ("separation/convtasnet", "separation/dprnn"):
        return weights
    layers = ("bottleneck", "to_masks", "expand", "depthwise", "residual")
    if architecture == "separation/convtasnet":
        weights = {"masker.prelu.weight": torch.ones(1), **weights}
    for key in list(weights):
        layer, _, kind = key.rpartition(".")
        if kind == "weight" and layer.rpartition(".")[2] in layers:
            weights.setdefault(f"{layer}.bias", torch.zeros(len(weights[key])))
    return weights


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
            "num_blocks": count_modules(weights, r"masknet\.dual_mdl\.(\d+)\."),
            "num_intra_layers": count_modules(weights, r"masknet\.dual_mdl\.0\.intra_mdl\.mdl\.layers\.(\d+)\."),
            "num_inter_layers": count_modules(weights, r"masknet\.dual_mdl\.0\.inter_mdl\.mdl\.layers\.(\d+)\."),
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
    return Foreign("separation/sepformer", config, rename(learned, _SEPFORMER))
