"""What experiment.yaml may say."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from din_infer.errors import DataError, SchemaError
from din_infer.experiment.spec import BUILT_IN, DEFAULT, make_spec, read_spec


def test_short_forms() -> None:
    spec = make_spec({"variants": ["din", "base"], "seeds": 2})
    assert (list(spec.variants), spec.seeds, spec.baseline) == (["din", "base"], (0, 1), "din")
    assert tuple(make_spec({}).variants) == DEFAULT
    spec = make_spec({"variants": {"base": None, "wide": {"unit_hidden": [80, 40]}}, "base": "wide", "seeds": [7]})
    assert spec.variants["base"] == BUILT_IN["base"]
    assert spec.config("wide", {}, 7).unit_hidden == (80, 40)
    assert spec.baseline == "wide"


def test_every_ablation_is_a_built_in_variant() -> None:
    spec = make_spec({"variants": list(BUILT_IN)})
    configs = {name: spec.config(name, {}, 0) for name in BUILT_IN}
    assert {c.interaction for c in configs.values()} == {"outer", "hadamard", "none"}
    assert {c.activation for c in configs.values()} == {"dice", "prelu"}
    assert {c.normalize for c in configs.values()} == {"none", "softmax"}
    assert {c.pooling for c in configs.values() if c.model == "base"} == {"sum", "mean"}
    assert {c.regularisation for c in configs.values()} == {"mba", "l2", "none"}


def test_a_search_goes_over_common_and_under_the_variants_own() -> None:
    search = {"dropout": [0.0, 0.3], "epochs": [1, 2]}
    spec = make_spec({"variants": {"a": {"dropout": 0.1}}, "common": {"epochs": 9, "patience": 0}, "search": search})
    points = list(spec.points())
    assert points == [{"dropout": d, "epochs": e} for d in (0.0, 0.3) for e in (1, 2)]
    config = spec.config("a", points[3], 0)
    assert (config.dropout, config.epochs, config.patience) == (0.1, 2, 0)


def test_options_of_the_command_go_over_all_that_a_spec_says() -> None:
    search = {"dropout": [0.0, 0.3], "epochs": [6, 12]}
    spec = make_spec({"variants": {"a": {"patience": 1}}, "search": search})
    over = spec.overridden({"epochs": 1, "patience": 0})
    assert list(over.points()) == [{"dropout": 0.0}, {"dropout": 0.3}]
    config = over.config("a", {"dropout": 0.3}, 0)
    assert (config.dropout, config.epochs, config.patience) == (0.3, 1, 0)


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        ({"variants": ["dien"]}, "variants|expected some of base, .* got 'dien'"),
        ({"variants": {}}, r"variants: .*at least 1"),
        ({"variants": {"a": {"interaction": "inner"}}}, "interaction: .* got 'inner'"),
        ({"variants": {"we|ird *n*": None}}, r"variants: expected a name of letters, .* got 'we\|ird \*n\*'"),
        ({"variants": {"a": {"seed": 3}}}, "`seeds` to name the seeds"),
        ({"common": {"widths": 3}}, "widths: Extra inputs"),
        ({"search": {"dropout": []}}, r"search.dropout: .*at least 1"),
        ({"search": {"dropout": [0.1, 2.0]}}, r"dropout: .* less than 1, got 2\.0"),
        ({"seeds": [1, 1]}, "seeds: expected different ones"),
        ({"seeds": 0}, r"seeds: .*at least 1"),
        ({"base": "other"}, "base: expected one of base, din, .* got 'other'"),
        ({"figures": True}, "figures: Extra inputs"),
        (["base"], "valid dictionary"),
    ],
)
def test_what_is_wrong_is_named(raw: Any, message: str) -> None:
    with pytest.raises(SchemaError, match=message):
        make_spec(raw)


def test_files(tmp_path: Path) -> None:
    path = tmp_path / "experiment.yaml"
    with pytest.raises(DataError, match="got no file"):
        read_spec(path)
    path.write_text("variants: [")
    with pytest.raises(DataError, match="expected YAML"):
        read_spec(path)
    path.write_text("seeds: many")
    with pytest.raises(SchemaError, match=r"experiment\.yaml: seeds: .* got 'many'"):
        read_spec(path)
