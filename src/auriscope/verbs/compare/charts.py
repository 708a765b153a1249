"""The charts of a comparison: learning curves, time, memory, and quality against operations."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from auriscope.signal.outputs import written_aside
from auriscope.verbs.compare.results import ComparedModel

if TYPE_CHECKING:
    from matplotlib.axes import Axes

_MARKERS = "osD^vP*Xh<>d"
_WIDTH, _HEIGHT = 8.4, 5.0


@dataclass(frozen=True)
class Chart:
    """A chart that was drawn: its file, a heading, and its words for those who do not see it."""

    name: str
    title: str
    description: str


def draw_all(models: Sequence[ComparedModel], sets: Sequence[str], folder: Path) -> list[Chart]:
    """Draw every chart for which there are data into ``folder`` and return them."""
    chosen: list[tuple[Chart, Callable[[Axes], None]]] = []
    styles = {model.label: _style(index) for index, model in enumerate(models)}
    if any(len(model.curve) > 1 for model in models):
        chart = Chart("curves.png", "Learning curves", _curve_words(models))
        chosen.append((chart, lambda axes: _curves(axes, models, styles)))
    if any(cost.seconds for model in models for cost in model.costs):
        time = Chart("time.png", "Time of a forward pass", _cost_words("time"))
        memory = Chart("memory.png", "Peak memory of a forward pass", _cost_words("memory"))
        chosen.append((time, lambda axes: _costs(axes, models, styles, "seconds", "time (s)")))
        chosen.append((memory, lambda axes: _costs(axes, models, styles, "peak_mib", "peak memory (MiB)")))
    if sets and any(_value(model, sets[0]) is not None for model in models):
        words = f"SI-SNRi on {sets[0]} against operations per second of audio; the table has the numbers."
        chart = Chart("tradeoff.png", "Quality against operations", words)
        chosen.append((chart, lambda axes: _tradeoff(axes, models, styles, sets[0])))
    for chart, draw in chosen:
        _save(folder / chart.name, chart.title, draw)
    return [chart for chart, _ in chosen]


def _save(path: Path, title: str, draw: Callable[[Axes], None]) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(_WIDTH, _HEIGHT), layout="constrained")
    axes = figure.add_subplot()
    draw(axes)
    axes.set_title(title)
    axes.grid(alpha=0.25, which="both")
    axes.spines[["top", "right"]].set_visible(False)
    with written_aside(path) as aside:
        figure.savefig(aside, dpi=130, format="png")


def _style(index: int) -> dict[str, Any]:
    import matplotlib

    # Twenty colours come in pairs of dark and light: the dark ones first, then the light ones with dashes.
    colours = matplotlib.colormaps["tab20"].colors  # type: ignore[attr-defined]
    return {
        "color": colours[(2 * index) % 20 + (index // 10) % 2],
        "marker": _MARKERS[index % len(_MARKERS)],
        "linestyle": "-" if index < 10 else "--",
        "markersize": 5,
        "linewidth": 1.6,
    }


def _curves(axes: Axes, models: Sequence[ComparedModel], styles: dict[str, dict[str, Any]]) -> None:
    for model in models:
        if len(model.curve) > 1:
            hours = [point.hours_of_audio for point in model.curve]
            axes.plot(hours, [point.si_snri_db for point in model.curve], label=model.label, **styles[model.label])
    axes.axhline(0, color="gray", linewidth=0.8)
    axes.set_xlabel("mixed audio seen (h)")
    axes.set_ylabel("SI-SNRi on validation speakers (dB)")
    _legend(axes)


def _costs(
    axes: Axes, models: Sequence[ComparedModel], styles: dict[str, dict[str, Any]], what: str, label: str
) -> None:
    for model in models:
        points = [(cost.duration_seconds, getattr(cost, what)) for cost in model.costs if cost.seconds]
        if points:
            axes.plot(*zip(*points, strict=True), label=model.label, **styles[model.label])
    axes.set_xscale("log")
    axes.set_yscale("log")
    durations = sorted({cost.duration_seconds for model in models for cost in model.costs})
    axes.set_xticks(durations, [f"{duration:g}" for duration in durations])
    axes.minorticks_off()
    axes.set_xlabel("duration of the recording (s)")
    axes.set_ylabel(label)
    _legend(axes)


def _tradeoff(axes: Axes, models: Sequence[ComparedModel], styles: dict[str, dict[str, Any]], name: str) -> None:
    for model in models:
        value = _value(model, name)
        if value is not None:
            style = styles[model.label]
            axes.plot(
                model.macs_per_second / 1e9,
                value,
                color=style["color"],
                marker=style["marker"],
                markersize=8,
                linestyle="none",
                label=model.label,
            )
    axes.set_xscale("log")
    axes.set_xlabel("billion multiply-accumulates per second of audio")
    axes.set_ylabel(f"SI-SNRi on {name} (dB)")
    _legend(axes)


def _legend(axes: Axes) -> None:
    axes.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), fontsize=8, frameon=False)


def _value(model: ComparedModel, name: str) -> float | None:
    figure = model.figures.get(name, {}).get("si_snri_db")
    return figure.value if figure else None


def _curve_words(models: Sequence[ComparedModel]) -> str:
    ends = [f"{model.label} {model.curve[-1].si_snri_db:.1f} dB" for model in models if len(model.curve) > 1]
    return f"SI-SNRi on validation speakers over hours of mixed audio; at the end: {', '.join(ends)}."


def _cost_words(what: str) -> str:
    return (
        f"The {what} of one forward pass over recordings of growing duration, one line per model; the table below has "
        "the numbers."
    )
