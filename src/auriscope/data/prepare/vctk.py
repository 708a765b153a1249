"""VCTK: 110 speakers of English with many accents, who read newspaper sentences.

J. Yamagishi, C. Veaux and K. MacDonald, "CSTR VCTK Corpus" (version 0.92, doi 10.7488/ds/2645), as distributed:
``wav48_silence_trimmed/p225/p225_001_mic1.flac`` of 48 kHz with ``txt/p225/p225_001.txt``, and who the speakers are
in ``speaker-info.txt``; or version 0.80, ``wav48/p225/p225_001.wav``. It has no parts of its own: the test speakers are
the eleven that E. Casanova et al. hold out ("YourTTS", arXiv 2112.02418), and four more are for validation. What has no
text (speaker p315) is left out.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from pathlib import Path

from auriscope.data.prepare.layout import Selection
from auriscope.data.prepare.speech import FoundUtterance, SpeechLayout
from auriscope.errors import CorpusError
from auriscope.signal.outputs import reason

TEST_SPEAKERS = ("p225", "p234", "p238", "p245", "p248", "p261", "p294", "p302", "p326", "p335", "p347")
VALID_SPEAKERS = ("p228", "p232", "p253", "p374")
_SOUNDS = {"wav48_silence_trimmed": "_mic1.flac", "wav48": ".wav"}


def _find(root: Path, selection: Selection) -> Iterator[FoundUtterance]:  # noqa: ARG001
    base = next((name for name in ("", "VCTK-Corpus-0.92/", "VCTK-Corpus/") if (root / f"{name}txt").is_dir()), None)
    sounds = next((name for name in _SOUNDS if base is not None and (root / f"{base}{name}").is_dir()), None)
    if base is None or sounds is None:
        raise CorpusError(f"{root}: has no txt and wav48_silence_trimmed; give --root the folder of VCTK-Corpus-0.92")
    sexes = _sexes(root / f"{base}speaker-info.txt")
    for folder in sorted((root / f"{base}txt").iterdir()):
        speaker = folder.name
        split = "test" if speaker in TEST_SPEAKERS else "valid" if speaker in VALID_SPEAKERS else "train"
        for place in sorted(folder.glob("*.txt")):
            name = f"{base}{sounds}/{speaker}/{place.stem}{_SOUNDS[sounds]}"
            # A few sentences were never recorded by the first microphone.
            if (root / name).is_file():
                yield FoundUtterance(split, name, _text(place), speaker, sexes.get(speaker))


def _text(place: Path) -> str:
    try:
        return " ".join(place.read_text(encoding="utf-8").split())
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{place}: cannot be read ({reason(error)}); copy it again") from error


def _sexes(place: Path) -> Mapping[str, str]:
    """Read who the speakers are, where the file was kept: ``p225  23  F    English    Southern England``."""
    try:
        rows = [line.split() for line in place.read_text(encoding="utf-8", errors="replace").splitlines()]
    except OSError:
        return {}
    names = ((row[0] if row[0].startswith(("p", "s")) else f"p{row[0]}", row[2]) for row in rows if len(row) > 2)
    return {name: sex for name, sex in names if sex in ("F", "M")}


LAYOUTS = (SpeechLayout("vctk", {"condition": ("read",)}, _find),)
