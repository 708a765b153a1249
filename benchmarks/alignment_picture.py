"""Draw what CTC hears in one recording, and measure how good its word times and confidences are.

Above, the spectrogram with the words where they were found; in the middle, what the network says at every frame, each
letter of the text a line and the blank a shade; below, the states of the text against time: how likely each is (forward
and backward variables together), and the likeliest path through them (Viterbi).

With --set digits or digits-unseen, digits of one speaker joined with silence, the true beginnings and ends of the words
are known: they are drawn, too, and the distances of all words of the set from them are printed, as CTC's path has them
and after the words were moved to the pauses. For any set, the confidences of the words that are heard (greedily) are
compared with how many of them are right. Without --model a small BLSTM with CTC is trained first, for --steps batches
of connected digits, a matter of minutes.

Needs the real data in AURISCOPE_CORPORA.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein
from torch import Tensor

from auriscope.data.transcribed import JoiningConfig, Spoken, TranscribedBatches, TranscribedConfig, spoken_set
from auriscope.errors import AuriscopeError
from auriscope.pretrained import load
from auriscope.recognition import BLSTMCTC, BLSTMCTCConfig, Recognizer
from auriscope.recognition.alignment import ctc_align
from auriscope.recognition.ctc import ctc_occupancies, extended_labels
from auriscope.recognition.greedy import greedy_ctc
from auriscope.recognition.pauses import PauseFinder, settled
from auriscope.recognition.words import Word, words_of_spans
from auriscope.signal.mel import log_mel

matplotlib.use("agg")
from matplotlib import pyplot as plt

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's
SHORTEST_GAP_SECONDS = JoiningConfig().gap_seconds[0]


def train(steps: int, sample_rate: int = 16_000) -> BLSTMCTC:
    """Train a small BLSTM to read connected digits in letters."""
    torch.manual_seed(1)
    config = BLSTMCTCConfig(sample_rate=sample_rate, num_mels=40, num_cells=96, num_layers=2, subsampling=3)
    model = BLSTMCTC(config)
    data = TranscribedConfig(
        corpora=("fsdd_digits",), sample_rate=sample_rate, batch_seconds=60.0, joining=JoiningConfig()
    )
    batches = TranscribedBatches(data, seed=1).iterate()
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 6e-3, total_steps=steps)
    begin = perf_counter()
    for step, batch in zip(range(1, steps + 1), batches, strict=False):
        numbers = [torch.tensor(model.tokenizer.encode(text)) for text in batch["text"]]
        tokens = torch.nn.utils.rnn.pad_sequence(numbers, batch_first=True)
        lengths = torch.tensor([len(number) for number in numbers])
        loss = model.losses(model.encode(batch["waveform"], batch["lengths"]), tokens, lengths)["loss"]
        optimizer.zero_grad()
        loss.backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step}: loss {loss.item():.3f}, {perf_counter() - begin:.0f} s", file=sys.stderr)
    return model.eval()


def true_times(item: Spoken, sample_rate: int) -> list[tuple[float, float]]:
    """Find when the words of joined digits begin and end: between stretches of samples that are exactly zero."""
    quiet = np.concatenate(([False], item.waveform == 0.0, [False]))
    edges = np.flatnonzero(quiet[1:] != quiet[:-1]).reshape(-1, 2)
    gaps = edges[edges[:, 1] - edges[:, 0] >= 0.95 * SHORTEST_GAP_SECONDS * sample_rate]
    return [(float(a) / sample_rate, float(b) / sample_rate) for a, b in zip(gaps[:-1, 1], gaps[1:, 0], strict=True)]


@dataclass(frozen=True)
class Found:
    """The words of one recording: of its text as CTC's best path has them and as the pauses do, and what is heard."""

    words: tuple[Word, ...]
    settled: tuple[Word, ...]
    heard: tuple[Word, ...]


@torch.no_grad()
def found_in(model: Recognizer, item: Spoken) -> Found:
    """Align one recording with its text, and with what is heard in it."""
    tokenizer = model.tokenizer
    blank = tokenizer.blank_id or 0
    encoded = model.encode(torch.from_numpy(item.waveform)[None])
    log_probs = model.ctc_logits(encoded).log_softmax(-1)
    heard = greedy_ctc(log_probs, encoded.frame_lengths, blank)[0]
    said, own = (
        words_of_spans(ctc_align(log_probs, torch.tensor([numbers]), blank_id=blank).spans[0], tokenizer, seconds)
        for seconds in [encoded.frame_seconds]
        for numbers in (tokenizer.encode(item.text), heard)
    )
    finder = PauseFinder(model.config.sample_rate)
    finder.update(item.waveform)
    return Found(said, settled(said, finder.pauses()), own)


def distances(words: Sequence[Word], truth: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """Distances in milliseconds of beginnings and ends found from the true ones; none where their number differs."""
    if len(words) != len(truth):
        return []
    return [
        (1000 * (word.start_seconds - begin), 1000 * (word.end_seconds - end))
        for word, (begin, end) in zip(words, truth, strict=True)
    ]


def which_are_right(heard: Sequence[str], said: Sequence[str]) -> list[bool]:
    """Say of each word that was heard whether the best alignment with what was said lets it stand."""
    right = [True] * len(heard)
    for operation in Levenshtein.editops(heard, said):
        if operation.tag != "insert":
            right[operation.src_pos] = False
    return right


def calibration(confidences: NDArray[np.float64], right: NDArray[np.bool_]) -> str:
    """Compare confidences with shares of right words: in ten groups of equal size, and as a ranking."""
    groups = np.array_split(np.argsort(confidences), 10)
    error = sum(len(group) * abs(confidences[group].mean() - right[group].mean()) for group in groups) / len(right)
    ranks = np.argsort(np.argsort(confidences)) + 1
    num_right, num_wrong = int(right.sum()), int((~right).sum())
    text = f"{len(right)} words heard, {right.mean():.1%} right, mean confidence {confidences.mean():.3f}"
    text += f", calibration error {error:.3f}"
    if num_right and num_wrong:
        area = (ranks[right].sum() - num_right * (num_right + 1) / 2) / (num_right * num_wrong)
        text += f", area under the ROC curve {area:.3f}"
    return text


@torch.no_grad()
def draw(model: Recognizer, item: Spoken, truth: list[tuple[float, float]], path: Path) -> None:
    """Draw one recording into a picture."""
    tokenizer, rate = model.tokenizer, model.config.sample_rate
    blank = tokenizer.blank_id or 0
    waveform = torch.from_numpy(item.waveform)[None]
    encoded = model.encode(waveform)
    logits = model.ctc_logits(encoded)
    tokens = torch.tensor([tokenizer.encode(item.text)])
    frames, lengths = encoded.frame_lengths, torch.tensor([tokens.shape[1]])
    found = ctc_align(logits.log_softmax(-1), tokens, blank_id=blank)
    words = found_in(model, item).settled
    posteriors = logits[0].softmax(-1)
    occupancies = ctc_occupancies(logits, tokens, frames, lengths, blank_id=blank)[0]
    seconds, step = len(item.waveform) / rate, encoded.frame_seconds

    figure, (top, middle, bottom) = plt.subplots(
        3, figsize=(13, 11), height_ratios=(1, 1, 2), sharex=True, layout="constrained"
    )
    figure.get_layout_engine().set(hspace=0.03)
    features = log_mel(waveform[0], rate)
    top.imshow(
        features.T.numpy(),
        origin="lower",
        aspect="auto",
        cmap="Greys",
        vmin=float(features.max()) - 65,
        extent=(0, seconds, 0, features.shape[1]),
    )
    for number, word in enumerate(words):
        colour = COLOURS[number % len(COLOURS)]
        for axes in (top, middle, bottom):
            axes.axvspan(word.start_seconds, word.end_seconds, color=colour, alpha=0.13, linewidth=0)
        top.text(
            (word.start_seconds + word.end_seconds) / 2,
            1.02,
            f"{word.word}\n{word.confidence:.2f}",
            transform=top.get_xaxis_transform(),
            ha="center",
            color=colour,
            weight="bold",
        )
    for begin, end in truth:
        top.plot([begin, end], [0.985, 0.985], color="black", linewidth=2.5, transform=top.get_xaxis_transform())
    if truth:
        top.plot([], [], color="black", linewidth=2.5, label="truth")
        top.legend(loc="center right", fontsize=8)
    top.set(ylabel="mels", yticks=[])

    moments = (torch.arange(len(posteriors)) + 0.5) * step
    middle.fill_between(moments, posteriors[:, blank], color="0.85", linewidth=0, label="blank", step="mid")
    letters = sorted(set(tokens[0].tolist()))
    for number, letter in enumerate(letters):
        style = "-" if number < len(COLOURS) else "--" if number < 2 * len(COLOURS) else ":"
        middle.plot(moments, posteriors[:, letter], style, color=COLOURS[number % len(COLOURS)], linewidth=1.3)
    for span in found.spans[0]:
        peak = span.first_frame + int(posteriors[span.first_frame : span.end_frame, span.token].argmax())
        text = tokenizer.tokens[span.token].replace(" ", "\u2423")
        height = float(posteriors[peak, span.token])
        middle.text(
            float(moments[peak]),
            height + 0.02,
            text,
            ha="center",
            fontsize=8,
            color=COLOURS[letters.index(span.token) % 6],
        )
    middle.set(ylabel="posterior", ylim=(0, 1.12))
    middle.legend(loc="center right", fontsize=8)

    labels = extended_labels(tokens, lengths, blank)[0][0].tolist()
    shown = occupancies.clamp(min=1e-6).log10().T.numpy()
    picture = bottom.imshow(
        shown,
        origin="lower",
        aspect="auto",
        cmap="Blues",
        vmin=-5,
        vmax=0,
        extent=(0, len(posteriors) * step, -0.5, len(labels) - 0.5),
        interpolation="nearest",
    )
    bottom.step(moments, states_of(found.paths[0], blank), where="mid", color="#d55e00", linewidth=1.6, label="Viterbi")
    odd = range(1, len(labels), 2)
    bottom.set_yticks(odd, [tokenizer.tokens[labels[state]].replace(" ", "\u2423") for state in odd], fontsize=7)
    bottom.set(ylabel="states of the text: its letters, blanks between them", xlabel="seconds", xlim=(0, seconds))
    bottom.legend(loc="upper left")
    figure.colorbar(
        picture, ax=bottom, label="share of all paths", ticks=[-5, -3, -1, 0], format=lambda x, _: f"1e{x:g}"
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def states_of(path: Tensor, blank: int) -> list[int]:
    """Turn a path of tokens into the states that it is in."""
    states: list[int] = []
    before, begun = blank, 0
    for token in path.tolist():
        begun += token not in (blank, before)
        states.append(2 * begun - (token != blank))
        before = token
    return states


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="address or folder of a recogniser with CTC (default: train a small one)")
    parser.add_argument("--steps", type=int, default=900, help="batches to train a small one with")
    parser.add_argument("--keep", type=Path, help="folder to save the small one in")
    parser.add_argument("--set", default="digits", help="corpus with texts, digits or digits-unseen")
    parser.add_argument("--split", default="test", help="its split")
    parser.add_argument("--item", type=int, default=0, help="which recording of it is drawn")
    parser.add_argument("--max-items", type=int, default=200, help="how many recordings of it are measured")
    parser.add_argument("--out", type=Path, default=Path("docs/curves/ctc-alignment.png"))
    options = parser.parse_args()
    try:
        model = load(options.model) if options.model else train(options.steps)
        if not isinstance(model, Recognizer) or not model.has_ctc:
            parser.error(f"{options.model} is {model.name}, which has no CTC")
        if options.keep:
            model.save_pretrained(options.keep)
        items = spoken_set(options.set, options.split, sample_rate=model.config.sample_rate)
    except AuriscopeError as error:
        parser.error(str(error))
    if not 0 <= options.item < len(items):
        parser.error(f"--item must lie between 0 and {len(items) - 1}")
    item = items[options.item]
    known = options.set.startswith("digits")
    rate = model.config.sample_rate
    draw(model.eval(), item, true_times(item, rate) if known else [], options.out)
    print(f"{options.out}: {item.text}")
    path_times, settled_times, confidences, right = [], [], [], []
    for number in range(min(options.max_items, len(items))):
        found = found_in(model, items[number])
        if known:
            truth = true_times(items[number], rate)
            path_times += distances(found.words, truth)
            settled_times += distances(found.settled, truth)
        confidences += [word.confidence for word in found.heard]
        right += which_are_right([word.word for word in found.heard], items[number].text.split())
    for name, times in (("CTC's path", path_times), ("moved to pauses", settled_times)):
        for edge, column in zip(("begin", "end"), np.array(times).T, strict=False):
            away = np.abs(column)
            told = f"median {np.median(column):+.0f} ms, mean distance {away.mean():.0f} ms"
            print(f"{name}: {len(column)} words {edge}, {told}, {np.percentile(away, 95):.0f} ms for 95 %")
    print(calibration(np.array(confidences), np.array(right)))


if __name__ == "__main__":
    main()
