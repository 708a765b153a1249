"""Guided attention: who reads a text aloud goes through it at about one speed.

H. Tachibana, K. Uenoyama and S. Aihara, "Efficiently Trainable Text-to-Speech System Based on Deep Convolutional
Networks with Guided Attention" (arXiv 1710.08969), section 4.1.
"""

from __future__ import annotations

import torch
from torch import Tensor

from auriscope.nn.masks import length_mask


def guided_attention_loss(
    attention: Tensor, token_lengths: Tensor, frame_lengths: Tensor, width: float = 0.2
) -> Tensor:
    """How far attentions (batch, frames, tokens) are from the diagonal: 0 on it, at most 1; a scalar.

    Token n of N weighs 1 - exp(-(n / N - t / T)² / (2 width²)) in frame t of T. The weights that a frame gives sum to
    1, so the loss is the mean over frames; the paper also divides by the number of tokens, which makes long texts count
    less.
    """
    frames = torch.arange(attention.shape[1], device=attention.device) / frame_lengths[:, None]
    tokens = torch.arange(attention.shape[2], device=attention.device) / token_lengths[:, None]
    away = 1.0 - torch.exp(-((tokens[:, None] - frames[..., None]) ** 2) / (2.0 * width**2))
    valid = length_mask(frame_lengths, attention.shape[1])
    per_frame = (attention * away).sum(-1)
    return (per_frame * valid).sum() / valid.sum()
