"""Decoding: recordings, or what an encoder made of them, to transcripts."""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn

from auriscope.errors import AuriscopeError
from auriscope.recognition.alignment import word_times
from auriscope.recognition.decoding.beam import Found, TokenSearch, text_parts
from auriscope.recognition.decoding.frames import search_frames
from auriscope.recognition.decoding.hypothesis import Hypothesis, warnings_of
from auriscope.recognition.decoding.options import DecodingOptions
from auriscope.recognition.decoding.prefix import ctc_log_probability
from auriscope.recognition.decoding.scorers import (
    TextScorer,
    TokenLanguageModel,
    WordLanguageModel,
    checked_language_model,
)
from auriscope.recognition.language_model import pad_tokens
from auriscope.recognition.recognizer import Encoded, Recognizer
from auriscope.recognition.words import TokenSpan, Word, words_of_spans

SHORTEST_SECONDS = 0.025
"""Anything shorter, a window of the features, holds no speech."""
SILENCE = 1e-5
"""A recording that never leaves this (-100 dB of full scale) is silence."""
JOINT_CTC_WEIGHT = 0.3
"""CTC's weight beside a decoder, unless the options say another."""


def decode(
    recognizer: Recognizer,
    waveform: Tensor,
    lengths: Tensor | None = None,
    *,
    options: DecodingOptions | None = None,
    language_model: TokenLanguageModel | WordLanguageModel | None = None,
    word_language_model: WordLanguageModel | None = None,
) -> list[list[Hypothesis]]:
    """Transcribe recordings.

    Args:
        recognizer: any; one that cannot tell padding is given recordings of equal length together.
        waveform: (batch, time) in [-1, 1], at the recogniser's sample rate.
        lengths: (batch,) valid samples; all by default.
        options: of the search and its score.
        language_model: over the recogniser's tokens, or over words. It takes part with the weight that ``options`` give
            it, 0 by default.
        word_language_model: over words, beside one over tokens.

    Returns:
        The best hypotheses of every recording, best first; at least one. What cannot be decoded (nothing, less than
        ``SHORTEST_SECONDS``, silence, samples that are no numbers) has a single empty one, with a warning why.

    Raises:
        AuriscopeError: the options ask for what the recogniser does not have, or the language model is another's.
    """
    if waveform.ndim != 2:
        raise ValueError(f"waveform must be (batch, time), not {tuple(waveform.shape)}")
    batch, time = waveform.shape
    lengths = torch.full((batch,), time) if lengths is None else lengths
    if len(lengths) != batch:
        raise ValueError(f"{len(lengths)} lengths do not fit {batch} recordings")
    if recognizer.decodes_itself and not (language_model is None and word_language_model is None):
        raise AuriscopeError(f"{recognizer.name} takes no language model: it hears one word at a time")
    found: list[list[Hypothesis]] = []
    groups: dict[int, list[int]] = {}
    shortest = math.ceil(SHORTEST_SECONDS * recognizer.config.sample_rate)
    for number, length in enumerate(lengths.tolist()):
        reason = _unusable(waveform[number, :length], shortest)
        found.append([Hypothesis("", warnings=(reason,))] if reason else [])
        if not reason:
            groups.setdefault(0 if recognizer.maskable else length, []).append(number)
    for numbers in groups.values():
        rows = torch.tensor(numbers, device=waveform.device)
        own = lengths.to(waveform.device)[rows]
        if recognizer.decodes_itself:
            heard = recognizer.transcribe(waveform[rows, : int(own.max())], own)
            for number, hypothesis in zip(numbers, heard, strict=True):
                found[number] = [hypothesis]
            continue
        with _evaluating(recognizer):
            encoded = recognizer.encode(waveform[rows, : int(own.max())], own if recognizer.maskable else None)
        results = decode_encoded(
            recognizer,
            encoded,
            options=options,
            language_model=language_model,
            word_language_model=word_language_model,
        )
        for number, hypotheses in zip(numbers, results, strict=True):
            found[number] = hypotheses
    return found


def decode_encoded(
    recognizer: Recognizer,
    encoded: Encoded,
    *,
    options: DecodingOptions | None = None,
    language_model: TokenLanguageModel | WordLanguageModel | None = None,
    word_language_model: WordLanguageModel | None = None,
) -> list[list[Hypothesis]]:
    """Transcribe what the recogniser's encoder made of a batch; the rest is as in :func:`decode`.

    An utterance of no frames has a single empty hypothesis with a warning.
    """
    options = options or DecodingOptions()
    tokenizer = recognizer.tokenizer
    ctc_weight = _ctc_weight(recognizer, options)
    tokens_model = None
    if isinstance(language_model, WordLanguageModel):
        word_language_model = word_language_model or language_model
    elif language_model is not None:
        tokens_model = checked_language_model(language_model, tokenizer)
    scorer = TextScorer(tokenizer, options, word_language_model)
    by_frames = _by_frames(options, ctc_weight, tokens_model)
    results: list[list[Hypothesis]] = [
        [Hypothesis("", warnings=("there is no frame to decode",))] for _ in encoded.states
    ]
    numbers = encoded.frame_lengths.nonzero()[:, 0]
    if len(numbers) == 0:
        return results
    if len(numbers) < len(results):
        encoded = encoded.keep(numbers)
    with _evaluating(recognizer, tokens_model):
        log_probs = None
        if ctc_weight > 0.0 or (recognizer.has_ctc and options.word_times):
            log_probs = recognizer.ctc_logits(encoded).float().log_softmax(-1)
        if by_frames:
            assert log_probs is not None
            found = _search_frames(recognizer, encoded, log_probs, options, scorer)
        else:
            search = TokenSearch(recognizer, encoded, log_probs, ctc_weight, options, tokens_model, scorer)
            found = search.run()
        words = _words(recognizer, encoded, log_probs, found) if options.word_times else itertools.repeat(())
        for number, best in zip(numbers.tolist(), found, strict=True):
            results[number] = [_hypothesis(recognizer, each, options, next(words)) for each in best]
    return results


def score_weights(options: DecodingOptions, ctc_weight: float) -> dict[str, float]:
    """The weights of the parts of a score, by their names in ``Hypothesis.scores``."""
    return {
        "decoder": 1.0 - ctc_weight,
        "ctc": ctc_weight,
        "language_model": options.lm_weight,
        "word_language_model": options.word_lm_weight,
        "words": options.word_bonus,
        "tokens": options.length_bonus,
        "coverage": options.coverage_weight,
        "hotwords": options.hotword_weight,
    }


def _unusable(samples: Tensor, shortest: int) -> str:
    """Why a recording cannot be decoded, or nothing."""
    if len(samples) == 0:
        return "the recording is empty"
    if len(samples) < shortest:
        return f"the recording is too short to hold speech: {len(samples)} samples, at least {shortest} are needed"
    peak = float(samples.abs().max())
    if not math.isfinite(peak):
        return "the recording holds samples that are no numbers"
    return "the recording is silent" if peak < SILENCE else ""


def _ctc_weight(recognizer: Recognizer, options: DecodingOptions) -> float:
    weight = options.ctc_weight
    if weight is None:
        return JOINT_CTC_WEIGHT if recognizer.has_ctc and recognizer.has_decoder else float(recognizer.has_ctc)
    if weight > 0.0 and not recognizer.has_ctc:
        raise AuriscopeError(f"{recognizer.name} has no CTC: leave ctc_weight out, or set it to 0")
    if weight < 1.0 and not recognizer.has_decoder:
        raise AuriscopeError(f"{recognizer.name} has no decoder beside CTC: leave ctc_weight out, or set it to 1")
    return weight


def _by_frames(options: DecodingOptions, ctc_weight: float, model: TokenLanguageModel | None) -> bool:
    possible = ctc_weight == 1.0 and (model is None or options.lm_weight == 0.0)
    if options.search == "frames" and not possible:
        raise AuriscopeError(
            "the search by frames takes CTC alone (ctc_weight 1), without a language model over tokens: "
            "set search to auto"
        )
    return possible and options.search != "tokens"


@contextmanager
def _evaluating(*modules: object) -> Iterator[None]:
    """Without gradients and without dropout; afterwards every module trains as it did."""
    flags = [(part, part.training) for module in modules if isinstance(module, nn.Module) for part in module.modules()]
    for part, _ in flags:
        part.training = False
    try:
        with torch.no_grad():
            yield
    finally:
        for part, training in flags:
            part.training = training


def _search_frames(
    recognizer: Recognizer, encoded: Encoded, log_probs: Tensor, options: DecodingOptions, scorer: TextScorer
) -> list[list[Found]]:
    """Search by frames, utterance by utterance; then CTC's part is that of all paths, not only of those searched."""
    tokenizer = recognizer.tokenizer
    blank = tokenizer.blank_id
    assert blank is not None
    looked_at = log_probs.cpu().clone()
    for number in (tokenizer.bos_id, tokenizer.eos_id):
        if number not in {None, blank}:
            looked_at[..., number] = -math.inf
    weights = score_weights(options, 1.0)
    found = []
    for frames, exact, length in zip(looked_at, log_probs, encoded.frame_lengths.tolist(), strict=True):
        texts = [tokens for tokens, _ in search_frames(frames[:length].numpy(), blank, options, scorer)]
        hypotheses = []
        for tokens, ctc in zip(texts, ctc_log_probability(exact[:length], texts, blank), strict=True):
            parts = {"ctc": ctc, **text_parts(recognizer, tokens, options, scorer)}
            score = sum(weights[name] * value for name, value in parts.items())
            hypotheses.append(Found(tuple(tokens), score, parts))
        found.append(sorted(hypotheses, key=lambda each: -each.score))
    return found


def _hypothesis(recognizer: Recognizer, found: Found, options: DecodingOptions, words: tuple[Word, ...]) -> Hypothesis:
    tokenizer = recognizer.tokenizer
    text = tokenizer.decode(found.tokens)
    said = [tokenizer.tokens[number] for number in found.tokens]
    warnings = warnings_of(text, said, limit=options.repetition_limit, at_bound=found.at_bound)
    return Hypothesis(text, found.tokens, found.score, found.parts, words, warnings)


def _words(
    recognizer: Recognizer, encoded: Encoded, log_probs: Tensor | None, found: list[list[Found]]
) -> Iterator[tuple[Word, ...]]:
    """The words of all hypotheses in order, with their times: of CTC's best path, or of the decoder's attention."""
    tokenizer, frame_seconds = recognizer.tokenizer, encoded.frame_seconds
    if log_probs is None:
        for each in (hypothesis for hypotheses in found for hypothesis in hypotheses):
            yield words_of_spans(_attended(each), tokenizer, frame_seconds) if each.frames else ()
        return
    for frames, length, hypotheses in zip(log_probs, encoded.frame_lengths.tolist(), found, strict=True):
        tokens, token_lengths = pad_tokens([list(each.tokens) for each in hypotheses])
        device = log_probs.device
        yield from word_times(
            frames[:length].expand(len(hypotheses), -1, -1),
            tokens.to(device),
            token_lengths=token_lengths.to(device),
            tokenizer=tokenizer,
            frame_seconds=frame_seconds,
        )


def _attended(found: Found) -> list[TokenSpan]:
    """Each token at the frame attended to most, as sure as the decoder was; attention that goes back is held."""
    spans, latest = [], 0
    for token, frame, log_prob in zip(found.tokens, found.frames, found.log_probs, strict=True):
        latest = max(latest, frame)
        spans.append(TokenSpan(token, latest, latest + 1, math.exp(log_prob)))
    return spans
