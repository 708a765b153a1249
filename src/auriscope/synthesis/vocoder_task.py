"""Training a vocoder against listeners, in two phases of the one loop."""

from __future__ import annotations

import dataclasses
import math
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional

from auriscope.data.segments import SegmentBatches, SegmentConfig
from auriscope.errors import RecipeError
from auriscope.signal.vocoding import MelConfig, speech_mel
from auriscope.synthesis.discriminators import Discriminators, deceiving_loss, feature_loss, listening_loss
from auriscope.synthesis.vocoder import Vocoder
from auriscope.training.recipe import Recipe, parse
from auriscope.training.task import Batch


@dataclass(frozen=True)
class DiscriminatorOptions:
    """The sizes of :class:`~auriscope.synthesis.discriminators.Discriminators`."""

    periods: tuple[int, ...] = (2, 3, 5, 7, 11)
    period_channels: tuple[int, ...] = (32, 128, 512, 1024, 1024)
    num_scales: int = 3
    scale_channels: tuple[int, ...] = (128, 128, 256, 512, 1024, 1024, 1024)


@dataclass(frozen=True)
class VocoderOptions:
    """What a recipe may say about the segments and losses; the defaults are HiFi-GAN's (section 2.4).

    Args:
        segment_frames: frames of a training segment.
        mel_weight: of the distance of the mels, over all frequencies.
        feature_weight: of the distance of what the listeners hear.
        more_windows: further windows of the distance of the mels, in samples, each with a hop of a quarter of it and
            as many mels a sample as the first: short ones tell where in a frame a sound begins (multi-resolution
            losses: Yamamoto, Song and Kim, arXiv 1910.11480, section 2.2).
        alone_batches: for so many batches the vocoder learns from the mels alone, before there are listeners.
        discriminators: the listeners.
    """

    segment_frames: int = 32
    mel_weight: float = 45.0
    feature_weight: float = 2.0
    more_windows: tuple[int, ...] = ()
    alone_batches: int = 0
    discriminators: DiscriminatorOptions = field(default_factory=DiscriminatorOptions)

    def __post_init__(self) -> None:
        if self.segment_frames < 1:
            raise RecipeError(f"task_options.segment_frames must be at least 1, not {self.segment_frames}")


@dataclass(frozen=True)
class VocoderValidation:
    """Which segments choose the weights: the same ``num_batches`` of ``batch_size`` of ``seconds``, of a split."""

    corpora: tuple[str, ...] = ("ljspeech_1spk",)
    prepared: str | None = None
    split: str = "valid"
    seconds: float = 2.0
    batch_size: int = 8
    num_batches: int = 2


class VocoderTask(nn.Module):
    """A vocoder that learns to deceive listeners, and listeners that learn not to be deceived.

    The phase "discriminator" comes first, and what the vocoder made in it is judged again in the phase "generator". A
    batch holds ``waveform`` (batch, time), of which :attr:`margin_frames` at both ends are only there for the mels.
    """

    selection_metric = "mel_error"
    higher_is_better = False

    batches_seen: Tensor

    def __init__(self, model: Vocoder, options: VocoderOptions | None = None) -> None:
        super().__init__()
        self.model = model
        self.options = options or VocoderOptions()
        self.discriminators = Discriminators(**dataclasses.asdict(self.options.discriminators))
        # In the state, so that a resumed run knows when its listeners begin.
        self.register_buffer("batches_seen", torch.zeros((), dtype=torch.int64))
        mel: MelConfig = model.config.mel
        whole = dataclasses.replace(mel, max_hz=mel.sample_rate / 2)
        self.loss_mels = (whole, *(_of_window(whole, length) for length in self.options.more_windows))
        self._made: list[tuple[Tensor, Tensor]] = []

    @property
    def margin_frames(self) -> int:
        """Frames at each end of a batch's waveform whose mels would see beyond it."""
        mel: MelConfig = self.model.config.mel
        return math.ceil(mel.fft_length / 2 / mel.hop_length)

    def phases(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """First the listeners, then the vocoder."""
        return {"discriminator": self.discriminators.parameters(), "generator": self.model.parameters()}

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:
        """The losses of a batch in a phase."""
        alone = int(self.batches_seen) < self.options.alone_batches
        self.discriminators.requires_grad_(phase == "discriminator")
        if phase == "discriminator":
            return self._listen(batch, alone)
        losses = self._deceive(batch, alone)
        self.batches_seen += 1
        return losses

    def _listen(self, batch: Batch, alone: bool) -> dict[str, Tensor]:
        if alone:
            # A loss that moves nothing, as there is nobody to listen yet.
            return {"loss": 0.0 * next(self.discriminators.parameters()).sum()}
        mel, recorded = self.cut(batch)
        made = self.model(mel)
        self._made.append((batch["waveform"], made))
        loss = listening_loss(self.discriminators(recorded), self.discriminators(made.detach()))
        return {"loss": loss, "listening": loss.detach()}

    def _deceive(self, batch: Batch, alone: bool) -> dict[str, Tensor]:
        mel, recorded = self.cut(batch)
        made = self._made_of(batch, mel)
        mel_loss = self.mel_distance(made, recorded).mean()
        losses = {"mel": mel_loss}
        if not alone:
            with torch.no_grad():
                of_recorded = self.discriminators(recorded)
            of_made = self.discriminators(made)
            losses |= {"deceiving": deceiving_loss(of_made), "features": feature_loss(of_recorded, of_made)}
        weights = {"mel": self.options.mel_weight, "deceiving": 1.0, "features": self.options.feature_weight}
        loss = torch.stack([weights[name] * value for name, value in losses.items()]).sum()
        return {"loss": loss} | {name: value.detach() for name, value in losses.items()}

    def _made_of(self, batch: Batch, mel: Tensor) -> Tensor:
        """What the vocoder made of a batch when the listeners learned from it: its weights have not changed since."""
        for place, (waveform, made) in enumerate(self._made):
            if waveform is batch["waveform"]:
                del self._made[place]
                return made
        anew: Tensor = self.model(mel)
        return anew

    def cut(self, batch: Batch) -> tuple[Tensor, Tensor]:
        """Mels (batch, frames, mels) of a batch without its margins, and the waveform (batch, time) they are of."""
        config: MelConfig = self.model.config.mel
        waveform, margin = batch["waveform"], self.margin_frames
        frames = waveform.shape[-1] // config.hop_length - 2 * margin
        with torch.autocast(waveform.device.type, enabled=False):
            mel = speech_mel(waveform, config)[:, margin : margin + frames]
        return mel, waveform[:, margin * config.hop_length :][:, : frames * config.hop_length]

    def mel_distance(self, made: Tensor, recorded: Tensor) -> Tensor:
        """Mean absolute difference of the log-mels of waveforms (batch, time), over all windows, (batch,)."""
        with torch.autocast(made.device.type, enabled=False):
            distances = [
                (speech_mel(made.float(), config) - speech_mel(recorded, config)).abs().mean((1, 2))
                for config in self.loss_mels
            ]
        return torch.stack(distances).mean(0)

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """The distance of the mels that the vocoder reads and those of its sound, (batch,)."""
        mel, recorded = self.cut(batch)
        made, config = self.model(mel).float(), self.model.config.mel
        distance = functional.l1_loss(speech_mel(made, config), speech_mel(recorded, config), reduction="none")
        return {"mel_error": distance.mean((1, 2))}


def _of_window(mel: MelConfig, window_length: int) -> MelConfig:
    num_mels = max(5, mel.num_mels * window_length // mel.window_length)
    return dataclasses.replace(
        mel,
        window_length=window_length,
        fft_length=window_length,
        hop_length=max(1, window_length // 4),
        num_mels=num_mels,
    )


class ValidationSegments:
    """A fixed number of batches, made once and given again and again."""

    def __init__(self, batches: SegmentBatches, num_batches: int) -> None:
        self.batches: Sequence[Batch] = [batches.batch(index) for index in range(num_batches)]

    def __iter__(self) -> Iterator[Batch]:
        return iter(self.batches)


def build(recipe: Recipe, model: Vocoder) -> tuple[VocoderTask, SegmentBatches, ValidationSegments]:
    """Make a recipe's task, training batches and validation batches; ``RecipeError`` if they do not fit together."""
    config: MelConfig = model.config.mel
    task = VocoderTask(model, parse(VocoderOptions, recipe.task_options, "task_options"))

    def batches(data: SegmentConfig, frames: int, seed: int, split: str) -> SegmentBatches:
        if data.sample_rate != config.sample_rate:
            raise RecipeError(
                f"data is at {data.sample_rate} Hz, the model's mels at {config.sample_rate} Hz: give both the same"
            )
        num_samples = (frames + 2 * task.margin_frames) * config.hop_length
        num_threads = min(4, max(1, (os.cpu_count() or 2) - 1))
        return SegmentBatches(data, num_samples, seed=seed, split=split, num_threads=num_threads)

    rate: dict[str, Any] = {"sample_rate": config.sample_rate}
    data = parse(SegmentConfig, rate | recipe.data, "data")
    validation = parse(VocoderValidation, recipe.validation, "validation")
    measured = SegmentConfig(
        corpora=validation.corpora, prepared=validation.prepared, batch_size=validation.batch_size, **rate
    )
    frames = math.ceil(validation.seconds / config.frame_seconds)
    return (
        task,
        batches(data, task.options.segment_frames, recipe.seed, "train"),
        ValidationSegments(batches(measured, frames, recipe.seed + 1, validation.split), validation.num_batches),
    )
