"""Opening the language model that a recogniser's decoding is helped by, whatever kind of file it is."""

from __future__ import annotations

import dataclasses
from pathlib import Path

from auriscope.errors import AuriscopeError
from auriscope.pretrained import load
from auriscope.recognition.decoding import DecodingOptions, TokenLanguageModel, WordLanguageModel
from auriscope.recognition.language_model import LanguageModel

DEFAULT_LM_WEIGHT = 0.5
DEFAULT_WORD_BONUS = 2.0
"""Of a language model over words, where nothing else is said: the best on the valid splits for the models that ship."""


def open_language_model(address: str, *, offline: bool | None = None) -> TokenLanguageModel | WordLanguageModel:
    """Open a language model: an n-gram over words in a file (ARPA, KenLM's binary), or the one at an address.

    Raises ``AuriscopeError`` when there is none at the address, or what is there is no language model.
    """
    path = Path(address)
    if path.is_file():
        from auriscope.recognition.arpa import KENLM_MAGIC, KenLM, read_arpa

        with path.open("rb") as file:
            binary = file.read(len(KENLM_MAGIC)) == KENLM_MAGIC
        return KenLM(path) if binary else read_arpa(path)
    model = load(address, offline=offline)
    if not isinstance(model, LanguageModel):
        raise AuriscopeError(f"{address}: is not a language model; give the address of one, or an ARPA or KenLM file")
    return model


def with_language_model(
    options: DecodingOptions, language_model: TokenLanguageModel | WordLanguageModel, weight: float | None = None
) -> DecodingOptions:
    """Give a language model its weight in the score, None: the usual one; over words, with a bonus for each word."""
    weight = DEFAULT_LM_WEIGHT if weight is None else weight
    if isinstance(language_model, WordLanguageModel):
        bonus = options.word_bonus or DEFAULT_WORD_BONUS
        return dataclasses.replace(options, word_lm_weight=weight, word_bonus=bonus)
    return dataclasses.replace(options, lm_weight=weight)
