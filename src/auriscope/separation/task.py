"""Training a separator: permutation-invariant SI-SNR over dynamically mixed or fixed mixtures."""

from __future__ import annotations

import os
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, Protocol, runtime_checkable

import torch
from torch import Tensor, nn

from auriscope.data.evaluation import evaluation_set
from auriscope.data.excerpts import PreparedConfig, PreparedMixer
from auriscope.data.items import EvaluationSet
from auriscope.data.mixing import DynamicMixer, MixingConfig
from auriscope.data.prepared_set import PreparedSet
from auriscope.errors import RecipeError
from auriscope.metrics.improvement import sdri
from auriscope.metrics.pit import PitResult, permute, pit_si_snr
from auriscope.metrics.ratios import si_snr
from auriscope.metrics.spectral import compressed_spectral_error
from auriscope.pretrained.model import Model
from auriscope.separation.objectives import si_snr_objective
from auriscope.separation.stems import absolute_objective
from auriscope.training.recipe import Recipe, build_model, parse
from auriscope.training.task import Batch


@dataclass(frozen=True)
class SeparationOptions:
    """What a recipe may say about the loss.

    Args:
        stage_batches: where the stages of a system that is trained in stages end, counted in batches; the last stage
            has no end. A system of two stages has one number here; with one more, its training ends in a stage that
            is not its own, on the tracks themselves, end to end, with the loss of every other system.
        max_si_snr_db: mixtures separated better than this no longer pull on the weights; Zeghidour and Grangier,
            Wavesplit (arXiv 2002.08933), section 3.3, clip at 30 dB for the same reason.
        spectral_weight: of :func:`~auriscope.metrics.spectral.compressed_spectral_error`, in dB of SI-SNR per unit,
            beside the SI-SNR. It holds the level of the estimates, silences what should be silent, and raises PESQ;
            0: the SI-SNR alone, which leaves the level of the estimates open.
        permutation: "best" where the order of the sources means nothing (talkers), "fixed" where each has its place
            (stems of music).
        loss: "si_snr", or "absolute", :func:`~auriscope.separation.stems.absolute_objective`, of fixed sources only.
    """

    max_si_snr_db: float = 30.0
    stage_batches: tuple[int, ...] = ()
    spectral_weight: float = 0.0
    permutation: Literal["best", "fixed"] = "best"
    loss: Literal["si_snr", "absolute"] = "si_snr"

    def __post_init__(self) -> None:
        if self.loss == "absolute" and self.permutation != "fixed":
            raise RecipeError("task_options: the loss 'absolute' needs the permutation 'fixed'")


@dataclass(frozen=True)
class ValidationOptions:
    """Which fixed mixtures choose the weights.

    Args:
        sets: names of evaluation sets, or prepared folders.
        split: of the sets.
        batch_size: mixtures at a time; it changes nothing but speed.
        max_items: of each set, the first so many; None: all.
        max_seconds: of each mixture, the first so many; None: all.
    """

    sets: tuple[str, ...] = ("libri2mix-mini-clean",)
    split: str = "valid"
    batch_size: int = 8
    max_items: int | None = None
    max_seconds: float | None = None


@runtime_checkable
class OwnLosses(Protocol):
    """What a system offers whose training is its own: everything but the SI-SNR of its estimates under PIT.

    ``losses(batch, stage)`` takes a batch of :class:`~auriscope.data.mixing.DynamicMixer` and the number of the stage,
    from 0, and gives a dict with the scalar ``"loss"``, others to be logged. A parameter that a stage leaves without
    a gradient stays as it is in that stage.
    """

    num_stages: ClassVar[int]

    def losses(self, batch: Batch, stage: int) -> dict[str, Tensor]:
        """Losses of a batch."""
        ...


@runtime_checkable
class OwnMetrics(Protocol):
    """What a model not validated by SI-SNR offers: metrics per example, and which of them chooses the weights."""

    selection_metric: ClassVar[str]
    higher_is_better: ClassVar[bool]

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """Metrics of a batch, each (batch,)."""
        ...


class SeparationTask(nn.Module):
    """Permutation-invariant training for the SI-SNR, in dB, of all talkers of a mixture together.

    The loss of an example is minus the mean SI-SNR over its (audible) sources under the best permutation; Kolbæk et al.
    2017 (arXiv 1703.06284), section IV, with the SI-SNR of Luo and Mesgarani (arXiv 1809.07454), section III.E. A
    system with losses of its own (:class:`OwnLosses`) is trained with those.
    """

    selection_metric = "si_snri_db"
    higher_is_better = True

    def __init__(self, model: Model, options: SeparationOptions | None = None) -> None:
        super().__init__()
        self.model = model
        self.options = options or SeparationOptions()
        if isinstance(model, OwnMetrics):
            self.selection_metric, self.higher_is_better = model.selection_metric, model.higher_is_better
        num_stages = getattr(model, "num_stages", 1)
        possible = (num_stages - 1, num_stages) if isinstance(model, OwnLosses) else (0,)
        if len(self.options.stage_batches) not in possible:
            raise RecipeError(
                f"{model.name} is trained in {num_stages} stages, so task_options.stage_batches must hold "
                f"{possible[0]} numbers; it holds {len(self.options.stage_batches)}"
            )
        # What a stage does not train has no gradients, which several processes must know.
        self.leaves_parameters_out = num_stages > 1
        self.num_batches: Tensor
        if self.options.stage_batches:
            # Part of the checkpoint, so that a run that is continued is in the stage where it stopped.
            self.register_buffer("num_batches", torch.zeros((), dtype=torch.int64))

    @property
    def stage(self) -> int:
        """The stage that training is in, from 0."""
        if not self.options.stage_batches:
            return 0
        return sum(int(self.num_batches) >= end for end in self.options.stage_batches)

    def phases(self) -> Mapping[str, Iterable[nn.Parameter]]:
        """One phase, over all parameters."""
        return {"main": self.model.parameters()}

    def forward(self, batch: Batch, phase: str) -> dict[str, Tensor]:  # noqa: ARG002
        """The loss of a batch and its mean SI-SNR improvement in dB, or a system's own losses."""
        stage = self.stage
        if self.options.stage_batches:
            self.num_batches += 1
        if isinstance(self.model, OwnLosses) and stage < self.model.num_stages:
            return self.model.losses(batch, stage)
        mixture, sources, lengths = batch["mixture"], batch["sources"], _lengths_that_matter(batch)
        estimates = self.model(mixture, lengths).float()
        matched = match(estimates, sources, lengths, fixed=self.options.permutation == "fixed")
        limit = self.options.max_si_snr_db
        losses = si_snr_objective(matched.values, sources, mixture, lengths, max_si_snr_db=limit)
        if self.options.loss == "absolute":
            return {**losses, "loss": absolute_objective(estimates, sources)}
        if self.options.spectral_weight > 0:
            level = mixture.square().mean(-1, keepdim=True).sqrt()[:, None] + 1e-6
            error = compressed_spectral_error(permute(estimates, matched.permutation), sources, level=level).mean()
            losses |= {"loss": losses["loss"] + self.options.spectral_weight * error, "spectral_error": error.detach()}
        return losses

    def evaluate(self, batch: Batch) -> dict[str, Tensor]:
        """SI-SNR and its improvement over the mixture, in dB, mean over the talkers of each example, (batch,).

        A model with metrics of its own (:class:`OwnMetrics`) gives those.
        """
        if isinstance(self.model, OwnMetrics):
            return self.model.evaluate(batch)
        fixed = self.options.permutation == "fixed"
        return separation_metrics(self.model, batch, with_sdr=False, fixed=fixed)


def match(estimates: Tensor, sources: Tensor, lengths: Tensor | None = None, *, fixed: bool = False) -> PitResult:
    """SI-SNR of the estimates, in the order of the sources: as it is if ``fixed``, else the best permutation's.

    Shapes and values are those of :func:`~auriscope.metrics.pit.pit_si_snr`.
    """
    if not fixed:
        return pit_si_snr(estimates, sources, lengths)
    own = torch.arange(sources.shape[1], device=sources.device).expand(sources.shape[:2])
    return PitResult(si_snr(estimates, sources, lengths), own)


def _lengths_that_matter(batch: Batch) -> Tensor | None:
    """The lengths of a batch, or None where every example fills it."""
    lengths: Tensor = batch["lengths"]
    return None if bool((lengths == batch["mixture"].shape[-1]).all()) else lengths


def separation_metrics(
    model: nn.Module, batch: Batch, *, with_sdr: bool = True, fixed: bool = False
) -> dict[str, Tensor]:
    """Separate a batch and score each example: ``si_snr_db``, ``si_snri_db`` and, if asked for, ``sdri_db``.

    Values are means over the audible talkers of an example under the permutation of the best SI-SNR, or, if ``fixed``,
    in the order in which they come, (batch,); NaN where every talker is silent.
    """
    mixture, sources, lengths = batch["mixture"], batch["sources"], batch["lengths"]
    with torch.no_grad():
        estimates = model(mixture, _lengths_that_matter(batch)).float()
        result = match(estimates, sources, lengths, fixed=fixed)
        before = si_snr(mixture[:, None].expand_as(sources), sources, lengths)
        values = {
            "si_snr_db": result.values.nanmean(-1),
            "si_snri_db": (result.values - before).nanmean(-1),
        }
        if with_sdr:
            ordered = permute(estimates, result.permutation)
            values["sdri_db"] = sdri(ordered, sources, mixture, lengths).nanmean(-1)
    return values


class ValidationBatches:
    """The batches of several evaluation sets, one after the other, each time the same.

    Those of prepared folders, which may be large, are read each time; the others are made once and kept.
    """

    def __init__(self, options: ValidationOptions, sample_rate: int, num_sources: int | None = None) -> None:
        self.options = options
        self._parts: list[EvaluationSet | list[Mapping[str, Any]]] = []
        for name in options.sets:
            chosen = evaluation_set(name, options.split, sample_rate=sample_rate)
            talkers = len(chosen[0].sources)
            if num_sources is not None and talkers != num_sources:
                raise RecipeError(f"validation: {name} has {talkers} sources and the model {num_sources}; name another")
            self._parts.append(chosen if isinstance(chosen, PreparedSet) else list(self._batches(chosen)))

    def __iter__(self) -> Iterator[Mapping[str, Any]]:
        for part in self._parts:
            yield from self._batches(part) if isinstance(part, EvaluationSet) else part

    def _batches(self, chosen: EvaluationSet) -> Iterator[Mapping[str, Any]]:
        options = self.options
        for number, batch in enumerate(chosen.batches(options.batch_size)):
            if options.max_items is not None and number * options.batch_size >= options.max_items:
                break
            yield (
                batch
                if options.max_seconds is None
                else _cropped(batch, round(options.max_seconds * chosen.sample_rate))
            )


def _cropped(batch: Mapping[str, Any], num_frames: int) -> dict[str, Any]:
    waveforms = {name: batch[name][..., :num_frames] for name in ("mixture", "sources", "noise")}
    return {**batch, **waveforms, "lengths": batch["lengths"].clamp(max=num_frames)}


def build(recipe: Recipe) -> tuple[SeparationTask, DynamicMixer | PreparedMixer, ValidationBatches]:
    """Make a recipe's task, training batches and validation batches; ``RecipeError`` if they do not fit together.

    With the key ``prepared``, ``data`` is a :class:`~auriscope.data.excerpts.PreparedConfig`, else a
    :class:`~auriscope.data.mixing.MixingConfig`.
    """
    model = build_model(recipe)
    rate, num_sources = int(model.config.sample_rate), int(model.config.num_sources)
    options = parse(SeparationOptions, recipe.task_options, "task_options")
    task = SeparationTask(model, options)
    # On a GPU the mixing must keep up with it; on two cores one thread is far ahead already.
    num_threads = min(12, max(1, (os.cpu_count() or 2) - 1))
    values = {"sample_rate": rate, **recipe.data}
    batches: DynamicMixer | PreparedMixer
    if "prepared" in values:
        batches = PreparedMixer(parse(PreparedConfig, values, "data"), seed=recipe.seed, num_threads=num_threads)
        _check_sources(batches.config.sample_rate, batches.num_sources, model)
        permutation = "fixed" if batches.corpus.order == "fixed" else "best"
        if options.permutation != permutation:
            raise RecipeError(f"the sources of {batches.config.prepared} need task_options.permutation={permutation}")
    else:
        mixing = parse(MixingConfig, values, "data")
        _check_sources(mixing.sample_rate, mixing.num_sources, model)
        batches = DynamicMixer(mixing, seed=recipe.seed, num_threads=num_threads)
    # Metrics of a model's own are for it to fit to the set.
    expected = None if isinstance(model, OwnMetrics) else num_sources
    validation = ValidationBatches(parse(ValidationOptions, recipe.validation, "validation"), rate, expected)
    return task, batches, validation


def _check_sources(sample_rate: int, num_sources: int, model: Model) -> None:
    config = model.config
    if sample_rate != config.sample_rate or num_sources != config.num_sources:
        raise RecipeError(
            f"data has {num_sources} sources at {sample_rate} Hz, the model {config.num_sources} at "
            f"{config.sample_rate} Hz: give both the same"
        )
