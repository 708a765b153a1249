"""The quickest reading of a recogniser: at every frame, or after every token, the likeliest token."""

from __future__ import annotations

import torch
from torch import Tensor

from auriscope.recognition.recognizer import Encoded, Recognizer


def greedy_ctc(log_probs: Tensor, frame_lengths: Tensor, blank_id: int) -> list[list[int]]:
    """Merge the repeats of every frame's likeliest token, then drop the blanks (Graves 2006, section 3.2).

    Shapes: ``log_probs``, or logits, (batch, frames, tokens); ``frame_lengths`` (batch,). One list per utterance.

    >>> path = torch.tensor([[1, 1, 0, 1, 2, 2, 0]])
    >>> greedy_ctc(torch.nn.functional.one_hot(path, 3).float(), torch.tensor([6]), 0)
    [[1, 1, 2]]
    """
    best = log_probs.argmax(-1)
    found = []
    for path, length in zip(best, frame_lengths.tolist(), strict=True):
        merged = torch.unique_consecutive(path[:length])
        found.append(merged[merged != blank_id].tolist())
    return found


@torch.no_grad()
def greedy_decoder(recognizer: Recognizer, encoded: Encoded, max_tokens_per_frame: float = 1.0) -> list[list[int]]:
    """Take the likeliest token after every token, until the sentence ends or there are more tokens than frames."""
    tokenizer = recognizer.tokenizer
    assert tokenizer.bos_id is not None
    batch = len(encoded.states)
    state = recognizer.start(encoded, 1)
    tokens = torch.full((batch, 1), tokenizer.bos_id, dtype=torch.int64, device=encoded.states.device)
    limits = (encoded.frame_lengths * max_tokens_per_frame).ceil().int().tolist()
    found: list[list[int]] = [[] for _ in range(batch)]
    open_ = [True] * batch
    for length in range(max(limits)):
        log_probs, state, _ = recognizer.step(tokens, state)
        if tokenizer.blank_id is not None and tokenizer.blank_id != tokenizer.eos_id:
            log_probs[..., tokenizer.blank_id] = -torch.inf
        tokens = log_probs.argmax(-1)
        for row, number in enumerate(tokens[:, 0].tolist()):
            open_[row] = open_[row] and number != tokenizer.eos_id and length < limits[row]
            if open_[row]:
                found[row].append(number)
        if not any(open_):
            break
    return found


@torch.no_grad()
def transcripts(recognizer: Recognizer, waveform: Tensor, lengths: Tensor | None = None) -> list[str]:
    """Transcribe waveforms (batch, time) greedily: by CTC where there is one, else by the decoder."""
    encoded = recognizer.encode(waveform, lengths)
    tokenizer = recognizer.tokenizer
    if recognizer.has_ctc:
        assert tokenizer.blank_id is not None
        numbers = greedy_ctc(recognizer.ctc_logits(encoded), encoded.frame_lengths, tokenizer.blank_id)
    else:
        numbers = greedy_decoder(recognizer, encoded)
    return [tokenizer.decode(found) for found in numbers]
