"""What a data set holds, and whether its splits leak: one report, for the terminal and the book."""

from __future__ import annotations

from dataclasses import dataclass

import pandas as pd

from cbir_lib.datasets.duplicates import exact, near_duplicates, subject_overlap
from cbir_lib.datasets.radiographs import RadiographSet
from cbir_lib.errors import CbirError

# By chance a few unrelated images look like copies; more than this share of the test is no chance.
NEAR_TOLERATED = 0.01


@dataclass(frozen=True)
class Report:
    """The findings of :func:`check`."""

    name: str
    counts: pd.DataFrame  # images per class and split
    sizes: pd.DataFrame  # width and height in pixels: least, median, most
    checksum: str
    remarks: pd.DataFrame  # files converted, or at fault and left out
    dropped: pd.DataFrame  # images that rules of the study leave out
    copies: int  # images that equal an earlier one
    copies_across: pd.DataFrame  # groups of equal images that lie in more than one split
    near: pd.DataFrame  # test and validation images with a near copy in an earlier split
    subjects: pd.DataFrame  # subjects in more than one split
    subjects_known: int

    @property
    def lost(self) -> pd.DataFrame:
        """The files that are at fault and left out."""
        return self.remarks[~self.remarks["kept"].astype(bool)]

    @property
    def near_share(self) -> float:
        """Share of the test images with a near copy in train or validation; 0 where are none."""
        images = self.counts["test"].sum()
        return float((self.near["split"] == "test").sum() / images) if images else 0.0

    @property
    def leaks(self) -> list[str]:
        """Each way in which a split leaks, in words; empty when none does."""
        found = []
        if len(self.subjects):
            found.append(f"{len(self.subjects)} subjects are in more than one split")
        if len(self.copies_across):
            found.append(f"{len(self.copies_across)} images are in more than one split")
        if self.near_share > NEAR_TOLERATED:
            share = f"{100 * self.near_share:.1f} %"
            found.append(f"{share} of the test images have a near copy in train or validation")
        return found

    def summary(self) -> pd.DataFrame:
        """One line a finding: ``what`` and ``found``."""
        known = f"{self.subjects_known:,} known, " if self.subjects_known else "unknown, "
        rows = {
            "images": f"{int(self.counts.to_numpy().sum()):,}",
            "files that cannot be used": f"{len(self.lost):,}",
            "files converted": f"{len(self.remarks) - len(self.lost):,}",
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
        """Raise what is wrong, if anything.

        Raises
        ------
        CbirError
            When a split leaks or a file cannot be used.
        """
        faults, hints = list(self.leaks), []
        if faults:
            hints.append("split by subject and drop copies: results are too good as it is")
        if len(self.lost):
            first = self.lost.iloc[0]
            faults.append(
                f"{len(self.lost)} files cannot be used, first {first['file']}: {first['remark']}"
            )
            hints.append("replace the files, or get the set again")
        if faults:
            raise CbirError(f"{self.name}: {'; '.join(faults)}", "; ".join(hints))


def check(data: RadiographSet) -> Report:
    """Count, measure and compare all images of a set."""
    groups = exact(data.images)
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
    return Report(
        name=data.name,
        counts=data.counts(),
        sizes=sides.agg(["min", "median", "max"]).astype(int).rename_axis("pixels"),
        checksum=data.checksum,
        remarks=data.remarks,
        dropped=pd.DataFrame(rules).astype({"images": int}),
        copies=sum(len(rows) - 1 for rows in groups),
        copies_across=pd.DataFrame(across, columns=["images", "splits"]),
        near=near_duplicates(data),
        subjects=subject_overlap(data),
        subjects_known=records["subject_id"].replace("", pd.NA).nunique(),
    )
