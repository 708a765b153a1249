"""What every evaluation set offers: its mixtures one by one, and as padded batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor


def evenly_spread(number: int, most: int | None) -> list[int]:
    """Numbers below ``number``, all of them or ``most`` that are evenly spread."""
    kept = number if most is None else min(number, most)
    return [place * number // kept for place in range(kept)]


@dataclass(frozen=True)
class EvaluationItem:
    """One mixture of an evaluation set.

    ``mixture`` (time,), ``sources`` (num_sources, time), ``noise`` (time,), float32, mixture = sum of the sources +
    noise. ``speakers`` are unique names, ``sexes`` "F", "M" or "" (not stated). ``room`` and ``snr_db`` are None where
    the set has none.
    """

    id: str
    mixture: Tensor
    sources: Tensor
    noise: Tensor
    sample_rate: int
    speakers: tuple[str, ...]
    sexes: tuple[str, ...]
    room: str | None
    snr_db: float | None


class EvaluationSet(ABC):
    """A fixed sequence of mixtures, made when they are asked for and the same on every machine."""

    def __init__(self, name: str, split: str, sample_rate: int) -> None:
        self.name = name
        self.split = split
        self.sample_rate = sample_rate

    @abstractmethod
    def __len__(self) -> int:
        """Return the number of mixtures."""

    @abstractmethod
    def __getitem__(self, index: int) -> EvaluationItem:
        """Make a mixture."""

    def __iter__(self) -> Iterator[EvaluationItem]:
        return (self[index] for index in range(len(self)))

    def batches(self, batch_size: int) -> Iterator[dict[str, Tensor | list[str]]]:
        """Give all mixtures in order as batches, padded with zeros at the end.

        Each is ``{"mixture": (batch, time), "sources": (batch, num_sources, time), "noise": (batch, time), "lengths":
        (batch,), "num_sources": (batch,), "id": list of names}``.
        """
        for first in range(0, len(self), batch_size):
            items = [self[index] for index in range(first, min(first + batch_size, len(self)))]
            yield {
                "mixture": _padded([item.mixture for item in items]),
                "sources": _padded([item.sources for item in items]),
                "noise": _padded([item.noise for item in items]),
                "lengths": torch.tensor([len(item.mixture) for item in items], dtype=torch.int64),
                "num_sources": torch.tensor([len(item.sources) for item in items], dtype=torch.int64),
                "id": [item.id for item in items],
            }


def _padded(waveforms: Sequence[Tensor]) -> Tensor:
    longest = max(waveform.shape[-1] for waveform in waveforms)
    return torch.stack([torch.nn.functional.pad(waveform, (0, longest - waveform.shape[-1])) for waveform in waveforms])
