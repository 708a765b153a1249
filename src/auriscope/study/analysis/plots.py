"""Pictures of the results as SVG that is part of the page: its colours are the page's, in the light and in the dark."""

from __future__ import annotations

import io
import re
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from auriscope.metrics.opinion import Estimate
from auriscope.study.analysis import words
from auriscope.study.analysis.blind import line
from auriscope.study.analysis.results import Analysis, CorpusRow, EpochRow, TrackOpinion

# Colours that stand for the page's own, which they are replaced by.
_INK, _SOFT, _LINE, _CARD = "#010101", "#020202", "#030303", "#040404"
_HUES = ("#050505", "#060606", "#070707", "#080808", "#090909", "#0a0a0a")
_VARIABLES = {
    _INK: "var(--ink)",
    _SOFT: "var(--soft)",
    _LINE: "var(--line)",
    _CARD: "var(--card)",
    **{hue: f"var(--hue{index + 1})" for index, hue in enumerate(_HUES)},
}
_MARKERS = ("o", "s", "^", "D", "v", "P")
# More points than that are only ink: a picture shows as many, drawn by the seed.
_MAX_POINTS = 600


@dataclass(frozen=True)
class Picture:
    """A picture: its ``svg``, its ``title`` and a ``detail`` beside it, and what it shows in words."""

    svg: str
    title: str
    text: str
    detail: str = ""


def votes_by_system(analysis: Analysis) -> Picture:
    """Draw the votes of each system as a box, and the mean opinion with its interval."""
    rows = analysis.means

    def draw(axes: Any) -> None:
        places = np.arange(len(rows))[::-1]
        boxes = axes.boxplot(
            [np.repeat(np.arange(1, 6), row.counts) for row in rows],
            positions=places,
            orientation="horizontal",
            widths=0.5,
            patch_artist=True,
            flierprops={"marker": "|", "markersize": 5, "markeredgecolor": _SOFT},
            medianprops={"color": _INK, "linewidth": 2},
            whiskerprops={"color": _SOFT},
            capprops={"color": _SOFT},
            boxprops={"edgecolor": _SOFT},
        )
        for index, box in enumerate(boxes["boxes"]):
            box.set_facecolor(_hue(index))
            box.set_alpha(0.35)
        for place, row in zip(places, rows, strict=True):
            if row.mean.low is not None and row.mean.high is not None:
                axes.plot([row.mean.low, row.mean.high], [place, place], color=_INK, linewidth=2.2)
            axes.plot([row.mean.value], [place], "D", color=_CARD, markeredgecolor=_INK, markersize=6)
        axes.set_yticks(places, [_short(row.system) for row in rows])
        axes.set_xlim(0.7, 5.3)
        axes.set_xticks(range(1, 6), [f"{n}\n{label}" for n, label in enumerate(words.SCALES[analysis.scale][1], 1)])
        axes.grid(axis="x", color=_LINE)

    text = "; ".join(
        f"{row.system}: mean {words.number(row.mean.value)}, interval {words.interval(row.mean)}, half of the votes "
        f"from {_quantile(row.counts, 0.25)} to {_quantile(row.counts, 0.75)}"
        for row in rows
    )
    return _picture(draw, "Votes by system", text, height=1.1 + 0.45 * len(rows))


def ranks(analysis: Analysis) -> Picture:
    """Draw each system's rank and the ranks that the votes leave open."""
    rows = analysis.ranks

    def draw(axes: Any) -> None:
        places = np.arange(len(rows))[::-1]
        for index, (place, row) in enumerate(zip(places, rows, strict=True)):
            hue = _hue(_order(analysis, row.system, index))
            axes.plot(
                [row.best - 0.05, row.worst + 0.05],
                [place, place],
                color=hue,
                linewidth=11,
                alpha=0.5,
                solid_capstyle="round",
            )
            axes.plot([row.rank], [place], "o", color=_CARD, markeredgecolor=_INK, markersize=7)
        axes.set_yticks(places, [_short(row.system) for row in rows])
        axes.set_xlim(0.5, len(rows) + 0.5)
        axes.set_xticks(range(1, len(rows) + 1, max(1, len(rows) // 10)))
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel("rank")
        axes.grid(axis="x", color=_LINE)

    text = "; ".join(f"{row.system}: rank {row.rank}, from {row.best} to {row.worst}" for row in rows)
    return _picture(draw, "Ranks", text, height=1.0 + 0.4 * len(rows))


def scatter(analysis: Analysis, system: str | None) -> Picture | None:
    """Draw blind estimate and opinion of the tracks, of one system or of all, with the least-squares line.

    None where no track has both.
    """
    known = [track for track in analysis.tracks if track.blind_db is not None]
    chosen = [track for track in known if system is None or track.system == system]
    if not chosen:
        return None
    x_all, y = _points(known)[0], _points(chosen)[1]
    x = _points(chosen)[0]
    shown = np.arange(len(chosen))
    if len(chosen) > _MAX_POINTS:
        shown = np.sort(np.random.default_rng(analysis.seed).choice(len(chosen), _MAX_POINTS, replace=False))

    def draw(axes: Any) -> None:
        for index, name in enumerate(analysis.systems):
            mine = [place for place in shown if chosen[place].system == name]
            if mine:
                hue, marker = _hue(index), _MARKERS[index % len(_MARKERS)]
                axes.plot(
                    x[mine],
                    y[mine],
                    marker,
                    color=hue,
                    alpha=0.65,
                    markersize=4.5,
                    markeredgewidth=0,
                    label=_short(name),
                )
        if len(chosen) > 2 and np.ptp(x) > 0:
            slope, offset = line(x, y)
            ends = np.array([x.min(), x.max()])
            axes.plot(ends, np.clip(slope * ends + offset, 1, 5), color=_INK, linewidth=1.8)
        margin = 0.05 * max(float(np.ptp(x_all)), 1.0)
        axes.set_xlim(float(x_all.min()) - margin, float(x_all.max()) + margin)
        axes.set_ylim(0.8, 5.2)
        axes.set_yticks(range(1, 6))
        axes.set_xlabel("blind SI-SNR estimate, dB")
        axes.set_ylabel("mean opinion")
        axes.grid(color=_LINE)
        if system is None and len(analysis.systems) > 1:
            axes.legend(
                loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2, frameon=False, labelcolor=_INK, fontsize=9
            )

    row = next(
        (r for r in analysis.correlations if r.system == system and (r.scope == "pooled") == (system is None)), None
    )
    told = "" if row is None else f"r = {words.number(row.pearson.value)} ({words.interval(row.pearson)})"
    name = "All tracks" if system is None else system
    lines = 0 if system is not None else (len(analysis.systems) + 1) // 2
    text = f"{words.count(len(chosen), 'track')} by blind estimate and mean opinion{told and ', '}{told}"
    return replace(_picture(draw, name, text, height=3.1 + 0.24 * lines), detail=told)


def epochs(analysis: Analysis) -> list[Picture]:
    """Draw the blind estimate, and where people voted the opinion, over the epochs of training."""
    by_system: dict[str, list[EpochRow]] = defaultdict(list)
    for row in analysis.epochs:
        by_system[row.system].append(row)
    made = []
    kinds: list[tuple[str, str, Callable[[EpochRow], Estimate]]] = [
        ("Blind estimate over training", "blind SI-SNR estimate, dB", lambda row: row.blind_db),
        ("Mean opinion over training", "mean opinion", lambda row: row.opinion),
    ]
    for title, label, get in kinds:
        curves = {
            system: [row for row in rows if get(row).value is not None] for system, rows in sorted(by_system.items())
        }
        curves = {system: rows for system, rows in curves.items() if rows}
        if curves:
            made.append(_curves(analysis, title, label, curves, get))
    return made


def _curves(
    analysis: Analysis, title: str, label: str, curves: dict[str, list[EpochRow]], get: Callable[[EpochRow], Estimate]
) -> Picture:
    def draw(axes: Any) -> None:
        for index, (system, rows) in enumerate(curves.items()):
            hue = _hue(_order(analysis, system, index))
            x = [row.epoch for row in rows]
            axes.plot(
                x,
                [get(row).value for row in rows],
                color=hue,
                marker=_MARKERS[index % len(_MARKERS)],
                markersize=5,
                label=_short(system),
            )
            banded = [row for row in rows if get(row).low is not None]
            axes.fill_between(
                [row.epoch for row in banded],
                [get(row).low for row in banded],
                [get(row).high for row in banded],
                color=hue,
                alpha=0.18,
                linewidth=0,
            )
        axes.set_xlabel("epoch")
        axes.set_ylabel(label)
        axes.grid(color=_LINE)
        if len(curves) > 1:
            axes.legend(
                loc="upper center", bbox_to_anchor=(0.5, -0.22), ncols=2, frameon=False, labelcolor=_INK, fontsize=9
            )

    text = "; ".join(
        f"{system}: " + ", ".join(f"{words.number(get(row).value)} at epoch {row.epoch:g}" for row in _ends(rows))
        for system, rows in curves.items()
    )
    return _picture(draw, title, text, height=3.1 + (0.24 * ((len(curves) + 1) // 2) if len(curves) > 1 else 0))


def corpora(analysis: Analysis) -> Picture | None:
    """Draw each system's mean blind estimate on synthetic and on real mixtures; None if no system has any."""
    rows = [row for row in analysis.corpora if row.num_synthetic or row.num_real]
    if not rows:
        return None

    def draw(axes: Any) -> None:
        places = np.arange(len(rows))[::-1]
        kinds: list[tuple[float, str, str, Callable[[CorpusRow], Estimate]]] = [
            (0.12, "o", "synthetic", lambda row: row.synthetic_db),
            (-0.12, "s", "real", lambda row: row.real_db),
        ]
        for offset, marker, label, get in kinds:
            hue = _HUES[0] if label == "synthetic" else _HUES[1]
            named = False
            for place, row in zip(places, rows, strict=True):
                found = get(row)
                if found.value is None:
                    continue
                if found.low is not None and found.high is not None:
                    axes.plot([found.low, found.high], [place + offset] * 2, color=hue, linewidth=2.2)
                axes.plot(
                    [found.value], [place + offset], marker, color=hue, markersize=7, label=None if named else label
                )
                named = True
        axes.set_yticks(places, [_short(row.system) for row in rows])
        axes.set_ylim(-0.6, len(rows) - 0.4)
        axes.set_xlabel("mean blind SI-SNR estimate, dB (measured)")
        axes.grid(axis="x", color=_LINE)
        axes.legend(loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2, frameon=False, labelcolor=_INK, fontsize=9)

    text = "; ".join(
        f"{row.system}: {words.number(row.synthetic_db.value)} dB on synthetic, {words.number(row.real_db.value)} dB "
        "on real mixtures"
        for row in rows
    )
    return _picture(draw, "Synthetic and real mixtures", text, height=1.5 + 0.5 * len(rows))


def _picture(draw: Callable[[Any], None], title: str, text: str, *, height: float) -> Picture:
    from matplotlib import rc_context
    from matplotlib.figure import Figure

    settings: Any = {
        "svg.fonttype": "none",
        "svg.hashsalt": title + text,
        "font.family": "sans-serif",
        "font.size": 10,
        "axes.edgecolor": _LINE,
        "axes.labelcolor": _SOFT,
        "axes.axisbelow": True,
        "xtick.color": _LINE,
        "ytick.color": _LINE,
        "xtick.labelcolor": _INK,
        "ytick.labelcolor": _INK,
        "legend.borderaxespad": 0.0,
        # What a system is called is never a formula.
        "text.parse_math": False,
    }
    with rc_context(settings):
        figure = Figure(figsize=(4.6, height), facecolor="none", layout="constrained")
        axes = figure.add_subplot(facecolor="none")
        axes.spines[["top", "right"]].set_visible(False)
        draw(axes)
        file = io.StringIO()
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None, "Creator": None})
    return Picture(_for_page(file.getvalue()), title, f"{title}. {text}.")


def _for_page(svg: str) -> str:
    """Make an SVG part of a page: without prologue and metadata, with the page's colours and letters."""
    svg = svg[svg.index("<svg") :]
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    used = set(re.findall(r'(?:xlink:href="#|url\(#)([^")]+)', svg))
    svg = re.sub(r' id="([^"]+)"', lambda found: found[0] if found[1] in used else "", svg)
    svg = re.sub(r'<svg [^>]*?viewBox="([^"]+)"[^>]*>', r'<svg viewBox="\1" aria-hidden="true" focusable="false" xmlns:xlink="http://www.w3.org/1999/xlink">', svg, count=1, flags=re.DOTALL)  # fmt: skip # noqa: E501
    svg = re.sub(r"font: ([\d.]+px) [^;\"]*", r"font: \1 inherit", svg)
    svg = re.sub(r"font-family:[^;\"]*;?", "", svg)
    for colour, variable in _VARIABLES.items():
        svg = svg.replace(colour, variable)
    return svg


def _points(tracks: Sequence[TrackOpinion]) -> tuple[Any, Any]:
    x = np.array([track.blind_db for track in tracks], dtype=np.float64)
    return x, np.array([track.mean.value for track in tracks], dtype=np.float64)


def _quantile(counts: Sequence[int], share: float) -> str:
    return f"{np.quantile(np.repeat(np.arange(1, 6), counts), share):g}"


def _ends(rows: list[EpochRow]) -> list[EpochRow]:
    return rows if len(rows) < 2 else [rows[0], rows[-1]]


def _order(analysis: Analysis, system: str, otherwise: int) -> int:
    """Give a system its place in the list of systems, so that it has one colour in all pictures."""
    return analysis.systems.index(system) if system in analysis.systems else len(analysis.systems) + otherwise


def _hue(index: int) -> str:
    return _HUES[index % len(_HUES)]


def _short(name: str) -> str:
    return name if len(name) <= 24 else f"{name[:11]}…{name[-12:]}"
