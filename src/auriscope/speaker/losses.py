"""Telling speakers apart by angles: softmax over cosines with a margin."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class AAMSoftmax(nn.Module):
    """Cross-entropy of the speakers over scaled cosines, the right one's angle being made ``margin`` wider.

    J. Deng et al., "ArcFace: Additive Angular Margin Loss for Deep Face Recognition" (arXiv 1801.07698), equation 3;
    where the angle would pass pi, the cosine is lowered by sin(pi - margin) margin instead, as in their code, so that
    the logit keeps falling. With a margin of 0 it is the softmax over cosines.

    Args:
        dim: of the embeddings.
        num_speakers: of the training set.
        scale: what cosines are multiplied by.
    """

    def __init__(self, dim: int, num_speakers: int, *, scale: float = 30.0) -> None:
        super().__init__()
        self.weight = nn.Parameter(nn.init.xavier_uniform_(torch.empty(num_speakers, dim)))
        self.scale = scale

    def forward(self, embedding: Tensor, speaker: Tensor, margin: float) -> tuple[Tensor, Tensor]:
        """Loss and cosines of embeddings (batch, dim) of the speakers (batch,): a scalar, and (batch, num_speakers)."""
        cosines = F.linear(F.normalize(embedding.float()), F.normalize(self.weight))
        right = cosines.gather(1, speaker[:, None])
        # The root of zero has no gradient.
        sines = (1.0 - right.square()).clamp_min(1e-7).sqrt()
        wider = right * math.cos(margin) - sines * math.sin(margin)
        wider = torch.where(right > -math.cos(margin), wider, right - math.sin(margin) * margin)
        logits = self.scale * cosines.scatter(1, speaker[:, None], wider)
        return F.cross_entropy(logits, speaker), cosines
