"""Zero-shot classification: the classes are words, and the class of a recording is the text that is nearest to it.

A. Radford et al., "Learning Transferable Visual Models From Natural Language Supervision" (arXiv 2103.00020), section
3.1: prompts, and ensembles of prompts over the embedding; of sounds B. Elizalde et al., "CLAP: Learning Audio Concepts
From Natural Language Supervision" (arXiv 2206.04769), section 3.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from auriscope.crossmodal.clap import CrossModal
from auriscope.crossmodal.text import require_words
from auriscope.crossmodal.windows import embed_recording
from auriscope.data.captioned import phrases_of
from auriscope.errors import AuriscopeError

SLOT = "{}"
TEMPLATES = ("this is a sound of {}",)
"""The paper's prompt."""
ENSEMBLE = (
    *TEMPLATES,
    "{}",
    "a sound of {}",
    "a recording of {}",
    "the sound of {} can be heard",
    "{} in the background",
    "{} close to the microphone",
)
"""What ``ensemble`` stands for in the place of templates."""


class ZeroShotClassifier:
    """A cross-modal model as a classifier of whatever classes are named.

    ``labels`` are at least two different names, ``templates`` texts with a ``{}`` in the place of the name, or
    ``ensemble`` (:data:`ENSEMBLE`). Every label is said in all its ``phrases``, if it has any, such as
    :data:`~auriscope.data.captioned.PHRASES`, and all templates; the class is where the mean of these embeddings
    points. ``AuriscopeError`` where they are not so.
    """

    def __init__(
        self,
        model: CrossModal,
        labels: Sequence[str],
        templates: Sequence[str] = TEMPLATES,
        phrases: Mapping[str, Sequence[str]] = MappingProxyType({}),
    ) -> None:
        self.model = model
        self.labels = checked_labels(labels)
        self.templates = checked_templates(templates)
        self.prompts = tuple(prompts_of(label, self.templates, phrases) for label in self.labels)
        self.embedding = prompt_embedding(model, self.prompts)
        """The classes (classes, dim), of unit length."""

    @property
    def name(self) -> str:
        """The registered name of the model."""
        return self.model.name

    @property
    def config(self) -> Any:
        """The configuration of the model."""
        return self.model.config

    @property
    def device(self) -> torch.device:
        """Where the model is."""
        return self.model.device

    @torch.no_grad()
    def predict_proba(self, waveform: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Probabilities (batch, classes) of waveforms (batch, time) at the model's rate; each row sums to one.

        ``lengths`` (batch,) are the valid samples. Recordings of any length are heard whole, by windows
        (:func:`~auriscope.crossmodal.windows.embed_recording`), each by itself.
        """
        ends = [waveform.shape[1]] * len(waveform) if lengths is None else lengths.tolist()
        embedding = torch.stack(
            [embed_recording(self.model, row[:end]) for row, end in zip(waveform, ends, strict=True)]
        )
        logits = self.model.logit_scale * (embedding @ self.embedding.T)
        return logits.float().softmax(-1)


def parse_labels(text: str) -> tuple[str, ...]:
    """Read labels that commas separate; ``AuriscopeError`` as of :func:`checked_labels`.

    >>> parse_labels("rain, a crying baby")
    ('rain', 'a crying baby')
    """
    return checked_labels([label for label in (part.strip() for part in text.split(",")) if label])


def checked_labels(labels: Sequence[str]) -> tuple[str, ...]:
    """Give labels back; ``AuriscopeError`` unless there are two at least, all different and none empty."""
    found = tuple(labels)
    if len(found) < 2:
        given = f"there is only {found[0]!r}" if found else "there is none"
        raise AuriscopeError(f"labels: {given}; name two at least, with commas between, to tell one from another")
    if not all(label.strip() for label in found):
        raise AuriscopeError("labels: one of them is empty; name every class")
    require_words(found)
    twice = next((label for number, label in enumerate(found) if label in found[:number]), None)
    if twice is not None:
        raise AuriscopeError(f"labels: {twice!r} is there twice; name every class once")
    return found


def checked_templates(templates: Sequence[str]) -> tuple[str, ...]:
    """Give templates back, ``ensemble`` in full; ``AuriscopeError`` unless each has one ``{}``, and there is one."""
    found: dict[str, None] = {}
    for template in templates:
        for each in ENSEMBLE if template == "ensemble" else (template,):
            if each.count(SLOT) != 1:
                raise AuriscopeError(f"templates: {each!r} must hold {SLOT} once, in the place of the label")
            found[each] = None
    if not found:
        raise AuriscopeError(f"templates: there is none; give one with {SLOT} in the place of the label")
    return tuple(found)


def prompts_of(
    label: str, templates: Sequence[str], phrases: Mapping[str, Sequence[str]] = MappingProxyType({})
) -> tuple[str, ...]:
    """Every prompt of a label, all its phrases in all templates.

    >>> prompts_of("car_horn", ["this is a sound of {}"])
    ('this is a sound of car horn',)
    >>> prompts_of("bell_gong", ["this is a sound of {}"], {"bell_gong": ("a bell", "a gong")})
    ('this is a sound of a bell', 'this is a sound of a gong')
    """
    said = phrases_of(label, phrases)
    return tuple(template.replace(SLOT, phrase) for phrase in said for template in templates)


@torch.no_grad()
def prompt_embedding(model: CrossModal, prompts: Sequence[Sequence[str]]) -> Tensor:
    """The embedding (classes, dim) of classes with several prompts each: their mean, of unit length."""
    embedding = model.embed_text([prompt for own in prompts for prompt in own])
    ends = list(itertools.accumulate(len(own) for own in prompts))
    means = [embedding[end - len(own) : end].mean(0) for own, end in zip(prompts, ends, strict=True)]
    return F.normalize(torch.stack(means), dim=-1)
