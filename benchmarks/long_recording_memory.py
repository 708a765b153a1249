"""Peak memory of ``separate`` for a long recording over that for a short one, each measured in a process of its own.

``--verb diarize`` measures that one. ``--model ADDRESS`` takes any model for it; by default the smallest Conv-TasNet or
ECAPA-TDNN with random weights, so that two hours take minutes. The recording is noise in syllables with pauses, for
diarization four synthetic voices that take turns; what it holds does not matter for memory otherwise.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np

SAMPLE_RATE = 16000

CHILD = """
import json, resource, sys
import auriscope
[result] = getattr(auriscope, sys.argv[4])(sys.argv[1], sys.argv[2], model=sys.argv[3], offline=True)
assert result.error is None, result.error
print(json.dumps({"kib": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss}))
"""


def make_recording(path: Path, seconds: float) -> None:
    """Write noise with the rhythm of speech and of turns."""
    from auriscope.signal.files import AudioWriter

    generator = np.random.default_rng(0)
    with AudioWriter(path, SAMPLE_RATE, subtype="PCM_16") as writer:
        for start in np.arange(0.0, seconds, 10.0):
            time = start + np.arange(round(min(10.0, seconds - start) * SAMPLE_RATE)) / SAMPLE_RATE
            envelope = np.maximum(0.0, np.sin(2.0 * np.pi * 4.0 * time)) * (np.sin(2.0 * np.pi * time / 37.0) > -0.5)
            writer.write((0.1 * envelope * generator.standard_normal(len(time))).astype(np.float32))


def make_talk(path: Path, seconds: float) -> None:
    """Write synthetic voices that take turns, the same ones over and over."""
    from auriscope.data.synthetic import voice
    from auriscope.signal.files import AudioWriter

    turns = [voice(30 + number % 4, number, seconds=5.0, sample_rate=SAMPLE_RATE) for number in range(12)]
    pause = np.zeros(SAMPLE_RATE // 2, np.float32)
    with AudioWriter(path, SAMPLE_RATE, subtype="PCM_16") as writer:
        for number in range(int(seconds / 5.5)):
            writer.write(turns[number % len(turns)])
            writer.write(pause)


def peak_mib(recording: Path, out: Path, model: str, verb: str) -> float:
    """Work on a recording in a fresh process and give the most memory that it held."""
    command = [sys.executable, "-c", CHILD, str(recording), str(out), model, verb]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    return float(json.loads(done.stdout.splitlines()[-1])["kib"]) / 1024.0


def make_model(folder: Path, verb: str) -> str:
    """Save the smallest Conv-TasNet, or ECAPA-TDNN, with random weights."""
    import torch

    from auriscope.separation import ConvTasNet
    from auriscope.speaker import ECAPA

    torch.manual_seed(0)
    if verb == "diarize":
        ECAPA.from_config({**ECAPA.Tiny, "sample_rate": SAMPLE_RATE}).save_pretrained(folder)
    else:
        ConvTasNet.from_config({**ConvTasNet.Tiny, "sample_rate": SAMPLE_RATE}).save_pretrained(folder)
    return str(folder)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--verb", default="separate", choices=("separate", "diarize"))
    parser.add_argument("--model", help="address of a model for the verb")
    parser.add_argument("--minutes", type=float, default=120.0, help="length of the long recording")
    parser.add_argument("--short-minutes", type=float, default=1.0, help="length of the short recording")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        model = arguments.model or make_model(folder / "model", arguments.verb)
        peaks = []
        for minutes in (arguments.short_minutes, arguments.minutes):
            recording = folder / f"{minutes:g}min.wav"
            make = make_talk if arguments.verb == "diarize" else make_recording
            make(recording, 60.0 * minutes)
            peaks.append(peak_mib(recording, folder / "out", model, arguments.verb))
            print(f"{minutes:g} min: peak {peaks[-1]:.0f} MiB", flush=True)
        print(f"{arguments.minutes:g} min over {arguments.short_minutes:g} min: {peaks[1] / peaks[0]:.3f}x")


if __name__ == "__main__":
    main()
