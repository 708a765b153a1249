from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from auriscope.errors import RecipeError
from auriscope.separation import ConvTasNet
from auriscope.training.checkpoints import save_weights
from auriscope.training.recipe import ModelRecipe, Recipe, read_recipe
from auriscope.verbs.train import finished


@pytest.mark.parametrize("share", [0.0, 0.25])
def test_a_share_of_the_weights_that_a_run_began_with_is_in_its_model(tmp_path: Path, share: float) -> None:
    began, trained = (ConvTasNet.from_config(ConvTasNet.Tiny) for _ in range(2))
    began.save_pretrained(tmp_path / "began")
    save_weights(tmp_path / "best.safetensors", trained.state_dict(), {"step": 1})
    model = ModelRecipe(ConvTasNet.name, dict(ConvTasNet.Tiny))
    recipe = Recipe("separation", model, init_from=str(tmp_path / "began"), init_share=share)
    found = finished(recipe, tmp_path / "best.safetensors").state_dict()
    assert any(not torch.equal(value, trained.state_dict()[name]) for name, value in found.items()) == (share > 0)
    for name, value in found.items():
        expected = share * began.state_dict()[name] + (1 - share) * trained.state_dict()[name]
        torch.testing.assert_close(value, expected)


def test_a_share_needs_weights_to_begin_with_and_leaves_something_to_learn(tmp_path: Path) -> None:
    recipe = Recipe("separation", ModelRecipe(ConvTasNet.name), init_from="separation/bandsplit.mini")
    for share in (-0.1, 1.0, float("nan")):
        with pytest.raises(RecipeError, match=r"init_share must lie in \[0, 1\)"):
            dataclasses.replace(recipe, init_share=share)
    path = tmp_path / "recipe.yaml"
    path.write_text("task: separation\nmodel: {architecture: separation/convtasnet}\ninit_share: 0.5\n")
    with pytest.raises(RecipeError, match="init_share needs init_from"):
        read_recipe(path)
