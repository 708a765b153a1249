"""SpeechBrain's checkpoints: one file of weights a part."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from auriscope.errors import CheckpointError
from auriscope.separation.interop.foreign import Foreign, count_modules, rename

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
    return Foreign("separation/sepformer", config, rename(learned, _SPEECHBRAIN_SEPFORMER))
