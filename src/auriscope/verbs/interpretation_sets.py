"""What interpreters are measured on: labelled sounds and images, and mixtures of two with both sources."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from auriscope.classification import ImageClassifier, SoundClassifier
from auriscope.data.images import ImageSet
from auriscope.data.items import evenly_spread
from auriscope.data.labelled import LabelledSet
from auriscope.data.labelled_mixtures import IMAGE_CASES, ImageMixtureSet, LabelledMixtureSet
from auriscope.verbs.classification_figures import MIXED, known_columns
from auriscope.verbs.interpretation_figures import Example

MAX_SECONDS = 5.0
"""Longer sounds are cut."""

_BATCH_SIZE = 32


@dataclass(frozen=True)
class Examples:
    """A set to measure interpreters of a classifier on; calling it gives the batches, anew each time.

    Sounds come one by one, since they are of other lengths. Where the set is of mixtures, the decision is explained,
    or if ``asked`` the class of the first source.

    Args:
        classifier: of sounds or of images, whose classes the set has.
        name: a set of labelled sounds (:mod:`auriscope.data.labelled_sets`) or of images
            (:mod:`auriscope.data.images`), or a prepared folder; ``NAME-mixtures`` of sounds, and the cases of
            :mod:`auriscope.data.labelled_mixtures` of images, are of two at once.
        split: "test" or another.
        items: at most so many, evenly spread.
        asked: see above.
        level_db: of the first sound of a mixture over the second.
        shift: how far the images of a mixture are moved apart, as a share of their width.

    Raises ``AuriscopeError`` when called: there is no such set, its corpora are missing, or the classifier does not
    know its classes.
    """

    classifier: SoundClassifier | ImageClassifier
    name: str
    split: str = "test"
    items: int | None = None
    asked: bool = False
    level_db: float = 0.0
    shift: float = 0.0

    def __call__(self) -> Iterator[Example]:
        """The batches, in order."""
        if isinstance(self.classifier, ImageClassifier):
            return self._image_mixtures() if self.name in IMAGE_CASES else self._images()
        return self._sound_mixtures() if self.name.endswith(MIXED) else self._sounds()

    def __len__(self) -> int:
        """How many examples there are."""
        return sum(len(example.ids) for example in self())

    def _sounds(self) -> Iterator[Example]:
        rate = int(self.classifier.config.sample_rate)
        found = LabelledSet(self.name, self.split, sample_rate=rate)
        known_columns(self.classifier, found.labels, self.name)
        for number in evenly_spread(len(found), self.items or None):
            sound = found[number]
            waveform = torch.from_numpy(sound.waveform[: round(MAX_SECONDS * rate)])[None]
            yield Example(waveform.to(self.classifier.device), (sound.id,))

    def _sound_mixtures(self) -> Iterator[Example]:
        found = LabelledMixtureSet(
            self.name.removesuffix(MIXED),
            self.split,
            level_db=self.level_db,
            num_mixtures=self.items,
            max_seconds=MAX_SECONDS,
            sample_rate=int(self.classifier.config.sample_rate),
        )
        columns = torch.tensor(known_columns(self.classifier, found.labels, self.name))
        for mixture in found:
            waveform, sources = torch.from_numpy(mixture.mixture)[None], torch.from_numpy(mixture.sources)[None]
            yield self._mixed(waveform, [mixture.id], sources, columns[torch.tensor([mixture.labels])])

    def _images(self) -> Iterator[Example]:
        found = ImageSet(self.name, self.split)
        known_columns(self.classifier, found.labels, self.name)
        chosen, first = set(evenly_spread(len(found), self.items or None)), 0
        for batch in found.batches(_BATCH_SIZE):
            places = [place for place in range(len(batch["id"])) if first + place in chosen]
            first += len(batch["id"])
            if places:
                ids = tuple(batch["id"][place] for place in places)
                yield Example(batch["image"][places].to(self.classifier.device), ids)

    def _image_mixtures(self) -> Iterator[Example]:
        found = ImageMixtureSet(self.name, self.split, num_mixtures=self.items, shift=self.shift)
        columns = torch.tensor(known_columns(self.classifier, found.labels, self.name))
        for batch in found.batches(_BATCH_SIZE):
            first = columns[batch["label"]]
            # Where the other image is of another set, it is of no class that the classifier knows.
            other = columns[batch["other"]] if found.first is found.second else torch.full_like(first, -1)
            yield self._mixed(batch["image"], batch["id"], batch["sources"], torch.stack((first, other), 1))

    def _mixed(self, mixture: Tensor, ids: list[str], sources: Tensor, labels: Tensor) -> Example:
        device = self.classifier.device
        label = labels[:, 0].to(device) if self.asked else None
        return Example(mixture.to(device), tuple(ids), label, sources, labels)
