"""Common Voice: sentences that a crowd reads aloud at home.

R. Ardila et al., "Common Voice: a massively-multilingual speech corpus" (LREC 2020, arXiv 1912.06670), as distributed,
a folder for each language: ``train.tsv``, ``dev.tsv`` and ``test.tsv``, which have a line for each recording of
``clips/*.mp3``. No speaker is in two of them.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from auriscope.data.prepare.layout import Selection
from auriscope.data.prepare.speech import FoundUtterance, SpeechLayout
from auriscope.errors import CorpusError
from auriscope.signal.outputs import reason

_FILES = {"train": "train.tsv", "valid": "dev.tsv", "test": "test.tsv"}
_COLUMNS = ("client_id", "path", "sentence")
# The first is what releases before 2024 say.
_SEXES = {"female": "F", "male": "M", "female_feminine": "F", "male_masculine": "M"}


def _find(root: Path, selection: Selection) -> Iterator[FoundUtterance]:  # noqa: ARG001
    for split, name in _FILES.items():
        listed = root / name
        if not listed.is_file():
            raise CorpusError(f"{listed}: is not there; give --root the folder of one language, such as cv-corpus/en")
        try:
            # No quoting: a quotation mark belongs to the sentence.
            with listed.open(encoding="utf-8", newline="") as stream:
                reader = csv.DictReader(stream, delimiter="\t", quoting=csv.QUOTE_NONE)
                missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
                if missing:
                    raise CorpusError(f"{listed}: has no column {missing[0]!r}; copy the file again")
                for row in reader:
                    if not row["path"] or row["sentence"] is None:
                        raise CorpusError(f"{listed}, line {reader.line_num}: is cut off; copy the file again")
                    yield FoundUtterance(
                        split,
                        f"clips/{row['path']}",
                        row["sentence"].strip(),
                        row["client_id"],
                        _SEXES.get(row.get("gender") or ""),
                    )
        except (OSError, UnicodeDecodeError, csv.Error) as error:
            raise CorpusError(f"{listed}: cannot be read ({reason(error)}); copy it again") from error


LAYOUTS = (SpeechLayout("commonvoice", {"condition": ("read",)}, _find),)
