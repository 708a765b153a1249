"""Saying texts, with a voice that spells: every letter is a tone, and some words can be made to fail."""

from __future__ import annotations

import io
import json
import re
import resource
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
import torch
from typer.testing import CliRunner

import auriscope
from auriscope.cli import app
from auriscope.errors import AuriscopeError
from auriscope.pretrained.card import ModelCard
from auriscope.signal.files import probe, read, write
from auriscope.signal.vocoding import MelConfig
from auriscope.speaker.xvector import XVector, XVectorConfig
from auriscope.synthesis.griffinlim import GriffinLim, GriffinLimConfig
from auriscope.synthesis.speaking import SpeakConfig, alphabet, speak
from auriscope.synthesis.watermark import THRESHOLD
from auriscope.text.spoken import spoken
from auriscope.verbs.defaults import default_synthesizer, default_vocoder
from auriscope.verbs.say import SYNTHETIC_SOURCE, find_mark, say
from auriscope.verbs.sayer import Sayer, SayerSettings, voice_of
from auriscope.verbs.voice import VoiceReader

from .speller import FRAMES_PER_LETTER, MEL, VOCODER, Speller, SpellerConfig, tone


@pytest.fixture
def speller() -> Speller:
    return Speller(SpellerConfig())


@pytest.fixture
def embedder() -> XVector:
    torch.manual_seed(0)
    return XVector(XVectorConfig(**XVector.Tiny)).eval()


@pytest.fixture
def call() -> Callable[..., Any]:
    return lambda *arguments, **options: CliRunner().invoke(app, [str(each) for each in arguments], **options)


# Sentences to speech.


def test_sentences_are_spoken_one_after_the_other(speller: Speller) -> None:
    assert alphabet(speller) == frozenset("abcdefghijklmnopqrstuvwxyz' ,.;:?!-")
    said = list(speak(["one two.", "three"], speller, VOCODER))
    assert [each.text for each in said] == ["one two.", "three"]
    for each in said:
        # The letters and the end of the text.
        frames = FRAMES_PER_LETTER * (len(each.text) + 1)
        assert (each.ok, each.stopped, each.repeated, each.skipped, each.num_tries) == (True, True, 0, 0, 1)
        assert each.attention.shape == (frames, len(each.text) + 1)
        assert each.waveform.shape == (frames * MEL.hop_length,)
        assert 0 < np.abs(each.waveform).max() <= 0.991


def test_batches_say_the_same(speller: Speller) -> None:
    texts = ["a much longer sentence", "short", "and another one"]
    alone = list(speak(texts, speller, VOCODER))
    for one, other in zip(alone, speak(texts, speller, VOCODER, config=SpeakConfig(batch_size=2)), strict=True):
        np.testing.assert_allclose(one.waveform, other.waveform, atol=1e-5)
        assert torch.equal(one.attention, other.attention)


def test_what_failed_is_said_again_and_the_seed_decides(speller: Speller) -> None:
    texts = [f"a very quick fox {letter}" for letter in "abcdefgh"]
    first = list(speak(texts, speller, VOCODER, config=SpeakConfig(max_tries=30)))
    assert all(each.ok for each in first)
    assert max(each.num_tries for each in first) > 1
    again = list(speak(texts, speller, VOCODER, config=SpeakConfig(max_tries=30)))
    assert [each.num_tries for each in again] == [each.num_tries for each in first]
    other = list(speak(texts, speller, VOCODER, config=SpeakConfig(max_tries=30, seed=1)))
    assert [each.num_tries for each in other] != [each.num_tries for each in first]


def test_failed_speech_is_refused(speller: Speller) -> None:
    always = Speller(SpellerConfig(stumbling=1.0))
    spoken_so_far = speak(["all is well", "extraquick", "not reached"], always, VOCODER)
    assert next(spoken_so_far).ok
    with pytest.raises(
        AuriscopeError, match=r"failed at 'extraquick' \(5 letters gone back, in 4 tries\); try"
    ) as caught:
        next(spoken_so_far)
    assert "\n" not in str(caught.value)
    (kept,) = speak(["extraquick"], always, VOCODER, config=SpeakConfig(keep_failed=True))
    assert (kept.ok, kept.repeated, kept.num_tries) == (False, 5, 4)


def test_a_sentence_that_fails_as_a_whole_is_said_in_parts() -> None:
    # Where the part begins with the q, it cannot go back by more than the check allows.
    always = Speller(SpellerConfig(stumbling=1.0))
    said = list(speak(["a brown fox, quickly"], always, VOCODER))
    assert [each.text for each in said] == ["a brown fox,", "quickly"]
    assert all(each.ok for each in said)
    assert [each.num_tries for each in said] == [5, 5]


def test_a_voice_is_checked(speller: Speller) -> None:
    voices = Speller(SpellerConfig(voice_dim=12))
    with pytest.raises(AuriscopeError, match="speaks in the voice of a clip; give one"):
        next(speak(["a"], voices, VOCODER))
    with pytest.raises(AuriscopeError, match="one voice of its own"):
        next(speak(["a"], speller, VOCODER, voice=torch.zeros(12)))
    with pytest.raises(AuriscopeError, match="has 5 numbers and the model reads 12"):
        next(speak(["a"], voices, VOCODER, voice=torch.zeros(5)))
    loud = next(speak(["a"], voices, VOCODER, voice=torch.full((12,), -3.0)))
    quiet = next(speak(["a"], voices, VOCODER, voice=torch.full((12,), -5.0)))
    assert np.abs(loud.waveform).max() > 2 * np.abs(quiet.waveform).max() > 0


# Texts to files.


@pytest.mark.parametrize("suffix", [".wav", ".flac", ".ogg"])
def test_a_text_becomes_a_file_that_says_it_is_synthetic(tmp_path: Path, speller: Speller, suffix: str) -> None:
    out = tmp_path / f"a{suffix}"
    told: list[float] = []
    result = say(
        "Dr. Smith paid $3.50. Did he? 🙂",
        out,
        model=speller,
        vocoder=VOCODER,
        on_sentence=lambda _, fraction: told.append(fraction),
    )
    assert [each.text for each in result.sentences] == [
        "doctor smith paid three dollars fifty cents.", "did he?",
    ]  # fmt: skip
    assert result.attention_ok
    assert result.warnings == ("left out what this voice cannot speak: 🙂",)
    assert told[-1] == 1.0
    assert (result.sample_rate, result.model, result.vocoder) == (16_000, "synthesis/speller", "synthesis/griffin-lim")
    waveform, rate = read(out)
    assert len(waveform) / rate == pytest.approx(result.duration_seconds, abs=0.01)
    assert result.sentences[1].start_seconds == pytest.approx(result.sentences[0].end_seconds + 0.2, abs=0.001)
    facts = json.loads(probe(out).comment)
    assert facts["synthetic"] is True
    assert facts["digital_source_type"] == SYNTHETIC_SOURCE
    found = find_mark(out)
    assert found.synthetic
    assert found.metadata == facts
    assert found.watermark
    # Without its metadata the sound still tells.
    write(tmp_path / "bare.wav", waveform * np.float32(0.5), rate)
    bare = find_mark(tmp_path / "bare.wav")
    assert (bare.synthetic, bare.watermark, bare.metadata) == (True, True, None)
    assert bare.watermark_score >= THRESHOLD
    write(tmp_path / "real.wav", tone(5.0), 16_000)
    assert not find_mark(tmp_path / "real.wav").synthetic


def test_the_same_seed_gives_the_same_file(tmp_path: Path, speller: Speller) -> None:
    for name in ("a", "b"):
        auriscope.say("a very quick one.", tmp_path / f"{name}.wav", model=speller, vocoder=VOCODER)
    assert (tmp_path / "a.wav").read_bytes() == (tmp_path / "b.wav").read_bytes()


def test_the_vocoder_is_one_of_the_same_mels(tmp_path: Path, speller: Speller) -> None:
    assert Sayer(SayerSettings(speller)).vocoder.config.mel == MEL
    assert Sayer(SayerSettings(speller, "griffin-lim")).vocoder.config.mel == MEL
    other = GriffinLim(GriffinLimConfig())
    with pytest.raises(AuriscopeError, match="are no pair, as their mels differ"):
        say("a", tmp_path / "a.wav", model=speller, vocoder=other)
    speller.save_pretrained(tmp_path / "speller")
    with pytest.raises(AuriscopeError, match="speller is no vocoder"):
        say("a", tmp_path / "a.wav", model=speller, vocoder=tmp_path / "speller")
    assert not (tmp_path / "a.wav").exists()


CARD = ModelCard("Spells", "Sings a tone for each letter.", "Apache-2.0")


def test_what_ships_goes_together(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("auriscope.pretrained.addresses.WEIGHTS", tmp_path)
    with pytest.raises(AuriscopeError, match="no model that speaks is installed; train one"):
        default_synthesizer(voices=False)
    room = tmp_path / "synthesis"
    Speller(SpellerConfig(voice_dim=12)).save_pretrained(room / "speller.any", card=CARD)
    # All that there is asks for a clip.
    assert default_synthesizer(voices=False) == default_synthesizer(voices=True) == "synthesis/speller.any"
    with pytest.raises(AuriscopeError, match="give one"):
        say("a", tmp_path / "a.wav")
    Speller(SpellerConfig()).save_pretrained(room / "speller.one", card=CARD)
    assert default_synthesizer(voices=False) == "synthesis/speller.one"
    assert default_synthesizer(voices=True) == "synthesis/speller.any"
    assert default_vocoder("synthesis/speller.one", MEL) is None
    for name, mel in (("all", MEL), ("one", MEL), ("other", MelConfig())):
        GriffinLim(GriffinLimConfig(mel=mel)).save_pretrained(room / f"griffin-lim.{name}", card=CARD)
    assert default_vocoder("synthesis/speller.one", MEL) == "synthesis/griffin-lim.one"
    assert default_vocoder("synthesis/speller.any", MEL) == "synthesis/griffin-lim.all"
    sayer = Sayer(SayerSettings())
    assert (sayer.address, sayer.vocoder_address) == ("synthesis/speller.one", "synthesis/griffin-lim.one")


def test_the_voice_of_a_clip(tmp_path: Path, embedder: XVector) -> None:
    voices = Speller(SpellerConfig(voice_dim=12))
    write(tmp_path / "clip.wav", tone(3.0), 16_000)
    write(tmp_path / "other.flac", tone(2.0, 150.0), 16_000)
    clips = [tmp_path / "clip.wav", tmp_path / "other.flac"]
    result = say("hello", tmp_path / "a.wav", voice=clips, model=voices, vocoder=VOCODER, embedder=embedder)
    assert result.voice == tuple(map(str, clips))
    assert result.warnings == ()
    reader = VoiceReader(embedder)
    voice, warnings = voice_of(clips, reader)
    assert warnings == ()
    assert voice.shape == (12,)
    assert float(voice.norm()) == pytest.approx(1.0)
    each = torch.stack([voice_of([clip], reader)[0] for clip in clips])
    torch.testing.assert_close(voice, torch.nn.functional.normalize(each.mean(0), dim=0))


@pytest.mark.parametrize(
    ("sound", "line"),
    [
        (np.zeros(16_000, dtype=np.float32), "clip.wav: is silent; give a clip in which one person speaks"),
        (tone(0.1), "clip.wav: 0.10 s of sound are too short to tell a voice"),
        (None, "clip.wav: no such file"),
    ],
)
def test_clips_without_a_voice_are_one_line(tmp_path: Path, embedder: XVector, sound: Any, line: str) -> None:
    if sound is not None:
        write(tmp_path / "clip.wav", sound, 16_000)
    voices = Speller(SpellerConfig(voice_dim=12))
    with pytest.raises(AuriscopeError, match=re.escape(line)) as caught:
        say("a", tmp_path / "a.wav", voice=tmp_path / "clip.wav", model=voices, vocoder=VOCODER, embedder=embedder)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "a.wav").exists()


def test_a_voice_that_is_missing_or_not_wanted_is_one_line(tmp_path: Path, speller: Speller) -> None:
    write(tmp_path / "clip.wav", tone(3.0), 16_000)
    voices = Speller(SpellerConfig(voice_dim=12))
    with pytest.raises(AuriscopeError, match="one voice of its own; leave out --voice"):
        say("a", tmp_path / "a.wav", voice=tmp_path / "clip.wav", model=speller)
    with pytest.raises(AuriscopeError, match="give one"):
        say("a", tmp_path / "a.wav", model=voices)
    with pytest.raises(AuriscopeError, match="does not say which speaker model"):
        say("a", tmp_path / "a.wav", voice=tmp_path / "clip.wav", model=voices)


def test_failed_speech_leaves_no_file(tmp_path: Path) -> None:
    always = Speller(SpellerConfig(stumbling=1.0))
    with pytest.raises(AuriscopeError, match="the speech failed at"):
        say("Well. Extraquick.", tmp_path / "a.wav", model=always, vocoder=VOCODER)
    assert list(tmp_path.iterdir()) == []
    kept = say(
        "Well. Extraquick.",
        tmp_path / "a.wav",
        model=always,
        vocoder=VOCODER,
        config=SpeakConfig(keep_failed=True),
    )
    assert not kept.attention_ok
    assert [each.attention_ok for each in kept.sentences] == [True, False]
    assert "the speech failed at 'extraquick.': 5 letters gone back" in kept.warnings[0]


def test_a_long_text_is_spoken_in_bounded_memory(tmp_path: Path, speller: Speller) -> None:
    vocoder = GriffinLim(GriffinLimConfig(mel=MEL, num_iterations=0, num_inversion_steps=0))
    sayer = Sayer(SayerSettings(speller, vocoder))
    say("It goes on and on. " * 10, tmp_path / "short.wav", sayer=sayer)
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = say("It goes on and on. " * 200, tmp_path / "long.wav", sayer=sayer)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert len(result.sentences) == 200
    assert result.duration_seconds > 300
    # The speech itself takes 19 MiB as float32.
    assert grown < 12 * 1024


# The command.


def test_the_command(tmp_path: Path, speller: Speller, call: Callable[..., Any]) -> None:
    speller.save_pretrained(tmp_path / "model")
    model = ("--model", tmp_path / "model", "--vocoder", "griffin-lim")
    done = call("say", "Hello.", "--out", tmp_path / "a.flac", "--seed", 3, *model)
    assert done.exit_code == 0, done.output
    assert f"{tmp_path}/a.flac (" in done.stdout
    (tmp_path / "text.txt").write_text("Hello 🙂.")
    done = call("say", "--file", tmp_path / "text.txt", "--out", tmp_path / "b.wav", "--json", *model)
    found = json.loads(done.stdout)
    assert {"text", "output", "sample_rate", "attention_ok"} <= set(found)
    assert (found["text"], found["output"], found["attention_ok"]) == ("Hello 🙂.", f"{tmp_path}/b.wav", True)
    assert "left out what this voice cannot speak: 🙂" in done.stderr
    done = call("say", "-", "--out", "-", *model, input="From a pipe. And so on.")
    sound, rate = soundfile.read(io.BytesIO(done.stdout_bytes))
    assert rate == 16_000
    assert len(sound) > 16_000
    done = call("say", "--detect", tmp_path / "a.flac", "--detect", tmp_path / "none.wav")
    assert done.exit_code == 1
    assert "a.flac: synthetic: its metadata name" in done.stdout
    assert "none.wav: no such file" in done.stderr
    done = call("say", "--detect", tmp_path / "a.flac", "--json")
    assert json.loads(done.stdout)["synthetic"] is True


@pytest.mark.parametrize(
    ("arguments", "line", "code"),
    [
        (["", "--out", "a.wav"], "there is no text to speak", 1),
        (["🙂", "--out", "a.wav"], "can speak nothing of the text (🙂)", 1),
        (["Привет", "--out", "a.wav"], "can speak nothing of the text", 1),
        (["--file", "none.txt"], "there is no such text", 1),
        (["a", "--out", "a.xyz"], "cannot write .xyz", 1),
        (["a", "--out", "no/where/a.wav"], "make its folder first", 1),
        (["a", "--voice", "clip.wav"], "one voice of its own", 1),
        ([], "give a TEXT", 2),
        (["a", "--file", "b"], "give a TEXT", 2),
        (["a", "--detect", "b"], "--detect says nothing", 2),
    ],
)
def test_what_is_wrong_is_one_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, speller: Speller, call: Any, arguments: Any, line: str, code: int
) -> None:
    monkeypatch.chdir(tmp_path)
    speller.save_pretrained("model")
    done = call("say", *arguments, "--model", "model")
    assert done.exit_code == code, done.output
    assert line in done.stderr
    assert len(done.stderr.strip().splitlines()) == 1
    assert done.stdout == ""
    if code == 1:
        done = call("say", *arguments, "--model", "model", "--json")
        assert line in json.loads(done.stdout)["error"]
    assert [path.name for path in tmp_path.iterdir()] == ["model"]


def test_the_letters_of_a_voice_of_phonemes_are_any(speller: Speller) -> None:
    pytest.importorskip("phonemizer")
    signs = tuple("həlˈoʊwɜːd, .")
    model = Speller(SpellerConfig(tokens=("<blank>", "<eos>", "q", *signs), spelling="phonemes"))
    assert alphabet(model) is None
    (said,) = speak(spoken("Hello, world.", alphabet(model)).sentences, model, VOCODER)
    # "həlˈoʊ, wˈɜːld." and the end.
    assert said.attention.shape[1] == len("həlˈoʊ, wˈɜːld.") + 1
    assert said.text == "Hello, world."
