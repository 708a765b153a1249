"""Word error and character error of a corpus beside jiwer's.

    python benchmarks/wer_speed.py [--sentences 2620] [--repeats 9]

Needs ``AURISCOPE_CORPORA``: the references are sentences of ``libri_text``, the hypotheses the same with words left
out, added and exchanged, at three rates. Both sides in one process, in turns; medians of the processor time, which what
else runs on the machine disturbs less than the time of the clock.
"""

from __future__ import annotations

import argparse
import random
import statistics
import time
from collections.abc import Callable

import jiwer

from auriscope.data.texts import TextConfig, split_texts
from auriscope.metrics.wer import character_errors, word_errors


def main() -> None:
    """Measure and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--sentences", type=int, default=2620)
    parser.add_argument("--repeats", type=int, default=9)
    options = parser.parse_args()
    references = split_texts(TextConfig(), "train")[: options.sentences]
    words = " ".join(references).split()

    def word_error(heard: list[str]) -> float:
        return word_errors(heard, references).wer

    def character_error(heard: list[str]) -> float:
        return character_errors(heard, references).cer

    print(f"{len(references)} sentences, {len(words)} words, medians of {options.repeats}, CPU ms")
    print("| error | | auriscope | jiwer | ratio |\n|---|---|---|---|---|")
    for rate in (0.02, 0.1, 0.4):
        hypotheses = _misheard(references, words, rate)
        for name, ours, theirs in (
            ("words", word_error, jiwer.wer),
            ("characters", character_error, jiwer.cer),
        ):
            error, expected = ours(hypotheses), theirs(references, hypotheses)
            if abs(error - expected) > 1e-12:
                raise SystemExit(f"the two disagree: {error} and {expected}")
            times: dict[str, list[float]] = {"ours": [], "theirs": []}
            for _ in range(options.repeats):
                times["ours"].append(_milliseconds(ours, hypotheses))
                # jiwer takes the reference first.
                times["theirs"].append(_milliseconds(theirs, references, hypotheses))
            mine, peer = (statistics.median(values) for values in times.values())
            print(f"| {100 * error:.1f} % | {name} | {mine:.1f} | {peer:.1f} | {mine / peer:.2f} |", flush=True)


def _misheard(references: list[str], words: list[str], rate: float) -> list[str]:
    rng = random.Random(0)
    found = []
    for text in references:
        heard = []
        for word in text.split():
            draw = rng.random() / rate
            if draw < 0.2:
                continue
            heard.append(rng.choice(words) if draw < 0.8 else word)
            if 0.8 <= draw < 1.0:
                heard.append(rng.choice(words))
        found.append(" ".join(heard))
    return found


def _milliseconds(side: Callable[..., float], *texts: list[str]) -> float:
    began = time.process_time()
    side(*texts)
    return 1000 * (time.process_time() - began)


if __name__ == "__main__":
    main()
