"""The first layer's input written out for every pair of candidate and behaviour, in ONNX's text form."""

from __future__ import annotations

# From key_rows, query_rows, which have an axis of size 1 where the other has its own, and `leading`, the shape of the
# pairs. Constants: dim [D], dim_squared [D * D], last [-1], before_last [-2].
_TILED = """
    pairs = Concat<axis = 0>(leading, dim)
    k = Expand(key_rows, pairs)
    q = Expand(query_rows, pairs)
"""
_INPUT = {
    "outer": """
        k_column = Unsqueeze(k, last)
        q_row = Unsqueeze(q, before_last)
        products = Mul(k_column, q_row)
        flat_shape = Concat<axis = 0>(leading, dim_squared)
        flat = Reshape(products, flat_shape)
        x = Concat<axis = -1>(k, q, flat)
    """,
    "hadamard": """
        difference = Sub(q, k)
        product = Mul(q, k)
        x = Concat<axis = -1>(q, k, difference, product)
    """,
}

# w_0 [inputs, H], bias_0 [H] -> sums_0 [..., H]
FIRST_LAYER = """
    products_0 = MatMul(x, w_0)
    sums_0 = Add(products_0, bias_0)
"""


def text(interaction: str) -> str:
    """Statements that compute `x`, [..., 2D + D*D] for `outer` and [..., 4D] for `hadamard`."""
    return _TILED + _INPUT[interaction]
