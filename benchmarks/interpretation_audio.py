"""The tables of interpreters on sounds: all methods and figures, on clean sounds and on mixtures at several levels.

    AURISCOPE_CORPORA=… python benchmarks/interpretation_audio.py [--items 100] [--set sound-events] [--level 0 …]

As `interpretation_images.py`, of the test split of labelled sounds, at most five seconds of each. Mixtures hold two
sounds of other classes, the first so many decibels above the second. They are measured twice: "decided", where what the
classifier decides is explained, and the share is told where that is one of the two classes; and "asked", where the
class of the first sound is. SI-SNRi says by how much the interpretation is closer to the sound of the explained class
than the mixture is. Nobody has published these figures.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

import torch

from auriscope.data.labelled import LabelledSet
from auriscope.data.labelled_mixtures import LabelledMixtureSet
from auriscope.verbs.interpretation_figures import Example
from interpretation_tables import CLEAN_COLUMNS, MIXTURE_COLUMNS, Cells, methods_of, parser, ranks, table

CLASSIFIERS = {"sound-events": "classification/cnn.sound-events", "digits": "classification/cnn.digits"}
MAX_SECONDS = 5.0


def sounds(name: str, sample_rate: int, most: int | None) -> Iterator[Example]:
    """The test sounds of a set, or so many of them, each by itself: they are of other lengths."""
    found = LabelledSet(name, "test", sample_rate=sample_rate)
    kept = min(len(found), most or len(found))
    for place in range(kept):
        sound = found[place * len(found) // kept]
        waveform = torch.from_numpy(sound.waveform[: round(MAX_SECONDS * sample_rate)])[None]
        yield Example(waveform, (sound.id,))


def mixtures(name: str, sample_rate: int, level_db: float, most: int | None, *, asked: bool) -> Iterator[Example]:
    """The mixtures of a set at a level."""
    found = LabelledMixtureSet(
        name, "test", level_db=level_db, num_mixtures=most, max_seconds=MAX_SECONDS, sample_rate=sample_rate
    )
    for mixture in found:
        labels = torch.tensor([mixture.labels])
        yield Example(
            torch.from_numpy(mixture.mixture)[None],
            (mixture.id,),
            labels[:, 0] if asked else None,
            torch.from_numpy(mixture.sources)[None],
            labels,
        )


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
    rate = int(next(iter(methods.values()))[0].classifier.config.sample_rate)
    settings = {"set": name, "items": most, "seconds": MAX_SECONDS}
    rows = {
        method: cells.figures(name, seeds, settings, partial(sounds, name, rate, most))
        for method, seeds in methods.items()
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
                    partial(mixtures, name, rate, level_db, most, asked=asked),
                )
                for method, seeds in methods.items()
            }
            print(f"\n### {name}, mixtures at {level_db:g} dB, {kind}\n")
            print(table(rows, MIXTURE_COLUMNS), flush=True)


if __name__ == "__main__":
    main()
