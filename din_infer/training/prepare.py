"""Raw requests as a model in training reads them, with the vocabularies of the training split."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from din_infer.batch import encode
from din_infer.schema import Schema
from din_infer.training.requests import Requests, requests_of
from din_infer.training.vocabulary import Vocabulary, rows_of


def prepare(schema: Schema, vocabularies: Mapping[str, Vocabulary], columns: Mapping[str, Any]) -> Requests:
    """Looks raw ids up and cuts histories to `max_length`.

    `columns` is what `din_infer.batch.encode` takes, that of `Model.score`. Raises InputError where they do not fit.
    """
    encoded, count = encode(schema, columns)
    tables = schema.tables
    return requests_of(schema, encoded, count, lambda t, ids: rows_of(tables[t], vocabularies.get(t), (ids,)))
