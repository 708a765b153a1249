"""LJSpeech: one reader of seven books, for voices of one speaker.

K. Ito and L. Johnson, "The LJ Speech Dataset" (2017), as distributed: ``LJSpeech-1.1/metadata.csv``, whose lines are
``LJ001-0001|text|text with numbers in words``, and ``wavs/LJ001-0001.wav`` of 22.05 kHz. It has no parts of its own:
chapter 49 is taken for validation and chapter 50 for test, so that no neighbouring sentences are in two parts.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from auriscope.data.prepare.layout import Selection
from auriscope.data.prepare.speech import FoundUtterance, SpeechLayout
from auriscope.errors import CorpusError
from auriscope.signal.outputs import reason

SPEAKER = "lj"
_SPLITS = {"LJ049": "valid", "LJ050": "test"}


def _find(root: Path, selection: Selection) -> Iterator[FoundUtterance]:  # noqa: ARG001
    prefix = "LJSpeech-1.1/" if (root / "LJSpeech-1.1").is_dir() else ""
    listed = root / f"{prefix}metadata.csv"
    try:
        lines = listed.read_text(encoding="utf-8").splitlines()
    except FileNotFoundError:
        raise CorpusError(f"{listed}: is not there; give --root the folder of LJSpeech-1.1") from None
    except (OSError, UnicodeDecodeError) as error:
        raise CorpusError(f"{listed}: cannot be read ({reason(error)}); copy it again") from error
    for number, line in enumerate(lines, start=1):
        # No quoting: a quotation mark belongs to the sentence.
        columns = line.split("|")
        if len(columns) != 3 or not columns[0]:
            raise CorpusError(f"{listed}, line {number}: is not a name and two texts; copy the file again")
        name, written, words = columns
        split = _SPLITS.get(name.partition("-")[0], "train")
        yield FoundUtterance(split, f"{prefix}wavs/{name}.wav", words.strip() or written.strip(), SPEAKER, "F")


LAYOUTS = (SpeechLayout("ljspeech", {"condition": ("read",)}, _find),)
