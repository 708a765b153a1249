"""A tiny task and runs of it; as a script, the runs that need processes of their own.

``kill FOLDER SEED KILLS``: run it to the end once undisturbed and once killed by SIGKILL at random moments.
``parallel FOLDER PROCESSES ACCUMULATE ROWS``: run it in several processes.
"""

from __future__ import annotations

import importlib
import os
import random
import signal
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import nn

from auriscope.training.checkpoints import LAST, load_tree
from auriscope.training.config import TrainingConfig
from auriscope.training.loop import RunResult, fit


class TinyTask(nn.Module):
    """Restore a corrupted vector; the corruption uses every random generator that a task might use."""

    higher_is_better = False
    selection_metric = "error"
    sample_rate = 100

    def __init__(self, corrupt: bool = True, pause: float = 0.0) -> None:
        super().__init__()
        with torch.random.fork_rng():
            torch.manual_seed(1)
            self.model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Dropout(0.2 if corrupt else 0), nn.Linear(16, 8))
        self.corrupt, self.pause = corrupt, pause

    def phases(self):
        return {"main": self.model.parameters()}

    def forward(self, batch, phase):
        time.sleep(self.pause)
        x = batch["mixture"]
        if self.corrupt:
            x = x * (1 + 0.1 * random.random()) + 0.1 * torch.from_numpy(np.random.randn(*x.shape)).float()
        return {"loss": (self.model(x) - batch["mixture"]).square().mean()}

    def evaluate(self, batch):
        torch.rand(3), np.random.rand(), random.random()  # a validation may draw what it likes
        return {"error": (self.model(batch["mixture"]) - batch["mixture"]).square().mean(1)}


class TinyBatches:
    """Batch ``index`` has rows ``index * rows``, … of one endless table, so that batch sizes can be compared."""

    def __init__(self, rows: int = 4) -> None:
        self.rows = rows

    def batch(self, index: int) -> dict[str, Any]:
        table = [
            torch.randn(8, generator=torch.Generator().manual_seed(row + 1))
            for row in range(index * self.rows, (index + 1) * self.rows)
        ]
        return {"mixture": torch.stack(table), "lengths": torch.full((self.rows,), 50)}


VALID = [TinyBatches(8).batch(index) for index in range(1000, 1003)]

RESUMABLE = {
    "max_steps": 60,
    "learning_rate": 0.01,
    "schedule": "plateau",
    "plateau_patience": 1,
    "warmup_steps": 10,
    "average_decay": 0.95,
    "accumulate_batches": 2,
    "log_every_steps": 5,
    "validate_every_steps": 10,
    "checkpoint_every_steps": 3,
    "accelerator": "cpu",
}


def run(folder: Path, pause: float = 0.0, **changes: Any) -> RunResult:
    return fit(TinyTask(pause=pause), TinyBatches(), VALID, TrainingConfig(**(RESUMABLE | changes)), folder)


def kill_at_random(folder: Path, seed: int, kills: int) -> None:
    """Forked children share the imports of this process, which itself computes nothing before it forks them."""
    for name in ("matplotlib.backends.backend_agg", "torch.utils.tensorboard"):
        importlib.import_module(name)

    moments = random.Random(seed)
    started = time.monotonic()
    wait(child(folder / "undisturbed"))
    duration = time.monotonic() - started
    killed = 0
    while True:
        pid = child(folder / "killed")
        if killed == kills:
            wait(pid)
            break
        time.sleep(moments.uniform(0.02, max(0.05, 2.5 * duration / kills)))
        os.kill(pid, signal.SIGKILL)
        _, status = os.waitpid(pid, 0)
        killed += 1
        path = folder / "killed" / LAST
        step = load_tree(path)["state"]["step"] if path.exists() else 0
        print(f"status {status} step {step}", flush=True)


def child(folder: Path) -> int:
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            run(folder, pause=0.003)
            code = 0
        finally:
            os._exit(code)
    return pid


def wait(pid: int) -> None:
    _, status = os.waitpid(pid, 0)
    assert status == 0, status


def parallel(folder: Path, processes: int, accumulate: int, rows: int) -> None:
    config = TrainingConfig(
        max_steps=12,
        num_processes=processes,
        accumulate_batches=accumulate,
        learning_rate=0.01,
        gradient_clip_norm=0.3,
        log_every_steps=4,
        validate_every_steps=5,
        accelerator="cpu",
    )
    fit(TinyTask(corrupt=False), TinyBatches(rows), VALID, config, folder)


if __name__ == "__main__":
    command, place, *numbers = sys.argv[1:]
    {"kill": kill_at_random, "parallel": parallel}[command](Path(place), *map(int, numbers))
