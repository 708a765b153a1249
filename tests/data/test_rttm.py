from __future__ import annotations

from pathlib import Path

import pytest

from auriscope.data.rttm import read_rttm, read_uem, write_rttm
from auriscope.errors import AudioFileError, CorpusError
from auriscope.signal.turns import SpeakerTurn


def test_what_is_written_is_read_back_to_the_millisecond(tmp_path: Path) -> None:
    recordings = {
        "monday": [SpeakerTurn("talker1", 0.0, 1.2344), SpeakerTurn("talker2", 1.2344, 7201.5)],
        "two words": [SpeakerTurn("Ann Lee", 3.0, 4.0)],
    }
    write_rttm(tmp_path / "all.rttm", recordings)
    found = read_rttm(tmp_path / "all.rttm")
    assert list(found) == ["monday", "two_words"]
    assert found["monday"][1].start_seconds == pytest.approx(found["monday"][0].end_seconds, abs=1e-9)
    assert found["monday"][1].end_seconds == pytest.approx(7201.5, abs=1e-9)
    assert found["two_words"][0].speaker == "Ann_Lee"


def test_pyannote_reads_the_same_turns(tmp_path: Path) -> None:
    load_rttm = pytest.importorskip("pyannote.database.util").load_rttm
    turns = [SpeakerTurn("b", 0.5, 2.25), SpeakerTurn("a", 2.0, 3.125)]
    write_rttm(tmp_path / "x.rttm", {"x": turns})
    tracks = load_rttm(tmp_path / "x.rttm")["x"].itertracks(yield_label=True)
    assert [SpeakerTurn(label, segment.start, segment.end) for segment, _, label in tracks] == turns


def test_comments_and_other_lines_are_passed_over(tmp_path: Path) -> None:
    path = tmp_path / "a.rttm"
    path.write_text(
        ";; made by hand\nSPKR-INFO a 1 <NA> <NA> <NA> unknown x <NA>\n\nSPEAKER a 1 1.5 2 <NA> <NA> x <NA>\n"
    )
    assert read_rttm(path) == {"a": [SpeakerTurn("x", 1.5, 3.5)]}


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("SPEAKER a 1 1.5 2 <NA>", "line 2: a SPEAKER line needs"),
        ("SPEAKER a 1 soon 2 <NA> <NA> x <NA> <NA>", "line 2: 'soon' is not a time"),
        ("SPEAKER a 1 1.0 -2 <NA> <NA> x <NA> <NA>", "line 2: '-2' is not a time"),
        ("SPEAKER a 1 1.0 nan <NA> <NA> x <NA> <NA>", "line 2: 'nan' is not a time"),
    ],
)
def test_a_bad_line_is_named(tmp_path: Path, line: str, message: str) -> None:
    path = tmp_path / "a.rttm"
    path.write_text(f"SPEAKER a 1 0.0 1.0 <NA> <NA> x <NA> <NA>\n{line}\n")
    with pytest.raises(CorpusError, match=message):
        read_rttm(path)


def test_files_that_cannot_be_read_or_written(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match="cannot be read"):
        read_rttm(tmp_path / "missing.rttm")
    (tmp_path / "binary.rttm").write_bytes(b"\xff\xfe\x00\x81")
    with pytest.raises(CorpusError, match="cannot be read"):
        read_rttm(tmp_path / "binary.rttm")
    with pytest.raises(AudioFileError, match="cannot be written"):
        write_rttm(tmp_path / "nowhere" / "a.rttm", {})


def test_uem(tmp_path: Path) -> None:
    path = tmp_path / "a.uem"
    path.write_text("a 1 0.0 10.5\nb NA 3 4\na 1 20 30\n")
    assert read_uem(path) == {"a": [(0.0, 10.5), (20.0, 30.0)], "b": [(3.0, 4.0)]}
    path.write_text("a 1 5 5\n")
    with pytest.raises(CorpusError, match="line 1: the end"):
        read_uem(path)
    path.write_text("a 1 5\n")
    with pytest.raises(CorpusError, match="line 1: a line needs four fields"):
        read_uem(path)
