"""Time training steps of recipes with freed memory given back, as C libraries do, and kept, as the training loop does.

The same two batches in turn, in two processes of one thread; printed is the time of the processor for each step (the
median, the first two steps left out), the peak of the memory, and the ratio. Needs the real data in AURISCOPE_CORPORA.
"""

from __future__ import annotations

import argparse
import importlib
import json
import resource
import statistics
import subprocess
import sys
import time
from pathlib import Path

RECIPES = Path(__file__).parents[1] / "recipes"
DEFAULT = ("separation/bandsplit-mini", "recognition/conformer-ctc-digits", "speaker/ecapa-mini")


def measure(name: str, keep: bool, steps: int) -> None:
    import torch

    from auriscope.training.memory import keep_freed_memory
    from auriscope.training.recipe import read_recipe

    torch.set_num_threads(1)
    if keep:
        keep_freed_memory()
    recipe = read_recipe(RECIPES / f"{name}.yaml", [])
    task, source, _ = importlib.import_module(f"auriscope.{recipe.task}.task").build(recipe)
    iterator = source.iterate(1)
    batches = [next(iterator) for _ in range(2)]
    iterator.close()
    task.train()
    optimizer = torch.optim.AdamW(task.parameters(), lr=1e-4)
    seconds = []
    for step in range(steps):
        begin = time.process_time()
        for phase in task.phases():
            task(batches[step % 2], phase)["loss"].backward()
        optimizer.step()
        optimizer.zero_grad()
        seconds.append(time.process_time() - begin)
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    print(json.dumps({"seconds": statistics.median(seconds[2:]), "peak_mib": peak}))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("recipes", nargs="*", default=DEFAULT, help="such as separation/bandsplit-mini")
    parser.add_argument("--steps", type=int, default=10)
    parser.add_argument("--measure", choices=("given-back", "kept"), help="what a process of its own measures")
    arguments = parser.parse_args()
    if arguments.measure:
        measure(arguments.recipes[0], arguments.measure == "kept", arguments.steps)
        return
    for name in arguments.recipes:
        found = {}
        for way in ("given-back", "kept"):
            command = [sys.executable, __file__, name, "--steps", str(arguments.steps), "--measure", way]
            output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
            found[way] = json.loads(output.splitlines()[-1])
            print(f"{name}, {way}: {found[way]['seconds']:.2f} s a step, {found[way]['peak_mib']:.0f} MiB", flush=True)
        print(f"{name}: kept over given back {found['kept']['seconds'] / found['given-back']['seconds']:.2f}")


if __name__ == "__main__":
    main()
