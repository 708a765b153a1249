"""What comes of a search."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Match:
    """A stretch of a recording that was found, and its score: the cosine of its and the query's embedding, -1 to 1."""

    path: str
    start_seconds: float
    end_seconds: float
    score: float


@dataclass(frozen=True)
class MatchResult:
    """What was found for a query, from the best on.

    ``kind`` is "text" or "sound". ``num_windows`` were searched; ``approximate``: by a graph of them. ``files`` are
    what was written.
    """

    query: str
    kind: str
    index: tuple[str, ...]
    model: str
    num_windows: int
    approximate: bool
    results: tuple[Match, ...]
    files: tuple[str, ...] = ()

    def to_dict(self) -> dict[str, Any]:
        """Give what ``--json`` prints: every field."""
        return dataclasses.asdict(self)
