"""Separate recordings of any length with any model, in constant memory, one talker to a track throughout.

Blocks stream in, are resampled to the model's rate, cut into overlapping chunks, separated, brought to the level they
have in the mixture, joined (``separation.joining``), cross-faded with windows that sum to one, and resampled back.
What goes out is exactly as long as what came in.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any, Literal, Protocol, get_args

import numpy as np
import torch
from scipy.optimize import nnls

from auriscope.errors import AuriscopeError
from auriscope.separation.fingerprint import SpectralFingerprint
from auriscope.separation.joining import Array, Chunk, ChunkJoiner, Fingerprint, JoiningConfig
from auriscope.signal.chunking import crossfade_window
from auriscope.signal.rates import StreamResampler

Level = Literal["mixture", "model"]

_LEAST_SECONDS = 0.5
_SILENT_PEAK = 1e-7
_PULL = 1e-3


class Separator(Protocol):
    """What a model of this room offers: ``config.sample_rate``, ``config.num_sources`` and a call on tensors."""

    @property
    def config(self) -> Any:
        """The model's configuration."""

    def __call__(self, mixture: torch.Tensor) -> torch.Tensor:
        """Map (batch, time) to (batch, sources, time)."""


@dataclass(frozen=True)
class LongConfig:
    """How a long recording is cut and put together.

    ``chunk_seconds``: what the model sees at once. In a shorter chunk a separator has less time to change its mind
    about which output is whose; in a longer one it hears more of who speaks. None: 4 s, and 8 s for a model of one
    source, which has nothing to mix up.
    ``overlap_seconds``: what two chunks share, at most half of a chunk; they are cross-faded over all of it.
    ``whole_seconds``: a recording that is no longer is one chunk.
    ``input_dbfs``: level to which a chunk is brought for the model, so that quiet recordings lie where it was trained.
    ``level``: of the tracks: "mixture" scales what the model returns so that the tracks together explain the mixture
    best (:func:`match_level`); "model" keeps it. None: "model" for one source, else "mixture". Where only noise sounds,
    an enhancer leaves little, which must not be brought back to the level of the noise.
    ``consistent``: whether what the tracks lack of the mixture (noise and errors) is shared out over them, so that
    they sum to the mixture exactly (Wisdom et al. 2019, "Differentiable consistency constraints", section 3.2).
    """

    chunk_seconds: float | None = None
    overlap_seconds: float = 2.0
    whole_seconds: float = 8.0
    input_dbfs: float = -25.0
    level: Level | None = None
    consistent: bool = False
    joining: JoiningConfig = field(default_factory=JoiningConfig)

    def __post_init__(self) -> None:
        most = self.chunk_seconds_for(2) / 2.0
        if not 0.0 < self.overlap_seconds <= most:
            raise ValueError(f"overlap_seconds must lie in (0, {most}], not {self.overlap_seconds}")
        if self.level not in (None, *get_args(Level)):
            raise ValueError(f"level must be one of {', '.join(get_args(Level))}, not {self.level!r}")
        if self.level == "model" and self.consistent:
            raise ValueError("tracks that keep the model's level cannot be made to sum to the mixture")

    def chunk_seconds_for(self, num_sources: int) -> float:
        """What a model of so many sources sees at once."""
        if self.chunk_seconds is not None:
            return self.chunk_seconds
        return 8.0 if num_sources == 1 else 4.0


def separate_stream(
    blocks: Iterable[Array],
    separator: Separator,
    *,
    sample_rate: int,
    config: LongConfig | None = None,
    fingerprint: Fingerprint | None = None,
) -> Iterator[Array]:
    """Separate a mono recording that arrives in blocks; memory does not depend on its duration.

    Args:
        blocks: float32 (time,) each, of any lengths, at ``sample_rate``.
        separator: a model, in evaluation mode.
        sample_rate: of the blocks and of what is returned, Hz.
        config: how the recording is cut and joined.
        fingerprint: maps ((time,), sample rate) to an embedding of the voice; ``SpectralFingerprint()`` by default.
            Its scale is that of ``config.joining``, of cosines between voices.

    Yields:
        float32 (sources, time) blocks; together exactly as many samples as came in. Tracks keep the level that the
        talkers have in the recording: they are not rescaled to their peaks, and may exceed 1 where voices cancel.

    Raises:
        AuriscopeError: the model returned a wrong shape, NaN or infinity, or the rates cannot be converted.
    """
    config = config or LongConfig()
    model_rate, num_sources = int(separator.config.sample_rate), int(separator.config.num_sources)
    chunk_size = round(config.chunk_seconds_for(num_sources) * model_rate)
    overlap = min(round(config.overlap_seconds * model_rate), chunk_size // 2)
    counter = _Counter()
    resampled = _resampled(counter.counted(blocks), sample_rate, model_rate)
    mixtures = cut_into_chunks(
        resampled, chunk_size, chunk_size - overlap, whole_size=round(config.whole_seconds * model_rate)
    )
    separated: Iterator[Chunk] = (separate_chunk(start, mixture, separator, config) for start, mixture in mixtures)
    if num_sources > 1:
        joiner = ChunkJoiner(num_sources, model_rate, fingerprint or SpectralFingerprint(), config.joining)
        separated = _joined(separated, joiner)
    tracks = overlap_add(separated, overlap)
    returned = 0
    for block in _resampled_tracks(tracks, num_sources, model_rate, sample_rate):
        # There and back, each rounded up, may give a sample or more too many; the length of the input is the law.
        block = block[:, : counter.total - returned]
        if block.shape[1]:
            returned += block.shape[1]
            yield block


def separate_waveform(
    mixture: Array,
    separator: Separator,
    *,
    sample_rate: int,
    config: LongConfig | None = None,
    fingerprint: Fingerprint | None = None,
) -> Array:
    """Separate a recording that is in memory: (time,) -> (sources, time); see ``separate_stream``."""
    blocks = list(
        separate_stream([mixture], separator, sample_rate=sample_rate, config=config, fingerprint=fingerprint)
    )
    if not blocks:
        return np.zeros((int(separator.config.num_sources), 0), np.float32)
    return np.concatenate(blocks, axis=1)


def cut_into_chunks(
    blocks: Iterable[Array], chunk_size: int, hop: int, *, whole_size: int = 0
) -> Iterator[tuple[int, Array]]:
    """Yield (start, mixture) every ``hop`` samples; the last one is shorter, but longer than the overlap before it.

    What has no more than ``whole_size`` samples comes in one piece.
    """
    buffer: Array = np.zeros(0, np.float32)
    start = 0
    for block in blocks:
        buffer = np.concatenate([buffer, block])
        if start == 0 and len(buffer) <= whole_size:
            continue
        while len(buffer) > chunk_size:
            yield start, buffer[:chunk_size].copy()
            buffer = buffer[hop:]
            start += hop
    if len(buffer):
        yield start, buffer


def separate_chunk(start: int, mixture: Array, separator: Separator, config: LongConfig) -> Chunk:
    """Run the model on one chunk, (time,), and bring its outputs to the level they have in the mixture."""
    length, num_sources = len(mixture), int(separator.config.num_sources)
    if np.max(np.abs(mixture)) < _SILENT_PEAK:
        return Chunk(start, mixture, np.zeros((num_sources, length), np.float32))
    least = round(_LEAST_SECONDS * int(separator.config.sample_rate))
    level = float(np.sqrt(np.mean(mixture.astype(np.float64) ** 2)))
    gain = np.float32(10.0 ** (config.input_dbfs / 20.0) / level)
    scaled = np.pad(mixture * gain, (0, max(0, least - length)))
    device = getattr(separator, "device", None)
    with torch.inference_mode():
        output = separator(torch.from_numpy(scaled)[None].to(device)).float().cpu().numpy()
    if output.shape != (1, num_sources, len(scaled)):
        raise AuriscopeError(f"the model returned {output.shape}, not {(1, num_sources, len(scaled))}")
    if not np.isfinite(output).all():
        raise AuriscopeError("the model returned NaN or infinity; its weights are damaged or the recording is extreme")
    output = output[0, :, :length]
    if (config.level or ("model" if num_sources == 1 else "mixture")) == "model":
        return Chunk(start, mixture, (output / gain).astype(np.float32))
    return Chunk(start, mixture, match_level(output, mixture, consistent=config.consistent))


def match_level(estimates: Array, mixture: Array, *, consistent: bool = False) -> Array:
    """Scale each estimate so that together they explain the mixture best.

    A model trained with SI-SNR may return any scale and sign. The gains are the non-negative least squares solution
    of ``mixture = sum(gains * estimates)`` with a light pull towards one common gain, which keeps the solution stable
    when two estimates are almost equal (one talker shared out over two outputs).

    Args:
        estimates: (sources, time).
        mixture: (time,).
        consistent: add the remainder, shared out by energy, so that the sum equals the mixture.

    Returns:
        (sources, time) float32.
    """
    target = mixture.astype(np.float64)
    outputs = estimates.astype(np.float64)
    projections = outputs @ target
    outputs = outputs * np.where(projections < 0.0, -1.0, 1.0)[:, None]
    scales = np.linalg.norm(outputs, axis=1)
    if not scales.any():
        return np.zeros_like(estimates)
    common = np.abs(projections).sum() / max(np.sum(outputs.sum(axis=0) ** 2), 1e-9 * np.max(scales**2))
    # At unit length, so that the pull does not depend on the scale that the model happens to use for an output.
    units = outputs / np.where(scales > 0.0, scales, 1.0)[:, None]
    root = np.linalg.cholesky(units @ units.T + np.diag(np.full(len(units), _PULL)))
    gains, _ = nnls(root.T, np.linalg.solve(root, units @ target + _PULL * common * scales))
    matched = gains[:, None] * units
    if consistent:
        weights = np.sum(matched**2, axis=1)
        weights = weights / weights.sum() if weights.any() else np.full(len(weights), 1.0 / len(weights))
        matched = matched + weights[:, None] * (target - matched.sum(axis=0))
    return np.asarray(matched, dtype=np.float32)


def overlap_add(chunks: Iterable[Chunk], overlap: int) -> Iterator[Array]:
    """Cross-fade chunks that share ``overlap`` samples with windows that sum to one: yields (sources, time) blocks."""
    fade_in = crossfade_window(2 * overlap, overlap)[:overlap].numpy()
    tail: Array | None = None
    for chunk in chunks:
        block = chunk.estimates.copy()
        if tail is not None:
            yield tail[:, :-overlap]
            block[:, :overlap] = block[:, :overlap] * fade_in + tail[:, -overlap:] * (1.0 - fade_in)
        tail = block
    if tail is not None:
        yield tail


def _joined(chunks: Iterable[Chunk], joiner: ChunkJoiner) -> Iterator[Chunk]:
    for chunk in chunks:
        yield from joiner.push(chunk)
    yield from joiner.flush()


@dataclass
class _Counter:
    """Counts the samples that pass, so that as many can be returned."""

    total: int = 0

    def counted(self, blocks: Iterable[Array]) -> Iterator[Array]:
        for block in blocks:
            self.total += block.shape[-1]
            yield np.ascontiguousarray(block, dtype=np.float32)


def _resampled(blocks: Iterable[Array], original_rate: int, new_rate: int) -> Iterator[Array]:
    """Resample a stream of (time,) blocks."""
    if original_rate == new_rate:
        yield from blocks
        return
    resampler = _resampler(original_rate, new_rate)
    for block in blocks:
        yield resampler.push(block)
    yield resampler.finish()


def _resampled_tracks(blocks: Iterable[Array], num_sources: int, original_rate: int, new_rate: int) -> Iterator[Array]:
    """Resample a stream of (sources, time) blocks."""
    if original_rate == new_rate:
        yield from blocks
        return
    resamplers = [_resampler(original_rate, new_rate) for _ in range(num_sources)]
    for block in blocks:
        yield np.stack([resampler.push(track) for resampler, track in zip(resamplers, block, strict=True)])
    yield np.stack([resampler.finish() for resampler in resamplers])


def _resampler(original_rate: int, new_rate: int) -> StreamResampler:
    try:
        return StreamResampler(original_rate, new_rate)
    except (ValueError, RuntimeError) as error:
        raise AuriscopeError(f"a rate of {original_rate} Hz cannot be converted to {new_rate} Hz ({error})") from error
