"""Check a data set: one report, for the terminal and the book, on its contents and on leaks."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from cbir_lib.datasets.duplicates import (
    find_exact_duplicates,
    find_near_duplicates,
    find_subject_overlap,
)
from cbir_lib.datasets.radiographs import RadiographSet
from cbir_lib.errors import CbirError

# A few unrelated images look like copies by chance, but no more than this share of the test images.
NEAR_TOLERATED = 0.01


@dataclass(frozen=True)
class DataReport:
    """The findings of :func:`check_data`."""

    name: str
    counts: pd.DataFrame  # images per class and split
    sizes: pd.DataFrame  # width and height in pixels: minimum, median, maximum
    checksum: str
    remarks: pd.DataFrame  # on files that were converted or cannot be used, and on the splits
    dropped: pd.DataFrame  # images that rules of the study exclude
    copies: int  # images that equal an earlier one
    copies_across: pd.DataFrame  # groups of equal images in more than one split
    near: pd.DataFrame  # test and validation images with a near copy in an earlier split
    subjects: pd.DataFrame  # subjects in more than one split
    subjects_known: int

    @property
    def unusable(self) -> pd.DataFrame:
        """The files that cannot be used."""
        return self.remarks[~self.remarks["kept"].astype(bool)]

    @property
    def near_share(self) -> float:
        """Share of the test images with a near copy in train or validation; 0 if there are none."""
        images = self.counts["test"].sum()
        return float((self.near["split"] == "test").sum() / images) if images else 0.0

    @property
    def leaks(self) -> list[str]:
        """Descriptions of each way in which the splits leak; empty when none do."""
        descriptions = []
        if len(self.subjects):
            descriptions.append(f"{len(self.subjects)} subjects are in more than one split")
        if len(self.copies_across):
            descriptions.append(f"{len(self.copies_across)} images are in more than one split")
        if self.near_share > NEAR_TOLERATED:
            share = f"{100 * self.near_share:.1f} %"
            descriptions.append(
                f"{share} of the test images have a near copy in train or validation"
            )
        return descriptions

    def summarise(self) -> pd.DataFrame:
        """Tabulate the findings, one row each: ``what`` and ``found``."""
        known = f"{self.subjects_known:,} known, " if self.subjects_known else "unknown, "
        rows = {
            "images": f"{int(self.counts.to_numpy().sum()):,}",
            "files that cannot be used": f"{len(self.unusable):,}",
            "other remarks": f"{len(self.remarks) - len(self.unusable):,}",
            "left out by a rule": f"{int(self.dropped['images'].sum()):,}",
            "subjects": known + f"{len(self.subjects):,} in more than one split",
            "exact copies of another image": f"{self.copies:,}",
            "images with an exact copy in another split": f"{len(self.copies_across):,}",
            "test images with a near copy in train or validation": (
                f"{100 * self.near_share:.1f} %"
                if self.counts["test"].sum()
                else "there are no test images"
            ),
        }
        return pd.DataFrame({"what": rows.keys(), "found": rows.values()})

    def raise_faults(self) -> None:
        """Raise an error if anything is wrong.

        Raises
        ------
        CbirError
            When a split leaks or a file cannot be used.
        """
        faults, hints = list(self.leaks), []
        if faults:
            hints.append("split by subject and drop copies: with leaks, results are too good")
        if len(self.unusable):
            first = self.unusable.iloc[0]
            faults.append(
                f"{len(self.unusable)} files cannot be used, first {first['file']}: "
                f"{first['remark']}"
            )
            hints.append("replace the files, or get the set again")
        if faults:
            raise CbirError(f"{self.name}: {'; '.join(faults)}", "; ".join(hints))


def check_data(data: RadiographSet) -> DataReport:
    """Check a set: count its images, measure them, and compare them with one another."""
    groups = find_exact_duplicates(data.images)
    splits = data.records["split"].to_numpy(dtype=str)
    across = [
        {"images": ", ".join(data.image_ids[rows]), "splits": ", ".join(sorted(set(splits[rows])))}
        for rows in groups
        if len(set(splits[rows])) > 1
    ]
    records, (_, height, width) = data.records, data.images.shape
    sides = pd.DataFrame(
        {
            "width": records.get("width_px", pd.Series([width] * len(data))),
            "height": records.get("height_px", pd.Series([height] * len(data))),
        }
    )
    rules = {"rule": list(data.dropped), "images": list(data.dropped.values())}
    return DataReport(
        name=data.name,
        counts=data.counts(),
        sizes=sides.agg(["min", "median", "max"]).astype(int).rename_axis("pixels"),
        checksum=data.checksum,
        remarks=data.remarks,
        dropped=pd.DataFrame(rules).astype({"images": int}),
        copies=sum(len(rows) - 1 for rows in groups),
        copies_across=pd.DataFrame(across, columns=["images", "splits"]),
        near=find_near_duplicates(data),
        subjects=find_subject_overlap(data),
        subjects_known=records["subject_id"].replace("", pd.NA).nunique(),
    )
