"""PESQ and STOI, batched, against the libraries that compute them and against facts that need none."""

from __future__ import annotations

import sys

import numpy as np
import pesq as pesq_library
import pystoi
import pytest
import torch
from torch import Tensor

from auriscope.data.synthetic import voice
from auriscope.errors import AuriscopeError
from auriscope.metrics import pesq, stoi

RATE = 16_000


@pytest.fixture(scope="module")
def speech() -> Tensor:
    return torch.from_numpy(np.stack([voice(person, 1, seconds=2.0, sample_rate=RATE) for person in (3, 4)]))


@pytest.fixture(scope="module")
def noise() -> Tensor:
    return torch.randn(2, 2 * RATE, generator=torch.Generator().manual_seed(0))


def test_what_is_identical_has_the_highest_score(speech: Tensor) -> None:
    """MOS-LQO of a raw score of 4.5: 4.549 by P.862.1, equation 1, and 4.644 by P.862.2, equation 2."""
    narrow = 0.999 + 4.0 / (1 + np.exp(-1.4945 * 4.5 + 4.6607))
    wide = 0.999 + 4.0 / (1 + np.exp(-1.3669 * 4.5 + 3.8224))
    assert pesq(speech, speech, sample_rate=RATE, band="narrow").values.tolist() == pytest.approx(
        [narrow] * 2, abs=1e-3
    )
    assert pesq(speech, speech, sample_rate=RATE).values.tolist() == pytest.approx([wide] * 2, abs=1e-3)
    for extended in (False, True):
        same = stoi(speech, speech, sample_rate=RATE, extended=extended)
        assert same.values.tolist() == pytest.approx([1.0, 1.0], abs=1e-6)
        assert same.reasons == (None, None)


def test_values_are_the_libraries(speech: Tensor, noise: Tensor) -> None:
    noisy = speech + 0.02 * noise
    pairs = list(zip(speech.double().numpy(), noisy.double().numpy(), strict=True))
    for band, mode in (("narrow", "nb"), ("wide", "wb")):
        expected = [pesq_library.pesq(RATE, clean, bad, mode) for clean, bad in pairs]
        assert pesq(noisy, speech, sample_rate=RATE, band=band).values.tolist() == pytest.approx(expected, abs=1e-6)
    for extended in (False, True):
        expected = [pystoi.stoi(clean, bad, RATE, extended=extended) for clean, bad in pairs]
        assert stoi(noisy, speech, sample_rate=RATE, extended=extended).values.tolist() == pytest.approx(expected)


def test_more_noise_is_worse_and_a_gain_is_nothing(speech: Tensor, noise: Tensor) -> None:
    levels = torch.stack([speech + level * noise for level in (0.001, 0.01, 0.1)])
    clean = speech.expand_as(levels)
    for scores in (pesq(levels, clean, sample_rate=RATE), stoi(levels, clean, sample_rate=RATE)):
        assert scores.values.shape == (3, 2)
        assert (scores.values.diff(dim=0) < 0).all()
    quiet = pesq(0.3 * levels[1], speech, sample_rate=RATE).values
    assert quiet.tolist() == pytest.approx(pesq(levels[1], speech, sample_rate=RATE).values.tolist(), abs=0.02)


def test_padding_changes_nothing(speech: Tensor, noise: Tensor) -> None:
    noisy = speech + 0.02 * noise
    lengths = torch.tensor([2 * RATE, RATE])
    for metric in (pesq, stoi):
        batched = metric(noisy[:, None], speech[:, None], lengths, sample_rate=RATE).values
        assert batched.shape == (2, 1)
        assert float(batched[1, 0]) == pytest.approx(
            float(metric(noisy[1, :RATE], speech[1, :RATE], sample_rate=RATE).values)
        )


def test_what_has_no_score_is_nan_with_a_reason(speech: Tensor) -> None:
    silent = torch.zeros_like(speech)
    broken = speech.clone()
    broken[0, 5] = float("nan")
    for metric in (pesq, stoi):
        assert metric(speech, silent, sample_rate=RATE).reasons == ("the reference is silent",) * 2
        assert metric(silent, speech, sample_rate=RATE).reasons == ("the estimate is silent",) * 2
        scores = metric(broken, speech, sample_rate=RATE)
        assert scores.reasons == ("the estimate holds NaN or infinity", None)
        assert scores.values.isnan().tolist() == [True, False]
    burst = torch.zeros(2 * RATE)
    burst[10_000:10_400] = torch.randn(400, generator=torch.Generator().manual_seed(0))
    assert pesq(burst, burst, sample_rate=RATE).reasons == ("PESQ found no utterance in the reference",)
    assert stoi(burst, burst, sample_rate=RATE).reasons == ("STOI needs 0.4 s of speech",)
    for size in (100, 2000):
        short = speech[:, 8000 : 8000 + size]
        assert pesq(short, short, sample_rate=RATE).reasons[0] == "PESQ needs 0.25 s of signal"
        assert stoi(short, short, sample_rate=RATE).reasons[0] == "STOI needs 0.4 s of speech"
    empty = torch.zeros(1, 0)
    assert pesq(empty, empty, sample_rate=RATE).reasons == ("the reference is silent",)


def test_wrong_use_is_one_line(speech: Tensor, monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(ValueError, match="wide band is defined at 16000 Hz, not at 8000 Hz"):
        pesq(speech, speech, sample_rate=8000)
    with pytest.raises(ValueError, match="narrow band is defined at 8000 or 16000 Hz, not at 44100 Hz"):
        pesq(speech, speech, sample_rate=44_100, band="narrow")
    with pytest.raises(ValueError, match="differ in shape"):
        stoi(speech[:, :-1], speech, sample_rate=RATE)
    with pytest.raises(ValueError, match="not one for each item"):
        stoi(speech, speech, torch.tensor([5]), sample_rate=RATE)
    for name in ("pesq", "pystoi"):
        monkeypatch.setitem(sys.modules, name, None)
    for metric in (pesq, stoi):
        with pytest.raises(AuriscopeError, match=r"install auriscope\[perceptual\]"):
            metric(speech, speech, sample_rate=RATE)
