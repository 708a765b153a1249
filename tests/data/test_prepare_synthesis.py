"""Preparing the corpora that voices are taught with, from miniatures of them."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import pytest
import soundfile

from auriscope.data.prepared_speech import open_speech, read_speech
from auriscope.errors import CorpusError
from auriscope.verbs.prepare import prepare


@pytest.fixture
def ljspeech(tmp_path: Path, trees: ModuleType) -> Path:
    root = tmp_path / "lj"
    (root / "LJSpeech-1.1" / "wavs").mkdir(parents=True)
    rows = []
    for chapter in ("LJ001", "LJ049", "LJ050"):
        for number in (1, 2):
            name = f"{chapter}-{number:04d}"
            soundfile.write(root / f"LJSpeech-1.1/wavs/{name}.wav", trees.voice(number, 6000), 22050)
            rows.append(f'{name}|In {number} "year"|In one "year"')
    (root / "LJSpeech-1.1" / "metadata.csv").write_text("\n".join(rows) + "\n", encoding="utf-8")
    return root


@pytest.fixture
def libritts(tmp_path: Path, trees: ModuleType) -> Path:
    root = tmp_path / "tts"
    for place, part in enumerate(("train-clean-100", "train-clean-360", "dev-clean", "test-clean")):
        folder = root / "LibriTTS" / part / f"{place + 14}" / "208"
        folder.mkdir(parents=True)
        for number in range(2):
            name = f"{place + 14}_208_000001_00000{number}"
            soundfile.write(folder / f"{name}.wav", trees.voice(number, 6000), 24000)
            (folder / f"{name}.normalized.txt").write_text(f"Mister Smith, number {number}.\n")
            (folder / f"{name}.original.txt").write_text(f"Mr. Smith, no. {number}.\n")
    (root / "LibriTTS" / "speakers.tsv").write_text("READER\tGENDER\tSUBSET\tNAME\n14\tF\ttrain\tA\n17\tM\ttest\tB\n")
    return root


@pytest.fixture
def vctk(tmp_path: Path, trees: ModuleType) -> Path:
    root = tmp_path / "vctk"
    for speaker in ("p225", "p226", "p228", "p315"):
        sounds, texts = root / "wav48_silence_trimmed" / speaker, root / "txt" / speaker
        sounds.mkdir(parents=True)
        for number in (1, 2):
            for microphone in (1, 2):
                path = sounds / f"{speaker}_00{number}_mic{microphone}.flac"
                soundfile.write(path, trees.voice(number, 6000), 48000)
            if speaker != "p315":
                texts.mkdir(parents=True, exist_ok=True)
                (texts / f"{speaker}_00{number}.txt").write_text("Please call Stella. \n")
    (root / "speaker-info.txt").write_text(
        "ID  AGE  GENDER  ACCENTS  REGION COMMENTS\np225  23  F  English  Southern  England\n226  22  M  English\n"
    )
    return root


def test_ljspeech(ljspeech: Path, tmp_path: Path) -> None:
    result = prepare("ljspeech", ljspeech, out=tmp_path / "out")
    assert {name: split.num_speakers for name, split in result.splits.items()} == {"train": 1, "valid": 1, "test": 1}
    assert (result.sample_rate, result.warnings) == (22_050, ())
    corpus = read_speech(tmp_path / "out")
    (first, _) = corpus.split("test")
    assert (first.path, first.text, first.speaker, first.sex) == (
        "LJSpeech-1.1/wavs/LJ050-0001.wav", 'In one "year"', "lj", "F",
    )  # fmt: skip
    assert prepare("ljspeech", ljspeech / "LJSpeech-1.1", out=tmp_path / "inside").splits == result.splits
    listed, stores = open_speech(tmp_path / "out", "train", sample_rate=16_000)
    assert len(stores[0].read(0)) == 6000 * 16_000 // 22_050
    assert listed[0].speaker == "ljspeech:lj"


def test_libritts(libritts: Path, tmp_path: Path) -> None:
    result = prepare("libritts", libritts, out=tmp_path / "out")
    assert {name: split.num_utterances for name, split in result.splits.items()} == {"train": 4, "valid": 2, "test": 2}
    assert result.splits["train"].official_utterances == 33_236 + 116_500
    corpus = read_speech(tmp_path / "out")
    first = corpus.split("train")[0]
    assert (first.text, first.speaker, first.sex) == ("Mister Smith, number 0.", "14", "F")
    assert corpus.split("valid")[0].sex is None
    small = prepare("libritts", libritts, out=tmp_path / "a", train_set="train-100")
    assert small.splits["train"].num_utterances == 2
    with pytest.raises(CorpusError, match=r"train-other-500: is not there; copy this part, or choose another one"):
        prepare("libritts", libritts, out=tmp_path / "b", train_set="train-960")


def test_vctk(vctk: Path, tmp_path: Path) -> None:
    result = prepare("vctk", vctk, out=tmp_path / "out")
    assert {name: split.num_utterances for name, split in result.splits.items()} == {"train": 2, "valid": 2, "test": 2}
    corpus = read_speech(tmp_path / "out")
    assert {(each.speaker, each.sex, each.split) for each in corpus.utterances} == {
        ("p225", "F", "test"), ("p226", "M", "train"), ("p228", None, "valid"),
    }  # fmt: skip
    assert corpus.utterances[0].text == "Please call Stella."
    assert all("mic1" in each.path for each in corpus.utterances)


def test_what_is_wrong_is_one_line(ljspeech: Path, libritts: Path, vctk: Path, tmp_path: Path) -> None:
    listed = ljspeech / "LJSpeech-1.1" / "metadata.csv"
    lines = listed.read_text().splitlines()
    listed.write_text("\n".join([*lines, "LJ001-0003|cut off"]))
    with pytest.raises(CorpusError, match=r"metadata\.csv, line 7: is not a name and two texts"):
        prepare("ljspeech", ljspeech, out=tmp_path / "out")
    listed.write_text("\n".join([*lines, "LJ001-0003|not|there"]))
    with pytest.raises(CorpusError, match=r"LJ001-0003\.wav: is missing"):
        prepare("ljspeech", ljspeech, out=tmp_path / "out")
    with pytest.raises(CorpusError, match=r"metadata\.csv: is not there; give --root the folder of LJSpeech-1\.1"):
        prepare("ljspeech", vctk, out=tmp_path / "out")
    text = libritts / "LibriTTS/dev-clean/16/208/16_208_000001_000000.normalized.txt"
    text.write_text(" ")
    with pytest.raises(CorpusError, match=r"normalized\.txt: is empty; copy it again"):
        prepare("libritts", libritts, out=tmp_path / "out")
    text.unlink()
    with pytest.raises(CorpusError, match=r"normalized\.txt: is not there, but 16_208_000001_000000\.wav is"):
        prepare("libritts", libritts, out=tmp_path / "out")
    with pytest.raises(CorpusError, match="has no txt and wav48_silence_trimmed; give --root the folder of VCTK"):
        prepare("vctk", ljspeech, out=tmp_path / "out")
    assert not (tmp_path / "out").exists()
