"""The bands of a voice: what they are in a clip, speech gets."""

from __future__ import annotations

import torch

from auriscope.synthesis.bands import BandMatcher, BandMeter, BandStatistics

MELS = 12


def speech(frames: int, seed: int, mean: float = 0.0, spread: float = 1.0) -> torch.Tensor:
    generator = torch.Generator().manual_seed(seed)
    tilt = torch.linspace(0.0, -0.5, MELS)
    return mean + tilt + spread * 0.5 * torch.randn(frames, MELS, generator=generator)


def measured(*mels: torch.Tensor) -> BandStatistics | None:
    meter = BandMeter()
    for mel in mels:
        meter.update(mel)
    return meter.statistics


def test_the_mean_and_spread_are_those_of_all_pieces_and_pauses_do_not_count() -> None:
    pieces = speech(200, 0), speech(300, 1)
    pause = torch.full((500, MELS), -11.0)
    found = measured(pieces[0], torch.cat([pieces[1], pause]), pause[:0])
    together = torch.cat(pieces)
    assert found is not None
    torch.testing.assert_close(found.mean, together.mean(0))
    torch.testing.assert_close(found.spread, together.std(0, unbiased=False))


def test_speech_gets_the_bands_of_the_clip_and_keeps_its_level() -> None:
    clip = measured(speech(400, 2, mean=-3.0, spread=2.0) + torch.linspace(-1.0, 1.0, MELS))
    assert clip is not None
    made = speech(400, 3)
    matched = BandMatcher(clip)(made)
    found = measured(matched)
    assert found is not None
    torch.testing.assert_close(found.spread, clip.spread, rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(found.mean - found.mean.mean(), clip.mean - clip.mean.mean(), rtol=1e-3, atol=1e-3)
    torch.testing.assert_close(matched.mean(), made.mean(), rtol=1e-3, atol=1e-3)


def test_a_sentence_keeps_what_is_its_own() -> None:
    """Two sentences of one voice are not made alike: both go through what all of the speech needs."""
    clip = measured(speech(400, 4))
    assert clip is not None
    matcher = BandMatcher(clip)
    low, high = speech(2000, 5), speech(2000, 6)
    high[:, 0] += 1.0
    matcher(low)
    assert float(matcher(high)[:, 0].mean() - low[:, 0].mean()) > 0.3


def test_too_little_speech_is_left_alone() -> None:
    clip = measured(speech(400, 7))
    assert clip is not None
    made = speech(10, 8)
    assert torch.equal(BandMatcher(clip)(made), made)
    assert measured(made) is None
    assert measured(made[:0]) is None
