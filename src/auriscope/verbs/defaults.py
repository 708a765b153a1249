"""Which of the shipped models a verb uses when none is named."""

from __future__ import annotations

from auriscope.errors import AuriscopeError
from auriscope.pretrained.addresses import list_shipped, resolve
from auriscope.pretrained.files import read_config

DEFAULT_SEPARATORS: dict[int, str] = {2: "separation/bandsplit.mini", 3: "separation/bandsplit.mini-3"}
"""Number of talkers to the address of the shipped model that separates them best."""


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
    raise AuriscopeError(
        f"no model that separates {num_speakers} talkers is installed; train one (auriscope train) and name its folder "
        "with --model"
    )
