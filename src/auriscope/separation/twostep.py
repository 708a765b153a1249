"""Two-Step: a filterbank learned first, with ideal masks; then a network of masks learned in its frozen domain."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any, ClassVar, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from auriscope.errors import RecipeError
from auriscope.metrics.pit import pit_si_snr
from auriscope.metrics.ratios import is_silent, si_snr
from auriscope.nn.masks import choice, length_mask
from auriscope.separation.convtasnet import ConvTasNetConfig, TemporalConvMasker
from auriscope.separation.filters import begin_harmonic, check_initial_filters
from auriscope.separation.layers import ACTIVATIONS, Decoder, Encoder, MaskingModel
from auriscope.separation.objectives import pit_objective
from auriscope.separation.spectral import rms_level
from auriscope.training.task import Batch

_GAIN = 3.0


@dataclass(frozen=True)
class TwoStepConfig(ConvTasNetConfig):
    """The configuration of Two-Step; the defaults are the paper's (section 3.2), the fields those of Conv-TasNet.

    ``variant`` is how the masks are made: ``"conv-tasnet"``, by its PReLU and 1x1 convolution, or ``"original"``, as in
    the authors' code (see :class:`AlongFiltersMasker`), from the residual path of an even number of filters.
    ``initial_filters`` is ``"random"`` or ``"harmonic"``: windowed sines and cosines with both signs, with which short
    trainings begin well; ``num_filters`` is then twice the ``kernel_size``, and the ``stride`` half of it.
    ``separate_noise`` gives what is no talker a mask of its own, which nothing comes out of (not in the paper, whose
    mixtures are clean): without it the masks of the talkers share out the noise as well. ``fixed_filters`` leaves
    harmonic filters as they begin, so that nothing of them is trained or stored; a recipe then begins with the second
    stage (``stage_batches: [0]``).
    """

    num_filters: int = 256
    kernel_size: int = 21
    stride: int = 10
    bottleneck_channels: int = 256
    skip_channels: int = 0
    num_repeats: int = 4
    encoder_activation: str = "relu"
    mask_activation: str = "softmax"
    variant: str = "conv-tasnet"
    initial_filters: str = "random"
    separate_noise: bool = False
    fixed_filters: bool = False

    def __post_init__(self) -> None:
        super().__post_init__()
        choice(self.variant, ("conv-tasnet", "original"), "variant")
        if self.variant == "original" and (self.skip_channels or self.num_filters % 2):
            raise ValueError("the variant 'original' needs skip_channels=0 and an even num_filters")
        if self.separate_noise and (self.variant == "original" or self.mask_activation != "softmax"):
            raise ValueError("separate_noise needs the variant 'conv-tasnet' and mask_activation 'softmax'")
        check_initial_filters(
            self.initial_filters, self.num_filters, self.kernel_size, self.stride, fixed=self.fixed_filters
        )


class TwoStep(MaskingModel, name="separation/twostep"):
    """Two-Step CTN: learn where masks work best, then learn the masks there.

    E. Tzinis, S. Venkataramani, Z. Wang, C. Subakan, P. Smaragdis, "Two-Step Sound Source Separation: Training on
    Learned Latent Targets", ICASSP 2020, arXiv 1910.09804; section 2.

    Stage 0 trains the encoder and the decoder alone: the clean sources' features, through a softmax over the sources,
    are the ideal masks (section 2.1), and the loss is minus the SI-SNR of what they make of the mixture. Stage 1
    leaves encoder and decoder as they are and trains the masks: the loss is minus the SI-SNR, in the domain of the
    features and under PIT, of the masked mixture against the ideally masked one, a lower bound of the SI-SNR in time
    (section 2.3). ``task_options.stage_batches`` of a recipe says how many batches stage 0 has.

    Published: SI-SNRi 16.1 dB on WSJ0-2Mix; 8.6 M parameters. The default configuration has 8.75 M: the masks come out
    of Conv-TasNet's 1x1 convolution (0.13 M), for which the authors' code
    (https://github.com/etzinis/two_step_mask_learning) has one convolution along the filters with a few hundred
    weights. The variant "original" has it, 8.62 M parameters, and masks equal to that code's with the same weights; it
    is that of the recipe for WSJ0-2Mix.

    As in the authors' code, blocks have global layer norms, and the mixture a level of 1, since a softmax of features
    is not the same at another: there the recordings are prepared so, here the network does it and brings the tracks
    back. Ours: the filters have no bias and recordings no padding at the ends; one decoder for all sources, which
    have no order, where that code has one for each; the decoder begins as the encoder's transpose, so that stage 0
    begins with a filterbank that reconstructs; no permutations in stage 0, where every mask has its source already.
    """

    Config = TwoStepConfig
    Tiny: ClassVar[dict[str, Any]] = {
        "num_filters": 32,
        "kernel_size": 16,
        "stride": 8,
        "bottleneck_channels": 12,
        "hidden_channels": 16,
        "num_blocks": 2,
        "num_repeats": 2,
    }
    Published: ClassVar[dict[str, float]] = {"SI-SNRi on WSJ0-2Mix (dB)": 16.1, "parameters (million)": 8.6}
    num_stages: ClassVar[int] = 2

    def __init__(self, config: TwoStepConfig) -> None:
        filters = (config.num_filters, config.kernel_size, config.stride)
        encoder = Encoder(*filters, activation=config.encoder_activation)
        if config.separate_noise:
            masker: TemporalConvMasker = NoiseMasker(config)
        else:
            masker = (AlongFiltersMasker if config.variant == "original" else TemporalConvMasker)(config)
        super().__init__(config, encoder, masker, Decoder(*filters))
        if config.initial_filters == "harmonic":
            # Three times as loud as the mixture: so the ideal masks, softmaxes of features, are sharp enough.
            begin_harmonic(self.encoder, self.decoder, gain=_GAIN, fixed=config.fixed_filters)
        else:
            with torch.no_grad():
                # At a level of 1 the features are then about 1 as well.
                self.encoder.weight.normal_(std=config.kernel_size**-0.5)
                self.decoder.weight.copy_(self.encoder.weight)

    def forward(self, mixture: Tensor, lengths: Tensor | None = None) -> Tensor:
        """Separate a mixture (B, time) in [-1, 1] into estimates (B, S, time); ``lengths`` as in every separator."""
        if lengths is not None:
            mixture = mixture.masked_fill(~length_mask(lengths, mixture.shape[-1]), 0)
        level = rms_level(mixture, lengths)
        return super().forward(mixture / level, lengths) * level[..., None]

    def losses(self, batch: Batch, stage: int) -> dict[str, Tensor]:
        """The loss of a stage and, in dB, what the ideal masks reach (stage 0) or the network gains (stage 1)."""
        mixture, sources, num_samples = batch["mixture"], batch["sources"], batch["mixture"].shape[-1]
        level = rms_level(mixture)
        mixture, sources = mixture / level, sources / level[..., None]
        audible = ~is_silent(sources)
        if stage == 0:
            if self.config.fixed_filters:
                raise RecipeError("separation/twostep: fixed filters have no first stage; begin stage_batches with 0")
            features = self.encoder(mixture)
            estimates = self.decoder(self.ideal(features, mixture, sources), num_samples).float()
            value = _mean(si_snr(estimates, sources), audible)
            return {"loss": -value, "ideal_si_snr_db": value.detach()}
        with torch.no_grad():
            features = self.encoder(mixture)
            targets = self.ideal(features, mixture, sources)
            features = features.transpose(1, 2)
        masked = self.masker(features) * features[:, None]
        # Without removing means: of features that are never negative the mean is a part of what is heard.
        values = pit_si_snr(masked.float().flatten(2), targets.float().flatten(2), zero_mean=False).values
        with torch.no_grad():
            # For the log only, so of a part of the batch: decoding takes as long as a good part of the network.
            few = max(1, len(mixture) // 4)
            gain = pit_objective(self.decoder(masked[:few], num_samples), sources[:few], mixture[:few])["si_snri_db"]
        return {"loss": -_mean(values, audible), "si_snri_db": gain}

    def ideal(self, features: Tensor, mixture: Tensor, sources: Tensor) -> Tensor:
        """Mask the features (B, N, F) of the mixture (B, time) by the softmax of the sources' (B, S, time).

        Gives (B, S, F, N). With ``separate_noise``, what the sources lack of the mixture takes its share, too.
        """
        num_sources = sources.shape[1]
        if self.config.separate_noise:
            sources = torch.cat((sources, mixture[:, None] - sources.sum(1, keepdim=True)), dim=1)
        latents = self.encoder(sources.flatten(0, 1)).unflatten(0, sources.shape[:2])
        masked: Tensor = latents.softmax(1)[:, :num_sources] * features[:, None]
        return masked.transpose(2, 3)


class NoiseMasker(TemporalConvMasker):
    """Conv-TasNet's blocks with one mask more, for what is no talker; its share of the softmax is left out."""

    def __init__(self, config: TwoStepConfig) -> None:
        super().__init__(dataclasses.replace(config, num_sources=config.num_sources + 1))

    def masks(self, x: Tensor) -> Tensor:
        """What the blocks made of the frames (B, C, F) to masks of the talkers (B, S, F, N)."""
        return super().masks(x)[:, :-1]


class AlongFiltersMasker(TemporalConvMasker):
    """Conv-TasNet's blocks between batch norms; then ReLU, and masks by one filter per source, along the filterbank.

    The filters of the filterbank are an axis of their own for the last convolution, as frequencies would be: the mask
    of filter n sees the channels of all filters up to half the filterbank away. Batch norms see all frames of a
    batch alike, so they count on training examples of one length.
    """

    def __init__(self, config: TwoStepConfig) -> None:
        super().__init__(config)
        num_filters, channels = config.num_filters, config.bottleneck_channels
        self.norm = FrameBatchNorm(num_filters)
        del self.prelu, self.to_masks
        self.to_filters = nn.Conv1d(channels, num_filters, 1) if channels != num_filters else None
        self.last_norm = FrameBatchNorm(num_filters)
        self.along_filters = nn.Conv1d(1, config.num_sources, num_filters + 1, padding=num_filters // 2)

    def masks(self, x: Tensor) -> Tensor:
        """What the blocks made of the frames (B, C, F) to masks (B, S, F, N)."""
        x = torch.relu(self.last_norm(x if self.to_filters is None else self.to_filters(x)))
        # The convolution as a product with one matrix (N, N) per source: row n sees filter m by weight m - n + N / 2.
        weight, bias = self.along_filters.weight[:, 0], cast(Tensor, self.along_filters.bias)
        reach = x.shape[1] // 2 - 1
        matrices = F.pad(weight, (reach, reach)).unfold(-1, x.shape[1], 1).flip(1)
        masks = matrices @ x[:, None] + bias[:, None, None]
        masks = masks.softmax(1) if self.mask_activation == "softmax" else ACTIVATIONS[self.mask_activation](masks)
        return masks.transpose(2, 3)


class FrameBatchNorm(nn.BatchNorm1d):
    """A batch norm of frames (B, C, F) in the place of a norm that is told which frames count."""

    def forward(self, x: Tensor, mask: Tensor | None = None) -> Tensor:  # noqa: ARG002
        """Normalise every channel over all examples and frames, in training, or by what training has seen."""
        return super().forward(x)


def _mean(values: Tensor, audible: Tensor) -> Tensor:
    """Mean of the values (B, S) of the audible sources; zero if there is none."""
    return torch.where(audible, values, torch.zeros_like(values)).sum() / audible.sum().clamp(min=1)
