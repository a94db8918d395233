import numpy as np
import pandas as pd
import pytest

from cbir_lib.datasets.checking import NEAR_TOLERATED, check_data
from cbir_lib.datasets.radiographs import REMARK_TYPES, RadiographSet
from cbir_lib.errors import CbirError

SPLITS = ["train"] * 6 + ["validation"] * 2 + ["test"] * 4
CLASS_NAMES = ("hand", "foot")


def images(seed=0):
    """Twelve images of noise: no two alike."""
    return np.random.default_rng(seed).integers(0, 256, (12, 32, 32), dtype=np.uint8)


def radiographs(pixels=None, subjects=None, remarks=(), dropped=None, **sides):
    records = pd.DataFrame(
        {
            "image_id": [f"i{n:02}" for n in range(12)],
            "split": SPLITS,
            "subject_id": subjects or [""] * 12,
            **sides,
        }
    )
    return RadiographSet(
        name="toy",
        images=images() if pixels is None else pixels,
        labels=np.arange(12) % 2,
        class_names=CLASS_NAMES,
        records=records,
        remarks=pd.DataFrame(list(remarks), columns=list(REMARK_TYPES)).astype(REMARK_TYPES),
        checksum="",
        dropped=dropped or {},
    )


def found(report):
    return report.summarise().set_index("what")["found"]


def test_a_sound_set_has_no_leak():
    report = check_data(radiographs(subjects=[f"{split}-{n}" for n, split in enumerate(SPLITS)]))
    assert report.leaks == [] and report.near_share == 0 and report.copies == 0
    assert found(report)["images"] == "12"
    assert found(report)["subjects"] == "12 known, 0 in more than one split"
    assert report.counts.to_numpy().tolist() == [[3, 1, 2], [3, 1, 2]]
    report.raise_faults()


def test_a_subject_in_two_splits_leaks():
    subjects = [f"p{n}" for n in range(12)]
    subjects[8] = "p0"  # an image of the test, a subject of train
    report = check_data(radiographs(subjects=subjects))
    assert report.leaks == ["1 subjects are in more than one split"]
    assert report.subjects.index.tolist() == ["p0"]
    with pytest.raises(CbirError, match="toy: 1 subjects are in more than one split"):
        report.raise_faults()


def test_a_copy_across_splits_leaks_and_one_within_does_not():
    pixels = images()
    pixels[1] = pixels[0]
    within = check_data(radiographs(pixels))
    assert within.copies == 1 and within.leaks == []
    pixels[9] = pixels[0]
    across = check_data(radiographs(pixels))
    assert across.copies == 2
    assert across.copies_across.to_dict("list") == {
        "images": ["i00, i01, i09"],
        "splits": ["test, train"],
    }
    assert "1 images are in more than one split" in across.leaks


def test_a_near_copy_of_a_test_image_leaks():
    pixels = images()
    smooth = np.kron(pixels[0, ::8, ::8], np.ones((8, 8), np.uint8))  # shades of one image
    pixels[0], pixels[9] = smooth, np.clip(smooth.astype(int) + 1, 0, 255)
    report = check_data(radiographs(pixels))
    assert report.copies == 0
    assert report.near[["image_id", "other_id"]].to_numpy().tolist() == [["i09", "i00"]]
    assert report.near_share == 1 / 4 > NEAR_TOLERATED
    assert report.leaks == ["25.0 % of the test images have a near copy in train or validation"]


def test_near_copies_within_the_tolerance_are_let_pass(monkeypatch):
    monkeypatch.setattr("cbir_lib.datasets.checking.NEAR_TOLERATED", 0.25)
    pixels = images()
    pixels[9] = pixels[0]
    pixels[9, 0, 0] ^= 1
    report = check_data(radiographs(pixels))
    assert report.near_share == 0.25 and report.leaks == []


def test_files_at_fault_are_named():
    remarks = [("a.png", "damaged", False), ("b.png", "RGB, converted to grey", True)]
    report = check_data(radiographs(remarks=remarks))
    assert found(report)["files that cannot be used"] == "1"
    assert found(report)["other remarks"] == "1"
    with pytest.raises(CbirError, match=r"toy: 1 files cannot be used, first a\.png: damaged"):
        report.raise_faults()


def test_sizes_and_rules():
    report = check_data(
        radiographs(
            dropped={"several regions": 3, "no region": 4},
            width_px=range(10, 22),
            height_px=[100] * 12,
        )
    )
    assert report.sizes.to_dict("list") == {"width": [10, 15, 21], "height": [100, 100, 100]}
    assert report.dropped.to_dict("list") == {
        "rule": ["several regions", "no region"],
        "images": [3, 4],
    }
    assert found(report)["left out by a rule"] == "7"
    assert check_data(radiographs()).sizes.to_numpy().tolist() == [[32, 32]] * 3


@pytest.mark.parametrize("left", [["train"], ["train", "validation"], ["validation"], ["test"]])
def test_a_set_without_a_split_is_counted_and_has_no_share(left):
    data = radiographs()
    some = data.take(np.flatnonzero(data.records["split"].isin(left)))
    report = check_data(some)
    assert report.near_share == 0 and report.leaks == []
    share = found(report)["test images with a near copy in train or validation"]
    assert share == ("0.0 %" if "test" in left else "there are no test images")
    assert "nan" not in report.summarise().to_string()
    report.raise_faults()
