"""What an experiment compares: variants, seeds, and the search that all variants are given. People write it as YAML."""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Annotated, Any

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, model_validator

from din_infer.errors import DataError, SchemaError
from din_infer.training.config import TrainConfig, Whole

Options = dict[str, Any]

BUILT_IN: dict[str, Options] = {
    "base": {"model": "base"},
    "base-mean": {"model": "base", "pooling": "mean"},
    "base-prelu": {"model": "base", "activation": "prelu"},
    "base-no-penalty": {"model": "base", "regularisation": "none"},
    "din": {},
    "din-hadamard": {"interaction": "hadamard"},
    "din-no-product": {"interaction": "none"},
    "din-prelu": {"activation": "prelu"},
    "din-no-softmax": {"normalize": "none"},
    "din-l2": {"regularisation": "l2"},
    "din-no-penalty": {"regularisation": "none"},
}
NAME = re.compile(r"[^\W_][\w .,:=+()-]*")  # what Markdown's tables show as it is
DEFAULT = ("base", "din", "din-l2", "din-no-penalty")


class Spec(BaseModel):
    """
    | name     | default                            | meaning                                                       |
    |----------|------------------------------------|---------------------------------------------------------------|
    | variants | base, din, din-l2, din-no-penalty  | names of BUILT_IN, or each name with options of TrainConfig   |
    | base     | the first variant                  | the variant that the others are compared with                 |
    | seeds    | 3                                  | a number, for 0, 1, ..., or a list                            |
    | common   | {}                                 | options of all variants                                       |
    | search   | {}                                 | option -> values to try, in all combinations, for each variant|

    With `search` each variant takes the combination with the best validation GAUC (AUC without groups) at the first
    seed; the test split has no part in it.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    variants: Annotated[dict[str, Options], Field(min_length=1)] = Field(
        default_factory=lambda: {name: BUILT_IN[name] for name in DEFAULT}
    )
    base: str = ""
    seeds: Annotated[tuple[Whole, ...], Field(min_length=1)] = (0, 1, 2)
    common: Options = Field(default_factory=dict)
    search: dict[str, Annotated[list[Any], Field(min_length=1)]] = Field(default_factory=dict)

    @model_validator(mode="before")
    @classmethod
    def _short_forms(cls, raw: Any) -> Any:
        if not isinstance(raw, dict):
            return raw
        variants, seeds = raw.get("variants"), raw.get("seeds")
        if isinstance(variants, list):
            unknown = [name for name in variants if name not in BUILT_IN]
            if unknown:
                raise ValueError(f"expected some of {', '.join(BUILT_IN)}, got {unknown[0]!r}")
            raw = {**raw, "variants": {name: BUILT_IN[name] for name in variants}}
        elif isinstance(variants, dict):
            named = {name: BUILT_IN.get(name, {}) if v is None else v for name, v in variants.items()}
            raw = {**raw, "variants": named}
        if isinstance(seeds, int) and not isinstance(seeds, bool):
            raw = {**raw, "seeds": list(range(seeds))}
        return raw

    @model_validator(mode="after")
    def _consistent(self) -> Spec:
        for name in self.variants:
            if not NAME.fullmatch(name):
                raise ValueError(f"variants: expected a name of letters, digits and ' _.,:=+()-', got {name!r}")
        if self.base and self.base not in self.variants:
            raise ValueError(f"base: expected one of {', '.join(self.variants)}, got {self.base!r}")
        if len(set(self.seeds)) < len(self.seeds):
            raise ValueError(f"seeds: expected different ones, got {list(self.seeds)}")
        for options in (self.common, self.search, *self.variants.values()):
            if "seed" in options:
                raise ValueError("expected `seeds` to name the seeds, got `seed` among a variant's options")
        for name in self.variants:
            for point in self.points():
                self.config(name, point, self.seeds[0])
        return self

    def overridden(self, options: Options) -> Spec:
        """The same, but that `options` go over what it says and searches of them."""

        def others(named: Options) -> Options:
            return {name: value for name, value in named.items() if name not in options}

        variants = {variant: others(own) for variant, own in self.variants.items()}
        common = {**self.common, **options}
        return self.model_copy(update={"variants": variants, "common": common, "search": others(self.search)})

    @property
    def baseline(self) -> str:
        return self.base or next(iter(self.variants))

    def points(self) -> Iterator[Options]:
        """The combinations of `search`; one that changes nothing where there is none."""
        for values in itertools.product(*self.search.values()):
            yield dict(zip(self.search, values, strict=True))

    def config(self, variant: str, point: Options, seed: int) -> TrainConfig:
        """Hyper-parameters of one run: a variant's own options go over the search's, those over the common ones."""
        return TrainConfig.from_options({**self.common, **point, **self.variants[variant], "seed": seed})


def read_spec(path: Path) -> Spec:
    """Raises DataError for a file that is no YAML and SchemaError for one that says what it cannot."""
    if not path.is_file():
        raise DataError(f"{path}: expected a YAML file that describes an experiment, got no file")
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{path}: expected YAML, got: {' '.join(str(error).split())}") from None
    try:
        return make_spec(raw)
    except SchemaError as error:
        raise SchemaError(f"{path}: {error}") from None


def make_spec(raw: Any) -> Spec:
    """A spec of plain values. Raises SchemaError."""
    try:
        return Spec.model_validate(raw)
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        got = "" if first["type"] == "value_error" else f", got {first['input']!r}"
        raise SchemaError(f"{where}{': ' if where else ''}{first['msg'].removeprefix('Value error, ')}{got}") from None
