"""The number of talkers by trying: of separators for several numbers, the largest whose every track is heard.

Nachmani et al. (arXiv 2003.01531, section 3.4): a network for each number of talkers; the one for the most goes first,
and where an activity detector finds one of its tracks silent, the next smaller one is tried. Their released code takes
a track for silent whose power is below a thousandth of the square of the highest peak of all tracks; here a track is
compared with the loudest one, so that a single click changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import torch
from torch import Tensor

SILENT_DB = 20.0
"""How far below the loudest a track counts as silent, where nothing was fitted: no talker is meant to be that faint."""


@dataclass(frozen=True)
class Selection:
    """What was chosen: ``estimates`` (sources, time) of the separator for ``num_sources`` talkers."""

    estimates: Tensor
    num_sources: int


def track_depths_db(estimates: Tensor, lengths: Tensor | None = None) -> Tensor:
    """How far each track lies below the loudest of its mixture in dB, (batch, sources) for (batch, sources, time).

    ``lengths`` (batch,) are the valid samples. The loudest track has 0; where all are silent, every one has.
    """
    if lengths is not None:
        valid = torch.arange(estimates.shape[-1], device=estimates.device) < lengths[:, None, None]
        estimates = torch.where(valid, estimates, 0)
    power = estimates.double().square().sum(-1)
    loudest = power.amax(-1, keepdim=True)
    return -10 * torch.log10(torch.where(loudest > 0, power / loudest, 1.0).clamp(min=1e-10))


def select_separation(
    mixture: Tensor,
    separators: Mapping[int, Callable[[Tensor], Tensor]],
    thresholds_db: Mapping[int, float] | None = None,
) -> Selection:
    """Separate a mixture with the separator for the most talkers whose tracks are all heard.

    Args:
        mixture: (time,).
        separators: for each number of talkers, what maps (1, time) to (1, number, time). A separator for 1 is not
            needed: where the smallest one leaves a track silent, the mixture itself is its one track.
        thresholds_db: for each number, how far below the loudest track one is silent; by default ``SILENT_DB``.

    Raises:
        ValueError: no separators, or one that gives another number of tracks than it stands for.
    """
    if not separators:
        raise ValueError("there must be one separator at least")
    for number in sorted(separators, reverse=True):
        estimates = separators[number](mixture[None])
        if estimates.shape[1] != number:
            raise ValueError(f"the separator for {number} talkers gives {estimates.shape[1]} tracks")
        threshold = SILENT_DB if thresholds_db is None else thresholds_db[number]
        if number == 1 or bool((track_depths_db(estimates) < threshold).all()):
            return Selection(estimates[0], number)
    return Selection(mixture[None], 1)


def fit_thresholds_db(depths_db: Mapping[int, Sequence[float]], counts: Sequence[int]) -> dict[int, float]:
    """Choose each separator's threshold such that it decides best between "at least its number" and "fewer".

    ``depths_db[number]`` holds the depth of the faintest track that the separator for ``number`` talkers makes of each
    example, and ``counts`` how many people talk in each. "At least" and "fewer" weigh alike, however many examples
    there are of each; of equally good thresholds the middle one is taken.
    """
    truth = torch.as_tensor(counts)
    thresholds = {}
    for number, values in depths_db.items():
        depths = torch.as_tensor(values, dtype=torch.float64)
        enough = truth >= number
        if not enough.any() or enough.all():
            raise ValueError(f"the examples need talkers both fewer than {number} and that many")
        ordered = depths.sort().values
        candidates = torch.cat([ordered[:1] - 1, (ordered[1:] + ordered[:-1]) / 2, ordered[-1:] + 1])
        heard = depths[None] < candidates[:, None]
        right = (heard & enough).sum(1) / enough.sum() + (~heard & ~enough).sum(1) / (~enough).sum()
        best = candidates[right >= right.max() - 1e-12]
        thresholds[number] = float(best[len(best) // 2])
    return thresholds
