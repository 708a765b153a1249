"""Faster ways to run a separator: what each gains in time and costs in SI-SNRi, beside plain float32.

    .venv/bin/python benchmarks/precision.py [--model ADDRESS …] [--set libri2mix-mini-clean] [--items 60] [--threads 1]

bfloat16, eight-bit weights, torch.compile and ONNX Runtime (where ONNX can express the model), in one process, taking
turns; time is that of one forward pass over 8 s, the median of several. "x" says that a model cannot be run so.
"""

from __future__ import annotations

import argparse
import copy
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch

from auriscope.data.evaluation import evaluation_set
from auriscope.errors import AuriscopeError
from auriscope.metrics import permute, pit_si_snr, si_snri
from auriscope.pretrained import load
from auriscope.separation.long import separate_waveform
from auriscope.separation.onnx import OnnxSeparator, export_onnx
from auriscope.separation.precision import with_precision

SECONDS = 8.0
MODELS = ("separation/bandsplit.mini", "separation/dprnn.mini")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", action="append", help="address; may be repeated; default: the shipped ones")
    parser.add_argument("--set", default="libri2mix-mini-clean", help="evaluation set of the SI-SNRi (test split)")
    parser.add_argument("--items", type=int, default=60, help="mixtures of the set, the first so many")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    print(f"one pass over {SECONDS:g} s, {options.threads} thread(s); SI-SNRi on {options.items} of {options.set}")
    print(f"{'model':28}{'way':10}{'time (s)':>10}{'ratio':>8}{'SI-SNRi (dB)':>14}{'change':>9}")
    for address in options.model or MODELS:
        compare(address, options)


def compare(address: str, options: argparse.Namespace) -> None:
    ways, missing = separators(address, options.threads)
    rate = load(address).config.sample_rate
    mixture = 0.1 * torch.randn(1, round(SECONDS * rate), generator=torch.Generator().manual_seed(0))
    items = list(evaluation_set(options.set, "test", sample_rate=rate))[: options.items]
    times: dict[str, list[float]] = {way: [] for way in ways}
    with torch.no_grad():
        for way in ways:
            ways[way](mixture)
        for _ in range(options.repeats):
            for way in ways:
                start = time.perf_counter()
                ways[way](mixture)
                times[way].append(time.perf_counter() - start)
    medians = {way: statistics.median(values) for way, values in times.items()}
    plain: float | None = None
    for way, separator in ways.items():
        values = []
        for item in items:
            tracks = separate_waveform(item.mixture.numpy(), separator, sample_rate=rate)
            estimates, references = torch.as_tensor(tracks)[None], item.sources[None]
            estimates = permute(estimates, pit_si_snr(estimates, references).permutation)
            values.append(float(si_snri(estimates, references, item.mixture[None]).mean()))
        value = statistics.fmean(values)
        plain = value if plain is None else plain
        ratio = medians[way] / medians["fp32"]
        print(f"{address:28}{way:10}{medians[way]:10.3f}{ratio:8.2f}{value:14.2f}{value - plain:+9.3f}", flush=True)
    for way in missing:
        print(f"{address:28}{way:10}{'x':>10}", flush=True)


def separators(address: str, threads: int) -> tuple[dict[str, Callable[..., Any]], list[str]]:
    """Every way that the model can be run, and those that it cannot."""
    model: Any = load(address).eval()
    ways: dict[str, Any] = {"fp32": model, "bf16": with_precision(model, "bf16")}
    missing = []
    try:
        ways["int8"] = with_precision(model, "int8")
    except AuriscopeError:
        missing.append("int8")
    compiled = copy.deepcopy(model)
    compiled.compile()
    ways["compile"] = compiled
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "model.onnx"
        try:
            export_onnx(model, path, seconds=SECONDS)
        except AuriscopeError:
            missing.append("onnx")
        else:
            ways["onnx"] = OnnxSeparator(path, threads=threads)
    return ways, missing


if __name__ == "__main__":
    main()
