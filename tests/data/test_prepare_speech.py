"""Preparing corpora of transcribed speech: miniature trees, training and measuring on them, and what can be wrong."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
import soundfile

from auriscope.data.prepared import read_prepared
from auriscope.data.prepared_speech import open_speech, read_speech
from auriscope.errors import CorpusError
from auriscope.verbs.prepare import PrepareResult, prepare


def prepared(corpus: str, root: Path, tmp_path: Path, **asked: object) -> PrepareResult:
    return prepare(corpus, root, out=tmp_path / "out", **asked)  # type: ignore[arg-type]


@pytest.fixture
def libri(tmp_path: Path, trees: ModuleType) -> Path:
    root: Path = trees.build_librispeech(tmp_path / "libri")
    return root


@pytest.fixture
def voices(tmp_path: Path, trees: ModuleType) -> Path:
    root: Path = trees.build_commonvoice(tmp_path / "cv" / "en")
    return root


def test_librispeech(libri: Path, tmp_path: Path) -> None:
    result = prepared("librispeech", libri, tmp_path)
    assert {name: (split.num_utterances, split.num_speakers) for name, split in result.splits.items()} == {
        "train": (12, 6), "valid": (4, 2), "test": (4, 2),
    }  # fmt: skip
    assert result.splits["train"].official_utterances == 281_241
    assert len(result.warnings) == 3
    assert "test has 4 utterances and the whole corpus 2620" in result.warnings[2]
    assert (result.sample_rate, result.num_sources) == (16000, 0)
    corpus = read_speech(tmp_path / "out")
    assert corpus.root == libri.resolve()
    first, _, other = corpus.split("test")[:3]
    assert (first.path, first.text, first.speaker, first.sex) == (
        "LibriSpeech/test-clean/40/7/40-7-0000.flac", "IT'S CHAPTER ONE", "40", "F",
    )  # fmt: skip
    assert (other.speaker, other.sex, other.text) == ("41", "M", "IT'S CHAPTER TWO")


def test_librispeech_takes_the_parts_that_are_asked_for(libri: Path, tmp_path: Path) -> None:
    result = prepared("librispeech", libri / "LibriSpeech", tmp_path, train_set="train-100")
    assert result.splits["train"].num_utterances == 4
    assert read_speech(tmp_path / "out").utterances[0].path.startswith("train-clean-100/")
    with pytest.raises(CorpusError, match=r"dev-other: is not there; copy this part, or choose another one"):
        prepared("librispeech", libri, tmp_path, condition="other")
    with pytest.raises(CorpusError, match="librispeech has no --train-set train-1; it has: train-960, train-460"):
        prepared("librispeech", libri, tmp_path, train_set="train-1")


def test_common_voice(voices: Path, tmp_path: Path) -> None:
    result = prepared("commonvoice", voices, tmp_path)
    assert {name: split.num_utterances for name, split in result.splits.items()} == {"train": 3, "valid": 3, "test": 3}
    assert result.warnings == ()
    corpus = read_speech(tmp_path / "out")
    assert [utterance.text for utterance in corpus.split("train")] == [
        "“Well,” she said.",
        'The "old" way',
        "Don't — ever!",
    ]
    assert [utterance.sex for utterance in corpus.split("valid")] == ["F", "M", None]
    assert corpus.split("test")[0].speaker == "test0"


@pytest.mark.parametrize("corpus", ["librispeech", "commonvoice"])
def test_the_utterances_come_with_their_sound(corpus: str, tmp_path: Path, trees: ModuleType) -> None:
    build = trees.build_librispeech if corpus == "librispeech" else trees.build_commonvoice
    prepared(corpus, build(tmp_path / "tree"), tmp_path)
    listed, stores = open_speech(tmp_path / "out", "train", sample_rate=16000)
    assert sum(map(len, stores)) == len(listed)
    sounds = [store.read(clip) for store in stores for clip in range(len(store))]
    for utterance, sound in zip(listed, sounds, strict=True):
        whole, rate = soundfile.read(utterance.path, dtype="float32")
        assert len(sound) == len(whole) * 16000 // rate
        assert np.sqrt(np.mean(sound**2)) == pytest.approx(np.sqrt(np.mean(whole**2)), rel=0.5)
        if rate == 16000:
            np.testing.assert_array_equal(sound, whole)
        assert utterance.speaker.startswith(f"{corpus}:")


def test_what_is_wrong_with_librispeech_is_one_line(libri: Path, tmp_path: Path) -> None:
    chapter = libri / "LibriSpeech/dev-clean/30/7"
    texts = chapter / "30-7.trans.txt"
    said = texts.read_text()
    for damage, line in (
        (said.splitlines()[0] + "\n", r"30-7\.trans\.txt: has no text of 30-7-0001\.flac"),
        (said + "30-7-0002 MORE\n", r"30-7-0002\.flac: is missing; copy or generate the corpus again"),
        (said + "30-7-0002\n", "trans.txt, line 3: is not an utterance's name and its text"),
    ):
        texts.write_text(damage)
        with pytest.raises(CorpusError, match=line) as caught:
            prepared("librispeech", libri, tmp_path)
        assert "\n" not in str(caught.value)
    texts.write_text(said)
    (chapter / "30-7-0000.flac").write_bytes(b"no audio")
    with pytest.raises(CorpusError, match=r"30-7-0000\.flac: cannot be read as audio"):
        prepared("librispeech", libri, tmp_path)
    for path in (libri / "LibriSpeech/test-clean").rglob("*.trans.txt"):
        path.unlink()
    with pytest.raises(CorpusError, match="no utterance for the split test; get the whole corpus"):
        prepared("librispeech", libri, tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["libri"], "nothing half-written stays"


def test_what_is_wrong_with_common_voice_is_one_line(voices: Path, tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"train\.tsv: is not there; give --root the folder of one language"):
        prepared("commonvoice", voices.parent, tmp_path)
    clip = voices / "clips" / "common_voice_en_4.mp3"
    sound = clip.read_bytes()
    clip.unlink()
    with pytest.raises(CorpusError, match=r"common_voice_en_4\.mp3: is missing"):
        prepared("commonvoice", voices, tmp_path)
    clip.write_bytes(sound)
    listed = voices / "dev.tsv"
    said = listed.read_text(encoding="utf-8")
    listed.write_text(said + "someone\tcut.mp3", encoding="utf-8")
    with pytest.raises(CorpusError, match=r"dev\.tsv, line 5: is cut off"):
        prepared("commonvoice", voices, tmp_path)
    listed.write_text(said.replace("sentence\t", "phrase\t"), encoding="utf-8")
    with pytest.raises(CorpusError, match="has no column 'sentence'"):
        prepared("commonvoice", voices, tmp_path)
    listed.write_bytes(b"client_id\tpath\tsentence\n\xff\t\xff\t\xff\n")
    with pytest.raises(CorpusError, match=r"dev\.tsv: cannot be read"):
        prepared("commonvoice", voices, tmp_path)


def test_folders_of_one_kind_do_not_stand_for_the_other(libri: Path, tmp_path: Path, trees: ModuleType) -> None:
    prepared("librispeech", libri, tmp_path)
    with pytest.raises(CorpusError, match="holds transcribed speech, not mixtures"):
        read_prepared(tmp_path / "out")
    prepare("wsj0-2mix", trees.build_wsj0mix(tmp_path / "wsj0"), out=tmp_path / "mixtures")
    with pytest.raises(CorpusError, match="holds mixtures, not transcribed speech"):
        read_speech(tmp_path / "mixtures")
    with pytest.raises(CorpusError, match="split 'dev' must be one of"):
        read_speech(tmp_path / "out").split("dev")
    manifest = tmp_path / "out" / "manifest.csv"
    manifest.write_text(manifest.read_text().replace(",16000\n", ",much\n", 1))
    with pytest.raises(CorpusError, match="line 2: lacks or has a wrong"):
        read_speech(tmp_path / "out")
