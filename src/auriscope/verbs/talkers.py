"""A track is a talker: counting the talkers of a file, and giving each a track, however few streams a separator has.

Up to three are counted by what separators make of an excerpt; more by their voices, over all of the recording. Where
there are more talkers than a separator has outputs, its streams are assigned to them piece by piece, by the voices.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np

from auriscope.errors import AuriscopeError
from auriscope.separation.counting import SHIPPED_COUNTER, CountClassifier, SpeakerCount, estimate_num_speakers
from auriscope.separation.joining import Array
from auriscope.separation.long import Separator
from auriscope.signal.files import AudioReader, AudioWriter
from auriscope.speaker.diarization import talker_blocks
from auriscope.verbs.diarizer import Diarizer, stacked

EXCERPT_SECONDS = 90.0
_STRETCHES = 5
_PAUSE_SECONDS = 2.0


class TalkerCounter:
    """Counts the talkers of files; ``loader`` maps a model's address to the model."""

    def __init__(self, classifier: CountClassifier, separators: Sequence[Separator]) -> None:
        self._classifier = classifier
        self._separators = separators

    @classmethod
    def shipped(cls, loader: Callable[[str], Separator]) -> TalkerCounter:
        """Load the shipped decision and the separators it was fitted with; raises ``AuriscopeError`` without them."""
        if not SHIPPED_COUNTER.is_file():
            raise AuriscopeError("no speaker counter is installed; give the number of talkers instead of auto")
        classifier = CountClassifier.load(SHIPPED_COUNTER)
        return cls(classifier, [loader(address) for address in classifier.separators])

    def count(self, path: Path, *, channel: int | None = None) -> SpeakerCount:
        """Count the talkers of a file; raises ``AudioFileError`` when it cannot be read."""
        sample_rate = int(self._separators[0].config.sample_rate)
        excerpt = read_excerpt(path, sample_rate, channel=channel)
        return estimate_num_speakers(excerpt, self._separators, self._classifier, sample_rate=sample_rate)


def read_excerpt(path: Path, sample_rate: int, *, channel: int | None = None) -> Array:
    """Read a file whole, or, beyond ``EXCERPT_SECONDS``, stretches spread over it with pauses between them.

    Returns:
        (time,) float32 at ``sample_rate`` Hz.
    """
    with AudioReader(path, sample_rate=sample_rate, channel=channel) as reader:
        duration = reader.info.duration_seconds
        block = sample_rate * 10
        if duration <= EXCERPT_SECONDS:
            return np.concatenate(list(reader.blocks(block)))
        seconds = EXCERPT_SECONDS / _STRETCHES
        pause: Array = np.zeros(round(_PAUSE_SECONDS * sample_rate), np.float32)
        parts: list[Array] = []
        for start in np.linspace(0.0, duration - seconds, _STRETCHES):
            parts += [*reader.blocks(block, start_seconds=float(start), duration_seconds=seconds), pause]
        return np.concatenate(parts)


class TalkerTracks:
    """Gives each talker of a recording a track, from the recording and its streams, by the voices.

    ``num_talkers`` tracks come out; those for whom no voice was found are silent.
    """

    def __init__(self, diarizer: Diarizer, num_talkers: int) -> None:
        self._diarizer = diarizer
        self.num_talkers = num_talkers
        self.num_found = 0
        """How many voices were found, once the tracks have begun."""

    def assign(
        self, sounds: Iterable[Array], sample_rate: int, folder: Path, on_progress: Callable[[float], None]
    ) -> Iterator[Array]:
        """Turn (1 + streams, time) blocks, the recording and its streams, into (num_talkers, time) blocks.

        Voices are known once all has been heard, so that the sounds lie in ``folder`` meanwhile; memory does not depend
        on their length. ``on_progress`` is told the done fraction of looking for voices.
        """
        with tempfile.TemporaryDirectory(prefix=".streams-", dir=folder) as aside:
            paths = _written(sounds, sample_rate, Path(aside))
            if not paths:
                return
            recording, *streams = paths
            found = self._diarizer.find(
                recording, streams=streams, num_speakers=self.num_talkers, on_progress=on_progress
            ).diarization
            self.num_found = found.num_speakers
            with ExitStack() as stack:
                readers = [stack.enter_context(AudioReader(path)) for path in paths]
                for block in talker_blocks(stacked(readers), found, sample_rate=sample_rate):
                    silent = np.zeros((self.num_talkers - len(block), block.shape[1]), np.float32)
                    yield np.concatenate([block, silent])


def _written(sounds: Iterable[Array], sample_rate: int, folder: Path) -> list[Path]:
    """Write (sounds, time) blocks into a file each."""
    paths: list[Path] = []
    with ExitStack() as stack:
        writers: list[AudioWriter] = []
        for block in sounds:
            if not writers:
                paths = [folder / f"{number}.wav" for number in range(len(block))]
                writers = [stack.enter_context(AudioWriter(path, sample_rate)) for path in paths]
            for writer, sound in zip(writers, block, strict=True):
                writer.write(sound)
    return paths
