"""The verb ``separate``: recordings in, one track per talker out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from auriscope.errors import AuriscopeError
from auriscope.separation.counting import SpeakerCount
from auriscope.separation.joining import Fingerprint
from auriscope.separation.long import LongConfig, Separator
from auriscope.separation.precision import Precision
from auriscope.verbs.batch import ProgressCallback, StrPath
from auriscope.verbs.defaults import default_separator
from auriscope.verbs.talkers import TalkerCounter
from auriscope.verbs.tracks import Choice, Named, TrackJob, TrackResult, run_batch

RECORD = "separate.json"
"""Written beside the tracks: what they were made from and with, so that a second call need not do it again."""

MAX_SPEAKERS = 3


@dataclass(frozen=True)
class SeparateResult(TrackResult):
    """What separating one recording gave; see :class:`~auriscope.verbs.tracks.TrackResult`.

    ``at_least`` is true where there may be more than ``num_speakers`` talkers. ``enhancer`` is the address of the model
    that took the noise off before, None where none did.
    """

    num_speakers: int | None = None
    at_least: bool = False
    enhancer: str | None = None


def separate(
    inputs: StrPath | Iterable[StrPath],
    out: StrPath,
    *,
    model: StrPath | Separator | None = None,
    speakers: int | Literal["auto"] | None = None,
    enhancer: StrPath | Separator | bool = False,
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
        speakers: 1, 2, 3, or "auto" to count them in each recording; by default as many as ``model`` separates, or 2.
        enhancer: what takes noise and late reverberation off the recording before it is separated, and writes that
            beside the tracks, as ``enhanced.wav``: address of a model of one source, the model, or True for the
            shipped one.
        channel: the channel to take, counted from 0; by default all are mixed down.
        config: how long recordings are cut and joined.
        fingerprint: tells voices apart across silences; see ``separate_stream``.
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
        **options: Any,
    ) -> None:
        super().__init__(**options)
        if speakers not in (None, "auto", *range(1, MAX_SPEAKERS + 1)):
            raise AuriscopeError(f"speakers must be 1 to {MAX_SPEAKERS} or auto, not {speakers}")
        self._given = None if model is None else self.given(model)
        self._enhancer = None if enhancer is False else self.enhancer(None if enhancer is True else enhancer)
        self._speakers = speakers
        self._counter: TalkerCounter | None = None
        self._check()

    def _check(self) -> None:
        """Load what every file will need, so that a mistake in the settings is told once and before any work."""
        given = None if self._given is None else int(self._given[1].config.num_sources)
        if self._speakers is None:
            self._speakers = 2 if given is None else given
        if self._speakers == "auto":
            self._counter = TalkerCounter.shipped(self.load)
            if given is None:
                for number in range(2, MAX_SPEAKERS + 1):
                    self._separator(number)
        elif given is not None and given != self._speakers:
            assert self._given is not None
            raise AuriscopeError(
                f"{self._given[0]} separates {given} talkers, not {self._speakers}; choose another model or number"
            )
        else:
            self._separator(self._speakers)

    def _separator(self, num_speakers: int) -> Named | None:
        """Give the model for a number of talkers; None where there is nothing to separate."""
        if self._given is not None and (num_speakers > 1 or int(self._given[1].config.num_sources) == 1):
            return self._given
        if num_speakers == 1:
            return None
        try:
            address = default_separator(num_speakers)
        except AuriscopeError:
            if self._speakers != "auto" or num_speakers == 2:
                raise
            # Counted, but not to be had: the nearest model does, and the result says so.
            return self._separator(num_speakers - 1)
        return address, self.load(address)

    def settings(self) -> dict[str, Any]:
        """The number of talkers, and the enhancer."""
        return {"speakers": self._speakers, "enhancer": None if self._enhancer is None else self._enhancer[0]}

    def choose(self, path: Path, report: Callable[[str, float], None]) -> Choice:
        """Count the talkers if need be, and choose the model for so many."""
        count, warnings = self._count(path, report)
        model = self._separator(count.count)
        num_tracks = 1 if model is None else int(model[1].config.num_sources)
        if model is not None and num_tracks != count.count:
            warnings.append(f"{count.count} talkers were counted, but {model[0]} separates {num_tracks}")
        enhancer = None if self._enhancer is None else self._enhancer[0]
        return Choice(
            model,
            tuple(f"track{number + 1}.wav" for number in range(num_tracks)),
            self._enhancer,
            {"num_speakers": count.count, "at_least": count.at_least, "enhancer": enhancer},
            tuple(warnings),
        )

    def _count(self, path: Path, report: Callable[[str, float], None]) -> tuple[SpeakerCount, list[str]]:
        if self._counter is None:
            assert isinstance(self._speakers, int)
            return SpeakerCount(self._speakers), []
        report("counting talkers", 0.0)
        count = self._counter.count(path, channel=self.channel)
        warnings = []
        if count.at_least:
            warnings.append(f"there are at least {count.count} talkers; more than {count.count} cannot be separated")
        return count, warnings
