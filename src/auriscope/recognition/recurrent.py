"""What recurrent decoders share: the states of LSTMs for a beam of prefixes of every utterance."""

from __future__ import annotations

from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn import functional as F


@dataclass(frozen=True)
class BeamState:
    """Hidden states and cells of an LSTM's layers, each (layers, batch, beam, size)."""

    hidden: Tensor
    cell: Tensor

    @classmethod
    def zeros(cls, network: nn.LSTM, batch: int, beam_size: int) -> BeamState:
        """The state before the first token."""
        weight = network.weight_hh_l0
        assert isinstance(weight, Tensor)
        nothing = weight.new_zeros(network.num_layers, batch, beam_size, network.hidden_size)
        return cls(nothing, nothing)

    def select(self, parents: Tensor) -> BeamState:
        """Reorder the prefixes: new prefix k is what ``parents`` (batch, beam) names."""
        rows = torch.arange(len(parents), device=parents.device)[:, None]
        return BeamState(self.hidden[:, rows, parents], self.cell[:, rows, parents])

    def keep(self, utterances: Tensor) -> BeamState:
        """Keep the utterances of these numbers alone, (n,) int64."""
        return BeamState(self.hidden[:, utterances], self.cell[:, utterances])


def run_step(network: nn.LSTM, x: Tensor, state: BeamState) -> tuple[Tensor, BeamState]:
    """Run an LSTM one step on, from x (batch, beam, channels) to (batch, beam, size).

    Cell by cell, which for a single step takes a fraction of the time of the kernels for whole sequences.
    """
    batch, beam, _ = x.shape
    shape = (batch * beam, network.hidden_size)
    x = x.flatten(0, 1)
    hidden, cell = [], []
    for layer, weights in enumerate(network.all_weights):
        if layer:
            x = F.dropout(x, network.dropout, network.training)
        before = (state.hidden[layer].reshape(shape).to(x.dtype), state.cell[layer].reshape(shape).to(x.dtype))
        x, after = torch.lstm_cell(x, before, *weights)
        hidden.append(x)
        cell.append(after)
    states = (torch.stack(each).reshape(-1, batch, beam, network.hidden_size) for each in (hidden, cell))
    return x.reshape(batch, beam, -1), BeamState(*states)
