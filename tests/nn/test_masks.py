from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from auriscope.nn.masks import choice, length_mask, mirror, run_recurrent


def test_length_mask() -> None:
    assert length_mask(torch.tensor([2, 0, 3]), 3).int().tolist() == [[1, 1, 0], [0, 0, 0], [1, 1, 1]]


def test_choice_names_the_options() -> None:
    assert choice("a", ("b", "a"), "letter") == "a"
    with pytest.raises(ValueError, match="letter is 'c'; it must be one of a, b"):
        choice("c", ("b", "a"), "letter")


@pytest.mark.parametrize("kind", [nn.LSTM, nn.GRU])
@pytest.mark.parametrize("batch_first", [True, False])
@pytest.mark.parametrize("bidirectional", [True, False])
@pytest.mark.parametrize("options", [{"num_layers": 3}, {"bias": False}])
def test_recurrent_networks_leave_padding_out(
    kind: type[nn.RNNBase], batch_first: bool, bidirectional: bool, options: dict[str, int]
) -> None:
    """Outputs and gradients are those of packed sequences, whatever lies in the padding."""
    torch.manual_seed(0)
    network = kind(5, 4, batch_first=batch_first, bidirectional=bidirectional, **options)
    x, lengths = torch.randn(3, 9, 5), torch.tensor([9, 4, 1])
    x = x if batch_first else x.transpose(0, 1)
    packed = pack_padded_sequence(x, lengths, batch_first=batch_first, enforce_sorted=False)
    expected, _ = pad_packed_sequence(network(packed)[0], batch_first=batch_first, total_length=9)
    expected.square().sum().backward()
    gradients = [parameter.grad.clone() for parameter in network.parameters()]
    network.zero_grad()
    valid = length_mask(lengths, 9) if batch_first else length_mask(lengths, 9).T
    found = run_recurrent(network, torch.where(valid[..., None], x, 7.0), lengths)
    found.square().sum().backward()
    torch.testing.assert_close(found, expected)
    for parameter, gradient in zip(network.parameters(), gradients, strict=True):
        torch.testing.assert_close(parameter.grad, gradient)


def test_dropout_between_layers_is_that_of_the_network() -> None:
    torch.manual_seed(0)
    network = nn.LSTM(5, 64, num_layers=2, batch_first=True, dropout=0.5)
    x, lengths = torch.randn(2, 9, 5), torch.tensor([9, 4])
    assert not torch.equal(run_recurrent(network, x, lengths), run_recurrent(network, x, lengths))
    network.eval()
    assert torch.equal(run_recurrent(network, x, lengths), run_recurrent(network, x, lengths))


def test_mirrored_frames_are_torchs_and_go_on_where_torch_gives_up() -> None:
    frames = torch.arange(5.0).reshape(1, 1, 5)
    expected = torch.nn.functional.pad(frames, (4, 4), mode="reflect")
    assert torch.equal(mirror(frames, 4), expected)
    assert torch.equal(mirror(frames, 4, torch.tensor([5])), expected)
    # Three valid frames, 0 1 2, mirrored over and over; what comes after them in the batch is not looked at.
    assert mirror(frames, 4, torch.tensor([3]))[0, 0, :11].tolist() == [0, 1, 2, 1, 0, 1, 2, 1, 0, 1, 2]
    assert mirror(frames[..., :1], 3)[0, 0].tolist() == [0] * 7
