"""The verb ``explain``: recordings or pictures in; what a classifier heard or saw in them out."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from auriscope.classification import SoundClassifier
from auriscope.verbs.batch import (
    ProgressCallback,
    StrPath,
    collected,
    each,
    expand_inputs,
    reporter,
    result_folders,
)
from auriscope.verbs.explain.items import write_items
from auriscope.verbs.explain.job import Job
from auriscope.verbs.explain.methods import load_method
from auriscope.verbs.explain.results import ClassProbability, ExplainResult
from auriscope.verbs.picture import expand_pictures

__all__ = ["ClassProbability", "ExplainResult", "explain"]


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
    job = Job(chosen, out, label, channel, force)
    is_sound = isinstance(chosen.classifier, SoundClassifier)
    paths = expand_inputs(inputs) if is_sound else expand_pictures(inputs)
    folders = result_folders(paths, out)

    def work(path: Path, index: int) -> ExplainResult:
        report = reporter(progress, path, index, len(paths), "explaining")
        return job.run(path, folders[index], report)

    results = collected(each(paths, work, lambda path, line: ExplainResult(os.fspath(path), error=line)), on_result)
    if is_sound:
        write_items(Path(out))
    return results
