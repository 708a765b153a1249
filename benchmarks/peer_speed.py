"""Separators with the same weights, ours beside the originals: forward time, training step and peak memory.

    .venv/bin/python benchmarks/peer_speed.py [SYSTEM …] [--seconds 4 30] [--repeats 3] [--threads 2]

Systems: sepformer (SpeechBrain's), convtasnet, dprnn, sudormrf, sudormrf-improved (Asteroid's), each in its default
configuration with two sources at 8 kHz. A training step is one mixture of 4 s: forward, permutation-invariant SI-SNR as
either toolkit computes it, backward, Adam. Each measurement is a process of its own, and the two sides take turns, so
that whatever else the machine does falls on both. Memory is the process's peak resident size, interpreter and
libraries included, over one pass; a side that runs out of --memory-gib is reported as failed.
The originals run in the peers' environment (benchmarks/peers.sh, or AURISCOPE_PEERS_PYTHON).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path

SAMPLE_RATE = 8000
TRAIN_SECONDS = 4.0
# Short mixtures pass several times, so that what a new length costs once does not decide; the median counts.
PASSES_SECONDS = 30.0
ASTEROID = {
    "convtasnet": "ConvTasNet",
    "dprnn": "DPRNNTasNet",
    "sudormrf": "SuDORMRFNet",
    "sudormrf-improved": "SuDORMRFImprovedNet",
}
SYSTEMS = ("sepformer", *ASTEROID)


def peers_python() -> Path:
    default = Path(__file__).parents[1] / ".venv-peers" / "bin" / "python"
    return Path(os.environ.get("AURISCOPE_PEERS_PYTHON", default))


def original(system: str):
    """In the peers' environment: the original network in its default configuration."""
    import warnings

    warnings.simplefilter("ignore")
    if system == "sepformer":
        from speechbrain.lobes.models.dual_path import SepformerWrapper

        return SepformerWrapper()
    import asteroid.models

    return getattr(asteroid.models, ASTEROID[system])(n_src=2)


def write_weights(system: str, folder: Path) -> None:
    """In the peers' environment: make the original with random weights and save it as its toolkit does."""
    import torch

    torch.manual_seed(0)
    model = original(system)
    if system == "sepformer":
        saved = {part: dict(getattr(model, part).state_dict()) for part in ("encoder", "decoder", "masknet")}
    else:
        saved = model.serialize()
        saved = {key: saved[key] for key in ("model_name", "model_args")} | {"state_dict": dict(saved["state_dict"])}
    torch.save(saved, folder / "weights.pt")


def build(side: str, system: str, folder: Path):
    """The network of a side with the shared weights, and its loss as (estimates, sources) -> scalar."""
    import torch

    if side == "ours":
        from auriscope.metrics import pit_si_snr
        from auriscope.pretrained.foreign import read_tensors
        from auriscope.separation import interop

        saved = read_tensors(folder / "weights.pt")
        foreign = interop.from_speechbrain_sepformer(**saved) if system == "sepformer" else interop.from_asteroid(saved)
        return foreign.build(), lambda estimates, sources: -pit_si_snr(estimates, sources).values.mean()
    model = original(system)
    saved = torch.load(folder / "weights.pt", weights_only=True)
    if system == "sepformer":
        from speechbrain.nnet.losses import get_si_snr_with_pitwrapper

        for part, weights in saved.items():
            getattr(model, part).load_state_dict(weights)
        return model.eval(), lambda estimates, sources: get_si_snr_with_pitwrapper(
            sources.transpose(1, 2), estimates
        ).mean()
    from asteroid.losses import PITLossWrapper, pairwise_neg_sisdr

    model.load_state_dict(saved["state_dict"])
    return model.eval(), PITLossWrapper(pairwise_neg_sisdr, pit_from="pw_mtx")


def measure(side: str, system: str, folder: Path, options: argparse.Namespace) -> None:
    """In either environment: time every duration and the training step, or run one pass for its memory."""
    import resource
    import time

    import torch

    torch.set_num_threads(options.threads)
    model, loss_of = build(side, system, folder)
    torch.manual_seed(0)
    found: dict[str, float] = {}
    if options.role.endswith("memory"):
        limit = int(options.memory_gib * 2**30)
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))
        mixture = 0.1 * torch.randn(1, int(options.memory_seconds * SAMPLE_RATE))
        try:
            with torch.no_grad():
                model(mixture)
        except Exception as error:  # whatever the original says when it cannot: that is the result
            found["failed"] = 1.0
            print(f"{side}: {type(error).__name__}: {str(error)[:150]}", file=sys.stderr)
        found["peak_mb"] = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
        print(json.dumps(found))
        return
    with torch.no_grad():
        model(0.1 * torch.randn(1, SAMPLE_RATE))
        for seconds in options.seconds:
            mixture = 0.1 * torch.randn(1, int(seconds * SAMPLE_RATE))
            passes = []
            for _ in range(max(1, round(PASSES_SECONDS / seconds))):
                start = time.perf_counter()
                estimates = model(mixture)
                passes.append(time.perf_counter() - start)
            found[f"{seconds:g} s"] = statistics.median(passes)
            if seconds == options.seconds[0]:
                estimates = estimates if side == "ours" or system != "sepformer" else estimates.transpose(1, 2)
                torch.save(estimates.contiguous(), folder / f"{side}.pt")
    model.train()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    sources = 0.1 * torch.randn(1, 2, int(TRAIN_SECONDS * SAMPLE_RATE))
    times = []
    for _ in range(3):
        start = time.perf_counter()
        optimizer.zero_grad()
        loss_of(model(sources.sum(1)), sources).backward()
        optimizer.step()
        times.append(time.perf_counter() - start)
    # The first step makes the optimizer's state and warms the kernels up.
    found["training step"] = min(times[1:])
    print(json.dumps(found))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("systems", nargs="*", metavar="SYSTEM", help=f"of {', '.join(SYSTEMS)}; default: all")
    parser.add_argument("--seconds", type=float, nargs="+", default=[4.0, 30.0], help="lengths of the mixtures")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--memory-seconds", type=float, default=300.0, help="of the SepFormer's memory; 0: leave out")
    parser.add_argument("--memory-gib", type=float, default=20.0, help="what a side may take in that")
    parser.add_argument("--role", help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    options = parser.parse_args()
    unknown = sorted(set(options.systems) - set(SYSTEMS))
    if unknown:
        parser.error(f"unknown system {unknown[0]!r}; known are {', '.join(SYSTEMS)}")
    if options.role == "weights":
        write_weights(options.systems[0], options.folder)
    elif options.role:
        measure(options.role.split("-")[0], options.systems[0], options.folder, options)
    else:
        if not peers_python().exists():
            sys.exit("there is no peers' environment: run benchmarks/peers.sh, or set AURISCOPE_PEERS_PYTHON")
        print(f"{options.threads} thread(s), medians of {options.repeats}; ratio: ours over the original's")
        print(f"{'system':20}{'what':16}{'ours':>10}{'original':>10}{'ratio':>8}{'':3}largest difference")
        for system in options.systems or SYSTEMS:
            compare(system, options)


def compare(system: str, options: argparse.Namespace) -> None:
    pythons = {"ours": Path(sys.executable), "peer": peers_python()}
    environment = {"OMP_WAIT_POLICY": "passive", **os.environ}
    with tempfile.TemporaryDirectory() as folder:

        def run(python: Path, role: str) -> str:
            arguments = [system, "--role", role, "--folder", folder, "--threads", str(options.threads)]
            arguments += ["--seconds", *map(str, options.seconds)]
            arguments += ["--memory-seconds", str(options.memory_seconds), "--memory-gib", str(options.memory_gib)]
            finished = subprocess.run(
                [python, __file__, *arguments], stdout=subprocess.PIPE, text=True, env=environment, check=False
            )
            if finished.returncode:
                sys.exit(f"{system}: {role} failed, see above")
            return finished.stdout

        run(pythons["peer"], "weights")
        rows: dict[str, list[dict[str, float]]] = {"ours": [], "peer": []}
        for turn in range(options.repeats):
            for side in ("ours", "peer") if turn % 2 == 0 else ("peer", "ours"):
                rows[side].append(json.loads(run(pythons[side], side).splitlines()[-1]))
        import torch

        ours, peer = (torch.load(Path(folder) / f"{side}.pt", weights_only=True) for side in ("ours", "peer"))
        difference = f"{(ours - peer).abs().max().item():.1e} of {peer.abs().max().item():.2g}"
        for what in rows["ours"][0]:
            mine, theirs = (statistics.median(row[what] for row in rows[side]) for side in ("ours", "peer"))
            print(f"{system:20}{what:16}{mine:9.2f}s{theirs:9.2f}s{mine / theirs:8.3f}   {difference}", flush=True)
            difference = ""
        if system == "sepformer" and options.memory_seconds:
            peaks = {
                side: json.loads(run(pythons[side], f"{side}-memory").splitlines()[-1]) for side in ("ours", "peer")
            }
            mine, theirs = (peaks[side]["peak_mb"] for side in ("ours", "peer"))
            note = "the original failed" if "failed" in peaks["peer"] else ""
            what = f"memory {options.memory_seconds:g} s"
            print(f"{system:20}{what:16}{mine:8.0f}MB{theirs:8.0f}MB{mine / theirs:8.3f}   {note}", flush=True)


if __name__ == "__main__":
    main()
