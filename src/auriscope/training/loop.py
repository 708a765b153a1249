"""The one training loop, on Lightning Fabric; exact when it is resumed."""

from __future__ import annotations

import math
import platform
import sys
import time
import warnings
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from itertools import islice
from pathlib import Path
from statistics import fmean
from typing import Any, Literal, cast

import torch
from lightning_fabric import Fabric
from lightning_fabric.strategies.ddp import DDPStrategy
from torch import nn

from auriscope.errors import AuriscopeError, CheckpointError
from auriscope.training import checkpoints
from auriscope.training.batches import BatchSource, as_source
from auriscope.training.config import TrainingConfig
from auriscope.training.evaluation import EvaluationTable, evaluate
from auriscope.training.memory import keep_freed_memory
from auriscope.training.optimization import (
    AverageWeights,
    Schedule,
    build_optimizer,
    optimizer_state,
    set_optimizer_state,
)
from auriscope.training.progress import TrainingProgress
from auriscope.training.stopping import StopOnSignal
from auriscope.training.task import Batch, Task
from auriscope.training.tracking import Tracker

Reason = Literal["steps", "minutes", "signal"]


@dataclass(frozen=True)
class RunResult:
    """What became of a run.

    ``stopped_by`` says whether it is finished (``"steps"``, ``"minutes"``) or was asked to stop (``"signal"``);
    ``best`` is the file of the best weights (see ``checkpoints.load_weights``), None before the first validation.
    """

    run_folder: Path
    stopped_by: Reason
    step: int
    minutes: float
    hours_of_audio: float
    metrics: dict[str, float]
    best_metric: float | None
    best_step: int | None
    best: Path | None
    skipped_updates: int


@dataclass
class RunState:
    """The numbers of a run that a checkpoint holds."""

    step: int = 0
    next_batch: int = 0
    seconds: float = 0.0
    audio_seconds: float = 0.0
    best_metric: float | None = None
    best_step: int | None = None
    validated_step: int = -1
    metrics: dict[str, float] = field(default_factory=dict)
    skipped_updates: int = 0
    nonfinite_in_a_row: dict[str, int] = field(default_factory=dict)
    sums: dict[str, float] = field(default_factory=dict)
    """Sums of the losses since the curves' last row."""
    counts: dict[str, int] = field(default_factory=dict)


def fit(
    task: Task,
    train_batches: BatchSource | Any,
    valid_batches: Iterable[Batch],
    config: TrainingConfig,
    run_folder: str | Path,
) -> RunResult:
    """Train ``task`` until its budget of steps or minutes is used, or continue a run that was stopped or killed.

    ``train_batches`` is a ``BatchSource`` or what ``batches.as_source`` makes one of; ``valid_batches`` is iterated at
    every validation. ``run_folder`` receives the checkpoints, the best weights by ``task.selection_metric`` and the
    curves; if it holds a checkpoint, the run continues from it, on the CPU to the same weights bit for bit as if it had
    never been stopped. Errors: ``CheckpointError`` if the checkpoints are damaged or of another model,
    ``AuriscopeError`` if the gradients stay NaN or infinite.
    """
    keep_freed_memory()
    run = Run(task, valid_batches, config, Path(run_folder))
    fabric, state = run.fabric, run.state
    batches = as_source(train_batches, config.num_workers).iterate(
        state.next_batch + fabric.global_rank, fabric.world_size
    )
    with StopOnSignal() as signals, TrainingProgress(show=fabric.is_global_zero) as progress:
        while (reason := run.reason_to_stop(signals.requested)) is None:
            group = [fabric.to_device(next(batches)) for _ in range(config.accumulate_batches)]
            for phase in run.optimizers:
                run.update(phase, group)
            run.finish_step(group)
            progress.update(state.step, run.fraction_done(), state.audio_seconds, run.mean_losses())
            if state.step % config.log_every_steps == 0:
                run.log_losses()
            if state.step % config.validate_every_steps == 0:
                run.validate(progress)
                run.schedule.observe(state.metrics.get(task.selection_metric, math.nan))
            if run.checkpoint_is_due():
                run.save()
        run.save()
        if reason != "signal" and state.validated_step != state.step:
            # The last weights deserve a validation; the schedule does not see it, since a continued run has none here.
            run.validate(progress)
            run.save()
    return run.close(reason)


class Run:
    """Everything that ``fit`` moves from step to step, and how it is saved and brought back."""

    def __init__(self, task: Task, valid_batches: Iterable[Batch], config: TrainingConfig, folder: Path) -> None:
        try:
            folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise AuriscopeError(f"{folder}: the run's folder cannot be made: {error.strerror}") from error
        self.task, self.valid_batches, self.config, self.folder = task, valid_batches, config, folder
        self.raw = cast(nn.Module, task)
        self.state = RunState()
        self.schedule = Schedule(config, task.higher_is_better)
        self.sample_rate = getattr(task, "sample_rate", None) or getattr(
            getattr(task.model, "config", None), "sample_rate", None
        )

        phases = {phase: list(parameters) for phase, parameters in task.phases().items()}
        # A phase leaves the other phases' parameters without gradients, as may a stage; the exchange must know.
        partial = len(phases) > 1 or getattr(task, "leaves_parameters_out", False)
        self.fabric = _launch(config, partial=partial)
        if config.compile:
            task.model.compile()
        optimizers = [build_optimizer(parameters, config) for parameters in phases.values()]
        self.module, *wrapped = self.fabric.setup(self.raw, *optimizers)
        self.raw_optimizers = dict(zip(phases, optimizers, strict=True))
        self.optimizers = dict(zip(phases, wrapped, strict=True))
        self.average = AverageWeights(self.raw, config.average_decay) if config.average_decay else None
        self.raw.train()

        self._resume()
        self.tracker = Tracker(folder, self.state.step, task.selection_metric) if self.fabric.is_global_zero else None
        self.began = self.saved_at = time.monotonic()
        self.seconds_before = self.state.seconds

    def update(self, phase: str, group: list[Batch]) -> None:
        """One update of the weights of a phase from the mean loss of a group of batches."""
        optimizer = self.optimizers[phase]
        for settings in optimizer.param_groups:
            settings["lr"] = self.schedule.learning_rate(self.state.step)
        optimizer.zero_grad(set_to_none=True)
        for index, batch in enumerate(group):
            # Processes exchange their gradients once per update, with the last batch.
            with self.fabric.no_backward_sync(self.module, enabled=index < len(group) - 1):
                losses = self.module(batch, phase)
                self.fabric.backward(losses["loss"] / len(group))
            self._count(phase, {name: float(value.detach()) for name, value in losses.items()})

        limit = self.config.gradient_clip_norm or math.inf
        clipped = self.fabric.clip_gradients(self.module, optimizer, max_norm=limit, error_if_nonfinite=False)
        norm = float(cast(torch.Tensor, clipped))
        if math.isfinite(norm):
            self._count(phase, {"gradient_norm": norm})
            optimizer.step()
            self.state.nonfinite_in_a_row[phase] = 0
        else:
            self._skip(phase)

    def finish_step(self, group: list[Batch]) -> None:
        """Count the step, and let the averaged weights follow."""
        state = self.state
        if self.average:
            self.average.update(state.step)
        state.step += 1
        state.next_batch += self.fabric.world_size * len(group)
        state.seconds = self.seconds_before + time.monotonic() - self.began
        lengths = [batch["lengths"].sum() for batch in group if "lengths" in batch]
        if self.sample_rate and lengths:
            frames = torch.stack(lengths).sum().double()
            if self.fabric.world_size > 1:
                frames = cast(torch.Tensor, self.fabric.all_reduce(frames, reduce_op="sum"))
            state.audio_seconds += float(frames) / self.sample_rate

    def validate(self, progress: TrainingProgress) -> None:
        """Evaluate with the averaged weights, where there are any, and keep the weights if they are the best so far.

        ``config.choose`` may say that the newest are.
        """
        state, fabric, metric = self.state, self.fabric, self.task.selection_metric
        if self.average:
            with self.average.applied():
                self._validate()
        else:
            self._validate()
        state.validated_step = state.step
        if fabric.is_global_zero:
            described = ", ".join(f"{name} {value:.4g}" for name, value in state.metrics.items())
            best = (
                "; the best so far" if state.best_step == state.step else f"; best {metric} {_short(state.best_metric)}"
            )
            progress.say(f"step {state.step}: validation {described}{best}")
            self._track("valid", dict(state.metrics))

    def _validate(self) -> None:
        with checkpoints.untouched_randomness(), self.fabric.autocast():
            share = islice(self.valid_batches, self.fabric.global_rank, None, self.fabric.world_size)
            table = evaluate(self.task, map(self.fabric.to_device, share))
        self.state.metrics = self._gather(table).means()
        value = self.state.metrics.get(self.task.selection_metric, math.nan)
        best, sign = self.state.best_metric, 1 if self.task.higher_is_better else -1
        better = best is None or sign * value > sign * best or self.config.choose == "latest"
        if math.isfinite(value) and better:
            self.state.best_metric, self.state.best_step = value, self.state.step
            if self.fabric.is_global_zero:
                facts = {"step": self.state.step, "hours_of_audio": self.state.audio_seconds / 3600}
                weights = self.task.model.state_dict()
                checkpoints.save_weights(self.folder / checkpoints.BEST, weights, facts | self.state.metrics)

    def log_losses(self) -> None:
        """Add the mean losses since the last row to the curves."""
        shares = self._collect(self.mean_losses())
        means = {name: fmean(share[name] for share in shares if name in share) for name in shares[0]}
        self.state.sums, self.state.counts = {}, {}
        self._track("train", {"learning_rate": self.schedule.learning_rate(self.state.step - 1), **means})

    def mean_losses(self) -> dict[str, float]:
        """Mean of each loss since the curves' last row."""
        return {name: total / self.state.counts[name] for name, total in self.state.sums.items()}

    def fraction_done(self) -> float:
        """How much of the budget is used: the most of steps, minutes, and this call's minutes."""
        config, minutes = self.config, self.state.seconds / 60
        call = minutes - self.seconds_before / 60
        used = [self.state.step / config.max_steps]
        used += [minutes / config.max_minutes] if config.max_minutes else []
        used += [call / config.max_minutes_per_call] if config.max_minutes_per_call else []
        return min(1.0, max(used))

    def reason_to_stop(self, signalled: bool) -> Reason | None:
        """Why to stop now, if at all; all processes get the same answer."""
        if self.state.step >= self.config.max_steps:
            return "steps"
        if self._anywhere(signalled):
            return "signal"
        if self._anywhere(self.fraction_done() >= 1):
            return "minutes"
        return None

    def checkpoint_is_due(self) -> bool:
        """Whether enough steps or minutes have passed since the last checkpoint."""
        config = self.config
        steps = config.checkpoint_every_steps is not None and self.state.step % config.checkpoint_every_steps == 0
        minutes = (time.monotonic() - self.saved_at) / 60
        late = config.checkpoint_every_minutes is not None and minutes >= config.checkpoint_every_minutes
        return self._anywhere(steps or late)

    def save(self) -> None:
        """Write a checkpoint from which the run can be continued exactly."""
        random_states = self._collect(checkpoints.random_state())
        if self.fabric.is_global_zero:
            tree = {
                "task": self.raw.state_dict(),
                "average": self.average.average if self.average else None,
                "optimizers": {phase: optimizer_state(o) for phase, o in self.raw_optimizers.items()},
                "schedule": self.schedule.state(),
                "state": asdict(self.state),
                "random": random_states,
                "config": asdict(self.config),
            }
            checkpoints.save_latest(self.folder, tree)
        self.saved_at = time.monotonic()

    def close(self, reason: Reason) -> RunResult:
        """Finish the curves and say what became of the run."""
        if self.tracker:
            self.tracker.draw()
            self.tracker.close()
        self.fabric.barrier()
        state, best = self.state, self.folder / checkpoints.BEST
        return RunResult(
            run_folder=self.folder,
            stopped_by=reason,
            step=state.step,
            minutes=state.seconds / 60,
            hours_of_audio=state.audio_seconds / 3600,
            metrics=dict(state.metrics),
            best_metric=state.best_metric,
            best_step=state.best_step,
            best=best if state.best_step is not None else None,
            skipped_updates=state.skipped_updates,
        )

    def _resume(self) -> None:
        tree = checkpoints.load_latest(self.folder)
        if tree is None:
            return
        try:
            self.raw.load_state_dict(tree["task"])
            for phase, optimizer in self.raw_optimizers.items():
                set_optimizer_state(optimizer, tree["optimizers"][phase])
            if self.average:
                self.average.set_state(tree["average"] or tree["task"])
            self.schedule.set_state(tree["schedule"])
            self.state = RunState(**tree["state"])
        except (KeyError, RuntimeError, TypeError, ValueError) as error:
            reason = " ".join(str(error).split())[:200]
            raise CheckpointError(
                f"{self.folder}: its checkpoint is of another model or recipe; train into another folder ({reason})"
            ) from error
        if len(tree["random"]) == self.fabric.world_size:
            checkpoints.set_random_state(tree["random"][self.fabric.global_rank])

    def _count(self, phase: str, values: dict[str, float]) -> None:
        sums, counts = self.state.sums, self.state.counts
        prefix = "" if len(self.optimizers) == 1 else f"{phase}_"
        for name, value in values.items():
            if math.isfinite(value):
                sums[prefix + name] = sums.get(prefix + name, 0.0) + value
                counts[prefix + name] = counts.get(prefix + name, 0) + 1

    def _skip(self, phase: str) -> None:
        state = self.state
        state.skipped_updates += 1
        in_a_row = state.nonfinite_in_a_row[phase] = state.nonfinite_in_a_row.get(phase, 0) + 1
        if in_a_row >= self.config.max_nonfinite_in_a_row:
            raise AuriscopeError(
                f"step {state.step}: the gradients of phase {phase!r} were NaN or infinite {in_a_row} times in a row; "
                "lower training.learning_rate or training.gradient_clip_norm, and check the data"
            )
        warnings.warn(
            f"step {state.step}: an update of phase {phase!r} is skipped, its gradients are NaN or infinite "
            f"({state.skipped_updates} skipped so far)",
            stacklevel=3,
        )

    def _track(self, split: str, values: dict[str, float]) -> None:
        if self.tracker:
            state = self.state
            place = {"step": state.step, "minutes": round(state.seconds / 60, 3)}
            place |= {"hours_of_audio": state.audio_seconds / 3600}
            self.tracker.add(split, place | values)
            if split == "valid":
                self.tracker.draw_if_old()

    def _anywhere(self, condition: bool) -> bool:
        if self.fabric.world_size == 1:
            return condition
        total = self.fabric.all_reduce(torch.tensor(float(condition), device=self.fabric.device), reduce_op="sum")
        return bool(cast(torch.Tensor, total) > 0)

    def _gather(self, table: EvaluationTable) -> EvaluationTable:
        return EvaluationTable([row for rows in self._collect(table.rows) for row in rows])

    def _collect(self, value: Any) -> list[Any]:
        if self.fabric.world_size == 1:
            return [value]
        gathered: list[Any] = [None] * self.fabric.world_size
        torch.distributed.all_gather_object(gathered, value)
        return gathered


def _short(value: float | None) -> str:
    return "none" if value is None else f"{value:.4g}"


def has_fast_bfloat16(accelerator: str) -> bool:
    """Whether training in bfloat16 is no slower: on a GPU, and on CPUs but those of x86 without AVX-512."""
    if accelerator != "cpu" and torch.cuda.is_available():
        return True
    return platform.machine().lower() not in ("x86_64", "amd64") or "AVX512" in torch.backends.cpu.get_cpu_capability()


def _launch(config: TrainingConfig, partial: bool) -> Fabric:
    """Start Fabric and, where there are several, the other processes; each draws its own random numbers."""
    distributed = config.num_processes * config.num_hosts > 1
    precision = config.precision
    if precision == "bf16-mixed" and not has_fast_bfloat16(config.accelerator):
        print("this CPU emulates bfloat16, ten times as slow: training in float32", file=sys.stderr)
        precision = "32-true"
    fabric = Fabric(
        accelerator=config.accelerator,
        devices=config.num_processes,
        num_nodes=config.num_hosts,
        strategy=DDPStrategy(find_unused_parameters=partial) if distributed else "auto",
        precision=precision,
    )
    fabric.launch()
    fabric.seed_everything(config.seed + fabric.global_rank, verbose=False)
    return fabric
