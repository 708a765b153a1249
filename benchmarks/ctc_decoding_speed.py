"""CTC's prefix beam search with a word n-gram, ours beside pyctcdecode: the same logits, beam, weights and n-gram.

    .venv/bin/python benchmarks/ctc_decoding_speed.py [--sample FOLDER] [--text FILE] [--utterances 5] [--repeats 5]
        [--beam 100]

--sample: pyctcdecode's own sample data, its folder pyctcdecode/tests/sample_data (libri_logits.json, 371 frames of
LibriSpeech, and bugs_bunny_kenlm.arpa; Apache License 2.0), which its package does not hold.
--text: a sentence a line; default: the sentences of libri_text in AURISCOPE_CORPORA. A bigram is made of them all but
the last few, which become logits: letters that last a frame or two, blanks between them, others nearly as likely;
"sure" like a recogniser trained on a thousand hours, "unsure" like one trained on four.

Both run in the peers' environment (benchmarks/peers.sh, or AURISCOPE_PEERS_PYTHON), in one process with one thread, and
take turns. The time is the processor's, from logits to the best text, for pyctcdecode that of `decode_beams`. "with
words" is `decode_encoded`: the same search, then the exact probability of the best text, and the times and confidences
of its words by alignment. "better" and "worse" count the utterances whose text of ours scores more, or less, over all
paths than pyctcdecode's.
"""

from __future__ import annotations

import argparse
import gzip
import itertools
import json
import math
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).parents[1]
LABELS = [" ", *"abcdefghijklmnopqrstuvwxyz'", ""]
BLANK = len(LABELS) - 1
ALPHA, BETA, UNKNOWN = 0.5, 1.5, -10.0
DISCOUNT = 0.75
SHAPES = {"sure": (10.0, 1.0), "unsure": (6.0, 1.2)}


def peers_python() -> Path:
    return Path(os.environ.get("AURISCOPE_PEERS_PYTHON", ROOT / ".venv-peers" / "bin" / "python"))


def sentences(path: Path | None) -> list[str]:
    """The lines of a text file, or the texts of libri_text, in small letters."""
    if path is not None:
        lines = path.read_text(encoding="utf-8").splitlines()
    elif "AURISCOPE_CORPORA" in os.environ:
        packed = Path(os.environ["AURISCOPE_CORPORA"]) / "libri_text" / "train-clean-100.tsv.gz"
        lines = [line.split("\t")[1] for line in gzip.decompress(packed.read_bytes()).decode().splitlines()]
    else:
        return []
    return [text for line in lines if (text := "".join(each for each in line.lower() if each in LABELS).strip())]


def write_bigram(texts: list[str], path: Path) -> None:
    """An ARPA file of a bigram with absolute discounting (H. Ney, U. Essen and R. Kneser, 1994)."""
    pairs, ends = Counter(), Counter()
    for text in texts:
        words = ["<s>", *text.split(), "</s>"]
        pairs.update(itertools.pairwise(words))
        ends.update(words[1:])
    total = ends.total() + 1
    single = {word: math.log10(count / total) for word, count in ends.items()} | {"<unk>": math.log10(1 / total)}
    followers, kinds = Counter(), Counter()
    for (first, _), count in pairs.items():
        followers[first] += count
        kinds[first] += 1
    rows, seen = [], Counter()
    for (first, second), count in sorted(pairs.items()):
        lower = 10 ** single[second]
        probability = (count - DISCOUNT + DISCOUNT * kinds[first] * lower) / followers[first]
        rows.append(f"{math.log10(probability):.6f}\t{first} {second}")
        seen[first] += lower
    with path.open("w", encoding="utf-8") as file:
        file.write(f"\\data\\\nngram 1={len(single) + 1}\nngram 2={len(rows)}\n\n\\1-grams:\n")
        for word, log_prob in [("<s>", -99.0), *sorted(single.items())]:
            # What is left for words that never followed is what discounting took from those that did.
            weight = DISCOUNT * kinds[word] / followers[word] if word in followers else 1.0
            file.write(f"{log_prob:.6f}\t{word}\t{math.log10(weight):.6f}\n")
        file.write("\n\\2-grams:\n" + "\n".join(rows) + "\n\n\\end\\\n")


def spoken(text: str, shape: str, generator):
    """Logits (frames, labels) of a text, as a recogniser might give them."""
    import numpy as np

    height, noise = SHAPES[shape]
    frames = []
    for letter in text:
        frames += [BLANK] * int(generator.integers(0, 3)) + [LABELS.index(letter)] * int(generator.integers(1, 3))
        frames.append(BLANK)
    logits = generator.normal(0.0, noise, (len(frames), len(LABELS)))
    logits[np.arange(len(frames)), frames] += generator.normal(height, noise, len(frames))
    return logits


def cases(options: argparse.Namespace, folder: Path) -> list[tuple[str, list, Path | None]]:
    """What is decoded: a name, the logits of each utterance, and an n-gram if there is one."""
    import numpy as np

    found: list[tuple[str, list, Path | None]] = []
    if options.sample is not None:
        logits = [np.array(json.loads((options.sample / "libri_logits.json").read_text()), dtype=np.float64)]
        found += [("sample", logits, None), ("sample", logits, options.sample / "bugs_bunny_kenlm.arpa")]
    if texts := sentences(options.text):
        write_bigram(texts[: -options.utterances], folder / "bigram.arpa")
        if options.sample is not None:
            found.append(("sample", logits, folder / "bigram.arpa"))
        for shape in SHAPES:
            generator = np.random.default_rng(0)
            logits = [spoken(text, shape, generator) for text in texts[-options.utterances :]]
            found += [(shape, logits, None), (shape, logits, folder / "bigram.arpa")]
    return found


class KenLM:
    """KenLM's n-gram as a language model over words."""

    def __init__(self, model, vocabulary: list[str]) -> None:
        import kenlm

        self.model, self.vocabulary, self.new = model, vocabulary, kenlm.State

    def start_state(self):
        """The sentence's beginning."""
        state = self.new()
        self.model.BeginSentenceWrite(state)
        return state

    def score_word(self, state, word: str):
        """Log-probability of a word, and the state after it."""
        after = self.new()
        return self.model.BaseScore(state, word, after) * math.log(10.0), after

    def score_end(self, state) -> float:
        """Log-probability of the sentence's end."""
        return self.model.BaseScore(state, "</s>", self.new()) * math.log(10.0)


def measure(options: argparse.Namespace, folder: Path) -> None:
    """In the peers' environment: both searches in turns, case by case."""
    import logging

    import kenlm
    import torch
    from pyctcdecode import build_ctcdecoder
    from pyctcdecode.language_model import load_unigram_set_from_arpa

    from auriscope.recognition.decoding import DecodingOptions, decode_encoded, score_weights
    from auriscope.recognition.decoding.frames import search_frames
    from auriscope.recognition.decoding.prefix import ctc_log_probability
    from auriscope.recognition.decoding.scorers import TextScorer
    from auriscope.recognition.recognizer import Encoded, Recognizer, RecognizerConfig
    from auriscope.text.tokenizer import Tokenizer

    logging.disable(logging.WARNING)
    torch.set_num_threads(1)
    tokenizer = Tokenizer((*LABELS[:-1], "<blank>"), "characters", (), BLANK, None, None)

    class Given(Recognizer):
        """A recogniser whose logits are the encoder's states."""

        has_ctc = True

        def features(self, waveform, lengths=None):
            raise NotImplementedError

        def encode_features(self, features, frame_lengths):
            raise NotImplementedError

        def ctc_logits(self, encoded):
            return encoded.states

    def formula(logits, text: str, chosen: DecodingOptions, scorer: TextScorer) -> float:
        """The score of a text, with all its paths."""
        log_probs = torch.from_numpy(logits).log_softmax(-1)
        parts = scorer.parts(text) | {"ctc": ctc_log_probability(log_probs, [tokenizer.encode(text)], BLANK)[0]}
        return sum(value * score_weights(chosen, 1.0)[name] for name, value in parts.items())

    recognizer = Given(RecognizerConfig(tokens=tokenizer.tokens))
    recognizer.tokenizer = tokenizer
    print(f"beam {options.beam}, one thread, milliseconds an utterance, medians of {options.repeats}")
    heads = ("ours", "with words", "pyctcdecode", "ratio", "same", "better", "worse")
    print(f"{'logits':8}{'n-gram':18}" + "".join(f"{head:>12}" for head in heads))
    for name, all_logits, arpa in cases(options, folder):
        weights = {"word_lm_weight": ALPHA, "word_bonus": BETA} if arpa else {}
        chosen = DecodingOptions(
            beam_size=options.beam,
            unknown_word_score=UNKNOWN * math.log(10.0),
            word_times=True,
            **weights,
        )
        model, unigrams = None, None
        if arpa is not None:
            unigrams = sorted(load_unigram_set_from_arpa(str(arpa)) - {"<s>", "</s>", "<unk>"})
            model = KenLM(kenlm.Model(str(arpa)), unigrams)
        scorer = TextScorer(tokenizer, chosen, model)
        peer = build_ctcdecoder(
            LABELS, str(arpa) if arpa else None, unigrams, alpha=ALPHA, beta=BETA, unk_score_offset=UNKNOWN
        )

        def ours(logits, chosen=chosen, scorer=scorer):
            log_probs = torch.from_numpy(logits).log_softmax(-1).numpy()
            return tokenizer.decode(search_frames(log_probs, BLANK, chosen, scorer)[0][0])

        def with_words(logits, chosen=chosen, model=model):
            encoded = Encoded(torch.from_numpy(logits)[None], torch.tensor([len(logits)]), 0.02)
            return decode_encoded(recognizer, encoded, options=chosen, language_model=model)[0][0].text

        def theirs(logits, peer=peer):
            return peer.decode_beams(logits, beam_width=options.beam)[0][0]

        sides = {"ours": ours, "with words": with_words, "pyctcdecode": theirs}
        times: dict[str, list[float]] = {side: [] for side in sides}
        texts: dict[str, list[str]] = {}
        # A millisecond is measured many times over.
        passes = 20 if name == "sample" else 1
        for turn in range(options.repeats):
            for side in sides if turn % 2 == 0 else reversed(sides):
                start = time.process_time()
                for _ in range(passes):
                    texts[side] = [sides[side](logits) for logits in all_logits]
                times[side].append(1000.0 * (time.process_time() - start) / len(all_logits) / passes)
        mine, whole, other = (statistics.median(times[side]) for side in sides)
        same = sum(one == two for one, two in zip(texts["ours"], texts["pyctcdecode"], strict=True))
        gained = [
            formula(logits, one, chosen, scorer) - formula(logits, two, chosen, scorer)
            for logits, one, two in zip(all_logits, texts["ours"], texts["pyctcdecode"], strict=True)
        ]
        ngram = "" if arpa is None else arpa.stem
        counts = same, sum(each > 1e-6 for each in gained), sum(each < -1e-6 for each in gained)
        print(
            f"{name:8}{ngram:18}{mine:12.2f}{whole:12.2f}{other:12.2f}{mine / other:12.3f}"
            + "".join(f"{f'{count} of {len(all_logits)}':>12}" for count in counts),
            flush=True,
        )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sample", type=Path, help="pyctcdecode's tests/sample_data")
    parser.add_argument("--text", type=Path, help="sentences, one a line; default: libri_text of AURISCOPE_CORPORA")
    parser.add_argument("--utterances", type=int, default=5, help="of --text that become logits")
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument("--beam", type=int, default=100)
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.here:
        with tempfile.TemporaryDirectory() as folder:
            measure(options, Path(folder))
        return
    if options.sample is None and not sentences(options.text):
        parser.error("name pyctcdecode's sample data (--sample) or a text (--text), or set AURISCOPE_CORPORA")
    if not peers_python().exists():
        sys.exit("there is no peers' environment: run benchmarks/peers.sh, or set AURISCOPE_PEERS_PYTHON")
    environment = {**os.environ, "PYTHONPATH": str(ROOT / "src"), "OMP_NUM_THREADS": "1"}
    command = [peers_python(), __file__, *sys.argv[1:], "--here"]
    sys.exit(subprocess.run(command, env=environment, check=False).returncode)


if __name__ == "__main__":
    main()
