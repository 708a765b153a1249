"""The tables of interpreters on images: all methods and figures on MNIST and Fashion-MNIST, and the mixtures of PIQ.

    AURISCOPE_CORPORA=… python benchmarks/interpretation_images.py [--items 200] [--set mnist] [--interpreter ADDRESS …]

First, of every set, each method on the test split: is the interpretation alone decided as the image is (fidelity), how
much of the class's probability goes with it (faithfulness), the Fréchet distance of interpretations from images (on the
classifier's own features, so that its scale is not the published one), drop, increase and gain of the probability, and
how sparse and how complex the mask is. Intervals are of 95 %, images resampled with their seeds. Beside them stands
what PIQ's paper has for MNIST and Fashion-MNIST, of its own classifiers and all 10,000 images: fidelity in per cent,
faithfulness, FID.

Then the mixtures: two digits, a digit on clothes and two pieces of clothing, one on the other and side by side by half.
They are measured twice: "decided", where what the classifier decides is explained, and "of it" is the share of mixtures
where that is one of the two classes; and "asked", where the class of the first image is. SI-SNRi says by how much the
interpretation is closer to the image of the explained class than the mixture is. Beside them stand the mean opinion
scores that PIQ's paper has for its cases.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from itertools import product

import torch

from auriscope.data.images import ImageSet
from auriscope.data.labelled_mixtures import ImageMixtureSet
from auriscope.verbs.interpretation_figures import Example
from interpretation_tables import (
    CLEAN_COLUMNS,
    MIXTURE_COLUMNS,
    Cells,
    methods_of,
    parser,
    published_figures,
    published_opinions,
    ranks,
    table,
)

CLASSIFIERS = {"mnist": "classification/image-cnn.mnist", "fashion-mnist": "classification/image-cnn.fashion-mnist"}
CORPORA = {"mnist": "MNIST", "fashion-mnist": "FMNIST"}
CASES = {
    "mnist": {"two-digits": ("MNIST B1 (case 1)", "MNIST B2 (case 1)"), "digit-on-clothes": ("MNIST+FMNIST (case 3)",)},
    "fashion-mnist": {"two-clothes": ("FMNIST mix (case 2)",)},
}
SHIFTS = (0.0, 0.5)
BATCH = 32


def images(name: str, most: int | None) -> Iterator[Example]:
    """The test images of a set, or so many of them."""
    found = ImageSet(name, "test")
    kept = min(len(found), most or len(found))
    wanted = {place * len(found) // kept for place in range(kept)}
    number = 0
    for batch in found.batches(BATCH):
        chosen = [place for place in range(len(batch["id"])) if number + place in wanted]
        number += len(batch["id"])
        if chosen:
            yield Example(batch["image"][chosen], tuple(batch["id"][place] for place in chosen))


def mixtures(case: str, shift: float, most: int | None, *, asked: bool) -> Iterator[Example]:
    """The mixtures of a case; the other image has no class where it is of another set."""
    found = ImageMixtureSet(case, "test", num_mixtures=most, shift=shift)
    for batch in found.batches(BATCH):
        other = batch["other"] if found.first is found.second else torch.full_like(batch["other"], -1)
        labels = torch.stack((batch["label"], other), 1)
        yield Example(batch["image"], tuple(batch["id"]), labels[:, 0] if asked else None, batch["sources"], labels)


def main() -> None:
    """Measure what is not measured yet, and print the tables."""
    options = parser(__doc__ or "", "runs/interpretation-images")
    options.add_argument("--set", action="append", choices=tuple(CLASSIFIERS), help="only this set (may be repeated)")
    options.add_argument("--classifier", help="the classifier of the only set; by default the one that ships")
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    cells = Cells(arguments.out)
    for name in arguments.set or CLASSIFIERS:
        classifier = arguments.classifier or CLASSIFIERS[name]
        methods = methods_of(classifier, arguments.interpreter, arguments.method)
        settings = {"set": name, "items": arguments.items}
        rows = {
            method: cells.figures(name, seeds, settings, partial(images, name, arguments.items))
            for method, seeds in methods.items()
        }
        print(f"\n### {name}, explained decisions of {classifier}\n")
        print(table(rows, CLEAN_COLUMNS, published_figures(CORPORA[name])))
        print(f"\n{ranks(rows)}", flush=True)
        for (case, corpora), shift, asked in product(CASES[name].items(), SHIFTS, (False, True)):
            kind = "asked" if asked else "decided"
            settings = {"case": case, "shift": shift, "items": arguments.items, "asked": asked}
            examples = partial(mixtures, case, shift, arguments.items, asked=asked)
            rows = {
                method: cells.figures(f"{case}-{shift:g}-{kind}", seeds, settings, examples)
                for method, seeds in methods.items()
            }
            print(f"\n### {case}, {'one on the other' if shift == 0 else 'side by side by half'}, {kind}\n")
            print(table(rows, MIXTURE_COLUMNS, published_opinions(corpora)), flush=True)


if __name__ == "__main__":
    main()
