"""Print how well language models foresee text: bits per character and perplexities, of models at addresses.

The texts are the chapters of libri_text that no training has seen (data/texts.py), and what is said in the test split
of a corpus of speech. A sentence's end counts as one more character, token or word.

    python benchmarks/language_models.py runs/rnn-lm-libri/model
"""

from __future__ import annotations

import argparse

from auriscope.data.corpora import utterances
from auriscope.data.texts import TextConfig, split_texts
from auriscope.data.transcribed import letters
from auriscope.errors import AuriscopeError
from auriscope.pretrained import load
from auriscope.recognition.language_model import LanguageModel, perplexity


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("models", nargs="+", help="addresses or folders of language models")
    parser.add_argument(
        "--corpora", nargs="*", default=["libri_eval50_flac", "commonvoice_en"], help="corpora of speech"
    )
    options = parser.parse_args()
    try:
        texts = {"libri_text, held out": split_texts(TextConfig(), "valid")}
        for corpus in options.corpora:
            spoken = (letters(entry.text or "") for entry in utterances(corpus, "test"))
            texts[f"{corpus}, test"] = [text for text in spoken if text]
        models = {address: load(address) for address in options.models}
    except AuriscopeError as error:
        parser.error(str(error))
    print("| model | parameters | texts | bits per character | per token | per word |")
    print("|---|---|---|---|---|---|")
    for address, model in models.items():
        if not isinstance(model, LanguageModel):
            parser.error(f"{address} is no language model")
        for name, lines in texts.items():
            found = perplexity(model, lines)
            print(
                f"| {address} | {model.num_parameters / 1e6:.2f} M | {name} | {found.bits_per_character:.3f} "
                f"| {found.token_perplexity:.2f} | {found.word_perplexity:.0f} |"
            )


if __name__ == "__main__":
    main()
