"""Rooms: what is drawn obeys the ranges, responses obey physics, convolution keeps time."""

from __future__ import annotations

import dataclasses
import math
import sys

import numpy as np
import pytest
import scipy.signal
from hypothesis import given, settings
from hypothesis import strategies as st

from auriscope.errors import AuriscopeError
from auriscope.signal import rooms
from auriscope.signal.rooms import RoomConfig, convolve, sample_room, simulate, split_early_late


@settings(max_examples=50, deadline=None)
@given(seed=st.integers(0, 2**32), num_sources=st.integers(1, 4))
def test_rooms_obey_their_ranges(seed, num_sources):
    config = RoomConfig()
    room = sample_room(config, np.random.default_rng(seed), num_sources)
    assert room == sample_room(config, np.random.default_rng(seed), num_sources)
    assert len(room.sources) == num_sources
    for size, (low, high) in zip(room.size, (config.length, config.width, config.height), strict=True):
        assert low <= size <= high
    for place in (room.microphone, *room.sources):
        for at, size in zip(place, room.size, strict=True):
            assert config.wall_margin <= at <= size - config.wall_margin
        assert config.source_height[0] - 1e-9 <= place[2] <= config.source_height[1] + 1e-9
    for index, source in enumerate(room.sources):
        assert config.distance[0] <= math.dist(source, room.microphone) <= config.distance[1] + 1e-6
        for other in room.sources[:index]:
            assert math.dist(source, other) >= config.separation
    assert room.rt60_seconds >= config.rt60_seconds[0]


def test_ranges_without_a_place():
    with pytest.raises(ValueError, match="found no room"):
        sample_room(RoomConfig(distance=(20.0, 30.0)), np.random.default_rng(0), 1)


@pytest.fixture(scope="module")
def simulated():
    rng = np.random.default_rng(7)
    drawn = [sample_room(RoomConfig(), rng, 2) for _ in range(8)]
    return [(room, simulate(room, 16000)) for room in drawn]


def test_direct_path_arrives_in_time_with_its_level(simulated):
    for room, result in simulated:
        assert result.responses.dtype == np.float32
        assert np.isfinite(result.responses).all()
        delays = [math.dist(source, room.microphone) / 343.0 * 16000 for source in room.sources]
        first, second = result.direct_frames
        assert first - second == pytest.approx(delays[0] - delays[1], abs=1)
        for source, response, direct in zip(room.sources, result.responses, result.direct_frames, strict=True):
            around = np.abs(response[direct - 2 : direct + 3])
            assert abs(int(around.argmax()) - 2) <= 1
            # Nothing but the filter's ringing comes before it. A delay of half a sample lowers the peak to 2 / pi.
            assert np.abs(response[: direct - 20]).max() < 0.1 * around.max()
            assert 0.6 < around.max() * math.dist(source, room.microphone) < 1.4


def decay_seconds(response: np.ndarray, sample_rate: int) -> float:
    """The reverberation time from -5 to -35 dB of the backward-integrated energy (Schroeder 1965)."""
    left = np.cumsum(response[::-1].astype(np.float64) ** 2)[::-1]
    level = 10 * np.log10(left / left[0] + 1e-30)
    begin, end = np.argmax(level < -5), np.argmax(level < -35)
    return 2 * (end - begin) / sample_rate


def test_reverberation_time_is_as_drawn(simulated):
    ratios = [
        decay_seconds(response[direct:], 16000) / room.rt60_seconds
        for room, result in simulated
        for response, direct in zip(result.responses, result.direct_frames, strict=True)
    ]
    # Sabine's formula is for diffuse fields; single places in small rooms differ.
    assert 0.85 < np.median(ratios) < 1.1
    assert min(ratios) > 0.5
    assert max(ratios) < 1.4


def test_early_part_is_that_of_the_exact_image_method():
    import pyroomacoustics

    room = sample_room(RoomConfig(rt60_seconds=(0.3, 0.3)), np.random.default_rng(3), 1)
    got = simulate(room, 16000)
    absorption, order = pyroomacoustics.inverse_sabine(room.rt60_seconds, room.size, c=343.0)
    exact = pyroomacoustics.ShoeBox(
        room.size, fs=16000, materials=pyroomacoustics.Material(absorption), max_order=min(order, 40)
    )
    exact.add_source(room.sources[0])
    exact.add_microphone(room.microphone)
    exact.compute_rir()
    reference = exact.rir[0][0]
    # The filters that delay by fractions of a sample reach 40 samples ahead of an image.
    early = int((room.max_order - 2) / np.sqrt(np.sum(1 / np.square(room.size))) / 343.0 * 16000) - 1
    assert early > 800
    peak = np.abs(reference).max()
    np.testing.assert_allclose(got.responses[0, :early], reference[:early], atol=2e-3 * peak)
    # The tail, which is noise, has the energy of the exact one.
    stretch = slice(early + 41, early + 2041)
    ratio_db = 10 * np.log10(np.sum(got.responses[0, stretch] ** 2) / np.sum(reference[stretch] ** 2))
    assert abs(ratio_db) < 3.0


def test_the_same_room_gives_the_same_responses(simulated):
    room, result = simulated[0]
    again = simulate(room, 16000)
    np.testing.assert_array_equal(again.responses, result.responses)
    assert again.direct_frames == result.direct_frames
    other = simulate(dataclasses.replace(room, tail_seed=room.tail_seed + 1), 16000)
    assert not np.array_equal(other.responses, result.responses)


def test_too_low_an_order_is_refused():
    room = sample_room(RoomConfig(distance=(2.0, 2.5), max_order=1), np.random.default_rng(0), 1)
    with pytest.raises(ValueError, match="max_order 1 is too low"):
        simulate(room, 16000)


def test_absent_extra_is_named(monkeypatch):
    monkeypatch.setitem(sys.modules, "pyroomacoustics", None)
    room = sample_room(RoomConfig(), np.random.default_rng(0), 1)
    with pytest.raises(AuriscopeError, match=r"pip install 'auriscope\[augment\]'") as error:
        simulate(room, 16000)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize(("time", "response_time"), [(1, 1), (10, 400), (4000, 301)])
@pytest.mark.parametrize("place", [0.0, 0.5, 1.0])
def test_convolution_as_scipy_in_time_with_the_original(time, response_time, place):
    rng = np.random.default_rng(0)
    waveform = rng.standard_normal(time).astype(np.float32)
    response = rng.standard_normal(response_time).astype(np.float32)
    direct = round(place * (response_time - 1))
    got = convolve(waveform, response, direct)
    expected = scipy.signal.convolve(waveform.astype(np.float64), response, method="direct")[direct : direct + time]
    assert (got.dtype, got.shape) == (np.float32, (time,))
    np.testing.assert_allclose(got, expected, atol=1e-3)


def test_direct_path_alone_gives_back_the_signal():
    waveform = np.random.default_rng(0).standard_normal(1000).astype(np.float32)
    response = np.zeros(300, dtype=np.float32)
    response[123] = 1.0
    np.testing.assert_allclose(convolve(waveform, response, 123), waveform, atol=1e-5)
    with pytest.raises(ValueError, match="direct_frame"):
        convolve(waveform, response, 300)


def test_early_and_late_sum_to_the_whole(simulated):
    _, result = simulated[1]
    response, direct = result.responses[0], result.direct_frames[0]
    early, late = split_early_late(response, direct, 16000)
    np.testing.assert_array_equal(early + late, response)
    assert not early[direct + 800 :].any()
    assert not late[: direct + 800].any()
    assert late.any()


def test_speed_of_sound_is_that_of_the_simulator():
    import pyroomacoustics

    assert pyroomacoustics.constants.get("c") == rooms.SPEED_OF_SOUND
