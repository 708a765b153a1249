"""``embed`` and ``verify``, from Python and from the command line, on made voices."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import auriscope
from auriscope.errors import AuriscopeError
from auriscope.metrics import equal_error_rate
from auriscope.pretrained import load
from auriscope.pretrained.files import CALIBRATION_NAME
from auriscope.speaker import Plda
from auriscope.verbs.verify import verify_trials
from auriscope.verbs.voice import VoiceReader

from .voices import RATE, Timbre, speech, write

NUM_SPEAKERS = 10


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "timbre"
    Timbre.from_config({}).save_pretrained(folder)
    return folder


@pytest.fixture(scope="module")
def corpus(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two recordings of each speaker, and a list of all pairs."""
    folder = tmp_path_factory.mktemp("corpus")
    names = [f"{s:02d}-{clip}.wav" for s in range(NUM_SPEAKERS) for clip in range(2)]
    for name in names:
        write(folder / name, speech(int(name[:2]), int(name[3]), 0.6))
    pairs = [(a, b) for i, a in enumerate(names) for b in names[:i]]
    lines = [f"{int(a[:2] == b[:2])} {a} {b}" for a, b in pairs]
    (folder / "trials.txt").write_text("\n".join(lines) + "\n")
    return folder


@pytest.fixture(scope="module")
def calibrated(model: Path, corpus: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The model with a calibration beside its weights."""
    folder = tmp_path_factory.mktemp("models") / "calibrated"
    load(model).save_pretrained(folder)
    verify_trials(corpus / "trials.txt", model=folder, calibrate_to=folder / CALIBRATION_NAME)
    return folder


def test_embeddings_are_printed(call: Callable[..., Any], model: Path, corpus: Path) -> None:
    outcome = call("embed", corpus / "00-0.wav", corpus / "00-1.wav", corpus / "01-0.wav", "--model", model, "--json")
    assert outcome.code == 0
    same, again, other = (np.array(found["embedding"]) for found in outcome.objects)
    assert [found["input"] for found in outcome.objects] == [str(corpus / f"0{n}.wav") for n in ("0-0", "0-1", "1-0")]
    assert same @ same == pytest.approx(1.0, abs=1e-4)
    assert same @ again > same @ other
    # The product is what verify gives.
    result = auriscope.verify(corpus / "00-0.wav", corpus / "01-0.wav", model=model)
    assert result.score == pytest.approx(same @ other, abs=1e-5)


def test_embeddings_are_written_and_not_made_twice(call: Callable[..., Any], model: Path, tmp_path: Path) -> None:
    recording = write(tmp_path / "a b.wav", speech(3, 0))
    command = ["embed", recording, "--model", model, "--out", tmp_path / "out"]
    first = call(*command, "--json")
    record = json.loads((tmp_path / "out" / "a b" / "embed.json").read_text())
    (found,) = first.objects
    assert record["embedding"] == found["embedding"]
    assert found["files"] == [str(tmp_path / "out" / "a b" / "embed.json")]
    (again,) = call(*command, "--json").objects
    assert (again["resumed"], again["embedding"]) == (True, found["embedding"])
    told = call(*command, "--force")
    assert told.out.splitlines()[0] == f"{recording}: 80 numbers from 2.0 s"
    write(recording, speech(4, 0))
    (changed,) = call(*command, "--json").objects
    assert not changed["resumed"]
    assert changed["embedding"] != found["embedding"]


def test_long_recordings_in_windows(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Windows weigh by their length, silent ones nothing, and a short rest goes with the window before."""
    monkeypatch.setattr("auriscope.verbs.voice.WINDOW_SECONDS", 1.0)
    model = Timbre.from_config({}).eval()
    waveform = np.concatenate([speech(1, 0, 1.0), np.zeros(RATE), speech(1, 1, 1.1)])
    voice = VoiceReader(model).read(write(tmp_path / "long.wav", waveform))
    parts = [torch.from_numpy(part.astype(np.float32))[None] for part in (waveform[:RATE], waveform[2 * RATE :])]
    with torch.no_grad():
        mean = sum(part.shape[1] * model.embed(part)[0] for part in parts)
    torch.testing.assert_close(
        torch.from_numpy(voice.embedding), torch.nn.functional.normalize(mean, dim=0), rtol=0, atol=2e-3
    )
    assert voice.duration_seconds == pytest.approx(3.1)


def test_bad_recordings_are_one_line_and_stop_no_other(
    call: Callable[..., Any], model: Path, corpus: Path, tmp_path: Path
) -> None:
    silent = write(tmp_path / "silent.wav", np.zeros(RATE))
    short = write(tmp_path / "short.wav", speech(1, 1, 0.1))
    outcome = call("embed", silent, short, tmp_path / "none.wav", corpus / "00-0.wav", "--model", model, "--json")
    assert outcome.code == 1
    errors = [found.get("error") for found in outcome.objects]
    assert errors[0] == f"{silent}: is digital silence: there is no voice in it"
    assert errors[1] == f"{short}: 0.10 s of sound are too short to tell a voice; give at least 0.25 s"
    assert "no such file" in errors[2]
    assert errors[3] is None
    assert outcome.complaints[:3] == [f"auriscope: {line}" for line in errors[:3]]
    for name in (silent, short):
        pair = call("verify", name, corpus / "00-0.wav", "--model", model)
        assert (pair.code, pair.out, len(pair.err.splitlines())) == (1, "", 1)


def test_a_pair_is_decided_by_the_calibration(call: Callable[..., Any], calibrated: Path, corpus: Path) -> None:
    one = call("verify", corpus / "00-0.wav", corpus / "00-1.wav", "--model", calibrated, "--json")
    two = call("verify", corpus / "00-0.wav", corpus / "03-1.wav", "--model", calibrated, "--json")
    (same,), (different,) = one.objects, two.objects
    assert (same["input"], same["other"]) == (str(corpus / "00-0.wav"), str(corpus / "00-1.wav"))
    assert (same["same"], different["same"]) == (True, False)
    assert different["score"] < same["threshold"] == different["threshold"] < same["score"]
    assert different["probability"] < 0.5 < same["probability"]
    assert 0 <= same["expected_error"] < 0.3
    assert "only 0.6 s of sound" in one.err
    told = call("verify", corpus / "00-0.wav", corpus / "00-1.wav", "--model", calibrated).out.splitlines()
    assert told[0] == f"one speaker: score {same['score']:.3f}, threshold {same['threshold']:.3f}"
    assert f"wrong in {100 * same['expected_error']:.1f} %" in told[1]


def test_without_a_calibration_there_is_a_score_and_no_decision(
    call: Callable[..., Any], model: Path, calibrated: Path, corpus: Path
) -> None:
    pair = ("verify", corpus / "00-0.wav", corpus / "00-1.wav", "--json")
    outcome = call(*pair, "--model", model)
    (found,) = outcome.objects
    assert (found["same"], found["threshold"], found["expected_error"]) == (None, None, None)
    assert "no calibrated threshold" in outcome.err
    (decided,) = call(*pair, "--model", model, "--threshold", "-0.5").objects
    assert (decided["same"], decided["threshold"], decided["probability"]) == (True, -0.5, None)
    # The same weights have the same calibration.
    (by_file,) = call(*pair, "--model", model, "--calibration", calibrated / CALIBRATION_NAME).objects
    assert by_file["same"] is True


def test_the_calibration_of_other_weights_is_refused(
    call: Callable[..., Any], calibrated: Path, corpus: Path, tmp_path: Path
) -> None:
    other = Timbre.from_config({})
    with torch.no_grad():
        other.gain.fill_(2.0)
    other.save_pretrained(tmp_path / "other")
    (tmp_path / "other" / CALIBRATION_NAME).write_bytes((calibrated / CALIBRATION_NAME).read_bytes())
    pair = ("verify", corpus / "00-0.wav", corpus / "00-1.wav", "--model", tmp_path / "other")
    assert "no calibrated threshold" in call(*pair).err
    refused = call(*pair, "--calibration", calibrated / CALIBRATION_NAME)
    assert refused.code == 1
    assert "is the calibration of another model" in refused.err
    # New weights in a folder take the old calibration away.
    other.save_pretrained(calibrated.parent / "copy")
    assert not (calibrated.parent / "copy" / CALIBRATION_NAME).exists()


def test_a_list_of_trials(call: Callable[..., Any], calibrated: Path, corpus: Path, tmp_path: Path) -> None:
    command = ("verify", "--trials", corpus / "trials.txt", "--model", calibrated, "--out", tmp_path / "scores.csv")
    outcome = call(*command, "--json")
    assert outcome.code == 0
    (found,) = outcome.objects
    with (tmp_path / "scores.csv").open() as stream:
        rows = list(csv.DictReader(stream))
    assert len(rows) == found["num_trials"] == NUM_SPEAKERS * (2 * NUM_SPEAKERS - 1)
    targets = np.array([row["target"] == "1" for row in rows])
    scores = np.array([float(row["score"]) for row in rows])
    expected = 100 * equal_error_rate(scores, targets).value
    assert found["eer_percent"] == pytest.approx(expected)
    assert found["eer_percent_low"] <= expected <= found["eer_percent_high"]
    assert found["num_speakers"] == NUM_SPEAKERS
    assert found["miss"] == np.mean(scores[targets] <= found["threshold"])
    assert found["false_alarm"] == np.mean(scores[~targets] > found["threshold"])
    row = rows[7]
    pair = auriscope.verify(corpus / row["first"], corpus / row["second"], model=calibrated)
    assert pair.score == pytest.approx(float(row["score"]), abs=1e-5)
    told = call(*command).out
    assert f"equal error rate {expected:.2f} %" in told
    assert f"{NUM_SPEAKERS} trials of one speaker" in told


def test_a_list_elsewhere_with_a_bad_recording(
    call: Callable[..., Any], model: Path, corpus: Path, tmp_path: Path
) -> None:
    (tmp_path / "l.csv").write_text("first,second\n00-0.wav,00-1.wav\n00-0.wav,gone.wav\n")
    outcome = call(
        "verify",
        "--trials",
        tmp_path / "l.csv",
        "--root",
        corpus,
        "--model",
        model,
        "--out",
        tmp_path / "s.csv",
        "--json",
    )
    assert outcome.code == 1
    (found,) = outcome.objects
    assert (found["num_trials"], found["num_failed"]) == (2, 1)
    assert "eer_percent" not in found
    assert ["gone.wav" in line for line in found["errors"]] == [True]
    assert (tmp_path / "s.csv").read_text().splitlines()[2] == "00-0.wav,gone.wav,,"
    (tmp_path / "bad.txt").write_text("gone.wav lost.wav\n")
    nothing = call("verify", "--trials", tmp_path / "bad.txt", "--model", model)
    assert (nothing.code, len(nothing.complaints)) == (1, 1)
    unknown = call("verify", "--trials", tmp_path / "l.csv", "--model", model, "--calibrate", tmp_path / "c.json")
    assert "nothing to calibrate" in unknown.err


def test_scores_relative_to_a_cohort(call: Callable[..., Any], calibrated: Path, corpus: Path, tmp_path: Path) -> None:
    for speaker in range(20, 26):
        write(tmp_path / "cohort" / f"{speaker}.wav", speech(speaker, 0))
    pair = ("verify", corpus / "00-0.wav", corpus / "00-1.wav", "--model", calibrated, "--cohort", tmp_path / "cohort")
    (found,) = call(*pair, "--json").objects
    assert found["scoring"].startswith("as-norm, cohort")
    # The threshold is one of cosines.
    assert found["same"] is None
    calibration = tmp_path / "c.json"
    with_cohort = ("--trials", corpus / "trials.txt", "--model", calibrated, "--cohort", tmp_path / "cohort")
    assert call("verify", *with_cohort, "--calibrate", calibration).code == 0
    (decided,) = call(*pair, "--json", "--calibration", calibration).objects
    assert decided["same"] is True
    (tmp_path / "cohort" / "25.wav").unlink()
    assert "is for scoring by as-norm" in call(*pair, "--calibration", calibration).err


def test_scores_by_plda(call: Callable[..., Any], calibrated: Path, corpus: Path, tmp_path: Path) -> None:
    reader = VoiceReader(calibrated)
    people = [(speaker, clip) for speaker in range(40, 52) for clip in range(3)]
    voices = [reader.read(write(tmp_path / f"{s}-{c}.wav", speech(s, c, 0.5))).embedding for s, c in people]
    plda = Plda.from_config({"embedding_dim": 80, "dim": 6}).fit(
        torch.from_numpy(np.stack(voices)), [s for s, _ in people]
    )
    plda.save_pretrained(tmp_path / "plda")
    command = (
        "verify",
        "--trials",
        corpus / "trials.txt",
        "--model",
        calibrated,
        "--plda",
        tmp_path / "plda",
        "--json",
    )
    (found,) = call(*command).objects
    assert found["scoring"].startswith("plda ")
    assert found["eer_percent"] < 20
    Plda.from_config(Plda.Tiny).save_pretrained(tmp_path / "small")
    refused = call(*command[:-2], tmp_path / "small")
    assert "for embeddings of 8 numbers" in refused.err
    assert "is no PLDA" in call(*command[:-2], calibrated).err
    with pytest.raises(AuriscopeError, match="not both"):
        auriscope.verify("a", "b", model=calibrated, plda="p", cohort="c")


@pytest.mark.parametrize(
    "arguments",
    [(), ("a.wav",), ("a.wav", "b.wav", "c.wav"), ("a.wav", "b.wav", "--trials", "l"), ("a", "b", "--out", "x")],
)
def test_wrong_usage(call: Callable[..., Any], arguments: tuple[str, ...]) -> None:
    outcome = call("verify", *arguments)
    assert (outcome.code, outcome.out, len(outcome.err.splitlines())) == (2, "", 1)


def test_models_that_embed_no_voices(call: Callable[..., Any], separator: Path, corpus: Path) -> None:
    outcome = call("verify", corpus / "00-0.wav", corpus / "00-1.wav", "--model", separator, "--json")
    assert outcome.code == 1
    assert "does not embed voices" in outcome.objects[0]["error"]
