"""Our CTC against torch's, against counting out every path, and against its own numerical derivative."""

from __future__ import annotations

import itertools
import math
from collections.abc import Callable

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from auriscope.recognition.ctc import collapse, ctc_loss, ctc_loss_of_paths, ctc_occupancies, extended_labels
from auriscope.recognition.greedy import greedy_ctc

BLANK = 0


def _logits(*shape: int, seed: int = 0, dtype: torch.dtype = torch.float64) -> Tensor:
    return 2.0 * torch.randn(shape, generator=torch.Generator().manual_seed(seed), dtype=dtype)


def _torch_loss(logits: Tensor, tokens: Tensor, frames: Tensor, lengths: Tensor, blank: int, zero: bool) -> Tensor:
    log_probs = logits.log_softmax(-1).transpose(0, 1)
    return F.ctc_loss(log_probs, tokens, frames, lengths, blank, "none", zero_infinity=zero)


def _ragged(texts: list[list[int]], filling: int = 0) -> tuple[Tensor, Tensor]:
    lengths = torch.tensor([len(text) for text in texts])
    tokens = torch.full((len(texts), max(1, int(lengths.max()))), filling)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = torch.tensor(text, dtype=torch.int64)
    return tokens, lengths


# Repeats, one token, none at all, one that just fits (3 tokens and a blank in 4 frames), one that does not.
TEXTS = [[1, 1, 2, 3], [5], [], [3, 3, 1], [3, 3, 3]]
FRAMES = torch.tensor([12, 7, 5, 4, 4])


@pytest.mark.parametrize("blank", [0, 6, 2])
@pytest.mark.parametrize("dtype", [torch.float64, torch.float32])
def test_equals_torch_in_values_and_gradients(blank: int, dtype: torch.dtype) -> None:
    texts = [[(token + blank) % 7 for token in text] for text in TEXTS]
    tokens, lengths = _ragged(texts)
    ours = _logits(5, 12, 7, dtype=dtype).requires_grad_()
    theirs = ours.detach().clone().requires_grad_()
    loss = ctc_loss(ours, tokens, FRAMES, lengths, blank_id=blank, zero_infinity=True)
    expected = _torch_loss(theirs, tokens, FRAMES, lengths, blank, zero=True)
    weights = torch.tensor([1.0, -2.0, 3.0, 0.5, 4.0], dtype=dtype)
    (loss * weights).sum().backward()
    (expected * weights).sum().backward()
    tolerance = 1e-9 if dtype == torch.float64 else 2e-5
    torch.testing.assert_close(loss, expected, rtol=tolerance, atol=tolerance)
    torch.testing.assert_close(ours.grad, theirs.grad, rtol=tolerance, atol=tolerance)
    assert ours.grad is not None
    assert not ours.grad[4].any()
    assert not ours.grad[1, 7:].any()


def test_equals_torch_on_a_batch_as_long_as_speech() -> None:
    generator = torch.Generator().manual_seed(1)
    tokens = torch.randint(1, 30, (4, 90), generator=generator)
    lengths, frames = torch.tensor([90, 61, 3, 30]), torch.tensor([400, 333, 250, 70])
    logits = _logits(4, 400, 30)

    def run(loss: Callable[[Tensor], Tensor], dtype: torch.dtype) -> tuple[Tensor, Tensor]:
        leaf = logits.to(dtype).requires_grad_()
        values = loss(leaf)
        (gradient,) = torch.autograd.grad(values.sum(), leaf)
        return values.detach().double(), gradient.double()

    def ours(leaf: Tensor) -> Tensor:
        return ctc_loss(leaf, tokens, frames, lengths)

    def theirs(leaf: Tensor) -> Tensor:
        return _torch_loss(leaf, tokens, frames, lengths, BLANK, zero=False)

    values, gradient = run(theirs, torch.float64)
    torch.testing.assert_close(run(ours, torch.float64), (values, gradient), rtol=1e-9, atol=1e-9)
    single, theirs_single = run(ours, torch.float32), run(theirs, torch.float32)
    torch.testing.assert_close(single[0], values, rtol=1e-5, atol=1e-5)
    # Sums of a thousand nats in single precision: neither is nearer to the truth than the other.
    assert (single[1] - gradient).abs().max() < 2.0 * (theirs_single[1] - gradient).abs().max() < 2e-3


def test_an_impossible_text_costs_infinity_as_with_torch() -> None:
    tokens, lengths = _ragged([[3, 3, 3], [1, 2, 3]])
    frames = torch.tensor([4, 3])
    logits = _logits(2, 4, 5).requires_grad_()
    loss = ctc_loss(logits, tokens, frames, lengths)
    torch.testing.assert_close(loss, _torch_loss(logits, tokens, frames, lengths, BLANK, zero=False))
    assert loss[0].isinf()
    assert loss[1].isfinite()
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert gradient[0].isnan().all()  # as torch's: nobody is to descend along it
    assert gradient[1].isfinite().all()


def test_no_frames_say_nothing() -> None:
    tokens, lengths = _ragged([[], [1]])
    logits = _logits(2, 3, 4)
    frames = torch.tensor([0, 0])
    expected = torch.tensor([0.0, math.inf], dtype=torch.float64)
    torch.testing.assert_close(ctc_loss(logits, tokens, frames, lengths), expected)
    torch.testing.assert_close(ctc_loss(logits[:, :0], tokens, frames, lengths), expected)


@pytest.mark.parametrize("text", [[], [1], [1, 1], [1, 2], [2, 1, 2], [2, 2, 1], [1, 1, 1]])
@pytest.mark.parametrize("frames", [1, 3, 5])
def test_equals_the_sum_over_all_paths(text: list[int], frames: int) -> None:
    logits = _logits(1, frames, 3, seed=frames)
    tokens, lengths = _ragged([text])
    loss = ctc_loss(logits, tokens, torch.tensor([frames]), lengths)
    assert loss.item() == pytest.approx(ctc_loss_of_paths(logits[0].log_softmax(-1), text), abs=1e-10)


def test_all_texts_together_are_certain() -> None:
    """The probabilities of all texts that four frames can hold sum to 1: the paths are shared out among them."""
    logits = _logits(1, 4, 3)
    total = sum(
        math.exp(-ctc_loss(logits, *_single(text, 4)).item())
        for length in range(5)
        for text in itertools.product([1, 2], repeat=length)
    )
    assert total == pytest.approx(1.0, abs=1e-12)


def _single(text: tuple[int, ...], frames: int) -> tuple[Tensor, Tensor, Tensor]:
    tokens, lengths = _ragged([list(text)])
    return tokens, torch.tensor([frames]), lengths


def test_the_gradient_is_the_derivative() -> None:
    tokens, lengths = _ragged([[1, 1, 2], [3], []])
    logits = _logits(3, 6, 4).requires_grad_()
    frames = torch.tensor([6, 5, 4])
    assert torch.autograd.gradcheck(lambda values: ctc_loss(values, tokens, frames, lengths), (logits,))


def test_occupancies_are_the_shares_of_all_paths() -> None:
    text, frames = [1, 1, 2], 6
    logits = _logits(1, frames, 3)
    found = ctc_occupancies(logits, *_single(tuple(text), frames))
    labels, _ = extended_labels(torch.tensor([text]), torch.tensor([3]), BLANK)
    assert labels.tolist() == [[0, 1, 0, 1, 0, 2, 0]]
    probabilities = logits[0].softmax(-1).tolist()
    expected = torch.zeros(frames, labels.shape[1], dtype=torch.float64)
    for path in itertools.product(range(3), repeat=frames):
        if collapse(path, BLANK) == text:
            # The state that a path is in follows from the tokens that it has begun.
            states = []
            for token, before in zip(path, (BLANK, *path), strict=False):
                begun = (states[-1] + 1) // 2 if states else 0
                begun += token not in (BLANK, before)
                states.append(2 * begun - (token != BLANK))
            share = math.prod(frame[token] for frame, token in zip(probabilities, path, strict=True))
            expected[torch.arange(frames), states] += share
    torch.testing.assert_close(found[0], expected / expected.sum(1, keepdim=True))


def test_occupancies_of_a_batch_sum_to_one_where_something_is_said() -> None:
    tokens, lengths = _ragged(TEXTS, filling=-1)
    found = ctc_occupancies(_logits(5, 12, 7), tokens, FRAMES, lengths)
    valid = (torch.arange(12) < FRAMES[:, None]).double()
    valid[4] = 0.0  # does not fit
    torch.testing.assert_close(found.sum(2), valid)
    assert (found >= 0.0).all()


def test_what_stands_behind_the_ends_changes_nothing() -> None:
    tokens, lengths = _ragged(TEXTS[:4])
    others, _ = _ragged(TEXTS[:4], filling=-1)
    logits = _logits(4, 12, 7)
    frames = FRAMES[:4]
    loss = ctc_loss(logits, tokens, frames, lengths)
    spoilt = logits.clone()
    for row, length in zip(spoilt, frames.tolist(), strict=True):
        row[length:] = 50.0 * _logits(12 - length, 7, seed=3)
    assert torch.equal(ctc_loss(spoilt, others, frames, lengths), loss)
    for item, (text, length) in enumerate(zip(TEXTS, frames.tolist(), strict=False)):
        alone = ctc_loss(logits[item : item + 1, :length], *_single(tuple(text), length))
        torch.testing.assert_close(alone[0], loss[item])


def test_tokens_that_a_network_rules_out_leave_finite_gradients() -> None:
    logits = _logits(1, 6, 4)
    logits[0, 2, 1] = -torch.inf
    logits[0, :, 3] = -torch.inf
    logits.requires_grad_()
    loss = ctc_loss(logits, *_single((1, 2), 6))
    (gradient,) = torch.autograd.grad(loss.sum(), logits)
    assert loss.item() == pytest.approx(ctc_loss_of_paths(logits.detach()[0].log_softmax(-1), [1, 2]), abs=1e-10)
    assert gradient.isfinite().all()
    assert gradient[0, 2, 1] == 0.0


def test_a_few_steps_of_descent_teach_a_text() -> None:
    logits = torch.zeros(1, 20, 5, requires_grad=True)
    optimizer = torch.optim.Adam([logits], lr=0.5)
    for _ in range(30):
        optimizer.zero_grad()
        ctc_loss(logits, *_single((1, 4, 4, 2), 20)).sum().backward()
        optimizer.step()
    assert greedy_ctc(logits.detach(), torch.tensor([20]), BLANK) == [[1, 4, 4, 2]]


def test_greedy_reading_collapses_the_likeliest_path() -> None:
    logits = _logits(3, 40, 4)
    lengths = torch.tensor([40, 17, 0])
    best = logits.argmax(-1)
    expected = [collapse(best[item, :length].tolist(), BLANK) for item, length in enumerate(lengths.tolist())]
    assert greedy_ctc(logits, lengths, BLANK) == expected


def _paths(text: str, frames: int) -> list[str]:
    """Every way to stretch the letters of a text over so many frames: what the naive merge has to write it."""
    cuts = itertools.combinations(range(1, frames), len(text) - 1)
    edges = [(0, *cut, frames) for cut in cuts]
    return ["".join(letter * (b - a) for letter, a, b in zip(text, e, e[1:], strict=False)) for e in edges]


def _merged(path: str, blank: str | None) -> str:
    return "".join(map(chr, collapse(map(ord, path), None if blank is None else ord(blank))))


def test_the_naive_merge_cannot_write_dinner() -> None:
    """Whatever the path, merging repeats without a blank makes diner of dinner: the two have the same paths."""
    for frames in range(6, 11):
        assert {_merged(path, None) for path in _paths("dinner", frames)} == {"diner"}
    assert set(_paths("dinner", 9)) < set(_paths("diner", 9))
    assert _merged("ddi-n-nner", "-") == "dinner"
    assert _merged("ddi-nnnner", "-") == "diner"


def test_the_naive_merge_has_nothing_to_say_in_silence() -> None:
    """A pause in "diner": a letter must fill it, and any but its neighbours is written; the blank fills it unseen."""
    heard = "ddi??ner"
    letters = "abcdefghijklmnopqrstuvwxyz"
    right = [letter for letter in letters if _merged(heard.replace("?", letter), None) == "diner"]
    assert right == ["i", "n"]  # the pause is taken for a drawn-out neighbour, so its time is lost
    assert _merged(heard.replace("?", "-"), "-") == "diner"


def test_without_a_blank_two_words_apart_cannot_be_told_from_one_drawn_out() -> None:
    """Frames that sound like two n's parted by silence: with a blank the likeliest path is right, without it is not."""
    quiet, n = 0, 1
    sounds = [n, n, quiet, n, n]
    logits = F.one_hot(torch.tensor([sounds]), 2).double() * 6.0
    assert greedy_ctc(logits, torch.tensor([5]), quiet) == [[n, n]]
    with_blank = {length: ctc_loss(logits, *_single((n,) * length, 5)).item() for length in (1, 2, 3)}
    assert min(with_blank, key=with_blank.__getitem__) == 2
    only_letters = logits[..., n:].argmax(-1)[0] + n
    assert collapse(only_letters.tolist(), None) == [n]
