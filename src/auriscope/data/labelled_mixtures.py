"""Two things at once: sounds of two classes mixed at a level, images of two classes laid over each other.

What an interpreter says of such a mixture can be held against the source that it should have found. The first source is
the one to explain.

The cases of images are those of PIQ (Paissan, Subakan and Ravanelli, "Posthoc interpretation via quantization", arXiv
2303.12659), whose listeners and viewers rated them: two digits (case 1), two pieces of clothing (case 2), a
digit on a piece of clothing (case 3), two drawings (case 4, of a folder that ``prepare`` wrote of Quick, Draw!).
"""

from __future__ import annotations

import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auriscope.data.images import ImageSet, as_image
from auriscope.data.items import evenly_spread
from auriscope.data.labelled import LabelledSet
from auriscope.data.render import PEAK_LIMIT, active_rms, looped
from auriscope.data.transcribed import padded
from auriscope.errors import CorpusError

FloatArray = NDArray[np.float32]

IMAGE_CASES = {
    "two-digits": ("mnist", "mnist"),
    "two-clothes": ("fashion-mnist", "fashion-mnist"),
    "digit-on-clothes": ("mnist", "fashion-mnist"),
}
"""The cases by name: the sets of the first and of the second image."""
_SEED = 2029
_LEVEL = 0.05
# Quieter than this a sound cannot be brought to a level.
_QUIET = 1e-4


@dataclass(frozen=True)
class LabelledMixture:
    """A mixture (time,) float32, the sum of its ``sources`` (2, time); ``labels`` are the numbers of their classes."""

    id: str
    mixture: FloatArray
    sources: FloatArray
    labels: tuple[int, int]


class LabelledMixtureSet:
    """A fixed sequence of mixtures of two sounds of other classes, the same on every machine.

    Mixture k holds sound k of the set, if there are so many, and one that is drawn from those of other classes; the
    first sound is ``level_db`` above the second, both measured where they are not silent. A mixture is as
    long as the longer of the two, but at most ``max_seconds``; the other starts over. What is drawn depends on the
    names of the sounds alone, and is the same at every level.

    Args:
        name: a set of labelled sounds, or a prepared folder (:class:`~auriscope.data.labelled.LabelledSet`).
        split: "test" or another.
        level_db: of the first over the second.
        num_mixtures: at most so many, evenly spread over the set; None: one for each sound.
        max_seconds: longer ones are cut.
        sample_rate: the model's.
        fold: of a prepared corpus with folds.
        root: folder of the corpora, by default where the environment says.
        folder: of the cache, likewise.

    Raises:
        CorpusError: as of :class:`~auriscope.data.labelled.LabelledSet`, or there are no sounds of two classes.
    """

    def __init__(
        self,
        name: str,
        split: str = "test",
        *,
        level_db: float = 0.0,
        num_mixtures: int | None = None,
        max_seconds: float = 5.0,
        sample_rate: int = 16_000,
        fold: int | None = None,
        root: Path | None = None,
        folder: Path | None = None,
    ) -> None:
        self.sounds = LabelledSet(name, split, sample_rate=sample_rate, fold=fold, root=root, folder=folder)
        self.name, self.split, self.labels = name, split, self.sounds.labels
        self.sample_rate, self.level_db = sample_rate, level_db
        self._longest = round(max_seconds * sample_rate)
        if len(set(self.sounds.numbers)) < 2:
            raise CorpusError(f"{name}: holds one class only in the split {split}; two are needed for a mixture")
        self._firsts = evenly_spread(len(self.sounds), num_mixtures)

    def __len__(self) -> int:
        return len(self._firsts)

    def __getitem__(self, index: int) -> LabelledMixture:
        sounds = self.sounds
        first = sounds[self._firsts[index]]
        uniform = _uniform(self.split, first.id)
        others = [number for number, label in enumerate(sounds.numbers) if label != first.label]
        second = sounds[_pick(others, uniform)]
        num_frames = min(self._longest, max(len(first.waveform), len(second.waveform)))
        parts = [looped(sound.waveform, 0, num_frames) for sound in (first, second)]
        wanted = (_LEVEL, _LEVEL * 10.0 ** (-self.level_db / 20.0))
        levels = [active_rms(part, self.sample_rate) for part in parts]
        gains = [level / found if found > _QUIET else 1.0 for level, found in zip(wanted, levels, strict=True)]
        sources = np.stack([part * np.float32(gain) for part, gain in zip(parts, gains, strict=True)])
        peak = float(np.abs(sources.sum(axis=0)).max())
        sources *= np.float32(min(1.0, PEAK_LIMIT / peak) if peak > 0 else 1.0)
        return LabelledMixture(f"{first.id}+{second.id}", sources.sum(axis=0), sources, (first.label, second.label))

    def __iter__(self) -> Iterator[LabelledMixture]:
        return (self[index] for index in range(len(self)))

    def batches(self, batch_size: int) -> Iterator[dict[str, Any]]:
        """Give all mixtures in order as padded batches.

        Each is ``waveform`` (batch, time), ``lengths`` (batch,), ``sources`` (batch, 2, time), ``label`` and ``other``,
        both (batch,), the classes of the first and of the second source, and ``id``.
        """
        for first in range(0, len(self), batch_size):
            made = [self[index] for index in range(first, min(first + batch_size, len(self)))]
            sources = [padded([each.sources[source] for each in made])["waveform"] for source in (0, 1)]
            yield padded([each.mixture for each in made]) | {
                "sources": torch.stack(sources, 1),
                "label": torch.tensor([each.labels[0] for each in made]),
                "other": torch.tensor([each.labels[1] for each in made]),
                "id": [each.id for each in made],
            }


class ImageMixtureSet:
    """A fixed sequence of images of two classes laid over each other, each pixel being the brighter of the two.

    Image k holds image k of the first set and one drawn from the second set, of another class where both sets are one.
    With ``shift``, the two are moved apart by so much of their width, each by half of it, and what leaves the picture
    is lost. ``labels`` are the classes of the first set, ``other_labels`` those of the second.

    Args:
        case: of ``IMAGE_CASES``, or a set of images or a prepared folder for both.
        split: "test" or another.
        num_mixtures: as of :class:`LabelledMixtureSet`.
        shift: how far the two are apart, 0: one on the other.
        root: folder of the corpora, by default where the environment says.

    Raises:
        CorpusError: as of :class:`~auriscope.data.images.ImageSet`, or the images are not of one size.
    """

    def __init__(
        self,
        case: str,
        split: str = "test",
        *,
        num_mixtures: int | None = None,
        shift: float = 0.0,
        root: Path | None = None,
    ) -> None:
        if not 0.0 <= shift < 1.0:
            raise ValueError(f"shift must lie between 0 and 1, not {shift}")
        names = IMAGE_CASES.get(case, (case, case))
        self.first = ImageSet(names[0], split, root=root)
        self.second = self.first if names[0] == names[1] else ImageSet(names[1], split, root=root)
        if self.first.images.shape[1:] != self.second.images.shape[1:]:
            raise CorpusError(f"{case}: the images of {names[0]} and {names[1]} are not of one size")
        if len(set(self.first.numbers)) < 2:
            raise CorpusError(f"{case}: holds one class only in the split {split}; two are needed for a mixture")
        self.name, self.split, self.shift = case, split, shift
        self.labels, self.other_labels = self.first.labels, self.second.labels
        self._firsts = evenly_spread(len(self.first), num_mixtures)

    def __len__(self) -> int:
        return len(self._firsts)

    def batches(self, batch_size: int) -> Iterator[dict[str, Any]]:
        """Give all mixtures in order as batches.

        Each is ``image`` (batch, 1, height, width), ``sources`` (batch, 2, height, width), ``label`` and ``other``,
        both (batch,), and ``id``.
        """
        same = self.first is self.second
        for begin in range(0, len(self), batch_size):
            firsts = self._firsts[begin : begin + batch_size]
            seconds = []
            for first in firsts:
                usable = self.second.numbers != (self.first.numbers[first] if same else -1)
                seconds.append(_pick(np.flatnonzero(usable), _uniform(self.split, self.first.ids[first])))
            move = round(self.shift * self.first.images.shape[2] / 2)
            sources = torch.cat(
                [
                    _sideways(as_image(self.first.images[firsts]), -move),
                    _sideways(as_image(self.second.images[seconds]), move),
                ],
                dim=1,
            )
            ids = [f"{self.first.ids[one]}+{self.second.ids[two]}" for one, two in zip(firsts, seconds, strict=True)]
            yield {
                "image": sources.amax(1, keepdim=True),
                "sources": sources,
                "label": torch.from_numpy(self.first.numbers[firsts]),
                "other": torch.from_numpy(self.second.numbers[seconds]),
                "id": ids,
            }


def _sideways(image: torch.Tensor, move: int) -> torch.Tensor:
    """Move images (batch, channels, height, width) to the right by whole pixels, filling up with zeros."""
    return torch.nn.functional.pad(image, (move, -move)) if move else image


def _uniform(split: str, name: str) -> float:
    # Only random() of Python's generator is promised to give the same numbers for ever, in all versions.
    return random.Random(f"{_SEED} {split} {name}").random()


def _pick(items: Sequence[int] | NDArray[np.int64], share: float) -> int:
    return int(items[int(share * len(items))])
