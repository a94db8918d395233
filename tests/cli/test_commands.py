"""The command line: what it prints, and that every mistake is two lines and exit code 2."""

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import torch
import yaml
from PIL import Image

from cbir_lib import __version__, paths
from cbir_lib.archive import update
from cbir_lib.book import search_page
from cbir_lib.descriptors.fitted import save_descriptor
from cbir_lib.descriptors.histogram import GreyHistogram
from cbir_lib.errors import CbirError
from cbir_lib.evaluation import summary
from cbir_lib.images.decoding import read_image
from cbir_lib.images.preprocessing import Preprocessing
from cbir_lib.networks.modules import TrainedNetwork, build_network, read_network, save_network
from cbir_lib.retrieval.index import Index
from cbir_lib.study import effects, results
from cbir_lib.study.config import read_study
from cbir_lib.study.gallery import RunGallery
from cbir_lib.workflow import conductor, publishing
from tests.fixtures import heed_ctrl_c, pack, write_mednist
from tests.study.test_results import WRITTEN, changed

ROOT = Path(__file__).resolve().parents[2]
RUN = "build/quick/runs/mednist-grey-histogram"


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_mednist(tmp_path_factory.mktemp("data") / "MedNIST", per_class=60, seed=4)


@pytest.fixture
def project(tmp_path, monkeypatch, data):
    """A project folder with one finished run: a grey histogram of the drawings."""
    from cbir_lib import load
    from cbir_lib.evaluation import measures

    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    monkeypatch.setenv("CBIR_DATA", str(data))
    radiographs = load("mednist")
    train, test = radiographs.split("train"), radiographs.split("test")
    histogram = GreyHistogram()
    index = Index(histogram.distance).add(histogram.transform(train.images), train.image_ids)
    ranking = index.search(histogram.transform(test.images))
    relevant = measures.find_relevant(ranking, test.labels, train.labels)
    predicted = train.labels[ranking.rows[:, 0]]
    folder = tmp_path / "build" / "quick" / "runs" / "mednist-grey-histogram"
    results.write(
        folder / "result.json",
        results.Result(
            run="mednist-grey-histogram",
            parameters={"descriptor": "grey-histogram", "size": 64, "clahe": False},
            data=results.describe_data(radiographs),
            settings=histogram.get_params(),
            candidates=[],
            rules=[
                {
                    "rule": "nearest neighbour",
                    "settings": {},
                    "validation_accuracy": 0.0,
                    **summary.summarise_classification(test.labels, predicted, 6),
                }
            ],
            answers=predicted.tolist(),
            distances=[],
            confused=[],
            embedding=None,
            retrieval={"distance": index.distance, **summary.summarise_retrieval(relevant)},
            training=None,
            examples=summary.choose_examples(ranking, test, train),
            circumstances=results.record_circumstances({"searching": 0.0}),
        ),
    )
    file = folder / "descriptor.safetensors"
    save_descriptor(file, "grey-histogram", histogram)
    index.descriptor = results.name_gallery(folder.name, file)
    index.save(folder / "index.safetensors")
    return tmp_path


def assert_two_lines(outcome, what, hint=""):
    code, _, lines = outcome
    assert code == 2
    assert len(lines) == 2, lines
    assert lines[0].startswith("error: ") and what in lines[0]
    assert lines[1].startswith("hint: ") and hint in lines[1]


def test_version_and_help(cbir):
    assert cbir("--version")[:2] == (0, f"cbir {__version__}\n")
    code, out, _ = cbir()
    assert code == 0 and "study" in out and "search" in out


@pytest.mark.parametrize(
    "command", ["study", "verify", "publish", "index search", "data list", "data check"]
)
def test_every_help_has_an_example(cbir, command):
    code, out, _ = cbir(*command.split(), "--help")
    assert code == 0 and "cbir " + command in out.split("Usage")[1].split("\n", 1)[1]


@pytest.mark.parametrize(
    ("arguments", "what", "hint"),
    [
        (["--nope"], "--nope", "cbir --help"),
        (["nope"], "nope", "cbir --help"),
        (["data"], "Missing command", "cbir data --help"),
        (["index", "search"], "Missing argument", "cbir index search --help"),
        (["study", "--cores", "0"], "--cores", "cbir study --help"),
        (["study", "--profile", "quik"], "profile 'quik'", "'quick'"),
        (["verify", "--profile", "quik"], "profile 'quik'", "'quick'"),
        (["verify", "--profile", "paper"], "no results of profile paper", "search"),
        (
            ["verify", "--profile", "search", "--run", "phantom-B-s9"],
            "'phantom-B-s9'",
            "did you mean",
        ),
        (["study", "--profile", "quick", "--run", "phantom-Z-s0"], "'phantom-Z-s0'", "did you"),
        (
            ["verify", "--run", "phantom-B-s0", "--publish"],
            "single run cannot be published",
            "--run",
        ),
        (["study", "--study", "nowhere.yml"], "nowhere.yml", "--study"),
        (["data", "check", "mednits"], "data set 'mednits'", "'mednist'"),
        (["data", "fetch", "mednits"], "data set 'mednits'", "'mednist'"),
        (
            ["data", "check", "mednist", "--data-root", "nowhere"],
            "no MedNIST data at nowhere",
            "fetch",
        ),
    ],
)
def test_a_mistake_is_two_lines(cbir, arguments, what, hint):
    assert_two_lines(cbir(*arguments), what, hint)


def test_a_study_file_with_a_wrong_type_is_named(cbir, tmp_path):
    text = (ROOT / "study.yml").read_text().replace("size: 64", "size: large")
    (tmp_path / "study.yml").write_text(text)
    outcome = cbir("study", "--study", tmp_path / "study.yml")
    assert_two_lines(outcome, "study.yml: profiles.quick.size", "study.yml")


def test_a_faulty_study_file_is_refused_before_anything_slow_is_imported(tmp_path):
    (tmp_path / "study.yml").write_text("profiles: 7")
    code = "import sys; from cbir_lib.cli.main import main\ntry: main()\n"
    code += "except SystemExit as stop: print(stop.code, 'torch' in sys.modules)"
    command = [sys.executable, "-c", code, "study", "--study", tmp_path / "study.yml"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=paths.project_root())
    assert done.stdout == "2 False\n", done.stderr
    assert len(done.stderr.splitlines()) == 2


def test_list_says_what_is_here(cbir, monkeypatch, data, tmp_path):
    monkeypatch.setenv("CBIR_DATA", str(data))
    assert f"at {data}" in cbir("data", "list")[1]
    monkeypatch.setenv("CBIR_DATA", str(tmp_path))
    assert "not here; cbir data fetch mednist" in cbir("data", "list")[1]


def test_check_counts_and_names(cbir, tmp_path):
    folder = write_mednist(tmp_path / "MedNIST", per_class=12)
    (folder / "Hand" / "000000.png").write_bytes(b"")
    (folder / "Hand" / "copy.png").write_bytes((folder / "Hand" / "000001.png").read_bytes())
    Image.open(folder / "CXR" / "000003.png").convert("RGB").save(folder / "CXR" / "000003.png")
    outcome = cbir("data", "check", "mednist", "--data-root", folder)
    assert_two_lines(outcome, "1 files cannot be used, first Hand/000000.png: empty file")
    lines = [" ".join(line.split()) for line in outcome[1].splitlines()]
    assert "images 72" in lines
    assert "files that cannot be used 1" in lines
    assert "exact copies of another image 1" in lines
    assert "images with an exact copy in another split 0" in lines
    assert "Hand/000000.png empty file" in lines
    assert "RGB, converted to grey 1 CXR/000003.png" in lines


def test_check_exits_with_2_when_a_subject_is_in_two_splits(cbir, tmp_path):
    folder = write_mednist(tmp_path / "own", per_class=6)
    names = [f"{name}/{i:06}.png" for name in ("Hand", "CXR") for i in range(6)]
    splits = ["train", "train", "train", "validation", "test", "test"] * 2
    rows = [f"{n},{n[:4]},{s},p{i}" for i, (n, s) in enumerate(zip(names, splits, strict=True))]
    (folder / "labels.csv").write_text("\n".join(["file,class,split,subject_id", *rows]))
    clean = cbir("data", "check", "folder", "--data-root", folder)
    assert "more than one split" not in clean[2]
    rows[4] = rows[4].replace(",p4", ",p0")
    (folder / "labels.csv").write_text("\n".join(["file,class,split,subject_id", *rows]))
    leaky = cbir("data", "check", "folder", "--data-root", folder)
    assert_two_lines(leaky, "1 subjects are in more than one split", "split by subject")


def test_check_of_a_foreign_archive_writes_nothing(cbir, tmp_path, monkeypatch):
    archive = pack(write_mednist(tmp_path / "MedNIST", per_class=2), tmp_path / "MedNIST.tar.gz")
    monkeypatch.setenv("CBIR_CACHE", str(tmp_path / "cache"))
    outcome = cbir("data", "check", "mednist", "--data-root", archive)
    assert_two_lines(outcome, "wrong checksum", "fetch")
    assert not (tmp_path / "cache").exists()


def test_search_finds_first_what_has_the_same_vector_and_never_the_image_itself(
    cbir, project, data
):
    from cbir_lib import load

    image_id = load("mednist").split("train").image_ids[0]
    query = data / f"{image_id}.png"
    size = len(RunGallery(project / RUN))
    code, out, err = cbir("index", "search", project / RUN, query, "-k", size, "--format", "json")
    assert (code, err) == (0, [])
    itself = [row["path"] for row in json.loads(out)]
    assert len(itself) == size - 1 and image_id not in itself
    mirrored = project / "mirrored.png"  # other pixels, the same histogram
    Image.open(query).transpose(Image.Transpose.FLIP_LEFT_RIGHT).save(mirrored)
    code, out, err = cbir("index", "search", project / RUN, mirrored, "-k", 3)
    assert (code, err) == (0, [])
    lines = out.splitlines()
    assert lines[0].split() == ["query", "rank", "path", "class", "distance"]
    assert lines[1].split() == [str(mirrored), "1", image_id, image_id.split("/")[0], "0"]
    assert len(lines) == 4
    html = project / "similar.html"
    html_too = ("--format", "html", "--out", html)
    assert cbir("index", "search", project / RUN, query, "-k", 3, *html_too)[0] == 0
    assert html.read_text().count("<img ") == 4  # the query and three of the gallery


def test_a_run_is_searched_with_files_or_arrays_or_none(project, data):
    gallery = RunGallery(project / RUN)
    files = [data / "Hand" / "000001.png", data / "CXR" / "000002.png"]
    by_file = gallery.search(files, 4)
    by_array = gallery.search([read_image(file) for file in files], 4)
    assert by_array["query"].unique().tolist() == ["image 1", "image 2"]
    assert by_array.drop(columns="query").equals(by_file.drop(columns="query"))
    empty = gallery.search([])
    assert len(empty) == 0 and list(empty.columns) == list(by_file.columns)


def test_search_converts_what_can_be_read(cbir, project, data):
    query = project / "deep and coloured.tiff"
    grey = np.asarray(Image.open(data / "Hand" / "000001.png"), dtype=np.uint16)
    Image.fromarray(grey * 257).save(query)
    assert cbir("index", "search", project / RUN, query)[0] == 0
    Image.fromarray(np.stack([grey.astype(np.uint8)] * 3, axis=2)).save(project / "c.png")
    assert cbir("index", "search", project / RUN, project / "c.png")[0] == 0


def one_pixel(path):
    Image.new("L", (1, 1)).save(path)


@pytest.mark.parametrize(
    ("write", "what"),
    [
        (lambda path: None, "No such file"),
        (lambda path: path.write_bytes(b""), "empty file"),
        (lambda path: path.write_bytes(b"GIF89a nothing"), "cannot read"),
        (lambda path: path.mkdir(), "Is a directory"),
        (one_pixel, "1 x 1 pixels, too small"),
    ],
)
def test_search_with_a_query_that_cannot_be_read(cbir, project, write, what):
    write(project / "query.png")
    before = sorted(project.rglob("*"))
    outcome = cbir("index", "search", project / RUN, project / "query.png", "--format", "html")
    assert_two_lines(outcome, what)
    assert sorted(project.rglob("*")) == before


def test_search_names_the_members_of_a_combination(cbir, project, data):
    result = results.read(project / RUN / "result.json")
    parameters = {"members": ["hog", "thumbnail"]}
    combined = result.model_copy(update={"parameters": parameters})
    place = project / "build/quick/runs/mednist-combination"
    results.write(place / "result.json", combined)
    outcome = cbir("index", "search", place, data / "Hand" / "000001.png")
    assert_two_lines(outcome, "no gallery of its own", "hog, thumbnail")


@pytest.mark.parametrize("missing", ["descriptor.safetensors", "index.safetensors"])
def test_a_run_of_which_only_the_numbers_are_there_is_named(cbir, project, data, missing):
    place = project / "published"
    shutil.copytree(project / RUN, place)
    (place / missing).unlink()
    outcome = cbir("index", "search", place, data / "Hand" / "000001.png")
    assert_two_lines(outcome, f"published has no {missing}", f"--run {Path(RUN).name}")


def test_mistakes_in_searching_a_run(cbir, project, data):
    run, query = project / RUN, data / "Hand" / "000001.png"
    assert_two_lines(cbir("index", "search", run, query, "-k", 0), "k = 0", "1 to")
    assert_two_lines(cbir("index", "search", run, query, "-k", 9999), "k = 9999", "1 to")
    approximate = cbir("index", "search", run, query, "--method", "hnsw")
    assert_two_lines(approximate, "searched exactly", "leave out")
    # Files of another run: a descriptor of other settings, or a result of another name.
    file, result = run / "descriptor.safetensors", run / "result.json"
    kept, said = file.read_bytes(), result.read_text()
    save_descriptor(file, "grey-histogram", GreyHistogram(bins=8))
    assert_two_lines(cbir("index", "search", run, query), "is an index of 'mednist-grey")
    file.write_bytes(kept)
    results.write(result, results.read(result).model_copy(update={"run": "mednist-lbp"}))
    assert_two_lines(cbir("index", "search", run, query), "not of 'mednist-lbp")
    result.write_text(said)
    index = run / "index.safetensors"
    index.write_bytes(index.read_bytes()[:-100])
    assert_two_lines(cbir("index", "search", run, query), "index.safetensors", "build it again")


def test_info_does_not_miss_what_a_build_has_just_removed(cbir, tmp_path, data, monkeypatch):
    update.build(data / "Hand", tmp_path / "archive", "grey-histogram")
    (tmp_path / "archive" / ".archive.json.part").symlink_to("gone")
    is_file = Path.is_file
    monkeypatch.setattr(Path, "is_file", lambda path: path.is_symlink() or is_file(path))
    assert cbir("index", "info", tmp_path / "archive")[::2] == (0, [])


# Steps of the study


def test_a_full_disk_leaves_the_result_that_was_there_and_is_named(cbir, project, monkeypatch):
    result = project / RUN / "result.json"
    whole = result.read_text()

    def fill(source, target):
        Path(target).write_text(whole[:100])
        raise OSError(28, "No space left on device", str(target))

    monkeypatch.setattr(shutil, "copyfile", fill)
    step = ["job", "run", "mednist-grey-histogram", "--published", project / "published.json"]
    place = ["--work", project / "build" / "quick", "--profile", "mednist"]
    ended, out, err = cbir(*step, *place, "--study", ROOT / "study.yml")
    assert (ended, err) == (1, [])
    lines = [line.removeprefix("[mednist-grey-histogram] ") for line in out.splitlines()]
    assert lines[0] == "start" and lines[-1] == "failed"
    assert "no space left" in lines[1] and lines[2].startswith("| hint: ")
    assert result.read_text() == whole


@pytest.mark.parametrize(
    ("error", "code", "said"),
    [
        (CbirError("a fault", "mend it"), 1, "error: a fault"),
        (OSError(28, "No space left on device", "x"), 1, "error: x: No space left on device"),
        (MemoryError(), 1, "error: too little memory"),
        (KeyError("classes"), 70, None),  # no trouble of the machine: the log has it
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_job_says_why_it_failed(cbir, tmp_path, monkeypatch, error, code, said):
    def fail(place):
        raise error

    monkeypatch.setattr(search_page, "write", fail)
    ended, out, err = cbir("job", "search-page", "--work", tmp_path)
    lines = [line.removeprefix("[search-page] ") for line in out.splitlines()]
    assert ended == code and lines[0] == "start"
    if said:
        assert lines[1] == f"| {said}" and lines[2].startswith("| hint: ")
        assert lines[3:] == ["failed"] and err == []
    else:
        assert lines[1:] == [] and "a fault in cbir itself: KeyError" in err[0]


# Publishing

DESCRIPTORS = ("grey-histogram", "hog", "lbp")


@pytest.fixture
def published(tmp_path, monkeypatch):
    """A project without images whose profiles are all of the phantom, and a way to fill it."""
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    profile = {"dataset": "phantom", "size": 32, "training": {"epochs": 3}}
    study = {
        "profiles": {"quick": profile | {"networks": []}, "full": profile},
        "grid": {
            "networks": {
                "plain": {"network": ["G", "F"]},
                "more": {"network": ["G"], "dropout": [0.5]},
                "three": {"network": ["G"], "classes": [["chest", "spine", "cranium"]]},
            },
            "descriptors": {name: {} for name in DESCRIPTORS},
        },
    }
    (tmp_path / "study.yml").write_text(yaml.safe_dump(study, sort_keys=False))
    shown = []
    monkeypatch.setattr(
        publishing, "_draw_pictures", lambda shown_results, folder: shown.append(shown_results)
    )

    class Project:
        root = tmp_path
        pictures = shown
        runs = {
            name: {run.id: run for run in read_study(tmp_path / "study.yml").runs(name)}
            for name in ("quick", "full")
        }

        def put(self, profile, name, accuracy=0.5, place="build", train=100, **parameters):
            """Write the result of a run, done here or published."""
            run = self.runs.get(profile, {}).get(name)
            own = run.model_dump() if run else {"descriptor": "gabor-vector", "size": 32}
            result = results.Result(
                **changed(
                    run=name,
                    parameters=own | parameters,
                    data__dataset="phantom",
                    data__images={"train": train, "validation": 5, "test": 4},
                    rules__0__validation_accuracy=accuracy,
                )
            )
            folder = tmp_path / place / profile
            names = f"runs/{name}/result.json" if place == "build" else f"{name}.json"
            results.write(folder / names, result)
            return result

    return Project()


def files_of(folder):
    return {path.name: path.read_bytes() for path in folder.glob("*.json")}


def test_publishing_an_unfinished_profile_keeps_what_was_published(cbir, published):
    target = published.root / "results" / "quick"
    kept = published.put("quick", "phantom-hog", place="results")
    other = published.put("quick", "phantom-lbp", place="results", size=48)
    published.put("quick", "phantom-left-the-study", place="results")
    published.put("quick", "phantom-left-it-too")
    (target / "effects").mkdir()
    (target / "effects" / "robustness.json").write_text("{}")
    new = published.put("quick", "phantom-grey-histogram")
    code, out, _ = cbir("publish")
    assert code == 0
    # That of another size is there, and is none of the profile as it is now.
    assert out.splitlines()[0] == "1 results in results/quick/; 1 runs are still missing"
    assert results.read_published("quick") == [new, kept, other]
    assert (target / "effects" / "robustness.json").read_text() == "{}"

    before = files_of(target)
    better = published.put("quick", "phantom-grey-histogram", 0.9)
    lbp = published.put("quick", "phantom-lbp")
    code, out, _ = cbir("publish")
    assert out.splitlines()[0] == "2 results in results/quick/; 0 runs are still missing"
    assert results.read_published("quick") == [better, kept, lbp]
    after = files_of(target)
    assert after["phantom-hog.json"] == before["phantom-hog.json"]
    cbir("publish")
    assert files_of(target) == after  # again, the same


def test_publishing_nothing_is_refused_and_removes_nothing(cbir, published):
    published.put("quick", "phantom-left-the-study")
    kept = published.put("quick", "phantom-hog", place="results")
    outcome = cbir("publish")
    assert_two_lines(outcome, "no finished run in", "cbir study --profile quick")
    assert results.read_published("quick") == [kept]


def with_network(published, name, accuracy):
    """Put a run of a network with its weights; a bias of them tells which run it is."""
    published.put("full", name, accuracy)
    mean = np.zeros((32, 32), np.float32)
    module = build_network(name.split("-")[1], mean, classes=5, reading="flattened")
    with torch.no_grad():
        module.scores.bias[:] = accuracy
    trained = TrainedNetwork(
        name.split("-")[1], {"reading": "flattened"}, tuple("abcde"), Preprocessing(size=32), module
    )
    folder = published.root / "build" / "full" / "runs" / name
    save_network(folder / "model.safetensors", trained)


def shipped(published):
    """The last bias of each shipped network by its name, as :func:`with_network` set it."""
    return {
        file.stem: round(read_network(file).module.scores.bias[0].item(), 3)
        for file in (published.root / "models").glob("*")
    }


def all_of_full(published, networks):
    for name in DESCRIPTORS:
        published.put("full", f"phantom-{name}")
    for name, accuracy in networks.items():
        with_network(published, name, accuracy)


def test_of_the_evidence_the_best_network_of_each_kind_is_shipped(cbir, published):
    all_of_full(
        published, {"phantom-G-s0": 0.75, "phantom-F-s0": 0.5, "phantom-G-dropout-s0": 0.875}
    )
    published.put("full", "phantom-G-3classes-s0", 1.0)  # of an easier task
    published.put("full", "phantom-F-dropout-s0", 0.9)  # trained elsewhere: no weights
    (published.root / "models").mkdir()
    stale = published.root / "models" / "phantom-B-s0.safetensors"
    stale.write_bytes(b"of an older study")
    assert cbir("publish", "--profile", "full")[0] == 0
    assert shipped(published) == {"phantom-G-dropout-s0": 0.875, "phantom-F-s0": 0.5}
    whole = published.root / "build/full/runs/phantom-F-s0/model.safetensors"
    file = published.root / "models" / "phantom-F-s0.safetensors"
    assert file.stat().st_size < 0.6 * whole.stat().st_size
    [shown_results] = published.pictures
    assert {r.run for r in shown_results} == {*published.runs["full"]}
    # A later, better one of a kind takes its place; the other stays, though it lies no longer here.
    whole.unlink()
    with_network(published, "phantom-G-s0", 0.9375)
    assert cbir("publish", "--profile", "full")[0] == 0
    assert shipped(published) == {"phantom-G-s0": 0.938, "phantom-F-s0": 0.5}


def test_networks_are_shipped_as_long_as_the_size_allows_it(cbir, published, monkeypatch):
    all_of_full(published, {"phantom-G-s0": 0.75, "phantom-F-s0": 0.5})
    monkeypatch.setattr(publishing, "SHIPPED_BYTES", 2_000)
    assert cbir("publish", "--profile", "full")[0] == 0
    assert shipped(published) == {}
    file = published.root / "build/full/runs/phantom-G-s0/model.safetensors"
    weights = sum(v.numel() for v in read_network(file).module.state_dict().values())
    monkeypatch.setattr(publishing, "SHIPPED_BYTES", 2 * weights + 1)
    assert cbir("publish", "--profile", "full")[0] == 0
    assert shipped(published) == {"phantom-G-s0": 0.75}  # the best first


@pytest.mark.parametrize("train", [50, 200])
def test_what_is_not_the_evidence_is_neither_shipped_nor_drawn(train, cbir, published):
    # Profile quick has all of its runs, full lacks one that the comparison needs.
    for name in DESCRIPTORS:
        published.put("quick", f"phantom-{name}", place="results", train=train)
    all_of_full(published, {"phantom-G-s0": 0.75})
    code, out, _ = cbir("publish", "--profile", "full")
    assert code == 0 and "models" not in out
    assert shipped(published) == {}
    assert published.pictures == []
    # Once it is there, the one with more training images is.
    with_network(published, "phantom-F-s0", 0.5)
    assert cbir("publish", "--profile", "full")[0] == 0
    assert set(shipped(published)) == ({"phantom-G-s0", "phantom-F-s0"} if train < 100 else set())
    assert len(published.pictures) == (train < 100)


def test_another_study_file_ships_nothing_and_removes_nothing(cbir, published):
    all_of_full(published, {"phantom-G-s0": 0.75, "phantom-F-s0": 0.5})
    assert cbir("publish", "--profile", "full")[0] == 0
    before = shipped(published)
    study = yaml.safe_load((published.root / "study.yml").read_text())
    study["profiles"]["full"] |= {"networks": []}
    (published.root / "other.yml").write_text(yaml.safe_dump(study))
    target = published.root / "results" / "full"
    planned = files_of(target)
    assert {"phantom-G-s0.json", "phantom-F-s0.json"} < planned.keys()
    other = ("publish", "--study", published.root / "other.yml", "--profile", "full")
    code, out, _ = cbir(*other)
    assert code == 0 and "removed" not in out
    assert files_of(target) == planned  # the networks that the other file does not plan
    assert shipped(published) == before and len(published.pictures) == 1


def test_what_is_removed_is_named(cbir, published):
    published.put("quick", "phantom-hog")
    published.put("quick", "phantom-left-the-study", place="results")
    assert "removed, no longer planned: phantom-left-the-study" in cbir("publish")[1]


def test_a_result_of_other_parameters_replaces_none(cbir, published):
    """As where study.yml has changed since the run was done here."""
    kept = published.put("quick", "phantom-hog", place="results")
    published.put("quick", "phantom-hog", 0.9, size=48)
    outcome = cbir("publish")
    assert_two_lines(outcome, "no finished run in", "cbir study --profile quick")
    new = published.put("quick", "phantom-lbp")
    code, out, _ = cbir("publish")
    assert code == 0
    assert "not published, of other parameters; run the study again: phantom-hog" in out
    assert results.read_published("quick") == [kept, new]


def test_a_fresh_verification_removes_the_last_only_where_it_can_be_repeated(
    cbir, published, monkeypatch
):
    published.put("quick", "phantom-hog", place="results")
    last = published.root / "build" / "quick-fresh" / "verification.json"
    last.parent.mkdir(parents=True)
    last.write_text("{}")

    def refuse(name):
        raise CbirError(f"no {name} images", "name their place")

    monkeypatch.setattr("cbir_lib.datasets.load", refuse)
    assert_two_lines(cbir("verify", "--fresh"), "no phantom images", "name their place")
    assert last.read_text() == "{}"


# Which runs are done


@pytest.fixture
def conducted(monkeypatch):
    """What the conductor is told to do, in place of doing it."""
    told = []
    monkeypatch.setattr(
        conductor, "conduct", lambda study_file, profile, **more: told.append(more) or Path("build")
    )
    return told


def test_missing_are_the_runs_without_a_published_result_of_equal_parameters(
    cbir, published, conducted
):
    for name, run in published.runs["full"].items():
        published.put("full", name, place="results")
        read = results.read(published.root / "results" / "full" / f"{name}.json")
        assert read.parameters == run.model_dump()
    code, out, _ = cbir("study", "--profile", "full", "--missing")
    assert (code, conducted) == (0, [])
    assert out == "results/full/ has all runs of the profile\n"

    folder = published.root / "results" / "full"
    (folder / "phantom-hog.json").unlink()
    published.put("full", "phantom-F-s0", place="results", epochs=2)
    published.put("full", "phantom-G-dropout-s0", place="results", learning_rate=0.02)
    published.put("full", "phantom-lbp", place="results", grid={"radius_px": [1]})
    published.put("full", "phantom-left-the-study", place="results")
    published.put("full", "phantom-hog")  # done here, but not published
    assert cbir("study", "--profile", "full", "--missing")[0] == 0
    assert [told["runs"] for told in conducted] == [
        ["phantom-F-s0", "phantom-G-dropout-s0", "phantom-hog", "phantom-lbp"]
    ]
    assert cbir("study", "--missing")[0] == 0
    assert conducted[-1]["runs"] == [*published.runs["quick"]]  # nothing of it is published


def test_effects_of_other_parameters_are_missing_and_not_published(cbir, published, conducted):
    study = yaml.safe_load((published.root / "study.yml").read_text())
    levels = {"rotation": [0.0, 90.0]}
    plan = {"descriptors": ["hog"], "queries": 3, "levels": levels}
    study["grid"]["effects"] = {"robustness": plan}
    (published.root / "study.yml").write_text(yaml.safe_dump(study, sort_keys=False))
    for name in published.runs["full"]:
        published.put("full", name)
        published.put("full", name, place="results")
    [run] = read_study(published.root / "study.yml").effects("full")
    # Of networks that were finished then, one was the best.
    measured = run.model_dump() | {"networks": run.networks[:1], "network": run.networks[0]}
    file = effects.published_path("full", "robustness")

    def put(file, **parameters):
        circumstances = WRITTEN["circumstances"]
        made = {"name": "robustness", "parameters": measured | parameters, "data": []}
        effects.write(file, effects.Effects(**made, effects=[], circumstances=circumstances))
        return file.read_bytes()

    own = put(file)
    assert cbir("study", "--profile", "full", "--missing")[1].endswith(
        "has all runs of the profile\n"
    )
    assert conducted == []
    here = paths.effects_file(published.root / "build" / "full", "robustness")
    put(here, plan=plan | {"queries": 4})
    out = cbir("publish", "--profile", "full")[1]
    assert "not published, of other parameters; run the study again: effects-robustness" in out
    assert file.read_bytes() == own
    shutil.copyfile(here, file)
    assert cbir("study", "--profile", "full", "--missing")[0] == 0
    assert conducted[-1]["runs"] == ["effects-robustness"]
    file.write_text('{"format": 1')
    outcome = cbir("study", "--profile", "full", "--missing")
    assert_two_lines(outcome, "robustness.json is not a result file", "restore it, or remove it")


def test_a_book_of_published_results_needs_them_with_the_studys_parameters(cbir, published):
    for name in published.runs["quick"]:
        published.put("quick", name, place="results", **({"size": 48} if "hog" in name else {}))
    outcome = cbir("study", "--published")
    assert_two_lines(
        outcome, "lacks, with the parameters of the study, phantom-hog", "train them: cbir study"
    )


@pytest.mark.parametrize("place", ["", "results", "models/inside"])
def test_a_study_does_not_fill_the_projects_own_folders(cbir, published, monkeypatch, place):
    monkeypatch.setenv("CBIR_BUILD", str(published.root / place))
    outcome = cbir("study", "--published")
    assert_two_lines(outcome, "is a place of the project's own files", "name another folder")
    assert not (published.root / place / "study.lock").exists()


def test_missing_and_run_exclude_each_other(cbir):
    answer = cbir("study", "--missing", "--run", "phantom-hog")
    assert_two_lines(answer, "--missing and --run exclude each other", "leave one of them out")


def test_run_may_be_repeated(cbir, published, conducted):
    names = ["phantom-F-s0", "phantom-hog"]
    code, out, _ = cbir("study", "--profile", "full", *(w for n in names for w in ("--run", n)))
    assert code == 0
    assert conducted[0]["runs"] == names
    assert out.splitlines() == [f"the run: build/runs/{name}" for name in names]
    cbir("study", "--profile", "full")
    assert conducted[1]["runs"] == []


INTERRUPTED_CLI = """
import sys, time
from pathlib import Path
from cbir_lib import paths
from cbir_lib.cli.main import main
from cbir_lib.datasets import mednist

def slow(*_):
    print("at work", flush=True)
    time.sleep(60)

{patch}
sys.argv = ["cbir", *{arguments!r}]
main()
"""


def interrupt(patch, *arguments, **environment):
    """Start the command with a part of it slowed down, press Ctrl-C there; its exit and errors."""
    process = subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED_CLI.format(patch=patch, arguments=arguments)],
        env=os.environ | environment,
        preexec_fn=heed_ctrl_c,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout.readline() == "at work\n"
    time.sleep(0.2)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=300)
    return process.returncode, "", err.splitlines()


def test_ctrl_c_while_decoding_leaves_nothing(tmp_path, data):
    cache = tmp_path / "cache"
    outcome = interrupt(
        "mednist.decode = slow",
        *("data", "check", "mednist"),
        CBIR_CACHE=str(cache),
        CBIR_DATA=str(data),
    )
    assert_two_lines(outcome, "interrupted", "start again")
    assert not cache.exists()


def test_ctrl_c_while_downloading_leaves_nothing(tmp_path):
    class Stalls(BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.send_header("Content-Length", "1000000")
            self.end_headers()
            self.wfile.write(b"x" * 100_000)
            self.wfile.flush()
            time.sleep(5)

        def log_message(self, *arguments):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Stalls)
    server.daemon_threads = True
    threading.Thread(target=server.serve_forever, daemon=True).start()
    url = f"http://127.0.0.1:{server.server_port}/MedNIST.tar.gz"
    # Tells of the download from another thread, so that the Ctrl-C comes in the middle of it.
    patch = (
        f"paths.project_root = lambda: Path({str(tmp_path)!r})\n"
        "import threading\n"
        "threading.Timer(1.5, print, ['at work'], {'flush': True}).start()"
    )
    code, out, err = interrupt(patch, "data", "fetch", "mednist", "--url", url)
    server.shutdown()
    server.server_close()
    assert_two_lines((code, out, err[-2:]), "interrupted", "start again")  # after the progress
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
