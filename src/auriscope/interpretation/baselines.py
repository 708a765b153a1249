"""What interpreters are compared with: gradients, integrated gradients, occlusion and Grad-CAM, which nothing trains.

Each gives a map of which points of the input speak for a class. Its positive part over its highest value is the mask.
The first three are captum's. Captum's Grad-CAM hooks itself to a module of the network, so that here it is written for
what every classifier with hidden maps gives. Gradients are those of the logit, which does not saturate as a probability
does; occlusion counts the probability that is lost.

Sources: Simonyan, Vedaldi and Zisserman, "Deep inside convolutional networks" (arXiv 1312.6034), section 3;
Sundararajan, Taly and Yan, "Axiomatic attribution for deep networks" (arXiv 1703.01365), section 3; Zeiler and Fergus,
"Visualizing and understanding convolutional networks" (arXiv 1311.2901), section 4.2; Selvaraju et al., "Grad-CAM"
(arXiv 1610.02391), section 3.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor
from torch.nn import functional as F

from auriscope.errors import AuriscopeError
from auriscope.interpretation.interpreter import Interpretation, Interpreter, explained_label, require_maps
from auriscope.nn.maps import Classifies

# Below this a magnitude is taken as silence, which has no logarithm.
_SMALLEST = 1e-10


@dataclass(frozen=True)
class BaselineConfig:
    """How the baselines look: ``num_steps`` of the integral, windows of ``window_share`` of each side, at half steps.

    ``max_batch`` inputs are classified at once.
    """

    num_steps: int = 50
    window_share: float = 0.2
    max_batch: int = 32

    def __post_init__(self) -> None:
        if self.num_steps < 1 or self.max_batch < 1 or not 0.0 < self.window_share <= 1.0:
            raise ValueError("num_steps and max_batch must be at least 1, and window_share in (0, 1]")


class Baseline(Interpreter):
    """Base of the baselines: the mask is the positive part of :meth:`saliency` over its highest value."""

    def __init__(self, config: BaselineConfig | None = None) -> None:
        self.config = config or BaselineConfig()

    @abstractmethod
    def saliency(self, classifier: Classifies, x: Tensor, label: Tensor) -> Tensor:
        """How much each point speaks for a class, (batch, 1, height, width), or if below zero against it.

        ``x`` (batch, channels, height, width), ``label`` (batch,) int64.
        """

    def interpret(self, classifier: Classifies, x: Tensor, label: Tensor | None = None) -> Interpretation:
        """Explain what the classifier makes of a batch; see :meth:`Interpreter.interpret`."""
        with torch.no_grad():
            label = explained_label(classifier.classify_maps(x), label)
        found = self.saliency(classifier, x, label).clamp(min=0)
        highest = found.amax((1, 2, 3), keepdim=True)
        return Interpretation(torch.where(highest > 0, found / highest, 0.0), label)


class Gradients(Baseline):
    """The size of the logit's gradient by every point, of several channels the sum.

    It does not say whether more or less of a point would raise the logit. Of a sound it is the gradient by the
    logarithm of the magnitude, what a decibel more of a point would change: by the magnitude itself it is the greater
    the quieter a point is, since classifiers hear decibels.
    """

    method: ClassVar[str] = "gradients"

    def saliency(self, classifier: Classifies, x: Tensor, label: Tensor) -> Tensor:
        """See :meth:`Baseline.saliency`; never below zero."""
        if getattr(getattr(classifier, "config", None), "sample_rate", 0):
            level = x.clamp(min=_SMALLEST).log()
            found = _attribute("Saliency", lambda y: classifier.classify_maps(y.exp()), level, target=label, abs=False)
        else:
            found = _attribute("Saliency", classifier.classify_maps, x, target=label, abs=False)
        return found.abs().sum(1, keepdim=True)


class IntegratedGradients(Baseline):
    """What every point adds to the logit on the straight way from nothing to the input.

    The points' shares sum to the logit's rise, as nearly as ``num_steps`` points of a Gauss-Legendre quadrature tell.
    """

    method: ClassVar[str] = "integrated-gradients"

    def saliency(self, classifier: Classifies, x: Tensor, label: Tensor) -> Tensor:
        """See :meth:`Baseline.saliency`."""
        found = _attribute(
            "IntegratedGradients",
            classifier.classify_maps,
            x,
            target=label,
            n_steps=self.config.num_steps,
            internal_batch_size=max(self.config.max_batch, len(x)),
        )
        return found.sum(1, keepdim=True)


class Occlusion(Baseline):
    """How much probability is lost with all that lies in a window, for every point the mean over its windows."""

    method: ClassVar[str] = "occlusion"

    def saliency(self, classifier: Classifies, x: Tensor, label: Tensor) -> Tensor:
        """See :meth:`Baseline.saliency`."""
        channels, *sides = x.shape[1:]
        window = [max(1, round(side * self.config.window_share)) for side in sides]
        found = _attribute(
            "Occlusion",
            lambda batch: classifier.classify_maps(batch).softmax(1),
            x,
            target=label,
            sliding_window_shapes=(channels, *window),
            strides=(channels, *(max(1, side // 2) for side in window)),
            perturbations_per_eval=max(1, self.config.max_batch // len(x)),
        )
        # A window has all channels, which therefore are the same.
        return found[:, :1]


class GradCAM(Baseline):
    """The last hidden map, its channels weighed by the logit's mean gradient by each; what speaks against it is 0.

    The map is brought to the size of the input by linear interpolation.
    """

    method: ClassVar[str] = "grad-cam"
    needs_maps: ClassVar[bool] = True

    def interpret(self, classifier: Classifies, x: Tensor, label: Tensor | None = None) -> Interpretation:
        """Explain what the classifier makes of a batch; see :meth:`Interpreter.interpret`."""
        return super().interpret(require_maps(classifier, self.method), x, label)

    def saliency(self, classifier: Classifies, x: Tensor, label: Tensor) -> Tensor:
        """See :meth:`Baseline.saliency`; never below zero."""
        with torch.enable_grad():
            # Asking for gradients by the input keeps a graph even if the classifier's weights are frozen.
            seen = x.detach().clone().requires_grad_()
            maps, logits = require_maps(classifier, self.method).hidden_and_logits(seen)
            chosen = logits.gather(1, label[:, None]).sum()
            (slope,) = torch.autograd.grad(chosen, maps[-1])
        found = (slope.mean((2, 3), keepdim=True) * maps[-1].detach()).sum(1, keepdim=True).clamp(min=0)
        return F.interpolate(found, x.shape[2:], mode="bilinear", align_corners=False)


def _attribute(method: str, score: Callable[[Tensor], Tensor], x: Tensor, **options: Any) -> Tensor:
    """Call a method of captum by its name."""
    try:
        import captum.attr
    except ImportError:
        raise AuriscopeError(
            "this baseline needs captum; install the extra with: pip install 'auriscope[explain]'"
        ) from None
    with torch.enable_grad():
        found: Tensor = getattr(captum.attr, method)(score).attribute(x.detach().clone().requires_grad_(), **options)
    return found.detach()
