"""``make shipped``: make every shipped model better, the neediest first, for a given time.

Works in a clone: the list is ``recipes/shipped.yaml``, runs are kept under ``runs/``, and weights and cards go to the
package's own folder of weights. What a model needs is told by the figures on its card: a model without weights needs
training most, then the one that is furthest below its floor on the valid split. Each gets half of what time is left,
the last all of it. A run folder that exists is continued exactly; without one, training starts from the shipped
weights. New weights replace the shipped ones only where they are better on the valid split. ``--measure`` trains
nothing: it measures what ships again, and writes the figures on the cards.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import json
import math
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import torch
from omegaconf import OmegaConf
from PIL import Image

from auriscope.data.captioned import CAPTION_SETS, CaptionedConfig
from auriscope.data.images import IMAGE_SETS, ImagesConfig
from auriscope.data.labelled import LabelledConfig
from auriscope.data.labelled_sets import corpora_of
from auriscope.data.prepared_captioned import read_captioned
from auriscope.errors import AuriscopeError, RecipeError
from auriscope.pretrained.addresses import WEIGHTS
from auriscope.pretrained.card import ModelCard
from auriscope.pretrained.checkpoint import replace_card
from auriscope.pretrained.model import Model
from auriscope.signal.outputs import written_aside
from auriscope.training.checkpoints import LAST, load_tree
from auriscope.training.recipe import Recipe, parse, read_recipe
from auriscope.training.recipe import train as run_recipe
from auriscope.verbs.evaluate import Figure, evaluate
from auriscope.verbs.speaker_figures import calibrate_folder
from auriscope.verbs.train import finished

CURVE = "curve.png"
CURVE_VALUES = "curve.csv"
_SHORTEST_MINUTES = 0.5
_BEGINNINGS = ("words_from", "text_from", "audio_from")


@dataclass(frozen=True)
class ShippedModel:
    """One row of the list: the recipe (relative to the list), what the card says, and the floors of a figure.

    ``more_floors`` are those of further figures; ``figure`` alone decides which weights are better. ``aims`` and
    ``more_aims`` are what the figures are hoped to reach. Where ``lower_is_better``, as of errors, floors and aims are
    what the figures may be at most. ``test_sets`` are further sets for the card, of which only the test split is
    measured. ``gpu`` are changes to the recipe where there is a GPU, which wants larger batches; ``separators`` are
    those whose tracks a quality model is trained on and measured with. ``licence`` is that of the weights where the
    data ask for another than the list's; ``limits`` are what the card warns of. ``bits`` (4 to 8) stores the weights
    in so many bits each. A recogniser's figures are those with the ``language_model`` at this address.
    """

    recipe: str
    title: str
    summary: str
    figure: str
    floors: Mapping[str, float]
    more_floors: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    aims: Mapping[str, float] = field(default_factory=dict)
    more_aims: Mapping[str, Mapping[str, float]] = field(default_factory=dict)
    test_sets: tuple[str, ...] = ()
    gpu: tuple[str, ...] = ()
    separators: tuple[str, ...] = ()
    lower_is_better: bool = False
    bits: int | None = None
    language_model: str | None = None
    licence: str | None = None
    limits: tuple[str, ...] = (
        "Trained on read speech and short commands of a few hundred talkers, mostly English, at 16 kHz.",
        "Figures are of short mixtures with simulated overlap; recordings of real conversations are harder.",
    )


@dataclass(frozen=True)
class ShippedList:
    """The list of shipped models, the licence of the weights, and whom the data ask to be credited."""

    models: Mapping[str, ShippedModel]
    licence: str
    attributions: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True)
class Place:
    """Where things are: the list, the runs, and the weights that ship."""

    list_file: Path = Path("recipes/shipped.yaml")
    runs: Path = Path("runs")
    weights: Path = WEIGHTS


def read_list(path: Path) -> ShippedList:
    """Read the list; ``RecipeError`` if it is missing or not valid."""
    try:
        values: Any = OmegaConf.to_container(OmegaConf.load(path))
    except OSError as error:
        raise RecipeError(f"{path}: cannot be read; call this in a clone of the repository") from error
    shipped = parse(ShippedList, {**values, "models": {}}, str(path))
    rows = {name: parse(ShippedModel, row, f"{path}: {name}") for name, row in values["models"].items()}
    return dataclasses.replace(shipped, models=rows)


def need(model: ShippedModel, folder: Path) -> float:
    """How much a model needs training: infinite without weights, else its largest shortfall relative to a floor."""
    if not (folder / "card.json").exists():
        return math.inf
    figures = ModelCard.read(folder).metrics
    sign = -1.0 if model.lower_is_better else 1.0
    return max(
        sign * (floor - figures.get(f"{figure} {name} valid", -sign * math.inf)) / floor
        for figure, floors in {model.figure: model.floors, **model.more_floors}.items()
        for name, floor in floors.items()
    )


def improve(minutes: float, place: Place, only: tuple[str, ...] = ()) -> list[str]:
    """Train for ``minutes`` in total, and return the addresses whose weights were replaced.

    ``only`` names the addresses to train; none: all of the list.
    """
    shipped = read_list(place.list_file)
    _known(only, shipped, place)
    names = [name for name in shipped.models if not only or name in only]
    names.sort(key=lambda name: -need(shipped.models[name], place.weights / name))
    end = time.monotonic() + 60 * minutes
    replaced = []
    for position, name in enumerate(names):
        left = max(0.0, (end - time.monotonic()) / 60)
        share = left if position == len(names) - 1 else left / 2
        if share < _SHORTEST_MINUTES and minutes > 0:
            break
        _say(f"{name}: {share:.1f} minutes; need {need(shipped.models[name], place.weights / name):.2f}")
        if improve_one(name, shipped, share, place):
            replaced.append(name)
    return replaced


def _known(names: tuple[str, ...], shipped: ShippedList, place: Place) -> None:
    unknown = sorted(set(names) - set(shipped.models))
    if unknown:
        raise RecipeError(f"{place.list_file}: has no model {unknown[0]!r}; it has {', '.join(shipped.models)}")


def improve_one(name: str, shipped: ShippedList, minutes: float, place: Place) -> bool:
    """Train one model for ``minutes`` (0: only export what its run has) and ship its weights if they are better."""
    model = shipped.models[name]
    folder = place.weights / name
    path = place.list_file.parent / model.recipe
    run = place.runs / path.stem
    recipe = _recipe(path, model, folder, run, name, minutes, place)
    if minutes > 0:
        run_recipe(recipe, run)
    weights = run / "best.safetensors"
    if not weights.exists():
        _say(f"{name}: no validation was reached; nothing is exported")
        return False
    candidate = finished(recipe, weights)
    facts = load_tree(weights)["facts"]
    stage = run / "stages" / f"{int(facts['step']):08d}"
    if not stage.exists():
        candidate.save_pretrained(stage, half=True, bits=model.bits)
    valid = _figures(stage, model, "valid")
    if not _better(_metrics(valid), folder, model):
        _say(f"{name}: {_told(valid)}; the shipped weights are as good and stay")
        return False
    test = _figures(stage, model, "test")
    _ship(candidate, recipe, model, shipped, {**test, **valid}, facts, run, folder, path)
    _say(f"{name}: {_told(valid)}; new weights in {folder}")
    return True


def _recipe(
    path: Path, model: ShippedModel, folder: Path, run: Path, name: str, minutes: float, place: Place
) -> Recipe:
    changes = [f"training.max_minutes_per_call={max(minutes, 0.01)!r}"]
    if torch.cuda.is_available():
        changes += model.gpu
    if model.separators and minutes > 0:
        found = [address for address in model.separators if (place.weights / address / "config.json").exists()]
        changes.append(f"data.separators=[{','.join(found + _stages(place.runs))}]")
    recipe = read_recipe(path, changes)
    if (run / LAST).exists():
        # What a run began with is what it wrote down when it began, not what the recipe would begin with.
        begun = _begun(run)
        began = begun.get("task_options") or {}
        options = {**recipe.task_options, **{key: began[key] for key in _BEGINNINGS if key in began}}
        kept = {key: begun[key] for key in ("init_partly", "init_share") if key in begun}
        recipe = dataclasses.replace(recipe, init_from=_begun_with(recipe, run), task_options=options, **kept)
    elif (folder / "config.json").exists():
        _say(f"{name}: no run to continue; starting from the shipped weights")
        data = {**recipe.data, "ramp_batches": None} if "ramp_batches" in recipe.data else recipe.data
        # The words of a CLAP, and whatever else another's parts were, are those of the shipped weights.
        options = {key: value for key, value in recipe.task_options.items() if key not in _BEGINNINGS}
        recipe = dataclasses.replace(recipe, init_from=str(folder), init_partly=False, data=data, task_options=options)
    return recipe


def _stages(runs: Path) -> list[str]:
    """The first, the middle and the last stage of every separator's run, as earlier calls left them behind.

    A pooled estimator learns from several stages of training; a few of each are enough, and each takes much disk.
    """
    chosen: list[str] = []
    for run in sorted(runs.glob("*-mini")):
        stages = sorted(str(stage) for stage in run.glob("stages/*") if (stage / "config.json").exists())
        chosen += sorted({stages[index] for index in (0, len(stages) // 2, -1)}) if stages else []
    return chosen


def measure(name: str, place: Place) -> None:
    """Measure a shipped model again, with the weights as they are, and write the figures on its card."""
    shipped = read_list(place.list_file)
    _known((name,), shipped, place)
    model, folder = shipped.models[name], place.weights / name
    found = {**_figures(folder, model, "test"), **_figures(folder, model, "valid")}
    card = dataclasses.replace(ModelCard.read(folder), metrics=_metrics(found), intervals=_intervals(found))
    replace_card(folder, card)
    _say(f"{name}: " + ", ".join(f"{each} {card.figure(each)}" for each in card.metrics if each.endswith("test")))


def _metrics(figures: Mapping[str, Figure]) -> dict[str, float]:
    return {name: round(figure.value, 3) for name, figure in figures.items() if figure.value is not None}


def _intervals(figures: Mapping[str, Figure]) -> dict[str, tuple[float, float]]:
    """Those of the test split; a card has no room for all."""
    return {
        name: (round(figure.low, 3), round(figure.high, 3))
        for name, figure in figures.items()
        if name.endswith(" test") and figure.low is not None and figure.high is not None
    }


def _figures(stage: Path, model: ShippedModel, split: str) -> dict[str, Figure]:
    """The model's figures on the sets of its floors; a quality model's are over the tracks of all separators."""
    figures: dict[str, Figure] = {}
    sets = [*model.floors, *(name for floors in model.more_floors.values() for name in floors)]
    for name in dict.fromkeys([*sets, *(model.test_sets if split == "test" else ())]):
        result = evaluate(
            str(stage), name, split=split, separators=model.separators, language_model=model.language_model
        )
        figures |= {
            f"{key} {name} {split}": figure for key, figure in result.figures.items() if figure.value is not None
        }
    return figures


def _better(valid: Mapping[str, float], folder: Path, model: ShippedModel) -> bool:
    if not (folder / "card.json").exists():
        return True
    shipped = ModelCard.read(folder).metrics
    sign = -1.0 if model.lower_is_better else 1.0
    keys = [f"{model.figure} {name} valid" for name in model.floors]
    return sum(sign * valid[key] for key in keys) > sum(sign * shipped.get(key, -sign * math.inf) for key in keys)


def _ship(
    candidate: Model,
    recipe: Recipe,
    model: ShippedModel,
    shipped: ShippedList,
    figures: Mapping[str, Figure],
    facts: Mapping[str, Any],
    run: Path,
    folder: Path,
    path: Path,
) -> None:
    begun_with = _begun_with(recipe, run)
    before, earlier, heard = _before(begun_with, run, folder)
    corpora = list(dict.fromkeys([*_corpora(recipe), *heard]))
    card = ModelCard(
        title=model.title,
        summary=model.summary,
        licence=model.licence or shipped.licence,
        data=tuple(corpora),
        attributions=tuple(dict.fromkeys(shipped.attributions[name] for name in corpora)),
        command=_command(path, begun_with, folder),
        seed=recipe.seed,
        # A run whose batches do not say how long they last knows nothing of hours.
        audio_hours=round(before + float(facts["hours_of_audio"]), 2) or None,
        metrics=_metrics(figures),
        intervals=_intervals(figures),
        curve=CURVE,
        limits=model.limits,
    )
    candidate.save_pretrained(folder, card=card, half=True, bits=model.bits)
    if recipe.task == "speaker":
        calibrate_folder(folder, tuple(model.floors))
    if (run / "valid.csv").exists():
        with written_aside(folder / CURVE_VALUES) as aside:
            aside.write_text(_continued(earlier, (run / "valid.csv").read_text()))
    if (run / "curves.png").exists():
        # A palette of few colours loses nothing that is seen of lines, and a fifth of the bytes are left.
        with Image.open(run / "curves.png") as drawn:
            drawn.convert("RGB").quantize(32).save(folder / CURVE, optimize=True)


def _continued(earlier: str, later: str) -> str:
    """Join the validation curve of a run to that of the weights it began with: a table of the later one's columns.

    Steps, minutes and hours of the later one count on from the earlier one's last row.
    """
    if not earlier:
        return later
    first, second = (list(csv.DictReader(text.splitlines())) for text in (earlier, later))
    names = list(second[0]) if second else list(first[0])
    last = {name: float(first[-1][name]) for name in ("step", "minutes", "hours_of_audio") if first[-1].get(name)}
    rows = [[row.get(name, "") for name in names] for row in first]
    rows += [[_added(last.get(name), row[name]) for name in names] for row in second]
    return "\n".join(",".join(row) for row in [names, *rows]) + "\n"


def _added(before: float | None, value: str) -> str:
    return value if before is None or not value else f"{before + float(value):.10g}"


def _begun_with(recipe: Recipe, run: Path) -> str | None:
    """Whose weights a run began with, by what it wrote down when it began."""
    begun = _begun(run).get("init_from", recipe.init_from)
    return None if begun is None else str(begun)


def _begun(run: Path) -> dict[str, Any]:
    """The recipe that a run wrote down when it began, empty without one."""
    place = run / "recipe.yaml"
    return cast("dict[str, Any]", OmegaConf.to_container(OmegaConf.load(place))) if place.exists() else {}


def _before(begun_with: str | None, run: Path, folder: Path) -> tuple[float, str, list[str]]:
    """Hours of audio, validation curve and corpora of the shipped weights that a run began with; empty if with none.

    They are kept in the run when it first ships, since what ships then is the run's own.
    """
    kept = run / "began-with.json"
    if not _is_shipped(begun_with, folder) or not (folder / "card.json").exists():
        return 0.0, "", []
    if not kept.exists():
        curve = (folder / CURVE_VALUES).read_text() if (folder / CURVE_VALUES).exists() else ""
        card = ModelCard.read(folder)
        values = {"audio_hours": card.audio_hours or 0.0, "curve": curve, "data": card.data}
        with written_aside(kept) as aside:
            aside.write_text(json.dumps(values))
    values = json.loads(kept.read_text())
    return float(values["audio_hours"]), str(values["curve"]), list(values.get("data", ()))


def _is_shipped(address: str | None, folder: Path) -> bool:
    named = f"{folder.parent.name}/{folder.name}"
    return address is not None and (address == named or Path(address).resolve() == folder.resolve())


def _command(path: Path, begun_with: str | None, folder: Path) -> str:
    """The line that trains a model again, with another model's weights that its run began with, if any."""
    command = f"auriscope train {path.as_posix()}"
    # What began with the shipped weights goes on by the same recipe.
    if begun_with and not _is_shipped(begun_with, folder):
        command += f" init_from={begun_with}"
    return command


def _corpora(recipe: Recipe) -> list[str]:
    """What a recipe's model has heard: speech, and where there were any, noises and rooms."""
    mixing = recipe.data.get("mixing", recipe.data)
    labelled = recipe.task in ("classification", "interpretation", "crossmodal")
    found = list(_trained_on(recipe) if labelled else mixing["corpora"])
    # Mixtures are noisy and reverberant unless a recipe says otherwise; speech by itself is augmented if it says so.
    alone = labelled or recipe.task in ("recognition", "speaker", "synthesis")
    around = mixing.get("augmentation", {}) if alone else mixing
    usual = 0.0 if alone else 1.0
    if around.get("noise_probability", usual) > 0:
        found += around.get("noise_corpora", ["noise"])
    if around.get("room_probability", usual) > 0:
        found.append("rir")
    return list(dict.fromkeys(found))


def _trained_on(recipe: Recipe) -> tuple[str, ...]:
    """The corpora behind the sets of sounds or images that a recipe learns from, and the word vectors of a CLAP."""
    if recipe.task == "crossmodal":
        sets = recipe.data.get("sets", CaptionedConfig.sets)
        corpora = [corpus for name in sets for corpus in CAPTION_SETS[name]]
        return (*corpora, *(read_captioned(folder).name for folder in recipe.data.get("prepared", ())), "glove")
    images = recipe.model.architecture == "classification/image-cnn"
    name = recipe.data.get("set", ImagesConfig.set if images else LabelledConfig.set)
    images |= name in IMAGE_SETS
    return IMAGE_SETS[name]["train"] if images else corpora_of(name)


def _told(figures: Mapping[str, Figure]) -> str:
    return ", ".join(f"{name} {value:.3g}" for name, value in _metrics(figures).items())


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def main() -> None:
    """Read the command line of ``make shipped``."""
    parser = argparse.ArgumentParser(prog="make shipped", description=__doc__.splitlines()[0] if __doc__ else None)
    what = parser.add_mutually_exclusive_group(required=True)
    what.add_argument("--minutes", type=float, help="time in total; 0 exports what the runs have")
    what.add_argument("--measure", action="store_true", help="train nothing, measure what ships again")
    parser.add_argument("--only", action="append", default=[], help="this address only (may be repeated)")
    arguments = parser.parse_args()
    try:
        if arguments.measure:
            for name in arguments.only or read_list(Place().list_file).models:
                measure(name, Place())
            return
        improve(arguments.minutes, Place(), tuple(arguments.only))
    except AuriscopeError as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    main()
