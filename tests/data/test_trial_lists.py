from __future__ import annotations

from pathlib import Path

import pytest

from auriscope.data.trial_lists import Trial, read_trials, speakers_of, write_scores
from auriscope.errors import CorpusError


def written(folder: Path, text: str, name: str = "list.txt") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("v.txt", "1 a/1.wav a/2.wav\n0 a/1.wav b/1.wav\n\n"),
        ("v.txt", "a/1.wav a/2.wav target\na/1.wav b/1.wav nontarget\n"),
        ("v.csv", "first,second,target\na/1.wav,a/2.wav,1\na/1.wav,b/1.wav,0\n"),
        ("v.csv", "\ufefftarget,second,first,more\n1,a/2.wav,a/1.wav,x\n0,b/1.wav,a/1.wav,y\n"),
    ],
)
def test_the_forms_of_a_list(tmp_path: Path, name: str, text: str) -> None:
    assert read_trials(written(tmp_path, text, name)) == [
        Trial("a/1.wav", "a/2.wav", True),
        Trial("a/1.wav", "b/1.wav", False),
    ]


def test_lists_without_answers(tmp_path: Path) -> None:
    assert read_trials(written(tmp_path, "a b\nc d\n")) == [Trial("a", "b"), Trial("c", "d")]
    assert read_trials(written(tmp_path, "first,second\na x,b\n", "l.csv")) == [Trial("a x", "b")]


@pytest.mark.parametrize(
    ("name", "text", "message"),
    [
        ("l.txt", "", "holds no trials"),
        ("l.txt", "1 a b\nc d\n", "some trials say"),
        ("l.txt", "1 a b\n2 c d\n", "line 2: is no trial"),
        ("l.txt", "a\n", "line 1: is no trial"),
        ("l.csv", "a,b\n1,2\n", "no column 'first'"),
        ("l.csv", "first,second,target\na,b,perhaps\n", "line 2: target 'perhaps'"),
        ("l.csv", "first,second\na,\n", "line 2: lacks a recording"),
    ],
)
def test_what_is_wrong_with_a_list_is_one_line(tmp_path: Path, name: str, text: str, message: str) -> None:
    with pytest.raises(CorpusError, match=message) as error:
        read_trials(written(tmp_path, text, name))
    assert str(error.value).startswith(str(tmp_path / name))
    assert "\n" not in str(error.value)
    with pytest.raises(CorpusError, match="no such trial list"):
        read_trials(tmp_path / "other")


def test_scores_are_written_and_are_a_list_again(tmp_path: Path) -> None:
    trials = [Trial("a", "b", True), Trial("a", "c d", False)]
    write_scores(tmp_path / "s.csv", trials, [0.5, None])
    assert (tmp_path / "s.csv").read_text() == "first,second,target,score\na,b,1,0.500000\na,c d,0,\n"
    assert read_trials(tmp_path / "s.csv") == trials


def test_recordings_that_targets_join_are_of_one_speaker() -> None:
    trials = [Trial(*names) for names in [("a", "b", True), ("c", "d", True), ("a", "c", False), ("b", "e", True)]]
    trials += [Trial("x", "d", False)]
    first, second = speakers_of(trials)
    assert first == [0, 1, 0, 0, 2]
    assert second == [0, 1, 1, 0, 1]
