"""The recipes of speaker models are valid: their settings exist, and their models can be built."""

from __future__ import annotations

from pathlib import Path

import pytest

from auriscope.data.prepare import LAYOUTS
from auriscope.data.voices import CLIPS, HALVES, VoicesConfig
from auriscope.pretrained import model_class
from auriscope.speaker import Embedder
from auriscope.speaker.task import SpeakerOptions, SpeakerValidation, build
from auriscope.training.recipe import build_model, parse, read_recipe

FOLDER = Path(__file__).parents[2] / "recipes" / "speaker"
PATHS = sorted(
    path for kind in ("ecapa", "xvector") for path in FOLDER.glob(f"{kind}-*.yaml") if "cry" not in path.stem
)


@pytest.mark.parametrize("path", PATHS, ids=lambda path: path.stem)
def test_a_recipe_is_valid(path: Path) -> None:
    recipe = read_recipe(path)
    assert recipe.model.architecture == f"speaker/{path.stem.partition('-')[0]}"
    kind = model_class(recipe.model.architecture)
    assert issubclass(kind, Embedder)
    config = parse(kind.Config, recipe.model.config, "model.config")
    parse(SpeakerOptions, recipe.task_options, "task_options")
    assert set(parse(SpeakerValidation, recipe.validation, "validation").sets) == {HALVES, CLIPS}
    data = parse(VoicesConfig, {"sample_rate": config.sample_rate, **recipe.data}, "data")
    if data.prepared is not None:
        assert Path(data.prepared).name in LAYOUTS


def test_small_networks_are_small() -> None:
    sizes = {path.stem: build_model(read_recipe(path)).num_parameters for path in PATHS if "mini" in path.stem}
    assert set(sizes) == {"ecapa-mini", "xvector-mini"}
    assert max(sizes.values()) < 1.5e6


@pytest.mark.corpora
def test_the_small_recipe_makes_batches_of_known_speakers(real_corpora: Path) -> None:
    # Without noises and rooms, which take minutes to make ready.
    changes = [f"data.augmentation.{name}_probability=0" for name in ("noise", "room")]
    changes += ["data.batch_size=4", "data.corpora=[libri_other_10spk]"]
    recipe = read_recipe(FOLDER / "ecapa-mini.yaml", [*changes, "validation.sets=[libri-halves]"])
    task, batches, validation = build(recipe)
    batch = batches.batch(0)
    assert task.eval()(batch, "main")["loss"].isfinite()
    assert [each["id"] for each in validation] == [["libri-halves"]]
    assert batches.num_speakers == task.speakers.weight.shape[0] == 12
