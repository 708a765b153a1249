"""A synthesiser, its vocoder and a voice, loaded once for many texts: what verbs speak with."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from auriscope.errors import AuriscopeError
from auriscope.pretrained import load
from auriscope.signal.files import read
from auriscope.signal.levels import is_silent
from auriscope.signal.outputs import printable
from auriscope.signal.vocoding import check_same_mel, speech_mel
from auriscope.speaker.embedder import Embedder
from auriscope.synthesis.bands import BandMeter, BandStatistics
from auriscope.synthesis.griffinlim import GriffinLim, GriffinLimConfig
from auriscope.synthesis.speaking import SpeakConfig, SpokenSentence, alphabet, check_voice, speak
from auriscope.synthesis.synthesizer import Synthesizer
from auriscope.synthesis.vocoder import Vocoder
from auriscope.text.spoken import Spoken, spoken
from auriscope.verbs.batch import StrPath
from auriscope.verbs.defaults import default_synthesizer, default_vocoder
from auriscope.verbs.voice import WINDOW_SECONDS, VoiceReader

GRIFFIN_LIM = "griffin-lim"
"""In the place of a vocoder's address: phases that are looked for, which needs no weights and fits every model."""


@dataclass(frozen=True)
class SayerSettings:
    """What a :class:`Sayer` is made with.

    ``model`` and ``vocoder`` are addresses or models; None is what ships, for the vocoder the one that goes with the
    model. ``voice`` are clips of one voice. ``embedder`` takes the place of the speaker model that the synthesiser
    names.
    """

    model: StrPath | Synthesizer | None = None
    vocoder: StrPath | Vocoder | None = None
    voice: StrPath | Sequence[StrPath] | None = None
    embedder: StrPath | Embedder | None = None
    config: SpeakConfig | None = None
    device: Any = "cpu"
    offline: bool | None = None


class Sayer:
    """All that it takes to speak, loaded.

    Raises ``AuriscopeError`` where a model cannot be loaded or is not what it should be, where the vocoder reads other
    mels than the synthesiser writes, or where no voice can be taken from the clips.
    """

    def __init__(self, settings: SayerSettings) -> None:
        self.settings = settings
        self.config = settings.config or SpeakConfig()
        clips = [settings.voice] if isinstance(settings.voice, str | os.PathLike) else list(settings.voice or ())
        model = settings.model if settings.model is not None else default_synthesizer(voices=bool(clips))
        self.address, self.synthesizer = self._loaded(model, Synthesizer, "synthesizer")
        self.vocoder_address, self.vocoder = self._vocoder()
        check_same_mel(self.synthesizer.config.mel, self.vocoder.config.mel)
        self.clips: tuple[str, ...] = ()
        self.voice: Tensor | None = None
        self.bands: BandStatistics | None = None
        self.warnings: tuple[str, ...] = ()
        if clips:
            self.use_voice(clips)
        check_voice(self.synthesizer, self.voice)

    def use_voice(self, clips: Sequence[StrPath]) -> None:
        """Speak in the voice of clips from now on; errors as of :class:`Sayer`."""
        if not self.synthesizer.config.voice_dim:
            raise AuriscopeError(f"{self.address} has one voice of its own; leave out --voice, or take another model")
        self.voice, self.warnings = voice_of(clips, self._voice_reader)
        self.bands = bands_of(clips, self.synthesizer)
        self.clips = tuple(os.fspath(clip) for clip in clips)

    @property
    def sample_rate(self) -> int:
        """Of the speech, in hertz."""
        return int(self.synthesizer.config.mel.sample_rate)

    def prepare(self, text: str) -> Spoken:
        """Put a text into sentences of words in the letters of the model; ``AuriscopeError`` if nothing is left."""
        return spoken(text, alphabet(self.synthesizer))

    def speak(self, sentences: Sequence[str]) -> Iterator[SpokenSentence]:
        """Speak sentences that :meth:`prepare` gave, each as soon as it is made."""
        return speak(sentences, self.synthesizer, self.vocoder, voice=self.voice, bands=self.bands, config=self.config)

    def _loaded(self, model: Any, kind: type[Any], name: str) -> tuple[str, Any]:
        if isinstance(model, kind):
            return model.name, model.eval()
        loaded = load(model, device=self.settings.device, offline=self.settings.offline)
        if not isinstance(loaded, kind):
            raise AuriscopeError(f"{os.fspath(model)} is no {name}; see `auriscope models`")
        return os.fspath(model), loaded

    def _vocoder(self) -> tuple[str, Vocoder]:
        mel, given = self.synthesizer.config.mel, self.settings.vocoder
        if given is None:
            given = default_vocoder(self.address, mel)
        if given is None or (isinstance(given, str) and given == GRIFFIN_LIM):
            return GriffinLim.name, GriffinLim(GriffinLimConfig(mel=mel)).to(self.settings.device).eval()
        address, vocoder = self._loaded(given, Vocoder, "vocoder")
        return address, vocoder

    @cached_property
    def _voice_reader(self) -> VoiceReader:
        given = self.settings.embedder or self.synthesizer.config.voice_model
        if not given:
            raise AuriscopeError(f"{self.address} does not say which speaker model its voices are of; give one")
        return VoiceReader(given, device=self.settings.device, offline=self.settings.offline)


def voice_of(clips: Sequence[StrPath], reader: VoiceReader) -> tuple[Tensor, tuple[str, ...]]:
    """Take a voice from clips of it: the mean of their embeddings, (dim,) of unit length, and warnings, a line each.

    Raises ``AuriscopeError`` for a clip that cannot be read, is silent, or is shorter than the model needs.
    """
    found, warnings = [], []
    for clip in clips:
        waveform, _ = read(clip, duration_seconds=WINDOW_SECONDS)
        if is_silent(waveform):
            raise AuriscopeError(f"{printable(clip)}: is silent; give a clip in which one person speaks")
        voice = reader.read(clip)
        found.append(torch.from_numpy(voice.embedding))
        warnings += [f"{printable(clip)}: {warning}" for warning in voice.warnings]
    return F.normalize(torch.stack(found).mean(0), dim=0), tuple(warnings)


def bands_of(clips: Sequence[StrPath], synthesizer: Synthesizer) -> BandStatistics | None:
    """Measure the bands of a voice in clips of it; None where they hold too little speech."""
    mel, meter = synthesizer.config.mel, BandMeter()
    for clip in clips:
        heard, _ = read(clip, sample_rate=mel.sample_rate, duration_seconds=WINDOW_SECONDS)
        with torch.no_grad():
            meter.update(speech_mel(torch.from_numpy(heard)[None].to(synthesizer.device), mel)[0])
    return meter.statistics
