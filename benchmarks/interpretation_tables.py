"""What the tables of interpreters share: the methods, cells that are kept between runs, and the published column.

It prints nothing by itself; see `interpretation_images.py` and `interpretation_audio.py`.
"""

from __future__ import annotations

import argparse
import csv
import dataclasses
import hashlib
import json
import sys
import time
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import torch

from auriscope.metrics.accumulate import Summary
from auriscope.pretrained import list_shipped
from auriscope.pretrained.addresses import weights_sha256
from auriscope.signal.outputs import written_aside
from auriscope.verbs.explain.methods import TRAINED, UNTRAINED, Method, load_method
from auriscope.verbs.interpretation_figures import FIGURES, Example, interpretation_figures
from auriscope.verbs.interpretation_sets import Examples

PUBLISHED = Path(__file__).with_name("interpretation_published.csv")
FIELD = ("piq", "vibi", "l2i", "flint", "lime")
"""The five methods of PIQ's paper."""

_VERSION = 1
_NAMES = {
    "input_fidelity": "fidelity %",
    "faithfulness": "faithfulness",
    "fid": "FID",
    "average_drop": "drop %",
    "average_increase": "increase %",
    "average_gain": "gain %",
    "sparseness": "sparseness",
    "complexity": "complexity",
    "si_snri_db": "SI-SNRi dB",
    "decided_share": "of it %",
}
_PERCENT = {"input_fidelity", "average_drop", "average_increase", "average_gain", "decided_share"}


def parser(description: str, out: str) -> argparse.ArgumentParser:
    """The options that both tables have."""
    made = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    made.add_argument(
        "--interpreter",
        action="append",
        default=[],
        metavar="ADDRESS",
        help="a trained interpreter; several of one method and classifier are its seeds; by default those that ship",
    )
    made.add_argument("--method", action="append", default=[], help="only this method (may be repeated)")
    made.add_argument("--items", type=int, help="so many examples of each set, evenly spread; by default all")
    made.add_argument("--out", type=Path, default=Path(out), help="where the cells are kept: a stopped run goes on")
    made.add_argument("--threads", type=int, default=1)
    return made


class Cells:
    """The cells of the tables, each measured once for the same weights and settings, and kept in a folder."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        folder.mkdir(parents=True, exist_ok=True)

    def figures(
        self, name: str, methods: list[Method], settings: dict[str, Any], examples: Callable[[], Iterable[Example]]
    ) -> dict[str, Summary]:
        """The figures of a method, whose seeds ``methods`` are, over a set."""
        facts = {"version": _VERSION, "methods": [method.settings() for method in methods], **settings}
        key = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()[:12]
        path = self._folder / f"{name}-{methods[0].name}-{key}.json"
        if path.exists():
            values = json.loads(path.read_text(encoding="utf-8"))["figures"]
            return {figure: Summary(**summary) for figure, summary in values.items()}
        begun = time.perf_counter()
        # What draws by chance draws the same in every run.
        torch.manual_seed(0)
        found = interpretation_figures(methods[0].classifier, [method.interpreter for method in methods], examples)
        seconds = time.perf_counter() - begun
        print(f"  {name}, {methods[0].name}: {seconds:.0f} s", file=sys.stderr, flush=True)
        values = {figure: dataclasses.asdict(summary) for figure, summary in found.items()}
        with written_aside(path) as aside:
            aside.write_text(json.dumps({**facts, "seconds": seconds, "figures": values}, indent=2), encoding="utf-8")
        return found


def methods_of(classifier: str, addresses: list[str], only: list[str]) -> dict[str, list[Method]]:
    """Every method for a classifier, by name: the trained ones in all their seeds, and those that need no training."""
    given = addresses or [model.address for model in list_shipped() if model.room == "interpretation"]
    weights = weights_sha256(classifier)
    found: dict[str, list[Method]] = {name: [] for name in (*TRAINED, *UNTRAINED) if not only or name in only}
    for address in given:
        method = load_method(None, model=address)
        if method.name in found and weights_sha256(method.classifier_address) == weights:
            found[method.name].append(method)
    for name in UNTRAINED:
        if name in found:
            found[name].append(load_method(name, model=classifier))
    for name, seeds in found.items():
        if not seeds:
            print(f"{name}: no interpreter of {classifier}; train one, and give it with --interpreter", file=sys.stderr)
    return {name: seeds for name, seeds in found.items() if seeds}


def examples(methods: dict[str, list[Method]], name: str, items: int | None, **options: Any) -> Examples:
    """The examples of a set for the classifier that all methods explain."""
    classifier = next(iter(methods.values()))[0].classifier
    return Examples(classifier, name, items=items, **options)


def table(rows: dict[str, dict[str, Summary]], columns: Iterable[str], published: dict[str, str] | None = None) -> str:
    """A table in Markdown: a row for each method, with 95 % intervals, and what was published of it."""
    columns = [column for column in columns if any(column in row for row in rows.values())]
    head = ["method", *(_NAMES[column] for column in columns), *(["published"] if published is not None else [])]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for name, row in rows.items():
        cells = [name, *(told(row.get(column), column) for column in columns)]
        if published is not None:
            cells.append(published.get(name, "–"))
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines)


def told(summary: Summary | None, column: str) -> str:
    """A figure and its interval."""
    if summary is None or summary.mean is None:
        return "–"
    scale, digits = (100.0, 1) if column in _PERCENT else (1.0, 1 if column in ("si_snri_db", "complexity") else 3)
    text = f"{scale * summary.mean:.{digits}f}"
    if summary.low is None or summary.high is None:
        return text
    return f"{text} [{scale * summary.low:.{digits}f}, {scale * summary.high:.{digits}f}]"


def published_figures(corpus: str) -> dict[str, str]:
    """By method: fidelity in per cent, faithfulness and FID, as PIQ's paper has them for a corpus."""
    found: dict[str, dict[str, str]] = {}
    for row in _published("interpretation", corpus):
        found.setdefault(row["system"].lower(), {})[row["metric"]] = row["value"]
    order = ("input fidelity %", "faithfulness", "FID")
    return {name: " / ".join(values.get(metric, "–") for metric in order) for name, values in found.items()}


def published_opinions(corpora: Iterable[str]) -> dict[str, str]:
    """By method: the mean opinion scores of PIQ's paper for its cases."""
    found: dict[str, list[str]] = {}
    for corpus in corpora:
        for row in _published("interpretation, opinion", corpus):
            found.setdefault(row["system"].lower(), []).append(row["value"])
    return {name: ", ".join(values) for name, values in found.items()}


def _published(name: str, corpus: str) -> list[dict[str, str]]:
    with PUBLISHED.open(encoding="utf-8", newline="") as stream:
        return [row for row in csv.DictReader(stream) if row["table"] == name and row["corpus"] == corpus]


def ranks(rows: dict[str, dict[str, Summary]]) -> str:
    """Which of the five methods of the field is first in fidelity, and which in faithfulness."""
    there = {name: row for name, row in rows.items() if name in FIELD}
    if not there:
        return "None of the five methods of the field has been measured."
    lines = []
    for figure in ("input_fidelity", "faithfulness"):
        order = sorted(there, key=lambda name: -(there[name][figure].mean or 0.0))
        lines.append(f"{_NAMES[figure].removesuffix(' %')}: {', '.join(order)}")
    return "From first to last, " + "; ".join(lines) + "."


CLEAN_COLUMNS = FIGURES
DECIDED_COLUMNS = ("si_snri_db", "decided_share", *FIGURES)
# A class that is asked for need not be what is decided, of the mixture or of the interpretation.
ASKED_COLUMNS = ("si_snri_db", *(figure for figure in FIGURES if figure != "input_fidelity"))
