"""L-MAC: a mask over the input, decoded from the classifier's hidden maps, with which it decides the same.

F. Paissan, M. Ravanelli and C. Subakan, "Listenable maps for audio classifiers" (arXiv 2403.13086). The
decoder goes from the deepest map to the finest. It is trained by the classifier itself: the input under the mask must
keep its class, what is left must lose it, and the mask must be small.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.interpretation.interpreter import InterpreterConfig, Seen, TrainedInterpreter
from auriscope.interpretation.placing import check_mel_hz, placed


@dataclass(frozen=True)
class LMACConfig(InterpreterConfig):
    """The configuration of L-MAC; the weights of the losses are the paper's.

    The decoder sees the last ``num_stages`` hidden maps (all, if there are fewer), and has ``channels``, of which
    ``fine_channels`` at the size of the input. ``in_weight`` is of the cross-entropy under the mask, ``out_weight`` of
    that of the rest, which is to be high, and ``mask_weight`` of the mask's mean. ``mel_hz`` are the frequencies of a
    classifier whose maps are of mels (:func:`~auriscope.interpretation.placing.placed`); None: they lie as the input.
    """

    num_stages: int = 4
    channels: int = 32
    fine_channels: int = 8
    in_weight: float = 4.0
    out_weight: float = 0.2
    mask_weight: float = 0.4
    mel_hz: tuple[float, float] | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        if min(self.num_stages, self.channels, self.fine_channels) < 1:
            raise ValueError("num_stages, channels and fine_channels must be at least 1")
        if min(self.in_weight, self.out_weight, self.mask_weight) < 0.0:
            raise ValueError("in_weight, out_weight and mask_weight must not be negative")
        check_mel_hz(self.mel_hz, self.sample_rate)


class MapDecoder(nn.Module):
    """Hidden maps to features as fine as the first: from the deepest on, each is widened and added to the next."""

    def __init__(self, hidden_channels: tuple[int, ...], channels: int) -> None:
        super().__init__()
        self.enter = nn.ModuleList(nn.Conv2d(each, channels, 1) for each in hidden_channels)
        self.mix = nn.ModuleList(nn.Conv2d(channels, channels, 3, padding=1) for _ in hidden_channels)

    def forward(self, maps: tuple[Tensor, ...]) -> Tensor:
        """Features (batch, channels, height, width) of the size of ``maps[0]``; the maps come earliest first."""
        x: Tensor | None = None
        for each, enter, mix in zip(reversed(maps), reversed(self.enter), reversed(self.mix), strict=True):
            entered = enter(each)
            if x is not None:
                entered = entered + F.interpolate(x, each.shape[2:], mode="nearest")
            x = F.relu(mix(F.relu(entered)))
        assert x is not None
        return x


class LMAC(TrainedInterpreter, name="interpretation/lmac"):
    """What a classifier sees and its hidden maps to a mask (batch, 1, height, width) of what it decided.

    The mask is of the decision: it is the same whichever label is given.
    """

    method = "lmac"
    Config = LMACConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "hidden_channels": (4, 6),
        "channels": 8,
        "fine_channels": 4,
        "mask_weight": 2.0,
    }
    Published: ClassVar[dict[str, float]] = {
        "input fidelity on ESC-50, outside its domain": 0.82,
        "faithfulness on ESC-50, outside its domain": 0.40,
    }

    def __init__(self, config: LMACConfig) -> None:
        super().__init__(config)
        self.decoder = MapDecoder(config.hidden_channels[-config.num_stages :], config.channels)
        self.narrow = nn.Conv2d(config.channels, config.fine_channels, 1)
        self.refine = nn.Conv2d(config.fine_channels, config.fine_channels, 3, padding=1)
        self.give = nn.Conv2d(config.fine_channels, 1, 3, padding=1)

    def forward(self, x: Tensor, maps: tuple[Tensor, ...], label: Tensor) -> Tensor:  # noqa: ARG002
        """Masks (batch, 1, height, width) in [0, 1]; the arguments are those of the base."""
        config = self.config
        features = self.narrow(self.decoder(maps[-config.num_stages :]))
        size = x.shape[2], x.shape[3]
        features = F.relu(self.refine(placed(features, size, config.mel_hz, config.sample_rate)))
        mask: Tensor = self.give(features).sigmoid()
        return mask

    def losses(self, seen: Seen, index: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Cross-entropies of the decision under the mask ("inside") and without it ("without"), and the mask's mean."""
        config = self.config
        mask = self(seen.x, seen.maps, seen.label)
        inside, without = seen.classifier.classify_maps(torch.cat((mask * seen.x, (1.0 - mask) * seen.x))).chunk(2)
        losses = {
            "inside": F.cross_entropy(inside, seen.label),
            "without": F.cross_entropy(without, seen.label),
            "mask": mask.mean(),
        }
        losses["loss"] = (
            config.in_weight * losses["inside"]
            - config.out_weight * losses["without"]
            + config.mask_weight * losses["mask"]
        )
        return losses
