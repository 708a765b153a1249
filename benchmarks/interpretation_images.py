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

from itertools import product

import torch

from interpretation_tables import (
    ASKED_COLUMNS,
    CLEAN_COLUMNS,
    DECIDED_COLUMNS,
    Cells,
    examples,
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
        if not methods:
            continue
        settings = {"set": name, "items": arguments.items}
        rows = {
            method: cells.figures(name, seeds, settings, examples(methods, name, arguments.items))
            for method, seeds in methods.items()
        }
        print(f"\n### {name}, explained decisions of {classifier}\n")
        print(table(rows, CLEAN_COLUMNS, published_figures(CORPORA[name])))
        print(f"\n{ranks(rows)}", flush=True)
        for (case, corpora), shift, asked in product(CASES[name].items(), SHIFTS, (False, True)):
            kind = "asked" if asked else "decided"
            settings = {"case": case, "shift": shift, "items": arguments.items, "asked": asked}
            mixtures = examples(methods, case, arguments.items, asked=asked, shift=shift)
            rows = {
                method: cells.figures(f"{case}-{shift:g}-{kind}", seeds, settings, mixtures)
                for method, seeds in methods.items()
            }
            print(f"\n### {case}, {'one on the other' if shift == 0 else 'side by side by half'}, {kind}\n")
            print(table(rows, ASKED_COLUMNS if asked else DECIDED_COLUMNS, published_opinions(corpora)), flush=True)


if __name__ == "__main__":
    main()
