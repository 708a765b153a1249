"""Pieces of words: learnt from text, or read from SentencePiece's files.

T. Kudo, "Subword Regularization" (arXiv 1804.10959), the unigram model; R. Sennrich et al., "Neural Machine Translation
of Rare Words with Subword Units" (arXiv 1508.07909), byte pair encoding; T. Kudo and J. Richardson, "SentencePiece"
(arXiv 1808.06226).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from importlib import import_module
from pathlib import Path
from typing import Any, Literal

from auriscope.errors import AuriscopeError
from auriscope.text.tokenizer import BLANK, EOS, UNKNOWN, WORD_START, Tokenizer

PieceKind = Literal["pieces", "merges"]
_CONTROL, _UNKNOWN_PIECE, _NORMAL = 3, 2, 1
"""Kinds of SentencePiece's pieces, of sentencepiece_model.proto."""
_UNIGRAM, _BPE = 1, 2


def train_pieces(
    texts: Iterable[str],
    num_tokens: int,
    *,
    kind: PieceKind = "pieces",
    unknown: bool = False,
    longest: int = 16,
) -> Tokenizer:
    """Learn pieces from texts: blank, end of sentence, ``UNKNOWN`` if it is wanted, then the pieces.

    Args:
        texts: sentences, in the letters that the model is to write.
        num_tokens: how many tokens there are to be at most; with little text there are fewer.
        kind: "pieces" is the unigram model, "merges" byte pair encoding; see
            :class:`~auriscope.text.tokenizer.Tokenizer`.
        unknown: whether characters that are not in the texts can be encoded, as ``UNKNOWN``.
        longest: characters of a piece, with what begins a word.

    Returns:
        A tokenizer that writes every text of these characters.

    Raises:
        AuriscopeError: there is no text, or its characters alone are more than ``num_tokens``.
    """
    from tokenizers import Tokenizer as Segmenter
    from tokenizers.models import BPE, Unigram
    from tokenizers.pre_tokenizers import Metaspace
    from tokenizers.trainers import BpeTrainer, UnigramTrainer

    lines = [text for text in (" ".join(text.split()) for text in texts) if text]
    alphabet = sorted({*WORD_START, *"".join(lines)} - {" "})
    special = (BLANK, EOS, UNKNOWN) if unknown else (BLANK, EOS)
    if not lines:
        raise AuriscopeError("pieces need texts to be learnt from, and there are none")
    num_pieces = num_tokens - len(special)
    if num_pieces < len(alphabet):
        raise AuriscopeError(
            f"{num_tokens} tokens are too few for the {len(alphabet)} characters of the texts and {len(special)} others"
        )
    options: dict[str, Any] = {"vocab_size": num_pieces, "initial_alphabet": alphabet, "show_progress": False}
    trainer: Any
    if kind == "merges":
        segmenter, trainer = Segmenter(BPE()), BpeTrainer(max_token_length=longest, **options)
    elif kind == "pieces":
        segmenter, trainer = Segmenter(Unigram()), UnigramTrainer(max_piece_length=longest, **options)
    else:
        raise ValueError(f"kind is {kind!r}; it must be pieces or merges")
    segmenter.pre_tokenizer = Metaspace(replacement=WORD_START, prepend_scheme="always")
    segmenter.train_from_iterator(lines, trainer)
    learnt = json.loads(segmenter.to_str())["model"]
    scored = (
        _scored_merges(learnt, alphabet) if kind == "merges" else [(piece, score) for piece, score in learnt["vocab"]]
    )
    tokens = (*special, *(piece for piece, _ in scored))
    return Tokenizer(tokens, kind, (*(0.0 for _ in special), *(float(score) for _, score in scored)))


def _scored_merges(learnt: dict[str, Any], alphabet: list[str]) -> list[tuple[str, float]]:
    """Every merge's piece by its rank, the characters behind them, as SentencePiece scores them."""
    merged = dict.fromkeys("".join(pair) for pair in learnt["merges"])
    return [(piece, -float(rank)) for rank, piece in enumerate([*merged, *alphabet])]


def read_sentencepiece(
    path: str | Path, *, blank_id: int | None = None, bos_id: int | None = None, eos_id: int | None = None
) -> Tokenizer:
    """Read a ``.model`` file of SentencePiece, unigram or BPE, into a tokenizer that encodes as it does.

    What SentencePiece does to characters before, Unicode's NFKC as a rule, is not done: text must have it already, as
    plain English has. Its other control pieces become ``BLANK``, which is never part of a text.

    Args:
        path: the file.
        blank_id: the number of CTC's blank in the network; by default the file's padding, if it has any.
        bos_id: the number that begins a sentence; by default the file's.
        eos_id: the number that ends it; by default the file's.

    Raises:
        AuriscopeError: the file cannot be read, or is of a kind that is not supported; or the library
            ``sentencepiece`` is missing.
    """
    try:
        proto: Any = import_module("sentencepiece.sentencepiece_model_pb2")
        decode_error: type[Exception] = import_module("google.protobuf.message").DecodeError
    except ImportError as error:
        raise AuriscopeError(
            "SentencePiece's files need the library sentencepiece: pip install 'auriscope[sentencepiece]'"
        ) from error
    path = Path(path)
    model = proto.ModelProto()
    try:
        model.ParseFromString(path.read_bytes())
    except OSError as error:
        raise AuriscopeError(f"{path}: cannot be read: {error.strerror}") from error
    except decode_error as error:
        raise AuriscopeError(f"{path}: is not a model of SentencePiece") from error
    if not model.pieces:
        raise AuriscopeError(f"{path}: is not a model of SentencePiece: it has no pieces")
    _check_supported(model, path)
    trainer = model.trainer_spec
    names = {_UNKNOWN_PIECE: UNKNOWN, _CONTROL: BLANK}
    given = {"blank_id": blank_id, "bos_id": bos_id, "eos_id": eos_id}
    own = {"blank_id": trainer.pad_id, "bos_id": trainer.bos_id, "eos_id": trainer.eos_id}
    ids = {}
    for name, number in given.items():
        # Below zero it has none.
        number = own[name] if number is None else number
        if number >= len(model.pieces):
            raise AuriscopeError(f"{path}: has {len(model.pieces)} pieces, and {name} is {number}")
        ids[name] = number if number >= 0 else None
    return Tokenizer(
        tuple(names.get(piece.type, piece.piece) for piece in model.pieces),
        "merges" if trainer.model_type == _BPE else "pieces",
        tuple(float(piece.score) for piece in model.pieces),
        **ids,
    )


def _check_supported(model: Any, path: Path) -> None:
    trainer, normalizer = model.trainer_spec, model.normalizer_spec
    reason = ""
    if trainer.model_type not in (_UNIGRAM, _BPE):
        reason = "it is neither unigram nor BPE"
    elif trainer.byte_fallback:
        reason = "it writes what it does not know in bytes"
    elif trainer.treat_whitespace_as_suffix or not normalizer.add_dummy_prefix:
        reason = "its words do not begin with a mark"
    elif not normalizer.escape_whitespaces or not normalizer.remove_extra_whitespaces:
        reason = "it keeps white space as it is"
    elif normalizer.name.endswith("_cf"):
        reason = "it changes upper case to lower case"
    elif any(piece.type not in (_CONTROL, _UNKNOWN_PIECE, _NORMAL) for piece in model.pieces):
        reason = "it has pieces that a user defined"
    if reason:
        raise AuriscopeError(f"{path}: this kind of SentencePiece model is not supported: {reason}")
