from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import pytest
import torch

from auriscope.errors import CheckpointError
from auriscope.pretrained import Model, model_class
from auriscope.pretrained.model import config_from_values, registered


@dataclass(frozen=True)
class Config:
    rate: int = 8000
    gain: float = 1.0
    shape: tuple[tuple[int, ...], ...] = ((1,),)
    mode: Literal["a", "b"] = "a"
    limit: int | None = None


def test_values_are_checked_and_lists_become_tuples() -> None:
    values = {"rate": 16000, "gain": 2, "shape": [[1, 2], [3]], "mode": "b", "limit": None}
    config = config_from_values(Config, values, "x")
    assert config == Config(16000, 2.0, ((1, 2), (3,)), "b", None)
    assert isinstance(config.gain, float)


@pytest.mark.parametrize(
    ("key", "value"),
    [("rate", "8000"), ("rate", 8000.5), ("rate", True), ("rate", None), ("gain", "1"), ("mode", "c"), ("shape", [1])],
)
def test_values_of_another_type_are_refused(key: str, value: object) -> None:
    with pytest.raises(CheckpointError, match=f"^x: the configuration value {key} = .* is not valid"):
        config_from_values(Config, {key: value}, "x")


def test_unknown_names_are_refused() -> None:
    with pytest.raises(CheckpointError, match="unknown configuration value 'rat'; did you mean 'rate'"):
        config_from_values(Config, {"rat": 1}, "x")


def test_a_name_is_registered_once(scale_class: type[Model]) -> None:
    assert model_class("separation/scale") is scale_class
    with pytest.raises(ValueError, match="two models are registered as 'separation/scale'"):

        class Other(Model, name="separation/scale"):
            pass

    assert registered()["separation/scale"] is scale_class


def test_parameters_are_counted_when_trainable(model: Model) -> None:
    assert model.num_parameters == 32
    model.first.weight.requires_grad_(False)
    assert model.num_parameters == 20
    assert model.device == torch.device("cpu")
