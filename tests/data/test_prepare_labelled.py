"""Preparing corpora of labelled sounds and images: miniature trees of each layout, and what can be wrong."""

from __future__ import annotations

import gzip
import struct
from pathlib import Path

import numpy as np
import pytest
import soundfile

from auriscope.data.images import ImageSet
from auriscope.data.labelled import LabelledSet
from auriscope.data.prepare import audiomnist
from auriscope.data.prepared_labelled import read_labelled
from auriscope.errors import CorpusError
from auriscope.verbs.prepare import prepare

SPLITS = ("train", "valid", "test")


def sound(path: Path, num_frames: int = 800, rate: int = 16_000) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    soundfile.write(path, 0.1 * np.random.default_rng(num_frames).standard_normal(num_frames), rate)


def esc50(root: Path) -> Path:
    lines = ["filename,fold,target,category,esc10,src_file,take"]
    for fold in range(1, 6):
        for target, category, esc10 in ((1, "rooster", "True"), (0, "dog", "True"), (20, "crying_baby", "False")):
            for take in "AB":
                name = f"{fold}-{fold}00{target}-{take}-{target}.wav"
                sound(root / "audio" / name, 800 + fold, 44_100)
                lines.append(f"{name},{fold},{target},{category},{esc10},{fold}00{target},{take}")
    (root / "meta").mkdir()
    (root / "meta" / "esc50.csv").write_text("\n".join(lines) + "\n")
    return root


def urbansound8k(root: Path) -> Path:
    lines = ["slice_file_name,fsID,start,end,salience,fold,classID,class"]
    for fold in range(1, 11):
        for number, name in enumerate(("siren", "dog_bark")):
            # Slices are of many rates.
            sound(root / "audio" / f"fold{fold}" / f"{fold}{number}.wav", 800, (16_000, 48_000)[number])
            lines.append(f"{fold}{number}.wav,{fold}{number},0.0,1.0,1,{fold},{1 - number},{name}")
    (root / "metadata").mkdir()
    (root / "metadata" / "UrbanSound8K.csv").write_text("\n".join(lines) + "\n")
    return root


def tut17(root: Path) -> Path:
    development, evaluation = (root / f"TUT-acoustic-scenes-2017-{part}" for part in ("development", "evaluation"))
    (development / "evaluation_setup").mkdir(parents=True)
    meta = []
    for fold in range(1, 5):
        own = [(f"audio/{label}{fold}.wav", label) for label in ("beach", "bus")]
        for name, label in own:
            sound(development / name)
            meta.append(f"{name}\t{label}\t{label}{fold}")
        listed = "".join(f"{name}\t{label}\n" for name, label in own)
        (development / "evaluation_setup" / f"fold{fold}_evaluate.txt").write_text(listed)
    (development / "meta.txt").write_text("\n".join(meta) + "\n")
    for number, label in enumerate(("bus", "beach")):
        sound(evaluation / "audio" / f"{number}.wav")
        with (evaluation / "meta.txt").open("a") as stream:
            stream.write(f"audio/{number}.wav\t{label}\n")
    return root


def speechcommands(root: Path) -> Path:
    names: dict[str, list[str]] = {"valid": [], "test": [], "train": []}
    for word in ("yes", "no", "marvin"):
        for split, speaker in (("valid", "aa"), ("test", "bb"), ("train", "cc"), ("train", "dd")):
            name = f"{word}/{speaker}_nohash_0.wav"
            sound(root / name)
            names[split].append(name)
    sound(root / "_background_noise_" / "pink_noise.wav")
    (root / "validation_list.txt").write_text("\n".join(names["valid"]) + "\n")
    (root / "testing_list.txt").write_text("\n".join(names["test"]) + "\n")
    return root


def audio_mnist(root: Path) -> Path:
    for speaker in (1, 2, 3, 4, 5, 60):
        for digit in range(2):
            sound(root / "data" / f"{speaker:02d}" / f"{digit}_{speaker:02d}_0.wav", 800, 48_000)
    return root


def class_folders(root: Path) -> Path:
    for label in ("real", "synthetic"):
        for number in range(7):
            for take in (1, 2):
                sound(root / label / f"clip{chr(97 + number)}-{take}.flac", 800 + number)
    return root


@pytest.mark.parametrize(
    ("corpus", "build", "labels", "numbers"),
    [
        ("esc50", esc50, ("dog", "rooster", "crying_baby"), (18, 6, 6)),
        ("urbansound8k", urbansound8k, ("dog_bark", "siren"), (16, 2, 2)),
        ("tut17", tut17, ("beach", "bus"), (6, 2, 2)),
        ("speech-commands", speechcommands, ("marvin", "no", "yes"), (6, 3, 3)),
        ("audiomnist", audio_mnist, tuple("0123456789"), (6, 2, 4)),
        ("class-folders", class_folders, ("real", "synthetic"), (20, 4, 4)),
    ],
)
def test_sounds(tmp_path: Path, corpus: str, build: object, labels: tuple[str, ...], numbers: tuple[int, ...]) -> None:
    root: Path = build(tmp_path / "corpus")  # type: ignore[operator]
    result = prepare(corpus, root, out=tmp_path / "out")
    assert tuple(result.splits[split].num_sounds for split in SPLITS) == numbers  # type: ignore[union-attr]
    assert (result.num_classes, result.num_sources) == (len(labels), 0)
    sets = [LabelledSet(str(tmp_path / "out"), split) for split in SPLITS]
    for found, number in zip(sets, numbers, strict=True):
        assert found.labels == labels
        assert len(found) == number
        # Read and brought to the rate that was asked for, in its own length.
        assert found.seconds[0] == pytest.approx(len(found[0].waveform) / 16_000, abs=1e-3)
        assert np.abs(found[0].waveform).max() > 0.05
    groups = [set(found.groups) for found in sets]
    assert not groups[0] & groups[1]
    assert not groups[2] & (groups[0] | groups[1])


def test_takes_of_one_recording_are_a_group(tmp_path: Path) -> None:
    prepare("esc50", esc50(tmp_path / "esc"), out=tmp_path / "out")
    found = LabelledSet(str(tmp_path / "out"), "test")
    assert len(set(found.groups)) == len(found) // 2
    prepare("class-folders", class_folders(tmp_path / "own"), out=tmp_path / "folders")
    found = LabelledSet(str(tmp_path / "folders"), "train")
    assert len(set(found.groups)) == len(found) // 2


def test_folds(tmp_path: Path) -> None:
    prepare("esc50", esc50(tmp_path / "esc"), out=tmp_path / "out")
    name = str(tmp_path / "out")
    tested = [{each.id for each in LabelledSet(name, "test", fold=fold)} for fold in range(1, 6)]
    whole = {each.id for split in SPLITS for each in LabelledSet(name, split)}
    assert set.union(*tested) == whole
    assert sum(map(len, tested)) == len(whole)
    # Before the first comes the last; without a fold, the last one tests.
    assert {each.id for each in LabelledSet(name, "valid", fold=1)} == tested[4]
    assert {each.id for each in LabelledSet(name, "test")} == tested[4]
    assert {each.id for each in LabelledSet(name, "train", fold=1)} == tested[1] | tested[2] | tested[3]
    with pytest.raises(CorpusError, match="has no fold 6; it has: 1, 2, 3, 4, 5"):
        LabelledSet(name, fold=6)
    prepare("tut17", tut17(tmp_path / "tut"), out=tmp_path / "scenes")
    # The evaluation set is of no fold.
    assert len(LabelledSet(str(tmp_path / "scenes"), "test", fold=2)) == 2


def test_the_folds_of_audiomnist_are_all_sixty_speakers() -> None:
    assert sorted(speaker for fold in audiomnist._FOLDS for speaker in fold) == list(range(1, 61))
    assert {len(fold) for fold in audiomnist._FOLDS} == {12}


def test_parts_of_a_corpus(tmp_path: Path) -> None:
    result = prepare("esc50", esc50(tmp_path / "esc"), out=tmp_path / "out", condition="10")
    assert read_labelled(tmp_path / "out").labels == ("dog", "rooster")
    assert result.warnings[0] == "train has 12 sounds and the whole corpus 240: figures are not those of the literature"
    prepare("speech-commands", speechcommands(tmp_path / "sc"), out=tmp_path / "ten", condition="10")
    assert read_labelled(tmp_path / "ten").labels == ("no", "yes")


def idx(path: Path, array: np.ndarray, *, packed: bool = False) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    data = struct.pack(">HBB", 0, 8, array.ndim) + struct.pack(f">{array.ndim}I", *array.shape) + array.tobytes()
    path.write_bytes(gzip.compress(data, 1) if packed else data)


@pytest.mark.parametrize(
    ("corpus", "folder", "packed"), [("mnist", "", True), ("mnist", "MNIST/raw/", False), ("fashion-mnist", "", False)]
)
def test_idx_files(tmp_path: Path, corpus: str, folder: str, packed: bool) -> None:
    rng = np.random.default_rng(0)
    images = {"train": rng.integers(0, 255, (5010, 3, 4), np.uint8), "t10k": rng.integers(0, 255, (6, 3, 4), np.uint8)}
    labels = {part: rng.integers(0, 10, len(own)).astype(np.uint8) for part, own in images.items()}
    for part in images:
        suffix = ".gz" if packed else ""
        idx(tmp_path / f"{folder}{part}-images-idx3-ubyte{suffix}", images[part], packed=packed)
        idx(tmp_path / f"{folder}{part}-labels-idx1-ubyte{suffix}", labels[part], packed=packed)
    result = prepare(corpus, tmp_path, out=tmp_path / "out")
    assert [result.splits[split].num_images for split in SPLITS] == [10, 5000, 6]  # type: ignore[union-attr]
    train, valid, test = (ImageSet(str(tmp_path / "out"), split) for split in SPLITS)
    assert np.array_equal(train.images, images["train"][:10])
    assert np.array_equal(valid.numbers, labels["train"][10:])
    assert np.array_equal(test.images, images["t10k"])
    assert test.labels[0] == {"mnist": "0", "fashion-mnist": "T-shirt/top"}[corpus]
    name = next(tmp_path.glob(f"{folder}t10k-images*"))
    name.write_bytes(name.read_bytes()[:-3])
    with pytest.raises(CorpusError, match=r"t10k-images.*cannot be read as images"):
        prepare(corpus, tmp_path, out=tmp_path / "out")
    name.unlink()
    with pytest.raises(CorpusError, match=r"t10k-images-idx3-ubyte: is not there, neither packed"):
        prepare(corpus, tmp_path, out=tmp_path / "out")


def test_drawings(tmp_path: Path) -> None:
    for number, name in enumerate(("cat", "full_numpy_bitmap_alarm clock")):
        drawn = np.full((2600, 16), number + 1, np.uint8)
        drawn[:, 0] = np.arange(2600) % 251
        np.save(tmp_path / f"{name}.npy", drawn)
    with pytest.raises(CorpusError, match="holds 2600 drawings, and 5500 are needed; give a smaller --train-set"):
        prepare("quickdraw", tmp_path, out=tmp_path / "out")
    prepare("quickdraw", tmp_path, out=tmp_path / "out", train_set="1000")
    train, valid, test = (ImageSet(str(tmp_path / "out"), split) for split in SPLITS)
    assert train.labels == ("cat", "alarm clock")
    assert [len(each) for each in (train, valid, test)] == [2000, 1000, 2000]
    assert train.images.shape[1:] == (4, 4)
    for found in (train, valid, test):
        assert np.array_equal(found.images[:, 1, 1], found.numbers + 1)
    first = np.arange(2600) % 251
    assert np.array_equal(train.images[:1000, 0, 0], first[1500:2500])
    assert np.array_equal(test.images[:1000, 0, 0], first[:1000])


def test_what_is_wrong_is_one_line(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with pytest.raises(CorpusError, match=r"esc50\.csv: is not there; give --root"):
        prepare("esc50", tmp_path, out=out)
    root = esc50(tmp_path / "esc")
    (root / "audio" / "3-3000-B-0.wav").unlink()
    with pytest.raises(CorpusError, match=r"3-3000-B-0\.wav: is missing; copy or generate"):
        prepare("esc50", root, out=out)
    meta = root / "meta" / "esc50.csv"
    meta.write_text(meta.read_text().replace("fold,", "part,", 1))
    with pytest.raises(CorpusError, match="has no column 'fold'"):
        prepare("esc50", root, out=out)
    root = tut17(tmp_path / "tut")
    (root / "TUT-acoustic-scenes-2017-development" / "evaluation_setup" / "fold3_evaluate.txt").write_text("\n")
    with pytest.raises(CorpusError, match=r"audio/beach3\.wav is in none of the folds"):
        prepare("tut17", root, out=out)
    root = audio_mnist(tmp_path / "mnist")
    sound(root / "data" / "01" / "0_99_0.wav")
    with pytest.raises(CorpusError, match=r"0_99_0\.wav: its name does not tell digit and speaker"):
        prepare("audiomnist", root, out=out)
    root = class_folders(tmp_path / "own")
    sound(root / "other" / "one-1.wav")
    with pytest.raises(CorpusError, match="other: has 1 recordings; three are needed"):
        prepare("class-folders", root, out=out)
    one = tmp_path / "single"
    for name in ("a", "b", "c"):
        sound(one / "only" / f"{name}.wav")
    with pytest.raises(CorpusError, match="has one class only, only: there is nothing to tell apart"):
        prepare("class-folders", one, out=out)
    assert not out.exists()


def test_a_folder_of_another_kind(tmp_path: Path) -> None:
    prepare("class-folders", class_folders(tmp_path / "own"), out=tmp_path / "out")
    with pytest.raises(CorpusError, match="holds labelled sounds, not labelled images"):
        ImageSet(str(tmp_path / "out"))
