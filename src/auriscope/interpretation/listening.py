"""Interpretations as they are heard and measured: what was heard, what was left, and what the classifier makes of both.

The mask multiplies the linear magnitude, which the phase of the recording makes sound again (Parekh et al., "Listen to
interpret", arXiv 2202.11479, section 3.3). What was heard and what was left sum to the recording.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from auriscope.errors import AuriscopeError
from auriscope.interpretation.interpreter import Interpretation, Interpreter
from auriscope.interpretation.lime import LIME
from auriscope.interpretation.segments import source_segments
from auriscope.metrics.interpretation import interpretation_values
from auriscope.nn.maps import Classifies


class Hears(Classifies, Protocol):
    """A classifier of sounds: what makes a recording the magnitude that it classifies, and back."""

    @property
    def config(self) -> Any:
        """The configuration, with ``sample_rate`` and ``hop_length``."""
        ...

    @property
    def device(self) -> torch.device:
        """Where it computes."""
        ...

    def spectrogram(self, waveform: Tensor) -> Tensor:
        """The complex STFT (batch, frames, bins) of waveforms (batch, time)."""
        ...

    def waveform(self, spectrum: Tensor, length: int) -> Tensor:
        """Waveforms (batch, length) of complex spectra (batch, frames, bins)."""
        ...


@dataclass(frozen=True)
class Explained:
    """An interpretation, and the classifier's logits (batch, classes) of the input, of it alone, and of the rest."""

    interpretation: Interpretation
    logits: Tensor
    logits_of_interpretation: Tensor
    logits_without: Tensor

    def values(self) -> dict[str, Tensor]:
        """Every figure of it by name, (batch,); see :func:`auriscope.metrics.interpretation.interpretation_values`."""
        return interpretation_values(
            self.logits,
            self.logits_of_interpretation,
            self.logits_without,
            self.interpretation.label,
            self.interpretation.mask,
        )


def explained(classifier: Classifies, interpreter: Interpreter, x: Tensor, label: Tensor | None = None) -> Explained:
    """Interpret what a classifier makes of a batch, and ask it again about both parts.

    Args:
        classifier: in evaluation mode.
        interpreter: of that classifier.
        x: (batch, channels, height, width), images in [0, 1] or linear magnitudes with one channel.
        label: (batch,) int64, the classes to explain; None: the most probable ones.
    """
    found = interpreter.interpret(classifier, x, label)
    with torch.no_grad():
        parts = torch.cat((x, *parts_of(x, found.mask)))
        logits, inside, without = classifier.classify_maps(parts).chunk(3)
    return Explained(found, logits, inside, without)


def parts_of(x: Tensor, mask: Tensor) -> tuple[Tensor, Tensor]:
    """Part inputs (batch, channels, height, width) by masks (batch, 1, height, width): what is in it, and the rest."""
    inside = mask * x
    return inside, x - inside


@dataclass(frozen=True)
class Heard:
    """An interpretation of recordings: ``heard`` and ``left`` (batch, time) sum to the recording."""

    explained: Explained
    heard: Tensor
    left: Tensor


Separate = Callable[[Tensor], Tensor]
"""Makes waveforms (batch, time) their sources (batch, sources, time), as loud as they are in them."""


def hear(
    classifier: Hears,
    interpreter: Interpreter,
    waveform: Tensor,
    label: Tensor | None = None,
    *,
    separate: Separate | None = None,
) -> Heard:
    """Interpret recordings (batch, time) at the classifier's rate, and make both parts sound.

    ``label`` as in :func:`explained`. With ``separate``, LIME leaves out the sources that it makes, over spans of time,
    in the place of bands.
    """
    hop_length, time = int(classifier.config.hop_length), waveform.shape[-1]
    # A frame more than the classifier looks at, so that also the last samples lie between two.
    with torch.no_grad():
        spectrum = classifier.spectrogram(torch.nn.functional.pad(waveform, (0, -time % hop_length)))
        magnitude = spectrum[:, : 1 + time // hop_length].abs()
    if separate is not None:
        interpreter = _Sources(interpreter, classifier, separate(waveform))
    found = explained(classifier, interpreter, magnitude[:, None], label)
    mask = found.interpretation.mask[:, 0]
    mask = torch.cat((mask, mask[:, -1:].expand(-1, spectrum.shape[1] - mask.shape[1], -1)), 1)
    with torch.no_grad():
        heard = classifier.waveform(mask * spectrum, time)
    return Heard(found, heard, waveform - heard)


class _Sources(Interpreter):
    """LIME, with the sources (batch, sources, time) of what it is asked about."""

    def __init__(self, interpreter: Interpreter, classifier: Hears, sources: Tensor) -> None:
        if not isinstance(interpreter, LIME):
            raise AuriscopeError("separated sources are left out by lime alone")
        with torch.no_grad():
            flat = classifier.spectrogram(sources.flatten(0, 1)).abs()
        magnitude = flat.reshape(*sources.shape[:2], *flat.shape[1:])
        self._lime, self._segments = interpreter, source_segments(magnitude, num_spans=interpreter.config.num_spans)

    def interpret(self, classifier: Classifies, x: Tensor, label: Tensor | None = None) -> Interpretation:
        """Explain what the classifier makes of a batch; see :meth:`Interpreter.interpret`."""
        return self._lime.interpret(classifier, x, label, self._segments)
