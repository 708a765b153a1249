"""Streaming: how fast causal models separate a signal that arrives in blocks, and how late they answer.

    .venv/bin/python benchmarks/streaming.py [--block-ms 20] [--seconds 20] [--threads 1]

A real-time factor below 1 means that a block is done before the next one is there; the latency is what the network
itself needs to know of the future. The largest difference from the offline pass is printed beside them.
"""

from __future__ import annotations

import argparse
import statistics
import time

import torch

from auriscope.pretrained.model import Model
from auriscope.separation import DPRNN, ConvTasNet, ConvTasNetConfig, DPRNNConfig
from auriscope.separation.streaming import StreamingSeparator

MODELS: dict[str, Model] = {
    "Conv-TasNet, the paper's size, cumulative norms": ConvTasNet(ConvTasNetConfig(causal=True, norm="cumulative")),
    "DPRNN, small, chunks of 0.2 s": DPRNN(
        DPRNNConfig(
            num_filters=128,
            kernel_size=64,
            stride=32,
            hidden_size=96,
            chunk_size=50,
            hop_size=25,
            num_blocks=4,
            bidirectional=False,
            norm="channel",
        )
    ),
}


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--block-ms", type=float, default=20.0)
    parser.add_argument("--seconds", type=float, default=20.0)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--repeats", type=int, default=3)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    torch.manual_seed(0)
    print(f"{'':50}{'real-time factor':>18}{'latency (ms)':>14}{'difference':>12}")
    for name, model in MODELS.items():
        model.eval()
        rate = model.config.sample_rate
        mixture = 0.1 * torch.randn(1, round(options.seconds * rate))
        block_samples = round(options.block_ms / 1000 * rate)
        factors = []
        for _ in range(options.repeats):
            separator = StreamingSeparator(model)
            start = time.perf_counter()
            given = [separator.push(block) for block in mixture.split(block_samples, dim=-1)]
            given.append(separator.finish())
            factors.append((time.perf_counter() - start) / options.seconds)
        with torch.no_grad():
            difference = (torch.cat(given, dim=-1) - model(mixture)).abs().max().item()
        latency = 1000 * separator.latency_samples / rate
        print(f"{name:50}{statistics.median(factors):18.3f}{latency:14.1f}{difference:12.1e}")


if __name__ == "__main__":
    main()
