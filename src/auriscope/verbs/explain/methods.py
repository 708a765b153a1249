"""Which classifier is explained, and by which method: found by their addresses, and checked against each other."""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from auriscope.classification import ImageClassifier, SoundClassifier
from auriscope.errors import AuriscopeError
from auriscope.interpretation import METHODS, Interpreter, TrainedInterpreter
from auriscope.interpretation.interpreter import require_maps
from auriscope.pretrained import list_shipped, load
from auriscope.pretrained.addresses import resolve, suggest, weights_sha256
from auriscope.pretrained.files import read_config
from auriscope.separation.long import LongConfig, separate_waveform
from auriscope.verbs.batch import StrPath
from auriscope.verbs.defaults import default_classifier, require_separator

UNTRAINED_DEFAULT = "lime"
"""The method where none is named, and the model is a classifier: it needs no training and no hidden maps."""

TRAINED = tuple(name for name, kind in METHODS.items() if issubclass(kind, TrainedInterpreter))
"""The methods that are trained for a classifier."""

UNTRAINED = tuple(name for name in METHODS if name not in TRAINED)
"""The methods that can be used on any classifier at once."""


@dataclass(frozen=True)
class Method:
    """A classifier, and an interpreter of it by the method ``name``.

    ``separate`` makes waveforms (batch, time) at the classifier's rate sources (batch, sources, time), which "lime"
    leaves out. Addresses of what was handed in itself are the names of its architecture, and ``nameless`` then says
    that no record can tell it from others.
    """

    name: str
    classifier: SoundClassifier | ImageClassifier
    interpreter: Interpreter
    classifier_address: str
    interpreter_address: str | None = None
    separator_address: str | None = None
    separate: Callable[[Tensor], Tensor] | None = None
    nameless: bool = False
    offline: bool | None = None

    def settings(self) -> dict[str, Any] | None:
        """What tells this method and these weights from others, for records; None if nothing does."""
        if self.nameless:
            return None
        addresses = {
            "classifier": self.classifier_address,
            "interpreter": self.interpreter_address,
            "separator": self.separator_address,
        }
        weights = {
            f"{kind}_weights": None if address is None else weights_sha256(address, offline=self.offline)
            for kind, address in addresses.items()
        }
        return {"method": self.name, **addresses, **weights}

    @property
    def options(self) -> tuple[str, ...]:
        """The options of the command line that choose the same."""
        if self.interpreter_address is not None:
            found = ["--model", self.interpreter_address, "--classifier", self.classifier_address]
        else:
            found = ["--model", self.classifier_address]
        return (*found, *(("--separator", self.separator_address) if self.separator_address else ()))


def load_method(
    name: str | None,
    *,
    model: StrPath | Any | None = None,
    classifier: StrPath | Any | None = None,
    separator: StrPath | Any | None = None,
    device: Any = "cpu",
    offline: bool | None = None,
) -> Method:
    """Load what explains a classifier; the arguments are those of :func:`auriscope.verbs.explain.explain`.

    Raises ``AuriscopeError`` in one line: there is no such method, a model is missing or of another kind, or the method
    does not go with the classifier.
    """
    if name is not None and name not in METHODS:
        raise AuriscopeError(f"there is no method {name!r}{suggest(name, METHODS)}")
    opened = _Opener(device, offline)
    first = opened(next((each for each in (model, classifier) if each is not None), None) or default_classifier())
    interpreter: Any = None
    if isinstance(first.model, Interpreter):
        interpreter, method = first, first.model
        if name not in (None, method.method):
            raise AuriscopeError(f"{first.address} explains by {method.method}, not by {name}; leave --method out")
        seen = opened(_named_classifier(first) if classifier is None else classifier)
    else:
        seen, kind = first, METHODS[name or UNTRAINED_DEFAULT]
        if model is not None and classifier is not None:
            raise AuriscopeError(f"{first.address} is no interpreter, which would need a classifier; leave that out")
        if issubclass(kind, TrainedInterpreter):
            interpreter = opened(_trained_for(kind, seen.address, offline))
            method = interpreter.model
        else:
            method = kind()
    if not isinstance(seen.model, SoundClassifier | ImageClassifier):
        raise AuriscopeError(f"{seen.address} does not classify sounds or pictures; see `auriscope models`")
    if isinstance(method, TrainedInterpreter):
        method.require(seen.model)
    elif method.needs_maps:
        require_maps(seen.model, method.method)
    separate, split = None, None
    if separator is not None:
        if method.method != "lime" or not isinstance(seen.model, SoundClassifier):
            raise AuriscopeError("tracks of a separator are for lime alone, and recordings; leave --separator out")
        split = opened(separator)
        require_separator(split.model, split.address)
        separate = _separates(split.model, int(seen.model.config.sample_rate))
    return Method(
        method.method,
        seen.model,
        method,
        seen.address,
        None if interpreter is None else interpreter.address,
        None if split is None else split.address,
        separate,
        nameless=any(each is not None and each.handed for each in (seen, interpreter, split)),
        offline=offline,
    )


@dataclass(frozen=True)
class _Opened:
    """A model and its address; ``handed`` says that it was handed in itself."""

    model: Any
    address: str
    handed: bool


@dataclass(frozen=True)
class _Opener:
    """Opens what is a model or the address of one."""

    device: Any
    offline: bool | None

    def __call__(self, given: StrPath | Any) -> _Opened:
        if isinstance(given, str | os.PathLike):
            return _Opened(load(os.fspath(given), device=self.device, offline=self.offline), os.fspath(given), False)
        if isinstance(given, torch.nn.Module):
            given.eval()
        return _Opened(given, getattr(given, "name", type(given).__name__), True)


def _separates(separator: Any, sample_rate: int) -> Callable[[Tensor], Tensor]:
    """Make a separation model something that parts waveforms (batch, time) at a rate: they sum to the waveform."""
    config = LongConfig(level="mixture", consistent=True)

    def separate(waveform: Tensor) -> Tensor:
        tracks = [
            separate_waveform(each.cpu().numpy(), separator, sample_rate=sample_rate, config=config)
            for each in waveform
        ]
        return torch.from_numpy(np.stack(tracks)).to(waveform)

    return separate


def _named_classifier(interpreter: _Opened) -> str:
    """The address of the classifier that a trained interpreter names."""
    named = str(getattr(getattr(interpreter.model, "config", None), "classifier", ""))
    if not named:
        raise AuriscopeError(
            f"{interpreter.address} does not name the classifier that it explains; give it with --classifier"
        )
    return named


def _trained_for(kind: type[Interpreter], classifier: str, offline: bool | None) -> str:
    """The address of the interpreter of a kind that ships for a classifier."""
    for shipped in list_shipped():
        if shipped.room == "interpretation" and shipped.address.startswith(f"interpretation/{kind.method}."):
            named = read_config(resolve(shipped.address, offline=offline))["config"].get("classifier")
            if named == classifier:
                return shipped.address
    raise AuriscopeError(
        f"{kind.method} has to be trained for a classifier, and none that ships explains {classifier}; train one "
        f"(auriscope train recipes/interpretation/…) and name its folder with --model, or choose one of "
        f"{', '.join(UNTRAINED)}"
    )
