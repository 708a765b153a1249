"""FLINT: a few attributes of an input, read from the classifier's hidden maps, that tell its class linearly.

J. Parekh, P. Mozharovskyi and F. d'Alché-Buc, "A framework to learn with interpretation" (arXiv 2010.09345). Attributes
must tell what the classifier decides (fidelity to its output) and give back the input (fidelity to its input), few of
them at a time for one input, and all of them over many (conciseness and diversity). Those that speak for a class are
its interpretation.

Here the classifier stays as it is, which the paper calls interpretation post hoc: its own cross-entropy plays no part.
The paper shows an attribute by what an input must become to make it strong (:meth:`FLINT.strengthened`). As a mask over
the input, which can be heard and compared with other interpretations, there is where the attributes come from: since
they are read linearly behind a convolution, each place of the map has its exact share.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.interpretation.interpreter import InterpreterConfig, Seen, TrainedInterpreter
from auriscope.interpretation.placing import check_mel_hz, placed
from auriscope.nn.maps import HiddenMaps

_LEAK = 0.01
"""The slope of the leaky rectifier below zero, torch's own."""


@dataclass(frozen=True)
class FLINTConfig(InterpreterConfig):
    """The configuration of FLINT; the defaults are the authors' for pictures of digits.

    ``num_attributes`` are read from the last hidden map by a layer of ``channels``. The losses are weighted by
    ``input_weight``, ``output_weight`` and ``sparse_weight`` (both from batch ``output_from`` on) and
    ``entropy_weight`` (from batch ``entropy_from`` on). An attribute is shown if its relevance is above ``threshold``
    of the highest. ``mel_hz`` as of :class:`~auriscope.interpretation.lmac.LMACConfig`.
    """

    num_attributes: int = 25
    channels: int = 64
    decoder_channels: int = 8
    input_weight: float = 0.8
    output_weight: float = 0.5
    sparse_weight: float = 0.1
    entropy_weight: float = 0.2
    output_from: int = 0
    entropy_from: int = 0
    threshold: float = 0.2
    mel_hz: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.num_attributes, self.channels, self.decoder_channels) < 1:
            raise ValueError("num_attributes, channels and decoder_channels must be at least 1")
        weights = self.input_weight, self.output_weight, self.sparse_weight, self.entropy_weight
        if min(*weights, self.output_from, self.entropy_from) < 0 or not 0.0 <= self.threshold < 1.0:
            raise ValueError("weights and batches must not be negative, and threshold must lie in [0, 1)")
        check_mel_hz(self.mel_hz, self.sample_rate)


class Attributes(nn.Module):
    """A hidden map (batch, channels, height, width) of any size to attributes (batch, num_attributes)."""

    def __init__(self, in_channels: int, channels: int, num_attributes: int) -> None:
        super().__init__()
        self.conv = nn.Conv2d(in_channels, channels, 3, padding=1)
        self.project = nn.Linear(9 * channels, num_attributes)

    def forward(self, hidden: Tensor) -> Tensor:
        """Attributes (batch, num_attributes), hardly ever below zero."""
        pooled = F.adaptive_avg_pool2d(F.leaky_relu(self.conv(hidden)), 3)
        return F.leaky_relu(self.project(pooled.flatten(1)))

    def shares(self, hidden: Tensor, weights: Tensor) -> Tensor:
        """What every place adds to a weighted sum of the attributes: (batch, 1, height, width).

        ``weights`` (batch, num_attributes). The sum over the places is that of the attributes, but for their biases.
        """
        found = F.leaky_relu(self.conv(hidden))
        before = self.project(F.adaptive_avg_pool2d(found, 3).flatten(1))
        slopes = weights * torch.where(before > 0, 1.0, _LEAK)
        cells = (slopes @ self.project.weight).reshape(len(found), found.shape[1], 3, 3)
        # A mean over cells is a product with one matrix for the rows and one for the columns; here both turn round.
        rows, columns = (
            F.adaptive_avg_pool1d(torch.eye(size, dtype=found.dtype, device=found.device)[None], 3)[0]
            for size in found.shape[2:]
        )
        shares: Tensor = (found * (rows @ cells @ columns.mT)).sum(1, keepdim=True)
        return shares


class AttributeDecoder(nn.Module):
    """Attributes (batch, num_attributes) back to an input of any size."""

    def __init__(self, num_attributes: int, channels: int, out_channels: int) -> None:
        super().__init__()
        self.channels = channels
        self.project = nn.Linear(num_attributes, 49 * channels)
        self.mix = nn.Conv2d(channels, channels, 3, padding=1)
        self.give = nn.Conv2d(channels, out_channels, 3, padding=1)

    def forward(self, attributes: Tensor, size: tuple[int, int]) -> Tensor:
        """Inputs (batch, out_channels, height, width) of this height and width, as the interpreter reads them."""
        x = self.project(attributes).unflatten(1, (self.channels, 7, 7))
        half = tuple((each + 1) // 2 for each in size)
        x = F.relu(self.mix(F.interpolate(x, half, mode="bilinear", align_corners=False)))
        given: Tensor = self.give(F.interpolate(x, size, mode="bilinear", align_corners=False))
        return given


def soft_cross_entropy(logits: Tensor, target: Tensor) -> Tensor:
    """Mean cross-entropy of softmax(``logits``) from softmax(``target``), both (batch, classes)."""
    return -(target.softmax(1) * logits.log_softmax(1)).sum(1).mean()


def entropy_terms(attributes: Tensor) -> Tensor:
    """How many attributes are strong for one input, less how many are over the batch (batch, attributes).

    The entropies are those of the softmax of the attributes' sizes; low for concise and diverse attributes.
    """
    size = attributes.abs()
    mean = size.mean(0, keepdim=True)
    return soft_cross_entropy(size, size) - soft_cross_entropy(mean, mean)


class FLINT(TrainedInterpreter, name="interpretation/flint"):
    """A classifier's hidden maps to a mask (batch, 1, height, width): where the attributes of a class come from."""

    method = "flint"
    Config = FLINTConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "hidden_channels": (4, 6),
        "num_attributes": 6,
        "channels": 6,
        "decoder_channels": 4,
        "input_weight": 20.0,
    }
    Published: ClassVar[dict[str, float]] = {
        "input fidelity on MNIST (%)": 10.9,
        "faithfulness on MNIST": 0.361,
        "FID on MNIST": 0.677,
    }

    def __init__(self, config: FLINTConfig) -> None:
        super().__init__(config)
        self.attributes = Attributes(config.hidden_channels[-1], config.channels, config.num_attributes)
        self.tell = nn.Linear(config.num_attributes, config.num_classes)
        self.decoder = AttributeDecoder(config.num_attributes, config.decoder_channels, config.in_channels)

    def relevance(self, attributes: Tensor, label: Tensor) -> Tensor:
        """How much each attribute (batch, num_attributes) speaks for the classes ``label`` (batch,), from -1 to 1.

        It is what the attribute adds to the logit, over the most that any adds or takes away.
        """
        added = attributes * self.tell.weight[label]
        return added / added.abs().amax(1, keepdim=True).clamp_min(torch.finfo(added.dtype).tiny)

    def forward(self, x: Tensor, maps: tuple[Tensor, ...], label: Tensor) -> Tensor:
        """Masks (batch, 1, height, width) in [0, 1]; the arguments are those of the base.

        The mask is what each place adds to the logit through the relevant attributes, over the most that any adds. It
        is empty where no attribute speaks for the class.
        """
        config = self.config
        chosen = self.relevance(self.attributes(maps[-1]), label) > config.threshold
        shares = self.attributes.shares(maps[-1], self.tell.weight[label] * chosen).clamp_min(0.0)
        mask = placed(shares, (x.shape[2], x.shape[3]), config.mel_hz, config.sample_rate)
        return mask / mask.amax((2, 3), keepdim=True).clamp_min(torch.finfo(mask.dtype).tiny)

    def losses(self, seen: Seen, index: int) -> dict[str, Tensor]:
        """Fidelity to the output and to the input, sparseness and the entropies; see :class:`FLINTConfig`."""
        config = self.config
        attributes = self.attributes(seen.maps[-1])
        told = self.tell(attributes)
        target = self.readable(seen.x)
        losses = {
            "input": F.mse_loss(self.decoder(attributes, (target.shape[2], target.shape[3])), target),
            "output": soft_cross_entropy(told, seen.logits),
            "sparse": attributes.abs().mean(),
            "entropy": entropy_terms(attributes),
            "agreement": (told.argmax(1) == seen.logits.argmax(1)).float().mean(),
        }
        losses["loss"] = config.input_weight * losses["input"]
        if index >= config.output_from:
            losses["loss"] = (
                losses["loss"] + config.output_weight * losses["output"] + config.sparse_weight * losses["sparse"]
            )
        if index >= config.entropy_from:
            losses["loss"] = losses["loss"] + config.entropy_weight * losses["entropy"]
        return losses

    def strengthened(
        self,
        classifier: HiddenMaps,
        x: Tensor,
        attribute: int,
        *,
        start: float = 0.3,
        num_steps: int = 200,
        step_size: float = 0.05,
        strength: float = 2.0,
        smoothness: float = 6.0,
        range_weight: float = 10.0,
    ) -> Tensor:
        """Show an attribute by images in which it is strong: activation maximisation with partial initialisation.

        Begins with ``start`` times images ``x`` (batch, channels, height, width) and raises ``strength`` times the
        attribute, less ``smoothness`` times the mean step between neighbours and ``range_weight`` times what lies
        outside [0, 1]. The defaults are the authors' for pictures of digits; ``step_size`` is halved every quarter.
        """
        shown = (start * x.detach()).requires_grad_()
        optimizer = torch.optim.Adam([shown], step_size)
        halving = torch.optim.lr_scheduler.StepLR(optimizer, max(1, num_steps // 4), 0.5)
        for _ in range(num_steps):
            rough = shown.diff(dim=2).abs().mean() + shown.diff(dim=3).abs().mean()
            beyond = torch.where((shown > 1.0) | (shown < 0.0), shown.abs(), 0.0).mean()
            strong = self.attributes(classifier.hidden(shown)[-1])[:, attribute].mean()
            (shown.grad,) = torch.autograd.grad(smoothness * rough + range_weight * beyond - strength * strong, shown)
            optimizer.step()
            halving.step()
        return shown.detach().clamp(0.0, 1.0)
