"""``align``: words of tones found where they were sung, at any rate and length, and one line for each failure."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
import torch

from auriscope.errors import AuriscopeError
from auriscope.recognition import BLSTMCTC
from auriscope.recognition.words import Word
from auriscope.signal.resampling import resample
from auriscope.text.tokenizer import characters
from auriscope.verbs.align import align, joined, spelt, subtitles, text_or_file, textgrid
from auriscope.verbs.defaults import default_recognizer

from ..recognition.tones import RATE, TONE_SECONDS, tone_texts, tones, trained_on_tones


@pytest.fixture(scope="module")
def model() -> BLSTMCTC:
    return trained_on_tones()


@pytest.fixture
def sung(tmp_path: Path) -> Callable[..., tuple[Path, str, list[float]]]:
    """Write a recording of words of tones: its path, the words, and when each begins."""

    def make(name: str, number: int, *, rate: int = RATE, seed: int = 5) -> tuple[Path, str, list[float]]:
        generator = torch.Generator().manual_seed(seed)
        text = " ".join(tone_texts(number, generator))
        waveforms, starts = tones([text], generator)
        waveform = resample(waveforms, RATE, rate)[0] if rate != RATE else waveforms[0]
        soundfile.write(tmp_path / name, waveform.numpy(), rate, subtype="FLOAT")
        return tmp_path / name, text, starts[0]

    return make


Sung = Callable[..., tuple[Path, str, list[float]]]


@pytest.mark.parametrize(("number", "rate"), [(2, RATE), (2, 44_100), (40, RATE)])
def test_every_word_is_found_where_it_was_sung(
    sung: Sung, model: BLSTMCTC, tmp_path: Path, number: int, rate: int
) -> None:
    path, text, starts = sung("song.wav", number, rate=rate)
    (result,) = align(path, tmp_path / "out", text=text, model=model)
    assert result.error is None
    assert [word.word for word in result.words] == text.split()
    for word, start in zip(result.words, starts, strict=True):
        # A frame lasts 60 ms; the pauses between the words tell more.
        assert word.start_seconds == pytest.approx(start, abs=0.03)
        assert word.end_seconds == pytest.approx(start + 2 * TONE_SECONDS, abs=0.03)
        assert word.confidence > 0.5
    record = json.loads((tmp_path / "out" / "song" / "align.json").read_text())
    assert record["source"]["path"] == str(path)
    assert record["words"] == [vars(word) for word in result.words]
    assert sorted(file.name for file in (tmp_path / "out" / "song").iterdir()) == [
        "align.json",
        "words.TextGrid",
        "words.srt",
    ]


def test_another_text_is_aligned_with_less_confidence(sung: Sung, model: BLSTMCTC, tmp_path: Path) -> None:
    path, text, _ = sung("song.wav", 6)
    other = " ".join(12 * ["AB"])
    right, wrong = (
        align(path, tmp_path / name, text=said, model=model)[0] for name, said in [("a", text), ("b", other)]
    )
    good, bad = (sum(word.confidence for word in result.words) / 12 for result in (right, wrong))
    assert good > 0.8
    assert bad < good - 0.2


def test_texts_lie_beside_their_recordings_and_failures_stop_no_other(
    sung: Sung, model: BLSTMCTC, tmp_path: Path
) -> None:
    texts = {}
    for seed, name in enumerate(("a.wav", "b.wav", "c.wav", "d.wav", "e.wav")):
        path, text, _ = sung(name, 2, seed=seed)
        texts[name] = path.with_suffix(".txt")
        texts[name].write_text("\ufeff" + text.lower() + ".\n", encoding="utf-8")
    texts["b.wav"].unlink()
    texts["c.wav"].write_text("AB " * 60)
    texts["d.wav"].write_text(" - 12 \n")
    texts["e.wav"].write_bytes(b"\xff\xfe\xfa")
    seen = []
    results = align(tmp_path, tmp_path / "out", model=model, on_result=seen.append)
    assert results == seen
    assert [Path(result.input).name for result in results] == ["a.wav", "b.wav", "c.wav", "d.wav", "e.wav"]
    good, *bad = results
    assert good.error is None
    assert good.words[-1].word.endswith(".")
    said = [
        "no such file; put the text there",
        "its text is too long for",
        "its text has no words",
        "not text in UTF-8",
    ]
    for result, line in zip(bad, said, strict=True):
        assert result.error is not None
        assert line in result.error
        assert "\n" not in result.error
        assert result.to_dict() == {"input": result.input, "error": result.error}
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a"]


def test_what_is_not_a_letter_is_told(sung: Sung, model: BLSTMCTC, tmp_path: Path) -> None:
    path, text, _ = sung("song.wav", 2)
    (result,) = align(path, tmp_path / "out", text=f"– {text} 77", model=model)
    assert [word.word for word in result.words] == text.split()
    assert result.warnings == ("has no letters and got no time: 77; write it as it is said",)


def test_nothing_can_be_done_with_a_model_without_ctc_or_one_text_for_two(
    sung: Sung, model: BLSTMCTC, tmp_path: Path
) -> None:
    first, second = sung("a.wav", 1)[0], sung("b.wav", 1)[0]
    with pytest.raises(AuriscopeError, match="one text cannot be that of 2 recordings"):
        align([first, second], tmp_path / "out", text="AB", model=model)
    with pytest.raises(AuriscopeError, match=r"separation/.* is no recogniser with CTC"):
        align(first, tmp_path / "out", text="AB", model="separation/bandsplit.mini")


def test_silence_and_a_few_samples_are_aligned_or_refused_in_a_line(model: BLSTMCTC, tmp_path: Path) -> None:
    for name, samples in (("silence.wav", 16_000), ("short.wav", 5)):
        soundfile.write(tmp_path / name, np.zeros(samples, dtype=np.float32), RATE)
    (silent,) = align(tmp_path / "silence.wav", tmp_path / "out", text="AB", model=model)
    assert silent.error is None
    assert silent.words[0].end_seconds <= 2.0
    (short,) = align(tmp_path / "short.wav", tmp_path / "out", text="AB", model=model)
    assert short.error is not None
    assert "too long for 0.0 s (2 frames of 60 ms at the least, there are 1)" in short.error


def test_spelling_is_kept_and_parts_are_joined() -> None:
    numbers, written, silent = spelt("Well-known, “it’s” … 7 A", characters("ABCDEFGHIJKLMNOPQRSTUVWXYZ' "))
    assert characters("ABCDEFGHIJKLMNOPQRSTUVWXYZ' ").decode(numbers) == "WELL KNOWN IT'S A"
    assert written == [("Well-known,", 2), ("“it’s”", 1), ("A", 1)]
    assert silent == ["7"]
    parts = [Word("", a, a + 0.5, confidence) for a, confidence in [(0.0, 0.5), (1.0, 0.7), (2.0, 0.9), (3.0, 1.0)]]
    found = joined(parts, written, duration_seconds=3.2)
    assert [(word.word, word.start_seconds, word.end_seconds) for word in found] == [
        ("Well-known,", 0.0, 1.5),
        ("“it’s”", 2.0, 2.5),
        ("A", 3.0, 3.2),
    ]
    assert found[0].confidence == pytest.approx(0.5 * 0.7)
    assert characters("abc ").decode(spelt("CAB", characters("abc "))[0]) == "cab"


def test_textgrid_intervals_fill_the_recording() -> None:
    words = [Word('"A"', 0.5, 1.0, 1.0), Word("B", 1.0, 1.25, 1.0), Word("C", 1.2, 2.0, 1.0)]
    text = textgrid(words, 2.5)
    numbers = [float(value) for value in re.findall(r"^            xm\w\w = (.*)$", text, flags=re.MULTILINE)]
    spans = list(zip(numbers[::2], numbers[1::2], strict=True))
    assert spans == [(0.0, 0.5), (0.5, 1.0), (1.0, 1.25), (1.25, 2.0), (2.0, 2.5)]
    assert re.findall(r'text = "(.*)"$', text, flags=re.MULTILINE) == ["", '""A""', "B", "C", ""]
    assert "intervals: size = 5" in text


def test_subtitles_have_the_times_of_the_words() -> None:
    found = subtitles([Word("A", 0.0, 0.5, 1.0), Word("B", 3661.25, 3661.9996, 1.0)])
    assert found == "1\n00:00:00,000 --> 00:00:00,500\nA\n\n2\n01:01:01,250 --> 01:01:02,000\nB\n"


def test_a_text_is_the_words_or_a_file_of_them(tmp_path: Path) -> None:
    (tmp_path / "said.txt").write_text("from a file\n", encoding="utf-8")
    assert text_or_file(str(tmp_path / "said.txt")) == "from a file\n"
    for words in ("some words", "a\nb", "x" * 5000, "\0"):
        assert text_or_file(words) == words


def test_without_a_model_the_recogniser_of_transcribe_is_taken(
    sung: Callable[..., tuple[Path, str, list[float]]],
) -> None:
    path, _, _ = sung("a.wav", 3)
    (result,) = align(path, path.parent / "out", text="ANY WORDS")
    assert result.model == default_recognizer() == "recognition/conformer-ctc.en"
