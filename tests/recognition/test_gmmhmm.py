"""The recogniser of isolated words, on words made of tones, and on spoken digits where there are any."""

from __future__ import annotations

import dataclasses
import json
import os

import pytest
import torch
from torch import Tensor

from auriscope.errors import AuriscopeError, CheckpointError
from auriscope.pretrained import load_pretrained
from auriscope.pretrained.model import config_from_values
from auriscope.recognition import GMMHMM, GMMHMMConfig
from auriscope.recognition.decoding import decode
from auriscope.recognition.gmmhmm import DIGITS
from auriscope.recognition.long import LongConfig, transcribe_waveform
from auriscope.recognition.ngram import WordNGram

RATE = 16_000
WORDS = ("UP", "DOWN", "FLAT")
TURNS = {"UP": (500.0, 1500.0), "DOWN": (1500.0, 500.0), "FLAT": (900.0, 900.0)}


def config(**changes: object) -> GMMHMMConfig:
    values = {"words": WORDS, "num_states": 4, "num_mixtures": 3, "max_hz": 4000.0, "fit_warps": (0.95, 1.0)}
    return dataclasses.replace(GMMHMMConfig(**values), **changes)


def spoken(labels: list[int], seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Two tones a word, at a pitch, a pace and a level of their own, in noise: (batch, time), (batch,), (batch,)."""
    generator = torch.Generator().manual_seed(seed)
    waves = []
    for label in labels:
        pitch, pace, level = 0.9 + 0.2 * torch.rand(3, generator=generator)
        time = int(RATE * 0.3 * pace)
        hertz = torch.tensor(TURNS[WORDS[label]]).repeat_interleave(torch.tensor([time // 2, time - time // 2])) * pitch
        tone = torch.sin(2 * torch.pi * (hertz / RATE).cumsum(0)) * level * 0.2
        waves.append(tone + 0.005 * torch.randn(time, generator=generator))
    lengths = torch.tensor([len(wave) for wave in waves])
    return torch.nn.utils.rnn.pad_sequence(waves, batch_first=True), lengths, torch.tensor(labels)


@pytest.fixture(scope="module")
def model() -> GMMHMM:
    return GMMHMM(config()).fit(*spoken([0, 1, 2] * 8, seed=0))


def test_words_are_told_apart(model):
    waveform, lengths, labels = spoken([2, 1, 0] * 10, seed=1)
    found, sure = model.classify(waveform, lengths)
    assert found.tolist() == labels.tolist()
    torch.testing.assert_close(sure.sum(1), torch.ones(30))
    assert torch.equal(sure.argmax(1), labels)
    scores = model(waveform, lengths)
    assert scores.shape == (30, 3)
    assert torch.equal(scores.argmax(1), labels)


def test_the_states_of_a_word_are_gone_through_in_order(model):
    waveform, lengths, labels = spoken([0, 1, 1], seed=2)
    states, frame_lengths = model.align(waveform, lengths, labels)
    assert frame_lengths.tolist() == (1 + lengths // 160).tolist()
    for row, length in zip(states, frame_lengths.tolist(), strict=True):
        assert row[0] == 0
        assert row[length - 1 :].unique().tolist() == [3]
        assert set(row.diff().tolist()) == {0, 1}
    # The tone turns in the middle, and so do the states.
    middle = (states[0] < 2).sum() / frame_lengths[0]
    assert 0.3 < middle < 0.7


@pytest.mark.parametrize("filling", [0.0, float("nan")])
def test_a_padded_batch_equals_each_word_alone(model, filling):
    waveform, lengths, _ = spoken([0, 1, 2, 1], seed=3)
    beyond = torch.arange(waveform.shape[1]) >= lengths[:, None]
    padded = torch.where(beyond, filling, waveform)
    together = model(padded, lengths)
    for row, length in enumerate(lengths.tolist()):
        torch.testing.assert_close(
            together[row : row + 1], model(waveform[row : row + 1, :length]), rtol=1e-4, atol=1e-2
        )


def test_padding_does_not_change_the_fit():
    waveform, lengths, labels = spoken([0, 1, 2, 0, 1, 2], seed=4)
    beyond = torch.arange(waveform.shape[1]) >= lengths[:, None]
    plain = GMMHMM(config()).fit(waveform, lengths, labels).state_dict()
    padded = torch.nn.functional.pad(torch.where(beyond, 7.0, waveform), (0, 5000), value=-3.0)
    again = GMMHMM(config()).fit(padded, lengths, labels).state_dict()
    for name, tensor in plain.items():
        torch.testing.assert_close(again[name], tensor, rtol=1e-3, atol=1e-3)


def test_fitting_depends_on_no_random_number():
    utterances = spoken([0, 1, 2] * 3, seed=5)
    torch.manual_seed(1)
    first = GMMHMM(config()).fit(*utterances).state_dict()
    torch.manual_seed(2)
    second = GMMHMM(config()).fit(*utterances).state_dict()
    assert all(torch.equal(second[name], tensor) for name, tensor in first.items())


def test_save_and_load_are_exact(model, tmp_path):
    model.save_pretrained(tmp_path / "model")
    loaded = load_pretrained(tmp_path / "model")
    assert isinstance(loaded, GMMHMM)
    assert loaded.config == model.config
    waveform, lengths, _ = spoken([0, 1, 2], seed=6)
    assert torch.equal(loaded(waveform, lengths), model(waveform, lengths))


def test_the_configuration_is_plain_and_nothing_is_trainable():
    blank = GMMHMM.from_config(GMMHMM.Tiny)
    values = json.loads(json.dumps(dataclasses.asdict(blank.config), allow_nan=False))
    assert config_from_values(GMMHMMConfig, values, GMMHMM.name) == blank.config
    assert list(blank.parameters()) == []
    assert 0 < blank.num_parameters < 5000
    assert blank.device == torch.device("cpu")
    with pytest.raises(AuriscopeError, match="has not been fitted"):
        blank(torch.zeros(1, 4000))
    for wrong in ({"words": ()}, {"words": ("A", "A")}, {"num_states": 0}, {"warps": (0.0,)}, {"fit_warps": ()}):
        with pytest.raises(CheckpointError, match="configuration is not valid"):
            GMMHMM.from_config(wrong)


def test_likeliest_warp_counts(model):
    """A voice with all frequencies a fifth higher is heard as if they were not."""
    waveform, lengths, _ = spoken([0, 1, 2], seed=7)
    warped = GMMHMM(config(warps=(0.9, 1.0, 1.1)))
    warped.load_state_dict(model.state_dict())
    each = []
    for warp in (0.9, 1.0, 1.1):
        single = GMMHMM(config(warps=(warp,)))
        single.load_state_dict(model.state_dict())
        each.append(single(waveform, lengths))
    torch.testing.assert_close(warped(waveform, lengths), torch.stack(each).amax(0))
    assert not torch.equal(each[0], each[2])


@pytest.mark.parametrize("time", [0, 1, 5, 300])
def test_the_shortest_and_silent_recordings_have_finite_scores(model, time):
    for waveform in (torch.zeros(2, time), 0.1 * torch.ones(2, time)):
        scores = model(waveform)
        assert scores.shape == (2, 3)
        assert scores.isfinite().all()
    assert model(torch.zeros(0, 4000)).shape == (0, 3)


def test_what_cannot_be_fitted_says_why():
    waveform, lengths, labels = spoken([0, 1, 2], seed=8)
    with pytest.raises(
        AuriscopeError, match="nothing to fit 'FLAT' to: each word needs an utterance of at least 4 frames"
    ):
        GMMHMM(config()).fit(waveform[:2], lengths[:2], labels[:2])
    with pytest.raises(AuriscopeError, match="nothing to fit 'FLAT' to"):
        GMMHMM(config()).fit(waveform, torch.tensor([4000, 4000, 300]), labels)
    with pytest.raises(AuriscopeError, match="from 0 to 2"):
        GMMHMM(config()).fit(waveform, lengths, labels + 1)
    waveform[1, 7] = torch.nan
    with pytest.raises(AuriscopeError, match="NaN"):
        GMMHMM(config()).fit(waveform, lengths, labels)


def test_words_between_pauses_are_transcribed_with_their_times(model):
    labels = [1, 0, 2]
    waveform, lengths, _ = spoken(labels, seed=9)
    generator = torch.Generator().manual_seed(10)
    parts, starts, now = [], [], 0
    for wave, length in zip(waveform, lengths.tolist(), strict=True):
        starts.append((now + 8000) / RATE)
        parts += [torch.zeros(8000), wave[:length]]
        now += 8000 + length
    recording = torch.cat([*parts, torch.zeros(6000)])
    recording = recording + 0.0005 * torch.randn(len(recording), generator=generator)
    batch = torch.zeros(3, len(recording))
    batch[0], batch[2, : int(lengths[0])] = recording, waveform[0, : int(lengths[0])]
    several, silent, single = model.transcribe(batch, torch.tensor([len(recording), 9000, int(lengths[0])]))
    assert several.text == "DOWN UP FLAT"
    assert several.tokens == (1, 0, 2)
    assert [word.word for word in several.words] == several.text.split()
    for word, start, length in zip(several.words, starts, lengths.tolist(), strict=True):
        assert word.start_seconds == pytest.approx(start, abs=0.08)
        assert word.end_seconds == pytest.approx(start + length / RATE, abs=0.08)
        assert 0.5 < word.confidence <= 1.0
    assert (silent.text, silent.words) == ("", ())
    assert single.text == "DOWN"
    assert single.words[0].start_seconds == 0.0
    assert single.words[0].end_seconds == pytest.approx(int(lengths[0]) / RATE)
    assert model.transcribe(torch.zeros(1, 0))[0].text == ""
    # So it is where every other recogniser is decoded, and over recordings of any length.
    decoded = decode(model, batch, torch.tensor([len(recording), 9000, 0]))
    assert [found[0].text for found in decoded] == [several.text, "", ""]
    blocks = [block.numpy() for block in recording.split(1000)]
    transcript = transcribe_waveform(blocks, model, config=LongConfig(voice=None))  # tones are no voices
    assert transcript.text == several.text
    assert transcript.words[2].start_seconds == pytest.approx(starts[2], abs=0.08)


def test_it_takes_no_language_model_and_has_no_tokens(model):
    with pytest.raises(AuriscopeError, match="takes no language model"):
        decode(model, torch.zeros(1, 8000), language_model=WordNGram.from_config(WordNGram.Tiny))
    with pytest.raises(AuriscopeError, match="has no tokens"):
        _ = model.tokenizer


@pytest.mark.corpora
def test_digits_of_known_speakers() -> None:
    """A part of the corpus' own split: benchmarks/digits_gmmhmm.py has all of it, and the speakers left out."""
    if not os.environ.get("AURISCOPE_CORPORA"):
        pytest.skip("AURISCOPE_CORPORA is not set")
    from auriscope.data.cache import open_clips
    from auriscope.data.corpora import utterances
    from auriscope.data.transcribed import letters, padded

    entries = [entry for entry in utterances("fsdd_digits", "train") if int(entry.take or 0) < 10]
    store = open_clips(entries, sample_rate=RATE, name="fsdd-digits-10-takes")
    batch = padded([store.read(clip) for clip in range(len(entries))])
    labels = torch.tensor([DIGITS.index(letters(entry.text or "")) for entry in entries])
    held_out = torch.tensor([entry.held_out for entry in entries])
    small = GMMHMM(GMMHMMConfig(fit_warps=(1.0,), num_mixtures=2))
    small.fit(batch["waveform"][~held_out], batch["lengths"][~held_out], labels[~held_out])
    found, _ = small.classify(batch["waveform"][held_out], batch["lengths"][held_out])
    assert (found == labels[held_out]).double().mean() > 0.95
