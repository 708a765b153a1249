"""Padding: which entries of a batch are valid, and recurrent networks that leave the others out."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence


def choice(value: str, options: Iterable[str], what: str) -> str:
    """Give ``value`` back if it is one of ``options``; else ``ValueError`` names them."""
    known = sorted(options)
    if value not in known:
        raise ValueError(f"{what} is {value!r}; it must be one of {', '.join(known)}")
    return value


def length_mask(lengths: Tensor, size: int) -> Tensor:
    """Mark the valid entries: ``lengths`` (B,) and ``size`` give a bool mask (B, size)."""
    return torch.arange(size, device=lengths.device) < lengths[:, None]


def run_recurrent(network: nn.Module, sequences: Tensor, lengths: Tensor | None) -> Tensor:
    """Run a recurrent network over sequences, of which ``lengths`` (M,) positions are valid.

    They are (M, T, C), or (T, M, C) for a network that is not ``batch_first``, which saves it copies.
    """
    batch_first = bool(network.batch_first)
    total = sequences.shape[1 if batch_first else 0]
    output: Tensor
    if lengths is None or bool((lengths == total).all()):
        output, _ = network(sequences)
        return output
    # The backward direction must begin at each sequence's last valid position, not in its padding.
    packed = pack_padded_sequence(sequences, lengths.cpu(), batch_first=batch_first, enforce_sorted=False)
    output, _ = pad_packed_sequence(network(packed)[0], batch_first=batch_first, total_length=total)
    return output
