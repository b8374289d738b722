"""`din-infer data movielens | amazon | taobao | recbole`: published data sets, as their owners write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from din_infer.data.log import Summary

Out = Annotated[Path, typer.Option(help="Folder to write.", show_default=False)]
Protocol = Annotated[
    str, typer.Option(help="next-item: a liked item among drawn ones; rating: what was rated, liked or not.")
]
Liked = Annotated[float, typer.Option(help="The rating from which on an item counts as liked.")]
Negatives = Annotated[int, typer.Option(help="Drawn per positive.")]
Seed = Annotated[int, typer.Option(help="Of the drawn negatives.")]
MaxHistory = Annotated[int, typer.Option(help="Behaviours to keep of a history, the latest.")]
AsJson = Annotated[bool, typer.Option("--json", help="Print the summary as JSON.")]


def movielens(
    source: Annotated[Path, typer.Argument(help="Folder with ratings.csv and movies.csv.", show_default=False)],
    out: Out,
    protocol: Protocol = "next-item",
    liked: Liked = 4.0,
    negatives: Negatives = 4,
    seed: Seed = 0,
    max_history: MaxHistory = 200,
    as_json: AsJson = False,
) -> None:
    """MovieLens from its zip files, of any size: ratings.csv and movies.csv.

    Two moments split all requests, as `data log` does: the last 20% are the test.

    Examples:

        din-infer data movielens ml-25m/ --out data/

        din-infer data movielens ml-latest-small/ --out data/ --protocol rating
    """
    _require()
    from din_infer.commands.show import progress_bar
    from din_infer.data.public import Rated, write_movielens

    rated = Rated(protocol, liked, negatives, seed, max_history)
    with progress_bar("ratings") as progress:
        summary = write_movielens(out, source, rated, progress)
    _show(out, summary, as_json)


def recbole(
    source: Annotated[Path, typer.Argument(help="Folder with NAME.inter, NAME.item, NAME.user.", show_default=False)],
    out: Out,
    item_feature: Annotated[list[str] | None, typer.Option(help="Column of NAME.item; repeatable.")] = None,
    user_feature: Annotated[list[str] | None, typer.Option(help="Column of NAME.user; repeatable.")] = None,
    user: Annotated[str, typer.Option(help="Column of the user.")] = "user_id",
    item: Annotated[str, typer.Option(help="Column of the item.")] = "item_id",
    time: Annotated[str, typer.Option(help="Column of the time, in seconds.")] = "timestamp",
    rating: Annotated[str, typer.Option(help="Column of the rating, if there is one.")] = "rating",
    label: Annotated[str, typer.Option(help="Column of the label, 0 or 1, if there is one.")] = "label",
    protocol: Protocol = "next-item",
    liked: Liked = 4.0,
    negatives: Negatives = 4,
    seed: Seed = 0,
    max_history: MaxHistory = 200,
    as_json: AsJson = False,
) -> None:
    """A folder of RecBole's atomic files, whose interactions have a time.

    A label labels the interactions, otherwise a rating does, otherwise all are positives. Two moments split all
    requests, also those of NAME.train.inter, NAME.valid.inter and NAME.test.inter, which are read as one. Only named
    features are used.

    Examples:

        din-infer data recbole ml-1m/ --out data/ --item-feature genre --user-feature age

        din-infer data recbole ml-100k/ --out data/ --protocol rating --item-feature class

        din-infer data recbole yelp/ --out data/ --item business_id --time date --rating stars
    """
    _require()
    from din_infer.commands.show import progress_bar
    from din_infer.data.public import Fields, Rated, write_recbole

    rated = Rated(protocol, liked, negatives, seed, max_history)
    with progress_bar("interactions") as progress:
        features = tuple(item_feature or ()), tuple(user_feature or ())
        summary = write_recbole(out, source, rated, *features, Fields(user, item, time, rating, label), progress)
    _show(out, summary, as_json)


def taobao(
    source: Annotated[Path, typer.Argument(help="Folder with UserBehavior.csv.", show_default=False)],
    out: Out,
    target: Annotated[str, typer.Option(help="What to predict: pv (a click) | buy | cart | fav.")] = "pv",
    negatives: Negatives = 4,
    seed: Seed = 0,
    max_history: MaxHistory = 200,
    as_json: AsJson = False,
) -> None:
    """Taobao UserBehavior: the next click or purchase among drawn items, from all behaviours before it.

    A behaviour's kind is a feature of the history alone. Two moments split all requests.

    Examples:

        din-infer data taobao taobao/ --out data/

        din-infer data taobao taobao/ --out data/ --target buy
    """
    _require()
    from din_infer.commands.show import progress_bar
    from din_infer.data.log import Options
    from din_infer.data.public import write_taobao

    options = Options(negatives=negatives, seed=seed, max_history=max_history)
    with progress_bar("behaviours") as progress:
        summary = write_taobao(out, source, target, options, progress)
    _show(out, summary, as_json)


def amazon(
    source: Annotated[
        Path, typer.Argument(help="Folder with reviews_CATEGORY_5.json and meta_CATEGORY.json.", show_default=False)
    ],
    out: Out,
    category: Annotated[str, typer.Option(help="As in the files' names.")] = "Electronics",
    negatives: Negatives = 1,
    seed: Seed = 0,
    max_history: MaxHistory = 100,
    as_json: AsJson = False,
) -> None:
    """Amazon reviews, by the paper's protocol: each user's last review is the test, among drawn items.

    Reviews are in time order, those of one day in the file's; a history holds all before the target. The last training
    target of one user in ten validates.

    Examples:

        din-infer data amazon amazon/ --out data/

        din-infer data amazon amazon/ --out data/ --category Books
    """
    _require()
    from din_infer.commands.show import print_splits, progress_bar
    from din_infer.data.amazon import write_amazon
    from din_infer.data.sequences import Options

    with progress_bar("reviews") as progress:
        splits = write_amazon(out, source, category, Options(negatives, seed, max_history), progress)
    if as_json:
        print(json.dumps({"out": str(out), "splits": splits}))
        return
    print_splits(f"{out}: {splits[0]['dataset']}, {splits[0]['protocol']}", splits)


def _require() -> None:
    from din_infer.extras import require

    require("polars", "table")
    require("yaml", "train")


def _show(out: Path, summary: Summary, as_json: bool) -> None:
    from din_infer.commands.data_log import print_summary

    if as_json:
        print(json.dumps({"out": str(out), "splits": summary.splits, "leakage": summary.leakage}))
    else:
        print_summary(out, summary)
