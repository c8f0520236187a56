"""The list of public X-rays for training and tests: where each file is published, without pixels.

sources.csv.gz lists repository, path and commit on GitHub, with class, split and licence; patients have the names
that the public data sets give them. The shipped model was trained on `dev` of the first 6,613 rows; the rows
after them were added later. A user who has fetched the repositories into a folder as <owner>/<name>/... gets a
manifest of the files found and a list of the files missing.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd

LIST = Path(__file__).parent / "sources.csv.gz"


def read_sources() -> pd.DataFrame:
    """Columns class, subpart, split, dataset, repo, path, commit, licence, patient, age; all text."""
    import pandas as pd

    return pd.read_csv(LIST, dtype=str, keep_default_na=False)


def find_sources(folder: Path) -> tuple[pd.DataFrame, pd.DataFrame]:
    """(found, missing) rows of the list; found ones have a column file, absolute.

    folder: contains each repository as <owner>/<name>. The commit of a file that exists
    is not checked.
    """
    rows = read_sources()
    folder = folder.resolve()
    rows["file"] = [str(folder / repo / path) for repo, path in zip(rows["repo"], rows["path"])]
    there = rows["file"].map(lambda name: Path(name).is_file()).astype(bool)
    return rows[there].reset_index(drop=True), rows[~there].drop(columns="file").reset_index(drop=True)


def how_to_fetch(missing: pd.DataFrame, folder: Path) -> list[str]:
    """One line a repository: the number of missing files and the commands that fetch them."""
    lines = []
    for (repo, commit), rows in missing.groupby(["repo", "commit"]):
        place = folder / str(repo)
        lines.append(
            f"{len(rows)} of {repo}: git clone --filter=blob:none --no-checkout https://github.com/{repo} {place} "
            f"&& git -C {place} checkout {commit}"
        )
    return lines
