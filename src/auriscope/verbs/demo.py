"""``make demo``: the main job on a recording made here, for a machine that has no recording and no network.

Two synthetic voices (:mod:`auriscope.data.synthetic`; nobody could mistake them for people) talk at once in a simulated
room with a little noise. Since the recording is made, its sources are known, and the blind estimates can be compared
with the true SI-SNR. The shipped models were trained on real voices only.
"""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from auriscope.data.synthetic import voice
from auriscope.errors import AuriscopeError
from auriscope.signal.files import write
from auriscope.signal.outputs import make_folder
from auriscope.signal.rooms import RoomConfig, convolve, sample_room, simulate
from auriscope.verbs.judge import judge
from auriscope.verbs.listen import listen

SAMPLE_RATE = 16_000
SECONDS = 12.0
_SEED = 7
_SPEAKERS = (3, 8)
_SNR_DB = 25.0


def make_recording(folder: Path) -> tuple[Path, list[Path]]:
    """Write ``recording.wav`` and what each talker gives at the microphone, ``truth/talker1.wav`` and so on."""
    rng = np.random.default_rng(_SEED)
    room = sample_room(RoomConfig(), rng, len(_SPEAKERS))
    responses = simulate(room, SAMPLE_RATE)
    images: list[NDArray[np.float32]] = []
    for number, speaker in enumerate(_SPEAKERS):
        dry = voice(speaker, 0, seconds=SECONDS, sample_rate=SAMPLE_RATE)
        image = convolve(dry, responses.responses[number], int(responses.direct_frames[number]))
        images.append((0.05 * image / np.sqrt(np.mean(image**2))).astype(np.float32))
    speech = np.sum(images, axis=0)
    noise = rng.standard_normal(len(speech)) * np.sqrt(np.mean(speech**2)) * 10 ** (-_SNR_DB / 20)
    make_folder(folder / "truth")
    recording = folder / "recording.wav"
    write(recording, (speech + noise).astype(np.float32), SAMPLE_RATE)
    truth = [folder / "truth" / f"talker{number}.wav" for number in range(1, len(images) + 1)]
    for path, image in zip(truth, images, strict=True):
        write(path, image, SAMPLE_RATE)
    return recording, truth


def demo(folder: Path) -> Path:
    """Make the recording, listen to it, tell the figures on stdout, and return the page."""
    recording, truth = make_recording(folder)
    (result,) = listen(recording, folder, speakers=len(truth), offline=True, force=True)
    if result.error is not None or result.report is None:
        raise AuriscopeError(f"{recording}: {result.error}")
    tracks = [track.path for track in result.tracks]
    judged = judge(recording, tracks, references=truth, offline=True)
    for track in judged.tracks:
        blind = "none" if track.blind_si_snr_db is None else f"{track.blind_si_snr_db:.1f} dB"
        error = "" if track.expected_error_db is None else f" (expected error {track.expected_error_db:.1f} dB)"
        true = "none" if track.si_snr_db is None else f"{track.si_snr_db:.1f} dB"
        print(f"{track.path}: blind SI-SNR {blind}{error}, true SI-SNR {true}")
    return Path(result.report)


def main() -> None:
    """Read the command line of ``make demo``."""
    parser = argparse.ArgumentParser(prog="make demo", description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--out", type=Path, default=Path("demo"), help="folder for the recording and its report")
    try:
        page = demo(parser.parse_args().out)
    except AuriscopeError as error:
        sys.exit(f"error: {error}")
    print(f"report: {page}")


if __name__ == "__main__":
    main()
