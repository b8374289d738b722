"""`Model.explain` against the definitions in float64, for every declared semantic."""

from __future__ import annotations

import itertools
from pathlib import Path

import numpy as np
import pytest
from din_reference import Case
from semantic_list import EVERY_SEMANTIC, Semantic

import din_infer
from din_infer.errors import InputError

build_model = pytest.importorskip("din_infer.export.graph").build_model
file_bytes = pytest.importorskip("din_infer.export.storage").file_bytes

RELATIVE = 5e-6  # of the largest weight


@pytest.mark.parametrize("semantic", EVERY_SEMANTIC, ids=[s.name for s in EVERY_SEMANTIC])
def test_weights_are_those_of_the_definition(semantic: Semantic, tmp_path: Path) -> None:
    case = Case.random(semantic.schema, semantic.semantics)
    path = tmp_path / "model.onnx"
    model_file = build_model(case.schema, case.semantics, case.parameters, case.vocabularies, metadata={})
    path.write_bytes(file_bytes(model_file))
    histories = case.schema.histories
    sizes = list(itertools.product((3, 1, 0), (5, 1, 0, 70)))
    columns = case.columns([{"candidate": n, **dict.fromkeys(histories, t)} for n, t in sizes])
    model = din_infer.load(path, threads=1)
    got = model.explain(columns)
    assert set(got) == set(histories)
    for name in histories:
        expected = case.explain(columns, name)
        flat = [w for request in expected for weights in request for w in weights]
        assert [len(request) for request in got[name]] == [n for n, _ in sizes]
        for request, wanted in zip(got[name], expected, strict=True):
            for weights, truth in zip(request, wanted, strict=True):
                assert weights.dtype == np.float32
                np.testing.assert_allclose(weights, truth, rtol=0, atol=RELATIVE * max(map(abs, flat)))
    assert set(model.unknown_ids.values()) <= {0}  # nothing was scored


def test_weights_of_one_request_do_not_depend_on_the_others(model_path, random_columns):
    model, columns = din_infer.load(model_path), random_columns(6)
    together = model.explain(columns)["history"]
    for r in range(6):
        alone = model.explain({name: values[r : r + 1] for name, values in columns.items()})["history"]
        assert [w.tolist() for w in alone[0]] == [w.tolist() for w in together[r]]


def test_nothing_to_explain_and_what_is_wrong(model_path, random_columns):
    model = din_infer.load(model_path)
    assert len(model.explain(random_columns(0))["history"]) == 0
    columns = random_columns(2)
    del columns["history.genre"]
    with pytest.raises(InputError, match=r"missing column 'history\.genre'"):
        model.explain(columns)
