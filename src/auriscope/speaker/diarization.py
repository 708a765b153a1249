"""Diarization: who speaks when, with any number of people, in recordings of any length.

Stretches of speech, found by whoever calls, are cut into short windows; windows become embeddings, embeddings are
clustered to voices (:mod:`~auriscope.speaker.clustering`), and a hidden Markov model with one state a voice goes over
the frames of each stretch once more, so that turns end where the voice changes and not where a window does.

Where people speak at once one window holds two voices. If a separator has made streams of the recording, each stream
of such a window is compared with the voices by itself: a stream that is loud enough and another person's than the rest
is a second speaker. So streams, of which there are two or three, are assigned to any number of people.

Sound is held for no longer than a window. What stays is one embedding a window and a few numbers a frame, some ten
megabytes an hour.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from scipy.ndimage import uniform_filter1d

from auriscope.signal.turns import SpeakerTurn
from auriscope.speaker.clustering import ClusteringConfig, Labels, cluster, mean_voices, unit
from auriscope.speaker.embedder import Embedder

FloatArray = NDArray[np.float32]
Array = NDArray[np.float64]
Span = tuple[int, int]
"""Where a stretch begins, and where it ends (not included), in samples."""
Embed = Callable[[Sequence[FloatArray]], Any]
"""From waveforms (time,), of any lengths, to embeddings (waveforms, dim)."""

_SECOND_SECONDS = 0.3
"""A second speaker is heard for so long at least."""

RECORDING, NOTHING = 0, -1
"""What :attr:`Diarization.sources` says besides the numbers of streams, which begin at 1."""


@dataclass(frozen=True)
class DiarizationConfig:
    """How a recording is cut and put together.

    A window lasts ``window_seconds``, one every ``hop_seconds``; shorter stretches are one window, for which at least
    ``min_seconds`` are heard. Turns are told in frames of ``frame_seconds``. ``certainty``: by how much, as a natural
    logarithm, the voice of a usual window is likelier than the next one; ``switch_cost``: how much less likely it is
    that the voice changes from a frame to the next. With streams: one that is ``heard_db`` under the loudest of its
    window is what leaked over, and the voice of a second speaker must be nearer to it by ``overlap_margin`` than that
    of the first. ``batch_size`` windows are embedded together.
    """

    window_seconds: float = 1.5
    hop_seconds: float = 0.75
    min_seconds: float = 0.5
    frame_seconds: float = 0.05
    certainty: float = 4.0
    switch_cost: float = 2.0
    heard_db: float = 12.0
    overlap_margin: float = 0.1
    batch_size: int = 32
    clustering: ClusteringConfig = field(default_factory=ClusteringConfig)

    def __post_init__(self) -> None:
        if not 0.0 < self.frame_seconds <= self.hop_seconds <= self.window_seconds:
            raise ValueError("frame_seconds, hop_seconds and window_seconds must be above 0, and none above the next")
        if not 0.0 < self.min_seconds <= self.window_seconds:
            raise ValueError("min_seconds must lie above 0 and not above window_seconds")
        if self.certainty <= 0.0 or self.batch_size < 1:
            raise ValueError("certainty must be above 0 and batch_size at least 1")


@dataclass(frozen=True)
class Diarization:
    """Who speaks when.

    ``turns`` are in order of time, speakers named ``speaker1`` and so on in order of appearance; ``voices`` (speakers,
    dim) are their mean embeddings, of unit length. ``sources`` (frames, speakers) int8 says in which sound each is
    heard in every frame of ``frame_seconds``: ``RECORDING`` where nobody else speaks, the number of a stream, from 1,
    where somebody does, ``NOTHING`` where the person is silent.
    """

    turns: tuple[SpeakerTurn, ...]
    voices: Array
    sources: NDArray[np.int8]
    frame_seconds: float

    @property
    def num_speakers(self) -> int:
        """How many people speak."""
        return len(self.voices)

    @property
    def speech_seconds(self) -> Array:
        """For how long each speaks, (speakers,)."""
        return np.asarray((self.sources != NOTHING).sum(axis=0) * self.frame_seconds)


def embed_with(embedder: Embedder) -> Embed:
    """Make of a speaker model what :func:`diarize` calls: waveforms (time,) to embeddings of unit length."""
    rate = int(embedder.config.sample_rate)
    least = -(-round(embedder.min_seconds * rate * 1000) // 1000) + 1

    def embed(waveforms: Sequence[FloatArray]) -> Array:
        longest = max(least, max(map(len, waveforms)))
        batch = torch.zeros(len(waveforms), longest)
        for row, waveform in zip(batch, waveforms, strict=True):
            row[: len(waveform)] = torch.from_numpy(np.ascontiguousarray(waveform, dtype=np.float32))
        lengths = torch.tensor([max(least, len(waveform)) for waveform in waveforms])
        with torch.inference_mode():
            found = embedder.embed(batch.to(embedder.device), lengths.to(embedder.device))
        return np.asarray(found.double().cpu().numpy())

    return embed


def diarize(
    blocks: Iterable[FloatArray],
    spans: Sequence[Span],
    embed: Embed,
    *,
    sample_rate: int,
    num_speakers: int | None = None,
    config: DiarizationConfig | None = None,
    on_progress: Callable[[int], None] | None = None,
) -> Diarization:
    """Find who speaks when.

    Args:
        blocks: (1 + streams, time) float32 each, of any lengths: the recording, and what a separator made of it, if
            anything.
        spans: the stretches of speech, in order and apart.
        embed: waveforms to embeddings; see :func:`embed_with`.
        sample_rate: of the blocks, Hz.
        num_speakers: how many people speak; None: they are counted.
        config: see :class:`DiarizationConfig`.
        on_progress: told the number of samples that are done.

    Returns:
        Who speaks when; nobody where there is no speech.
    """
    config = config or DiarizationConfig()
    heard = _Listener(spans, embed, sample_rate, config).listen(blocks, on_progress)
    if not heard.windows:
        return Diarization((), np.zeros((0, 0)), np.zeros((len(heard.powers), 0), np.int8), config.frame_seconds)
    units = unit(heard.embeddings)
    voices = _refined(units, cluster(units, num_speakers, config.clustering))
    scores = units @ voices.T
    # What a difference in similarity is worth depends on the embedding: it is measured by the usual one.
    scale = config.certainty / _usual_lead(scores) * config.frame_seconds / config.hop_seconds
    frame = config.frame_seconds * sample_rate
    sources = np.full((len(heard.powers), len(voices)), NOTHING, dtype=np.int8)
    for begin, end, first, last in heard.spans:
        rows = slice(round(begin / frame), max(round(begin / frame) + 1, round(end / frame)))
        centres = (np.arange(rows.start, min(rows.stop, len(sources)), dtype=np.float64) + 0.5) * frame
        blended = _blend(centres, heard.windows[first:last], scores[first:last], frame)
        path = _likeliest_path(scale * blended, config.switch_cost)
        sources[rows.start + np.arange(len(path)), path] = RECORDING
    _add_second_speakers(sources, heard, voices, frame, config)
    kept = np.flatnonzero((sources != NOTHING).any(axis=0))
    # Numbered by who is heard first, after the second look at the frames.
    kept = kept[np.argsort((sources[:, kept] != NOTHING).argmax(axis=0), kind="stable")]
    sources = sources[:, kept]
    return Diarization(_turns(sources, config.frame_seconds), voices[kept], sources, config.frame_seconds)


@dataclass
class _Heard:
    """What stays of a recording.

    ``windows``: (begin, end) in samples; ``spans``: (begin, end) and the windows that are theirs, (first, after the
    last); ``streams``: by window, the streams that are heard in it with their embeddings; ``powers`` (frames,
    1 + streams).
    """

    windows: list[Span]
    spans: list[tuple[int, int, int, int]]
    embeddings: Array
    streams: dict[int, list[tuple[int, Array]]]
    powers: NDArray[np.float32]


class _Listener:
    """Goes over a recording once, and keeps what :class:`_Heard` has."""

    def __init__(self, spans: Sequence[Span], embed: Embed, sample_rate: int, config: DiarizationConfig) -> None:
        self._embed, self._rate, self._config = embed, sample_rate, config
        self._frame = config.frame_seconds * sample_rate
        self._windows: list[Span] = []
        self._spans: list[tuple[int, int, int, int]] = []
        for begin, end in spans:
            first = len(self._windows)
            self._windows += self._cut(begin, end)
            self._spans.append((begin, end, first, len(self._windows)))
        self._waiting: list[tuple[int, int, FloatArray]] = []
        """Window, channel and sound of what is to be embedded next."""
        self._found: dict[tuple[int, int], Array] = {}

    def _cut(self, begin: int, end: int) -> list[Span]:
        size = round(self._config.window_seconds * self._rate)
        hop = round(self._config.hop_seconds * self._rate)
        if end - begin <= size:
            return [(begin, end)]
        starts = list(range(begin, end - size, hop))
        return [(start, start + size) for start in [*starts, end - size]]

    def listen(self, blocks: Iterable[FloatArray], on_progress: Callable[[int], None] | None) -> _Heard:
        least = round(self._config.min_seconds * self._rate)
        kept, start, number, powers = np.zeros((1, 0), np.float32), 0, 0, _FramePowers(self._frame)
        for block in blocks:
            powers.update(block)
            kept = block if not kept.shape[1] else np.concatenate([kept, block], axis=1)
            while number < len(self._windows):
                begin, end = self._heard_of(self._windows[number], least)
                if end > start + kept.shape[1]:
                    break
                self._take(number, kept[:, begin - start : end - start])
                number += 1
            # What the next window begins with stays; without one, as much as it may reach back.
            needed = self._heard_of(self._windows[number], least)[0] if number < len(self._windows) else np.inf
            drop = int(min(kept.shape[1], max(0, needed - start)))
            kept, start = kept[:, drop:], start + drop
            if on_progress is not None:
                on_progress(start + kept.shape[1])
        for rest in range(number, len(self._windows)):
            # The recording ends before the last window does.
            begin, end = self._heard_of(self._windows[rest], least)
            self._take(rest, kept[:, max(0, begin - start) : max(0, end - start)])
        self._flush()
        streams: dict[int, list[tuple[int, Array]]] = {}
        for (window, channel), embedding in sorted(self._found.items(), key=lambda item: item[0]):
            if channel > 0:
                streams.setdefault(window, []).append((channel, embedding))
        embeddings = [self._found[window, 0] for window in range(len(self._windows))]
        table = np.stack(embeddings) if embeddings else np.zeros((0, 0))
        return _Heard(self._windows, self._spans, table, streams, powers.finish())

    def _heard_of(self, window: Span, least: int) -> Span:
        """A window with what is heard around it, where it is too short by itself."""
        begin, end = window
        more = max(0, least - (end - begin))
        begin = max(0, begin - more // 2)
        return begin, max(end, begin + least) if more else end

    def _take(self, number: int, sound: FloatArray) -> None:
        if not sound.shape[1]:
            sound = np.zeros((len(sound), 1), np.float32)
        chosen = [0]
        if len(sound) > 2:
            levels = 10.0 * np.log10(np.mean(np.square(sound[1:], dtype=np.float64), axis=1) + 1e-14)
            loud = 1 + np.flatnonzero(levels > levels.max() - self._config.heard_db)
            chosen += loud.tolist() if len(loud) > 1 else []
        self._waiting += [(number, channel, sound[channel].copy()) for channel in chosen]
        if len(self._waiting) >= self._config.batch_size:
            self._flush()

    def _flush(self) -> None:
        if self._waiting:
            found = np.asarray(self._embed([sound for _, _, sound in self._waiting]), dtype=np.float64)
            for (number, channel, _), embedding in zip(self._waiting, found, strict=True):
                # A defect of the sound must not become one of everybody's mean voice.
                self._found[number, channel] = embedding if np.isfinite(embedding).all() else np.zeros_like(embedding)
        self._waiting = []


class _FramePowers:
    """The mean power of every channel in every frame."""

    def __init__(self, frame: float) -> None:
        self._frame = frame
        self._parts: list[NDArray[np.float32]] = []
        self._rest: FloatArray | None = None
        self._number, self._position = 0, 0

    def update(self, block: FloatArray) -> None:
        rest = block if self._rest is None else np.concatenate([self._rest, block], axis=1)
        # Boundaries are rounded one by one, so that frames do not drift against the clock.
        last = int((self._position + rest.shape[1]) / self._frame)
        bounds = np.round(np.arange(self._number, last + 1) * self._frame).astype(int) - self._position
        if len(bounds) > 1:
            squares = np.square(rest[:, : bounds[-1]], dtype=np.float64)
            power = np.add.reduceat(squares, bounds[:-1], axis=1) / np.diff(bounds)
            self._parts.append(power.T.astype(np.float32))
            rest = rest[:, bounds[-1] :]
            self._position += int(bounds[-1])
            self._number = last
        self._rest = rest

    def finish(self) -> NDArray[np.float32]:
        if self._rest is not None and self._rest.shape[1]:
            power = np.asarray(np.mean(np.square(self._rest), axis=1, dtype=np.float64))
            self._parts.append(power[None].astype(np.float32))
        return np.concatenate(self._parts) if self._parts else np.zeros((0, 1), np.float32)


def _refined(units: Array, labels: Labels) -> Array:
    """Give the voices, once every window has gone to the nearest; a voice that is left without any stays as it was."""
    voices = mean_voices(units, labels)
    for _ in range(3):
        nearest = np.argmax(units @ voices.T, axis=1)
        again = np.zeros_like(voices)
        np.add.at(again, nearest, units)
        voices = np.where(np.linalg.norm(again, axis=1, keepdims=True) > 0.0, unit(again), voices)
    return voices


def _blend(centres: Array, windows: Sequence[Span], scores: Array, frame: float) -> Array:
    """Give frames, by their ``centres`` in samples, the mean score of the windows around, nearer ones counting more."""
    middles = np.array([(begin + end) / 2.0 for begin, end in windows])
    halves = np.array([(end - begin) / 2.0 for begin, end in windows]) + frame
    weights = np.maximum(0.0, 1.0 - np.abs(centres[:, None] - middles) / halves) + 1e-9
    return np.asarray(weights @ scores / weights.sum(axis=1, keepdims=True))


def _usual_lead(scores: Array) -> float:
    """By how much the best of the voices leads over the next one, on average: (windows, speakers) -> above 0."""
    if scores.shape[1] < 2:
        return 1.0
    ranked = np.sort(scores, axis=1)
    return max(float(np.mean(ranked[:, -1] - ranked[:, -2])), 1e-6)


def _likeliest_path(scores: Array, switch_cost: float) -> Labels:
    """The voice of each frame by Viterbi's algorithm, (frames, speakers) -> (frames,)."""
    num_frames, num_speakers = scores.shape
    if num_speakers == 1 or num_frames == 0:
        return np.zeros(num_frames, dtype=np.int64)
    best = scores[0]
    came_from = np.zeros((num_frames, num_speakers), dtype=np.int64)
    stay = np.arange(num_speakers)
    for number in range(1, num_frames):
        top = int(np.argmax(best))
        switch = best[top] - switch_cost > best
        came_from[number] = np.where(switch, top, stay)
        best = np.where(switch, best[top] - switch_cost, best) + scores[number]
    path = np.zeros(num_frames, dtype=np.int64)
    path[-1] = np.argmax(best)
    for number in range(num_frames - 1, 0, -1):
        path[number - 1] = came_from[number, path[number]]
    return path


def _add_second_speakers(
    sources: NDArray[np.int8], heard: _Heard, voices: Array, frame: float, config: DiarizationConfig
) -> None:
    """Say where a second person speaks, and in which stream each of the two is, by the streams of each window."""
    if len(voices) < 2 or not heard.streams:
        return
    # Gaps between syllables are no end of a turn.
    width = max(1, round(_SECOND_SECONDS / config.frame_seconds))
    powers = uniform_filter1d(heard.powers, width, axis=0, mode="nearest")
    second = np.full(len(sources), NOTHING, dtype=np.int64)
    channels = np.zeros((len(sources), 2), dtype=np.int8)
    for number, streams in heard.streams.items():
        begin, end = heard.windows[number]
        middle = (begin + end) / 2.0
        reach = min(config.hop_seconds / config.frame_seconds, (end - begin) / frame) / 2.0
        rows = np.arange(max(0, round(middle / frame - reach)), min(len(sources), round(middle / frame + reach)))
        spoken = rows[(sources[rows] == RECORDING).any(axis=1)]
        if not len(spoken):
            continue
        main = int(np.bincount(np.argmax(sources[spoken] == RECORDING, axis=1)).argmax())
        found = _two_of(streams, voices, main, config.overlap_margin)
        if found is None:
            continue
        first, other, person = found
        # Only where both are loud: a window may hold the one after the other.
        both = np.minimum(powers[spoken, first], powers[spoken, other])
        loud = both > powers[spoken][:, 1:].max(axis=1) * 10.0 ** (-config.heard_db / 10.0)
        rows = spoken[loud & (sources[spoken, main] == RECORDING)]
        second[rows], channels[rows] = person, (first, other)
    for start, stop in _runs(second):
        if second[start] != NOTHING and stop - start >= width:
            rows = np.arange(start, stop)
            sources[rows, np.argmax(sources[rows] == RECORDING, axis=1)] = channels[rows, 0]
            sources[rows, second[start]] = channels[rows, 1]


def _two_of(
    streams: Sequence[tuple[int, Array]], voices: Array, main: int, margin: float
) -> tuple[int, int, int] | None:
    """Give the stream of the main speaker, another person's stream, and that person; None where one voice is heard."""
    channels = [channel for channel, _ in streams]
    scores = unit(np.stack([embedding for _, embedding in streams])) @ voices.T
    nearest = np.argmax(scores, axis=1)
    others = np.flatnonzero((nearest != main) & (scores.max(axis=1) > scores[:, main] + margin))
    mine = np.flatnonzero(nearest == main)
    if not len(others) or not len(mine):
        return None
    other = int(others[np.argmax(scores[others].max(axis=1))])
    first = int(mine[np.argmax(scores[mine, main])])
    return channels[first], channels[other], int(nearest[other])


def _runs(values: Labels) -> list[tuple[int, int]]:
    """Where stretches of equal values begin and end."""
    edges = np.flatnonzero(np.diff(values)) + 1
    bounds = [0, *edges.tolist(), len(values)]
    return list(pairwise(bounds))


def _turns(sources: NDArray[np.int8], frame_seconds: float) -> tuple[SpeakerTurn, ...]:
    turns = []
    for number, active in enumerate((sources != NOTHING).T):
        edges = np.flatnonzero(np.diff(active, prepend=False, append=False)).reshape(-1, 2) * frame_seconds
        turns += [SpeakerTurn(f"speaker{number + 1}", round(a, 3), round(b, 3)) for a, b in edges.tolist()]
    return tuple(sorted(turns, key=lambda turn: (turn.start_seconds, turn.end_seconds, turn.speaker)))


def talker_blocks(
    blocks: Iterable[FloatArray], found: Diarization, *, sample_rate: int, fade_seconds: float = 0.25
) -> Iterator[FloatArray]:
    """Give each person a track: (1 + streams, time) blocks, as for :func:`diarize`, to (speakers, time) blocks.

    A track holds the recording where its person speaks alone, a stream where others speak as well, and silence
    elsewhere; so it is one person throughout, whatever the separator calls its streams. In pauses of everybody it fades
    out within ``fade_seconds`` before and after, so that breaths and the edges of words stay; from one sound to another
    it changes over in a frame.
    """
    frame = found.frame_seconds * sample_rate
    margin = max(1, round(fade_seconds / found.frame_seconds))
    position = 0
    for block in blocks:
        size = block.shape[1]
        # Gains are one number a frame, at its middle, and straight lines between: two frames more on both sides.
        first = max(0, int(position / frame) - 2)
        last = int((position + size) / frame) + 3
        gains = _gains(found.sources, first, last, len(block), margin)
        times = (position + np.arange(size)) / frame - 0.5 - first
        out = np.zeros((found.num_speakers, size), np.float32)
        for speaker in range(found.num_speakers):
            for channel in np.flatnonzero(gains[:, speaker].any(axis=0)):
                gain = np.interp(times, np.arange(last - first), gains[:, speaker, channel])
                out[speaker] += block[channel] * gain.astype(np.float32)
        yield out
        position += size


def _gains(sources: NDArray[np.int8], first: int, last: int, num_channels: int, margin: int) -> NDArray[np.float32]:
    """How much of each channel each speaker gets, (frames, speakers, channels), for the frames first to last."""
    low, high = max(0, first - margin), min(len(sources), last + margin)
    around = sources[low:high]
    active = around != NOTHING
    gains = np.zeros((last - first, sources.shape[1], num_channels), np.float32)
    for row in range(first, last):
        nearby = np.arange(max(low, row - margin), min(high, row + margin + 1)) - low
        if not len(nearby):
            continue
        own = row - low
        silent = own >= len(active) or not active[own].any()
        for speaker in range(sources.shape[1]):
            if own < len(active) and active[own, speaker]:
                gains[row - first, speaker, around[own, speaker]] = 1.0
            elif silent:
                near = nearby[active[nearby, speaker]]
                if len(near):
                    distance = int(np.abs(near - own).min())
                    # The frames next to a turn are whole, so that its edges are.
                    gains[row - first, speaker, RECORDING] = min(1.0, max(0.0, 1.0 - (distance - 2) / margin))
    return gains
