"""What was said and how it sounded: texts with their mels, and the voice of a clip, by which a synthesiser learns."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from threading import Lock
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auriscope.data.ahead import made_ahead
from auriscope.data.by_length import BatchesByLength
from auriscope.data.cache import ClipStore, open_clips
from auriscope.data.corpora import Utterance, utterances
from auriscope.data.phrases import Phrase, Times, path, phrases
from auriscope.data.pool import ClipPool
from auriscope.data.prepared_speech import open_speech
from auriscope.data.render import active_rms
from auriscope.errors import CorpusError, RecipeError
from auriscope.signal.vocoding import MelConfig, speech_mel

FloatArray = NDArray[np.float32]
_FRAME_SECONDS = 0.01
_PEAK = 0.95


@dataclass(frozen=True)
class SpeechPairsConfig:
    """What pairs of a text and its mels are made from.

    ``prepared``, a folder of transcribed speech that ``prepare`` wrote, takes the place of ``corpora``; ``speakers``
    (their names as the corpora write them, such as "19") leaves out all others. Utterances outside ``min_seconds`` and
    ``max_seconds``, and those without a text, are left out. ``batch_seconds`` is the sound of a batch, padding
    included; in the first ``sorted_epochs`` short utterances come first, in which attention is found sooner.

    What is more than ``trim_db`` below the loudest 10 ms at both ends is cut off but for ``margin_seconds``, as no text
    tells how long it is silent; None: nothing is. ``level_dbfs`` is the level to which the speech of each utterance is
    brought, so that voices recorded elsewhere are as loud; None: as they are. ``voice_seconds`` is the length of the
    clips whose embeddings tell a synthesiser the voice.

    Where somebody tells when something was said, utterances are cut at their pauses into phrases of ``phrase_seconds``
    or more, as attention is sooner found in what is short: all are asked for at the beginning. None: they stay whole.
    Validation is on whole utterances.
    """

    corpora: tuple[str, ...] = ("ljspeech_1spk",)
    prepared: str | None = None
    speakers: tuple[str, ...] = ()
    sample_rate: int = 16_000
    batch_seconds: float = 120.0
    min_seconds: float = 0.5
    max_seconds: float = 12.0
    sorted_epochs: int = 0
    trim_db: float | None = 40.0
    margin_seconds: float = 0.05
    level_dbfs: float | None = None
    voice_seconds: float = 4.0
    phrase_seconds: float | None = None

    def __post_init__(self) -> None:
        if not 0 < self.min_seconds < self.max_seconds <= self.batch_seconds:
            raise RecipeError("data needs 0 < min_seconds < max_seconds <= batch_seconds")
        if self.phrase_seconds is not None and not self.phrase_seconds > 0:
            raise RecipeError(f"data.phrase_seconds must be above 0, not {self.phrase_seconds}")
        if not self.voice_seconds > 0:
            raise RecipeError(f"data.voice_seconds must be above 0, not {self.voice_seconds}")


class SpeechPairs:
    """Endless batches of texts and mels, each fully determined by its index.

    Args:
        config: which speech.
        mel: what the mels are.
        seed: all that is drawn follows from it.
        write: a text as the synthesiser reads it; utterances of which nothing is left are left out.
        embed: the embedding (dim,) of a voice from a clip (time,); None: the synthesiser has one voice.
        align: places in a written text, and the seconds when they were said in a clip (time,), both in order; None:
            nobody asks when something was said.
        split: of the corpora.
        num_threads: that make batches ahead.
        root: folder of the corpora.
        folder: of the cache.
    """

    def __init__(
        self,
        config: SpeechPairsConfig,
        mel: MelConfig,
        *,
        seed: int,
        write: Callable[[str], str] = str,
        embed: Callable[[FloatArray], Tensor] | None = None,
        align: Callable[[FloatArray, str], Times] | None = None,
        split: str = "train",
        num_threads: int = 1,
        root: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        if config.sample_rate != mel.sample_rate:
            raise RecipeError(
                f"data is at {config.sample_rate} Hz, the mels at {mel.sample_rate} Hz: give both the same"
            )
        self.config, self.mel, self.seed, self.num_threads = config, mel, seed, num_threads
        self._embed, self._align = embed, align
        listed, stores = listed_speech(config, split, root, folder)
        self._pool = ClipPool(stores)
        self._names = [f"{entry.corpus}/{entry.name}" for entry in listed]
        self._speakers = [entry.speaker for entry in listed]
        self._texts = [write(entry.text or "") for entry in listed]
        seconds = np.array([self._pool.num_frames(clip) / config.sample_rate for clip in range(len(listed))])
        usable = (seconds >= config.min_seconds) & (seconds <= config.max_seconds) & (np.array(self._texts) != "")
        if config.speakers:
            usable &= np.array([name.rpartition(":")[2] in config.speakers for name in self._speakers])
        clips = np.flatnonzero(usable)
        if not len(clips):
            where = config.prepared or ", ".join(config.corpora)
            raise CorpusError(f"{where}: no utterance of the split {split} has a text and fits")
        self._by_speaker: dict[str, list[int]] = {}
        for clip in clips:
            self._by_speaker.setdefault(self._speakers[clip], []).append(int(clip))
        self._times: dict[int, Times] = {}
        self._aligning = Lock()
        # What there are batches of, by number: utterances, or phrases of them.
        self.numbers, self.seconds = clips, seconds
        self._cut: list[tuple[int, Phrase]] | None = None
        if align is not None and config.phrase_seconds is not None:
            self._cut = [(clip, phrase) for clip in clips.tolist() for phrase in self._phrases(clip, self._read(clip))]
            self.numbers = np.arange(len(self._cut))
            self.seconds = np.array([phrase.end_seconds - phrase.start_seconds for _, phrase in self._cut])
        self._by_length = BatchesByLength(
            self.seconds, self.numbers, config.batch_seconds, seed=seed, sorted_epochs=config.sorted_epochs
        )
        self._voices: dict[tuple[int, int], Tensor] = {}
        self._embedding = Lock()

    @property
    def num_seconds(self) -> float:
        """Seconds of sound in an epoch, silence at the ends included."""
        return float(self.seconds[self.numbers].sum())

    def iterate(self, start: int = 0, stride: int = 1) -> Iterator[dict[str, Any]]:
        """Give the batches ``start``, ``start + stride``, ... without end, made ahead in the background."""
        return made_ahead(self.batch, self.num_threads, start, stride)

    def batch(self, index: int) -> dict[str, Any]:
        """Make a batch, as :meth:`pairs` does."""
        return self.pairs(self._by_length.numbers(index), np.random.default_rng([self.seed, 5, index]))

    def fixed(self, batch_size: int, max_items: int | None = None) -> list[dict[str, Any]]:
        """Make batches of the first ``max_items`` utterances, the shortest first, always the same."""
        chosen = self.numbers[:max_items]
        chosen = chosen[np.argsort(self.seconds[chosen], kind="stable")]
        starts = range(0, len(chosen), batch_size)
        return [self.pairs(chosen[first : first + batch_size], np.random.default_rng(first)) for first in starts]

    def pairs(self, numbers: Sequence[int] | NDArray[np.int64], rng: np.random.Generator) -> dict[str, Any]:
        """Put utterances, or phrases, side by side: ``text``, ``mel`` (batch, frames, mels), ``frame_lengths``, ``id``.

        ``frame_lengths`` (batch,) are the valid frames, ``lengths`` (batch,) how many samples they are of. Behind the
        ends the mels are at their floor. With several voices there is ``voice`` (batch, dim) too: the embedding of
        another clip of the speaker, or of a piece of the same one where there is no other. Where it is asked when
        something was said, there is ``path`` (batch, frames): the place in the text that each frame is at, the end of
        the text being the last.
        """
        clips = [int(number) if self._cut is None else self._cut[number][0] for number in numbers]
        said = [self._said(int(number)) for number in numbers]
        lengths = torch.tensor([len(each.mel) for each in said])
        mel = torch.full((len(said), int(lengths.max()), self.mel.num_mels), math.log(self.mel.floor))
        for row, each in zip(mel, said, strict=True):
            row[: len(each.mel)] = each.mel
        made: dict[str, Any] = {
            "text": [each.text for each in said],
            "mel": mel,
            "frame_lengths": lengths,
            "lengths": lengths * self.mel.hop_length,
            "id": [self._names[clip] for clip in clips],
        }
        if self._embed is not None:
            made["voice"] = torch.stack([self._voice(clip, rng) for clip in clips])
        if self._align is not None:
            made["path"] = torch.zeros(mel.shape[:2])
            for row, each in zip(made["path"], said, strict=True):
                row[: len(each.mel)] = torch.from_numpy(each.path(self.mel.frame_seconds))
        return made

    def _said(self, number: int) -> _Said:
        """Read an utterance, or a phrase of one."""
        clip = number if self._cut is None else self._cut[number][0]
        whole = self._read(clip)
        if self._align is None:
            return _Said(self._texts[clip], self._mel(whole), ())
        phrase = self._phrases(clip, whole)[0] if self._cut is None else self._cut[number][1]
        rate = self.config.sample_rate
        ends = (round(seconds * rate) for seconds in (phrase.start_seconds, phrase.end_seconds))
        waveform, first = self._trimmed(whole[slice(*ends)])
        return _Said(
            phrase.text, self._mel(waveform), [(place, second - first / rate) for place, second in phrase.times]
        )

    def _phrases(self, clip: int, waveform: FloatArray) -> list[Phrase]:
        """Ask when an utterance was said, and cut it; into one phrase if it is to stay whole."""
        text = self._texts[clip]
        with self._aligning:
            if clip not in self._times:
                assert self._align is not None
                self._times[clip] = self._align(waveform, text)
        seconds = len(waveform) / self.config.sample_rate
        return phrases(text, self._times[clip], seconds, self.config.phrase_seconds or seconds)

    def _read(self, clip: int) -> FloatArray:
        waveform = self._trimmed(self._pool.read(clip))[0]
        level = self.config.level_dbfs
        return waveform if level is None else levelled(waveform, self.config.sample_rate, level)

    def _trimmed(self, waveform: FloatArray) -> tuple[FloatArray, int]:
        config = self.config
        if config.trim_db is None:
            return waveform, 0
        first, last = bounds(waveform, config.sample_rate, config.trim_db, config.margin_seconds)
        return waveform[first:last], first

    def _mel(self, waveform: FloatArray) -> Tensor:
        return speech_mel(torch.from_numpy(np.ascontiguousarray(waveform))[None], self.mel)[0]

    def _voice(self, clip: int, rng: np.random.Generator) -> Tensor:
        others = self._by_speaker.get(self._speakers[clip], [clip])
        chosen = clip
        while chosen == clip and len(others) > 1:
            chosen = others[rng.integers(len(others))]
        length = round(self.config.voice_seconds * self.config.sample_rate)
        # Whole pieces, and what is left over is a part of the last.
        number = max(1, self._pool.num_frames(chosen) // length)
        piece = int(rng.integers(number))
        with self._embedding:
            if (chosen, piece) not in self._voices:
                assert self._embed is not None
                end = None if piece == number - 1 else length
                self._voices[chosen, piece] = self._embed(self._pool.read(chosen, piece * length, end))
            return self._voices[chosen, piece]


@dataclass(frozen=True)
class _Said:
    """What a row of a batch is made of."""

    text: str
    mel: Tensor
    times: Times

    def path(self, frame_seconds: float) -> NDArray[np.float32]:
        return path(len(self.text), self.times, len(self.mel), frame_seconds)


def bounds(waveform: FloatArray, sample_rate: int, below_db: float, margin_seconds: float) -> tuple[int, int]:
    """Find the samples from which to which speech (time,) lasts; that is all where it is silent.

    Before and after are what is ``below_db`` below its loudest 10 ms, but for a margin.
    """
    size = max(1, round(_FRAME_SECONDS * sample_rate))
    frames = waveform[: len(waveform) // size * size].reshape(-1, size)
    powers = np.einsum("ft,ft->f", frames, frames, dtype=np.float64)
    loud = np.flatnonzero(powers > powers.max(initial=0.0) * 10.0 ** (-below_db / 10.0))
    if not len(loud):
        return 0, len(waveform)
    margin = round(margin_seconds * sample_rate)
    return max(0, int(loud[0]) * size - margin), min(len(waveform), (int(loud[-1]) + 1) * size + margin)


def levelled(waveform: FloatArray, sample_rate: int, level_dbfs: float) -> FloatArray:
    """Bring the active part of speech (time,) to a level, as far as it does not clip; silence stays as it is."""
    level = active_rms(waveform, sample_rate)
    if not level:
        return waveform
    gain = min(10.0 ** (level_dbfs / 20.0) / level, _PEAK / float(np.abs(waveform).max()))
    return waveform * np.float32(gain)


def listed_speech(
    config: SpeechPairsConfig, split: str, root: Path | None = None, folder: Path | None = None
) -> tuple[list[Utterance], list[ClipStore]]:
    """List the utterances of a split, used or not, and open the stores of their sound, in the same order."""
    if config.prepared is not None:
        return open_speech(config.prepared, split, sample_rate=config.sample_rate)
    listed: list[Utterance] = []
    stores: list[ClipStore] = []
    for corpus in config.corpora:
        entries = utterances(corpus, split, root=root, for_training=split == "train")
        listed += entries
        name = f"{corpus}-{split}-spoken"
        stores.append(open_clips(entries, sample_rate=config.sample_rate, name=name, folder=folder))
    return listed, stores
