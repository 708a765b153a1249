"""Model cards: what a model was trained on, how, under which licence, and how well it does.

The card is kept as data in ``card.json`` and rendered from there to ``README.md``, for people and for the hub.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Self

from pydantic import TypeAdapter, ValidationError

from auriscope.errors import CheckpointError
from auriscope.pretrained.files import CARD_NAME, read_json, readable_json


@dataclass(frozen=True)
class ModelCard:
    """What must be known of trained weights before they are used.

    ``licence`` is the weights' SPDX expression; ``data`` names the corpora of the training and ``attributions`` credits
    their authors as their licences ask; ``command`` is the line that trains it again, with ``seed``; ``audio_hours`` is
    how much audio the training drew (repetitions count) and ``training_hours`` its wall-clock time; ``metrics`` maps a
    test figure, with its unit and test set in the name, to its value (``"si_snri_db libri2mix-clean test"``), and
    ``intervals`` some of the same names to the ends of the 95 % interval; ``curve`` is the file name of the training
    curve in the same folder; ``limits`` says where not to trust it.
    """

    title: str
    summary: str
    licence: str
    data: tuple[str, ...] = ()
    attributions: tuple[str, ...] = ()
    command: str = ""
    seed: int | None = None
    audio_hours: float | None = None
    training_hours: float | None = None
    metrics: Mapping[str, float] = field(default_factory=dict)
    intervals: Mapping[str, tuple[float, float]] = field(default_factory=dict)
    curve: str | None = None
    limits: tuple[str, ...] = ()
    citation: str = ""

    def __post_init__(self) -> None:
        for name in ("title", "summary", "licence"):
            if not getattr(self, name).strip():
                raise ValueError(f"a model card needs a {name}")
        for name, value in self.metrics.items():
            if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
                raise ValueError(f"the metric {name!r} is {value!r}, not a finite number")
        for name, ends in self.intervals.items():
            if name not in self.metrics or not all(math.isfinite(end) for end in ends) or ends[0] > ends[1]:
                raise ValueError(f"the interval of {name!r} is {ends!r}; give two finite ends for one of the metrics")

    def to_json(self) -> str:
        """Give the card as the text of ``card.json``."""
        plain = dataclasses.replace(self, metrics=dict(self.metrics), intervals=dict(self.intervals))
        return readable_json(dataclasses.asdict(plain)) + "\n"

    def figure(self, name: str) -> str:
        """Tell one of the metrics, with its interval if there is one: ``"4.63 [4.09, 5.17]"``; ``KeyError`` without."""
        ends = self.intervals.get(name)
        return f"{self.metrics[name]:.4g}" + ("" if ends is None else f" [{ends[0]:.4g}, {ends[1]:.4g}]")

    @classmethod
    def read(cls, folder: Path) -> Self:
        """Read the card of a checkpoint's folder; raises ``CheckpointError`` when it is missing or damaged.

        Values with unknown names, of a later version perhaps, are passed over.
        """
        path = folder / CARD_NAME
        try:
            return TypeAdapter(cls).validate_python(read_json(path))
        except ValidationError as error:
            problem = error.errors()[0]
            where = ".".join(str(part) for part in problem["loc"])
            reason = f"{where}: {problem['msg']}" if where else problem["msg"]
            raise CheckpointError(f"{path}: not a valid model card: {reason}") from error

    def render(self, facts: Mapping[str, Any] | None = None) -> str:
        """Render the card as Markdown for ``README.md``; ``facts`` of ``config.json`` are listed below the summary."""
        lines = ["---", "library_name: auriscope", f"license: {self.licence.lower()}", "---", "", f"# {self.title}", ""]
        lines += [self.summary, ""]
        if facts:
            lines += [*(f"- {name}: {value}" for name, value in facts.items()), ""]
        if self.metrics:
            lines += ["## Figures", "", f"| what | value{' [95 % interval]' if self.intervals else ''} |", "|---|---|"]
            lines += [f"| {_cell(name)} | {self.figure(name)} |" for name in self.metrics]
            lines += [""]
        if self.limits:
            lines += ["## Limits", "", *(f"- {limit}" for limit in self.limits), ""]
        lines += ["## Training", ""]
        if self.data:
            lines += [f"- data: {', '.join(self.data)}"]
        for name, hours in (("audio", self.audio_hours), ("training time", self.training_hours)):
            if hours is not None:
                lines += [f"- {name}: {hours:.4g} hours"]
        if self.seed is not None:
            lines += [f"- seed: {self.seed}"]
        if self.command:
            lines += ["- command:", "", "  ```", f"  {self.command}", "  ```"]
        if self.curve:
            lines += ["", f"![training curve]({self.curve})"]
        lines += ["", "## Licence", "", f"The weights: {self.licence}.", ""]
        if self.attributions:
            lines += ["The data:", "", *(f"- {attribution}" for attribution in self.attributions), ""]
        if self.citation:
            lines += ["## Citation", "", self.citation, ""]
        return "\n".join(lines)


def _cell(text: str) -> str:
    return text.replace("|", "\\|")
