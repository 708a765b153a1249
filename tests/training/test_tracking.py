from __future__ import annotations

import csv
import io

import pytest
from rich.console import Console

from auriscope.training import progress, tracking
from auriscope.training.tracking import Curves, Tracker


def rows(path):
    with path.open() as file:
        return list(csv.DictReader(file))


def test_rows_are_on_the_disk_at_once(tmp_path):
    curves = Curves(tmp_path / "train.csv", 0)
    curves.add({"step": 1, "loss": 0.5})
    curves.add({"step": 2, "loss": 0.25})
    assert (tmp_path / "train.csv").read_text() == "step,loss\n1,0.5\n2,0.25\n"


def test_a_resumed_run_repeats_no_step_and_survives_half_a_row(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("step,loss\n10,0.5\n20,0.4\n30,0.3\n40,0.2")
    curves = Curves(path, 20)
    assert path.read_text() == "step,loss\n10,0.5\n20,0.4\n"
    curves.add({"step": 30, "loss": 0.31})
    assert [row["step"] for row in rows(path)] == ["10", "20", "30"]


@pytest.mark.parametrize("cut", range(0, 24))
def test_a_file_cut_anywhere_keeps_its_whole_rows(tmp_path, cut):
    path = tmp_path / "train.csv"
    path.write_text("step,loss\n10,0.5\n20,0.4\n"[:cut])
    curves = Curves(path, 100)
    assert [row["step"] for row in curves.rows] == [10, 20][: max(0, (cut - 10) // 7)]
    curves.add({"step": 101, "loss": 1.0})
    assert rows(path)[-1] == {"step": "101", "loss": "1.0"}


def test_new_names_become_columns(tmp_path):
    curves = Curves(tmp_path / "train.csv", 0)
    curves.add({"step": 1, "loss": 0.5})
    curves.add({"step": 2, "loss": 0.4, "extra": 7.0})
    curves.add({"step": 3, "extra": 8.0})
    assert rows(tmp_path / "train.csv") == [
        {"step": "1", "loss": "0.5", "extra": ""},
        {"step": "2", "loss": "0.4", "extra": "7.0"},
        {"step": "3", "loss": "", "extra": "8.0"},
    ]


def test_curves_are_drawn_and_written_for_tensorboard(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    tracker = Tracker(tmp_path, 0, "si_snr_db")
    tracker.draw()  # nothing seen yet
    for step in (1, 2, 3):
        tracker.add("train", {"step": step, "hours_of_audio": step / 10, "loss": 1 / step})
    tracker.add("valid", {"step": 3, "hours_of_audio": 0.3, "si_snr_db": float("nan"), "other": 1.0})
    tracker.draw()
    tracker.close()
    assert (tmp_path / "curves.png").read_bytes().startswith(b"\x89PNG")
    events = accumulator.EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("train/loss")] == [
        (step, pytest.approx(1 / step)) for step in (1, 2, 3)
    ]


def test_curves_are_kept_without_tensorboard(tmp_path, monkeypatch):
    monkeypatch.setitem(tracking.__dict__["__builtins__"], "__import__", _without_tensorboard(__import__))
    tracker = Tracker(tmp_path, 0, "loss")
    tracker.add("train", {"step": 1, "loss": 1.0})
    tracker.close()
    assert not (tmp_path / "tensorboard").exists()
    assert len(rows(tmp_path / "train.csv")) == 1


def _without_tensorboard(original):
    def importer(name, *args, **kwargs):
        if "tensorboard" in name:
            raise ImportError(name)
        return original(name, *args, **kwargs)

    return importer


class Clock:
    def __init__(self):
        self.now = 100.0

    def monotonic(self):
        return self.now


@pytest.fixture
def clock(monkeypatch):
    clock = Clock()
    monkeypatch.setattr(progress, "time", clock)
    return clock


def test_without_a_terminal_there_is_a_line_per_interval(clock):
    text = io.StringIO()
    shown = progress.TrainingProgress(console=Console(file=text, width=200), line_every_seconds=10)
    with shown:
        for step in range(1, 31):
            shown.update(step, step / 100, 4.0 * step, {"loss": 1 / step})
            clock.now += 1
    lines = text.getvalue().splitlines()
    assert len(lines) == 3
    assert lines[0] == "1.0 %, step 1, loss 1"
    assert lines[1] == "11.0 %, step 11, loss 0.09091, 1 steps/s, 4 s of audio/s, 0:01:29 left"


def test_on_a_terminal_there_is_a_bar(clock):
    text = io.StringIO()
    shown = progress.TrainingProgress(console=Console(file=text, width=150, force_terminal=True))
    with shown:
        for step in range(1, 11):
            shown.update(step, step / 100, 2.0 * step, {"loss": 0.5})
            clock.now += 1
        shown.say("a line of its own")
    assert "2 s of audio/s" in text.getvalue()
    assert "a line of its own" in text.getvalue()


def test_nothing_is_shown_when_it_is_not_wanted():
    text = io.StringIO()
    shown = progress.TrainingProgress(show=False, console=Console(file=text, force_terminal=True))
    with shown:
        shown.update(1, 0.1, 1.0, {"loss": 1.0})
        shown.say("nothing")
    assert text.getvalue() == ""


def test_the_progress_goes_to_stderr_and_never_to_stdout(tmp_path, tiny, capsys):
    tiny.run(tmp_path, max_steps=10)
    out, err = capsys.readouterr()
    assert out == ""
    assert "step 10: validation error" in err
