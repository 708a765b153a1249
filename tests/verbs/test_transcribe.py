"""``transcribe``: texts of any recording, the same over any number of processes, one line for each failure."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch

import auriscope
from auriscope.errors import AuriscopeError
from auriscope.pretrained.card import ModelCard
from auriscope.recognition import BLSTMCTC, RNNLM, ConformerCTC
from auriscope.recognition.decoding import DecodingOptions
from auriscope.recognition.long import LongConfig
from auriscope.signal.resampling import resample
from auriscope.verbs.batch import Progress
from auriscope.verbs.transcribe import FORMATS, NAMES, TranscribeResult, transcribe
from auriscope.verbs.transcriber import Transcriber, TranscriberSettings, expected_error

from ..recognition.tones import RATE, TONE_SECONDS, tone_texts, tones, trained_on_tones

HEAR_ALL = LongConfig(voice=None)
"""Tones are no voices."""


@pytest.fixture(scope="module")
def model() -> BLSTMCTC:
    return trained_on_tones()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory, model: BLSTMCTC) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tones"
    card = ModelCard("Tones", "Of tones.", "CC0-1.0", metrics={"word_error_percent tones test": 12.3, "other": 1.0})
    model.save_pretrained(folder, card=card)
    return folder


@pytest.fixture
def sung(tmp_path: Path) -> Callable[..., tuple[Path, str, list[float]]]:
    """Write a recording of words of tones: its path, the words, and when each begins."""

    def make(
        name: str, number: int = 4, *, rate: int = RATE, channels: int = 1, seed: int = 5
    ) -> tuple[Path, str, list[float]]:
        generator = torch.Generator().manual_seed(seed)
        text = " ".join(tone_texts(number, generator))
        waveforms, starts = tones([text], generator)
        waveform = resample(waveforms, RATE, rate)[0] if rate != RATE else waveforms[0]
        path = tmp_path / "in" / name
        path.parent.mkdir(exist_ok=True)
        soundfile.write(path, np.tile(waveform.numpy()[:, None], channels), rate)
        return path, text, starts[0]

    return make


Sung = Callable[..., tuple[Path, str, list[float]]]


@pytest.mark.parametrize(
    ("name", "rate", "channels", "number"),
    [("a.wav", RATE, 1, 4), ("a.flac", 44_100, 2, 4), ("a.ogg", 16_000, 1, 4), ("a.wav", RATE, 1, 30)],
)
def test_any_recording_is_written_down_with_the_time_of_every_word(
    sung: Sung, model: BLSTMCTC, name: str, rate: int, channels: int, number: int
) -> None:
    path, text, starts = sung(name, number, rate=rate, channels=channels)
    (result,) = transcribe(path, model=model, config=HEAR_ALL)
    assert (result.error, result.text, result.files) == (None, text, ())
    assert " ".join(word.word for word in result.words) == text
    assert " ".join(segment.text for segment in result.segments) == text
    for word, start in zip(result.words, starts, strict=True):
        assert word.start_seconds == pytest.approx(start, abs=0.04)
        assert word.end_seconds == pytest.approx(start + 2 * TONE_SECONDS, abs=0.05)
        assert 0.3 < word.confidence <= 1.0
    assert result.duration_seconds == pytest.approx(soundfile.info(path).duration, abs=1e-3)


def test_it_is_a_verb_of_the_package(sung: Sung, address: Path) -> None:
    path, text, _ = sung("a.wav")
    (result,) = auriscope.transcribe(path, model=address, config=HEAR_ALL)
    assert isinstance(result, TranscribeResult)
    assert (result.text, result.model) == (text, str(address))


@pytest.mark.parametrize("formats", [FORMATS, ("srt",), ()])
def test_files_are_written_as_asked_for(sung: Sung, address: Path, tmp_path: Path, formats: Any) -> None:
    path, text, _ = sung("a.wav")
    (result,) = transcribe(path, tmp_path / "out", model=address, config=HEAR_ALL, formats=formats)
    wanted = {NAMES[name] for name in formats} | {"transcribe.json"}
    assert {file.name for file in (tmp_path / "out" / "a").iterdir()} == wanted
    assert {Path(file).name for file in result.files} == wanted
    record = json.loads((tmp_path / "out" / "a" / "transcribe.json").read_text())
    assert record["source"]["path"] == str(path)
    assert record["words"] == [dataclasses.asdict(word) for word in result.words]
    if "txt" in formats:
        assert (tmp_path / "out" / "a" / "transcript.txt").read_text() == text + "\n"
        assert text.split()[0] in (tmp_path / "out" / "a" / "transcript.vtt").read_text()


def test_the_results_are_the_same_for_any_number_of_processes(sung: Sung, address: Path, tmp_path: Path) -> None:
    paths = [sung(f"{seed}.wav", 3, seed=seed)[0] for seed in range(4)]
    paths.insert(2, tmp_path / "missing.wav")
    seen: list[TranscribeResult] = []
    states: list[Progress] = []
    options: dict[str, Any] = {"model": address, "config": HEAR_ALL}
    alone = transcribe(paths, **options)
    together = transcribe(paths, workers=2, **options, on_result=seen.append, progress=states.append)
    assert together == seen == alone
    assert [result.input for result in together] == [str(path) for path in paths]
    assert [result.error is None for result in together] == [True, True, False, True, True]
    assert [state.input for state in states] == [str(path) for path in paths]


def test_batches_and_windows_change_no_text(sung: Sung, model: BLSTMCTC) -> None:
    path, text, _ = sung("a.wav", 20)
    for config in (
        LongConfig(window_seconds=3.0, overlap_seconds=1.0, voice=None, batch_size=1),
        LongConfig(window_seconds=3.0, overlap_seconds=1.0, voice=None, batch_size=4),
    ):
        (result,) = transcribe(path, model=model, config=config)
        assert result.text == text


def test_what_is_done_is_not_done_again(sung: Sung, address: Path, model: BLSTMCTC, tmp_path: Path) -> None:
    path, text, _ = sung("a.wav")
    out = tmp_path / "out"
    options: dict[str, Any] = {"model": address, "config": HEAR_ALL}
    (first,) = transcribe(path, out, **options)
    (again,) = transcribe(path, out, **options)
    assert (first.resumed, again.resumed) == (False, True)
    assert dataclasses.replace(again, resumed=False) == first
    for changed in (
        {"force": True},
        {"options": DecodingOptions(beam_size=2)},
        {"config": dataclasses.replace(HEAR_ALL, pause_seconds=0.3)},
        {"channel": 0},
        {"model": model},
    ):
        (result,) = transcribe(path, out, **{**options, **changed})
        assert not result.resumed, changed
        assert result.text == text
    transcribe(path, out, **options)
    (result,) = transcribe(path, out, **{**options, "config": dataclasses.replace(HEAR_ALL, batch_size=3)})
    assert result.resumed
    (out / "a" / "transcript.srt").unlink()
    (result,) = transcribe(path, out, **options)
    assert not result.resumed
    (out / "a" / "transcribe.json").write_text(
        (out / "a" / "transcribe.json").read_text().replace('"word":', '"wort":')
    )
    (result,) = transcribe(path, out, **options)
    assert (result.error, result.resumed) == (None, False)


def test_hard_inputs_give_a_line_each_and_stop_no_other(sung: Sung, address: Path, tmp_path: Path) -> None:
    good, text, _ = sung("good.wav")
    folder = good.parent
    soundfile.write(folder / "silence.wav", np.zeros(3 * RATE, np.float32), RATE)
    soundfile.write(folder / "five.wav", np.full(5, 0.1, np.float32), 48_000)
    moment = np.arange(4 * RATE) / RATE
    soundfile.write(folder / "music.wav", 0.3 * np.sin(2 * np.pi * 220 * moment), RATE)
    (folder / "empty.wav").write_bytes(b"")
    (folder / "text.wav").write_text("no sound")
    soundfile.write(folder / "nan.wav", np.full(RATE, np.nan, np.float32), RATE, subtype="FLOAT")
    names = ("silence", "five", "music", "empty", "text", "nan", "gone")
    paths = [folder / f"{name}.wav" for name in names]
    found = dict(zip(names, transcribe([*paths, good], tmp_path / "out", model=address), strict=False))
    for name, warning in (("silence", "silent"), ("five", "too short to hold speech"), ("music", "no speech")):
        result = found[name]
        assert (result.error, result.text, result.words) == (None, "", ())
        (line,) = result.warnings
        assert warning in line
        assert (tmp_path / "out" / name / "transcript.txt").read_text() == ""
        assert (tmp_path / "out" / name / "transcript.vtt").read_text() == "WEBVTT\n"
    for name in ("empty", "text", "nan", "gone"):
        line = found[name].error
        assert line is not None
        assert f"{name}.wav: " in line
        assert "\n" not in line
        assert set(found[name].to_dict()) == {"input", "error"}
        assert not (tmp_path / "out" / name).exists()
    (result,) = transcribe(good, model=address, config=HEAR_ALL)
    assert result.text == text


def test_models_that_are_none_are_told_before_any_work(sung: Sung, address: Path, tmp_path: Path) -> None:
    path, *_ = sung("a.wav")
    broken = tmp_path / "broken"
    torch.manual_seed(0)
    ConformerCTC.from_config(ConformerCTC.Tiny).save_pretrained(broken)
    config = json.loads((broken / "config.json").read_text())
    config["config"]["tokens"] = config["config"]["tokens"][:-3]
    (broken / "config.json").write_text(json.dumps(config))
    other = tmp_path / "lm"
    RNNLM.from_config(RNNLM.Tiny).save_pretrained(other)
    for options, line in (
        ({"model": tmp_path / "nowhere"}, "no such folder"),
        ({"model": "separation/bandsplit.mini"}, "is no recogniser"),
        ({"model": other}, "is no recogniser"),
        # A vocabulary that is not the weights'.
        ({"model": broken}, "shape"),
        ({"model": address, "language_model": tmp_path / "nowhere"}, "no such folder"),
        ({"model": address, "language_model": address}, "not a language model"),
        ({"model": address, "formats": ("doc",)}, "no format 'doc'; choose from txt, json, srt, vtt"),
        ({"model": address, "workers": 0}, "workers must be at least 1"),
        ({"model": trained_on_tones(), "workers": 2}, "need the address"),
    ):
        with pytest.raises(AuriscopeError, match=line) as raised:
            transcribe(path, tmp_path / "out", **options)  # type: ignore[arg-type]
        assert "\n" not in str(raised.value)
    # A language model of other tokens is found out where it is first asked.
    (result,) = transcribe(path, tmp_path / "out", model=address, language_model=other, config=HEAR_ALL)
    assert result.error is not None
    assert "tokens are not the recogniser's" in result.error


def test_a_malformed_arpa_file_is_told_in_a_line(sung: Sung, address: Path, tmp_path: Path) -> None:
    path, *_ = sung("a.wav")
    (tmp_path / "bad.arpa").write_text("\\data\\\nngram 1=many\n\n\\1-grams:\nno numbers here\n\\end\\\n")
    with pytest.raises(AuriscopeError, match=r"bad\.arpa") as raised:
        transcribe(path, model=address, language_model=tmp_path / "bad.arpa")
    assert "\n" not in str(raised.value)


def test_hotwords_and_several_hypotheses(sung: Sung, model: BLSTMCTC) -> None:
    path, text, _ = sung("a.wav", 2)
    options = DecodingOptions(num_best=3, token_min_log_prob=-30.0, beam_margin=40.0)
    (plain,) = transcribe(path, model=model, config=HEAR_ALL, options=options)
    assert plain.text == text
    (segment,) = plain.segments
    assert segment.alternatives[0].text == text
    scores = [each.score for each in segment.alternatives]
    assert len(scores) == 3
    assert scores == sorted(scores, reverse=True)
    other = "AA" if "AA" not in text else "BB"
    wished = dataclasses.replace(options, hotwords=(other,), hotword_weight=60.0)
    (hot,) = transcribe(path, model=model, config=HEAR_ALL, options=wished)
    assert other in hot.text.split()


def test_it_says_which_model_and_what_word_error_to_expect(sung: Sung, address: Path, model: BLSTMCTC) -> None:
    lines: list[str] = []
    transcribe(sung("a.wav")[0], model=address, config=HEAR_ALL, on_start=lines.append)
    (line,) = lines
    assert line.startswith(f"transcribing with {address}: its card says to expect a word error of 12 % (tones test)")
    assert line.endswith("--model hf://facebook/wav2vec2-base-960h")
    assert "\n" not in line
    assert expected_error("separation/bandsplit.mini") is None
    shipped = expected_error("recognition/conformer-ctc.digits")
    assert shipped is not None
    assert shipped.count("(digits test)") == shipped.count("(digits-unseen test)") == 1
    assert "valid" not in shipped
    unknown = Transcriber(TranscriberSettings(model=model)).introduction()
    assert "nothing is known of its word error" in unknown


def test_what_is_outside_of_spans_is_not_heard(sung: Sung, address: Path) -> None:
    path, text, starts = sung("a.wav", 10)
    transcriber = Transcriber(TranscriberSettings(model=address, config=HEAR_ALL))
    spans = [(starts[2] - 0.05, starts[6] - 0.05), (starts[9] - 0.05, starts[12] - 0.05)]
    found = transcriber.read(path, spans=spans)
    words = text.split()
    assert found.text.split() == words[2:6] + words[9:12]
    assert [word.start_seconds for word in found.words] == pytest.approx([*starts[2:6], *starts[9:12]], abs=0.08)


def test_everything_is_heard_where_that_is_asked(sung: Sung, address: Path) -> None:
    path, text, _ = sung("a.wav", 4)
    # To the detector, tones are no voice.
    detecting = Transcriber(TranscriberSettings(model=address))
    assert detecting.identity is not None
    hearing = detecting.hearing_everything()
    assert hearing.read(path).text == text
    assert detecting.read(path).text != text
    assert hearing.identity != detecting.identity
