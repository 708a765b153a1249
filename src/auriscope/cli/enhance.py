"""``auriscope enhance``: recordings in, their speech without noise and late reverberation out."""

from __future__ import annotations

from pathlib import Path

from auriscope.cli.console import Outcome, one_line_for, progress_bar
from auriscope.cli.options import (
    Channel,
    EnhancementModel,
    Force,
    Inputs,
    Json,
    Offline,
    Out,
    PrecisionOption,
    Threads,
    use_threads,
)
from auriscope.cli.separate import describe


def enhance(
    inputs: Inputs,
    out: Out = Path("auriscope-out"),
    model: EnhancementModel = None,
    channel: Channel = None,
    precision: PrecisionOption = "fp32",
    json: Json = False,
    offline: Offline = False,
    force: Force = False,
    threads: Threads = None,
) -> None:
    """Take noise and late reverberation off recordings of speech.

    Each recording gets a folder in FOLDER with enhanced.wav, at its own rate, length and level. What an earlier run has
    done is not done again. A recording that fails stops no other.
    """
    use_threads(threads)
    from auriscope.verbs.enhance import enhance as run

    outcome = Outcome(describe, json=json)
    with one_line_for(inputs, json=json), progress_bar("enhancing") as update:
        run(
            list(inputs),
            out,
            model=model,
            channel=channel,
            precision=precision,  # type: ignore[arg-type]  # checked where it is used
            offline=offline or None,
            force=force,
            progress=lambda state: update(f"{Path(state.input).name}: {state.stage}", state.total_fraction),
            on_result=outcome.tell,
        )
    outcome.exit_if_failed()
