"""DeepCTR-Torch's DIN as a checkpoint: the probabilities of the library's own model, through the exported file."""

from __future__ import annotations

import importlib.util
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

import din_infer
from din_infer.bench.peers.deepctr import deepctr_module
from din_infer.errors import ModelFileError, SchemaError
from din_infer.export import check_certificate, export_model, from_deepctr

if importlib.util.find_spec("deepctr_torch") is None:
    pytest.skip("needs deepctr-torch", allow_module_level=True)
ITEMS, BRANDS, LONGEST = 30, 7, 6
BRAND_CODES = {f"brand {code}": code for code in range(BRANDS - 1, 0, -1)}
HOUR_CODES = {np.int64(2100 + code): code for code in range(24)}


def columns_of(**changes: Any) -> list[Any]:
    inputs = deepctr_module("inputs")
    sparse, many = inputs.SparseFeat, inputs.VarLenSparseFeat
    columns = {
        "gender": sparse("gender", 3, 2, group_name="first"),
        "item": sparse("item", ITEMS, 4),
        "brand": sparse("brand", BRANDS, 3, group_name="first"),
        "hist_item": many(sparse("hist_item", ITEMS, 4, embedding_name="item"), LONGEST, length_name="seen"),
        "tags": many(sparse("tags", 9, 2), 4, "mean"),
        "hist_brand": many(
            sparse("hist_brand", BRANDS, 3, embedding_name="brand", group_name="first"), LONGEST, length_name="seen"
        ),
        "topics": many(sparse("topics", 5, 3), 3, "sum", length_name="topic_count"),
        "age": inputs.DenseFeat("age", 1),
        "hour": sparse("hour", 24, 2),
        "price": inputs.DenseFeat("price", 1),
    }
    return [column for column in {**columns, **changes}.values() if column is not None]


def network_of(columns: list[Any] | None = None, **options: Any) -> Any:
    """Every parameter and statistic is random, none of them as the library starts it."""
    given = {"att_hidden_size": (5, 4), "dnn_hidden_units": (8, 6), **options}
    network = deepctr_module("models.din").DIN(columns or columns_of(), ["item", "brand"], **given)
    generator = torch.Generator().manual_seed(0)
    with torch.no_grad():
        for name, value in network.state_dict().items():
            if value.dtype == torch.float32:
                value.normal_(std=0.5, generator=generator)
            if name.endswith("running_var") or ("bn" in name and name.endswith("weight")):
                value.abs_().add_(0.1)
            if "activation_layers" in name and name.endswith("bn.weight"):
                value[::2] *= -1
    return network


def library_probabilities(network: Any, requests: list[dict[str, Any]]) -> np.ndarray:
    """The library's, of padded rows; `requests` has codes, one candidate each."""
    rows = np.zeros((len(requests), max(end for _, end in network.feature_index.values())), np.float32)
    for row, request in zip(rows, requests, strict=True):
        given = {**request, "seen": len(request["hist_item"]), "topic_count": len(request["topics"])}
        for name, (begin, _) in network.feature_index.items():
            values = np.atleast_1d(np.array(given[name], np.float32))
            row[begin : begin + len(values)] = values
    with torch.inference_mode():
        found: np.ndarray = network.eval()(torch.from_numpy(rows))[:, 0].numpy()
    return found


def drawn_requests(shortest: int) -> list[dict[str, Any]]:
    rng = np.random.default_rng(1)
    requests = []
    for _ in range(40):
        behaviours = int(rng.integers(shortest, LONGEST + 1))
        requests.append(
            {
                "gender": int(rng.integers(3)),
                "brand": int(rng.integers(1, BRANDS)),
                "item": int(rng.integers(ITEMS)),
                "hist_item": rng.integers(ITEMS, size=behaviours).tolist(),
                "hist_brand": rng.integers(1, BRANDS, size=behaviours).tolist(),
                "tags": rng.integers(1, 9, size=rng.integers(5)).tolist(),
                "topics": rng.integers(5, size=rng.integers(4)).tolist(),
                "age": float(np.float32(rng.normal())),
                "hour": int(rng.integers(24)),
                "price": float(np.float32(rng.normal())),
            }
        )
    return requests


def raw_columns(requests: list[dict[str, Any]]) -> dict[str, list[Any]]:
    """The same as a model file reads them, brands by their names, hours by the numbers of HOUR_CODES."""
    brands = {code: name for name, code in BRAND_CODES.items()}
    columns: dict[str, list[Any]] = {
        f"user.{name}": [request[name] for request in requests] for name in ("gender", "topics", "age")
    }
    columns |= {f"candidate.{name}": [[request[name]] for request in requests] for name in ("item", "tags", "price")}
    columns["context.hour"] = [2100 + request["hour"] for request in requests]
    columns["candidate.brand"] = [[brands[request["brand"]]] for request in requests]
    columns["history.item"] = [request["hist_item"] for request in requests]
    columns["history.brand"] = [[brands[code] for code in request["hist_brand"]] for request in requests]
    return columns


def imported(network: Any, **options: Any) -> Any:
    given = {
        "user": ["gender", "topics", "age"],
        "context": ["hour"],
        "vocabularies": {"brand": BRAND_CODES, "hour": HOUR_CODES},
    }
    return from_deepctr(network, **{**given, **options})


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"att_activation": "sigmoid", "att_weight_normalization": True},
        {"att_activation": "prelu", "dnn_activation": "prelu", "dnn_use_bn": True},
        {"att_activation": "relu", "dnn_activation": "sigmoid", "att_hidden_size": (3,)},
        {"att_activation": torch.nn.Tanh, "dnn_hidden_units": (5,)},
    ],
    ids=lambda options: "-".join(map(str, options.values())) or "defaults",
)
def test_the_file_has_the_library_s_probabilities(tmp_path: Path, options: dict[str, Any]) -> None:
    network = network_of(**options)
    path = export_model(imported(network), tmp_path / "model.onnx")
    assert check_certificate(path).max_abs_error < 1e-5
    # Under a softmax the library pools padding where a history is empty.
    requests = drawn_requests(shortest=int("att_weight_normalization" in options))
    expected = library_probabilities(network, requests)
    assert np.ptp(expected) > 0.05
    np.testing.assert_allclose(din_infer.load(path).score(raw_columns(requests)), expected, rtol=0, atol=2e-6)


def test_after_the_library_s_own_training(tmp_path: Path) -> None:
    network = deepctr_module("models.din").DIN(columns_of(), ["item", "brand"], init_std=0.1)
    network.compile("adam", "binary_crossentropy")
    requests = drawn_requests(shortest=0) * 5
    places = network.feature_index
    given: dict[str, Any] = {}
    for name, (begin, end) in places.items():
        rows = [np.atleast_1d(r.get(name, 0)) for r in requests]
        given[name] = np.stack([np.pad(row, (0, end - begin - len(row))) for row in rows]).astype(np.float32)
    given["seen"] = np.array([[len(r["hist_item"])] for r in requests], np.float32)
    given["topic_count"] = np.array([[len(r["topics"])] for r in requests], np.float32)
    labels = np.array([float(r["item"] % 2) for r in requests])
    network.fit(given, labels, batch_size=32, epochs=3, verbose=0)
    model = din_infer.load(export_model(imported(network), tmp_path / "model.onnx"))
    expected = network.predict(given, batch_size=64)[:, 0]
    np.testing.assert_allclose(model.score(raw_columns(requests)), expected, rtol=0, atol=2e-6)


def test_ids_without_a_vocabulary_are_codes_and_others_are_zeros(tmp_path: Path) -> None:
    network = network_of()
    model = din_infer.load(export_model(imported(network, vocabularies=None), tmp_path / "model.onnx"))
    requests = drawn_requests(shortest=1)
    columns = raw_columns(requests)
    columns["candidate.brand"] = [[request["brand"]] for request in requests]
    columns["history.brand"] = [request["hist_brand"] for request in requests]
    columns["context.hour"] = [request["hour"] for request in requests]
    np.testing.assert_allclose(model.score(columns), library_probabilities(network, requests), rtol=0, atol=2e-6)
    with torch.no_grad():
        network.embedding_dict["item"].weight[3] = 0.0
    known = [{**request, "item": 3} for request in requests]
    unknown = {**columns, "candidate.item": [[ITEMS]] * len(requests)}
    kept = [{**request, "hist_item": [1] * len(request["hist_item"])} for request in known]
    unknown["history.item"] = [request["hist_item"] for request in kept]
    np.testing.assert_allclose(model.score(unknown), library_probabilities(network, kept), rtol=0, atol=2e-6)


def test_the_network_is_left_as_it_was() -> None:
    network = network_of(dnn_use_bn=True)
    network.train()
    network.dnn.bn.eval()
    expected = {name: value.clone() for name, value in network.state_dict().items()}
    torch.manual_seed(0)
    drawn = torch.rand(1)
    torch.manual_seed(0)
    imported(network)
    assert torch.equal(torch.rand(1), drawn)
    assert network.training
    assert not network.dnn.bn[0].training
    assert all(torch.equal(value, expected[name]) for name, value in network.state_dict().items())
    broken = network_of(dnn_activation="dice")  # the library's own towers do not run with it
    with pytest.raises(ModelFileError, match="expected its probabilities, got AssertionError"):
        imported(broken.train())
    assert broken.dnn.training


def no_gain(network: Any) -> None:
    with torch.no_grad():
        network.attention.local_att.dnn.activation_layers[1].bn.weight[2] = 0.0


def other_probabilities(network: Any) -> None:
    network.out.forward = lambda logits: torch.sigmoid(logits * 1.01)


@pytest.mark.parametrize(
    ("break_it", "message"),
    [
        (no_gain, "expected a gain in Dice's normalisation other than 0, got 0"),
        (other_probabilities, r"expected probabilities that are equal to 1e-05, got .* off"),
    ],
)
def test_networks_that_have_no_equal(break_it: Any, message: str) -> None:
    network = network_of()
    break_it(network)
    with pytest.raises(ModelFileError, match=message):
        imported(network)


def test_what_the_runtime_does_not_compute() -> None:
    inputs = deepctr_module("inputs")
    with pytest.raises(ModelFileError, match=r"expected one activation of Sigmoid, .*, got .'Identity"):
        imported(network_of(att_activation="linear"))
    with pytest.raises(ModelFileError, match="expected the task binary, got regression"):
        imported(network_of(task="regression"))
    with pytest.raises(ModelFileError, match=r"expected a deepctr_torch.models.DIN, got a Linear"):
        from_deepctr(torch.nn.Linear(1, 1))
    wide = columns_of(price=inputs.DenseFeat("price", 2))
    with pytest.raises(ModelFileError, match="expected one dense value as price, got 2"):
        imported(network_of(wide))
    largest = columns_of(tags=inputs.VarLenSparseFeat(inputs.SparseFeat("tags", 9, 2), 4, "max"))
    with pytest.raises(ModelFileError, match="expected the combiner sum or mean for tags, got max"):
        imported(network_of(largest))
    turned = columns_of()
    turned[1:3] = turned[2:0:-1]
    with pytest.raises(ModelFileError, match="expected behaviours of brand, item, got item, brand"):
        imported(network_of(turned))
    one = columns_of(tags=inputs.VarLenSparseFeat(inputs.SparseFeat("tags", 1, 2), 4, "mean"))
    with pytest.raises(ModelFileError, match="embedding tags: expected an id besides padding, got none"):
        imported(network_of(one))
    own = inputs.VarLenSparseFeat(inputs.SparseFeat("hist_item", ITEMS, 4), LONGEST, length_name="seen")
    with pytest.raises(ModelFileError, match=r"hist_item with .*, embedding_name='item', got 'hist_item'"):
        imported(network_of(columns_of(hist_item=own)))


def test_lengths_that_the_library_takes_from_elsewhere() -> None:
    inputs = deepctr_module("inputs")
    columns = columns_of()
    topics = next(column for column in columns if column.name == "topics")
    with pytest.raises(
        ModelFileError, match=r"hist_item with the length_name that comes first, 'topic_count', .*'seen'"
    ):
        imported(network_of([topics, *(column for column in columns if column is not topics)]))
    shorter = inputs.VarLenSparseFeat(inputs.SparseFeat("tags", 9, 2), 4, "mean", length_name="seen")
    with pytest.raises(ModelFileError, match="tags with the history's maxlen, 6, got 4"):
        imported(network_of(columns_of(tags=shorter)))
    with pytest.raises(ModelFileError, match="topic_count as a length alone, got a feature of that name"):
        imported(network_of(columns_of(count=inputs.DenseFeat("topic_count", 1))))
    with pytest.raises(ModelFileError, match="expected columns of different names, got gender, item, "):
        imported(network_of(columns_of(price=inputs.DenseFeat("hour", 1))))


def test_names_that_do_not_fit() -> None:
    network = network_of()
    with pytest.raises(ModelFileError, match="expected a feature colour, got gender, brand, item"):
        imported(network, context=["colour"])
    with pytest.raises(ModelFileError, match="expected a feature in user or in context, got hour in both"):
        imported(network, user=["hour"])
    with pytest.raises(ModelFileError, match="expected item as a feature of the candidate"):
        imported(network, user=["item"], context=[])
    hour = deepctr_module("inputs").SparseFeat("hour.of.day", 24, 2, embedding_name="hour")
    with pytest.raises(SchemaError, match=r"hour\.of\.day"):
        from_deepctr(network_of(columns_of(hour=hour)), context=["hour.of.day"])


def test_codes_that_do_not_fit() -> None:
    network = network_of()
    for code in (7, -1, "1", None, 1.5, True):
        with pytest.raises(ModelFileError, match="expected codes of brand from 0 to 6, got "):
            imported(network, vocabularies={"brand": {"x": code}})
    for raw in ({2**63: 1}, {True: 1}, {}, {"x": 1, 2: 2}):
        with pytest.raises(ModelFileError, match="expected raw ids of brand that are all int64 or all str, got "):
            imported(network, vocabularies={"brand": raw})
    with pytest.raises(ModelFileError, match="expected codes of brand by raw ids, got list"):
        imported(network, vocabularies={"brand": ["x"]})
    with pytest.raises(ModelFileError, match="expected vocabularies by the names of embeddings, got "):
        imported(network, vocabularies=[("brand", {"x": 1})])
    with pytest.raises(ModelFileError, match="expected an embedding brands, got "):
        imported(network, vocabularies={"brands": {"x": 1}})
