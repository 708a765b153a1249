"""The contract of the command line: help, exit codes, one line per problem, JSON, and no half-written output."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import soundfile
from typer.main import get_command

import auriscope
from auriscope.cli import app
from auriscope.cli.console import emit

COMMANDS = (
    "listen",
    "separate",
    "enhance",
    "judge",
    "transcribe",
    "align",
    "say",
    "wer",
    "diarize",
    "embed",
    "verify",
    "classify",
    "index",
    "match",
    "explain",
    "prepare",
    "curate",
    "train",
    "evaluate",
    "compare",
    "export",
    "models",
)


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file())


# Help and version


def test_the_commands_are_those_of_the_design() -> None:
    assert tuple(get_command(app).commands) == (*COMMANDS, "study")


@pytest.mark.parametrize("command", COMMANDS)
def test_help_is_complete(call: Callable[..., Any], command: str) -> None:
    outcome = call(command, "--help")
    assert outcome.code == 0
    shown = " ".join(outcome.out.split())
    for parameter in get_command(app).commands[command].params:
        if parameter.name == "help":
            continue
        assert parameter.help, f"{command}: {parameter.name} has no help"
        name = parameter.opts[-1] if parameter.param_type_name == "option" else parameter.metavar
        assert name in shown
    assert get_command(app).commands[command].help


@pytest.mark.parametrize("command", COMMANDS)
def test_every_verb_has_json(call: Callable[..., Any], command: str) -> None:
    assert "--json" in call(command, "--help").out


def test_version(call: Callable[..., Any]) -> None:
    outcome = call("--version")
    assert (outcome.code, outcome.out.strip()) == (0, f"auriscope {auriscope.__version__}")


@pytest.mark.parametrize("arguments", [["--help"], ["listen", "--help"], ["--version"], ["listen"], ["nonsense"]])
def test_help_and_usage_need_no_torch(arguments: list[str]) -> None:
    code = (
        "import sys, runpy\n"
        "from auriscope.cli import main\n"
        f"sys.argv = ['auriscope', *{arguments!r}]\n"
        "try:\n    main()\nexcept SystemExit:\n    pass\n"
        "heavy = {'torch', 'numpy', 'scipy', 'matplotlib'} & set(sys.modules)\n"
        "sys.exit(f'{heavy} imported' if heavy else 0)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


# Wrong usage: 2


@pytest.mark.parametrize(
    "arguments",
    [
        ["listen"],
        ["separate"],
        ["judge"],
        ["judge", "mixture.wav"],
        ["train"],
        ["evaluate", "some-model"],
        ["nonsense"],
        ["listen", "a.wav", "--nonsense"],
        ["listen", "a.wav", "--speakers", "2.5"],
        ["listen", "a.wav", "--speakers", "many"],
        ["separate", "a.wav", "--speakers", "0"],
        ["separate", "a.wav", "--channel", "-1"],
        ["separate", "a.wav", "--channel", "left"],
        ["listen", "a.wav", "--threads", "0"],
    ],
)
def test_wrong_usage_is_one_line_and_2(call: Callable[..., Any], arguments: list[str]) -> None:
    outcome = call(*arguments)
    assert outcome.code == 2
    assert outcome.out == ""
    (line,) = outcome.err.splitlines()
    assert line.startswith("auriscope: ")
    assert "--help" in line


def test_a_mistyped_command_is_answered_with_the_nearest(call: Callable[..., Any]) -> None:
    assert "'listen'" in call("lisen", "a.wav").err


def test_no_arguments_show_the_help(call: Callable[..., Any]) -> None:
    outcome = call()
    assert outcome.code == 2
    assert "Usage" in outcome.out + outcome.err


# Unexpected errors and interrupts


def test_a_defect_is_one_line(call: Callable[..., Any], monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> list[Any]:
        raise ZeroDivisionError("first\nsecond")

    monkeypatch.setattr("auriscope.pretrained.list_shipped", fail)
    monkeypatch.delenv("AURISCOPE_DEBUG", raising=False)
    outcome = call("models")
    assert outcome.code == 1
    (line,) = outcome.err.splitlines()
    assert "ZeroDivisionError: first second" in line
    assert "AURISCOPE_DEBUG=1" in line


def test_an_interrupt_is_130(start: Callable[..., Any], tmp_path: Path) -> None:
    code = (
        "import auriscope.pretrained as room\n"
        "def stop():\n    raise KeyboardInterrupt\n"
        "room.list_shipped = stop\n"
        "import sys; sys.argv = ['auriscope', 'models']\n"
        "from auriscope.cli import main; main()\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 130
    assert len(done.stderr.splitlines()) == 1
    assert "Traceback" not in done.stderr


def test_a_reader_that_leaves_is_no_problem(separator: Path) -> None:
    command = [sys.executable, "-c", "from auriscope.cli import main; main()", "models", "--json"]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stdout is not None
    assert process.stderr is not None
    process.stdout.close()
    errors = process.stderr.read()
    process.wait(timeout=60)
    process.stderr.close()
    assert "Traceback" not in errors
    assert "Exception ignored" not in errors


def test_json_has_no_nan(capsys: pytest.CaptureFixture[str]) -> None:
    emit({"a": float("nan"), "b": [float("inf"), np.float64("nan")], "c": 1.5})
    assert json.loads(capsys.readouterr().out) == {"a": None, "b": [None, None], "c": 1.5}


# models


def test_models_as_json(call: Callable[..., Any]) -> None:
    outcome = call("models", "--json")
    assert outcome.code == 0
    found = {entry["address"]: entry for entry in outcome.objects}
    for entry in found.values():
        assert entry.keys() >= {"address", "room", "num_parameters", "sample_rate", "licence", "metrics"}
        # Griffin and Lim's vocoder has nothing to learn.
        assert entry["num_parameters"] > 0 or entry["address"] == "synthesis/griffin-lim"
        assert entry["address"].startswith(entry["room"] + "/")
    assert round(found["separation/dprnn"]["num_parameters"] / 1e6, 1) == 2.6
    assert {"separation/convtasnet", "separation/sepformer", "quality/sisnr"} <= set(found)


def test_models_as_a_table(call: Callable[..., Any]) -> None:
    outcome = call("models")
    assert outcome.code == 0
    assert re.search(r"separation/dprnn\s+2,\d{3},\d{3}", outcome.out)


# separate, listen and judge on good input


def test_separate_as_json(
    call: Callable[..., Any], recording: Callable[..., Path], separator: Path, tmp_path: Path
) -> None:
    paths = [recording("b.wav", rate=16000), recording("a.flac")]
    outcome = call("separate", *paths, "--model", separator, "--out", tmp_path / "out", "--json")
    assert outcome.code == 0, outcome.err
    assert [entry["input"] for entry in outcome.objects] == [str(path) for path in paths]
    for entry, path in zip(outcome.objects, paths, strict=True):
        assert entry.keys() >= {"input", "model", "sample_rate", "tracks"}
        assert entry["model"] == str(separator)
        assert len(entry["tracks"]) == 2
        for track in entry["tracks"]:
            assert soundfile.info(track).frames == soundfile.info(path).frames
            assert soundfile.info(track).samplerate == entry["sample_rate"] == soundfile.info(path).samplerate


def test_listen_as_json(
    call: Callable[..., Any], recording: Callable[..., Path], separator: Path, estimator: Path, tmp_path: Path
) -> None:
    path = recording("talk.wav")
    options = ["--model", separator, "--quality-model", estimator, "--out", tmp_path / "out", "--json"]
    outcome = call("listen", path, *options)
    assert outcome.code == 0, outcome.err
    (entry,) = outcome.objects
    assert entry.keys() >= {"input", "report", "num_speakers", "tracks"}
    assert entry["num_speakers"] == 2
    assert Path(entry["report"]).is_file()
    for track in entry["tracks"]:
        assert track.keys() >= {"path", "blind_si_snr_db", "expected_error_db", "text", "turns"}
        assert Path(track["path"]).is_file()
    assert any(isinstance(track["blind_si_snr_db"], float) for track in entry["tracks"])
    (again,) = call("listen", path, *options).objects
    assert again["resumed"] is True


def test_people_get_words(
    call: Callable[..., Any], recording: Callable[..., Path], separator: Path, estimator: Path, tmp_path: Path
) -> None:
    path = recording("talk.wav", channels=2)
    options = ["--model", separator, "--quality-model", estimator, "--out", tmp_path / "out"]
    outcome = call("listen", path, *options)
    assert outcome.code == 0, outcome.err
    assert "dB ±" in outcome.out
    assert "2 channels were mixed down" in outcome.out
    assert str(tmp_path / "out" / "talk" / "report.html") in outcome.out
    assert "(done before)" in call("listen", path, *options).out


def test_judge_with_references(
    call: Callable[..., Any], recording: Callable[..., Path], estimator: Path, tmp_path: Path
) -> None:
    rng = np.random.default_rng(0)
    sources = 0.1 * rng.standard_normal((2, 2 * 8000))
    references = [tmp_path / "first.wav", tmp_path / "second.wav"]
    for path, source in zip(references, sources, strict=True):
        soundfile.write(path, source, 8000, subtype="FLOAT")
    soundfile.write(tmp_path / "mixture.wav", sources.sum(0), 8000, subtype="FLOAT")
    tracks = [tmp_path / "b.wav", tmp_path / "a.wav"]
    soundfile.write(tracks[0], sources[1] + 0.1 * sources[0], 8000, subtype="FLOAT")
    soundfile.write(tracks[1], sources[0] + 0.316 * sources[1], 8000, subtype="FLOAT")
    options = ["--ref", references[0], "--ref", references[1], "--quality-model", estimator, "--json"]
    outcome = call("judge", tmp_path / "mixture.wav", *tracks, *options)
    assert outcome.code == 0, outcome.err
    (entry,) = outcome.objects
    assert entry["mixture"] == str(tmp_path / "mixture.wav")
    assert [track["path"] for track in entry["tracks"]] == [str(track) for track in tracks]
    assert entry["tracks"][0]["si_snr_db"] == pytest.approx(20.0, abs=0.5)
    assert entry["tracks"][1]["si_snr_db"] == pytest.approx(10.0, abs=0.5)
    for track in entry["tracks"]:
        assert track.keys() >= {"blind_si_snr_db", "expected_error_db", "si_snr_db", "si_snri_db", "sdr_db"}
        assert track["si_snri_db"] == pytest.approx(track["si_snr_db"], abs=0.5)


def test_judge_in_words(call: Callable[..., Any], recording: Callable[..., Path], estimator: Path) -> None:
    mixture, track = recording("mixture.wav"), recording("track.wav")
    outcome = call("judge", mixture, track, "--quality-model", estimator)
    assert outcome.code == 0, outcome.err
    assert str(track) in outcome.out
    assert "dB" in outcome.out


# Bad input


def bad_inputs(folder: Path) -> dict[str, Path]:
    """Every kind of broken recording that issue 2 names."""
    folder.mkdir(parents=True, exist_ok=True)
    noise = 0.1 * np.random.default_rng(0).standard_normal(16000).astype(np.float32)
    whole = folder / "whole.wav"
    soundfile.write(whole, noise, 8000)
    made = {"missing": folder / "missing.wav", "empty": folder / "empty.wav", "header": folder / "header.wav"}
    made["empty"].write_bytes(b"")
    made["header"].write_bytes(whole.read_bytes()[:44])
    made["text"] = folder / "text.wav"
    made["text"].write_text("this is no audio\n" * 100)
    made["no samples"] = folder / "none.wav"
    soundfile.write(made["no samples"], noise[:0], 8000)
    for name, value in (("nan", np.nan), ("infinity", np.inf)):
        made[name] = folder / f"{name}.wav"
        broken = noise.copy()
        broken[12000] = value
        soundfile.write(made[name], broken, 8000, subtype="FLOAT")
    whole.unlink()
    return made


KINDS = ("missing", "empty", "header", "text", "no samples", "nan", "infinity")


@pytest.mark.parametrize("verb", ["separate", "listen"])
def test_bad_files_cost_a_line_each_and_stop_no_other(
    call: Callable[..., Any],
    recording: Callable[..., Path],
    separator: Path,
    estimator: Path,
    tmp_path: Path,
    verb: str,
) -> None:
    bad = bad_inputs(tmp_path / "bad")
    assert set(bad) == set(KINDS)
    good = [recording("first.wav"), recording("last.wav", seed=1)]
    inputs = [good[0], *bad.values(), good[1]]
    options = ["--model", separator, "--out", tmp_path / "out", "--json"]
    options += ["--quality-model", estimator] if verb == "listen" else []
    outcome = call(verb, *inputs, *options)
    assert outcome.code == 1
    assert [entry["input"] for entry in outcome.objects] == [str(path) for path in inputs]
    for entry in outcome.objects[1:-1]:
        assert set(entry) == {"input", "error"}
        assert entry["input"] in entry["error"]
        assert "\n" not in entry["error"]
        assert "unexpected" not in entry["error"]
    assert len(outcome.complaints) == len(outcome.err.splitlines()) == len(bad)
    assert sorted({name.split("/")[0] for name in files_in(tmp_path / "out")}) == ["first", "last"]
    assert not list((tmp_path / "out").rglob("*.part"))


@pytest.mark.parametrize("kind", KINDS)
def test_judge_refuses_bad_files(
    call: Callable[..., Any], recording: Callable[..., Path], estimator: Path, tmp_path: Path, kind: str
) -> None:
    bad, good = bad_inputs(tmp_path / "bad")[kind], recording("good.wav")
    for arguments in ([bad, good], [good, bad], [good, good, "--ref", bad]):
        outcome = call("judge", *arguments, "--quality-model", estimator, "--json")
        assert outcome.code == 1
        (entry,) = outcome.objects
        assert set(entry) == {"input", "error"}
        assert entry["input"] == str(arguments[0])
        assert str(bad) in entry["error"]
        assert len(outcome.err.splitlines()) == 1
        assert "unexpected" not in outcome.err


@pytest.mark.parametrize("verb", ["separate", "listen", "judge"])
def test_wrong_models_are_one_line(
    call: Callable[..., Any],
    recording: Callable[..., Path],
    separator: Path,
    estimator: Path,
    tmp_path: Path,
    verb: str,
) -> None:
    path = recording("talk.wav")
    pickled = tmp_path / "pickled"
    pickled.mkdir()
    (pickled / "config.json").write_text((separator / "config.json").read_text())
    (pickled / "model.safetensors").write_bytes(b"\x80\x04cos\nsystem\nX\x04\x00\x00\x00true\x85R.")
    option = "--quality-model" if verb == "judge" else "--model"
    other = ["--quality-model", estimator] if verb == "listen" else []
    place = [] if verb == "judge" else ["--out", tmp_path / "out"]
    inputs = [path, path] if verb == "judge" else [path]
    for address in ("separation/dprn", pickled, tmp_path, "hf://nobody/nothing"):
        outcome = call(verb, *inputs, option, address, *other, *place, "--offline", "--json")
        assert outcome.code == 1
        assert len(outcome.err.splitlines()) == 1
        assert "unexpected" not in outcome.err
        assert [set(entry) for entry in outcome.objects] == [{"input", "error"}]
    assert not (tmp_path / "out").exists() or files_in(tmp_path / "out") == []


def test_the_nearest_model_is_suggested(
    call: Callable[..., Any], recording: Callable[..., Path], tmp_path: Path
) -> None:
    outcome = call("separate", recording("talk.wav"), "--model", "separation/dprn", "--out", tmp_path / "out")
    assert outcome.code == 1
    assert "did you mean" in outcome.err


def test_models_in_each_others_place_are_refused(
    call: Callable[..., Any], recording: Callable[..., Path], separator: Path, estimator: Path, tmp_path: Path
) -> None:
    path = recording("talk.wav")
    out = ["--out", tmp_path / "out"]
    for arguments in (
        ["separate", path, "--model", estimator, *out],
        ["listen", path, "--model", separator, "--quality-model", separator, *out],
        ["judge", path, path, "--quality-model", separator],
    ):
        outcome = call(*arguments)
        assert outcome.code == 1
        assert len(outcome.err.splitlines()) == 1
        assert "unexpected" not in outcome.err
    assert not (tmp_path / "out").exists() or files_in(tmp_path / "out") == []


@pytest.mark.parametrize("verb", ["separate", "listen"])
def test_an_output_folder_that_cannot_be(
    call: Callable[..., Any],
    recording: Callable[..., Path],
    separator: Path,
    estimator: Path,
    tmp_path: Path,
    verb: str,
) -> None:
    place = tmp_path / "file"
    place.write_text("in the way")
    quality = ["--quality-model", estimator] if verb == "listen" else []
    for out in (place, place / "below", Path("/proc/auriscope")):
        outcome = call(verb, recording("talk.wav"), "--model", separator, *quality, "--out", out, "--json")
        assert outcome.code == 1
        assert len(outcome.err.splitlines()) == 1
        assert str(out) in outcome.err
        assert [set(entry) for entry in outcome.objects] == [{"input", "error"}]
    assert place.read_text() == "in the way"


# Odd but good input


@pytest.mark.parametrize(
    "shape",
    [
        {"channels": 8, "seconds": 1.0},
        {"rate": 192000, "seconds": 1.0},
        {"subtype": "PCM_24"},
        {"subtype": "FLOAT"},
        {"seconds": 10 / 8000},
        {"amplitude": 0.0},
        {"amplitude": 3.0},
    ],
    ids=lambda shape: " ".join(f"{name}={value}" for name, value in shape.items()),
)
def test_odd_recordings_work(
    call: Callable[..., Any],
    recording: Callable[..., Path],
    separator: Path,
    estimator: Path,
    tmp_path: Path,
    shape: dict[str, Any],
) -> None:
    path = recording("odd.wav", **shape)
    options = ["--model", separator, "--quality-model", estimator, "--out", tmp_path / "out", "--json"]
    outcome = call("listen", path, *options)
    assert outcome.code == 0, outcome.err
    (entry,) = outcome.objects
    assert Path(entry["report"]).is_file()
    assert entry["sample_rate"] == shape.get("rate", 8000)
    scores = [track["blind_si_snr_db"] for track in entry["tracks"]]
    if shape.get("seconds") == 10 / 8000 or shape.get("amplitude") == 0.0:
        assert scores == [None, None]
        assert entry["warnings"]
    else:
        # Random weights may leave one of the tracks without any sound.
        assert any(isinstance(score, float) for score in scores)
    if "channels" in shape:
        assert any("mixed down" in warning for warning in entry["warnings"])
        (single,) = call("listen", path, *options, "--channel", "3").objects
        assert not any("mixed down" in warning for warning in single["warnings"])
        refused = call("listen", path, *options, "--channel", "8")
        assert refused.code == 1
        assert "channel 8" in refused.err
    if shape.get("amplitude") == 3.0:
        assert any("clipped" in warning for warning in entry["warnings"])


def test_a_folder_with_equal_base_names(
    call: Callable[..., Any], recording: Callable[..., Path], separator: Path, estimator: Path, tmp_path: Path
) -> None:
    paths = [recording(f"in/{folder}/talk.{kind}", seconds=seconds) for folder, kind, seconds in
             (("one", "wav", 1.0), ("two", "wav", 1.5), ("two", "flac", 2.0))]  # fmt: skip
    options = ["--model", separator, "--quality-model", estimator, "--out", tmp_path / "out", "--json"]
    outcome = call("listen", tmp_path / "in", *options)
    assert outcome.code == 0, outcome.err
    reports = {entry["input"]: entry for entry in outcome.objects}
    assert set(reports) == {str(path) for path in paths}
    assert len({entry["report"] for entry in reports.values()}) == 3
    for path in paths:
        assert reports[str(path)]["duration_seconds"] == pytest.approx(soundfile.info(path).duration)
    # One of them alone, later: it finds its own folder again.
    (again,) = call("listen", paths[1], *options).objects
    assert again["resumed"] is True
    assert again["report"] == reports[str(paths[1])]["report"]


def test_a_name_with_a_newline_stays_one_line(call: Callable[..., Any], separator: Path, tmp_path: Path) -> None:
    outcome = call("separate", tmp_path / "no\nsuch.wav", "--model", separator, "--out", tmp_path / "out", "--json")
    assert outcome.code == 1
    assert len(outcome.err.splitlines()) == 1
    assert outcome.objects[0]["input"] == str(tmp_path / "no\nsuch.wav")


# As a process


def test_as_a_process(
    start: Callable[..., Any], recording: Callable[..., Path], separator: Path, estimator: Path, tmp_path: Path
) -> None:
    good, bad = recording("talk.wav"), tmp_path / "missing.wav"
    options = [
        "--model",
        separator,
        "--quality-model",
        estimator,
        "--out",
        tmp_path / "out",
        "--threads",
        "1",
        "--json",
    ]
    outcome = start("listen", good, bad, *options)
    assert outcome.code == 1
    assert [set(entry) >= {"input", "report", "tracks"} for entry in outcome.objects] == [True, False]
    assert len(outcome.err.splitlines()) == 1
    assert str(bad) in outcome.err


def test_killed_and_run_again(recording: Callable[..., Path], separator: Path, estimator: Path, tmp_path: Path) -> None:
    paths = [recording(f"{name}.wav", seconds=1.0, seed=seed) for seed, name in enumerate("abcd")]
    options = ["--model", separator, "--quality-model", estimator, "--out", tmp_path / "out", "--json"]
    command = [sys.executable, "-c", "from auriscope.cli import main; main()", "listen", *paths, *options]
    process = subprocess.Popen([str(word) for word in command], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    first = process.stdout.readline()
    time.sleep(0.05)
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    process.stdout.close()
    assert json.loads(first)["input"] == str(paths[0])
    done = subprocess.run([str(word) for word in command], capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    assert [entry["input"] for entry in entries] == [str(path) for path in paths]
    assert entries[0]["resumed"] is True
    assert entries[-1]["resumed"] is False
    assert not list((tmp_path / "out").rglob("*.part"))


# train and evaluate


def test_train_refuses_bad_recipes(call: Callable[..., Any], tmp_path: Path) -> None:
    recipe = tmp_path / "bad.yaml"
    recipe.write_text("task: separation\nmodel: {architecture: separation/dprn}\n")
    for arguments in ([tmp_path / "missing.yaml"], [recipe], [recipe, "nonsense"], [recipe, "trainin.max_steps=3"]):
        outcome = call("train", *arguments, "--run", tmp_path / "run", "--json")
        assert outcome.code == 1
        assert len(outcome.err.splitlines()) == 1
        assert "unexpected" not in outcome.err
        assert [set(entry) for entry in outcome.objects] == [{"input", "error"}]


RECIPE = """
task: separation
model:
  architecture: separation/convtasnet
  config: {sample_rate: 8000, num_filters: 16, bottleneck_channels: 8, hidden_channels: 16, skip_channels: 8,
           num_blocks: 2, num_repeats: 1}
data: {corpora: [synthetic], segment_seconds: 0.5, batch_size: 2}
validation: {max_items: 2}
training: {max_steps: 2, validate_every_steps: 2, accelerator: cpu}
"""


@pytest.mark.corpora
@pytest.mark.skipif("AURISCOPE_CORPORA" not in os.environ, reason="needs AURISCOPE_CORPORA")
def test_train_go_on_and_use_the_model(
    call: Callable[..., Any], recording: Callable[..., Path], tmp_path: Path
) -> None:
    recipe = tmp_path / "tiny.yaml"
    recipe.write_text(RECIPE)
    arguments = ["train", recipe, "--run", tmp_path / "run", "--json"]
    first = call(*arguments)
    assert first.code == 0, first.err
    second = call(*arguments, "training.max_steps=4", "--minutes", "10")
    assert [outcome.objects[0]["step"] for outcome in (first, second)] == [2, 4]
    (entry,) = second.objects
    assert entry["stopped_by"] == "steps"
    assert entry["model"] == str(tmp_path / "run" / "model")
    used = call("separate", recording("talk.wav"), "--model", entry["model"], "--out", tmp_path / "out", "--json")
    assert used.code == 0, used.err


def test_evaluate_refuses_what_is_not_there(call: Callable[..., Any], separator: Path, estimator: Path) -> None:
    for arguments, words in (
        (["separation/dprn", "libri2mix-mini-clean"], "did you mean"),
        ([separator, "libri2mix"], "libri2mix"),
        ([estimator, "libri2mix-mini-clean"], "--separator"),
        ([separator, "libri2mix-mini-clean", "--split", "tset"], "tset"),
    ):
        outcome = call("evaluate", *arguments, "--json")
        assert outcome.code == 1
        assert words in outcome.err
        assert len(outcome.err.splitlines()) == 1
        assert [set(entry) for entry in outcome.objects] == [{"input", "error"}]
