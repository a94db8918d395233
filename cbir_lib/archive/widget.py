"""A widget to search an archive from a notebook: choose an image, see the most similar ones."""

from __future__ import annotations

from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

from cbir_lib.archive import page
from cbir_lib.archive.store import DEFAULT_K, Archive
from cbir_lib.errors import CbirError, collecting_warnings
from cbir_lib.files import expand
from cbir_lib.images.decoding import decode

if TYPE_CHECKING:
    from ipywidgets import VBox


def search_widget(archive: Archive | Path | str, folder: Path | str | None = None) -> VBox:
    """Create a widget that takes an image and shows the most similar ones as pictures.

    The image is uploaded or given by its path; a slider sets the number of results.

    Parameters
    ----------
    archive, folder
        As for :class:`cbir_lib.archive.store.Archive`. Nothing leaves the machine that the notebook
        runs on.

    Raises
    ------
    CbirError
        When the archive is missing or empty, or ipywidgets is missing.
    """
    try:
        import ipywidgets
    except ImportError as error:
        raise CbirError("ipywidgets is missing", 'pip install "cbir_lib[book]"') from error
    from cbir_lib.images.decoding import read_image

    archive = archive if isinstance(archive, Archive) else Archive(archive, folder)
    if not len(archive):
        raise CbirError(f"the archive {archive.place} has no images", "build it first")
    upload = ipywidgets.FileUpload(description="Image", multiple=False)
    path = ipywidgets.Text(placeholder="or the path of a file", continuous_update=False)
    most = min(100, len(archive))
    number = ipywidgets.IntSlider(
        min(DEFAULT_K, most), min=1, max=most, description="Results", continuous_update=False
    )
    results = ipywidgets.HTML()
    shown: dict = {}  # the query by its name

    def choose(change) -> None:
        shown.clear()
        try:
            if change.owner is upload and upload.value:
                file = upload.value[-1]
                image, remark = decode(bytes(file.content))
                if image is None:
                    raise CbirError(f"cannot read {file.name}: {remark}", "choose an image file")
                shown[file.name] = image
            elif change.owner is path and path.value.strip():
                file = expand(path.value.strip())
                shown[str(file)] = read_image(file)
        except CbirError as error:
            show(error)
        else:
            search()

    def search(_=None) -> None:
        if not shown:
            results.value = ""
            return
        try:
            with collecting_warnings() as warned:
                results_table = archive.search(shown.values(), number.value, names=list(shown))
        except CbirError as error:
            show(error)
            return
        parts = "".join(f"<p>{escape(text)}</p>" for text in warned)
        picture = page.make_picture_reader(archive.folder)
        parts += page.render_sections(results_table, shown, picture)
        results.value = f'<style>{page.STYLE}</style><div class="found">{parts}</div>'

    def show(error: CbirError) -> None:
        results.value = f"<pre>{escape(str(error))}</pre>"

    upload.observe(choose, "value")
    path.observe(choose, "value")
    number.observe(search, "value")
    return ipywidgets.VBox([ipywidgets.HBox([upload, path, number]), results])
