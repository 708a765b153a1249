"""The table of unpaired improvement on the small data: a teacher, SL, DU, DS, ADS and their combinations, by seeds.

    AURISCOPE_CORPORA=… python benchmarks/unpaired_table.py [--seed 1 …] [--row ads-sl …] [--domain esc10 …]

The teacher (recipes/crossmodal/teacher-mini.yaml) learns from half of the captioned sounds. What is unpaired are the
sounds of the other half, without their captions, and those of `infant_cry` and `piano_notes`; captions are the
teacher's. Every row is a student that begins as the teacher of its seed (recipes/crossmodal/ROW-mini.yaml); "more" only
goes on as long as the others, with nothing new. DS and ADS
are for a domain: of these rows there is a student for each column, as in the paper. Curated with the paper's
thresholds, unless others are given. Weights are chosen by the captions of the valid split, never by a domain.

Printed are accuracies of zero-shot classification on test splits in per cent: the mean of the seeds, with a 95 %
interval of Student's t where there are two at least, and how much better than the teachers of the same seeds. Beside
them stand the published ones, of other data (ESC-50, UrbanSound8K, TUT17), with a teacher from all of its annotated
pairs and from a subset. A prepared corpus such as manifests/esc50 can be a domain, too: all its folds are told.

Runs, curated folders and figures are kept in --out, and a stopped run goes on; other changes to recipes, or other
thresholds, want another folder. With --seed and --row several machines share the work.
"""

from __future__ import annotations

import argparse
import csv
import json
import math
import statistics
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import torch
from scipy.stats import t as student_t

from auriscope.data.prepared import is_prepared
from auriscope.errors import AuriscopeError
from auriscope.pretrained import load
from auriscope.pretrained.addresses import weights_sha256
from auriscope.signal.outputs import written_aside
from auriscope.training.recipe import read_recipe
from auriscope.verbs.curate import RECORD, curate
from auriscope.verbs.train import train
from auriscope.verbs.zeroshot_figures import zero_shot_figures

RECIPES = Path(__file__).resolve().parents[1] / "recipes" / "crossmodal"
PUBLISHED = Path(__file__).with_name("unpaired_published.csv")
TEACHER, MORE = "teacher", "more"
ROWS = (TEACHER, MORE, "sl", "du", "du-sl", "ds", "ds-sl", "ads", "ads-sl")
DOMAINS = ("sound-events", "esc10")
PAIRED, UNPAIRED = "sound-captions-half", ("sound-captions-rest", "infant_cry", "piano_notes")


@dataclass(frozen=True)
class Work:
    """Where everything of one seed is kept, and how it is made."""

    folder: Path
    seed: int
    teacher_changes: tuple[str, ...]
    student_changes: tuple[str, ...]
    thresholds: dict[str, float]

    @property
    def teacher(self) -> Path:
        """The folder of the seed's teacher."""
        return self.folder / TEACHER / "model"

    def trained(self, row: str, domain: str | None) -> Path:
        """The folder of a row's model, which is trained or gone on with if it is not whole."""
        run = self.folder / (row if domain is None else f"{row}-{Path(domain).name}")
        if (run / "done").exists():
            return run / "model"
        changes = [f"seed={self.seed}"]
        own = self.teacher_changes if row == TEACHER else self.student_changes
        if row != TEACHER:
            changes.append(f"init_from={self.teacher}")
        if "sl" in row:
            changes.append(f"task_options.teacher={self.teacher}")
        method = row.removesuffix("-sl")
        if row not in (TEACHER, MORE, "sl"):
            changes.append(f"data.curated=[{self.curated(method, domain)}]")
        recipe = read_recipe(RECIPES / f"{row}-mini.yaml", [*changes, *own])
        result = train(recipe, run)
        if result.stopped_by == "signal":
            raise KeyboardInterrupt
        (run / "done").touch()
        return run / "model"

    def curated(self, method: str, domain: str | None) -> Path:
        """The folder of a row's curated pairs, which is made if it is not there."""
        folder = self.folder / "manifests" / (method if domain is None else f"{method}-{Path(domain).name}")
        if not (folder / RECORD).exists():
            result = curate(
                method,  # type: ignore[arg-type]  # one of ROWS
                folder,
                teacher=self.teacher,
                captions=PAIRED,
                audio=() if method == "ds" else UNPAIRED,
                domain=domain,
                **self.thresholds,  # type: ignore[arg-type]  # audio_threshold and caption_threshold
            )
            print(f"  {folder}: {result.num_pairs} pairs, {result.num_recordings_used} recordings", file=sys.stderr)
        return folder

    def accuracy(self, model: Path, domain: str) -> float:
        """The accuracy of a model on the test split, or on all folds, of a domain, in per cent."""
        kept = model.parent / f"accuracy-{Path(domain).name}.json"
        facts = {"weights": weights_sha256(model), "domain": domain}
        if kept.exists():
            values = json.loads(kept.read_text(encoding="utf-8"))
            if {name: values[name] for name in facts} == facts:
                return float(values["accuracy"])
        fold = 0 if is_prepared(domain) else None
        network = load(model)
        _, figures = zero_shot_figures(network, domain, "test", lambda _: None, fold=fold)  # type: ignore[arg-type]
        accuracy = figures["accuracy_percent"][0]
        with written_aside(kept) as aside:
            aside.write_text(json.dumps({**facts, "accuracy": accuracy}), encoding="utf-8")
        return float(accuracy or 0.0)


def main() -> None:
    """Do what is not done yet, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    changed = {"action": "append", "default": [], "metavar": "KEY=VALUE"}
    parser.add_argument("--teacher-change", **changed, help="change to the teacher's recipe (may be repeated)")
    parser.add_argument("--student-change", **changed, help="change to all other recipes (may be repeated)")
    parser.add_argument("--seed", type=int, action="append", help="by default 1, 2 and 3")
    parser.add_argument("--row", action="append", choices=ROWS, help="only this row (may be repeated)")
    parser.add_argument("--domain", action="append", help=f"column (may be repeated); by default {', '.join(DOMAINS)}")
    parser.add_argument("--threshold", type=float, help="of recordings and captions, in the place of the paper's")
    parser.add_argument("--caption-threshold", type=float, help="of captions and labels, in the place of the paper's")
    parser.add_argument("--out", type=Path, default=Path("runs/unpaired"), help="where everything is kept")
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    given = {"audio_threshold": options.threshold, "caption_threshold": options.caption_threshold}
    thresholds = {name: value for name, value in given.items() if value is not None}
    domains = tuple(options.domain or DOMAINS)
    rows = tuple(row for row in ROWS if row == TEACHER or row in (options.row or ROWS))
    cells: dict[tuple[str, str], dict[int, float]] = {}
    for seed in options.seed or (1, 2, 3):
        folder = (options.out / f"seed-{seed}").absolute()
        work = Work(folder, seed, tuple(options.teacher_change), tuple(options.student_change), thresholds)
        for row, domain, model in _models(work, rows, domains):
            cells.setdefault((row, domain), {})[seed] = work.accuracy(model, domain)
    print(table(cells, rows, domains))


def _models(work: Work, rows: tuple[str, ...], domains: tuple[str, ...]) -> Iterator[tuple[str, str, Path]]:
    for row in rows:
        for domain in domains:
            try:
                yield row, domain, work.trained(row, domain if row.startswith(("ds", "ads")) else None)
            except AuriscopeError as error:
                if row == TEACHER:
                    raise
                print(f"{row}, {domain}, seed {work.seed}: {error}", file=sys.stderr)


def table(cells: dict[tuple[str, str], dict[int, float]], rows: tuple[str, ...], domains: tuple[str, ...]) -> str:
    """The table in Markdown, and which row is the best in each column."""
    full, subset = published("zero-shot, full teacher"), published("zero-shot, subset teacher")
    head = ["", *(Path(domain).name for domain in domains), "published", "with a subset's teacher"]
    lines = [f"| {' | '.join(head)} |", "|---" * len(head) + "|"]
    for row in rows:
        own = [told(cells.get((row, domain), {}), cells.get((TEACHER, domain), {}), row) for domain in domains]
        lines.append(f"| {' | '.join([row, *own, full.get(row, '–'), subset.get(row, '–')])} |")
    for domain in domains:
        means = {row: statistics.fmean(cells[row, domain].values()) for row in rows if cells.get((row, domain))}
        best = max(means, key=lambda row: means[row])
        lines.append(f"\nBest on {Path(domain).name}: {best}, {means[best]:.1f}; the teacher {means[TEACHER]:.1f}.")
    return "\n".join(lines)


def told(values: dict[int, float], teachers: dict[int, float], row: str) -> str:
    """A mean over seeds with its interval, and the mean difference from the teachers of these seeds."""
    if not values:
        return "–"
    text = interval(list(values.values()))
    if row == TEACHER:
        return text
    return f"{text} ({statistics.fmean(value - teachers[seed] for seed, value in values.items()):+.1f})"


def interval(values: list[float]) -> str:
    """A mean, and half the width of its 95 % interval by Student's t."""
    mean = statistics.fmean(values)
    if len(values) < 2:
        return f"{mean:.1f}"
    half = float(student_t.ppf(0.975, len(values) - 1)) * statistics.stdev(values) / math.sqrt(len(values))
    return f"{mean:.1f} ± {half:.1f}"


def published(name: str) -> dict[str, str]:
    """By row: what the paper has for ESC-50, UrbanSound8K and TUT17."""
    found: dict[str, dict[str, str]] = {}
    with PUBLISHED.open(encoding="utf-8", newline="") as stream:
        for line in csv.DictReader(stream):
            if line["table"] == name:
                system = line["system"].lower().replace("+", "-")
                row = TEACHER if system in ("clap teacher", "clap teacher (subset)") else system
                found.setdefault(row, {})[line["corpus"]] = line["value"]
    order = ("ESC-50", "UrbanSound8K", "TUT17")
    return {row: " / ".join(values.get(corpus, "–") for corpus in order) for row, values in found.items()}


if __name__ == "__main__":
    main()
