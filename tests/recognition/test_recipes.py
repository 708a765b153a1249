"""Every recipe of the room is valid: it can be read, its settings exist, and its model can be built."""

from __future__ import annotations

from pathlib import Path

import pytest
from omegaconf import OmegaConf

from auriscope.data.prepare import LAYOUTS, SpeechLayout
from auriscope.data.texts import TextConfig
from auriscope.data.transcribed import TranscribedConfig
from auriscope.errors import RecipeError
from auriscope.pretrained import model_class
from auriscope.recognition import Recognizer
from auriscope.recognition.task import RecognitionOptions, RecognitionValidation
from auriscope.training.recipe import parse, read_recipe

FOLDER = Path(__file__).parents[2] / "recipes" / "recognition"
PATHS = sorted(FOLDER.glob("*.yaml"))
# What recipes have in common names no model: it is a base, no run.
RUNS = [path for path in PATHS if "model" in OmegaConf.load(path)]
BASES = [path for path in PATHS if path not in RUNS]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.stem)
def test_a_recipe_is_valid(path: Path) -> None:
    recipe = read_recipe(path)
    kind = model_class(recipe.model.architecture)
    config = parse(kind.Config, recipe.model.config, "model.config")
    if not issubclass(kind, Recognizer):
        parse(TextConfig, recipe.data, "data")
        return
    parse(RecognitionOptions, recipe.task_options, "task_options")
    validation = parse(RecognitionValidation, recipe.validation, "validation")
    data = parse(TranscribedConfig, {"sample_rate": config.sample_rate, **recipe.data}, "data")
    if data.prepared is not None:
        corpus = Path(data.prepared).name
        assert isinstance(LAYOUTS[corpus], SpeechLayout)
        assert path.stem.endswith(f"-{corpus}")
        assert validation.sets == (data.prepared,)


@pytest.mark.parametrize(("name", "millions"), [("joint-librispeech", 116.2), ("conformer-ctc-librispeech", 10.3)])
def test_models_have_the_published_size(name: str, millions: float) -> None:
    """ESPnet's counts 5,000 pieces where ours has letters, Conformer-S the network that predicts tokens."""
    recipe = read_recipe(FOLDER / f"{name}.yaml")
    kind = model_class(recipe.model.architecture)
    size = kind(parse(kind.Config, recipe.model.config, "model.config")).num_parameters
    assert size / 1e6 == pytest.approx(millions, rel=0.2)


@pytest.mark.parametrize("path", BASES, ids=lambda path: path.stem)
def test_a_base_lacks_a_model_only(path: Path) -> None:
    with pytest.raises(RecipeError, match="model"):
        read_recipe(path)
    recipe = read_recipe(path, ["model.architecture=recognition/conformer-ctc"])
    parse(TranscribedConfig, recipe.data, "data")
    parse(RecognitionValidation, recipe.validation, "validation")
    parse(RecognitionOptions, recipe.task_options, "task_options")


def test_the_corpora_of_recognition_have_recipes() -> None:
    names = {path.stem for path in RUNS}
    for corpus in ("librispeech", "commonvoice"):
        assert isinstance(LAYOUTS[corpus], SpeechLayout)
        assert {f"{system}-{corpus}" for system in ("las", "transformer", "joint", "conformer-ctc")} <= names
