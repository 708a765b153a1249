"""What a person sees of a run: a progress bar on a terminal, else one line now and then; always on stderr."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from types import TracebackType

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn


class TrainingProgress:
    """Shows the fraction done, loss, speed and the time left; ``show=False`` shows nothing."""

    def __init__(self, show: bool = True, console: Console | None = None, line_every_seconds: float = 30.0) -> None:
        self.show = show
        self.console = console or Console(file=sys.stderr)
        self.line_every_seconds = line_every_seconds
        self._last_line = -float("inf")
        self._began = time.monotonic()
        self._first: tuple[int, float, float] | None = None
        self._bar: Progress | None = None
        if show and self.console.is_terminal:
            self._bar = Progress(
                TextColumn("training"), BarColumn(), TaskProgressColumn(), TextColumn("{task.fields[text]}"),
                console=self.console,
            )  # fmt: skip
            self._row = self._bar.add_task("training", total=1.0, text="starting")

    def __enter__(self) -> TrainingProgress:
        if self._bar:
            self._bar.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._bar:
            self._bar.stop()

    def update(self, step: int, fraction: float, audio_seconds: float, losses: Mapping[str, float]) -> None:
        """Show where the run is: ``fraction`` of its budget is used and ``audio_seconds`` have been heard in all."""
        if not self.show:
            return
        now = time.monotonic()
        if self._first is None:
            # Speed is counted from the first update on: what lies before it is starting up.
            self._first, self._began = (step, fraction, audio_seconds), now
        if self._bar is None and now - self._last_line < self.line_every_seconds:
            return
        seconds = now - self._began
        parts = [f"step {step}", *(f"{name} {value:.4g}" for name, value in losses.items())]
        if seconds > 0 and step > self._first[0]:
            parts.append(f"{(step - self._first[0]) / seconds:.3g} steps/s")
            if audio_seconds > self._first[2]:
                parts.append(f"{(audio_seconds - self._first[2]) / seconds:.3g} s of audio/s")
            if fraction > self._first[1]:
                parts.append(f"{_clock((1 - fraction) * seconds / (fraction - self._first[1]))} left")
        text = ", ".join(parts)
        if self._bar:
            self._bar.update(self._row, completed=fraction, text=text)
        else:
            self._last_line = now
            self.say(f"{100 * fraction:.1f} %, {text}")

    def say(self, line: str) -> None:
        """Print a line of its own."""
        if self.show:
            self.console.print(line, highlight=False, markup=False, soft_wrap=True)


def _clock(seconds: float) -> str:
    hours, rest = divmod(int(max(0.0, seconds)), 3600)
    return f"{hours}:{rest // 60:02d}:{rest % 60:02d}"
