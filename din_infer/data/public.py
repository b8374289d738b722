"""Published data sets as a log of impressions and one of events, from which `log.write_log` makes requests.

A history holds what came strictly before the request, and two moments split all requests; see `din_infer.data.log`.
"""

from __future__ import annotations

import math
import tempfile
from dataclasses import dataclass, replace
from pathlib import Path

import polars as pl

from din_infer.data import archives
from din_infer.data.log import Options, Progress, Summary, write_log
from din_infer.data.logfiles import Kind, Log, Wanted, clean, common_type, height, open_log, polars_errors, typed
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
    max_history: int = 200

    def __post_init__(self) -> None:
        if self.protocol not in PROTOCOLS:
            raise DataError(f"protocol: expected {' | '.join(PROTOCOLS)}, got {self.protocol!r}")
        if not math.isfinite(self.liked):
            raise DataError(f"liked: expected a rating, got {self.liked}")

    def options(self) -> Options:
        negatives = self.negatives if self.protocol == "next-item" else None
        return Options(negatives=negatives, seed=self.seed, max_history=self.max_history)


@dataclass(frozen=True)
class Fields:
    """What RecBole's columns are called: all in NAME.inter, those of the ids in NAME.item and NAME.user, too."""

    user: str = "user_id"
    item: str = "item_id"
    time: str = "timestamp"
    rating: str = "rating"
    label: str = "label"


def write_movielens(out: Path, source: Path, rated: Rated, progress: Progress = lambda done, total: None) -> Summary:
    """MovieLens as its zip files hold it: `ratings.csv` and `movies.csv`, whose genres are the items' feature.

    items.parquet has the titles, which `din-infer explain` shows; a film that movies.csv lacks has its id there.
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
    movies_log = open_log(movies_file)
    movies = _columns(movies_log, [Wanted("movieId", "movieId", "id"), Wanted("genres", "genre", "feature")])
    _refuse_twice(movies, movies_file, "movieId")
    genre = pl.col("genre").str.split("|").list.filter(pl.element() != NO_GENRE)
    joined = ratings.join(movies.with_columns(genre), left_on="item_id", right_on="movieId", how="left")
    joined = joined.with_columns(pl.col("genre").fill_null([]))
    options = replace(rated.options(), item_features=("genre",))
    summary = _write_rated(out, joined, rated, options, "MovieLens", progress)
    if "title" in movies_log.columns:
        _name_items(out / "items.parquet", movies_log.frame.select("movieId", "title"))
    return summary


def _name_items(path: Path, titles: pl.LazyFrame) -> None:
    """Puts the titles (`movieId` and `title`, both text) before the columns of a catalogue."""
    items = pl.read_parquet(path).with_columns(movieId=pl.col("candidate.item_id").cast(pl.String))
    named = items.join(titles.collect(engine="streaming"), on="movieId", how="left", maintain_order="left")
    named.select(pl.col("title").fill_null(pl.col("movieId")), pl.exclude("title", "movieId")).write_parquet(path)


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
    return _write(out, impressions, events, options, archives.TAOBAO.name, f"behaviour {target!r}", progress)


def write_recbole(
    out: Path,
    source: Path,
    rated: Rated,
    item_features: tuple[str, ...] = (),
    user_features: tuple[str, ...] = (),
    fields: Fields = Fields(),
    progress: Progress = lambda done, total: None,
) -> Summary:
    """Any folder of RecBole's atomic files: NAME.inter, and NAME.item and NAME.user for the features that are named.

    Where NAME.inter is split already, into NAME.train.inter and others, its parts are read as one and split as all are.
    An item's or a user's id may have another name than in `fields`, which is then the first one of NAME.item or
    NAME.user. A label of NAME.inter, 0 or 1, labels its rows; otherwise a rating decides what is liked; otherwise every
    row is a positive. Tokens are ids, sequences of tokens lists of ids, floats dense. An empty token is an id, too; an
    empty float is the mean of its column, as in RecBole. Fractions of a second are left out of times.
    """
    base, paths = archives.recbole(source)
    log = _atomic(_joined(base, paths), base, fields)
    user, item = Wanted(fields.user, "user_id", "id"), Wanted(fields.item, "item_id", "id")
    wanted = [user, item, Wanted(fields.time, "timestamp", "time")]
    labelled = fields.label in log.columns or fields.label != Fields.label
    is_rated = not labelled and (fields.rating in log.columns or fields.rating != Fields.rating)
    if labelled:
        wanted.append(Wanted(fields.label, "label", "label"))
    elif is_rated:
        wanted.append(Wanted(fields.rating, "rating", "feature"))
    frame = _columns(log, wanted)
    for suffix, of, names in ((".item", item, item_features), (".user", user, user_features)):
        if names:
            features = open_log(Path(f"{base}{suffix}"))
            frame = _with_features(frame, _atomic(features, base, fields), of, names)
    options = replace(rated.options(), item_features=item_features, user_features=user_features)
    name = f"{base.name} (RecBole)"
    if labelled:
        liked = frame.filter(pl.col("label") == 1)
        return _write(out, frame, liked, replace(options, negatives=None), name, "row with the label 1", progress)
    if not is_rated:
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
    return _write(out, ratings, events, options, dataset, f"rating of {rated.liked:g} or more", progress)


def _write(
    out: Path,
    impressions: pl.LazyFrame,
    events: pl.LazyFrame,
    options: Options,
    dataset: str,
    positive: str,
    progress: Progress,
) -> Summary:
    """`positive` says what a data set has to have, for the error where it has none."""
    out.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".public", dir=out) as folder:
        files = Path(folder) / "impressions.parquet", Path(folder) / "events.parquet"
        for frame, file in zip((impressions, events), files, strict=True):
            frame.sink_parquet(file)
            if height(pl.scan_parquet(file)) == 0:
                raise DataError(f"{dataset}: expected at least one {positive}, got none")
        return write_log(out, *files, options, progress, dataset)


def _columns(log: Log, wanted: list[Wanted]) -> pl.LazyFrame:
    """The columns, typed by what they hold, but for times, which all have as whole seconds, and ratings, numbers."""
    known: dict[str, pl.DataType] = {"rating": pl.Float32(), "timestamp": pl.Int64()}
    types = {name: known.get(name, dtype) for name, dtype in typed(log, wanted).items()}
    return clean(log, wanted, types)


@dataclass(frozen=True)
class _Parts(Log):
    """Files with the same columns, read as one."""

    logs: tuple[Log, ...] = ()

    def where(self, row: int) -> str:
        for log in self.logs:
            rows = height(log.frame)
            if row < rows:
                return log.where(row)
            row -= rows
        raise AssertionError(f"a row behind the last one of {self.path}")


def _joined(base: Path, paths: list[Path]) -> Log:
    logs = [open_log(path) for path in paths]
    first = logs[0]
    for log in logs[1:]:
        if list(log.columns) != list(first.columns):
            expected, got = ", ".join(first.columns), ", ".join(log.columns)
            raise DataError(f"{log.path}: expected the columns of {first.path.name}, {expected}, got {got}")
    if len(logs) == 1:
        return first
    return _Parts(Path(f"{base}.*.inter"), pl.concat([log.frame for log in logs]), first.columns, 2, tuple(logs))


def _atomic(log: Log, base: Path, fields: Fields) -> Log:
    """An atomic file, its columns without the types in their names, sequences as lists, missing tokens empty.

    What the first column of NAME.item and NAME.user names is called as in `fields` here, where that is missing.
    """
    names = {column: column.partition(":")[0] for column in log.columns}
    for suffix, usual in ((".item", fields.item), (".user", fields.user)):
        file = Path(f"{base}{suffix}")
        if usual not in names.values() and file.is_file():
            key = next(iter(open_log(file).columns))
            names |= {key: usual} if key in names else {}
    values = {name: _value(column).alias(name) for column, name in names.items()}
    if log.path.suffix == ".inter" and fields.time in values:
        values[fields.time] = values[fields.time].str.replace(r"\.\d+$", "")
    frame = log.frame.select(values.values())
    return replace(log, frame=frame, columns=dict(frame.collect_schema()))


def _value(column: str) -> pl.Expr:
    kind, text = column.partition(":")[2], pl.col(column)
    if kind == "token":
        return text.fill_null("")
    if kind == "token_seq":
        return text.fill_null("").str.split(" ").list.filter(pl.element() != "")
    return text.str.split(" ").cast(pl.List(pl.Float32), strict=False) if kind == "float_seq" else text


def _with_features(frame: pl.LazyFrame, log: Log, of: Wanted, names: tuple[str, ...]) -> pl.LazyFrame:
    """The frame with the features `names` of an atomic file, which has each id `of` the frame once."""
    path, key = log.path, of.name
    floats = [name for name in names if log.columns.get(name) == pl.String]  # of which tokens are not missing any more
    means = (
        pl.col(name).fill_null(pl.col(name).cast(pl.Float64, strict=False).mean().cast(pl.String)) for name in floats
    )
    log = Log(path, log.frame.with_columns(means), log.columns, log.line)
    wanted = [of, *(Wanted(name, name, "feature") for name in names)]
    types = typed(log, wanted)
    common = common_type(types[key], frame.collect_schema()[key])
    features = clean(log, wanted, types).with_columns(pl.col(key).cast(common))
    frame = frame.with_columns(pl.col(key).cast(common))
    _refuse_twice(features, path, key)
    lost = frame.select(key).join(features, on=key, how="anti").head(1).collect(engine="streaming")
    if lost.height:
        raise DataError(f"{path}: expected every {key} of the interactions, got none for {lost[key][0]!r}")
    return frame.join(features, on=key, how="left")


def _refuse_twice(features: pl.LazyFrame, path: Path, key: str) -> None:
    twice = features.group_by(key).len().filter(pl.col("len") > 1).sort(key).head(1).collect(engine="streaming")
    if twice.height:
        raise DataError(f"{path}: expected each {key} once, got {twice[key][0]!r} again")
