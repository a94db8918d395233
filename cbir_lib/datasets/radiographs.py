"""The common form of every data set: images, labels and one record per image."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
import pandas as pd

from cbir_lib.errors import CbirError, unknown_name_error

SPLITS = ("train", "validation", "test")
REMARK_TYPES = {"file": str, "remark": str, "kept": bool}  # also if there are no remarks


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
        One readable name per class.
    records
        N rows: ``image_id`` (unique), ``split`` (train, validation or test), ``subject_id`` (empty
        where the source does not say), ``irma_code`` (likewise), ``source``; where image sizes
        differed also ``width_px`` and ``height_px``, the sizes before fitting.
    remarks
        One row for each file that was converted, or is faulty and left out: ``file``, ``remark``,
        ``kept``.
    checksum
        SHA-256 over identifiers, labels and pixels of the whole source, whatever its container.
    dropped
        How many sound images each rule of the study excludes, by the description of the rule.
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
        """The identifiers of the images, (N,) str."""
        return self.records["image_id"].to_numpy(dtype=str)

    @property
    def irma_codes(self) -> np.ndarray:
        """The IRMA codes of the images, (N,) str; empty where the source has none."""
        if "irma_code" not in self.records:
            return np.full(len(self), "")
        return self.records["irma_code"].to_numpy(dtype=str)

    def take(self, rows: np.ndarray) -> RadiographSet:
        """Return the images at these rows (indices or a mask), in this order."""
        return replace(
            self,
            images=self.images[rows],
            labels=self.labels[rows],
            records=self.records.iloc[rows].reset_index(drop=True),
        )

    def split(self, name: str) -> RadiographSet:
        """Return the images of one split: train, validation or test."""
        if name not in SPLITS:
            raise unknown_name_error("split", name, SPLITS)
        return self.take(np.flatnonzero(self.records["split"] == name))

    def select_classes(self, class_names: Sequence[str]) -> RadiographSet:
        """Return the images of these classes, renumbered in this order; all if none is named.

        Raises
        ------
        CbirError
            When there is no such class.
        """
        if not class_names:
            return self
        for class_name in class_names:
            if class_name not in self.class_names:
                raise unknown_name_error("class", class_name, self.class_names)
        kept = [self.class_names.index(class_name) for class_name in class_names]
        selected = self.take(np.flatnonzero(np.isin(self.labels, kept)))
        new = np.zeros(len(self.class_names), np.int64)
        new[kept] = np.arange(len(kept))
        return replace(selected, labels=new[selected.labels], class_names=tuple(class_names))

    def sample(self, images: Mapping[str, int] | None, seed: int) -> RadiographSet:
        """Draw images of each split without replacement; classes keep their shares.

        Parameters
        ----------
        images
            Maximum number by split: ``{"train": 1500, "validation": 300, "test": 600}``. Every
            class gets at least one. ``None``: all images.
        seed
            The same seed draws the same images, whatever the order in the source.

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
            for class_name, own_rows in zip(self.class_names, of_class, strict=True):
                if len(own_rows) == 0:
                    raise CbirError(
                        f"class {class_name!r} of {self.name} has no image in split {split!r}",
                        "use the whole data set, or a source with more images per class",
                    )
            if images[split] < len(of_class):
                raise CbirError(
                    f"{images[split]} images of split {split!r} are fewer than the classes",
                    f"take {len(of_class)} or more",
                )
            available = [len(own_rows) for own_rows in of_class]
            wanted = apportion(min(images[split], sum(available)), available)
            for number, own_rows in zip(wanted, of_class, strict=True):
                rows.append(rng.permutation(own_rows)[:number])
        return self.take(np.sort(np.concatenate(rows)))

    def counts(self) -> pd.DataFrame:
        """Count images per class (rows) and split (columns)."""
        names = pd.Categorical.from_codes(self.labels, categories=list(self.class_names))
        splits = pd.Categorical(self.records["split"], categories=list(SPLITS))
        return pd.crosstab(names, splits, rownames=["class"], colnames=["split"], dropna=False)


def apportion(total: int, counts: Sequence[int]) -> list[int]:
    """Divide ``total`` in proportion to ``counts``, by largest remainder; at least one each.

    >>> apportion(10, [700, 290, 1])
    [7, 2, 1]
    """
    counts = np.asarray(counts)
    exact = total * counts / counts.sum()
    shares = np.maximum(np.floor(exact).astype(int), 1)
    while shares.sum() != total:  # adjust the one that is furthest from its exact share
        step = 1 if shares.sum() < total else -1
        lacking = np.where((step < 0) & (shares == 1), np.inf, step * (shares - exact))
        shares[lacking.argmin()] += step
    return shares.tolist()


def build_set(
    name: str,
    class_names: Sequence[str],
    images: Sequence[np.ndarray],
    records: pd.DataFrame,
    remarks: Iterable[tuple[str, str, bool]] = (),
    dropped: Mapping[str, int] | None = None,
    *,
    hint: str,
) -> RadiographSet:
    """Build a set from the images and records that a source has read.

    Parameters
    ----------
    images
        N arrays (H, W) uint8 of one size.
    records
        N rows as in :class:`RadiographSet`, and ``label``; ``source`` is added.
    hint
        The hint of the error if a class has no image.

    Raises
    ------
    CbirError
        When a class has no image, or two images have one identifier.
    """
    labels, remarks = records["label"].to_numpy(dtype=np.int64), list(remarks)
    if (twice := records["image_id"].duplicated()).any():
        raise CbirError(
            f"{name} has two images called {records['image_id'][twice].iloc[0]}",
            "remove or rename one of the two",
        )
    for label, class_name in enumerate(class_names):
        if label not in labels:
            faults = [f"{file}: {remark}" for file, remark, usable in remarks if not usable]
            what = f"class {class_name!r} of {name} has no readable image"
            if faults:
                what += f"; {len(faults)} files cannot be used, first {faults[0]}"
            if dropped:
                what += f"; left out: {', '.join(f'{n} {rule}' for rule, n in dropped.items())}"
            raise CbirError(what, hint)
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
        remarks=pd.DataFrame(remarks, columns=list(REMARK_TYPES)).astype(REMARK_TYPES),
        checksum=digest.hexdigest(),
        dropped=dict(dropped or {}),
    )
