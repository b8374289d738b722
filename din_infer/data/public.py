"""Published data sets as a log of impressions and one of events, from which `log.write_log` makes requests.

A history holds what came strictly before the request, and two moments split all requests; see `din_infer.data.log`.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from din_infer.data import archives
from din_infer.data.log import Options, Progress, Summary, write_log
from din_infer.data.logfiles import Kind, Log, Wanted, clean, common_type, open_log, polars_errors, typed
from din_infer.data.protocols import LIKED, PROTOCOLS
from din_infer.errors import DataError

NO_GENRE = "(no genres listed)"
BEHAVIOURS = ("pv", "buy", "cart", "fav")  # Taobao's: page view, purchase, into the cart, favourite


@dataclass(frozen=True)
class Rated:
    """How ratings become requests: `next-item`, a liked item among `negatives` drawn ones, or `rating`, all that was
    rated, labelled 1 where liked. What the user liked is the history of either."""

    protocol: str = "next-item"
    liked: float = LIKED
    negatives: int = 4
    seed: int = 0
    max_history: int = 50

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise DataError(f"protocol: expected {' | '.join(PROTOCOLS)}, got {self.protocol!r}")

    def options(self) -> Options:
        negatives = self.negatives if self.protocol == "next-item" else None
        return Options(negatives=negatives, seed=self.seed, max_history=self.max_history)


def write_movielens(out: Path, source: Path, rated: Rated, progress: Progress = lambda done, total: None) -> Summary:
    """MovieLens as its zip files hold it: `ratings.csv` and `movies.csv`, whose genres are the items' feature.

    Raises DataError for files that are missing, which says what to download, and for what they get wrong.
    """
    ratings_file, movies_file = archives.MOVIELENS.find(source)
    ratings = _columns(
        open_log(ratings_file),
        [
            Wanted("userId", "user_id", "id"),
            Wanted("movieId", "item_id", "id"),
            Wanted("rating", "rating", "feature"),
            Wanted("timestamp", "timestamp", "time"),
        ],
    )
    movies = _columns(open_log(movies_file), [Wanted("movieId", "item_id", "id"), Wanted("genres", "genre", "feature")])
    genre = pl.col("genre").str.split("|").list.filter(pl.element() != NO_GENRE)
    joined = ratings.join(movies.with_columns(genre), on="item_id", how="left")
    joined = joined.with_columns(pl.col("genre").fill_null([]))
    return _write_rated(out, joined, rated, replace(rated.options(), item_features=("genre",)), "MovieLens", progress)


def write_taobao(
    out: Path, source: Path, target: str, options: Options, progress: Progress = lambda done, total: None
) -> Summary:
    """Taobao's UserBehavior.csv, which has no header: user, item, category, behaviour, seconds.

    Candidates are items with the behaviour `target` and drawn ones; a history holds all behaviours, each with its kind.
    """
    if target not in BEHAVIOURS:
        raise DataError(f"target: expected {' | '.join(BEHAVIOURS)}, got {target!r}")
    (path,) = archives.TAOBAO.find(source)
    names = ["user_id", "item_id", "category", "behaviour", "timestamp"]
    with polars_errors(path):
        frame = pl.scan_csv(path, has_header=False, infer_schema=False)
        given = frame.collect_schema().names()
        if len(given) != len(names):
            raise DataError(f"{path}: expected {len(names)} columns, {', '.join(names)}, got {len(given)}")
        frame = frame.rename(dict(zip(given, names, strict=True)))
        log = Log(path, frame, dict(frame.collect_schema()), line=1)
    kinds: tuple[Kind, ...] = ("id", "id", "feature", "feature", "time")
    events = _columns(log, [Wanted(name, name, kind) for name, kind in zip(names, kinds, strict=True)])
    options = replace(options, item_features=("category",), event_features=("behaviour",))
    impressions = events.filter(pl.col("behaviour") == target).drop("behaviour")
    return _write(out, impressions, events, options, archives.TAOBAO.name, progress)


def write_recbole(
    out: Path,
    source: Path,
    rated: Rated,
    item_features: tuple[str, ...] = (),
    user_features: tuple[str, ...] = (),
    progress: Progress = lambda done, total: None,
) -> Summary:
    """Any folder of RecBole's atomic files: NAME.inter, and NAME.item and NAME.user for the features that are named.

    A column `label` of NAME.inter, 0 or 1, labels its rows; otherwise `rating` decides what is liked; otherwise every
    row is a positive. Tokens are ids, sequences of tokens lists of ids, floats dense. An empty token is an id, too.
    """
    path = archives.recbole(source)
    log = _atomic(path)
    kinds: dict[str, Kind] = {"user_id": "id", "item_id": "id", "timestamp": "time"}
    if "label" in log.columns:
        kinds["label"] = "label"
    elif "rating" in log.columns:
        kinds["rating"] = "feature"
    frame = _columns(log, [Wanted(name, name, kind) for name, kind in kinds.items()])
    for suffix, key, names in ((".item", "item_id", item_features), (".user", "user_id", user_features)):
        if names:
            frame = _with_features(frame, path.with_suffix(suffix), key, names)
    options = replace(rated.options(), item_features=item_features, user_features=user_features)
    name = f"{path.stem} (RecBole)"
    if "label" in kinds:
        return _write(out, frame, frame.filter(pl.col("label") == 1), replace(options, negatives=None), name, progress)
    if "rating" not in kinds:
        frame = frame.with_columns(rating=pl.lit(rated.liked, pl.Float64))
    return _write_rated(out, frame, rated, options, name, progress)


def _write_rated(
    out: Path, ratings: pl.LazyFrame, rated: Rated, options: Options, dataset: str, progress: Progress
) -> Summary:
    liked = (pl.col("rating") >= rated.liked).cast(pl.Int64)
    ratings = ratings.with_columns(label=liked).drop("rating")
    events = ratings.filter(pl.col("label") == 1).drop("label", *options.user_features)
    if rated.protocol == "next-item":
        ratings = ratings.filter(pl.col("label") == 1).drop("label")
    return _write(out, ratings, events, options, dataset, progress)


def _write(
    out: Path, impressions: pl.LazyFrame, events: pl.LazyFrame, options: Options, dataset: str, progress: Progress
) -> Summary:
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".public", dir=out) as folder:
        impressions_file, events_file = Path(folder) / "impressions.parquet", Path(folder) / "events.parquet"
        impressions.sink_parquet(impressions_file)
        events.sink_parquet(events_file)
        return write_log(out, impressions_file, events_file, options, progress, dataset)


def _columns(log: Log, wanted: list[Wanted]) -> pl.LazyFrame:
    return clean(log, wanted, typed(log, wanted))


def _atomic(path: Path) -> Log:
    """An atomic file, its columns without the types in their names, sequences as lists, missing tokens empty."""
    log = open_log(path)
    new = {}
    for column in log.columns:
        name, _, kind = column.partition(":")
        value = pl.col(column)
        if kind.endswith("_seq"):
            value = value.fill_null("").str.split(" ").list.filter(pl.element() != "")
        new[name] = value.fill_null("") if kind == "token" else value
    frame = log.frame.select(value.alias(name) for name, value in new.items())
    return Log(path, frame, dict(frame.collect_schema()), log.line)


def _with_features(frame: pl.LazyFrame, path: Path, key: str, names: tuple[str, ...]) -> pl.LazyFrame:
    """The frame with the features `names` of an atomic file, which has each `key` of the frame once."""
    log = _atomic(path)
    wanted = [Wanted(key, key, "id"), *(Wanted(name, name, "feature") for name in names)]
    types = typed(log, wanted)
    common = common_type(types[key], frame.collect_schema()[key])
    features = clean(log, wanted, types).with_columns(pl.col(key).cast(common))
    frame = frame.with_columns(pl.col(key).cast(common))
    twice = features.group_by(key).len().filter(pl.col("len") > 1).sort(key).head(1).collect()
    if twice.height:
        raise DataError(f"{path}: expected each {key} once, got {twice[key][0]!r} again")
    lost = frame.select(key).join(features, on=key, how="anti").head(1).collect(engine="streaming")
    if lost.height:
        raise DataError(f"{path}: expected every {key} of the interactions, got none for {lost[key][0]!r}")
    return frame.join(features, on=key, how="left")
