"""The page of an analysis: everything in one file that opens offline, without any script."""

from __future__ import annotations

from importlib import resources
from typing import Any

from jinja2 import Environment, StrictUndefined

import auriscope
from auriscope.study.analysis import plots, words
from auriscope.study.analysis.results import Analysis, Rater, TrackOpinion

MAX_RATER_ROWS = 100
MAX_SURPRISES = 10
MAX_SYSTEM_PICTURES = 12

_TRUST = {
    "yes": ("good", "Yes"),
    "partly": ("fair", "In part"),
    "not shown": ("open", "Not shown"),
    "no": ("bad", "No"),
    "unknown": ("open", "Not known"),
}


def page(analysis: Analysis) -> str:
    """Give the page as HTML; the same analysis gives the same page."""
    environment = Environment(autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True)
    environment.filters |= {
        "number": words.number,
        "interval": words.interval,
        "p": words.p_value,
        "percent": lambda share: "–" if share is None else f"{100 * share:.0f} %",
    }
    template = environment.from_string(_resource("report.html.j2"))
    return template.render(
        a=analysis,
        version=auriscope.__version__,
        style=_resource("report.css"),
        scale=words.SCALES[analysis.scale][0],
        labels=list(enumerate(words.SCALES[analysis.scale][1], 1)),
        trust=_TRUST[analysis.trust],
        facts=_facts(analysis),
        # Other scales than quality have blind scores only if somebody gave them.
        with_blind=bool(analysis.scale == "quality" or analysis.correlations or analysis.epochs or analysis.corpora),
        pictures=_pictures(analysis),
        raters=_shown_raters(analysis),
        raters_left_out=max(0, len(analysis.raters) - MAX_RATER_ROWS),
        surprises=_surprises(analysis),
        notes=lambda section: analysis.notes.get(section, []),
        has_published=any(row.published_system for row in analysis.corpora),
        bonuses=sum(rater.bonus > 0 for rater in analysis.raters),
    )


def _resource(name: str) -> str:
    return resources.files("auriscope.study.analysis").joinpath(name).read_text(encoding="utf-8")


def _facts(analysis: Analysis) -> list[str]:
    return [
        words.SCALES[analysis.scale][0],
        words.count(analysis.num_raters, "rater"),
        words.count(analysis.num_votes, "vote"),
        words.count(analysis.num_mixtures, "mixture"),
        words.count(len(analysis.systems), "system"),
    ]


def _pictures(analysis: Analysis) -> dict[str, Any]:
    by_system = [plots.scatter(analysis, system) for system in analysis.systems[:MAX_SYSTEM_PICTURES]]
    return {
        "votes": plots.votes_by_system(analysis),
        "ranks": plots.ranks(analysis) if len(analysis.ranks) > 1 else None,
        "scatter": plots.scatter(analysis, None),
        "by_system": [picture for picture in by_system if picture is not None] if len(analysis.systems) > 1 else [],
        "epochs": plots.epochs(analysis),
        "corpora": plots.corpora(analysis),
    }


def _shown_raters(analysis: Analysis) -> list[Rater]:
    """Those who are left out first, then those furthest from the others."""
    return sorted(
        analysis.raters,
        key=lambda rater: (not rater.reasons, -(rater.distance if rater.distance is not None else -1.0), rater.rater),
    )[:MAX_RATER_ROWS]


def _surprises(analysis: Analysis) -> list[TrackOpinion]:
    known = [track for track in analysis.tracks if track.beyond_expected is not None and track.num_votes > 1]
    known.sort(key=lambda track: (-abs(track.beyond_expected or 0.0), track.item, track.part))
    return known[:MAX_SURPRISES]
