"""Join chunks that were separated one by one, so that a track is one talker from the first chunk to the last.

A separator names its outputs afresh in every chunk. Two neighbouring chunks share an overlap: where somebody speaks
in it, the permutation that brings the two closest (least squares) is the right one. Where nobody does, or where two
talkers cannot be told apart in it, the overlap leaves several permutations open, and the voices decide: each track
carries a profile, the running mean of the fingerprints of its confident speech, and a run of chunks that hang together
is compared with the profiles once it holds enough speech. Until then the run waits; how long is bounded, so memory is.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from itertools import permutations
from typing import Any

import numpy as np
import numpy.typing as npt

Array = npt.NDArray[np.float32]
Permutation = tuple[int, ...]
Fingerprint = Callable[[Array, int], npt.NDArray[Any]]

BLOCK_SECONDS = 0.04
_FLOOR_DBFS = -70.0
_CLEAR_MARGIN = 0.2
_LEVELS = np.arange(-100.0, 21.0)


@dataclass(frozen=True)
class JoiningConfig:
    """How chunks are joined.

    ``link_margin``: by how much of the energy at stake the best permutation must beat another to exclude it.
    ``link_seconds``: least speech in an overlap that can decide.
    ``decide_seconds``: confident speech after which a run is compared with the profiles.
    ``pending_seconds``: longest time for which a run may wait for that much speech.
    ``new_voice_similarity``: cosine similarity that an empty profile is credited with; a voice less similar than
    this to every profile is taken for a new one. It belongs to the fingerprint (see ``SpectralFingerprint``).
    ``profile_seconds``: speech after which older speech fades from a profile.
    """

    link_margin: float = 0.15
    link_seconds: float = 0.16
    decide_seconds: float = 4.0
    pending_seconds: float = 40.0
    new_voice_similarity: float = 0.3
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

    def reordered(self, permutation: Permutation) -> Chunk:
        """Put output ``permutation[track]`` onto each track."""
        return replace(self, estimates=self.estimates[list(permutation)])


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
        if self.mean is None:
            return None
        return float(self.mean @ embedding / max(float(np.linalg.norm(self.mean)), 1e-12))


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


@dataclass
class _Run:
    """Chunks whose order is known relative to each other; ``candidates`` are the orders they may have as tracks."""

    candidates: list[Permutation]
    chunks: list[Chunk] = field(default_factory=list)
    speech: list[list[Array]] = field(default_factory=list)
    seconds: list[float] = field(default_factory=list)


class ChunkJoiner:
    """Takes separated chunks in order and gives them back with every talker on one track.

    ``push`` and ``flush`` return the chunks whose order is settled, oldest first. What waits never exceeds
    ``pending_seconds`` and one chunk.
    """

    def __init__(self, num_sources: int, sample_rate: int, fingerprint: Fingerprint, config: JoiningConfig) -> None:
        self._orders: list[Permutation] = list(permutations(range(num_sources)))
        self._num_sources = num_sources
        self._sample_rate = sample_rate
        self._block = max(1, round(BLOCK_SECONDS * sample_rate))
        self._fingerprint = fingerprint
        self._config = config
        self._activity = ActivityLevel()
        self.profiles = [VoiceProfile(config.profile_seconds) for _ in range(num_sources)]
        self._run = self._new_run([self._orders[0]])
        self._last: Chunk | None = None

    def push(self, chunk: Chunk) -> list[Chunk]:
        """Take the next chunk; return the chunks that are settled now."""
        self._activity.update(_block_powers(chunk.mixture, self._block))
        settled: list[Chunk] = []
        fresh = 0
        if self._last is not None:
            fresh = self._last.end - chunk.start
            orders = self._link(self._last, chunk)
            if len(orders) > 1:
                settled = self._settle()
                orders = self._link(self._last, chunk)
                self._run = self._new_run(orders)
                fresh = 0
            else:
                chunk = chunk.reordered(orders[0])
        self._last = chunk
        self._run.chunks.append(chunk)
        self._listen(chunk, fresh)
        waited = sum(len(c.mixture) for c in self._run.chunks) / self._sample_rate
        enough = sum(self._run.seconds) >= self._config.decide_seconds
        if len(self._run.candidates) == 1 or enough or waited >= self._config.pending_seconds:
            settled += self._settle()
        return settled

    def flush(self) -> list[Chunk]:
        """Settle what waits; call it after the last chunk."""
        return self._settle()

    def _new_run(self, candidates: list[Permutation]) -> _Run:
        return _Run(candidates, [], [[] for _ in range(self._num_sources)], [0.0] * self._num_sources)

    def _link(self, previous: Chunk, chunk: Chunk) -> list[Permutation]:
        """Return the orders of ``chunk`` that the overlap leaves open, the closest to ``previous`` first."""
        length = previous.end - chunk.start
        if length < self._block:
            return self._orders
        mixture = chunk.mixture[:length]
        threshold = self._activity.threshold
        active = np.repeat(_block_powers(mixture, self._block) > threshold, self._block)
        if active.sum() < self._config.link_seconds * self._sample_rate:
            return self._orders
        before = previous.estimates[:, -length:][:, : len(active)][:, active].astype(np.float64)
        after = chunk.estimates[:, :length][:, : len(active)][:, active].astype(np.float64)
        products = before @ after.T
        energies = np.sum(before**2, axis=1), np.sum(after**2, axis=1)
        scores = {order: sum(products[track, output] for track, output in enumerate(order)) for order in self._orders}
        ranked = sorted(self._orders, key=lambda order: -scores[order])
        best = ranked[0]
        kept = [best]
        for order in ranked[1:]:
            # Only the tracks on which two orders differ say anything about which of them is right.
            differing = [track for track in range(self._num_sources) if order[track] != best[track]]
            at_stake = 0.5 * sum(energies[0][track] + energies[1][best[track]] for track in differing)
            quiet = at_stake < threshold * before.shape[1] * 0.1
            if quiet or scores[best] - scores[order] < self._config.link_margin * at_stake:
                kept.append(order)
        return kept

    def _listen(self, chunk: Chunk, skip: int) -> None:
        """Collect each output's confident speech: loud enough, and neither a leak nor a share of another voice."""
        estimates = chunk.estimates[:, skip:]
        num_blocks = estimates.shape[1] // self._block
        if num_blocks == 0:
            return
        blocks = estimates[:, : num_blocks * self._block].reshape(self._num_sources, num_blocks, self._block)
        powers = np.mean(blocks.astype(np.float64) ** 2, axis=2)
        loud = (powers > self._activity.threshold) & (powers > 0.05 * powers.max(axis=0))
        for output in range(self._num_sources):
            confident = loud[output].copy()
            for other in range(self._num_sources):
                if other == output:
                    continue
                product = np.mean(blocks[output].astype(np.float64) * blocks[other], axis=1)
                alike = np.abs(product) > 0.5 * np.sqrt(powers[output] * powers[other])
                confident &= ~alike | (powers[output] > 4.0 * powers[other])
            if not confident.any():
                continue
            speech = blocks[output][confident].reshape(-1)
            self._run.speech[output].append(speech)
            self._run.seconds[output] += len(speech) / self._sample_rate

    def _settle(self) -> list[Chunk]:
        """Choose the waiting run's order, teach the profiles, and return its chunks in the tracks' order."""
        run = self._run
        embeddings = [self._embed(speech, seconds) for speech, seconds in zip(run.speech, run.seconds, strict=True)]
        order, certainty = self._choose(run, embeddings)
        for track, output in enumerate(order):
            embedding = embeddings[output]
            if embedding is not None:
                self.profiles[track].update(embedding, certainty * run.seconds[output])
        settled = [chunk.reordered(order) for chunk in run.chunks]
        if settled:
            self._last = settled[-1]
        # From here on the run's chunks arrive in the tracks' order.
        self._run = self._new_run([self._orders[0]])
        return settled

    def _choose(self, run: _Run, embeddings: list[npt.NDArray[np.float64] | None]) -> tuple[Permutation, float]:
        """Return the order that suits the profiles best, and how certain it is (0 to 1)."""
        if len(run.candidates) == 1:
            return run.candidates[0], 1.0
        total = max(sum(run.seconds), 1e-9)
        best: tuple[float, Permutation] | None = None
        # Orders that differ only in which empty profile a new voice goes to are one choice, by its voices.
        scores: dict[tuple[int | None, ...], float] = {}
        for order in run.candidates:
            score = 0.0
            places: list[int | None] = [None] * self._num_sources
            for track, output in enumerate(order):
                embedding = embeddings[output]
                if embedding is None:
                    continue
                similarity = self.profiles[track].similarity(embedding)
                if similarity is None:
                    similarity = self._config.new_voice_similarity
                else:
                    places[output] = track
                score += similarity * run.seconds[output] / total
            scores[tuple(places)] = score
            if best is None or score > best[0]:
                best = score, order
        assert best is not None
        ranked = sorted(scores.values(), reverse=True)
        margin = ranked[0] - ranked[1] if len(ranked) > 1 else _CLEAR_MARGIN
        return best[1], float(min(1.0, margin / _CLEAR_MARGIN))

    def _embed(self, speech: list[Array], seconds: float) -> npt.NDArray[np.float64] | None:
        """Fingerprint the collected speech, or None where there is too little of it."""
        if seconds < 0.3:
            return None
        embedding = np.asarray(self._fingerprint(np.concatenate(speech), self._sample_rate), dtype=np.float64)
        length = float(np.linalg.norm(embedding))
        if not np.isfinite(length) or length == 0.0:
            return None
        return embedding / length


def _block_powers(waveform: Array, block: int) -> npt.NDArray[np.float64]:
    """Mean power of each whole block: (time,) -> (blocks,)."""
    num_blocks = len(waveform) // block
    blocks = waveform[: num_blocks * block].astype(np.float64).reshape(num_blocks, block)
    return np.asarray(np.mean(blocks**2, axis=1))
