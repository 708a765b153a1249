from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

REFERENCE = "i UM the PHONE IS i LEFT THE portable PHONE UPSTAIRS last night"
HYPOTHESIS = "i GOT IT TO the FULLEST i LOVE TO portable FORM OF STORES last night"


@pytest.fixture
def files(tmp_path: Path) -> Callable[[str, str], list[object]]:
    def write(ref: str, hyp: str) -> list[object]:
        (tmp_path / "ref.txt").write_text(ref, encoding="utf-8")
        (tmp_path / "hyp.txt").write_text(hyp, encoding="utf-8")
        return ["wer", "--ref", tmp_path / "ref.txt", "--hyp", tmp_path / "hyp.txt"]

    return write


def test_the_textbook_pair(call: Callable[..., Any], files: Callable[..., list[object]]) -> None:
    command = files(REFERENCE, HYPOTHESIS)
    outcome = call(*command)
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.out.splitlines() == [
        "1",
        "REF:  i *** ** UM the PHONE IS      i LEFT THE portable **** PHONE UPSTAIRS last night",
        "HYP:  i GOT IT TO the ***** FULLEST i LOVE TO  portable FORM OF    STORES   last night",
        "Eval:   I   I  S      D     S         S    S            I    S     S",
        "",
        "utterances     1, 100.0 % with an error",
        "word error     76.9 %: 6 substitutions, 3 insertions, 1 deletions, 13 words",
    ]
    (found,) = call(*command, "--json").objects
    assert {key: found[key] for key in ("substitutions", "insertions", "deletions", "num_words")} == {
        "substitutions": 6,
        "insertions": 3,
        "deletions": 1,
        "num_words": 13,
    }
    assert found["wer"] == 10 / 13
    assert found["low"] is None


def test_characters_names_and_normalisers(call: Callable[..., Any], files: Callable[..., list[object]]) -> None:
    command = files("u2 On the 2nd, yes!\nu1 no\n", "u1 no no\n\nu2 on the second yes\n")
    command += ["--format", "kaldi", "--normalise", "english", "--cer", "--per-utterance"]
    outcome = call(*command, "--totals")
    assert outcome.out.splitlines() == [
        "u2  0.0 %: 0 substitutions, 0 insertions, 0 deletions, 4 words",
        "u1  100.0 %: 0 substitutions, 1 insertions, 0 deletions, 1 words",
        "utterances     2, 50.0 % with an error",
        "normalised by  english",
        "word error     20.0 % (95 % between 0.0 % and 100.0 %): 0 substitutions, 1 insertions, 0 deletions, 5 words",
        "character error 15.8 %: 0 substitutions, 3 insertions, 0 deletions, 19 characters",
    ]
    (found,) = call(*command, "--json").objects
    assert (found["cer"], found["num_characters"], found["normalise"]) == (3 / 19, 19, "english")
    assert [each["name"] for each in found["utterances"]] == ["u2", "u1"]
    assert found["utterances"][1]["alignment"] == ["REF:  ** no", "HYP:  NO no", "Eval: I"]


def test_names_in_brackets(call: Callable[..., Any], files: Callable[..., list[object]]) -> None:
    command = files("a b (x-1)\n(x-2)\n", "(x-2)\r\na (b) (x-1)\r\n")
    (found,) = call(*command, "--format", "trn", "--json").objects
    assert (found["substitutions"], found["num_words"], found["num_utterances"]) == (1, 2, 2)


def test_nothing_said_has_a_value(call: Callable[..., Any], files: Callable[..., list[object]]) -> None:
    assert call(*files("\n", "\n"), "--json").objects[0]["wer"] == 0.0
    assert call(*files("", ""), "--json").objects[0]["num_utterances"] == 0
    heard = files("\n", "oh\n")
    assert call(*heard, "--json").objects[0]["wer"] is None
    assert "word error     infinite: 0 substitutions, 1 insertions" in call(*heard).out
    assert call(*files("a b\n", "\n"), "--json").objects[0]["wer"] == 1.0


@pytest.mark.parametrize(
    ("ref", "hyp", "options", "message"),
    [
        ("a\nb\n", "a\n", [], "ref.txt has 2 lines and "),
        ("a\n", "a\n", ["--normalise", "lower"], "there is no normaliser 'lower'; did you mean 'lower-case'?"),
        ("1 a\n2 b\n3 c\n", "1 a\n", ["--format", "kaldi"], "hyp.txt: lacks the utterance '2' and 1 more"),
        ("1 a\n", "1 a\n2 b\n", ["--format", "kaldi"], "ref.txt: lacks the utterance '2'"),
        ("1 a\n1 b\n", "1 a\n", ["--format", "kaldi"], "ref.txt, line 2: the utterance '1' has come before"),
        ("a (1)\nb\n", "a (1)\n", ["--format", "trn"], "ref.txt, line 2: there is no name in brackets"),
    ],
)
def test_what_cannot_be_compared_is_one_line(
    call: Callable[..., Any], files: Callable[..., list[object]], ref: str, hyp: str, options: list[str], message: str
) -> None:
    outcome = call(*files(ref, hyp), *options, "--json")
    assert outcome.code == 1
    (line,) = outcome.err.splitlines()
    assert message in line
    (found,) = outcome.objects
    assert found.keys() == {"input", "error"}


def test_files_that_cannot_be_read(
    call: Callable[..., Any], files: Callable[..., list[object]], tmp_path: Path
) -> None:
    command = files("a\n", "a\n")
    (tmp_path / "hyp.txt").write_bytes(b"a\xff\n")
    assert "hyp.txt: is not text in UTF-8 (byte 1)" in call(*command).err
    (tmp_path / "hyp.txt").unlink()
    assert "hyp.txt: cannot be read: No such file" in call(*command).err
    assert call(*command, "--weights", "equal").code == 2
    assert call(*command, "--format", "json").code == 2
    assert call("wer", "--ref", tmp_path / "ref.txt").code == 2


def test_needs_no_torch(start: Callable[..., Any], files: Callable[..., list[object]], tmp_path: Path) -> None:
    code = "import sys\nfrom auriscope.verbs.wer import wer\nsys.exit('torch' in sys.modules)\n"

    assert subprocess.run([sys.executable, "-c", code], check=False, timeout=60).returncode == 0
    assert start(*files("a b\n", "a c\n"), "--totals").out.splitlines()[1].startswith("word error     50.0 %")
