"""Every recogniser of the comparison beside the others: same data, seed and budget, without and with a language model.

    make recognisers
    AURISCOPE_CORPORA=… python benchmarks/asr_systems.py [--recipes digits|libri-mini] [--lm ADDRESS] [--items N]

Of each system it takes the best weights of its run (``runs/<system>-<recipes>/model``), and prints its parameters, the
audio that its training drew, and the word and character error on the test split, without and with a language model: for
digits a trigram of numbers drawn as the data are, which tells how long a number is and nothing else; for letters
``--lm``, by default the n-gram of words that ships. The language model's weight, and what each token or word is given
to make up for it, are those that do best on the valid split, for each system.
"""

from __future__ import annotations

import argparse
import dataclasses
from pathlib import Path
from typing import Any

import numpy as np
import torch

from auriscope.data.transcribed import spoken_set
from auriscope.pretrained import load
from auriscope.recognition.decoding import DecodingOptions
from auriscope.recognition.ngram import NGram, NGramConfig
from auriscope.training.checkpoints import load_tree
from auriscope.verbs.language_models import open_language_model, with_language_model
from auriscope.verbs.recognition_figures import recognition_figures

SYSTEMS = ("mean-context", "las", "transformer", "blstm-ctc", "joint")
SETS = {"digits": ("digits", "digits-unseen"), "libri-mini": ("libri_eval50_flac",)}
WEIGHTS = (0.05, 0.15, 0.3, 0.5)
BONUSES = (0.0, 1.0, 2.5)  # in units of the weight for tokens, ten of which are about as likely; as they are for words


def digit_trigram(recognizer: Any) -> NGram:
    """A trigram of numbers of one to seven digits, each digit as likely as the others."""
    rng = np.random.default_rng(0)
    names = [token for number, token in enumerate(recognizer.tokenizer.tokens) if number > 1]
    texts = [" ".join(rng.choice(names, rng.integers(1, 8))) for _ in range(5000)]
    return NGram(NGramConfig(recognizer.config.tokens, "words", order=3)).fit(texts)


def chosen(model: Any, plain: DecodingOptions, language_model: Any, valid: list[Any], unit: str) -> DecodingOptions:
    """The options with the weight and the bonus that err least on the valid sets, all alike."""
    grid = []
    for weight in WEIGHTS:
        for bonus in BONUSES:
            tokens = isinstance(language_model, NGram)
            given = {"length_bonus": bonus * weight} if tokens else {"word_bonus": bonus}
            # A word's bonus goes first: with_language_model keeps it, and takes the usual one for none.
            options = with_language_model(dataclasses.replace(plain, **given), language_model, weight)
            errors = [
                recognition_figures(model, items, lambda _: None, options=options, language_model=language_model)
                for items in valid
            ]
            grid.append((sum(figures[f"{unit}_error_percent"][0] for figures in errors), weight, bonus, options))
    return min(grid, key=lambda tried: tried[:3])[3]


def told(figures: dict[str, Any], unit: str) -> str:
    value, low, high = figures[f"{unit}_error_percent"]
    return f"{value:.1f} [{low:.1f}, {high:.1f}]"


def main() -> None:
    """Transcribe the test sets with every system that has been trained, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--recipes", choices=tuple(SETS), default="digits")
    parser.add_argument("--runs", type=Path, default=Path("runs"))
    parser.add_argument("--beam", type=int, default=8)
    parser.add_argument("--lm", default="recognition/word-ngram.en")
    parser.add_argument("--items", type=int, help="only so many utterances of each set")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    sets = {name: spoken_set(name, "test", max_items=arguments.items) for name in SETS[arguments.recipes]}
    valid = [spoken_set(name, "valid", max_items=arguments.items) for name in SETS[arguments.recipes]]
    print("word error / character error on the test split, %, with 95 % intervals over utterances")
    print("| system | parameters | hours heard | set | without | with a language model | weight, bonus |")
    print("|---|---|---|---|---|---|---|")
    for system in SYSTEMS:
        run = arguments.runs / f"{system}-{arguments.recipes}"
        if not (run / "model").is_dir():
            print(f"| {system} | not trained | | | | | |")
            continue
        model: Any = load(str(run / "model"))
        hours = load_tree(run / "best.safetensors")["facts"]["hours_of_audio"]
        plain = DecodingOptions(beam_size=arguments.beam, word_times=False)
        digits = arguments.recipes == "digits"
        language_model = digit_trigram(model) if digits else open_language_model(arguments.lm)
        helped = chosen(model, plain, language_model, valid, "word" if digits else "character")
        weights = f"{helped.lm_weight + helped.word_lm_weight:g}, {helped.length_bonus + helped.word_bonus:.2g}"
        for name, items in sets.items():
            cells = []
            for options, lm in ((plain, None), (helped, language_model)):
                figures = recognition_figures(model, items, lambda _: None, options=options, language_model=lm)
                cells.append(f"{told(figures, 'word')} / {told(figures, 'character')}")
            facts = f"{system} | {model.num_parameters:,} | {hours:.1f} | {name}"
            print(f"| {facts} | {' | '.join(cells)} | {weights} |", flush=True)


if __name__ == "__main__":
    main()
