"""Which of the shipped models a verb uses when none is named."""

from __future__ import annotations

from typing import TYPE_CHECKING

from auriscope.errors import AuriscopeError
from auriscope.pretrained.addresses import list_shipped, resolve
from auriscope.pretrained.files import read_config

if TYPE_CHECKING:
    from auriscope.pretrained.model import Model

DEFAULT_SEPARATORS: dict[int, str] = {
    1: "separation/bandsplit.enhance",
    2: "separation/bandsplit.mini",
    3: "separation/bandsplit.mini-3",
}
"""Number of talkers to the address of the shipped model that separates them best; one: that enhances best."""


def default_separator(num_speakers: int) -> str:
    """Give the address of the model for a number of talkers.

    Raises ``AuriscopeError`` when none is shipped.
    """
    shipped = [model.address for model in list_shipped() if model.room == "separation"]
    chosen = DEFAULT_SEPARATORS.get(num_speakers)
    if chosen in shipped:
        return chosen
    for address in shipped:
        if read_config(resolve(address))["config"].get("num_sources") == num_speakers:
            return address
    what = "enhances" if num_speakers == 1 else f"separates {num_speakers} talkers"
    raise AuriscopeError(
        f"no model that {what} is installed; train one (auriscope train) and name its folder with --model"
    )


def require_separator(model: Model, address: str) -> None:
    """Raise ``AuriscopeError`` if the model at an address is not one that separates."""
    if not model.name.startswith("separation/"):
        raise AuriscopeError(f"{address} is not a separation model; see `auriscope models`")
    if model.instead:
        raise AuriscopeError(f"{address} {model.instead} and does not separate; see `auriscope models`")
