"""The command line: what it prints, and that every mistake is two lines and exit code 2."""

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
import yaml
from fixtures import heed_ctrl_c, pack, write_mednist
from PIL import Image

from cbir_lib import __version__, cli, results
from cbir_lib.descriptors.fitted import save_descriptor
from cbir_lib.descriptors.histogram import GreyHistogram
from cbir_lib.retrieval import Index

ROOT = Path(__file__).resolve().parents[1]


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_mednist(tmp_path_factory.mktemp("data") / "MedNIST", per_class=60, seed=4)


@pytest.fixture
def project(tmp_path, monkeypatch, data):
    """A project folder with one finished run: a grey histogram of the drawings."""
    from cbir_lib import evaluation, files, load, search

    monkeypatch.setattr(search, "project_root", lambda: tmp_path)
    monkeypatch.setattr(cli, "project_root", lambda: tmp_path)
    monkeypatch.setenv("CBIR_DATA", str(data))
    radiographs = load("mednist")
    train, test = radiographs.split("train"), radiographs.split("test")
    histogram = GreyHistogram()
    index = Index(histogram.distance).add(histogram.transform(train.images), train.image_ids)
    ranking = index.search(histogram.transform(test.images))
    relevant = evaluation.relevance(ranking, test.labels, train.labels)
    predicted = train.labels[ranking.rows[:, 0]]
    folder = tmp_path / "build" / "quick" / "runs" / "mednist-grey-histogram"
    results.write(
        folder / "result.json",
        results.Result(
            run="mednist-grey-histogram",
            parameters={"descriptor": "grey-histogram", "size": 64, "clahe": False},
            data=results.describe(radiographs),
            settings=histogram.get_params(),
            candidates=[],
            rules=[
                {
                    "rule": "nearest neighbour",
                    "settings": {},
                    "validation_accuracy": 0.0,
                    **evaluation.classification(test.labels, predicted, 6),
                }
            ],
            answers=predicted.tolist(),
            distances=[],
            confused=[],
            embedding=None,
            retrieval={"distance": index.distance, **evaluation.retrieval(relevant)},
            training=None,
            examples=evaluation.examples(ranking, test, train),
            circumstances=results.circumstances({"searching": 0.0}),
        ),
    )
    index.save(folder / "index.safetensors")
    save_descriptor(folder / "descriptor.safetensors", "grey-histogram", histogram)
    assert files.project_root() == ROOT  # the rest of the library still sees the real project
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
    "command", ["study", "verify", "publish", "search", "data list", "data check"]
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
        (["search"], "Missing argument", "cbir search --help"),
        (["study", "--cores", "0"], "--cores", "cbir study --help"),
        (["study", "--profile", "quik"], "profile 'quik'", "'quick'"),
        (["verify", "--profile", "quik"], "profile 'quik'", "'quick'"),
        (["verify", "--profile", "paper"], "no results of profile paper", "cpu"),
        (["verify", "--profile", "cpu", "--run", "phantom-B-s9"], "'phantom-B-s9'", "did you mean"),
        (["verify", "--run", "phantom-B-s0", "--publish"], "one run is not published", "--run"),
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
    assert "RGB, converted to grey 1" in lines


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


def test_search_finds_an_image_of_the_gallery_first(cbir, project, data):
    # An image of the training split is in the gallery: its histogram is at distance zero.
    from cbir_lib import load

    image_id = load("mednist").split("train").image_ids[0]
    picture = project / "ranking.png"
    query = data / f"{image_id}.png"
    code, out, err = cbir(
        "search", query, "--run", "mednist-grey-histogram", "-k", 3, "--out", picture
    )
    assert (code, err) == (0, [])
    lines = out.splitlines()
    assert lines[0].split() == ["rank", "image_id", "class", "distance"]
    assert lines[1].split() == ["1", image_id, image_id.split("/")[0], "0.0000"]
    assert len(lines) == 5 and lines[4] == f"picture: {picture}"
    with Image.open(picture) as drawn:
        assert drawn.width > 400 and np.asarray(drawn.convert("L")).std() > 20


def test_search_converts_what_can_be_read(cbir, project, data):
    query = project / "deep and coloured.tiff"
    grey = np.asarray(Image.open(data / "Hand" / "000001.png"), dtype=np.uint16)
    Image.fromarray(grey * 257).save(query)
    run = ("--run", "mednist-grey-histogram", "-k", 1, "--out", project / "r.png")
    assert cbir("search", query, *run)[0] == 0
    Image.fromarray(np.stack([grey.astype(np.uint8)] * 3, axis=2)).save(project / "c.png")
    assert cbir("search", project / "c.png", *run)[0] == 0


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
    run = ("--run", "mednist-grey-histogram", "--out", project / "r.png")
    assert_two_lines(cbir("search", project / "query.png", *run), what)
    assert sorted(project.rglob("*")) == before


def test_search_names_the_members_of_a_combination(cbir, project, data):
    runs = project / "build" / "quick" / "runs"
    result = results.read(runs / "mednist-grey-histogram" / "result.json")
    parameters = {"members": ["hog", "thumbnail"]}
    combined = result.model_copy(update={"parameters": parameters})
    results.write(runs / "mednist-combination" / "result.json", combined)
    outcome = cbir("search", data / "Hand" / "000001.png", "--run", "mednist-combination")
    assert_two_lines(outcome, "no gallery of its own", "hog, thumbnail")


def test_search_mistakes(cbir, project, data):
    query = data / "Hand" / "000001.png"
    out = ("--out", project / "r.png")
    run = ("--run", "mednist-grey-histogram")
    assert_two_lines(cbir("search", query, "--run", "mednist-gray", *out), "run 'mednist-gray'")
    assert_two_lines(cbir("search", query, *run, "-k", 0, *out), "k = 0", "1 to")
    assert_two_lines(cbir("search", query, *run, "-k", 9999, *out), "k = 9999", "1 to")
    assert_two_lines(cbir("search", query, *run, "--profile", "paper", *out), "no finished run")
    index = project / "build/quick/runs/mednist-grey-histogram/index.safetensors"
    index.write_bytes(index.read_bytes()[:-100])
    assert_two_lines(cbir("search", query, *run, *out), "index.safetensors", "build it again")
    assert not (project / "r.png").exists()


def test_publish_copies_the_results_of_the_study_and_no_others(cbir, project):
    profile = {"dataset": "mednist", "training": {"epochs": 1}}
    grid = {"descriptors": {"grey-histogram": {}}}
    study = {"profiles": {"quick": profile, "paper": profile}, "grid": grid}
    (project / "study.yml").write_text(yaml.safe_dump(study))
    runs, target = project / "build/quick/runs", project / "results/quick"
    shutil.copytree(runs / "mednist-grey-histogram", runs / "mednist-left-the-study")
    target.mkdir(parents=True)
    (target / "mednist-left-as-well.json").write_text("{}")
    code, out, _ = cbir("publish")
    assert code == 0 and "1 results" in out and "pictures" not in out
    assert [path.stem for path in target.iterdir()] == ["mednist-grey-histogram"]
    made = results.read(runs / "mednist-grey-histogram" / "result.json")
    assert made == results.read(target / "mednist-grey-histogram.json")
    assert_two_lines(cbir("publish", "--profile", "paper"), "result.json", "run the study first")


INTERRUPTED_CLI = """
import sys, time
from pathlib import Path
from cbir_lib import cli
from cbir_lib.datasets import mednist

def slow(*_):
    print("at work", flush=True)
    time.sleep(60)

{patch}
sys.argv = ["cbir", *{arguments!r}]
cli.main()
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
    _, err = process.communicate(timeout=30)
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
        f"cli.project_root = lambda: Path({str(tmp_path)!r})\n"
        "import threading\n"
        "threading.Timer(1.5, print, ['at work'], {'flush': True}).start()"
    )
    code, out, err = interrupt(patch, "data", "fetch", "mednist", "--url", url)
    server.shutdown()
    server.server_close()
    assert_two_lines((code, out, err[-2:]), "interrupted", "start again")  # after the progress
    assert [path for path in tmp_path.rglob("*") if path.is_file()] == []
