"""Run in the peers' environment: SpeechBrain's figures of verification on drawn scores, into a folder."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import torch
from speechbrain.utils.metric_stats import EER, minDCF


def main(folder: Path) -> None:
    cases = []
    for seed in range(8):
        generator = torch.Generator().manual_seed(seed)
        # So many of each that no two thresholds are equally good, which rounding would decide.
        targets, others = (torch.randn(37, generator=generator) + 1, torch.randn(101, generator=generator))
        if seed % 2:
            targets, others = (scores.mul(4).round() / 4 for scores in (targets, others))
        eer, eer_threshold = EER(targets, others)
        prior = (0.01, 0.05, 0.3, 0.5)[seed // 2]
        dcf, _ = minDCF(targets, others, c_miss=2.0, c_fa=1.0, p_target=prior)
        cases.append(
            {
                "targets": targets.tolist(),
                "others": others.tolist(),
                "prior": prior,
                "eer": eer,
                "eer_threshold": eer_threshold,
                "min_dcf": dcf,
            }
        )
    (folder / "verification.json").write_text(json.dumps(cases))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
