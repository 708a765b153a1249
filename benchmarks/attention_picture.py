"""Draw where a recogniser's decoder looks while it writes, and measure how much of that is where the word is.

Above, the spectrogram; below, the attention: a row for each letter that is written, from top to bottom, and the time it
looks at. With --set digits or digits-unseen, digits of one speaker joined with silence, the true times of the words are
known: they are drawn as boxes, and it is printed how much of the attention over all utterances lies in the right ones,
beside what a decoder would have there that looks everywhere alike.

The decoder writes greedily; an utterance counts if it has as many words as were said. Without --model a small Listen,
Attend and Spell is trained first (--architecture recognition/joint: a small joint recogniser), for --steps batches: of
single digits first, then of one to three, in the second half of three to seven. A matter of minutes.

Needs the real data in AURISCOPE_CORPORA.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from time import perf_counter

import matplotlib
import numpy as np
import torch
from numpy.typing import NDArray
from rapidfuzz.distance import Levenshtein

from auriscope.data.spoken import Spoken
from auriscope.data.transcribed import JoiningConfig, TranscribedBatches, TranscribedConfig, spoken_set
from auriscope.errors import AuriscopeError
from auriscope.pretrained import load, model_class
from auriscope.recognition import Recognizer
from auriscope.recognition.language_model import pad_tokens
from auriscope.signal.mel import log_mel

matplotlib.use("agg")
from matplotlib import pyplot as plt

COLOURS = ("#0072b2", "#d55e00", "#009e73", "#cc79a7", "#e69f00", "#56b4e9")  # Okabe and Ito's
SMALL = {
    "recognition/las": {
        "listener_size": 96,
        "num_pyramid_layers": 2,
        "speller_size": 128,
        "num_speller_layers": 1,
        "embedding_size": 32,
        "attention_size": 64,
    },
    "recognition/joint": {
        "num_mels": 40,
        "dim": 96,
        "num_layers": 3,
        "num_decoder_layers": 2,
        "num_heads": 4,
        "kernel_size": 15,
        "expansion": 2,
        "hidden_size": 192,
        "subsampling_channels": 16,
    },
}


def train(architecture: str, steps: int) -> Recognizer:
    """Train a small recogniser to read connected digits in letters."""
    torch.manual_seed(1)
    model = model_class(architecture).from_config(SMALL[architecture])
    assert isinstance(model, Recognizer)
    batches: list[Iterator[dict[str, object]]] = []
    for number, joined in enumerate(((1, 1), (1, 3), (3, 7))):
        data = TranscribedConfig(corpora=("fsdd_digits",), batch_seconds=30.0, joining=JoiningConfig(num_joined=joined))
        batches.append(TranscribedBatches(data, seed=1 + number).iterate())
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 1.5e-3, total_steps=steps, pct_start=0.1)
    begin = perf_counter()
    for step in range(1, steps + 1):
        batch = next(batches[(step > 0.2 * steps) + (step > 0.5 * steps)])
        tokens, lengths = pad_tokens(model.tokenizer.encode(text) for text in batch["text"])
        losses = model.losses(model.encode(batch["waveform"], batch["lengths"]), tokens, lengths)
        optimizer.zero_grad()
        losses["loss"].backward()
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        schedule.step()
        if step % 50 == 0:
            print(f"step {step}: {losses['loss'].item():.3f}, {perf_counter() - begin:.0f} s", file=sys.stderr)
    return model.eval()


@dataclass(frozen=True)
class Written:
    """What the decoder wrote: token numbers, the end included, and the attention (tokens, frames) of each."""

    tokens: list[int]
    attention: NDArray[np.float32]
    frame_seconds: float


@torch.no_grad()
def write(model: Recognizer, item: Spoken) -> Written:
    """Let the decoder write greedily, at most a token per frame."""
    encoded = model.encode(torch.from_numpy(item.waveform)[None])
    tokenizer = model.tokenizer
    state, read = model.start(encoded, 1), torch.tensor([[tokenizer.bos_id]])
    tokens: list[int] = []
    rows = []
    while len(tokens) < int(encoded.frame_lengths[0]):
        log_probs, state, attention = model.step(read, state)
        if attention is None:
            raise AuriscopeError(f"{model.name} has no attention to draw")
        if tokenizer.blank_id is not None and tokenizer.blank_id != tokenizer.eos_id:
            log_probs[..., tokenizer.blank_id] = -torch.inf
        read = log_probs.argmax(-1)
        tokens.append(int(read))
        rows.append(attention[0, 0])
        if tokens[-1] == tokenizer.eos_id:
            break
    return Written(tokens, torch.stack(rows).numpy(), encoded.frame_seconds)


def true_times(item: Spoken, sample_rate: int) -> list[tuple[float, float]]:
    """Find when the words of joined digits begin and end: between stretches of samples that are exactly zero."""
    quiet = np.concatenate(([False], item.waveform == 0.0, [False]))
    edges = np.flatnonzero(quiet[1:] != quiet[:-1]).reshape(-1, 2)
    shortest = 0.95 * JoiningConfig().gap_seconds[0] * sample_rate
    gaps = edges[edges[:, 1] - edges[:, 0] >= shortest]
    return [(float(a) / sample_rate, float(b) / sample_rate) for a, b in zip(gaps[:-1, 1], gaps[1:, 0], strict=True)]


def share_in_words(
    model: Recognizer, written: Written, truth: list[tuple[float, float]]
) -> tuple[list[float], list[float]]:
    """How much of each letter's attention lies in its word's time, and what share of the recording that time is."""
    words = model.tokenizer.words(written.tokens)
    if len(words) != len(truth):
        return [], []
    middles = (np.arange(written.attention.shape[1]) + 0.5) * written.frame_seconds
    inside, alike = [], []
    for (_, first, last), (begin, end) in zip(words, truth, strict=True):
        own = (middles >= begin - written.frame_seconds) & (middles <= end + written.frame_seconds)
        inside += written.attention[first:last, own].sum(1).tolist()
        alike += [float(own.mean())] * (last - first)
    return inside, alike


def draw(model: Recognizer, item: Spoken, written: Written, truth: list[tuple[float, float]], path: Path) -> None:
    """Draw one recording into a picture."""
    rate, tokenizer = model.config.sample_rate, model.tokenizer
    seconds = len(item.waveform) / rate
    figure, (top, bottom) = plt.subplots(2, figsize=(12, 9), height_ratios=(1, 3), sharex=True, layout="constrained")
    features = log_mel(torch.from_numpy(item.waveform), rate)
    limits = (0, seconds, 0, features.shape[1])
    lowest = float(features.max()) - 65
    top.imshow(features.T.numpy(), origin="lower", aspect="auto", cmap="Greys", vmin=lowest, extent=limits)
    top.set(ylabel="mels", yticks=[], title=f"{model.name} writes: {tokenizer.decode(written.tokens)}")
    number, frames = written.attention.shape
    picture = bottom.imshow(
        written.attention,
        aspect="auto",
        cmap="Blues",
        vmin=0,
        vmax=float(np.quantile(written.attention.max(1), 0.9)),
        extent=(0, frames * written.frame_seconds, number - 0.5, -0.5),
        interpolation="nearest",
    )
    words = tokenizer.words(written.tokens)
    if len(words) == len(truth):
        for place, ((_, first, last), (begin, end)) in enumerate(zip(words, truth, strict=True)):
            colour = COLOURS[place % len(COLOURS)]
            top.axvspan(begin, end, color=colour, alpha=0.15, linewidth=0)
            box = plt.Rectangle((begin, first - 0.5), end - begin, last - first, fill=False, edgecolor=colour, lw=1.6)
            bottom.add_patch(box)
    names = [tokenizer.tokens[token].replace(" ", "\u2423") for token in written.tokens]
    bottom.set_yticks(range(number), names, fontsize=8)
    bottom.set(xlabel="seconds", ylabel="what is written, from top to bottom", xlim=(0, seconds))
    figure.colorbar(picture, ax=bottom, label="attention per frame")
    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=100)
    plt.close(figure)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", help="address or folder of a recogniser with attention (default: train a small one)")
    parser.add_argument("--architecture", choices=sorted(SMALL), default="recognition/las", help="of the small one")
    parser.add_argument("--steps", type=int, default=1600, help="batches to train the small one with")
    parser.add_argument("--keep", type=Path, help="folder to save the small one in")
    parser.add_argument("--set", default="digits", help="corpus with texts, digits or digits-unseen")
    parser.add_argument("--split", default="test", help="its split")
    parser.add_argument("--item", type=int, default=0, help="which recording of it is drawn")
    parser.add_argument("--max-items", type=int, default=200, help="how many recordings of it are measured")
    parser.add_argument("--out", type=Path, default=Path("docs/curves/las-attention.png"))
    options = parser.parse_args()
    try:
        model = load(options.model) if options.model else train(options.architecture, options.steps)
        if not isinstance(model, Recognizer) or not model.has_decoder:
            parser.error(f"{options.model} is {model.name}, which has no decoder with attention")
        if options.keep:
            model.save_pretrained(options.keep)
        items = spoken_set(options.set, options.split, sample_rate=model.config.sample_rate)
        if not 0 <= options.item < len(items):
            parser.error(f"--item must lie between 0 and {len(items) - 1}")
        known = options.set.startswith("digits")
        item, rate = items[options.item], model.config.sample_rate
        draw(model, item, write(model, item), true_times(item, rate) if known else [], options.out)
    except AuriscopeError as error:
        parser.error(str(error))
    print(f"{options.out}: {item.text}")
    inside, alike, used = [], [], 0
    errors, letters = 0, 0
    for number in range(min(options.max_items, len(items))):
        written = write(model, items[number])
        errors += Levenshtein.distance(model.tokenizer.decode(written.tokens), items[number].text)
        letters += len(items[number].text)
        if known:
            shares = share_in_words(model, written, true_times(items[number], rate))
            inside, alike, used = inside + shares[0], alike + shares[1], used + bool(shares[0])
    print(f"character error, greedily, of {number + 1} utterances: {errors / letters:.1%}")
    if inside:
        print(
            f"attention within the word's time: {np.mean(inside):.1%} of it, {np.mean(alike):.1%} if it were everywhere"
        )
        print(f"({len(inside)} letters of the {used} utterances with as many words as were said)")


if __name__ == "__main__":
    main()
