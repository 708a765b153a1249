"""What a listening study has found: from its database or from tables, one page and the tables behind it.

Names are imported on first use.
"""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from auriscope.study.analysis.analysis import Settings, analyse
    from auriscope.study.analysis.files import write_analysis
    from auriscope.study.analysis.results import Analysis
    from auriscope.study.analysis.tables import Data, read_csv, read_facts, read_study

_HOMES = {
    "Analysis": "results",
    "Data": "tables",
    "Settings": "analysis",
    "analyse": "analysis",
    "read_csv": "tables",
    "read_facts": "tables",
    "read_study": "tables",
    "write_analysis": "files",
}

__all__ = ["Analysis", "Data", "Settings", "analyse", "read_csv", "read_facts", "read_study", "write_analysis"]


def __getattr__(name: str) -> Any:
    if name in _HOMES:
        return getattr(import_module(f"auriscope.study.analysis.{_HOMES[name]}"), name)
    raise AttributeError(f"module 'auriscope.study.analysis' has no attribute {name!r}")
