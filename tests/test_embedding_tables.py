"""Embedding tables rounded to what model files store, against what that promises."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from din_infer import embedding_tables
from din_infer.embedding_tables import restored_parameters, stored_parameters
from din_infer.errors import ModelFileError

LARGEST = np.finfo(np.float32).max
SMALLEST = np.finfo(np.float32).smallest_subnormal


def stored(rows: Any, dtype: str) -> dict[str, Any]:
    return stored_parameters({"table.item": np.asarray(rows, np.float32)}, dtype)


def restored(rows: Any, dtype: str) -> Any:
    found = restored_parameters(stored(rows, dtype))
    assert list(found) == ["table.item"]
    assert found["table.item"].dtype == np.float32
    return found["table.item"]


@pytest.mark.parametrize("dim", [1, 2, 3, 17, 64, 130])
def test_int8_errs_by_half_a_level(dim: int) -> None:
    rng = np.random.default_rng(dim)
    rows = np.float32(rng.normal(size=(300, dim)) * 10 ** rng.uniform(-6, 6, (300, 1)) + rng.normal(size=(300, 1)))
    wide = rows.astype(np.float64)
    level = (wide.max(axis=1) - wide.min(axis=1)) / 254
    rounding = np.abs(wide).max(axis=1) * 2**-22  # of float32 offsets, products and sums
    error = np.abs(restored(rows, "int8") - wide).max(axis=1)
    assert (error <= level / 2 + rounding).all()
    if dim > 3:
        assert (error > level / 4).mean() > 0.9, "rows are rounded at all"
    parts = stored(rows, "int8")
    assert (parts["table.item"].dtype, parts["table.item.range"].shape) == (np.int8, (300, 2))


@pytest.mark.parametrize("dtype", embedding_tables.TABLE_DTYPES)
@pytest.mark.parametrize("value", [0.0, -0.0, 1.0, -2.5, 0.125])
@pytest.mark.parametrize("dim", [1, 5])
def test_rows_of_one_value_are_exact(dtype: str, value: float, dim: int) -> None:
    np.testing.assert_array_equal(restored(np.full((3, dim), value), dtype), np.full((3, dim), value))


@pytest.mark.parametrize(
    "row", [[-LARGEST, LARGEST], [0, LARGEST], [LARGEST, LARGEST], [-LARGEST, 1, 3e38], [SMALLEST, 0], [1e38, 1e-38]]
)
def test_int8_takes_any_finite_range(row: list[float]) -> None:
    wide = np.asarray(row, np.float64)
    found = restored([row], "int8")[0].astype(np.float64)
    assert np.isfinite(found).all()
    assert np.abs(found - wide).max() <= np.ptp(wide) / 508 + np.abs(wide).max() * 2**-22 + SMALLEST


def test_float16_is_numpys() -> None:
    rows = [[1 / 3, 65504, -1e-8], [6e-8, -1e-5, np.inf], [np.nan, 2049, 0.1]]
    np.testing.assert_array_equal(restored(rows, "float16"), np.asarray(rows, np.float32).astype(np.float16))


@pytest.mark.parametrize(
    ("dtype", "value", "expected"),
    [
        ("float16", 65520, "up to 65504, got 65520.0"),
        ("float16", -1e30, "up to 65504, got"),
        ("int8", np.nan, "that are finite, got nan"),
        ("int8", np.inf, "that are finite, got inf"),
        ("int8", -np.inf, "that are finite, got -inf"),
    ],
)
def test_what_a_type_cannot_hold_is_refused(
    dtype: str, value: float, expected: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(embedding_tables, "_ROWS_AT_A_TIME", 4)
    rows = np.ones((9, 2))
    rows[6, 1] = value
    with pytest.raises(ModelFileError, match=f"parameter table.item: expected numbers {expected}.* in row 6; export"):
        stored(rows, dtype)


def test_blocks_of_rows_do_not_show(monkeypatch: pytest.MonkeyPatch) -> None:
    rows = np.random.default_rng(0).normal(size=(50, 3))
    whole = stored(rows, "int8")
    monkeypatch.setattr(embedding_tables, "_ROWS_AT_A_TIME", 7)
    for name, array in stored(rows, "int8").items():
        np.testing.assert_array_equal(array, whole[name])


def test_only_tables_are_rounded() -> None:
    parameters = {"table.item": np.ones((2, 2), np.float32), "tower.weights.0": np.float32([[1 / 3]])}
    assert stored_parameters(parameters, "float32") == parameters
    for dtype in ("float16", "int8"):
        found = stored_parameters(parameters, dtype)
        assert found["tower.weights.0"] is parameters["tower.weights.0"]
        assert set(restored_parameters(found)) == set(parameters)


def test_a_table_may_be_named_like_a_range() -> None:
    rng = np.random.default_rng(0)
    tables = {name: np.float32(rng.normal(size=(4, 2))) for name in ("table.a", "table.b.range")}
    for dtype in embedding_tables.TABLE_DTYPES:
        found = restored_parameters(stored_parameters(tables, dtype))
        assert set(found) == set(tables)
        for name, table in tables.items():
            np.testing.assert_allclose(found[name], table, atol=0.01)


def test_an_unknown_type_is_refused() -> None:
    with pytest.raises(ModelFileError, match=r"table dtype: expected float32 \| float16 \| int8, got 'uint8'"):
        stored([[1.0]], "uint8")
