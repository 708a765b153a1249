"""Score normalisation: how much more alike two recordings are than either is to those of other people.

Source: Matějka et al., "Analysis of score normalization in multilingual speaker recognition" (Interspeech 2017),
adaptive S-norm; with the whole cohort it is the S-norm of Kenny, "Bayesian speaker verification with heavy-tailed
priors" (2010).
"""

from __future__ import annotations

from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.errors import AuriscopeError

NUM_NEAREST = 300


class ScoreNormaliser(nn.Module):
    """Scores pairs of embeddings relative to a cohort of recordings of other people.

    ``cohort`` (recordings, dim), one of each person, need not be of unit length. Of it only the ``num_nearest``
    recordings count that are most alike to the one at hand, separately for both of a pair; None: all of it.
    ``AuriscopeError`` if the cohort has fewer than two.
    """

    cohort: Tensor

    def __init__(self, cohort: Tensor, num_nearest: int | None = NUM_NEAREST) -> None:
        super().__init__()
        if len(cohort) < 2:
            raise AuriscopeError(
                "score normalisation needs recordings of two other people at least, better of hundreds"
            )
        if num_nearest is not None and num_nearest < 2:
            raise AuriscopeError(f"num_nearest must be 2 at least; it is {num_nearest}")
        self.num_nearest = num_nearest
        self.register_buffer("cohort", F.normalize(cohort.float(), dim=-1))

    def statistics(self, embedding: Tensor) -> tuple[Tensor, Tensor]:
        """Give mean and standard deviation, each (batch,), of the scores of embeddings (batch, dim) with the cohort."""
        scores = F.normalize(embedding.float(), dim=-1) @ self.cohort.mT
        if self.num_nearest is not None and self.num_nearest < scores.shape[-1]:
            scores = scores.topk(self.num_nearest, dim=-1).values
        return scores.mean(-1), scores.std(-1).clamp_min(1e-6)

    def forward(self, first: Tensor, second: Tensor) -> Tensor:
        """Score pairs (batch, dim) of embeddings: (batch,), in standard deviations above other people's scores."""
        score = F.cosine_similarity(first.float(), second.float(), dim=-1)
        means, deviations = zip(self.statistics(first), self.statistics(second), strict=True)
        return 0.5 * ((score - means[0]) / deviations[0] + (score - means[1]) / deviations[1])
