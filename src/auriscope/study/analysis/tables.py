"""The votes and facts of a listening study as plain tables: read from its database, or from CSV files alone.

A table of votes has the columns ``rater``, ``mixture``, ``system`` and ``score``, and may have ``item``, ``part``,
``role``, ``seconds_on_page``, ``session``, ``label`` and the columns of facts. It is what the study's own export of
votes writes.

A table of facts has a row for each item (``item`` or ``name``), or for each part of one (with ``part``), and any of
``blind_si_snr_db`` (``3.1;2.8`` by part), ``epoch``, ``corpus``, ``class`` and ``expected`` (``4-5;1``). With
``system`` and ``mixture`` (or ``group``) it may name items that nobody rated: for the curves over training and the
table of corpora. A study's manifest is such a table.
"""

from __future__ import annotations

import csv
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auriscope.errors import AuriscopeError
from auriscope.signal.outputs import printable, reason
from auriscope.study.cells import as_meant

if TYPE_CHECKING:
    from auriscope.study.study import Study

Expected = tuple[tuple[int, ...] | None, ...]

_RANGE = re.compile(r"([1-5])(?:\s*-\s*([1-5]))?")
_ROLES = ("trial", "training", "gold", "trap")


@dataclass(frozen=True)
class ItemFacts:
    """What is known of an item: a mixture with what one system made of it, in parts.

    ``blind_db`` is the blind estimate of SI-SNR by part in dB, None where there is none; ``expected`` the scores that
    count as right, by part. ``group`` is the class that an interpretation shows.
    """

    name: str
    mixture: str
    system: str
    role: str = "trial"
    labels: tuple[str, ...] = ()
    blind_db: tuple[float | None, ...] = ()
    epoch: float | None = None
    corpus: str | None = None
    expected: Expected = ()
    group: str | None = None


@dataclass(frozen=True)
class VoteRow:
    """A rater's score, 1 to 5, of a part of an item, and the seconds that they spent on its page."""

    rater: str
    item: str
    part: int
    score: int
    seconds: float | None = None
    session: str | None = None


@dataclass
class Data:
    """A study's votes and items; ``bonus`` is the amount that a good rater gets, in ``currency``."""

    title: str
    scale: str
    items: dict[str, ItemFacts]
    votes: list[VoteRow]
    bonus: float = 0.0
    currency: str = "USD"
    notes: list[str] = field(default_factory=list)


def read_study(study: Study) -> Data:
    """Read the votes of a listening study from its database, without those that are being removed.

    ``AuriscopeError`` if it is a collection.
    """
    from sqlalchemy import select

    from auriscope.study.items import listening_of
    from auriscope.study.schema import Assignment, Item, Session, Vote

    campaign = listening_of(study)
    query = (
        select(
            Session.contributor_id, Session.id, Assignment.item_id, Vote.part, Vote.score, Assignment.seconds_on_page
        )
        .join(Assignment, Assignment.id == Vote.assignment_id)
        .join(Session, Session.id == Assignment.session_id)
        .where(Session.state != "removed")
        .order_by(Assignment.answered_at, Assignment.id, Vote.part)
    )
    with study.database.read() as session:
        items = {item.id: _from_database(item) for item in session.scalars(select(Item).order_by(Item.name))}
        votes = [
            VoteRow(rater, items[item].name, part, score, seconds, visit)
            for rater, visit, item, part, score, seconds in session.execute(query)
        ]
    title = campaign.title[campaign.languages[0]]
    by_name = {item.name: item for item in items.values()}
    return Data(title, campaign.scale, by_name, votes, campaign.payment.bonus, campaign.payment.currency)


def _from_database(item: Any) -> ItemFacts:
    facts = item.facts or {}
    blind = facts.get("blind_si_snr_db")
    if not isinstance(blind, list):
        blind = [blind] * len(item.parts)
    epoch = facts.get("epoch")
    group = facts.get("class")
    return ItemFacts(
        name=item.name,
        mixture=item.mixture,
        system=item.system,
        role=item.role,
        labels=tuple(str(part.get("label", "")) for part in item.parts),
        blind_db=tuple(_finite(value) for value in blind),
        epoch=_finite(epoch),
        corpus=str(facts["corpus"]) if facts.get("corpus") else None,
        expected=tuple(tuple(part["expected"]) if part.get("expected") else None for part in item.parts),
        group=str(next(iter(group.values()), "")) if isinstance(group, dict) else (str(group) if group else None),
    )


def read_csv(path: Path, scale: str = "quality") -> Data:
    """Read a table of votes; ``AuriscopeError`` names the file, the line and the cure."""
    needed = ("rater", "mixture", "system", "score")
    items: dict[str, ItemFacts] = {}
    votes = []
    for where, row in _rows(path, needed):
        name = row.get("item") or row.get("name") or f"{row['mixture']} / {row['system']}"
        part = _whole(where, "part", row.get("part") or "0", 0, 63)
        found = items.get(name)
        if found is None:
            role = row.get("role") or "trial"
            if role not in _ROLES:
                raise AuriscopeError(f"{where}: the role {role!r} is none of {', '.join(_ROLES)}")
            found = ItemFacts(name, row["mixture"], row["system"], role)
        elif (found.mixture, found.system) != (row["mixture"], row["system"]):
            raise AuriscopeError(f"{where}: the item {name!r} has another mixture or system in an earlier line")
        items[name] = _with_facts(found, where, row, part)
        score = _whole(where, "score", row["score"], 1, 5)
        seconds = _number(where, "seconds_on_page", row.get("seconds_on_page"))
        votes.append(VoteRow(row["rater"], name, part, score, seconds, row.get("session") or None))
    if not votes:
        raise AuriscopeError(f"{printable(path)}: holds no votes; each line is one vote, under a line of names")
    return Data(path.stem, scale, dict(sorted(items.items())), votes)


def read_facts(path: Path, data: Data) -> None:
    """Add a table of facts to a study; what it says replaces what was known.

    Items that nobody rated are added if it names their system and mixture; others are passed over, with a note.
    ``AuriscopeError`` names the file, the line and the cure.
    """
    unknown: dict[str, None] = {}
    for where, row in _rows(path, ()):
        name = row.get("item") or row.get("name")
        if not name:
            raise AuriscopeError(f"{where}: names no item; give it in a column 'item' or 'name'")
        part = _whole(where, "part", row["part"], 0, 63) if row.get("part") else None
        found = data.items.get(name)
        if found is None:
            mixture = row.get("group") or row.get("mixture")
            if not row.get("system") or not mixture:
                unknown[name] = None
                continue
            found = ItemFacts(name, mixture, row["system"], row.get("role") or "trial")
        data.items[name] = _with_facts(found, where, row, part)
    if unknown:
        first = next(iter(unknown))
        data.notes.append(
            f"The facts name {len(unknown)} items that are not in this study ({printable(first)} is the first); "
            "they are passed over."
        )


def _with_facts(item: ItemFacts, where: str, row: Mapping[str, str], part: int | None) -> ItemFacts:
    changes: dict[str, Any] = {}
    if text := row.get("blind_si_snr_db"):
        changes["blind_db"] = _placed(item.blind_db, part, [_number(where, "blind_si_snr_db", t) for t in _split(text)])
    if text := row.get("expected"):
        changes["expected"] = _placed(item.expected, part, [_scores(where, t) for t in _split(text)])
    if text := row.get("label"):
        changes["labels"] = tuple(label or "" for label in _placed(item.labels, part, [text]))
    if text := row.get("epoch"):
        changes["epoch"] = _number(where, "epoch", text)
    if text := row.get("corpus"):
        changes["corpus"] = text
    if text := row.get("class") or row.get("class_en"):
        changes["group"] = text
    return replace(item, **changes) if changes else item


def _placed(old: Sequence[Any], part: int | None, values: list[Any]) -> tuple[Any, ...]:
    """Put values in the places of all parts, or one in that of a part."""
    if len(values) > 1 or part is None:
        return tuple(values)
    made = [*old, *[None] * (part + 1 - len(old))]
    made[part] = values[0]
    return tuple(made)


def _rows(path: Path, needed: Iterable[str]) -> Iterator[tuple[str, dict[str, str]]]:
    shown = printable(path)
    try:
        text = path.read_text(encoding="utf-8-sig")
        lines = [line for line in text.splitlines(keepends=True) if not line.startswith("#")]
        reader = csv.DictReader(lines, restval="", strict=True)
        names = [name.strip() for name in reader.fieldnames or ()]
        reader.fieldnames = names
        for name in needed:
            if name not in names:
                raise AuriscopeError(f"{shown}: has no column {name!r}; its first line must name it")
        for number, row in enumerate(reader, 2):
            if None in row:
                raise AuriscopeError(f"{shown}, line {number}: has more cells than names; quote cells with commas")
            cells = {name: as_meant((value or "").strip()) for name, value in row.items()}
            for name in needed:
                if not cells[name]:
                    raise AuriscopeError(f"{shown}, line {number}: {name} is empty; every vote needs it")
            yield f"{shown}, line {number}", cells
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise AuriscopeError(f"{shown}: cannot be read as a table ({reason(error)}); save it as CSV in UTF-8") from None


def _split(text: str) -> list[str]:
    return [part.strip() for part in text.split(";")]


def _scores(where: str, text: str) -> tuple[int, ...] | None:
    if not text:
        return None
    if found := _RANGE.fullmatch(text):
        low, high = int(found[1]), int(found[2] or found[1])
        if low <= high:
            return tuple(range(low, high + 1))
    raise AuriscopeError(
        f"{where}: the expected score {text!r} is neither a number from 1 to 5 nor a range such as 4-5"
    )


def _whole(where: str, name: str, text: str, lowest: int, highest: int) -> int:
    value = _number(where, name, text)
    if value is None or value != int(value) or not lowest <= value <= highest:
        raise AuriscopeError(f"{where}: {name} {text!r} is no whole number from {lowest} to {highest}")
    return int(value)


def _number(where: str, name: str, text: str | None) -> float | None:
    if not text:
        return None
    try:
        value = float(text)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise AuriscopeError(f"{where}: {name} {text!r} is no number")
    return value


def _finite(value: Any) -> float | None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        return None
    return float(value)
