"""Folders in the layout of transformers: ``config.json``, the weights, and the files of the tokenizer.

The library transformers is not asked: what these files say is either obeyed or refused here.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import safetensors.torch
import torch
from safetensors import SafetensorError
from torch import Tensor

from auriscope.errors import CheckpointError
from auriscope.pretrained.files import CONFIG_NAME, WEIGHTS_NAME, read_json
from auriscope.pretrained.foreign import Foreign, Renames, read_state_dict, rename
from auriscope.recognition.wav2vec2 import LETTERS
from auriscope.text.tokenizer import BLANK, EOS, UNKNOWN

OLD_WEIGHTS_NAME = "pytorch_model.bin"
_VOCABULARY = ("vocab.json", "added_tokens.json", "tokenizer_config.json")
_FRONT = ("preprocessor_config.json", "processor_config.json")
FILE_PATTERNS = (CONFIG_NAME, WEIGHTS_NAME, OLD_WEIGHTS_NAME, *_VOCABULARY, *_FRONT)
"""The files of the checkpoints that :func:`recognise` knows."""

_WAV2VEC2: Renames = (
    (r"^wav2vec2\.", ""),
    (r"^(masked_spec_embed|feature_extractor\.|feature_projection\.|encoder\.)", r"network.\1"),
    (r"^lm_head\.", "head."),
    # As torch's weight_norm called them before it was a parametrisation.
    (r"\.conv\.weight_g$", ".conv.parametrizations.weight.original0"),
    (r"\.conv\.weight_v$", ".conv.parametrizations.weight.original1"),
)
# Of the pretraining, and of no use after it.
_PRETRAINING = ("quantizer.", "project_q.", "project_hid.")


def recognise(folder: Path) -> Foreign | None:
    """Read a recogniser in transformers' layout; None where the folder is none.

    Raises ``CheckpointError`` when it is one, but damaged, not whole, or not one that can be loaded.
    """
    if not (folder / CONFIG_NAME).is_file():
        return None
    config = read_json(folder / CONFIG_NAME)
    readers: dict[str, Callable[[Path, dict[str, Any]], Foreign]] = {"wav2vec2": from_wav2vec2}
    reader = readers.get(str(config.get("model_type")))
    return None if reader is None else reader(folder, config)


def from_wav2vec2(folder: Path, values: Mapping[str, Any]) -> Foreign:
    """Translate a Wav2Vec2ForCTC from its folder and its ``config.json``.

    One that was only pretrained gets the letters of English and a head of zeros, to be fine-tuned.
    """
    file = Settings(folder / CONFIG_NAME, values)
    for name in ("add_adapter", "adapter_attn_dim"):
        if file.get(name, None):
            raise CheckpointError(f"{file.path}: a wav2vec 2.0 with {name} cannot be loaded: auriscope has none such")
    weights = rename(read_weights(folder), _WAV2VEC2)
    weights = {key: value for key, value in weights.items() if not key.startswith(_PRETRAINING)}
    masks = bool(file.get("apply_spec_augment", True))
    config: dict[str, Any] = {
        "dim": file.take("hidden_size", int, 768),
        "num_layers": file.take("num_hidden_layers", int, 12),
        "num_heads": file.take("num_attention_heads", int, 12),
        "hidden_size": file.take("intermediate_size", int, 3072),
        "activation": file.take("hidden_act", str, "gelu"),
        "norm_first": file.take("do_stable_layer_norm", bool, False),
        "position_kernel": file.take("num_conv_pos_embeddings", int, 128),
        "position_groups": file.take("num_conv_pos_embedding_groups", int, 16),
        "eps": file.take("layer_norm_eps", float, 1e-5),
        "conv_channels": file.take("conv_dim", list, [512] * 7),
        "conv_kernels": file.take("conv_kernel", list, [10, 3, 3, 3, 3, 2, 2]),
        "conv_strides": file.take("conv_stride", list, [5, 2, 2, 2, 2, 2, 2]),
        "conv_bias": file.take("conv_bias", bool, False),
        "conv_norm": file.take("feat_extract_norm", str, "group"),
        "conv_activation": file.take("feat_extract_activation", str, "gelu"),
        "dropout": file.take("hidden_dropout", float, 0.1),
        "attention_dropout": file.take("attention_dropout", float, 0.1),
        "activation_dropout": file.take("activation_dropout", float, 0.1),
        "feature_dropout": file.take("feat_proj_dropout", float, 0.0),
        "head_dropout": file.take("final_dropout", float, 0.1),
        "layer_drop": file.take("layerdrop", float, 0.1),
        "mask_time_probability": file.take("mask_time_prob", float, 0.05) if masks else 0.0,
        "mask_time_length": file.take("mask_time_length", int, 10),
        "mask_feature_probability": file.take("mask_feature_prob", float, 0.0) if masks else 0.0,
        "mask_feature_length": file.take("mask_feature_length", int, 10),
        "freeze_encoder_batches": 0,
        **_front(folder),
    }
    if not (config["mask_time_probability"] or config["mask_feature_probability"]):
        weights.pop("network.masked_spec_embed", None)
    elif "network.masked_spec_embed" not in weights:
        weights["network.masked_spec_embed"] = torch.zeros(config["dim"])
    weights["batches"] = torch.zeros((), dtype=torch.int64)
    if "head.weight" in weights:
        config |= _ctc_tokens(folder, file, len(weights["head.weight"]))
    else:
        num_tokens = 4 + len(LETTERS)
        weights |= {"head.weight": torch.zeros(num_tokens, config["dim"]), "head.bias": torch.zeros(num_tokens)}
    return Foreign("recognition/wav2vec2", config, weights)


def _front(folder: Path) -> dict[str, Any]:
    """What the files of the feature extractor say; by default the published models' values."""
    for name in _FRONT:
        if (folder / name).is_file():
            values = read_json(folder / name)
            values = values.get("feature_extractor", values)
            file = Settings(folder / name, values if isinstance(values, dict) else {})
            return {
                "sample_rate": file.take("sampling_rate", int, 16_000),
                "normalize": file.take("do_normalize", bool, True),
            }
    return {}


def _ctc_tokens(folder: Path, file: Settings, num_tokens: int) -> dict[str, Any]:
    """The vocabulary of a Wav2Vec2CTCTokenizer, in our terms."""
    path = folder / _VOCABULARY[0]
    if not path.is_file():
        raise CheckpointError(f"{folder}: not a whole model: it has no {path.name}; copy or download it, too")
    numbers = read_json(path)
    if (folder / _VOCABULARY[1]).is_file():
        numbers |= read_json(folder / _VOCABULARY[1])
    names = Settings(folder / _VOCABULARY[2], {})
    if names.path.is_file():
        names = Settings(names.path, read_json(names.path))
    tokens = by_number(path, numbers, num_tokens)
    delimiter = names.token("word_delimiter_token", "|")
    tokens = [" " if token == delimiter else token for token in tokens]
    if names.take("do_lower_case", bool, False):
        # Its texts are lowered by the tokenizer, which makes no difference to what the network writes.
        tokens = [token.lower() for token in tokens]
    unknown = names.token("unk_token", UNKNOWN)
    blank = file.take("pad_token_id", int, 0)
    special = {blank: BLANK, numbers.get(unknown): UNKNOWN}
    ends: dict[str, int | None] = {}
    for key, name, default in (("bos_id", "bos_token", "<s>"), ("eos_id", "eos_token", "</s>")):
        number = numbers.get(names.token(name, default))
        ends[key] = number
        if key == "eos_id" and number is not None:
            special[number] = EOS
    if not 0 <= blank < num_tokens:
        raise CheckpointError(f"{file.path}: pad_token_id is {blank}, and there are {num_tokens} tokens")
    tokens = [special.get(number, token) for number, token in enumerate(tokens)]
    return {"tokens": tokens, "blank_id": blank, **ends}


def by_number(path: Path, numbers: Mapping[str, Any], num_tokens: int) -> list[str]:
    """List the tokens of a vocabulary by their numbers; those that it does not name are unknown."""
    tokens = [UNKNOWN] * num_tokens
    for token, number in numbers.items():
        if isinstance(number, bool) or not isinstance(number, int):
            raise CheckpointError(
                f"{path}: the token {token!r} has no number; vocabularies by language cannot be loaded"
            )
        if not 0 <= number < num_tokens:
            raise CheckpointError(
                f"{path}: the token {token!r} has number {number}, and the network writes {num_tokens}"
            )
        tokens[number] = token
    return tokens


def read_weights(folder: Path) -> dict[str, Tensor]:
    """Read ``model.safetensors``, or else ``pytorch_model.bin`` by torch's restricted reader; raises
    ``CheckpointError``.
    """
    path = folder / WEIGHTS_NAME
    if path.is_file():
        try:
            return safetensors.torch.load_file(path)
        except (SafetensorError, OSError, ValueError, KeyError) as error:
            raise CheckpointError(f"{path}: not a valid safetensors file; copy or download it again") from error
    if (folder / OLD_WEIGHTS_NAME).is_file():
        return read_state_dict(folder / OLD_WEIGHTS_NAME)
    if (folder / f"{WEIGHTS_NAME}.index.json").is_file():
        raise CheckpointError(f"{folder}: its weights are in several files, which cannot be loaded; save them as one")
    raise CheckpointError(
        f"{folder}: not a whole model: it has no {WEIGHTS_NAME} or {OLD_WEIGHTS_NAME}; copy or download it, too"
    )


class Settings:
    """The values of a JSON file, each checked when it is asked for."""

    def __init__(self, path: Path, values: Mapping[str, Any]) -> None:
        self.path, self.values = path, values

    def get(self, name: str, default: Any) -> Any:
        """Give a value; ``default`` where there is none."""
        value = self.values.get(name)
        return default if value is None else value

    def take(self, name: str, kind: type, default: Any) -> Any:
        """Give a value of ``kind`` (int, float, str, bool, or list for whole numbers)."""
        value = self.get(name, default)
        allowed: Any = (int, float) if kind is float else kind
        right = isinstance(value, allowed) and not (isinstance(value, bool) and kind is not bool)
        if not right or (kind is list and not all(isinstance(entry, int) for entry in value)):
            raise CheckpointError(f"{self.path}: {name} is {str(value)[:80]}, which it cannot be")
        return float(value) if kind is float else value

    def token(self, name: str, default: str) -> str:
        """Give a token, which may be described by an object."""
        value = self.get(name, default)
        return str(value.get("content", default)) if isinstance(value, dict) else str(value)
