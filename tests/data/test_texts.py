from __future__ import annotations

import gzip
import os
from pathlib import Path

import pytest

from auriscope.data.texts import TextBatches, TextConfig, fixed_batches, is_valid, read_lines, split_texts
from auriscope.errors import CorpusError, RecipeError


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """Forty chapters of five lines, of 1 to 40 words."""
    lines = [
        f"{100 + chapter}-{chapter}-{line:04d}\t{' '.join(['WORD'] * (1 + (7 * chapter + line) % 40))}"
        for chapter in range(40)
        for line in range(5)
    ]
    (tmp_path / "texts.tsv.gz").write_bytes(gzip.compress("\n".join(lines).encode()))
    return tmp_path


CONFIG = TextConfig(files=("texts.tsv.gz",), valid_share=0.2, batch_characters=600, max_characters=250)


def test_lines_are_read_in_the_letters_of_the_models(tmp_path: Path) -> None:
    (tmp_path / "named.tsv").write_text("a-1-0\tIt's late.\n\na-1-1\t—\na-2-0\tGood-bye!\n")
    (tmp_path / "plain.txt").write_text("one - two\nthree\n")
    assert read_lines("named.tsv", tmp_path) == [("a-1", "IT'S LATE"), ("a-2", "GOOD BYE")]
    assert read_lines(tmp_path / "plain.txt") == [("one - two", "ONE TWO"), ("three", "THREE")]


def test_what_cannot_be_read_is_said_in_a_line(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"missing\.txt: there is no such text"):
        read_lines("missing.txt", tmp_path)
    (tmp_path / "broken.gz").write_bytes(b"no gzip")
    with pytest.raises(CorpusError, match=r"broken\.gz: the text cannot be read"):
        read_lines("broken.gz", tmp_path)
    (tmp_path / "cut.gz").write_bytes(gzip.compress(b"text" * 100)[:-9])
    with pytest.raises(CorpusError, match=r"cut\.gz: the text cannot be read"):
        read_lines("cut.gz", tmp_path)
    (tmp_path / "latin.txt").write_bytes("größer".encode("latin-1"))
    with pytest.raises(CorpusError, match=r"latin\.txt: the text cannot be read"):
        read_lines("latin.txt", tmp_path)
    (tmp_path / "tabless.tsv").write_text("a-1-0 no tab\n")
    with pytest.raises(CorpusError, match=r"tabless\.tsv, line 1: there is no tab"):
        read_lines("tabless.tsv", tmp_path)


def test_whole_chapters_are_held_out(root: Path) -> None:
    held_out = {f"{100 + chapter}-{chapter}" for chapter in range(40) if is_valid(f"{100 + chapter}-{chapter}", 0.2)}
    assert 2 <= len(held_out) <= 16
    lines = [line for line in read_lines("texts.tsv.gz", root) if len(line[1]) <= 250]
    valid, train = split_texts(CONFIG, "valid", root), split_texts(CONFIG, "train", root)
    assert valid == [text for chapter, text in lines if chapter in held_out]
    assert train == [text for chapter, text in lines if chapter not in held_out]
    with pytest.raises(ValueError, match="train and valid"):
        split_texts(CONFIG, "test", root)


def test_an_epoch_has_every_text_once_in_batches_that_fit(root: Path) -> None:
    batches = TextBatches(CONFIG, seed=3, root=root)
    seen: list[str] = []
    index = 0
    while len(seen) < len(batches.texts):
        texts = batches.batch(index)["text"]
        assert len(texts) * (max(map(len, texts)) + 1) <= 600
        seen += texts
        index += 1
    assert sorted(seen) == sorted(batches.texts)
    assert batches.num_characters == sum(len(text) + 1 for text in batches.texts)
    # Entered anywhere, in another process, the batches are the same; another seed's are not.
    again = TextBatches(CONFIG, seed=3, root=root)
    assert again.batch(index + 2) == batches.batch(index + 2)
    other = TextBatches(CONFIG, seed=4, root=root)
    assert [other.batch(i) for i in range(4)] != [batches.batch(i) for i in range(4)]


def test_fixed_batches_hold_all_texts_once() -> None:
    texts = ["A" * (1 + 7 * n % 30) for n in range(50)]
    batches = fixed_batches(texts, 100)
    assert sorted(text for batch in batches for text in batch["text"]) == sorted(texts)
    assert all(len(batch["text"]) * (len(batch["text"][-1]) + 1) <= 100 for batch in batches)


def test_configurations_that_make_no_sense_are_refused(root: Path) -> None:
    with pytest.raises(RecipeError, match="valid_share"):
        TextConfig(valid_share=0.0)
    with pytest.raises(RecipeError, match="max_characters < batch_characters"):
        TextConfig(max_characters=9000)
    with pytest.raises(CorpusError, match=r"texts\.tsv\.gz: no text of the split train fits"):
        split_texts(TextConfig(files=("texts.tsv.gz",), max_characters=3), "train", root)


@pytest.mark.corpora
@pytest.mark.skipif(not os.environ.get("AURISCOPE_CORPORA"), reason="needs AURISCOPE_CORPORA")
def test_the_corpus_of_text_and_transcripts_of_speech() -> None:
    texts = split_texts(TextConfig(), "train")
    assert sum(len(text.split()) for text in texts) > 650_000
    with_speech = split_texts(TextConfig(corpora=("libri_251spk",)), "train")
    assert with_speech[: len(texts)] == texts
    assert len(with_speech) > len(texts) + 50
    assert len(split_texts(TextConfig(corpora=("libri_251spk",)), "valid")) == len(split_texts(TextConfig(), "valid"))
