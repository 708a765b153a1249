"""The pictures of the report: spectrograms as PNG, waveforms as SVG paths that take the page's colours."""

from __future__ import annotations

import io

import numpy as np
import numpy.typing as npt

from auriscope.verbs.listen.survey import row_hertz

FloatArray = npt.NDArray[np.float32]

RANGE_DB = 70.0
"""Loudest to quietest level that a spectrogram tells apart."""

_COLOURS = ("#ffffff", "#e6eef8", "#b9d3ec", "#7fb0dc", "#4a86c5", "#35599f", "#2f2f72", "#1a1638")
"""Quiet to loud on a light page. The dark page inverts lightness and keeps the hue, by a style, with the same file."""

_FREQUENCY_TICKS = (100, 500, 1000, 2000, 4000, 8000)


def spectrogram_png(spectrogram_db: FloatArray, top_db: float) -> bytes:
    """Draw a spectrogram without axes, as PNG bytes with a palette.

    Args:
        spectrogram_db: (rows, columns), rows from low to high frequency.
        top_db: the level drawn in the strongest colour; ``RANGE_DB`` below it and less is drawn as background.

    Share ``top_db`` among pictures that are to be compared.
    """
    from matplotlib.colors import LinearSegmentedColormap
    from PIL import Image

    shades = np.clip((spectrogram_db - (top_db - RANGE_DB)) / RANGE_DB, 0.0, 1.0)
    picture = Image.fromarray(np.round(shades[::-1] * 63).astype(np.uint8))
    colours = LinearSegmentedColormap.from_list("sound", _COLOURS)(np.linspace(0.0, 1.0, 64))[:, :3]
    picture.putpalette(np.round(colours * 255).astype(np.uint8).tobytes())
    buffer = io.BytesIO()
    picture.save(buffer, format="PNG", optimize=True)
    return buffer.getvalue()


def loud_level_db(spectrogram_db: FloatArray) -> float:
    """Level that a spectrogram's strongest colour should stand for: nearly its loudest point, and never silence."""
    return max(float(np.percentile(spectrogram_db, 99.8)), -RANGE_DB)


def waveform_path(envelope: FloatArray, full_scale: float) -> str:
    """Outline of a waveform as SVG path data in a box of 1000 by 100.

    Args:
        envelope: (columns, 2), the lowest and the highest sample of each.
        full_scale: the magnitude that reaches the edge of the box.
    """
    scaled = 50.0 - 48.0 * np.clip(envelope / max(full_scale, 1e-9), -1.0, 1.0)
    # A silent stretch still draws a hairline.
    low, high = np.maximum(scaled[:, 0], 50.4), np.minimum(scaled[:, 1], 49.6)
    across = np.linspace(0.0, 1000.0, len(envelope)) if len(envelope) > 1 else np.array([0.0])
    upper = [f"{x:.1f} {y:.1f}" for x, y in zip(across, high, strict=True)]
    lower = [f"{x:.1f} {y:.1f}" for x, y in zip(across[::-1], low[::-1], strict=True)]
    return "M" + "L".join(upper + lower) + "Z"


def frequency_ticks(top_hertz: float, num_rows: int) -> list[tuple[str, float]]:
    """Labels of a spectrogram's rows and their places, percent from the top."""
    rows = row_hertz(num_rows, top_hertz)
    places = [(hertz, 100.0 - 100.0 * float(np.interp(hertz, rows, np.linspace(0, 1, num_rows)))) for hertz in
              _FREQUENCY_TICKS if hertz <= top_hertz]  # fmt: skip
    return [(f"{hertz // 1000} kHz" if hertz >= 1000 else f"{hertz} Hz", place) for hertz, place in places]


def time_ticks(duration_seconds: float, *, max_ticks: int = 8) -> list[tuple[str, float]]:
    """Labels of a time axis and their places, percent from the left, at round steps.

    >>> time_ticks(25.0)[:3]
    [('0:00', 0.0), ('0:05', 20.0), ('0:10', 40.0)]
    """
    if duration_seconds <= 0:
        return []
    steps = (0.1, 0.2, 0.5, 1, 2, 5, 10, 15, 30, 60, 120, 300, 600, 900, 1800, 3600, 7200, 14400, 43200)
    step = next((step for step in steps if duration_seconds / step <= max_ticks), 86400)
    # A label so near the right edge that it would be cut off is left out.
    times = [index * step for index in range(int(0.97 * duration_seconds / step) + 1)]
    return [(clock(time, fractions=step < 1), 100.0 * time / duration_seconds) for time in times]


def clock(seconds: float, *, fractions: bool = False) -> str:
    """Time as people write it.

    >>> clock(65), clock(3661), clock(2.5, fractions=True)
    ('1:05', '1:01:01', '0:02.5')
    """
    tenths = round(seconds * 10) if fractions else int(seconds) * 10
    whole, tenth = divmod(tenths, 10)
    minutes, second = divmod(whole, 60)
    hours, minute = divmod(minutes, 60)
    text = f"{hours}:{minute:02}:{second:02}" if hours else f"{minute}:{second:02}"
    return f"{text}.{tenth}" if fractions else text
