"""What a model costs: operations, time and peak memory of one forward pass, each measured in a process of its own."""

from __future__ import annotations

import json
import math
import os
import resource
import statistics
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch.utils.flop_counter import FlopCounterMode

from auriscope.errors import AuriscopeError
from auriscope.pretrained import load
from auriscope.pretrained.model import Model

_SHORT_SECONDS = 1.0
_REPEATS = 3


@dataclass(frozen=True)
class Cost:
    """One forward pass over ``duration_seconds`` of audio.

    ``seconds`` is the median time of several passes, ``peak_mib`` what the process grew by from before the model was
    loaded; both None, with the ``reason``, where the pass could not be done.
    """

    duration_seconds: float
    seconds: float | None
    peak_mib: float | None
    reason: str = ""


def macs_per_second(model: Model, seconds: float = 4.0) -> float:
    """Multiply-accumulate operations that the model needs for a second of audio, the mean over ``seconds``.

    Matrix products, convolutions, attention and recurrent layers are counted; Fourier transforms, normalisations
    and other elementwise work are not, as is the custom.
    """
    mixture = 0.1 * torch.randn(1, round(seconds * model.config.sample_rate))
    counter = FlopCounterMode(display=False, custom_mapping=_UNCOUNTED)
    with torch.no_grad(), counter:
        model(mixture)
    return counter.get_total_flops() / 2 / seconds


def _recurrent_layer_flops(x: Any, input_weight: Any, hidden_weight: Any, *_: Any, **__: Any) -> int:
    """An LSTM layer in one direction: ``x`` (frames, batch, inputs), its two matrices for all gates."""
    positions = x[0] * x[1]
    return int(2 * positions * (math.prod(input_weight) + math.prod(hidden_weight)))


def _attention_flops(query: Any, key: Any, value: Any, *_: Any, **__: Any) -> int:
    """Scaled dot-product attention: ``query`` (batch, heads, queries, channels), likewise key and value."""
    batch, heads, num_queries, channels = query
    return int(2 * batch * heads * num_queries * key[-2] * (channels + value[-1]))


# What torch fuses on a CPU and its counter does not know.
_UNCOUNTED: dict[Any, Any] = {
    torch.ops.aten.mkldnn_rnn_layer: _recurrent_layer_flops,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: _attention_flops,
}


def cost(
    address: str, duration_seconds: float, *, threads: int, memory_mib: float, limit_seconds: float, offline: bool
) -> Cost:
    """Measure a model's forward pass over noise of ``duration_seconds`` in a new process.

    A pass that would need more than ``memory_mib`` or, with its repetitions, longer than ``limit_seconds`` comes back
    with the reason in the place of figures. Raises ``AuriscopeError`` when the process fails for another reason.
    """
    command = [sys.executable, "-m", __name__, address, str(duration_seconds), str(threads), str(memory_mib)]
    # Threads that spin while they wait take time from whatever else runs.
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ, "OMP_NUM_THREADS": str(threads)}
    if offline:
        command.append("offline")
    try:
        finished = subprocess.run(
            command, capture_output=True, text=True, env=environment, timeout=limit_seconds, check=False
        )
    except subprocess.TimeoutExpired:
        return Cost(duration_seconds, None, None, f"more than {limit_seconds:g} s")
    if finished.returncode:
        lines = finished.stderr.strip().splitlines() or ["killed"]
        raise AuriscopeError(f"{address}: {duration_seconds:g} s could not be measured: {lines[-1]}")
    return Cost(**json.loads(finished.stdout.splitlines()[-1]))


def measure(address: str, duration_seconds: float, *, threads: int, memory_mib: float, offline: bool) -> Cost:
    """What the new process does; it must do nothing else, since a process's peak memory never falls."""
    torch.set_num_threads(threads)
    _forget_peak()
    before = _status_mib("VmRSS")
    # The data of the process may grow by so much; beyond it, an allocation fails.
    limit = int((_status_mib("VmData") + memory_mib) * 2**20)
    resource.setrlimit(resource.RLIMIT_DATA, (limit, resource.RLIM_INFINITY))
    model = load(address, offline=offline or None).eval()
    rate = model.config.sample_rate
    generator = torch.Generator().manual_seed(0)
    mixture = 0.1 * torch.randn(1, round(duration_seconds * rate), generator=generator)
    try:
        with torch.no_grad():
            model(mixture[:, : round(_SHORT_SECONDS * rate)])
            times = []
            for _ in range(_REPEATS if duration_seconds <= 60 else 1):
                start = time.perf_counter()
                model(mixture)
                times.append(time.perf_counter() - start)
    except (RuntimeError, MemoryError) as error:
        if "memory" not in str(error).lower():
            raise
        return Cost(duration_seconds, None, None, f"more than {memory_mib / 1024:.3g} GiB")
    except AuriscopeError as error:
        return Cost(duration_seconds, None, None, str(error))
    return Cost(duration_seconds, statistics.median(times), _status_mib("VmHWM") - before)


def available_mib() -> float:
    """Memory that is free for programs now, MiB."""
    return _proc_mib("/proc/meminfo", "MemAvailable")


def _status_mib(field: str) -> float:
    """A figure of this process: VmRSS what it holds, VmHWM the most it held, VmData what RLIMIT_DATA counts."""
    return _proc_mib("/proc/self/status", field)


def _forget_peak() -> None:
    """Let VmHWM begin anew from what the process holds now: importing took more than a small model does."""
    try:
        Path("/proc/self/clear_refs").write_text("5", encoding="ascii")
    except OSError as error:
        raise AuriscopeError(f"peak memory can be measured on Linux only ({error.strerror})") from error


def _proc_mib(path: str, field: str) -> float:
    try:
        lines = Path(path).read_text(encoding="ascii").splitlines()
    except OSError as error:
        raise AuriscopeError(f"memory can be measured on Linux only ({error.strerror})") from error
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{field}:")) / 1024


def main(arguments: list[str]) -> None:
    """``ADDRESS DURATION THREADS MEMORY [offline]``: print the cost as one JSON object."""
    address, duration, threads, memory, *rest = arguments
    measured = measure(
        address, float(duration), threads=int(threads), memory_mib=float(memory), offline=rest == ["offline"]
    )
    print(json.dumps(measured.__dict__))


if __name__ == "__main__":
    main(sys.argv[1:])
