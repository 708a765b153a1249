from __future__ import annotations

import itertools
import math

import numpy as np
import pytest
import torch
from scipy.stats import pearsonr

from auriscope.errors import RecipeError
from auriscope.quality import QualityBatches, RealMConfig, RealMEstimator, SiSnrConfig, SiSnrEstimator, coverage
from auriscope.quality.calibration import Calibration, input_statistics
from auriscope.quality.task import QualityData, QualityTask, calibrate, separator_function
from auriscope.training.recipe import read_recipe
from auriscope.training.task import Task


@pytest.fixture(scope="module")
def trained(synthetic_mixer):
    """Our estimator, small, after a few seconds of training on degraded synthetic voices, and calibrated."""
    torch.manual_seed(0)
    config = SiSnrConfig(
        sample_rate=8000, num_bands=32, num_maps=(12, 16), num_channels=48, num_blocks=2, num_embedding=16
    )
    task = QualityTask(SiSnrEstimator(config))
    source = _batches(synthetic_mixer, seed=0)
    optimizer = torch.optim.AdamW(task.parameters(), lr=3e-3)
    for step in range(120):
        for group in optimizer.param_groups:
            group["lr"] = 3e-3 * min(1, (step + 1) / 20) * (1 - step / 130)
        loss = task(source.batch(step), "main")["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(task.parameters(), 1.0)
        optimizer.step()
    held_out = _batches(synthetic_mixer, seed=1)
    calibrate(task.model.eval(), map(source.batch, range(20)), map(held_out.batch, range(20)))
    return task.model


def _batches(synthetic_mixer, seed):
    mixer = synthetic_mixer(batch_size=12, seed=seed)
    return QualityBatches(batch_size=12, sample_rate=8000, seconds=(1.0, 1.5), mixer=mixer, alone_share=0.0, seed=seed)


def _unseen(synthetic_mixer, model, num_batches=20):
    source = _batches(synthetic_mixer, seed=2)
    task = QualityTask(model)
    errors, expected, blind, true = [], [], [], []
    for index in range(num_batches):
        batch = source.batch(index)
        prediction = model.predict(batch["mixture"], batch["estimates"], batch["lengths"])
        target = task.target(batch)
        errors.append(prediction.score_db - target)
        expected.append(prediction.expected_error_db)
        blind.append(prediction.score_db)
        true.append(target)
    return tuple(torch.cat(parts).flatten() for parts in (errors, expected, blind, true))


def test_the_trained_estimator_knows_more_than_a_constant(trained, synthetic_mixer):
    errors, _, blind, true = _unseen(synthetic_mixer, trained)
    assert pearsonr(blind, true).statistic > 0.5
    assert errors.abs().mean() < 0.85 * (true - true.median()).abs().mean()


def test_more_leakage_gives_a_lower_estimate(trained, synthetic_mixer):
    batch = synthetic_mixer(batch_size=8, seed=5).batch(0)
    sources = batch["sources"]
    means = [
        float(trained.predict(batch["mixture"], sources + gain * sources.flip(1)).score_db.mean())
        for gain in (0.05, 0.2, 0.5, 0.9)
    ]
    assert all(before > after for before, after in itertools.pairwise(means)), means


def test_expected_errors_are_calibrated_on_unseen_mixtures(trained, synthetic_mixer):
    errors, expected, _, _ = _unseen(synthetic_mixer, trained)
    assert float(expected.mean()) == pytest.approx(float(errors.abs().mean()), rel=0.25)
    for probability in (0.5, 0.8):
        assert coverage(errors, expected, probability) == pytest.approx(probability, abs=0.1)
    # And they tell the sure from the unsure: the half with the smaller expected error errs less.
    sure = expected < expected.median()
    assert errors[sure].abs().mean() < errors[~sure].abs().mean()


def test_known_input_is_in_range_and_strange_input_is_not(trained, synthetic_mixer):
    batch = _batches(synthetic_mixer, seed=2).batch(0)
    known = trained.predict(batch["mixture"], batch["estimates"], batch["lengths"])
    assert known.in_range.float().mean() > 0.9
    # Too long, digitally silent for the most part, and far too quiet: each named.
    from auriscope.quality import REASONS

    long = torch.randn(1, 8000 * 6, generator=torch.Generator().manual_seed(0))
    sparse = torch.nn.functional.pad(0.1 * long[:, :1000], (0, 11000))
    for mixture, reason in ((long, "duration"), (sparse, "silence"), (1e-6 * long[:, :12000], "level")):
        prediction = trained.predict(mixture, mixture[:, None].repeat(1, 2, 1))
        assert not prediction.in_range.any()
        assert prediction.outside[..., REASONS.index(reason)].all(), reason


def test_coverage_of_a_laplace_variable_is_its_probability():
    draws = torch.distributions.Laplace(0.0, 2.0).sample((20_000,))
    assert coverage(draws, torch.full_like(draws, 2.0), 0.9) == pytest.approx(0.9, abs=0.02)
    assert coverage(draws, torch.full_like(draws, 0.5), 0.9) < 0.6


def test_calibration_finds_the_factor_and_the_outliers():
    generator = torch.Generator().manual_seed(0)
    mixing = torch.randn(6, 6, generator=generator)
    known = torch.randn(2000, 6, generator=generator) @ mixing + 3
    calibration = Calibration(6)
    assert not calibration.outside(known, torch.zeros(2000, 4)).any()
    calibration.fit_inputs(known, torch.zeros(2000, 4))
    scale = torch.rand(2000, generator=generator) + 0.5
    calibration.fit_errors(3 * scale * torch.randn(2000, generator=generator).sign(), scale, known)
    assert float(calibration.error_factor) == pytest.approx(3.0, rel=1e-4)
    fresh = torch.randn(500, 6, generator=generator) @ mixing + 3
    assert calibration.outside(fresh, torch.zeros(500, 4)).float().mean() < 0.02
    assert calibration.outside(20 * fresh, torch.zeros(500, 4))[:, 0].float().mean() > 0.9


def test_input_statistics_measure_what_they_say():
    time = torch.arange(16000) / 8000
    tone = torch.sin(2 * math.pi * 200 * time)
    mixture = torch.stack([0.1 * tone, torch.cat([0.1 * tone[:4000], torch.zeros(12000)])])
    estimates = 0.5 * mixture[:, None]
    values = input_statistics(mixture, estimates, torch.tensor([16000, 16000]), 8000)[:, 0]
    torch.testing.assert_close(values[0], torch.tensor([-23.01, -6.02, 2.0, 0.0]), atol=0.01, rtol=0)
    assert float(values[1, 3]) == pytest.approx(0.75, abs=0.02)


def test_task_follows_the_protocol_and_clips_its_targets():
    task = QualityTask(RealMEstimator(RealMConfig(**RealMEstimator.Tiny)))
    assert isinstance(task, Task)
    assert set(task.phases()) == {"main"}
    batch = {"target_db": torch.tensor([[-20.0, 4.0], [50.0, math.nan]])}
    assert task.target(batch).tolist() == [[0.0, 4.0], [10.0, 0.0]]


def test_losses_and_metrics_are_finite_with_a_silent_talker():
    task = QualityTask(SiSnrEstimator(SiSnrConfig(**SiSnrEstimator.Tiny)))
    generator = torch.Generator().manual_seed(0)
    batch = {
        "mixture": torch.randn(2, 4000, generator=generator),
        "estimates": torch.randn(2, 2, 4000, generator=generator),
        "lengths": torch.tensor([4000, 3000]),
        "target_db": torch.tensor([[5.0, math.nan], [math.nan, math.nan]]),
    }
    losses = task(batch, "main")
    losses["loss"].backward()
    assert all(value.isfinite() for value in losses.values())
    values = task.evaluate(batch)
    assert values["absolute_error_db"].isnan().tolist() == [False, True]


def test_a_separator_of_another_rate_is_wrapped():
    class Half(torch.nn.Module):
        config = type("Config", (), {"sample_rate": 8000})()
        device = torch.device("cpu")

        def forward(self, mixture):
            assert mixture.shape[-1] == 500
            return torch.stack([mixture, -mixture], 1)

    time = torch.arange(1000) / 16000
    mixture = torch.sin(2 * math.pi * 500 * time)[None]
    estimates = separator_function(Half(), 16000)(mixture)
    assert estimates.shape == (1, 2, 1000)
    inner = slice(100, 900)
    torch.testing.assert_close(estimates[0, 0, inner], mixture[0, inner], atol=0.02, rtol=0)


@pytest.mark.parametrize("values", [{"seconds": (2.0, 9.0)}, {"batch_size": 0}, {"separators": ("x",)}])
def test_wrong_data_settings_are_refused(values):
    with pytest.raises(RecipeError, match=r"^data\."):
        QualityData(**values)


def test_a_recipe_trains_continues_and_calibrates(tmp_path, monkeypatch):
    """The whole way on synthetic voices: a pool made by two separators, training, weights that calibrate and load."""
    from auriscope.pretrained import load
    from auriscope.quality.task import finish
    from auriscope.separation import ConvTasNet, ConvTasNetConfig
    from auriscope.training.checkpoints import load_weights
    from auriscope.training.recipe import build_model, train

    monkeypatch.setenv("AURISCOPE_CACHE", str(tmp_path / "cache"))
    for number in range(2):
        torch.manual_seed(number)
        ConvTasNet(ConvTasNetConfig(**ConvTasNet.Tiny, sample_rate=8000)).save_pretrained(tmp_path / f"stage{number}")
    (tmp_path / "recipe.yaml").write_text(
        f"""
        task: quality
        model:
          architecture: quality/sisnr
          config: {{sample_rate: 8000, num_bands: 16, num_maps: [4, 4], num_channels: 12, num_blocks: 2}}
        data:
          pool: {tmp_path}/pool
          separators: [{tmp_path}/stage0, {tmp_path}/stage1]
          train_batches_per_separator: 2
          valid_batches_per_separator: 1
          batch_size: 4
          seconds: [0.5, 1.0]
          mixing: {{corpora: [synthetic], sample_rate: 8000, segment_seconds: 1.0, batch_size: 4}}
        validation: {{num_batches: 2}}
        training: {{max_steps: 3, validate_every_steps: 3, accelerator: cpu}}
        """
    )
    recipe = read_recipe(tmp_path / "recipe.yaml")
    result = train(recipe, tmp_path / "run")
    assert result.step == 3
    assert len(list((tmp_path / "pool").glob("*/*/*.safetensors"))) == 6
    model = build_model(recipe)
    assert result.best is not None
    load_weights(result.best, model)
    finish(recipe, model, num_batches=3)
    assert float(model.calibration.error_factor) != 1.0
    model.save_pretrained(tmp_path / "model")
    mixture = 0.05 * torch.from_numpy(np.random.default_rng(0).standard_normal((1, 8000), dtype=np.float32))
    assert load(tmp_path / "model")(mixture, mixture[:, None]).isfinite().all()
