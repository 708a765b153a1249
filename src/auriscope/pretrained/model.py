"""The base class of every model: registered by name, built from a frozen configuration, saved as data."""

from __future__ import annotations

import dataclasses
import itertools
import typing
from typing import Any, ClassVar, Self

import torch
from pydantic import TypeAdapter, ValidationError
from torch import nn

from auriscope.errors import CheckpointError

_REGISTRY: dict[str, type[Model]] = {}


class Model(nn.Module):
    """A network with a name and a configuration.

    A subclass states its registered name and its configuration, a frozen dataclass whose every field has a default
    (the paper's configuration) and is a plain value (number, string, bool, or a tuple of them)::

        class ConvTasNet(Model, name="separation/convtasnet"):
            Config = ConvTasNetConfig

            def __init__(self, config: ConvTasNetConfig) -> None:
                super().__init__(config)

    ``forward`` takes tensors only; files, sample rates and long recordings are the business of the room's verb.

    ``Tiny`` holds keyword arguments for ``Config`` that make a network of a few thousand parameters: the contract
    tests build it. ``Published`` maps a published figure's description to its value. ``unexportable`` says why
    ``torch.export`` makes no sense for the model, where it does not; the contract test of it is then left out.

    ``instead`` says what the model does where that is not what its room is for, such as "counts talkers": the room's
    verbs then refuse it.

    ``fitted`` marks closed-form and iterative systems: they have ``fit`` in the place of training by gradients, and
    what they learn are buffers.
    """

    name: ClassVar[str]
    Config: ClassVar[type[Any]]
    Tiny: ClassVar[dict[str, Any]] = {}
    Published: ClassVar[dict[str, float]] = {}
    unexportable: ClassVar[str] = ""
    instead: ClassVar[str] = ""
    fitted: ClassVar[bool] = False

    def __init_subclass__(cls, *, name: str | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        if name is None:
            return
        if name in _REGISTRY and _REGISTRY[name].__qualname__ != cls.__qualname__:
            raise ValueError(f"two models are registered as {name!r}")
        cls.name = name
        _REGISTRY[name] = cls

    def __init__(self, config: Any) -> None:
        super().__init__()
        self.config = config

    @classmethod
    def from_config(cls, values: dict[str, Any]) -> Self:
        """Build the model from configuration values by name; unknown names raise ``CheckpointError``."""
        return cls(config_from_values(cls.Config, values, cls.name))

    @property
    def num_parameters(self) -> int:
        """Number of trainable scalars; of a fitted model, of those that fitting determines."""
        if self.fitted:
            return sum(tensor.numel() for tensor in self.state_dict().values())
        return sum(parameter.numel() for parameter in self.parameters() if parameter.requires_grad)

    @property
    def device(self) -> torch.device:
        """Where the parameters are, or what was fitted."""
        return next(itertools.chain(self.parameters(), self.buffers())).device

    def save_pretrained(self, folder: Any, *, card: Any = None, half: bool = False, bits: int | None = None) -> None:
        """Write ``config.json``, ``model.safetensors`` and ``README.md`` (the card) into ``folder``."""
        from auriscope.pretrained.checkpoint import save_pretrained

        save_pretrained(self, folder, card=card, half=half, bits=bits)


def config_from_values(config_class: type[Any], values: dict[str, Any], name: str) -> Any:
    """Build a configuration dataclass from values by name; lists become tuples.

    A name that is unknown, or a value that is not of its field's type, raises ``CheckpointError``, which begins with
    ``name``.
    """
    known = {field.name for field in dataclasses.fields(config_class)}
    unknown = sorted(set(values) - known)
    if unknown:
        raise CheckpointError(f"{name}: unknown configuration value {unknown[0]!r}{_nearest(unknown[0], known)}")
    hints = typing.get_type_hints(config_class)
    checked = {}
    for key, value in values.items():
        if dataclasses.is_dataclass(hints[key]) and isinstance(value, dict):
            checked[key] = config_from_values(typing.cast(type[Any], hints[key]), value, f"{name}: {key}")
            continue
        try:
            # Strict: "2" is not 2, and true is not 1; but 2 is 2.0.
            checked[key] = TypeAdapter(hints[key]).validate_python(_tuples(value), strict=True)
        except ValidationError as error:
            reason = error.errors()[0]["msg"]
            raise CheckpointError(
                f"{name}: the configuration value {key} = {value!r} is not valid: {reason}"
            ) from error
    try:
        return config_class(**checked)
    except (TypeError, ValueError) as error:
        raise CheckpointError(f"{name}: the configuration is not valid: {error}") from error


def _tuples(value: Any) -> Any:
    """Give lists, which JSON and YAML have in the place of tuples, as tuples."""
    return tuple(_tuples(entry) for entry in value) if isinstance(value, list | tuple) else value


def _nearest(name: str, known: set[str]) -> str:
    from auriscope.pretrained.addresses import suggest

    return suggest(name, known)


def registered() -> dict[str, type[Model]]:
    """Every model class imported so far, by its registered name."""
    return dict(_REGISTRY)


def model_class(name: str) -> type[Model]:
    """Find the class registered as ``name`` (``room/system``), importing its room on demand."""
    from auriscope.pretrained.addresses import import_room, suggest

    if name not in _REGISTRY:
        import_room(name.split("/")[0])
    if name not in _REGISTRY:
        raise CheckpointError(f"there is no model {name!r}{suggest(name, _REGISTRY)}")
    return _REGISTRY[name]
