"""Search the gallery of a finished run with any radiograph."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pandas as pd

from cbir_lib.datasets import load
from cbir_lib.descriptors import Descriptor
from cbir_lib.descriptors.fitted import load_descriptor
from cbir_lib.errors import CbirError
from cbir_lib.files import show_name
from cbir_lib.images.decoding import fit_to_square, read_image
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
        When the run has no gallery of its own, or the data set here is not the one it used.
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
        self.index = Index.load(folder / "index.safetensors")
        self.preprocessing, self.descriptor = _get_descriptor(folder, result)
        if not set(self.index.ids) <= set(self.data.image_ids):
            raise CbirError(
                f"the gallery of {self.run} is not from this copy of {self.data.name}",
                "run the study again",
            )

    def __len__(self) -> int:
        return len(self.index)

    def search(self, images: Sequence[Path | str], k: int | None = None) -> pd.DataFrame:
        """Rank the gallery for each image file.

        Parameters
        ----------
        k
            Results per image, 1 to the size of the gallery; by default 10, or all if fewer.

        Returns
        -------
        DataFrame
            ``query``, ``rank`` from 1, ``path`` (the image's identifier), ``class``, ``distance``;
            k rows a query.

        Raises
        ------
        CbirError
            When an image cannot be read, or k is out of range.
        """
        k = min(DEFAULT_K, len(self)) if k is None else k
        # At the size of the gallery's images before preprocessing.
        size = self.data.images.shape[1]
        queries = np.stack([fit_to_square(read_image(Path(image)), size) for image in images])
        if self.preprocessing:
            queries = self.preprocessing.transform(queries)
        ranking = self.index.search(self.descriptor.transform(queries), k)
        ids = self.index.ids[ranking.rows]  # (Q, k)
        labels = self.data.labels[pd.Index(self.data.image_ids).get_indexer(ids.ravel())]
        return pd.DataFrame(
            {
                "query": np.repeat([show_name(image) for image in images], k),
                "rank": np.tile(np.arange(1, k + 1), len(images)),
                "path": ids.ravel(),
                "class": np.array(self.data.class_names)[labels],
                "distance": ranking.distances.ravel().astype(float),
            }
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
