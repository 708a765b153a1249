"""Learning from audio and texts that are not paired: which pairs a teacher makes of them, and its soft targets.

Z. Wang, C. Subakan, K. Subramani, J. Wu, T. Tavares, F. Ayres, P. Smaragdis, "Unsupervised Improvement of Audio-Text
Cross-Modal Representations" (WASPAA 2023, arXiv 2305.01864): domain-unspecific curation (DU, section 2.2),
domain-specific curation and its augmentation (DS and ADS, section 2.3), and the soft-labelled loss (SL, section 2.4).
A frozen teacher, a CLAP that was trained on annotated pairs, measures everything by cosines.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from types import MappingProxyType

import torch
from torch import Tensor

from auriscope.crossmodal.losses import clamped_logits

_LARGEST = 1 << 24
"""Cosines in memory at once."""
DU_THRESHOLD = 0.75
"""The least cosine of a recording and a caption that DU makes a pair of."""


@dataclass(frozen=True)
class Thresholds:
    """The least cosines of domain-specific curation.

    ``caption`` is that of a caption and the nearest prompt of a label (DS), ``audio`` that of such a caption and a
    recording (ADS).
    """

    caption: float
    audio: float


DOMAIN_THRESHOLDS: Mapping[str, Thresholds] = MappingProxyType(
    {
        "esc50": Thresholds(0.7, 0.7),
        "urbansound8k": Thresholds(0.6, 0.7),
        "tut17": Thresholds(0.675, 0.65),
    }
)
"""The paper's, by corpus; those of ESC-50 serve every other domain."""


def thresholds_of(domain: str) -> Thresholds:
    """The paper's thresholds for a domain: those of the corpus of this name, else those of ESC-50."""
    return DOMAIN_THRESHOLDS.get(domain, DOMAIN_THRESHOLDS["esc50"])


@dataclass(frozen=True)
class Pairs:
    """Pairs that were found: numbers of recordings and of texts, and their cosines, each (pairs,).

    They come by recording, and of one recording the nearest text first.
    """

    audio: Tensor
    text: Tensor
    cosine: Tensor

    def __len__(self) -> int:
        return len(self.audio)


def pairs_above(
    audio_embedding: Tensor, text_embedding: Tensor, threshold: float, *, most: int | None = None, block: int = 4096
) -> Pairs:
    """Find every recording and text whose cosine is at least ``threshold``: DU, and the second half of ADS.

    ``audio_embedding`` (recordings, dim) and ``text_embedding`` (texts, dim) are of unit length; ``most`` texts at most
    are kept of each recording, the nearest, of equally near ones the first. Recordings are compared ``block`` by
    ``block``, so that memory does not grow with their number. Source: sections 2.2 and 2.3.
    """
    parts = list(_blocks(audio_embedding, text_embedding, threshold, most, block))
    if not parts:
        empty = torch.zeros(0, dtype=torch.int64)
        return Pairs(empty, empty, torch.zeros(0))
    return Pairs(*(torch.cat(columns) for columns in zip(*parts, strict=True)))


def _blocks(
    audio: Tensor, text: Tensor, threshold: float, most: int | None, block: int
) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
    block = max(1, min(block, _LARGEST // max(1, len(text))))
    for first in range(0, len(audio), block):
        cosines = audio[first : first + block] @ text.T
        rows, columns = torch.nonzero(cosines >= threshold, as_tuple=True)
        order = cosines[rows, columns].argsort(descending=True, stable=True)
        order = order[rows[order].argsort(stable=True)]
        rows, columns = rows[order], columns[order]
        if most is not None:
            # How many of the same recording come before.
            starts = torch.searchsorted(rows, rows)
            kept = torch.arange(len(rows), device=rows.device) - starts < most
            rows, columns = rows[kept], columns[kept]
        yield rows + first, columns, cosines[rows, columns]


def nearest(embedding: Tensor, others: Tensor) -> tuple[Tensor, Tensor]:
    """Tell the largest cosine of each row with any of ``others`` (others, dim), and with which; (rows,) each.

    ``embedding`` (rows, dim) and the others are of unit length. DS keeps the texts whose largest cosine with a prompt
    of a label is at least its threshold. Source: section 2.3.
    """
    block = max(1, _LARGEST // max(1, len(others)))
    parts = [(own @ others.T).max(dim=1) for own in torch.split(embedding, block)]
    return torch.cat([part.values for part in parts]), torch.cat([part.indices for part in parts])


def soft_targets(embedding: Tensor, beta: float, *, normalised: bool = False) -> Tensor:
    """Mix the identity with how alike the teacher finds a batch: (1 - beta) I + beta E Eᵀ, (batch, batch).

    ``embedding`` (batch, dim) is of unit length, of one modality. As published, rows do not sum to one: the more alike
    the examples of a batch, the larger the target of the whole row; ``normalised`` divides by the sum. Negative cosines
    count as 0: the divergence is not defined for them, and the published code's leaves them out. Source: section 2.4.
    """
    identity = torch.eye(len(embedding), device=embedding.device, dtype=embedding.dtype)
    target = ((1.0 - beta) * identity + beta * (embedding @ embedding.T)).clamp_min(0.0)
    return target / target.sum(1, keepdim=True) if normalised else target


def soft_clap_loss(
    audio_embedding: Tensor,
    text_embedding: Tensor,
    logit_scale: Tensor,
    teacher_audio: Tensor,
    teacher_text: Tensor,
    *,
    beta: float = 0.3,
    normalised: bool = False,
) -> Tensor:
    """The soft-labelled loss: the divergence of the student's softmax from the teacher's soft targets, a scalar.

    All embeddings are (batch, dim) of unit length, those of the teacher without gradient. Over the texts of each
    recording the target is that of the teacher's recordings, over the recordings of each text that of its texts; the
    loss is the mean of the two. With ``beta`` 0 it is :func:`~auriscope.crossmodal.losses.clap_loss`. Source: section
    2.4, with beta 0.3 in section 3.
    """
    logits = clamped_logits(audio_embedding, text_embedding, logit_scale)
    over_texts = _divergence(logits, soft_targets(teacher_audio, beta, normalised=normalised))
    over_audio = _divergence(logits.T, soft_targets(teacher_text, beta, normalised=normalised))
    return 0.5 * (over_texts + over_audio)


def _divergence(logits: Tensor, target: Tensor) -> Tensor:
    """Kullback-Leibler's, of rows: the mean over them of the sum of target (log target - log softmax)."""
    own = torch.xlogy(target, target) - target * logits.log_softmax(1)
    return own.sum(1).mean()
