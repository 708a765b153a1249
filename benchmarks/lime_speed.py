"""LIME, ours beside captum's: the same classifier, segments, number of perturbations and ridge.

    .venv/bin/python benchmarks/lime_speed.py [--samples 1000] [--repeats 3] [--batches 16 64 256]

The black boxes are the small classifiers with random weights, which take as long as trained ones: of pictures, of a
picture of `mnist_10k` in AURISCOPE_CORPORA or else of a drawn ring, cut into superpixels; and of sounds, of a sweep of
two seconds in noise, cut into 8 x 8 bands over time. Times are the processor's, with one thread, the least of the
repeats, in which all take turns. Captum classifies one perturbation at a time unless told how many; "tuned" is the
quickest of --batches. "agree" is the correlation of our weights with captum's: both draw by chance, and captum
measures distances between inputs, ours between what was left in them. Occlusion is captum's, one window at a time and
in batches.
"""

from __future__ import annotations

import argparse
import functools
import os
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import torch
from captum._utils.models.linear_model import SkLearnRidge
from captum.attr import Lime
from captum.attr._core.lime import get_exp_kernel_similarity_function

from auriscope.interpretation.baselines import BaselineConfig, Occlusion
from auriscope.interpretation.lime import LIME, LIMEConfig, explain_segments
from auriscope.pretrained import model_class


def picture() -> torch.Tensor:
    """A digit (1, 28, 28), or a ring."""
    if "AURISCOPE_CORPORA" in os.environ:
        images = np.load(Path(os.environ["AURISCOPE_CORPORA"]) / "mnist_10k" / "images.npz")["images"]
        return torch.from_numpy(images[0] / 255.0).float()[None]
    y, x = torch.meshgrid(torch.arange(28) - 13.5, torch.arange(28) - 13.5, indexing="ij")
    return (1.0 - ((x.square() + y.square()).sqrt() - 8.0).abs() / 2.0).clamp(0, 1)[None]


def cases() -> list[tuple[str, torch.nn.Module, torch.Tensor, torch.Tensor]]:
    """What is explained: a name, a classifier, an input (1, height, width) and its segments (height, width)."""
    torch.manual_seed(0)
    images = model_class("classification/image-cnn").from_config({}).eval()
    image = picture()
    sounds = model_class("classification/cnn").from_config({}).eval()
    moment = torch.arange(2 * sounds.config.sample_rate) / sounds.config.sample_rate
    sweep = 0.2 * torch.sin(2000.0 * moment.square()) + 0.02 * torch.randn(len(moment))
    magnitude = sounds.spectrogram(sweep[None]).abs().detach()
    return [
        ("picture, superpixels", images, image, LIME().segments(images, image[None])[0]),
        ("2 s of sound, bands over time", sounds, magnitude, LIME().segments(sounds, magnitude[None])[0]),
    ]


def seconds(work: Callable[[], object]) -> float:
    """The processor's time for a piece of work."""
    before = time.process_time()
    work()
    return time.process_time() - before


def ours(classifier, x: torch.Tensor, segments: torch.Tensor, label: int, samples: int) -> torch.Tensor:
    """The segments' weights by our LIME."""
    score = lambda batch: classifier.classify_maps(batch).softmax(1)[:, label]  # noqa: E731
    return explain_segments(score, x, segments, LIMEConfig(num_samples=samples)).weights


def captums(
    classifier, x: torch.Tensor, segments: torch.Tensor, label: int, samples: int, max_batch: int
) -> torch.Tensor:
    """Those by captum's, of the same configuration."""
    peer = Lime(
        lambda batch: classifier.classify_maps(batch).softmax(1),
        interpretable_model=SkLearnRidge(alpha=LIMEConfig.alpha),
        similarity_func=get_exp_kernel_similarity_function("cosine", LIMEConfig.kernel_width),
    )
    with torch.no_grad():
        return peer.attribute(
            x[None],
            target=label,
            feature_mask=segments[None, None],
            n_samples=samples,
            perturbations_per_eval=max_batch,
            return_input_shape=False,
        ).flatten()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--samples", type=int, default=1000)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--batches", type=int, nargs="+", default=[16, 64, 256])
    options = parser.parse_args()
    torch.set_num_threads(1)
    print("| what | segments | ours, s | captum, s | captum tuned, s | ours / captum | ours / tuned | agree |")
    print("|---|---|---|---|---|---|---|---|")
    found = cases()
    for name, classifier, x, segments in found:
        label = int(classifier.classify_maps(x[None]).argmax())
        case = classifier, x, segments, label, options.samples
        pair = torch.stack((ours(*case), captums(*case, options.batches[0]).double()))
        agree = torch.corrcoef(pair)[0, 1].item()
        times: dict[object, list[float]] = {}
        for _ in range(options.repeats):
            times.setdefault("ours", []).append(seconds(functools.partial(ours, *case)))
            for size in (1, *options.batches):
                times.setdefault(size, []).append(seconds(functools.partial(captums, *case, size)))
        least = {key: min(values) for key, values in times.items()}
        tuned = min(least[size] for size in options.batches)
        print(
            f"| {name} | {int(segments.max()) + 1} | {least['ours']:.3f} | {least[1]:.3f} | {tuned:.3f} "
            f"| {least['ours'] / least[1]:.2f} | {least['ours'] / tuned:.2f} | {agree:.2f} |"
        )
    print()
    print("| occlusion | one window at a time, s | in batches, s | ratio |")
    print("|---|---|---|---|")
    for name, classifier, x, _ in found:
        taken = []
        for size in (1, BaselineConfig().max_batch):
            method = Occlusion(BaselineConfig(max_batch=size))
            work = functools.partial(method.interpret, classifier, x[None])
            taken.append(min(seconds(work) for _ in range(options.repeats)))
        print(f"| {name.split(',')[0]} | {taken[0]:.3f} | {taken[1]:.3f} | {taken[1] / taken[0]:.2f} |")


if __name__ == "__main__":
    main()
