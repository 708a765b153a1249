"""The items of a listening study: what a manifest names, copied into the study's storage and listed in its database.

Every sound becomes a mono WAV of 16 bits at its own rate, which all browsers play. Levels stay as they are unless
asked otherwise.
"""

from __future__ import annotations

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import soundfile
from sqlalchemy import delete, func, select
from sqlalchemy.exc import IntegrityError
from sqlalchemy.orm import make_transient

from auriscope.errors import AuriscopeError
from auriscope.signal.files import FloatArray, probe, read
from auriscope.signal.levels import db_to_amplitude, is_silent, rms_dbfs
from auriscope.signal.outputs import printable
from auriscope.study.campaign import Listening
from auriscope.study.ids import new_id
from auriscope.study.manifest import Manifest, Row, read_manifest
from auriscope.study.schema import Assignment, Item
from auriscope.study.storage import Storage, put
from auriscope.study.study import Study, audit

MAX_SECONDS = 600.0
"""Longer sounds are refused: nobody listens to them with care."""

_TOLERANCE_SECONDS = 0.1
_TOP = db_to_amplitude(-1.0)


@dataclass(frozen=True)
class Loaded:
    """What became of a manifest: items that are new and that were there before, and remarks, a line each."""

    num_new: int
    num_present: int
    warnings: tuple[str, ...] = ()


def listening_of(study: Study) -> Listening:
    """Give the campaign of a listening study; ``AuriscopeError`` if it is a collection."""
    if not isinstance(study.campaign, Listening):
        raise AuriscopeError(f"{printable(study.folder)}: is a collection; only a listening study has items")
    return study.campaign


def campaign_manifest(study: Study) -> Manifest:
    """Read the manifest that the campaign names."""
    campaign = listening_of(study)
    return read_manifest(study.folder / campaign.manifest, campaign.scale)


def problems_of(rows: Sequence[Row]) -> list[str]:
    """Say, a line each, which files are missing, are no audio, are too long or do not belong to their mixture."""
    seconds: dict[Path, float | None] = {}
    problems: list[str] = []
    for row in rows:
        for path in (*(path for _, path in row.context), *row.estimates):
            if path not in seconds:
                seconds[path] = _seconds(path, row.where, problems)
        mixture = next((path for kind, path in row.context if kind == "mixture"), None)
        whole = None if mixture is None else seconds[mixture]
        for path in row.estimates:
            part = seconds[path]
            if whole is not None and part is not None and abs(part - whole) > _TOLERANCE_SECONDS:
                problems.append(
                    f"{row.where}: {printable(path)} lasts {part:.2f} s, but its mixture {whole:.2f} s; "
                    "they do not belong together"
                )
    return problems


def _seconds(path: Path, where: str, problems: list[str]) -> float | None:
    try:
        length = probe(path).duration_seconds
    except AuriscopeError as error:
        problems.append(f"{where}: {error}")
        return None
    if length > MAX_SECONDS:
        problems.append(f"{where}: {printable(path)} lasts {length:.0f} s; cut it to {MAX_SECONDS:.0f} s at most")
        return None
    return length


def shortages(campaign: Listening, rows: Sequence[Row]) -> list[str]:
    """Say, a line each, where a session asks for more items of a role than there are."""
    asked = {
        "trial": campaign.items_per_session,
        "training": campaign.training_items,
        "gold": campaign.gold_per_session,
        "trap": campaign.traps_per_session,
    }
    lines = []
    for role, number in asked.items():
        found = sum(row.role == role for row in rows)
        if found < number:
            lines.append(f"sessions ask for {number} {role} items, but there are {found}; they get those there are")
    return lines


def load(
    study: Study,
    rows: Sequence[Row],
    *,
    level_dbfs: float | None = None,
    replace_all: bool = False,
    actor: str = "command",
) -> Loaded:
    """Copy the rows' sounds into the storage and list the items; names that are listed already are left as they are.

    All rows or none: ``AuriscopeError`` names the first problem. With ``level_dbfs`` every sound gets this RMS level,
    or less where its peaks would pass -1 dBFS. With ``replace_all`` the items that were there go, unless somebody has
    been asked to rate them.
    """
    campaign = listening_of(study)
    problems = problems_of(rows)
    if problems:
        more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
        raise AuriscopeError(f"{problems[0]}{more}")
    with study.database.read() as session:
        present = set() if replace_all else set(session.scalars(select(Item.name)))
        if replace_all:
            _refuse_if_begun(session.scalar(select(func.count()).select_from(Assignment)))
    warnings = shortages(campaign, rows)
    made: list[Item] = []
    try:
        for row in rows:
            if row.name not in present:
                made.append(_stored(study.storage, row, level_dbfs, warnings))
        gone, listed = _listed(study, made, replace_all, actor)
    except BaseException:
        for item in made:
            _forget(study.storage, item)
        raise
    for item in gone:
        _forget(study.storage, item)
    return Loaded(listed, len(rows) - listed, tuple(warnings))


def _listed(study: Study, made: list[Item], replace_all: bool, actor: str) -> tuple[list[Item], int]:
    try:
        return _list(study, made, replace_all, actor)
    except IntegrityError:
        # On PostgreSQL another process may have listed the same names at the same moment; now they can be seen.
        for item in made:
            make_transient(item)
        return _list(study, made, replace_all, actor)


def _list(study: Study, made: list[Item], replace_all: bool, actor: str) -> tuple[list[Item], int]:
    """List the items whose names are still free; give those whose files are not needed, and how many are new."""
    with study.database.write() as session:
        gone: list[Item] = []
        if replace_all:
            _refuse_if_begun(session.scalar(select(func.count()).select_from(Assignment)))
            gone = list(session.scalars(select(Item)))
            session.execute(delete(Item))
            session.expunge_all()
        # Another process may have loaded the same manifest since it was read.
        taken = set(session.scalars(select(Item.name)))
        new = [item for item in made if item.name not in taken]
        session.add_all(new)
        if new or gone:
            audit(session, actor, "items.load", details={"new": len(new), "removed": len(gone)})
        return [*gone, *(item for item in made if item.name in taken)], len(new)


def _refuse_if_begun(num_assignments: int | None) -> None:
    if num_assignments:
        raise AuriscopeError("raters have begun with the items; start a new study to rate others")


def load_if_empty(study: Study) -> int:
    """Load the campaign's manifest if no items are listed, and say how many there are; 0 for a collection.

    ``AuriscopeError`` says what keeps a listening study from having items.
    """
    if not isinstance(study.campaign, Listening):
        return 0
    count = select(func.count()).select_from(Item)
    with study.database.read() as session:
        present = session.scalar(count) or 0
    if present:
        return present
    manifest = campaign_manifest(study)
    if manifest.problems:
        raise AuriscopeError(
            f"{manifest.problems[0]} (`auriscope study items {printable(study.folder)} --check` lists all problems)"
        )
    load(study, manifest.rows, actor="server")
    with study.database.read() as session:
        return session.scalar(count) or 0


def _stored(storage: Storage, row: Row, level_dbfs: float | None, warnings: list[str]) -> Item:
    """Put the sounds of a row into the storage, and give its item."""
    item = Item(id=new_id("itm"), name=row.name, role=row.role, mixture=row.group, system=row.system, facts=row.facts)
    item.context, item.parts = [], []
    expected = row.expected or (None,) * len(row.estimates)
    try:
        for kind, path in row.context:
            item.context.append({"label": kind, **_put(storage, item, path, False, level_dbfs, warnings)})
        for path, scores in zip(row.estimates, expected, strict=True):
            part: dict[str, Any] = {
                "label": path.stem[:60],
                **_put(storage, item, path, row.is_noise, level_dbfs, warnings),
            }
            if scores is not None:
                part["expected"] = list(scores)
            item.parts.append(part)
    except BaseException:
        _forget(storage, item)
        raise
    return item


def _put(
    storage: Storage, item: Item, path: Path, is_noise: bool, level_dbfs: float | None, warnings: list[str]
) -> dict[str, Any]:
    waveform, sample_rate = read(path)
    if is_noise:
        waveform = _noise_like(waveform, seed=f"{item.name} {len(item.parts)}")
    peak = float(np.abs(waveform).max())
    if level_dbfs is not None and not is_silent(waveform):
        gain = db_to_amplitude(level_dbfs - rms_dbfs(waveform))
        if gain * peak > _TOP:
            warnings.append(f"{printable(path)}: its peaks do not leave room for {level_dbfs:g} dBFS; it stays below")
        waveform = waveform * np.float32(min(gain, _TOP / peak))
    elif peak > 1.0:
        warnings.append(f"{printable(path)}: goes beyond full scale and is clipped; give a level, such as -26 dBFS")
    number = len(item.context) + len(item.parts)
    key = f"items/{item.id}/{number}.wav"
    put(storage, key, _wav(waveform, sample_rate))
    return {"storage_key": key, "seconds": round(len(waveform) / sample_rate, 4)}


def _wav(waveform: FloatArray, sample_rate: int) -> bytes:
    file = io.BytesIO()
    soundfile.write(file, np.clip(waveform, -1.0, 1.0), sample_rate, format="WAV", subtype="PCM_16")
    return file.getvalue()


def _noise_like(waveform: FloatArray, seed: str) -> FloatArray:
    """Give steady noise with the long-term spectrum and the level of a sound: its phases are drawn anew."""
    generator = np.random.default_rng(list(seed.encode()))
    spectrum = np.abs(np.fft.rfft(waveform.astype(np.float64)))
    phases = generator.uniform(0.0, 2.0 * np.pi, len(spectrum))
    noise = np.fft.irfft(spectrum * np.exp(1j * phases), len(waveform))
    noise *= np.sqrt(np.mean(np.square(waveform, dtype=np.float64)) / max(float(np.mean(np.square(noise))), 1e-20))
    return np.clip(noise, -1.0, 1.0).astype(np.float32)


def _forget(storage: Storage, item: Item) -> None:
    for sound in (*item.context, *item.parts):
        storage.delete(sound["storage_key"])
