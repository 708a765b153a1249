"""Levels, clipping and silence: known signals, and blocks against the whole."""

from __future__ import annotations

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from auriscope.signal import levels


def test_levels_of_known_signals():
    time = np.arange(16000) / 16000
    sine = np.sin(2 * np.pi * 100 * time).astype(np.float32)
    assert levels.rms_dbfs(sine) == pytest.approx(-3.0103, abs=1e-3)
    assert levels.peak_dbfs(sine) == pytest.approx(0.0, abs=1e-4)
    assert levels.rms_dbfs(0.1 * sine) == pytest.approx(-23.0103, abs=1e-3)
    assert levels.peak_dbfs(np.array([0.1, -0.5], dtype=np.float32)) == pytest.approx(-6.0206, abs=1e-3)


@pytest.mark.parametrize("waveform", [np.zeros(100, np.float32), np.zeros(0, np.float32)])
def test_digital_silence_and_nothing(waveform):
    assert levels.rms_dbfs(waveform) == levels.peak_dbfs(waveform) == -math.inf
    assert levels.is_silent(waveform)
    assert levels.clipped_fraction(waveform) == 0.0


def test_half_a_step_of_sixteen_bit_is_silence_and_two_steps_are_not():
    assert levels.is_silent(np.full(100, 2.0**-16, dtype=np.float32))
    assert not levels.is_silent(np.full(100, 2.0**-14, dtype=np.float32))


def test_decibels_there_and_back():
    for level_db in (-60.0, -3.0, 0.0, 12.0):
        assert levels.amplitude_to_db(levels.db_to_amplitude(level_db)) == pytest.approx(level_db)


def test_saturated_sine_is_clipped_and_normalised_sine_is_not():
    time = np.arange(16000) / 16000
    sine = np.sin(2 * np.pi * 440 * time).astype(np.float32)
    assert not levels.is_clipped(sine)
    saturated = np.clip(2 * sine, -1, 1)
    # |sin| is above one half for two thirds of the time.
    assert levels.clipped_fraction(saturated) == pytest.approx(2 / 3, abs=0.02)
    assert levels.is_clipped(saturated)
    assert levels.clipped_fraction(0.5 * saturated) == 0.0
    assert levels.clipped_fraction(0.5 * saturated, full_scale=0.5) == pytest.approx(2 / 3, abs=0.02)


def clipped_by_definition(waveform: np.ndarray, min_run: int) -> float:
    """The slow, obvious count: walk along the samples."""
    sides = [1 if x >= 0.999 else -1 if x <= -0.999 else 0 for x in waveform]
    clipped = begin = 0
    while begin < len(sides):
        end = begin
        while end < len(sides) and sides[end] == sides[begin]:
            end += 1
        if sides[begin] != 0 and end - begin >= min_run:
            clipped += end - begin
        begin = end
    return clipped / len(sides)


@given(
    st.lists(st.sampled_from([-1.0, -0.5, 0.0, 0.9995, 1.2]), min_size=1, max_size=60),
    st.integers(1, 5),
    st.integers(1, 10),
)
def test_meter_in_blocks_equals_the_definition(samples, min_run, block):
    waveform = np.array(samples, dtype=np.float32)
    meter = levels.LevelMeter(min_run=min_run)
    for begin in range(0, len(waveform), block):
        meter.update(waveform[begin : begin + block])
        meter.update(waveform[:0])
    expected = clipped_by_definition(waveform, min_run)
    assert meter.num_samples == len(waveform)
    assert meter.clipped_fraction == pytest.approx(expected)
    assert levels.clipped_fraction(waveform, min_run=min_run) == pytest.approx(expected)
    assert meter.peak_dbfs == levels.peak_dbfs(waveform)
    assert meter.rms_dbfs == pytest.approx(levels.rms_dbfs(waveform))


def test_silences_of_a_recording_with_pauses():
    rng = np.random.default_rng(0)
    sound = (0.1 * rng.standard_normal(16000)).astype(np.float32)
    pause = np.zeros(8000, dtype=np.float32)
    gap = np.zeros(1600, dtype=np.float32)
    waveform = np.concatenate([pause, sound, gap, sound, pause, pause])
    assert levels.silences(waveform, 16000) == [(0.0, 0.5), (pytest.approx(2.6), pytest.approx(3.6))]
    assert len(levels.silences(waveform, 16000, min_seconds=0.05)) == 3
    assert levels.silences(sound, 16000) == []
    assert levels.silences(pause[:0], 16000) == []
    assert levels.silences(pause[:5000], 16000) == [(0.0, 0.3125)]
