"""What every data set becomes: images, labels and one record an image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from cbir_lib.errors import CbirError, unknown

SPLITS = ("train", "validation", "test")
REMARK_TYPES = {"file": str, "remark": str, "kept": bool}  # also where there is no remark


@dataclass(frozen=True)
class RadiographSet:
    """Radiographs of one source, with the class and the split of each.

    Attributes
    ----------
    name
        Name of the source, as given to :func:`cbir_lib.load`.
    images : (N, H, W) uint8
        Grey values, 0 black to 255 white. May be a read-only memory map.
    labels : (N,) int64
        Index into ``class_names``.
    class_names
        One readable name a class.
    records
        N rows: ``image_id`` (unique), ``split`` (train, validation or test), ``subject_id`` (empty
        where the source does not say), ``irma_code`` (empty likewise), ``source``; where images
        had differing sizes also ``width_px`` and ``height_px``, before they were fitted.
    remarks
        One row for each file that was converted or is at fault and left out: ``file``, ``remark``,
        ``kept``.
    checksum
        SHA-256 over identifiers, labels and pixels of the whole source, whatever its container.
    dropped
        How many sound images each rule of the study leaves out, by the rule in words.
    """

    name: str
    images: np.ndarray
    labels: np.ndarray
    class_names: tuple[str, ...]
    records: pd.DataFrame
    remarks: pd.DataFrame
    checksum: str
    dropped: Mapping[str, int] = field(default_factory=dict)

    def __post_init__(self):
        if not len(self.images) == len(self.labels) == len(self.records):
            raise ValueError(
                f"{len(self.images)} images, {len(self.labels)} labels, {len(self.records)} records"
            )

    def __len__(self) -> int:
        return len(self.labels)

    @property
    def image_ids(self) -> np.ndarray:
        """(N,) str: the identifiers of the images."""
        return self.records["image_id"].to_numpy(dtype=str)

    def take(self, rows: np.ndarray) -> RadiographSet:
        """The images at these rows (indices or a mask), in this order."""
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            records=self.records.iloc[rows].reset_index(drop=True),
        )

    def split(self, name: str) -> RadiographSet:
        """The images of one split: train, validation or test."""
        if name not in SPLITS:
            raise unknown("split", name, SPLITS)
        return self.take(np.flatnonzero(self.records["split"] == name))

    def only(self, class_names: Sequence[str]) -> RadiographSet:
        """The images of these classes, in their order; all of them where none is named.

        Raises
        ------
        CbirError
            When there is no such class.
        """
        if not class_names:
            return self
        for class_name in class_names:
            if class_name not in self.class_names:
                raise unknown("class", class_name, self.class_names)
        kept = [self.class_names.index(class_name) for class_name in class_names]
        found = self.take(np.flatnonzero(np.isin(self.labels, kept)))
        new = np.zeros(len(self.class_names), np.int64)
        new[kept] = np.arange(len(kept))
        return replace(found, labels=new[found.labels], class_names=tuple(class_names))

    def sample(self, images: Mapping[str, int] | None, seed: int) -> RadiographSet:
        """At most so many images of each split, without replacement; classes keep their share.

        Parameters
        ----------
        images
            How many, by split: ``{"train": 1500, "validation": 300, "test": 600}``. Every class
            gets one at least. ``None``: all.
        seed
            The same seed draws the same images, in whatever order the source lists them.

        Raises
        ------
        CbirError
            When a class has no image in a split, or there are more classes than images wanted.
        """
        if images is None:
            return self
        rng = np.random.default_rng(seed)
        order = np.argsort(self.image_ids, kind="stable")
        splits = self.records["split"].to_numpy(dtype=str)
        rows = []
        for split in SPLITS:
            of_class = [
                order[(splits[order] == split) & (self.labels[order] == label)]
                for label in range(len(self.class_names))
            ]
            for class_name, found in zip(self.class_names, of_class, strict=True):
                if len(found) == 0:
                    raise CbirError(
                        f"class {class_name!r} of {self.name} has no image in split {split!r}",
                        "use the whole data set, or a source with more images a class",
                    )
            if images[split] < len(of_class):
                raise CbirError(
                    f"{images[split]} images of split {split!r} are fewer than the classes",
                    f"take {len(of_class)} or more",
                )
            there = [len(found) for found in of_class]
            wanted = in_proportion(min(images[split], sum(there)), there)
            for number, found in zip(wanted, of_class, strict=True):
                rows.append(rng.permutation(found)[:number])
        return self.take(np.sort(np.concatenate(rows)))

    def exact_copies(self) -> tuple[int, int]:
        """How many images equal an earlier one pixel by pixel, and how many across splits."""
        content = pd.Series([hash(image.tobytes()) for image in self.images])
        splits_of = self.records["split"].groupby(content).nunique()
        return int(content.duplicated().sum()), int((splits_of - 1).sum())

    def counts(self) -> pd.DataFrame:
        """Images per class (rows) and split (columns)."""
        names = pd.Categorical.from_codes(self.labels, categories=list(self.class_names))
        splits = pd.Categorical(self.records["split"], categories=list(SPLITS))
        return pd.crosstab(names, splits, rownames=["class"], colnames=["split"], dropna=False)


def in_proportion(total: int, counts: Sequence[int]) -> list[int]:
    """``total`` shared out like ``counts``, by largest remainder; one each at least."""
    counts = np.asarray(counts)
    exact = total * counts / counts.sum()
    found = np.maximum(np.floor(exact).astype(int), 1)
    while found.sum() != total:  # one up where most is lacking, or down where most is too much
        step = 1 if found.sum() < total else -1
        lacking = np.where((step < 0) & (found == 1), np.inf, step * (found - exact))
        found[lacking.argmin()] += step
    return found.tolist()


def gather(
    name: str,
    class_names: Sequence[str],
    images: Sequence[np.ndarray],
    records: pd.DataFrame,
    remarks: Iterable[tuple[str, str, bool]] = (),
    dropped: Mapping[str, int] | None = None,
    *,
    mend: str,
) -> RadiographSet:
    """Make a set of what a source read, image by image.

    Parameters
    ----------
    images
        N arrays (H, W) uint8 of one size.
    records
        N rows as in :class:`RadiographSet`, and ``label``; ``source`` is added.
    mend
        The hint, should a class have no image.

    Raises
    ------
    CbirError
        When a class has no image.
    """
    labels = records["label"].to_numpy(dtype=np.int64)
    for label, class_name in enumerate(class_names):
        if label not in labels:
            raise CbirError(f"class {class_name!r} of {name} has no readable image", mend)
    pixels = np.stack(images)
    digest = hashlib.sha256("\n".join(records["image_id"]).encode())
    digest.update(labels.tobytes())
    digest.update(pixels.data)
    return RadiographSet(
        name=name,
        images=pixels,
        labels=labels,
        class_names=tuple(class_names),
        records=records.drop(columns="label").assign(source=name).reset_index(drop=True),
        remarks=pd.DataFrame(list(remarks), columns=list(REMARK_TYPES)).astype(REMARK_TYPES),
        checksum=digest.hexdigest(),
        dropped=dict(dropped or {}),
    )
