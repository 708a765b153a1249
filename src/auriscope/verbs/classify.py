"""The verb ``classify``: recordings or pictures in, the classes that a classifier takes them for out."""

from __future__ import annotations

import csv
import dataclasses
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from auriscope.classification.classifier import Classifier, ImageClassifier, SoundClassifier
from auriscope.crossmodal.clap import CrossModal
from auriscope.crossmodal.zeroshot import TEMPLATES, ZeroShotClassifier
from auriscope.errors import AudioFileError, AuriscopeError
from auriscope.interpretation.long import windows
from auriscope.pretrained import load
from auriscope.pretrained.addresses import weights_sha256
from auriscope.signal.files import AudioReader
from auriscope.signal.levels import is_silent
from auriscope.signal.outputs import printable
from auriscope.verbs.batch import (
    FileResult,
    ProgressCallback,
    StrPath,
    collected,
    each,
    earlier_result,
    expand_inputs,
    folder_aside,
    folders_if_written,
    reporter,
    source_of,
    write_record,
)
from auriscope.verbs.defaults import default_classifier, default_crossmodal
from auriscope.verbs.picture import expand_pictures, read_picture

RECORD, TABLE, PICTURE = "classify.json", "classify.csv", "classify.png"
"""Written for each input: the classes, and what they were found from and with; and for each recording, the probability
of every class over time as a table, and those of the likeliest as a picture."""

WINDOW_SECONDS = 5.0
"""Longer recordings are classified in windows of this length, each of which begins in the middle of the one before;
by the names of classes, in windows as long as the model hears at once."""

_FORMAT_VERSION = 1
_SHOWN = 10


@dataclass(frozen=True)
class LabelProbability:
    """A class by its name, and how probable it is, 0 to 1."""

    label: str
    probability: float


@dataclass(frozen=True)
class Window:
    """A stretch of a recording: its likeliest class and how probable that is; None of silence."""

    start_seconds: float
    end_seconds: float
    label: str | None
    probability: float | None


@dataclass(frozen=True)
class ClassifyResult(FileResult):
    """What a recording or a picture was taken for.

    ``labels`` are the likeliest classes, from the likeliest on; their probabilities are those of all of the recording,
    the mean over ``windows`` by their length, silent ones left out. A picture has neither windows nor a duration.
    ``files`` are what was written. ``resumed``: an earlier call had done it already. Where ``error`` is not None it
    says in one line why there is none.
    """

    input: str
    model: str | None = None
    labels: tuple[LabelProbability, ...] = ()
    windows: tuple[Window, ...] = ()
    duration_seconds: float | None = None
    files: tuple[str, ...] = ()
    resumed: bool = False
    error: str | None = None


def classify(
    inputs: StrPath | Iterable[StrPath],
    out: StrPath | None = None,
    *,
    model: StrPath | Classifier | CrossModal | None = None,
    labels: Sequence[str] | None = None,
    templates: Sequence[str] = (),
    top: int = 5,
    window_seconds: float | None = None,
    channel: int | None = None,
    device: Any = "cpu",
    offline: bool | None = None,
    force: bool = False,
    progress: ProgressCallback | None = None,
    on_result: Callable[[ClassifyResult], None] | None = None,
) -> list[ClassifyResult]:
    """Tell the classes of recordings, over time, or of pictures; with ``out``, into ``out/<stem>/classify.json``.

    Recordings of hours run in constant memory, but for the probabilities themselves. With ``out`` every recording gets
    a table and a picture of the probabilities over time as well. A file that fails yields a result with an ``error``
    and stops no other. A file done earlier with the same weights and settings is not done again, if the model is given
    by its address and there is an ``out``.

    Args:
        inputs: recordings, or for a classifier of pictures, pictures; and folders of them. Recordings may be of any
            rate, channels and length; pictures are fitted to the size that the classifier takes.
        out: folder for the results, made if missing; None: nothing is written.
        model: address of a classifier, or the model; by default the shipped one. With ``labels``, a cross-modal model.
        labels: names of classes, two at least, that a cross-modal model tells without having been trained on them
            (:class:`~auriscope.crossmodal.zeroshot.ZeroShotClassifier`).
        templates: prompts for the labels, with ``{}`` in the place of the name, or ``ensemble``; by default "this is a
            sound of {}".
        top: how many classes to give, the likeliest.
        window_seconds: length of the windows of longer recordings; by default :data:`WINDOW_SECONDS`, and with
            ``labels`` as long as the model hears at once.
        channel: the channel to take, counted from 0; by default all are mixed down.
        device: where the model runs.
        offline: forbid the network, which only a ``hf://`` address would use.
        force: do again what is already done.
        progress: called as the work goes on.
        on_result: called with each result as soon as there is one, in the order of the inputs.

    Returns:
        One result per input, in their order.

    Raises:
        AuriscopeError: nothing can be done at all: the model cannot be loaded or is no classifier, labels are given to
            one that has its own, or none to one that has none, the output folder cannot be written, an input folder
            holds nothing for it, or ``window_seconds`` is below a tenth.
    """
    if window_seconds is not None and not window_seconds >= 0.1:
        raise AuriscopeError(f"windows of {window_seconds:g} s are too short to tell classes; give 0.1 s or more")
    if top < 1:
        raise AuriscopeError(f"{top} classes are none; give one at least")
    classifier, address = _opened(model, labels, templates, device, offline)
    is_sound = isinstance(classifier, SoundClassifier | ZeroShotClassifier)
    if window_seconds is None:
        heard_at_once = isinstance(classifier, ZeroShotClassifier)
        window_seconds = float(classifier.config.window_seconds) if heard_at_once else WINDOW_SECONDS
    paths = expand_inputs(inputs) if is_sound else expand_pictures(inputs)
    folders = folders_if_written(paths, out)
    settings = None
    if model is None or isinstance(model, str | os.PathLike):
        settings = {
            "model": address,
            "weights": weights_sha256(address, offline=offline),
            "top": top,
            "window_seconds": window_seconds,
            "channel": channel,
        }
        if isinstance(classifier, ZeroShotClassifier):
            settings |= {"labels": list(classifier.labels), "templates": list(classifier.templates)}
    written = (RECORD, TABLE, PICTURE) if is_sound else (RECORD,)

    def work(path: Path, index: int) -> ClassifyResult:
        folder = folders[index]
        made = {"format_version": _FORMAT_VERSION, "source": source_of(path), "settings": settings}
        if folder is not None and settings is not None and not force:
            done = earlier_result(ClassifyResult, path, folder, RECORD, made, written)
            if done is not None:
                return done

        report = reporter(progress, path, index, len(paths), "classifying")
        if isinstance(classifier, SoundClassifier | ZeroShotClassifier):
            heard = _heard(path, classifier, window_seconds, channel, report)
        else:
            heard = _seen(path, classifier)
        result = ClassifyResult(
            os.fspath(path),
            address,
            _likeliest(heard.whole(), classifier.labels, top),
            heard.windows(classifier.labels),
            heard.duration_seconds,
        )
        if folder is None:
            return result
        with folder_aside(folder) as aside:
            write_record(aside / RECORD, {**made, **result.facts()})
            if is_sound:
                _write_table(aside / TABLE, heard, classifier.labels)
                _write_picture(aside / PICTURE, heard, classifier.labels)
        return dataclasses.replace(result, files=tuple(os.fspath(folder / name) for name in written))

    return collected(each(paths, work, lambda path, line: ClassifyResult(os.fspath(path), error=line)), on_result)


@dataclass(frozen=True)
class Heard:
    """What was heard in a recording: ``times`` (windows, 2) in seconds, and ``probabilities`` (windows, classes).

    The probabilities of silent windows are NaN. A picture is one window without a duration.
    """

    times: NDArray[np.float64]
    probabilities: NDArray[np.float32]
    duration_seconds: float | None

    def whole(self) -> NDArray[np.float64]:
        """Probabilities (classes,) of all of it, the mean over windows by their length."""
        there = np.isfinite(self.probabilities[:, 0])
        lengths = np.diff(self.times[there]).ravel()
        mean: NDArray[np.float64] = np.average(self.probabilities[there].astype(np.float64), axis=0, weights=lengths)
        return mean

    def windows(self, labels: Sequence[str]) -> tuple[Window, ...]:
        """The likeliest class of every window; none of a picture."""
        if self.duration_seconds is None:
            return ()
        found = []
        for (start, end), values in zip(self.times.tolist(), self.probabilities, strict=True):
            best = int(values.argmax()) if np.isfinite(values[0]) else None
            named = (None, None) if best is None else (labels[best], round(float(values[best]), 6))
            found.append(Window(round(start, 3), round(end, 3), *named))
        return tuple(found)


def _opened(
    model: StrPath | Classifier | CrossModal | None,
    labels: Sequence[str] | None,
    templates: Sequence[str],
    device: Any,
    offline: bool | None,
) -> tuple[Classifier | ZeroShotClassifier, str]:
    if labels is None and templates:
        raise AuriscopeError("templates are prompts for labels; name the classes with --labels")
    loaded: Any = model
    if isinstance(model, Classifier | CrossModal):
        address = model.name
    else:
        usual = default_classifier if labels is None else default_crossmodal
        address = usual() if model is None else os.fspath(model)
        loaded = load(address, device=device, offline=offline)
    if isinstance(loaded, CrossModal):
        if labels is None:
            raise AuriscopeError(f"{address} tells whatever classes are named; name them with --labels")
        return ZeroShotClassifier(loaded.eval(), labels, templates or TEMPLATES), address
    if not isinstance(loaded, Classifier):
        raise AuriscopeError(f"{address} does not classify; see `auriscope models`")
    if labels is not None:
        raise AuriscopeError(f"{address} has classes of its own; leave --labels out, or give a cross-modal model")
    return loaded.eval(), address


@torch.inference_mode()
def _heard(
    path: Path,
    classifier: SoundClassifier | ZeroShotClassifier,
    window_seconds: float,
    channel: int | None,
    report: Callable[[float], None],
) -> Heard:
    rate = int(classifier.config.sample_rate)
    size = round(window_seconds * rate)
    overlap = size // 2
    times, rows, start = [], [], 0
    with AudioReader(path, sample_rate=rate, channel=channel) as reader:
        total = max(1.0, reader.info.duration_seconds * rate)
        for window in windows(reader.blocks(size), size, overlap):
            end = start + len(window)
            times.append((start / rate, end / rate))
            if is_silent(window):
                rows.append(np.full(len(classifier.labels), np.nan, np.float32))
            else:
                waveform = torch.from_numpy(window)[None].to(classifier.device)
                rows.append(classifier.predict_proba(waveform)[0].float().cpu().numpy())
            report(min(1.0, end / total))
            start = end - overlap
    probabilities = np.stack(rows) if rows else np.zeros((0, len(classifier.labels)), np.float32)
    if not np.isfinite(probabilities).any():
        raise AudioFileError(f"{printable(path)}: is silent: there is nothing in it to classify")
    return Heard(np.array(times), probabilities, round(times[-1][1], 6))


@torch.inference_mode()
def _seen(path: Path, classifier: Classifier | ZeroShotClassifier) -> Heard:
    assert isinstance(classifier, ImageClassifier)
    config = classifier.config
    image = read_picture(path, channels=config.channels, height=config.height, width=config.width)
    if float(image.max() - image.min()) == 0.0:
        raise AuriscopeError(f"{printable(path)}: is blank: there is nothing in it to classify")
    return Heard(np.array([[0.0, 1.0]]), classifier.predict_proba(image.to(classifier.device)).cpu().numpy(), None)


def _likeliest(probabilities: NDArray[np.float64], labels: Sequence[str], top: int) -> tuple[LabelProbability, ...]:
    order = np.argsort(-probabilities, kind="stable")[:top].tolist()
    return tuple(LabelProbability(labels[number], round(float(probabilities[number]), 6)) for number in order)


def _write_table(path: Path, heard: Heard, labels: Sequence[str]) -> None:
    """A row per window: where it begins and ends, and the probability of every class; empty of silence."""
    with path.open("w", encoding="utf-8", newline="") as stream:
        writer = csv.writer(stream, lineterminator="\n")
        writer.writerow(["start_seconds", "end_seconds", *labels])
        for (start, end), values in zip(heard.times.tolist(), heard.probabilities, strict=True):
            writer.writerow([f"{start:.3f}", f"{end:.3f}", *_cells(values)])


def _cells(values: NDArray[np.float32]) -> Iterator[str]:
    return (f"{value:.6f}" if np.isfinite(value) else "" for value in values.tolist())


def _write_picture(path: Path, heard: Heard, labels: Sequence[str]) -> None:
    """The probabilities over time of the likeliest classes, a line for each; silence is left white."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    shown = np.argsort(-np.nanmax(heard.probabilities, axis=0), kind="stable")[:_SHOWN]
    # Windows overlap: a picture element reaches from one window's middle half to the next one's.
    middles = heard.times.mean(axis=1)
    edges = np.concatenate([[heard.times[0, 0]], (middles[1:] + middles[:-1]) / 2.0, [heard.times[-1, 1]]])
    figure = Figure(figsize=(9.0, 1.2 + 0.3 * len(shown)), layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.subplots()
    mesh = axes.pcolormesh(
        edges,
        np.arange(len(shown) + 1) - 0.5,
        np.ma.masked_invalid(heard.probabilities[:, shown].T),
        cmap="viridis",
        vmin=0.0,
        vmax=1.0,
    )
    axes.set_yticks(range(len(shown)), [labels[number] for number in shown])
    axes.invert_yaxis()
    axes.set_xlabel("time in seconds")
    figure.colorbar(mesh, ax=axes, label="probability")
    figure.savefig(path, dpi=100, metadata={"Software": None})
