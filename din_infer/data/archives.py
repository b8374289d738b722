"""Data sets that their owners publish and that this package may not ship: what to download, and where to put it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from din_infer.data.splits import PARTS
from din_infer.errors import DataError


@dataclass(frozen=True)
class Archive:
    """A published data set; `files` are the names that its folder must hold, `page` tells where they come from."""

    name: str
    files: tuple[str, ...]
    page: str
    note: str = ""

    def find(self, folder: Path) -> list[Path]:
        """The files' paths, each perhaps with `.gz` behind its name. Raises DataError that says what to download."""
        found = []
        for name in self.files:
            there = [path for path in (folder / name, folder / f"{name}.gz") if path.is_file()]
            if not there:
                got = "no such folder" if not folder.is_dir() else "none"
                raise DataError(
                    f"{folder / name}: expected a file of {self.name}, got {got}; download it from {self.page}"
                    f" and put {' and '.join(self.files)} into {folder}{'; ' if self.note else ''}{self.note}"
                )
            found.append(there[0])
        return found


MOVIELENS = Archive(
    "MovieLens",
    ("ratings.csv", "movies.csv"),
    "https://grouplens.org/datasets/movielens/ (ml-latest-small.zip, ml-20m.zip, ml-25m.zip, ml-32m.zip)",
    "`din-infer data ml-100k` needs no download",
)
TAOBAO = Archive("Taobao UserBehavior", ("UserBehavior.csv",), "https://tianchi.aliyun.com/dataset/649")


def amazon(category: str) -> Archive:
    return Archive(
        f"Amazon reviews, {category}",
        (f"reviews_{category}_5.json", f"meta_{category}.json"),
        "https://cseweb.ucsd.edu/~jmcauley/datasets/amazon/links.html (5-core reviews, and metadata)",
        "they may stay compressed, as .gz",
    )


def recbole(folder: Path) -> tuple[Path, list[Path]]:
    """FOLDER/NAME, and the `.inter` files of RecBole's atomic files: NAME.inter or, without it, its parts.

    Parts are NAME.train.inter, NAME.valid.inter and NAME.test.inter. Raises DataError for another number of names than
    one.
    """
    found = sorted(path for path in folder.glob("*.inter") if not path.name.startswith("."))
    found.sort(key=lambda path: ("", *PARTS).index(_name_and_part(path)[1]))
    names = {_name_and_part(path)[0] for path in found}
    if len(names) != 1:
        got = ", ".join(path.name for path in found) or ("none" if folder.is_dir() else "no such folder")
        raise DataError(
            f"{folder}: expected one file NAME.inter, and NAME.item and NAME.user where there are any, got {got};"
            " download a data set from https://recbole.io/dataset_list.html and unpack it there"
        )
    name = names.pop()
    return folder / name, [path for path in found if path.stem == name] or found


def _name_and_part(path: Path) -> tuple[str, str]:
    name, _, part = path.stem.rpartition(".")
    return (name, part) if name and part in PARTS else (path.stem, "")
