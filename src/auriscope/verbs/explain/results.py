"""What explaining one input gives, as data: the content of ``explain-METHOD.json``."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from auriscope.verbs.batch import FileResult


@dataclass(frozen=True)
class ClassProbability:
    """How probable a class is of the input, of the interpretation alone, and of the rest."""

    label: str
    input: float
    interpretation: float
    rest: float


@dataclass(frozen=True)
class ExplainResult(FileResult):
    """What a classifier heard, or saw, in one input.

    ``label`` is the class that was explained, and ``decided`` the most probable one of the input. ``fidelity`` is the
    share of the windows (a short recording or a picture is one) in which the interpretation alone is decided as the
    input is, and ``faithfulness`` by how much the class's probability falls without it, -1 to 1. ``figures`` are the
    others, by the names of :func:`auriscope.metrics.interpretation.interpretation_values`; None where there is none.
    ``probabilities`` are those of the explained class and of the most probable ones.

    ``outputs`` are what was written: of a recording the page, the sounds of what was heard and what was left and of the
    recording as the classifier heard it, and a picture of the mask; of a picture the page and three pictures.
    ``classifier`` and ``interpreter`` are addresses; the latter is None for methods that need no training. ``resumed``:
    an earlier call had done it already. Where ``error`` is not None it says in one line why there is nothing else.
    """

    input: str
    method: str = ""
    label: str = ""
    outputs: tuple[str, ...] = ()
    fidelity: float | None = None
    faithfulness: float | None = None
    figures: Mapping[str, float | None] = field(default_factory=dict)
    decided: str = ""
    probabilities: tuple[ClassProbability, ...] = ()
    kind: Literal["sound", "picture"] = "sound"
    classifier: str | None = None
    interpreter: str | None = None
    sample_rate: int | None = None
    duration_seconds: float | None = None
    warnings: tuple[str, ...] = ()
    resumed: bool = False
    error: str | None = None

    @property
    def page(self) -> str:
        """The path of the page."""
        return self.outputs[0]
