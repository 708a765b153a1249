from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt
import pytest
import soundfile
import soxr

from auriscope.synthesis.watermark import PATTERN, THRESHOLD, Marker, detect, mark

RATE = 16_000


def speech_like(seconds: float = 6.0, rate: int = RATE, seed: int = 1) -> npt.NDArray[np.float32]:
    """Harmonics of a wandering pitch whose loudness goes up and down as syllables do, over a little breath."""
    rng = np.random.default_rng(seed)
    time = np.arange(round(seconds * rate)) / rate
    pitch = 120 + 30 * np.sin(2 * np.pi * 0.7 * time) + 10 * np.sin(2 * np.pi * 2.3 * time)
    phase = 2 * np.pi * np.cumsum(pitch) / rate
    voiced = sum(np.sin(number * phase) / number for number in range(1, 40))
    loudness = 0.02 + np.square(np.sin(2 * np.pi * 2.0 * time))
    waveform = 0.1 * loudness * (voiced + 0.3 * rng.standard_normal(len(time)))
    return waveform.astype(np.float32)


def coded(waveform: npt.NDArray[np.float32], container: str, subtype: str) -> tuple[npt.NDArray[np.float32], int]:
    file = io.BytesIO()
    soundfile.write(file, waveform, RATE, format=container, subtype=subtype)
    file.seek(0)
    sound, rate = soundfile.read(file, dtype="float32")
    return sound, rate


def test_what_is_marked_is_found_and_nothing_else_is() -> None:
    for seed in range(3):
        plain = speech_like(seed=seed)
        assert detect(plain, RATE).score < THRESHOLD
        found = detect(mark(plain, RATE), RATE)
        assert found.marked
        assert found.score > detect(plain, RATE).score + 4
    rng = np.random.default_rng(0)
    assert not detect(rng.standard_normal(10 * RATE).astype(np.float32), RATE).marked


def test_the_mark_outlives_coders_rates_cuts_and_a_change_of_level() -> None:
    marked = mark(speech_like(), RATE)
    assert detect(*coded(marked, "OGG", "OPUS")).marked
    assert detect(*coded(marked, "MP3", "MPEG_LAYER_III")).marked
    assert detect(soxr.resample(marked, RATE, 22_050), 22_050).marked
    assert detect(marked[12_345 : 12_345 + 3 * RATE] * 0.1, RATE).marked


@pytest.mark.parametrize("rate", [8_000, 16_000, 22_050, 24_000, 48_000])
def test_every_rate_carries_it(rate: int) -> None:
    assert detect(mark(speech_like(rate=rate), rate), rate).marked


def test_the_sound_stays_in_its_place_and_changes_by_little() -> None:
    plain = speech_like()
    marked = mark(plain, RATE)
    assert marked.shape == plain.shape
    error_db = 10 * np.log10(np.square(marked - plain).sum() / np.square(plain).sum())
    assert -25 < error_db < -12
    # With no strength the frames add up to what went in.
    np.testing.assert_allclose(mark(plain, RATE, strength_db=0.0), plain, atol=1e-6)
    assert len(mark(np.zeros(0, dtype=np.float32), RATE)) == 0
    np.testing.assert_array_equal(mark(np.zeros(5_000, dtype=np.float32), RATE), np.zeros(5_000))


@pytest.mark.parametrize("size", [1, 319, 320, 1_000, 40_000])
def test_blocks_of_any_size_give_the_same(size: int) -> None:
    plain = speech_like(2.0)[:20_000]
    marker = Marker(RATE)
    pieces = [marker.push(plain[start : start + size]) for start in range(0, len(plain), size)]
    np.testing.assert_allclose(np.concatenate([*pieces, marker.finish()]), mark(plain, RATE), atol=1e-7)


def test_silence_and_short_sounds_are_not_marked() -> None:
    for waveform in (np.zeros(0), np.zeros(10), np.zeros(5 * RATE), mark(speech_like(0.2), RATE)):
        assert detect(waveform.astype(np.float32), RATE).score < THRESHOLD


def test_the_pattern_never_changes() -> None:
    # What was marked years ago must still be found.
    assert PATTERN.shape == (64, 32)
    signs = "".join("+" if sign > 0 else "-" for sign in PATTERN[0])
    assert signs == "-++--++--+++-+---++++-++++++++--"
    assert abs(PATTERN.mean()) < 0.05


def test_odd_rates_are_refused() -> None:
    with pytest.raises(ValueError, match="multiple of 50"):
        Marker(11_025)
