"""SpeechBrain's classifiers of sounds, such as ``cnn14-esc50``: ``hyperparams.yaml``, ``embedding_model.ckpt``, more.

Everything that ``hyperparams.yaml`` sets of features and networks is either obeyed or refused. The classes are named by
``label_encoder.txt``. A folder that holds an interpreter besides, ``PIQ-ESC50``, is the business of interpretation; the
classifier in it is the file ``embedding_model.ckpt`` there.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from auriscope.errors import CheckpointError
from auriscope.pretrained.foreign import Foreign, Renames, read_parts, rename
from auriscope.pretrained.hyperpyyaml import FILE_NAME, HyperPyYaml, Part

_NETWORK, _HEAD = "embedding_model", "classifier"
_LABELS = "label_encoder.txt"
_INTERPRETER = "psi"
_LINE = re.compile(r"'(?P<label>.*)' => (?P<number>\d+)")
_RULE = "\n===="
_MAXIMUM_BYTES = 1 << 20
FILE_PATTERNS = (FILE_NAME, f"{_NETWORK}.ckpt", f"{_HEAD}.ckpt", _LABELS)
"""The files of the checkpoints that :func:`recognise` knows."""

CNN14: Renames = (
    (r"^norm0\.", "trunk.norm."),
    *((rf"^conv_block{index + 1}\.", f"trunk.blocks.{index}.") for index in range(6)),
)
"""The weights of a ``Cnn14`` as those of our ``CNN14Classifier``."""
CONV2D: Renames = (
    *((rf"^conv{index + 1}\.", f"convs.{index}.") for index in range(4)),
    *((rf"^bn{index + 1}\.", f"norms.{index}.") for index in range(4)),
    (r"^resblock\.block\.0\.", "block.0."),
    (r"^resblock\.block\.1\.", "block_norms.0."),
    (r"^resblock\.block\.3\.", "block.1."),
    (r"^resblock\.block\.4\.", "block_norms.1."),
)
"""The weights of a ``Conv2dEncoder_v2`` as those of our ``Conv2d``."""
COSINES: Renames = (
    (r"^blocks\.(\d+)\.norm\.", r"head.blocks.\1."),
    (r"^blocks\.(\d+)\.w\.", r"head.blocks.\1."),
    (r"^weight$", "head.classes.weight"),
)
"""The weights of SpeechBrain's ``Classifier`` by cosines as those of our head."""
LINEAR: Renames = ((r"^", "head."),)
KINDS = ("Cnn14", "Conv2dEncoder_v2")
"""The networks that are classifiers of sounds."""


def recognise(path: Path) -> Foreign | None:
    """Read a classifier of SpeechBrain's from its folder, or from the file of its network in the folder.

    None when it is none; ``CheckpointError`` when it is, but not whole or not one that can be loaded.
    """
    alone = path.name == f"{_NETWORK}.ckpt"
    folder = path.parent if alone else path
    if not (folder / FILE_NAME).is_file():
        return None
    file = HyperPyYaml.read(folder / FILE_NAME)
    members = file.get("modules")
    if not isinstance(members, dict) or not {_NETWORK, _HEAD} <= set(members):
        return None
    if file.part("modules", _NETWORK).kind not in KINDS or (_INTERPRETER in members and not alone):
        return None
    return _from_folder(folder, file)


def _from_folder(path: Path, file: HyperPyYaml) -> Foreign:
    network, front = file.part("modules", _NETWORK), _front(file)
    weights = read_parts(path, [_NETWORK, _HEAD])
    parts = {
        part: {name.removeprefix(f"{part}."): value for name, value in weights.items() if name.startswith(f"{part}.")}
        for part in (_NETWORK, _HEAD)
    }
    architecture, config, renames = _cnn14(network, front) if network.kind == KINDS[0] else _conv2d(network, front)
    head, head_renames = _head(file.part("modules", _HEAD))
    labels = read_labels(path / _LABELS, file.take("out_n_neurons", int))
    return Foreign(
        architecture,
        {**config, "head": head, "labels": labels},
        {**rename(parts[_NETWORK], renames), **rename(parts[_HEAD], head_renames)},
    )


def read_labels(path: Path, number: int) -> list[str]:
    """The classes that a ``label_encoder.txt`` names, in their order; "0", "1" … where there is no such file."""
    if not path.is_file():
        return [str(index) for index in range(number)]
    try:
        with path.open(encoding="utf-8") as file:
            text = file.read(_MAXIMUM_BYTES)
    except (OSError, UnicodeError) as error:
        raise CheckpointError(f"{path}: cannot be read; copy or download it again") from error
    # Below the classes stand settings of the encoder.
    text = text.partition(_RULE)[0]
    found = {int(match["number"]): match["label"] for line in text.splitlines() if (match := _LINE.fullmatch(line))}
    if sorted(found) != list(range(number)):
        raise CheckpointError(f"{path}: does not name {number} classes; copy or download it again")
    return [found[index] for index in range(number)]


def _cnn14(network: Part, front: dict[str, Any]) -> tuple[str, dict[str, Any], Renames]:
    network.require("norm_type", "bn", "bn")
    network.require("mel_bins", front["num_mels"], None)
    dim = network.take("emb_dim", int)
    # Which of its maps it hands out changes nothing that it computes.
    for name in ("return_reps", "l2i"):
        network.take_any(name)
    network.finish()
    return "classification/cnn14", {**front, "channels": [64, 128, 256, 512, 1024, dim]}, CNN14


def _conv2d(network: Part, front: dict[str, Any]) -> tuple[str, dict[str, Any], Renames]:
    dim = network.take("dim", int, 256)
    network.finish()
    return "classification/conv2d", {**front, "channels": dim}, CONV2D


def _head(head: Part) -> tuple[dict[str, Any], Renames]:
    if head.kind == "Linear" and head.path.startswith("torch."):
        head.require("bias", True, True)
        return {"kind": "linear"}, LINEAR
    head.require_kind("Classifier")
    config = {
        "kind": "cosine",
        "num_blocks": head.take("lin_blocks", int, 0),
        "block_channels": head.take("lin_neurons", int, 192),
    }
    for name in ("device", "input_size", "out_neurons"):
        head.take_any(name)
    head.finish()
    return config, COSINES


def _front(file: HyperPyYaml) -> dict[str, Any]:
    """What the network hears: an STFT, and perhaps the mels of its magnitude or power."""
    stft = file.part("modules", "compute_stft")
    stft.require_kind("STFT")
    rate = stft.take("sample_rate", int)
    fft_length = stft.take("n_fft", int, 400)
    lengths = {
        f"{name}_length": round(rate / 1000.0 * stft.take(f"{short}_length", float, default))
        for name, short, default in (("window", "win", 25.0), ("hop", "hop", 10.0))
    }
    stft.take_any("window_fn")
    stft.require("normalized_stft", False, False)
    stft.require("center", True, True)
    stft.require("pad_mode", "constant", "constant")
    stft.require("onesided", True, True)
    stft.finish()
    power = file.take("spec_mag_power", float)
    if power not in (0.5, 1.0):
        raise CheckpointError(f"{file.path}: spec_mag_power is {power}, and must be 0.5 or 1 to be loaded")
    front = {"sample_rate": rate, "window": "hamming", "fft_length": fft_length, **lengths, "power": round(2 * power)}
    if not file.get("use_melspectra"):
        return {**front, "num_mels": 0, "min_hz": 0.0, "level": "log1p"}
    return {**front, **_mels(file, rate, fft_length)}


def _mels(file: HyperPyYaml, rate: int, fft_length: int) -> dict[str, Any]:
    fbank = file.part("modules", "compute_fbank")
    fbank.require_kind("Filterbank")
    fbank.require("n_fft", fft_length, 400)
    fbank.require("sample_rate", rate, 16_000)
    fbank.require("filter_shape", "triangular", "triangular")
    for name, default in (("amin", 1e-10), ("ref_value", 1.0), ("power_spectrogram", 2), ("param_change_factor", 1.0)):
        fbank.require(name, default, default)
    fbank.require("param_rand_factor", 0.0, 0.0)
    fbank.require("freeze", True, True)
    level = "decibels" if fbank.take("log_mel", bool, True) else "linear"
    # Their training obeys it; a logarithm of decibels makes no sense.
    if file.get("use_log1p_mel"):
        if level == "decibels":
            raise CheckpointError(f"{file.path}: use_log1p_mel and log_mel are both true; one of them must be false")
        level = "log1p"
    mels = {
        "num_mels": fbank.take("n_mels", int, 40),
        "min_hz": fbank.take("f_min", float, 0.0),
        "max_hz": fbank.take("f_max", float, 8000.0),
        "range_db": fbank.take("top_db", float, 80.0),
        "filters": "symmetric",
        "level": level,
    }
    fbank.finish()
    return mels
