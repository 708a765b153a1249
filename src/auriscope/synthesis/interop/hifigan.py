"""SpeechBrain's HiFi-GAN vocoders: ``tts-hifigan-ljspeech``, ``tts-hifigan-libritts-16kHz`` and others of its recipes.

A folder of ``hyperparams.yaml`` and ``generator.ckpt``. Their convolutions mirror what is beyond the ends.
"""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from auriscope.errors import CheckpointError
from auriscope.pretrained.foreign import Foreign, Renames, read_parts, rename
from auriscope.pretrained.hyperpyyaml import FILE_NAME, HyperPyYaml, Part
from auriscope.signal.vocoding import MEL_22K

FILE_PATTERNS = (FILE_NAME, "generator.ckpt")
_RENAMES: Renames = (
    (r"^generator\.", ""),
    (r"\.conv\.(?=weight|bias|parametrizations)", "."),
    (r"^conv_pre\.", "first."),
    (r"^conv_post\.", "last."),
    (r"^ups\.", "rises."),
    (r"^resblocks\.(\d+)\.convs1?\.", r"blocks.\1.first."),
    (r"^resblocks\.(\d+)\.convs2\.", r"blocks.\1.second."),
    # Weight normalisation, as torch spelt it before and spells it now.
    (r"\.(weight_g|parametrizations\.weight\.original0)$", ".length"),
    (r"\.(weight_v|parametrizations\.weight\.original1)$", ".direction"),
)
# What the recipes call the settings of the mels, and what they are there.
_MELS = {
    "sample_rate": "sample_rate",
    "hop_length": "hop_length",
    "win_length": "window_length",
    "n_fft": "fft_length",
    "n_mel_channels": "num_mels",
    "mel_fmin": "min_hz",
    "mel_fmax": "max_hz",
}


def recognise(folder: Path) -> Foreign | None:
    """Read a vocoder of SpeechBrain's from a folder with ``hyperparams.yaml`` and ``generator.ckpt``.

    None when the folder is not one; ``CheckpointError`` when it is, but not whole or not one that can be loaded.
    """
    if not (folder / FILE_NAME).is_file():
        return None
    file = HyperPyYaml.read(folder / FILE_NAME)
    modules = file.get("modules")
    if not isinstance(modules, dict) or "generator" not in modules:
        return None
    generator = file.part("modules", "generator")
    if not generator.path.startswith("speechbrain.lobes.models.HifiGAN."):
        return None
    generator.require_kind("HifiganGenerator")
    config = _config(file, generator)
    return Foreign("synthesis/hifigan", config, rename(read_parts(folder, ["generator"]), _RENAMES))


def _config(file: HyperPyYaml, generator: Part) -> dict[str, Any]:
    mel = dataclasses.asdict(MEL_22K)
    # The published files of settings need not say what the mels are; the recipes' do.
    mel |= {ours: file.take(theirs, type(mel[ours])) for theirs, ours in _MELS.items() if theirs in file.entries}
    mel["num_mels"] = generator.take("in_channels", int)
    block = generator.take("resblock_type", str)
    config = {
        "mel": mel,
        "num_channels": generator.take("upsample_initial_channel", int),
        "rates": _numbers(generator, "upsample_factors"),
        "kernel_sizes": _numbers(generator, "upsample_kernel_sizes"),
        "block": "1" if block == "1" else "2",
        "block_kernel_sizes": _numbers(generator, "resblock_kernel_sizes"),
        "block_dilations": _numbers(generator, "resblock_dilation_sizes"),
        "pad_mode": "reflect",
        "edge_frames": generator.take("inference_padding", int, 5),
    }
    generator.require("out_channels", 1, None)
    generator.require("cond_channels", 0, 0)
    generator.require("conv_post_bias", True, True)
    generator.finish()
    return config


def _numbers(generator: Part, name: str) -> list[Any]:
    """Take an argument that is a list of whole numbers, or of such lists."""
    value = generator.file.resolve(generator.arguments.pop(name, None))
    numbers = [number for entry in value for number in (entry if isinstance(entry, list) else [entry])] if value else []
    if not isinstance(value, list) or not numbers or not all(type(number) is int for number in numbers):
        raise CheckpointError(f"{generator.file.path}: the {name} of {generator.kind} is not a list of whole numbers")
    return value
