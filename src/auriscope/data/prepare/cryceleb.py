"""CryCeleb: cries of newborn babies, at birth and before they left the hospital.

D. Budaghyan et al., "CryCeleb: a speaker verification dataset based on infant cry sounds" (ICASSP 2024, arXiv
2305.00969), as distributed: ``metadata.csv`` with a line for each cry, that is the sound of one breath, and ``audio``.
Of a baby in the valid and the test part there are cries of both periods, ``B`` and ``D``; the task is to tell whether
the cries of one period and of the other are of one baby.
"""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path

from auriscope.data.prepare.layout import Selection
from auriscope.data.prepare.speech import FoundUtterance, SpeechLayout
from auriscope.errors import CorpusError
from auriscope.signal.outputs import reason

_COLUMNS = ("baby_id", "period", "split", "chronological_index", "file_name")
_SPLITS = {"train": "train", "dev": "valid", "test": "test"}


def _find(root: Path, selection: Selection) -> Iterator[FoundUtterance]:  # noqa: ARG001
    listed = root / "metadata.csv"
    if not listed.is_file():
        raise CorpusError(f"{listed}: is not there; give --root the folder that holds it and the folder audio")
    try:
        with listed.open(encoding="utf-8", newline="") as stream:
            reader = csv.DictReader(stream, strict=True)
            missing = [column for column in _COLUMNS if column not in (reader.fieldnames or ())]
            if missing:
                raise CorpusError(f"{listed}: has no column {missing[0]!r}; copy the file again")
            rows = []
            for row in reader:
                if row["split"] not in _SPLITS or row["period"] not in ("B", "D") or not row["baby_id"]:
                    raise CorpusError(f"{listed}, line {reader.line_num}: is no cry of a baby; copy the file again")
                rows.append((row["baby_id"], row["period"], int(row["chronological_index"]), row))
    except (OSError, UnicodeDecodeError, csv.Error, ValueError) as error:
        raise CorpusError(f"{listed}: cannot be read ({reason(error)}); copy it again") from error
    # In the order in which they were cried: who reads the list puts the cries of a period together again.
    for baby, period, _, row in sorted(rows, key=lambda each: each[:3]):
        yield FoundUtterance(_SPLITS[row["split"]], row["file_name"], "", baby, period=period)


LAYOUTS = (SpeechLayout("cryceleb", {"condition": ("cries",)}, _find, official=lambda _: {}),)
