"""AudioCaps: ten seconds each of some 51,000 videos, with one caption to train on and five to measure by.

C. D. Kim, B. Kim, H. Lee, G. Kim, "AudioCaps: Generating Captions for Audios in The Wild" (NAACL 2019). The captions
are distributed, in ``train.csv``, ``val.csv`` and ``test.csv`` (or below ``dataset``); the audio is not: whoever has it
keeps it in ``train``, ``val`` and ``test``, or in ``audio`` with these below it or all in one, a file named by the
video (``ID``, ``YID``), by the video and the second it begins at (``ID_30``), or by the caption's own number. Videos
that are gone are left out.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from auriscope.data.prepare.captioned import CaptionedLayout, FoundCaptions
from auriscope.data.prepare.labelled import read_table
from auriscope.data.prepare.layout import Selection
from auriscope.errors import CorpusError

_COLUMNS = ("audiocap_id", "youtube_id", "start_time", "caption")
_PARTS = {"train": "train", "valid": "val", "test": "test"}
_SUFFIXES = frozenset({".wav", ".flac", ".mp3", ".ogg", ".opus"})


def _find(root: Path, selection: Selection) -> list[FoundCaptions]:  # noqa: ARG001
    tables = root / "dataset" if (root / "dataset").is_dir() else root
    found = []
    for split, part in _PARTS.items():
        there = _audio(root, part)
        captions: dict[str, list[str]] = {}
        videos: dict[str, str] = {}
        for row in read_table(tables / f"{part}.csv", _COLUMNS):
            path = next((there[name] for name in _names(row) if name in there), None)
            if path is not None:
                captions.setdefault(path, []).append(row["caption"].strip())
                videos[path] = row["youtube_id"]
        if not captions:
            raise CorpusError(f"{root}: holds no audio of {part}.csv; put it into {part} or audio")
        found += [FoundCaptions(split, path, tuple(own), videos[path]) for path, own in captions.items()]
    return found


def _audio(root: Path, part: str) -> dict[str, str]:
    """The audio files of a part, relative to the root, by their names without suffix."""
    for folder in (root / part, root / "audio" / part, root / "audio"):
        if folder.is_dir():
            return {
                path.stem: path.relative_to(root).as_posix()
                for path in sorted(folder.iterdir())
                if path.suffix.lower() in _SUFFIXES
            }
    return {}


def _names(row: dict[str, str]) -> Iterator[str]:
    video = row["youtube_id"]
    yield f"{video}_{row['start_time']}"
    yield video
    yield f"Y{video}"
    yield row["audiocap_id"]


def _official(selection: Selection) -> dict[str, int]:  # noqa: ARG001
    return {"train": 49_838, "valid": 495, "test": 975}


LAYOUTS = (CaptionedLayout("audiocaps", {"condition": ("v1",)}, _find, _official),)
