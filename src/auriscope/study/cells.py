"""Texts in the cells of CSV files: a spreadsheet shows them, and never calculates them.

A text that begins like a formula is written with an apostrophe before it (OWASP, "CSV Injection").
"""

from __future__ import annotations

FORMULA = ("=", "+", "-", "@", "\t", "\r")
"""What a text begins with that a spreadsheet takes for a formula."""


def without_formula(text: str) -> str:
    """Give a text as it is written into a cell.

    >>> without_formula("=1+1"), without_formula("A1B2")
    ("'=1+1", 'A1B2')
    """
    return f"'{text}" if text.startswith(FORMULA) else text


def as_meant(cell: str) -> str:
    """Give the text that :func:`without_formula` was given.

    >>> as_meant("'=1+1"), as_meant("'tis")
    ('=1+1', "'tis")
    """
    return cell[1:] if cell.startswith("'") and cell[1:].startswith(FORMULA) else cell
