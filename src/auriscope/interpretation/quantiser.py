"""A dictionary of codes of which every class has its own, and vectors replaced by the nearest code of their class.

A. van den Oord, O. Vinyals and K. Kavukcuoglu, "Neural discrete representation learning" (arXiv 1711.00937), section 3,
for the quantisation; F. Paissan, C. Subakan and M. Ravanelli, "Posthoc interpretation via quantization"
(arXiv 2303.12659), section 2.2, for the partition.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_SHARED = -1


@dataclass(frozen=True)
class Quantised:
    """What quantisation makes of maps (batch, dim, height, width).

    ``codes`` (batch, dim, height, width) are the nearest codes, from which gradients pass to the dictionary. ``passed``
    is the same, but that gradients pass to the maps, as if nothing had been done to them. ``index``
    (batch, height, width) int64 are the codes' numbers.
    """

    codes: Tensor
    passed: Tensor
    index: Tensor


class PartitionedCodebook(nn.Module):
    """``num_codes`` codes of ``dim`` numbers: the last ``num_shared`` for all classes, the others a class's own.

    The shared codes are open to every class, in training as afterwards. The partition is that of SpeechBrain's
    ``PIQ-ESC50``. Raises ``ValueError`` if a class gets no code.
    """

    owner: Tensor

    def __init__(self, num_codes: int, dim: int, num_classes: int, num_shared: int = 0) -> None:
        super().__init__()
        own = torch.linspace(-0.5, num_classes - 0.51, num_codes - num_shared).round().long()
        if num_codes - num_shared < num_classes or len(set(own.tolist())) < num_classes:
            raise ValueError(f"{num_codes} codes, {num_shared} of them shared, leave a class of {num_classes} none")
        owner = torch.cat((own, torch.full((num_shared,), _SHARED)))
        self.register_buffer("owner", owner, persistent=False)
        self.codes = nn.Parameter(torch.empty(num_codes, dim).uniform_(-1.0 / num_codes, 1.0 / num_codes))

    def open_to(self, label: Tensor) -> Tensor:
        """Which codes (batch, num_codes) the classes (batch,) may use."""
        return (self.owner == label[:, None]) | (self.owner == _SHARED)

    def forward(self, maps: Tensor, label: Tensor) -> Quantised:
        """Quantise maps (batch, dim, height, width) with the codes of their classes (batch,)."""
        vectors = maps.flatten(2).mT
        with torch.no_grad():
            # The squared distance, less the vector's own square, which is the same for all codes.
            distances = self.codes.square().sum(1) - 2.0 * vectors @ self.codes.mT
            index = distances.masked_fill(~self.open_to(label)[:, None], torch.inf).argmin(2)
        codes = F.embedding(index, self.codes).mT.reshape(maps.shape)
        return Quantised(codes, maps + (codes - maps).detach(), index.reshape(len(maps), *maps.shape[2:]))

    @torch.no_grad()
    def begin(self, vectors: Tensor, label: Tensor, seed: int = 0) -> None:
        """Draw the codes of every class from vectors (vectors, dim) of the classes (vectors,), so that all are used.

        Shared codes are drawn from all vectors. A class of which there are none keeps its codes.
        """
        generator = torch.Generator().manual_seed(seed)
        for owner in sorted(set(self.owner.tolist())):
            pool = vectors if owner == _SHARED else vectors[label == owner]
            places = (self.owner == owner).nonzero()[:, 0]
            if len(pool):
                drawn = torch.randint(len(pool), (len(places),), generator=generator).to(pool.device)
                self.codes[places] = pool[drawn]
