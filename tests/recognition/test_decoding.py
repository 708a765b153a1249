"""Decoding: every score recomputed from scratch, the best text of all, batches, ends, and what cannot be decoded."""

from __future__ import annotations

import dataclasses
import math
from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from auriscope.errors import AuriscopeError
from auriscope.recognition.conformer import ConformerCTC
from auriscope.recognition.decoding import DecodingOptions, Hypothesis, decode, decode_encoded, score_weights
from auriscope.recognition.decoding.options import COVERAGE_FLOOR
from auriscope.recognition.joint import Joint
from auriscope.recognition.language_model import LanguageModel
from auriscope.recognition.las import LAS
from auriscope.recognition.ngram import NGram, WordNGram
from auriscope.recognition.recognizer import Encoded, Recognizer
from auriscope.recognition.rnnlm import RNNLM
from auriscope.recognition.transformerlm import TransformerLM
from auriscope.text.tokenizer import Tokenizer

from .decoding_models import TOKENS, Bigram, Pointer, all_texts, given, joint, peaks, states_of
from .decoding_models import encoded_of as plain

BIGRAM = Bigram({("<s>", "AB"): 0.5, ("AB", "A"): 0.3, ("A", "AB"): 0.2, ("A", "</s>"): 0.4, ("<s>", "A"): 0.3})
OPEN = {"end_margin": math.inf, "token_min_log_prob": -math.inf, "beam_margin": math.inf}


def _language_model(kind: type[LanguageModel]) -> LanguageModel:
    torch.manual_seed(5)
    model = kind.from_config({**kind.Tiny, "tokens": TOKENS}).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.mul_(2.0)
    return model


def _log_prob(logits: Tensor, tokens: list[int], temperature: float) -> float:
    each = (logits.double() / temperature).log_softmax(-1)
    return float(each[0, torch.arange(len(tokens)), tokens].sum())


@torch.no_grad()
def _scores(
    model: Recognizer,
    encoded: Encoded,
    tokens: tuple[int, ...],
    options: DecodingOptions,
    ctc_weight: float,
    language_model: LanguageModel | None,
    words: Bigram | None,
) -> dict[str, float]:
    """The parts of a text's score, each computed on its own: ``encoded`` is of one utterance, without padding."""
    tokenizer = model.tokenizer
    bos, eos = tokenizer.bos_id, tokenizer.eos_id
    read, said = [bos, *tokens], [*tokens, eos]
    found: dict[str, float] = {}
    if ctc_weight < 1.0:
        logits = model.decoder_logits(encoded, torch.tensor([read]))
        found["decoder"] = _log_prob(logits, said, options.temperature)
    if ctc_weight > 0.0:
        log_probs = model.ctc_logits(encoded).double().log_softmax(-1).transpose(0, 1)
        sizes = torch.tensor([len(log_probs)]), torch.tensor([len(tokens)])
        found["ctc"] = -float(F.ctc_loss(log_probs, torch.tensor([tokens]).long(), *sizes, reduction="sum"))
    if language_model is not None:
        found["language_model"] = _log_prob(language_model(torch.tensor([read])), said, options.lm_temperature)
    if words is not None:
        spoken = tokenizer.decode(tokens).split()
        pairs = list(zip(["<s>", *spoken], [*spoken, "</s>"], strict=True))
        total = sum(math.log(words.table.get(pair, words.unknown)) for pair in pairs)
        total += options.unknown_word_score * sum(word not in {"A", "AB"} for word in spoken)
        found["word_language_model"], found["words"] = total, len(spoken)
    if options.length_bonus:
        found["tokens"] = len(tokens)
    if options.hotwords:
        padded = "".join(f" {word} " for word in tokenizer.decode(tokens).split())
        found["hotwords"] = sum(
            padded.count("".join(f" {word} " for word in hotword.split())) for hotword in options.hotwords
        )
    if options.coverage_weight:
        state, received = model.start(encoded, 1), torch.zeros(encoded.states.shape[1], dtype=torch.float64)
        for token in read:
            _, state, attention = model.step(torch.tensor([[token]]), state)
            received += attention[0, 0].double()
        if options.coverage == "covered":
            found["coverage"] = sum(max(COVERAGE_FLOOR, min(0.0, math.log(each))) for each in received.tolist())
        else:
            found["coverage"] = -sum(max(0.0, each - options.coverage_threshold) for each in received.tolist())
    return found


def _check(
    model: Recognizer,
    encoded: Encoded,
    results: list[list[Hypothesis]],
    options: DecodingOptions,
    ctc_weight: float,
    language_model: LanguageModel | None = None,
    words: Bigram | None = None,
) -> None:
    weights = score_weights(options, ctc_weight)
    for number, hypotheses in enumerate(results):
        length = int(encoded.frame_lengths[number])
        own = plain(encoded.states[number : number + 1, :length])
        scores = [each.score for each in hypotheses]
        assert scores == sorted(scores, reverse=True)
        assert len({each.tokens for each in hypotheses}) == len(hypotheses) == options.num_best
        for each in hypotheses:
            expected = _scores(model, own, each.tokens, options, ctc_weight, language_model, words)
            assert each.scores == pytest.approx(expected, abs=2e-4)
            total = sum(weights[name] * value for name, value in expected.items())
            assert each.score == pytest.approx(total, abs=5e-4)
            assert each.text == model.tokenizer.decode(each.tokens)


EVERYTHING = {
    "length_bonus": 0.7,
    "coverage_weight": 0.2,
    "lm_weight": 0.4,
    "word_lm_weight": 0.6,
    "word_bonus": 0.9,
    "unknown_word_score": -3.0,
    "hotwords": ("BA", "A AB"),
    "hotword_weight": 2.0,
    "temperature": 1.3,
    "lm_temperature": 0.8,
}
MODES: list[tuple[float, dict[str, Any]]] = [
    (0.0, {}),
    (0.3, {}),
    (1.0, {"search": "tokens"}),
    (1.0, {"search": "frames"}),
    (0.0, EVERYTHING),
    (0.4, EVERYTHING),
    (0.4, {**EVERYTHING, "coverage": "excess", "eos_threshold": 1.5}),
    (0.4, {**EVERYTHING, "num_candidates": 2}),
    (1.0, {**EVERYTHING, "coverage_weight": 0.0}),
    (1.0, {**EVERYTHING, "coverage_weight": 0.0, "lm_weight": 0.0}),
]


@pytest.mark.parametrize("mode", range(len(MODES)))
def test_every_score_is_the_formula(mode: int) -> None:
    ctc_weight, chosen = MODES[mode]
    options = DecodingOptions(beam_size=8, num_best=4, ctc_weight=ctc_weight, **chosen)
    model, encoded = joint(), states_of(joint(), [9, 6, 12])
    language_model = _language_model(RNNLM if mode % 2 else TransformerLM) if options.lm_weight else None
    words = BIGRAM if options.word_lm_weight else None
    results = decode_encoded(model, encoded, options=options, language_model=language_model, word_language_model=words)
    _check(model, encoded, results, options, ctc_weight, language_model, words)


@pytest.mark.parametrize(("ctc_weight", "search"), [(0.3, "tokens"), (1.0, "tokens"), (1.0, "frames")])
def test_ngrams_over_tokens_and_words_take_part(ctc_weight: float, search: str) -> None:
    texts = ["A AB", "AB A AB", "BA", "A BA AB", "AB AB A"]
    model, encoded = joint(), states_of(joint(), [9, 5])
    words = WordNGram.of_texts(texts, order=2)
    tokens = NGram.from_config({"tokens": TOKENS, "order": 3}).fit(texts) if search == "tokens" else None
    options = DecodingOptions(
        beam_size=8, num_best=3, ctc_weight=ctc_weight, search=search, lm_weight=0.5, word_lm_weight=0.4
    )  # type: ignore[arg-type]
    results = decode_encoded(model, encoded, options=options, language_model=tokens, word_language_model=words)
    for hypotheses in results:
        for each in hypotheses:
            state, total = words.start_state(), 0.0
            for word in each.text.split():
                log_prob, state = words.score_word(state, word)
                total += log_prob + (0.0 if word in {"A", "AB", "BA"} else options.unknown_word_score)
            assert each.scores["word_language_model"] == pytest.approx(total + words.score_end(state), abs=1e-6)
            if tokens is not None:
                log_probs = tokens(torch.tensor([[1, *each.tokens]]))[0]
                expected = log_probs[torch.arange(len(each.tokens) + 1), [*each.tokens, 1]].sum()
                assert each.scores["language_model"] == pytest.approx(float(expected), abs=1e-4)
            weights = score_weights(options, ctc_weight)
            assert each.score == pytest.approx(
                sum(weights[name] * part for name, part in each.scores.items()), abs=1e-4
            )


def test_every_score_is_the_formula_of_a_recurrent_decoder() -> None:
    torch.manual_seed(1)
    model = LAS.from_config({**LAS.Tiny, "tokens": TOKENS}).eval()
    generator = torch.Generator().manual_seed(2)
    with torch.no_grad():
        encoded = model.encode(0.1 * torch.randn(2, 9600, generator=generator), torch.tensor([9600, 6000]))
        options = DecodingOptions(beam_size=5, num_best=3, coverage_weight=0.3, length_bonus=0.5)
    _check(model, encoded, decode_encoded(model, encoded, options=options), options, 0.0)


@pytest.mark.parametrize("ctc_weight", [0.0, 0.4])
def test_one_token_may_be_blank_and_both_ends(ctc_weight: float) -> None:
    class Shared(Joint):
        @property
        def tokenizer(self) -> Tokenizer:  # type: ignore[override]
            return Tokenizer(self.config.tokens, "characters", (), 0, 0, 0)

    torch.manual_seed(0)
    model = Shared.from_config({**Joint.Tiny, "tokens": TOKENS}).eval()
    encoded = states_of(model, [7, 4])
    options = DecodingOptions(beam_size=6, num_best=3, ctc_weight=ctc_weight, length_bonus=1.0)
    results = decode_encoded(model, encoded, options=options)
    assert all(0 not in each.tokens for hypotheses in results for each in hypotheses)
    _check(model, encoded, results, options, ctc_weight)


@pytest.mark.parametrize("mode", range(len(MODES)))
def test_a_wide_beam_finds_the_best_of_all_texts(mode: int) -> None:
    ctc_weight, chosen = MODES[mode]
    longest = 4
    chosen = {**chosen, **OPEN, "max_tokens": longest, "eos_threshold": None, "num_candidates": None}
    options = DecodingOptions(beam_size=400, num_best=5, ctc_weight=ctc_weight, **chosen)
    model = joint(seed=3)
    # As many frames as the longest text has tokens: CTC by frames has no other limit.
    encoded = states_of(model, [longest, longest], seed=mode)
    language_model = _language_model(RNNLM) if options.lm_weight else None
    words = BIGRAM if options.word_lm_weight else None
    results = decode_encoded(model, encoded, options=options, language_model=language_model, word_language_model=words)
    weights = score_weights(options, ctc_weight)
    for number, hypotheses in enumerate(results):
        own = plain(encoded.states[number : number + 1])
        every = {}
        for tokens in all_texts([2, 3, 4], longest):
            parts = _scores(model, own, tokens, options, ctc_weight, language_model, words)
            every[tokens] = sum(weights[name] * value for name, value in parts.items())
        best = sorted(every, key=lambda tokens: -every[tokens])[: options.num_best]
        assert [every[each.tokens] for each in hypotheses] == pytest.approx([every[text] for text in best], abs=1e-3)
        assert hypotheses[0].tokens == best[0]


@pytest.mark.parametrize("mode", range(len(MODES)))
def test_a_batch_gives_what_each_utterance_gives(mode: int) -> None:
    ctc_weight, chosen = MODES[mode]
    options = DecodingOptions(beam_size=6, num_best=3, ctc_weight=ctc_weight, **chosen)
    model, encoded = joint(), states_of(joint(), [10, 3, 7, 1])
    language_model = _language_model(TransformerLM) if options.lm_weight else None
    models = {"language_model": language_model, "word_language_model": BIGRAM}
    together = decode_encoded(model, encoded, options=options, **models)
    for number, hypotheses in enumerate(together):
        own = plain(encoded.states[number : number + 1, : int(encoded.frame_lengths[number])])
        (alone,) = decode_encoded(model, own, options=options, **models)
        assert [each.tokens for each in hypotheses] == [each.tokens for each in alone]
        assert [each.score for each in hypotheses] == pytest.approx([each.score for each in alone], abs=1e-4)
        assert [each.words for each in hypotheses] == [
            tuple(dataclasses.replace(word, confidence=pytest.approx(word.confidence, abs=1e-4)) for word in each.words)
            for each in alone
        ]


def test_utterances_that_are_done_leave_the_batch() -> None:
    sizes = []

    class Counting(Joint):
        def step(self, tokens: Tensor, state: Any) -> Any:
            sizes.append(len(tokens))
            return super().step(tokens, state)

    torch.manual_seed(0)
    model = Counting.from_config({**Joint.Tiny, "tokens": TOKENS}).eval()
    encoded = states_of(model, [12, 2, 5])
    decode_encoded(model, encoded, options=DecodingOptions(beam_size=2, end_margin=math.inf, length_bonus=3.0))
    assert sizes[0] == 3
    assert sizes[-1] == 1
    assert sizes == sorted(sizes, reverse=True)
    assert len(sizes) == 13


def _written(text: str, frames: int = 0) -> Tensor:
    """States (1, frames, tokens) that a pointer reads as the text, every other frame a token."""
    states = torch.full((1, max(frames, 2 * len(text)), len(TOKENS)), -9.0)
    for place, letter in enumerate(text):
        states[0, 2 * place, TOKENS.index(letter)] = 9.0
    return states


@pytest.mark.parametrize(
    ("options", "expected"),
    [
        # The four tokens and the end: then nothing under way can score more.
        (DecodingOptions(beam_size=3), 5),
        # Bonuses might make up for anything; but three lengths in a row that end far worse are enough.
        (DecodingOptions(beam_size=3, length_bonus=5.0), 8),
        (DecodingOptions(beam_size=3, length_bonus=5.0, end_window=5), 10),
        # Without that, until the bonuses of as many tokens as are allowed cannot make up for it.
        (DecodingOptions(beam_size=3, length_bonus=5.0, end_margin=math.inf), 12),
    ],
)
def test_the_search_stops_when_nothing_better_can_come(options: DecodingOptions, expected: int) -> None:
    steps = []

    class Counting(Pointer):
        def step(self, tokens: Tensor, state: Any) -> Any:
            steps.append(1)
            return super().step(tokens, state)

    options = dataclasses.replace(options, max_tokens_per_frame=4.0)
    encoded = plain(_written("ABBA", frames=60), [8])
    ((best,),) = decode_encoded(Counting(given(TOKENS).config), encoded, options=options)
    assert best.text == "ABBA"
    assert len(steps) == expected


def _pointer(endless: bool = False) -> Pointer:
    model = Pointer(given(TOKENS).config)
    model.endless = endless
    return model


def test_words_are_timed_by_attention() -> None:
    # At frames 0, 2, 4, ...: A, B, space, A; a tenth of a second each.
    ((best,),) = decode_encoded(_pointer(), plain(_written("AB A") / 2.0))
    assert best.text == "AB A"
    assert [word.word for word in best.words] == ["AB", "A"]
    assert [word.start_seconds for word in best.words] == pytest.approx([0.0, 0.6])
    assert [word.end_seconds for word in best.words] == pytest.approx([0.3, 0.7])
    sure = math.exp(9.0) / (math.exp(9.0) + 4.0)
    assert [word.confidence for word in best.words] == pytest.approx([sure**2, sure], abs=1e-4)
    assert best.warnings == ()


def test_loops_and_runaways_are_said() -> None:
    # The bonus makes up for the end, which is as unlikely everywhere.
    options = DecodingOptions(max_tokens_per_frame=4.0, beam_size=2, length_bonus=0.1)
    ((best,),) = decode_encoded(_pointer(endless=True), plain(_written("AB  ")), options=options)
    assert best.text == " ".join(["AB"] * 8)
    assert best.warnings == (
        "'AB' is repeated 8 times in a row: the recogniser may be in a loop",
        "no end was found within 32 tokens: the transcript may run away",
    )


def test_words_are_timed_by_the_best_path_of_ctc() -> None:
    model = given(TOKENS)
    for search in ("frames", "tokens"):
        options = DecodingOptions(search=search)  # type: ignore[arg-type]
        ((best,),) = decode_encoded(model, plain(peaks("AB BA", TOKENS)), options=options)
        assert best.text == "AB BA"
        assert [(word.word, word.start_seconds, word.end_seconds) for word in best.words] == [
            ("AB", pytest.approx(0.1), pytest.approx(0.4)),
            ("BA", pytest.approx(0.7), pytest.approx(1.0)),
        ]
        assert all(0.99 < word.confidence <= 1.0 for word in best.words)
        ((silent,),) = decode_encoded(
            model, plain(peaks("AB BA", TOKENS)), options=dataclasses.replace(options, word_times=False)
        )
        assert silent.words == ()
        assert silent.text == best.text


def test_what_cannot_be_decoded_is_said_and_the_rest_is_decoded() -> None:
    model = joint()
    waveform = 0.1 * torch.randn(6, 8000, generator=torch.Generator().manual_seed(0))
    waveform[3] = 0.0
    waveform[4, 100] = math.nan
    lengths = torch.tensor([8000, 0, 5, 8000, 8000, 6000])
    results = decode(model, waveform, lengths)
    assert [hypotheses[0].warnings for hypotheses in results[1:5]] == [
        ("the recording is empty",),
        ("the recording is too short to hold speech: 5 samples, at least 400 are needed",),
        ("the recording is silent",),
        ("the recording holds samples that are no numbers",),
    ]
    assert all(hypotheses == [Hypothesis("", warnings=hypotheses[0].warnings)] for hypotheses in results[1:5])
    for number in (0, 5):
        (alone,) = decode(model, waveform[number : number + 1, : lengths[number]])
        assert results[number][0].tokens == alone[0].tokens
        assert results[number][0].score == pytest.approx(alone[0].score, abs=1e-3)
    assert decode(model, torch.zeros(0, 8000)) == []
    assert decode(model, torch.zeros(1, 0))[0][0].warnings == ("the recording is empty",)


def test_the_shortest_recording_is_decoded() -> None:
    for model in (joint(), ConformerCTC.from_config(ConformerCTC.Tiny).eval()):
        waveform = 0.1 * torch.randn(1, 400, generator=torch.Generator().manual_seed(0))
        ((best,),) = decode(model, waveform)
        assert math.isfinite(best.score)


def test_utterances_without_frames_are_empty() -> None:
    model = joint()
    encoded = states_of(model, [5, 3])
    encoded = Encoded(encoded.states, torch.tensor([5, 0]), 0.1)
    results = decode_encoded(model, encoded)
    assert results[1] == [Hypothesis("", warnings=("there is no frame to decode",))]
    assert results[0][0].scores
    nothing = decode_encoded(model, Encoded(encoded.states, torch.tensor([0, 0]), 0.1))
    assert [each[0].text for each in nothing] == ["", ""]


def test_recognisers_that_cannot_tell_padding_get_equal_lengths_together() -> None:
    given_lengths = []

    class Unmasked(Joint):
        maskable = False

        def encode(self, waveform: Tensor, lengths: Tensor | None = None) -> Encoded:
            assert lengths is None
            given_lengths.append(tuple(waveform.shape))
            return super().encode(waveform, lengths)

    torch.manual_seed(0)
    model = Unmasked.from_config({**Joint.Tiny, "tokens": TOKENS})
    waveform = 0.1 * torch.randn(3, 8000, generator=torch.Generator().manual_seed(0))
    results = decode(model, waveform, torch.tensor([8000, 6000, 8000]))
    assert sorted(given_lengths) == [(1, 6000), (2, 8000)]
    assert results[1][0].tokens == decode(model, waveform[1:2, :6000])[0][0].tokens
    assert model.training


def test_decoding_leaves_no_gradient_and_training_as_it_was() -> None:
    model = joint().train()
    model.head.eval()
    encoded = states_of(model, [4])
    decode_encoded(model, encoded)
    assert model.training
    assert model.decoder.training
    assert not model.head.training


def test_temperature_flattens_the_decoder() -> None:
    model, encoded = joint(), states_of(joint(), [8])
    options = DecodingOptions(ctc_weight=0.0, beam_size=1, temperature=1e4)
    ((best,),) = decode_encoded(model, encoded, options=options)
    assert best.scores["decoder"] == pytest.approx(-(len(best.tokens) + 1) * math.log(5), rel=1e-2)


def test_what_does_not_fit_is_said_in_one_line() -> None:
    ctc, speller = given(TOKENS), _pointer()
    states = plain(torch.zeros(1, 3, 5))
    with pytest.raises(AuriscopeError, match="tests/given has no decoder beside CTC"):
        decode_encoded(ctc, states, options=DecodingOptions(ctc_weight=0.5))
    with pytest.raises(AuriscopeError, match="tests/pointer has no CTC"):
        decode_encoded(speller, states, options=DecodingOptions(ctc_weight=0.5))
    with pytest.raises(AuriscopeError, match="takes CTC alone"):
        decode_encoded(joint(), states_of(joint(), [3]), options=DecodingOptions(search="frames"))
    with pytest.raises(AuriscopeError, match="the language model's 30 tokens are not the recogniser's 5"):
        decode_encoded(ctc, states, language_model=RNNLM.from_config(RNNLM.Tiny))
    with pytest.raises(ValueError, match=r"waveform must be \(batch, time\)"):
        decode(ctc, torch.zeros(3))
    with pytest.raises(ValueError, match="2 lengths do not fit 1 recordings"):
        decode(ctc, torch.zeros(1, 8), torch.tensor([3, 4]))


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"beam_size": 0}, "beam_size 0 must be at least 1"),
        ({"num_best": 11}, "num_best 11 cannot be more than beam_size 10"),
        ({"ctc_weight": 1.5}, "ctc_weight 1.5 must lie between 0 and 1"),
        ({"temperature": 0.0}, "temperature 0 must be above 0"),
        ({"lm_weight": -0.1}, "lm_weight -0.1 must not be negative"),
        ({"unknown_word_score": 1.0}, "unknown_word_score 1 must not be above 0"),
        ({"search": "greedy"}, "search is 'greedy'; it must be one of auto, tokens, frames"),
        ({"hotwords": (" ",)}, "hotwords holds ' ', which is no word"),
        ({"eos_threshold": -1.0}, "eos_threshold -1 must not be negative"),
        ({"length_bonus": math.nan}, "length_bonus is not a number"),
    ],
)
def test_options_are_checked(values: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message.replace("(", r"\(")):
        DecodingOptions(**values)
