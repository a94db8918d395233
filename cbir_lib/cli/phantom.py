"""The command that renders simulated radiographs."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from cbir_lib.cli.progress import counting

app = typer.Typer(help="The simulated radiographs: render them.")


@app.command("render")
def phantom_render(
    out: Annotated[Path, typer.Option(help="A new folder, or one that is not finished.")],
    count: Annotated[int | None, typer.Option(help="Number of images.")] = None,
    seed: Annotated[int | None, typer.Option(help="Another seed gives other subjects.")] = None,
    size: Annotated[int | None, typer.Option(help="Longer side in pixels.")] = None,
    change: Annotated[
        list[str] | None,
        typer.Option(
            help="What another version could change: close, window or sharpen; repeat for more."
        ),
    ] = None,
    workers: Annotated[
        int | None, typer.Option(min=1, help="Processes; the images do not depend on it.")
    ] = None,
) -> None:
    """Render a set of phantom radiographs; if it is interrupted, start it again and it continues.

    Needs the extra `phantom`. The defaults render the set that is part of the repository.

    Example: `cbir phantom render --count 1000 --seed 7 --size 256 --out my-phantom`
    """
    from cbir_lib.datasets.phantom.contents import COUNT
    from cbir_lib.datasets.phantom.generation import render_set
    from cbir_lib.datasets.phantom.recipe import SEED, SIZE_PX

    count, seed, size = (
        default if option is None else option
        for option, default in ((count, COUNT), (seed, SEED), (size, SIZE_PX))
    )
    with counting("images") as progress:
        render_set(out, count, seed, size, workers, progress, change or ())
    print(f"{count} images in {out}; use them with load('phantom', '{out}')")
