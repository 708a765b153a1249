"""The verb ``separate``: recordings in, one track per talker out."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

from auriscope.errors import AuriscopeError
from auriscope.pretrained import load
from auriscope.pretrained.addresses import weights_sha256
from auriscope.separation.counting import SpeakerCount
from auriscope.separation.joining import Array, Fingerprint
from auriscope.separation.long import LongConfig, Separator, separate_stream
from auriscope.signal.files import AudioReader, AudioWriter
from auriscope.signal.levels import LevelMeter
from auriscope.verbs.batch import (
    Progress,
    ProgressCallback,
    StrPath,
    each,
    expand_inputs,
    folder_aside,
    read_record,
    result_folders,
    source_of,
    write_record,
)
from auriscope.verbs.defaults import default_separator
from auriscope.verbs.talkers import TalkerCounter

RECORD = "separate.json"
"""Written beside the tracks: what they were made from and with, so that a second call need not do it again."""

MAX_SPEAKERS = 3
_FORMAT_VERSION = 1
_BLOCK_FRAMES = 1 << 16
_SHORT_SECONDS = 0.1
_CLIPPED_FRACTION = 1e-4
_WEAK_TRACK_DB = 25.0


@dataclass(frozen=True)
class SeparateResult:
    """What separating one recording gave.

    ``input`` is the path as given, ``model`` the address of the model (None where one talker needed no separation),
    ``tracks`` the written files at ``sample_rate``, which is the recording's. ``at_least`` is true where there may be
    more than ``num_speakers`` talkers. ``resumed``: an earlier call had done it already. Where ``error`` is not None it
    says in one line why there are no tracks.
    """

    input: str
    model: str | None = None
    sample_rate: int | None = None
    tracks: tuple[str, ...] = ()
    num_speakers: int | None = None
    at_least: bool = False
    duration_seconds: float | None = None
    warnings: tuple[str, ...] = ()
    resumed: bool = False
    error: str | None = None

    def to_dict(self) -> dict[str, Any]:
        """Give what ``--json`` prints: every field, or ``input`` and ``error`` alone."""
        if self.error is not None:
            return {"input": self.input, "error": self.error}
        return {key: value for key, value in dataclasses.asdict(self).items() if key != "error"}


def separate(
    inputs: StrPath | Iterable[StrPath],
    out: StrPath,
    *,
    model: StrPath | Separator | None = None,
    speakers: int | Literal["auto"] | None = None,
    channel: int | None = None,
    config: LongConfig | None = None,
    fingerprint: Fingerprint | None = None,
    device: Any = "cpu",
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
        channel: the channel to take, counted from 0; by default all are mixed down.
        config: how long recordings are cut and joined.
        fingerprint: tells voices apart across silences; see ``separate_stream``.
        device: where the model runs.
        offline: forbid the network, which only a ``hf://`` address would use.
        force: do again what is already done.
        progress: called as the work goes on.
        on_result: called with each result as soon as there is one.

    Returns:
        One result per recording, in the order of the inputs.

    Raises:
        AuriscopeError: nothing can be done at all: the model cannot be loaded or does not separate that many talkers,
            the output folder cannot be written, or an input folder holds no audio.
    """
    job = _Job(model, speakers, channel, config or LongConfig(), fingerprint, device, offline, force)
    paths = expand_inputs(inputs)
    folders = result_folders(paths, out)

    def work(path: Path, index: int) -> SeparateResult:
        def report(stage: str, fraction: float) -> None:
            if progress is not None:
                progress(Progress(os.fspath(path), index, len(paths), stage, min(max(fraction, 0.0), 1.0)))

        report("separating", 0.0)
        result = job.run(path, folders[index], report)
        report("done", 1.0)
        return result

    results = []
    for result in each(paths, work, lambda path, line: SeparateResult(os.fspath(path), error=line)):
        results.append(result)
        if on_result is not None:
            on_result(result)
    return results


class _Job:
    """The settings of one call and the models it has loaded."""

    def __init__(
        self,
        model: StrPath | Separator | None,
        speakers: int | Literal["auto"] | None,
        channel: int | None,
        config: LongConfig,
        fingerprint: Fingerprint | None,
        device: Any,
        offline: bool | None,
        force: bool,
    ) -> None:
        if speakers not in (None, "auto", *range(1, MAX_SPEAKERS + 1)):
            raise AuriscopeError(f"speakers must be 1 to {MAX_SPEAKERS} or auto, not {speakers}")
        self._config, self._channel, self._fingerprint, self._force = config, channel, fingerprint, force
        self._device, self._offline = device, offline
        self._loaded: dict[str, Separator] = {}
        self._given: tuple[str, Separator] | None = None
        if isinstance(model, str | os.PathLike):
            self._given = os.fspath(model), self._load(os.fspath(model))
        elif model is not None:
            self._given = getattr(model, "name", type(model).__name__), model
        self._speakers = speakers
        self._counter: TalkerCounter | None = None
        self._check()

    def _check(self) -> None:
        """Load what every file will need, so that a mistake in the settings is told once and before any work."""
        given = None if self._given is None else int(self._given[1].config.num_sources)
        if self._speakers is None:
            self._speakers = 2 if given is None else given
        if self._speakers == "auto":
            self._counter = TalkerCounter.shipped(self._load)
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

    def _load(self, address: str) -> Separator:
        if address not in self._loaded:
            loaded = load(address, device=self._device, offline=self._offline)
            if not loaded.name.startswith("separation/"):
                raise AuriscopeError(f"{address} is not a separation model; see `auriscope models`")
            self._loaded[address] = loaded
        return self._loaded[address]

    def _separator(self, num_speakers: int) -> tuple[str, Separator] | None:
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
        return address, self._load(address)

    def run(self, path: Path, folder: Path, report: Callable[[str, float], None]) -> SeparateResult:
        """Separate one file into its folder."""
        source = source_of(path)
        settings = self._settings()
        earlier = read_record(folder, RECORD)
        if settings is not None and not self._force:
            done = _resumed(path, folder, earlier, source, settings)
            if done is not None:
                return done
        with AudioReader(path, channel=self._channel) as reader, folder_aside(folder) as aside:
            count, warnings = self._count(path, report)
            model = self._separator(count.count)
            names, found = self._write_tracks(reader, aside, model, report)
            if model is not None and int(model[1].config.num_sources) != count.count:
                warnings.append(
                    f"{count.count} talkers were counted, but {model[0]} separates {model[1].config.num_sources}"
                )
            result = SeparateResult(
                input=os.fspath(path),
                model=None if model is None else model[0],
                sample_rate=reader.info.sample_rate,
                tracks=tuple(names),
                num_speakers=count.count,
                at_least=count.at_least,
                duration_seconds=reader.info.duration_seconds,
                warnings=(*warnings, *found),
            )
            record = {"format_version": _FORMAT_VERSION, "source": source, "settings": settings, **result.to_dict()}
            write_record(aside / RECORD, record)
        for name in (earlier or {}).get("tracks", []):
            if name not in names and Path(name).name == name:
                with suppress(OSError):
                    (folder / name).unlink()
        return dataclasses.replace(result, tracks=tuple(os.fspath(folder / name) for name in names))

    def _settings(self) -> dict[str, Any] | None:
        """Say what a result depends on besides its source; None where that cannot be written down."""
        if self._fingerprint is not None or (self._given is not None and self._given[0] not in self._loaded):
            return None
        return {
            "speakers": self._speakers,
            "channel": self._channel,
            "config": dataclasses.asdict(self._config),
            "weights": {
                address: weights_sha256(address, offline=self._offline) for address in sorted(self._loaded)
            },
        }

    def _count(self, path: Path, report: Callable[[str, float], None]) -> tuple[SpeakerCount, list[str]]:
        if self._counter is None:
            assert isinstance(self._speakers, int)
            return SpeakerCount(self._speakers), []
        report("counting talkers", 0.0)
        count = self._counter.count(path, channel=self._channel)
        warnings = []
        if count.at_least:
            warnings.append(f"there are at least {count.count} talkers; more than {count.count} cannot be separated")
        return count, warnings

    def _write_tracks(
        self,
        reader: AudioReader,
        aside: Path,
        model: tuple[str, Separator] | None,
        report: Callable[[str, float], None],
    ) -> tuple[list[str], list[str]]:
        """Stream the recording through the model; return the tracks' names and the warnings."""
        rate = reader.info.sample_rate
        meter = LevelMeter()
        blocks = _metered(reader.blocks(_BLOCK_FRAMES), meter)
        if model is None:
            tracks: Iterator[Array] = (block[None] for block in blocks)
            num_tracks = 1
        else:
            num_tracks = int(model[1].config.num_sources)
            tracks = separate_stream(
                blocks, model[1], sample_rate=rate, config=self._config, fingerprint=self._fingerprint
            )
        names = [f"track{number + 1}.wav" for number in range(num_tracks)]
        meters = [LevelMeter() for _ in names]
        with ExitStack() as stack:
            writers = [stack.enter_context(AudioWriter(aside / name, rate)) for name in names]
            for block in tracks:
                for writer, track_meter, track in zip(writers, meters, block, strict=True):
                    writer.write(track)
                    track_meter.update(track)
                report("separating", meters[0].num_samples / max(1, reader.info.num_frames))
        return names, _warnings(meter, meters, rate)


def _metered(blocks: Iterable[Array], meter: LevelMeter) -> Iterator[Array]:
    for block in blocks:
        meter.update(block)
        yield block


def _warnings(mixture: LevelMeter, tracks: list[LevelMeter], sample_rate: int) -> list[str]:
    """Say what a listener should know before trusting the tracks."""
    found = []
    if mixture.is_silent:
        return ["the recording is silent"]
    if mixture.num_samples < _SHORT_SECONDS * sample_rate:
        found.append(f"the recording has only {mixture.num_samples} samples, too few to separate")
    if mixture.clipped_fraction > _CLIPPED_FRACTION:
        found.append(f"{100.0 * mixture.clipped_fraction:.2g} % of the recording is clipped; tracks will be distorted")
    loudest = max(track.rms_dbfs for track in tracks)
    for number, track in enumerate(tracks, start=1):
        if track.rms_dbfs < loudest - _WEAK_TRACK_DB:
            found.append(f"track {number} is almost silent: perhaps fewer talkers than tracks")
    return found


def _resumed(
    path: Path, folder: Path, record: dict[str, Any] | None, source: dict[str, Any], settings: dict[str, Any]
) -> SeparateResult | None:
    """Give the result of an earlier call, if it was made from this file with these settings and is still there."""
    if record is None or record.get("format_version") != _FORMAT_VERSION:
        return None
    # Through JSON and back, because tuples become lists there.
    if record.get("source") != source or record.get("settings") != settings:
        return None
    fields = {field.name for field in dataclasses.fields(SeparateResult)}
    values = {key: value for key, value in record.items() if key in fields}
    tracks = tuple(os.fspath(folder / name) for name in values.get("tracks", []))
    if not tracks or not all(Path(track).is_file() for track in tracks):
        return None
    values |= {"input": os.fspath(path), "tracks": tracks, "warnings": tuple(values["warnings"]), "resumed": True}
    return SeparateResult(**values)
