"""The verb ``explain``: recordings or pictures in; what a classifier heard or saw in them out."""

from __future__ import annotations

import dataclasses
import os
import re
import shlex
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import auriscope
from auriscope.classification import SoundClassifier
from auriscope.verbs.batch import (
    Progress,
    ProgressCallback,
    StrPath,
    collected,
    each,
    earlier_result,
    expand_inputs,
    folder_aside,
    result_folders,
    source_of,
    write_record,
)
from auriscope.verbs.explain.explainer import Explainer
from auriscope.verbs.explain.items import write_items
from auriscope.verbs.explain.methods import Method, load_method
from auriscope.verbs.explain.page import write_page
from auriscope.verbs.explain.results import ClassProbability, ExplainResult
from auriscope.verbs.picture import expand_pictures

__all__ = ["ClassProbability", "ExplainResult", "explain"]

_FORMAT_VERSION = 1


def explain(
    inputs: StrPath | Iterable[StrPath],
    out: StrPath,
    *,
    method: str | None = None,
    model: StrPath | Any | None = None,
    classifier: StrPath | Any | None = None,
    label: str | None = None,
    separator: StrPath | Any | None = None,
    channel: int | None = None,
    device: Any = "cpu",
    offline: bool | None = None,
    force: bool = False,
    progress: ProgressCallback | None = None,
    on_result: Callable[[ExplainResult], None] | None = None,
) -> list[ExplainResult]:
    """Explain what a classifier hears in recordings, or sees in pictures: ``out/<stem>/explain-<method>.html``.

    Beside the page lie what was heard and what was left (together they are the recording, which lies there as well, as
    the classifier hears it), a record of all figures, ``explain-<method>.json``, and in ``out`` the manifest of a
    listening study of everything that was explained there, ``items.csv``. Of pictures they are PNG files. Results of
    several methods, and of several classes that were asked for, stand side by side. Recordings of hours run in constant
    memory, window by window. A file that fails yields a result with an ``error`` and stops no other. A file done
    earlier with the same settings and weights is not done again, if models are given by their addresses.

    Args:
        inputs: recordings, or for a classifier of pictures, pictures; and folders of them.
        out: folder for the results, made if missing.
        method: a name of ``interpretation.METHODS``, such as "piq" or "lime"; by default that of a trained interpreter
            that ``model`` is, else "lime".
        model: address of a classifier or of a trained interpreter, or the model; by default the classifier that ships.
            A method that is trained needs an interpreter, of which those that ship are found by their classifier.
        classifier: address of the classifier, or the classifier, in the place of the one that a trained interpreter
            names.
        label: the class to explain; by default the most probable one of each input.
        separator: for "lime" of recordings: address of a separation model, or the model, whose tracks are left out in
            the place of bands and spans.
        channel: the channel of recordings to take, counted from 0; by default all are mixed down.
        device: where the models run.
        offline: forbid the network, which only a ``hf://`` address would use.
        force: do again what is already done.
        progress: called as the work goes on.
        on_result: called with each result as soon as there is one.

    Returns:
        One result per input, in the order of the inputs.

    Raises:
        AuriscopeError: nothing can be done at all: a model cannot be loaded, there is no such method or class, the
            method does not go with the classifier, or a folder cannot be written or holds no input.
    """
    chosen = load_method(
        method, model=model, classifier=classifier, separator=separator, device=device, offline=offline
    )
    number = None if label is None else chosen.classifier.label_index(label)
    job = _Job(chosen, Explainer(chosen, number, channel), label, channel, force, out)
    is_sound = isinstance(chosen.classifier, SoundClassifier)
    paths = expand_inputs(inputs) if is_sound else expand_pictures(inputs)
    folders = result_folders(paths, out)

    def work(path: Path, index: int) -> ExplainResult:
        def report(fraction: float) -> None:
            if progress is not None:
                progress(Progress(os.fspath(path), index, len(paths), "explaining", fraction))

        report(0.0)
        return job.run(path, folders[index], report)

    results = collected(each(paths, work, lambda path, line: ExplainResult(os.fspath(path), error=line)), on_result)
    if is_sound:
        write_items(Path(out))
    return results


@dataclasses.dataclass(frozen=True)
class _Job:
    """The settings of one call."""

    method: Method
    explainer: Explainer
    label: str | None
    channel: int | None
    force: bool
    out: StrPath

    @property
    def tag(self) -> str:
        """What the names of the results begin with: the method, and the class if it was asked for."""
        return self.method.name if self.label is None else f"{self.method.name}-{_slug(self.label)}"

    def run(self, path: Path, folder: Path, report: Callable[[float], None]) -> ExplainResult:
        """Explain one input into its folder, unless that has been done."""
        record = f"explain-{self.tag}.json"
        settings = self.method.settings()
        if settings is not None:
            settings |= {"label": self.label, "channel": self.channel}
        made = {"format_version": _FORMAT_VERSION, "source": source_of(path), "settings": settings}
        if settings is not None and not self.force:
            done = earlier_result(ExplainResult, path, folder, record, made, None, called="outputs")
            if done is not None:
                return done
        labels = self.method.classifier.labels
        is_sound = isinstance(self.method.classifier, SoundClassifier)
        with folder_aside(folder) as aside:
            if is_sound:
                found = self.explainer.sound(path, aside, self.tag, report)
            else:
                found = self.explainer.picture(path, aside, self.tag)
            result = ExplainResult(
                input=os.fspath(path),
                method=self.method.name,
                label=labels[found.label],
                outputs=(f"explain-{self.tag}.html", *found.files),
                fidelity=found.values["input_fidelity"],
                faithfulness=found.values["faithfulness"],
                figures=found.figures,
                decided=labels[int(found.probabilities[0].argmax())],
                probabilities=found.classes(labels),
                kind="sound" if is_sound else "picture",
                classifier=self.method.classifier_address,
                interpreter=self.method.interpreter_address,
                sample_rate=int(self.method.classifier.config.sample_rate) if is_sound else None,
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
