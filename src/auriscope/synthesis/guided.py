"""Guided attention: who reads a text aloud goes through it at about one speed, or as was found beforehand.

H. Tachibana, K. Uenoyama and S. Aihara, "Efficiently Trainable Text-to-Speech System Based on Deep Convolutional
Networks with Guided Attention" (arXiv 1710.08969), section 4.1. Along paths that a recogniser found: X. Zhu, Y. Zhang,
S. Yang, L. Xue and L. Xie, "Pre-Alignment Guided Attention for Improving Training Efficiency and Model Stability in
End-to-End Speech Synthesis", IEEE Access 7, 2019.
"""

from __future__ import annotations

import torch
from torch import Tensor

from auriscope.nn.masks import length_mask

_LEAST = 1e-6


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
    away = 1.0 - _near(tokens, frames, width)
    return _mean((attention * away).sum(-1), frame_lengths)


def aligned_attention_loss(attention: Tensor, paths: Tensor, frame_lengths: Tensor, width: float = 2.0) -> Tensor:
    """How far attentions (batch, frames, tokens) are from ``paths`` (batch, frames), the token said in each frame.

    The mean over frames of -log of the attention on the path, token n counting exp(-(n - path)² / (2 width²)): at least
    0; a scalar. A path may be between two tokens. The logarithm leads back from anywhere, while what the guide along
    the diagonal gives is almost flat a few widths away.
    """
    tokens = torch.arange(attention.shape[2], device=attention.device).expand(len(attention), -1)
    on_path = (attention * _near(tokens, paths, width)).sum(-1)
    return _mean(-on_path.clamp_min(_LEAST).log(), frame_lengths)


def _near(tokens: Tensor, frames: Tensor, width: float) -> Tensor:
    return torch.exp(-((tokens[:, None] - frames[..., None]) ** 2) / (2.0 * width**2))


def _mean(per_frame: Tensor, frame_lengths: Tensor) -> Tensor:
    return (per_frame * length_mask(frame_lengths, per_frame.shape[1])).sum() / frame_lengths.sum()
