"""What a listening study is about, as it is written down: a manifest of items, or folders of results.

A manifest is a CSV file (lines that begin with ``#`` are remarks) or JSON Lines, with these columns or keys:

- ``name``: the item's name, used once. ``system``: whose work it is; raters never learn it.
- ``estimates``: the files to be rated, divided by ``;``, or one file each in ``estimate1``, ``estimate2``, …
- ``mixture``: the recording that is heard beside them (for quality and interpretation).
- ``reference``: the voice that they are compared with (for similarity).
- ``class``: what an interpretation is said to show; ``class_en`` and ``class_fr`` where it differs by language.
- ``group``: the same for all systems' versions of one mixture or sentence; by default the mixture, the reference, or
  the name.
- ``role``: trial, training, gold or trap; by default trial.
- ``expected``: of gold and trap items, what a careful rater says of each estimate: ``4-5;1`` (nothing: anything).
- ``blind_si_snr_db`` by estimate, ``epoch``, ``corpus``, and ``fact_…``: what the analysis wants to know.

Paths are relative to the manifest. A folder of results has a folder for each recording, as ``auriscope separate``,
``enhance`` and ``listen`` write it; a folder that holds such folders has one for each system.
"""

from __future__ import annotations

import csv
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import Any

from auriscope.errors import AuriscopeError
from auriscope.signal.outputs import printable, reason
from auriscope.study.campaign import LANGUAGES

ROLES = ("trial", "training", "gold", "trap")

COLUMNS = (
    "name",
    "system",
    "mixture",
    "estimates",
    "reference",
    "class",
    *(f"class_{language}" for language in LANGUAGES),
    "group",
    "role",
    "expected",
    "blind_si_snr_db",
    "epoch",
    "corpus",
)
"""The columns of a manifest; ``estimate1`` and so on, and ``fact_…``, come besides."""

# In this order: a folder that was listened to also says how good its tracks are.
_RECORDS = ("report.json", "separate.json", "enhance.json")
_ESTIMATE = re.compile(r"estimate([1-9][0-9]?)")
_RANGE = re.compile(r"([1-5])(?:\s*-\s*([1-5]))?")


@dataclass(frozen=True)
class Row:
    """One item as it is written down.

    ``where`` says where, for messages. ``context`` are the sounds that are heard beside the estimates, by what they
    are (mixture or reference); ``expected`` are the scores that count as right, by estimate, None where any is.
    ``facts`` become those of :class:`auriscope.study.schema.Item`. ``is_noise``: raters hear noise with the estimates'
    spectra instead of them, which shows whether they listen.
    """

    where: str
    name: str
    system: str
    group: str
    role: str
    context: tuple[tuple[str, Path], ...]
    estimates: tuple[Path, ...]
    expected: tuple[tuple[int, ...] | None, ...] = ()
    facts: dict[str, Any] = field(default_factory=dict)
    is_noise: bool = False


@dataclass(frozen=True)
class Manifest:
    """The rows that could be read, and a line for each that could not."""

    rows: tuple[Row, ...]
    problems: tuple[str, ...] = ()


def read_manifest(path: Path, scale: str) -> Manifest:
    """Read a manifest for a campaign's ``scale``; ``AuriscopeError`` if there is no file or it is no table at all."""
    if path.is_dir():
        return read_results({folder.name: folder for folder in _system_folders(path)})
    rows: list[Row] = []
    problems: list[str] = []
    names: dict[str, str] = {}
    for where, values in _table(path):
        try:
            row = _row(where, values, path.parent, scale)
        except _WrongRowError as error:
            problems.append(f"{where}: {error}")
            continue
        if row.name in names:
            problems.append(f"{where}: the name {row.name!r} is used before, in {names[row.name]}; give each its own")
            continue
        names[row.name] = where
        rows.append(row)
    if not rows and not problems:
        cure = "write one a line, as the remarks of a new study's items.csv say"
        raise AuriscopeError(f"{printable(path)}: lists no items yet; {cure}")
    return Manifest(tuple(rows), tuple(problems))


class _WrongRowError(ValueError):
    """What is wrong with a row, and the cure."""


def _table(path: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    shown = printable(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
    except FileNotFoundError:
        raise AuriscopeError(
            f"{shown}: there is no such manifest; write it, or correct `manifest` in campaign.yaml"
        ) from None
    except (OSError, UnicodeDecodeError) as error:
        raise AuriscopeError(f"{shown}: cannot be read ({reason(error)}); save it as UTF-8") from None
    if path.suffix.lower() in (".jsonl", ".ndjson", ".json"):
        yield from _json_lines(shown, text)
    else:
        yield from _csv_lines(shown, text)


def _json_lines(shown: str, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip():
            continue
        try:
            values = json.loads(line)
        except ValueError as error:
            raise AuriscopeError(f"{shown}:{number}: is no JSON ({error}); write one object a line") from None
        if not isinstance(values, dict):
            raise AuriscopeError(f"{shown}:{number}: is no JSON object; write one object a line")
        yield f"{shown}:{number}", values


def _csv_lines(shown: str, text: str) -> Iterator[tuple[str, dict[str, Any]]]:
    numbered = [(n, line) for n, line in enumerate(text.splitlines(), 1) if line.strip() and not line.startswith("#")]
    if not numbered:
        return
    header = numbered[0][1]
    dialect: Any = csv.excel_tab if "\t" in header and "," not in header else csv.excel
    names = [name.strip() for name in next(csv.reader([header], dialect))]
    for number, line in numbered[1:]:
        cells = next(csv.reader([line], dialect))
        if len(cells) > len(names):
            raise AuriscopeError(
                f"{shown}:{number}: has {len(cells)} cells, but the header {len(names)}; quote cells with commas"
            )
        yield f"{shown}:{number}", dict(zip(names, (cell.strip() for cell in cells), strict=False))


def _row(where: str, values: Mapping[str, Any], folder: Path, scale: str) -> Row:
    given = {key: value for key, value in values.items() if value not in (None, "", [])}
    for key in given:
        if key not in COLUMNS and not _ESTIMATE.fullmatch(key) and not key.startswith("fact_"):
            raise _WrongRowError(f"there is no column {key!r}; name your own columns fact_…")
    name = _text(given, "name")
    if name is None:
        raise _WrongRowError("has no name; give each item its own")
    estimates = _estimates(given, folder)
    if not estimates:
        raise _WrongRowError("has no estimates; name the files to be rated")
    role = _text(given, "role") or "trial"
    if role not in ROLES:
        raise _WrongRowError(f"the role {role!r} is none of {', '.join(ROLES)}")
    context = [(kind, folder / path) for kind in ("mixture", "reference") if (path := _text(given, kind))]
    present = [kind for kind, _ in context]
    needed = {"quality": "mixture", "interpretation": "mixture", "similarity": "reference"}.get(scale)
    if needed is not None and needed not in present:
        raise _WrongRowError(f"has no {needed}, which raters of {scale} hear first; name the file")
    facts = _facts(given, len(estimates))
    if scale == "interpretation" and "class" not in facts:
        raise _WrongRowError("has no class, which the interpretation is said to show; name it")
    expected = _expected(given.get("expected"), len(estimates))
    if role in ("gold", "trap") and not any(expected):
        raise _WrongRowError(f"is a {role} item without expected scores; write for instance 4-5;1")
    return Row(
        where=where,
        name=name,
        system=_text(given, "system") or "unnamed",
        group=(_text(given, "group") or _text(given, "mixture") or _text(given, "reference") or name)[-200:],
        role=role,
        context=tuple(context),
        estimates=estimates,
        expected=expected,
        facts=facts,
    )


def _text(given: Mapping[str, Any], key: str) -> str | None:
    value = given.get(key)
    if value is None:
        return None
    if not isinstance(value, str | int | float) or isinstance(value, bool) or len(str(value)) > 1000:
        raise _WrongRowError(f"{key} must be a short text")
    text = str(value).strip()
    limit = 200 if key in ("name", "system", "group") else 1000
    if len(text) > limit or not text.isprintable():
        raise _WrongRowError(f"{key} must be one line of at most {limit} letters")
    return text or None


def _list(value: Any) -> list[Any]:
    if isinstance(value, list):
        return value
    return [part.strip() for part in str(value).split(";")]


def _estimates(given: Mapping[str, Any], folder: Path) -> tuple[Path, ...]:
    numbered = sorted((int(found[1]), given[key]) for key in given if (found := _ESTIMATE.fullmatch(key)))
    paths = [*(_list(given["estimates"]) if "estimates" in given else []), *(path for _, path in numbered)]
    if len(paths) > 8 or not all(isinstance(path, str) and path for path in paths):
        raise _WrongRowError("estimates must be 1 to 8 paths, divided by semicolons")
    return tuple(folder / path for path in paths)


def _expected(value: Any, num_estimates: int) -> tuple[tuple[int, ...] | None, ...]:
    if value is None:
        return (None,) * num_estimates
    parts = _list(value)
    if len(parts) != num_estimates:
        raise _WrongRowError(f"has {num_estimates} estimates, but expected scores for {len(parts)}")
    return tuple(_scores(part) for part in parts)


def _scores(part: Any) -> tuple[int, ...] | None:
    if part in (None, "", []):
        return None
    if isinstance(part, list):
        if all(isinstance(score, int) and 1 <= score <= 5 for score in part):
            return tuple(sorted(set(part)))
    elif found := _RANGE.fullmatch(str(part)):
        low, high = int(found[1]), int(found[2] or found[1])
        if low <= high:
            return tuple(range(low, high + 1))
    raise _WrongRowError(f"the expected score {part!r} is neither a number from 1 to 5 nor a range such as 4-5")


def _facts(given: Mapping[str, Any], num_estimates: int) -> dict[str, Any]:
    facts: dict[str, Any] = {}
    if "blind_si_snr_db" in given:
        scores = [
            None if part in (None, "") else _number("blind_si_snr_db", part) for part in _list(given["blind_si_snr_db"])
        ]
        if len(scores) != num_estimates:
            raise _WrongRowError(f"has {num_estimates} estimates, but blind_si_snr_db for {len(scores)}")
        facts["blind_si_snr_db"] = scores
    if "epoch" in given:
        facts["epoch"] = _number("epoch", given["epoch"])
    if corpus := _text(given, "corpus"):
        facts["corpus"] = corpus
    plain = _text(given, "class")
    classes = {language: _text(given, f"class_{language}") or plain for language in LANGUAGES}
    if any(classes.values()):
        first = next(text for text in classes.values() if text)
        facts["class"] = {language: text or first for language, text in classes.items()}
    for key, value in given.items():
        if key.startswith("fact_"):
            facts[key.removeprefix("fact_")] = value
    return facts


def _number(key: str, value: Any) -> float:
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if not abs(number) < 1e9:
        raise _WrongRowError(f"{key} {value!r} is no number")
    return number


def _record_of(folder: Path) -> tuple[Path, dict[str, Any]] | None:
    for name in _RECORDS:
        path = folder / name
        if path.is_file():
            try:
                record = json.loads(path.read_text(encoding="utf-8"))
                if isinstance(record["source"]["path"], str) and isinstance(record["tracks"], list):
                    return path, record
            except (OSError, ValueError, KeyError, TypeError):
                pass
            raise AuriscopeError(f"{printable(path)}: is no record of results; run the command again that wrote it")
    return None


def _recordings(folder: Path) -> list[Path]:
    try:
        inside = sorted(path for path in folder.iterdir() if path.is_dir())
    except OSError as error:
        raise AuriscopeError(f"{printable(folder)}: cannot be read ({reason(error)}); name a folder") from None
    return [path for path in inside if any((path / name).is_file() for name in _RECORDS)]


def _system_folders(folder: Path) -> list[Path]:
    if _recordings(folder):
        return [folder]
    systems = [path for path in sorted(folder.iterdir()) if path.is_dir() and _recordings(path)]
    if not systems:
        raise AuriscopeError(
            f"{printable(folder)}: holds no results; give the folder that `auriscope separate` or `listen` wrote, "
            "or one with such a folder for each system"
        )
    return systems


def read_results(systems: Mapping[str, Path]) -> Manifest:
    """Make rows of what ``separate``, ``enhance`` or ``listen`` wrote, by the systems' names.

    A recording that is not there for every system is a problem, because systems are compared on the same recordings.
    """
    rows: list[Row] = []
    problems: list[str] = []
    for system, folder in systems.items():
        recordings = _recordings(folder)
        if not recordings:
            raise AuriscopeError(
                f"{printable(folder)}: holds no results; give the folder that `auriscope separate` or `listen` wrote"
            )
        for recording in recordings:
            try:
                rows.append(_result_row(system, recording))
            except AuriscopeError as error:
                problems.append(str(error))
    groups = {row.group for row in rows}
    for system in systems:
        missing = sorted(groups - {row.group for row in rows if row.system == system})
        problems += [f"{system}: has no result for the recording {name}, which another system has" for name in missing]
    return Manifest(tuple(rows), tuple(problems))


def _result_row(system: str, folder: Path) -> Row:
    found = _record_of(folder)
    assert found is not None
    path, record = found
    tracks = [track if isinstance(track, dict) else {"path": track} for track in record["tracks"]]
    if not tracks or not all(isinstance(track.get("path"), str) for track in tracks):
        raise AuriscopeError(f"{printable(path)}: names no tracks; run the command again that wrote it")
    mixture = Path(record["source"]["path"])
    scores = [track.get("blind_si_snr_db") for track in tracks]
    facts = {"blind_si_snr_db": scores} if any(score is not None for score in scores) else {}
    return Row(
        where=printable(path),
        name=f"{system}/{folder.name}"[:200],
        system=system[:200],
        group=folder.name[:200],
        role="trial",
        context=(("mixture", mixture),),
        estimates=tuple(folder / Path(track["path"]).name for track in tracks),
        expected=(None,) * len(tracks),
        facts=facts,
    )


def with_training(rows: Sequence[Row], number: int, seed: int) -> list[Row]:
    """Set some recordings aside for practice, by seed: all systems' versions of ``number`` groups become training.

    So nobody practises on what they rate later.
    """
    groups = sorted({row.group for row in rows if row.role == "trial"})
    if number >= len(groups):
        raise AuriscopeError(f"there are {len(groups)} recordings; fewer of them can be set aside for practice")
    chosen = set(Random(f"training {seed}").sample(groups, number))
    return [replace(row, role="training") if row.role == "trial" and row.group in chosen else row for row in rows]


def with_noise_traps(rows: Sequence[Row], number: int, seed: int) -> list[Row]:
    """Add trapping items, by seed: copies of ``number`` trials whose estimates are replaced by noise.

    A rater who listens gives them the lowest score, or the one above it.
    """
    trials = sorted((row for row in rows if row.role == "trial"), key=lambda row: row.name)
    if number > len(trials):
        raise AuriscopeError(f"there are {len(trials)} trials; no more traps than that can be made of them")
    traps = [
        replace(
            row,
            name=f"noise trap of {row.name}"[:200],
            system="noise",
            role="trap",
            expected=((1, 2),) * len(row.estimates),
            facts={key: value for key, value in row.facts.items() if key == "class"},
            is_noise=True,
        )
        for row in Random(f"traps {seed}").sample(trials, number)
    ]
    return [*rows, *traps]


def with_scores(rows: Sequence[Row], files: Iterable[Path]) -> tuple[list[Row], list[str]]:
    """Add blind scores to the rows from what ``judge --json`` or ``listen --json`` printed, or from ``report.json``.

    Files are one object, or one object a line; tracks are found by their paths. Gives the rows, and a line for each
    file that says nothing about any of them. Scores that a row has already are replaced.
    """
    known: dict[Path, float | None] = {}
    problems: list[str] = []
    wanted = {_whole(path) for row in rows for path in row.estimates}
    for file in files:
        found = _scores_in(file)
        if not wanted & found.keys():
            problems.append(f"{printable(file)}: scores none of the items' files; its paths must lead to them")
        known.update(found)
    changed = []
    for row in rows:
        scores = [known.get(_whole(path)) for path in row.estimates]
        has_any = any(score is not None for score in scores)
        changed.append(replace(row, facts={**row.facts, "blind_si_snr_db": scores}) if has_any else row)
    return changed, problems


def _scores_in(file: Path) -> dict[Path, float | None]:
    try:
        text = file.read_text(encoding="utf-8")
        try:
            objects = [json.loads(text)]
        except ValueError:
            objects = [json.loads(line) for line in text.splitlines() if line.strip()]
        tracks = [track for value in objects for track in value.get("tracks", ())]
        found: dict[Path, float | None] = {}
        for track in tracks:
            score = track["blind_si_snr_db"]
            path = Path(track["path"])
            # What was printed is relative to where the command ran, what lies beside the tracks to its own folder.
            for place in (path, file.parent / path):
                found[_whole(place)] = None if score is None else float(score)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise AuriscopeError(
            f"{printable(file)}: holds no blind scores ({reason(error)}); give what `auriscope judge --json` printed"
        ) from None
    return found


def _whole(path: Path) -> Path:
    return path.absolute().resolve()
