"""JSON in a model file's metadata, which anybody may have edited."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from din_infer.arrays import describe
from din_infer.errors import ModelFileError

MAX_DEPTH = 32  # of lists and objects in each other; exported files have 7. What prints or walks them may recurse


def read_object(metadata: Mapping[str, str], name: str) -> dict[str, Any]:
    """The JSON object under `din_infer.<name>`. Raises ModelFileError for none, and for what is none."""
    key = f"din_infer.{name}"
    if key not in metadata:
        raise ModelFileError(f"expected a din_infer model file, got one without the metadata entry {key}")
    try:
        found = json.loads(metadata[key])
    except (ValueError, RecursionError) as error:
        reason = "" if isinstance(error, RecursionError) else f": {error}"
        raise ModelFileError(f"{key}: expected JSON, got {describe(metadata[key])}{reason}") from None
    if _is_deep(found):
        raise ModelFileError(f"{key}: expected at most {MAX_DEPTH} lists and objects in each other, got more")
    if not isinstance(found, dict):
        raise ModelFileError(f"{key}: expected a JSON object, got {describe(found)}")
    return found


def _is_deep(value: Any) -> bool:
    level = [value]
    for _ in range(MAX_DEPTH + 1):
        nested = [node.values() if isinstance(node, dict) else node for node in level if isinstance(node, dict | list)]
        level = [child for children in nested for child in children]
    return bool(level)
