"""A model of sounds and texts, loaded once for many files: recordings of any length to the vectors of their windows."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auriscope.crossmodal.clap import CrossModal
from auriscope.crossmodal.index import FileState, IndexedFile
from auriscope.crossmodal.windows import TOGETHER, embed_windows, window_frames
from auriscope.errors import AudioFileError, AuriscopeError
from auriscope.pretrained import list_shipped, load
from auriscope.signal.files import AudioReader
from auriscope.signal.levels import is_silent
from auriscope.signal.outputs import printable, reason
from auriscope.verbs.batch import StrPath
from auriscope.verbs.defaults import default_crossmodal

FloatArray = NDArray[np.float32]

_logger = logging.getLogger(__name__)
# A multiple of what is computed at once, so that windows are those of the whole recording.
_WINDOWS_AT_ONCE = 4 * TOGETHER
_SHORTEST_REST = 0.1

MISSING, HIDDEN = -1, -2
"""The sizes of a file that is not there, and of one that cannot be told of, as in a folder that may not be entered."""


@dataclass(frozen=True)
class ReaderSettings:
    """What a reader is made from: plain values, so that other processes can make the same."""

    model: str
    device: str = "cpu"
    offline: bool | None = None


@dataclass(frozen=True)
class Sound:
    """A recording's windows: ``embedding`` (windows, dim) of unit length, and when each begins, (windows,).

    ``seconds`` (windows,) is how much of each is sound, ``silent`` (windows,) which of them have none that is heard.
    """

    embedding: FloatArray
    starts_seconds: NDArray[np.float64]
    seconds: NDArray[np.float64]
    silent: NDArray[np.bool_]

    @property
    def duration_seconds(self) -> float:
        """How long the recording is."""
        return float(self.seconds.sum())

    def whole(self) -> FloatArray:
        """The embedding (dim,) of all of it (:func:`~auriscope.crossmodal.windows.embed_recording`)."""
        mean = (self.embedding * self.seconds[:, None]).sum(0)
        return np.asarray(mean / np.linalg.norm(mean).clip(1e-12), dtype=np.float32)

    def worth_finding(self) -> NDArray[np.bool_]:
        """Which windows (windows,) an index holds: none that is silent, and no rest too short to tell anything."""
        worth: NDArray[np.bool_] = ~self.silent & (self.seconds >= _SHORTEST_REST * self.seconds[0])
        return worth


class SoundReader:
    """A model of sounds and texts, loaded, that embeds files and texts.

    ``model`` is an address, or the model itself; None is what ships. ``AuriscopeError`` when it cannot be loaded or is
    none of sounds and texts.
    """

    def __init__(
        self, model: StrPath | CrossModal | None = None, *, device: Any = "cpu", offline: bool | None = None
    ) -> None:
        self.nameless = isinstance(model, CrossModal)
        """Whether a model was given that no other process can load."""
        if isinstance(model, CrossModal):
            loaded: Any = model
            self.address = model.name
        else:
            self.address = default_crossmodal() if model is None else lasting_address(model)
            loaded = load(self.address, device=device, offline=offline)
        if not isinstance(loaded, CrossModal):
            raise AuriscopeError(f"{self.address} does not match sounds with texts; see `auriscope models`")
        self.model = loaded.eval()
        self.settings = ReaderSettings(self.address, str(device), offline)

    @cached_property
    def sha256(self) -> str:
        """A checksum of the model as it is in memory, its settings and its weights, however it was loaded."""
        settings = json.dumps([self.model.name, dataclasses.asdict(self.model.config)], sort_keys=True)
        digest = hashlib.sha256(settings.encode())
        for name, value in sorted(self.model.state_dict().items()):
            digest.update(name.encode())
            digest.update(value.detach().cpu().contiguous().flatten().view(torch.uint8).numpy().tobytes())
        return digest.hexdigest()

    @torch.inference_mode()
    def read(self, path: StrPath, on_progress: Callable[[float], None] | None = None) -> Sound:
        """Embed the windows of a file, of any length in constant memory; ``AudioFileError`` if it cannot be read."""
        model, rate = self.model, self.model.sample_rate
        size = window_frames(model)
        parts, starts, lengths, silent, num_frames = [], [], [], [], 0
        with AudioReader(path, sample_rate=rate) as reader:
            total = max(1.0, reader.info.duration_seconds * rate)
            for block in reader.blocks(size * _WINDOWS_AT_ONCE):
                embedding, begins = embed_windows(model, torch.from_numpy(block).to(model.device))
                parts.append(embedding.float().cpu().numpy())
                for begin in begins:
                    window = block[begin : begin + size]
                    starts.append((num_frames + begin) / rate)
                    lengths.append(len(window) / rate)
                    silent.append(is_silent(window))
                num_frames += len(block)
                if on_progress is not None:
                    on_progress(min(1.0, num_frames / total))
        found = np.concatenate(parts)
        if not np.isfinite(found).all():
            raise AudioFileError(f"{printable(path)}: the model {self.address} gives no finite embedding of it")
        return Sound(found, np.array(starts), np.array(lengths), np.array(silent))

    @torch.inference_mode()
    def read_text(self, text: str) -> FloatArray:
        """Embed a text, (dim,) of unit length; ``AuriscopeError`` where it has no word."""
        found: FloatArray = self.model.embed_text([text])[0].float().cpu().numpy()
        return found

    def read_all(self, paths: Sequence[Path]) -> list[IndexedFile | tuple[Path, FileState]]:
        """Embed files for an index: what goes in, or the path and why it could not be read."""
        return [self._indexed(path) for path in paths]

    def _indexed(self, path: Path) -> IndexedFile | tuple[Path, FileState]:
        # Before it is read: what changes meanwhile is taken for changed the next time.
        before = state_of(path)
        try:
            sound = self.read(path)
            kept = sound.worth_finding()
            starts, embedding = sound.starts_seconds[kept], sound.embedding[kept]
            return IndexedFile(path, before, sound.duration_seconds, starts, embedding)
        except AuriscopeError as error:
            line = str(error)
        except OSError as error:
            line = f"{printable(path)}: {reason(error)}"
        except MemoryError:
            raise
        except Exception as error:
            _logger.debug("while working on %s", path, exc_info=True)
            line = f"{printable(path)}: unexpected {type(error).__name__}: {reason(error)}"
        return path, FileState(before.size, before.modified_ns, line)


def state_of(path: Path) -> FileState:
    """What a file is now: its size and time of change, or ``MISSING`` or ``HIDDEN``."""
    try:
        status = path.stat()
    except (FileNotFoundError, NotADirectoryError):
        return FileState(MISSING, MISSING)
    except OSError:
        return FileState(HIDDEN, HIDDEN)
    return FileState(status.st_size, status.st_mtime_ns)


def lasting_address(address: StrPath) -> str:
    """An address that means the same from any folder: that of a folder becomes absolute.

    >>> lasting_address("hf://owner/name")
    'hf://owner/name'
    """
    text = os.fspath(address)
    if not Path(text).exists() or text in {model.address for model in list_shipped()}:
        return text
    return os.path.abspath(text)  # noqa: PTH100  # links stay as they were typed
