"""What a comparison found, as data, and its tables."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from auriscope.signal.outputs import written_aside
from auriscope.verbs.compare.cost import Cost
from auriscope.verbs.evaluate import Figure

PUBLISHED = "SI-SNRi on WSJ0-2Mix (dB)"
PUBLISHED_SIZE = "parameters (million)"


@dataclass(frozen=True)
class CurvePoint:
    """One validation of a training run: after how many hours of mixed audio, and the mean SI-SNRi in dB."""

    hours_of_audio: float
    si_snri_db: float


@dataclass(frozen=True)
class ComparedModel:
    """One row of the leaderboard.

    ``figures`` are those of ``evaluate`` by evaluation set, and ``errors`` say why a set has none. ``costs`` are in
    the order of the durations; ``curve`` is empty where the run of a model is not at hand. ``published`` holds the
    figures of the paper, by description: of the paper's configuration and corpus, not of this model.
    """

    label: str
    address: str
    architecture: str
    sample_rate: int
    num_sources: int
    num_parameters: int
    macs_per_second: float
    figures: dict[str, dict[str, Figure]]
    errors: dict[str, str] = field(default_factory=dict)
    costs: tuple[Cost, ...] = ()
    curve: tuple[CurvePoint, ...] = ()
    published: dict[str, float] = field(default_factory=dict)

    @property
    def hours_of_audio(self) -> float | None:
        """Hours of mixed audio that the run had seen at its last validation."""
        return self.curve[-1].hours_of_audio if self.curve else None

    def cost_at(self, duration_seconds: float) -> Cost | None:
        """The cost over a duration, if it was measured."""
        return next((cost for cost in self.costs if cost.duration_seconds == duration_seconds), None)


def ranked(models: Iterable[ComparedModel], figure: str = "si_snri_db") -> list[ComparedModel]:
    """Order models by a figure on their first set, the best first; those without it come last."""

    def place(model: ComparedModel) -> float:
        for figures in model.figures.values():
            value = figures[figure].value if figure in figures else None
            return -value if value is not None else float("inf")
        return float("inf")

    return sorted(models, key=place)


def leaderboard_csv(models: Sequence[ComparedModel], sets: Sequence[str], speed_seconds: float) -> str:
    """The leaderboard as CSV: a row per model, units in the names of the columns."""
    figures = ("si_snri_db", "sdri_db")
    header = ["model", "architecture", "num_parameters", "macs_per_second_of_audio", "hours_of_audio_seen"]
    for name in sets:
        header += [f"{name} {figure}{end}" for figure in figures for end in ("", "_low", "_high")]
    header += [f"audio_seconds_per_second_at_{speed_seconds:g}_s", "published_wsj0_2mix_si_snri_db"]
    header += ["published_parameters_million"]
    rows = []
    for model in models:
        row: list[object] = [model.label, model.architecture, model.num_parameters, round(model.macs_per_second)]
        row.append(_rounded(model.hours_of_audio))
        for name in sets:
            for figure in figures:
                value = model.figures.get(name, {}).get(figure, Figure(None, None, None))
                row += [_rounded(value.value), _rounded(value.low), _rounded(value.high)]
        cost = model.cost_at(speed_seconds)
        row.append(_rounded(cost.duration_seconds / cost.seconds) if cost and cost.seconds else "")
        rows.append([*row, model.published.get(PUBLISHED, ""), model.published.get(PUBLISHED_SIZE, "")])
    return _csv(header, rows)


def leaderboard_markdown(models: Sequence[ComparedModel], sets: Sequence[str], speed_seconds: float) -> str:
    """The leaderboard as a Markdown table for people: figures with their intervals, costs, and what was published."""
    header = ["model", *(f"{figure} on {name}, dB" for name in sets for figure in ("SI-SNRi", "SDRi"))]
    header += ["parameters, M", "10⁹ MAC/s", f"speed at {speed_seconds:g} s", "trained on, h"]
    header += ["published SI-SNRi on WSJ0-2Mix, dB", "published parameters, M"]
    lines = ["| " + " | ".join(header) + " |", "|---" * len(header) + "|"]
    for model in models:
        cells = [model.label]
        for name in sets:
            for figure in ("si_snri_db", "sdri_db"):
                value = model.figures.get(name, {}).get(figure, Figure(None, None, None))
                interval = "" if value.low is None else f" [{_rounded(value.low)}, {_rounded(value.high)}]"
                cells.append(_rounded(value.value) + interval)
        cost = model.cost_at(speed_seconds)
        speed = cost.duration_seconds / cost.seconds if cost and cost.seconds else None
        cells += [_rounded(model.num_parameters / 1e6), _rounded(model.macs_per_second / 1e9)]
        cells += [_rounded(speed, 1), _rounded(model.hours_of_audio, 1)]
        cells += [str(model.published.get(name, "")) for name in (PUBLISHED, PUBLISHED_SIZE)]
        lines.append("| " + " | ".join(cell or "–" for cell in cells) + " |")
    return "\n".join(lines) + "\n"


def cost_csv(models: Sequence[ComparedModel]) -> str:
    """Time and memory of every model over every duration as CSV."""
    rows = [
        [model.label, f"{cost.duration_seconds:g}", _rounded(cost.seconds, 4), _rounded(cost.peak_mib, 1), cost.reason]
        for model in models
        for cost in model.costs
    ]
    return _csv(["model", "duration_seconds", "seconds", "peak_mib", "reason"], rows)


def curves_csv(models: Sequence[ComparedModel]) -> str:
    """The validation curves as CSV."""
    rows = [
        [model.label, _rounded(point.hours_of_audio), _rounded(point.si_snri_db)]
        for model in models
        for point in model.curve
    ]
    return _csv(["model", "hours_of_audio", "si_snri_db"], rows)


def read_curve(run_folder: Path) -> tuple[CurvePoint, ...]:
    """The validation curve that a training run kept in its folder; empty if there is none."""
    path = run_folder / "valid.csv"
    if not path.is_file():
        return ()
    with path.open(newline="", encoding="utf-8") as file:
        rows = list(csv.DictReader(file))
    return tuple(
        CurvePoint(float(row["hours_of_audio"]), float(row["si_snri_db"]))
        for row in rows
        if row.get("hours_of_audio") and row.get("si_snri_db")
    )


def write_text(path: Path, text: str) -> None:
    """Write a text file so that it is whole or not there."""
    with written_aside(path) as aside:
        aside.write_text(text, encoding="utf-8")


def _csv(header: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(rows)
    return buffer.getvalue()


def _rounded(value: float | None, digits: int = 2) -> str:
    return "" if value is None else f"{value:.{digits}f}"
