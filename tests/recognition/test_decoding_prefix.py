"""CTC's prefix scores against the recursion frame by frame, and against every path tried."""

from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from torch import Tensor

from auriscope.recognition.ctc import collapse
from auriscope.recognition.decoding.prefix import CTCPrefixScorer, ctc_log_probability

BLANK = 0


def _random(batch: int, frames: int, classes: int, seed: int = 0) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return (3.0 * torch.randn(batch, frames, classes, generator=generator)).log_softmax(-1)


class SlowPrefixScore:
    """Algorithm 2 of Watanabe et al. 2017, one utterance, one prefix, one frame at a time."""

    def __init__(self, log_probs: np.ndarray) -> None:
        self.log_probs = log_probs

    def of(self, prefix: list[int]) -> tuple[float, float]:
        """Log-probabilities that what is said begins with the prefix, and that it is the prefix."""
        frames = len(self.log_probs)
        # [t] is after t frames: that the prefix is complete and its last frame is its last token, or a blank.
        token, blank = [-math.inf] * (frames + 1), [0.0]
        for frame in range(frames):
            blank.append(blank[-1] + self.log_probs[frame, BLANK])
        begins, last = 0.0, None
        for number in prefix:
            new_token, new_blank, begins = [-math.inf], [-math.inf], -math.inf
            for frame in range(frames):
                before = blank[frame] if number == last else np.logaddexp(blank[frame], token[frame])
                probability = self.log_probs[frame, number]
                begins = np.logaddexp(begins, before + probability)
                silence = np.logaddexp(new_blank[frame], new_token[frame]) + self.log_probs[frame, BLANK]
                new_token.append(np.logaddexp(new_token[frame], before) + probability)
                new_blank.append(silence)
            token, blank, last = new_token, new_blank, number
        return float(begins), float(np.logaddexp(token[-1], blank[-1]))


@pytest.mark.parametrize("partial", [False, True])
def test_equals_the_recursion_frame_by_frame(partial: bool) -> None:
    log_probs, lengths = _random(3, 14, 5), [14, 9, 1]
    scorer = CTCPrefixScorer(log_probs, torch.tensor(lengths), BLANK)
    state = scorer.start(2)
    slow = [SlowPrefixScore(each[:length].double().numpy()) for each, length in zip(log_probs, lengths, strict=True)]
    prefixes: list[list[list[int]]] = [[[], []] for _ in lengths]
    generator = torch.Generator().manual_seed(4)
    for _ in range(6):
        candidates = (
            torch.stack([torch.randperm(5, generator=generator)[:3] for _ in range(6)]).reshape(3, 2, 3)
            if partial
            else torch.arange(5).expand(3, 2, 5)
        )
        psi = scorer.extensions(state, candidates if partial else None)
        ends = scorer.ends(state)
        for utterance, row in itertools.product(range(3), range(2)):
            prefix = prefixes[utterance][row]
            assert ends[utterance, row].item() == pytest.approx(slow[utterance].of(prefix)[1], abs=1e-4)
            for place, token in enumerate(candidates[utterance, row].tolist()):
                expected = -math.inf if token == BLANK else slow[utterance].of([*prefix, token])[0]
                assert psi[utterance, row, place].item() == pytest.approx(expected, abs=1e-4)
        # Tokens that repeat among them, and prefixes that change rows.
        tokens = torch.randint(1, 4, (3, 2), generator=generator)
        parents = torch.randint(0, 2, (3, 2), generator=generator)
        state = scorer.advance(state, parents, tokens)
        prefixes = [[[*prefixes[u][int(parents[u, row])], int(tokens[u, row])] for row in range(2)] for u in range(3)]


def test_a_prefix_sums_all_paths_that_begin_with_it() -> None:
    log_probs = _random(1, 5, 3, seed=2)
    scorer = CTCPrefixScorer(log_probs, torch.tensor([5]), BLANK)
    probabilities = log_probs[0].double().exp().numpy()
    begins: dict[tuple[int, ...], float] = {}
    whole: dict[tuple[int, ...], float] = {}
    for path in itertools.product(range(3), repeat=5):
        text = tuple(collapse(list(path), BLANK))
        probability = math.prod(probabilities[frame, token] for frame, token in enumerate(path))
        whole[text] = whole.get(text, 0.0) + probability
        for length in range(len(text) + 1):
            begins[text[:length]] = begins.get(text[:length], 0.0) + probability
    for text in ((1,), (1, 1), (2, 1, 2), (1, 1, 1), (2, 2, 1)):
        state = scorer.start(1)
        for number, token in enumerate(text):
            psi = scorer.extensions(state)[0, 0, token].exp().item()
            assert psi == pytest.approx(begins[text[: number + 1]], rel=1e-5)
            state = scorer.advance(state, torch.tensor([[0]]), torch.tensor([[token]]))
        assert scorer.ends(state).exp().item() == pytest.approx(whole[text], rel=1e-5)


def test_tokens_that_are_next_to_impossible_stay_finite() -> None:
    logits = torch.zeros(1, 400, 4)
    logits[..., 0] = 500.0
    scorer = CTCPrefixScorer(logits.log_softmax(-1), torch.tensor([400]), BLANK)
    state = scorer.advance(scorer.start(1), torch.tensor([[0]]), torch.tensor([[2]]))
    exact = ctc_log_probability(logits[0].log_softmax(-1), [[2]], BLANK)
    assert scorer.ends(state).item() == pytest.approx(exact[0], rel=1e-6)
    assert not scorer.extensions(state).isnan().any()


def test_utterances_leave_the_batch() -> None:
    log_probs, lengths = _random(3, 8, 4), torch.tensor([8, 5, 7])
    scorer = CTCPrefixScorer(log_probs, lengths, BLANK)
    state = scorer.advance(scorer.start(1), torch.zeros(3, 1, dtype=torch.int64), torch.tensor([[1], [2], [3]]))
    before = scorer.extensions(state), scorer.ends(state)
    state = scorer.keep(state, torch.tensor([0, 2]))
    torch.testing.assert_close(scorer.extensions(state), before[0][[0, 2]])
    torch.testing.assert_close(scorer.ends(state), before[1][[0, 2]])


def test_whole_texts_by_torch() -> None:
    log_probs = _random(1, 6, 4)[0]
    texts = [[], [1], [2, 2], [1, 2, 3], [1] * 6]
    found = ctc_log_probability(log_probs, texts, BLANK)
    slow = SlowPrefixScore(log_probs.double().numpy())
    assert found[:4] == pytest.approx([slow.of(text)[1] for text in texts[:4]], abs=1e-6)
    assert found[4] == -math.inf
    assert ctc_log_probability(log_probs[:0], [[], [1]], BLANK) == [0.0, -math.inf]
    assert ctc_log_probability(log_probs, [], BLANK) == []
