"""Decoded audio on disk: decode a corpus once, then read any stretch of any clip at memory speed."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from auriscope.data.corpora import Clip
from auriscope.errors import CorpusError
from auriscope.signal import files

FloatArray = NDArray[np.float32]

_LAYOUT = 1  # part of every key: raise it when the stored form changes
_SCALE = 32767.0
_DECODERS = 4


def cache_folder() -> Path:
    """Return the folder of everything that can be made again: ``AURISCOPE_CACHE``, or ``~/.cache/auriscope``."""
    value = os.environ.get("AURISCOPE_CACHE", "")
    return Path(value).expanduser().absolute() if value else Path.home() / ".cache" / "auriscope"


class ClipStore(Protocol):
    """Numbered clips of one sample rate, read from memory or from files by any number of threads."""

    sample_rate: int

    def __len__(self) -> int:
        """Return the number of clips."""
        ...

    def num_frames(self, clip: int) -> int:
        """Return the length of a clip in samples."""
        ...

    def read(self, clip: int, start_frame: int = 0, num_frames: int | None = None) -> FloatArray:
        """Return (time,) float32 of a clip; shorter than ``num_frames`` where the clip ends."""
        ...


class AudioStore:
    """Clips of one sample rate, as 16-bit samples one after the other.

    ``samples`` is (all frames,) int16, mapped from disk or in memory; ``offsets`` is (clips + 1,) int64. Reading is
    safe from any number of threads.
    """

    def __init__(self, samples: NDArray[np.int16], offsets: NDArray[np.int64], sample_rate: int) -> None:
        self.samples = samples
        self.offsets = offsets
        self.sample_rate = sample_rate

    def __len__(self) -> int:
        return len(self.offsets) - 1

    def num_frames(self, clip: int) -> int:
        """Return the length of a clip in samples."""
        return int(self.offsets[clip + 1] - self.offsets[clip])

    def read(self, clip: int, start_frame: int = 0, num_frames: int | None = None) -> FloatArray:
        """Return (time,) float32 in [-1, 1] of a clip; shorter than ``num_frames`` where the clip ends."""
        first, last = int(self.offsets[clip]) + start_frame, int(self.offsets[clip + 1])
        if num_frames is not None:
            last = min(last, first + num_frames)
        return self.samples[first:last] * np.float32(1.0 / _SCALE)

    @classmethod
    def of(cls, waveforms: Iterable[NDArray[np.floating]], sample_rate: int) -> AudioStore:
        """Build a store in memory from waveforms (time,) in [-1, 1]."""
        coded = [_code(waveform) for waveform in waveforms]
        offsets = np.cumsum([0, *map(len, coded)], dtype=np.int64)
        return cls(np.concatenate(coded) if coded else np.zeros(0, np.int16), offsets, sample_rate)


def open_clips(
    clips: Sequence[Clip],
    *,
    sample_rate: int,
    name: str,
    folder: Path | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> AudioStore:
    """Open the clips as a store at ``sample_rate``, decoding them on first use.

    The stored copy is found by the names, sizes and offsets of the clips and the bytes of their manifests, never by
    where the corpora lie: a moved corpus finds its cache again, and a changed one is decoded anew. ``progress`` is
    called with (clips decoded, clips in all). Raises :class:`~auriscope.errors.CorpusError` or
    :class:`~auriscope.errors.AudioFileError` when a file is missing or cannot be decoded, or the cache not written.
    """

    def waveforms() -> Iterator[FloatArray]:
        for number, waveform in enumerate(_decoded(clips, sample_rate), start=1):
            yield waveform
            if progress is not None:
                progress(number, len(clips))

    return open_store(waveforms, key=_key(clips, sample_rate), sample_rate=sample_rate, name=name, folder=folder)


def open_store(
    waveforms: Callable[[], Iterable[FloatArray]],
    *,
    key: str,
    sample_rate: int,
    name: str,
    folder: Path | None = None,
) -> AudioStore:
    """Open the store with this key in the cache, making it from ``waveforms()`` when it is not there.

    It is written aside and renamed, so that a killed or concurrent maker never leaves half a store behind.
    """
    home = (folder or cache_folder()) / "audio"
    place = home / f"{name}-{sample_rate}-{key[:16]}"
    if not (place / "store.json").is_file():
        try:
            home.mkdir(parents=True, exist_ok=True)
            aside = Path(tempfile.mkdtemp(prefix=f".{name}-", dir=home))
        except OSError as error:
            raise CorpusError(f"{home}: cannot write decoded audio: {error}; set AURISCOPE_CACHE") from error
        try:
            _write(aside, waveforms(), sample_rate)
            try:
                aside.rename(place)
            except OSError:
                # Another process was faster: its store has the same key, hence the same content.
                if not (place / "store.json").is_file():
                    raise
        except OSError as error:
            raise CorpusError(f"{home}: cannot write decoded audio: {error}; set AURISCOPE_CACHE") from error
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    return _open(place)


def _write(folder: Path, waveforms: Iterable[FloatArray], sample_rate: int) -> None:
    offsets = [0]
    with (folder / "samples.i16").open("wb") as stream:
        for waveform in waveforms:
            coded = _code(waveform)
            stream.write(coded.tobytes())
            offsets.append(offsets[-1] + len(coded))
        stream.flush()
        os.fsync(stream.fileno())
    np.save(folder / "offsets.npy", np.asarray(offsets, dtype=np.int64))
    (folder / "store.json").write_text(json.dumps({"layout": _LAYOUT, "sample_rate": sample_rate}), encoding="utf-8")


def _open(place: Path) -> AudioStore:
    try:
        sample_rate = int(json.loads((place / "store.json").read_text(encoding="utf-8"))["sample_rate"])
        offsets = np.load(place / "offsets.npy", allow_pickle=False)
        size = (place / "samples.i16").stat().st_size
        if size != 2 * int(offsets[-1]):
            raise ValueError("its length is not what its index says")
        if size == 0:
            return AudioStore(np.zeros(0, np.int16), offsets, sample_rate)
        samples = np.memmap(place / "samples.i16", dtype=np.int16, mode="r")
    except (OSError, ValueError, KeyError) as error:
        raise CorpusError(f"{place}: the decoded audio is damaged ({error}); delete this folder") from error
    # A plain view: slicing np.memmap itself costs several times as much.
    return AudioStore(np.asarray(samples), offsets, sample_rate)


def _code(waveform: NDArray[np.floating]) -> NDArray[np.int16]:
    # Lossy codecs overshoot full scale now and then; 16 bits hold -1 to 1.
    coded: NDArray[np.int16] = np.rint(np.clip(waveform, -1.0, 1.0) * _SCALE).astype("<i2")
    return coded


def _decoded(clips: Sequence[Clip], sample_rate: int) -> Iterator[FloatArray]:
    """Decode in the order of the clips; several clips of one file in a row (digits of a speaker) decode it once."""
    groups: list[list[Clip]] = []
    for clip in clips:
        if groups and groups[-1][0].path == clip.path:
            groups[-1].append(clip)
        else:
            groups.append([clip])

    def decode(group: list[Clip]) -> list[FloatArray]:
        waveform, _ = files.read(group[0].path, sample_rate=sample_rate)
        if len(group) == 1 and group[0].start_seconds == 0:
            return [waveform]
        starts = [round(clip.start_seconds * sample_rate) for clip in group]
        return [
            waveform[start : start + round(clip.duration_seconds * sample_rate)]
            for start, clip in zip(starts, group, strict=True)
        ]

    with ThreadPoolExecutor(_DECODERS) as pool:
        # In slices, so that no more than a few hundred decoded files wait for the disk.
        for first in range(0, len(groups), 256):
            for waveforms in pool.map(decode, groups[first : first + 256]):
                yield from waveforms


def _key(clips: Sequence[Clip], sample_rate: int) -> str:
    digest = hashlib.sha256(f"{_LAYOUT} {sample_rate}\n".encode())
    sizes: dict[Path, int] = {}
    manifests: dict[str, None] = {}
    for clip in clips:
        if clip.path not in sizes:
            try:
                sizes[clip.path] = clip.path.stat().st_size
            except OSError as error:
                raise CorpusError(f"{clip.path}: in the manifest of {clip.corpus}, but not there: {error}") from error
        if clip.corpus not in manifests:
            manifests[clip.corpus] = None
            root = clip.path.parents[len(Path(clip.name).parts) - 1]
            if (root / "manifest.csv").is_file():
                digest.update((root / "manifest.csv").read_bytes())
        digest.update(
            f"{clip.corpus}\0{clip.name}\0{sizes[clip.path]}\0{clip.start_seconds}\0{clip.duration_seconds}\n".encode()
        )
    return digest.hexdigest()
