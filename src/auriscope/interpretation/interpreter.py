"""What every interpreter is to training and the verbs: a classifier and its input to a mask over that input."""

from __future__ import annotations

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor

from auriscope.errors import AuriscopeError
from auriscope.nn.maps import Classifies, HiddenMaps
from auriscope.pretrained.model import Model

_SMALL = 1e-4
"""Magnitudes below this are their own logarithms, as far as single precision tells."""


@dataclass(frozen=True)
class Interpretation:
    """Which part of an input speaks for a class.

    ``mask`` is (batch, 1, height, width) in [0, 1], ``label`` (batch,) int64.
    The interpretation itself is the mask times the input; of a sound the input is the linear magnitude.
    """

    mask: Tensor
    label: Tensor


class Interpreter(ABC):
    """Base of every interpreter.

    ``method`` is its name on the command line. With ``needs_maps`` it can only explain a classifier that shows its
    hidden maps (:class:`~auriscope.nn.maps.HiddenMaps`).
    """

    method: ClassVar[str] = ""
    needs_maps: ClassVar[bool] = False

    @abstractmethod
    def interpret(self, classifier: Classifies, x: Tensor, label: Tensor | None = None) -> Interpretation:
        """Explain what a classifier makes of a batch.

        Args:
            classifier: in evaluation mode.
            x: (batch, channels, height, width), images in [0, 1] or linear magnitudes (batch, 1, frames, bins).
            label: (batch,) int64, the classes to explain; None: those that the classifier decides for.

        Raises:
            AuriscopeError: the classifier lacks what the interpreter needs, or has no such class.
        """


@dataclass(frozen=True)
class InterpreterConfig:
    """What the configuration of every trained interpreter begins with: which classifier it explains.

    ``classifier`` is its address. What follows is that classifier's, and a recipe leaves it out, since training finds
    it: the number of classes, the channels of its input, those of its hidden maps, earliest first, and the sample rate,
    0 if it sees images.
    """

    classifier: str = ""
    num_classes: int = 10
    in_channels: int = 1
    hidden_channels: tuple[int, ...] = (16, 32, 64)
    sample_rate: int = 0

    def __post_init__(self) -> None:
        if self.num_classes < 2:
            raise ValueError(f"num_classes must be at least 2, not {self.num_classes}: there is nothing to explain")
        if min(self.in_channels, *self.hidden_channels, 1) < 1 or not self.hidden_channels or self.sample_rate < 0:
            raise ValueError("in_channels and hidden_channels must be at least 1, and sample_rate not negative")


@dataclass(frozen=True)
class Seen:
    """What a trained interpreter learns from: a batch, and what its classifier makes of it.

    ``x`` (batch, channels, height, width) is what the classifier saw, ``maps`` are its hidden maps, earliest first, and
    ``logits`` (batch, classes) its logits. ``label`` (batch,) int64 are the classes to explain, and ``source``
    (batch, channels, height, width) is the part of ``x`` that is of the class: ``x`` itself, unless something else was
    mixed into it. The weights of ``classifier`` are frozen, and gradients pass through it.
    """

    x: Tensor
    maps: tuple[Tensor, ...]
    logits: Tensor
    label: Tensor
    source: Tensor
    classifier: HiddenMaps


class TrainedInterpreter(Interpreter, Model):
    """Base of the interpreters that are networks, each trained for one classifier, which they do not hold.

    ``forward(x, maps, label)`` gives the mask; :meth:`losses` is what training lowers.
    """

    needs_maps: ClassVar[bool] = True

    @abstractmethod
    def forward(self, x: Tensor, maps: tuple[Tensor, ...], label: Tensor) -> Tensor:
        """Masks (batch, 1, height, width) in [0, 1].

        ``x`` (batch, channels, height, width) is what the classifier saw, ``maps`` its hidden maps, and ``label``
        (batch,) int64 the classes to explain.
        """

    @abstractmethod
    def losses(self, seen: Seen, index: int) -> dict[str, Tensor]:
        """Losses of a batch by name, scalars; "loss" is what training lowers, and ``index`` the batch's number."""

    def interpret(self, classifier: Classifies, x: Tensor, label: Tensor | None = None) -> Interpretation:
        """Explain what the classifier makes of a batch; see :meth:`Interpreter.interpret`."""
        shows = self.require(classifier)
        with torch.no_grad():
            maps, logits = shows.hidden_and_logits(x)
            label = explained_label(logits, label)
            return Interpretation(self(x, maps, label), label)

    def readable(self, x: Tensor) -> Tensor:
        """What the network reads of an input: log(1 + x) of magnitudes, images as they are."""
        return x.log1p() if self.config.sample_rate else x

    def of_input(self, mask: Tensor, x: Tensor) -> Tensor:
        """Turn a mask over what :meth:`readable` gives of ``x`` into that over ``x`` with the same outcome, in [0, 1].

        A mask m over log(1 + x) leaves (1 + x)^m - 1 of x, which is m x of a small x.
        """
        if not self.config.sample_rate:
            return mask
        return torch.where(x > _SMALL, (mask * x.log1p()).expm1() / x.clamp_min(_SMALL), mask).clamp(0.0, 1.0)

    def begin(self, examples: Iterable[Seen]) -> None:
        """Prepare a network that has just been drawn for training, by the training's first batches; most need not."""

    def require(self, classifier: Classifies) -> HiddenMaps:
        """Give the classifier back if it is as this interpreter's; ``AuriscopeError`` if not."""
        shows = require_maps(classifier, self.method)
        for name, value in facts(shows, type(self.config)).items():
            if value != (own := getattr(self.config, name)):
                raise AuriscopeError(
                    f"the interpreter is of another classifier: its {name} is {own}, and the classifier's {value}; "
                    f"it was trained for {self.config.classifier or 'one that it does not name'}"
                )
        return shows


def facts(classifier: HiddenMaps, config_class: type[Any] = InterpreterConfig) -> dict[str, Any]:
    """What a configuration tells of its classifier, by the names there.

    Besides those of :class:`InterpreterConfig` they are ``num_features``, the values in a frame of a sound or in an
    image, and ``mel_hz``, the lowest and highest frequency of the mels, if the hidden maps are of such.
    """
    config: Any = getattr(classifier, "config", None)
    found: dict[str, Any] = {
        "num_classes": len(classifier.labels),
        "in_channels": 1,
        "hidden_channels": tuple(classifier.hidden_channels),
        "sample_rate": int(getattr(config, "sample_rate", 0)),
        "mel_hz": None,
    }
    if found["sample_rate"]:
        found["num_features"] = config.fft_length // 2 + 1
        if config.num_mels:
            found["mel_hz"] = (float(config.min_hz), float(config.max_hz or config.sample_rate / 2))
    else:
        found["in_channels"] = int(config.channels)
        found["num_features"] = config.channels * config.height * config.width
    known = {field.name for field in dataclasses.fields(config_class)}
    return {name: value for name, value in found.items() if name in known}


def require_maps(classifier: Classifies, method: str) -> HiddenMaps:
    """Give a classifier back that shows its hidden maps; ``AuriscopeError`` for another."""
    if not isinstance(classifier, HiddenMaps):
        name = getattr(classifier, "name", type(classifier).__name__)
        raise AuriscopeError(
            f"{method} needs the hidden maps of a classifier, and {name} has none; lime, gradients, "
            "integrated-gradients and occlusion need none"
        )
    return classifier


def explained_label(logits: Tensor, label: Tensor | None) -> Tensor:
    """The classes (batch,) to explain: ``label``, or if that is None the likeliest of logits (batch, classes).

    Raises ``AuriscopeError`` for a class that there is not, or if there is only one.
    """
    num_classes = logits.shape[1]
    if num_classes < 2:
        raise AuriscopeError("the classifier knows one class only, so that there is no decision to explain")
    if label is None:
        return logits.argmax(1)
    if label.shape != logits.shape[:1] or label.is_floating_point():
        raise ValueError(f"labels {tuple(label.shape)} of {label.dtype} are not a class for each of {len(logits)}")
    if bool(((label < 0) | (label >= num_classes)).any()):
        wrong = int(label[(label < 0) | (label >= num_classes)][0])
        raise AuriscopeError(f"there is no class number {wrong}: the classifier has {num_classes}, from 0")
    return label.to(logits.device)
