"""SpeechBrain's speaker models for VoxCeleb: ``hyperparams.yaml`` and ``embedding_model.ckpt``, x-vector or ECAPA-TDNN.

Everything that ``hyperparams.yaml`` sets of features and network is either obeyed or refused. What stands beside them,
a classifier of the training's speakers and statistics of embeddings, is no part of the model.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from auriscope.errors import CheckpointError
from auriscope.pretrained.foreign import Foreign, Renames, read_parts, rename
from auriscope.pretrained.hyperpyyaml import FILE_NAME, HyperPyYaml, Part

_PART = "embedding_model"
FILE_PATTERNS = (FILE_NAME, f"{_PART}.ckpt")
"""The files of the checkpoints that :func:`recognise` knows."""

# Networks that stand in the same place of SpeechBrain's folders, but tell sounds: the business of classification.
_OF_SOUNDS = ("Cnn14", "Conv2dEncoder_v2")
_KERNELS, _DILATIONS = [5, 3, 3, 3, 1], [1, 2, 3, 4, 1]
ECAPA: Renames = (
    (r"^blocks\.0\.", "first."),
    *((rf"^blocks\.{index + 1}\.", f"block.{index}.") for index in range(3)),
    (r"^block\.(\d)\.tdnn1\.", r"blocks.\1.before."),
    (r"^block\.(\d)\.res2net_block\.blocks\.", r"blocks.\1.groups."),
    (r"^block\.(\d)\.tdnn2\.", r"blocks.\1.after."),
    (r"^block\.(\d)\.se_block\.conv1\.", r"blocks.\1.squeeze."),
    (r"^block\.(\d)\.se_block\.conv2\.", r"blocks.\1.excite."),
    (r"^mfa\.", "aggregate."),
    (r"^asp\.", "pooling."),
    (r"^asp_bn\.norm\.", "pooled_norm."),
    (r"^fc\.conv\.", "project."),
    (r"\b(squeeze|excite)\.conv\.", r"\1."),
    (r"\b(conv|norm)\.(?:conv|norm)\.", r"\1."),
)
"""The weights of an ``ECAPA_TDNN`` as those of our ``ECAPA``."""
XVECTOR: Renames = (
    *((rf"^blocks\.{3 * index}\.conv\.", f"layer.{index}.conv.") for index in range(5)),
    *((rf"^blocks\.{3 * index + 2}\.norm\.", f"layer.{index}.norm.") for index in range(5)),
    (r"^layer\.", "blocks."),
    (r"^blocks\.16\.w\.", "project."),
)
"""The weights of an ``Xvector`` as those of our ``XVector``."""


def recognise(path: Path) -> Foreign | None:
    """Read a speaker model of SpeechBrain's from its folder.

    None when it is none; ``CheckpointError`` when it is, but not whole or not one that can be loaded.
    """
    if not path.is_dir():
        return None
    if not (path / FILE_NAME).is_file():
        if (path / f"{_PART}.ckpt").is_file():
            raise CheckpointError(f"{path}: has an {_PART}.ckpt of SpeechBrain, but not its {FILE_NAME}; copy it there")
        return None
    file = HyperPyYaml.read(path / FILE_NAME)
    members = file.get("modules")
    if not isinstance(members, dict) or _PART not in members:
        return None
    network = file.part("modules", _PART)
    if network.kind in _OF_SOUNDS:
        return None
    readers = {"ECAPA_TDNN": _ecapa, "Xvector": _xvector}
    if network.kind not in readers:
        raise CheckpointError(f"{file.path}: a {network.kind} cannot be loaded; ECAPA_TDNN and Xvector can")
    front = _front(file)
    weights = {name.removeprefix(f"{_PART}."): value for name, value in read_parts(path, [_PART]).items()}
    return readers[network.kind](network, front, weights)


def from_ecapa(weights: Mapping[str, Tensor], config: Mapping[str, Any]) -> Foreign:
    """Translate the weights of an ``ECAPA_TDNN``; ``config`` is what :class:`~auriscope.speaker.ecapa.ECAPA` takes."""
    theirs = {"sum_blocks": False, "norm_aggregated": True, "norm_embedding": False}
    return Foreign("speaker/ecapa", {**theirs, **config}, rename(weights, ECAPA))


def _ecapa(network: Part, front: dict[str, int], weights: Mapping[str, Tensor]) -> Foreign:
    channels = network.take_numbers("channels", [512, 512, 512, 512, 1536])
    if len(channels) != 5 or len(set(channels[:4])) != 1:
        raise network.refused(f"channels: {channels}")
    for name, expected in (("kernel_sizes", _KERNELS), ("dilations", _DILATIONS), ("groups", [1] * 5)):
        if (found := network.take_numbers(name, expected)) != expected:
            raise network.refused(f"{name}: {found}")
    if (activation := network.take_class("activation", "ReLU")) != "ReLU":
        raise network.refused(f"activation: {activation}")
    network.require("global_context", True, True)
    network.require("input_size", front["num_mels"], None)
    config = {
        **front,
        "dim": network.take("lin_neurons", int, 192),
        "channels": channels[0],
        "aggregated_channels": channels[4],
        "scale": network.take("res2net_scale", int, 8),
        "squeeze_channels": network.take("se_channels", int, 128),
        "attention_channels": network.take("attention_channels", int, 128),
    }
    for unused in ("device", "dropout"):
        network.take_any(unused)
    network.finish()
    return from_ecapa(weights, config)


def _xvector(network: Part, front: dict[str, int], weights: Mapping[str, Tensor]) -> Foreign:
    channels = network.take_numbers("tdnn_channels", [512, 512, 512, 512, 1500])
    if len(channels) != 5 or len(set(channels[:4])) != 1:
        raise network.refused(f"tdnn_channels: {channels}")
    for name, expected in (("tdnn_kernel_sizes", [5, 3, 3, 1, 1]), ("tdnn_dilations", [1, 2, 3, 1, 1])):
        if (found := network.take_numbers(name, expected)) != expected:
            raise network.refused(f"{name}: {found}")
    if (activation := network.take_class("activation", "LeakyReLU")) != "LeakyReLU":
        raise network.refused(f"activation: {activation}")
    network.require("tdnn_blocks", 5, 5)
    network.require("in_channels", front["num_mels"], 40)
    config = {
        **front,
        "dim": network.take("lin_neurons", int, 512),
        "channels": channels[0],
        "pooled_channels": channels[4],
    }
    network.take_any("device")
    network.finish()
    return Foreign("speaker/xvector", config, rename(weights, XVECTOR))


def _front(file: HyperPyYaml) -> dict[str, int]:
    """The features, and that they are less the recording's mean."""
    front = file.part("modules", "compute_features").take_fbank()
    norm = file.part("modules", "mean_var_norm")
    norm.require_kind("InputNormalization")
    norm.require("norm_type", "sentence", "global")
    norm.require("std_norm", False, True)
    norm.require("mean_norm", True, True)
    norm.take_any("update_until_epoch")
    norm.finish()
    return front
