from __future__ import annotations

import numpy as np
import pytest

from auriscope.data.cache import AudioStore
from auriscope.data.render import (
    PEAK_LIMIT,
    MixtureDraw,
    NoiseDraw,
    TalkerDraw,
    active_rms,
    change_speed,
    early_part,
    looped,
    render,
    reverberate,
    rms,
    tilted,
)

RATE = 16_000
RNG = np.random.default_rng(1)
VOICES = AudioStore.of([0.2 * RNG.uniform(-1, 1, size=3 * RATE), 0.02 * RNG.uniform(-1, 1, size=3 * RATE)], RATE)
NOISES = AudioStore.of([0.3 * RNG.uniform(-1, 1, size=RATE)], RATE)
RESPONSES = AudioStore.of([np.array([0.9, 0.0, -0.4]), np.array([0.0, 0.9])], RATE)
WHOLE = (0, 2 * RATE)


def talker(clip: int, **more: object) -> TalkerDraw:
    values = {"start_frame": 0, "onset_frame": 0, "active_frames": WHOLE, "level_db": 0.0} | more
    return TalkerDraw(clip=clip, **values)  # type: ignore[arg-type]


def decibels(ratio: float) -> float:
    return 20.0 * float(np.log10(ratio))


def test_levels_are_as_drawn() -> None:
    draw = MixtureDraw((talker(0), talker(1, level_db=-4.0)), -30.0, NoiseDraw(0, 500, 7.0))
    images, noise = render(draw, 2 * RATE, voices=VOICES, noises=NOISES)
    assert decibels(rms(images[1]) / rms(images[0])) == pytest.approx(-4.0, abs=0.01)
    assert decibels(rms(images.sum(axis=0)) / rms(noise)) == pytest.approx(7.0, abs=0.01)
    assert decibels(rms(images.sum(axis=0) + noise)) == pytest.approx(-30.0, abs=0.01)


def test_nothing_clips() -> None:
    draw = MixtureDraw((talker(0), talker(1)), 20.0)
    images, _ = render(draw, 2 * RATE, voices=VOICES)
    assert np.abs(images.sum(axis=0)).max() == pytest.approx(PEAK_LIMIT, rel=1e-5)


def test_a_talker_is_placed_cut_and_silenced() -> None:
    draw = MixtureDraw((talker(0, start_frame=100, onset_frame=4000), talker(1, active_frames=(8000, 20_000))), -30.0)
    images, _ = render(draw, 2 * RATE, voices=VOICES)
    assert not images[0, :4000].any()
    expected = VOICES.read(0, 100, 2 * RATE - 4000)
    np.testing.assert_allclose(images[0, 4000:] / images[0, 4000] * expected[0], expected, atol=1e-5)
    assert not images[1, :8000].any()
    assert not images[1, 20_000:].any()
    assert np.count_nonzero(images[1, 8200:19_800]) > 11_000


def test_a_short_clip_is_followed_by_silence() -> None:
    images, _ = render(MixtureDraw((talker(0, start_frame=2 * RATE),), -30.0), 2 * RATE, voices=VOICES)
    assert np.count_nonzero(images[0, :RATE]) > RATE - 50
    assert not images[0, RATE:].any()


def test_rooms_give_reverberant_images() -> None:
    dry, _ = render(MixtureDraw((talker(0),), -30.0), 2 * RATE, voices=VOICES)
    wet, _ = render(MixtureDraw((talker(0, response=0),), -30.0), 2 * RATE, voices=VOICES, responses=RESPONSES)
    expected = np.convolve(dry[0], [0.9, 0.0, -0.4])[: 2 * RATE]
    np.testing.assert_allclose(wet[0] / rms(wet[0]), expected / rms(expected), atol=2e-3)


def test_the_early_target_and_the_noise_are_the_image() -> None:
    response = np.zeros(3000)
    response[[100, 500, 1500, 2900]] = 0.9, 0.4, -0.3, 0.2
    responses = AudioStore.of([response], RATE)
    draw = MixtureDraw((talker(0, response=0),), -30.0, NoiseDraw(0, 0, 5.0))
    image, noise = render(draw, 2 * RATE, voices=VOICES, responses=responses, noises=NOISES)
    early, rest = render(draw, 2 * RATE, voices=VOICES, responses=responses, noises=NOISES, target="early")
    np.testing.assert_allclose(early[0] + rest, image[0] + noise, atol=1e-6)
    late = np.convolve(VOICES.read(0, 0, 2 * RATE), response * (np.arange(3000) >= 100 + 0.05 * RATE))[: 2 * RATE]
    difference = image[0] - early[0]
    np.testing.assert_allclose(difference / rms(difference), late / rms(late), atol=2e-3)
    assert decibels(rms(image[0]) / rms(noise)) == pytest.approx(5.0, abs=0.01)


def test_the_early_part_is_counted_from_the_direct_sound() -> None:
    response = np.full(4000, 0.1, dtype=np.float32)
    response[1000:1002] = 0.5, 0.9
    kept = early_part(response, RATE)
    np.testing.assert_array_equal(kept[:1800], response[:1800])
    assert not kept[1800:].any()
    assert len(early_part(np.zeros(0, np.float32), RATE)) == 0


def test_noise_is_tilted_by_so_much_an_octave() -> None:
    noise = RNG.standard_normal(1 << 15).astype(np.float32)
    change = np.abs(np.fft.rfft(tilted(noise, RATE, -3.0))) / np.abs(np.fft.rfft(noise))
    frequencies = np.fft.rfftfreq(1 << 15, 1 / RATE)
    for hertz, expected in ((500, 3.0), (1000, 0.0), (4000, -6.0)):
        assert decibels(change[np.argmin(np.abs(frequencies - hertz))]) == pytest.approx(expected, abs=0.05)


def test_babble_lies_over_the_noise() -> None:
    draw = MixtureDraw((talker(0),), -30.0, NoiseDraw(0, 0, 5.0, babble=((0, 40_000), (1, 0)), babble_db=20.0))
    images, noise = render(draw, 2 * RATE, voices=VOICES, noises=NOISES)
    voices = [looped(VOICES.read(0), 40_000, 2 * RATE), VOICES.read(1, 0, 2 * RATE)]
    babble = sum(voice / rms(voice) for voice in voices)
    assert np.corrcoef(noise, babble)[0, 1] == pytest.approx(np.sqrt(100 / 101), abs=0.01)
    assert decibels(rms(images[0]) / rms(noise)) == pytest.approx(5.0, abs=0.01)


def test_convolution_equals_the_slow_one() -> None:
    dry, response = RNG.standard_normal(1000).astype(np.float32), RNG.standard_normal(300).astype(np.float32)
    np.testing.assert_allclose(reverberate(dry, response), np.convolve(dry, response)[:1000], atol=1e-4)


def test_silence_stays_silent_and_finite() -> None:
    silent = AudioStore.of([np.zeros(RATE), np.zeros(RATE)], RATE)
    images, noise = render(
        MixtureDraw((talker(0), talker(1)), -30.0, NoiseDraw(0, 0, 10.0)), RATE, voices=silent, noises=NOISES
    )
    assert not images.any()
    assert np.isfinite(noise).all()
    images, noise = render(MixtureDraw((talker(0),), -30.0), RATE, voices=silent)
    assert not images.any()
    assert not noise.any()


def test_pauses_do_not_change_the_active_level() -> None:
    tone = np.sin(np.arange(RATE) * 0.3).astype(np.float32)
    with_pause = np.concatenate([tone, np.zeros(3 * RATE, dtype=np.float32)])
    assert active_rms(with_pause, RATE) == pytest.approx(active_rms(tone, RATE), rel=1e-6)
    assert rms(with_pause) == pytest.approx(rms(tone) / 2, rel=1e-6)
    assert active_rms(np.zeros(RATE, np.float32), RATE) == 0.0
    assert active_rms(np.ones(5, np.float32), RATE) == 1.0


@pytest.mark.parametrize("speed", [0.9, 1.1])
def test_speed_changes_tempo_and_pitch(speed: float) -> None:
    tone = np.sin(2 * np.pi * 1000 * np.arange(RATE) / RATE).astype(np.float32)
    changed = change_speed(tone, speed)
    assert len(changed) == pytest.approx(RATE / speed, abs=2)
    spectrum = np.abs(np.fft.rfft(changed * np.hanning(len(changed)), RATE * 4))
    assert np.argmax(spectrum) / 4 == pytest.approx(1000 * speed, abs=1)


def test_noise_starts_over_where_it_ends() -> None:
    waveform = np.arange(5, dtype=np.float32)
    np.testing.assert_array_equal(looped(waveform, 3, 6), [3, 4, 0, 1, 2, 3])
    np.testing.assert_array_equal(looped(waveform, 1, 4), [1, 2, 3, 4])


def test_noise_is_played_faster_and_coloured() -> None:
    time = np.arange(RATE) / RATE
    tones = AudioStore.of([0.2 * np.sin(2 * np.pi * 500 * time) + 0.2 * np.sin(2 * np.pi * 3000 * time)], RATE)

    def spectrum(**more: object) -> np.ndarray:
        draw = MixtureDraw((talker(0),), -30.0, NoiseDraw(0, 100, 0.0, **more))  # type: ignore[arg-type]
        return np.abs(np.fft.rfft(render(draw, 2 * RATE, voices=VOICES, noises=tones)[1]))

    # In half-hertz bins: 500 Hz is bin 1000. A clip that is shorter than the mixture begins again.
    for speed, bins in ((1.0, [1000, 6000]), (2.0, [2000, 12_000]), (0.5, [500, 3000])):
        assert sorted(np.argsort(spectrum(speed=speed))[-2:]) == pytest.approx(bins, abs=2)
    level = spectrum(colour=(6.0,) * 9)
    np.testing.assert_allclose(level, spectrum(), atol=level.max() * 1e-4)
    # Nine gains from 60 Hz to 8 kHz over octaves: 500 Hz lies by the fourth and fifth, 3 kHz by the seventh and eighth.
    changed = spectrum(colour=(0.0, 0.0, 0.0, -9.0, -9.0, 0.0, 3.0, 3.0, 0.0))
    assert decibels(changed[6000] / changed[1000]) == pytest.approx(12.0 + decibels(level[6000] / level[1000]), abs=0.1)
