"""The contrastive loss: against its definition, in parts, and over processes."""

from __future__ import annotations

import copy
import math
from pathlib import Path

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.crossmodal.losses import clamped_logits, clap_loss, encode_in_chunks, gathered

SCALE = torch.tensor(20.0, dtype=torch.float64)


def unit(seed: int, *shape: int) -> Tensor:
    drawn = torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=torch.float64)
    return F.normalize(drawn, dim=-1)


def slow_loss(audio: Tensor, text: Tensor, scale: float) -> float:
    """The definition, pair by pair."""
    total, number = 0.0, len(audio)
    for pair in range(number):
        own = math.exp(scale * float(audio[pair] @ text[pair]))
        among_texts = sum(math.exp(scale * float(audio[pair] @ text[other])) for other in range(number))
        among_audio = sum(math.exp(scale * float(audio[other] @ text[pair])) for other in range(number))
        total -= 0.5 * (math.log(own / among_texts) + math.log(own / among_audio)) / number
    return total


def test_the_loss_is_its_definition() -> None:
    audio, text = unit(1, 7, 5), unit(2, 7, 5)
    assert float(clap_loss(audio, text, SCALE)) == pytest.approx(slow_loss(audio, text, 20.0), abs=1e-9)
    assert torch.equal(clap_loss(audio, text, SCALE), clap_loss(text, audio, SCALE))


def test_no_cosine_is_multiplied_by_more_than_a_hundred() -> None:
    audio = unit(1, 3, 4)
    logits = clamped_logits(audio, audio, torch.tensor(1e6, dtype=torch.float64))
    assert float(logits.max()) == pytest.approx(100.0)
    assert torch.allclose(clamped_logits(audio, audio, SCALE), 20.0 * audio @ audio.T)


def test_sixteen_bits_do_not_round_the_logits() -> None:
    audio, text = unit(1, 4, 6).float(), unit(2, 4, 6).float()
    expected = clamped_logits(audio, text, torch.tensor(50.0))
    with torch.autocast("cpu", torch.bfloat16):
        assert torch.equal(clamped_logits(audio, text, torch.tensor(50.0)), expected)


def test_pairs_that_say_the_same_count_as_right() -> None:
    audio, text = unit(1, 6, 5), unit(2, 6, 5)
    apart = torch.arange(6)
    assert torch.allclose(clap_loss(audio, text, SCALE, apart), clap_loss(audio, text, SCALE))
    # Two sounds that have one text, word for word: whoever finds either is as right.
    text = text[[0, 0, 1, 2, 3, 4]]
    same = torch.tensor([0, 0, 1, 2, 3, 4])
    logits = clamped_logits(audio, text, SCALE).log_softmax(1)
    by_hand = logits.diagonal().clone()
    by_hand[:2] = 0.5 * (logits[:2, 0] + logits[:2, 1])
    other = clamped_logits(text, audio, SCALE).log_softmax(1)
    back = other.diagonal().clone()
    back[:2] = 0.5 * (other[:2, 0] + other[:2, 1])
    expected = -0.5 * (by_hand.mean() + back.mean())
    assert torch.allclose(clap_loss(audio, text, SCALE, same), expected)


def encoder() -> nn.Sequential:
    torch.manual_seed(0)
    layers = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.ReLU(), nn.Dropout(0.3), nn.Linear(8, 5))
    return layers.double()


def gradients(module: nn.Module, embedding: Tensor) -> list[Tensor]:
    module.zero_grad()
    clap_loss(F.normalize(embedding, dim=-1), unit(3, len(embedding), 5), SCALE).backward()
    return [parameter.grad.clone() for parameter in module.parameters() if parameter.grad is not None]


def test_parts_give_the_gradients_of_the_whole() -> None:
    x, module = unit(4, 11, 4), encoder().eval()
    whole = gradients(module, module(x))
    parts = gradients(module, encode_in_chunks(module, (x,), 3))
    assert len(parts) == len(whole) == 6
    for part, expected in zip(parts, whole, strict=True):
        torch.testing.assert_close(part, expected, rtol=1e-10, atol=1e-12)


def test_parts_keep_dropout_and_note_statistics_once() -> None:
    x, module = unit(4, 9, 4), encoder().train()
    torch.manual_seed(5)
    parts = gradients(module, encode_in_chunks(module, (x,), 3, module=module))
    other = encoder().train()
    torch.manual_seed(5)
    # The same by hand: every part by itself, all of it kept for the gradients.
    kept = gradients(other, torch.cat([other(part) for part in x.split(3)]))
    for part, expected in zip(parts, kept, strict=True):
        torch.testing.assert_close(part, expected, rtol=1e-10, atol=1e-12)
    for name, value in other.state_dict().items():
        assert torch.equal(module.state_dict()[name], value), name
    assert int(module[1].num_batches_tracked) == 3


def test_parts_keep_nothing_of_what_they_computed() -> None:
    """What is kept for the gradients are the parts' inputs and outputs, not what lies between."""
    module, x = nn.Sequential(nn.Linear(4, 400), nn.ReLU(), nn.Linear(400, 5)).double(), unit(4, 12, 4)

    def kept(embed: object) -> int:
        sizes: list[int] = []

        def note(tensor: Tensor) -> Tensor:
            sizes.append(tensor.numel())
            return tensor

        with torch.autograd.graph.saved_tensors_hooks(note, lambda tensor: tensor):
            embed()  # type: ignore[operator]
        return sum(sizes)

    assert kept(lambda: encode_in_chunks(module, (x,), 3)) < 0.1 * kept(lambda: module(x))


def test_one_process_gathers_what_it_has() -> None:
    x = unit(1, 3, 2)
    assert gathered(x) is x


def _process(rank: int, folder: str) -> None:
    """A process with two of four pairs; the mean of the processes' gradients is what data parallel training takes."""
    torch.distributed.init_process_group("gloo", init_method=f"file://{folder}/meet", rank=rank, world_size=2)
    module, own = encoder().eval(), slice(2 * rank, 2 * rank + 2)
    scale = SCALE.clone().requires_grad_()
    audio = gathered(F.normalize(encode_in_chunks(module, (unit(4, 4, 4)[own],), 1), dim=-1))
    text = gathered(unit(3, 4, 5)[own])
    loss = clap_loss(audio, text, scale)
    loss.backward()
    found = [parameter.grad for parameter in (*module.parameters(), scale)]
    for gradient in found:
        torch.distributed.all_reduce(gradient)
    torch.save([loss.detach(), *(gradient / 2 for gradient in found)], f"{folder}/{rank}.pt")
    torch.distributed.destroy_process_group()


def test_two_processes_give_the_gradients_of_one(tmp_path: Path) -> None:
    torch.multiprocessing.spawn(_process, (str(tmp_path),), nprocs=2)
    module, scale = encoder().eval(), SCALE.clone().requires_grad_()
    loss = clap_loss(F.normalize(module(unit(4, 4, 4)), dim=-1), unit(3, 4, 5), scale)
    loss.backward()
    expected = [loss.detach(), *(copy.deepcopy(each.grad) for each in (*module.parameters(), scale))]
    for rank in range(2):
        found = torch.load(tmp_path / f"{rank}.pt")
        for value, wanted in zip(found, expected, strict=True):
            torch.testing.assert_close(value, wanted, rtol=1e-10, atol=1e-12)
