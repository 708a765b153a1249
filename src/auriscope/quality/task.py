"""Training a blind estimator, on a pool of several separators' outputs or on sources degraded on purpose."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from auriscope.data.mixing import DynamicMixer, MixingConfig
from auriscope.errors import RecipeError
from auriscope.pretrained.addresses import load
from auriscope.pretrained.model import Model
from auriscope.quality.calibration import input_statistics
from auriscope.quality.pool import Pool, QualityBatches, Separator, generate_pool
from auriscope.signal.resampling import resample
from auriscope.training.recipe import Recipe, build_model, parse
from auriscope.training.task import Batch


@dataclass(frozen=True)
class QualityData:
    """What an estimator is trained on.

    Args:
        pool: folder of the pool, whose folders ``train`` and ``valid`` are two pools of different speakers; None: no
            separators, only degraded sources, mixed on the fly.
        separators: addresses of the separators (or of stages of their training) to add to the pool where they are
            missing from it; none: the pool is taken as it is.
        train_batches_per_separator: batches of ``mixing`` that each separator separates for training.
        valid_batches_per_separator: the same for validation.
        mixing: the mixtures; the split is that of the pool.
        batch_size: examples in a training batch.
        seconds: shortest and longest stretch of an example.
        degraded_share: how often a pool's example is degraded on purpose, see :mod:`auriscope.quality.degrade`.
        alone_share: how often a batch has one track per mixture instead of all.
    """

    pool: str | None = None
    separators: tuple[str, ...] = ()
    train_batches_per_separator: int = 100
    valid_batches_per_separator: int = 15
    mixing: MixingConfig = field(default_factory=lambda: MixingConfig(noise_probability=0.5, room_probability=0.5))
    batch_size: int = 16
    seconds: tuple[float, float] = (1.0, 4.0)
    degraded_share: float = 0.3
    alone_share: float = 0.1

    def __post_init__(self) -> None:
        if not 0 < self.seconds[0] <= self.seconds[1] <= self.mixing.segment_seconds:
            raise RecipeError(
                f"data.seconds must rise from above 0 to at most data.mixing.segment_seconds, not {self.seconds}"
            )
        if self.batch_size < 1:
            raise RecipeError(f"data.batch_size must be at least 1, not {self.batch_size}")
        if self.separators and self.pool is None:
            raise RecipeError("data.separators needs data.pool, the folder for what they make")


@dataclass(frozen=True)
class QualityValidation:
    """Which examples choose the weights: so many batches of the valid pool, always the same ones.

    Args:
        num_batches: of the size of the training batches.
        degraded_share: as in training, on the validation speakers.
    """

    num_batches: int = 24
    degraded_share: float = 0.15


@dataclass(frozen=True)
class QualityOptions:
    """What a recipe may say about the loss.

    Args:
        l1_weight: weight of the plain absolute error in dB beside the likelihood, which alone lets go of hard examples.
    """

    l1_weight: float = 0.1


class QualityTask(nn.Module):
    """Regression of the SI-SNR with the likelihood of a Laplace distribution whose scale the network predicts too.

    For REAL-M's network, whose scale is constant, this is the paper's L1 (section 3). Targets are clipped to the
    network's range: for ours 5 dB beyond it on either side, so that predictions can leave the range that is vouched
    for. A track whose talker is silent has no SI-SNR; nothing in it belongs there, so its target is the lowest.
    """

    selection_metric = "absolute_error_db"
    higher_is_better = False

    def __init__(self, model: Model, options: QualityOptions | None = None) -> None:
        super().__init__()
        self.model = model
        self.options = options or QualityOptions()

    def phases(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """One phase, over all parameters."""
        return {"main": self.model.parameters()}

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:  # noqa: ARG002
        """The loss of a batch and its mean absolute error in dB."""
        score, scale, _ = self._distribution(batch)
        error = (score - self.target(batch)).abs()
        likelihood = (error / scale + torch.log(2 * scale)).mean()
        return {"loss": likelihood + self.options.l1_weight * error.mean(), "absolute_error_db": error.mean().detach()}

    def target(self, batch: Batch) -> Tensor:
        """What the network is to say: (batch, sources) in dB, the lowest value where the talker is silent."""
        config = self.model.config
        low, high = config.minimum_db - config.margin_db, config.maximum_db + config.margin_db
        target: Tensor = batch["target_db"]
        return torch.nan_to_num(target, nan=low).clamp(low, high)

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Mean over an example's audible talkers: absolute error and predicted scale in dB, each (batch,)."""
        score, scale, _ = self._distribution(batch)
        defined = ~batch["target_db"].isnan()
        error = torch.where(defined, (score - self.target(batch)).abs(), math.nan)
        return {
            "absolute_error_db": error.nanmean(-1),
            "scale_db": torch.where(defined, scale, math.nan).nanmean(-1),
        }

    def _distribution(self, batch: Batch) -> tuple[Tensor, Tensor, Tensor]:
        model: Any = self.model
        score, scale, embedding = model.distribution(batch["mixture"], batch["estimates"], batch["lengths"])
        return score.float(), scale.float(), embedding


class ValidationBatches:
    """The first batches of a source, each time the same, kept after they were first made."""

    def __init__(self, source: QualityBatches, num_batches: int) -> None:
        self.source, self.num_batches = source, num_batches
        self._batches: list[dict[str, Tensor]] = []

    def __iter__(self) -> Iterator[dict[str, Tensor]]:
        if not self._batches:
            self._batches = [self.source.batch(index) for index in range(self.num_batches)]
        return iter(self._batches)


def build(recipe: Recipe) -> tuple[QualityTask, QualityBatches, ValidationBatches]:
    """Make a recipe's task, training batches and validation batches; makes what its pool lacks.

    Raises ``RecipeError``, ``CheckpointError`` for a separator's address, and ``CorpusError`` for the data.
    """
    model = build_model(recipe)
    if not hasattr(model, "distribution"):
        raise RecipeError(f"{recipe.model.architecture} is not a blind estimator; see `auriscope models`")
    train, valid = data_sources(recipe, model.config.sample_rate)
    return QualityTask(model, parse(QualityOptions, recipe.task_options, "task_options")), train, valid


def finish(recipe: Recipe, model: Model, *, num_batches: int = 60) -> None:
    """Calibrate trained weights with the recipe's data, as the last step before they are saved.

    What inputs look like is learned from ``num_batches`` training batches; errors and limits from the validation
    batches, whose speakers the weights have not seen.
    """
    train, valid = data_sources(recipe, model.config.sample_rate)
    calibrate(model, (train.batch(index) for index in range(num_batches)), valid)


@torch.no_grad()
def calibrate(model: Any, known: Iterable[Batch], held_out: Iterable[Batch]) -> None:
    """Fit ``model.calibration`` on batches like the training's, and on held-out ones (see ``Calibration``)."""
    task = QualityTask(model).eval()

    def describe(batch: Batch) -> tuple[Tensor, ...]:
        score, scale, embedding = model.distribution(batch["mixture"], batch["estimates"], batch["lengths"])
        statistics = input_statistics(batch["mixture"], batch["estimates"], batch["lengths"], model.sample_rate)
        defined = ~batch["target_db"].isnan()
        return tuple(values[defined] for values in (embedding, statistics, score - task.target(batch), scale))

    embedding, statistics, _, _ = map(torch.cat, zip(*map(describe, known), strict=True))
    model.calibration.fit_inputs(embedding, statistics)
    embedding, _, error, scale = map(torch.cat, zip(*map(describe, held_out), strict=True))
    model.calibration.fit_errors(error, scale, embedding)


def data_sources(recipe: Recipe, sample_rate: int) -> tuple[QualityBatches, ValidationBatches]:
    """Make the training and the validation batches that a recipe describes, at the estimator's sample rate."""
    data = parse(QualityData, recipe.data, "data")
    validation = parse(QualityValidation, recipe.validation, "validation")

    def batches(split: str, degraded_share: float, seed: int) -> QualityBatches:
        return QualityBatches(
            batch_size=data.batch_size,
            sample_rate=sample_rate,
            seconds=data.seconds,
            pools=(_pool(data, split, recipe.seed),) if data.pool is not None else (),
            mixer=None if data.pool is not None else _mixer(data, split, recipe.seed),
            degraded_share=degraded_share,
            alone_share=data.alone_share,
            seed=seed,
        )

    valid = batches("valid", validation.degraded_share, recipe.seed + 1)
    return batches("train", data.degraded_share, recipe.seed), ValidationBatches(valid, validation.num_batches)


def separator_function(model: Model, sample_rate: int) -> Separator:
    """Wrap a separation model as a function of mixtures at ``sample_rate``, resampling when the model's differs."""
    own_rate = int(model.config.sample_rate)

    @torch.no_grad()
    def separate(mixture: Tensor) -> Tensor:
        estimates: Tensor = model(resample(mixture, sample_rate, own_rate).to(model.device)).float().cpu()
        estimates = resample(estimates, own_rate, sample_rate)[..., : mixture.shape[-1]]
        return nn.functional.pad(estimates, (0, mixture.shape[-1] - estimates.shape[-1]))

    return separate


def _mixer(data: QualityData, split: str, seed: int) -> DynamicMixer:
    mixing = replace(data.mixing, split=split)
    # Without a pool, the mixer's batch is the training batch.
    return DynamicMixer(mixing if data.pool is not None else replace(mixing, batch_size=data.batch_size), seed=seed)


def _pool(data: QualityData, split: str, seed: int) -> Pool:
    assert data.pool is not None
    folder = Path(data.pool) / split
    if data.separators:
        number = data.train_batches_per_separator if split == "train" else data.valid_batches_per_separator
        mixer = _mixer(data, split, seed)
        for address in data.separators:
            # One model at a time: a pool may be made by more separators than fit into memory.
            function = separator_function(load(address), data.mixing.sample_rate)
            generate_pool(mixer, {address: function}, folder, num_batches=number)
    return Pool(folder)
