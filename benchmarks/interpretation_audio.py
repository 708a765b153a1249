"""The tables of interpreters on sounds: all methods and figures, on clean sounds and on mixtures at several levels.

    AURISCOPE_CORPORA=… python benchmarks/interpretation_audio.py [--items 100] [--set sound-events] [--level 0 …]

As `interpretation_images.py`, of the test split of labelled sounds, at most five seconds of each. Mixtures hold two
sounds of other classes, the first so many decibels above the second. They are measured twice: "decided", where what the
classifier decides is explained, and the share is told where that is one of the two classes; and "asked", where the
class of the first sound is. SI-SNRi says by how much the interpretation is closer to the sound of the explained class
than the mixture is. Nobody has published these figures.
"""

from __future__ import annotations

import torch

from auriscope.verbs.interpretation_sets import MAX_SECONDS
from interpretation_tables import (
    ASKED_COLUMNS,
    CLEAN_COLUMNS,
    DECIDED_COLUMNS,
    Cells,
    examples,
    methods_of,
    parser,
    ranks,
    table,
)

CLASSIFIERS = {"sound-events": "classification/cnn.sound-events", "digits": "classification/cnn.digits"}


def main() -> None:
    """Measure what is not measured yet, and print the tables."""
    options = parser(__doc__ or "", "runs/interpretation-audio")
    options.add_argument("--set", choices=tuple(CLASSIFIERS), default="sound-events")
    options.add_argument("--classifier", help="by default the one that ships for the set")
    options.add_argument("--level", type=float, action="append", help="decibels (may be repeated); -5, 0 and 5")
    arguments = options.parse_args()
    torch.set_num_threads(arguments.threads)
    cells = Cells(arguments.out)
    name, most = arguments.set, arguments.items
    classifier = arguments.classifier or CLASSIFIERS[name]
    methods = methods_of(classifier, arguments.interpreter, arguments.method)
    if not methods:
        return
    settings = {"set": name, "items": most, "seconds": MAX_SECONDS}
    rows = {
        method: cells.figures(name, seeds, settings, examples(methods, name, most)) for method, seeds in methods.items()
    }
    print(f"\n### {name}, clean, explained decisions of {classifier}\n")
    print(table(rows, CLEAN_COLUMNS))
    print(f"\n{ranks(rows)}", flush=True)
    for level_db in arguments.level or (-5.0, 0.0, 5.0):
        for asked in (False, True):
            kind = "asked" if asked else "decided"
            settings = {"set": name, "items": most, "seconds": MAX_SECONDS, "level_db": level_db, "asked": asked}
            rows = {
                method: cells.figures(
                    f"{name}-{level_db:g}dB-{kind}",
                    seeds,
                    settings,
                    examples(methods, f"{name}-mixtures", most, asked=asked, level_db=level_db),
                )
                for method, seeds in methods.items()
            }
            print(f"\n### {name}, mixtures at {level_db:g} dB, {kind}\n")
            print(table(rows, ASKED_COLUMNS if asked else DECIDED_COLUMNS), flush=True)


if __name__ == "__main__":
    main()
