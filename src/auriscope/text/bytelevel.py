"""Byte-level pieces: tokens made of bytes, so that every text of every language can be written.

A. Radford et al., "Language Models are Unsupervised Multitask Learners", 2019, section 2.2; the tokens are joined by
byte pair encoding (R. Sennrich et al., arXiv 1508.07909). Whisper's tokens are such.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

from auriscope.text.tokenizer import UNKNOWN, WORD_START, Tokenizer

if TYPE_CHECKING:
    from tokenizers import Tokenizer as Segmenter


def _spelled_bytes() -> tuple[str, ...]:
    """The printable character that stands for each byte: itself where it is printable, else one from 256 on."""
    printable = {*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)}
    others = iter(range(256, 512))
    return tuple(chr(byte) if byte in printable else chr(next(others)) for byte in range(256))


BYTES = _spelled_bytes()
"""How each byte is spelled, as GPT-2 does it: a space is ``Ġ``."""
_BYTE_OF = {spelled: byte for byte, spelled in enumerate(BYTES)}


@dataclass(frozen=True)
class ByteTokenizer(Tokenizer):
    """Tokens that are bytes, one or several; make it with :func:`byte_pieces`.

    ``spellings`` are the tokens in characters that stand for bytes, ``merges`` the pairs that are joined, in their
    order, parted by a space; ``tokens`` are texts for people, as far as a token is one. A token spelled ``<|…|>`` is no
    text. Words begin with a space, the first one of a text too.

    >>> tokenizer = byte_pieces((*BYTES, "Ġa", "<|end|>"), ("Ġ a",), bos_id=257, eos_id=257)
    >>> numbers = tokenizer.encode("a né")
    >>> [tokenizer.tokens[number] for number in numbers[:3]]
    ['▁a', '▁', 'n']
    >>> tokenizer.decode([*numbers, 257])
    'a né'
    """

    spellings: tuple[str, ...] = ()
    merges: tuple[str, ...] = ()

    @cached_property
    def special_ids(self) -> frozenset[int]:
        """The numbers of the tokens that are no text."""
        return frozenset(number for number, spelled in enumerate(self.spellings) if _is_special(spelled))

    def encode(self, text: str) -> list[int]:
        """Turn text into token numbers, without the sentence's ends."""
        numbers: list[int] = self._byte_segmenter.encode("".join(f" {word}" for word in text.split())).ids
        return numbers

    def decode(self, numbers: Iterable[int]) -> str:
        """Turn token numbers into text, leaving out what is no text; bytes that are no character become U+FFFD."""
        spelled = "".join(self.spellings[number] for number in numbers if number not in self.special_ids)
        return " ".join(_text(spelled).split())

    @cached_property
    def _byte_segmenter(self) -> Segmenter:
        from tokenizers import Tokenizer as Segmenter
        from tokenizers.models import BPE
        from tokenizers.pre_tokenizers import ByteLevel

        numbers = {spelled: number for number, spelled in enumerate(self.spellings) if number not in self.special_ids}
        pairs = [(first, second) for first, _, second in (merge.partition(" ") for merge in self.merges)]
        segmenter = Segmenter(BPE(numbers, pairs))
        segmenter.pre_tokenizer = ByteLevel(add_prefix_space=False)
        return segmenter


def byte_pieces(
    spellings: tuple[str, ...], merges: tuple[str, ...] = (), *, bos_id: int | None, eos_id: int | None
) -> ByteTokenizer:
    """Make a tokenizer of byte-level pieces, which has no blank."""
    tokens = tuple(
        spelled if _is_special(spelled) else _text(spelled).replace(" ", WORD_START) for spelled in spellings
    )
    return ByteTokenizer(tokens, "pieces", (), None, bos_id, eos_id, spellings, merges)


def _is_special(spelled: str) -> bool:
    return spelled == UNKNOWN or (spelled.startswith("<|") and spelled.endswith("|>"))


def _text(spelled: str) -> str:
    return bytes(_BYTE_OF[letter] for letter in spelled if letter in _BYTE_OF).decode("utf-8", errors="replace")
