from __future__ import annotations

import itertools

import numpy as np
import pytest
import torch
from torchmetrics.functional.audio import scale_invariant_signal_noise_ratio

from auriscope.errors import CorpusError
from auriscope.quality import Pool, QualityBatches, degrade, generate_pool, true_si_snr
from auriscope.quality.degrade import _KINDS, _SHARES, _Scene


def halves(mixture):
    """A separator of sorts: the mixture's slow and fast parts."""
    slow = (mixture + mixture.roll(1, -1) + mixture.roll(2, -1)) / 3
    return torch.stack([slow, mixture - slow], dim=1)


def swapped(mixture):
    return halves(mixture).flip(1)


@pytest.fixture
def pool(tmp_path, synthetic_mixer):
    mixer = synthetic_mixer(batch_size=3)
    return Pool(generate_pool(mixer, {"a/halves": halves, "b/swapped": swapped}, tmp_path / "pool", num_batches=2))


def test_a_pool_gives_back_what_the_separators_made(pool, synthetic_mixer):
    assert len(pool) == 12
    assert len({pool.separator(index) for index in range(len(pool))}) == 2
    for index in range(len(pool)):
        item = pool[index]
        made = (halves if "halves" in pool.separator(index) else swapped)(item["mixture"][None])[0]
        # 16 bits at each signal's own scale; the slow part is made from a mixture that was itself rounded.
        error = (item["estimates"] - made).abs().amax(-1) / made.abs().amax(-1)
        assert error.max() < 1e-3
        assert (item["mixture"] - item["sources"].sum(0)).std() == pytest.approx(0.002, rel=0.1)


def test_making_a_pool_again_makes_only_what_is_missing(tmp_path, synthetic_mixer):
    folder, calls = tmp_path / "pool", []

    def counted(mixture):
        calls.append(len(mixture))
        return halves(mixture)

    mixer = synthetic_mixer(batch_size=2)
    generate_pool(mixer, {"x": counted}, folder, num_batches=3)
    files = sorted(folder.glob("*/*.safetensors"))
    content = files[1].read_bytes()
    files[1].unlink()
    (files[0].parent / "000001.safetensors.99.part").write_bytes(b"left over from a killed run")
    generate_pool(mixer, {"x": counted}, folder, num_batches=3)
    assert len(calls) == 4
    assert files[1].read_bytes() == content
    generate_pool(mixer, {"x": counted, "y": counted}, folder, num_batches=3)
    assert len(calls) == 7
    assert len(Pool(folder)) == 12


def test_separators_of_a_pool_get_different_mixtures(pool):
    by_separator = {pool.separator(index): pool[index]["mixture"] for index in range(len(pool))}
    first, second = by_separator.values()
    assert not torch.equal(first, second)


def test_a_pool_of_other_mixtures_is_refused(tmp_path, synthetic_mixer):
    generate_pool(synthetic_mixer(batch_size=2), {"x": halves}, tmp_path, num_batches=1)
    with pytest.raises(CorpusError, match="other mixtures"):
        generate_pool(synthetic_mixer(batch_size=3), {"x": halves}, tmp_path, num_batches=1)


def test_what_is_not_a_pool_is_said_in_one_line(tmp_path, synthetic_mixer):
    with pytest.raises(CorpusError, match="not a pool"):
        Pool(tmp_path)
    folder = generate_pool(synthetic_mixer(batch_size=2), {"x": halves}, tmp_path / "p", num_batches=1)
    (damaged,) = folder.glob("*/*.safetensors")
    damaged.write_bytes(damaged.read_bytes()[:100])
    with pytest.raises(CorpusError, match="damaged"):
        Pool(folder)


def test_batches_follow_from_seed_and_index(pool):
    def make(seed):
        return QualityBatches(batch_size=4, sample_rate=8000, seconds=(0.5, 1.5), pools=(pool,), seed=seed)

    first, again, other = make(1).batch(5), make(1).batch(5), make(2).batch(5)
    assert all(torch.equal(first[name], again[name]) for name in first)
    assert first["mixture"].shape != other["mixture"].shape or not torch.equal(first["mixture"], other["mixture"])


def test_targets_are_the_true_si_snr_within_the_lengths(pool):
    source = QualityBatches(
        batch_size=4, sample_rate=8000, seconds=(0.5, 1.5), pools=(pool,), degraded_share=0.0, alone_share=0.0
    )
    batch = source.batch(0)
    assert len(set(batch["lengths"].tolist())) > 1
    assert batch["lengths"].max() == batch["mixture"].shape[-1]
    for row, length in enumerate(batch["lengths"].tolist()):
        assert not batch["estimates"][row, :, length:].any()
        # Search the pool for the example, and score it with another library, over both permutations.
        item = next(
            item
            for item in map(pool.__getitem__, range(len(pool)))
            if _contains(item["mixture"], batch["mixture"][row, :length])
        )
        start = _position(item["mixture"], batch["mixture"][row, :length])
        sources = item["sources"][:, start : start + length]
        estimates = batch["estimates"][row, :, :length]
        table = scale_invariant_signal_noise_ratio(estimates[:, None].expand(2, 2, -1), sources.expand(2, 2, -1))
        best = max(itertools.permutations(range(2)), key=lambda order: float(table[0, order[0]] + table[1, order[1]]))
        expected = torch.stack([table[0, best[0]], table[1, best[1]]])
        torch.testing.assert_close(batch["target_db"][row], expected, atol=2e-3, rtol=1e-3)


def _position(whole, part):
    """Where ``part`` begins in ``whole``, by its first samples."""
    return int((whole.unfold(0, 32, 1) - part[:32]).abs().amax(-1).argmin())


def _contains(whole, part):
    return float((whole.unfold(0, 32, 1) - part[:32]).abs().amax(-1).min()) == 0


def test_some_batches_hold_one_track_only(pool):
    source = QualityBatches(batch_size=3, sample_rate=8000, seconds=(0.5, 1.0), pools=(pool,), alone_share=0.5)
    counts = {source.batch(index)["estimates"].shape[1] for index in range(12)}
    assert counts == {1, 2}


def test_batches_are_resampled_to_the_estimators_rate(pool):
    plain, half = (
        QualityBatches(batch_size=4, sample_rate=rate, seconds=(0.5, 1.5), pools=(pool,)).batch(0)
        for rate in (8000, 4000)
    )
    assert abs(half["mixture"].shape[-1] - plain["mixture"].shape[-1] / 2) <= 1
    assert ((half["lengths"] - plain["lengths"] / 2).abs() <= 1).all()


def test_without_a_pool_every_example_is_degraded(synthetic_mixer):
    mixer = synthetic_mixer(batch_size=8)
    source = QualityBatches(batch_size=8, sample_rate=8000, seconds=(1.5, 1.5), mixer=mixer, alone_share=0.0)
    targets = torch.cat([source.batch(index)["target_db"].flatten() for index in range(8)])
    # The range that separators leave empty is covered, on both sides.
    assert targets.min() < -3
    assert targets.max() > 25
    assert ((targets > 0) & (targets < 20)).float().mean() > 0.4


@pytest.mark.parametrize("kind", sorted(_KINDS))
@pytest.mark.parametrize("with_estimates", [True, False])
def test_every_degradation_is_finite_repeatable_and_degrades(kind, with_estimates, synthetic_mixer):
    batch = synthetic_mixer(batch_size=1).batch(0)
    mixture, sources = batch["mixture"][0], batch["sources"][0]
    scene = _Scene(mixture, sources, halves(mixture[None])[0] if with_estimates else None)
    first, again = (_KINDS[kind](scene, np.random.default_rng(4)) for _ in range(2))
    assert torch.equal(first, again)
    assert first.shape == sources.shape
    assert first.isfinite().all()
    assert true_si_snr(first[None], sources[None])[0].min() < 52
    # The inputs stay as they were.
    assert torch.equal(batch["mixture"][0], mixture)
    assert torch.equal(batch["sources"].sum(1), sources.sum(0)[None])


def test_shares_of_the_degradations_sum_to_one_and_all_occur(synthetic_mixer):
    assert set(_SHARES) == set(_KINDS)
    assert sum(_SHARES.values()) == pytest.approx(1)
    batch = synthetic_mixer(batch_size=1, seconds=0.5).batch(0)
    scores = [
        float(
            true_si_snr(
                degrade(batch["mixture"][0], batch["sources"][0], np.random.default_rng(seed))[None], batch["sources"]
            )[0].min()
        )
        for seed in range(40)
    ]
    assert len({round(score, 3) for score in scores}) > 30


def test_more_leakage_gives_a_lower_true_si_snr(synthetic_mixer):
    sources = synthetic_mixer(batch_size=1).batch(0)["sources"]
    values = [float(true_si_snr(sources + gain * sources.flip(1), sources)[0].mean()) for gain in (0.03, 0.1, 0.3)]
    assert values[0] > values[1] > values[2]


def test_the_joint_permutation_decides_the_targets():
    generator = torch.Generator().manual_seed(0)
    sources = torch.randn(1, 3, 4000, generator=generator)
    estimates = sources[:, [2, 0, 1]] + 0.1 * torch.randn(1, 3, 4000, generator=generator)
    values, permutation = true_si_snr(estimates, sources)
    assert permutation.tolist() == [[2, 0, 1]]
    assert ((values > 19) & (values < 21)).all()


def test_a_silent_talker_has_no_si_snr():
    sources = torch.randn(1, 2, 4000, generator=torch.Generator().manual_seed(0))
    sources[0, 1] = 0
    values, _ = true_si_snr(sources + 0.1, sources)
    assert values.isnan().tolist() == [[False, True]]
