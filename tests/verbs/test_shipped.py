"""`make shipped`: which model is trained first, from what, and whose weights are kept."""

from __future__ import annotations

import dataclasses
import math
from pathlib import Path
from typing import Any

import pytest

from auriscope.errors import RecipeError
from auriscope.pretrained import load
from auriscope.pretrained.card import ModelCard
from auriscope.training.checkpoints import save_weights
from auriscope.training.recipe import build_model, read_recipe
from auriscope.verbs import shipped
from auriscope.verbs.evaluate import EvaluationResult, Figure
from auriscope.verbs.shipped import Place, improve, measure, need, read_list

LIST = """
models:
  separation/dprnn.first: {recipe: first.yaml, title: First, summary: One., figure: si_snri_db, floors: {clean: 8.0}}
  separation/dprnn.second: {recipe: second.yaml, title: Second, summary: Two., figure: si_snri_db, floors: {clean: 4.0}}
licence: CC-BY-4.0
attributions: {synthetic: made here, noise: noise people, rir: room people}
"""
RECIPE = """
task: separation
model:
  architecture: separation/dprnn
  config: {num_filters: 4, kernel_size: 16, stride: 8, hidden_size: 4, chunk_size: 4, hop_size: 2}
data: {corpora: [synthetic], ramp_batches: [1, 2]}
"""


@dataclasses.dataclass
class House:
    """A list of two models, with stand-ins for what takes hours: the training and the measuring."""

    place: Place
    trained: list[Any]
    figures: dict[str, float]


@pytest.fixture
def house(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> House:
    recipes = tmp_path / "recipes"
    recipes.mkdir()
    (recipes / "shipped.yaml").write_text(LIST)
    for name in ("first", "second"):
        (recipes / f"{name}.yaml").write_text(RECIPE)
    place = Place(recipes / "shipped.yaml", tmp_path / "runs", tmp_path / "weights")
    built = House(place, [], {"first": 1.0, "second": 3.0})

    def train(recipe: Any, run: Path) -> None:
        built.trained.append((run.name, recipe))
        step = len(built.trained)
        run.mkdir(parents=True, exist_ok=True)
        weights = {name: value + step for name, value in build_model(recipe).state_dict().items()}
        save_weights(run / "best.safetensors", weights, {"step": step, "hours_of_audio": 0.5})
        if not (run / "last.safetensors").exists():
            (run / "recipe.yaml").write_text(f"init_from: {recipe.init_from or 'null'}\n")
        (run / "last.safetensors").touch()

    def figure_of(
        model: str, name: str, *, split: str, separators: tuple[str, ...], language_model: str | None
    ) -> EvaluationResult:
        # The stage of a run, or the shipped folder itself.
        folder = Path(model)
        value = built.figures[folder.name if folder.name in built.figures else folder.parents[1].name]
        figure = Figure(value, value - 0.25, value + 0.25)
        return EvaluationResult(name, split, model, separators, 1, {"si_snri_db": figure})

    monkeypatch.setattr(shipped, "run_recipe", train)
    monkeypatch.setattr(shipped, "evaluate", figure_of)
    return built


def test_the_model_furthest_below_its_floor_goes_first(house: House) -> None:
    assert improve(10, house.place) == ["separation/dprnn.first", "separation/dprnn.second"]
    listed = read_list(house.place.list_file).models
    needs = {name: need(model, house.place.weights / name) for name, model in listed.items()}
    assert needs == {"separation/dprnn.first": 7 / 8, "separation/dprnn.second": 1 / 4}
    house.figures["second"] = -4.0
    improve(10, house.place, ("separation/dprnn.second",))
    # Worse weights are not kept, so the need is still that of the shipped ones.
    assert need(listed["separation/dprnn.second"], house.place.weights / "separation/dprnn.second") == 1 / 4
    house.trained.clear()
    improve(10, house.place)
    assert [name for name, _ in house.trained] == ["first", "second"]


def test_a_model_without_weights_needs_training_most(house: House) -> None:
    improve(10, house.place, ("separation/dprnn.first",))
    house.trained.clear()
    improve(10, house.place)
    assert [name for name, _ in house.trained] == ["second", "first"]
    assert need(read_list(house.place.list_file).models["separation/dprnn.first"], Path("nowhere")) == math.inf


def test_the_time_is_shared_and_the_neediest_gets_half(house: House) -> None:
    improve(10, house.place)
    shares = [recipe.training.max_minutes_per_call for _, recipe in house.trained]
    assert shares[0] == pytest.approx(5, abs=0.2)
    assert shares[1] == pytest.approx(10, abs=0.2)  # nothing of the first half was used by the stand-in


def test_only_better_weights_replace_the_shipped_ones(house: House) -> None:
    name = "separation/dprnn.first"
    folder = house.place.weights / name
    improve(10, house.place, (name,))
    before = (folder / "model.safetensors").read_bytes()
    assert improve(10, house.place, (name,)) == []
    assert (folder / "model.safetensors").read_bytes() == before
    house.figures["first"] = 1.5
    assert improve(10, house.place, (name,)) == [name]
    assert (folder / "model.safetensors").read_bytes() != before
    card = ModelCard.read(folder)
    assert card.metrics["si_snri_db clean test"] == 1.5
    assert card.attributions == ("made here", "noise people", "room people")
    assert load(folder).num_parameters > 0


def test_without_a_run_the_training_goes_on_from_the_shipped_weights(house: House) -> None:
    name = "separation/dprnn.first"
    improve(10, house.place, (name,))
    assert house.trained[-1][1].init_from is None
    improve(10, house.place, (name,))
    assert house.trained[-1][1].init_from is None  # the run is there and is continued exactly
    for path in (house.place.runs / "first").glob("*.safetensors"):
        path.unlink()
    house.figures["first"] = 2.0
    improve(10, house.place, (name,))
    recipe = house.trained[-1][1]
    assert recipe.init_from == str(house.place.weights / name)
    assert recipe.data["ramp_batches"] is None
    assert ModelCard.read(house.place.weights / name).audio_hours == 1.0
    # So do the corpora that those weights have heard, which the recipe may no longer draw from.
    path = house.place.list_file.parent / "first.yaml"
    path.write_text(RECIPE.replace("ramp_batches", "noise_probability: 0.0, ramp_batches"))
    # What the run began with is known at the next time, too.
    house.figures["first"] = 3.0
    improve(0, house.place, (name,))
    card = ModelCard.read(house.place.weights / name)
    assert card.audio_hours == 1.0
    assert card.data == ("synthetic", "rir", "noise")
    assert card.attributions == ("made here", "room people", "noise people")


def test_a_run_keeps_what_it_began_with(house: House) -> None:
    name, run = "separation/dprnn.first", house.place.runs / "first"
    improve(10, house.place, (name,))
    path = house.place.list_file.parent / "first.yaml"
    path.write_text(RECIPE + "task_options: {words_from: vectors.json, other: 1}\n")
    (run / "recipe.yaml").write_text(
        "init_from: its/own\ninit_partly: true\ninit_share: 0.5\n"
        "task_options: {words_from: crossmodal/clap.mini, other: 2}\n"
    )
    listed = read_list(house.place.list_file).models[name]
    recipe = shipped._recipe(path, listed, house.place.weights / name, run, name, 1.0, house.place)
    assert (recipe.init_from, recipe.init_partly, recipe.init_share) == ("its/own", True, 0.5)
    assert recipe.task_options == {"words_from": "crossmodal/clap.mini", "other": 1}


def test_the_curve_goes_on_where_the_shipped_one_ended(house: House) -> None:
    name = "separation/dprnn.first"
    folder, run = house.place.weights / name, house.place.runs / "first"
    improve(10, house.place, (name,))
    (folder / "curve.csv").write_text("step,minutes,hours_of_audio,other_db\n10,1,0.5,1.25\n20,2,1,2.5\n")
    for path in run.glob("*.safetensors"):
        path.unlink()
    (run / "valid.csv").write_text("step,minutes,hours_of_audio,si_snri_db\n5,0.5,0.25,3.5\n")
    for merit in (2.0, 3.0):
        house.figures["first"] = merit
        improve(10 if merit == 2.0 else 0, house.place, (name,))
        written = (folder / "curve.csv").read_text().splitlines()
        assert written == ["step,minutes,hours_of_audio,si_snri_db", "10,1,0.5,", "20,2,1,", "25,2.5,1.25,3.5"]


def test_zero_minutes_export_what_the_runs_have(house: House) -> None:
    improve(10, house.place, ("separation/dprnn.first",))
    house.figures["first"] = 5.0
    house.trained.clear()
    assert improve(0, house.place, ("separation/dprnn.first",)) == ["separation/dprnn.first"]
    assert house.trained == []


def test_measuring_again_changes_the_figures_and_nothing_else(house: House) -> None:
    name = "separation/dprnn.first"
    folder = house.place.weights / name
    improve(10, house.place, (name,))
    weights, before = (folder / "model.safetensors").read_bytes(), ModelCard.read(folder)
    (folder / "calibration.json").write_text("{}")
    house.figures["dprnn.first"] = 0.5
    house.trained.clear()
    measure(name, house.place)
    after = ModelCard.read(folder)
    assert house.trained == []
    assert after == dataclasses.replace(before, metrics=after.metrics, intervals=after.intervals)
    assert after.metrics == {"si_snri_db clean test": 0.5, "si_snri_db clean valid": 0.5}
    assert after.intervals == {"si_snri_db clean test": (0.25, 0.75)}
    assert "0.5 [0.25, 0.75]" in (folder / "README.md").read_text()
    assert (folder / "model.safetensors").read_bytes() == weights
    assert (folder / "calibration.json").read_text() == "{}"
    with pytest.raises(RecipeError, match=r"no model .separation/other."):
        measure("separation/other", house.place)


def test_an_unknown_model_and_a_missing_list_are_one_line(house: House) -> None:
    with pytest.raises(RecipeError, match=r"no model .separation/other."):
        improve(1, house.place, ("separation/other",))
    with pytest.raises(RecipeError, match="call this in a clone"):
        read_list(house.place.runs / "none.yaml")


def test_further_floors_count_and_further_sets_stand_on_the_card(house: House, monkeypatch: pytest.MonkeyPatch) -> None:
    more = "floors: {clean: 8.0}, more_floors: {pesq_wb_gain: {noisy: 0.4}}, test_sets: [pairs]}"
    house.place.list_file.write_text(LIST.replace("floors: {clean: 8.0}}", more))
    measured: list[tuple[str, str]] = []

    def figure_of(
        model: str, name: str, *, split: str, separators: tuple[str, ...], language_model: str | None
    ) -> EvaluationResult:
        measured.append((name, split))
        figures = {"si_snri_db": Figure(7.2, 7.0, 7.4), "pesq_wb_gain": Figure(0.1, 0.0, 0.2)}
        return EvaluationResult(name, split, model, separators, 1, figures)

    monkeypatch.setattr(shipped, "evaluate", figure_of)
    name = "separation/dprnn.first"
    improve(10, house.place, (name,))
    assert measured == [("clean", "valid"), ("noisy", "valid"), ("clean", "test"), ("noisy", "test"), ("pairs", "test")]
    model, folder = read_list(house.place.list_file).models[name], house.place.weights / name
    assert need(model, folder) == pytest.approx(0.3 / 0.4)
    assert ModelCard.read(folder).metrics["pesq_wb_gain pairs test"] == 0.1


def test_the_list_of_this_repository_is_whole() -> None:
    root = Path(__file__).parents[2]
    listed = read_list(root / "recipes/shipped.yaml")
    for name, model in listed.models.items():
        assert (root / "recipes" / model.recipe).is_file(), name
        assert all(floor > 0 for floors in (model.floors, *model.more_floors.values()) for floor in floors.values())
        assert set(model.separators) <= set(listed.models)


@pytest.mark.parametrize(
    ("name", "corpora"),
    [
        ("sound-events-mini", ["sound_events", "noise", "esc10_crying_baby", "rir"]),
        ("real-synthetic-mini", ["libri_251spk", "commonvoice_en", "noise", "rir"]),
        ("mnist-mini", ["mnist_train_10k", "mnist_10k"]),
    ],
)
def test_a_classifier_has_heard_the_corpora_of_its_set(name: str, corpora: list[str]) -> None:
    root = Path(__file__).parents[2]
    assert shipped._corpora(read_recipe(root / f"recipes/classification/{name}.yaml")) == corpora


def test_a_clap_has_heard_the_corpora_of_its_captions_and_read_glove() -> None:
    root = Path(__file__).parents[2]
    corpora = shipped._corpora(read_recipe(root / "recipes/crossmodal/clap-mini.yaml"))
    assert corpora == ["sound_events", "noise", "sound_effects", "esc10_crying_baby", "glove", "rir"]
    assert set(corpora) <= set(read_list(root / "recipes/shipped.yaml").attributions)
