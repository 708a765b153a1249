"""The verb ``index``: what is new, changed, removed and unreadable is found, by one process and by many."""

from __future__ import annotations

import errno
import importlib.util
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

import auriscope
from auriscope.cli import app
from auriscope.crossmodal.index import SoundIndex
from auriscope.crossmodal.windows import embed_recording
from auriscope.errors import AuriscopeError
from auriscope.pretrained import load, model_class
from auriscope.signal.files import read, write
from auriscope.verbs.batch import Progress
from auriscope.verbs.index import IndexResult
from auriscope.verbs.sounds import ReaderSettings, SoundReader
from auriscope.verbs.workers import embedded_by_processes, portions_of

from .sound_folders import sound, tiny_clap


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tiny_clap(tmp_path_factory.mktemp("model"))


@pytest.fixture
def sounds(tmp_path: Path) -> Path:
    for number in range(4):
        sound(tmp_path / f"sounds/{number}.wav", number)
    sound(tmp_path / "sounds/deep/long.flac", 9, 5.0)
    return tmp_path / "sounds"


def counts(result: IndexResult) -> tuple[int, int, int, int, int]:
    assert result.error is None
    return result.num_new, result.num_changed, result.num_unchanged, result.num_removed, len(result.unreadable)


def test_an_index_is_brought_up_to_date(model: Path, sounds: Path, tmp_path: Path) -> None:
    index = tmp_path / "index"
    told: list[Progress] = []
    (first,) = auriscope.index(sounds, index, model=model, progress=told.append)
    assert counts(first) == (5, 0, 0, 0, 0)
    assert (first.num_files, first.num_windows, first.duration_seconds) == (5, 4 + 3, 9.0)
    assert first.model == str(model)
    assert [state.total_fraction for state in told] == pytest.approx([0.2, 0.4, 0.6, 0.8, 1.0])
    (second,) = auriscope.index(sounds, index)
    assert counts(second) == (0, 0, 5, 0, 0)

    sound(sounds / "1.wav", 77, 4.0)
    (sounds / "2.wav").unlink()
    sound(sounds / "new.wav", 6)
    (third,) = auriscope.index([str(sounds)], index)
    assert counts(third) == (1, 1, 3, 1, 0)
    assert third.num_windows == 2 + 3 + 2 + 1
    with SoundIndex(index) as there:
        assert sorted(path.name for path, _ in there.states()) == ["0.wav", "1.wav", "3.wav", "long.flac", "new.wav"]
    (forced,) = auriscope.index(sounds, index, force=True)
    assert counts(forced) == (0, 5, 0, 0, 0)
    assert forced.num_windows == third.num_windows


def test_only_what_lies_in_the_folder_is_taken_for_removed(model: Path, sounds: Path, tmp_path: Path) -> None:
    index, other = tmp_path / "index", tmp_path / "other"
    sound(other / "a.wav", 1)
    results = auriscope.index([sounds, other], index, model=model)
    assert [counts(result)[0] for result in results] == [5, 1]
    (again,) = auriscope.index(other / "a.wav", index)
    assert counts(again) == (0, 0, 1, 0, 0)
    assert again.num_files == 6
    (sounds / "0.wav").unlink()
    (again,) = auriscope.index(other, index)
    assert (counts(again)[3], again.num_files) == (0, 6)
    # A folder that is not there, as of a disk that is not mounted, takes nothing out.
    sounds.rename(tmp_path / "away")
    (missing,) = auriscope.index(sounds, index)
    assert missing.error == f"{sounds}: no such file or folder; check the path"
    with SoundIndex(index) as there:
        assert there.num_files == 6


def test_windows_are_those_of_the_recording(model: Path, sounds: Path, tmp_path: Path) -> None:
    reader = SoundReader(model)
    path = sounds / "deep/long.flac"
    heard = reader.read(path)
    assert heard.starts_seconds.tolist() == [0.0, 2.0, 4.0]
    assert heard.duration_seconds == 5.0
    whole = embed_recording(reader.model, torch.from_numpy(read(path)[0]))
    np.testing.assert_allclose(heard.whole(), whole.numpy(), atol=1e-6)
    auriscope.index(sounds, tmp_path / "index", model=model)
    with SoundIndex(tmp_path / "index") as index:
        for number, vector in enumerate(heard.embedding):
            scores, shards, rows = index.search(vector[None], 1)
            assert scores[0, 0] == pytest.approx(1.0, abs=1e-3)
            place = index.place(shards[0, 0], rows[0, 0])
            assert (place.path, place.start_seconds) == (path, 2.0 * number)
            assert place.end_seconds == min(2.0 * number + 2.0, 5.0)


def test_silence_and_short_rests_are_no_sounds(model: Path, tmp_path: Path) -> None:
    sound(tmp_path / "in/half.wav", 1, 2.0, silent=2.0)
    sound(tmp_path / "in/rest.wav", 2, 2.1)
    sound(tmp_path / "in/short.wav", 3, 0.05)
    write(tmp_path / "in/silent.wav", np.zeros(32_000, np.float32), 16_000)
    (result,) = auriscope.index(tmp_path / "in", tmp_path / "index", model=model)
    assert counts(result) == (4, 0, 0, 0, 0)
    assert result.num_windows == 3
    with SoundIndex(tmp_path / "index") as index:
        (shard,) = index.shards()
        places = [index.place(shard.number, row) for row in range(3)]
    assert [(place.path.name, place.start_seconds) for place in places] == [
        ("half.wav", 2.0), ("rest.wav", 0.0), ("short.wav", 0.0),
    ]  # fmt: skip


def test_unreadable_files_are_listed_and_left_out(model: Path, sounds: Path, tmp_path: Path) -> None:
    bad = sounds / "bad.wav"
    bad.write_text("no audio")
    arguments = ["index", str(sounds), "--out", str(tmp_path / "index"), "--json"]
    for number, options in enumerate((["--model", str(model)], [])):
        done = CliRunner().invoke(app, [*arguments, *options])
        assert done.exit_code == 1
        assert done.stderr.count("\n") == 1
        assert "bad.wav: is not audio" in done.stderr
        result = json.loads(done.stdout)
        assert (result["num_new"], result["num_unchanged"]) == ((5, 0), (0, 5))[number]
        assert [each["path"] for each in result["unreadable"]] == [str(bad)]
    sound(bad, 5)
    done = CliRunner().invoke(app, arguments)
    assert done.exit_code == 0
    assert json.loads(done.stdout)["num_new"] == 1
    # What could be read and cannot any more is not found either.
    bad.write_text("no audio")
    (result,) = auriscope.index(sounds, tmp_path / "index")
    assert (len(result.unreadable), result.num_files) == (1, 5)


def test_a_folder_that_was_emptied_is_cleared(model: Path, sounds: Path, tmp_path: Path) -> None:
    index, empty = tmp_path / "index", tmp_path / "empty"
    empty.mkdir()
    auriscope.index(sounds, index, model=model)
    (sounds / "deep/long.flac").unlink()
    (result,) = auriscope.index(sounds / "deep", index)
    assert (counts(result), result.num_files) == ((0, 0, 0, 1, 0), 4)
    for path in sounds.glob("*.wav"):
        path.unlink()
    result, other = auriscope.index([sounds, empty], index)
    assert (counts(result), result.num_files, result.num_windows) == ((0, 0, 0, 4, 0), 0, 0)
    assert other.error == f"{empty}: no audio file in this folder; give one that holds some"
    (result,) = auriscope.index(sounds, index)
    assert result.error == f"{sounds}: no audio file in this folder; give one that holds some"


@pytest.mark.parametrize("call", ["scandir", "stat"])
def test_what_cannot_be_looked_at_is_not_taken_out(
    call: str, model: Path, sounds: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a folder, its names may be secret, or what bears them."""
    index = tmp_path / "index"
    sound(sounds / "deep/er/a.wav", 7)
    auriscope.index(sounds, index, model=model)
    (sounds / "2.wav").unlink()
    asked = getattr(os, call)

    def refuses(path: Any = ".", **more: Any) -> Any:
        secret = isinstance(path, str | os.PathLike) and Path(path).is_relative_to(sounds / "deep")
        if secret and (call == "scandir" or Path(path).suffix):
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), os.fspath(path))
        return asked(path, **more)

    with monkeypatch.context() as patched:
        patched.setattr(os, call, refuses)
        (result,) = auriscope.index(sounds, index)
        assert (result.num_unchanged, result.num_removed, result.num_files) == (3, 1, 5)
        if call == "scandir":
            (told,) = result.unreadable
            assert told.path == str(sounds / "deep")
            assert told.error == f"{told.path}: cannot be listed (Permission denied); what was found there is kept"
            (whole,) = auriscope.index(sounds / "deep", index)
            assert whole.error == told.error
    (result,) = auriscope.index(sounds, index)
    assert counts(result) == (0, 0, 5, 0, 0)


def test_inputs_that_are_not_there_leave_nothing_behind(model: Path, tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    arguments = ["index", tmp_path / "missing", tmp_path / "empty", "--out", tmp_path / "index", "--model", model]
    done = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert done.exit_code == 1
    entries = [json.loads(line) for line in done.stdout.splitlines()]
    assert [set(entry) for entry in entries] == [{"input", "error"}] * 2
    assert "no such file or folder" in done.stderr
    assert "no audio file in this folder" in done.stderr
    assert not (tmp_path / "index").exists()


def test_another_model_is_refused_with_both_names(model: Path, sounds: Path, tmp_path: Path) -> None:
    auriscope.index(sounds, tmp_path / "index", model=model)
    other = tiny_clap(tmp_path / "other", seed=1)
    with pytest.raises(AuriscopeError) as refused:
        auriscope.index(sounds, tmp_path / "index", model=other)
    assert str(model) in str(refused.value)
    assert str(other) in str(refused.value)
    kind = model_class("classification/cnn")
    kind.from_config(dict(kind.Tiny)).save_pretrained(tmp_path / "classifier")
    with pytest.raises(AuriscopeError, match="does not match sounds with texts"):
        auriscope.index(sounds, tmp_path / "new", model=tmp_path / "classifier")
    # The same weights heard otherwise, in place of the model.
    longer = tmp_path / "longer"
    shutil.copytree(model, longer)
    config = json.loads((longer / "config.json").read_text())
    config["config"]["window_seconds"] = 4.0
    (longer / "config.json").write_text(json.dumps(config))
    auriscope.index(sounds, tmp_path / "index-of-longer", model=longer)
    with pytest.raises(AuriscopeError, match=f"made with {model}, not with {longer}"):
        auriscope.index(sounds, tmp_path / "index", model=longer)
    config["config"]["window_seconds"] = 2.5
    (longer / "config.json").write_text(json.dumps(config))
    with pytest.raises(AuriscopeError, match=f"made with other weights or settings of {longer} "):
        auriscope.match("rain", tmp_path / "index-of-longer")
    # The same weights are the same model, by whatever address.
    (result,) = auriscope.index(sounds, tmp_path / "index", model=load(model))  # type: ignore[arg-type]
    assert counts(result)[2] == 5


def test_many_processes_find_what_one_does(model: Path, sounds: Path, tmp_path: Path) -> None:
    (sounds / "bad.wav").write_text("no audio")
    (alone,) = auriscope.index(sounds, tmp_path / "alone", model=model)
    (shared,) = auriscope.index(sounds, tmp_path / "shared", model=model, workers=2)
    assert counts(shared) == counts(alone) == (5, 0, 0, 0, 1)
    assert contents(tmp_path / "alone") == contents(tmp_path / "shared")
    with pytest.raises(AuriscopeError, match="workers load the model by its address"):
        auriscope.index(sounds, tmp_path / "shared", model=load(model), workers=2)  # type: ignore[arg-type]


def test_a_file_that_ends_its_process_is_left_out(model: Path, sounds: Path, tmp_path: Path) -> None:
    """It takes no other file with it, and is not read again until it has changed."""
    poison = sound(sounds / "2.wav", 30)
    script = tmp_path / "run.py"
    script.write_text(f"""
import os
from auriscope.verbs import index, sounds
index._PORTION_FILES = 2
read = sounds.SoundReader.read
def fatal(reader, path, *more):
    if path.name == "2.wav":
        os._exit(1)
    return read(reader, path, *more)
sounds.SoundReader.read = fatal
import auriscope
if __name__ == "__main__":
    for model in ({str(model)!r}, None):
        (result,) = auriscope.index({str(sounds)!r}, {str(tmp_path / "index")!r}, model=model, workers=2)
        print(result.num_new, result.num_unchanged, *(each.error for each in result.unreadable))
""")
    done = subprocess.run([sys.executable, script], capture_output=True, text=True, check=True, timeout=500)
    line = f"{poison}: its reading ended the process, perhaps for want of memory; it is left out"
    assert done.stdout.splitlines() == [f"4 0 {line}", f"0 4 {line}"]
    auriscope.index(sounds, tmp_path / "whole", model=model)
    poison.unlink()
    auriscope.index(sounds, tmp_path / "whole")
    assert contents(tmp_path / "index") == contents(tmp_path / "whole")


def test_workers_that_cannot_begin_are_no_fault_of_the_files(sounds: Path, tmp_path: Path) -> None:
    portions = [[path] for path in sorted(sounds.glob("*.wav"))]
    with pytest.raises(AuriscopeError, match="end before they read anything"):
        list(embedded_by_processes(portions, ReaderSettings(str(tmp_path / "missing")), 1))


@pytest.mark.skipif(importlib.util.find_spec("ray") is None, reason="needs ray")
def test_a_ray_cluster_finds_what_one_process_does(model: Path, sounds: Path, tmp_path: Path) -> None:
    (sounds / "bad.wav").write_text("no audio")
    auriscope.index(sounds, tmp_path / "alone", model=model)
    (shared,) = auriscope.index(sounds, tmp_path / "shared", model=model, ray=True, workers=2)
    assert counts(shared) == (5, 0, 0, 0, 1)
    assert contents(tmp_path / "alone") == contents(tmp_path / "shared")


def contents(folder: Path) -> dict[tuple[str, float], bytes]:
    """The vector of every window."""
    with SoundIndex(folder) as index:
        found = {}
        for shard in index.shards():
            for row in set(range(len(shard.vectors))) - set(shard.dead.tolist()):
                place = index.place(shard.number, row)
                found[str(place.path), place.start_seconds] = shard.vectors[row].tobytes()
        return found


def test_a_killed_call_goes_on_where_it_was(model: Path, tmp_path: Path) -> None:
    """Killed for real, with its workers, after the first commit; nothing is done twice, and nothing is lost."""
    for number in range(12):
        sound(tmp_path / f"sounds/{number:02d}.wav", number, 3.0)
    command = f"""
import sys
from auriscope.verbs import index
index._COMMIT_SECONDS, index._PORTION_FILES = 0.0, 1
import auriscope
if __name__ == "__main__":
    def tell(state):
        print("done", flush=True)
    auriscope.index({str(tmp_path / "sounds")!r}, {str(tmp_path / "index")!r}, model={str(model)!r}, workers=2,
                    progress=tell)
"""
    script = tmp_path / "run.py"
    script.write_text(command)
    process = subprocess.Popen([sys.executable, script], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None
    for _ in range(4):
        assert process.stdout.readline() == "done\n"
    children = [int(child) for child in Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()]
    process.send_signal(signal.SIGKILL)
    process.wait(timeout=60)
    process.stdout.close()
    assert len(children) >= 2
    deadline = time.monotonic() + 60.0
    while any(running(child) for child in children):
        assert time.monotonic() < deadline, "the workers of a killed process end"
        time.sleep(0.05)
    (result,) = auriscope.index(tmp_path / "sounds", tmp_path / "index")
    assert result.num_unchanged >= 3
    assert result.num_new == 12 - result.num_unchanged
    auriscope.index(tmp_path / "sounds", tmp_path / "whole", model=model)
    assert contents(tmp_path / "index") == contents(tmp_path / "whole")


def running(process: int) -> bool:
    try:
        os.kill(process, 0)
        return Path(f"/proc/{process}/stat").read_text().split(")")[1].split()[0] != "Z"
    except OSError:
        return False


def test_an_interrupt_keeps_what_was_done(model: Path, sounds: Path, tmp_path: Path) -> None:
    def interrupt(state: Progress) -> None:
        if state.index == 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        auriscope.index(sounds, tmp_path / "index", model=model, progress=interrupt)
    (result,) = auriscope.index(sounds, tmp_path / "index")
    assert counts(result) == (2, 0, 3, 0, 0)


@pytest.mark.skipif(importlib.util.find_spec("usearch") is None, reason="needs usearch")
def test_a_graph_is_made_and_kept_up(model: Path, sounds: Path, tmp_path: Path) -> None:
    (first,) = auriscope.index(sounds, tmp_path / "index", model=model, approximate=True)
    assert first.approximate
    sound(sounds / "new.wav", 12)
    (second,) = auriscope.index(sounds, tmp_path / "index")
    assert second.approximate
    state = json.loads((tmp_path / "index/graph.json").read_text())
    assert sum(state["rows"].values()) == second.num_windows


def test_portions() -> None:
    paths = [Path(name) for name in "abcdef"]
    portions = list(portions_of(paths, [1, 1, 1, 9, 5, 5], most_files=2, most_bytes=8))
    assert [[path.name for path in portion] for portion in portions] == [["a", "b"], ["c"], ["d"], ["e"], ["f"]]
    assert list(portions_of([], [], most_files=2, most_bytes=8)) == []


def test_no_workers_are_refused(sounds: Path, tmp_path: Path) -> None:
    with pytest.raises(AuriscopeError, match="give one at least"):
        auriscope.index(sounds, tmp_path / "index", workers=0)
