"""``compare``: models side by side on evaluation sets, with what each costs, as a page, tables and charts."""

from __future__ import annotations

from auriscope.verbs.compare.comparing import CompareOptions, CompareResult, compare
from auriscope.verbs.compare.cost import Cost
from auriscope.verbs.compare.results import ComparedModel, CurvePoint

__all__ = ["CompareOptions", "CompareResult", "ComparedModel", "Cost", "CurvePoint", "compare"]
