"""Padding: which entries of a batch are valid, mirrored ends, and recurrent networks that leave the others out."""

from __future__ import annotations

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.nn import functional as F
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


def mirror(x: Tensor, amount: int, lengths: Tensor | None = None) -> Tensor:
    """Continue x (B, C, F) by ``amount`` mirrored frames at both ends: (B, C, F + 2 amount).

    Of every example, ``lengths`` (B,) frames are valid and mirrored at their own end. Frames that are too few for
    ``amount`` are mirrored over and over. The ends themselves are not repeated.
    """
    num_frames = x.shape[-1]
    if lengths is None and amount < num_frames:
        return F.pad(x, (amount, amount), mode="reflect")
    last = torch.full((len(x), 1), num_frames - 1, device=x.device) if lengths is None else lengths[:, None] - 1
    period = (2 * last).clamp(min=1)
    positions = torch.arange(-amount, num_frames + amount, device=x.device) % period
    source = torch.minimum(positions, period - positions).clamp(max=num_frames - 1)
    return x.gather(2, source[:, None].expand(-1, x.shape[1], -1))


def run_recurrent(network: nn.Module, sequences: Tensor, lengths: Tensor | None) -> Tensor:
    """Run a recurrent network over sequences, of which ``lengths`` (M,) positions are valid; zeros behind them.

    They are (M, T, C), or (T, M, C) for a network that is not ``batch_first``, which saves it copies.
    """
    batch_first = bool(network.batch_first)
    total = sequences.shape[1 if batch_first else 0]
    output: Tensor
    if lengths is None or bool((lengths == total).all()):
        output, _ = network(sequences)
        return output
    if isinstance(network, nn.GRU) or (isinstance(network, nn.LSTM) and not network.proj_size):
        return _run_padded(network, sequences, lengths)
    # The backward direction must begin at each sequence's last valid position, not in its padding.
    packed = pack_padded_sequence(sequences, lengths.cpu(), batch_first=batch_first, enforce_sorted=False)
    output, _ = pad_packed_sequence(network(packed)[0], batch_first=batch_first, total_length=total)
    return output


def _run_padded(network: nn.LSTM | nn.GRU, x: Tensor, lengths: Tensor) -> Tensor:
    """Run a network over padded sequences, the backward direction over each turned round within its own length.

    Packing gives the same, but without the fast kernels: on a CPU its gradients take fifty times as long.
    """
    time = 1 if network.batch_first else 0
    positions = torch.arange(x.shape[time], device=x.device)
    valid = positions < lengths[:, None]
    turned = torch.where(valid, lengths[:, None] - 1 - positions, positions)
    if not network.batch_first:
        valid, turned = valid.T, turned.T
    number = 4 if network.bias else 2
    weights = network.all_weights
    for layer in range(network.num_layers):
        directions = []
        for backward in range(2 if network.bidirectional else 1):
            own: list[Tensor] = [*weights[layer * (2 if network.bidirectional else 1) + backward][:number]]
            start = x.new_zeros(1, len(lengths), network.hidden_size)
            read = _turn(x, turned, time) if backward else x
            options = network.bias, 1, 0.0, network.training, False, network.batch_first
            if isinstance(network, nn.LSTM):
                output = torch.lstm(read, (start, start), own, *options)[0]
            else:
                output = torch.gru(read, start, own, *options)[0]
            directions.append(_turn(output, turned, time) if backward else output)
        x = torch.cat(directions, -1) * valid[..., None]
        if layer + 1 < network.num_layers:
            x = F.dropout(x, network.dropout, network.training)
    return x


def _turn(x: Tensor, places: Tensor, time: int) -> Tensor:
    """Take from x (…, channels) the places in time that ``places`` names for each sequence."""
    return x.gather(time, places[..., None].expand(-1, -1, x.shape[2]))
