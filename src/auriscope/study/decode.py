"""Decoding what strangers sent: in a process of its own, with limits on time, memory and what it may write.

Whatever is wrong with a file, the worst that happens is that this process dies, and a ``DecodeError`` says so.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from auriscope.errors import AuriscopeError
from auriscope.signal.outputs import printable
from auriscope.study.riff import SAMPLE_RATES

MAX_CHANNELS = 2
"""Recordings with more channels are refused."""

_CPU_SECONDS = 20
_WALL_SECONDS = 120
_MEMORY_BYTES = 2 << 30
_OPEN_FILES = 32
_ENVIRONMENT = ("PATH", "PYTHONPATH", "LD_LIBRARY_PATH", "LANG", "LC_ALL", "TMPDIR", "SYSTEMROOT", "OPENBLAS_CORETYPE")


class DecodeError(AuriscopeError):
    """A file cannot be decoded; the message says why, in one line."""


@dataclass(frozen=True)
class Decoded:
    """A recording's samples, (time, channels) float32 in [-1, 1], and its rate in hertz."""

    samples: npt.NDArray[np.float32]
    sample_rate: int

    @property
    def mono(self) -> npt.NDArray[np.float32]:
        """The mean of the channels, (time,) float32."""
        mean: npt.NDArray[np.float32] = self.samples.mean(axis=1)
        return mean

    @property
    def seconds(self) -> float:
        """Length in seconds."""
        return len(self.samples) / self.sample_rate


def decode(path: Path, *, max_seconds: float) -> Decoded:
    """Decode a WAV file of at most ``max_seconds`` in a process of its own.

    Raises ``DecodeError`` if the file is none, is longer, holds NaN or infinity, or if the process runs into a limit
    or dies.
    """
    max_frames = round(max_seconds * SAMPLE_RATES[1])
    with tempfile.TemporaryDirectory(prefix="auriscope-decode-") as folder:
        output = Path(folder) / "samples"
        # -P: nothing is imported from the folder that the server was started in.
        module = ["-P", "-m", "auriscope.study.decode"]
        command = [sys.executable, *module, str(path.absolute()), str(output), str(max_frames)]
        # The process that reads strangers' files is told none of the server's secrets, which may be in the environment.
        # One thread: those of the numeric libraries would each claim memory.
        known = {name: os.environ[name] for name in _ENVIRONMENT if name in os.environ}
        environment = {**known, "OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
        try:
            done = subprocess.run(
                command,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                timeout=_WALL_SECONDS,
                env=environment,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise DecodeError(f"{printable(path)}: decoding it took longer than {_WALL_SECONDS} seconds") from None
        if done.returncode != 0:
            raise DecodeError(f"{printable(path)}: decoding it ended with status {done.returncode}")
        found = json.loads(done.stdout)
        if "error" in found:
            raise DecodeError(f"{printable(path)}: {found['error']}")
        samples = np.fromfile(output, dtype=np.float32).reshape(-1, found["num_channels"])
    return Decoded(samples, found["sample_rate"])


def _limit(max_frames: int) -> None:
    import resource

    largest_file = 4 * MAX_CHANNELS * max_frames + 4096
    for what, value in (
        (resource.RLIMIT_CPU, _CPU_SECONDS),
        (resource.RLIMIT_AS, _MEMORY_BYTES),
        (resource.RLIMIT_FSIZE, largest_file),
        (resource.RLIMIT_NOFILE, _OPEN_FILES),
        (resource.RLIMIT_CORE, 0),
    ):
        _, hard = resource.getrlimit(what)
        value = value if hard == resource.RLIM_INFINITY else min(value, hard)
        resource.setrlimit(what, (value, value))


def _main(path: str, output: str, max_frames: str) -> None:
    """Decode in this process, which is limited from now on; print what was found as JSON."""
    import soundfile

    limit = int(max_frames)
    _limit(limit)
    try:
        with soundfile.SoundFile(path) as file:
            if file.format not in ("WAV", "WAVEX") or not 1 <= file.channels <= MAX_CHANNELS:
                raise ValueError(f"is {file.format} of {file.channels} channels, not a WAV file of one or two")
            if not SAMPLE_RATES[0] <= file.samplerate <= SAMPLE_RATES[1]:
                raise ValueError(f"has a rate of {file.samplerate} Hz")
            samples = file.read(min(limit + 1, max(file.frames, 0)), dtype="float32", always_2d=True)
            if not 0 < len(samples) <= limit:
                raise ValueError("holds no samples" if len(samples) == 0 else "is too long")
            if not np.isfinite(samples).all():
                raise ValueError("holds NaN or infinity")
            samples.tofile(output)
            print(json.dumps({"sample_rate": file.samplerate, "num_channels": file.channels}))
    except (soundfile.SoundFileError, ValueError, OSError, MemoryError) as error:
        print(json.dumps({"error": " ".join(str(error).split())[:200] or type(error).__name__}))


if __name__ == "__main__":
    _main(*sys.argv[1:])
