"""The manifest of a listening study on interpretations: everything that was explained into one folder."""

from __future__ import annotations

import csv
from pathlib import Path

from auriscope.signal.outputs import written_aside
from auriscope.verbs.batch import read_record
from auriscope.verbs.explain.explainer import RECORDING

ITEMS = "items.csv"
"""The manifest's name, in the folder of all results."""

RECORDS = "explain-*.json"
"""The names of the records of what was explained."""

_REMARKS = """\
# Interpretations to be rated by whoever takes part in a listening study: does one let the class through, and no more?
#   auriscope study init rating --kind listening
# then, in rating/campaign.yaml, `scale: interpretation` and `manifest:` with the path of this file, and
#   auriscope study serve rating
"""


def write_items(out: Path) -> Path | None:
    """List all recordings that were explained into ``out`` by an earlier call or this one; None if there are none.

    Methods are the systems that are compared, and the versions of one recording and class are a group.
    """
    rows = []
    for path in sorted(out.glob(f"*/{RECORDS}")):
        record = read_record(path.parent, path.name) or {}
        heard = f"{path.stem.removeprefix('explain-')}-heard.wav"
        if record.get("kind") == "sound" and (path.parent / heard).is_file():
            folder, label = path.parent.name, str(record["label"])
            row = {
                "name": f"{folder} {path.stem.removeprefix('explain-')}",
                "system": record["method"],
                "mixture": f"{folder}/{RECORDING}",
                "estimate1": f"{folder}/{heard}",
                "class": label,
                "group": f"{folder} {label}",
                "fact_fidelity": record["fidelity"],
                "fact_faithfulness": record["faithfulness"],
                "fact_classifier": record["classifier"],
            }
            rows.append(row)
    if not rows:
        return None
    with written_aside(out / ITEMS) as aside, aside.open("w", encoding="utf-8", newline="") as stream:
        stream.write(_REMARKS)
        writer = csv.DictWriter(stream, list(rows[0]), lineterminator="\n")
        writer.writeheader()
        writer.writerows(rows)
    return out / ITEMS
