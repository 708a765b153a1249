"""Measure what contrastive pretraining on cries without names gives where few babies have names.

With the names of 10, 30 and 100 % of the babies, the same network is trained from random weights, from the pretrained
ones, and as a linear map on the pretrained, frozen ones; each for the steps of
``recipes/speaker/cries-supervised.yaml``, keeping the weights that are best on babies of the valid split. Printed is
the equal error rate on the babies of the test split, whom nothing has learnt from: the mean over several draws of
weights and of the babies with names, with 95 % intervals over babies. Needs the real data in AURISCOPE_CORPORA.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path

import numpy as np

from auriscope.data.cries import CRY_SETS, cry_trials
from auriscope.data.voices import TrialSet
from auriscope.metrics import verification_rates
from auriscope.pretrained import load
from auriscope.speaker.contrastive import LinearProbe
from auriscope.speaker.embedder import Embedder
from auriscope.speaker.scoring import trial_scores
from auriscope.speaker.task import SpeakerTask, build
from auriscope.training.checkpoints import load_weights
from auriscope.training.loop import fit
from auriscope.training.recipe import read_recipe
from auriscope.verbs.train import train

RECIPES = Path(__file__).parents[1] / "recipes" / "speaker"
WAYS = ("scratch", "fine-tuned", "linear")


def pretrained(run: Path, changes: list[str]) -> Path:
    """Train without names, or go on where an earlier call stopped; give the folder of the model."""
    train(read_recipe(RECIPES / "cries-contrastive.yaml", changes), run)
    return run / "model"


def learnt(way: str, share: float, seed: int, begin: Path, run: Path, changes: list[str]) -> Embedder:
    """Train in one way with the names of a share of the babies."""
    names = [f"data.cries.labelled_share={share}", f"data.cries.labelled_seed={seed}", f"seed={seed}"]
    start = [] if way == "scratch" else [f"init_from={begin}"]
    recipe = read_recipe(RECIPES / "cries-supervised.yaml", [*names, *start, *changes])
    if way != "linear":
        train(recipe, run)
        model = load(run / "model")
        assert isinstance(model, Embedder)
        return model
    task, batches, validation = build(recipe)
    assert isinstance(task, SpeakerTask)
    probe = SpeakerTask(LinearProbe(task.model), batches.num_speakers, task.options)
    # A map alone takes larger steps than a whole network.
    config = dataclasses.replace(recipe.training, learning_rate=10 * recipe.training.learning_rate)
    result = fit(probe, batches, validation, config, run)
    assert result.best is not None
    load_weights(result.best, probe.model)
    return probe.model.eval()


def scores_of(model: Embedder, sets: dict[str, TrialSet]) -> dict[str, np.ndarray]:
    """Score the trials of every set."""
    return {name: trial_scores(model, found).numpy() for name, found in sets.items()}


def told(found: TrialSet, runs: list[np.ndarray]) -> tuple[float, str]:
    """Give the mean equal error rate of several runs, and it in words with the interval over babies."""
    first, second = ([found.speakers[index] for index in side] for side in (found.first, found.second))
    rates = [verification_rates(scores, found.targets, first, second).eer for scores in runs]
    mean, low, high = (100 * np.mean([getattr(rate, name) for rate in rates]) for name in ("value", "low", "high"))
    spread = 100 * np.std([rate.value for rate in rates])
    return float(mean), f"{mean:5.1f} % [{low:.1f}, {high:.1f}], runs differ by {spread:.1f}"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--runs", type=Path, default=Path("runs/infants"), help="folder of the runs, continued if there"
    )
    parser.add_argument("--seeds", type=int, default=3, help="draws of the weights and of the babies with names")
    parser.add_argument("--shares", type=float, nargs="+", default=[0.1, 0.3, 1.0], help="of the babies with names")
    parser.add_argument("--pretraining-steps", type=int, help="of the pretraining; by default the recipe's")
    parser.add_argument("--steps", type=int, help="of each training; by default the recipe's")
    arguments = parser.parse_args()
    longer = [] if arguments.pretraining_steps is None else [f"training.max_steps={arguments.pretraining_steps}"]
    changes = [] if arguments.steps is None else [f"training.max_steps={arguments.steps}"]

    begin = pretrained(arguments.runs / "pretrained", longer)
    model = load(begin)
    assert isinstance(model, Embedder)
    rate = int(model.config.sample_rate)
    sets = {name: cry_trials(name, "test", sample_rate=rate) for name in CRY_SETS}
    for name, found in sets.items():
        babies = len(set(found.speakers))
        print(
            f"{name} test, {babies} babies: {int(found.targets.sum())} trials of one baby, "
            f"{int((~found.targets).sum())} of two"
        )
    for name, scores in scores_of(model, sets).items():
        print(f"{name}, pretrained without names alone: {told(sets[name], [scores])[1]}", flush=True)
    for share in arguments.shares:
        means: dict[str, dict[str, float]] = {name: {} for name in sets}
        for way in WAYS:
            runs = []
            for seed in range(arguments.seeds):
                run = arguments.runs / f"{way}-{share:g}-{seed}"
                runs.append(scores_of(learnt(way, share, seed, begin, run, changes), sets))
            for name, found in sets.items():
                means[name][way], words = told(found, [scores[name] for scores in runs])
                print(f"{name}, {100 * share:g} % of the names, {way}: {words}", flush=True)
        for name, mean in means.items():
            better = 100 * (1 - mean["fine-tuned"] / mean["scratch"])
            print(
                f"{name}, {100 * share:g} %: fine-tuned is better than scratch by {better:.0f} % (relative)", flush=True
            )


if __name__ == "__main__":
    main()
