"""Plots of the dashboard: SVG without scripts or styles of its own, with a sentence that says what is to be seen."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from markupsafe import Markup

_WIDTH = 360
_LEFT, _RIGHT, _TOP = 40, 352, 14


@dataclass(frozen=True)
class Plot:
    """A plot: its ``title``, its picture ``svg``, and the ``rows`` of the table that says the same in numbers."""

    title: str
    heads: tuple[str, str]
    rows: list[tuple[str, int]]
    svg: Markup


def columns(title: str, heads: tuple[str, str], values: Mapping[str, int]) -> Plot:
    """Draw columns side by side, for days and histograms; their order is that of the mapping."""
    rows = list(values.items())
    top = max([*values.values(), 1])
    height, floor = 150, 122
    step = (_RIGHT - _LEFT) / max(len(rows), 1)
    parts = [_line(_LEFT, floor, _RIGHT, floor), _line(_LEFT, _TOP, _RIGHT, _TOP)]
    parts += [_text(_LEFT - 6, floor + 4, "0", "end"), _text(_LEFT - 6, _TOP + 4, str(top), "end")]
    for index, (label, count) in enumerate(rows):
        size = (floor - _TOP) * count / top
        parts.append(_bar(_LEFT + index * step + step * 0.12, floor - size, step * 0.76, size, f"{label}: {count}"))
    if rows:
        parts.append(_text(_LEFT, floor + 18, rows[0][0], "start"))
        parts.append(_text(_RIGHT, floor + 18, rows[-1][0], "end"))
    return Plot(title, heads, rows, _svg(height, _sentence(title, rows), parts))


def bars(title: str, heads: tuple[str, str], values: Mapping[str, int]) -> Plot:
    """Draw bars one below the other, for kinds of things."""
    rows = list(values.items())
    top = max([*values.values(), 1])
    left, right, step = 118, 306, 30
    parts = []
    for index, (label, count) in enumerate(rows):
        y = 8 + index * step
        parts.append(_text(left - 8, y + 15, label, "end"))
        parts.append(_bar(left, y, max((right - left) * count / top, 1), 20, f"{label}: {count}"))
        parts.append(_text(left + (right - left) * count / top + 6, y + 15, str(count), "start"))
    return Plot(title, heads, rows, _svg(12 + step * max(len(rows), 1), _sentence(title, rows), parts))


def _sentence(title: str, rows: list[tuple[str, int]]) -> str:
    total = sum(count for _, count in rows)
    if not total:
        return f"{title}: nothing yet."
    label, most = max(rows, key=lambda row: row[1])
    return f"{title}: {total} in all, most for {label} ({most})."


def _svg(height: int, sentence: str, parts: list[Markup]) -> Markup:
    opening = Markup('<svg class="plot" viewBox="0 0 {} {}" role="img" aria-label="{}">').format(
        _WIDTH, height, sentence
    )
    return opening + Markup("").join(parts) + Markup("</svg>")


def _bar(x: float, y: float, width: float, height: float, title: str) -> Markup:
    return Markup('<rect class="bar" x="{}" y="{}" width="{}" height="{}"><title>{}</title></rect>').format(
        *(round(value, 1) for value in (x, y, width, height)), title
    )


def _line(x1: float, y1: float, x2: float, y2: float) -> Markup:
    return Markup('<line class="grid" x1="{}" y1="{}" x2="{}" y2="{}"/>').format(x1, y1, x2, y2)


def _text(x: float, y: float, text: str, anchor: str) -> Markup:
    return Markup('<text x="{}" y="{}" text-anchor="{}">{}</text>').format(round(x, 1), round(y, 1), anchor, text)
