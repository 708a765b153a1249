"""Preparing corpora of voices without texts: miniature trees of each layout, and what can be wrong."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import soundfile

from auriscope.data.prepared_speech import open_speech, read_speech
from auriscope.errors import CorpusError
from auriscope.verbs.prepare import prepare


def sound(path: Path, seed: int = 0) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(seed).standard_normal(1600 + seed), 16_000)


def voxceleb1(root: Path, dev: str = "vox1_dev_wav/wav", test: str = "vox1_test_wav/wav") -> Path:
    for speaker in ("id10001", "id10050", "id10100", "id11251"):
        for video in ("aaaa", "bbbb"):
            sound(root / dev / speaker / video / "00001.wav", int(speaker[2:]) % 7)
    for speaker in ("id10270", "id10300", "id10309"):
        sound(root / test / speaker / "cccc" / "00002.wav")
    return root


@pytest.mark.parametrize("places", [("vox1_dev_wav/wav", "vox1_test_wav/wav"), ("wav", "wav"), ("dev/wav", "test/wav")])
def test_voxceleb1(tmp_path: Path, places: tuple[str, str]) -> None:
    root = voxceleb1(tmp_path / "vox", *places)
    (root / "vox1_meta.csv").write_text("VoxCeleb1 ID\tVGGFace1 ID\tGender\nid10001\tA.J._Buckley\tm\nid10270\tX\tf\n")
    result = prepare("voxceleb1", root, out=tmp_path / "out")
    assert {name: split.num_speakers for name, split in result.splits.items()} == {"train": 2, "valid": 2, "test": 3}
    assert result.warnings == (
        "test has 3 utterances and the whole corpus 4874: figures are not those of the literature",
    )
    corpus = read_speech(tmp_path / "out")
    assert {each.speaker for each in corpus.split("valid")} == {"id10050", "id10100"}
    first = corpus.split("train")[0]
    assert (first.path, first.speaker, first.sex, first.text) == (
        f"{places[0]}/id10001/aaaa/00001.wav", "id10001", "M", "",
    )  # fmt: skip
    assert corpus.split("test")[0].sex == "F"
    listed, (store,) = open_speech(tmp_path / "out", "train", sample_rate=16_000)
    assert listed[0].speaker == "voxceleb1:id10001"
    assert len(store.read(0)) == store.num_frames(0) == 1600 + 10_001 % 7


def test_voxceleb2_has_to_be_converted(tmp_path: Path) -> None:
    root = tmp_path / "vox2"
    for part, speaker in (("dev", "id00012"), ("dev", "id00050"), ("test", "id00017")):
        folder = root / part / "aac" / speaker / "video"
        folder.mkdir(parents=True)
        (folder / "00001.m4a").write_bytes(b"no sound that is read here")
    with pytest.raises(CorpusError, match=r"00001\.m4a: is M4A, which is not read here; convert the corpus"):
        prepare("voxceleb2", root, out=tmp_path / "out")
    for path in [*root.rglob("*.m4a")]:
        sound(path.with_suffix(".flac"))
    result = prepare("voxceleb2", root, out=tmp_path / "out")
    assert {name: split.num_utterances for name, split in result.splits.items()} == {"train": 1, "valid": 1, "test": 1}
    assert all(each.path.endswith(".flac") for each in read_speech(tmp_path / "out").utterances)


def test_what_is_wrong_with_voxceleb_is_one_line(tmp_path: Path) -> None:
    root = voxceleb1(tmp_path / "vox")
    (root / "vox1_test_wav").rename(root / "elsewhere")
    with pytest.raises(CorpusError, match=r"vox1_test_wav/wav: is not there; give --root the folder of both"):
        prepare("voxceleb1", root, out=tmp_path / "out")
    (root / "elsewhere").rename(root / "vox1_test_wav")
    sound(root / "vox1_dev_wav/wav/idol/v/1.wav")
    with pytest.raises(CorpusError, match="idol: is not named after a speaker"):
        prepare("voxceleb1", root, out=tmp_path / "out")


def cryceleb(root: Path) -> Path:
    lines = ["baby_id,period,duration,split,chronological_index,file_name,file_id"]
    for number, (baby, split) in enumerate([("007", "train"), ("021", "dev"), ("042", "test"), ("043", "test")]):
        for period in ("D", "B"):
            for index in (10, 2):
                name = f"audio/{split}/{baby}/{period}/{baby}_{period}_{index:03d}.wav"
                sound(root / name, number)
                lines.append(f"{baby},{period},0.1,{split},{index},{name},{baby}{period}{index}")
    (root / "metadata.csv").write_text("\n".join(lines) + "\n")
    return root


def test_cryceleb(tmp_path: Path) -> None:
    result = prepare("cryceleb", cryceleb(tmp_path / "cry"), out=tmp_path / "out")
    assert {name: split.num_speakers for name, split in result.splits.items()} == {"train": 1, "valid": 1, "test": 2}
    cries = read_speech(tmp_path / "out").split("train")
    assert [(cry.period, Path(cry.path).stem) for cry in cries] == [
        ("B", "007_B_002"),
        ("B", "007_B_010"),
        ("D", "007_D_002"),
        ("D", "007_D_010"),
    ]


def test_what_is_wrong_with_cryceleb_is_one_line(tmp_path: Path) -> None:
    root = cryceleb(tmp_path / "cry")
    listed = root / "metadata.csv"
    said = listed.read_text()
    for damage, line in [
        (said.replace("period,", "time,", 1), "has no column 'period'"),
        (said.replace(",D,", ",X,", 1), "line 2: is no cry of a baby"),
        (said.replace(",dev,10", ",dev,ten", 1), "cannot be read"),
    ]:
        listed.write_text(damage)
        with pytest.raises(CorpusError, match=line):
            prepare("cryceleb", root, out=tmp_path / "out")
    listed.unlink()
    with pytest.raises(CorpusError, match=r"metadata\.csv: is not there"):
        prepare("cryceleb", root, out=tmp_path / "out")
