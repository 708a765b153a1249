"""N-gram models of letters and words: fitted, stored, and asked, beside KenLM's library on the same file.

    python benchmarks/ngram_speed.py [--letters 8] [--words 3] [--repeats 5]

Needs ``AURISCOPE_CORPORA``, for the texts of ``libri_text``, and the library kenlm. What is asked are the chapters held
out. Letters: bits per character, and processor time of a step for 16 utterances with a beam of 10. Words: time to score
one, of texts that have not been scored before and once more, beside KenLM's probing tables, and by how much the two
differ. Medians of the processor time, one thread.
"""

from __future__ import annotations

import argparse
import statistics
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import kenlm
import torch

from auriscope.data.texts import TextConfig, split_texts
from auriscope.recognition.arpa import write_arpa
from auriscope.recognition.language_model import pad_tokens, perplexity
from auriscope.recognition.ngram import NGram, NGramConfig, WordNGram


def main() -> None:
    """Measure and print the tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--letters", type=int, default=8, help="order of the model of letters")
    parser.add_argument("--words", type=int, default=3, help="order of the model of words")
    parser.add_argument("--repeats", type=int, default=5)
    options = parser.parse_args()
    torch.set_num_threads(1)
    train, held_out = split_texts(TextConfig(), "train"), split_texts(TextConfig(), "valid")
    with tempfile.TemporaryDirectory() as folder:
        print("| model | fitted in s | n-grams | MB | bits per character | CPU ms a step |\n|---|---|---|---|---|---|")
        for prune in ((), (0,) * (options.letters // 2) + (2,) * (options.letters - options.letters // 2)):
            began = time.process_time()
            model = NGram(NGramConfig(order=options.letters, prune=prune)).fit(train)
            took = time.process_time() - began
            model.save_pretrained(Path(folder) / "letters", half=True)
            bits = perplexity(model, held_out).bits_per_character
            step = _step_milliseconds(model, held_out, options.repeats)
            print(
                f"| letters, order {options.letters}{', pruned' if prune else ''} | {took:.0f} "
                f"| {sum(model.config.num_ngrams):,} | {_megabytes(Path(folder) / 'letters'):.1f} "
                f"| {bits:.3f} | {step:.2f} |",
                flush=True,
            )
        began = time.process_time()
        words = WordNGram.of_texts(train, order=options.words, min_count=2)
        print(f"words, order {options.words}: fitted in {time.process_time() - began:.1f} s")
        path = Path(folder) / "words.arpa"
        write_arpa(words, path)
        _compare(words, kenlm.Model(str(path)), held_out, options.repeats)


def _step_milliseconds(model: NGram, texts: list[str], repeats: int) -> float:
    tokens, _ = pad_tokens(model.tokenizer.encode(text[:40]) for text in texts[:160])
    found = []
    for _ in range(repeats):
        state = model.start(16, 10)
        began = time.process_time()
        for column in tokens.T:
            _, state = model.step(column.reshape(16, 10), state)
        found.append(1000 * (time.process_time() - began) / tokens.shape[1])
    return statistics.median(found)


def _compare(ours: WordNGram, theirs: Any, texts: list[str], repeats: int) -> None:
    split = [text.split() for text in texts]
    number = sum(map(len, split))

    def own() -> list[float]:
        found = []
        for words in split:
            state, total = ours.start_state(), 0.0
            for word in words:
                log_prob, state = ours.score_word(state, word)
                total += log_prob
            found.append(total)
        return found

    def other() -> list[float]:
        found = []
        for words in split:
            state, total = kenlm.State(), 0.0
            theirs.BeginSentenceWrite(state)
            for word in words:
                after = kenlm.State()
                total += theirs.BaseScore(state, word, after)
                state = after
            found.append(total * 2.302585092994046)
        return found

    ours.score_word(ours.start_state(), "THE")
    first = _microseconds(own, number)
    again = statistics.median(_microseconds(own, number) for _ in range(repeats))
    peer = statistics.median(_microseconds(other, number) for _ in range(repeats))
    difference = max(abs(one - two) for one, two in zip(own(), other(), strict=True))
    print("| words scored | ours at first | ours again | KenLM | largest difference of a text |\n|---|---|---|---|---|")
    print(f"| {number:,} | {first:.2f} µs | {again:.2f} µs | {peer:.2f} µs | {difference:.1e} |")


def _microseconds(side: Callable[[], list[float]], number: int) -> float:
    began = time.process_time()
    side()
    return 1e6 * (time.process_time() - began) / number


def _megabytes(folder: Path) -> float:
    return sum(path.stat().st_size for path in folder.iterdir()) / 1e6


if __name__ == "__main__":
    main()
