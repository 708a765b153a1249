"""SpeechBrain's recognisers for LibriSpeech: ``hyperparams.yaml``, ``asr.ckpt``, ``lm.ckpt``, ``normalizer.ckpt`` and
``tokenizer.ckpt``, a model of SentencePiece.

Everything that ``hyperparams.yaml`` sets of the networks is either obeyed or refused. How it would decode is passed
over: that is the decoder's business here.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from torch import Tensor

from auriscope.errors import AuriscopeError, CheckpointError
from auriscope.pretrained.foreign import Foreign, Renames, read_state_dict, read_tensors, rename
from auriscope.pretrained.hyperpyyaml import FILE_NAME, HyperPyYaml, Part, Tagged
from auriscope.text.pieces import read_sentencepiece
from auriscope.text.tokenizer import Tokenizer

RECOGNIZER, LANGUAGE_MODEL, STATISTICS, TOKENS = "asr.ckpt", "lm.ckpt", "normalizer.ckpt", "tokenizer.ckpt"
FILE_PATTERNS = (FILE_NAME, RECOGNIZER, LANGUAGE_MODEL, STATISTICS, TOKENS)
"""The files of the checkpoints that :func:`recognise` knows."""

_LAYER: Renames = (
    (r"\.(?:self_att|self_attn)\.att\.in_proj_", ".attention.project."),
    (r"\.(?:self_att|self_attn)\.att\.out_proj\.", ".attention.out."),
    # Files of before 2023 have the second spelling.
    (r"\.(?:multihead_attn|mutihead_attn)\.att\.in_proj_", ".cross.project."),
    (r"\.(?:multihead_attn|mutihead_attn)\.att\.out_proj\.", ".cross.out."),
    (r"\.pos_ffn\.ffn\.", ".feed_forward."),
    (r"\.norm1\.norm\.", ".attention_norm."),
    (r"\.norm3\.norm\.", ".feed_forward_norm."),
)
TRANSFORMER: Renames = (
    (r"^0\.convblock_(\d+)\.convs\.conv_(\d+)\.conv\.", r"blocks.\1.convs.\2.conv."),
    (r"^0\.convblock_(\d+)\.convs\.norm_(\d+)\.norm\.", r"blocks.\1.norms.\2."),
    (r"^0\.convblock_(\d+)\.reduce_conv\.conv\.conv\.", r"blocks.\1.beside.conv."),
    (r"^0\.convblock_(\d+)\.reduce_conv\.norm\.norm\.", r"blocks.\1.beside_norm."),
    (r"^1\.custom_src_module\.layers\.0\.w\.", "project."),
    (r"^1\.custom_tgt_module\.layers\.0\.emb\.Embedding\.", "decoder.embedding."),
    (r"^1\.(encoder|decoder)\.norm\.norm\.", r"\1.norm."),
    (r"^1\.(encoder|decoder)\.layers\.", r"\1.layers."),
    (r"^(encoder\..*)\.norm2\.norm\.", r"\1.feed_forward_norm."),
    (r"^(decoder\..*)\.norm2\.norm\.", r"\1.cross_norm."),
    *_LAYER,
)
"""The weights of ``[CNN, Transformer, …]``, but for the two heads, as those of our ``SpeechBrainTransformer``."""
TRANSFORMER_LM: Renames = (
    (r"^custom_src_module\.emb\.Embedding\.", "decoder.embedding."),
    (r"^encoder\.norm\.norm\.", "decoder.norm."),
    (r"^encoder\.layers\.", "decoder.layers."),
    (r"\.norm2\.norm\.", ".feed_forward_norm."),
    *_LAYER,
    (r"^output_proj\.layers\.0\.w\.", "decoder.head.0."),
    (r"^output_proj\.layers\.1\.norm\.", "decoder.head.1."),
    (r"^output_proj\.layers\.2\.w\.", "decoder.head.2."),
)
"""The weights of a ``TransformerLM`` as those of our ``SpeechBrainTransformerLM``."""
CRDNN: Renames = (
    (r"^0\.CNN\.block_(\d+)\.conv_([12])\.conv\.", r"blocks.\1.conv\2.conv."),
    (r"^0\.CNN\.block_(\d+)\.norm_([12])\.norm\.", r"blocks.\1.norm\2."),
    (r"^0\.RNN\.rnn\.", "rnn."),
    (r"^0\.DNN\.block_(\d+)\.linear\.w\.", r"linears.\1.linear."),
    (r"^0\.DNN\.block_(\d+)\.norm\.norm\.", r"linears.\1.norm."),
    (r"^1\.Embedding\.", "embedding."),
    (r"^2\.rnn\.rnn_cells\.", "cells."),
    (r"^2\.attn\.mlp_enc\.", "of_frame."),
    (r"^2\.attn\.mlp_dec\.", "of_state."),
    (r"^2\.attn\.mlp_loc\.", "of_location."),
    (r"^2\.attn\.mlp_attn\.", "energy."),
    (r"^2\.attn\.mlp_out\.", "of_context."),
    (r"^2\.attn\.conv_loc\.", "location."),
    (r"^2\.proj\.", "mix."),
)
"""The weights of ``[CRDNN, Embedding, AttentionalRNNDecoder, …]``, but for the heads, as those of our ``CRDNN``."""
RNN_LM: Renames = (
    (r"^embedding\.Embedding\.", "embedding."),
    (r"^rnn\.rnn\.", "rnn."),
    (r"^dnn\.linear\.w\.", "project.0."),
    (r"^dnn\.norm\.norm\.", "project.1."),
    (r"^out\.w\.", "head."),
)
"""The weights of an ``RNNLM`` as those of our ``RNNLM``."""
_ACTIVATIONS = {"GELU": "gelu", "ReLU": "relu", "LeakyReLU": "leaky_relu"}


def recognise(path: Path) -> Foreign | None:
    """Read a recogniser of SpeechBrain's from its folder, or the language model from its file ``lm.ckpt`` there.

    None when it is neither; ``CheckpointError`` when it is, but not whole or not one that can be loaded.
    """
    folder = path if path.is_dir() else path.parent
    if not path.is_dir() and path.name != LANGUAGE_MODEL:
        return None
    if not (folder / FILE_NAME).is_file():
        if (folder / RECOGNIZER).is_file():
            raise CheckpointError(
                f"{folder}: has an {RECOGNIZER} of SpeechBrain, but not its {FILE_NAME}; copy it there"
            )
        return None
    file = HyperPyYaml.read(folder / FILE_NAME)
    loadables = _loadables(file)
    if "asr" not in loadables:
        return None
    if path.is_dir():
        return from_recognizer(file, read_state_dict(_present(folder, RECOGNIZER)), folder)
    if "lm" not in loadables:
        raise CheckpointError(f"{file.path}: its pretrainer loads no lm; {LANGUAGE_MODEL} is none of its files")
    return from_language_model(file, read_state_dict(path), folder)


def from_recognizer(file: HyperPyYaml, weights: Mapping[str, Tensor], folder: Path) -> Foreign:
    """Translate the list of networks that is ``asr`` in ``hyperparams.yaml``, and its weights."""
    names, parts = _networks(file)
    kinds = [part.kind for part in parts]
    readers = {
        ("ConvolutionFrontEnd", "TransformerASR", "Linear", "Linear"): _transformer,
        ("CRDNN", "Embedding", "AttentionalRNNDecoder", "Linear", "Linear"): _crdnn,
    }
    reader = readers.get(tuple(kinds))
    if reader is None:
        raise CheckpointError(f"{file.path}: a recogniser of {', '.join(kinds)} cannot be loaded")
    config = {**_front(file), **_ends(file)}
    # Which of the two heads is CTC's is told by their names; without, the published order holds.
    first = len(parts) - 2
    ctc = next((first + place for place, name in enumerate(names[first:]) if "ctc" in name), None)
    ctc = (3 if reader is _crdnn else first + 1) if ctc is None else ctc
    spell = 2 * first + 1 - ctc
    architecture, more, renames, heads = reader(parts, config["num_mels"])
    for part in parts[first:]:
        _linear(part)
    own = rename(_without_positions(weights), renames)
    own = rename(own, ((rf"^{ctc}\.w\.", f"{heads['ctc']}."), (rf"^{spell}\.w\.", f"{heads['decoder']}.")))
    if f"{heads['decoder']}.weight" not in own:
        raise CheckpointError(f"{folder / RECOGNIZER}: lacks the weights {spell}.w; it is of another recogniser")
    tokens = _tokens(folder, config, len(own[f"{heads['decoder']}.weight"]))
    statistics = _statistics(folder, file, config["num_mels"])
    return Foreign(architecture, {**config, **more, **tokens}, {**own, **statistics})


def from_language_model(file: HyperPyYaml, weights: Mapping[str, Tensor], folder: Path) -> Foreign:
    """Translate the network that is ``lm`` in ``hyperparams.yaml``, and its weights."""
    part = Part(file, "pretrainer.loadables.lm", file.resolve(_loadables(file)["lm"]))
    ends = _ends(file)
    if part.kind == "TransformerLM":
        config, own = _transformer_lm(part), rename(_without_positions(weights), TRANSFORMER_LM)
        architecture, embedding = "recognition/sb-transformer-lm", "decoder.embedding.weight"
    elif part.kind == "RNNLM":
        config, own = _rnn_lm(part), rename(weights, RNN_LM)
        architecture, embedding = "recognition/rnn-lm", "embedding.weight"
    else:
        raise CheckpointError(f"{file.path}: a {part.kind} cannot be loaded; RNNLM and TransformerLM can")
    if embedding not in own:
        raise CheckpointError(f"{folder / LANGUAGE_MODEL}: lacks the weights of an embedding; it is of another model")
    return Foreign(architecture, {**config, **ends, **_tokens(folder, ends, len(own[embedding]))}, own)


def _transformer(parts: list[Part], num_mels: int) -> tuple[str, dict[str, Any], Renames, dict[str, str]]:
    front, network = parts[:2]
    if (shape := front.take_numbers("input_shape", [0, 0, num_mels]))[-1] != num_mels:
        raise front.refused(f"input_shape: {shape}")
    blocks = front.take("num_blocks", int, 3)
    config: dict[str, Any] = {"conv_layers": front.take("num_layers_per_block", int, 5)}
    blocks_of: tuple[tuple[str, str, list[Any]], ...] = (
        ("conv_channels", "out_channels", [128, 256, 512]),
        ("conv_kernels", "kernel_sizes", [3, 3, 3]),
        ("conv_strides", "strides", [1, 2, 2]),
        ("conv_residuals", "residuals", [True, True, True]),
        ("dilations", "dilations", [1, 1, 1]),
    )
    for name, theirs, default in blocks_of:
        config[name] = front.take_numbers(theirs, default)[:blocks]
    if set(config.pop("dilations")) - {1}:
        raise front.refused("dilations")
    config["conv_dropout"] = float(front.take("dropout", float, 0.1))
    for name, kind in (("conv_module", "Conv2d"), ("activation", "LeakyReLU"), ("norm", "LayerNorm")):
        if front.take_class(name, kind) != kind:
            raise front.refused(f"another {name} than {kind}")
    front.require("padding", "same", "same")
    front.require("conv_bias", True, True)
    front.finish()
    for unused in ("tgt_vocab", "input_size", "max_length", "kernel_size", "bias", "output_hidden_states"):
        network.take_any(unused)
    for name in ("conformer_activation", "branchformer_activation", "csgu_linear_units", "gate_activation"):
        network.take_any(name)
    network.require("encoder_module", "transformer", "transformer")
    network.require("normalize_before", True, False)
    network.require("causal", False, None)
    network.require("layerdrop_prob", 0.0, 0.0)
    config |= _transformer_sizes(network)
    config["num_decoder_layers"] = network.take("num_decoder_layers", int, 6)
    network.finish()
    return "recognition/sb-transformer", config, TRANSFORMER, {"ctc": "head", "decoder": "decoder.head"}


def _transformer_sizes(network: Part) -> dict[str, Any]:
    """What a recogniser's transformer and a language model's have in common."""
    network.require("attention_type", "regularMHA", "regularMHA")
    network.require("positional_encoding", "fixed_abs_sine", "fixed_abs_sine")
    activation = _ACTIVATIONS.get(network.take_class("activation", "ReLU"))
    if activation not in ("gelu", "relu"):
        raise network.refused("another activation than GELU or ReLU")
    return {
        "dim": network.take("d_model", int, 512),
        "num_heads": network.take("nhead", int, 8),
        "num_layers": network.take("num_encoder_layers", int, 6 if network.kind == "TransformerASR" else 12),
        "hidden_size": network.take("d_ffn", int, 2048),
        "dropout": float(network.take("dropout", float, 0.1)),
        "activation": activation,
    }


def _transformer_lm(network: Part) -> dict[str, Any]:
    for unused in ("vocab", "max_length", "decoder_use_memory"):
        network.take_any(unused)
    network.require("num_decoder_layers", 0, 0)
    network.require("d_embedding", None, None)
    network.require("causal", True, True)
    norm_first = network.take("normalize_before", bool, False)
    config = {**_transformer_sizes(network), "norm_first": norm_first}
    network.finish()
    return config


def _crdnn(parts: list[Part], num_mels: int) -> tuple[str, dict[str, Any], Renames, dict[str, str]]:
    encoder, embedding, decoder = parts[:3]
    encoder.take_any("input_shape")
    encoder.require("input_size", num_mels if "input_size" in encoder.arguments else None, None)
    blocks = encoder.take("cnn_blocks", int, 2)
    kernels = set(encoder.take_numbers("cnn_kernelsize", [3, 3]))
    has_pooling = encoder.take("time_pooling", bool, False)
    pooling = encoder.take("time_pooling_size", int, 2)
    if len(kernels) != 1:
        raise encoder.refused("convolutions of another height than width")
    activation = _ACTIVATIONS.get(encoder.take_class("activation", "LeakyReLU"))
    if activation not in ("leaky_relu", "relu"):
        raise encoder.refused("another activation than LeakyReLU or ReLU")
    if encoder.take_class("rnn_class", "LiGRU") != "LSTM":
        raise encoder.refused("another rnn_class than LSTM")
    config: dict[str, Any] = {
        "conv_channels": encoder.take_numbers("cnn_channels", [128, 256])[:blocks],
        "conv_kernel": kernels.pop(),
        "mel_pooling": encoder.take_numbers("inter_layer_pooling_size", [2, 2])[:blocks],
        "time_pooling": pooling if has_pooling else 1,
        "rnn_size": encoder.take("rnn_neurons", int, 512),
        "rnn_layers": encoder.take("rnn_layers", int, 4),
        "linear_size": encoder.take("dnn_neurons", int, 512),
        "num_linear_layers": encoder.take("dnn_blocks", int, 2),
        "dropout": float(encoder.take("dropout", float, 0.15)),
        "activation": activation,
    }
    encoder.require("using_2d_pooling", False, False)
    encoder.require("rnn_bidirectional", True, True)
    encoder.require("projection_dim", -1, -1)
    encoder.require("use_rnnp", False, False)
    for unused in ("rnn_re_init", "freq_pooling_size"):
        encoder.take_any(unused)
    encoder.finish()
    embedding.take_any("num_embeddings")
    config["embedding_size"] = embedding.take("embedding_dim", int, 128)
    embedding.require("consider_as_one_hot", False, False)
    embedding.take_any("blank_id")
    embedding.finish()
    for unused in ("enc_dim", "input_size", "re_init", "normalization", "nonlinearity", "dropout"):
        decoder.take_any(unused)
    decoder.require("rnn_type", "gru", None)
    decoder.require("attn_type", "location", None)
    decoder.require("bias", True, True)
    config |= {
        "decoder_size": decoder.take("hidden_size", int),
        "decoder_layers": decoder.take("num_layers", int),
        "attention_size": decoder.take("attn_dim", int),
        "location_channels": decoder.take("channels", int),
        "location_reach": decoder.take("kernel_size", int),
        "scaling": float(decoder.take("scaling", float, 1.0)),
    }
    decoder.finish()
    return "recognition/crdnn", config, CRDNN, {"ctc": "head", "decoder": "spell"}


def _rnn_lm(network: Part) -> dict[str, Any]:
    for unused in ("output_neurons", "rnn_re_init", "return_hidden"):
        network.take_any(unused)
    if (
        network.take_class("rnn_class", "LSTM") != "LSTM"
        or network.take_class("activation", "LeakyReLU") != "LeakyReLU"
    ):
        raise network.refused("another rnn_class than LSTM, or another activation than LeakyReLU")
    network.require("dnn_blocks", 1, 1)
    config = {
        "embedding_size": network.take("embedding_dim", int, 128),
        "hidden_size": network.take("rnn_neurons", int, 1024),
        "num_layers": network.take("rnn_layers", int, 2),
        "projection_size": network.take("dnn_neurons", int, 512),
        "dropout": float(network.take("dropout", float, 0.15)),
    }
    network.finish()
    return config


def _loadables(file: HyperPyYaml) -> dict[str, Any]:
    """What ``hyperparams.yaml`` says that its files are of, by their names."""
    pretrainer = file.get("pretrainer")
    arguments = pretrainer.value if isinstance(pretrainer, Tagged) else None
    loadables = file.resolve(arguments.get("loadables")) if isinstance(arguments, dict) else None
    return loadables if isinstance(loadables, dict) else {}


def _networks(file: HyperPyYaml) -> tuple[list[str], list[Part]]:
    """The networks of ``asr``, a list of modules, and the names by which it refers to them."""
    listed = file.resolve(_loadables(file)["asr"])
    values = listed.value if isinstance(listed, Tagged) and listed.tag.endswith("ModuleList") else None
    # HyperPyYAML gives a class its arguments as a list, of which the only one is the list of modules.
    if not isinstance(values, list) or len(values) != 1 or not isinstance(values[0], list):
        raise CheckpointError(f"{file.path}: its asr is not a list of networks, and cannot be loaded")
    names = [str(value.value) if isinstance(value, Tagged) else "" for value in values[0]]
    return names, [Part(file, f"asr, number {place},", file.resolve(value)) for place, value in enumerate(values[0])]


def _front(file: HyperPyYaml) -> dict[str, int]:
    """The features and their normalisation, wherever in the file they are described."""
    found: dict[str, Part] = {}
    for name, value in file.entries.items():
        if isinstance(value, Tagged) and value.tag.startswith("new:speechbrain."):
            kind = value.tag.rsplit(".", 1)[-1]
            if kind in ("Fbank", "InputNormalization"):
                found[kind] = Part(file, name, value)
    if found.keys() != {"Fbank", "InputNormalization"}:
        raise CheckpointError(f"{file.path}: does not say what its features are: a Fbank and an InputNormalization")
    mels, norm = found["Fbank"], found["InputNormalization"]
    front = mels.take_fbank()
    norm.require("norm_type", "global", "global")
    norm.require("std_norm", True, True)
    norm.require("mean_norm", True, True)
    norm.take_any("update_until_epoch")
    norm.finish()
    return front


def _ends(file: HyperPyYaml) -> dict[str, int]:
    """The numbers of the blank and of a sentence's two ends."""
    names = {"blank_id": "blank_index", "bos_id": "bos_index", "eos_id": "eos_index"}
    return {ours: file.take(theirs, int) for ours, theirs in names.items()}


def _tokens(folder: Path, ends: Mapping[str, Any], number: int) -> dict[str, Any]:
    path = _present(folder, TOKENS)
    try:
        tokenizer: Tokenizer = read_sentencepiece(
            path, **{name: ends[name] for name in ("blank_id", "bos_id", "eos_id")}
        )
    except CheckpointError:
        raise
    except AuriscopeError as error:
        raise CheckpointError(str(error)) from error
    if len(tokenizer) != number:
        raise CheckpointError(f"{path}: has {len(tokenizer)} pieces, and the network {number}; it is another's")
    return {"tokens": tokenizer.tokens, "token_kind": tokenizer.kind, "token_scores": tokenizer.scores}


def _statistics(folder: Path, file: HyperPyYaml, num_mels: int) -> dict[str, Tensor]:
    """The mean and the standard deviation of the features of the training."""
    path = _present(folder, STATISTICS)
    content = read_tensors(path)
    found = {}
    for ours, theirs in (("mean", "glob_mean"), ("std", "glob_std")):
        value = content.get(theirs) if isinstance(content, Mapping) else None
        if not isinstance(value, Tensor) or value.numel() != num_mels:
            raise CheckpointError(f"{path}: does not hold {num_mels} values as {theirs}, as {file.path.name} asks for")
        found[f"front.{ours}"] = value.float().reshape(-1)
    return found


def _present(folder: Path, name: str) -> Path:
    path = folder / name
    if not path.is_file():
        raise CheckpointError(f"{folder}: not a whole model: it has no {name}; copy or download it, too")
    return path


def _without_positions(weights: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Leave out the table of positions, which is computed here."""
    return {key: value for key, value in weights.items() if not key.endswith(".pe")}


def _linear(part: Part) -> None:
    part.require("bias", True, True)
    part.require("combine_dims", False, False)
    for unused in ("input_size", "n_neurons", "input_shape"):
        part.take_any(unused)
    part.finish()
