"""The phantom as a data set: its plan, drawing one, its papers, reading it, the embedded one."""

import hashlib
import io
import json
import shutil
import sys
from collections import Counter
from fractions import Fraction
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import mlcroissant
import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from filelock import FileLock
from PIL import Image
from scipy.stats import chi2_contingency, chisquare

import cbir_lib
from cbir_lib import irma_code, paths
from cbir_lib.datasets import phantom
from cbir_lib.datasets.phantom import card, contents, generation, recipe
from cbir_lib.datasets.phantom.parameters import Exposure, Subject
from cbir_lib.datasets.phantom.skeleton import load_skeleton
from cbir_lib.datasets.phantom.views import VIEWS
from cbir_lib.datasets.radiographs import SPLITS
from cbir_lib.errors import CbirError
from cbir_lib.files import compute_file_checksum, remove_own

EMBEDDED = Path(__file__).resolve().parents[2] / "data" / "phantom"
embedded = pytest.mark.skipif(
    not (EMBEDDED / "SHA256SUMS").is_file(), reason="the embedded set is not in this checkout"
)
COUNT, SEED, SIZE = 200, 5, 32
LARGEST_SET = 45_000_000  # bytes
HIGHEST_ACCURACY = 95  # per cent, of one nearest neighbour


def assert_mendable(error):
    assert error.what and "\n" not in error.what
    assert error.hint and "\n" not in error.hint


# The plan


def by_largest_remainder(total, weights):
    exact = [Fraction(total * weight, sum(weights)) for weight in weights]
    counts = [value.numerator // value.denominator for value in exact]
    rests = sorted(range(len(exact)), key=lambda i: counts[i] - exact[i])
    for i in rests[: total - sum(counts)]:
        counts[i] += 1
    return counts


def counted(planned):
    table = Counter((p.split, VIEWS[p.view].region) for p in planned)
    return {split: [table[split, name] for name in contents.TRAIN] for split in SPLITS}


def test_the_whole_set_has_irmas_sizes_and_proportions():
    planned = recipe.plan_images()
    counts = counted(planned)
    assert {split: sum(numbers) for split, numbers in counts.items()} == {
        "train": 12677 - 1268,
        "validation": 1268,
        "test": 1733,
    }
    train, test = list(contents.TRAIN.values()), list(contents.TEST.values())
    assert counts["train"] == by_largest_remainder(11409, train) == [1211, 1434, 1981, 4692, 2091]
    assert counts["validation"] == by_largest_remainder(1268, train) == [135, 159, 220, 522, 232]
    assert counts["test"] == by_largest_remainder(1733, test) == [165, 247, 692, 108, 521]


def test_the_sizes_that_the_source_names_are_those_of_the_plan():
    assert Counter(VIEWS[p.view].region for p in recipe.plan_images()) == phantom.CLASSES


@pytest.mark.parametrize("count", [200, 201, 333, 1000, 5000])
def test_every_class_is_in_every_split(count):
    counts = counted(recipe.plan_images(count, 1))
    assert sum(map(sum, counts.values())) == count
    assert min(map(min, counts.values())) >= 1
    for split, weights in (("train", contents.TRAIN), ("test", contents.TEST)):
        weights = np.array(list(weights.values()))
        exact = sum(counts[split]) * weights / weights.sum()
        assert np.abs(counts[split] - exact).max() < 1


def test_a_subject_is_in_one_split_and_an_identifier_there_once():
    planned = recipe.plan_images()
    splits = {}
    for p in planned:
        splits.setdefault(p.subject_id, set()).add(p.split)
    assert {len(names) for names in splits.values()} == {1}
    assert [p.image_id for p in planned] == [f"p{i:05d}" for i in range(len(planned))]
    per_subject = Counter(p.subject_id for p in planned).values()
    assert np.mean(list(per_subject)) == pytest.approx(recipe.IMAGES_PER_SUBJECT, rel=0.02)


def test_the_plan_follows_the_seed():
    assert recipe.plan_images(500, 3) == recipe.plan_images(500, 3)
    one, other = recipe.plan_images(500, 3), recipe.plan_images(500, 4)
    assert one != other and counted(one) == counted(other)


def test_the_order_says_nothing_about_class_and_split():
    planned = recipe.plan_images()
    tenth = np.arange(len(planned)) * 10 // len(planned)
    for what in ([VIEWS[p.view].region for p in planned], [p.split for p in planned]):
        assert chi2_contingency(pd.crosstab(tenth, np.array(what))).pvalue > 1e-3
    sizes = Counter(p.subject_id for p in planned[: len(planned) // 2])
    assert len(sizes) > 0.9 * len({p.subject_id for p in planned})  # nor about the subject


def test_views_of_a_class_come_as_often_as_their_weight_says():
    numbers = Counter(p.view for p in recipe.plan_images())
    for name in contents.TRAIN:
        kinds = [i for i, view in enumerate(VIEWS) if view.region == name]
        weights = np.array([VIEWS[i].weight for i in kinds])
        observed = np.array([numbers[i] for i in kinds])
        expected = observed.sum() * weights / weights.sum()
        assert chisquare(observed, expected).pvalue > 1e-3, name


# Drawing a set


@pytest.fixture(scope="session")
def drawn(shared):
    """A small set that is only read, drawn once for all workers."""
    place = shared / "drawn"
    with FileLock(place.with_suffix(".lock")):
        if not place.exists():
            draw(place.with_suffix(".part") / "new" / "set")
            place.with_suffix(".part").rename(place)
    return place / "new" / "set"


def draw(out):
    """Begin a set by one process, interrupt it, and go on with two."""

    def files():
        return {path: path.stat().st_mtime_ns for path in out.rglob("*") if path.is_file()}

    def interrupt(finished, count):
        raise KeyboardInterrupt

    reported = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(generation, "IMAGES_PER_PART", 20)
        with pytest.raises(KeyboardInterrupt):
            generation.render_set(out, COUNT, SEED, SIZE, 1, interrupt)
        left = files()
        with pytest.raises(CbirError) as refused:
            generation.render_set(out, COUNT, SEED + 1, SIZE)
        assert "begun with other settings" in refused.value.what
        assert_mendable(refused.value)

        def go_on(finished, count):
            reported.append((finished, count))
            if finished < COUNT:
                assert left.items() <= files().items()  # nothing is drawn twice

        generation.render_set(out, COUNT, SEED, SIZE, 2, go_on)
    names = {str(path.relative_to(out)) for path in left}
    parts = {f"parts/{first:05d}.parquet" for first in range(0, COUNT, 20)}
    assert names - parts == {"parts/recipe.json"}  # nothing half-written
    assert 0 < len(names & parts) < len(parts)
    kept = 20 * len(names & parts)
    assert reported == [(done, COUNT) for done in range(kept, COUNT + 1, 20)]


@pytest.fixture
def copy(drawn, tmp_path):
    return shutil.copytree(drawn, tmp_path / "copy")


def labels_of(folder):
    return pd.read_csv(folder / "labels.csv", keep_default_na=False)


def shards_of(folder):
    """All shards as one table, in the order of ``labels.csv``."""
    tables = [pq.read_table(path) for path in sorted(folder.glob("*.parquet"))]
    return pa.concat_tables(tables).to_pandas().sort_values("image_id", ignore_index=True)


def test_one_process_draws_the_same_files(drawn, tmp_path):
    generation.render_set(tmp_path / "alone", COUNT, SEED, SIZE, workers=1)
    contents = [
        {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*")}
        for folder in (drawn, tmp_path / "alone")
    ]
    assert sorted(map(str, contents[0])) == [
        "NOTICE",
        "README.md",
        "SHA256SUMS",
        "croissant.json",
        "labels.csv",
        "recipe.json",
        *(f"{split}-00000-of-00001.parquet" for split in sorted(SPLITS)),
    ]
    assert contents[0] == contents[1]


def test_a_folder_of_parts_that_is_not_ours_is_left(tmp_path):
    part = tmp_path / "parts" / "gearbox.step"
    part.parent.mkdir()
    part.write_text("mine")
    with pytest.raises(CbirError, match="is not an empty folder"):
        generation.render_set(tmp_path, COUNT, SEED, SIZE)
    assert [path.name for path in tmp_path.rglob("*")] == ["parts", "gearbox.step"]


def test_what_others_put_among_the_parts_is_left(tmp_path):
    names = ["recipe.json", "00000.parquet", ".00020.parquet.0a0a0a0a.7.part"]
    for name in [*names, "gearbox.step"]:
        (tmp_path / name).write_text("x")
    remove_own(tmp_path, generation._is_ours)
    assert [path.name for path in tmp_path.iterdir()] == ["gearbox.step"]


@pytest.mark.parametrize("damage", ["missing", "changed"])
def test_a_finished_set_that_was_damaged_is_not_called_finished(copy, damage):
    shard = next(copy.glob("test-*.parquet"))
    if damage == "missing":
        shard.unlink()
    else:
        shard.write_bytes(shard.read_bytes() + b"x")
    with pytest.raises(CbirError, match=f"{shard.name} is missing or was changed") as caught:
        generation.render_set(copy, COUNT, SEED, SIZE)
    assert "draw it again" in caught.value.hint


def test_the_set_is_what_was_planned(drawn):
    labels, planned = labels_of(drawn), recipe.plan_images(COUNT, SEED)
    assert labels["image_id"].tolist() == [p.image_id for p in planned]
    assert labels["split"].tolist() == [p.split for p in planned]
    assert labels["view"].tolist() == [VIEWS[p.view].name for p in planned]
    assert labels["subject_id"].tolist() == [p.subject_id for p in planned]
    assert [irma_code.name_region(code) for code in labels["irma_code"]] == labels["class"].tolist()
    assert (labels[["width_px", "height_px"]].max(axis=1) == SIZE).all()
    assert set(labels.columns) == set(card.LABELS)
    for name in recipe.RECORDED_SETTINGS:
        limits = next(f for f in Exposure.__dataclass_fields__.values() if f.name == name).metadata
        assert labels[name].between(limits["low"] - 1e-4, limits["high"] + 1e-4).all()
    grey, record = recipe.draw_image(planned[17], SEED, SIZE)
    row = shards_of(drawn).iloc[17]
    assert row["image"]["bytes"] == generation.encode_jpeg(grey)
    assert labels.iloc[17].to_dict() == record


def test_shards_split_at_a_size_and_keep_every_image(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(generation, "SHARD_BYTES", 30_000)
    table = labels_of(drawn)
    table["jpeg"] = [image["bytes"] for image in shards_of(drawn)["image"]]
    described = json.loads((drawn / "recipe.json").read_text())
    generation.write_set(tmp_path, table, described)
    for split in SPLITS:
        shards = sorted(path.name for path in tmp_path.glob(f"{split}-*.parquet"))
        size = table["jpeg"][table["split"] == split].map(len).sum()
        number = -(-size // 30_000)
        assert shards == [f"{split}-{i:05d}-of-{number:05d}.parquet" for i in range(number)]
    pd.testing.assert_frame_equal(shards_of(tmp_path), shards_of(drawn))
    assert len(list(tmp_path.glob("train-*"))) > 1
    assert phantom.read(tmp_path).checksum == phantom.read(drawn).checksum


WRONG = {
    "few images": ({"count": 199}, "count 199 is out of range"),
    "no image": ({"count": -1}, "count -1 is out of range"),
    "part of an image": ({"count": 200.5}, "count 200.5 is out of range"),
    "small": ({"size": 31}, "size 31 is out of range"),
    "large": ({"size": 1025}, "size 1025 is out of range"),
    "part of a pixel": ({"size": 64.5}, "size 64.5 is out of range"),
    "seed": ({"seed": -1}, "seed -1 is out of range"),
    "part of a seed": ({"seed": 1.5}, "seed 1.5 is out of range"),
}


@pytest.mark.parametrize(("arguments", "what"), WRONG.values(), ids=WRONG)
def test_numbers_out_of_range_are_refused_and_nothing_is_made(tmp_path, arguments, what):
    with pytest.raises(CbirError, match=what) as caught:
        generation.render_set(tmp_path / "set", **{"count": COUNT} | arguments)
    assert_mendable(caught.value)
    assert not (tmp_path / "set").exists()


def test_what_is_in_a_folder_is_not_touched(drawn, tmp_path):
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine.txt").write_text("mine")
    (tmp_path / "file").write_text("a file")
    before = sorted(tmp_path.rglob("*"))
    for taken, seed in ((tmp_path / "full", SEED), (tmp_path / "file", SEED), (drawn, SEED + 1)):
        with pytest.raises(CbirError, match="is not an empty folder") as caught:
            generation.render_set(taken, COUNT, seed, SIZE)
        assert_mendable(caught.value)
    assert sorted(tmp_path.rglob("*")) == before


@pytest.mark.parametrize("package", ["edt", "mujoco", "musclemimic_models"])
def test_a_missing_package_is_named(monkeypatch, package):
    monkeypatch.setitem(sys.modules, package, None)
    with pytest.raises(CbirError, match=f"needs the package {package}") as caught:
        load_skeleton.__wrapped__()
    assert_mendable(caught.value)


# Reading


def test_images_labels_and_records_are_those_of_the_files(drawn):
    data, labels, shards = phantom.read(drawn), labels_of(drawn), shards_of(drawn)
    assert data.name == "phantom" and data.class_names == tuple(contents.TRAIN)
    assert data.images.shape == (COUNT, SIZE, SIZE) and data.images.dtype == np.uint8
    assert data.labels.tolist() == shards["label"].tolist()
    assert [data.class_names[i] for i in data.labels] == labels["class"].tolist()
    pd.testing.assert_frame_equal(
        data.records, labels.drop(columns="class").assign(source="phantom")
    )
    assert data.remarks.empty and data.dropped == {}
    for square, stored in zip(data.images, shards["image"], strict=True):
        image = np.asarray(Image.open(io.BytesIO(stored["bytes"])))
        height, width = image.shape
        assert max(height, width) == SIZE  # so nothing is scaled
        top, left = (SIZE - height) // 2, (SIZE - width) // 2
        assert np.array_equal(square[top : top + height, left : left + width], image)
        assert square.sum() == image.sum()  # all around is black


def test_load_by_name_reads_the_cache_the_second_time(copy, monkeypatch):
    calls, read = [], phantom.read
    monkeypatch.setattr(phantom, "read", lambda folder: calls.append(folder) or read(folder))
    first, second = (cbir_lib.load("phantom", copy) for _ in range(2))
    assert calls == [copy]
    assert np.array_equal(first.images, second.images)
    pd.testing.assert_frame_equal(first.records, second.records)
    pd.testing.assert_frame_equal(second.records, read(copy).records)


def test_where_it_lies(drawn, tmp_path, monkeypatch):
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    with pytest.raises(CbirError, match="no phantom images at .*data") as caught:
        phantom.locate()
    assert_mendable(caught.value)
    usual = shutil.copytree(drawn, tmp_path / "data" / "phantom")
    assert phantom.locate() == usual
    assert phantom.locate(drawn) == drawn
    assert phantom.locate(str(tmp_path / "data")) == usual
    monkeypatch.setenv("CBIR_DATA", str(drawn))
    assert phantom.locate() == drawn
    with pytest.raises(CbirError, match="no phantom images at .*nowhere"):
        phantom.locate(tmp_path / "nowhere")


def test_there_is_nothing_to_fetch(tmp_path):
    with pytest.raises(CbirError, match="part of the repository") as caught:
        phantom.fetch(tmp_path / "x")
    assert_mendable(caught.value)
    assert not (tmp_path / "x").exists()


SHARD = "train-00000-of-00001.parquet"


def sign(folder):
    """Write checksums anew, so that the fault behind them is met."""
    names = [line.split()[1] for line in (folder / "SHA256SUMS").read_text().splitlines()]
    lines = [f"{compute_file_checksum(folder / name)}  {name}\n" for name in names]
    (folder / "SHA256SUMS").write_text("".join(lines))


def halve(folder, name=SHARD):
    data = (folder / name).read_bytes()
    (folder / name).write_bytes(data[: len(data) // 2])


def overwrite(folder):
    """Parquet's footer is what is read first; it is at the end."""
    data = (folder / SHARD).read_bytes()
    (folder / SHARD).write_bytes(data[:-400] + b"\xff" * 392 + data[-8:])


def without(column):
    def change(folder):
        labels_of(folder).drop(columns=column).to_csv(folder / "labels.csv", index=False)

    return change


def shard_without(column):
    def change(folder):
        table = pq.read_table(folder / SHARD).drop_columns([column])
        pq.write_table(table, folder / SHARD)

    return change


def no_bytes(folder):
    table = pq.read_table(folder / SHARD)
    paths = pa.array([{"path": name} for name in table["image_id"].to_pylist()])
    pq.write_table(table.set_column(0, "image", paths), folder / SHARD)


def plain_bytes(folder):
    table = pq.read_table(folder / SHARD)
    images = pa.array([image["bytes"] for image in table["image"].to_pylist()])
    pq.write_table(table.set_column(0, "image", images), folder / SHARD)


def one_row_less(folder):
    labels_of(folder)[:-1].to_csv(folder / "labels.csv", index=False)


def another_name(folder):
    labels = labels_of(folder).replace({"image_id": {"p00003": "p99999"}})
    labels.to_csv(folder / "labels.csv", index=False)


def a_shard_less(folder):
    pq.write_table(pq.read_table(folder / SHARD)[:-1], folder / SHARD)


def no_text(folder):
    (folder / "labels.csv").write_bytes(b"\xff\xfe\x00" * 50)


def emptied(folder):
    (folder / "labels.csv").write_bytes(b"")


# What is done to a set, and what is said; the checksums are right again but for the first three.
FAULTS = {
    "changed labels": (one_row_less, "labels.csv is not what was published: wrong checksum", False),
    "changed shard": (overwrite, f"{SHARD} is not what was published: wrong checksum", False),
    "missing shard": (lambda f: (f / SHARD).unlink(), f"{SHARD} is missing", False),
    "corrupt shard": (overwrite, f"{SHARD} is damaged", True),
    "truncated shard": (halve, f"{SHARD} is damaged", True),
    "empty shard": (lambda f: (f / SHARD).write_bytes(b""), f"{SHARD} is damaged", True),
    "shard without images": (shard_without("image"), f"{SHARD} is damaged", True),
    "images as plain bytes": (plain_bytes, f"{SHARD} is damaged", True),
    "images without bytes": (no_bytes, f"{SHARD} is damaged", True),
    "shard without names": (shard_without("image_id"), f"{SHARD} is damaged", True),
    **{
        f"labels without {column}": (without(column), f"labels.csv has no column '{column}'", True)
        for column in phantom.COLUMNS
    },
    "no labels": (emptied, "labels.csv is damaged", True),
    "labels that are no text": (no_text, "labels.csv is damaged", True),
    "an image without a label": (one_row_less, "labels and shards name different images", True),
    "another name": (another_name, "labels and shards name different images", True),
    "a label without an image": (a_shard_less, "labels and shards name different images", True),
}


@pytest.mark.parametrize(("change", "what", "signed"), FAULTS.values(), ids=FAULTS)
def test_a_faulty_set_is_refused(copy, change, what, signed):
    change(copy)
    if signed:
        sign(copy)
    with pytest.raises(CbirError) as caught:
        phantom.load(copy)
    assert what in caught.value.what
    assert str(copy) in caught.value.what
    assert_mendable(caught.value)


def relabelled(change):
    def write(folder):
        change(labels_of(folder)).to_csv(folder / "labels.csv", index=False)

    return write


WRONG_SETS = {
    "sums without names": lambda folder: (folder / "SHA256SUMS").write_text("abc\n"),
    "sums that are no text": lambda folder: (folder / "SHA256SUMS").write_bytes(b"\xff\xfe"),
    "unknown class": relabelled(lambda labels: labels.replace({"class": {"chest": "thorax"}})),
    "unknown split": relabelled(lambda labels: labels.replace({"split": {"test": "tset"}})),
    "a label twice": relabelled(lambda labels: pd.concat([labels, labels[:1]])),
    "a width in words": relabelled(lambda labels: labels.assign(width_px="wide")),
}


@pytest.mark.parametrize("change", WRONG_SETS.values(), ids=WRONG_SETS)
def test_a_set_made_wrongly_is_refused(copy, change):
    change(copy)
    if len((copy / "SHA256SUMS").read_bytes()) > 10:
        sign(copy)
    with pytest.raises(CbirError) as caught:
        phantom.read(copy)
    assert_mendable(caught.value)


def test_an_image_that_cannot_be_decoded_is_a_remark(copy):
    whole = phantom.read(copy)
    table = pq.read_table(copy / SHARD)
    images = table["image"].to_pylist()
    names = table["image_id"].to_pylist()
    images[0]["bytes"] = images[0]["bytes"][:60]
    images[3]["bytes"] = b"no picture"
    images[5]["bytes"] = b""
    column = pa.array(images, table.schema.field("image").type)
    pq.write_table(table.set_column(0, "image", column), copy / SHARD)
    sign(copy)
    data = phantom.read(copy)
    remarks = {file: (remark, kept) for file, remark, kept in data.remarks.to_numpy()}
    assert set(remarks) == {f"{names[i]}.jpg" for i in (0, 3, 5)}
    assert remarks[f"{names[3]}.jpg"] == ("not an image", False)
    assert remarks[f"{names[5]}.jpg"] == ("empty file", False)
    left = ~np.isin(whole.image_ids, [names[i] for i in (0, 3, 5)])
    assert data.image_ids.tolist() == whole.image_ids[left].tolist()
    assert np.array_equal(data.images, whole.images[left])
    assert np.array_equal(data.labels, whole.labels[left])
    assert data.checksum != whole.checksum


# The papers


@pytest.fixture(params=["drawn", pytest.param("embedded", marks=embedded)])
def folder(request):
    return EMBEDDED if request.param == "embedded" else request.getfixturevalue("drawn")


def test_the_checksums_are_those_of_sha256sum(folder):
    names = sorted([*(path.name for path in folder.glob("*.parquet")), "labels.csv"])
    lines = [f"{hashlib.sha256((folder / n).read_bytes()).hexdigest()}  {n}" for n in names]
    assert sorted((folder / "SHA256SUMS").read_text().splitlines()) == sorted(lines)


def test_the_card_says_what_is_in_the_folder(folder):
    text, labels = (folder / "README.md").read_text(encoding="utf-8"), labels_of(folder)
    front = yaml.safe_load(text.split("---\n")[1])
    assert front["license"] == "cc-by-4.0"
    assert "simulated" in front["tags"]
    (config,) = front["configs"]
    for entry in config["data_files"]:
        shards = [pq.read_table(path, columns=["label"]) for path in folder.glob(entry["path"])]
        assert sum(map(len, shards)) == (labels["split"] == entry["split"]).sum() > 0
    assert [entry["split"] for entry in config["data_files"]] == list(SPLITS)
    assert "$" not in text
    assert f"{len(labels):,} **simulated** radiographs" in text
    assert f"{labels['subject_id'].nunique():,} simulated subjects" in text
    for name in contents.TRAIN:
        of_class = labels[labels["class"] == name]
        row = [str((of_class["split"] == split).sum()) for split in SPLITS]
        assert f"| {name} | {' | '.join(row)} |" in text
    for table in (Subject, Exposure):
        for name in table.__dataclass_fields__:
            assert f"| {name} | " in text
    described = json.loads((folder / "recipe.json").read_text())
    drawn_by = " ".join(f"--{key} {described[key]}" for key in ("count", "seed", "size"))
    assert f"cbir phantom render {drawn_by} --out" in text
    for name in ("labels.csv", "croissant.json", "recipe.json", "SHA256SUMS", "NOTICE"):
        assert (folder / name).is_file() and f"| `{name}` |" in text


def test_credits_and_licences_are_there(folder):
    text = (folder / "NOTICE").read_text(encoding="utf-8")
    for word in ("CC BY 4.0", "musclemimic-models (Apache-2.0)", "MyoSim", "OpenSim"):
        assert word in text


@pytest.mark.parametrize(
    ("count", "category"),
    [
        (200, "n<1K"),
        (1000, "1K<n<10K"),
        (14410, "10K<n<100K"),
    ],
)
def test_the_card_names_the_size_as_hugging_face_does(copy, count, category):
    labels = labels_of(copy)
    labels = pd.concat([labels] * -(-count // len(labels)))[:count]
    card.write_card(copy, labels, json.loads((copy / "recipe.json").read_text()))
    front = yaml.safe_load((copy / "README.md").read_text(encoding="utf-8").split("---\n")[1])
    assert front["size_categories"] == [category]


def croissant(folder):
    return mlcroissant.Dataset(jsonld=folder / "croissant.json")


def test_croissant_has_no_faults(folder):
    data = croissant(folder)
    assert not data.metadata.issues.errors and not data.metadata.issues.warnings
    assert data.metadata.license == ["https://creativecommons.org/licenses/by/4.0/"]
    listed = {file.name: file.sha256 for file in data.metadata.distribution}
    sums = [line.split() for line in (folder / "SHA256SUMS").read_text().splitlines()]
    assert listed == {name: value for value, name in sums}


def test_croissants_records_are_the_labels(drawn):
    def plain(value):
        return "" if value is None else value.decode() if isinstance(value, bytes) else value

    records = [
        {key.removeprefix("labels/"): plain(value) for key, value in record.items()}
        for record in croissant(drawn).records("labels")
    ]
    pd.testing.assert_frame_equal(pd.DataFrame(records), labels_of(drawn))


def test_croissants_images_are_those_of_the_shard(drawn):
    shard = pq.read_table(drawn / SHARD).to_pylist()
    stem = SHARD.removesuffix(".parquet")
    records = list(croissant(drawn).records(stem))
    assert len(records) == len(shard)
    for record, row in zip(records, shard, strict=True):
        image = np.asarray(Image.open(io.BytesIO(row["image"]["bytes"])))
        assert np.array_equal(np.asarray(record[f"{stem}/image"]), image)
        assert record[f"{stem}/label"] == row["label"]
        assert record[f"{stem}/irma_code"].decode() == row["irma_code"]


def test_shards_say_to_hugging_face_what_they_are(folder):
    for path in folder.glob("*.parquet"):
        schema = pq.read_schema(path)
        features = json.loads(schema.metadata[b"huggingface"])["info"]["features"]
        assert list(features) == schema.names == list(card.FIELDS)
        assert features["image"] == {"_type": "Image"}
        assert features["label"] == {"_type": "ClassLabel", "names": list(contents.TRAIN)}
        assert schema.field("image").type == pa.struct(
            [("bytes", pa.binary()), ("path", pa.string())]
        )
        assert schema.field("label").type == pa.int64()
        for name in set(features) - {"image", "label"}:
            assert features[name] == {"_type": "Value", "dtype": "string"}
            assert schema.field(name).type == pa.string()


def test_the_card_shows_what_was_measured(copy):
    measured = {"images": 200, "queries": 24, "accuracy": {"a vector": 61.25}, "largest": 40.0}
    draft = {"images": 3000, "a vector": 50.0, "largest class of the test": 39.9}
    (copy / "difficulty.json").write_text(json.dumps(measured | {"drafts": [draft]}))
    card.write_card(copy, labels_of(copy), json.loads((copy / "recipe.json").read_text()))
    text = (copy / "README.md").read_text(encoding="utf-8")
    assert "| a vector | 50.0 | 61.2 |" in text
    assert "| largest class of the test | 39.9 | 40.0 |" in text
    assert phantom.read(copy).images.shape == (COUNT, SIZE, SIZE)  # checksums are right


# The set in the repository


@embedded
def test_the_embedded_set_is_the_one_of_the_recipe():
    described = json.loads((EMBEDDED / "recipe.json").read_text())
    settings = {key: described[key] for key in ("version", "count", "seed", "size")}
    assert settings == {
        "version": recipe.VERSION,
        "count": contents.COUNT,
        "seed": recipe.SEED,
        "size": recipe.SIZE_PX,
    }
    labels, planned = labels_of(EMBEDDED), recipe.plan_images(described["count"], described["seed"])
    rows = labels[["image_id", "split", "view", "subject_id"]].itertuples(index=False, name=None)
    assert list(rows) == [(p.image_id, p.split, VIEWS[p.view].name, p.subject_id) for p in planned]
    sided = {view.name: view for view in VIEWS}
    codes = [
        sided[view].code(side == "left")
        for view, side in zip(labels["view"], labels["side"], strict=True)
    ]
    assert labels["irma_code"].tolist() == codes


@embedded
def test_the_embedded_set_is_small_and_whole(phantom_set):
    assert sum(path.stat().st_size for path in EMBEDDED.iterdir()) < LARGEST_SET
    data = phantom_set
    assert data.images.shape == (14410, 128, 128)
    assert data.remarks.empty
    assert len(set(map(bytes, data.images))) == len(data)
    expected = dict(zip(SPLITS, (11409, 1268, 1733), strict=True))
    assert data.counts().sum().to_dict() == expected
    spread = data.images.reshape(len(data), -1).std(axis=1)
    assert spread.min() > 2 and (spread > 8).mean() > 0.999  # hardly any film is spoilt


@embedded
def test_the_embedded_images_are_drawn_again_from_the_recipe():
    described = json.loads((EMBEDDED / "recipe.json").read_text())
    labels, planned = labels_of(EMBEDDED), recipe.plan_images(described["count"], described["seed"])
    rows = [labels.index[labels["class"] == name][0] for name in contents.TRAIN]
    odd = (labels["quarter_turns"] > 0) & labels["metal"] & labels["marked"]
    rows.append(labels.index[odd][0])
    shards = shards_of(EMBEDDED).set_index("image_id")["image"]
    for row in rows:
        grey, record = recipe.draw_image(planned[row], described["seed"], described["size"])
        assert labels.iloc[row].to_dict() == record
        stored = shards[planned[row].image_id]["bytes"]
        again, kept = (
            np.asarray(Image.open(io.BytesIO(data))).astype(int)
            for data in (generation.encode_jpeg(grey), stored)
        )
        if drawn_with_these(described["drawn_with"]):
            assert np.array_equal(again, kept)
        else:
            assert np.abs(again - kept).max() <= 1
            assert (again != kept).mean() <= 0.005


def drawn_with_these(versions):
    try:
        return all(version(name) == number for name, number in versions.items())
    except PackageNotFoundError:
        return False


@embedded
def test_the_embedded_set_is_neither_trivial_nor_hopeless():
    measured = json.loads((EMBEDDED / "difficulty.json").read_text())
    test = labels_of(EMBEDDED).query("split == 'test'")
    assert measured["queries"] == len(test)
    largest = 100 * test["class"].value_counts().max() / len(test)
    assert measured["largest"] == pytest.approx(largest)
    assert len(measured["accuracy"]) == 3
    for name, accuracy in measured["accuracy"].items():
        assert largest < accuracy < HIGHEST_ACCURACY, name


# The command


@pytest.mark.parametrize(
    ("arguments", "what"),
    [
        (["phantom", "render", "--count", 10, "--out", "x"], "count 10 is out of range"),
        (["phantom", "render", "--size", 8, "--out", "x"], "size 8 is out of range"),
        (["phantom", "render", "--workers", 0, "--out", "x"], "--workers"),
        (["phantom", "render"], "--out"),
        (["data", "fetch", "phantom"], "part of the repository"),
    ],
)
def test_a_mistake_is_two_lines(cbir, tmp_path, monkeypatch, arguments, what):
    monkeypatch.chdir(tmp_path)
    code, _, lines = cbir(*arguments)
    assert code == 2 and len(lines) == 2, lines
    assert lines[0].startswith("error: ") and what in lines[0]
    assert lines[1].startswith("hint: ")
    assert list(tmp_path.iterdir()) == []


def test_the_command_hands_its_options_on(cbir, tmp_path, monkeypatch):
    asked = []

    def render_set(*arguments):
        *settings, progress, changes = arguments
        assert changes == ["window", "close"]
        asked.append(settings)
        progress(150, 300)
        progress(300, 300)

    monkeypatch.setattr(generation, "render_set", render_set)
    options = ("--count", 300, "--seed", 7, "--size", 64, "--workers", 2)
    options += ("--change", "window", "--change", "close")
    code, out, err = cbir("phantom", "render", "--out", tmp_path / "set", *options)
    assert (code, err) == (0, ["images: 300 of 300"])
    assert asked == [[tmp_path / "set", 300, 7, 64, 2]]
    assert out.startswith("300 images in ")
