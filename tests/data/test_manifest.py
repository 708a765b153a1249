from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from auriscope.data import Entry, read_manifest, write_manifest
from auriscope.errors import CorpusError

WORDS = st.text(st.characters(codec="utf-8", exclude_characters="\0\r", exclude_categories=["Cs", "Cc"]), min_size=1)
ENTRIES = st.builds(
    Entry,
    path=st.from_regex(r"[a-z]+/[a-z0-9]+\.wav", fullmatch=True),
    split=st.sampled_from(["train", "valid", "test"]),
    duration_seconds=st.none() | st.floats(0.001, 1e6),
    speaker=st.none() | WORDS,
    sex=st.sampled_from([None, "F", "M"]),
    text=st.none() | WORDS,
    label=st.none() | WORDS,
    more=st.dictionaries(st.sampled_from(["utt_id", "accent"]), WORDS),
)


@settings(deadline=None, max_examples=40)
@given(entries=st.lists(ENTRIES, max_size=5))
def test_what_is_written_is_read_back(entries: list[Entry], tmp_path_factory: pytest.TempPathFactory) -> None:
    path = tmp_path_factory.mktemp("manifest") / "manifest.csv"
    write_manifest(path, entries)
    assert read_manifest(path) == entries


def test_offsets_are_read(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text("path,start,end,sex,split\na.wav,0,4768,m,train\n")
    (entry,) = read_manifest(path)
    assert (entry.start_frame, entry.end_frame, entry.sex) == (0, 4768, "M")


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ("a.wav,1.0,dev,,,", "split 'dev'"),
        ("../a.wav,1.0,test,,,", "stay inside"),
        ("/etc/a.wav,1.0,test,,,", "relative"),
        (",1.0,test,,,", "path ''"),
        ("a.wav,long,test,,,", "duration_s 'long'"),
        ("a.wav,nan,test,,,", "duration_s 'nan'"),
        ("a.wav,-1,test,,,", "above zero"),
        ("a.wav,1.0,test,X,,", "sex 'X'"),
        ("a.wav,1.0,test,,5,5", "end above start"),
        ("a.wav,1.0,test,,5,", "both be given"),
        ("a.wav,1.0,test,,0.5,3", "whole number"),
        ("a.wav,1.0,test", "more or fewer fields"),
        ("a.wav,1.0,test,,,,surplus", "more or fewer fields"),
    ],
)
def test_a_bad_row_is_named(row: str, said: str, tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    path.write_text(f"path,duration_s,split,sex,start,end\ngood.wav,1.0,train,,,\n{row}\n")
    with pytest.raises(CorpusError) as caught:
        read_manifest(path)
    message = str(caught.value)
    assert f"{path}, line 3" in message
    assert said in message
    assert "\n" not in message


def test_missing_columns_and_files_are_one_line(tmp_path: Path) -> None:
    (tmp_path / "manifest.csv").write_text("path,speaker\na.wav,x\n")
    with pytest.raises(CorpusError, match="no column 'split'"):
        read_manifest(tmp_path / "manifest.csv")
    (tmp_path / "latin.csv").write_bytes(b"path,split\n\xff.wav,train\n")
    with pytest.raises(CorpusError, match=r"latin\.csv: cannot be read"):
        read_manifest(tmp_path / "latin.csv")
    with pytest.raises(CorpusError, match="cannot be read"):
        read_manifest(tmp_path / "none.csv")


def test_an_invalid_entry_is_not_written(tmp_path: Path) -> None:
    path = tmp_path / "manifest.csv"
    with pytest.raises(CorpusError, match="split 'dev'"):
        write_manifest(path, [Entry("a.wav", "dev")])
    assert list(tmp_path.iterdir()) == []
