"""Download the packages of Debian whose sounds ``auriscope prepare debian-sounds`` lists, and unpack their sounds.

    python recipes/debian_sounds.py FOLDER
    auriscope prepare debian-sounds --root FOLDER

Runs on Debian, with ``apt-get``, ``dpkg-deb`` and ``fluidsynth`` (the package of this name). The packages are those of
``debian_sounds_packages.csv``, of the release bookworm; another release may hold other versions, and then other sounds.
Each goes into a folder of its name: its files of sound, those in its archives (zip, pk3, wz, Qt's rcc), and
``usr/share/doc/*/copyright``. Of sound fonts single notes are rendered, each for three seconds.

All packages are of Debian's section main, and so free by Debian's guidelines: to be used, changed and passed on. Under
which terms differs by package and by file, and stands in ``usr/share/doc/*/copyright`` of each package; the column
``licence`` tells which there are. Many are share-alike (GPL, CC BY-SA): weights that learnt from those go under such a
licence, if one holds that weights are made of what they learnt from.
"""

from __future__ import annotations

import csv
import io
import shutil
import struct
import subprocess
import sys
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from pathlib import Path, PurePosixPath
from typing import IO

import soundfile

PACKAGES = Path(__file__).with_name("debian_sounds_packages.csv")
SOUNDS = frozenset({".wav", ".ogg", ".oga", ".flac", ".aif", ".aiff", ".au", ".mp3"})
ARCHIVES = frozenset({".zip", ".pk3", ".wz", ".rcc"})
FONTS = frozenset({".sf2"})

RATE, NOTE_SECONDS, HELD_SECONDS = 44_100, 3.0, 1.5
KEYS = (43, 55, 67)
PROGRAMS = (
    *(0, 1, 3, 4, 6, 9, 10, 11, 12, 13, 14, 15, 22, 24, 25, 26, 27, 32, 33, 36, 38, 39, 40, 41, 42, 43, 44, 45, 46, 47),
    *(56, 57, 58, 59, 60, 64, 65, 66, 67, 68, 69, 70, 71, 72, 73, 74, 75, 76, 77, 78, 79, 80, 81, 84, 87, 88, 89, 90),
    *(93, 94, 95, 98, 100, 102, 103, 104, 105, 106, 107, 108, 109, 110, 111, 112, 113, 114, 115, 116, 117, 118, 122),
    *(123, 125, 126, 127),
)
"""Of General MIDI, counted from 0."""
DRUMS = tuple(range(35, 82))
"""The keys of General MIDI's drums."""


def main(folder: Path) -> None:
    """Get every package that is not in the folder yet."""
    debs = folder / "debs"
    debs.mkdir(parents=True, exist_ok=True)
    with PACKAGES.open(encoding="utf-8", newline="") as stream:
        packages = [(row["package"], row["version"]) for row in csv.DictReader(stream)]
    for number, (package, version) in enumerate(packages, start=1):
        place = folder / package
        if place.is_dir():
            continue
        print(f"{number}/{len(packages)} {package} {version}", flush=True)
        aside = folder / f".{package}"
        unpack(download(package, version, debs), aside)
        for font in sorted(path for path in aside.rglob("*") if path.suffix in FONTS and not path.is_symlink()):
            render(font, aside / "notes")
            font.unlink()
        aside.rename(place)


def download(package: str, version: str, debs: Path) -> Path:
    """Download a package, unless it is there."""
    pattern = f"{package}_{version.replace(':', '%3a')}_*.deb"
    if not list(debs.glob(pattern)):
        subprocess.run(["apt-get", "download", f"{package}={version}"], cwd=debs, check=True)
    return next(debs.glob(pattern))


def unpack(deb: Path, place: Path) -> None:
    """Unpack the sounds of a package, of the archives in it, its sound fonts, and its licences."""
    with subprocess.Popen(["dpkg-deb", "--fsys-tarfile", str(deb)], stdout=subprocess.PIPE) as program:
        assert program.stdout is not None
        with tarfile.open(fileobj=program.stdout, mode="r|") as members:
            for member in members:
                name = PurePosixPath(member.name)
                kind = name.suffix.lower()
                stream = members.extractfile(member) if member.isfile() else None
                if stream is None or ".." in name.parts:
                    continue
                if kind in SOUNDS | FONTS or name.name == "copyright":
                    write(place / name, stream.read())
                elif kind in ARCHIVES:
                    # What is streamed cannot be read in any order, and an archive may hold gigabytes.
                    with tempfile.TemporaryFile() as archive:
                        shutil.copyfileobj(stream, archive)
                        for inner, content in opened(kind, archive):
                            write(place / name / inner, content)
    if program.returncode:
        raise SystemExit(f"{deb}: cannot be unpacked; delete it and start again")


def write(path: Path, content: bytes) -> None:
    """Write a file into a folder that may not be there yet; MP3 as WAV, any stretch of which can be read exactly."""
    path.parent.mkdir(parents=True, exist_ok=True)
    if path.suffix.lower() == ".mp3":
        soundfile.write(path.with_suffix(".wav"), *soundfile.read(io.BytesIO(content)))
    else:
        path.write_bytes(content)


def opened(kind: str, archive: IO[bytes]) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Give the sounds of an archive, by their names in it."""
    if kind == ".rcc":
        archive.seek(0)
        yield from resources(archive.read())
        return
    with zipfile.ZipFile(archive) as members:
        for name in map(PurePosixPath, members.namelist()):
            if name.suffix.lower() in SOUNDS and not name.is_absolute() and ".." not in name.parts:
                yield name, members.read(str(name))


def resources(archive: bytes) -> Iterator[tuple[PurePosixPath, bytes]]:
    """Give the sounds of a binary resource file of Qt (its ``qresource.cpp``, versions 1 to 3)."""
    version, tree, data, names = struct.unpack(">4x4I", archive[:20])
    node_bytes = 14 if version < 2 else 22

    def walk(node: int, place: PurePosixPath) -> Iterator[tuple[PurePosixPath, bytes]]:
        at = tree + node * node_bytes
        named, flags, first, second = struct.unpack(">IHII", archive[at : at + 14])
        length = struct.unpack(">H", archive[names + named : names + named + 2])[0]
        text = archive[names + named + 6 : names + named + 6 + 2 * length].decode("utf-16-be")
        place = place / text if node else place
        if flags & 2:
            for child in range(second, second + first):
                yield from walk(child, place)
        elif place.suffix.lower() in SOUNDS:
            size = struct.unpack(">I", archive[data + second : data + second + 4])[0]
            content = archive[data + second + 4 : data + second + 4 + size]
            yield place, zlib.decompress(content[4:]) if flags & 1 else content

    yield from walk(0, PurePosixPath())


def render(font: Path, place: Path) -> None:
    """Play notes of a sound font, dry, into ``PROGRAM-KEY.wav`` and ``drum-KEY.wav``."""
    notes = [(f"{program:03}-{key}", 0, program, key) for program in PROGRAMS for key in KEYS]
    notes += [(f"drum-{key}", 9, 0, key) for key in DRUMS]
    place.mkdir(parents=True, exist_ok=True)
    score, whole = place / "score.mid", place / "whole.wav"
    score.write_bytes(midi([note[1:] for note in notes]))
    options = ["-ni", "-q", "-R", "0", "-C", "0", "-g", "0.8", "-r", str(RATE), "-F", str(whole)]
    subprocess.run(["fluidsynth", *options, str(font), str(score)], check=True)
    played, _ = soundfile.read(whole, dtype="float32")
    length = round(NOTE_SECONDS * RATE)
    for number, (name, *_) in enumerate(notes):
        note = played[number * length : (number + 1) * length].mean(axis=1)
        if abs(note).max(initial=0.0) > 1e-3:
            soundfile.write(place / f"{name}.wav", note, RATE)
    score.unlink()
    whole.unlink()


def midi(notes: list[tuple[int, int, int]]) -> bytes:
    """Make a MIDI file of notes (channel, program, key), one after the other; a tick is a millisecond."""
    track = bytes([0, 0xFF, 0x51, 3]) + (1_000_000).to_bytes(3, "big")
    held, rest = round(1000 * HELD_SECONDS), round(1000 * (NOTE_SECONDS - HELD_SECONDS))
    wait = 0
    for channel, program, key in notes:
        track += ticks(wait) + bytes([0xC0 | channel, program, 0, 0x90 | channel, key, 100])
        track += ticks(held) + bytes([0x80 | channel, key, 0])
        wait = rest
    track += ticks(wait) + bytes([0xFF, 0x2F, 0])
    return struct.pack(">4sIHHH4sI", b"MThd", 6, 0, 1, 1000, b"MTrk", len(track)) + track


def ticks(number: int) -> bytes:
    """A number of ticks as MIDI writes it, seven bits a byte."""
    return bytes([0x80 | number >> 7, number & 0x7F]) if number >> 7 else bytes([number])


if __name__ == "__main__":
    if len(sys.argv) != 2:
        raise SystemExit(__doc__)
    main(Path(sys.argv[1]))
