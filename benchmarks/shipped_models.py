"""Write docs/models.md: every shipped model with its figures, floors and aims, curve, size, speed and licence.

    python benchmarks/shipped_models.py [--out docs/models.md] [--repeats 3] [--items 60]

Figures and intervals are those of the cards (``python -m auriscope.verbs.shipped --measure`` measures them again, on
the test splits); floors and aims are those of recipes/shipped.yaml. Measured anew are the speed
(benchmarks/model_speed.py) and what the blind estimator says of real recordings (benchmarks/synthetic_against_real.py).
"""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterator
from pathlib import Path

import torch

from auriscope.pretrained import list_shipped
from auriscope.pretrained.addresses import WEIGHTS
from auriscope.pretrained.card import ModelCard
from auriscope.pretrained.files import read_config
from auriscope.signal.outputs import written_aside
from auriscope.verbs.shipped import Place, ShippedModel, read_list
from model_speed import speed
from synthetic_against_real import table

HEAD = """# The shipped models

`make models` writes this page. Figures are means over test splits whose speakers, noises, rooms and sources of sounds
no training has heard, with 95 % bootstrap intervals; they stand on the models' cards as well. `make shipped` trains on,
and replaces weights where they are better on the valid split. What was tried for the rows below their floors, and what
it gave: [](tried.md).
"""
UNITS = {"_percent": " %", "_db": " dB"}
NAMES = {
    "si_snr": "SI-SNR",
    "si_snri": "SI-SNRi",
    "sdri": "SDRi",
    "pesq_wb": "PESQ, wide band",
    "pesq_wb_gain": "PESQ gain, wide band",
    "stoi": "STOI",
    "stoi_gain": "STOI gain",
    "estoi": "ESTOI",
    "estoi_gain": "ESTOI gain",
    "eer": "equal error rate",
    "min_dcf": "minimum of the detection cost",
    "pearson": "Pearson's correlation",
    "spearman": "Spearman's correlation",
    "macro_f1": "macro F1",
    "fid": "Fréchet distance",
}


def _told(figure: str) -> str:
    """A figure's name for readers: ``"accuracy_percent"`` is ``"accuracy, %"``."""
    unit = next((ending for ending in UNITS if figure.endswith(ending)), "")
    name = figure.removesuffix(unit)
    return NAMES.get(name, name.replace("_", " ")) + (f",{UNITS[unit]}" if unit else "")


def _goals(model: ShippedModel) -> Iterator[tuple[str, str, float, float | None]]:
    """Figure, set, floor and aim of every row of a model."""
    for figure, floors in {model.figure: model.floors, **model.more_floors}.items():
        aims = model.aims if figure == model.figure else model.more_aims.get(figure, {})
        for name, floor in floors.items():
            yield figure, name, floor, aims.get(name)


def _state(value: float, floor: float, aim: float | None, lower_is_better: bool) -> str:
    sign = -1 if lower_is_better else 1
    if aim is not None and sign * value >= sign * aim:
        return "aim reached"
    return "floor reached" if sign * value >= sign * floor else "**below**"


def goals_table(models: dict[str, ShippedModel], weights: Path) -> Iterator[str]:
    """Every row that has a floor, with what the card says."""
    yield "| model | figure | test set | floor / aim | measured | |"
    yield "|---|---|---|---|---|---|"
    for address, model in models.items():
        if not (weights / address).exists():
            continue
        card = ModelCard.read(weights / address)
        for figure, name, floor, aim in _goals(model):
            key = f"{figure} {name} test"
            state = _state(card.metrics[key], floor, aim, model.lower_is_better)
            goals = f"{floor:g}" if aim is None else f"{floor:g} / {aim:g}"
            yield (
                f"| [{address}](#{_anchor(model.title)}) | {_told(figure)} | `{name}` "
                f"| {goals} | {card.figure(key)} | {state} |"
            )


def _anchor(title: str) -> str:
    kept = "".join(letter for letter in title.lower() if letter.isalnum() or letter in " -_")
    return kept.replace(" ", "-")


def sizes_table(addresses: list[str], weights: Path, repeats: int) -> Iterator[str]:
    """Size, speed and audio heard of every model."""
    threads = torch.get_num_threads()
    yield f"| model | parameters | weights, KiB | in a second, {threads} cores | audio heard, h | licence |"
    yield "|---|---|---|---|---|---|"
    total = 0.0
    for address in addresses:
        config, card = read_config(weights / address), ModelCard.read(weights / address)
        kib = (weights / address / "model.safetensors").stat().st_size / 1024
        total += kib
        found = speed(address, repeats=repeats)
        fast = "" if found is None else f"{found.median:,.0f} {found.unit}"
        heard = "" if card.audio_hours is None else f"{card.audio_hours:g}"
        yield f"| {address} | {config['num_parameters']:,} | {kib:,.0f} | {fast} | {heard} | {card.licence} |"
    yield f"| together | | {total:,.0f} | | | |"


def section(address: str, weights: Path, out: Path) -> Iterator[str]:
    """What the card says of one model, with its curve."""
    folder = weights / address
    card = ModelCard.read(folder)
    yield from (f"## {card.title}", "", f"`{address}`. {card.summary}", "")
    yield from (f"- Data: {', '.join(f'`{name}`' for name in card.data)}; licence of the weights: {card.licence}.",)
    yield from (f"- Trained by `{card.command}`" + ("." if card.seed is None else f", seed {card.seed}."),)
    yield from (f"- {limit}" for limit in card.limits)
    tests = [name for name in card.metrics if name.endswith(" test")]
    if tests:
        sets = list(dict.fromkeys(name.split()[1] for name in tests))
        figures = list(dict.fromkeys(name.split()[0] for name in tests))
        yield from ("", f"| | {' | '.join(f'`{name}`' for name in sets)} |", "|---|" + "---|" * len(sets))
        for figure in figures:
            cells = [f"{figure} {name} test" for name in sets]
            told = " | ".join(card.figure(cell) if cell in card.metrics else "" for cell in cells)
            yield f"| {_told(figure)} | {told} |"
    if card.curve is not None:
        curve = os.path.relpath(folder / card.curve, out.parent)
        yield from ("", f"```{{image}} {curve}", f":alt: The curves of {address} over its training.", "```")
    yield ""


def page(out: Path, repeats: int, items: int) -> str:
    """Measure what is measured anew, and write the page's text."""
    models, weights = dict(read_list(Place().list_file).models), WEIGHTS
    addresses = [shipped.address for shipped in list_shipped()]
    lines = [HEAD, "## Floors and aims", "", *goals_table(models, weights), ""]
    lines += ["## Size and speed", "", "One recording at a time (`benchmarks/model_speed.py`).", ""]
    lines += [*sizes_table(addresses, weights, repeats), ""]
    lines += [
        "## Synthetic against real",
        "",
        "What the blind estimator says of test mixtures, and of the two recordings of `real_overlap`, where nobody",
        "knows the truth (`benchmarks/synthetic_against_real.py`): means over tracks. Read the expected error, too.",
        "",
        *table("quality/sisnr.pooled", items),
        "",
    ]
    for address in addresses:
        lines += section(address, weights, out.resolve())
    return "\n".join(lines).rstrip() + "\n"


def main() -> None:
    """Write the page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("docs/models.md"))
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--items", type=int, default=60, help="mixtures of each synthetic set")
    arguments = parser.parse_args()
    torch.set_num_threads(2)
    text = page(arguments.out, arguments.repeats, arguments.items)
    with written_aside(arguments.out) as aside:
        Path(aside).write_text(text, encoding="utf-8")
    print(f"{arguments.out} is written")


if __name__ == "__main__":
    main()
