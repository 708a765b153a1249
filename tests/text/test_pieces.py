from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import sentencepiece
from sentencepiece import sentencepiece_model_pb2 as proto

from auriscope.errors import AuriscopeError
from auriscope.text.pieces import PieceKind, read_sentencepiece, train_pieces
from auriscope.text.tokenizer import BLANK, EOS, UNKNOWN, WORD_START, Tokenizer

STEMS = [
    *("WATER", "LIGHT", "HOUSE", "RIVER", "UNDER", "STONE", "MORN"),
    *("EVEN", "HEART", "WIND", "SAIL", "HARBOUR", "LISTEN", "SPEAK"),
]
ENDINGS = ["", "S", "ED", "ING", "LESS", "NESS", "'S", "FUL", "LY"]


def sentences(number: int, seed: int = 0) -> list[str]:
    """Words of stems and endings, so that there is something to be found in them."""
    draw = random.Random(seed)
    return [
        " ".join(draw.choice(STEMS) + draw.choice(ENDINGS) for _ in range(draw.randint(1, 9))) for _ in range(number)
    ]


@pytest.mark.parametrize("kind", ["pieces", "merges"])
def test_learnt_pieces_write_every_text_in_fewer_tokens(kind: PieceKind) -> None:
    texts = sentences(500)
    tokenizer = train_pieces(texts, 100, kind=kind)
    assert tokenizer.tokens[:2] == (BLANK, EOS)
    assert 50 <= len(tokenizer) <= 100
    assert len(set(tokenizer.tokens)) == len(tokenizer.scores) == len(tokenizer)
    assert all(len(token) <= 16 for token in tokenizer.tokens[2:])
    for text in [*sentences(50, seed=1), "A LONE", "WATER  'S ", ""]:
        numbers = tokenizer.encode(text)
        assert tokenizer.decode(numbers) == " ".join(text.split())
        assert not set(numbers) & tokenizer.special_ids
    characters = sum(map(len, sentences(50, seed=1)))
    assert sum(len(tokenizer.encode(text)) for text in sentences(50, seed=1)) < characters / 3
    # The stems are among what was found.
    assert len({WORD_START + stem for stem in STEMS} & set(tokenizer.tokens)) >= 10
    with pytest.raises(AuriscopeError, match="the piece 'É' is none of the model's"):
        tokenizer.encode("É")


@pytest.mark.parametrize("kind", ["pieces", "merges"])
def test_what_cannot_be_written_is_unknown_once(kind: PieceKind) -> None:
    tokenizer = train_pieces(sentences(200), 80, kind=kind, unknown=True)
    assert tokenizer.unknown_id == 2
    numbers = tokenizer.encode("WATER ÉÉÉ WINDÉ")
    assert numbers.count(2) == 2
    assert tokenizer.decode(numbers) == "WATER WIND"


def test_merges_join_the_best_neighbours_first_and_the_leftmost_of_equals() -> None:
    pieces = (BLANK, EOS, "AB", "BC", "AA", "ABC", WORD_START, "A", "B", "C")
    tokenizer = Tokenizer(pieces, "merges", (0.0, 0.0, -2.0, -1.0, -3.0, -4.0, -5.0, -6.0, -7.0, -8.0))
    assert tokenizer.has_pieces

    def cut(text: str) -> list[str]:
        return [tokenizer.tokens[number] for number in tokenizer.encode(text)]

    # BC is joined before AB could be; then A and BC give ABC.
    assert cut("ABC") == [WORD_START, "ABC"]
    assert cut("AAA B") == [WORD_START, "AA", "A", WORD_START, "B"]
    assert cut("BAB") == [WORD_START, "B", "AB"]


def test_pieces_that_cannot_be_learnt() -> None:
    with pytest.raises(AuriscopeError, match="there are none"):
        train_pieces(["", "  "], 100)
    with pytest.raises(AuriscopeError, match="5 tokens are too few for the 4 characters of the texts and 2 others"):
        train_pieces(["AB C"], 5)


@pytest.fixture(scope="module")
def model_file(tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    def make(name: str, **options: Any) -> Path:
        path = tmp_path_factory.mktemp("pieces") / name
        sentencepiece.SentencePieceTrainer.train(
            sentence_iterator=iter(sentences(400)),
            model_prefix=str(path),
            **{"vocab_size": 90, "minloglevel": 2, "num_threads": 1, **options},
        )
        return path.with_name(f"{name}.model")

    return make


@pytest.mark.parametrize(
    "options",
    [
        {"model_type": "unigram"},
        {"model_type": "bpe"},
        {"model_type": "bpe", "split_by_whitespace": False, "vocab_size": 200},
        {"model_type": "unigram", "pad_id": 0, "unk_id": 1, "bos_id": -1, "eos_id": 2},
        {"model_type": "unigram", "normalization_rule_name": "identity"},
    ],
    ids=["unigram", "bpe", "bpe across words", "other ends", "identity"],
)
def test_sentencepieces_models_encode_as_they_do_there(
    model_file: Callable[..., Path], options: dict[str, Any]
) -> None:
    path = model_file("model", **options)
    theirs = sentencepiece.SentencePieceProcessor(model_file=str(path))
    tokenizer = read_sentencepiece(path)
    draw = random.Random(5)
    noise = ["".join(draw.choices("ABCDEILNRSTWÉ9' ", k=draw.randint(0, 60))) for _ in range(300)]
    for text in [*sentences(300, seed=2), *noise, "<s> </s> <unk>", "ÉÉ", " WATER   WIND ", "", "WATERWINDWATER"]:
        assert tokenizer.encode(text) == theirs.encode(text), text
    for text in sentences(20, seed=3):
        assert tokenizer.decode(theirs.encode(text)) == theirs.decode(theirs.encode(text)) == text
    assert len(tokenizer) == theirs.vocab_size()
    for own, number in (
        (tokenizer.blank_id, theirs.pad_id()),
        (tokenizer.bos_id, theirs.bos_id()),
        (tokenizer.eos_id, theirs.eos_id()),
        (tokenizer.unknown_id, theirs.unk_id()),
    ):
        assert own == (number if number >= 0 else None)
    assert tokenizer.tokens[theirs.unk_id()] == UNKNOWN


def test_the_numbers_of_a_network_go_before_those_of_the_file(model_file: Callable[..., Path]) -> None:
    path = model_file("ends")
    tokenizer = read_sentencepiece(path, blank_id=0, bos_id=0, eos_id=0)
    assert (tokenizer.blank_id, tokenizer.bos_id, tokenizer.eos_id) == (0, 0, 0)
    assert tokenizer.decode([0, *tokenizer.encode("WATER"), 2, 1, 0]) == "WATER"
    with pytest.raises(AuriscopeError, match="has 90 pieces, and blank_id is 90"):
        read_sentencepiece(path, blank_id=90)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"model_type": "char"}, "neither unigram nor BPE"),
        ({"model_type": "bpe", "byte_fallback": True, "vocab_size": 340}, "in bytes"),
        ({"add_dummy_prefix": False}, "do not begin with a mark"),
        ({"remove_extra_whitespaces": False}, "keeps white space"),
        ({"normalization_rule_name": "nmt_nfkc_cf"}, "upper case to lower case"),
        ({"user_defined_symbols": "<noise>"}, "that a user defined"),
    ],
)
def test_models_that_would_encode_otherwise_are_refused(
    model_file: Callable[..., Path], options: dict[str, Any], reason: str
) -> None:
    if options.get("model_type") == "char":
        options = {**options, "vocab_size": 20, "hard_vocab_limit": False}
    with pytest.raises(AuriscopeError, match=f"other.model: this kind .* is not supported: .*{reason}"):
        read_sentencepiece(model_file("other", **options))


def test_files_that_are_no_models(tmp_path: Path) -> None:
    with pytest.raises(AuriscopeError, match=r"none.model: cannot be read: No such file"):
        read_sentencepiece(tmp_path / "none.model")
    (tmp_path / "broken.model").write_bytes(b"not a model at all")
    with pytest.raises(AuriscopeError, match=r"broken.model: is not a model of SentencePiece"):
        read_sentencepiece(tmp_path / "broken.model")
    (tmp_path / "empty.model").write_bytes(proto.ModelProto().SerializeToString())
    with pytest.raises(AuriscopeError, match=r"empty.model: is not a model of SentencePiece: it has no pieces"):
        read_sentencepiece(tmp_path / "empty.model")
