"""How well blind estimates agree with the true SI-SNR, per separator and pooled, on speakers nobody was trained on.

    python benchmarks/blind_estimate.py --estimator quality/sisnr.pooled --separator separation/bandsplit.mini \
        --separator runs/convtasnet/model --out build/blind_estimate

Every separator separates every mixture of the sets (two talkers, test split); every estimator judges all tracks as
``judge`` does. Written are ``tracks.csv`` (one row per track, estimator and separator), ``table.md`` and ``table.csv``
(Pearson, Spearman, mean absolute error, mean error, the coverage of the 80 % intervals and the share in range), and
``scatter.png``. Intervals are 95 % bootstrap intervals over mixtures: tracks of one mixture, and its separations by
several separators, are resampled together. REAL-M's published figures stand below the table (other data).
"""

from __future__ import annotations

import argparse
import csv
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from scipy.stats import pearsonr, spearmanr

from auriscope.data import evaluation_set
from auriscope.pretrained import load
from auriscope.quality import coverage, predict_long, true_si_snr
from auriscope.quality.task import separator_function
from auriscope.signal.resampling import resample

SETS = ("libri2mix-mini-clean", "libri2mix-mini-noisy-reverb")
POOLED = "all separators"
PUBLISHED = (
    "REAL-M (Subakan et al. 2022), Pearson: 0.80 on LibriMix and 0.81 on WHAMR! trained on one separator, "
    "0.82-0.85 and 0.84-0.87 pooled."
)
Row = dict[str, Any]


def main() -> None:
    arguments = _arguments()
    out = Path(arguments.out)
    out.mkdir(parents=True, exist_ok=True)
    rows = list(measure(arguments.estimator, arguments.separator, arguments.set, arguments.split, arguments.max_items))
    _write_csv(out / "tracks.csv", rows)
    table = summarize(rows)
    _write_csv(out / "table.csv", table)
    (out / "table.md").write_text(markdown(table) + f"\n{PUBLISHED}\n", encoding="utf-8")
    scatter(rows, out / "scatter.png")
    print((out / "table.md").read_text(encoding="utf-8"))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--estimator", action="append", required=True, help="address of a quality model; repeatable")
    parser.add_argument("--separator", action="append", required=True, help="address of a separator; repeatable")
    parser.add_argument("--set", action="append", help=f"evaluation set; repeatable (default: {', '.join(SETS)})")
    parser.add_argument("--split", default="test", choices=("test", "valid"))
    parser.add_argument("--max-items", type=int, help="only so many mixtures of each set")
    parser.add_argument("--out", default="build/blind_estimate", help="folder for tables and plots")
    arguments = parser.parse_args()
    arguments.set = arguments.set or list(SETS)
    return arguments


@torch.no_grad()
def measure(
    estimators: Sequence[str], separators: Sequence[str], sets: Sequence[str], split: str, max_items: int | None = None
) -> Iterator[Row]:
    """Give one row per track: what separated it, how good it truly is, and what each estimator says."""
    judges = {address: load(address) for address in estimators}
    for name in sets:
        items = evaluation_set(name, split)
        number = len(items) if max_items is None else min(max_items, len(items))
        for separator in separators:
            separate = separator_function(load(separator), items.sample_rate)
            for index in range(number):
                item = items[index]
                mixture = item.mixture[None]
                tracks = separate(mixture)
                true, _ = true_si_snr(tracks, item.sources[None])
                for address, judge in judges.items():
                    rate = judge.config.sample_rate
                    prediction = predict_long(
                        judge, *(resample(x[0], items.sample_rate, rate) for x in (mixture, tracks))
                    )
                    for track in range(tracks.shape[1]):
                        yield {
                            "estimator": address,
                            "separator": separator,
                            "set": name,
                            "id": item.id,
                            "track": track + 1,
                            "si_snr_db": float(true[0, track]),
                            "blind_si_snr_db": float(prediction.score_db[0, track]),
                            "expected_error_db": float(prediction.expected_error_db[0, track]),
                            "in_range": bool(prediction.in_range[0, track]),
                        }
                print(f"\r{name} {separator} {index + 1}/{number}", end="", flush=True)
            print()


def summarize(rows: Sequence[Row]) -> list[Row]:
    """Give the figures of every estimator and set, per separator and over all of them."""
    table = []
    for estimator in dict.fromkeys(row["estimator"] for row in rows):
        for name in dict.fromkeys(row["set"] for row in rows):
            own = [row for row in rows if row["estimator"] == estimator and row["set"] == name]
            separators = list(dict.fromkeys(row["separator"] for row in own))
            for separator in [*separators, *([POOLED] if len(separators) > 1 else [])]:
                chosen = [row for row in own if separator in (POOLED, row["separator"])]
                table.append(
                    {"estimator": estimator, "set": name, "separator": separator, "num_tracks": len(chosen)}
                    | _figures(chosen)
                )
    return table


def _figures(rows: Sequence[Row]) -> Row:
    clusters: dict[str, list[tuple[float, ...]]] = {}
    for row in rows:
        values = (row["blind_si_snr_db"], row["si_snr_db"], row["expected_error_db"], float(row["in_range"]))
        if np.isfinite(values).all():
            clusters.setdefault(row["id"], []).append(values)
    groups = [np.array(values) for values in clusters.values()]
    statistics: dict[str, Callable[[np.ndarray[Any, Any]], float]] = {
        "pearson": lambda v: float(pearsonr(v[:, 0], v[:, 1]).statistic),
        "spearman": lambda v: float(spearmanr(v[:, 0], v[:, 1]).statistic),
        "mean_absolute_error_db": lambda v: float(np.abs(v[:, 0] - v[:, 1]).mean()),
        "mean_error_db": lambda v: float((v[:, 0] - v[:, 1]).mean()),
        "coverage_80": lambda v: coverage(torch.tensor(v[:, 0] - v[:, 1]), torch.tensor(v[:, 2]), 0.8),
        "share_in_range": lambda v: float(v[:, 3].mean()),
    }
    figures: Row = {"mean_si_snr_db": float(np.concatenate(groups)[:, 1].mean())}
    for name, statistic in statistics.items():
        rng = np.random.default_rng(0)
        drawn = [
            statistic(np.concatenate([groups[number] for number in rng.integers(len(groups), size=len(groups))]))
            for _ in range(1000)
        ]
        figures[name] = statistic(np.concatenate(groups))
        figures[f"{name}_low"], figures[f"{name}_high"] = (float(end) for end in np.nanpercentile(drawn, [2.5, 97.5]))
    return figures


def markdown(table: Sequence[Row]) -> str:
    """Lay the table out for the documentation, intervals in brackets."""
    lines = [
        "| estimator | set | separator | tracks | true SI-SNR | Pearson | Spearman | mean absolute error | mean error "
        "| coverage of 80 % | in range |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    for row in table:

        def cell(name: str, unit: str = "", row: Row = row) -> str:
            return f"{row[name]:.2f}{unit} [{row[f'{name}_low']:.2f}, {row[f'{name}_high']:.2f}]"

        lines.append(
            f"| {row['estimator']} | {row['set']} | {row['separator']} | {row['num_tracks']} "
            f"| {row['mean_si_snr_db']:.1f} dB | {cell('pearson')} | {cell('spearman')} "
            f"| {cell('mean_absolute_error_db', ' dB')} | {cell('mean_error_db', ' dB')} | {cell('coverage_80')} "
            f"| {cell('share_in_range')} |"
        )
    return "\n".join(lines) + "\n"


def scatter(rows: Sequence[Row], path: Path) -> None:
    """Plot blind over true SI-SNR: a row of panels per estimator, a panel per set, a colour per separator."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    estimators = list(dict.fromkeys(row["estimator"] for row in rows))
    sets = list(dict.fromkeys(row["set"] for row in rows))
    separators = list(dict.fromkeys(row["separator"] for row in rows))
    figure, axes = pyplot.subplots(
        len(estimators), len(sets), figsize=(5 * len(sets), 4.6 * len(estimators)), squeeze=False, layout="constrained"
    )
    values = np.array([[row["si_snr_db"], row["blind_si_snr_db"]] for row in rows])
    low, high = np.nanpercentile(values, [0.5, 99.5])
    for line, estimator in zip(axes, estimators, strict=True):
        for axis, name in zip(line, sets, strict=True):
            for separator in separators:
                chosen = [
                    (row["si_snr_db"], row["blind_si_snr_db"])
                    for row in rows
                    if (row["estimator"], row["set"], row["separator"]) == (estimator, name, separator)
                ]
                axis.plot(*np.array(chosen).T, ".", markersize=4, alpha=0.6, label=separator)
            axis.plot([low, high], [low, high], color="0.4", linewidth=1)
            axis.set(
                title=f"{estimator}\n{name}",
                xlabel="true SI-SNR (dB)",
                ylabel="blind estimate (dB)",
                xlim=(low - 2, high + 2),
                ylim=(low - 2, high + 2),
            )
    axes[0, 0].legend(fontsize=8)
    figure.savefig(path, dpi=150)
    pyplot.close(figure)


def _write_csv(path: Path, rows: Sequence[Row]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, fieldnames=list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)


if __name__ == "__main__":
    main()
