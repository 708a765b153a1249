"""A classifier and a method that explains it, loaded once for many inputs: recordings of any length, and pictures."""

from __future__ import annotations

import io
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from auriscope.classification import ImageClassifier, SoundClassifier
from auriscope.errors import AudioFileError, AuriscopeError
from auriscope.interpretation.listening import Explained, explained, parts_of
from auriscope.interpretation.long import Piece, WindowsConfig, interpret_stream, probabilities_of
from auriscope.signal.files import AudioReader, AudioWriter
from auriscope.signal.outputs import printable
from auriscope.verbs.explain.methods import Method
from auriscope.verbs.explain.page import Pictures, Sounds
from auriscope.verbs.explain.results import ClassProbability
from auriscope.verbs.listen.survey import NUM_COLUMNS, NUM_ROWS, TOP_HERTZ, row_hertz
from auriscope.verbs.picture import read_picture

FloatArray = NDArray[np.float32]

RECORDING = "recording.wav"
"""The recording as the classifier hears it, beside what was heard and left: the same for every method."""

NUM_CLASSES = 5
"""So many of the most probable classes are shown."""

_FIGURES = ("average_drop", "average_increase", "average_gain", "sparseness", "complexity")


@dataclass(frozen=True)
class Findings:
    """What was found out about one input, all means over its windows by their length.

    ``probabilities`` (3, classes) are of the input, of the interpretation and of the rest. ``values`` are the figures
    by name, None where there is none. ``shown`` is what the page shows, in the folder where it was written, and
    ``files`` the names of what was written.
    """

    label: int
    probabilities: NDArray[np.float64]
    values: dict[str, float | None]
    shown: Sounds | Pictures
    files: tuple[str, ...]
    duration_seconds: float | None = None
    warnings: tuple[str, ...] = ()

    @property
    def figures(self) -> dict[str, float | None]:
        """The figures beside fidelity and faithfulness."""
        return {name: self.values[name] for name in _FIGURES}

    def classes(self, labels: Sequence[str]) -> tuple[ClassProbability, ...]:
        """The explained class, and the most probable ones of the input, from the most probable on."""
        order = [int(number) for number in np.argsort(-self.probabilities[0], kind="stable")]
        chosen = order[:NUM_CLASSES]
        if self.label not in chosen:
            chosen[-1] = self.label
        return tuple(
            ClassProbability(labels[number], *(round(float(value), 6) for value in self.probabilities[:, number]))
            for number in chosen
        )


@dataclass
class _Sums:
    """Sums of what the windows gave, by their length."""

    probabilities: NDArray[np.float64]
    weight: float = 0.0
    values: dict[str, list[tuple[float, float]]] = field(default_factory=dict)

    def add(self, found: Explained, weight: float) -> None:
        logits = torch.cat((found.logits, found.logits_of_interpretation, found.logits_without))
        self.probabilities += weight * logits.double().softmax(-1).cpu().numpy()
        self.weight += weight
        for name, value in found.values().items():
            self.values.setdefault(name, []).append((weight, float(value[0])))

    def means(self) -> dict[str, float | None]:
        """The mean of every figure, None where no window has one."""
        found: dict[str, float | None] = {}
        for name, pairs in self.values.items():
            there = [(weight, value) for weight, value in pairs if math.isfinite(value)]
            total = sum(weight for weight, _ in there)
            found[name] = round(sum(weight * value for weight, value in there) / total, 6) if total else None
        return found


@dataclass(frozen=True)
class Explainer:
    """A method and what it is used on.

    ``label`` is the number of the class to explain; None: the most probable one of each input. ``channel`` of a
    recording is taken, None: all are mixed down.
    """

    method: Method
    label: int | None = None
    channel: int | None = None
    windows: WindowsConfig = field(default_factory=WindowsConfig)

    def sound(self, path: Path, folder: Path, tag: str, report: Callable[[float], None]) -> Findings:
        """Explain a recording, and write its sounds into ``folder``, with names that begin with ``tag``.

        Raises ``AuriscopeError`` for a file that cannot be read or is silent.
        """
        classifier, interpreter = self.method.classifier, self.method.interpreter
        assert isinstance(classifier, SoundClassifier)
        rate = int(classifier.config.sample_rate)
        with AudioReader(path, sample_rate=rate, channel=self.channel) as reader:
            total = max(1.0, reader.info.duration_seconds * rate)
            blocks = _told(reader.blocks(rate), lambda done: report(0.2 * min(1.0, done / total)))
            probabilities = probabilities_of(blocks, classifier, self.windows)
        if probabilities is None:
            raise AudioFileError(f"{printable(path)}: is silent: there is nothing in it to classify or to explain")
        label = int(probabilities.argmax()) if self.label is None else self.label
        names = (f"{tag}-heard.wav", f"{tag}-left.wav", RECORDING)
        sums = _Sums(np.zeros((3, len(classifier.labels))))
        mask = _MaskPicture(total, classifier)
        num_frames = 0
        with (
            AudioReader(path, sample_rate=rate, channel=self.channel) as reader,
            AudioWriter(folder / names[0], rate) as heard,
            AudioWriter(folder / names[1], rate) as left,
            AudioWriter(folder / names[2], rate) as whole,
        ):
            blocks, separate = reader.blocks(rate), self.method.separate
            for piece in interpret_stream(blocks, classifier, interpreter, label, self.windows, separate=separate):
                heard.write(piece.heard)
                left.write(piece.left)
                whole.write(piece.heard + piece.left)
                mask.add(piece, num_frames)
                num_frames += len(piece.heard)
                if piece.found is not None:
                    sums.add(piece.found.explained, piece.num_frames)
                report(0.2 + 0.7 * min(1.0, num_frames / total))
        sounds = Sounds(folder / names[2], folder / names[0], folder / names[1], mask.finish())
        return self._findings(label, sums, sounds, names, num_frames / rate)

    def picture(self, path: Path, folder: Path, tag: str) -> Findings:
        """Explain a picture, and write its parts and the mask into ``folder``, with names that begin with ``tag``.

        Raises ``AuriscopeError`` for a file that cannot be read, or is blank.
        """
        classifier, interpreter = self.method.classifier, self.method.interpreter
        assert isinstance(classifier, ImageClassifier)
        config = classifier.config
        x = read_picture(path, channels=config.channels, height=config.height, width=config.width)
        if float(x.max() - x.min()) == 0.0:
            raise AuriscopeError(f"{printable(path)}: is blank: there is nothing in it to classify or to explain")
        x = x.to(classifier.device)
        label = None if self.label is None else torch.tensor([self.label], device=x.device)
        found = explained(classifier, interpreter, x, label)
        seen, left = parts_of(x, found.interpretation.mask)
        shown = Pictures(*(png(each[0]) for each in (x, seen, left, found.interpretation.mask)))
        names = tuple(f"{tag}-{name}.png" for name in ("seen", "left", "mask"))
        for name, payload in zip(names, (shown.seen, shown.left, shown.mask), strict=True):
            (folder / name).write_bytes(payload)
        sums = _Sums(np.zeros((3, len(classifier.labels))))
        sums.add(found, 1.0)
        return self._findings(int(found.interpretation.label[0]), sums, shown, names, None)

    def _findings(
        self, label: int, sums: _Sums, shown: Sounds | Pictures, names: tuple[str, ...], seconds: float | None
    ) -> Findings:
        means = sums.means()
        empty = "The interpretation is empty: this method finds nothing here that speaks for the class."
        warnings = (empty,) if means["sparseness"] is None else ()
        return Findings(label, sums.probabilities / sums.weight, means, shown, names, seconds, warnings)


def png(image: Tensor) -> bytes:
    """Write an image (channels, height, width) in [0, 1], of one or three channels, as PNG."""
    from PIL import Image

    pixels = (image.detach().float().cpu().clamp(0.0, 1.0) * 255.0).round().to(torch.uint8).numpy()
    picture = Image.fromarray(pixels[0] if len(pixels) == 1 else np.moveaxis(pixels, 0, -1))
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG")
    return buffer.getvalue()


class _MaskPicture:
    """Gathers masks over time into a picture of a fixed size, with the rows of a survey's spectrogram."""

    def __init__(self, num_samples: float, classifier: SoundClassifier) -> None:
        self._hop_length, self._num_samples = int(classifier.config.hop_length), num_samples
        half = classifier.config.sample_rate / 2.0
        columns = max(1, min(NUM_COLUMNS, math.ceil(num_samples / self._hop_length)))
        self._sums, self._counts = np.zeros((NUM_ROWS, columns)), np.zeros(columns)
        bins = classifier.stft.num_frequencies
        place = row_hertz(NUM_ROWS, min(TOP_HERTZ, half)) / half * (bins - 1)
        below = np.minimum(place.astype(int), bins - 2)
        self._below, self._above = below, (place - below)[:, None]

    def add(self, piece: Piece, start: int) -> None:
        """Add what a piece has been masked with, that starts at sample ``start``; silence has been masked whole."""
        count = max(1, len(piece.heard) // self._hop_length)
        mask = np.zeros((len(self._sums), count))
        if piece.found is not None:
            found = piece.found.explained.interpretation.mask[0, 0, :count].detach().double().cpu().numpy().T
            mask = (1.0 - self._above) * found[self._below] + self._above * found[self._below + 1]
        samples = start + self._hop_length * np.arange(mask.shape[1])
        columns = (samples * (len(self._counts) / self._num_samples)).astype(int).clip(max=len(self._counts) - 1)
        np.add.at(self._sums.T, columns, mask.T)
        np.add.at(self._counts, columns, 1.0)

    def finish(self) -> FloatArray:
        """The mean mask (rows, columns) in [0, 1]."""
        return np.asarray(self._sums / np.maximum(self._counts, 1.0), dtype=np.float32)


def _told(blocks: Iterator[FloatArray], tell: Callable[[int], None]) -> Iterator[FloatArray]:
    done = 0
    for block in blocks:
        yield block
        done += len(block)
        tell(done)
