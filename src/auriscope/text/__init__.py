"""Text: tokenizers and normalisers; no torch, so that the web side can use them."""

from __future__ import annotations

from auriscope.text.tokenizer import Tokenizer, TokenKind, characters, words

__all__ = ["TokenKind", "Tokenizer", "characters", "words"]
