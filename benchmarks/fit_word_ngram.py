"""Fit the n-gram of English words that ships, and say how well it knows text that it has not seen.

    python benchmarks/fit_word_ngram.py [--order 3] [--prune 0 1 1] [--min-count 2] [--out FOLDER]

On the texts of libri_text (chapters held out, see data/texts.py) and the transcripts of the train splits. Perplexity
is over the words it knows and the ends of sentences, in the chapters held out and the transcripts of test splits.
``--out`` writes it, by default where ``transcribe`` finds it. Needs the real data in AURISCOPE_CORPORA.
"""

from __future__ import annotations

import argparse
import math
from collections.abc import Sequence
from pathlib import Path

from auriscope.data.corpora import utterances
from auriscope.data.texts import TextConfig, split_texts
from auriscope.data.transcribed import letters
from auriscope.pretrained.addresses import WEIGHTS
from auriscope.pretrained.card import ModelCard
from auriscope.recognition.ngram import WordNGram
from auriscope.verbs.shipped import Place, read_list

ADDRESS = "recognition/word-ngram.en"
SPOKEN = ("libri_251spk", "libri_other_10spk", "libri_readers_3spk", "commonvoice_en", "ljspeech_1spk")
TESTS = ("libri_eval50_flac", "commonvoice_en")


def perplexity(model: WordNGram, texts: Sequence[str]) -> tuple[float, float]:
    """Perplexity per known word or sentence's end, and the share of words that are unknown."""
    known = set(model.vocabulary)
    total, counted, unknown, words = 0.0, 0, 0, 0
    for text in texts:
        state = model.start_state()
        for word in text.split():
            log_prob, state = model.score_word(state, word)
            words += 1
            if word in known:
                total, counted = total + log_prob, counted + 1
            else:
                unknown += 1
        total, counted = total + model.score_end(state), counted + 1
    return math.exp(-total / counted), unknown / words


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--order", type=int, default=3)
    parser.add_argument("--prune", type=int, nargs="+", default=[0, 1, 1])
    parser.add_argument("--min-count", type=int, default=2)
    parser.add_argument("--out", type=Path, default=WEIGHTS / ADDRESS)
    arguments = parser.parse_args()
    config = TextConfig(corpora=SPOKEN)
    train = split_texts(config, "train")
    model = WordNGram.of_texts(train, order=arguments.order, prune=arguments.prune, min_count=arguments.min_count)
    print(
        f"{sum(len(text.split()) for text in train)} words of text; n-grams of each length: {model.config.num_ngrams}"
    )
    sets = {"libri_text valid": split_texts(config, "valid")}
    for name in TESTS:
        sets[f"{name} test"] = [letters(entry.text or "") for entry in utterances(name, "test")]
    metrics = {}
    for name, texts in sets.items():
        value, unknown = perplexity(model, texts)
        print(f"{name}: perplexity {value:.1f}, {100 * unknown:.1f} % of the words unknown")
        metrics |= {f"perplexity {name}": round(value, 2), f"unknown_words_percent {name}": round(100 * unknown, 2)}
    shipped = read_list(Place().list_file)
    card = ModelCard(
        title=f"{arguments.order}-gram of English words",
        summary="Tells a recogniser of letters which English words are likely after each other.",
        licence=shipped.licence,
        data=("libri_text", *SPOKEN),
        attributions=tuple(dict.fromkeys(shipped.attributions[name] for name in SPOKEN)),
        command=f"python benchmarks/fit_word_ngram.py --order {arguments.order} "
        f"--prune {' '.join(map(str, arguments.prune))} --min-count {arguments.min_count}",
        metrics=metrics,
        limits=("Of novels read aloud and short sentences; names and modern words are mostly unknown to it.",),
    )
    model.save_pretrained(arguments.out, card=card, half=True)
    print(f"written: {arguments.out}")


if __name__ == "__main__":
    main()
