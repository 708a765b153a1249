"""Folders in the layout of transformers: ``config.json``, the weights, and the files of the tokenizer.

The library transformers is not asked: what these files say is either obeyed or refused here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auriscope.errors import CheckpointError
from auriscope.pretrained import transformers
from auriscope.pretrained.files import CONFIG_NAME, read_json
from auriscope.pretrained.foreign import Foreign, Renames, rename
from auriscope.pretrained.transformers import FRONT, VOCABULARY, Settings, by_number, byte_pieces, read_weights
from auriscope.recognition.wav2vec2 import LETTERS
from auriscope.text.tokenizer import BLANK, EOS, UNKNOWN

_MULTILINGUAL = 51_865
"""As many tokens, or more, has a Whisper that was trained on other languages than English, too."""
_GENERATION = "generation_config.json"
FILE_PATTERNS = (*transformers.FILE_PATTERNS, _GENERATION)
"""The files of the checkpoints that :func:`recognise` knows."""

_WAV2VEC2: Renames = (
    (r"^wav2vec2\.", ""),
    (r"^(masked_spec_embed|feature_extractor\.|feature_projection\.|encoder\.)", r"network.\1"),
    (r"^lm_head\.", "head."),
    # As torch's weight_norm called them before it was a parametrisation.
    (r"\.conv\.weight_g$", ".conv.parametrizations.weight.original0"),
    (r"\.conv\.weight_v$", ".conv.parametrizations.weight.original1"),
)
_WHISPER: Renames = (
    (r"^model\.", ""),
    (r"embed_positions(\.weight)?$", "positions"),
    (r"\.embed_tokens\.", ".embedding."),
    (r"\.self_attn\.out_proj\.", ".attention.out."),
    (r"\.encoder_attn\.out_proj\.", ".cross.out."),
    (r"\.self_attn_layer_norm\.", ".attention_norm."),
    (r"\.encoder_attn_layer_norm\.", ".cross_norm."),
    (r"\.fc1\.", ".feed_forward.0."),
    (r"\.fc2\.", ".feed_forward.3."),
    (r"\.final_layer_norm\.", ".feed_forward_norm."),
    (r"^(encoder|decoder)\.layer_norm\.", r"\1.norm."),
)
_PROJECTION = re.compile(r"(?P<layer>.*)\.(?P<attention>self_attn|encoder_attn)\.(?P<part>[qkv])_proj\.(?P<kind>\w+)")
# Of the pretraining, and of no use after it.
_PRETRAINING = ("quantizer.", "project_q.", "project_hid.")


def recognise(folder: Path) -> Foreign | None:
    """Read a recogniser in transformers' layout; None where the folder is none.

    Raises ``CheckpointError`` when it is one, but damaged, not whole, or not one that can be loaded.
    """
    if not (folder / CONFIG_NAME).is_file():
        return None
    config = read_json(folder / CONFIG_NAME)
    readers: dict[str, Callable[[Path, dict[str, Any]], Foreign]] = {
        "wav2vec2": from_wav2vec2,
        "whisper": from_whisper,
    }
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
    for name in FRONT:
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
    path = folder / VOCABULARY[0]
    if not path.is_file():
        raise CheckpointError(f"{folder}: not a whole model: it has no {path.name}; copy or download it, too")
    numbers = read_json(path)
    if (folder / VOCABULARY[1]).is_file():
        numbers |= read_json(folder / VOCABULARY[1])
    names = Settings(folder / VOCABULARY[2], {})
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


def from_whisper(folder: Path, values: Mapping[str, Any]) -> Foreign:
    """Translate a WhisperForConditionalGeneration from its folder and its ``config.json``."""
    file = Settings(folder / CONFIG_NAME, values)
    dim = file.take("d_model", int, 384)
    sizes = {
        "num_heads": ("encoder_attention_heads", "decoder_attention_heads", 6),
        "hidden_size": ("encoder_ffn_dim", "decoder_ffn_dim", 1536),
    }
    config: dict[str, Any] = {"dim": dim}
    for name, (encoder, decoder, default) in sizes.items():
        config[name] = file.take(encoder, int, default)
        if file.take(decoder, int, default) != config[name]:
            raise CheckpointError(f"{file.path}: a Whisper with other {decoder} than {encoder} cannot be loaded")
    if file.take("activation_function", str, "gelu") != "gelu" or file.take("scale_embedding", bool, False):
        raise CheckpointError(f"{file.path}: a Whisper with another activation than gelu or scaled embeddings is none")
    weights = _whole_projections(read_weights(folder))
    for name in ("proj_out.weight", "model.proj_out.weight"):
        weights.pop(name, None)
    weights = rename(weights, _WHISPER)
    if "decoder.embedding.weight" not in weights:
        raise CheckpointError(f"{folder}: the checkpoint is not a Whisper: it lacks decoder.embed_tokens.weight")
    num_tokens = len(weights["decoder.embedding.weight"])
    spoken = folder / _GENERATION
    generation = Settings(spoken, read_json(spoken)) if spoken.is_file() else file
    config |= {
        "num_mels": file.take("num_mel_bins", int, 80),
        "num_layers": file.take("encoder_layers", int, 4),
        "num_decoder_layers": file.take("decoder_layers", int, 4),
        "num_positions": file.take("max_source_positions", int, 1500),
        "num_text_positions": file.take("max_target_positions", int, 448),
        "dropout": file.take("dropout", float, 0.0),
        "multilingual": generation.take("is_multilingual", bool, num_tokens >= _MULTILINGUAL),
        "language": None,
        "suppressed": generation.take("suppress_tokens", list, []),
        "suppressed_first": generation.take("begin_suppress_tokens", list, []),
        "alignment_heads": generation.get("alignment_heads", []),
        **byte_pieces(folder, num_tokens),
    }
    sample_rate = _front(folder).get("sample_rate", 16_000)
    return Foreign("recognition/whisper", {**config, "sample_rate": sample_rate}, weights)


def _whole_projections(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stack the projections to queries, keys and values as ours are; a key without a bias gets zeros."""
    whole: dict[str, Tensor] = {}
    parts: dict[tuple[str, str], dict[str, Tensor]] = {}
    for name, weight in weights.items():
        match = _PROJECTION.fullmatch(name)
        if match is None:
            whole[name] = weight
        else:
            ours = "attention" if match["attention"] == "self_attn" else "cross"
            parts.setdefault((f"{match['layer']}.{ours}.project", match["kind"]), {})[match["part"]] = weight
    for (name, kind), found in parts.items():
        if kind == "bias" and "q" in found:
            found.setdefault("k", torch.zeros_like(found["q"]))
        if found.keys() == {"q", "k", "v"}:
            whole[f"{name}.{kind}"] = torch.cat([found[part] for part in "qkv"])
    return whole
