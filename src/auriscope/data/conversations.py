"""Conversations made of real utterances: who speaks when is known to the frame, and nobody was ever trained on.

Two to four people take turns for minutes, now and then before the other has ended, over the noise of a place. The same
seed gives the same conversation. Corpora hold a minute or less of most people, so that utterances are heard again:
each only after all others of its speaker were.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auriscope.data.pool import Voice, VoicePool, noise_store, voice_pool
from auriscope.data.render import PEAK_LIMIT, active_rms, looped, rms
from auriscope.errors import CorpusError
from auriscope.signal.levels import silences
from auriscope.signal.turns import SpeakerTurn, joined

FloatArray = NDArray[np.float32]

_LEVEL_DBFS = -26.0
_FADE_SECONDS = 0.01
_FRAME_SECONDS = 0.02


@dataclass(frozen=True)
class ConversationConfig:
    """How conversations are made.

    ``corpora`` are those of the voices ("synthetic" needs no data), as in :func:`~auriscope.data.pool.voice_pool`;
    people of whom there are less than ``min_speaker_seconds`` are left out. ``num_speakers`` are the least and the
    most of a conversation. A turn begins with ``overlap_probability`` up to ``max_overlap_seconds`` before the last
    one has ended, else after a pause that lasts ``pause_seconds`` on average (exponentially distributed), and goes to
    the one who has just spoken with ``same_probability``. Levels of people differ by up to ``level_spread_db`` to both
    sides. ``snr_db`` is the level of all speech over that of the noise of the corpus ``noise``; None: no noise.
    """

    corpora: tuple[str, ...] = ("libri_other_10spk", "commonvoice_en")
    sample_rate: int = 16_000
    seconds: float = 600.0
    num_speakers: tuple[int, int] = (2, 4)
    min_speaker_seconds: float = 20.0
    overlap_probability: float = 0.2
    max_overlap_seconds: float = 2.0
    pause_seconds: float = 0.5
    same_probability: float = 0.15
    level_spread_db: float = 3.0
    snr_db: float | None = 25.0

    def __post_init__(self) -> None:
        least, most = self.num_speakers
        if not 1 <= least <= most:
            raise ValueError(f"num_speakers must be a least number from 1 on and a most, not {self.num_speakers}")
        if self.seconds <= 0.0 or self.pause_seconds <= 0.0 or self.max_overlap_seconds < 0.0:
            raise ValueError("seconds and pause_seconds must be above 0, max_overlap_seconds not below")


@dataclass(frozen=True)
class Conversation:
    """A conversation: ``waveform`` (time,) float32, and its ``turns``, speakers under their names in the corpora."""

    id: str
    waveform: FloatArray
    sample_rate: int
    turns: tuple[SpeakerTurn, ...]

    @property
    def speakers(self) -> tuple[str, ...]:
        """Who takes part, in order of their names."""
        return tuple(sorted({turn.speaker for turn in self.turns}))

    @property
    def overlap_seconds(self) -> float:
        """For how long two speak at once."""
        edges = sorted(
            [(turn.start_seconds, 1) for turn in self.turns] + [(turn.end_seconds, -1) for turn in self.turns]
        )
        depth, total, last = 0, 0.0, 0.0
        for time, step in edges:
            total += time - last if depth > 1 else 0.0
            depth, last = depth + step, time
        return total


class Conversations:
    """An endless sequence of conversations; number *i* of a seed is always the same.

    Raises :class:`~auriscope.errors.CorpusError` when a corpus is missing, or holds too few people.
    """

    def __init__(
        self,
        config: ConversationConfig,
        split: str,
        *,
        seed: int = 2030,
        root: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        self.config, self.split, self._seed = config, split, seed
        self._pool = voice_pool(
            config.corpora, split, sample_rate=config.sample_rate, cap_seconds=np.inf, root=root, folder=folder
        )
        self._voices = [
            voice for voice in self._pool.voices if _seconds(self._pool, voice) >= config.min_speaker_seconds
        ]
        if len(self._voices) < config.num_speakers[1]:
            raise CorpusError(
                f"{', '.join(config.corpora)} ({split}) hold {len(self._voices)} people of whom there are at least "
                f"{config.min_speaker_seconds:g} s, and {config.num_speakers[1]} are needed; add corpora"
            )
        self._noises = None
        if config.snr_db is not None:
            self._noises = noise_store(split, sample_rate=config.sample_rate, root=root, folder=folder)
        self._spans: dict[int, list[tuple[float, float]]] = {}

    def __getitem__(self, index: int) -> Conversation:
        config = self.config
        rng = np.random.default_rng([self._seed, index])
        least, most = config.num_speakers
        # Numbers of people take turns, so that a few conversations have them all.
        number = least + index % (most - least + 1)
        people = [self._voices[each] for each in rng.choice(len(self._voices), size=number, replace=False)]
        decks = [_deck(person, rng) for person in people]
        gains = rng.uniform(-config.level_spread_db, config.level_spread_db, size=number)
        waveform = np.zeros(round(config.seconds * config.sample_rate), dtype=np.float32)
        turns: list[SpeakerTurn] = []
        free = [0.0] * number
        """Until when each has spoken."""
        ends = [0.0, 0.0]
        """When the last but one and the last to fall silent did."""
        who = int(rng.integers(number))
        while True:
            clip = next(decks[who])
            spans = self._speech(clip)
            start = ends[1] + float(rng.exponential(config.pause_seconds))
            if ends[1] > 0.0 and rng.random() < config.overlap_probability:
                start = ends[1] - float(rng.uniform(0.0, config.max_overlap_seconds))
            # Nobody speaks over himself, and no three at once.
            start = max(start, free[who], ends[0])
            if not spans or start + spans[-1][1] - spans[0][0] > config.seconds:
                if spans:
                    break
                continue
            self._place(waveform, clip, start, spans, float(gains[who]))
            for first, last in spans:
                turns.append(SpeakerTurn(people[who].name, start + first - spans[0][0], start + last - spans[0][0]))
            free[who] = start + spans[-1][1] - spans[0][0]
            ends = sorted([*ends, free[who]])[1:]
            if number > 1 and rng.random() >= config.same_probability:
                others = [each for each in range(number) if each != who]
                # Those who were not heard yet go first.
                who = int(rng.choice([each for each in others if free[each] == 0.0] or others))
        if self._noises is not None and config.snr_db is not None:
            waveform += self._noise(waveform, config.snr_db, rng)
        peak = float(np.abs(waveform).max(initial=0.0))
        if peak > PEAK_LIMIT:
            waveform *= np.float32(PEAK_LIMIT / peak)
        name = f"{self.split}-{self._seed}-{index}"
        return Conversation(name, waveform, config.sample_rate, tuple(joined(turns)))

    def _speech(self, clip: int) -> list[tuple[float, float]]:
        """Find where a clip is speech, in seconds; measured once."""
        if clip not in self._spans:
            self._spans[clip] = speech_spans(self._pool.read(clip), self.config.sample_rate)
        return self._spans[clip]

    def _place(
        self, waveform: FloatArray, clip: int, start_seconds: float, spans: list[tuple[float, float]], gain_db: float
    ) -> None:
        """Add a clip from its first speech to its last."""
        rate = self.config.sample_rate
        first, last = round(spans[0][0] * rate), round(spans[-1][1] * rate)
        speech = self._pool.read(clip, first, last - first)
        level = active_rms(speech, rate)
        speech = speech * np.float32(10.0 ** ((_LEVEL_DBFS + gain_db) / 20.0) / max(level, 1e-9))
        fade = min(round(_FADE_SECONDS * rate), len(speech) // 2)
        ramp = np.linspace(0.0, 1.0, fade, dtype=np.float32)
        speech[:fade] *= ramp
        speech[len(speech) - fade :] *= ramp[::-1]
        begin = round(start_seconds * rate)
        part = waveform[begin : begin + len(speech)]
        part += speech[: len(part)]

    def _noise(self, waveform: FloatArray, snr_db: float, rng: np.random.Generator) -> FloatArray:
        assert self._noises is not None
        clip = int(rng.integers(len(self._noises)))
        noise = looped(self._noises.read(clip), int(rng.integers(self._noises.num_frames(clip))), len(waveform))
        level = max(rms(noise), 1e-9)
        scaled: FloatArray = noise * np.float32(rms(waveform) * 10.0 ** (-snr_db / 20.0) / level)
        return scaled


def speech_spans(
    waveform: FloatArray, sample_rate: int, *, min_pause_seconds: float = 0.5
) -> list[tuple[float, float]]:
    """Find where a recording of one voice, (time,), is speech, by its level: (start, end) in seconds.

    Speech is what is within 35 dB of the loud frames (the 95th percentile) and 10 dB above the quiet ones (the 10th),
    but never so narrowly that the loudest 15 dB are lost. Pauses below ``min_pause_seconds`` are part of it. It is for
    close recordings with little noise, of which the truth is made; recordings of any kind need a voice detector.
    """
    size = max(1, round(_FRAME_SECONDS * sample_rate))
    if len(waveform) < size:
        return []
    frames = waveform[: len(waveform) // size * size].reshape(-1, size)
    levels = 10.0 * np.log10(np.mean(np.square(frames, dtype=np.float64), axis=1) + 1e-12)
    loud, quiet = np.percentile(levels, [95.0, 10.0])
    threshold = max(loud - 35.0, min(quiet + 10.0, loud - 15.0))
    if threshold < -90.0:
        return []
    # Quiet stretches at the ends are cut off however short they are.
    edges = np.flatnonzero(levels > threshold)
    start, end = int(edges[0]) * size / sample_rate, (int(edges[-1]) + 1) * size / sample_rate
    pauses = silences(waveform, sample_rate, threshold_dbfs=threshold, min_seconds=min_pause_seconds)
    inside = [(first, last) for first, last in pauses if first > start and last < end]
    times = [start, *(time for pause in inside for time in pause), end]
    return list(zip(times[::2], times[1::2], strict=True))


def _deck(person: Voice, rng: np.random.Generator) -> Iterator[int]:
    """Deal a person's clips, shuffled anew when all were dealt."""
    while True:
        yield from rng.permutation(person.clips).tolist()


def _seconds(pool: VoicePool, voice: Voice) -> float:
    return sum(pool.num_frames(int(clip)) for clip in voice.clips) / pool.sample_rate
