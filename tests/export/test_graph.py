"""The exported graph in ONNX Runtime and in ONNX's own evaluator, against the definitions."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

from din_infer.errors import ModelFileError
from din_infer.export import padded
from din_infer.export.graph import build_model
from din_infer.export.padded import padded_inputs, run_padded, unpadded

TOLERANCE = 2e-6  # of float32 probabilities against float64 ones

SEMANTICS = [
    *({"activation": a, "interaction": "outer"} for a in ("sigmoid", "relu", "prelu", "tanh", "dice", "bisigmoid")),
    {"interaction": "hadamard"},
    {"interaction": "hadamard", "normalize": "softmax", "scale": 0.7},
    {"interaction": "outer", "normalize": "softmax"},
    {"hidden": (), "scale": 0.5},
    {"hidden": (3,), "activation": "prelu", "interaction": "hadamard"},
    {"hidden": (4, 3, 2, 5), "activation": "sigmoid"},
    {"pooling": "sum"},
    {"pooling": "mean"},
]


def build(case: Any, **options: Any) -> onnx.ModelProto:
    return build_model(case.schema, case.semantics, case.parameters, case.vocabularies, **options)


def session(model: onnx.ModelProto) -> onnxruntime.InferenceSession:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])


@pytest.mark.parametrize("semantics", SEMANTICS, ids=str)
def test_onnx_runtime_computes_the_definitions(make_case: Any, request_lengths: Any, semantics: dict[str, Any]) -> None:
    case = make_case(**semantics)
    model = build(case)
    onnx.checker.check_model(model, full_check=True)
    columns = case.columns(request_lengths)
    got = run_padded(session(model), case.schema, columns)
    np.testing.assert_allclose(got, case.probabilities(columns), atol=TOLERANCE)


def test_requests_may_run_a_few_at_a_time(
    make_case: Any, request_lengths: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    case = make_case()
    columns = case.columns(request_lengths)
    runtime = session(build(case))
    at_once = run_padded(runtime, case.schema, columns)
    for pairs in (1, 20, 30):
        monkeypatch.setattr(padded, "PAIRS_PER_RUN", pairs)
        np.testing.assert_allclose(run_padded(runtime, case.schema, columns), at_once, atol=TOLERANCE)


@pytest.mark.parametrize("semantics", [{}, {"normalize": "softmax"}, {"pooling": "mean"}], ids=str)
@pytest.mark.parametrize(
    "lengths",
    [
        pytest.param([], id="no requests"),
        pytest.param([{}], id="no candidates"),
        pytest.param([{"candidate": 2}], id="no behaviours"),
        pytest.param([{"candidate": 1}, {"candidate": 3, "buys": 1}], id="one behaviour in all"),
    ],
)
def test_any_axis_may_be_empty(make_case: Any, semantics: dict[str, Any], lengths: Any) -> None:
    case = make_case(**semantics)
    columns = case.columns(lengths)
    inputs = padded_inputs(case.schema, columns)
    (probability,) = session(build(case)).run(None, inputs)
    got = unpadded(probability, inputs["candidate.lengths"])
    np.testing.assert_allclose(got, case.probabilities(columns).reshape(-1), atol=TOLERANCE)


def test_padding_does_not_reach_the_scores(make_case: Any) -> None:
    case = make_case(normalize="softmax")
    columns = case.columns([{"candidate": 2, "clicks": 2, "buys": 1}, {"candidate": 1, "clicks": 0}])
    inputs = padded_inputs(case.schema, columns)
    wider = {}
    for name, value in inputs.items():
        pad = [(0, 0), *[(0, 3)] * (value.ndim - 1)]
        filler: Any = "padding" if value.dtype == object else 1
        wider[name] = np.pad(value, pad, constant_values=np.nan if value.dtype == np.float32 else filler)
    runtime = session(build(case))
    (narrow,), (wide,) = runtime.run(None, inputs), runtime.run(None, wider)
    np.testing.assert_array_equal(wide[:, :2], narrow)
    assert (wide[:, 2:] == 0).all()


def test_nan_in_an_embedding_stays_in_its_row(make_case: Any) -> None:
    case = make_case()
    columns = case.columns([{"candidate": 2, "clicks": 3}, {"candidate": 2, "clicks": 3}])
    known = case.vocabularies["item"].tolist()
    for name in ("candidate.item", "clicks.item"):
        columns[name] = [[known[0]] * len(row) for row in columns[name]]
    clean = run_padded(session(build(case)), case.schema, columns)
    columns["candidate.item"][0][1] = known[5]
    case.parameters = {**case.parameters, "table.item": case.parameters["table.item"].copy()}
    case.parameters["table.item"][6] = np.nan
    got = run_padded(session(build(case)), case.schema, columns)
    assert np.isnan(got[1])
    np.testing.assert_array_equal(got[[0, 2, 3]], clean[[0, 2, 3]])


@pytest.mark.filterwarnings("ignore:invalid value encountered:RuntimeWarning")
@pytest.mark.parametrize("semantics", [{}, {"normalize": "softmax"}, {"pooling": "mean"}], ids=str)
def test_onnx_reference_evaluator_runs_it(make_case: Any, semantics: dict[str, Any]) -> None:
    from onnx.reference import ReferenceEvaluator

    case = make_case(**semantics)
    columns = case.columns(
        [{"candidate": 2, "clicks": 3, "views": 3, "saves": 1, "buys": 4}, {"candidate": 1, "buys": 1}]
    )
    inputs = padded_inputs(case.schema, columns)
    (probability,) = ReferenceEvaluator(build(case)).run(None, inputs)
    got = unpadded(probability, inputs["candidate.lengths"])
    np.testing.assert_allclose(got, case.probabilities(columns), atol=TOLERANCE)


def test_equal_configurations_share_a_function(make_case: Any) -> None:
    names = [function.name for function in build(make_case()).functions]
    assert len(names) == len(set(names))
    units = [name for name in names if name.startswith("ActivationUnit")]
    assert units == ["ActivationUnit_1", "ActivationUnit_2"], (
        "clicks and buys differ in width; views and saves equal buys"
    )


def test_a_vocabulary_may_be_empty(make_case: Any) -> None:
    case = make_case()
    case.vocabularies = {**case.vocabularies, "item": np.zeros(0, np.int64), "brand": []}
    for table in ("item", "brand"):
        case.parameters = {**case.parameters, f"table.{table}": case.parameters[f"table.{table}"][:1]}
    columns = case.columns([{"candidate": 2, "clicks": 2, "buys": 1}])
    got = run_padded(session(build(case)), case.schema, columns)
    np.testing.assert_allclose(got, case.probabilities(columns), atol=TOLERANCE)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda c: c.parameters.pop("table.item"), "parameter table.item: expected shape"),
        (lambda c: c.parameters.update(extra=np.zeros(1, np.float32)), "extra belong to no layer"),
        (lambda c: c.parameters.update({"tower.biases.0": np.zeros(6)}), "expected float32"),
        (lambda c: c.vocabularies.pop("genre"), "vocabularies: expected"),
        (lambda c: c.vocabularies.update(item=np.zeros(9, np.int64)), "expected different ids"),
        (lambda c: c.vocabularies.update(brand=[1] * 9), "expected strings, got int"),
    ],
)
def test_what_does_not_fit_is_refused(make_case: Any, change: Any, message: str) -> None:
    case = make_case()
    change(case)
    with pytest.raises(ModelFileError, match=message):
        build(case)
