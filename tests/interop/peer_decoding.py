"""In the peers' environment: what SpeechBrain's joint search and pyctcdecode find, for test_decoding_peers.py."""

from __future__ import annotations

import json
import logging
import sys
from pathlib import Path

import numpy as np
import torch

NUM_TOKENS, DIM, FRAMES, BEAM = 12, 32, 20, 6
LABELS = [" ", *"abcdest", ""]
ARPA = """\\data\\
ngram 1=7
ngram 2=4

\\1-grams:
-2.0\t<unk>\t0
-99\t<s>\t-0.3
-0.8\t</s>\t0
-1.0\tbad\t-0.2
-0.7\ta\t-0.3
-1.2\tbed\t-0.1
-0.9\tseat\t-0.4

\\2-grams:
-0.3\t<s> a
-0.4\ta bad
-0.2\tbad bed
-0.5\tbed </s>

\\end\\
"""


def joint(folder: Path) -> None:
    """Random networks of SpeechBrain's: the weights, the frames, and the best texts with their scores."""
    from speechbrain.decoders.scorer import CTCScorer, ScorerBuilder
    from speechbrain.decoders.seq2seq import S2STransformerBeamSearcher
    from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR
    from speechbrain.nnet.linear import Linear

    torch.manual_seed(0)
    network = TransformerASR(
        NUM_TOKENS, 16, DIM, 4, 1, 2, 64, 0.0, torch.nn.GELU, normalize_before=True, causal=False
    ).eval()
    heads = [Linear(input_size=DIM, n_neurons=NUM_TOKENS) for _ in range(2)]
    frames = torch.randn(2, FRAMES, DIM)
    with torch.no_grad():
        for head in heads:
            head.w.weight.mul_(4.0)
            # It would write the sentence's beginning in the middle of one, which ours never does.
            head.w.bias[1] = -50.0
    scorer = ScorerBuilder(
        full_scorers=[CTCScorer(heads[1], blank_index=0, eos_index=2)], partial_scorers=[], weights={"ctc": 0.4}
    )
    search = S2STransformerBeamSearcher(
        modules=[network, heads[0]], bos_index=1, eos_index=2, min_decode_ratio=0.0, max_decode_ratio=1.0,
        beam_size=BEAM, using_eos_threshold=False, length_normalization=False, temperature=1.2, scorer=scorer,
    )  # fmt: skip
    with torch.no_grad():
        texts, _, scores, _ = search(frames, torch.ones(2))
    weights = {f"network.{key}": value for key, value in network.state_dict().items()}
    weights |= {f"decoder_head.{key}": value for key, value in heads[0].w.state_dict().items()}
    weights |= {f"ctc_head.{key}": value for key, value in heads[1].w.state_dict().items()}
    torch.save({**weights, "frames": frames}, folder / "joint.pt")
    found = [[list(map(int, text)), float(score)] for text, score in zip(texts, scores, strict=True)]
    (folder / "joint.json").write_text(json.dumps(found))


def frames(folder: Path) -> None:
    """Logits of sentences, and what pyctcdecode finds in them, with an n-gram and without."""
    from pyctcdecode import build_ctcdecoder

    logging.disable(logging.WARNING)
    generator = np.random.default_rng(0)
    (folder / "words.arpa").write_text(ARPA)
    plain = build_ctcdecoder(LABELS)
    helped = build_ctcdecoder(LABELS, str(folder / "words.arpa"), ["a", "bad", "bed", "seat"], alpha=0.5, beta=1.5)
    found = []
    for text in ("a bad bed", "a seat", "bad bed", "sat", "a bed seat"):
        path = [number for letter in text for number in (len(LABELS) - 1, LABELS.index(letter), len(LABELS) - 1)]
        logits = generator.normal(0.0, 1.5, (len(path), len(LABELS)))
        logits[np.arange(len(path)), path] += 5.0
        texts = [decoder.decode_beams(logits, beam_width=100)[0][0] for decoder in (plain, helped)]
        found.append({"logits": logits.tolist(), "plain": texts[0], "helped": texts[1]})
    (folder / "frames.json").write_text(json.dumps(found))


if __name__ == "__main__":
    joint(Path(sys.argv[1]))
    frames(Path(sys.argv[1]))
