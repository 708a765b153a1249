"""L2I: how loudly the spectra of a dictionary sound, read from the classifier's hidden maps, and which tell the class.

J. Parekh, S. Parekh, P. Mozharovskyi, F. d'Alché-Buc and G. Richard, "Listen to interpret: post-hoc interpretability
for audio networks with NMF" (arXiv 2202.11479). The activations of a dictionary of non-negative factorisation must give
back the input, be few, and tell linearly what the classifier decides. Those components that tell it are the
interpretation, each with its share of the input.

A sound is a matrix of bins by frames; an image is one frame of all its pixels, so that a component is a whole image.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.errors import AuriscopeError
from auriscope.interpretation.interpreter import InterpreterConfig, Seen, TrainedInterpreter
from auriscope.nn.nmf import factorize

_SMALL = 1e-8
_MAX_FRAMES = 8192
_QUIET = -3.0
"""Where activations begin, before the softplus: all components together are no louder than most inputs."""


@dataclass(frozen=True)
class L2IConfig(InterpreterConfig):
    """The configuration of L2I; the defaults are the paper's for sounds.

    ``num_components`` spectra of ``num_features`` values make up the dictionary, which ``fit_iterations`` learn. The
    last ``num_stages`` hidden maps are read by convolutions of ``channels``. The losses are weighed by
    ``reconstruction_weight``, ``sparse_weight`` and ``fidelity_weight``, the last of which becomes
    ``late_fidelity_weight`` from batch ``late_from`` on. A component belongs to the interpretation if its relevance is
    above ``threshold`` of the highest.
    """

    num_features: int = 513
    num_components: int = 100
    num_stages: int = 3
    channels: int = 64
    fit_iterations: int = 100
    reconstruction_weight: float = 5.0
    sparse_weight: float = 0.4
    fidelity_weight: float = 0.5
    late_fidelity_weight: float = 1.0
    late_from: int = 0
    threshold: float = 0.2

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.num_features, self.num_components, self.num_stages, self.channels, self.fit_iterations) < 1:
            raise ValueError("num_features, num_components, num_stages, channels and fit_iterations must be at least 1")
        weights = self.reconstruction_weight, self.sparse_weight, self.fidelity_weight, self.late_fidelity_weight
        if min(*weights, self.late_from) < 0 or not 0.0 < self.threshold < 1.0:
            raise ValueError("weights and late_from must not be negative, and threshold must lie between 0 and 1")


class Activations(nn.Module):
    """Hidden maps, earliest first, to activations (batch, components, frames), not negative.

    The maps are brought to the size of the earliest. Of a sound, bins are then averaged and frames interpolated; an
    image has one frame, which sees all of it. Activations are a softplus, where the paper has a rectifier: a component
    that is off once can come back.
    """

    def __init__(self, hidden_channels: tuple[int, ...], channels: int, num_components: int, image: bool) -> None:
        super().__init__()
        self.enter = nn.ModuleList(nn.Conv2d(each, channels, 3, padding=1) for each in hidden_channels)
        self.mix = nn.Sequential(
            nn.Conv2d(channels * len(hidden_channels), channels, 3, padding=1), nn.BatchNorm2d(channels), nn.ReLU()
        )
        # Where on an image something lies must not be averaged away.
        self.pool = nn.AdaptiveAvgPool2d(7) if image else nn.AdaptiveAvgPool2d((None, 4))
        self.give = nn.Conv1d(channels * (49 if image else 4), num_components, 1 if image else 3, padding="same")
        nn.init.constant_(self.give.bias, _QUIET)  # type: ignore[arg-type]  # it has one
        self.image = image

    def forward(self, maps: tuple[Tensor, ...], num_frames: int) -> Tensor:
        """Activations (batch, components, ``num_frames``)."""
        size = maps[0].shape[2:]
        entered = [
            F.interpolate(F.relu(enter(each)), size, mode="bilinear", align_corners=False)
            for enter, each in zip(self.enter, maps, strict=True)
        ]
        pooled = self.pool(self.mix(torch.cat(entered, 1)))
        if self.image:
            return F.softplus(self.give(pooled.flatten(1)[..., None]))
        frames = F.interpolate(pooled.movedim(3, 2).flatten(1, 2), num_frames, mode="linear", align_corners=False)
        return F.softplus(self.give(frames))


class Decision(nn.Module):
    """Activations (batch, components, frames) to what each component is worth, and to logits of the classes.

    Frames are weighed by attention (M. Ilse, J. Tomczak and M. Welling, arXiv 1802.04712, equation 8), as sounds are of
    any length; the one of an image need not be weighed.
    """

    def __init__(self, num_components: int, num_classes: int, image: bool) -> None:
        super().__init__()
        score = nn.Conv1d(num_components, num_components, 1), nn.Tanh(), nn.Conv1d(num_components, 1, 1, bias=False)
        self.attend = None if image else nn.Sequential(*score)
        self.classes = nn.Linear(num_components, num_classes, bias=False)

    def forward(self, activations: Tensor) -> tuple[Tensor, Tensor]:
        """The activations' weighted mean (batch, components), and logits (batch, classes)."""
        if self.attend is None:
            pooled = activations.mean(2)
        else:
            pooled = (activations * self.attend(activations).softmax(2)).sum(2)
        return pooled, self.classes(pooled)


class L2I(TrainedInterpreter, name="interpretation/l2i"):
    """A classifier's hidden maps and a class to the mask of the components that tell the class."""

    Config = L2IConfig
    method = "l2i"
    Tiny: ClassVar[dict[str, Any]] = {
        "num_classes": 3,
        "hidden_channels": (4, 6),
        "num_features": 144,
        "num_components": 5,
        "channels": 8,
    }
    Published: ClassVar[dict[str, float]] = {
        "input fidelity on MNIST, as PIQ's authors measured it (%)": 96.56,
        "faithfulness on MNIST, as PIQ's authors measured it": 0.453,
        "FID on MNIST, as PIQ's authors measured it": 0.160,
    }

    dictionary: Tensor

    def __init__(self, config: L2IConfig) -> None:
        super().__init__(config)
        stages = config.hidden_channels[-config.num_stages :]
        self.activate = Activations(stages, config.channels, config.num_components, image=not config.sample_rate)
        self.decide = Decision(config.num_components, config.num_classes, image=not config.sample_rate)
        # Until a dictionary is learnt or handed in, spectra of noise.
        drawn = torch.rand(config.num_features, config.num_components)
        self.register_buffer("dictionary", F.normalize(drawn, dim=0))

    def matrix(self, x: Tensor) -> Tensor:
        """What the dictionary is of, (batch, num_features, frames), of inputs (batch, channels, height, width)."""
        readable = self.readable(x)
        return readable[:, 0].mT if self.config.sample_rate else readable.flatten(1)[..., None]

    def begin(self, examples: Iterable[Seen]) -> None:
        """Learn the dictionary from examples, at most some thousand frames of them, by Kullback and Leibler's."""
        frames = torch.cat([self.matrix(seen.x).mT.flatten(0, 1) for seen in examples])
        heard = frames[frames.sum(1) > 0]
        if len(heard) < self.config.num_components:
            raise AuriscopeError(
                f"the first batches have {len(heard)} frames that are not silent, too few for a dictionary of "
                f"{self.config.num_components} components: raise task_options.first_batches"
            )
        spread = heard[torch.linspace(0, len(heard) - 1, min(len(heard), _MAX_FRAMES)).long()]
        found = factorize(
            spread.T[None] / spread.mean(), self.config.num_components, num_iterations=self.config.fit_iterations
        )
        self.hand_in(found.dictionary[0])

    def hand_in(self, dictionary: Tensor) -> None:
        """Take a dictionary (num_features, num_components), such as of a fitted ``separation/nmf``.

        Raises ``AuriscopeError`` if it is of another size or not non-negative.
        """
        if dictionary.shape != self.dictionary.shape or bool((dictionary < 0).any()):
            raise AuriscopeError(
                f"the dictionary is of {' x '.join(map(str, dictionary.shape))} values and must be of "
                f"{' x '.join(map(str, self.dictionary.shape))} (features x components), none of them negative"
            )
        self.dictionary.copy_(F.normalize(dictionary, dim=0))

    def activations(self, x: Tensor, maps: tuple[Tensor, ...]) -> Tensor:
        """How loudly every component sounds when, (batch, components, frames)."""
        num_frames = x.shape[2] if self.config.sample_rate else 1
        activations: Tensor = self.activate(maps[-self.config.num_stages :], num_frames)
        return activations

    def relevance(self, pooled: Tensor, label: Tensor) -> Tensor:
        """How much each component speaks for the classes (batch,), (batch, components), at most 1 (section 3.3).

        Where none speaks for the class, none is above zero.
        """
        worth: Tensor = pooled * self.decide.classes.weight[label]
        return worth / worth.abs().amax(1, keepdim=True).clamp_min(_SMALL)

    def forward(self, x: Tensor, maps: tuple[Tensor, ...], label: Tensor) -> Tensor:
        """Masks (batch, 1, height, width) in [0, 1]: the share of the input that the relevant components have.

        Of sounds the shares are those of log(1 + x), as published; what comes out is the same mask over x itself.
        """
        activations = self.activations(x, maps)
        relevant = self.relevance(self.decide(activations)[0], label) > self.config.threshold
        whole = self.dictionary @ activations
        part = self.dictionary @ (activations * relevant[..., None])
        # A component that is off has no share of what is not there.
        share = part / whole.clamp_min(_SMALL)
        if self.config.sample_rate:
            return self.of_input(share.mT[:, None], x)
        # One mask for all channels.
        mask: Tensor = share[..., 0].reshape(x.shape).mean(1, keepdim=True)
        return mask

    def losses(self, seen: Seen, index: int) -> dict[str, Tensor]:
        """Squared error of the input from the dictionary, size of activations, and cross-entropy from the decision.

        Equation 5 of the paper; but the error is a share of the input's power, so that weights mean the same of quiet
        sounds and of images, which are mostly black. "fidelity" is of the classifier's probabilities.
        """
        config = self.config
        activations = self.activations(seen.x, seen.maps)
        target = self.matrix(seen.x)
        logits = self.decide(activations)[1]
        losses = {
            "reconstruction": F.mse_loss(self.dictionary @ activations, target)
            / target.square().mean().clamp_min(_SMALL),
            "sparse": activations.mean(),
            "fidelity": F.cross_entropy(logits.float(), seen.logits.float().softmax(1)),
        }
        fidelity_weight = config.fidelity_weight if index < config.late_from else config.late_fidelity_weight
        losses["loss"] = (
            config.reconstruction_weight * losses["reconstruction"]
            + config.sparse_weight * losses["sparse"]
            + fidelity_weight * losses["fidelity"]
        )
        return losses
