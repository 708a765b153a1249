"""What the verbs that write tracks share: recordings stream through models into WAV files, each folder with a record.

A verb says with a :class:`TrackJob` which model a recording gets and what its tracks are called; many files, earlier
results, warnings, and leaving nothing half-written are the same for all.
"""

from __future__ import annotations

import dataclasses
import os
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Generic, TypeVar

from auriscope.errors import AuriscopeError
from auriscope.pretrained import load
from auriscope.pretrained.addresses import weights_sha256
from auriscope.separation.joining import Array, Fingerprint
from auriscope.separation.long import LongConfig, Separator, separate_stream
from auriscope.separation.precision import with_precision
from auriscope.signal.files import AudioReader, AudioWriter
from auriscope.signal.levels import LevelMeter
from auriscope.verbs.batch import (
    FileResult,
    Progress,
    ProgressCallback,
    StrPath,
    collected,
    each,
    expand_inputs,
    folder_aside,
    read_record,
    result_folders,
    source_of,
    write_record,
)
from auriscope.verbs.defaults import default_separator, require_separator
from auriscope.verbs.diarizer import beside
from auriscope.verbs.talkers import TalkerTracks

ENHANCED = "enhanced.wav"
"""The recording without noise and late reverberation, as ``enhance`` and ``--enhance`` write it."""

_FORMAT_VERSION = 1
_BLOCK_FRAMES = 1 << 16
_SHORT_SECONDS = 0.1
_CLIPPED_FRACTION = 1e-4
_WEAK_TRACK_DB = 25.0

Named = tuple[str, Separator]
"""A model and its address."""


@dataclass(frozen=True)
class TrackResult(FileResult):
    """What a verb made of one recording.

    ``input`` is the path as given, ``model`` the address of the model (None where there was nothing to do), ``tracks``
    the written files at ``sample_rate``, which is the recording's. ``resumed``: an earlier call had done it already.
    Where ``error`` is not None it says in one line why there are no tracks.
    """

    input: str
    model: str | None = None
    sample_rate: int | None = None
    tracks: tuple[str, ...] = ()
    duration_seconds: float | None = None
    warnings: tuple[str, ...] = ()
    resumed: bool = False
    error: str | None = None


Result = TypeVar("Result", bound=TrackResult)


@dataclass(frozen=True)
class Choice:
    """What a recording gets: a model or none, an enhancer before it or none, the names of the tracks, and what the
    result says besides. ``talkers`` makes tracks of the model's outputs where there are more talkers than outputs."""

    model: Named | None
    names: tuple[str, ...]
    enhancer: Named | None = None
    talkers: TalkerTracks | None = None
    facts: dict[str, Any] = field(default_factory=dict)
    warnings: tuple[str, ...] = ()


class TrackJob(ABC, Generic[Result]):
    """The settings of one call and the models it has loaded."""

    record: ClassVar[str]
    stage: ClassVar[str]
    purpose: ClassVar[str]
    result: type[Result]

    def __init__(
        self,
        *,
        channel: int | None,
        config: LongConfig | None,
        fingerprint: Fingerprint | None,
        device: Any,
        offline: bool | None,
        force: bool,
        precision: str = "fp32",
    ) -> None:
        self.channel, self.config, self.fingerprint, self.force = channel, config or LongConfig(), fingerprint, force
        self._device, self._offline, self._precision = device, offline, precision
        self.loaded: dict[str, Separator] = {}
        self.nameless = fingerprint is not None
        """Whether something was given that no record can name."""

    @abstractmethod
    def choose(self, path: Path, report: Callable[[str, float], None]) -> Choice:
        """Choose what is done with a recording."""

    @abstractmethod
    def settings(self) -> dict[str, Any]:
        """Say what a result depends on besides its source, the models and how the recording is cut."""

    def load(self, address: str) -> Separator:
        """Load a separation model once."""
        if address not in self.loaded:
            loaded = load(address, device=self._device, offline=self._offline)
            require_separator(loaded, address)
            self.loaded[address] = with_precision(loaded, self._precision)
        return self.loaded[address]

    def given(self, model: StrPath | Separator) -> Named:
        """Give a model that was given by its address, or itself, a name."""
        if isinstance(model, str | os.PathLike):
            return os.fspath(model), self.load(os.fspath(model))
        self.nameless = True
        return getattr(model, "name", type(model).__name__), model

    def enhancer(self, model: StrPath | Separator | None) -> Named:
        """Give the enhancer that is asked for, or the shipped one; ``AuriscopeError`` if it is none."""
        named = self.given(default_separator(1) if model is None else model)
        num_sources = int(named[1].config.num_sources)
        if num_sources != 1:
            raise AuriscopeError(
                f"{named[0]} separates {num_sources} talkers and does not enhance; choose a model of one source"
            )
        return named

    def run(self, path: Path, folder: Path, report: Callable[[str, float], None]) -> Result:
        """Make the tracks of one file in its folder."""
        source = source_of(path)
        settings = self._all_settings()
        earlier = read_record(folder, self.record)
        if settings is not None and not self.force:
            done = self._resumed(path, folder, earlier, source, settings)
            if done is not None:
                return done
        with AudioReader(path, channel=self.channel) as reader, folder_aside(folder) as aside:
            choice = self.choose(path, report)
            found = self._write_tracks(reader, aside, choice, report)
            result = self.result(
                input=os.fspath(path),
                model=None if choice.model is None else choice.model[0],
                sample_rate=reader.info.sample_rate,
                tracks=choice.names,
                duration_seconds=reader.info.duration_seconds,
                warnings=(*choice.warnings, *found),
                **choice.facts,
            )
            record = {
                "format_version": _FORMAT_VERSION,
                "source": source,
                "settings": settings,
                "sounds": [ENHANCED] if choice.enhancer else [],
                **result.to_dict(),
            }
            write_record(aside / self.record, record)
        kept = (*choice.names, *([ENHANCED] if choice.enhancer else []))
        for name in (*(earlier or {}).get("tracks", []), *(earlier or {}).get("sounds", [])):
            if name not in kept and Path(name).name == name:
                with suppress(OSError):
                    (folder / name).unlink()
        return self._placed(result, folder)

    def _all_settings(self) -> dict[str, Any] | None:
        """Say what a result depends on besides its source; None where that cannot be written down."""
        if self.nameless:
            return None
        return {
            **self.settings(),
            "channel": self.channel,
            "config": dataclasses.asdict(self.config),
            "precision": self._precision,
            "weights": {address: weights_sha256(address, offline=self._offline) for address in sorted(self.loaded)},
        }

    def _write_tracks(
        self, reader: AudioReader, aside: Path, choice: Choice, report: Callable[[str, float], None]
    ) -> list[str]:
        """Stream the recording through the models; return the warnings."""
        rate = reader.info.sample_rate
        meter = LevelMeter()
        blocks = _metered(reader.blocks(_BLOCK_FRAMES), meter)
        meters = [LevelMeter() for _ in choice.names]
        with ExitStack() as stack:
            if choice.enhancer is not None:
                enhanced = self._stream(blocks, choice.enhancer, rate)
                blocks = _written(enhanced, stack.enter_context(AudioWriter(aside / ENHANCED, rate)))
            writers = [stack.enter_context(AudioWriter(aside / name, rate)) for name in choice.names]
            for block in self._tracks(blocks, choice, rate, aside, report):
                for writer, track_meter, track in zip(writers, meters, block, strict=True):
                    writer.write(track)
                    track_meter.update(track)
                report(self.stage, meters[0].num_samples / max(1, reader.info.num_frames))
        return self._warnings(meter, meters, rate)

    def _tracks(
        self, blocks: Iterable[Array], choice: Choice, rate: int, aside: Path, report: Callable[[str, float], None]
    ) -> Iterator[Array]:
        """Give the tracks, (tracks, time) blocks: what the model makes, or what is made of that."""
        if choice.talkers is None:
            return self._stream(blocks, choice.model, rate)
        sounds = beside(blocks, lambda sound: self._stream(sound, choice.model, rate))
        return choice.talkers.assign(sounds, rate, aside, lambda done: report("telling voices apart", done))

    def _stream(self, blocks: Iterable[Array], model: Named | None, sample_rate: int) -> Iterator[Array]:
        if model is None:
            return (block[None] for block in blocks)
        return separate_stream(
            blocks, model[1], sample_rate=sample_rate, config=self.config, fingerprint=self.fingerprint
        )

    def _warnings(self, mixture: LevelMeter, tracks: list[LevelMeter], sample_rate: int) -> list[str]:
        """Say what a listener should know before trusting the tracks."""
        found = []
        if mixture.is_silent:
            return ["the recording is silent"]
        if mixture.num_samples < _SHORT_SECONDS * sample_rate:
            found.append(f"the recording has only {mixture.num_samples} samples, too few to {self.purpose}")
        if mixture.clipped_fraction > _CLIPPED_FRACTION:
            found.append(
                f"{100.0 * mixture.clipped_fraction:.2g} % of the recording is clipped; tracks will be distorted"
            )
        loudest = max(track.rms_dbfs for track in tracks)
        for number, track in enumerate(tracks, start=1):
            if track.rms_dbfs < loudest - _WEAK_TRACK_DB:
                found.append(f"track {number} is almost silent: perhaps fewer talkers than tracks")
        return found

    def _resumed(
        self,
        path: Path,
        folder: Path,
        record: dict[str, Any] | None,
        source: dict[str, Any],
        settings: dict[str, Any],
    ) -> Result | None:
        """Give the result of an earlier call, if it was made from this file with these settings and is still there."""
        if record is None or record.get("format_version") != _FORMAT_VERSION:
            return None
        # Through JSON and back, because tuples become lists there.
        if record.get("source") != source or record.get("settings") != settings:
            return None
        fields = {entry.name for entry in dataclasses.fields(self.result)}
        values = {key: value for key, value in record.items() if key in fields}
        names = [*values.get("tracks", []), *record.get("sounds", [])]
        if not values.get("tracks") or not all((folder / name).is_file() for name in names):
            return None
        values |= {
            "input": os.fspath(path),
            "tracks": tuple(values["tracks"]),
            "warnings": tuple(values["warnings"]),
            "resumed": True,
        }
        return self._placed(self.result(**values), folder)

    def _placed(self, result: Result, folder: Path) -> Result:
        """Give a result whose tracks are named by their paths."""
        return dataclasses.replace(result, tracks=tuple(os.fspath(folder / name) for name in result.tracks))


def run_batch(
    job: TrackJob[Result],
    inputs: StrPath | Iterable[StrPath],
    out: StrPath,
    progress: ProgressCallback | None,
    on_result: Callable[[Result], None] | None,
) -> list[Result]:
    """Make the tracks of every input; one that fails gives a result with an ``error`` and stops no other."""
    paths = expand_inputs(inputs)
    folders = result_folders(paths, out)

    def work(path: Path, index: int) -> Result:
        def report(stage: str, fraction: float) -> None:
            if progress is not None:
                progress(Progress(os.fspath(path), index, len(paths), stage, min(max(fraction, 0.0), 1.0)))

        report(job.stage, 0.0)
        result = job.run(path, folders[index], report)
        report("done", 1.0)
        return result

    return collected(each(paths, work, lambda path, line: job.result(input=os.fspath(path), error=line)), on_result)


def _metered(blocks: Iterable[Array], meter: LevelMeter) -> Iterator[Array]:
    for block in blocks:
        meter.update(block)
        yield block


def _written(blocks: Iterable[Array], writer: AudioWriter) -> Iterator[Array]:
    """Write a stream of (1, time) blocks on its way, and go on with (time,)."""
    for block in blocks:
        writer.write(block[0])
        yield block[0]
