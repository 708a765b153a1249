"""Diarization of files: voice activity, a speaker model and, where there is one, a separator, loaded once for many."""

from __future__ import annotations

import dataclasses
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from auriscope.recognition.voice import VoiceConfig, find_voice
from auriscope.separation.joining import Array
from auriscope.separation.long import Separator, separate_stream
from auriscope.signal.files import AudioReader
from auriscope.speaker.diarization import Diarization, DiarizationConfig, diarize, embed_with
from auriscope.speaker.embedder import Embedder
from auriscope.verbs.batch import StrPath
from auriscope.verbs.voice import VoiceReader

TURN_VOICE = VoiceConfig(
    above_noise_db=6.0,
    periodicity=0.3,
    flatness=0.5,
    glide_semitones=4.0,
    min_voiced_seconds=0.03,
    margin_seconds=0.1,
    max_gap_seconds=0.5,
)
"""What counts for speech where turns are told: a recogniser is lenient with what is no speech, a turn must end.

Chosen on the valid conversations of ``benchmarks/diarization.py``, as what misses and adds least speech together.
"""

_BLOCK_FRAMES = 1 << 16
_LISTENED = 0.3
"""The share of the work that finding speech is; it only makes the bar even."""


@dataclass(frozen=True)
class Found:
    """Who speaks when in a file; ``speech_seconds`` is how much was taken for speech."""

    diarization: Diarization
    duration_seconds: float
    speech_seconds: float


class Diarizer:
    """A speaker model, loaded, with all that diarization takes.

    ``model`` is an address or the model itself, None what ships; ``separator`` makes streams of recordings, so that two
    who speak at once are told apart. Raises ``AuriscopeError`` when the model cannot be loaded, does not embed voices,
    or none is shipped and none was named.
    """

    def __init__(
        self,
        model: StrPath | Embedder | None = None,
        *,
        separator: Separator | None = None,
        config: DiarizationConfig | None = None,
        voice: VoiceConfig = TURN_VOICE,
        device: Any = "cpu",
        offline: bool | None = None,
    ) -> None:
        self.voices = VoiceReader(model, device=device, offline=offline)
        self.config = config or DiarizationConfig()
        self._separator, self._voice = separator, voice
        self._embed = embed_with(self.voices.embedder)

    @property
    def address(self) -> str:
        """The address of the speaker model."""
        return self.voices.address

    @property
    def identity(self) -> dict[str, Any] | None:
        """What a result depends on besides its source and the separator; None where that cannot be written down."""
        if self.voices.nameless:
            return None
        return {
            "model": self.address,
            "weights": self.voices.weights_sha256,
            "config": dataclasses.asdict(self.config),
            "voice": dataclasses.asdict(self._voice),
        }

    def find(
        self,
        path: Path,
        *,
        streams: Sequence[Path] = (),
        num_speakers: int | None = None,
        channel: int | None = None,
        on_progress: Callable[[float], None] | None = None,
    ) -> Found:
        """Find who speaks when in a file, in constant memory; ``on_progress`` is told the done fraction.

        Args:
            path: the recording, of any rate, channels and length; it is read twice.
            streams: files of what a separator made of it, as long as it is; without any, the separator makes them.
            num_speakers: how many people speak; None: they are counted.
            channel: the channel to take, counted from 0; by default all are mixed down.
            on_progress: told the done fraction, 0 to 1.

        Raises:
            AudioFileError: the file cannot be read.
        """
        rate = int(self.voices.embedder.config.sample_rate)

        def tell(fraction: float) -> None:
            if on_progress is not None:
                on_progress(min(1.0, fraction))

        with ExitStack() as stack:
            reader = stack.enter_context(AudioReader(path, sample_rate=rate, channel=channel))
            whole = max(1.0, reader.info.duration_seconds * rate)
            blocks = _told(reader.blocks(_BLOCK_FRAMES), lambda done: tell(_LISTENED * done / whole))
            spans = list(find_voice(blocks, rate, self._voice))
            readers = [stack.enter_context(AudioReader(stream, sample_rate=rate)) for stream in streams]
            found = diarize(
                self._sounds(reader, readers, rate),
                spans,
                self._embed,
                sample_rate=rate,
                num_speakers=num_speakers,
                config=self.config,
                on_progress=lambda done: tell(_LISTENED + (1.0 - _LISTENED) * done / whole),
            )
            duration_seconds = reader.info.duration_seconds
        return Found(found, duration_seconds, sum(end - begin for begin, end in spans) / rate)

    def _sounds(self, reader: AudioReader, streams: Sequence[AudioReader], rate: int) -> Iterator[Array]:
        if streams:
            return stacked([reader, *streams])
        blocks = reader.blocks(_BLOCK_FRAMES)
        if self._separator is None:
            return (block[None] for block in blocks)
        separator, voices = self._separator, self.voices.fingerprint
        return beside(blocks, lambda sound: separate_stream(sound, separator, sample_rate=rate, fingerprint=voices))


def stacked(readers: Sequence[AudioReader]) -> Iterator[Array]:
    """Read files that last as long as each other side by side: (files, time) blocks, up to the end of the shortest."""
    for blocks in zip(*(reader.blocks(_BLOCK_FRAMES) for reader in readers), strict=False):
        size = min(map(len, blocks))
        yield np.stack([block[:size] for block in blocks])


def beside(blocks: Iterable[Array], separate: Callable[[Iterable[Array]], Iterator[Array]]) -> Iterator[Array]:
    """Put a recording beside what is made of it: blocks (time,) to (1 + streams, time), however late streams come."""
    waiting: deque[Array] = deque()

    def passing() -> Iterator[Array]:
        for block in blocks:
            waiting.append(block)
            yield block

    kept: Array = np.zeros(0, np.float32)
    for streams in separate(passing()):
        kept = np.concatenate([kept, *waiting])
        waiting.clear()
        size = streams.shape[1]
        yield np.concatenate([kept[None, :size], streams])
        kept = kept[size:]


def _told(blocks: Iterable[Array], tell: Callable[[int], None]) -> Iterator[Array]:
    done = 0
    for block in blocks:
        done += len(block)
        tell(done)
        yield block
