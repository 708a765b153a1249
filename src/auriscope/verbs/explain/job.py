"""What is done with one input of ``explain``: its results, its page and its record, unless that was done before."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import auriscope
from auriscope.classification import SoundClassifier
from auriscope.verbs.batch import StrPath, earlier_result, folder_aside, source_of, write_record
from auriscope.verbs.explain.explainer import Explainer
from auriscope.verbs.explain.methods import Method
from auriscope.verbs.explain.page import write_page
from auriscope.verbs.explain.results import ExplainResult

_FORMAT_VERSION = 1


@dataclass(frozen=True)
class Job:
    """The settings of one call.

    ``label`` is the name of the class to explain, None: the most probable one of each input. ``channel`` of recordings
    is taken, None: all are mixed down. ``out`` is the folder of all results, and only told. Raises ``AuriscopeError``
    if there is no such class.
    """

    method: Method
    out: StrPath
    label: str | None = None
    channel: int | None = None
    force: bool = False

    def __post_init__(self) -> None:
        if self.label is not None:
            self.method.classifier.label_index(self.label)

    @property
    def tag(self) -> str:
        """What the names of the results begin with: the method, and the class if it was asked for."""
        return self.method.name if self.label is None else f"{self.method.name}-{_slug(self.label)}"

    @property
    def record(self) -> str:
        """The name of the record."""
        return f"explain-{self.tag}.json"

    def run(self, path: Path, folder: Path, report: Callable[[float], None]) -> ExplainResult:
        """Explain one input into its folder, unless that has been done."""
        method, record = self.method, self.record
        settings = method.settings()
        if settings is not None:
            settings |= {"label": self.label, "channel": self.channel}
        made = {"format_version": _FORMAT_VERSION, "source": source_of(path), "settings": settings}
        if settings is not None and not self.force:
            done = earlier_result(ExplainResult, path, folder, record, made, None, called="outputs")
            if done is not None:
                return done
        labels = method.classifier.labels
        is_sound = isinstance(method.classifier, SoundClassifier)
        number = None if self.label is None else method.classifier.label_index(self.label)
        explainer = Explainer(method, number, self.channel)
        with folder_aside(folder) as aside:
            if is_sound:
                found = explainer.sound(path, aside, self.tag, report)
            else:
                found = explainer.picture(path, aside, self.tag)
            result = ExplainResult(
                input=os.fspath(path),
                method=method.name,
                label=labels[found.label],
                outputs=(f"explain-{self.tag}.html", *found.files),
                fidelity=found.values["input_fidelity"],
                faithfulness=found.values["faithfulness"],
                figures=found.figures,
                decided=labels[int(found.probabilities[0].argmax())],
                probabilities=found.classes(labels),
                kind="sound" if is_sound else "picture",
                classifier=method.classifier_address,
                interpreter=method.interpreter_address,
                sample_rate=int(method.classifier.config.sample_rate) if is_sound else None,
                duration_seconds=found.duration_seconds,
                warnings=found.warnings,
            )
            write_page(result, found.shown, aside / result.page, command=self._command(path))
            facts = {key: value for key, value in result.to_dict().items() if key not in {"input", "resumed"}}
            write_record(aside / record, {**made, "auriscope_version": auriscope.__version__, **facts})
        report(1.0)
        return dataclasses.replace(result, outputs=tuple(os.fspath(folder / name) for name in result.outputs))

    def _command(self, path: Path) -> str:
        """Give the command line that makes the same page again."""
        words = ["auriscope", "explain", os.fspath(path), "--method", self.method.name, *self.method.options]
        words += ["--label", self.label] if self.label is not None else []
        words += ["--channel", str(self.channel)] if self.channel is not None else []
        return shlex.join([*words, "--out", os.fspath(self.out)])


def _slug(label: str) -> str:
    """Write a class so that it can be part of a file's name."""
    return re.sub(r"[^\w]+", "-", label).strip("-") or "class"
