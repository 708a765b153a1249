"""The sounds of Debian's packages: what the table takes of a miniature of every package, and what it leaves."""

from __future__ import annotations

import importlib.util
import io
import struct
import zipfile
import zlib
from collections import Counter, defaultdict
from pathlib import Path, PurePosixPath
from types import ModuleType

import numpy as np
import pytest
import soundfile

from auriscope.data.labelled_sets import SOUND_EVENTS
from auriscope.data.prepare import debian_sounds
from auriscope.data.prepared_captioned import read_captioned
from auriscope.data.prepared_labelled import read_labelled
from auriscope.errors import CorpusError
from auriscope.verbs.prepare import prepare

ROOT = Path(__file__).resolve().parents[2]
FORMATS = {".oga": "OGG", ".aiff": "AIFF", ".flac": "FLAC", ".ogg": "OGG", ".wav": "WAV"}


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A file for every row, and a few that no row matches."""
    place = tmp_path_factory.mktemp("packages")
    contents = {}
    for suffix, name in FORMATS.items():
        stream = io.BytesIO()
        soundfile.write(stream, 0.1 * np.random.default_rng(0).standard_normal(800), 16_000, format=name)
        contents[suffix] = stream.getvalue()
    for row in debian_sounds.table():
        name = Path("usr/share", row.pattern.replace("*", "1").replace("?", "1"))
        path = place / row.package / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(contents[path.suffix])
    (place / "scratch" / "usr" / "share" / "Dog3.wav").write_bytes(contents[".wav"])
    return place


def test_the_table_is_of_classes_of_sound_events() -> None:
    rows = debian_sounds.table()
    assert {row.label for row in rows} <= set(SOUND_EVENTS)
    assert all(row.pattern and row.caption and row.thing for row in rows)
    # What is tested on is of these.
    assert not [row for row in rows if "minetest" in row.package or "berklee" in row.pattern.lower()]
    labels = defaultdict(set)
    for row in rows:
        labels[row.thing].add(row.label)
    assert [thing for thing, own in labels.items() if len(own) > 1] == [], "a group is of one class"


def test_every_package_of_the_table_is_downloaded() -> None:
    lines = (ROOT / "recipes" / "debian_sounds_packages.csv").read_text(encoding="utf-8").splitlines()[1:]
    assert [line.split(",")[0] for line in lines] == sorted({row.package for row in debian_sounds.table()})


def test_classes_and_captions_are_of_the_same_sounds(root: Path, tmp_path: Path) -> None:
    result = prepare("debian-sounds", root, out=tmp_path / "labelled")
    assert list(result.splits) == ["train"]
    assert len(result.warnings) == 1, "the whole of it has more"
    corpus = read_labelled(tmp_path / "labelled")
    assert set(corpus.labels) <= set(SOUND_EVENTS)
    prepare("debian-sounds-captions", root, out=tmp_path / "captioned")
    captioned = read_captioned(tmp_path / "captioned")
    assert [sound.path for sound in captioned.sounds] == [sound.path for sound in corpus.sounds]
    told = {sound.path: sound.captions for sound in captioned.sounds}
    assert told["scratch/usr/share/Animal/Rooster.wav"] == ("a rooster crowing",)
    assert "scratch/usr/share/Dog3.wav" not in told
    assert max(Counter(sound.label for sound in corpus.sounds).values()) <= debian_sounds.MOST_OF_CLASS


def test_no_thing_and_no_class_outweighs_the_others(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    dogs = range(debian_sounds.MOST_OF_CLASS // 2)
    rows = [debian_sounds.Row("own", f"dog{number}-*.wav", "mammal", "a dog", f"dog{number}") for number in dogs]
    monkeypatch.setattr(debian_sounds, "table", lambda: tuple(rows))
    monkeypatch.setattr(debian_sounds, "left_out", lambda: frozenset({"own/dog0-00.wav"}))
    for number in dogs:
        for take in range(20 if number == 0 else 3):
            path = tmp_path / "own" / f"dog{number}-{take:02}.wav"
            path.parent.mkdir(exist_ok=True)
            path.touch()
    chosen = debian_sounds._chosen(tmp_path)
    counts = Counter(row.group for _, row in chosen)
    assert len(chosen) == debian_sounds.MOST_OF_CLASS
    assert set(counts.values()) == {2}, "a second one of every dog, before a third one of any"
    assert "own/dog0-00.wav" not in dict(chosen)
    rows[1:] = []
    monkeypatch.setattr(debian_sounds, "left_out", frozenset)
    takes = [path[-6:-4] for path, _ in debian_sounds._chosen(tmp_path)]
    assert takes == ["00", "03", "06", "10", "13", "16"], "evenly spread"


def test_a_package_that_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CorpusError, match=r"is not there; get the packages with: python recipes/debian_sounds\.py"):
        prepare("debian-sounds", tmp_path, out=tmp_path / "out")


@pytest.fixture
def recipe() -> ModuleType:
    spec = importlib.util.spec_from_file_location("debian_sounds_recipe", ROOT / "recipes" / "debian_sounds.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def resource(name: str, content: bytes, compressed: bool) -> bytes:
    """A binary resource file of Qt that holds ``sounds/NAME``."""
    names = b""
    offsets = []
    for text in ("sounds", name):
        offsets.append(len(names))
        names += struct.pack(">HI", len(text), 0) + text.encode("utf-16-be")
    stored = len(content).to_bytes(4, "big") + zlib.compress(content) if compressed else content
    nodes = [(0, 2, 1, 1), (offsets[0], 2, 1, 2), (offsets[1], int(compressed), 0, 0)]
    tree = b"".join(struct.pack(">IHII", *node) for node in nodes)
    data = len(stored).to_bytes(4, "big") + stored
    return struct.pack(">4s4I", b"qres", 1, 20, 20 + len(tree), 20 + len(tree) + len(data)) + tree + data + names


@pytest.mark.parametrize("compressed", [False, True])
def test_sounds_of_resource_files_are_found(recipe: ModuleType, compressed: bool) -> None:
    content = bytes(range(200)) * 3
    archive = io.BytesIO(resource("cat.ogg", content, compressed))
    assert list(recipe.opened(".rcc", archive)) == [(PurePosixPath("sounds/cat.ogg"), content)]
    assert list(recipe.opened(".rcc", io.BytesIO(resource("cat.png", content, compressed)))) == []


def test_sounds_of_archives_are_found(recipe: ModuleType) -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name in ("audio/Dog.OGG", "art/dog.png", "../out.wav"):
            archive.writestr(name, b"woof")
    assert list(recipe.opened(".zip", stream)) == [(PurePosixPath("audio/Dog.OGG"), b"woof")]


def test_notes_are_played_one_after_the_other(recipe: ModuleType) -> None:
    score = recipe.midi([(0, 40, 60), (9, 0, 38)])
    assert score.startswith(b"MThd")
    assert score[22:29] == bytes([0, 0xFF, 0x51, 3, 0x0F, 0x42, 0x40]), "a tick is a millisecond"
    first, second = bytes([0xC0, 40, 0, 0x90, 60, 100]), bytes([0xC9, 0, 0, 0x99, 38, 100])
    assert score.index(first) < score.index(second)
    assert recipe.ticks(1500) + bytes([0x80, 60, 0]) in score
    assert recipe.ticks(100) == bytes([100])
    assert recipe.ticks(1500) == bytes([0x8B, 0x5C])
