from __future__ import annotations

import types
from collections.abc import Iterator

import numpy as np
import pytest
import torch

from auriscope.errors import AuriscopeError
from auriscope.separation.joining import JoiningConfig, VoiceProfile
from auriscope.separation.long import (
    LongConfig,
    cut_into_chunks,
    match_level,
    overlap_add,
    separate_chunk,
    separate_stream,
    separate_waveform,
)

RATE = 8000
CONFIG = LongConfig(chunk_seconds=3.0, overlap_seconds=1.0, whole_seconds=0.0)
HOP = 2 * RATE


def voice(seconds: float, pitch: float, formants: tuple[float, ...], seed: int) -> np.ndarray:
    """A buzz with formants, a wandering pitch and a syllable rhythm."""
    generator = np.random.default_rng(seed)
    time = np.arange(round(seconds * RATE)) / RATE
    knots = generator.normal(0.0, 0.08, int(seconds * 3) + 3)
    frequency = pitch * 2.0 ** np.interp(time * 3, np.arange(len(knots)), knots)
    phase = 2.0 * np.pi * np.cumsum(frequency) / RATE
    waveform = np.zeros_like(time)
    for harmonic in range(1, int(3800 / pitch)):
        gain = sum(1.0 / (1.0 + ((harmonic * frequency - formant) / 120.0) ** 2) for formant in formants) + 0.01
        waveform += np.where(harmonic * frequency < 3900, gain, 0.0) * np.cos(harmonic * phase + harmonic)
    syllables = np.maximum(0.0, np.sin(2.0 * np.pi * 4.0 * time + generator.uniform(0.0, 6.0))) ** 0.5
    waveform *= syllables
    return (0.1 * waveform / waveform.std()).astype(np.float32)


VOICES = ((110.0, (500.0, 1400.0, 2400.0)), (210.0, (750.0, 1900.0, 3000.0)), (150.0, (350.0, 1000.0, 3500.0)))


def conversation(turns: list[tuple[float, str]], num_sources: int = 2) -> np.ndarray:
    """Build sources from (seconds, who speaks) with who any of "", "a", "b", "ab", ...: (sources, time)."""
    parts = []
    for number, (seconds, who) in enumerate(turns):
        part = np.zeros((num_sources, round(seconds * RATE)), np.float32)
        for source, name in enumerate("abc"[:num_sources]):
            if name in who:
                part[source] = voice(seconds, *VOICES[source], seed=10 * number + source)
        parts.append(part)
    return np.concatenate(parts, axis=1)


class Oracle:
    """A perfect separator with every fault that stitching must mend: it knows the sources, looks up which stretch it
    is given, and returns it in a random order and at random scales, with some of every voice in every output."""

    def __init__(self, sources, seed=0, scales=(1.0, 1.0), leak=0.0, noise=0.0, hop=HOP, ids=None):
        self.sources, self.mixture, self.hop = sources, sources.sum(axis=0), hop
        self.config = types.SimpleNamespace(sample_rate=RATE, num_sources=len(sources))
        self.generator = np.random.default_rng(seed)
        self.scales, self.leak, self.noise = scales, leak, noise
        self.orders: list[tuple[int, ...]] = []

    def __call__(self, mixture: torch.Tensor) -> torch.Tensor:
        given = mixture[0].numpy()
        best, found = -1.0, None
        for start in range(0, max(1, self.mixture.shape[-1]), self.hop):
            stretch = self.mixture[start : start + len(given)]
            product = float(stretch @ given[: len(stretch)])
            norm = float(np.linalg.norm(stretch) * np.linalg.norm(given))
            if norm > 0.0 and product / norm > best:
                best, found = product / norm, start
        assert best > 0.9
        estimates = np.zeros((len(self.sources), len(given)), np.float32)
        stretch = self.sources[:, found : found + len(given)]
        estimates[:, : stretch.shape[1]] = (1.0 - self.leak) * stretch + self.leak * stretch.sum(axis=0)
        estimates += self.noise * self.generator.standard_normal(estimates.shape).astype(np.float32)
        order = self.generator.permutation(len(self.sources))
        self.orders.append(tuple(order))
        scales = self.generator.uniform(*self.scales, len(self.sources)).astype(np.float32)
        return torch.from_numpy(estimates[order] * scales[:, None])[None]


class Toy:
    """A separator from a function (batch, time) -> (batch, sources, time)."""

    def __init__(self, function, num_sources=2, sample_rate=RATE):
        self.config = types.SimpleNamespace(sample_rate=sample_rate, num_sources=num_sources)
        self.function = function

    def __call__(self, mixture: torch.Tensor) -> torch.Tensor:
        return self.function(mixture)


def halves() -> Toy:
    return Toy(lambda mixture: torch.stack([0.7 * mixture, 0.3 * mixture], dim=1))


def swapped_fraction(tracks: np.ndarray, sources: np.ndarray) -> float:
    """Share of the active 50 ms blocks in which another order of the tracks would be closer to the sources than the
    order that is best over the whole recording."""
    size = RATE // 20
    count = tracks.shape[1] // size
    orders = [torch.tensor(o).numpy() for o in ([0, 1], [1, 0])] if len(sources) == 2 else None
    if orders is None:
        from itertools import permutations

        orders = [np.array(o) for o in permutations(range(len(sources)))]
    errors = []
    for order in orders:
        difference = (tracks[order] - sources)[:, : count * size].reshape(len(sources), count, size)
        errors.append((difference**2).sum(axis=(0, 2)))
    energy = (sources[:, : count * size].reshape(len(sources), count, size) ** 2).sum(axis=(0, 2))
    active = energy > 1e-4 * energy.max()
    errors = np.array(errors)[:, active]
    best = errors.sum(axis=1).argmin()
    return float(np.mean(errors[best] > errors.min(axis=0) + 1e-6 * energy[active]))


BUSY = [(20.0, "ab")]
TURNS = [(4.0, "ab"), (5.0, "a"), (6.0, "b"), (4.0, "ab"), (7.0, "b"), (5.0, "a"), (4.0, "ab")]
SILENCES = [
    (5.0, "ab"), (9.0, ""), (4.0, "b"), (9.0, ""), (4.0, "a"), (8.0, ""), (6.0, "ab"), (7.0, ""), (5.0, "b"),
    (11.0, ""), (1.0, "b"), (0.5, ""), (4.0, "a"),
]  # fmt: skip
LATE = [(6.0, "a"), (9.0, ""), (5.0, "b"), (9.0, ""), (5.0, "a"), (9.0, ""), (5.0, "ab")]


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("turns", [BUSY, TURNS, SILENCES, LATE], ids=["busy", "turns", "silences", "late"])
def test_talkers_never_swap_when_every_chunk_is_permuted(turns, seed):
    sources = conversation(turns)
    oracle = Oracle(sources, seed=seed)
    tracks = separate_waveform(sources.sum(axis=0), oracle, sample_rate=RATE, config=CONFIG)
    assert len(set(oracle.orders)) == 2
    assert swapped_fraction(tracks, sources) == 0.0


@pytest.mark.parametrize("seed", [0, 1])
def test_leaks_noise_and_random_scales_do_not_swap_talkers(seed):
    sources = conversation(SILENCES)
    oracle = Oracle(sources, seed=seed, scales=(0.2, 5.0), leak=0.15, noise=1e-3)
    tracks = separate_waveform(sources.sum(axis=0), oracle, sample_rate=RATE, config=CONFIG)
    assert swapped_fraction(tracks, sources) < 0.002


def test_three_talkers_never_swap():
    turns = [(5.0, "abc"), (5.0, "ab"), (5.0, "bc"), (8.0, ""), (5.0, "ac"), (8.0, ""), (5.0, "b"), (5.0, "abc")]
    sources = conversation(turns, 3)
    oracle = Oracle(sources, seed=3)
    tracks = separate_waveform(sources.sum(axis=0), oracle, sample_rate=RATE, config=CONFIG)
    assert len(set(oracle.orders)) > 3
    assert swapped_fraction(tracks, sources) == 0.0


def test_the_fingerprint_that_is_handed_in_decides_across_silence():
    sources = conversation([(5.0, "ab"), (9.0, ""), (4.0, "b"), (9.0, ""), (4.0, "a")])
    calls = []

    def pitch_only(waveform, sample_rate):
        calls.append(sample_rate)
        spectrum = np.abs(np.fft.rfft(waveform * np.hanning(len(waveform)), 4 * sample_rate))
        return np.array([spectrum[4 * 80 : 4 * 140].sum(), spectrum[4 * 170 : 4 * 260].sum()])

    oracle = Oracle(sources, seed=1)
    mixture = sources.sum(axis=0)
    config = LongConfig(3.0, 1.0, 0.0, joining=JoiningConfig(one_voice=0.95))
    tracks = separate_waveform(mixture, oracle, sample_rate=RATE, config=config, fingerprint=pitch_only)
    assert set(calls) == {RATE}
    assert swapped_fraction(tracks, sources) == 0.0

    def constant(waveform, sample_rate):
        return np.ones(2)

    blind = [
        swapped_fraction(
            separate_waveform(
                mixture, Oracle(sources, seed=seed), sample_rate=RATE, config=config, fingerprint=constant
            ),
            sources,
        )
        for seed in range(4)
    ]
    assert max(blind) > 0.1


class Sharing(Oracle):
    """Separates two at once; who speaks alone is shared out over both outputs, unevenly and differently every time."""

    def __call__(self, mixture: torch.Tensor) -> torch.Tensor:
        estimates = super().__call__(mixture)
        powers = estimates.square().sum(-1)[0]
        if powers.min() < 1e-3 * powers.max():
            share = self.generator.uniform(0.3, 0.7, (2, 1)).astype(np.float32)
            estimates = estimates.sum(1, keepdim=True) * torch.from_numpy(share / share.sum())
        return estimates


@pytest.mark.parametrize("seed", [0, 1, 2])
def test_who_speaks_alone_is_on_one_track(seed):
    sources = conversation([(6.0, "ab"), (9.0, ""), (12.0, "a"), (9.0, ""), (12.0, "b"), (9.0, ""), (6.0, "ab")])
    oracle = Sharing(sources, seed=seed)
    tracks = separate_waveform(sources.sum(axis=0), oracle, sample_rate=RATE, config=CONFIG)
    assert swapped_fraction(tracks, sources) == 0.0
    alone = tracks[:, 17 * RATE : 25 * RATE]
    powers = np.sort((alone**2).sum(axis=1))
    assert powers[0] < 1e-3 * powers[1]


def test_two_who_speak_at_once_are_never_put_on_one_track():
    sources = conversation(BUSY)
    leaking = Oracle(sources, seed=1, leak=0.45)
    tracks = separate_waveform(sources.sum(axis=0), leaking, sample_rate=RATE, config=CONFIG)
    powers = (tracks**2).sum(axis=1)
    assert powers.min() > 0.1 * powers.max()


def test_who_comes_after_the_voices_were_clustered_gets_a_track():
    sources = conversation([(14.0, "a"), (9.0, ""), (12.0, "b"), (9.0, ""), (6.0, "a"), (9.0, ""), (8.0, "b")])
    config = LongConfig(3.0, 1.0, 0.0, joining=JoiningConfig(begin_seconds=10.0))
    tracks = separate_waveform(sources.sum(axis=0), Sharing(sources), sample_rate=RATE, config=config)
    later = slice(44 * RATE, None)
    assert swapped_fraction(tracks[:, later], sources[:, later]) == 0.0


@pytest.mark.parametrize("scales", [(0.01, 0.02), (0.1, 10.0), (-3.0, -1.0)])
def test_the_level_of_the_recording_is_kept_whatever_the_network_scales(scales):
    sources = 3.0 * conversation(TURNS)
    tracks = separate_waveform(sources.sum(axis=0), Oracle(sources, scales=scales), sample_rate=RATE, config=CONFIG)
    error = np.sum((tracks.sum(axis=0) - sources.sum(axis=0)) ** 2) / np.sum(sources.sum(axis=0) ** 2)
    assert error < 1e-4


def test_tracks_are_neither_clipped_nor_rescaled_to_their_peaks():
    sources = conversation(BUSY) * np.array([[20.0], [0.01]], np.float32)
    tracks = separate_waveform(sources.sum(axis=0), Oracle(sources), sample_rate=RATE, config=CONFIG)
    peaks = np.sort(np.abs(tracks).max(axis=1))
    expected = np.sort(np.abs(sources).max(axis=1))
    assert expected[1] > 2.0
    np.testing.assert_allclose(peaks, expected, rtol=0.02)


def test_one_talker_shared_over_two_outputs_keeps_the_sum():
    sources = conversation([(10.0, "a")])
    tracks = separate_waveform(sources.sum(axis=0), halves(), sample_rate=RATE, config=CONFIG)
    np.testing.assert_allclose(tracks.sum(axis=0), sources.sum(axis=0), atol=2e-3 * np.abs(sources).max())


def test_consistent_tracks_sum_to_the_mixture():
    generator = np.random.default_rng(0)
    sources = conversation(TURNS)
    mixture = sources.sum(axis=0) + generator.normal(0.0, 0.01, sources.shape[1]).astype(np.float32)
    config = LongConfig(3.0, 1.0, 0.0, consistent=True)
    tracks = separate_waveform(mixture, Oracle(sources, noise=0.01), sample_rate=RATE, config=config)
    np.testing.assert_allclose(tracks.sum(axis=0), mixture, atol=1e-5)


@pytest.mark.parametrize("num_samples", [1, 10, 100, 2 * RATE, 3 * RATE, 3 * RATE + 1, 5 * RATE, 5 * RATE + 3])
@pytest.mark.parametrize("sample_rate", [8000, 16000, 44100, 6000])
def test_every_length_comes_back_at_every_rate(num_samples, sample_rate):
    mixture = np.random.default_rng(0).normal(0.0, 0.1, num_samples).astype(np.float32)
    tracks = separate_waveform(mixture, halves(), sample_rate=sample_rate, config=CONFIG)
    assert tracks.shape == (2, num_samples)
    assert tracks.dtype == np.float32
    assert np.isfinite(tracks).all()


def test_nothing_in_nothing_out():
    assert separate_waveform(np.zeros(0, np.float32), halves(), sample_rate=RATE).shape == (2, 0)


def test_digital_silence_stays_silence_and_does_not_reach_the_model():
    def explode(mixture):
        raise AssertionError("called")

    tracks = separate_waveform(np.zeros(5 * RATE, np.float32), Toy(explode), sample_rate=RATE, config=CONFIG)
    assert tracks.shape == (2, 5 * RATE)
    assert not tracks.any()


def test_resampling_there_and_back_keeps_time_and_level():
    time = np.arange(3 * 44100) / 44100
    mixture = (0.5 * np.sin(2 * np.pi * 440.0 * time)).astype(np.float32)
    tracks = separate_waveform(mixture, halves(), sample_rate=44100, config=CONFIG)
    middle = slice(4410, -4410)
    np.testing.assert_allclose(tracks.sum(axis=0)[middle], mixture[middle], atol=2e-3)


def test_the_result_does_not_depend_on_the_blocks():
    sources = conversation([(6.0, "ab")])
    mixture = sources.sum(axis=0)
    whole = separate_waveform(mixture, Oracle(sources), sample_rate=RATE, config=CONFIG)
    blocks = [mixture[start : start + 777] for start in range(0, len(mixture), 777)]
    parts = list(separate_stream(blocks, Oracle(sources), sample_rate=RATE, config=CONFIG))
    np.testing.assert_array_equal(np.concatenate(parts, axis=1), whole)


def test_the_stream_reads_no_further_ahead_than_it_must():
    """What waits is what is heard before voices are clustered, and a chunk."""
    consumed = 0

    def blocks() -> Iterator[np.ndarray]:
        nonlocal consumed
        generator = np.random.default_rng(0)
        for _ in range(300):
            consumed += 1
            yield generator.normal(0.0, 1e-3, RATE).astype(np.float32)

    produced = 0
    ahead = 0.0
    for block in separate_stream(blocks(), halves(), sample_rate=RATE, config=CONFIG):
        produced += block.shape[1]
        ahead = max(ahead, consumed - produced / RATE)
    assert produced == 300 * RATE
    assert ahead <= CONFIG.joining.begin_seconds + 2 * CONFIG.chunk_seconds_for(2)


def test_chunks_cover_the_stream_and_windows_sum_to_one():
    ones = np.ones(10_007, np.float32)
    chunks = [separate_chunk(s, m, halves(), CONFIG) for s, m in cut_into_chunks([ones], 1000, 700)]
    assert [chunk.start for chunk in chunks] == list(range(0, 700 * len(chunks), 700))
    assert all(len(chunk.mixture) > 300 for chunk in chunks)
    total = np.concatenate(list(overlap_add(chunks, 300)), axis=1).sum(axis=0)
    np.testing.assert_allclose(total, ones, atol=1e-5)


def test_match_level_finds_gains_and_signs():
    generator = np.random.default_rng(0)
    sources = generator.normal(size=(3, 4000)).astype(np.float32)
    mixture = sources.sum(axis=0)
    scaled = sources * np.array([[0.01], [-5.0], [300.0]], np.float32)
    np.testing.assert_allclose(match_level(scaled, mixture), sources, atol=0.02)
    assert not match_level(np.zeros((2, 100), np.float32), np.ones(100, np.float32)).any()


def test_a_model_that_returns_nan_or_a_wrong_shape_is_named():
    mixture = np.ones(RATE, np.float32)
    bad = Toy(lambda mixture: torch.full((1, 2, mixture.shape[1]), torch.nan))
    with pytest.raises(AuriscopeError, match="NaN"):
        separate_waveform(mixture, bad, sample_rate=RATE)
    with pytest.raises(AuriscopeError, match="returned"):
        separate_waveform(mixture, Toy(lambda mixture: mixture[:, None]), sample_rate=RATE)


def test_a_short_recording_is_separated_whole_and_a_longer_one_in_chunks():
    config = LongConfig(chunk_seconds=2.0, overlap_seconds=0.5, whole_seconds=5.0)
    for seconds, expected in ((5.0, [5.0]), (5.5, [2.0, 2.0, 2.0, 1.0])):
        seen: list[float] = []

        def halve(mixture: torch.Tensor, seen: list[float] = seen) -> torch.Tensor:
            seen.append(mixture.shape[1] / RATE)
            return torch.stack((mixture, mixture), dim=1) / 2

        mixture = np.random.default_rng(0).normal(0.0, 0.1, round(seconds * RATE)).astype(np.float32)
        blocks = [mixture[start : start + 999] for start in range(0, len(mixture), 999)]
        tracks = np.concatenate(list(separate_stream(blocks, Toy(halve), sample_rate=RATE, config=config)), axis=1)
        assert seen == expected
        np.testing.assert_allclose(tracks.sum(axis=0), mixture, atol=1e-5)


def test_a_model_of_one_source_sees_more_at_once():
    assert (LongConfig().chunk_seconds_for(1), LongConfig().chunk_seconds_for(3)) == (8.0, 4.0)
    assert LongConfig(chunk_seconds=6.0).chunk_seconds_for(1) == 6.0


def test_an_overlap_beyond_half_a_chunk_is_refused():
    with pytest.raises(ValueError, match="overlap_seconds"):
        LongConfig(chunk_seconds=4.0, overlap_seconds=3.0)


def test_a_profile_follows_the_voice_and_forgets_slowly():
    profile = VoiceProfile(limit_seconds=10.0)
    assert profile.similarity(np.array([1.0, 0.0])) is None
    profile.update(np.array([1.0, 0.0]), 5.0)
    profile.update(np.array([0.0, 1.0]), 5.0)
    np.testing.assert_allclose(profile.mean, [0.5, 0.5])
    for _ in range(20):
        profile.update(np.array([0.0, 1.0]), 5.0)
    assert profile.seconds == 10.0
    assert profile.similarity(np.array([0.0, 1.0])) > 0.999
