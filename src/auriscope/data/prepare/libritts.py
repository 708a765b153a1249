"""LibriTTS: LibriSpeech's readers again at 24 kHz, cut at sentences, with their punctuation.

H. Zen et al., "LibriTTS: A Corpus Derived from LibriSpeech for Text-to-Speech" (arXiv 1904.02882), as distributed:
``LibriTTS/train-clean-100/READER/CHAPTER/READER_CHAPTER_000001_000000.wav`` with ``….normalized.txt`` beside it, and
who the readers are in ``speakers.tsv``. LibriTTS-R (arXiv 2305.18802) lies the same way.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from auriscope.data.prepare.layout import Selection
from auriscope.data.prepare.speech import FoundUtterance, SpeechLayout
from auriscope.errors import CorpusError
from auriscope.signal.outputs import reason

_COUNTS = {
    "train-clean-100": 33_236,
    "train-clean-360": 116_500,
    "train-other-500": 205_044,
    "dev-clean": 5_736,
    "dev-other": 4_613,
    "test-clean": 4_837,
    "test-other": 5_120,
}
_TRAIN_SETS = {
    "train-460": ("train-clean-100", "train-clean-360"),
    "train-100": ("train-clean-100",),
    "train-960": ("train-clean-100", "train-clean-360", "train-other-500"),
}


def _parts(selection: Selection) -> dict[str, tuple[str, ...]]:
    kind = selection.condition
    return {"train": _TRAIN_SETS[selection.train_set], "valid": (f"dev-{kind}",), "test": (f"test-{kind}",)}


def _find(root: Path, selection: Selection) -> Iterator[FoundUtterance]:
    prefix = next((f"{name}/" for name in ("LibriTTS", "LibriTTS_R") if (root / name).is_dir()), "")
    sexes = _sexes(root / f"{prefix}speakers.tsv")
    for split, parts in _parts(selection).items():
        for part in parts:
            folder = root / f"{prefix}{part}"
            if not folder.is_dir():
                raise CorpusError(
                    f"{folder}: is not there; copy this part, or choose another one (--train-set, --condition)"
                )
            for path in sorted(folder.glob("*/*/*.wav")):
                reader = path.parent.parent.name
                name = path.relative_to(root).as_posix()
                yield FoundUtterance(split, name, _text(path), reader, sexes.get(reader))


def _text(path: Path) -> str:
    place = path.with_suffix(".normalized.txt")
    try:
        text = place.read_text(encoding="utf-8").strip()
    except FileNotFoundError:
        raise CorpusError(f"{place}: is not there, but {path.name} is; copy the chapter again") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{place}: cannot be read ({reason(error)}); copy it again") from error
    if not text:
        raise CorpusError(f"{place}: is empty; copy it again")
    return text


def _sexes(place: Path) -> Mapping[str, str]:
    """Read who the readers are, where the file was kept: READER, GENDER, SUBSET and NAME, parted by tabs."""
    try:
        rows = [line.split("\t") for line in place.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return {}
    return {row[0].strip(): row[1].strip() for row in rows if len(row) > 1 and row[1].strip() in ("F", "M")}


LAYOUTS = (
    SpeechLayout(
        "libritts",
        {"condition": ("clean", "other"), "train_set": tuple(_TRAIN_SETS)},
        _find,
        official=lambda selection: {
            split: sum(_COUNTS[part] for part in parts) for split, parts in _parts(selection).items()
        },
    ),
)
