"""A recogniser with all that decoding takes, loaded once for many files: what verbs transcribe with."""

from __future__ import annotations

import copy
import dataclasses
import json
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch

from auriscope.errors import AuriscopeError, CheckpointError
from auriscope.pretrained import load
from auriscope.pretrained.addresses import resolve, weights_sha256
from auriscope.pretrained.card import ModelCard
from auriscope.recognition.decoding import DecodingOptions
from auriscope.recognition.long import LongConfig, Transcript, transcribe_waveform
from auriscope.recognition.recognizer import Recognizer
from auriscope.recognition.words import Word
from auriscope.signal.files import AudioReader
from auriscope.verbs.batch import StrPath, source_of
from auriscope.verbs.defaults import PUBLISHED_RECOGNIZER, default_language_model, default_recognizer
from auriscope.verbs.language_models import open_language_model, with_language_model

NO_LANGUAGE_MODEL = "none"
"""Instead of the address of a language model: without the one that ships."""

_BLOCK_FRAMES = 1 << 16


@dataclass(frozen=True)
class TranscriberSettings:
    """What a :class:`Transcriber` is made with; plain values, but for a model that is handed in itself.

    ``model`` and ``language_model`` are addresses; None is what ships. ``language_model`` may also be the file of an
    n-gram over words, or "none". ``lm_weight`` is its weight, None the usual one.
    """

    model: StrPath | Recognizer | None = None
    language_model: StrPath | None = None
    lm_weight: float | None = None
    options: DecodingOptions | None = None
    config: LongConfig | None = None
    channel: int | None = None
    device: Any = "cpu"
    offline: bool | None = None


class Transcriber:
    """A recogniser, loaded, with all that decoding takes.

    Raises ``AuriscopeError`` when it cannot be loaded, is no recogniser, or none is shipped and none was named.
    """

    def __init__(self, settings: TranscriberSettings) -> None:
        self.settings = settings
        self.config = settings.config or LongConfig()
        self.nameless = isinstance(settings.model, Recognizer)
        """Whether a model was given that no record can name."""
        if isinstance(settings.model, Recognizer):
            loaded: Any = settings.model
            self.address = settings.model.name
        else:
            self.address = require_recognizer_address(settings.model)
            loaded = load(self.address, device=settings.device, offline=settings.offline)
        if not isinstance(loaded, Recognizer):
            raise AuriscopeError(f"{self.address} is no recogniser; see `auriscope models`")
        self.recognizer = loaded.eval()
        self.options = settings.options or DecodingOptions()
        self.language_model_address = self._language_model_address()
        self._language_model = None
        if self.language_model_address is not None:
            self._language_model = open_language_model(self.language_model_address, offline=settings.offline)
            if isinstance(self._language_model, torch.nn.Module):
                self._language_model.to(self.recognizer.device)
            self.options = with_language_model(self.options, self._language_model, settings.lm_weight)

    def hearing_everything(self) -> Transcriber:
        """Give the same recogniser, listening to all of a file: for speech that a detector might take for none."""
        found = copy.copy(self)
        found.config = dataclasses.replace(self.config, voice=None)
        found.__dict__.pop("identity", None)
        return found

    def _language_model_address(self) -> str | None:
        given = self.settings.language_model
        if given is None:
            return None if self.nameless else default_language_model(self.address)
        return None if os.fspath(given) == NO_LANGUAGE_MODEL else os.fspath(given)

    @cached_property
    def expected(self) -> str | None:
        """What word error the model's card has, or None."""
        return None if self.nameless else expected_error(self.address, offline=self.settings.offline)

    def introduction(self) -> str:
        """Say in a line which model it is, and what word error its card says to expect."""
        beside = f" and the language model {self.language_model_address}" if self.language_model_address else ""
        says = f"its card says to expect {self.expected}" if self.expected else "nothing is known of its word error"
        return (
            f"transcribing with {self.address}{beside}: {says}; "
            f"a large published model loads with --model {PUBLISHED_RECOGNIZER}"
        )

    @cached_property
    def identity(self) -> dict[str, Any] | None:
        """What a transcript depends on besides its source; None where that cannot be written down."""
        if self.nameless:
            return None
        offline = self.settings.offline
        config = dataclasses.asdict(self.config)
        del config["batch_size"]
        language_model: Any = None
        if self.language_model_address is not None:
            is_file = Path(self.language_model_address).is_file()
            language_model = (
                source_of(Path(self.language_model_address))
                if is_file
                else weights_sha256(self.language_model_address, offline=offline)
            )
        settings = {
            "model": self.address,
            "weights": weights_sha256(self.address, offline=offline),
            "language_model": language_model,
            "options": dataclasses.asdict(self.options),
            "config": config,
            "channel": self.settings.channel,
        }
        # As it will be read back: tuples become lists.
        return dict(json.loads(json.dumps(settings)))

    def read(
        self,
        path: Path,
        *,
        spans: Sequence[tuple[float, float]] | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> Transcript:
        """Transcribe a file; ``on_progress`` is told the done fraction. Raises ``AudioFileError``.

        With ``spans``, (start, end) in seconds, speech is looked for in these stretches alone.
        """
        rate = int(self.recognizer.config.sample_rate)
        with AudioReader(path, sample_rate=rate, channel=self.settings.channel) as reader:
            whole = max(1e-9, reader.info.duration_seconds)
            return transcribe_waveform(
                reader.blocks(_BLOCK_FRAMES),
                self.recognizer,
                config=self.config,
                options=self.options,
                language_model=self._language_model,
                spans=spans,
                on_progress=None if on_progress is None else lambda seconds: on_progress(min(1.0, seconds / whole)),
            )


def require_recognizer_address(model: StrPath | None) -> str:
    """Give the address of the recogniser that is named, or of the shipped one; ``AuriscopeError`` without any."""
    if model is not None:
        return os.fspath(model)
    address = default_recognizer()
    if address is None:
        raise AuriscopeError(
            f"no recogniser is installed; name one as the model: the folder of one that was trained, or "
            f"{PUBLISHED_RECOGNIZER}"
        )
    return address


def expected_error(address: str, *, offline: bool | None = None) -> str | None:
    """Say what a model's card tells to expect: ``"a word error of 35 % (libri_eval50_flac test)"``; None if nothing.

    Of the sets of which a test split was measured only that counts: weights are chosen by the valid one.
    """
    try:
        card = ModelCard.read(resolve(address, offline=offline))
    except CheckpointError:
        return None
    found = []
    for name, value in card.metrics.items():
        kind, _, of = name.partition(" ")
        chosen_by = of.endswith(" valid") and f"{kind} {of.removesuffix(' valid')} test" in card.metrics
        if kind == "word_error_percent" and not chosen_by:
            found.append(f"{value:.0f} % ({of})" if of else f"{value:.0f} %")
    return f"a word error of {', '.join(found)}" if found else None


def rounded_word(word: Word) -> Word:
    """Round a word's times to a millisecond and its confidence to a ten-thousandth: more is not known."""
    start, end = round(word.start_seconds, 3), round(word.end_seconds, 3)
    return Word(word.word, start, end, round(word.confidence, 4))
