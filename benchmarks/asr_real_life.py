"""What recordings of real life cost a recogniser, and what augmentation in training gives back.

    AURISCOPE_CORPORA=… python benchmarks/asr_real_life.py CLEAN AUGMENTED [--set libri_eval50_flac] [--lm FILE]

CLEAN and AUGMENTED are addresses of two recognisers that differ by ``data.augmentation`` of their recipe alone, such as

    auriscope train recipes/recognition/conformer-ctc-digits.yaml --run runs/digits-augmented training.max_steps=3000
    auriscope train recipes/recognition/conformer-ctc-digits.yaml --run runs/digits-clean training.max_steps=3000 \\
        data.augmentation.noise_probability=0 data.augmentation.room_probability=0

Prints the error of both on a set as it is, in noise 5 dB below the speech, in measured rooms, and in both (noises and
rooms that training has not heard, :mod:`auriscope.data.spoken`), and by how much the augmented one errs more or less,
with 95 % intervals, utterances resampled.
"""

from __future__ import annotations

import argparse
from typing import Any

import torch

from auriscope.data.spoken import CONDITIONS
from auriscope.data.transcribed import letters, spoken_set
from auriscope.metrics.accumulate import Summary, summarize_ratio
from auriscope.metrics.wer import Errors, character_errors, word_errors
from auriscope.pretrained import load
from auriscope.recognition.decoding import DecodingOptions
from auriscope.verbs.language_models import open_language_model, with_language_model
from auriscope.verbs.recognition_figures import transcribed


def measured(recognizer: Any, items: Any, unit: str, **decoding: Any) -> Errors:
    """The errors of a recogniser on a set; the order of the utterances depends on their lengths alone."""
    pairs = list(transcribed(recognizer, items, lambda _: None, **decoding))
    found, said = [letters(text) for _, text in pairs], [spoken.text for spoken, _ in pairs]
    return word_errors(found, said) if unit == "word" else character_errors(found, said)


def percent(summary: Summary) -> str:
    """A share as per cent, with its interval."""
    if summary.mean is None or summary.low is None or summary.high is None:
        return "–"
    return f"{100 * summary.mean:.1f} % [{100 * summary.low:.1f}, {100 * summary.high:.1f}]"


def change(summary: Summary) -> str:
    """A ratio as the relative change that it is, with its interval."""
    if summary.mean is None or summary.low is None or summary.high is None:
        return "–"
    return f"{100 * summary.mean - 100:+.0f} % [{100 * summary.low - 100:+.0f}, {100 * summary.high - 100:+.0f}]"


def main() -> None:
    """Transcribe every condition with both, and print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("clean", help="address of the recogniser trained on clean speech")
    parser.add_argument("augmented", help="address of the one trained with augmentation")
    parser.add_argument("--set", default="libri_eval50_flac", help="corpus with texts, digits or digits-unseen")
    parser.add_argument("--split", default="test")
    parser.add_argument("--unit", choices=("word", "character"), default="word")
    parser.add_argument("--beam", type=int, default=10)
    parser.add_argument("--lm", help="language model: a file or an address")
    parser.add_argument("--lm-weight", type=float)
    parser.add_argument("--items", type=int, help="only so many utterances")
    options = parser.parse_args()
    torch.set_num_threads(1)
    models = [load(options.clean), load(options.augmented)]
    decoding: dict[str, Any] = {"options": DecodingOptions(beam_size=options.beam, word_times=False)}
    if options.lm:
        helper = open_language_model(options.lm)
        decoding["options"] = with_language_model(decoding["options"], helper, options.lm_weight)
        decoding["language_model"] = helper
    print(f"{options.unit} error on {options.set} ({options.split}), 95 % intervals")
    print("| recorded | trained clean | trained augmented | relative change |")
    print("|---|---|---|---|")
    for condition in ("", *reversed(CONDITIONS)):
        name = f"{options.set}-{condition}" if condition else options.set
        found = []
        for model in models:
            rate = int(model.config.sample_rate)
            items = spoken_set(name, options.split, sample_rate=rate, max_items=options.items)
            found.append(measured(model, items, options.unit, **decoding))
        clean, augmented = (errors.per_utterance[:, :3].sum(1) for errors in found)
        cells = [*(percent(errors.interval()) for errors in found), change(summarize_ratio(augmented, clean))]
        print(f"| {condition or 'clean'} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
