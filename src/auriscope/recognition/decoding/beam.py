"""The beam search token by token: the decoder, CTC's prefix scores and language models, over a batch of utterances.

S. Watanabe et al., "Hybrid CTC/Attention Architecture for End-to-End Speech Recognition", IEEE JSTSP 11(8), 2017,
section III. Every hypothesis of every utterance takes a step at a time, in one tensor (batch, beam, tokens); utterances
that are done leave the batch. The decoder and the language model, which score all tokens at once, choose the candidates
that CTC and the words then score.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from auriscope.errors import AuriscopeError
from auriscope.recognition.decoding.options import COVERAGE_FLOOR, DecodingOptions
from auriscope.recognition.decoding.prefix import CTCPrefixScorer, PrefixState
from auriscope.recognition.decoding.scorers import TextScorer, TextState, TokenLanguageModel
from auriscope.recognition.recognizer import Encoded, Recognizer


@dataclass(frozen=True)
class Found:
    """A hypothesis as the search leaves it.

    ``parts`` are the unweighted parts of ``score`` that are not of the text alone. ``frames`` holds for every token the
    frame that the decoder attended to most, ``log_probs`` the decoder's log-probability of it; both are empty without a
    decoder, or attention. ``at_bound`` tells that it ended only because it was as long as is allowed.
    """

    tokens: tuple[int, ...]
    score: float
    parts: dict[str, float] = field(default_factory=dict)
    frames: tuple[int, ...] = ()
    log_probs: tuple[float, ...] = ()
    at_bound: bool = False


@dataclass
class _Utterance:
    """What the search knows of an utterance: where its beam came from at every step, and what has ended.

    ``ended`` holds (score, length, row of the beam, parts, at the bound); ``best_ends`` the best score of those that
    ended at each length.
    """

    limit: int
    parents: list[list[int]] = field(default_factory=list)
    tokens: list[list[int]] = field(default_factory=list)
    frames: list[list[int]] = field(default_factory=list)
    log_probs: list[list[float]] = field(default_factory=list)
    ended: list[tuple[float, int, int, dict[str, float], bool]] = field(default_factory=list)
    best_ends: list[float] = field(default_factory=list)

    def trace(self, score: float, length: int, row: int, parts: dict[str, float], at_bound: bool) -> Found:
        tokens, frames, log_probs = [], [], []
        for step in reversed(range(length)):
            tokens.append(self.tokens[step][row])
            if self.frames:
                frames.append(self.frames[step][row])
            if self.log_probs:
                log_probs.append(self.log_probs[step][row])
            row = self.parents[step][row]
        return Found(tuple(tokens[::-1]), score, parts, tuple(frames[::-1]), tuple(log_probs[::-1]), at_bound)


@dataclass
class _Beam:
    """The hypotheses under way, all (batch, beam, …).

    ``score`` is weighted and has neither CTC nor coverage in it, ``parts`` are the unweighted sums of the decoder and
    the language model, ``coverage`` the attention that the frames have received.
    """

    last: Tensor
    score: Tensor
    parts: dict[str, Tensor]
    decoder: Any = None
    language_model: Any = None
    prefixes: PrefixState | None = None
    texts: list[list[TextState]] | None = None
    coverage: Tensor | None = None


class TokenSearch:
    """A search over a batch of encoded utterances; :meth:`run` does it.

    Args:
        recognizer: whose decoder is used if ``ctc_weight`` is below 1.
        encoded: utterances of at least a frame each.
        ctc_log_probs: (batch, frames, tokens); needed if ``ctc_weight`` is above 0.
        ctc_weight: see :class:`~auriscope.recognition.decoding.options.DecodingOptions`, where the rest is.
        options: of the search.
        language_model: over the recogniser's tokens.
        scorer: of words and hotwords.
    """

    def __init__(
        self,
        recognizer: Recognizer,
        encoded: Encoded,
        ctc_log_probs: Tensor | None,
        ctc_weight: float,
        options: DecodingOptions,
        language_model: TokenLanguageModel | None = None,
        scorer: TextScorer | None = None,
    ) -> None:
        self.recognizer, self.options, self.ctc_weight = recognizer, options, ctc_weight
        self.language_model = language_model if options.lm_weight > 0.0 else None
        self.scorer = None if scorer is None or scorer.idle else scorer
        self.has_decoder = ctc_weight < 1.0
        tokenizer = recognizer.tokenizer
        bos, eos, blank = tokenizer.bos_id, tokenizer.eos_id, tokenizer.blank_id
        if (self.has_decoder or self.language_model is not None) and (bos is None or eos is None):
            raise AuriscopeError(f"{recognizer.name} has no tokens for a sentence's ends, which this search needs")
        self.bos, self.eos = -1 if bos is None else bos, -1 if eos is None else eos
        self.never = sorted({number for number in (bos, eos, blank) if number is not None})
        self.encoded, self.frame_lengths = encoded, encoded.frame_lengths
        self.prefix_scorer = None
        if ctc_weight > 0.0:
            assert ctc_log_probs is not None
            assert blank is not None
            self.prefix_scorer = CTCPrefixScorer(ctc_log_probs, encoded.frame_lengths, blank)
        self.num_tokens = len(tokenizer)
        candidates = options.num_candidates or max(40, 2 * options.beam_size)
        self.num_candidates = min(candidates, self.num_tokens)
        # Without a decoder to choose candidates, CTC chooses them.
        self.ctc_of_all = self.prefix_scorer is not None and (
            not self.has_decoder or self.num_candidates == self.num_tokens
        )
        self.gain_per_token = max(0.0, options.length_bonus) + (0.0 if self.scorer is None else self.scorer.max_gain)

    def run(self) -> list[list[Found]]:
        """The best hypotheses of every utterance, best first, at most ``num_best``, at least one."""
        options = self.options
        frames = self.encoded.frame_lengths.tolist()
        longest = math.inf if options.max_tokens is None else options.max_tokens
        utterances = [
            _Utterance(int(min(longest, max(1, math.ceil(number * options.max_tokens_per_frame))))) for number in frames
        ]
        running = list(utterances)
        beam = self._start()
        while running:
            done = self._step(beam, running)
            if any(done):
                left = [row for row, over in enumerate(done) if not over]
                running = [running[row] for row in left]
                if running:
                    self._keep(beam, left)
        return [self._best(utterance) for utterance in utterances]

    def _best(self, utterance: _Utterance) -> list[Found]:
        found = []
        for each in sorted(utterance.ended, key=lambda entry: -entry[0])[: self.options.num_best]:
            traced = utterance.trace(*each)
            parts = text_parts(self.recognizer, traced.tokens, self.options, self.scorer)
            found.append(replace(traced, parts={**traced.parts, **parts}))
        return found

    def _start(self) -> _Beam:
        encoded, width = self.encoded, self.options.beam_size
        batch, device = len(encoded.states), encoded.states.device
        score = torch.full((batch, width), -torch.inf, dtype=torch.float64, device=device)
        score[:, 0] = 0.0
        nothing = torch.zeros_like(score)
        beam = _Beam(torch.full((batch, width), self.bos, dtype=torch.int64, device=device), score, {})
        if self.has_decoder:
            beam.decoder, beam.parts["decoder"] = self.recognizer.start(encoded, width), nothing
        if self.language_model is not None:
            beam.language_model = self.language_model.start(batch, width, device)
            beam.parts["language_model"] = nothing
        if self.prefix_scorer is not None:
            beam.prefixes = self.prefix_scorer.start(width)
        if self.scorer is not None:
            beam.texts = [[self.scorer.start()] * width for _ in range(batch)]
        return beam

    def _step(self, beam: _Beam, running: list[_Utterance]) -> list[bool]:
        """Let every hypothesis end, and grow by a token; says which utterances are done."""
        options = self.options
        log_probs, attention = self._next_log_probs(beam)
        width = options.beam_size
        extra = torch.zeros_like(beam.score)
        coverage = None
        if options.coverage_weight > 0.0:
            coverage = self._cover(beam, attention)
            extra = options.coverage_weight * coverage
        candidates, scores, ctc = self._candidates(beam, log_probs)
        ranked = scores + extra[..., None] if ctc is None else scores + extra[..., None] + self.ctc_weight * ctc
        best, flat = ranked.flatten(1).topk(min(width, ranked[0].numel()))
        if best.shape[1] < width:
            short = width - best.shape[1]
            best, flat = F.pad(best, (0, short), value=-torch.inf), F.pad(flat, (0, short))
        number = ranked.shape[-1]
        parents = flat // number
        tokens = flat % number if candidates is None else candidates.flatten(1).gather(1, flat)
        done = self._record_ends(running, beam, log_probs, extra, coverage, best)
        if all(done):
            return done
        # A row that nothing leads to stays without a score.
        beam.score = scores.flatten(1).gather(1, flat).masked_fill(best == -torch.inf, -torch.inf)
        rows = torch.arange(len(running), device=parents.device)[:, None]
        chosen = {name: values[rows, parents, tokens] for name, values in log_probs.items()}
        for name, values in chosen.items():
            beam.parts[name] = beam.parts[name].gather(1, parents) + values
        self._remember(running, parents, tokens, chosen.get("decoder"), attention)
        self._advance(beam, parents, tokens)
        return done

    def _next_log_probs(self, beam: _Beam) -> tuple[dict[str, Tensor], Tensor | None]:
        """Log-probabilities (batch, beam, tokens) of decoder and language model, and the decoder's attention."""
        options = self.options
        found: dict[str, Tensor] = {}
        attention = None
        if self.has_decoder:
            found["decoder"], beam.decoder, attention = self.recognizer.step(beam.last, beam.decoder)
            found["decoder"] = _tempered(found["decoder"].float(), options.temperature)
        if self.language_model is not None:
            log_probs, beam.language_model = self.language_model.step(beam.last, beam.language_model)
            found["language_model"] = _tempered(log_probs.float(), options.lm_temperature)
        return found, attention

    def _weighted(self, log_probs: dict[str, Tensor]) -> Tensor | None:
        """What the decoder and the language model together say, (batch, beam, tokens); None without either."""
        weights = {"decoder": 1.0 - self.ctc_weight, "language_model": self.options.lm_weight}
        total = None
        for name, values in log_probs.items():
            part = weights[name] * values if weights[name] != 1.0 else values
            total = part if total is None else total + part
        return total

    def _candidates(self, beam: _Beam, log_probs: dict[str, Tensor]) -> tuple[Tensor | None, Tensor, Tensor | None]:
        """The tokens that may follow (batch, beam, candidates), their scores without CTC's, and CTC's.

        The tokens are None where they are all of them.
        """
        weighted = self._weighted(log_probs)
        if weighted is None:
            weighted = beam.score.new_zeros(*beam.score.shape, self.num_tokens)
        weighted = weighted.clone()
        weighted[..., self.never] = -torch.inf
        ctc = None
        if self.ctc_of_all:
            assert self.prefix_scorer is not None
            assert beam.prefixes is not None
            ctc = self.prefix_scorer.extensions(beam.prefixes)
        candidates = None
        if self.num_candidates < self.num_tokens and (self.scorer is not None or not self.ctc_of_all):
            candidates = (
                (weighted if ctc is None else weighted + self.ctc_weight * ctc).topk(self.num_candidates).indices
            )
            weighted = weighted.gather(2, candidates)
            ctc = None if ctc is None else ctc.gather(2, candidates)
        if self.prefix_scorer is not None and ctc is None:
            assert beam.prefixes is not None
            ctc = self.prefix_scorer.extensions(beam.prefixes, candidates)
        scores = beam.score[..., None] + weighted.double() + self.options.length_bonus
        if self.scorer is not None:
            scores = scores + self._text_gains(beam, candidates)
        return candidates, scores, ctc

    def _text_gains(self, beam: _Beam, candidates: Tensor | None) -> Tensor:
        assert self.scorer is not None
        assert beam.texts is not None
        extend, alive = self.scorer.extend, beam.score.isfinite().tolist()
        everything = [0.0] * (self.num_tokens if candidates is None else candidates.shape[-1])
        numbers = range(self.num_tokens)
        tokens = None if candidates is None else candidates.tolist()
        gains = [
            [
                [extend(text, token)[0] for token in (numbers if tokens is None else tokens[utterance][row])]
                if alive[utterance][row]
                else everything
                for row, text in enumerate(texts)
            ]
            for utterance, texts in enumerate(beam.texts)
        ]
        return torch.tensor(gains, dtype=torch.float64, device=beam.score.device)

    def _cover(self, beam: _Beam, attention: Tensor | None) -> Tensor:
        """Add the attention to what the frames have received; the coverage (batch, beam)."""
        if attention is None:
            raise AuriscopeError(f"{self.recognizer.name} shows no attention: set coverage_weight to 0")
        attention = attention.double()
        beam.coverage = attention if beam.coverage is None else beam.coverage + attention
        frames = torch.arange(attention.shape[-1], device=attention.device)
        valid = (frames < self.frame_lengths[:, None])[:, None]
        return coverage_of(beam.coverage, valid, self.options)

    def _record_ends(
        self,
        running: list[_Utterance],
        beam: _Beam,
        log_probs: dict[str, Tensor],
        extra: Tensor,
        coverage: Tensor | None,
        best: Tensor,
    ) -> list[bool]:
        """Note the hypotheses that end here among the best ``beam_size`` of all; says which utterances are done."""
        options = self.options
        parts = {name: beam.parts[name] + values[..., self.eos] for name, values in log_probs.items()}
        ends = beam.score + extra
        weighted = self._weighted(log_probs)
        if weighted is not None:
            ends = ends + weighted[..., self.eos]
        if self.prefix_scorer is not None:
            assert beam.prefixes is not None
            parts["ctc"] = self.prefix_scorer.ends(beam.prefixes)
            ends = ends + self.ctc_weight * parts["ctc"]
        if coverage is not None:
            parts["coverage"] = coverage
        if beam.texts is not None:
            assert self.scorer is not None
            gains = [[self.scorer.end(text) for text in texts] for texts in beam.texts]
            ends = ends + torch.tensor(gains, dtype=ends.dtype, device=ends.device)
        allowed = torch.ones_like(ends, dtype=torch.bool)
        if options.eos_threshold is not None and "decoder" in log_probs:
            others = log_probs["decoder"].clone()
            others[..., self.never] = -torch.inf
            allowed = log_probs["decoder"][..., self.eos] > options.eos_threshold * others.amax(-1)
        least = torch.cat((best, ends), 1).topk(options.beam_size).values[:, -1:]
        admitted = (allowed & (ends >= least)).tolist()
        names = list(parts)
        values = torch.stack([ends, *parts.values()], -1).tolist()
        slack = 0.0 if coverage is None else options.coverage_weight * -coverage.clamp(min=-1e30)
        most = (best[:, 0] + (slack.amax(1) if isinstance(slack, Tensor) else slack)).tolist()
        done = []
        for row, utterance in enumerate(running):
            length = len(utterance.tokens)
            at_bound = length >= utterance.limit
            best_end = -math.inf
            for place, (score, *rest) in enumerate(values[row]):
                if score > -math.inf and (admitted[row][place] or at_bound):
                    forced = at_bound and not admitted[row][place]
                    utterance.ended.append((score, length, place, dict(zip(names, rest, strict=True)), forced))
                    best_end = max(best_end, score)
            utterance.best_ends.append(best_end)
            done.append(at_bound or self._is_done(utterance, most[row]))
        return done

    def _is_done(self, utterance: _Utterance, most: float) -> bool:
        """Whether nothing under way, none of which scores above ``most``, is still worth it."""
        options = self.options
        if most == -math.inf:
            return bool(utterance.ended)
        if not utterance.ended:
            return False
        scores = sorted((each[0] for each in utterance.ended), reverse=True)
        # Log-probabilities only fall from here: the bonuses alone can raise a score.
        left = utterance.limit - len(utterance.tokens)
        if len(scores) >= options.num_best and most + left * self.gain_per_token <= scores[options.num_best - 1]:
            return True
        window = utterance.best_ends[-options.end_window :]
        return len(window) == options.end_window and all(
            -math.inf < each < scores[0] - options.end_margin for each in window
        )

    def _remember(
        self,
        running: list[_Utterance],
        parents: Tensor,
        tokens: Tensor,
        log_probs: Tensor | None,
        attention: Tensor | None,
    ) -> None:
        frames = None if attention is None else attention.argmax(-1).gather(1, parents).tolist()
        sure = None if log_probs is None else log_probs.tolist()
        for row, (before, chosen) in enumerate(zip(parents.tolist(), tokens.tolist(), strict=True)):
            running[row].parents.append(before)
            running[row].tokens.append(chosen)
            if frames is not None:
                running[row].frames.append(frames[row])
            if sure is not None:
                running[row].log_probs.append(sure[row])

    def _advance(self, beam: _Beam, parents: Tensor, tokens: Tensor) -> None:
        """Reorder and extend every state."""
        beam.last = tokens
        if self.has_decoder:
            beam.decoder = self.recognizer.select(beam.decoder, parents)
        if self.language_model is not None:
            beam.language_model = self.language_model.select(beam.language_model, parents)
        if self.prefix_scorer is not None:
            assert beam.prefixes is not None
            beam.prefixes = self.prefix_scorer.advance(beam.prefixes, parents, tokens)
        if beam.coverage is not None:
            beam.coverage = beam.coverage.gather(1, parents[..., None].expand_as(beam.coverage))
        if self.scorer is not None:
            assert beam.texts is not None
            beam.texts = [
                [self.scorer.extend(texts[before], token)[1] for before, token in zip(rows, numbers, strict=True)]
                for texts, rows, numbers in zip(beam.texts, parents.tolist(), tokens.tolist(), strict=True)
            ]

    def _keep(self, beam: _Beam, rows: list[int]) -> None:
        """Let the utterances that are done leave the batch."""
        kept = torch.tensor(rows, device=beam.last.device)
        beam.last, beam.score = beam.last[kept], beam.score[kept]
        beam.parts = {name: values[kept] for name, values in beam.parts.items()}
        if self.has_decoder:
            beam.decoder = self.recognizer.keep(beam.decoder, kept)
        if self.language_model is not None:
            beam.language_model = self.language_model.keep(beam.language_model, kept)
        if self.prefix_scorer is not None:
            assert beam.prefixes is not None
            beam.prefixes = self.prefix_scorer.keep(beam.prefixes, kept)
        if beam.texts is not None:
            beam.texts = [beam.texts[row] for row in rows]
        if beam.coverage is not None:
            beam.coverage = beam.coverage[kept]
        self.frame_lengths = self.frame_lengths[kept]


def text_parts(
    recognizer: Recognizer, tokens: Sequence[int], options: DecodingOptions, scorer: TextScorer | None
) -> dict[str, float]:
    """The parts of a hypothesis's score that its text alone decides, before they are weighted."""
    parts = {"tokens": float(len(tokens))} if options.length_bonus else {}
    return parts if scorer is None else {**parts, **scorer.parts(recognizer.tokenizer.decode(tokens))}


def _tempered(log_probs: Tensor, temperature: float) -> Tensor:
    return log_probs if temperature == 1.0 else (log_probs / temperature).log_softmax(-1)


def coverage_of(received: Tensor, valid: Tensor, options: DecodingOptions) -> Tensor:
    """The coverage of frames that received so much attention (…, frames), of which ``valid`` ones count: (…)."""
    if options.coverage == "covered":
        each = received.log().clamp(COVERAGE_FLOOR, 0.0)
    else:
        each = -(received - options.coverage_threshold).clamp(min=0.0)
    return torch.where(valid, each, 0.0).sum(-1)
