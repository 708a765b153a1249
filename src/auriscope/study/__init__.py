"""The web side: collecting recordings, listening studies, releases of corpora, and the statistics of their results.

Never imports torch. Names are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auriscope.study.campaign import Campaign, read_campaign
    from auriscope.study.study import Study

_HOMES = {"Campaign": "campaign", "Study": "study", "read_campaign": "campaign"}

__all__ = ["Campaign", "Study", "read_campaign"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"auriscope.study.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'auriscope.study' has no attribute {name!r}")
