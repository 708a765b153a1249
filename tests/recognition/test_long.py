"""Long recordings: no word is lost or doubled where windows meet, and memory, blocks and batches change nothing."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from auriscope.data.synthetic import voice
from auriscope.recognition.decoding import DecodingOptions
from auriscope.recognition.joint import Joint
from auriscope.recognition.long import LongConfig, Transcript, WindowCutter, merge, transcribe_waveform
from auriscope.recognition.recognizer import Encoded, Recognizer, RecognizerConfig
from auriscope.recognition.wav2vec2 import Wav2Vec2
from auriscope.recognition.words import Word
from auriscope.text.tokenizer import BLANK, EOS

from .tones import RATE, tone_texts, tones, trained_on_tones

FloatArray = NDArray[np.float32]
FRAME, WORD_FRAMES = 320, 10
VOCABULARY = ("ONE", "TWO", "THREE", "FOUR", "FIVE", "SIX")
MEET = LongConfig(window_seconds=5.0, overlap_seconds=2.0, voice=None)


class Oracle(Recognizer):
    """Knows every word by the level of its samples, but takes one that the window cuts for another."""

    Config = RecognizerConfig
    has_ctc = True
    name = "tests/oracle"

    def __init__(self, config: RecognizerConfig) -> None:
        super().__init__(config)
        self.register_buffer("silence", torch.zeros(1))

    def features(self, waveform: Tensor, lengths: Tensor | None = None) -> tuple[Tensor, Tensor]:
        lengths = torch.full((len(waveform),), waveform.shape[1]) if lengths is None else lengths
        return (100.0 * waveform[:, FRAME // 2 :: FRAME, None]).round(), (lengths + FRAME // 2) // FRAME

    def encode_features(self, features: Tensor, frame_lengths: Tensor) -> Encoded:
        logits = torch.zeros(*features.shape[:2], len(self.tokenizer))
        logits[..., 0] = 20.0
        for row, length in enumerate(frame_lengths.tolist()):
            place = 0
            for code, run in itertools.groupby(features[row, :length, 0].int().tolist()):
                size = len(list(run))
                if code:
                    # What is cut off is heard as something else.
                    token = 1 + code if size >= WORD_FRAMES - 1 else len(self.tokenizer) - 1
                    logits[row, place : place + size, 0] = 0.0
                    logits[row, place : place + size, token] = 20.0
                place += size
        return Encoded(logits, frame_lengths, FRAME / RATE)

    def ctc_logits(self, encoded: Encoded) -> Tensor:
        return encoded.states


@pytest.fixture(scope="module")
def oracle() -> Oracle:
    config = RecognizerConfig(sample_rate=RATE, tokens=(BLANK, EOS, *VOCABULARY, "UM"), token_kind="words")
    return Oracle(config).eval()


def spoken(number: int, seed: int, longest_gap: int = 3) -> tuple[FloatArray, list[tuple[str, float]]]:
    """Words without pauses between them, and when each begins, in seconds."""
    rng = np.random.default_rng(seed)
    parts, said, now = [np.zeros(100, np.float32)], [], 100
    for index in rng.integers(len(VOCABULARY), size=number).tolist():
        said.append((VOCABULARY[index], now / RATE))
        parts.append(np.full(WORD_FRAMES * FRAME, 0.01 * (index + 1), np.float32))
        # Less than the shortest pause at which speech is cut.
        parts.append(np.zeros(int(rng.integers(1, longest_gap) * FRAME + rng.integers(FRAME)), np.float32))
        now += len(parts[-2]) + len(parts[-1])
    return np.concatenate(parts), said


def blocks(waveform: FloatArray, size: int = 4_000) -> Iterator[FloatArray]:
    return (waveform[begin : begin + size] for begin in range(0, len(waveform), size))


@pytest.mark.parametrize("seed", range(6))
def test_no_word_is_lost_or_doubled_without_a_pause(oracle: Oracle, seed: int) -> None:
    waveform, said = spoken(120, seed)
    found = transcribe_waveform(blocks(waveform), oracle, config=MEET)
    assert len(found.segments) > 12
    assert found.text.split() == [word for word, _ in said]
    for word, (_, start) in zip(found.words, said, strict=True):
        assert word.start_seconds == pytest.approx(start, abs=3 * FRAME / RATE)
        assert start < word.end_seconds < start + (WORD_FRAMES + 5) * FRAME / RATE


@pytest.mark.parametrize("seed", range(4))
def test_the_same_word_over_and_over_is_counted_right(oracle: Oracle, seed: int) -> None:
    rng = np.random.default_rng(seed)
    word = np.full(WORD_FRAMES * FRAME, 0.02, np.float32)
    gaps = [np.zeros(int(rng.integers(1, 4)) * FRAME, np.float32) for _ in range(60)]
    waveform = np.concatenate([part for gap in gaps for part in (word, gap)])
    found = transcribe_waveform(blocks(waveform), oracle, config=MEET)
    assert found.text.split() == ["TWO"] * 60
    assert any("'TWO' is repeated" in warning for warning in found.warnings)
    assert found.warnings[0].startswith("at 0:00: ")


def test_speech_is_cut_at_pauses_where_there_are_any(oracle: Oracle) -> None:
    parts, said = [], []
    for seed in range(10):
        waveform, words = spoken(6, seed)
        parts += [waveform, np.zeros(round(0.5 * RATE), np.float32)]
        said += [word for word, _ in words]
    whole = np.concatenate(parts)
    cutter = WindowCutter(RATE, MEET)
    windows = [*itertools.chain.from_iterable(map(cutter.push, blocks(whole))), *cutter.finish()]
    assert all(window.shared == 0 for window in windows)
    assert all(len(window.waveform) <= 5 * RATE for window in windows)
    assert [window.end for window in windows[:-1]] == [window.begin for window in windows[1:]]
    assert np.array_equal(np.concatenate([window.waveform for window in windows]), whole)
    assert transcribe_waveform(blocks(whole), oracle, config=MEET).text.split() == said


def test_windows_that_overlap_cover_all_and_hold_what_they_say(oracle: Oracle) -> None:
    waveform, _ = spoken(80, 1)
    cutter = WindowCutter(RATE, MEET)
    windows = [*itertools.chain.from_iterable(map(cutter.push, blocks(waveform, 777))), *cutter.finish()]
    for window in windows:
        assert np.array_equal(window.waveform, waveform[window.begin : window.end])
    for before, after in itertools.pairwise(windows):
        assert before.end - after.begin == after.shared
    assert (windows[0].begin, windows[-1].end) == (0, len(waveform))
    assert cutter.num_heard == cutter.num_samples == len(waveform)


@pytest.mark.parametrize("size", [130, 5_000, 10**6])
def test_blocks_and_batches_change_nothing(oracle: Oracle, size: int) -> None:
    waveform, _ = spoken(60, 2)
    expected = transcribe_waveform([waveform], oracle, config=MEET)
    single = dataclasses.replace(MEET, batch_size=1)
    assert transcribe_waveform(blocks(waveform, size), oracle, config=single) == expected


def test_memory_does_not_grow_with_the_recording() -> None:
    cutter = WindowCutter(RATE, LongConfig(window_seconds=5.0, overlap_seconds=2.0))
    sizes = []
    for number in range(8):
        silence = np.zeros((number % 4) * 2 * RATE, np.float32)
        for block in (*blocks(voice(number, 0, seconds=7.0, sample_rate=RATE)), silence):
            cutter.push(block)
            sizes.append(len(cutter._kept))
    assert max(sizes[len(sizes) // 2 :]) <= max(sizes[: len(sizes) // 2]) + 4_000
    assert max(sizes) < 20 * RATE


@pytest.mark.parametrize(("seed", "batch_size"), [(5, 1), (7, 8)])
def test_a_trained_model_writes_a_long_recording_as_well_as_short_ones(seed: int, batch_size: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    text = " ".join(tone_texts(60, generator))
    waveform, starts = tones([text], generator)
    config = LongConfig(window_seconds=4.0, overlap_seconds=1.5, voice=None, batch_size=batch_size)
    found = transcribe_waveform(blocks(waveform[0].numpy()), trained_on_tones(), config=config)
    assert len(found.segments) > 10
    assert found.text == text
    for word, start in zip(found.words, starts[0], strict=True):
        assert word.start_seconds == pytest.approx(start, abs=0.06)


def test_silence_between_voices_is_not_heard(oracle: Oracle) -> None:
    own = voice(1, 0, seconds=3.0, sample_rate=RATE)
    quiet = np.zeros(20 * RATE, np.float32)
    whole = np.concatenate([quiet, own, quiet, own, quiet])
    found = transcribe_waveform(blocks(whole), oracle)
    assert [round(segment.start_seconds) for segment in found.segments] == [20, 43]
    assert found.duration_seconds == 66.0
    assert 5.0 < found.speech_seconds < 9.0


@pytest.mark.parametrize("size", [700, 10**6])
def test_stretches_that_are_known_beforehand(oracle: Oracle, size: int) -> None:
    waveform, words = spoken(60, 4)
    spans = [(words[3][1] - 0.02, words[20][1] - 0.02), (words[40][1] - 0.02, words[44][1] - 0.02)]
    found = transcribe_waveform(blocks(waveform, size), oracle, config=MEET, spans=spans)
    assert found.text.split() == [word for word, _ in (*words[3:20], *words[40:44])]
    assert found.words[0].start_seconds == pytest.approx(words[3][1], abs=0.1)
    assert transcribe_waveform(blocks(waveform, size), oracle, config=MEET, spans=[]).text == ""


def test_voices_outside_of_the_stretches_are_not_heard(oracle: Oracle) -> None:
    quiet = np.zeros(5 * RATE, np.float32)
    parts = [voice(number, 0, seconds=3.0, sample_rate=RATE) for number in range(3)]
    whole = np.concatenate([part for own in parts for part in (own, quiet)])
    found = transcribe_waveform(blocks(whole), oracle, spans=[(0.0, 3.0), (15.9, 30.0)])
    assert [round(segment.start_seconds) for segment in found.segments] == [0, 16]


def voices(number: int) -> FloatArray:
    parts = [voice(each, 0, seconds=2.0 + 0.7 * each, sample_rate=16_000) for each in range(number)]
    quiet = np.zeros(5 * 16_000, np.float32)
    return np.concatenate([part for own in parts for part in (own, quiet)])


def rounded(found: Transcript) -> list[tuple[str, float, float, float]]:
    return [
        (word.word, round(word.start_seconds, 3), round(word.end_seconds, 3), round(word.confidence, 3))
        for word in found.words
    ]


@pytest.mark.parametrize("norm", ["group", "layer"])
def test_batched_or_single_whether_padding_can_be_masked_or_not(norm: str) -> None:
    torch.manual_seed(0)
    model = Wav2Vec2.from_config({**Wav2Vec2.Tiny, "conv_norm": norm}).eval()
    model.head.weight.data.mul_(20.0)
    assert model.maskable == (norm == "layer")
    whole = voices(5)
    sizes: list[tuple[int, ...]] = []
    encode = model.encode

    def counted(waveform: Tensor, lengths: Tensor | None = None) -> Encoded:
        sizes.append(tuple(waveform.shape))
        return encode(waveform, lengths)

    model.encode = counted  # type: ignore[method-assign]
    single = transcribe_waveform([whole], model, config=LongConfig(batch_size=1))
    assert single.text
    assert len(sizes) == 5
    sizes.clear()
    together = transcribe_waveform([whole], model, config=LongConfig(batch_size=8))
    # Windows of other lengths never meet in a model that would hear the padding.
    assert len(sizes) == (1 if model.maskable else 5)
    assert rounded(together) == rounded(single)
    if not model.maskable:
        sizes.clear()
        config = LongConfig(window_seconds=2.0, overlap_seconds=0.5, pause_seconds=5.0, voice=None)
        # Speech without pauses comes in windows of the same length, which are heard together.
        transcribe_waveform([voice(1, 0, seconds=10.0, sample_rate=16_000)], model, config=config)
        assert sizes[0] == (6, 2 * 16_000)


def test_a_decoder_with_attention_gives_words_with_times_too() -> None:
    torch.manual_seed(0)
    model = Joint.from_config({**Joint.Tiny, "sample_rate": RATE}).eval()
    whole = voice(2, 0, seconds=7.0, sample_rate=RATE)
    config = LongConfig(window_seconds=3.0, overlap_seconds=1.0, voice=None)
    options = DecodingOptions(beam_size=2, ctc_weight=0.0, max_tokens=20, num_best=2)
    found = transcribe_waveform([whole], model, config=config, options=options)
    assert all(0.0 <= word.start_seconds <= word.end_seconds <= 7.0 for word in found.words)
    assert all(len(segment.alternatives) == 2 for segment in found.segments)
    assert all(one.score >= two.score for one, two in (segment.alternatives for segment in found.segments))


@pytest.mark.parametrize(
    ("waveform", "warning"),
    [
        (np.zeros(0, np.float32), "too short to hold speech: 0 ms"),
        (np.full(5, 0.1, np.float32), "too short to hold speech: 0.62 ms"),
        (np.zeros(3 * RATE, np.float32), "the recording is silent"),
        (np.sin(np.arange(3 * RATE, dtype=np.float32) / 4.0), "there is no speech in the recording"),
    ],
)
def test_what_holds_no_speech_gives_an_empty_transcript_and_says_why(
    oracle: Oracle, waveform: FloatArray, warning: str
) -> None:
    found = transcribe_waveform([waveform], oracle)
    assert (found.text, found.words, found.segments) == ("", (), ())
    (line,) = found.warnings
    assert warning in line


def said(text: str, start: float, confidence: float = 0.9) -> list[Word]:
    return [Word(word, start + place, start + place + 0.8, confidence) for place, word in enumerate(text.split())]


def together(before: list[Word], after: list[Word], overlap: tuple[float, float]) -> str:
    first, second = merge(before, after, overlap)
    return " ".join(word.word for word in (*first, *second))


def test_windows_that_agree_on_nothing_are_parted_between_words() -> None:
    assert together(said("a b c d", 0.0), said("w x y z", 2.0), (2.0, 4.0)) == "a b c x y z"
    # Two words at the same moment are one word, heard twice.
    first, second = said("a b", 0.0), [Word("bee", 1.2, 2.6, 0.5), *said("c d", 3.0)]
    assert together(first, second, (1.1, 2.4)) == "a b c d"


def test_the_nearest_match_to_the_middle_is_taken_and_order_is_kept() -> None:
    first, second = said("so we go on and er", 0.0), said("uh go on and on we go", 1.0)
    assert together(first, second, (1.0, 6.0)) == "so we go on and on we go"
    assert together(said("no no no no", 0.0), said("no no no no", 2.0), (2.0, 4.0)) == "no no no no no no"


def test_nothing_on_one_side_keeps_the_other() -> None:
    assert together(said("a b c", 0.0), [], (1.0, 3.0)) == "a b"
    assert together([], said("a b c", 1.0), (1.0, 3.0)) == "b c"


def test_settings_that_make_no_sense_are_refused() -> None:
    with pytest.raises(ValueError, match="overlap_seconds"):
        LongConfig(window_seconds=4.0, overlap_seconds=3.0)
    with pytest.raises(ValueError, match="batch_size"):
        LongConfig(batch_size=0)
