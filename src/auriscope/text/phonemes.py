"""Text to phonemes, for voices that were taught those instead of letters: by espeak-ng, through the library phonemizer.

Both are optional (the extra ``phonemes``). What comes out is the International Phonetic Alphabet with marks of stress,
words parted by spaces, punctuation kept.
"""

from __future__ import annotations

from contextlib import suppress
from functools import lru_cache
from importlib import import_module
from typing import Any

from auriscope.errors import AuriscopeError


def phonemes(text: str, language: str = "en-us") -> str:
    """Write a text in phonemes; ``language`` is espeak-ng's name of one.

    Raises ``AuriscopeError`` where phonemizer or espeak-ng is missing, or does not know the language.
    """
    lines: list[str] = _backend(language).phonemize([text], strip=True)
    return " ".join(" ".join(lines).split())


@lru_cache(maxsize=4)
def _backend(language: str) -> Any:
    try:
        backend: Any = import_module("phonemizer.backend")
        wrapper: Any = import_module("phonemizer.backend.espeak.wrapper").EspeakWrapper
    except ImportError:
        raise AuriscopeError(
            "this voice was taught phonemes, which the library phonemizer writes; install auriscope[phonemes]"
        ) from None
    # A library that comes as a package, for machines without an espeak-ng of their own.
    with suppress(ImportError):
        loader: Any = import_module("espeakng_loader")
        wrapper.set_library(loader.get_library_path())
        wrapper.set_data_path(loader.get_data_path())
    try:
        return backend.EspeakBackend(
            language, preserve_punctuation=True, with_stress=True, language_switch="remove-flags"
        )
    except RuntimeError as error:
        raise AuriscopeError(
            f"espeak-ng cannot write phonemes of {language!r}: {' '.join(str(error).split())}"
        ) from None
