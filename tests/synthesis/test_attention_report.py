"""What an attention tells of failed speech, and guided attention."""

from __future__ import annotations

import math

import pytest
import torch
from torch import Tensor

from auriscope.synthesis.attention import attention_report, diagonality
from auriscope.synthesis.guided import aligned_attention_loss, guided_attention_loss


def path(tokens: list[int], number: int) -> Tensor:
    """An attention (1, frames, tokens) that looks at one token in each frame, mostly."""
    attention = torch.full((1, len(tokens), number), 0.1 / (number - 1))
    attention[0, torch.arange(len(tokens)), torch.tensor(tokens)] = 0.9
    return attention


STEADY = [token for token in range(20) for _ in range(3)]


def test_a_text_read_once_from_beginning_to_end_is_fine() -> None:
    report = attention_report(path(STEADY, 20))
    assert (report.repeated.item(), report.skipped.item()) == (0, 0)
    assert report.monotonic.all()
    assert report.complete.all()
    assert report.ok.all()


@pytest.mark.parametrize(
    ("frames", "repeated", "skipped"),
    [
        (STEADY[:30] + STEADY[6:], 7, 0),
        (STEADY[:15] + STEADY[36:], 0, 7),
        (STEADY[:42], 0, 6),
        (STEADY[18:], 0, 6),
    ],
    ids=["says words twice", "leaves out words", "does not reach the end", "begins within the text"],
)
def test_failures_are_found(frames: list[int], repeated: int, skipped: int) -> None:
    report = attention_report(path(frames, 20))
    assert (report.repeated.item(), report.skipped.item()) == (repeated, skipped)
    assert report.monotonic.item() is (repeated == 0)
    assert report.complete.item() is (skipped == 0)
    assert not report.ok.any()


def test_silent_letters_and_single_frames_are_no_failures() -> None:
    frames = [*STEADY[:24], 0, *STEADY[24:30], *STEADY[39:]]
    report = attention_report(path(frames, 20))
    assert (report.repeated.item(), report.skipped.item()) == (0, 3)
    assert report.ok.all()


def test_padding_is_not_looked_at() -> None:
    short, whole = STEADY[:30], STEADY
    batch = torch.zeros(2, 60, 20)
    batch[0], batch[1, :30, :10] = path(whole, 20)[0], path(short, 10)[0]
    batch[1, 30:, 19] = 1.0
    together = attention_report(batch, torch.tensor([20, 10]), torch.tensor([60, 30]))
    assert together.ok.tolist() == [True, True]
    assert attention_report(batch, torch.tensor([20, 20]), torch.tensor([60, 30])).skipped.tolist() == [0, 10]
    torch.testing.assert_close(diagonality(batch, torch.tensor([60, 30])), torch.tensor([0.9, 0.9]))


def test_fewer_frames_than_the_median_needs() -> None:
    assert attention_report(path([0, 1], 2)).ok.all()


def test_the_guide_is_the_papers() -> None:
    """Equation 6 of arXiv 1710.08969, entry by entry, but that a frame's weights are added up."""
    attention = torch.rand(2, 6, 4, generator=torch.Generator().manual_seed(0))
    total, frames = 0.0, 0
    for row, (length, number) in enumerate([(6, 4), (4, 3)]):
        frames += length
        for t in range(length):
            for n in range(number):
                away = 1.0 - math.exp(-((n / number - t / length) ** 2) / (2 * 0.3**2))
                total += float(attention[row, t, n]) * away
    attention[1, :, 3] = 0.0
    found = guided_attention_loss(attention, torch.tensor([4, 3]), torch.tensor([6, 4]), 0.3)
    assert float(found) == pytest.approx(total / frames, rel=1e-5)


def test_the_diagonal_costs_least() -> None:
    lengths = torch.tensor([20]), torch.tensor([60])
    assert guided_attention_loss(path(STEADY, 20), *lengths) < 0.1
    assert guided_attention_loss(path(STEADY[::-1], 20), *lengths) > 0.5


def test_the_guide_along_paths_is_the_formula() -> None:
    attention = torch.rand(2, 6, 4, generator=torch.Generator().manual_seed(3)).softmax(-1)
    paths = torch.tensor([[0.0, 0.5, 1.0, 2.2, 3.0, 3.0], [0.0, 1.0, 1.5, 2.0, 9.0, 9.0]])
    expected = 0.0
    for row, frames in enumerate((6, 4)):
        for frame in range(frames):
            near = [math.exp(-((token - float(paths[row, frame])) ** 2) / (2 * 1.5**2)) for token in range(4)]
            expected -= math.log(sum(float(a) * b for a, b in zip(attention[row, frame], near, strict=True)))
    found = aligned_attention_loss(attention, paths, torch.tensor([6, 4]), 1.5)
    assert float(found) == pytest.approx(expected / 10, rel=1e-5)


def test_attention_that_is_elsewhere_is_led_back() -> None:
    logits = torch.zeros(1, 5, 60, requires_grad=True)
    with torch.no_grad():
        logits[..., 50] = 8.0
    aligned_attention_loss(logits.softmax(-1), torch.full((1, 5), 3.0), torch.tensor([5]), 2.0).backward()
    assert logits.grad is not None
    assert (logits.grad[..., 3] < -0.01).all()
    assert (logits.grad[..., 50] > 0.1).all()
