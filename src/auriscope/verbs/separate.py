"""The verb ``separate``: recordings in, one track per talker out."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from auriscope.errors import AuriscopeError
from auriscope.separation.counting import SpeakerCount
from auriscope.separation.joining import Fingerprint
from auriscope.separation.long import LongConfig, Separator
from auriscope.separation.precision import Precision
from auriscope.speaker.embedder import Embedder
from auriscope.verbs.batch import ProgressCallback, StrPath
from auriscope.verbs.defaults import default_embedder, default_separator
from auriscope.verbs.diarizer import Diarizer
from auriscope.verbs.talkers import TalkerCounter, TalkerTracks
from auriscope.verbs.tracks import Choice, Named, TrackJob, TrackResult, run_batch
from auriscope.verbs.voice import VoiceReader

_VOICE_SECONDS = 4.0
"""Who says less is not counted by his voice."""

RECORD = "separate.json"
"""Written beside the tracks: what they were made from and with, so that a second call need not do it again."""

MAX_SPEAKERS = 3
"""So many streams a separator has at most; more talkers share them, and are told apart by their voices."""


@dataclass(frozen=True)
class SeparateResult(TrackResult):
    """What separating one recording gave; see :class:`~auriscope.verbs.tracks.TrackResult`.

    ``at_least`` is true where there may be more than ``num_speakers`` talkers. ``enhancer`` is the address of the model
    that took the noise off before, None where none did. ``embedder`` is the address of the speaker model that told the
    voices apart where there were more talkers than the model has outputs.
    """

    num_speakers: int | None = None
    at_least: bool = False
    enhancer: str | None = None
    embedder: str | None = None


def separate(
    inputs: StrPath | Iterable[StrPath],
    out: StrPath,
    *,
    model: StrPath | Separator | None = None,
    speakers: int | Literal["auto"] | None = None,
    enhancer: StrPath | Separator | bool = False,
    embedder: StrPath | Embedder | None = None,
    channel: int | None = None,
    config: LongConfig | None = None,
    fingerprint: Fingerprint | None = None,
    device: Any = "cpu",
    precision: Precision = "fp32",
    offline: bool | None = None,
    force: bool = False,
    progress: ProgressCallback | None = None,
    on_result: Callable[[SeparateResult], None] | None = None,
) -> list[SeparateResult]:
    """Separate recordings into one track per talker, ``out/<stem>/track1.wav`` and so on.

    Tracks are float WAV at the recording's sample rate and length, at the level that the talkers have in it. A file
    that fails yields a result with an ``error``, leaves nothing behind and stops no other. A file done earlier with the
    same settings is not done again.

    Args:
        inputs: recordings and folders of them; see ``signal.files`` for the formats. Any rate, channels and length.
        out: folder for the results; made if missing.
        model: address of a separation model, or the model; by default the one shipped for the number of talkers.
        speakers: how many talk in each recording, or "auto" to count them; by default as many as ``model`` separates,
            or 2. More than three share the outputs of the model, piece by piece, as their voices are told apart over
            the whole recording.
        enhancer: what takes noise and late reverberation off the recording before it is separated, and writes that
            beside the tracks, as ``enhanced.wav``: address of a model of one source, the model, or True for the
            shipped one.
        embedder: what tells voices apart: it keeps talkers on their tracks, counts them, and shares tracks out where
            there are more talkers than the model has outputs. Address of a speaker model, or the model; by default the
            shipped one, if there is one.
        channel: the channel to take, counted from 0; by default all are mixed down.
        config: how long recordings are cut and joined.
        fingerprint: keeps talkers on their tracks in the embedder's place; see ``separate_stream``.
        device: where the model runs.
        precision: what models given by address compute in: "fp32", "bf16" or "int8"; see ``separation.precision``.
        offline: forbid the network, which only a ``hf://`` address would use.
        force: do again what is already done.
        progress: called as the work goes on.
        on_result: called with each result as soon as there is one.

    Returns:
        One result per recording, in the order of the inputs.

    Raises:
        AuriscopeError: nothing can be done at all: the model cannot be loaded or does not separate that many talkers,
            the enhancer does not enhance, the output folder cannot be written, or an input folder holds no audio.
    """
    job = _Job(
        model,
        speakers,
        enhancer,
        embedder,
        channel=channel,
        config=config,
        fingerprint=fingerprint,
        device=device,
        offline=offline,
        force=force,
        precision=precision,
    )
    return run_batch(job, inputs, out, progress, on_result)


class _Job(TrackJob[SeparateResult]):
    record, stage, purpose, result = RECORD, "separating", "separate", SeparateResult

    def __init__(
        self,
        model: StrPath | Separator | None,
        speakers: int | Literal["auto"] | None,
        enhancer: StrPath | Separator | bool,
        embedder: StrPath | Embedder | None,
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if speakers not in (None, "auto") and not (isinstance(speakers, int) and speakers >= 1):
            raise AuriscopeError(f"speakers must be at least 1, or auto, not {speakers}")
        self._given = None if model is None else self.given(model)
        self._enhancer = None if enhancer is False else self.enhancer(None if enhancer is True else enhancer)
        self._speakers = speakers
        self._counter: TalkerCounter | None = None
        self._diarizer: Diarizer | None = None
        self._voices: VoiceReader | None = None
        self._check(embedder)
        self._listen_for_voices(embedder)

    def _check(self, embedder: StrPath | Embedder | None) -> None:
        """Load what every file will need, so that a mistake in the settings is told once and before any work."""
        given = None if self._given is None else int(self._given[1].config.num_sources)
        if self._speakers is None:
            self._speakers = 2 if given is None else given
        most = MAX_SPEAKERS if given is None else given
        if self._speakers == "auto":
            self._counter = TalkerCounter.shipped(self.load)
            if given is None:
                for number in range(2, MAX_SPEAKERS + 1):
                    self._separator(number)
            with suppress(AuriscopeError) if embedder is None else nullcontext():
                self._load_diarizer(embedder)
        elif self._speakers > MAX_SPEAKERS:
            if most == 1:
                raise AuriscopeError(
                    f"{self._given[0] if self._given else 'the model'} has one output and tells nobody apart; "
                    "choose a model for two or three talkers"
                )
            self._separator(most)
            self._load_diarizer(embedder)
        elif given is not None and given != self._speakers:
            assert self._given is not None
            raise AuriscopeError(
                f"{self._given[0]} separates {given} talkers, not {self._speakers}; choose another model or number"
            )
        else:
            self._separator(self._speakers)

    def _listen_for_voices(self, embedder: StrPath | Embedder | None) -> None:
        """Load what keeps talkers on their tracks, where several are separated and nothing else was handed in.

        Without any speaker model at hand statistics of spectra do.
        """
        if self.fingerprint is not None or not any(int(model.config.num_sources) > 1 for model in self._models()):
            return
        if self._diarizer is not None:
            self._voices = self._diarizer.voices
        else:
            with suppress(AuriscopeError) if embedder is None else nullcontext():
                self._voices = VoiceReader(embedder, device=self._device, offline=self._offline)
        if self._voices is not None:
            self.nameless = self.nameless or self._voices.nameless
            self.fingerprint = self._voices.fingerprint

    def _models(self) -> list[Separator]:
        return [*self.loaded.values(), *([] if self._given is None else [self._given[1]])]

    def _load_diarizer(self, embedder: StrPath | Embedder | None) -> None:
        if embedder is None:
            try:
                embedder = default_embedder()
            except AuriscopeError:
                raise AuriscopeError(
                    f"more than {MAX_SPEAKERS} talkers are told apart by their voices, and no speaker model is "
                    "installed; name one with --embedder"
                ) from None
        self._diarizer = Diarizer(embedder, device=self._device, offline=self._offline)
        self.nameless = self.nameless or self._diarizer.voices.nameless

    def _separator(self, num_speakers: int) -> Named | None:
        """Give the model for a number of talkers; None where there is nothing to separate."""
        if self._given is not None and (num_speakers > 1 or int(self._given[1].config.num_sources) == 1):
            return self._given
        if num_speakers == 1:
            return None
        try:
            address = default_separator(min(num_speakers, MAX_SPEAKERS))
        except AuriscopeError:
            if (self._speakers != "auto" and num_speakers <= MAX_SPEAKERS) or num_speakers == 2:
                raise
            # Counted, but not to be had: the nearest model does, and the result says so.
            return self._separator(min(num_speakers, MAX_SPEAKERS) - 1)
        return address, self.load(address)

    def settings(self) -> dict[str, Any]:
        """The number of talkers, the enhancer, and what tells voices apart."""
        settings: dict[str, Any] = {
            "speakers": self._speakers,
            "enhancer": None if self._enhancer is None else self._enhancer[0],
        }
        if self._voices is not None:
            settings["voices"] = [self._voices.address, self._voices.weights_sha256]
        if self._diarizer is not None:
            settings["diarizer"] = json.loads(json.dumps(self._diarizer.identity))
        return settings

    def choose(self, path: Path, report: Callable[[str, float], None]) -> Choice:
        """Count the talkers if need be, and choose the model for so many."""
        count, warnings = self._count(path, report)
        model = self._separator(count.count)
        num_outputs = 1 if model is None else int(model[1].config.num_sources)
        talkers = None
        if self._diarizer is not None and count.count > MAX_SPEAKERS:
            talkers = TalkerTracks(self._diarizer, count.count)
        elif model is not None and num_outputs != count.count:
            warnings.append(f"{count.count} talkers were counted, but {model[0]} separates {num_outputs}")
        num_tracks = num_outputs if talkers is None else talkers.num_talkers
        enhancer = None if self._enhancer is None else self._enhancer[0]
        return Choice(
            model,
            tuple(f"track{number + 1}.wav" for number in range(num_tracks)),
            self._enhancer,
            talkers,
            {
                "num_speakers": count.count,
                "at_least": count.at_least,
                "enhancer": enhancer,
                "embedder": None if talkers is None or self._diarizer is None else self._diarizer.address,
            },
            tuple(warnings),
        )

    def _count(self, path: Path, report: Callable[[str, float], None]) -> tuple[SpeakerCount, list[str]]:
        if self._counter is None:
            assert isinstance(self._speakers, int)
            return SpeakerCount(self._speakers), []
        report("counting talkers", 0.0)
        count = self._counter.count(path, channel=self.channel)
        warnings = []
        if self._diarizer is not None:
            # Separators show who speaks at once, voices who speaks at all: whichever finds more people is right.
            found = self._diarizer.find(
                path, channel=self.channel, on_progress=lambda done: report("counting talkers", done)
            ).diarization
            number = int((found.speech_seconds >= _VOICE_SECONDS).sum())
            if number > count.count:
                return SpeakerCount(number), []
        if count.at_least:
            warnings.append(f"there are at least {count.count} talkers; more than {count.count} cannot be separated")
        return count, warnings
