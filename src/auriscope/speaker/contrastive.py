"""Learning voices without names: two crops of one recording are to be found among those of all others.

T. Chen et al., "A simple framework for contrastive learning of visual representations" (SimCLR, arXiv 2002.05709),
section 2 and equation 1; for cries of infants: A. Gorin et al., "Self-supervised learning for infant cry analysis"
(arXiv 2305.01578). And a linear map on a frozen network, by which what it has learnt is measured.
"""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.errors import RecipeError
from auriscope.signal.features import SpecAugment
from auriscope.speaker.embedder import Embedder
from auriscope.speaker.verifying import VerifyingTask
from auriscope.training.task import Batch


@dataclass(frozen=True)
class ContrastiveOptions(SpecAugment):
    """What a recipe may say about the loss, and about what is blanked in every crop.

    Args:
        objective: "contrastive", by which a recipe asks for it.
        temperature: by which cosines are divided.
        projection_dim: length of the vectors that are compared.
    """

    objective: str = "contrastive"
    temperature: float = 0.2
    projection_dim: int = 64
    num_mel_masks: int = 2
    max_mel_width: int = 10
    num_time_masks: int = 2
    max_time_width: int = 20

    def __post_init__(self) -> None:
        if self.objective != "contrastive":
            raise RecipeError(f"task_options.objective must be contrastive or left out, not {self.objective!r}")
        if not self.temperature > 0 or self.projection_dim < 1:
            raise RecipeError("task_options: temperature must be above 0, and projection_dim at least 1")


class ContrastiveTask(VerifyingTask):
    """NT-Xent over two views of every recording; equal error rate on trials of others.

    Batches hold the first views of all recordings, then the second ones in the same order. The head, whose outputs
    are compared, is the task's and is left behind: the network's embeddings transfer better (SimCLR, section 4.2).
    """

    def __init__(self, model: Embedder, options: ContrastiveOptions | None = None) -> None:
        super().__init__(model)
        self.options = options or ContrastiveOptions()
        self.head = nn.Sequential(
            nn.Linear(model.dim, model.dim), nn.ReLU(), nn.Linear(model.dim, self.options.projection_dim)
        )

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:  # noqa: ARG002
        """The loss of a batch, and the share of crops whose other view is the nearest."""
        loss, accuracy = nt_xent(self.head(self.embed(batch, self.options)), self.options.temperature)
        return {"loss": loss, "accuracy": accuracy}


def nt_xent(views: Tensor, temperature: float) -> tuple[Tensor, Tensor]:
    """Give the normalised temperature-scaled cross-entropy of (2 · recordings, dim), and how often it is right.

    The rows are the first views of all recordings, then the second ones. Each is to be the nearest to the other view of
    its recording, by cosine, among all rows but itself. Source: SimCLR, equation 1.
    """
    num_rows = len(views)
    if num_rows % 2 or num_rows < 4:
        raise ValueError(f"two views of two recordings are needed at least, not {num_rows} rows")
    unit = F.normalize(views.float(), dim=-1)
    logits = unit @ unit.mT / temperature
    logits = logits.masked_fill(torch.eye(num_rows, dtype=torch.bool, device=logits.device), -torch.inf)
    other = torch.arange(num_rows, device=logits.device).roll(num_rows // 2)
    return F.cross_entropy(logits, other), (logits.argmax(1) == other).float().mean()


class LinearProbe(Embedder):
    """A frozen speaker model with a linear map behind it, which alone is trained: the linear evaluation of SimCLR."""

    def __init__(self, frozen: Embedder) -> None:
        super().__init__(frozen.config)
        self.front = frozen.front
        self.frozen = frozen.requires_grad_(False)
        self.map = nn.Linear(frozen.dim, frozen.dim)
        nn.init.eye_(self.map.weight)
        nn.init.zeros_(self.map.bias)

    def train(self, mode: bool = True) -> LinearProbe:
        """Set the mode of the map; what is frozen stays as it is used."""
        super().train(mode)
        self.frozen.eval()
        return self

    def encode_features(self, features: Tensor, frame_lengths: Tensor | None = None) -> Tensor:
        """Turn features (batch, frames, num_mels) into embeddings (batch, dim)."""
        with torch.no_grad():
            embedding = self.frozen.encode_features(features, frame_lengths)
        # Without their scale the map would first have to find it.
        mapped: Tensor = self.map(F.normalize(embedding, dim=-1))
        return mapped
