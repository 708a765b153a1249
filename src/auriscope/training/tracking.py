"""The curves of a run: CSV files, one picture, and TensorBoard where it is installed."""

from __future__ import annotations

import csv
import math
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

Row = Mapping[str, float]


class Curves:
    """One CSV file whose every row belongs to a step; a row is on the disk once it is added.

    A run that was killed continues from its last checkpoint and repeats the steps since: the rows of these steps, and
    one half written at the moment of the kill, are dropped when the file is opened, so that no step occurs twice.
    """

    def __init__(self, path: Path, resumed_step: int) -> None:
        self.path = path
        self.columns: list[str] = []
        self.rows: list[dict[str, float]] = []
        if path.exists():
            self.rows = [row for row in _read(path) if row["step"] <= resumed_step]
            self.columns = list(dict.fromkeys(name for row in self.rows for name in row))
            self._rewrite()

    def add(self, row: Row) -> None:
        """Append a row, which has a ``step``; new names become new columns."""
        self.rows.append(dict(row))
        new = [name for name in row if name not in self.columns]
        if new:
            self.columns += new
            self._rewrite()
            return
        with self.path.open("a", newline="", encoding="utf-8") as file:
            csv.DictWriter(file, self.columns, lineterminator="\n").writerow(row)

    def _rewrite(self) -> None:
        aside = self.path.with_name(self.path.name + ".part")
        with aside.open("w", newline="", encoding="utf-8") as file:
            writer = csv.DictWriter(file, self.columns, lineterminator="\n")
            writer.writeheader()
            writer.writerows(self.rows)
        aside.replace(self.path)


def _read(path: Path) -> list[dict[str, float]]:
    text = path.read_text(encoding="utf-8")
    whole = text[: text.rfind("\n") + 1]
    rows = csv.DictReader(whole.splitlines())
    return [{name: _number(value) for name, value in row.items() if name and value} for row in rows if row.get("step")]


def _number(text: str) -> float:
    return int(text) if text.isdigit() else float(text)


class Tracker:
    """Writes ``train.csv``, ``valid.csv``, ``curves.png`` and, where it is installed, TensorBoard's event files."""

    def __init__(self, folder: Path, resumed_step: int, metric: str) -> None:
        self.folder = folder
        self.metric = metric
        self._drawn_at = time.monotonic()
        self.train = Curves(folder / "train.csv", resumed_step)
        self.valid = Curves(folder / "valid.csv", resumed_step)
        self._events = _event_writer(folder / "tensorboard", resumed_step)

    def add(self, split: str, row: Row) -> None:
        """Add a row to the curves of ``"train"`` or ``"valid"``."""
        {"train": self.train, "valid": self.valid}[split].add(row)
        if self._events is not None:
            for name, value in row.items():
                if name != "step":
                    self._events.add_scalar(f"{split}/{name}", value, int(row["step"]))

    def draw_if_old(self, seconds: float = 60.0) -> None:
        """Draw ``curves.png`` unless it was drawn a short time ago: drawing costs as much as some training steps."""
        if time.monotonic() - self._drawn_at >= seconds:
            self.draw()

    def draw(self) -> None:
        """Draw ``curves.png``: the loss and the validation metrics over the hours of audio seen (else over steps)."""
        from matplotlib.backends.backend_agg import FigureCanvasAgg
        from matplotlib.figure import Figure

        metrics = [name for name in self.valid.columns if name not in ("step", "minutes", "hours_of_audio")]
        # The metric that selects the best weights comes first, and few enough others to be legible.
        metrics = sorted(metrics, key=lambda name: name != self.metric)[:5]
        panels = [("train", "loss", self.train.rows)] + [("valid", name, self.valid.rows) for name in metrics]
        figure = Figure(figsize=(7, 2.6 * len(panels)), layout="constrained")
        FigureCanvasAgg(figure)
        for axes, (split, name, rows) in zip(figure.subplots(len(panels), squeeze=False)[:, 0], panels, strict=True):
            by_hours = all(row.get("hours_of_audio", 0) > 0 for row in rows)
            across = "hours_of_audio" if by_hours else "step"
            points = [(row[across], row[name]) for row in rows if math.isfinite(row.get(name, math.nan))]
            axes.plot(*zip(*points, strict=True) if points else ([], []), marker="." if len(points) < 100 else None)
            axes.set(xlabel="hours of audio seen" if by_hours else "step", ylabel=f"{name} ({split})")
            if len({x for x, _ in points if x > 0}) > 1:
                axes.set_xscale("log")
            axes.grid(alpha=0.3)
        aside = self.folder / "curves.part.png"
        figure.savefig(aside, dpi=110)
        aside.replace(self.folder / "curves.png")
        self._drawn_at = time.monotonic()

    def close(self) -> None:
        """Finish the files."""
        if self._events is not None:
            self._events.close()


def _event_writer(folder: Path, resumed_step: int) -> Any:
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError:
        return None
    # Events of steps that are about to be repeated are hidden by TensorBoard.
    return SummaryWriter(folder, purge_step=resumed_step + 1 if resumed_step else None)
