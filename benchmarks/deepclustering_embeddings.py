"""Draw what deep clustering sees in one mixture of unseen talkers.

Left, the spectrogram and the masks that k-means gives, one colour a talker; right, the vectors of the loud bins in the
plane of their two principal components, coloured by who is in truth the louder there. Where the colours lie apart,
k-means can find them. Prints the SI-SNR improvement of the mixture drawn.

Needs a trained model and the real data in AURISCOPE_CORPORA.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import matplotlib
import numpy as np
import torch
from torch import Tensor

from auriscope.data.evaluation import evaluation_set
from auriscope.errors import AuriscopeError
from auriscope.pretrained import load
from auriscope.separation.deepclustering import DeepClustering, dominant_talker, loud_bins
from auriscope.separation.spectral import rms_level
from auriscope.separation.task import separation_metrics

matplotlib.use("agg")
from matplotlib import pyplot as plt
from matplotlib.colors import ListedColormap

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7")  # Okabe and Ito's, told apart by the colour-blind too
MAX_POINTS = 6000


def principal_plane(points: Tensor) -> Tensor:
    """Project points (N, D) onto their two principal components, (N, 2)."""
    centred = points - points.mean(0)
    return centred @ torch.linalg.svd(centred, full_matrices=False).Vh[:2].T


def in_order_of(masks: Tensor, truth: Tensor) -> Tensor:
    """Put masks (S, K, F) in the order of the true ones, by how many bins they share."""
    left = list(range(len(masks)))
    order = []
    for mask in truth:
        best = max(left, key=lambda index: float((masks[index] * mask).sum()))
        left.remove(best)
        order.append(best)
    return masks[order]


@torch.no_grad()
def draw(model: DeepClustering, batch: dict[str, Tensor], path: Path) -> None:
    """Draw one mixture, the first of the batch, into a picture."""
    config = model.config
    num_sources, threshold = config.num_sources, config.threshold_db
    level = rms_level(batch["mixture"])
    spectrum = model.transform(batch["mixture"] / level)
    num_bins, num_frames = spectrum.shape[1:]
    rows = dominant_talker(model.transform(batch["sources"] / level[:, None]))[0]
    truth = rows.view(num_frames, num_bins, num_sources).permute(2, 1, 0)
    masks = in_order_of(model.masks(spectrum)[0], truth)
    loud = loud_bins(spectrum, threshold)[0]

    vectors = model.embeddings(spectrum)[0][loud.T.flatten()]
    talkers = rows.argmax(1)[loud.T.flatten()].numpy()
    some = np.random.default_rng(0).permutation(len(talkers))[:MAX_POINTS]
    plane = principal_plane(vectors).numpy()[some]

    figure = plt.figure(figsize=(12, 8), layout="constrained")
    grid = figure.add_gridspec(3, 2)
    extent = (0, num_frames * config.hop_length / config.sample_rate, 0, config.sample_rate / 2000)
    decibels = 20 * spectrum[0].abs().clamp(min=1e-5).log10()
    colours = ListedColormap(["white", *COLOURS[:num_sources]])
    pictures = [
        ("The mixture", decibels, {"cmap": "magma", "vmin": float(decibels.max()) - 80}),
        ("Who is louder, in truth", (truth.argmax(0) + 1) * loud, {"cmap": colours, "vmin": 0, "vmax": num_sources}),
        ("The clusters", (masks.argmax(0) + 1) * loud, {"cmap": colours, "vmin": 0, "vmax": num_sources}),
    ]
    for row, (title, values, options) in enumerate(pictures):
        axes = figure.add_subplot(grid[row, 0])
        axes.imshow(values.numpy(), origin="lower", aspect="auto", extent=extent, interpolation="nearest", **options)
        axes.set(title=title, ylabel="kHz", xlabel="seconds" if row == len(pictures) - 1 else "")
    axes = figure.add_subplot(grid[:, 1])
    for talker in range(num_sources):
        of_talker = plane[talkers[some] == talker]
        axes.scatter(*of_talker.T, s=3, alpha=0.4, color=COLOURS[talker], label=f"talker {talker + 1} is louder")
    axes.set(title="Vectors of the loud bins, their two principal components", aspect="equal")
    axes.legend(markerscale=4)
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=110)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", required=True, help="address or folder of a trained separation/deepclustering")
    parser.add_argument("--set", default="libri2mix-mini-clean", help="evaluation set")
    parser.add_argument("--item", type=int, default=0, help="which mixture of the test split")
    parser.add_argument("--out", type=Path, default=Path("docs/curves/deepclustering-embeddings.png"))
    options = parser.parse_args()
    try:
        model = load(options.model)
        if not isinstance(model, DeepClustering):
            parser.error(f"{options.model} is {model.name}, not separation/deepclustering")
        items = evaluation_set(options.set, "test", sample_rate=model.config.sample_rate)
        if not 0 <= options.item < len(items):
            parser.error(f"--item must lie between 0 and {len(items) - 1}")
        batch = next(batch for number, batch in enumerate(items.batches(1)) if number == options.item)
    except AuriscopeError as error:
        parser.error(str(error))
    draw(model.eval(), batch, options.out)
    print(f"{options.out}: SI-SNRi {float(separation_metrics(model, batch)['si_snri_db']):.2f} dB")


if __name__ == "__main__":
    main()
