"""Listing the corpora of the field from where they lie as distributed; one module for each family of layouts."""

from __future__ import annotations

from auriscope.data.prepare import librimix, musdb, voicebank, wsj0
from auriscope.data.prepare.layout import Layout, Selection, inspect

LAYOUTS: dict[str, Layout] = {
    layout.name: layout for module in (wsj0, librimix, voicebank, musdb) for layout in module.LAYOUTS
}
"""The corpora that can be prepared, by name."""

__all__ = ["LAYOUTS", "Layout", "Selection", "inspect"]
