"""Search the gallery of a finished run with any radiograph."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cbir_lib.archive.store import read_queries
from cbir_lib.datasets import load
from cbir_lib.datasets.splits import hash_pixels
from cbir_lib.descriptors import Descriptor
from cbir_lib.descriptors.fitted import load_descriptor
from cbir_lib.errors import CbirError
from cbir_lib.images.decoding import fit_to_square
from cbir_lib.images.preprocessing import Preprocessing
from cbir_lib.retrieval.index import Index
from cbir_lib.study import results

DEFAULT_K = 10


class RunGallery:
    """The training images of a run, described by its network or descriptor, for searching.

    Parameters
    ----------
    folder
        The output of the run: ``build/<profile>/runs/<run>``.

    Raises
    ------
    CbirError
        When the run has no gallery of its own or only its numbers are here, or the data set here
        is not the one it used.
    """

    def __init__(self, folder: Path):
        result = results.read(folder / "result.json")
        if members := result.parameters.get("members"):
            raise CbirError(
                f"{result.run} has no gallery of its own",
                f"search with one of its members: {', '.join(members)}",
            )
        self.run = result.run
        self.data = load(result.data.dataset)
        file = "model.safetensors" if "network" in result.parameters else "descriptor.safetensors"
        for needed in (file, "index.safetensors"):
            if not (folder / needed).exists():
                raise CbirError(
                    f"{folder} has no {needed}: published results are numbers alone",
                    f"run it first: cbir study --run {self.run}",
                )
        described = results.name_gallery(self.run, folder / file)
        self.index = Index.load(folder / "index.safetensors", described)
        self.preprocessing, self.descriptor = _get_descriptor(folder, result)
        rows = pd.Index(self.data.image_ids).get_indexer(self.index.ids)
        if (rows < 0).any():
            raise CbirError(
                f"the gallery of {self.run} is not from this copy of {self.data.name}",
                "run the study again",
            )
        self.labels = self.data.labels[rows]  # of the gallery
        # A query must not find what has its pixels.
        contents = [hash_pixels(self.data.images[row]).hex() for row in rows]
        self.index.subjects = np.array(contents)

    def __len__(self) -> int:
        return len(self.index)

    def search(
        self,
        images: Iterable[Path | str | np.ndarray],
        k: int | None = None,
        names: Sequence[str] | None = None,
    ) -> pd.DataFrame:
        """Find the images of the gallery most similar to each of some images.

        Parameters
        ----------
        images
            Files, or (H, W) uint8 arrays, read and made small one by one. An image does not find
            images with exactly its pixels, compared at the size of the data set.
        k
            Results per query, 1 to the size of the gallery; by default 10, or all if fewer.
        names
            Of the queries; by default their paths, or "image 1" for an array.

        Returns
        -------
        DataFrame
            ``query`` (its name), ``rank`` from 1, ``path`` (the image's identifier), ``class``,
            ``distance``; k rows per query, or fewer if there are no more.

        Raises
        ------
        CbirError
            When a query cannot be read, or k is out of range.
        """
        columns = ["query", "rank", "path", "class", "distance"]
        # At the size of the gallery's images before preprocessing.
        size = self.data.images.shape[1]
        queries = read_queries(images, names)
        names, fitted = [], []
        for name, pixels in queries:
            names.append(name)
            fitted.append(fit_to_square(pixels, size))
        if not names:
            return pd.DataFrame(columns=columns)
        k = min(DEFAULT_K, len(self)) if k is None else k
        fitted = np.stack(fitted)
        contents = [hash_pixels(image).hex() for image in fitted]
        prepared = self.preprocessing.transform(fitted) if self.preprocessing else fitted
        ranking = self.index.search(self.descriptor.transform(prepared), k, subjects=contents)
        return pd.DataFrame(
            [
                (name, rank, self.index.ids[row], self.data.class_names[self.labels[row]], distance)
                for name, rows, distances in zip(
                    names, ranking.rows, ranking.distances.astype(float), strict=True
                )
                for rank, (row, distance) in enumerate(zip(rows, distances, strict=True), start=1)
                if row >= 0
            ],
            columns=columns,
        )

    def read_picture(self, image_id: str) -> tuple[np.ndarray, str]:
        """Return an image of the gallery, (H, W) uint8, and an empty remark."""
        return self.data.images[pd.Index(self.data.image_ids).get_loc(image_id)], ""


def _get_descriptor(
    folder: Path, result: results.Result
) -> tuple[Preprocessing | None, Descriptor]:
    """Return the preprocessing of a run, if it is separate, and its descriptor."""
    if "network" in result.parameters:
        from cbir_lib.descriptors.learned import LearnedDescriptor

        return None, LearnedDescriptor.from_file(folder / "model.safetensors")
    preprocessing = Preprocessing(result.parameters["size"], result.parameters["clahe"])
    return preprocessing, load_descriptor(folder / "descriptor.safetensors")
