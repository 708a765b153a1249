from __future__ import annotations

import dataclasses
from collections import Counter
from itertools import islice
from pathlib import Path

import numpy as np
import pytest
import torch

from auriscope.data import DynamicMixer, MixingConfig
from auriscope.data.mixing import draw_mixture
from auriscope.data.render import NUM_COLOURS
from auriscope.errors import CorpusError, RecipeError
from auriscope.training.batches import BatchSource

CORPORA = ("libri_251spk", "libri_readers_3spk", "coffee_commands")
EVERYTHING = {
    "corpora": CORPORA,
    "segment_seconds": 1.0,
    "batch_size": 3,
    "noise_probability": 0.7,
    "room_probability": 0.7,
    "measured_room_share": 1.0,
    "partial_overlap_probability": 0.5,
}


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(one[name], other[name]) for name in one)


def test_a_batch_is_what_the_interface_says(corpora: Path) -> None:
    batch = DynamicMixer(MixingConfig(**EVERYTHING)).batch(0)
    assert {name: (tuple(value.shape), value.dtype) for name, value in batch.items()} == {
        "mixture": ((3, 16_000), torch.float32),
        "sources": ((3, 2, 16_000), torch.float32),
        "noise": ((3, 16_000), torch.float32),
        "lengths": ((3,), torch.int64),
        "num_sources": ((3,), torch.int64),
        "speakers": ((3, 2), torch.int64),
    }
    assert torch.equal(batch["mixture"], batch["sources"].sum(1) + batch["noise"])
    assert batch["mixture"].abs().max() <= 1.0
    assert torch.isfinite(batch["mixture"]).all()
    assert (batch["sources"].abs().amax(-1) > 0).all()


def test_batches_depend_on_seed_and_index_only(corpora: Path) -> None:
    config = MixingConfig(**EVERYTHING)
    mixer = DynamicMixer(config, seed=3)
    batches = [mixer.batch(index) for index in range(6)]
    again = DynamicMixer(config, seed=3, num_threads=4)
    assert same(again.batch(4), batches[4])
    for start, stride in ((0, 1), (2, 1), (1, 2)):
        for index, batch in zip(range(start, 6, stride), again.iterate(start, stride), strict=False):
            assert same(batch, batches[index])
    assert not torch.equal(DynamicMixer(config, seed=4).batch(0)["mixture"], batches[0]["mixture"])
    assert not torch.equal(batches[0]["mixture"], batches[1]["mixture"])


def test_the_mixer_is_a_batch_source_of_the_loop(corpora: Path) -> None:
    mixer = DynamicMixer(MixingConfig(corpora=CORPORA, segment_seconds=0.5, batch_size=1))
    assert isinstance(mixer, BatchSource)
    assert len(list(islice(mixer.iterate(7), 2))) == 2


def test_talkers_differ_and_unknown_ones_never_meet(corpora: Path) -> None:
    mixer = DynamicMixer(MixingConfig(corpora=CORPORA, num_sources=3))
    owner = {int(clip): voice.name for voice in mixer.voices.voices for clip in voice.clips}
    for index in range(200):
        names = [owner[talker.clip] for talker in mixer.draw(index, 0).talkers]
        assert len(set(names)) == 3


def test_prolific_speakers_are_capped(corpora: Path) -> None:
    """Reader 10 has 18 of 33 s of read speech; capped at 4 s, 4 of 19 (and each of the others 3)."""
    config = MixingConfig(corpora=CORPORA[:2], num_sources=1, speaker_cap_seconds=4.0)
    mixer = DynamicMixer(config)
    owner = {int(clip): voice.name for voice in mixer.voices.voices for clip in voice.clips}
    counts = Counter(owner[mixer.draw(index, 0).talkers[0].clip] for index in range(2000))
    assert len(counts) == 6
    assert counts["librispeech:10"] / 2000 == pytest.approx(4 / 19, abs=0.04)


def test_draws_follow_the_configuration(corpora: Path) -> None:
    config = MixingConfig(
        **EVERYTHING
        | {"level_difference_db": (-3, 2), "snr_db": (5, 6), "speed": (0.95, 1.0), "level_dbfs": (-30, -29)}
    )
    mixer = DynamicMixer(config)
    draws = [mixer.draw(index, row) for index in range(300) for row in range(2)]
    assert all(-3 <= draw.talkers[1].level_db <= 2 and draw.talkers[0].level_db == 0 for draw in draws)
    assert all(0.95 <= talker.speed <= 1.0 for draw in draws for talker in draw.talkers)
    assert all(-30 <= draw.level_dbfs <= -29 for draw in draws)
    noisy = [draw.noise for draw in draws if draw.noise is not None]
    assert len(noisy) / len(draws) == pytest.approx(0.7, abs=0.08)
    assert all(5 <= noise.snr_db <= 6 for noise in noisy)
    in_rooms = [draw for draw in draws if draw.talkers[0].response is not None]
    assert len(in_rooms) / len(draws) == pytest.approx(0.7, abs=0.08)
    assert all(draw.measured_room for draw in in_rooms)
    # Responses 2k and 2k + 1 are channels of one position.
    assert all(len({talker.response // 2 for talker in draw.talkers}) == 2 for draw in in_rooms)
    cut = [draw for draw in draws if any(talker.active_frames != (0, 16_000) for talker in draw.talkers)]
    assert len(cut) / len(draws) == pytest.approx(0.5, abs=0.08)
    for draw in draws:
        (first, last), (other_first, other_last) = (talker.active_frames for talker in draw.talkers)
        assert 0 <= first < last <= 16_000
        assert min(last, other_last) - max(first, other_first) >= 0.09 * 16_000


def test_noise_and_rooms_come_in_gradually(corpora: Path) -> None:
    values = {"noise_probability": 1.0, "room_probability": 0.5, "ramp_batches": (10, 30)}
    mixer = DynamicMixer(MixingConfig(**EVERYTHING | values))
    assert [mixer.config.hardness(index) for index in (0, 10, 20, 30, 99)] == [0.0, 0.0, 0.5, 1.0, 1.0]
    for index, noise_share, room_share in ((9, 0.0, 0.0), (20, 0.5, 0.25), (40, 1.0, 0.5)):
        draws = [mixer.draw(index, row) for row in range(300)]
        assert np.mean([draw.noise is not None for draw in draws]) == pytest.approx(noise_share, abs=0.09)
        in_rooms = [draw.talkers[0].response is not None for draw in draws]
        assert np.mean(in_rooms) == pytest.approx(room_share, abs=0.09)


def test_a_drawing_reads_no_audio_and_repeats(corpora: Path) -> None:
    mixer = DynamicMixer(MixingConfig(corpora=CORPORA))
    mixer.voices.read = None  # type: ignore[assignment]
    one, other = (draw_mixture(mixer.config, np.random.default_rng(5), mixer.voices) for _ in range(2))
    assert one == other


def test_fewer_talkers_leave_the_last_sources_empty(corpora: Path) -> None:
    config = MixingConfig(corpora=CORPORA, num_sources=3, min_sources=1, segment_seconds=0.5, batch_size=20)
    batch = DynamicMixer(config).batch(0)
    present = batch["sources"].abs().amax(-1) > 0
    assert torch.equal(present.sum(1), batch["num_sources"])
    assert set(batch["num_sources"].tolist()) == {1, 2, 3}
    assert present[:, 0].all()
    assert not (present[:, 2] & ~present[:, 1]).any()


def test_short_utterances_begin_anywhere(corpora: Path) -> None:
    config = MixingConfig(corpora=CORPORA[:1], segment_seconds=6.0, num_sources=1, partial_overlap_probability=0.0)
    mixer = DynamicMixer(config)
    onsets = [mixer.draw(index, 0).talkers[0].onset_frame for index in range(100)]
    assert min(onsets) < 10_000
    assert max(onsets) > 30_000
    assert (mixer.batch(0)["sources"].abs().amax(-1) > 0).all()


def test_enhancement_draws_corpora_tilts_and_babble_of_noise(corpora: Path, shared_cache: Path) -> None:
    plain = {"corpora": CORPORA, "num_sources": 1, "noise_probability": 1.0}
    rich = {"noise_corpora": ("noise", "noise"), "noise_tilt_db_per_octave": (-5, 3), "babble_probability": 0.5}
    noises = [DynamicMixer(MixingConfig(**plain, **rich)).draw(index, 0).noise for index in range(60)]
    assert {noise.clip for noise in noises if noise} == {0, 1}
    assert all(noise is not None and -5 <= noise.tilt_db_per_octave <= 3 for noise in noises)
    many = {**plain, "noise_speed": (0.5, 2.0), "noise_colour_db": 12.0}
    varied = [DynamicMixer(MixingConfig(**many)).draw(index, 0).noise for index in range(60)]
    assert all(noise is not None and 0.5 <= noise.speed <= 2.0 and len(noise.colour) == NUM_COLOURS for noise in varied)
    # Half as fast and twice as fast are equally far from 1.
    assert 20 < sum(noise.speed < 1.0 for noise in varied if noise) < 40
    assert 10 < max(gain for noise in varied if noise for gain in noise.colour) <= 12
    babbles = [noise.babble for noise in noises if noise and noise.babble]
    assert 15 < len(babbles) < 45
    assert {len(babble) for babble in babbles} <= set(range(3, 11))
    quiet = DynamicMixer(MixingConfig(**plain)).draw(0, 0).noise
    assert quiet is not None
    assert (quiet.tilt_db_per_octave, quiet.babble, quiet.speed, quiet.colour) == (0.0, (), 1.0, ())


def test_early_targets_leave_the_mixture_as_it_is(corpora: Path) -> None:
    config = MixingConfig(**{**EVERYTHING, "num_sources": 1, "room_probability": 1.0})
    image = DynamicMixer(config).batch(0)
    early = DynamicMixer(dataclasses.replace(config, target="early")).batch(0)
    torch.testing.assert_close(early["mixture"], image["mixture"])
    assert (early["noise"].square().mean(-1) > image["noise"].square().mean(-1)).all()


def test_synthetic_voices_need_no_data(shared_cache: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("AURISCOPE_CORPORA", raising=False)
    config = MixingConfig(corpora=("synthetic",), sample_rate=8_000, split="valid", segment_seconds=1.0, batch_size=2)
    mixer = DynamicMixer(config, folder=shared_cache)
    assert mixer.batch(0)["mixture"].shape == (2, 8_000)
    assert len(mixer.voices.voices) == 6


def test_corpora_that_only_measure_cannot_be_trained_on(corpora: Path) -> None:
    with pytest.raises(CorpusError, match="must not be trained on"):
        DynamicMixer(MixingConfig(corpora=("libri_eval50_flac",)))


def test_too_few_talkers_are_an_error(corpora: Path) -> None:
    mixer = DynamicMixer(MixingConfig(corpora=("coffee_commands",)))
    with pytest.raises(CorpusError, match="2 talkers are asked of corpora that hold 1"):
        mixer.batch(0)


@pytest.mark.parametrize(
    ("values", "said"),
    [
        ({"speed": (1.1, 0.9)}, "speed must be two numbers"),
        ({"speed": (0.1, 1.0)}, "between 0.25 and 4"),
        ({"noise_probability": 1.5}, "noise_probability must lie between 0 and 1"),
        ({"batch_size": 0}, "batch_size must be above zero"),
        ({"ramp_batches": (30, 10)}, "ramp_batches must be two numbers"),
        ({"corpora": ()}, "corpora must name one"),
        ({"noise_corpora": ()}, "noise_corpora must name one"),
        ({"babble_probability": -1}, "babble_probability must lie between 0 and 1"),
        ({"target": "dry"}, "target must be one of image, early"),
        ({"num_sources": 2, "min_sources": 3}, "min_sources must lie between"),
        ({"noise_speed": (0.5, 5.0)}, "noise_speed must lie between 0.25 and 4"),
        ({"noise_colour_db": -1.0}, "noise_colour_db must not be negative"),
        ({"contrast_batches": (3, 3)}, "contrast_batches must be two numbers"),
    ],
)
def test_a_wrong_configuration_is_one_line(values: dict[str, object], said: str) -> None:
    with pytest.raises(RecipeError, match=said):
        MixingConfig(**values)  # type: ignore[arg-type]


@pytest.mark.corpora
def test_the_real_corpora_mix(real_corpora: Path) -> None:
    corpora = ("libri_251spk", "libri_other_10spk")
    config = MixingConfig(
        corpora=corpora, split="valid", noise_probability=1.0, room_probability=1.0, measured_room_share=1.0
    )
    batch = DynamicMixer(config).batch(0)
    assert torch.isfinite(batch["mixture"]).all()
    assert (batch["sources"].std(-1) > 1e-4).all()
    assert (batch["noise"].std(-1) > 1e-5).all()


def test_talkers_contrast_where_it_is_asked_for(corpora: Path) -> None:
    plain = MixingConfig(corpora=CORPORA, segment_seconds=0.5, batch_size=1)
    mixer = DynamicMixer(dataclasses.replace(plain, contrast_batches=(20, 40)))
    sexes = [
        [mixer.voices.voices[talker.speaker].sex for talker in mixer.draw(index, 0).talkers] for index in range(60)
    ]
    assert all(None in pair or set(pair) == {"F", "M"} for pair in sexes[:20])
    assert {"F", "M"} in [set(pair) for pair in sexes[:20]]
    assert any(None not in pair and len(set(pair)) == 1 for pair in sexes[40:])
    assert mixer.draw(50, 0) == DynamicMixer(plain).draw(50, 0)
    assert [mixer.config.contrast(index) for index in (0, 20, 30, 40)] == [1.0, 1.0, 0.5, 0.0]
