"""torchaudio's Conv-TasNet: a state dict, and nothing else."""

from __future__ import annotations

from collections.abc import Mapping

from torch import Tensor

from auriscope.errors import CheckpointError
from auriscope.pretrained.foreign import Foreign, count_modules, rename

_CONVTASNET = (
    (r"^mask_generator\.input_norm\.", "masker.norm."),
    (r"^mask_generator\.input_conv\.", "masker.bottleneck."),
    (r"^mask_generator\.output_prelu\.", "masker.prelu."),
    (r"^mask_generator\.output_conv\.", "masker.to_masks."),
    (r"^mask_generator\.conv_layers\.(\d+)\.", r"masker.blocks.\1."),
    (r"\.conv_layers\.0\.", ".expand."),
    (r"\.conv_layers\.1\.", ".prelu1."),
    (r"\.conv_layers\.2\.", ".norm1."),
    (r"\.conv_layers\.3\.", ".depthwise."),
    (r"\.conv_layers\.4\.", ".prelu2."),
    (r"\.conv_layers\.5\.", ".norm2."),
    (r"\.res_out\.", ".residual."),
    (r"\.skip_out\.", ".skip."),
)


def is_torchaudio(weights: Mapping[str, Tensor]) -> bool:
    """Whether weights by name are those of torchaudio's Conv-TasNet."""
    return {"encoder.weight", "decoder.weight", "mask_generator.input_conv.weight"} <= weights.keys()


def from_torchaudio(
    weights: Mapping[str, Tensor], *, sample_rate: int = 8000, num_blocks: int = 8, mask_activation: str = "relu"
) -> Foreign:
    """Translate the state dict of torchaudio's ``ConvTasNet``.

    The sizes are read off the weights, but for what leaves no trace in them: ``sample_rate``, ``num_blocks`` (whose
    dilation doubles) in a repeat, and ``mask_activation``; their defaults are those of what torchaudio has published
    (``CONVTASNET_BASE_LIBRI2MIX``). Sizes that torchaudio cannot have made raise ``CheckpointError``.
    """
    total = count_modules(weights, r"mask_generator\.conv_layers\.(\d+)\.")
    try:
        num_filters, _, kernel_size = weights["encoder.weight"].shape
        hidden_channels, bottleneck_channels, _ = weights["mask_generator.conv_layers.0.conv_layers.0.weight"].shape
        skip_channels = len(weights["mask_generator.conv_layers.0.skip_out.weight"])
        block_kernel_size = weights["mask_generator.conv_layers.0.conv_layers.3.weight"].shape[-1]
        num_outputs = len(weights["mask_generator.output_conv.bias"])
    except (KeyError, ValueError) as error:
        raise CheckpointError(f"this is not a Conv-TasNet of torchaudio's: {error} is missing or misshaped") from error
    if total % num_blocks or kernel_size % 2 or block_kernel_size != 3:
        raise CheckpointError(
            f"torchaudio's Conv-TasNet with {total} blocks, filters of {kernel_size} samples and blocks of "
            f"{block_kernel_size} taps cannot be loaded: {num_blocks} blocks a repeat, an even number and 3 can"
        )
    config = {
        "sample_rate": sample_rate,
        "num_sources": num_outputs // num_filters,
        "num_filters": num_filters,
        "kernel_size": kernel_size,
        "stride": kernel_size // 2,
        "bottleneck_channels": bottleneck_channels,
        "hidden_channels": hidden_channels,
        "skip_channels": skip_channels,
        "block_kernel_size": block_kernel_size,
        "num_blocks": num_blocks,
        "num_repeats": total // num_blocks,
        "mask_activation": mask_activation,
        "edge_padding": kernel_size // 2,
    }
    return Foreign("separation/convtasnet", config, rename(weights, _CONVTASNET))
