"""The listeners against which HiFi-GAN is trained: is a waveform a recording, or made?

Kong, Kim and Bae (arXiv 2010.05646), section 2.3 and appendix A: some listen to periods (MPD), some to scales (MSD), as
those of MelGAN do (Kumar et al., arXiv 1910.06711).
"""

from __future__ import annotations

from collections.abc import Sequence

from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.parametrizations import spectral_norm, weight_norm

_SLOPE = 0.1
# Kernel, stride and groups of the layers that listen to a scale; the channels may be fewer, and then the groups, too.
_SCALE_LAYERS = ((15, 1, 1), (41, 2, 4), (41, 2, 16), (41, 4, 16), (41, 4, 16), (41, 1, 16), (5, 1, 1))

Judgement = tuple[Tensor, list[Tensor]]
"""Scores (batch, places), and what the layers before them heard, the scores themselves at last."""


class PeriodDiscriminator(nn.Module):
    """Listens to every ``period``-th sample, beginning at each of the first ones: a picture of (time, period)."""

    def __init__(self, period: int, channels: Sequence[int]) -> None:
        super().__init__()
        self.period = period
        self.layers = nn.ModuleList()
        for place, (incoming, outgoing) in enumerate(zip((1, *channels), channels, strict=False)):
            stride = 3 if place < len(channels) - 1 else 1
            self.layers.append(weight_norm(nn.Conv2d(incoming, outgoing, (5, 1), (stride, 1), (2, 0))))
        self.last = weight_norm(nn.Conv2d(channels[-1], 1, (3, 1), padding=(1, 0)))

    def forward(self, waveform: Tensor) -> Judgement:
        """Judge waveforms (batch, time)."""
        waveform = functional.pad(waveform[:, None], (0, -waveform.shape[-1] % self.period), mode="reflect")
        return _judge(waveform.reshape(*waveform.shape[:2], -1, self.period), self.layers, self.last)


class ScaleDiscriminator(nn.Module):
    """Listens to the waveform as it comes; ``spectral`` is how the weights of the first of them are normalised."""

    def __init__(self, channels: Sequence[int], *, spectral: bool) -> None:
        super().__init__()
        normalised = spectral_norm if spectral else weight_norm
        self.layers = nn.ModuleList()
        for (kernel_size, stride, groups), incoming, outgoing in zip(
            _SCALE_LAYERS, (1, *channels), channels, strict=False
        ):
            groups = min(groups, incoming, outgoing)
            layer = nn.Conv1d(incoming, outgoing, kernel_size, stride, kernel_size // 2, groups=groups)
            self.layers.append(normalised(layer))
        self.last = normalised(nn.Conv1d(channels[-1], 1, 3, padding=1))

    def forward(self, waveform: Tensor) -> Judgement:
        """Judge waveforms (batch, time)."""
        return _judge(waveform[:, None], self.layers, self.last)


class Discriminators(nn.Module):
    """All listeners; the defaults are the paper's, of 70.7 M parameters.

    Args:
        periods: of those that listen to periods.
        period_channels: of their layers.
        num_scales: how many listen to scales, each to half the sample rate of the one before.
        scale_channels: of their seven layers.
    """

    def __init__(
        self,
        periods: Sequence[int] = (2, 3, 5, 7, 11),
        period_channels: Sequence[int] = (32, 128, 512, 1024, 1024),
        num_scales: int = 3,
        scale_channels: Sequence[int] = (128, 128, 256, 512, 1024, 1024, 1024),
    ) -> None:
        super().__init__()
        if len(scale_channels) != len(_SCALE_LAYERS):
            raise ValueError(f"scale_channels must be {len(_SCALE_LAYERS)} numbers, not {len(scale_channels)}")
        self.periods = nn.ModuleList(PeriodDiscriminator(period, period_channels) for period in periods)
        self.scales = nn.ModuleList(
            ScaleDiscriminator(scale_channels, spectral=place == 0) for place in range(num_scales)
        )

    def forward(self, waveform: Tensor) -> list[Judgement]:
        """Judge waveforms (batch, time), each listener for itself."""
        judgements = [listener(waveform) for listener in self.periods]
        for listener in self.scales:
            judgements.append(listener(waveform))
            waveform = functional.avg_pool1d(waveform[:, None], 4, 2, padding=2)[:, 0]
        return judgements


def _judge(signal: Tensor, layers: nn.ModuleList, last: nn.Module) -> Judgement:
    heard = []
    for layer in layers:
        signal = functional.leaky_relu(layer(signal), _SLOPE)
        heard.append(signal)
    signal = last(signal)
    return signal.flatten(1), [*heard, signal]


def listening_loss(recorded: Sequence[Judgement], made: Sequence[Judgement]) -> Tensor:
    """What the listeners minimise: squared distances of the scores from 1 and 0, summed over them (equation 1)."""
    losses = [
        (real - 1.0).square().mean() + fake.square().mean() for (real, _), (fake, _) in zip(recorded, made, strict=True)
    ]
    total: Tensor = sum(losses[1:], losses[0])
    return total


def deceiving_loss(made: Sequence[Judgement]) -> Tensor:
    """What a generator minimises of the scores: squared distances from 1, summed over the listeners (equation 2)."""
    losses = [(fake - 1.0).square().mean() for fake, _ in made]
    total: Tensor = sum(losses[1:], losses[0])
    return total


def feature_loss(recorded: Sequence[Judgement], made: Sequence[Judgement]) -> Tensor:
    """How differently the listeners heard the two: mean absolute difference, summed over all layers (equation 4)."""
    losses = [
        functional.l1_loss(fake, real.detach())
        for (_, reals), (_, fakes) in zip(recorded, made, strict=True)
        for real, fake in zip(reals, fakes, strict=True)
    ]
    total: Tensor = sum(losses[1:], losses[0])
    return total
