"""Audio files: what they hold, reading and streaming them as mono float32, and writing them whole or not at all.

Everything that can be wrong with a file becomes an ``AudioFileError``, one line that names the file and the cure.
Without torch.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
import numpy.typing as npt
import soundfile

from auriscope.errors import AudioFileError
from auriscope.signal.outputs import (
    StrPath,
    begin_aside,
    cannot_write,
    discard_aside,
    keep_aside,
    printable,
    reason,
)
from auriscope.signal.rates import StreamResampler
from auriscope.signal.wave import WaveWriter

FloatArray = npt.NDArray[np.float32]

AUDIO_SUFFIXES = frozenset(
    {
        ".wav",
        ".wave",
        ".rf64",
        ".w64",
        ".flac",
        ".ogg",
        ".oga",
        ".opus",
        ".mp3",
        ".aif",
        ".aiff",
        ".aifc",
        ".au",
        ".caf",
    }
)
"""What counts as an audio file in a folder, in lower case."""

# libsndfile recognises many more, some by so little that text or an image can be taken for sound.
_READABLE_FORMATS = frozenset({"WAV", "WAVEX", "RF64", "W64", "FLAC", "OGG", "MP3", "AIFF", "AU", "CAF"})
# suffix: libsndfile's format and the subtype if none is asked for. WAV is written by wave.py.
_WRITABLE = {
    ".flac": ("FLAC", "PCM_16"),
    ".ogg": ("OGG", "VORBIS"),
    ".opus": ("OGG", "OPUS"),
    ".mp3": ("MP3", "MPEG_LAYER_III"),
}
_BLOCK_SAMPLES = 1 << 18
# Some encoders leave the length open; libsndfile then reports the largest number it has.
_UNKNOWN_FRAMES = 1 << 60


@dataclass(frozen=True)
class AudioInfo:
    """What an audio file says about itself: rate in hertz, length in frames (samples per channel) and in seconds.

    ``format`` is libsndfile's container and coding, such as ``"WAV/PCM_24"``, ``comment`` what its metadata say of the
    sound. A file that was cut off may hold fewer frames than it announces.
    """

    path: Path
    sample_rate: int
    num_channels: int
    num_frames: int
    format: str
    duration_seconds: float
    comment: str = ""


class _SequentialFile(soundfile.SoundFile):  # type: ignore[misc]
    """A sound file that is read straight on.

    soundfile seeks after every read to the position that it has reached, to be ready for writing there; in the middle
    of an MP3 frame that puts thousands of wrong samples into what follows.
    """

    def seekable(self) -> bool:
        return False


def _native(path: Path) -> str | bytes:
    """Give the path as libsndfile takes it: bytes on POSIX, because a name there need not be valid UTF-8."""
    return os.fsencode(path) if os.name == "posix" else str(path)


def _open(path: Path) -> Any:
    """Open a file for reading by soundfile, after ruling out everything that libsndfile describes poorly."""
    shown = printable(path)
    try:
        status = path.stat()
        if stat.S_ISDIR(status.st_mode):
            raise AudioFileError(f"{shown}: is a folder; give an audio file")
        if not stat.S_ISREG(status.st_mode):
            raise AudioFileError(f"{shown}: is not a regular file; save the sound to a file first")
        with path.open("rb"):
            pass
    except FileNotFoundError:
        raise AudioFileError(f"{shown}: no such file; check the path") from None
    except PermissionError:
        raise AudioFileError(f"{shown}: cannot be read; change its permissions or its owner") from None
    except (OSError, ValueError) as error:
        raise AudioFileError(f"{shown}: cannot be opened ({reason(error)}); check the path") from None
    if status.st_size == 0:
        raise AudioFileError(f"{shown}: is empty (0 bytes); record or copy it again")
    try:
        file = _SequentialFile(_native(path))
    except (soundfile.SoundFileError, OSError, TypeError, ValueError) as error:
        why = "headerless samples" if isinstance(error, TypeError) else reason(error)
        raise AudioFileError(
            f"{shown}: is not audio that can be read ({why}); convert it to WAV or FLAC, or copy it again"
        ) from None
    if file.format not in _READABLE_FORMATS:
        file.close()
        raise AudioFileError(f"{shown}: is not audio that can be read ({file.format}); convert it to WAV or FLAC")
    if file.frames <= 0:
        file.close()
        raise AudioFileError(f"{shown}: holds no samples (cut off after its header?); record or copy it again")
    return file


class AudioReader:
    """Read an audio file of any rate, channel count and length as a mono stream in constant memory.

    Args:
        path: WAV (also RF64), FLAC, OGG (Vorbis or Opus), MP3, AIFF, AU or CAF.
        sample_rate: the rate in hertz of what comes out, resampled by soxr; by default the file's own.
        channel: the channel to take, counted from 0; by default the mean of all channels.

    Raises:
        AudioFileError: if the file is missing, damaged, empty or not audio, has no such channel, or, while
            reading, if it holds NaN or infinity or breaks off.

    Used as a context manager. ``info`` describes the file itself, before any conversion.
    """

    def __init__(self, path: StrPath, *, sample_rate: int | None = None, channel: int | None = None) -> None:
        self._path = Path(path)
        if sample_rate is not None and sample_rate <= 0:
            raise ValueError(f"sample_rate must be positive, not {sample_rate}")
        self._file = _open(self._path)
        try:
            if channel is not None and not 0 <= channel < self._file.channels:
                raise AudioFileError(
                    f"{printable(path)}: has no channel {channel}; give 0 to {self._file.channels - 1}"
                )
            self._channel = channel
            self.info = self._describe()
            self.sample_rate = sample_rate or self.info.sample_rate
            """Rate in hertz of the blocks."""
        except BaseException:
            self._file.close()
            raise

    def _describe(self) -> AudioInfo:
        num_frames = int(self._file.frames)
        if num_frames >= _UNKNOWN_FRAMES:
            num_frames = sum(len(block) for block in self._decoded(0, None))
        return AudioInfo(
            path=self._path,
            sample_rate=int(self._file.samplerate),
            num_channels=int(self._file.channels),
            num_frames=num_frames,
            format=f"{self._file.format}/{self._file.subtype}",
            duration_seconds=num_frames / self._file.samplerate,
            comment=str(self._file.comment),
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def blocks(
        self, block_frames: int, *, start_seconds: float = 0.0, duration_seconds: float | None = None
    ) -> Iterator[FloatArray]:
        """Yield the recording, or a stretch of it, as (block_frames,) float32, the last block shorter.

        Args:
            block_frames: length of the blocks in frames at the rate of the output.
            start_seconds: where to begin, rounded to a frame of the file.
            duration_seconds: how much to read; by default, and at most, all up to the end.

        Only one iteration over a reader can be under way.
        """
        if block_frames < 1:
            raise ValueError(f"block_frames must be at least 1, not {block_frames}")
        if not start_seconds >= 0 or (duration_seconds is not None and not duration_seconds > 0):
            raise ValueError("start_seconds must not be negative and duration_seconds must be positive")
        rate = self.info.sample_rate
        start = round(start_seconds * rate)
        if start >= self.info.num_frames:
            raise AudioFileError(
                f"{printable(self._path)}: ends at {self.info.duration_seconds:.3f} s, before the start "
                f"{start_seconds:g} s; give an earlier start"
            )
        count = None if duration_seconds is None else max(1, round(duration_seconds * rate))
        return _regroup(self._converted(start, count), block_frames)

    def _converted(self, start: int, count: int | None) -> Iterator[FloatArray]:
        if self.sample_rate == self.info.sample_rate:
            yield from self._decoded(start, count)
            return
        try:
            resampler = StreamResampler(self.info.sample_rate, self.sample_rate)
        except (ValueError, RuntimeError) as error:
            raise AudioFileError(
                f"{printable(self._path)}: its rate of {self.info.sample_rate} Hz cannot be converted to "
                f"{self.sample_rate} Hz ({reason(error)}); convert it to 16000 Hz first"
            ) from None
        for block in self._decoded(start, count):
            yield resampler.push(block)
        yield resampler.finish()

    def _decoded(self, start: int, count: int | None) -> Iterator[FloatArray]:
        """Yield the file's own frames from ``start``, at most ``count``, as mono blocks of bounded size."""
        frames_per_block = max(1, _BLOCK_SAMPLES // self._file.channels)
        position = start
        end = None if count is None else start + count
        try:
            self._file.seek(start)
            while end is None or position < end:
                wanted = frames_per_block if end is None else min(frames_per_block, end - position)
                frames = self._file.read(wanted, dtype="float32", always_2d=True)
                if len(frames) == 0:
                    break
                mono = frames.mean(axis=1) if self._channel is None else np.ascontiguousarray(frames[:, self._channel])
                if not np.isfinite(mono).all():
                    bad = (position + int(np.argmin(np.isfinite(mono)))) / self._file.samplerate
                    raise AudioFileError(
                        f"{printable(self._path)}: NaN or infinity at {bad:.3f} s; export it again or cut it out"
                    )
                position += len(frames)
                yield mono
        except (soundfile.SoundFileError, OSError) as error:
            raise AudioFileError(
                f"{printable(self._path)}: breaks off at {position / self._file.samplerate:.3f} s ({reason(error)}); "
                "copy it again or export the intact part"
            ) from None
        if position == start:
            raise AudioFileError(
                f"{printable(self._path)}: holds no samples there (cut off?); record or copy the file again"
            )


def _regroup(blocks: Iterable[FloatArray], block_frames: int) -> Iterator[FloatArray]:
    """Cut a stream of blocks of any lengths anew into blocks of one length, the last one shorter."""
    waiting: list[FloatArray] = []
    num_waiting = 0
    for block in blocks:
        waiting.append(block)
        num_waiting += len(block)
        if num_waiting < block_frames:
            continue
        joined = waiting[0] if len(waiting) == 1 else np.concatenate(waiting)
        num_whole = num_waiting // block_frames * block_frames
        for begin in range(0, num_whole, block_frames):
            yield joined[begin : begin + block_frames]
        waiting = [joined[num_whole:]]
        num_waiting -= num_whole
    if num_waiting:
        yield np.concatenate(waiting)


def probe(path: StrPath) -> AudioInfo:
    """Say what an audio file holds, from its header.

    Raises:
        AudioFileError: if it is missing, damaged, empty or not audio.
    """
    with AudioReader(path) as reader:
        return reader.info


def read(
    path: StrPath,
    *,
    sample_rate: int | None = None,
    start_seconds: float = 0.0,
    duration_seconds: float | None = None,
    channel: int | None = None,
) -> tuple[FloatArray, int]:
    """Read an audio file, or a stretch of it, as mono.

    Args:
        path: WAV (also RF64), FLAC, OGG (Vorbis or Opus), MP3, AIFF, AU or CAF.
        sample_rate: the wanted rate in hertz, resampled by soxr; by default the file's own.
        start_seconds: where to begin, rounded to a frame of the file.
        duration_seconds: how much to read; by default, and at most, all up to the end.
        channel: the channel to take, counted from 0; by default the mean of all channels.

    Returns:
        (time,) float32, in [-1, 1] unless a float file goes beyond, and its sample rate in hertz.

    Raises:
        AudioFileError: if the file is missing, damaged, empty, not audio, holds NaN or infinity, has no such
            channel, or ends before ``start_seconds``.
    """
    with AudioReader(path, sample_rate=sample_rate, channel=channel) as reader:
        blocks = list(reader.blocks(_BLOCK_SAMPLES, start_seconds=start_seconds, duration_seconds=duration_seconds))
        return (blocks[0] if len(blocks) == 1 else np.concatenate(blocks)), reader.sample_rate


class AudioWriter:
    """Write an audio file block by block; it appears under its name only when it is whole.

    Args:
        path: its suffix chooses the format: .wav (RF64 if it grows beyond 4 GiB), .flac, .ogg (Vorbis), .opus or .mp3.
        sample_rate: in hertz.
        num_channels: 1 takes blocks of (time,), more take (num_channels, time).
        subtype: for WAV ``"FLOAT"`` (the default, which nothing can clip), ``"PCM_16"`` or ``"PCM_24"``; for FLAC
            ``"PCM_16"`` (the default) or ``"PCM_24"``. PCM saturates beyond [-1, 1].
        comment: goes into the metadata, where ``AudioInfo`` finds it again; .mp3 keeps ASCII alone.

    Raises:
        AudioFileError: if the format is not known or does not take that rate, if the folder cannot be written to, or if
            the sound holds NaN or infinity or has no samples at all.

    Used as a context manager: a clean exit flushes the file and puts it in its place, an error removes it.
    """

    def __init__(
        self,
        path: StrPath,
        sample_rate: int,
        num_channels: int = 1,
        subtype: str | None = None,
        comment: str = "",
    ) -> None:
        self._path = Path(path)
        self._num_channels = num_channels
        self._comment = comment
        self._num_frames = 0
        self._aside = begin_aside(self._path)
        try:
            self._sink = self._open_sink(sample_rate, subtype)
        except BaseException:
            discard_aside(self._aside)
            raise

    def _open_sink(self, sample_rate: int, subtype: str | None) -> Any:
        suffix = self._path.suffix.lower()
        if suffix in (".wav", ".wave"):
            try:
                return WaveWriter(self._aside, sample_rate, self._num_channels, subtype or "FLOAT", self._comment)
            except ValueError as error:
                raise AudioFileError(f"{printable(self._path)}: {error}") from None
            except OSError as error:
                raise cannot_write(self._path, error) from None
        if suffix not in _WRITABLE:
            raise AudioFileError(
                f"{printable(self._path)}: cannot write {suffix or 'a file without suffix'}; "
                "use .wav, .flac, .ogg, .opus or .mp3"
            )
        container, default = _WRITABLE[suffix]
        try:
            sink = soundfile.SoundFile(
                _native(self._aside), "w", sample_rate, self._num_channels, subtype or default, format=container
            )
            if self._comment:
                sink.comment = self._comment
            return sink
        except (soundfile.SoundFileError, ValueError) as error:
            raise AudioFileError(
                f"{printable(self._path)}: {container} cannot be written with {sample_rate} Hz, "
                f"{self._num_channels} channels and {subtype or default} ({reason(error)}); use .wav"
            ) from None

    def write(self, block: FloatArray) -> None:
        """Append a block: (time,) for one channel, otherwise (num_channels, time)."""
        block = np.asarray(block, dtype=np.float32)
        frames = block[:, None] if self._num_channels == 1 else block.T
        if block.ndim != (1 if self._num_channels == 1 else 2) or frames.shape[1] != self._num_channels:
            raise ValueError(f"a block for {self._num_channels} channels cannot have the shape {block.shape}")
        if not np.isfinite(frames).all():
            raise AudioFileError(
                f"{printable(self._path)}: not written, because the sound to write holds NaN or infinity; "
                "check the input and the model"
            )
        # In pieces, because libsndfile's Vorbis encoder takes each write onto its stack.
        for begin in range(0, len(frames), 1 << 15):
            try:
                self._sink.write(frames[begin : begin + (1 << 15)])
            except (soundfile.SoundFileError, AssertionError, OSError) as error:
                raise cannot_write(self._path, error) from None
        self._num_frames += len(frames)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if error is not None:
            with suppress(soundfile.SoundFileError, OSError):
                self._sink.close()
            discard_aside(self._aside)
            return
        try:
            self._sink.close()
            if self._num_frames == 0:
                raise AudioFileError(f"{printable(self._path)}: not written, because there are no samples to write")
        except BaseException as failure:
            discard_aside(self._aside)
            if isinstance(failure, (soundfile.SoundFileError, OSError)):
                raise cannot_write(self._path, failure) from None
            raise
        keep_aside(self._aside, self._path)


def write(
    path: StrPath, waveform: FloatArray, sample_rate: int, *, num_channels: int = 1, subtype: str | None = None
) -> None:
    """Write an audio file at once, whole or not at all.

    Args:
        path: its suffix chooses the format, as for ``AudioWriter``.
        waveform: (time,), or (num_channels, time) if there are several channels.
        sample_rate: in hertz.
        num_channels: number of channels.
        subtype: the coding, as for ``AudioWriter``.

    Raises:
        AudioFileError: if it cannot be written, or if the sound holds NaN or infinity or no samples.
    """
    with AudioWriter(path, sample_rate, num_channels, subtype) as writer:
        writer.write(waveform)


def find_audio(inputs: Iterable[StrPath]) -> list[Path]:
    """Expand folders into the audio files in them, sorted, and leave the files as given, in the given order.

    A folder is searched through all its subfolders for ``AUDIO_SUFFIXES``, except for hidden files and folders. Files
    are neither opened nor checked; a file reached twice comes once.

    Raises:
        AudioFileError: if a folder holds no audio file.
    """
    found: dict[Path, None] = {}
    for given in map(Path, inputs):
        if not _is_folder(given):
            found[given] = None
            continue
        inside = []
        for parent, folders, names in os.walk(given):
            folders[:] = [folder for folder in folders if not folder.startswith(".")]
            inside += [Path(parent, name) for name in names if _is_audio_name(name)]
        if not inside:
            raise AudioFileError(f"{printable(given)}: no audio file in this folder; give one that holds some")
        found.update(dict.fromkeys(sorted(inside)))
    return list(found)


def _is_audio_name(name: str) -> bool:
    return not name.startswith(".") and Path(name).suffix.lower() in AUDIO_SUFFIXES


def _is_folder(path: Path) -> bool:
    try:
        return path.is_dir()
    except OSError:
        # Reading it will say what is wrong, without stopping the other files.
        return False
