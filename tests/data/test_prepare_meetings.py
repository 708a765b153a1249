"""Preparing corpora of meetings: a miniature of AMI as it lies on disk, and what can be wrong with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import soundfile
from typer.testing import CliRunner

from auriscope.cli import app
from auriscope.data.prepared import read_prepared
from auriscope.data.prepared_meetings import read_meetings
from auriscope.data.rttm import read_rttm
from auriscope.errors import CorpusError
from auriscope.signal.turns import SpeakerTurn
from auriscope.verbs.prepare import prepare

WORDS = """<?xml version="1.0" encoding="ISO-8859-1" standalone="yes"?>
<nite:root nite:id="{name}.words" xmlns:nite="http://nite.sourceforge.net/">
   <vocalsound nite:id="{name}.0" starttime="0.1" endtime="0.4" type="laugh"/>
   <w nite:id="{name}.1" starttime="{start}" endtime="0.9">Well</w>
   <w nite:id="{name}.2" starttime="0.9" endtime="0.9" punc="true">,</w>
   <w nite:id="{name}.3" starttime="0.9" endtime="1.2">caf\xe9</w>
   <w nite:id="{name}.4" starttime="1.5" endtime="1.75">then</w>
   <w nite:id="{name}.5">lost</w>
</nite:root>
"""


@pytest.fixture
def build(tmp_path: Path) -> Callable[..., Path]:
    def make(*, annotations: str = "ami_public_manual_1.6.2", base: str = "amicorpus") -> Path:
        root = tmp_path / "ami"
        (root / annotations / "words").mkdir(parents=True)
        (root / annotations / "corpusResources").mkdir()
        lines = []
        for number, meeting in enumerate(("ES2002a", "ES2011c", "IB4002", "EN2002d")):
            audio = root / base / meeting / "audio"
            audio.mkdir(parents=True)
            for recording in ("Mix-Headset", "Array1-01"):
                waveform = 0.1 * np.random.default_rng(number).standard_normal(32_000 + number)
                soundfile.write(audio / f"{meeting}.{recording}.wav", waveform, 16_000)
            people = "".join(
                f'<speaker nite:id="s{letter}" channel="0" nxt_agent="{letter}" global_name="FEE00{number}{letter}"/>'
                for letter in "AB"
            )
            lines.append(f'<meeting nite:id="m{number}" observation="{meeting}">{people}</meeting>')
            for place, letter in enumerate("AB"):
                text = WORDS.format(name=f"{meeting}.{letter}", start=0.5 + 0.1 * place)
                path = root / annotations / "words" / f"{meeting}.{letter}.words.xml"
                path.write_bytes(text.encode("latin-1"))
        (root / annotations / "corpusResources" / "meetings.xml").write_text(
            f'<root xmlns:nite="http://nite.sourceforge.net/">{"".join(lines)}</root>'
        )
        return root

    return make


@pytest.mark.parametrize(("annotations", "base"), [("ami_public_manual_1.6.2", "amicorpus"), ("annotations", "")])
def test_ami(build: Callable[..., Path], tmp_path: Path, annotations: str, base: str) -> None:
    root = build(annotations=annotations, base=base)
    result = prepare("ami", root, out=tmp_path / "out")
    assert {name: split.num_meetings for name, split in result.splits.items()} == {"train": 1, "valid": 2, "test": 1}
    assert result.splits["valid"].num_speakers == 4
    assert "test has 1 meetings and the whole corpus 16" in result.warnings[2]
    corpus = read_meetings(tmp_path / "out")
    (meeting,) = corpus.split("test")
    assert (meeting.name, meeting.num_frames, meeting.sample_rate) == ("EN2002d", 32_003, 16_000)
    assert (corpus.root / meeting.path).is_file()
    assert meeting.path.endswith("EN2002d.Mix-Headset.wav")
    # Laughter and words without times are no speech; words without a gap are one turn.
    assert meeting.turns == (
        SpeakerTurn("FEE003A", 0.5, 1.2),
        SpeakerTurn("FEE003B", 0.6, 1.2),
        SpeakerTurn("FEE003A", 1.5, 1.75),
        SpeakerTurn("FEE003B", 1.5, 1.75),
    )
    assert set(read_rttm(tmp_path / "out" / "turns.rttm")) == {"ES2002a", "ES2011c", "IB4002", "EN2002d"}
    with pytest.raises(CorpusError, match="holds meetings, not"):
        read_prepared(tmp_path / "out")


def test_other_recordings_of_the_same_meetings(build: Callable[..., Path], tmp_path: Path) -> None:
    prepare("ami", build(), out=tmp_path / "out", condition="array")
    assert read_meetings(tmp_path / "out").split("train")[0].path.endswith("ES2002a.Array1-01.wav")
    with pytest.raises(CorpusError, match="it has: headsets, array"):
        prepare("ami", tmp_path, condition="lapel")


def test_the_command_line(build: Callable[..., Path], tmp_path: Path) -> None:
    arguments = ["prepare", "ami", "--root", str(build()), "--out", str(tmp_path / "out")]
    told = CliRunner().invoke(app, arguments)
    assert told.exit_code == 0
    assert "1 meetings" in told.stdout
    found = json.loads(CliRunner().invoke(app, [*arguments, "--json"]).stdout)
    assert found["splits"]["test"]["num_meetings"] == 1


def test_what_is_missing_or_damaged_is_named(build: Callable[..., Path], tmp_path: Path) -> None:
    root = build()
    words = root / "ami_public_manual_1.6.2" / "words"
    path = words / "IB4002.A.words.xml"
    text = path.read_bytes()
    path.write_bytes(text[:100])
    with pytest.raises(CorpusError, match=r"IB4002\.A\.words\.xml: cannot be read as XML"):
        prepare("ami", root, out=tmp_path / "out")
    path.write_bytes(text.replace(b'"1.5"', b'"soon"'))
    with pytest.raises(CorpusError, match=r"the times of IB4002\.A\.4 are no numbers"):
        prepare("ami", root, out=tmp_path / "out")
    path.unlink()
    (words / "IB4002.B.words.xml").unlink()
    with pytest.raises(CorpusError, match=r"IB4002\.A\.words\.xml: is missing"):
        prepare("ami", root, out=tmp_path / "out")
    with pytest.raises(CorpusError, match="unpack the manual annotations of AMI"):
        prepare("ami", root / "amicorpus", out=tmp_path / "out")
    with pytest.raises(CorpusError, match="is not a folder"):
        prepare("ami", tmp_path / "nowhere", out=tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_a_corpus_without_recordings_or_a_split(build: Callable[..., Path], tmp_path: Path) -> None:
    root = build()
    for path in root.glob("amicorpus/*/audio/*Array*"):
        path.unlink()
    with pytest.raises(CorpusError, match=r"or choose other recordings \(--condition\)"):
        prepare("ami", root, out=tmp_path / "out", condition="array")
    (root / "amicorpus/EN2002d/audio/EN2002d.Mix-Headset.wav").unlink()
    with pytest.raises(CorpusError, match="no meeting for the split test"):
        prepare("ami", root, out=tmp_path / "out")
