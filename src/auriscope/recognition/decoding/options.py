"""What can be chosen about decoding: the weights of the score, the width of the search, and what is reported."""

from __future__ import annotations

import math
from dataclasses import dataclass, fields
from typing import Literal, get_args

Search = Literal["auto", "tokens", "frames"]
Coverage = Literal["covered", "excess"]


@dataclass(frozen=True)
class DecodingOptions:
    """How a recogniser is decoded; plain values, so that a recipe or the command line can state them.

    A hypothesis Y has the score, in natural logarithms::

        (1 - ctc_weight) log p_decoder(Y) + ctc_weight log p_CTC(Y)
          + lm_weight log p_LM(Y) + word_lm_weight log p_wordLM(words of Y) + word_bonus · number of words
          + length_bonus · number of tokens + coverage_weight · coverage + hotword_weight · number of hotwords

    Args:
        beam_size: hypotheses kept of every utterance.
        ctc_weight: of CTC, from 0 (the decoder alone) to 1 (CTC alone). None: 0.3 for models that have both, and else
            what the model has.
        lm_weight: of a language model over tokens.
        word_lm_weight: of a language model over words.
        word_bonus: for every word, where there is a language model over words.
        unknown_word_score: what a word that the language model over words does not know costs besides its probability
            there; until a word is complete, what a beginning costs that no known word has.
        length_bonus: for every token.
        coverage_weight: of how well the decoder's attention covers the frames.
        coverage: "covered": the sum over the frames of log min(attention received, 1), at least ``COVERAGE_FLOOR`` each
            (Y. Wu et al., arXiv 1609.08144, equation 14). "excess": minus the attention that frames received
            beyond ``coverage_threshold``, which punishes loops.
        coverage_threshold: see ``coverage``.
        hotwords: words, or several in a row, that are likely here.
        hotword_weight: for every one of them in a hypothesis.
        num_best: hypotheses to return of every utterance, best first; at most ``beam_size``.
        temperature: divides the decoder's log-probabilities before they are normalised again; above 1 is less sure.
        lm_temperature: as much for the language model over tokens.
        search: "tokens" goes token by token (the decoder, CTC's prefix scores, or both); "frames" goes frame by frame
            (CTC alone, with a language model over words at most). "auto": frames where that is possible.
        num_candidates: tokens that may follow a hypothesis, chosen by the decoder and the language model before CTC and
            words are scored. None: twice the beam, at least 40.
        max_tokens_per_frame: hypotheses have at most so many tokens per frame of the encoder.
        max_tokens: and at most so many tokens at all. None: no other limit.
        eos_threshold: a sentence may end only where its end is likelier than this times the log-probability of the
            likeliest other token (arXiv 1904.02619, section 3.1.2), such as 1.5. None: anywhere.
        end_margin: the search of an utterance stops when for ``end_window`` lengths in a row every hypothesis that
            ended was this much worse than the best one (S. Watanabe et al., IEEE JSTSP 11(8), 2017, section III-C).
        end_window: see ``end_margin``.
        token_min_log_prob: by frames, tokens less likely than this at a frame are not looked at there, the likeliest
            excepted.
        beam_margin: by frames, hypotheses this much worse than the best one are dropped.
        word_times: whether words get times and confidences.
        repetition_limit: how often in a row the same words may be said before a warning.
    """

    beam_size: int = 10
    ctc_weight: float | None = None
    lm_weight: float = 0.0
    word_lm_weight: float = 0.0
    word_bonus: float = 0.0
    unknown_word_score: float = -6.0
    length_bonus: float = 0.0
    coverage_weight: float = 0.0
    coverage: Coverage = "covered"
    coverage_threshold: float = 0.5
    hotwords: tuple[str, ...] = ()
    hotword_weight: float = 5.0
    num_best: int = 1
    temperature: float = 1.0
    lm_temperature: float = 1.0
    search: Search = "auto"
    num_candidates: int | None = None
    max_tokens_per_frame: float = 1.0
    max_tokens: int | None = None
    eos_threshold: float | None = None
    end_margin: float = 10.0
    end_window: int = 3
    token_min_log_prob: float = -5.0
    beam_margin: float = 10.0
    word_times: bool = True
    repetition_limit: int = 4

    def __post_init__(self) -> None:
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, float) and math.isnan(value):
                raise ValueError(f"{field.name} is not a number")
        for name in ("beam_size", "num_best", "num_candidates", "max_tokens", "end_window", "repetition_limit"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise ValueError(f"{name} {value} must be at least 1")
        for name in ("temperature", "lm_temperature", "max_tokens_per_frame"):
            if not 0.0 < getattr(self, name) < math.inf:
                raise ValueError(f"{name} {getattr(self, name):g} must be above 0")
        for name in (
            "end_margin",
            "beam_margin",
            "coverage_weight",
            "coverage_threshold",
            "lm_weight",
            "word_lm_weight",
        ):
            if getattr(self, name) < 0.0:
                raise ValueError(f"{name} {getattr(self, name):g} must not be negative")
        for name in ("unknown_word_score", "token_min_log_prob"):
            if getattr(self, name) > 0.0:
                raise ValueError(f"{name} {getattr(self, name):g} must not be above 0")
        if self.ctc_weight is not None and not 0.0 <= self.ctc_weight <= 1.0:
            raise ValueError(f"ctc_weight {self.ctc_weight:g} must lie between 0 and 1")
        if self.num_best > self.beam_size:
            raise ValueError(f"num_best {self.num_best} cannot be more than beam_size {self.beam_size}")
        for name, values in (("search", get_args(Search)), ("coverage", get_args(Coverage))):
            if getattr(self, name) not in values:
                raise ValueError(f"{name} is {getattr(self, name)!r}; it must be one of {', '.join(values)}")
        if self.eos_threshold is not None and self.eos_threshold < 0.0:
            raise ValueError(f"eos_threshold {self.eos_threshold:g} must not be negative")
        for hotword in self.hotwords:
            if not isinstance(hotword, str) or not hotword.split():
                raise ValueError(f"hotwords holds {hotword!r}, which is no word")


COVERAGE_FLOOR = -10.0
"""What a frame that no token attended to adds to the coverage."""
