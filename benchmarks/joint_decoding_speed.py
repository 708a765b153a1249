"""Joint decoding, ours beside SpeechBrain's search with its CTC scorer: the same weights, frames, beam and score.

    .venv/bin/python benchmarks/joint_decoding_speed.py [--beam 10] [--batch 1] [--frames 250] [--tokens 60]
        [--repeats 3] [--threads 1]

The decoder is that of SpeechBrain's recipe for LibriSpeech (6 layers of 512 channels, 5,000 pieces) with random
weights, over random frames; its head and CTC's are solved so that both say a text of --tokens pieces, with other tokens
nearly as likely. So the search takes as many steps as it would with real speech: 250 frames of 40 ms are 10 s. The
encoder is left out, as it is the same. Both run in the peers' environment (benchmarks/peers.sh, or
AURISCOPE_PEERS_PYTHON), in one process, and take turns; the time is the processor's. Neither normalises by length nor
holds sentences open, so that both have the same score.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path

ROOT = Path(__file__).parents[1]
NUM_TOKENS, DIM, LAYERS, HEADS, HIDDEN = 5000, 512, 6, 8, 2048
BLANK, BOS, EOS = 0, 1, 2
CTC_WEIGHT = 0.4
# Where SpeechBrain's decoder keeps what ours calls otherwise; both have PyTorch's packed projections.
RENAMED = {
    "self_attn.att.in_proj_": "attention.project.",
    "self_attn.att.out_proj.": "attention.out.",
    "multihead_attn.att.in_proj_": "cross.project.",
    "multihead_attn.att.out_proj.": "cross.out.",
    "pos_ffn.ffn.": "feed_forward.",
    "norm1.norm.": "attention_norm.",
    "norm2.norm.": "cross_norm.",
    "norm3.norm.": "feed_forward_norm.",
}


def peers_python() -> Path:
    return Path(os.environ.get("AURISCOPE_PEERS_PYTHON", ROOT / ".venv-peers" / "bin" / "python"))


def originals(options: argparse.Namespace):
    """SpeechBrain's network, its two heads, and the frames (batch, frames, dim)."""
    import torch
    from speechbrain.lobes.models.transformer.TransformerASR import TransformerASR
    from speechbrain.nnet.linear import Linear

    torch.manual_seed(0)
    network = TransformerASR(
        tgt_vocab=NUM_TOKENS, input_size=640, d_model=DIM, nhead=HEADS, num_encoder_layers=1,
        num_decoder_layers=LAYERS, d_ffn=HIDDEN, dropout=0.0, activation=torch.nn.GELU, normalize_before=True,
        causal=False,
    ).eval()  # fmt: skip
    decoder_head = Linear(input_size=DIM, n_neurons=NUM_TOKENS)
    ctc_head = Linear(input_size=DIM, n_neurons=NUM_TOKENS)
    frames = torch.randn(options.batch, options.frames, DIM)
    texts = torch.randint(EOS + 1, NUM_TOKENS, (options.batch, options.tokens))
    rows = torch.arange(options.batch)[:, None]
    # What each token might have been instead.
    others = torch.randint(EOS + 1, NUM_TOKENS, (options.batch, options.tokens, 3))
    places = torch.stack([torch.randperm(options.frames)[: options.tokens].sort().values for _ in texts])
    ctc = torch.zeros(options.batch, options.frames, NUM_TOKENS)
    ctc[..., BLANK] = 14.0
    ctc[rows, places, BLANK] = 11.0
    ctc[rows[..., None], places[..., None], others] = 13.0
    ctc[rows, places, texts] = 14.0
    begin, end = torch.full((options.batch, 1), BOS), torch.full((options.batch, 1), EOS)
    said = torch.zeros(options.batch, options.tokens + 1, NUM_TOKENS)
    said[rows[..., None], torch.arange(options.tokens)[None, :, None], others] = 13.0
    said.scatter_(2, torch.cat((texts, end), 1)[..., None], 14.0)
    with torch.no_grad():
        hidden, _ = network.decode(torch.cat((begin, texts), 1), frames)
        for head, states, wanted in ((ctc_head, frames, ctc), (decoder_head, hidden, said)):
            head.w.weight.copy_(
                torch.linalg.lstsq(states.flatten(0, 1), wanted.flatten(0, 1), driver="gelsd").solution.T
            )
            head.w.bias.zero_()
    return network, decoder_head, ctc_head, frames


def translated(network, decoder_head, ctc_head):
    """Our joint recogniser with the decoder and the heads of the original."""
    from auriscope.recognition.joint import Joint

    tokens = ("<blank>", "<bos>", "<eos>", *(f"\u2581{number}" for number in range(3, NUM_TOKENS)))

    class Translated(Joint):
        @property
        def tokenizer(self):
            from auriscope.text.tokenizer import Tokenizer

            return Tokenizer(tokens, "pieces", (), BLANK, BOS, EOS)

    model = Translated.from_config(
        {
            "tokens": tokens, "dim": DIM, "num_layers": 1, "num_decoder_layers": LAYERS, "num_heads": HEADS,
            "hidden_size": HIDDEN, "activation": "gelu", "subsampling_channels": 4,
        }
    ).eval()  # fmt: skip
    weights = {"embedding.weight": network.custom_tgt_module.layers[0].emb.Embedding.weight}
    for key, value in network.decoder.state_dict().items():
        for theirs, ours in RENAMED.items():
            key = key.replace(theirs, ours)
        weights[key.replace("norm.norm.", "norm.")] = value
    weights |= {"head.weight": decoder_head.w.weight, "head.bias": decoder_head.w.bias}
    model.decoder.load_state_dict(weights)
    for module in model.decoder.modules():
        if hasattr(module, "eps"):
            module.eps = 1e-6
    model.head.load_state_dict({"weight": ctc_head.w.weight, "bias": ctc_head.w.bias})
    return model


def measure(options: argparse.Namespace) -> None:
    """In the peers' environment: both searches in turns."""
    import torch
    from speechbrain.decoders.scorer import CTCScorer, ScorerBuilder
    from speechbrain.decoders.seq2seq import S2STransformerBeamSearcher

    from auriscope.recognition.decoding import DecodingOptions, decode_encoded
    from auriscope.recognition.recognizer import Encoded

    torch.set_num_threads(options.threads)
    network, decoder_head, ctc_head, frames = originals(options)
    model = translated(network, decoder_head, ctc_head)
    searcher = S2STransformerBeamSearcher(
        modules=[network, decoder_head], bos_index=BOS, eos_index=EOS, min_decode_ratio=0.0, max_decode_ratio=1.0,
        beam_size=options.beam, using_eos_threshold=False, length_normalization=False, temperature=1.0,
        scorer=ScorerBuilder(
            full_scorers=[], partial_scorers=[CTCScorer(ctc_head, BLANK, EOS)], weights={"ctc": CTC_WEIGHT},
            scorer_beam_scale=1.5,
        ),
    )  # fmt: skip
    encoded = Encoded(frames, torch.full((options.batch,), options.frames), 0.04)
    ours_options = DecodingOptions(
        beam_size=options.beam, ctc_weight=CTC_WEIGHT, num_candidates=int(1.5 * options.beam), word_times=False
    )

    def ours() -> tuple[list[list[int]], list[float]]:
        found = decode_encoded(model, encoded, options=ours_options)
        return [list(each[0].tokens) for each in found], [each[0].score for each in found]

    def theirs() -> tuple[list[list[int]], list[float]]:
        with torch.no_grad():
            texts, _, scores, _ = searcher(frames, torch.ones(options.batch))
        return [list(map(int, text)) for text in texts], scores.tolist()

    sides = {"ours": ours, "SpeechBrain": theirs}
    times: dict[str, list[float]] = {name: [] for name in sides}
    results = {}
    for turn in range(options.repeats):
        for name in sides if turn % 2 == 0 else reversed(sides):
            start = time.process_time()
            results[name] = sides[name]()
            times[name].append(time.process_time() - start)
    mine, other = (statistics.median(times[name]) for name in sides)
    same = sum(one == two for one, two in zip(results["ours"][0], results["SpeechBrain"][0], strict=True))
    difference = max(abs(one - two) for one, two in zip(results["ours"][1], results["SpeechBrain"][1], strict=True))
    lengths = ", ".join(str(len(text)) for text in results["ours"][0])
    print(f"beam {options.beam}, {options.batch} x {options.frames} frames, {options.threads} thread(s), "
          f"medians of {options.repeats}")  # fmt: skip
    print(f"ours {mine:.2f} s, SpeechBrain {other:.2f} s, ratio {mine / other:.3f}")
    print(
        f"the same best text {same} of {options.batch} (tokens: {lengths}); scores differ by at most {difference:.1e}"
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--beam", type=int, default=10)
    parser.add_argument("--batch", type=int, default=1)
    parser.add_argument("--frames", type=int, default=250, help="of the encoder; 40 ms each")
    parser.add_argument("--tokens", type=int, default=60, help="that CTC says")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.batch * options.frames > DIM:
        parser.error(f"the frames of a batch must not be more than {DIM} for CTC to say what it should")
    if options.here:
        measure(options)
        return
    if not peers_python().exists():
        sys.exit("there is no peers' environment: run benchmarks/peers.sh, or set AURISCOPE_PEERS_PYTHON")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": str(options.threads)}
    sys.exit(
        subprocess.run([peers_python(), __file__, *sys.argv[1:], "--here"], env=environment, check=False).returncode
    )


if __name__ == "__main__":
    main()
