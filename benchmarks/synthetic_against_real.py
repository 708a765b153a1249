"""What the blind estimator says of synthetic mixtures and of real recordings, for every shipped separator.

    python benchmarks/synthetic_against_real.py [--items 60]

The comparison of REAL-M (Subakan et al. 2022, table 3): there, SepFormer is estimated at 8.40 dB on synthetic mixtures
and 2.88 dB on real ones. Here, the synthetic mixtures are of the test split, and the real recordings are those of the
corpus ``real_overlap``, separated and judged in windows; the true SI-SNR is known for the synthetic ones only. Values
are means over tracks of the estimate in dB.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from itertools import islice
from typing import Any

import numpy as np
import torch

from auriscope.data.corpora import corpora_root
from auriscope.data.evaluation import evaluation_set
from auriscope.metrics import pit_si_snr
from auriscope.pretrained import list_shipped, load
from auriscope.quality import predict_long
from auriscope.separation.long import LongConfig, separate_waveform
from auriscope.signal.files import read

SETS = ("libri2mix-mini-clean", "libri2mix-mini-noisy-reverb")


def table(quality_model: str, items: int) -> Iterator[str]:
    """The rows of the table, over so many mixtures of each synthetic set."""
    estimator = load(quality_model)
    rate = estimator.config.sample_rate
    real = sorted((corpora_root() / "real_overlap" / "audio").glob("*.flac"))
    yield "| separator | recordings | blind SI-SNR dB | expected error dB | outside the range | true SI-SNR dB |"
    yield "|---|---|---|---|---|---|"
    for shipped in list_shipped():
        if shipped.room != "separation":
            continue
        separator = load(shipped.address)
        if separator.config.num_sources != 2:
            continue
        for name in SETS:
            judged, true = [], []
            for item in islice(evaluation_set(name, "test", sample_rate=rate), items):
                tracks = _tracks(separator, item.mixture.numpy(), rate)
                judged.append(_judge(estimator, item.mixture, tracks))
                true.append(float(pit_si_snr(tracks[None], item.sources[None]).values.mean()))
            yield _row(shipped.address, name, judged, f"{np.mean(true):.2f}")
        for path in real:
            waveform, _ = read(path, sample_rate=rate)
            tracks = _tracks(separator, waveform, rate)
            yield _row(shipped.address, path.name, [_judge(estimator, torch.from_numpy(waveform), tracks)], "unknown")


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--items", type=int, default=60, help="mixtures of each synthetic set")
    parser.add_argument("--quality-model", default="quality/sisnr.pooled")
    arguments = parser.parse_args()
    for row in table(arguments.quality_model, arguments.items):
        print(row, flush=True)


def _tracks(separator: Any, waveform: np.ndarray[Any, Any], rate: int) -> torch.Tensor:
    return torch.from_numpy(separate_waveform(waveform, separator, sample_rate=rate, config=LongConfig()))


def _judge(estimator: Any, mixture: torch.Tensor, tracks: torch.Tensor) -> tuple[float, float, float]:
    said = predict_long(estimator, mixture, tracks)
    return tuple(float(value.float().mean()) for value in (said.score_db, said.expected_error_db, ~said.in_range))  # type: ignore[return-value]


def _row(address: str, name: str, judged: list[tuple[float, float, float]], true: str) -> str:
    score, error, outside = np.mean(judged, axis=0)
    return f"| {address} | {name} | {score:.2f} | {error:.2f} | {100 * outside:.0f} % | {true} |"


if __name__ == "__main__":
    main()
