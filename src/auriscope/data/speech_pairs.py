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

    def __post_init__(self) -> None:
        if not 0 < self.min_seconds < self.max_seconds <= self.batch_seconds:
            raise RecipeError("data needs 0 < min_seconds < max_seconds <= batch_seconds")
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
        align: Callable[[FloatArray, str], Sequence[tuple[int, float]]] | None = None,
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
        self.clips = np.flatnonzero(usable)
        if not len(self.clips):
            raise CorpusError(
                f"{config.prepared or ', '.join(config.corpora)}: no utterance of the split {split} has a text and fits"
            )
        self.seconds = seconds
        self._by_speaker: dict[str, list[int]] = {}
        for clip in self.clips:
            self._by_speaker.setdefault(self._speakers[clip], []).append(int(clip))
        self._by_length = BatchesByLength(
            seconds, self.clips, config.batch_seconds, seed=seed, sorted_epochs=config.sorted_epochs
        )
        self._voices: dict[tuple[int, int], Tensor] = {}
        self._embedding = Lock()
        self._paths: dict[int, Tensor] = {}
        self._aligning = Lock()

    @property
    def num_seconds(self) -> float:
        """Seconds of sound in an epoch, silence at the ends included."""
        return float(self.seconds[self.clips].sum())

    def iterate(self, start: int = 0, stride: int = 1) -> Iterator[dict[str, Any]]:
        """Give the batches ``start``, ``start + stride``, ... without end, made ahead in the background."""
        return made_ahead(self.batch, self.num_threads, start, stride)

    def batch(self, index: int) -> dict[str, Any]:
        """Make a batch, as :meth:`pairs` does."""
        return self.pairs(self._by_length.numbers(index), np.random.default_rng([self.seed, 5, index]))

    def fixed(self, batch_size: int, max_items: int | None = None) -> list[dict[str, Any]]:
        """Make batches of the first ``max_items`` utterances, the shortest first, always the same."""
        chosen = self.clips[:max_items]
        chosen = chosen[np.argsort(self.seconds[chosen], kind="stable")]
        starts = range(0, len(chosen), batch_size)
        return [self.pairs(chosen[first : first + batch_size], np.random.default_rng(first)) for first in starts]

    def pairs(self, clips: Sequence[int] | NDArray[np.int64], rng: np.random.Generator) -> dict[str, Any]:
        """Put clips side by side: ``text``, ``mel`` (batch, frames, mels), ``frame_lengths`` (batch,) and ``id``.

        ``lengths`` (batch,) is how many samples the frames are of. Behind the ends the mels are at their floor. With
        several voices there is ``voice`` (batch, dim) too: the embedding of another clip of the speaker, or of a piece
        of the same one where there is no other. Where it is asked when something was said, there is ``path`` (batch,
        frames): the place in the text that each frame is at, the end of the text being the last.
        """
        mels = [self._mel(int(clip)) for clip in clips]
        lengths = torch.tensor([len(each) for each in mels])
        mel = torch.full((len(mels), int(lengths.max()), self.mel.num_mels), math.log(self.mel.floor))
        for row, each in zip(mel, mels, strict=True):
            row[: len(each)] = each
        made: dict[str, Any] = {
            "text": [self._texts[clip] for clip in clips],
            "mel": mel,
            "frame_lengths": lengths,
            "lengths": lengths * self.mel.hop_length,
            "id": [self._names[clip] for clip in clips],
        }
        if self._embed is not None:
            made["voice"] = torch.stack([self._voice(int(clip), rng) for clip in clips])
        if self._align is not None:
            made["path"] = torch.zeros(mel.shape[:2])
            for row, clip, each in zip(made["path"], clips, mels, strict=True):
                row[: len(each)] = self._path(int(clip), len(each))
        return made

    def _read(self, clip: int) -> FloatArray:
        waveform, config = self._pool.read(clip), self.config
        if config.trim_db is None:
            return waveform
        return trimmed(waveform, config.sample_rate, config.trim_db, config.margin_seconds)

    def _path(self, clip: int, num_frames: int) -> Tensor:
        with self._aligning:
            if clip not in self._paths:
                assert self._align is not None
                text = self._texts[clip]
                ends = (0, 0.0), (len(text), num_frames * self.mel.frame_seconds)
                found = [ends[0], *self._align(self._read(clip), text), ends[1]]
                places, seconds = zip(*found, strict=True)
                frames = (np.arange(num_frames) + 0.5) * self.mel.frame_seconds
                self._paths[clip] = torch.from_numpy(np.interp(frames, seconds, places)).float()
            return self._paths[clip]

    def _mel(self, clip: int) -> Tensor:
        waveform, config = self._read(clip), self.config
        if config.level_dbfs is not None:
            waveform = levelled(waveform, config.sample_rate, config.level_dbfs)
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


def trimmed(waveform: FloatArray, sample_rate: int, below_db: float, margin_seconds: float) -> FloatArray:
    """Cut off the ends of speech (time,) that are ``below_db`` below its loudest 10 ms, but for a margin."""
    size = max(1, round(_FRAME_SECONDS * sample_rate))
    if len(waveform) < size:
        return waveform
    frames = waveform[: len(waveform) // size * size].reshape(-1, size)
    powers = np.einsum("ft,ft->f", frames, frames, dtype=np.float64)
    loud = np.flatnonzero(powers > powers.max() * 10.0 ** (-below_db / 10.0))
    if not len(loud):
        return waveform
    margin = round(margin_seconds * sample_rate)
    return waveform[max(0, int(loud[0]) * size - margin) : (int(loud[-1]) + 1) * size + margin]


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
