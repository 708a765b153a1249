"""Figures of interpreters over a set: everything that the field reports, with intervals."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from auriscope.interpretation.interpreter import Interpreter
from auriscope.interpretation.listening import Explained, Hears, explained, hear, parts_of
from auriscope.metrics.accumulate import Accumulator, Summary
from auriscope.metrics.interpretation import FrechetAccumulator
from auriscope.metrics.ratios import si_snr
from auriscope.nn.maps import Classifies, HiddenMaps

FIGURES = (
    "input_fidelity",
    "faithfulness",
    "fid",
    "average_drop",
    "average_increase",
    "average_gain",
    "sparseness",
    "complexity",
)
"""The names of all figures of inputs without references, in the order of tables; ``fid`` is the Fréchet distance."""


Ends = tuple[float | None, float | None, float | None]
_SHARES = frozenset({"input_fidelity", "average_drop", "average_increase", "average_gain", "decided_share"})
_LEAST_DB = -30.0
"""An interpretation that has nothing of the source, or is empty, counts as this SI-SNR."""


@dataclass(frozen=True)
class Example:
    """Inputs to explain: images (batch, channels, height, width), or waveforms (batch, time), by ``ids``.

    ``label`` (batch,) int64 is what to explain, None: what the classifier decides. Where the input is a mixture,
    ``sources`` (batch, 2, …), of the input's shape, are what it is made of, and ``source_labels`` (batch, 2) their
    classes, -1 of what is none of the classifier's.
    """

    input: Tensor
    ids: tuple[str, ...]
    label: Tensor | None = None
    sources: Tensor | None = None
    source_labels: Tensor | None = None


def interpretation_figures(
    classifier: Classifies,
    interpreters: Iterable[Interpreter],
    examples: Callable[[], Iterable[Example]],
    *,
    on_example: Callable[[int], None] | None = None,
) -> dict[str, Summary]:
    """Measure interpreters, which differ by their seeds only, over a set: a summary of every figure by name.

    The figures are those of :data:`FIGURES`. Of mixtures come ``si_snri_db``, by how much the interpretation is closer
    to the source of the explained class than the mixture is, by its SI-SNR, and ``decided_share``, the share of the
    mixtures in which the explained class is of one of the sources; those in which it is not have no gain. An empty
    interpretation counts as an SI-SNR of -30 dB. Examples are resampled with their seeds. The
    features of the Fréchet distance are the means of the classifier's last hidden maps, or its logits if it has none.

    Args:
        classifier: in evaluation mode.
        interpreters: of that classifier, one of every seed.
        examples: gives the batches of examples, anew at every call; sounds are waveforms (batch, time).
        on_example: told how many examples are done, over all seeds.
    """
    values, distances, done = Accumulator(), [], 0
    for interpreter in interpreters:
        distance = FrechetAccumulator()
        for example in examples():
            found, gains = _measured(classifier, interpreter, example)
            inside, _ = parts_of(found.x, found.explained.interpretation.mask)
            distance.update(features_of(classifier, inside), features_of(classifier, found.x))
            values.update({**found.explained.values(), **gains}, clusters=example.ids)
            done += len(example.ids)
            if on_example is not None:
                on_example(done)
        distances.append(distance.compute())
    return {**values.compute(), "fid": _mean(distances)}


def evaluated(
    classifier: Classifies,
    interpreter: Interpreter,
    examples: Callable[[], Iterable[Example]],
    on_example: Callable[[int], None],
) -> dict[str, Ends]:
    """The figures of one interpreter, as ``evaluate`` has them: with the ends of 95 % intervals, shares in per cent.

    ``merit_percent`` is the mean of input fidelity and faithfulness, without an interval. For the arguments and the
    figures see :func:`interpretation_figures`.
    """
    found = interpretation_figures(classifier, [interpreter], examples, on_example=on_example)
    figures: dict[str, Ends] = {}
    for name, summary in found.items():
        if name in _SHARES:
            figures[f"{name}_percent"] = _scaled(summary, 100.0)
        else:
            figures[name] = _scaled(summary, 1.0)
    fidelity, faithfulness = found["input_fidelity"].mean, found["faithfulness"].mean
    if fidelity is not None and faithfulness is not None:
        figures["merit_percent"] = 50.0 * (fidelity + faithfulness), None, None
    return figures


def _scaled(summary: Summary, factor: float) -> Ends:
    mean, low, high = (None if end is None else factor * end for end in (summary.mean, summary.low, summary.high))
    return mean, low, high


@torch.no_grad()
def features_of(classifier: Classifies, x: Tensor) -> Tensor:
    """The features (batch, channels) of inputs that the Fréchet distance compares."""
    if isinstance(classifier, HiddenMaps):
        return classifier.hidden(x)[-1].mean((2, 3))
    return classifier.classify_maps(x)


@dataclass(frozen=True)
class _Found:
    x: Tensor
    explained: Explained


def _measured(classifier: Any, interpreter: Interpreter, example: Example) -> tuple[_Found, dict[str, Tensor]]:
    if example.input.dim() == 2:
        sound = hear(classifier, interpreter, example.input, example.label)
        found = _Found(magnitudes(classifier, example.input), sound.explained)
        kept, whole = sound.heard, example.input
    else:
        found = _Found(example.input, explained(classifier, interpreter, example.input, example.label))
        kept = parts_of(found.x, found.explained.interpretation.mask)[0].flatten(1)
        whole = example.input.flatten(1)
    if example.sources is None or example.source_labels is None:
        return found, {}
    return found, _gains(kept, whole, example, found.explained.interpretation.label)


@torch.no_grad()
def magnitudes(classifier: Hears, waveform: Tensor) -> Tensor:
    """What interpreters see of waveforms (batch, time), (batch, 1, frames, bins)."""
    return classifier.spectrogram(waveform).abs()[:, None]


def _gains(kept: Tensor, whole: Tensor, example: Example, label: Tensor) -> dict[str, Tensor]:
    assert example.sources is not None
    assert example.source_labels is not None
    matches = example.source_labels == label[:, None].cpu()
    there = matches.any(1)
    index = matches.double().argmax(1)
    source = example.sources.flatten(2)[torch.arange(len(index)), index].to(kept)
    gain = si_snr(kept, source).clamp(min=_LEAST_DB) - si_snr(whole, source)
    return {
        "si_snri_db": torch.where(there.to(gain.device), gain, torch.nan),
        "decided_share": there.double(),
    }


def _mean(distances: list[Summary]) -> Summary:
    """The mean over seeds of a distance and of the ends of its interval."""
    ends = [
        [value for value in (getattr(each, end) for each in distances) if value is not None]
        for end in ("mean", "low", "high")
    ]
    mean, low, high = (sum(values) / len(values) if values else None for values in ends)
    return Summary(mean, low, high, distances[0].num_values if distances else 0, 0)
