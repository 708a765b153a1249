"""Which of the shipped models a verb uses when none is named."""

from __future__ import annotations

import dataclasses
import json
from typing import TYPE_CHECKING

from auriscope.errors import AuriscopeError
from auriscope.pretrained.addresses import list_shipped, resolve
from auriscope.pretrained.files import read_config

if TYPE_CHECKING:
    from auriscope.pretrained.model import Model
    from auriscope.signal.vocoding import MelConfig

DEFAULT_SEPARATORS: dict[int, str] = {
    1: "separation/twostep.enhance",
    2: "separation/bandsplit.mini",
    3: "separation/bandsplit.mini-3",
}
"""Number of talkers to the address of the shipped model that separates them best; one: that enhances best."""


DEFAULT_RECOGNIZER = "recognition/conformer-ctc.en"
"""The shipped recogniser of English."""

DEFAULT_LANGUAGE_MODELS: dict[str, str] = {DEFAULT_RECOGNIZER: "recognition/word-ngram.en"}
"""Address of a shipped recogniser to that of the shipped language model which it is decoded with."""

DEFAULT_EMBEDDER = "speaker/ecapa.mini"
"""The shipped speaker model."""

DEFAULT_CLASSIFIER = "classification/cnn.sound-events"
"""The shipped classifier of sound events."""

DEFAULT_CROSSMODAL = "crossmodal/clap.mini"
"""The shipped model of sounds and texts."""

PUBLISHED_CROSSMODAL = "hf://laion/clap-htsat-unfused"
"""A large published model of sounds and texts."""

PUBLISHED_CLASSIFIER = "hf://speechbrain/cnn14-esc50"
"""A large published classifier of sounds."""

PUBLISHED_EMBEDDER = "hf://speechbrain/spkrec-ecapa-voxceleb"
"""A large published speaker model."""

PUBLISHED_RECOGNIZER = "hf://facebook/wav2vec2-base-960h"
"""A large published model of English, for whoever has the network and the time."""


def default_separator(num_speakers: int) -> str:
    """Give the address of the model for a number of talkers.

    Raises ``AuriscopeError`` when none is shipped.
    """
    shipped = [model.address for model in list_shipped() if model.room == "separation"]
    chosen = DEFAULT_SEPARATORS.get(num_speakers)
    if chosen in shipped:
        return chosen
    for address in shipped:
        if read_config(resolve(address))["config"].get("num_sources") == num_speakers:
            return address
    what = "enhances" if num_speakers == 1 else f"separates {num_speakers} talkers"
    raise AuriscopeError(
        f"no model that {what} is installed; train one (auriscope train) and name its folder with --model"
    )


def require_separator(model: Model, address: str) -> None:
    """Raise ``AuriscopeError`` if the model at an address is not one that separates."""
    if not model.name.startswith("separation/"):
        raise AuriscopeError(f"{address} is not a separation model; see `auriscope models`")
    if model.instead:
        raise AuriscopeError(f"{address} {model.instead} and does not separate; see `auriscope models`")


def default_recognizer() -> str | None:
    """Give the address of the recogniser that is used when none is named; None when none is shipped."""
    return DEFAULT_RECOGNIZER if _is_shipped(DEFAULT_RECOGNIZER) else None


def default_language_model(recognizer: str) -> str | None:
    """Give the address of the language model that a recogniser ships with, or None."""
    address = DEFAULT_LANGUAGE_MODELS.get(recognizer)
    return address if address is not None and _is_shipped(address) else None


def default_embedder() -> str:
    """Give the address of the speaker model that is used when none is named.

    Raises ``AuriscopeError`` when none is shipped.
    """
    return _shipped_or(DEFAULT_EMBEDDER, "speaker model", PUBLISHED_EMBEDDER)


def default_classifier() -> str:
    """Give the address of the classifier that is used when none is named.

    Raises ``AuriscopeError`` when none is shipped.
    """
    return _shipped_or(DEFAULT_CLASSIFIER, "classifier of sound events", PUBLISHED_CLASSIFIER)


def _shipped_or(address: str, what: str, published: str) -> str:
    """Give an address if a model of it ships; else raise an error that names a published one."""
    if _is_shipped(address):
        return address
    raise AuriscopeError(
        f"no {what} is installed; name one as the model: the folder of one that was trained, or {published}"
    )


def default_crossmodal() -> str:
    """Give the address of the model of sounds and texts that is used when none is named.

    Raises ``AuriscopeError`` when none is shipped.
    """
    if _is_shipped(DEFAULT_CROSSMODAL):
        return DEFAULT_CROSSMODAL
    raise AuriscopeError(
        "no model of sounds and texts is installed; name one as the model: the folder of one that was trained, or "
        f"{PUBLISHED_CROSSMODAL}"
    )


def _is_shipped(address: str) -> bool:
    return address in {model.address for model in list_shipped()}


def default_synthesizer(*, voices: bool) -> str:
    """Give the address of the shipped synthesiser, of one voice or of the voice of any clip.

    Where all that ship need a clip, it is one of those also without ``voices``. Raises ``AuriscopeError`` when none is
    shipped.
    """
    found: dict[bool, str] = {}
    for model in list_shipped():
        if model.room == "synthesis":
            size = read_config(resolve(model.address))["config"].get("voice_dim")
            # Vocoders have none.
            if size is not None:
                found.setdefault(bool(size), model.address)
    if voices in found or found.get(True):
        return found.get(voices) or found[True]
    what = "speaks in the voice of a clip" if voices else "speaks"
    raise AuriscopeError(f"no model that {what} is installed; train one (auriscope train) and name it with --model")


def default_vocoder(synthesizer: str, mel: MelConfig) -> str | None:
    """Give the address of the shipped vocoder that reads the mels of a synthesiser; None if there is none.

    The one of the same name behind the point goes first: ``synthesis/hifigan.en`` with ``synthesis/tacotron2.en``.
    """
    wanted = json.loads(json.dumps(dataclasses.asdict(mel)))
    found = []
    for model in list_shipped():
        if model.room == "synthesis":
            config = read_config(resolve(model.address))["config"]
            if "voice_dim" not in config and config.get("mel") == wanted:
                found.append(model.address)
    name = synthesizer.rpartition(".")[2]
    return min(found, key=lambda address: (address.rpartition(".")[2] != name, address), default=None)
