from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path

import numpy as np
import pytest

from auriscope.data.augmentation import AugmentationConfig, Augmenter, Drawn, coded, in_room, telephone, with_noise
from auriscope.data.rooms import RoomBankConfig
from auriscope.data.synthetic import voice
from auriscope.errors import RecipeError

RATE = 16_000
EVERYTHING = AugmentationConfig(
    speed_factors=(0.9, 1.0, 1.1),
    room_probability=0.7,
    measured_room_share=1.0,
    noise_probability=0.7,
    snr_db=(0.0, 10.0),
    level_db=(-10.0, 10.0),
    band_limit_probability=0.5,
    codec_probability=0.5,
)


def speech(seconds: float = 2.0, rate: int = RATE) -> np.ndarray:
    return voice(3, 1, seconds=seconds, sample_rate=rate)


def delay(heard: np.ndarray, said: np.ndarray, limit: int = 2000) -> int:
    """By how many samples ``heard`` comes after ``said``, by their correlation."""
    size = 2 * max(len(heard), len(said))
    spectrum = np.fft.rfft(heard, size) * np.fft.rfft(said, size).conj()
    correlation = np.fft.irfft(spectrum, size)
    lags = np.r_[0:limit, -limit:0]
    return int(lags[np.argmax(correlation[lags])])


def test_the_same_seed_gives_the_same_sound(corpora: Path) -> None:
    waveform = speech()
    augmenter, again = Augmenter(EVERYTHING, "train", RATE), Augmenter(EVERYTHING, "train", RATE)
    heard = []
    for seed in range(8):
        drawn = augmenter.draw(np.random.default_rng(seed), len(waveform))
        heard.append(augmenter.apply(waveform, drawn))
        assert again.draw(np.random.default_rng(seed), len(waveform)) == drawn
        np.testing.assert_array_equal(again.apply(waveform, drawn), heard[-1])
        assert heard[-1].dtype == np.float32
        assert np.isfinite(heard[-1]).all()
    assert len({one.tobytes() for one in heard}) == 8


def test_nothing_happens_unless_it_is_asked_for() -> None:
    augmenter = Augmenter(AugmentationConfig(), "train", RATE)
    drawn = augmenter.draw(np.random.default_rng(0), 100)
    assert drawn == Drawn()
    np.testing.assert_array_equal(augmenter.apply(speech(), drawn), speech())


def test_things_are_drawn_as_often_as_the_probabilities_say(corpora: Path) -> None:
    augmenter = Augmenter(EVERYTHING, "train", RATE)
    rng = np.random.default_rng(0)
    draws = [augmenter.draw(rng, 2 * RATE) for _ in range(2000)]
    for share, happened in (
        (0.7, [drawn.response is not None for drawn in draws]),
        (0.7, [drawn.noise is not None for drawn in draws]),
        (0.5, [drawn.telephone for drawn in draws]),
        (0.5, [drawn.codec is not None for drawn in draws]),
    ):
        assert np.mean(happened) == pytest.approx(share, abs=0.04)
    assert Counter(drawn.speed for drawn in draws).keys() == {0.9, 1.0, 1.1}
    snrs = [drawn.noise.snr_db for drawn in draws if drawn.noise]
    assert 0.0 <= min(snrs) < 0.5
    assert 9.5 < max(snrs) <= 10.0


@pytest.mark.parametrize("speed", [0.9, 1.0, 1.1])
def test_only_the_speed_changes_the_length(corpora: Path, speed: float) -> None:
    config = dataclasses.replace(
        EVERYTHING,
        speed_factors=(speed,),
        room_probability=1.0,
        noise_probability=1.0,
        codec_probability=1.0,
        band_limit_probability=1.0,
    )
    augmenter = Augmenter(config, "train", RATE)
    for seed, num_frames in enumerate((RATE, 12_345, 401, 5, 1, 0)):
        drawn = augmenter.draw(np.random.default_rng(seed), num_frames)
        heard = augmenter.apply(speech()[:num_frames], drawn)
        assert abs(len(heard) - num_frames / speed) <= 1


@pytest.mark.parametrize("snr_db", [-5.0, 0.0, 12.5])
def test_the_noise_is_as_loud_as_asked(corpora: Path, snr_db: float) -> None:
    waveform = speech()
    augmenter = Augmenter(AugmentationConfig(noise_probability=1.0, snr_db=(snr_db, snr_db)), "train", RATE)
    for seed in range(3):
        heard = augmenter.apply(waveform, augmenter.draw(np.random.default_rng(seed), len(waveform)))
        # The noise of these corpora is white: the rest over the speech, once both were turned down together.
        gain = float(heard @ waveform / (waveform @ waveform))
        rest = heard / gain - waveform
        assert 10 * np.log10(np.sum(waveform**2) / np.sum(rest**2)) == pytest.approx(snr_db, abs=0.3)
    noise = with_noise(waveform, np.arange(len(waveform), dtype=np.float32), snr_db) - waveform
    assert 10 * np.log10(np.sum(waveform**2) / np.sum(noise**2)) == pytest.approx(snr_db, abs=1e-3)


def test_silence_and_silent_noise_stay_finite() -> None:
    silence = np.zeros(100, dtype=np.float32)
    np.testing.assert_array_equal(with_noise(silence, np.ones(100, dtype=np.float32), 5.0), silence)
    np.testing.assert_array_equal(with_noise(speech()[:100], silence, 5.0), speech()[:100])
    np.testing.assert_array_equal(in_room(silence, np.ones(3, dtype=np.float32)), silence)


def test_the_direct_sound_stays_in_place_in_measured_rooms(corpora: Path) -> None:
    click = np.zeros(RATE, dtype=np.float32)
    click[4_000] = 0.5
    augmenter = Augmenter(AugmentationConfig(room_probability=1.0, measured_room_share=1.0), "test", RATE)
    for seed in range(5):
        heard = augmenter.apply(click, augmenter.draw(np.random.default_rng(seed), RATE))
        assert int(np.argmax(np.abs(heard))) == 4_000
        assert np.abs(heard[4_001:]).max() > 0


def test_the_direct_sound_stays_in_place_in_simulated_rooms(tmp_path: Path) -> None:
    pytest.importorskip("pyroomacoustics")
    bank = RoomBankConfig(num_rooms=2, num_positions=3, rt60_seconds=(0.12, 0.2))
    config = AugmentationConfig(room_probability=1.0, measured_room_share=0.0, room_bank=bank)
    augmenter = Augmenter(config, "train", RATE, folder=tmp_path)
    waveform = speech()
    click = np.zeros(RATE, dtype=np.float32)
    click[4_000] = 0.5
    for seed in range(6):
        drawn = augmenter.draw(np.random.default_rng(seed), len(waveform))
        heard = augmenter.apply(click, drawn)
        # The first loud value: a near reflection may be the loudest one.
        assert abs(int(np.argmax(np.abs(heard) >= 0.5 * np.abs(heard).max())) - 4_000) <= 1
        wet = augmenter.apply(waveform, drawn)
        assert np.sqrt(np.mean(wet**2)) == pytest.approx(np.sqrt(np.mean(waveform**2)), rel=1e-3)


@pytest.mark.parametrize("rate", [8_000, 16_000, 48_000])
@pytest.mark.parametrize("codec", ["mp3", "opus"])
@pytest.mark.parametrize("kbps", [8.0, 12.0])
def test_codecs_keep_time_and_lose_more_at_lower_rates(rate: int, codec: str, kbps: float) -> None:
    waveform = speech(rate=rate)
    heard, better = coded(waveform, rate, codec, kbps), coded(waveform, rate, codec, 256.0)
    assert heard.shape == better.shape == waveform.shape
    assert abs(delay(heard, waveform)) <= max(1.0, 1e-4 * rate)
    assert abs(delay(better, waveform)) <= 1
    lost, less = (float(np.sum((one - waveform) ** 2) / np.sum(waveform**2)) for one in (heard, better))
    assert 0 < less < lost < 1


def test_a_telephone_passes_its_band_only_and_in_time() -> None:
    rng = np.random.default_rng(0)
    waveform = (0.1 * rng.standard_normal(2 * RATE)).astype(np.float32)
    heard = telephone(waveform, RATE)
    assert abs(delay(heard, waveform)) <= 1
    power = np.abs(np.fft.rfft(heard)) ** 2
    frequencies = np.fft.rfftfreq(len(heard), 1 / RATE)
    inside = power[(frequencies > 350) & (frequencies < 3350)].mean()
    # Outside there are only the steps of the mu-law.
    assert power[frequencies > 4100].mean() < 1e-4 * inside
    assert power[frequencies < 250].mean() < 3e-3 * inside


def test_the_mu_law_is_that_of_g711() -> None:
    """Its steps are those of the table, made by libsndfile's encoder, for a tone within the telephone's band."""
    import io

    import soundfile

    tone = (0.5 * np.sin(2 * np.pi * 1000 * np.arange(8000) / 8000)).astype(np.float32)
    stream = io.BytesIO()
    soundfile.write(stream, tone, 8000, format="WAV", subtype="ULAW")
    stream.seek(0)
    table, _ = soundfile.read(stream, dtype="float32")
    heard = telephone(tone, 8000)
    # The table is a line in eight pieces; the law itself is the curve that these follow.
    assert np.abs(heard - table).max() < 0.03
    assert 20 * np.log10(np.std(heard - tone) / np.std(tone)) == pytest.approx(
        20 * np.log10(np.std(table - tone) / np.std(tone)), abs=6.0
    )


def test_levels_are_changed_without_clipping(corpora: Path) -> None:
    waveform = speech()
    quiet, loud = (
        Augmenter(AugmentationConfig(level_db=(level_db, level_db)), "train", RATE) for level_db in (-12.0, 60.0)
    )
    drawn = quiet.draw(np.random.default_rng(0), len(waveform))
    np.testing.assert_allclose(quiet.apply(waveform, drawn), waveform * 10 ** (-12 / 20), rtol=1e-5)
    heard = loud.apply(waveform, loud.draw(np.random.default_rng(0), len(waveform)))
    assert np.abs(heard).max() == pytest.approx(0.97, rel=1e-5)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"noise_probability": 1.5}, "noise_probability must lie between 0 and 1"),
        ({"snr_db": (5, 0)}, "snr_db must be two numbers"),
        ({"speed_factors": ()}, "speed_factors must name one at least"),
        ({"speed_factors": (0.1,)}, "speed_factors must lie between"),
        ({"codecs": ("flac",)}, "there is no codec 'flac'; there are: mp3, opus"),
        ({"kbps": (1, 8)}, "kbps must be 8 at least"),
    ],
)
def test_wrong_settings_are_one_clear_line(settings: dict[str, object], message: str) -> None:
    with pytest.raises(RecipeError, match=message.replace("(", r"\(")):
        AugmentationConfig(**settings)  # type: ignore[arg-type]


def test_codecs_refuse_a_rate_that_they_do_not_have() -> None:
    with pytest.raises(RecipeError, match=r"codecs work at 8000, .* not at 22050 Hz"):
        Augmenter(AugmentationConfig(codec_probability=0.5), "train", 22_050)
