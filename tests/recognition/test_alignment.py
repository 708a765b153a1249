"""Forced alignment against torchaudio's published example, against every path tried, and against known times."""

from __future__ import annotations

import itertools
import math

import pytest
import torch
from torch import Tensor

from auriscope.recognition.alignment import Alignment, ctc_align, word_times
from auriscope.recognition.ctc import collapse, ctc_loss
from auriscope.text.tokenizer import characters

# The emissions of torchaudio's tests of forced_align (functional_impl.py, test_forced_align); class 5 is the blank.
EMISSION = torch.tensor(
    [
        [0.633766, 0.221185, 0.0917319, 0.0129757, 0.0142857, 0.0260553],
        [0.111121, 0.588392, 0.278779, 0.0055756, 0.00569609, 0.010436],
        [0.0357786, 0.633813, 0.321418, 0.00249248, 0.00272882, 0.0037688],
        [0.0663296, 0.643849, 0.280111, 0.00283995, 0.0035545, 0.00331533],
        [0.458235, 0.396634, 0.123377, 0.00648837, 0.00903441, 0.00623107],
    ]
)
PUBLISHED = [
    ([0, 1, 1, 0], [0, 1, 5, 1, 0]),
    ([0, 1, 2, 3, 4], [0, 1, 2, 3, 4]),
    ([3, 3, 3], [3, 5, 3, 5, 3]),
    ([0, 1, 2], [0, 1, 1, 1, 2]),
]


def _random(batch: int, frames: int, classes: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (2.0 * torch.randn(batch, frames, classes, generator=generator)).log_softmax(-1)


def _best_path(log_probs: Tensor, text: list[int], blank: int) -> tuple[float, list[int]]:
    """Try every path that collapses to the text: (its log-probability, the path) of the best."""
    values = log_probs.tolist()
    paths = (
        (math.fsum(frame[token] for frame, token in zip(values, path, strict=True)), list(path))
        for path in itertools.product(range(log_probs.shape[1]), repeat=len(values))
        if collapse(path, blank) == text
    )
    return max(paths, default=(-math.inf, [blank] * len(values)))


@pytest.mark.parametrize(("text", "path"), PUBLISHED)
def test_equals_torchaudio_on_its_published_example(text: list[int], path: list[int]) -> None:
    found = ctc_align(EMISSION.log()[None], torch.tensor([text]), blank_id=5)
    assert found.paths.tolist() == [path]
    expected = EMISSION.log().gather(1, torch.tensor(path)[:, None]).sum()
    torch.testing.assert_close(found.log_probs, expected[None])


def test_the_published_example_in_one_batch() -> None:
    lengths = torch.tensor([len(text) for text, _ in PUBLISHED])
    tokens = torch.full((len(PUBLISHED), 5), -1)
    for row, (text, _) in zip(tokens, PUBLISHED, strict=True):
        row[: len(text)] = torch.tensor(text)
    found = ctc_align(EMISSION.log().expand(4, -1, -1), tokens, token_lengths=lengths, blank_id=5)
    assert found.paths.tolist() == [path for _, path in PUBLISHED]
    last = found.spans[3]
    assert [(span.token, span.first_frame, span.end_frame) for span in last] == [(0, 0, 1), (1, 1, 4), (2, 4, 5)]
    assert last[1].confidence == pytest.approx(0.643849, abs=1e-6)  # of its three frames the surest


@pytest.mark.parametrize("max_decisions", [0, 2**20])
@pytest.mark.parametrize("frames", [1, 4, 6])
def test_equals_the_best_of_all_paths(frames: int, max_decisions: int) -> None:
    texts = [[], [1], [1, 1], [2, 1], [1, 2, 2], [2, 2, 2], [1, 2, 1, 2]]
    log_probs = _random(len(texts), frames, 3, seed=frames).double()
    lengths = torch.tensor([len(text) for text in texts])
    tokens = torch.zeros(len(texts), 4, dtype=torch.int64)
    for row, text in zip(tokens, texts, strict=True):
        row[: len(text)] = torch.tensor(text, dtype=torch.int64)
    found = ctc_align(log_probs, tokens, token_lengths=lengths, max_decisions=max_decisions)
    best = [_best_path(log_probs[item], text, 0) for item, text in enumerate(texts)]
    assert found.paths.tolist() == [path for _, path in best]
    torch.testing.assert_close(found.log_probs, torch.tensor([score for score, _ in best], dtype=torch.float64))
    for (score, _), text, spans in zip(best, texts, found.spans, strict=True):
        assert [span.token for span in spans] == (text if math.isfinite(score) else [])


def _check(found: Alignment, tokens: Tensor, frames: Tensor, lengths: Tensor) -> None:
    for item, (length, frame_length) in enumerate(zip(lengths.tolist(), frames.tolist(), strict=True)):
        text = tokens[item, :length].tolist()
        assert collapse(found.paths[item, :frame_length].tolist(), 0) == text
        assert not found.paths[item, frame_length:].any()
        spans = found.spans[item]
        assert [span.token for span in spans] == text
        edges = [edge for span in spans for edge in (span.first_frame, span.end_frame)]
        assert edges == sorted(edges)
        assert all(span.first_frame < span.end_frame for span in spans)
        for span in spans:
            assert set(found.paths[item, span.first_frame : span.end_frame].tolist()) == {span.token}


def test_a_padded_batch_equals_each_utterance_alone() -> None:
    log_probs = _random(4, 60, 8)
    tokens = torch.randint(1, 8, (4, 12), generator=torch.Generator().manual_seed(1))
    frames, lengths = torch.tensor([60, 41, 30, 25]), torch.tensor([12, 12, 0, 5])
    together = ctc_align(log_probs, tokens, frames, lengths)
    _check(together, tokens, frames, lengths)
    for item, (frame_length, length) in enumerate(zip(frames.tolist(), lengths.tolist(), strict=True)):
        alone = ctc_align(log_probs[item : item + 1, :frame_length], tokens[item : item + 1, :length])
        assert alone.spans[0] == together.spans[item]
        torch.testing.assert_close(alone.log_probs[0], together.log_probs[item])


@pytest.mark.parametrize("frames", [99, 100, 101, 120])
def test_little_memory_gives_the_same(frames: int) -> None:
    log_probs = _random(3, frames, 10, seed=2)
    tokens = torch.randint(1, 10, (3, 30), generator=torch.Generator().manual_seed(3))
    frame_lengths, lengths = torch.tensor([frames, 75, 99]), torch.tensor([30, 21, 0])
    much = ctc_align(log_probs, tokens, frame_lengths, lengths)
    little = ctc_align(log_probs, tokens, frame_lengths, lengths, max_decisions=0)
    assert torch.equal(much.paths, little.paths)
    assert much.spans == little.spans


def test_a_long_utterance_is_found() -> None:
    """Five minutes at a frame for every 40 ms, of which every 86th has its scores kept."""
    frames, number = 7500, 1500
    generator = torch.Generator().manual_seed(4)
    text = torch.randint(1, 30, (number,), generator=generator)
    at = 5 * torch.arange(number) + torch.randint(0, 4, (number,), generator=generator)
    logits = torch.randn(1, frames, 30, generator=generator)
    logits[:, :, 0] += 4.0
    logits[0, at, text] += 12.0
    found = ctc_align(logits.log_softmax(-1), text[None], max_decisions=2**20)
    _check(found, text[None], torch.tensor([frames]), torch.tensor([number]))
    hit = sum(span.first_frame <= moment < span.end_frame for span, moment in zip(found.spans[0], at, strict=True))
    assert hit > 0.99 * number


def test_one_path_is_less_than_all() -> None:
    log_probs = _random(2, 30, 6).double()
    tokens = torch.tensor([[1, 1, 2, 5], [3, 4, 3, 2]])
    lengths = torch.tensor([4, 4])
    best = ctc_align(log_probs, tokens).log_probs
    total = -ctc_loss(log_probs, tokens, torch.tensor([30, 30]), lengths)
    assert (best < total).all()
    assert (best > total - 30.0).all()


def test_what_does_not_fit_is_nothing_and_stops_no_other() -> None:
    log_probs = _random(4, 6, 4)
    tokens = torch.tensor([[1, 1, 1, 1], [1, 2, 3, 1], [1, 0, 0, 0], [0, 0, 0, 0]])
    frames, lengths = torch.tensor([6, 6, 0, 0]), torch.tensor([4, 4, 1, 0])
    found = ctc_align(log_probs, tokens, frames, lengths)
    assert found.log_probs.isinf().tolist() == [True, False, True, False]
    assert [len(spans) for spans in found.spans] == [0, 4, 0, 0]
    assert not found.paths[0].any()
    assert ctc_align(log_probs[:, :0], tokens, frames * 0, lengths).log_probs.isinf().tolist() == [
        True,
        True,
        True,
        False,
    ]


def test_tokens_that_the_network_rules_out_are_not_taken() -> None:
    log_probs = _random(1, 8, 4)
    log_probs[0, :5, 2] = -torch.inf
    found = ctc_align(log_probs, torch.tensor([[1, 2]]))
    assert found.spans[0][1].first_frame >= 5
    log_probs[..., 2] = -torch.inf
    assert ctc_align(log_probs, torch.tensor([[1, 2]])).spans == ((),)


def test_half_precision_is_aligned_in_single() -> None:
    log_probs = _random(1, 200, 12).bfloat16()
    tokens = torch.randint(1, 12, (1, 40), generator=torch.Generator().manual_seed(5))
    assert ctc_align(log_probs, tokens).spans == ctc_align(log_probs.float(), tokens).spans


def test_words_have_the_times_at_which_they_were_said() -> None:
    tokenizer = characters("ABC ")
    said = "--AA-B--- CC-C"
    path = torch.tensor([["-<ABC ".index(letter) for letter in said]])
    posteriors = torch.full((1, len(said), 6), 0.02).scatter(2, path[..., None], 0.9)
    tokens = torch.tensor([[2, 3, 5, 4, 4]])
    assert tokenizer.decode(tokens[0].tolist()) == "AB CC"
    (found,) = word_times(posteriors.log(), tokens, tokenizer=tokenizer, frame_seconds=0.04)
    assert [word.word for word in found] == ["AB", "CC"]
    assert [word.start_seconds for word in found] == pytest.approx([2 * 0.04, 10 * 0.04])
    assert [word.end_seconds for word in found] == pytest.approx([6 * 0.04, 14 * 0.04])
    assert [word.confidence for word in found] == pytest.approx([0.9**2, 0.9**2])
    assert word_times(posteriors[:, :2].log(), tokens, tokenizer=tokenizer, frame_seconds=0.04) == [()]
