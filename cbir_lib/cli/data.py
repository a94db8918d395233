"""The commands that list, fetch and check the data sets."""

from __future__ import annotations

from typing import Annotated

import typer

from cbir_lib import paths
from cbir_lib.cli.options import DataName, DataRoot
from cbir_lib.errors import CbirError

app = typer.Typer(help="The data sets: list, fetch, check.")

LONGEST_TABLE = 20  # rows shown


@app.command("list")
def data_list() -> None:
    """List the data sets, and where each is on this machine.

    Example: `cbir data list`
    """
    from cbir_lib.datasets import SOURCES

    for name, source in SOURCES.items():
        try:
            place = f"at {source.locate()}"
        except CbirError:
            place = f"not here; cbir data fetch {name}" if source.URL else "not here"
        print(f"{name:10} {source.TITLE}\n{'':10} {source.CREDIT}\n{'':10} {place}")


@app.command("fetch")
def data_fetch(
    name: DataName,
    url: Annotated[str | None, typer.Option(help="A mirror of the archive.")] = None,
) -> None:
    """Download a data set into `data/` and check it.

    Example: `cbir data fetch mednist`
    """
    from cbir_lib.datasets import get_source

    module = get_source(name)
    archive = module.fetch(paths.data_folder(name), url or module.URL)
    print(f"{archive}: the checksum is correct")


@app.command("check")
def data_check(name: DataName, data_root: DataRoot = None) -> None:
    """Read every image of a data set; report counts, sizes, faulty files, and leakage.

    A split leaks if a subject or an exact copy is in two splits, or if more than 1 % of the test
    images have a near copy in train or validation. If so, or if a file is faulty, the exit code
    is 2.

    Examples: `cbir data check phantom`, `cbir data check folder --data-root ~/radiographs`
    """
    from cbir_lib.datasets import load
    from cbir_lib.datasets.checking import check_data

    report = check_data(load(name, data_root))
    tables = {
        "": report.summarise(),
        "images per class and split": report.counts.reset_index(),
        "size in pixels": report.sizes.reset_index(),
        "left out by a rule": report.dropped,
        "faulty files": report.unusable[["file", "remark"]],
        "other remarks": report.remarks.drop(report.unusable.index)
        .groupby("remark", sort=False)["file"]
        .agg(on="size", first="first")
        .reset_index(),
        "subjects in more than one split": report.subjects.reset_index(),
        "exact copies across splits": report.copies_across,
        "near copies across splits": report.near,
    }
    for title, table in tables.items():
        if len(table):
            print(f"\n{title}" if title else name)
            print(table.head(LONGEST_TABLE).to_string(index=False))
            if len(table) > LONGEST_TABLE:
                print(f"... and {len(table) - LONGEST_TABLE:,} more")
    print(f"\nSHA-256 of identifiers, labels and pixels: {report.checksum}")
    report.raise_faults()
