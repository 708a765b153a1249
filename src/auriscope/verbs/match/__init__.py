"""The verb ``match``: words or a recording in, the sounds of an index that are nearest out, with a page of players."""

from __future__ import annotations

import dataclasses
import json
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from auriscope.crossmodal.clap import CrossModal
from auriscope.errors import AuriscopeError
from auriscope.signal.files import AUDIO_SUFFIXES
from auriscope.signal.outputs import make_folder, printable
from auriscope.verbs.batch import StrPath, write_record
from auriscope.verbs.match.page import write_page
from auriscope.verbs.match.results import Match, MatchResult
from auriscope.verbs.match.searching import Searcher

__all__ = ["Match", "MatchResult", "Searcher", "match"]

PAGE, RECORD = "match.html", "match.json"
TOP = 10
"""So many results are given, unless others are asked for."""


def match(
    query: StrPath,
    index: StrPath | Sequence[StrPath],
    out: StrPath | None = None,
    *,
    model: StrPath | CrossModal | None = None,
    top: int = TOP,
    text: bool = False,
    every_window: bool = False,
    exact: bool = False,
    device: Any = "cpu",
    offline: bool | None = None,
) -> MatchResult:
    """Find the sounds of an index that are nearest to words, or to a recording; with ``out``, write a page of them.

    Args:
        query: words, or the path of a recording, of any length. What is the path of a file is a recording.
        index: the folder of an index, or several folders of indices that one model made.
        out: folder for ``match.html``, which plays what was found, and ``match.json``, made if missing; None: nothing
            is written.
        model: the model, or its address; by default the one that made the index.
        top: how many results to give.
        text: the query is words, even where there is a file of that name.
        every_window: several windows of one recording may be found; else each recording comes once, with its best.
        exact: look at every window, even where an index has a graph.
        device: where the model runs.
        offline: forbid the network, which only a ``hf://`` address would use.

    Returns:
        What was found, from the best on.

    Raises:
        AuriscopeError: the query is empty or cannot be read, there is no such index, it holds nothing, or it was made
            by another model.
    """
    if top < 1:
        raise AuriscopeError(f"{top} results are none; ask for one at least")
    recording = None if text else _recording(query)
    if recording is None and not os.fspath(query).strip():
        raise AuriscopeError("the query is empty; say in words what is to be heard, or name a recording")
    folders = [index] if isinstance(index, str | os.PathLike) else list(index)
    with Searcher(folders, model=model, device=device, offline=offline, exact=exact) as searcher:
        vector = searcher.embedded(os.fspath(query) if recording is None else recording)
        found = searcher.search(vector, top, every_window=every_window)
        result = MatchResult(
            query=os.fspath(query),
            kind="text" if recording is None else "sound",
            index=tuple(os.fspath(folder) for folder in folders),
            model=searcher.address,
            num_windows=searcher.num_windows,
            approximate=searcher.approximate,
            results=tuple(found),
        )
    if out is None:
        return result
    folder = make_folder(out)
    files = tuple(os.fspath(folder / name) for name in (PAGE, RECORD))
    result = dataclasses.replace(result, files=files)
    address = None if model is None or isinstance(model, CrossModal) else os.fspath(model)
    again = _options(top=top, text=text, every_window=every_window, exact=exact, model=address)
    write_page(result, folder / PAGE, again)
    write_record(folder / RECORD, json.loads(json.dumps(result.to_dict(), allow_nan=False)))
    return result


def _options(*, top: int, text: bool, every_window: bool, exact: bool, model: str | None) -> list[str]:
    """What was asked for beside the query and the indices, as the command line has it."""
    flags = {"--text": text, "--every-window": every_window, "--exact": exact}
    given = [] if model is None else ["--model", model]
    given += [] if top == TOP else ["--top", str(top)]
    return [*given, *(name for name, there in flags.items() if there)]


def _recording(query: StrPath) -> Path | None:
    """The recording that a query names; None: it is words."""
    path = Path(query)
    try:
        if path.is_file() or not isinstance(query, str):
            return path
    except (OSError, ValueError):
        # Too long, or otherwise no name of a file.
        return None
    if path.suffix.lower() in AUDIO_SUFFIXES:
        raise AuriscopeError(f"{printable(query)}: no such file; check the path, or say that it is words: --text")
    return None
