"""The table of hyper-parameters and `din-infer train --help` say the defaults that training takes."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from din_infer.commands.train import train
from din_infer.training.config import STRENGTH, TrainConfig

TEXTS = {None: ("absent", "none"), False: ("false", "no")}
OPTIONS = {"penalty_strength": "strength"}  # names of the command's parameters where they differ


def documented() -> dict[str, str]:
    rows = re.findall(r"^\s*\| (\w+)\s*\| (.+?)\s*\|", TrainConfig.__doc__ or "", re.MULTILINE)
    return {name: default for name, default in rows if name != "name"}


def says(text: str, value: Any) -> bool:
    if value is None or value is False:
        return text in TEXTS[value]
    if isinstance(value, tuple):
        return re.split("[ ,]", text) == [str(width) for width in value]
    return text == value if isinstance(value, str) else float(text) == value


def test_the_table_has_every_hyper_parameter_with_its_default() -> None:
    defaults = TrainConfig().model_dump()
    table = documented()
    assert list(table) == list(defaults)
    assert table.pop("penalty_strength") == f"{STRENGTH['mba']:g}, 1e-4"
    assert STRENGTH["l2"] == 1e-4
    for name, text in table.items():
        assert says(text, defaults[name]), name


@pytest.mark.parametrize("name", TrainConfig.model_fields)
def test_help_says_the_default(name: str) -> None:
    annotation = inspect.signature(train, eval_str=True).parameters[OPTIONS.get(name, name)].annotation
    (option,) = annotation.__metadata__
    text = re.search(r"\[default: (.*)\]$", option.help)
    assert text is not None
    if name == "penalty_strength":
        assert text[1] == f"{STRENGTH['mba']:g}; l2: {STRENGTH['l2']:g}"
    else:
        assert says(text[1], TrainConfig().model_dump()[name])
