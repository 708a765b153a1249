"""Every recipe of the room is valid: it can be read, its settings exist, and its model can be built."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from omegaconf import OmegaConf

from auriscope.data.prepare import LAYOUTS, SpeechLayout
from auriscope.data.segments import SegmentConfig
from auriscope.data.speech_pairs import SpeechPairsConfig
from auriscope.errors import RecipeError
from auriscope.pretrained import model_class
from auriscope.synthesis import Synthesizer
from auriscope.synthesis.task import SynthesisOptions, SynthesisValidation
from auriscope.synthesis.vocoder_task import VocoderOptions, VocoderValidation
from auriscope.training.recipe import parse, read_recipe

FOLDER = Path(__file__).parents[2] / "recipes" / "synthesis"
PATHS = sorted(FOLDER.glob("*.yaml"))


def names_a_system(path: Path) -> bool:
    """What recipes have in common names no system: it is a base, no run."""
    return "architecture" in OmegaConf.load(path).get("model", {})


RUNS = [path for path in PATHS if names_a_system(path)]
BASES = [path for path in PATHS if path not in RUNS]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_recipe_is_valid(path: Path) -> None:
    recipe = read_recipe(path)
    kind = model_class(recipe.model.architecture)
    config = parse(kind.Config, recipe.model.config, "model.config")
    with torch.device("meta"):
        model = kind(config)
    if path.stem.endswith("-mini"):
        assert model.num_parameters <= 4_000_000
    speaks = issubclass(kind, Synthesizer)
    parse(SynthesisOptions if speaks else VocoderOptions, recipe.task_options, "task_options")
    parse(SynthesisValidation if speaks else VocoderValidation, recipe.validation, "validation")
    values = {"sample_rate": config.mel.sample_rate, **recipe.data}
    data = parse(SpeechPairsConfig if speaks else SegmentConfig, values, "data")
    assert data.sample_rate == config.mel.sample_rate
    if data.prepared is not None:
        corpus = Path(data.prepared).name
        assert isinstance(LAYOUTS[corpus], SpeechLayout)
        assert path.stem.endswith(f"-{corpus}")
    if speaks:
        assert bool(config.voice_dim) == bool(config.voice_model)


@pytest.mark.parametrize("path", BASES, ids=lambda path: path.stem)
def test_a_base_lacks_a_system_only(path: Path) -> None:
    with pytest.raises(RecipeError, match="model"):
        read_recipe(path)
    recipe = read_recipe(path, ["model.architecture=synthesis/tacotron2"])
    parse(model_class("synthesis/tacotron2").Config, recipe.model.config, "model.config")
    parse(SpeechPairsConfig, recipe.data, "data")
    parse(SynthesisValidation, recipe.validation, "validation")
    parse(SynthesisOptions, recipe.task_options, "task_options")
