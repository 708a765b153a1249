"""SpeechBrain's Tacotron 2: ``tts-tacotron2-ljspeech``, a folder of ``hyperparams.yaml`` and ``model.ckpt``."""

from __future__ import annotations

import dataclasses
import itertools
from pathlib import Path
from typing import Any

from auriscope.errors import CheckpointError
from auriscope.pretrained.foreign import Foreign, Renames, read_state_dict, rename
from auriscope.pretrained.hyperpyyaml import FILE_NAME, HyperPyYaml, Part, Tagged
from auriscope.signal.vocoding import MEL_22K

WEIGHTS = "model.ckpt"
FILE_PATTERNS = (FILE_NAME, WEIGHTS)
_CLASS = "speechbrain.lobes.models.Tacotron2.Tacotron2"
RENAMES: Renames = (
    (r"\.(?:linear_layer|conv)\.(?=weight|bias)", "."),
    (r"^encoder\.convolutions\.", "encoder.stack.convolutions."),
    (r"^decoder\.(?=prenet\.|attention_rnn\.)", ""),
    (r"^decoder\.attention_layer\.query_layer\.", "attention.query."),
    (r"^decoder\.attention_layer\.memory_layer\.", "attention.key."),
    (r"^decoder\.attention_layer\.v\.", "attention.energy."),
    (r"^decoder\.attention_layer\.location_layer\.location_conv\.", "attention.location."),
    (r"^decoder\.attention_layer\.location_layer\.location_dense\.", "attention.of_location."),
    (r"^decoder\.decoder_rnn\.(.*)$", r"decoder_rnn.\1_l0"),
    (r"^decoder\.linear_projection\.", "write."),
    (r"^decoder\.gate_layer\.", "stop."),
)
# What the recipe calls the settings of the mels, and what they are there.
_MELS = {
    "sample_rate": "sample_rate",
    "hop_length": "hop_length",
    "win_length": "window_length",
    "n_fft": "fft_length",
    "mel_fmin": "min_hz",
    "mel_fmax": "max_hz",
}
_VOWELS = ("AA", "AE", "AH", "AO", "AW", "AY", "EH", "ER", "EY", "IH", "IY", "OW", "OY", "UH", "UW")
_CONSONANTS = (
    *("B", "CH", "D", "DH", "F", "G", "HH", "JH", "K", "L", "M", "N", "NG"),
    *("P", "R", "S", "SH", "T", "TH", "V", "W", "Y", "Z", "ZH"),
)


def symbols() -> tuple[str, ...]:
    """The 148 symbols of SpeechBrain's ``text_to_sequence``, in their order.

    Its cleaners write small letters alone, so that no capital was ever trained: those have names that no text has, as
    have the sounds of the CMU dictionary, each vowel with its three stresses.
    """
    stressed = {vowel: [vowel, *(f"{vowel}{stress}" for stress in range(3))] for vowel in _VOWELS}
    sounds = itertools.chain.from_iterable(stressed.get(sound, [sound]) for sound in sorted((*_VOWELS, *_CONSONANTS)))
    capitals = (f"<{chr(code)}>" for code in range(ord("A"), ord("Z") + 1))
    small = (chr(code) for code in range(ord("a"), ord("z") + 1))
    return ("_", "-", *"!'(),.:;? ", *capitals, *small, *(f"@{sound}" for sound in sounds))


def recognise(folder: Path) -> Foreign | None:
    """Read Tacotron 2 of SpeechBrain's from a folder with ``hyperparams.yaml`` and ``model.ckpt``.

    None when the folder is not one; ``CheckpointError`` when it is, but not whole or not one that can be loaded.
    """
    if not (folder / FILE_NAME).is_file():
        return None
    file = HyperPyYaml.read(folder / FILE_NAME)
    value = file.get("model")
    if not isinstance(value, Tagged) or value.tag != f"new:{_CLASS}":
        return None
    if not (folder / WEIGHTS).is_file():
        raise CheckpointError(f"{folder}: not a whole model: it has no {WEIGHTS}; copy or download it, too")
    config = _config(file, Part(file, "model", value))
    return Foreign("synthesis/tacotron2", config, rename(read_state_dict(folder / WEIGHTS), RENAMES))


def _config(file: HyperPyYaml, model: Part) -> dict[str, Any]:
    mel = dataclasses.asdict(MEL_22K)
    mel |= {ours: file.take(theirs, type(mel[ours])) for theirs, ours in _MELS.items() if theirs in file.entries}
    mel["num_mels"] = model.take("n_mel_channels", int, 80)
    known = symbols()
    model.require("n_symbols", len(known), 148)
    # The decoder reads all frames of a step there, and writes one.
    model.require("n_frames_per_step", 1, 1)
    size = model.take("symbols_embedding_dim", int, 512)
    model.require("encoder_embedding_dim", size, 512)
    config = {
        "tokens": known,
        "pad_id": 0,
        "eos_id": None,
        "mel": mel,
        "encoder_size": size,
        "num_encoder_convolutions": model.take("encoder_n_convolutions", int, 3),
        "encoder_kernel_size": model.take("encoder_kernel_size", int, 5),
        "attention_rnn_size": model.take("attention_rnn_dim", int, 1024),
        "decoder_rnn_size": model.take("decoder_rnn_dim", int, 1024),
        "attention_size": model.take("attention_dim", int, 128),
        "location_channels": model.take("attention_location_n_filters", int, 32),
        "location_kernel_size": model.take("attention_location_kernel_size", int, 31),
        "prenet_size": model.take("prenet_dim", int, 256),
        "postnet_size": model.take("postnet_embedding_dim", int, 512),
        "num_postnet_convolutions": model.take("postnet_n_convolutions", int, 5),
        "postnet_kernel_size": model.take("postnet_kernel_size", int, 5),
    }
    model.require("gate_threshold", 0.5, 0.5)
    # What matters in training alone, and how long it may speak, which is the caller's business here.
    for name in ("mask_padding", "max_decoder_steps", "p_attention_dropout", "p_decoder_dropout"):
        model.take_any(name)
    model.take_any("decoder_no_early_stopping")
    model.finish()
    return config
