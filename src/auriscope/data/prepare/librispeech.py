"""LibriSpeech: readers of audiobooks.

V. Panayotov et al., "LibriSpeech: an ASR corpus based on public domain audio books" (ICASSP 2015), as distributed:
``LibriSpeech/train-clean-100/READER/CHAPTER/READER-CHAPTER-0000.flac`` with the texts of a chapter in
``READER-CHAPTER.trans.txt``, and who the readers are in ``SPEAKERS.TXT``. "clean" and "other" tell readers that a
recogniser of then understood well from the others.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from auriscope.data.prepare.layout import Selection
from auriscope.data.prepare.speech import FoundUtterance, SpeechLayout
from auriscope.errors import CorpusError
from auriscope.signal.outputs import reason

_COUNTS = {
    "train-clean-100": 28_539,
    "train-clean-360": 104_014,
    "train-other-500": 148_688,
    "dev-clean": 2_703,
    "dev-other": 2_864,
    "test-clean": 2_620,
    "test-other": 2_939,
}
_TRAIN_SETS = {
    "train-960": ("train-clean-100", "train-clean-360", "train-other-500"),
    "train-460": ("train-clean-100", "train-clean-360"),
    "train-100": ("train-clean-100",),
}


def _parts(selection: Selection) -> dict[str, tuple[str, ...]]:
    kind = selection.condition
    return {"train": _TRAIN_SETS[selection.train_set], "valid": (f"dev-{kind}",), "test": (f"test-{kind}",)}


def _find(root: Path, selection: Selection) -> Iterator[FoundUtterance]:
    prefix = "LibriSpeech/" if (root / "LibriSpeech").is_dir() else ""
    sexes = _sexes(root / f"{prefix}SPEAKERS.TXT")
    for split, parts in _parts(selection).items():
        for part in parts:
            folder = root / f"{prefix}{part}"
            if not folder.is_dir():
                raise CorpusError(
                    f"{folder}: is not there; copy this part, or choose another one (--train-set, --condition)"
                )
            for texts in sorted(folder.glob("*/*/*.trans.txt")):
                yield from _chapter(texts, split, texts.parent.relative_to(root).as_posix(), sexes)


def _chapter(texts: Path, split: str, prefix: str, sexes: Mapping[str, str]) -> Iterator[FoundUtterance]:
    try:
        lines = texts.read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{texts}: cannot be read ({reason(error)}); copy it again") from error
    unread = {path.stem for path in texts.parent.glob("*.flac") if not path.name.startswith(".")}
    for number, line in enumerate(lines, start=1):
        name, _, text = line.strip().partition(" ")
        reader, _, rest = name.partition("-")
        if not text or not rest:
            raise CorpusError(f"{texts}, line {number}: is not an utterance's name and its text; copy the file again")
        unread.discard(name)
        yield FoundUtterance(split, f"{prefix}/{name}.flac", text, reader, sexes.get(reader))
    if unread:
        raise CorpusError(f"{texts}: has no text of {min(unread)}.flac, which lies beside it; copy the file again")


def _sexes(place: Path) -> dict[str, str]:
    """Read who the readers are, where the file was kept: ``14   | F | train-clean-360  | 25.03 | ...``."""
    try:
        lines = place.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return {}
    rows = [[cell.strip() for cell in line.split("|")] for line in lines if not line.startswith(";")]
    return {row[0]: row[1] for row in rows if len(row) > 1 and row[1] in ("F", "M")}


LAYOUTS = (
    SpeechLayout(
        "librispeech",
        {"condition": ("clean", "other"), "train_set": tuple(_TRAIN_SETS)},
        _find,
        official=lambda selection: {
            split: sum(_COUNTS[part] for part in parts) for split, parts in _parts(selection).items()
        },
    ),
)
