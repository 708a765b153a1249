"""The separation task: its loss, its figures, and recipes that do not fit together."""

from __future__ import annotations

import dataclasses

import pytest
import torch
from torch import Tensor, nn
from torchmetrics.functional.audio import permutation_invariant_training, scale_invariant_signal_noise_ratio

from auriscope.errors import RecipeError
from auriscope.separation.task import SeparationOptions, SeparationTask, build, separation_metrics
from auriscope.training.recipe import ModelRecipe, Recipe


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
    assert torch.allclose(capped, 1e-3 * free)


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
