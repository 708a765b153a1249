"""Fixed evaluation sets: mixtures described by committed lists, so that every run measures on the same ones.

A list (``lists/<base>.<split>.csv``) has a row per mixture: which stretch of which utterances, how loud, which measured
room responses, which stretch of which noise. Each base gives four sets: ``<base>-clean``, ``-noisy``, ``-reverb`` and
``-noisy-reverb``, of the same talkers and stretches; of one talker, there is no clean one.

How the lists were drawn, by ``python -m auriscope.data.evaluation``:

- talkers of one mixture always differ, and everyone speaks about equally often; all speak over the whole mixture
- a mixture is 4 to 6 s long, uniformly, as far as its shortest utterance allows; stretches begin anywhere
- every talker's image has an RMS level of -33 to -25 dBFS, uniformly (the range of LibriMix, arXiv 2005.11262)
- noise is 0 to 15 dB below the sum of the images, uniformly
  (0 to 10 dB in the sets of one talker)
- rooms are measured ones: a house (RT60 0.4 to 0.7 s) or a warehouse (2 to 2.5 s), as often as each has positions in
  the split; each talker at another position; the target is the reverberant image, or, in the sets of one talker, which
  measure enhancement, its first 50 ms. The valid split has the warehouse only. The splits share buildings, not
  positions.

The sets named ``libri…`` are of ``libri_eval50_flac``, those named ``commonvoice…`` of ``commonvoice_en``: readers that
no training split holds, with noise of sources that it does not hold either. The set
``voicebank-demand-pairs`` has no list: its corpus holds noisy and clean recordings (:mod:`auriscope.data.pairs`).
"""

from __future__ import annotations

import argparse
import csv
import io
import random
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property
from importlib import resources
from pathlib import Path
from typing import TypeVar

import numpy as np
import torch

from auriscope.data.cache import AudioStore, open_clips
from auriscope.data.corpora import impulse_responses, noise_clips, utterances
from auriscope.data.items import EvaluationItem, EvaluationSet
from auriscope.data.pairs import PAIRED, PairedSet
from auriscope.data.pool import noise_store
from auriscope.data.prepared import is_prepared
from auriscope.data.prepared_set import PreparedSet
from auriscope.data.render import PEAK_LIMIT, FloatArray, Target, early_part, looped, reverberate, rms
from auriscope.data.rooms import measured_rooms, positions
from auriscope.errors import CorpusError

_T = TypeVar("_T")

LIST_SAMPLE_RATE = 16_000
CONDITIONS = ("clean", "noisy", "reverb", "noisy-reverb")
_SEED = 2027
_MIN_SECONDS, _MAX_SECONDS = 4.0, 6.0
# Manifests round durations to the millisecond.
_MARGIN_SECONDS = 0.01


@dataclass(frozen=True)
class Base:
    """What the mixtures of a list are made of: a corpus, talkers in a mixture, and mixtures in each split.

    ``snr_db`` is drawn uniformly; ``target`` is what the sources are in rooms; ``conditions`` are the sets of the base.
    """

    corpus: str
    num_talkers: int
    num_mixtures: dict[str, int]
    snr_db: tuple[float, float] = (0.0, 15.0)
    target: Target = "image"
    conditions: tuple[str, ...] = CONDITIONS


BASES = {
    "libri2mix-mini": Base("libri_eval50_flac", 2, {"test": 180, "valid": 100}),
    "libri3mix-mini": Base("libri_eval50_flac", 3, {"test": 120, "valid": 60}),
    "commonvoice2mix-mini": Base("commonvoice_en", 2, {"test": 150, "valid": 60}),
    # One talker without noise or room is its own mixture: there is nothing to enhance.
    "libri1mix-mini": Base(
        "libri_eval50_flac",
        1,
        {"test": 120, "valid": 60},
        snr_db=(0.0, 10.0),
        target="early",
        conditions=("noisy", "reverb", "noisy-reverb"),
    ),
}


@dataclass(frozen=True)
class ListedTalker:
    """A talker of a listed mixture; ``path`` and ``response`` are relative to their corpora, ``start`` in frames."""

    path: str
    start: int
    level_dbfs: float
    response: str
    speaker: str
    sex: str


@dataclass(frozen=True)
class ListedMixture:
    """A mixture as a list describes it; frames are of 16 kHz."""

    id: str
    num_frames: int
    room: str
    noise: str
    noise_start: int
    snr_db: float
    talkers: tuple[ListedTalker, ...]


class ListedSet(EvaluationSet):
    """The mixtures of a list under one condition."""

    def __init__(
        self,
        name: str,
        split: str,
        mixtures: Sequence[ListedMixture],
        *,
        sample_rate: int = LIST_SAMPLE_RATE,
        root: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        super().__init__(name, split, sample_rate)
        self.mixtures = tuple(mixtures)
        base, self.condition = _parse(name)
        self._corpus, self._target = BASES[base].corpus, BASES[base].target
        self._root = root
        self._folder = folder

    def __len__(self) -> int:
        return len(self.mixtures)

    def __getitem__(self, index: int) -> EvaluationItem:
        mixture = self.mixtures[index]
        num_frames = self._frames(mixture.num_frames)
        pairs = [self._image(talker, num_frames) for talker in mixture.talkers]
        images, targets = (np.stack(waveforms) for waveforms in zip(*pairs, strict=True))
        noise = np.zeros(num_frames, dtype=np.float32)
        if self._noisy:
            store, clips = self._noises
            raw = looped(
                store.read(_find(clips, mixture.noise, "noise")), self._frames(mixture.noise_start), num_frames
            )
            noise = raw * _gain(raw, rms(images.sum(axis=0)) * 10.0 ** (-mixture.snr_db / 20.0))
        peak = float(np.abs(images.sum(axis=0) + noise).max())
        gain = np.float32(min(1.0, PEAK_LIMIT / peak)) if peak > 0 else np.float32(1.0)
        # What the targets lack of the images, late reverberation, is for them noise.
        sources, noise = targets * gain, (noise + (images - targets).sum(axis=0)) * gain
        return EvaluationItem(
            id=mixture.id,
            mixture=torch.from_numpy(sources.sum(axis=0) + noise),
            sources=torch.from_numpy(sources),
            noise=torch.from_numpy(noise),
            sample_rate=self.sample_rate,
            speakers=tuple(talker.speaker for talker in mixture.talkers),
            sexes=tuple(talker.sex for talker in mixture.talkers),
            room=mixture.room if self._reverberant else None,
            snr_db=mixture.snr_db if self._noisy else None,
        )

    @property
    def _noisy(self) -> bool:
        return self.condition in ("noisy", "noisy-reverb")

    @property
    def _reverberant(self) -> bool:
        return self.condition in ("reverb", "noisy-reverb")

    @cached_property
    def _voices(self) -> tuple[AudioStore, dict[str, int]]:
        listed = utterances(self._corpus, self.split, root=self._root)
        name = f"{self._corpus}-{self.split}"
        store = open_clips(listed, sample_rate=self.sample_rate, name=name, folder=self._folder)
        return store, {utterance.name: number for number, utterance in enumerate(listed)}

    @cached_property
    def _noises(self) -> tuple[AudioStore, dict[str, int]]:
        store = noise_store(self.split, sample_rate=self.sample_rate, root=self._root, folder=self._folder)
        return store, {clip.name: number for number, clip in enumerate(noise_clips(self.split, root=self._root))}

    @cached_property
    def _responses(self) -> tuple[AudioStore, dict[str, int]]:
        rooms = measured_rooms(self.split, sample_rate=self.sample_rate, root=self._root, folder=self._folder)
        listed = impulse_responses(self.split, root=self._root)
        return rooms.store, {response.name: number for number, response in enumerate(listed)}

    def _frames(self, frames: int) -> int:
        return round(frames * self.sample_rate / LIST_SAMPLE_RATE)

    def _image(self, talker: ListedTalker, num_frames: int) -> tuple[FloatArray, FloatArray]:
        """What reaches the microphone, and what of it is the target."""
        store, clips = self._voices
        image = np.zeros(num_frames, dtype=np.float32)
        dry = store.read(_find(clips, talker.path, self._corpus), self._frames(talker.start), num_frames)
        image[: len(dry)] = dry
        target = image
        if self._reverberant:
            store, clips = self._responses
            response = store.read(_find(clips, talker.response, "rir"), 0, num_frames)
            dry, image = image, reverberate(image, response)
            early = self._target == "early"
            target = reverberate(dry, early_part(response, self.sample_rate)) if early else image
        gain = np.float32(_gain(image, 10.0 ** (talker.level_dbfs / 20.0)))
        return image * gain, target * gain


def evaluation_set(
    name: str,
    split: str = "test",
    *,
    sample_rate: int = LIST_SAMPLE_RATE,
    root: Path | None = None,
    folder: Path | None = None,
) -> EvaluationSet:
    """Open an evaluation set such as "libri2mix-mini-noisy-reverb", or a prepared folder, split "test" or "valid".

    ``root`` and ``folder`` are the corpora and the cache, by default where the environment says. Raises
    :class:`~auriscope.errors.CorpusError` when there is no such set, or, from its items, when the corpora are missing.
    """
    if is_prepared(name):
        return PreparedSet(name, split, sample_rate=sample_rate)
    if name in PAIRED:
        return PairedSet(name, split, PAIRED[name], sample_rate=sample_rate, root=root, folder=folder)
    base, _ = _parse(name)
    if split not in BASES[base].num_mixtures:
        raise CorpusError(f"the set {name!r} has no split {split!r}; it has test and valid")
    text = (resources.files("auriscope.data") / "lists" / f"{base}.{split}.csv").read_text(encoding="utf-8")
    return ListedSet(name, split, parse_list(text), sample_rate=sample_rate, root=root, folder=folder)


def evaluation_set_names() -> list[str]:
    """List the names that :func:`evaluation_set` knows."""
    return [f"{base}-{condition}" for base, kind in BASES.items() for condition in kind.conditions] + list(PAIRED)


def draw_list(base: str, split: str, *, root: Path | None = None, seed: int = _SEED) -> list[ListedMixture]:
    """Draw a list from the manifests, as the module says; the same seed and manifests give the same list."""
    kind = BASES[base]
    # Only random() of Python's generator is promised to give the same numbers for ever, in all versions.
    uniform = random.Random(f"{seed} {base} {split}").random
    by_speaker: dict[str, list[int]] = {}
    listed = utterances(kind.corpus, split, root=root, min_seconds=_MIN_SECONDS + 2 * _MARGIN_SECONDS)
    for number, utterance in enumerate(listed):
        by_speaker.setdefault(utterance.speaker, []).append(number)
    noises = noise_clips(split, root=root)
    responses = impulse_responses(split, root=root)
    rooms = {room: places for room, places in positions(responses).items() if len(places) >= kind.num_talkers}
    mixtures: list[ListedMixture] = []
    waiting: list[str] = []
    turns: Counter[str] = Counter()
    while len(mixtures) < kind.num_mixtures[split]:
        if len(waiting) < kind.num_talkers:
            # Whom the last round left over comes first.
            waiting = sorted(by_speaker, key=lambda speaker: (turns[speaker], uniform()))
        speakers, waiting = waiting[: kind.num_talkers], waiting[kind.num_talkers :]
        turns.update(speakers)
        chosen = [listed[_pick(by_speaker[speaker], uniform())] for speaker in speakers]
        seconds = _MIN_SECONDS + (_MAX_SECONDS - _MIN_SECONDS) * uniform()
        longest = min(utterance.duration_seconds for utterance in chosen) - _MARGIN_SECONDS
        num_frames = int(min(seconds, longest) * LIST_SAMPLE_RATE)
        room = _pick([room for room, places in rooms.items() for _ in places], uniform())
        places = sorted(rooms[room], key=lambda _: uniform())
        talkers = []
        for utterance, place in zip(chosen, places, strict=False):
            spare = int((utterance.duration_seconds - _MARGIN_SECONDS) * LIST_SAMPLE_RATE) - num_frames
            talkers.append(
                ListedTalker(
                    path=utterance.name,
                    start=int(uniform() * (spare + 1)),
                    level_dbfs=round(-33.0 + 8.0 * uniform(), 2),
                    response=responses[_pick(place, uniform())].name,
                    speaker=utterance.speaker,
                    sex=utterance.sex or "",
                )
            )
        noise = _pick(noises, uniform())
        mixtures.append(
            ListedMixture(
                id=f"{base}-{split}-{len(mixtures):03d}",
                num_frames=num_frames,
                room=room,
                noise=noise.name,
                noise_start=int(uniform() * noise.duration_seconds * LIST_SAMPLE_RATE),
                snr_db=round(kind.snr_db[0] + (kind.snr_db[1] - kind.snr_db[0]) * uniform(), 2),
                talkers=tuple(talkers),
            )
        )
    return mixtures


_COLUMNS = ("id", "num_frames", "room", "noise", "noise_start", "snr_db")
_TALKER_COLUMNS = ("path", "start", "level_dbfs", "response", "speaker", "sex")


def format_list(mixtures: Sequence[ListedMixture]) -> str:
    """Write a list as CSV: the mixture's columns, then the talkers' with their number behind (``path_1``)."""
    num_talkers = len(mixtures[0].talkers)
    stream = io.StringIO()
    writer = csv.writer(stream, lineterminator="\n")
    talker_columns = [f"{name}_{number + 1}" for number in range(num_talkers) for name in _TALKER_COLUMNS]
    writer.writerow([*_COLUMNS, *talker_columns])
    for mixture in mixtures:
        own = [getattr(mixture, name) for name in _COLUMNS]
        writer.writerow([*own, *(getattr(talker, name) for talker in mixture.talkers for name in _TALKER_COLUMNS)])
    return stream.getvalue()


def parse_list(text: str) -> list[ListedMixture]:
    """Read what :func:`format_list` wrote."""
    mixtures = []
    for row in csv.DictReader(io.StringIO(text)):
        numbers = [name.removeprefix("path_") for name in row if name.startswith("path_")]
        talkers = tuple(
            ListedTalker(
                path=row[f"path_{number}"],
                start=int(row[f"start_{number}"]),
                level_dbfs=float(row[f"level_dbfs_{number}"]),
                response=row[f"response_{number}"],
                speaker=row[f"speaker_{number}"],
                sex=row[f"sex_{number}"],
            )
            for number in numbers
        )
        mixtures.append(
            ListedMixture(
                id=row["id"],
                num_frames=int(row["num_frames"]),
                room=row["room"],
                noise=row["noise"],
                noise_start=int(row["noise_start"]),
                snr_db=float(row["snr_db"]),
                talkers=talkers,
            )
        )
    return mixtures


def _parse(name: str) -> tuple[str, str]:
    for base, kind in BASES.items():
        for condition in kind.conditions:
            if name == f"{base}-{condition}":
                return base, condition
    raise CorpusError(
        f"there is no evaluation set {name!r}, nor a prepared folder; there are: {', '.join(evaluation_set_names())}"
    )


def _pick(items: Sequence[_T], share: float) -> _T:
    return items[int(share * len(items))]


def _find(numbers: dict[str, int], name: str, corpus: str) -> int:
    if name not in numbers:
        raise CorpusError(f"{corpus} holds no {name!r}, which an evaluation list needs; get the corpus as it was")
    return numbers[name]


def _gain(waveform: FloatArray, level: float) -> np.float32:
    own = rms(waveform)
    return np.float32(level / own if own > 0 else 1.0)


def _main() -> None:
    parser = argparse.ArgumentParser(description="Draw the evaluation lists anew from the corpora.")
    parser.add_argument("--out", type=Path, default=Path(__file__).parent / "lists", help="folder for the lists")
    folder: Path = parser.parse_args().out
    folder.mkdir(parents=True, exist_ok=True)
    for base, kind in BASES.items():
        for split in kind.num_mixtures:
            place = folder / f"{base}.{split}.csv"
            place.write_text(format_list(draw_list(base, split)), encoding="utf-8")
            print(place)


if __name__ == "__main__":
    _main()
