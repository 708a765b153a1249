"""PIQ: a mask decoded from a classifier's hidden map, of which only what speaks for the class has passed.

F. Paissan, C. Subakan and M. Ravanelli, "Posthoc interpretation via quantization" (arXiv 2303.12659); SpeechBrain's
``PIQ-ESC50``. The map goes through an adapter and is quantised with codes that only the class to be explained has. What
other classes put into the map has no code and is lost, so that the decoder, which has seen single classes alone, shows
the class's part of a mixture.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, ClassVar

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.interpretation.interpreter import InterpreterConfig, Seen, TrainedInterpreter
from auriscope.interpretation.placing import check_mel_hz, placed
from auriscope.interpretation.quantiser import PartitionedCodebook, Quantised


@dataclass(frozen=True)
class PIQConfig(InterpreterConfig):
    """The configuration of PIQ; the defaults are those of SpeechBrain's ``PIQ-ESC50``.

    The hidden map ``stage`` (0 the earliest, -1 the last) is quantised with ``num_codes`` codes, ``num_shared`` of them
    for all classes, at half its height and width if ``halve``. Of the decoder's transposed convolutions, with
    ``kernel_sizes``, all but the last double the size; ``decoder_channels`` are those between them (empty: always as
    many as the map has). With ``resize`` what comes out is stretched to the size of the input, ``mel_hz`` being the
    lowest and highest frequency of a classifier whose maps are of mels; without, it is cut, or its last row or column
    repeated, as published. The mask is to be 1 where the input is above ``threshold`` of its maximum. With
    ``binary`` an interpretation is all of what the mask has above a half, and nothing else.

    As published, a mask of sounds is over log(1 + magnitude), and every point counts alike in its cross-entropy. With
    ``linear`` it is over the magnitude itself, and points count by their magnitude, as they are heard: what is mixed
    into a sound is then left out as by a ratio mask.
    """

    num_classes: int = 50
    hidden_channels: tuple[int, ...] = (256, 256, 256, 256, 256)
    sample_rate: int = 16_000
    stage: int = -1
    num_codes: int = 1024
    num_shared: int = 0
    halve: bool = True
    kernel_sizes: tuple[int, ...] = (3, 4, 4, 4, 12)
    decoder_channels: tuple[int, ...] = ()
    resize: bool = False
    mel_hz: tuple[float, float] | None = None
    threshold: float = 0.35
    binary: bool = False
    linear: bool = False
    codebook_weight: float = 1.0
    commitment_weight: float = 1.0

    def __post_init__(self) -> None:
        super().__post_init__()
        if not -len(self.hidden_channels) <= self.stage < len(self.hidden_channels):
            raise ValueError(f"stage {self.stage} is none of the {len(self.hidden_channels)} hidden maps")
        if self.num_shared < 0 or self.num_codes - self.num_shared < self.num_classes:
            raise ValueError("num_codes less num_shared must be at least num_classes, and num_shared not negative")
        if not self.kernel_sizes or min(self.kernel_sizes) < 3:
            raise ValueError("kernel_sizes must be at least one, of 3 or more")
        if self.decoder_channels and len(self.decoder_channels) != len(self.kernel_sizes) - 1:
            raise ValueError("decoder_channels must be one fewer than kernel_sizes, or none")
        if not 0.0 < self.threshold < 1.0 or min(self.codebook_weight, self.commitment_weight) < 0.0:
            raise ValueError("threshold must lie between 0 and 1, and the weights not be negative")
        if self.mel_hz is not None and not self.resize:
            raise ValueError("mel_hz is for resize only, without which nothing finds its frequency")
        check_mel_hz(self.mel_hz, self.sample_rate)


class Adapter(nn.Module):
    """A residual block over maps (batch, channels, height, width)."""

    def __init__(self, channels: int) -> None:
        super().__init__()
        self.block = nn.Sequential(
            nn.Conv2d(channels, channels, 3, padding=1),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 1),
            nn.BatchNorm2d(channels),
        )

    def forward(self, x: Tensor) -> Tensor:
        """Maps of the same shape."""
        adapted: Tensor = x + self.block(x)
        return adapted


class PIQ(TrainedInterpreter, name="interpretation/piq"):
    """A classifier's hidden map and a class to the mask of what speaks for the class."""

    Config = PIQConfig
    method = "piq"
    Tiny: ClassVar[dict[str, Any]] = {
        "num_classes": 3,
        "hidden_channels": (6, 12),
        "num_codes": 20,
        "num_shared": 2,
        "kernel_sizes": (4, 4, 3),
        "sample_rate": 0,
    }
    Published: ClassVar[dict[str, float]] = {
        "input fidelity on MNIST (%)": 98.03,
        "faithfulness on MNIST": 0.588,
        "FID on MNIST": 0.029,
    }

    def __init__(self, config: PIQConfig) -> None:
        super().__init__(config)
        channels = config.hidden_channels[config.stage]
        self.adapter = Adapter(channels)
        self.down = nn.Conv2d(channels, channels, 4, 2, padding=1) if config.halve else None
        self.up = nn.ConvTranspose2d(channels, channels, 4, 2, padding=1) if config.halve else None
        self.codebook = PartitionedCodebook(config.num_codes, channels, config.num_classes, config.num_shared)
        self.decoder = make_decoder(channels, config.decoder_channels, config.kernel_sizes)

    def adapted(self, maps: tuple[Tensor, ...]) -> Tensor:
        """What is quantised, (batch, channels, height, width), of a classifier's maps."""
        adapted: Tensor = self.adapter(maps[self.config.stage])
        return adapted if self.down is None else self.down(adapted)

    def decoded(self, quantised: Quantised) -> Tensor:
        """Logits (batch, 1, height, width) of the mask, as the decoder gives them."""
        passed = quantised.passed if self.up is None else self.up(quantised.passed)
        decoded: Tensor = self.decoder(passed)
        return decoded

    def logits(self, x: Tensor, maps: tuple[Tensor, ...], label: Tensor) -> tuple[Tensor, Tensor, Quantised]:
        """Logits of the mask (batch, 1, height, width) for an input ``x``, what was quantised, and to what."""
        adapted = self.adapted(maps)
        quantised = self.codebook(adapted, label)
        return self._fitted(self.decoded(quantised), x), adapted, quantised

    def forward(self, x: Tensor, maps: tuple[Tensor, ...], label: Tensor) -> Tensor:
        """Masks (batch, 1, height, width) in [0, 1]; see :meth:`TrainedInterpreter.forward`.

        Of sounds the network's mask multiplies log(1 + x); what comes out is the same mask over x itself.
        """
        logits = self.logits(x, maps, label)[0]
        if self.config.binary:
            return (logits > 0).to(x.dtype)
        return logits.sigmoid() if self.config.linear else self.of_input(logits.sigmoid(), x)

    def losses(self, seen: Seen, index: int) -> dict[str, Tensor]:  # noqa: ARG002
        """Cross-entropy of the mask from where the source is loud, and distances of codes and maps (section 2.3).

        Where something else was mixed in, the mask is to leave the source its share.
        """
        config = self.config
        logits, adapted, quantised = self.logits(seen.x, seen.maps, seen.label)
        target = loud_part(self.readable(seen.source), config.threshold)
        whole, source = ((x if config.linear else self.readable(x)).sum(1, keepdim=True) for x in (seen.x, seen.source))
        target = target * (source / whole.clamp_min(1e-8)).clamp(max=1.0)
        weight = whole / whole.mean((1, 2, 3), keepdim=True).clamp_min(1e-8) if config.linear else None
        mask = F.binary_cross_entropy_with_logits(logits.float(), target, weight)
        codebook = F.mse_loss(quantised.codes, adapted.detach())
        commitment = F.mse_loss(adapted, quantised.codes.detach())
        loss = mask + config.codebook_weight * codebook + config.commitment_weight * commitment
        return {"loss": loss, "mask": mask, "codebook": codebook, "commitment": commitment}

    @torch.no_grad()
    def begin(self, examples: Iterable[Seen]) -> None:
        """Draw the codes from what the network makes of examples before it has learnt anything."""
        vectors, labels = [], []
        for seen in examples:
            adapted = self.adapted(seen.maps).flatten(2).mT
            vectors.append(adapted.flatten(0, 1))
            labels.append(seen.label.repeat_interleave(adapted.shape[1]))
        self.codebook.begin(torch.cat(vectors), torch.cat(labels))

    def _fitted(self, decoded: Tensor, x: Tensor) -> Tensor:
        """Bring what was decoded to the height and width of the input."""
        config, (height, width) = self.config, x.shape[2:]
        if config.resize:
            return placed(decoded, (height, width), config.mel_hz, config.sample_rate)
        decoded = decoded[:, :, :height, :width]
        missing = width - decoded.shape[3], height - decoded.shape[2]
        return F.pad(decoded, (0, missing[0], 0, missing[1]), mode="replicate")


def make_decoder(channels: int, between: tuple[int, ...], kernel_sizes: tuple[int, ...]) -> nn.Sequential:
    """Transposed convolutions from maps of so many channels to one; all but the last double height and width."""
    widths = (channels, *(between or (channels,) * (len(kernel_sizes) - 1)))
    layers: list[nn.Module] = []
    for before, after, kernel_size in zip(widths, widths[1:], kernel_sizes, strict=False):
        layers += [nn.ConvTranspose2d(before, after, kernel_size, 2, padding=1), nn.ReLU(), nn.BatchNorm2d(after)]
    return nn.Sequential(*layers, nn.ConvTranspose2d(widths[-1], 1, kernel_sizes[-1], 1, padding=1))


def loud_part(x: Tensor, threshold: float) -> Tensor:
    """Where (batch, 1, height, width) an input (batch, channels, height, width) exceeds a share of its maximum: 1 or 0.

    Several channels count by the highest of them; silence has no such part.
    """
    loudest = x.amax((1, 2, 3), keepdim=True)
    return (x.amax(1, keepdim=True) > threshold * loudest).float()
