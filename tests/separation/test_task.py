"""The separation task: its loss, its figures, and recipes that do not fit together."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.functional.audio import permutation_invariant_training, scale_invariant_signal_noise_ratio

from auriscope.errors import RecipeError
from auriscope.metrics.spectral import compressed_spectral_error
from auriscope.separation.stems import absolute_objective
from auriscope.separation.task import SeparationOptions, SeparationTask, build, separation_metrics
from auriscope.training.config import TrainingConfig
from auriscope.training.recipe import ModelRecipe, Recipe, train
from auriscope.verbs.prepare import prepare


class Given(nn.Module):
    """A separator that answers with what it was given, scaled by a parameter."""

    def __init__(self, estimates: Tensor) -> None:
        super().__init__()
        self.estimates, self.scale = estimates, nn.Parameter(torch.ones(()))

    def forward(self, mixture: Tensor, lengths: Tensor | None = None) -> Tensor:
        return self.estimates * self.scale


def batch_of(sources: Tensor) -> dict[str, Tensor]:
    lengths = torch.full((len(sources),), sources.shape[-1])
    return {"mixture": sources.sum(1), "sources": sources, "lengths": lengths}


@pytest.fixture
def sources() -> Tensor:
    return torch.randn(3, 2, 4000, generator=torch.Generator().manual_seed(0))


def test_the_loss_is_minus_the_si_snr_of_the_best_permutation(sources: Tensor) -> None:
    estimates = (sources + 0.3 * torch.randn_like(sources)).flip(1)
    losses = SeparationTask(Given(estimates))(batch_of(sources), "main")  # type: ignore[arg-type]
    best, _ = permutation_invariant_training(estimates, sources, scale_invariant_signal_noise_ratio, eval_func="max")
    assert float(losses["loss"].detach()) == pytest.approx(-float(best.mean()), abs=1e-3)


def test_the_spectral_term_is_added_for_the_best_permutation(sources: Tensor) -> None:
    estimates = (sources + 0.3 * torch.randn(3, 2, 4000, generator=torch.Generator().manual_seed(1))).flip(1)
    plain, weighted = (
        SeparationTask(Given(estimates), SeparationOptions(spectral_weight=weight))(batch_of(sources), "main")  # type: ignore[arg-type]
        for weight in (0.0, 20.0)
    )
    level = sources.sum(1, keepdim=True).square().mean(-1, keepdim=True).sqrt()
    error = float(compressed_spectral_error(estimates.flip(1), sources, level=level).mean())
    assert float(weighted["spectral_error"]) == pytest.approx(error, rel=1e-3)
    assert float(weighted["loss"].detach()) == pytest.approx(float(plain["loss"].detach()) + 20.0 * error, rel=1e-3)
    assert "spectral_error" not in plain


def test_a_silent_talker_counts_for_nothing(sources: Tensor) -> None:
    silent = sources.clone()
    silent[0, 1] = 0
    estimates = silent + 0.1 * torch.randn_like(silent)
    task = SeparationTask(Given(estimates))  # type: ignore[arg-type]
    losses = task(batch_of(silent), "main")
    losses["loss"].backward()
    assert torch.isfinite(losses["loss"])
    assert torch.isfinite(losses["si_snri_db"])
    assert torch.isfinite(task.model.scale.grad)  # type: ignore[union-attr, arg-type]


def test_what_is_separated_well_enough_hardly_pulls(sources: Tensor) -> None:
    near = (sources + 1e-3 * torch.randn_like(sources)).requires_grad_()
    gradients = []
    for limit in (30.0, 100.0):
        task = SeparationTask(Given(near), SeparationOptions(max_si_snr_db=limit))  # type: ignore[arg-type]
        gradients.append(torch.autograd.grad(task(batch_of(sources), "main")["loss"], near)[0])
    capped, free = gradients
    # Near 60 dB, float32 cancels all but four digits of a gradient of about 5e-4.
    assert torch.allclose(capped, 1e-3 * free, atol=1e-6)


def test_figures_are_improvements_over_the_mixture(sources: Tensor) -> None:
    values = separation_metrics(Given(sources.flip(1)), batch_of(sources))
    assert (values["si_snri_db"] > 50).all()
    assert (values["sdri_db"] > 50).all()
    nothing = separation_metrics(Given(sources.sum(1, keepdim=True).expand(-1, 2, -1)), batch_of(sources))
    assert nothing["si_snri_db"].abs().max() < 1e-3
    assert nothing["sdri_db"].abs().max() < 1e-2


def test_data_that_do_not_fit_the_model_are_named() -> None:
    recipe = Recipe(
        task="separation",
        model=ModelRecipe("separation/bandsplit", {"window_length": 64, "bands": [[8, 4]], "num_sources": 3}),
        data={"corpora": ["synthetic"], "num_sources": 2},
    )
    with pytest.raises(RecipeError, match="2 sources at 16000 Hz, the model 3 at 16000 Hz"):
        build(recipe)
    with pytest.raises(RecipeError, match="did you mean 'corpora'"):
        build(dataclasses.replace(recipe, data={"corpra": ["synthetic"]}))


class Staged(Given):
    """A system of two stages that notes which stage it is asked for."""

    name = "separation/staged"
    num_stages = 2

    def losses(self, batch: dict[str, Tensor], stage: int) -> dict[str, Tensor]:
        return {"loss": self.scale * (stage + 1)}


def test_a_system_with_its_own_losses_goes_through_its_stages(sources: Tensor) -> None:
    task = SeparationTask(Staged(sources), SeparationOptions(stage_batches=(2,)))  # type: ignore[arg-type]
    losses = [float(task(batch_of(sources), "main")["loss"].detach()) for _ in range(3)]
    assert losses == [1, 1, 2]
    resumed = SeparationTask(Staged(sources), SeparationOptions(stage_batches=(2,)))  # type: ignore[arg-type]
    resumed.load_state_dict(task.state_dict())
    assert resumed.stage == 1


def test_stages_without_their_ends_are_refused(sources: Tensor) -> None:
    with pytest.raises(RecipeError, match="separation/staged is trained in 2 stages"):
        SeparationTask(Staged(sources))  # type: ignore[arg-type]


def test_fixed_sources_are_taken_in_the_order_in_which_they_come(sources: Tensor) -> None:
    near = sources + 0.1 * torch.randn_like(sources)
    batch, given = batch_of(sources), Given(near.flip(1))
    swapped, best = (
        SeparationTask(given, SeparationOptions(permutation=order))(batch, "main")["loss"].detach()  # type: ignore[arg-type]
        for order in ("fixed", "best")
    )
    assert best < -15 < 0 < swapped
    values = separation_metrics(Given(near.flip(1)), batch_of(sources), fixed=True)
    assert (values["si_snri_db"] < 0).all()
    assert (values["sdri_db"] < 0).all()


def test_the_absolute_loss_is_that_of_fixed_sources(sources: Tensor) -> None:
    options = SeparationOptions(permutation="fixed", loss="absolute")
    near = sources + 0.1 * torch.randn_like(sources)
    losses = SeparationTask(Given(near), options)(batch_of(sources), "main")  # type: ignore[arg-type]
    assert float(losses["loss"].detach()) == pytest.approx(float(absolute_objective(near, sources)))
    with pytest.raises(RecipeError, match="the loss 'absolute' needs the permutation 'fixed'"):
        SeparationOptions(loss="absolute")


def test_what_lies_after_the_end_of_a_mixture_does_not_count(sources: Tensor) -> None:
    batch = batch_of(sources)
    batch["lengths"] = torch.tensor([4000, 3000, 2000])
    near = sources + 0.3 * torch.randn_like(sources)
    task, valid = SeparationTask(Given(near)), torch.arange(4000) < batch["lengths"][:, None, None]  # type: ignore[arg-type]
    loss = task(batch, "main")["loss"]
    noisy = SeparationTask(Given(torch.where(valid, near, 1.0)))  # type: ignore[arg-type]
    assert torch.equal(noisy(batch, "main")["loss"], loss)
    parts = [
        SeparationTask(Given(near[row : row + 1, :, :end]))(batch_of(sources[row : row + 1, :, :end]), "main")["loss"]  # type: ignore[arg-type]
        for row, end in enumerate((4000, 3000, 2000))
    ]
    assert float(loss.detach()) == pytest.approx(float(sum(parts).detach()) / 3, abs=1e-4)  # type: ignore[union-attr]


TINY = {"window_length": 64, "bands": [[8, 4]], "num_channels": 8, "num_hidden": 8, "num_blocks": 1}


def prepared_recipe(folder: Path, **changes: Any) -> Recipe:
    values: dict[str, Any] = {
        "model": ModelRecipe("separation/bandsplit", {**TINY, "sample_rate": 8000}),
        "data": {"prepared": str(folder), "segment_seconds": 0.25, "batch_size": 2},
        "validation": {"sets": [str(folder)], "batch_size": 2},
        "training": TrainingConfig(
            max_steps=3, validate_every_steps=3, accelerator="cpu", checkpoint_every_minutes=None
        ),
    }
    return Recipe(task="separation", **{**values, **changes})


def test_a_recipe_trains_on_a_prepared_corpus(tmp_path: Path, trees: ModuleType) -> None:
    folder = prepare("wsj0-2mix", trees.build_wsj0mix(tmp_path / "corpus"), out=tmp_path / "manifest").out
    result = train(prepared_recipe(folder), tmp_path / "run")
    assert (result.step, result.best_step) == (3, 3)
    assert result.best_metric is not None
    _, batches, validation = build(prepared_recipe(folder, validation={"sets": [str(folder)], "max_seconds": 0.2}))
    assert batches.batch(0)["mixture"].shape == (2, 2000)
    passes = [[batch["mixture"] for batch in validation] for _ in range(2)]
    assert [mixture.shape[-1] for mixture in passes[0]] == [1600]
    assert all(torch.equal(one, other) for one, other in zip(*passes, strict=True))


def test_a_recipe_trains_on_stems(tmp_path: Path, trees: ModuleType) -> None:
    folder = prepare("musdb18", trees.build_musdb(tmp_path / "corpus", 0.3), out=tmp_path / "manifest").out
    stems = ModelRecipe("separation/bandsplit", {**TINY, "sample_rate": 44100, "num_sources": 4})
    fixed = {"permutation": "fixed", "loss": "absolute"}
    result = train(prepared_recipe(folder, model=stems, task_options=fixed), tmp_path / "run")
    assert result.step == 3
    with pytest.raises(RecipeError, match=r"need task_options\.permutation=fixed"):
        build(prepared_recipe(folder, model=stems))


def test_prepared_corpora_that_do_not_fit_the_model_are_named(tmp_path: Path, trees: ModuleType) -> None:
    two = prepare("wsj0-2mix", trees.build_wsj0mix(tmp_path / "two"), out=tmp_path / "m2").out
    three = prepare("wsj0-3mix", trees.build_wsj0mix(tmp_path / "three", 3), out=tmp_path / "m3").out
    with pytest.raises(RecipeError, match="data has 3 sources at 8000 Hz, the model 2 at 8000 Hz"):
        build(prepared_recipe(three))
    with pytest.raises(RecipeError, match="m3 has 3 sources and the model 2; name another"):
        build(prepared_recipe(two, validation={"sets": [str(three)]}))
    with pytest.raises(RecipeError, match="unknown key 'dynamic_mixin'; did you mean 'dynamic_mixing'"):
        build(prepared_recipe(two, data={"prepared": str(two), "dynamic_mixin": True}))
