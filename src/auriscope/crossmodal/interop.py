"""Published models of sounds and texts as ours: LAION's CLAPs in transformers' layout, and Microsoft's of 2022.

Nothing of the other toolkits is imported, and nothing is unpickled but plain data and tensors. What the files say is
either obeyed or refused.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from auriscope.crossmodal.bert import read_vocabulary
from auriscope.errors import CheckpointError
from auriscope.pretrained import transformers
from auriscope.pretrained.files import CONFIG_NAME, read_json
from auriscope.pretrained.foreign import Foreign, Renames, count_modules, read_tensors, rename
from auriscope.pretrained.transformers import FRONT, Settings, byte_pieces, read_weights

MICROSOFT_NAME = "CLAP_weights_2022.pth"
FILE_PATTERNS = (*transformers.FILE_PATTERNS, MICROSOFT_NAME, "vocab.txt")
"""The files of the checkpoints that :func:`recognise` knows."""

_LAYER: Renames = (
    (r"\.layernorm_before\.", ".attention_norm."),
    (r"\.layernorm_after\.", ".feed_forward_norm."),
    (r"\.attention\.self\.relative_position_bias_table$", ".attention.bias"),
    (r"\.attention\.output\.dense\.", ".attention.out."),
    (r"\.attention\.output\.LayerNorm\.", ".attention_norm."),
    (r"\.intermediate\.dense\.", ".feed_forward.0."),
    (r"\.output\.LayerNorm\.", ".feed_forward_norm."),
)
_AUDIO: Renames = (
    (r"^audio_model\.audio_encoder\.", "audio."),
    (r"^audio\.batch_norm\.", "audio.mel_norm."),
    (r"^audio\.patch_embed\.", "audio.patches."),
    (r"^audio\.patches\.proj\.", "audio.patches.project."),
    (r"^audio\.patches\.mel_conv2d\.", "audio.patches.pieces."),
    (r"^audio\.patches\.fusion_model\.local_att\.", "audio.patches.fusion.local."),
    # Theirs begins with the mean that ours takes before.
    *(
        (rf"^audio\.patches\.fusion_model\.global_att\.{index + 1}\.", f"audio.patches.fusion.everywhere.{index}.")
        for index in range(5)
    ),
    *_LAYER,
    (r"\.output\.dense\.", ".feed_forward.2."),
    (r"^audio_projection\.linear1\.", "audio_head.0."),
    (r"^audio_projection\.linear2\.", "audio_head.2."),
    (r"^logit_scale_a$", "log_scale"),
)
_TEXT: Renames = (
    (r"^text_model\.embeddings\.word_embeddings\.", "text.words."),
    (r"^text_model\.embeddings\.position_embeddings\.", "text.positions."),
    (r"^text_model\.embeddings\.LayerNorm\.", "text.norm."),
    (r"^text_model\.encoder\.layer\.", "text.layers."),
    (r"^text_model\.pooler\.dense\.", "text.pool."),
    *_LAYER,
    (r"\.output\.dense\.", ".feed_forward.3."),
    (r"^text_projection\.linear1\.", "text_head.0."),
    (r"^text_projection\.linear2\.", "text_head.2."),
)
# Of another direction than that from sounds to texts, and what follows from the configuration.
_SURPLUS = re.compile(r"logit_scale_t|.*\.(?:relative_position_index|position_ids|token_type_ids)")
_PROJECTION = re.compile(r"(?P<layer>.*)\.attention\.self\.(?P<part>query|key|value)\.(?P<kind>weight|bias)")
_TYPES = "text_model.embeddings.token_type_embeddings.weight"
_POSITIONS = "text_model.embeddings.position_embeddings.weight"
_FILLS = {"repeatpad": "repeat_whole", "repeat": "repeat", "pad": "zeros"}
_FILTERS = {"rand_trunc": "slaney", "fusion": "htk"}

_MICROSOFT: Renames = (
    (r"^audio_encoder\.base\.bn0\.", "audio.trunk.norm."),
    *((rf"^audio_encoder\.base\.conv_block{index + 1}\.", f"audio.trunk.blocks.{index}.") for index in range(6)),
    (r"^(audio\.trunk\.blocks\.\d\.)bn", r"\1norm"),
    (r"^audio_encoder\.base\.fc1\.", "audio.dense."),
    (r"^caption_encoder\.base\.", "text.network."),
    (r"^(audio|caption)_encoder\.projection\.linear1\.", r"\1_head.first."),
    (r"^(audio|caption)_encoder\.projection\.linear2\.", r"\1_head.second."),
    (r"^(audio|caption)_encoder\.projection\.layer_norm\.", r"\1_head.norm."),
    (r"^caption_head\.", "text_head."),
    (r"^logit_scale$", "log_scale"),
)
# Its features and AudioSet's classes; of BERT what a CLAP does not read with.
_MICROSOFT_SURPLUS = re.compile(
    r"audio_encoder\.base\.(?:spectrogram_extractor|logmel_extractor|fc_audioset)\..*|"
    r"caption_encoder\.base\.(?:pooler\..*|embeddings\.(?:position_ids|token_type_ids))"
)


def recognise(path: Path) -> Foreign | None:
    """Read a published model from its folder, or Microsoft's from its file; None where it is none that is known.

    Raises ``CheckpointError`` for one that is damaged, not whole, or of a kind that cannot be loaded.
    """
    if path.name == MICROSOFT_NAME or (path / MICROSOFT_NAME).is_file():
        return from_microsoft(path if path.is_file() else path / MICROSOFT_NAME)
    if not (path / CONFIG_NAME).is_file():
        return None
    values = read_json(path / CONFIG_NAME)
    return from_laion(path, values) if values.get("model_type") == "clap" else None


def from_laion(folder: Path, values: Mapping[str, Any]) -> Foreign:
    """Translate a ClapModel from its folder and its ``config.json``."""
    whole = Settings(folder / CONFIG_NAME, values)
    heard, read = (Settings(whole.path, whole.get(f"{name}_config", {})) for name in ("audio", "text"))
    weights = read_weights(folder)
    for name in (_TYPES, _POSITIONS, "text_model.embeddings.word_embeddings.weight"):
        if name not in weights:
            raise CheckpointError(f"{folder}: the checkpoint is not a CLAP: it lacks {name}")
    # Every token is of the one type that there is.
    weights[_POSITIONS] = weights[_POSITIONS] + weights.pop(_TYPES)[0]
    num_tokens = len(weights["text_model.embeddings.word_embeddings.weight"])
    audio = _htsat(heard)
    text = _roberta(read) | byte_pieces(folder, num_tokens)
    _require(whole, projection_hidden_act="relu")
    parts: dict[bool, dict[str, Tensor]] = {True: {}, False: {}}
    for name, weight in weights.items():
        parts[name.startswith("text_")][name] = weight
    ours = {**_translated(parts[False], _AUDIO), **_translated(parts[True], _TEXT)}
    config = {"dim": whole.take("projection_dim", int, 512), **_front(folder, audio), "audio": audio, "text": text}
    return Foreign("crossmodal/clap-laion", config, ours)


def audio_weights(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Give the weights of a ``ClapAudioModel`` the names that they have in :class:`~auriscope.nn.htsat.HTSAT`."""
    theirs = {f"audio_model.{name}": weight for name, weight in weights.items()}
    return {name.removeprefix("audio."): weight for name, weight in _translated(theirs, _AUDIO).items()}


def _translated(weights: Mapping[str, Tensor], renames: Renames) -> dict[str, Tensor]:
    kept = {name: weight for name, weight in weights.items() if not _SURPLUS.fullmatch(name)}
    return {_stage(name): weight for name, weight in rename(_whole_projections(kept), renames).items()}


def _htsat(heard: Settings) -> dict[str, Any]:
    patch = heard.get("patch_size", 4)
    fuses = heard.take("enable_fusion", bool, False)
    _require(
        heard,
        hidden_act="gelu",
        projection_hidden_act="relu",
        patch_stride=[patch, patch],
        patch_embed_input_channels=1,
        flatten_patch_embeds=True,
        enable_patch_layer_norm=True,
        qkv_bias=True,
        layer_norm_eps=1e-5,
    )
    if fuses:
        _require(heard, fusion_type="aff_2d")
    return {
        "num_mels": heard.take("num_mel_bins", int, 64),
        "image_size": heard.take("spec_size", int, 256),
        "patch_size": heard.take("patch_size", int, 4),
        "dim": heard.take("patch_embeds_hidden_size", int, 96),
        "num_layers": heard.take("depths", list, [2, 2, 6, 2]),
        "num_heads": heard.take("num_attention_heads", list, [4, 8, 16, 32]),
        "window_size": heard.take("window_size", int, 8),
        "mlp_ratio": heard.take("mlp_ratio", float, 4.0),
        "dropout": heard.take("hidden_dropout_prob", float, 0.1),
        "fuses": fuses,
        "fusion_ratio": heard.take("aff_block_r", int, 4),
    }


def _roberta(read: Settings) -> dict[str, Any]:
    _require(read, hidden_act="gelu", projection_hidden_act="relu", position_embedding_type="absolute", pad_token_id=1)
    return {
        "dim": read.take("hidden_size", int, 768),
        "num_layers": read.take("num_hidden_layers", int, 12),
        "num_heads": read.take("num_attention_heads", int, 12),
        "hidden_size": read.take("intermediate_size", int, 3072),
        "num_positions": read.take("max_position_embeddings", int, 514),
        "max_tokens": min(77, read.take("max_position_embeddings", int, 514) - 2),
        "dropout": read.take("hidden_dropout_prob", float, 0.1),
        "eps": read.take("layer_norm_eps", float, 1e-12),
    }


def _front(folder: Path, audio: Mapping[str, Any]) -> dict[str, Any]:
    """What the file of the feature extractor says."""
    path = next((folder / name for name in FRONT if (folder / name).is_file()), None)
    if path is None:
        raise CheckpointError(f"{folder}: not a whole model: it has no {FRONT[0]}; copy or download it, too")
    values = read_json(path)
    nested = values.get("feature_extractor")
    file = Settings(path, nested if isinstance(nested, dict) else values)
    truncation, padding = file.take("truncation", str, "fusion"), file.take("padding", str, "repeatpad")
    if truncation not in _FILTERS or padding not in _FILLS:
        raise CheckpointError(f"{path}: truncation {truncation!r} and padding {padding!r} are none that can be loaded")
    if (truncation == "fusion") != audio["fuses"]:
        raise CheckpointError(f"{path}: truncation is {truncation!r}, which does not go with the network's fusion")
    _require(file, feature_size=audio["num_mels"], padding_value=0.0, top_db=None)
    return {
        "sample_rate": file.take("sampling_rate", int, 48_000),
        "window_seconds": file.take("max_length_s", float, 10.0),
        "fill": _FILLS[padding],
        "window_length": file.take("fft_window_size", int, 1024),
        "hop_length": file.take("hop_length", int, 480),
        "min_hz": file.take("frequency_min", float, 0.0),
        "max_hz": file.take("frequency_max", float, 14_000.0),
        "filters": _FILTERS[truncation],
    }


def _whole_projections(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Stack the projections to queries, keys and values as ours are."""
    whole: dict[str, Tensor] = {}
    parts: dict[str, dict[str, Tensor]] = {}
    for name, weight in weights.items():
        match = _PROJECTION.fullmatch(name)
        if match is None:
            whole[name] = weight
        else:
            parts.setdefault(f"{match['layer']}.attention.project.{match['kind']}", {})[match["part"]] = weight
    for name, found in parts.items():
        if found.keys() == {"query", "key", "value"}:
            whole[name] = torch.cat([found[part] for part in ("query", "key", "value")])
    return whole


def _stage(name: str) -> str:
    """Where a part of their stages is among ours, in which patches are merged before a stage and not behind one."""
    block = re.fullmatch(r"audio\.layers\.(\d+)\.blocks\.(\d+)\.(.*)", name)
    if block is not None:
        stage, index = int(block[1]), int(block[2])
        return f"audio.stages.{stage}.{index + bool(stage)}.{block[3]}"
    merging = re.fullmatch(r"audio\.layers\.(\d+)\.downsample\.(.*)", name)
    if merging is not None:
        return f"audio.stages.{int(merging[1]) + 1}.0.{merging[2].replace('reduction.', 'reduce.')}"
    return name


def from_microsoft(path: Path) -> Foreign:
    """Translate Microsoft's CLAP of 2022, CNN14 and BERT, from its file; BERT's vocabulary lies beside it."""
    content = read_tensors(path)
    weights = content.get("model") if isinstance(content, Mapping) else None
    if not isinstance(weights, Mapping) or "audio_encoder.base.fc1.weight" not in weights:
        raise CheckpointError(f"{path}: not Microsoft's CLAP of 2022: it has no CNN14; copy or download it again")
    theirs = {str(name): weight for name, weight in weights.items() if not _MICROSOFT_SURPLUS.fullmatch(str(name))}
    try:
        tokens, cased = read_vocabulary(path.parent)
    except CheckpointError as error:
        raise CheckpointError(
            f"{path.parent}: Microsoft's CLAP reads with the words of bert-base-uncased: put its vocab.txt beside the "
            "weights"
        ) from error
    num_layers = count_modules(theirs, r"caption_encoder\.base\.encoder\.layer\.(\d+)\.")
    try:
        bert, hidden = (
            theirs[f"caption_encoder.base.{name}.weight"]
            for name in ("embeddings.position_embeddings", "encoder.layer.0.intermediate.dense")
        )
        channels = [len(theirs[f"audio_encoder.base.conv_block{number}.conv2.weight"]) for number in range(1, 7)]
        dim = len(theirs["audio_encoder.projection.linear1.weight"])
    except KeyError as error:
        raise CheckpointError(f"{path}: not Microsoft's CLAP of 2022: it lacks {error.args[0]}") from error
    config = {
        "sample_rate": 44_100,
        "window_seconds": 5.0,
        "fill": "repeat",
        "dim": dim,
        "audio_encoder": "cnn14",
        "audio": {
            "num_mels": 64,
            "window_length": 1024,
            "hop_length": 320,
            "fft_length": 1024,
            "pad_mode": "reflect",
            "min_hz": 50.0,
            "max_hz": 14_000.0,
            "filters": "slaney",
            "level": "decibels",
            "channels": channels,
            "dense_channels": len(theirs["audio_encoder.base.fc1.weight"]),
        },
        "text_encoder": "bert",
        "bert": {
            "tokens": tokens,
            "cased": cased,
            "dim": bert.shape[1],
            "num_layers": num_layers,
            # BERT's heads have 64 channels in every published size.
            "num_heads": max(1, bert.shape[1] // 64),
            "hidden_size": len(hidden),
            "num_positions": len(bert),
            "max_tokens": min(100, len(bert)),
        },
        "head_dropout": 0.5,
    }
    return Foreign("crossmodal/clap", config, rename(theirs, _MICROSOFT))


def _require(file: Settings, **values: Any) -> None:
    """Refuse settings that are there, but not as they must be."""
    for name, expected in values.items():
        found = file.values.get(name, expected)
        if found != expected:
            raise CheckpointError(f"{file.path}: {name} is {found!r}, and must be {expected!r} to be loaded")
