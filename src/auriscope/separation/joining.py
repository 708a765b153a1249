"""Join chunks that were separated one by one, so that a track is one talker from the first chunk to the last.

A separator names its outputs afresh in every chunk, and shares the voice out over all of them where only one person
speaks. So voices decide: what each output of a chunk says becomes a fingerprint; those of the first minute are
clustered to as many voices as there are tracks, and again with every chunk of the next two minutes, and of as much more
as it takes to hear everybody; and from then on every output goes to the track whose voice it is. Outputs that are
clearly one track's voice are added up: one person speaks. Where voices leave it open, that order of the outputs is
taken in which chunks are closest in what they overlap.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from scipy.optimize import linear_sum_assignment

from auriscope.separation.kmeans import kmeans

Array = npt.NDArray[np.float32]
Matrix = npt.NDArray[np.float64]
Fingerprint = Callable[[Array, int], npt.NDArray[Any]]

BLOCK_SECONDS = 0.04
_FLOOR_DBFS = -70.0
_MOST_FINGERPRINTS = 400
_SURE = 0.3
"""By how much a voice is nearer to its track than to the next where it is surely the track's."""
_LEVELS = np.arange(-100.0, 21.0)


@dataclass(frozen=True)
class JoiningConfig:
    """How chunks are joined.

    ``begin_seconds``: how much is heard before voices are clustered; it waits meanwhile, and the tracks come later by
    as much.
    ``settle_seconds``: until when voices are clustered anew with every chunk, from all that was said so far.
    ``voice_margin``: by how much nearer, as a cosine, two outputs must be to one voice than to all others to be one
    person's.
    ``one_voice``: cosine of two tracks' voices from which they may be one person's, and tell nothing of who speaks.
    ``link_weight``: what the overlap counts for, beside the cosine similarity of voices.
    ``voice_seconds``: least speech of an output that has a fingerprint.
    ``profile_seconds``: speech after which older speech fades from a track's voice.
    """

    begin_seconds: float = 60.0
    settle_seconds: float = 180.0
    voice_margin: float = 0.05
    one_voice: float = 0.7
    link_weight: float = 0.05
    voice_seconds: float = 0.3
    profile_seconds: float = 120.0


@dataclass(frozen=True)
class Chunk:
    """A separated stretch: ``mixture`` (time,), ``estimates`` (sources, time), ``start`` in samples of the stream."""

    start: int
    mixture: Array
    estimates: Array

    @property
    def end(self) -> int:
        """One past the last sample."""
        return self.start + len(self.mixture)

    def placed(self, tracks: Sequence[int]) -> Chunk:
        """Put every output onto its track, ``tracks[output]``; outputs of one track are added up."""
        estimates = np.zeros_like(self.estimates)
        np.add.at(estimates, np.asarray(tracks, dtype=np.intp), self.estimates)
        return replace(self, estimates=estimates)


@dataclass
class VoiceProfile:
    """The voice of one track: the running mean of unit-length fingerprints, weighted by seconds of speech."""

    limit_seconds: float
    mean: npt.NDArray[np.float64] | None = None
    seconds: float = 0.0

    def update(self, embedding: npt.NDArray[np.float64], seconds: float) -> None:
        """Add a fingerprint; past ``limit_seconds`` the oldest speech fades."""
        if seconds <= 0.0:
            return
        kept = min(self.seconds, max(self.limit_seconds - seconds, 0.0))
        total = kept + seconds
        self.mean = embedding if self.mean is None else (kept * self.mean + seconds * embedding) / total
        self.seconds = total

    def similarity(self, embedding: npt.NDArray[np.float64]) -> float | None:
        """Cosine similarity in [-1, 1], or None while the profile is empty."""
        direction = self.direction
        return None if direction is None else float(direction @ embedding)

    @property
    def direction(self) -> Matrix | None:
        """The voice as a vector of unit length, or None while the profile is empty."""
        return None if self.mean is None else self.mean / max(float(np.linalg.norm(self.mean)), 1e-12)


class ActivityLevel:
    """Where somebody speaks, judged by the levels seen so far (a histogram in 1 dB steps: constant memory)."""

    def __init__(self) -> None:
        self._counts = np.zeros(len(_LEVELS))

    def update(self, powers: npt.NDArray[np.float64]) -> None:
        """Take in mean powers of blocks."""
        levels = 10.0 * np.log10(np.maximum(powers, 1e-10))
        indices = np.clip(np.round(levels - _LEVELS[0]).astype(int), 0, len(_LEVELS) - 1)
        np.add.at(self._counts, indices, 1.0)

    @property
    def threshold(self) -> float:
        """Power above which a block counts as speech.

        30 dB below the loud blocks, or above the noise floor where that is higher, but never so high that the
        loudest 10 dB are lost.
        """
        heard = np.where(_LEVELS > _FLOOR_DBFS, self._counts, 0.0)
        total = heard.sum()
        if total == 0.0:
            return float(10.0 ** (_FLOOR_DBFS / 10.0))
        cumulative = np.cumsum(heard) / total
        loud = _LEVELS[np.searchsorted(cumulative, 0.95)]
        quiet = _LEVELS[np.searchsorted(cumulative, 0.10)]
        level = max(_FLOOR_DBFS, loud - 30.0, min(quiet + 6.0, loud - 15.0))
        return float(10.0 ** (level / 10.0))


@dataclass(frozen=True)
class _Heard:
    """A chunk, the fingerprint of each of its outputs (None where it says too little), and for how long each speaks."""

    chunk: Chunk
    voices: list[Matrix | None]
    seconds: list[float]


class ChunkJoiner:
    """Takes separated chunks in order and gives them back with every talker on one track.

    ``push`` and ``flush`` return the chunks that are placed, oldest first. Until ``begin_seconds`` are heard they
    wait; from then on nothing does.
    """

    def __init__(self, num_sources: int, sample_rate: int, fingerprint: Fingerprint, config: JoiningConfig) -> None:
        self._num_sources = num_sources
        self._sample_rate = sample_rate
        self._block = max(1, round(BLOCK_SECONDS * sample_rate))
        self._fingerprint = fingerprint
        self._config = config
        self._activity = ActivityLevel()
        self.profiles = [VoiceProfile(config.profile_seconds) for _ in range(num_sources)]
        self._waiting: list[Chunk] | None = []
        self._said: deque[tuple[Matrix, float]] = deque(maxlen=_MOST_FINGERPRINTS)
        self._last: Chunk | None = None

    def push(self, chunk: Chunk) -> list[Chunk]:
        """Take the next chunk; return the chunks that are placed now."""
        self._activity.update(_block_powers(chunk.mixture, self._block))
        if self._waiting is None:
            heard = self._hear(chunk)
            if chunk.start < self._config.settle_seconds * self._sample_rate or not self._all_known():
                self._find_voices()
            return [self._place(heard)]
        self._waiting.append(chunk)
        if chunk.end - self._waiting[0].start < self._config.begin_seconds * self._sample_rate:
            return []
        return self._begin()

    def flush(self) -> list[Chunk]:
        """Place what waits; call it after the last chunk."""
        return self._begin()

    def _begin(self) -> list[Chunk]:
        """Find the voices of what waits, and place it."""
        heard = [self._hear(chunk) for chunk in self._waiting or []]
        self._waiting = None
        self._find_voices()
        return [self._place(one) for one in heard]

    def _find_voices(self) -> None:
        """Cluster what was said so far; a track's voice becomes the cluster that is nearest to what it was."""
        if not self._said:
            return
        voices, seconds = np.stack([voice for voice, _ in self._said]), np.array([length for _, length in self._said])
        found = _clustered(voices, seconds, self._num_sources)
        nearest = np.argmax(voices @ found.T, axis=1)
        likeness = np.array([[profile.similarity(voice) or 0.0 for profile in self.profiles] for voice in found])
        for number, track in zip(*linear_sum_assignment(-likeness), strict=True):
            self.profiles[track] = VoiceProfile(self._config.profile_seconds)
            self.profiles[track].update(found[number], float(seconds[nearest == number].sum()))

    def _all_known(self) -> bool:
        """Whether every track has a voice of its own."""
        units = [profile.direction for profile in self.profiles]
        known = [voice for voice in units if voice is not None]
        likeness = np.stack(known) @ np.stack(known).T - 2.0 * np.eye(len(known)) if known else np.zeros((0, 0))
        return len(known) == self._num_sources and bool((likeness < self._config.one_voice).all())

    def _hear(self, chunk: Chunk) -> _Heard:
        """Fingerprint each output's confident speech: loud enough, and no leak of another voice."""
        num_blocks = chunk.estimates.shape[1] // self._block
        blocks = chunk.estimates[:, : num_blocks * self._block].reshape(self._num_sources, num_blocks, self._block)
        powers = np.mean(blocks.astype(np.float64) ** 2, axis=2)
        loud = (powers > self._activity.threshold) & (powers > 0.05 * powers.max(axis=0, initial=0.0))
        speech = [blocks[output][loud[output]].reshape(-1) for output in range(self._num_sources)]
        voices = [self._voice(said) for said in speech]
        seconds = [len(said) / self._sample_rate for said in speech]
        self._said += [(voice, length) for voice, length in zip(voices, seconds, strict=True) if voice is not None]
        return _Heard(chunk, voices, seconds)

    def _voice(self, speech: Array) -> Matrix | None:
        """Fingerprint speech, at unit length, or give None where there is too little of it."""
        if len(speech) < self._config.voice_seconds * self._sample_rate:
            return None
        voice = np.asarray(self._fingerprint(speech, self._sample_rate), dtype=np.float64)
        length = float(np.linalg.norm(voice))
        return voice / length if np.isfinite(length) and length > 0.0 else None

    def _place(self, heard: _Heard) -> Chunk:
        """Give every output of a chunk its track, and the tracks' voices what was said."""
        likeness = self._likeness(heard)
        tracks = self._choose(heard, likeness)
        for track, voice, seconds, row in zip(tracks, heard.voices, heard.seconds, likeness, strict=True):
            if voice is not None and row.argmax() == track:
                rest = np.delete(row, track).max()
                self.profiles[track].update(voice, seconds * min(1.0, float(row[track] - rest) / _SURE))
        self._last = heard.chunk.placed(tracks)
        return self._last

    def _likeness(self, heard: _Heard) -> Matrix:
        """Cosine similarity of outputs with the tracks' voices, (outputs, tracks); 0 where either is unknown."""
        likeness = np.zeros((self._num_sources, self._num_sources))
        for output, voice in enumerate(heard.voices):
            if voice is not None:
                likeness[output] = [profile.similarity(voice) or 0.0 for profile in self.profiles]
        return likeness

    def _choose(self, heard: _Heard, likeness: Matrix) -> list[int]:
        """Choose the track of every output."""
        clear = [self._whose(voice, row) for voice, row in zip(heard.voices, likeness, strict=True)]
        groups: list[list[int]] = []
        for output, track in enumerate(clear):
            same = [group for group in groups if track is not None and clear[group[0]] == track]
            if same:
                same[0].append(output)
            else:
                groups.append([output])
        weights = np.array(heard.seconds) / max(sum(heard.seconds), 1e-9)
        scores = weights[:, None] * likeness + self._config.link_weight * self._links(heard.chunk)
        _, tracks = linear_sum_assignment([-scores[group].sum(axis=0) for group in groups])
        chosen = [0] * self._num_sources
        for group, track in zip(groups, tracks.tolist(), strict=True):
            for output in group:
                chosen[output] = track
        return chosen

    def _whose(self, voice: Matrix | None, likeness: Matrix) -> int | None:
        """Give the track whose voice an output clearly is; None where several may be, or one person is two tracks."""
        if voice is None:
            return None
        best, other = np.argsort(-likeness)[:2].tolist()
        if likeness[best] - likeness[other] < self._config.voice_margin:
            return None
        second = self.profiles[other].direction
        alike = None if second is None else self.profiles[best].similarity(second)
        return None if alike is None or alike >= self._config.one_voice else best

    def _links(self, chunk: Chunk) -> Matrix:
        """How much of the overlap's energy each output shares with each track before it, (outputs, tracks), -1 to 1."""
        nothing = np.zeros((self._num_sources, self._num_sources))
        length = 0 if self._last is None else self._last.end - chunk.start
        if self._last is None or length < self._block:
            return nothing
        active = _block_powers(chunk.mixture[:length], self._block) > self._activity.threshold
        samples = np.repeat(active, self._block)
        before = self._last.estimates[:, -length:][:, : len(samples)][:, samples].astype(np.float64)
        after = chunk.estimates[:, :length][:, : len(samples)][:, samples].astype(np.float64)
        energy = 0.5 * (np.sum(before**2) + np.sum(after**2))
        return np.asarray(after @ before.T / energy) if energy > 0.0 else nothing


def _clustered(voices: Matrix, seconds: Matrix, number: int) -> Matrix:
    """Find so many voices, fewer where there are fewer fingerprints: (voices, dim), unit length.

    Fingerprints of little speech have no say, unless there are too few others.
    """
    much = seconds >= 0.5 * np.median(seconds)
    weights = np.where(much, seconds, 0.0) if much.sum() >= number else seconds
    points, sizes = torch.from_numpy(voices), torch.from_numpy(weights)
    found = kmeans(points[None], sizes[None], min(number, len(voices)))[0][0].numpy()
    return np.asarray(found / np.maximum(np.linalg.norm(found, axis=1, keepdims=True), 1e-12))


def _block_powers(waveform: Array, block: int) -> npt.NDArray[np.float64]:
    """Mean power of each whole block: (time,) -> (blocks,)."""
    num_blocks = len(waveform) // block
    blocks = waveform[: num_blocks * block].astype(np.float64).reshape(num_blocks, block)
    return np.asarray(np.mean(blocks**2, axis=1))
