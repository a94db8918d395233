"""The results of a search as one HTML page: embedded pictures, no script, no external resource."""

from __future__ import annotations

import base64
from collections.abc import Callable, Mapping
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np

from cbir_lib.datasets.listing import read_file
from cbir_lib.images.decoding import decode

if TYPE_CHECKING:
    import pandas as pd

Picture = Callable[[str], tuple[np.ndarray | None, str]]
THUMBNAIL_PX = 192  # longer side
QUALITY = 85  # of JPEG, 0 to 100

STYLE = """
.found { --page: #fff; --text: #1b1f24; --quiet: #57606a; --line: #d0d7de;
  color: var(--text); background: var(--page); font: 15px/1.45 system-ui, sans-serif; }
@media (prefers-color-scheme: dark) {
  .found { --page: #14171b; --text: #e6e9ec; --quiet: #9aa4ae; --line: #343b43; } }
body.found { color-scheme: light dark; margin: 0 auto; max-width: 75rem; padding: 1rem; }
.found h1 { font-size: 1.4rem; margin: 0; }
.found .about { color: var(--quiet); margin: 0 0 1rem; }
.found section { border-top: 1px solid var(--line); display: grid; gap: 1rem 1.5rem;
  grid-template-columns: 14rem minmax(0, 1fr); padding: 1.25rem 0; }
.found ol { display: grid; gap: 1rem; grid-template-columns: repeat(auto-fill, minmax(9rem, 1fr));
  list-style: none; margin: 0; padding: 0; }
.found figure { margin: 0; }
.found img, .found .none { aspect-ratio: 1; background: #000; border: 1px solid var(--line);
  border-radius: 4px; box-sizing: border-box; display: block; object-fit: contain; width: 100%; }
.found .none { align-items: center; background: none; color: var(--quiet); display: flex;
  justify-content: center; padding: .5rem; text-align: center; }
.found figcaption { font-size: .85rem; overflow-wrap: anywhere; padding-top: .3rem; }
.found h2 { font-size: .85rem; margin: 0; }
.found .measure { display: flex; gap: .6rem; justify-content: space-between; }
.found .measure span { color: var(--quiet); font-variant-numeric: tabular-nums; }
@media (max-width: 40rem) {
  .found section { grid-template-columns: minmax(0, 1fr); }
  .found section > figure { align-items: center; display: grid; gap: 1rem;
    grid-template-columns: 8rem minmax(0, 1fr); }
  .found ol { gap: .75rem; grid-template-columns: repeat(auto-fill, minmax(6.5rem, 1fr)); } }
"""
# The page could not load external resources even if a name in it had slipped past the escaping.
POLICY = "default-src 'none'; img-src data:; style-src 'unsafe-inline'"


def render_page(sections: str, about: str) -> str:
    """Render an HTML page around the sections; ``about`` is a line on what was searched."""
    return f"""<!doctype html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="{POLICY}">
<title>Similar images</title>
<style>{STYLE}</style>
</head>
<body class="found">
<h1>Similar images</h1>
<p class="about">{escape(about)}</p>
{sections}
</body>
</html>
"""


def render_sections(
    results: pd.DataFrame, queries: Mapping[str, np.ndarray], picture: Picture
) -> str:
    """Render one section per query: the query and its results.

    Parameters
    ----------
    results
        As returned by :meth:`cbir_lib.archive.store.Archive.search`.
    queries
        (H, W) uint8 by name.
    picture
        Returns the image at a path of ``results``, (H, W) uint8, and a remark; None if unreadable.
    """
    answers = dict(list(results.groupby("query", sort=False)))
    return "\n".join(
        _format_section(name, image, answers.get(name, results[:0]), picture)
        for name, image in queries.items()
    )


def _format_section(name: str, image: np.ndarray, answers: pd.DataFrame, picture: Picture) -> str:
    items = "\n".join(
        f"<li><figure>{_format_picture(*picture(row.path), f'rank {row.rank}')}\n"
        f'<figcaption><div class="measure"><b>{row.rank}</b>'
        f'<span title="distance">{row.distance:.4g}</span></div>{_allow_breaks(row.path)}'
        f"</figcaption></figure></li>"
        for row in answers.itertuples()
    )
    return f"""<section>
<figure>{_embed_image(image, "query")}
<figcaption><h2>Query</h2>{_allow_breaks(name)}</figcaption></figure>
{f"<ol>{items}</ol>" if items else "<p>no other image in the archive</p>"}
</section>"""


def _allow_breaks(path: str) -> str:
    """Return a path that may be broken into lines after each of its folders."""
    return escape(path).replace("/", "/<wbr>")


def make_picture_reader(folder: Path) -> Picture:
    """Return a function that reads an image of an archive, or returns None and the reason."""

    def read(path: str) -> tuple[np.ndarray | None, str]:
        data, remark = read_file(folder / path)
        return (None, remark) if data is None else decode(data)

    return read


def _format_picture(image: np.ndarray | None, remark: str, alt: str) -> str:
    if image is None:
        return f'<div class="none">{escape(remark)}</div>'
    return _embed_image(image, alt)


def make_thumbnail(image: np.ndarray) -> np.ndarray:
    """Shrink a (H, W) uint8 image so that its longer side has at most ``THUMBNAIL_PX`` pixels."""
    scale = THUMBNAIL_PX / max(image.shape)
    if scale >= 1:
        return image
    height, width = (max(1, round(side * scale)) for side in image.shape)
    return cv2.resize(image, (width, height), interpolation=cv2.INTER_AREA)


def _embed_image(image: np.ndarray, alt: str) -> str:
    """Render a (H, W) uint8 image as an HTML element with an embedded thumbnail."""
    _, coded = cv2.imencode(".jpg", make_thumbnail(image), [cv2.IMWRITE_JPEG_QUALITY, QUALITY])
    data = base64.b64encode(coded.tobytes()).decode("ascii")
    return f'<img alt="{escape(alt)}" src="data:image/jpeg;base64,{data}">'
