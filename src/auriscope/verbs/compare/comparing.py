"""Measure every model on every set and at every duration, remembering what is measured already."""

from __future__ import annotations

import dataclasses
import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch

from auriscope import __version__
from auriscope.errors import AuriscopeError
from auriscope.pretrained import load
from auriscope.pretrained.model import Model
from auriscope.signal.outputs import make_folder
from auriscope.verbs.compare import charts, page
from auriscope.verbs.compare.cost import Cost, available_mib, cost, macs_per_second
from auriscope.verbs.compare.results import (
    ComparedModel,
    cost_csv,
    curves_csv,
    leaderboard_csv,
    leaderboard_markdown,
    ranked,
    read_curve,
    write_text,
)
from auriscope.verbs.defaults import require_separator
from auriscope.verbs.evaluate import Figure, evaluate

OnProgress = Callable[[str, float], None]
_MEMORY_SHARE = 0.8


@dataclass(frozen=True)
class CompareOptions:
    """How models are compared.

    Args:
        split: of the evaluation sets, "test" or "valid".
        durations_seconds: of the forward passes that are timed; each is one pass over the whole, unchunked.
        speed_seconds: the duration whose speed stands on the leaderboard; it must be among the durations.
        threads: of the CPU; None: all cores.
        memory_limit_gib: what a pass may take; None: four fifths of what is free.
        limit_seconds: how long a pass may take, with its repetitions; longer durations are then left out.
        offline: forbids the network.
    """

    split: str = "test"
    durations_seconds: tuple[float, ...] = (1.0, 4.0, 16.0, 60.0, 240.0, 600.0)
    speed_seconds: float = 4.0
    threads: int | None = None
    memory_limit_gib: float | None = None
    limit_seconds: float = 300.0
    offline: bool = False


@dataclass(frozen=True)
class CompareResult:
    """The leaderboard, the best first on the first set, and the files that hold it."""

    models: tuple[ComparedModel, ...]
    sets: tuple[str, ...]
    page: str
    files: tuple[str, ...]


def compare(
    models: Sequence[str],
    sets: Sequence[str],
    out: str | Path,
    options: CompareOptions | None = None,
    *,
    on_progress: OnProgress | None = None,
) -> CompareResult:
    """Compare separation models on evaluation sets; nothing is trained.

    ``out`` gets ``leaderboard.html`` (one page), the table as ``leaderboard.csv`` and ``leaderboard.md``, ``cost.csv``,
    ``curves.csv``, the charts as PNG, and ``measured.jsonl``, which remembers every figure by the model's weights: the
    same call again continues where it was stopped, and measures only what is new.

    Args:
        models: addresses, or ``label=address``. Without a label, the folder ``model`` of a run is named as the run.
        sets: evaluation sets. A model that does not fit a set has the reason in place of figures.
        out: folder for the results; made if missing.
        options: see :class:`CompareOptions`.
        on_progress: told what is being measured and the done fraction, 0 to 1.

    Raises:
        AuriscopeError: a model cannot be loaded, two have one label, or something cannot be written.
    """
    options = options or CompareOptions()
    if options.durations_seconds and options.speed_seconds not in options.durations_seconds:
        raise AuriscopeError(f"the durations must hold {options.speed_seconds:g} s, whose speed is on the leaderboard")
    folder = make_folder(out)
    named = [_named(model) for model in models]
    labels = [label for label, _ in named]
    twice = next((label for label in labels if labels.count(label) > 1), None)
    if twice:
        raise AuriscopeError(f"two models are called {twice!r}; name them with label=address")
    notify = on_progress or _nothing
    memory = _Memory(folder / "measured.jsonl")
    found = []
    for number, (label, address) in enumerate(named):

        def tell(text: str, done: float, number: int = number, label: str = label) -> None:
            notify(f"{label}: {text}", (number + done) / len(named))

        found.append(_measured(label, address, sets, options, memory, tell))
    return _written(ranked(found), tuple(sets), folder, options)


def _measured(
    label: str, address: str, sets: Sequence[str], options: CompareOptions, memory: _Memory, tell: OnProgress
) -> ComparedModel:
    model = load(address, offline=options.offline or None)
    require_separator(model, address)
    print_of = fingerprint(model)
    tell("operations", 0.0)
    macs = memory.get(["macs", _kind(model)], lambda: macs_per_second(model))
    figures: dict[str, dict[str, Figure]] = {}
    errors: dict[str, str] = {}
    steps = len(sets) + len(options.durations_seconds)
    for index, name in enumerate(sets):

        def evaluated(name: str = name, index: int = index) -> Any:
            result = evaluate(
                address,
                name,
                split=options.split,
                offline=options.offline or None,
                on_progress=lambda done: tell(name, (index + done) / steps),
            )
            return {figure: dataclasses.asdict(value) for figure, value in result.figures.items()}

        try:
            values = memory.get(["figures", print_of, name, options.split], evaluated)
        except AuriscopeError as error:
            errors[name] = str(error)
        else:
            figures[name] = {figure: Figure(**value) for figure, value in values.items()}
    costs = _costs(address, model, options, memory, lambda text, done: tell(text, (len(sets) + done) / steps))
    return ComparedModel(
        label=label,
        address=address,
        architecture=model.name,
        sample_rate=model.config.sample_rate,
        num_sources=model.config.num_sources,
        num_parameters=model.num_parameters,
        macs_per_second=macs,
        figures=figures,
        errors=errors,
        costs=costs,
        curve=read_curve(Path(address).parent) if Path(address).is_dir() else (),
        published=dict(model.Published),
    )


def _costs(address: str, model: Model, options: CompareOptions, memory: _Memory, tell: OnProgress) -> tuple[Cost, ...]:
    threads = options.threads or torch.get_num_threads()
    limit_gib = options.memory_limit_gib or _MEMORY_SHARE * available_mib() / 1024
    found: list[Cost] = []
    for index, duration in enumerate(sorted(options.durations_seconds)):
        tell(f"{duration:g} s", index)
        if found and found[-1].seconds is None:
            found.append(dataclasses.replace(found[-1], duration_seconds=duration))
            continue

        def pass_over(duration: float = duration) -> Any:
            measured = cost(
                address,
                duration,
                threads=threads,
                memory_mib=1024 * limit_gib,
                limit_seconds=options.limit_seconds,
                offline=options.offline,
            )
            return dataclasses.asdict(measured)

        key = [
            "cost",
            _kind(model),
            str(duration),
            str(threads),
            str(options.memory_limit_gib),
            str(options.limit_seconds),
        ]
        found.append(Cost(**memory.get(key, pass_over)))
    return tuple(found)


def _written(
    models: list[ComparedModel], sets: tuple[str, ...], folder: Path, options: CompareOptions
) -> CompareResult:
    tables = {
        "leaderboard.csv": leaderboard_csv(models, sets, options.speed_seconds),
        "leaderboard.md": leaderboard_markdown(models, sets, options.speed_seconds),
        "cost.csv": cost_csv(models),
        "curves.csv": curves_csv(models),
    }
    for name, text in tables.items():
        write_text(folder / name, text)
    drawn = charts.draw_all(models, sets, folder)
    write_text(folder / page.NAME, page.render(models, sets, options.split, options.speed_seconds, folder, drawn))
    files = (*tables, *(chart.name for chart in drawn))
    return CompareResult(tuple(models), sets, str(folder / page.NAME), tuple(str(folder / name) for name in files))


def _kind(model: Model) -> str:
    """What cost depends on: the weights change neither time nor memory."""
    return f"{__version__} {model.name} {model.config!r}"


def fingerprint(model: Model) -> str:
    """A hash of a model's configuration and weights, by which figures are remembered."""
    digest = hashlib.sha256(_kind(model).encode())
    for name, value in sorted(model.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().tobytes())
    return digest.hexdigest()[:24]


def _named(model: str) -> tuple[str, str]:
    label, equals, address = model.partition("=")
    if equals:
        return label, address
    path = Path(model)
    if path.is_dir() and path.name == "model" and path.resolve().parent.name:
        return path.resolve().parent.name, model
    return (path.resolve().name if path.is_dir() else model), model


def _nothing(_text: str, _fraction: float) -> None:
    pass


class _Memory:
    """What has been measured: one JSON object a line, added as it comes; the last of a key counts."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.values: dict[str, Any] = {}
        if path.exists():
            for line in path.read_text(encoding="utf-8").splitlines():
                try:
                    entry = json.loads(line)
                    self.values[json.dumps(entry["key"])] = entry["value"]
                except (ValueError, KeyError, TypeError):
                    continue  # a line half written when the process was killed: it is measured again

    def get(self, key: list[str], measure: Callable[[], Any]) -> Any:
        """The value of a key, measured now if it has not been yet."""
        name = json.dumps(key)
        if name not in self.values:
            self.values[name] = measure()
            with self.path.open("a", encoding="utf-8") as file:
                file.write(json.dumps({"key": key, "value": self.values[name]}) + "\n")
        return self.values[name]
