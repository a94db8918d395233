"""An archive in Milvus: the engine's embedded form, its server in a process of its own, and the
server of Milvus itself."""

import os
import socket
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import numpy as np
import pytest
from filelock import FileLock
from PIL import Image

from cbir_lib.archive import milvus
from cbir_lib.archive.milvus import MilvusIndex, compute_id, name_collection, push
from cbir_lib.archive.store import Archive, format_description
from cbir_lib.archive.update import build
from cbir_lib.errors import CbirError
from cbir_lib.retrieval.index import Index
from tests.archive.test_store import NAME, NETWORK, STRANGE, draw
from tests.cli.test_commands import assert_two_lines
from tests.fixtures import drawing

pytest.importorskip("pymilvus")
pytest.importorskip("milvus_lite")

LONGEST_S = 100  # of waiting for a server; a client without a limit waits for ever

RNG = np.random.default_rng(0)


@pytest.fixture(scope="module")
def images(tmp_path_factory):
    folder = draw(tmp_path_factory.mktemp("milvus") / "images", 40)
    (folder / STRANGE).parent.mkdir(parents=True)
    Image.fromarray(drawing(3, RNG)).save(folder / STRANGE)
    Image.open(folder / "1" / "002.png").save(folder / 'a "copy" \\ é.tif')
    return folder


@pytest.fixture
def uri(tmp_path):
    return str(tmp_path / "vectors.db")


def index_for(archive, uri, **changes):
    described = archive.description
    settings = {
        "collection": name_collection(archive),
        "distance": described.distance,
        "descriptor": described.identity,
        "archive": described.archive,
    }
    return MilvusIndex(uri, **settings | changes)


def start_server(folder, port=0):
    """Start a server in another process; return the process and its port."""
    for _ in range(5):  # another process may take a port that was free
        with socket.socket() as probe:
            # A server that was killed leaves its port waiting.
            probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            probe.bind(("127.0.0.1", port))
            chosen = probe.getsockname()[1]
        code = (
            "from milvus_lite.adapter.grpc.server import run_server;"
            f"run_server({str(folder)!r}, '127.0.0.1', {chosen})"
        )
        process = subprocess.Popen(
            [sys.executable, "-u", "-c", code], stdout=subprocess.PIPE, text=True
        )
        if "listening" in process.stdout.readline():
            return process, chosen
        process.kill()
        process.communicate()
    raise AssertionError("no server starts")


@pytest.fixture
def server(tmp_path):
    """The address of a server in another process, and the process."""
    process, port = start_server(tmp_path / "server")
    yield f"http://127.0.0.1:{port}", process
    process.kill()
    process.communicate()


@pytest.mark.parametrize("distance", milvus.METRICS)
@pytest.mark.parametrize("method", milvus.METHODS)
def test_neighbours_and_distances_are_those_of_the_exact_index(uri, distance, method):
    vectors = RNG.normal(size=(300, 24)).astype(np.float32)
    vectors[:5] *= 30  # lengths matter to one distance only
    queries = RNG.normal(size=(20, 24)).astype(np.float32)
    paths = [f"a/{number:03}.png" for number in range(300)]
    exact = Index(distance).add(vectors, paths)
    expected = exact.search(queries, 9)
    with MilvusIndex(uri, "vectors", distance, "d", method) as index:
        index.add(vectors, paths, [""] * 300)
        assert len(index) == 300
        ranking = index.search(queries, 9)
    assert ranking.distances.dtype == np.float32
    np.testing.assert_allclose(ranking.distances, expected.distances, rtol=2e-5, atol=2e-5)
    assert (ranking.ids == exact.ids[expected.rows]).all()


@pytest.mark.parametrize(("name", "distance"), [("hog", "L2"), (NETWORK, "cosine")])
def test_an_archive_is_searched_there_as_here(tmp_path, images, uri, name, distance):
    archive = build(images, tmp_path / "archive", name).archive
    assert archive.description.distance == distance
    queries = [images / "1" / "002.png", images / STRANGE, images / "0" / "000.png"]
    with index_for(archive, uri) as index:
        assert push(archive, index) == (42, 0, 0)
        for k in (1, 7, 42):
            here, there = archive.search(queries, k), archive.search(queries, k, index)
            assert there[["query", "rank"]].equals(here[["query", "rank"]])
            np.testing.assert_allclose(there["distance"], here["distance"], atol=1e-3)
            # Which is which of two as near as rounding can tell is left to either.
            for (_, one), (_, other) in zip(
                here.groupby("query"), there.groupby("query"), strict=True
            ):
                gaps = np.diff(one["distance"], prepend=-1, append=9)
                clear = (gaps[:-1] > 2e-3) & (gaps[1:] > 2e-3)
                assert one["path"].to_numpy()[clear].tolist() == (
                    other["path"].to_numpy()[clear].tolist()
                )
                if k == 42:
                    assert set(one["path"]) == set(other["path"])
        with pytest.raises(CbirError, match="k = 43 is out of range"):
            archive.search(queries, 43, index)


def test_only_what_differs_travels(tmp_path, uri, monkeypatch):
    images = draw(tmp_path / "images", 12)
    place = tmp_path / "archive"
    archive = build(images, place, "hog").archive
    with index_for(archive, uri) as index:
        assert push(archive, index) == (12, 0, 0)
    (images / "0" / "000.png").unlink()
    Image.fromarray(drawing(5, RNG)).save(images / "0" / "001.png")
    draw(images / "new", 3, seed=9)
    build(images, place)
    with index_for(archive, uri) as index:
        sent = []
        add = index.add
        monkeypatch.setattr(
            index, "add", lambda v, paths, c: (sent.extend(paths), add(v, paths, c))
        )
        assert push(archive, index) == (4, 1, 10)
        assert sorted(sent) == ["0/001.png", "new/0/000.png", "new/1/000.png", "new/2/000.png"]
        assert len(index) == 14
        rows, _ = archive.read_vectors()
        assert index.contents() == {compute_id(row.path): row.content for row in rows}
        query = images / "0" / "002.png"
        here, there = archive.search([query], 13), archive.search([query], 13, index)
        assert there["path"].tolist() == here["path"].tolist()
        index.remove([compute_id("0/001.png"), compute_id("not there")])
        assert len(index) == 13


def test_a_push_does_not_miss_what_a_build_has_just_removed(tmp_path, images, uri, monkeypatch):
    archive = build(images, tmp_path / "archive", "hog").archive
    gone = archive.place / "shards" / "000000.safetensors"
    shards = Archive.shards
    monkeypatch.setattr(Archive, "shards", lambda self: [gone, *shards(self)])
    with index_for(archive, uri) as index:
        assert push(archive, index) == (42, 0, 0)
        assert push(archive, index) == (0, 0, 42)


def test_many_rows_travel_in_small_calls_and_are_all_listed(uri, monkeypatch):
    monkeypatch.setattr(milvus, "BATCH_BYTES", 4 * 8 * 100)  # 100 vectors of 8 values
    monkeypatch.setattr(milvus, "LISTED", 100)
    vectors = RNG.normal(size=(350, 8)).astype(np.float32)
    paths = [f"{number}.png" for number in range(350)]
    contents = [f"{number:064}" for number in range(350)]
    with MilvusIndex(uri, "vectors", "L2", "d") as index:
        calls = []
        upsert = index._client.upsert

        def count(*arguments, data, **more):
            calls.append(len(data))
            return upsert(*arguments, data=data, **more)

        monkeypatch.setattr(index._client, "upsert", count)
        index.add(vectors, paths, contents)
        assert calls == [100, 100, 100, 50]
        index.add(vectors[:50], paths[:50], contents[1:51])  # replaced, not twice there
        assert len(index) == 350
        expected = dict(zip(map(compute_id, paths), [*contents[1:51], *contents[50:]], strict=True))
        assert index.contents() == expected
        index.remove([compute_id(path) for path in paths[:340]])
        assert len(index) == 10
        assert set(index.search(vectors[:1], 10).ids[0]) == set(paths[340:])
        assert index.search(vectors[:1], 12).ids[0, 10:].tolist() == ["", ""]


def test_a_push_that_was_killed_goes_on(tmp_path, images, server, monkeypatch):
    uri, _ = server
    monkeypatch.setattr("cbir_lib.archive.update.SHARD", 8)
    archive = build(images, tmp_path / "archive", "hog").archive
    code = (
        "import sys, time\n"
        "from cbir_lib.archive import milvus; from cbir_lib.cli.main import main\n"
        "add = milvus.MilvusIndex.add\n"
        "def slow(*given):\n"
        "    add(*given); print('sent', flush=True); time.sleep(30)\n"
        "milvus.MilvusIndex.add = slow\n"
        f"sys.argv = ['cbir', 'index', 'push', {str(archive.place)!r}, '--to', {uri!r}]\n"
        "main()"
    )
    process = subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "sent\n"
    process.kill()
    process.communicate()
    with index_for(archive, uri) as index:
        assert len(index) == 8
        with pytest.warns(UserWarning, match="has not all its images, or other ones; push again"):
            archive.search([images / "0" / "000.png"], 8, index)
        assert push(archive, index) == (34, 0, 8)
        here = archive.search([images / "0" / "000.png"], 20)
        assert archive.search([images / "0" / "000.png"], 20, index)["path"].equals(here["path"])


@pytest.fixture
def standalone(tmp_path):
    """A function that starts the server of Milvus; it keeps its data from one start to the next."""
    milvus_server = pytest.importorskip("milvus", reason="no server: pip install milvus==2.3.*")
    runtime = Path("/tmp/milvus")  # the server takes no other
    if runtime.exists() and not os.access(runtime, os.W_OK):
        pytest.skip(f"{runtime}, which the server writes to, belongs to another user")
    server = milvus_server.MilvusServer(data_dir=str(tmp_path / "milvus"))
    # Seconds until a server that was killed no longer counts as there, and collections are loaded.
    server.config.set("common.session.ttl", 5)

    def start():
        server.stop()  # what is left of one that was killed
        server.start()
        return f"http://127.0.0.1:{server.listen_port}", server.server_proc

    # Its database takes a fixed port, so there is one server at a time on a machine.
    with FileLock(Path(tempfile.gettempdir(), f"milvus-server-of-{os.getuid()}.lock")):
        yield start
        if server.server_proc:  # its package waits three seconds at most
            server.server_proc.kill()
            server.server_proc.wait()
        server.stop()


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # of its package
def test_the_server_of_milvus_killed_during_a_push_goes_on_and_answers_as_here(
    tmp_path, standalone, monkeypatch
):
    monkeypatch.setattr("cbir_lib.archive.update.SHARD", 8)
    images = draw(tmp_path / "images", 40)
    archive = build(images, tmp_path / "archive", "hog").archive
    uri, process = standalone()
    add, sent = MilvusIndex.add, []

    def die_in_the_third(*arguments):
        sent.append(arguments)
        if len(sent) == 3:
            process.kill()
            process.wait()
            patch.setattr(milvus, "CALL_S", 5)
        add(*arguments)

    with monkeypatch.context() as patch, index_for(archive, uri, method="hnsw") as index:
        patch.setattr(MilvusIndex, "add", die_in_the_third)
        with pytest.raises(CbirError, match="failed"):
            push(archive, index)
    uri, _ = standalone()
    with index_for(archive, uri) as index:
        assert len(index) == 16
        assert push(archive, index) == (24, 0, 16)
    (images / "0" / "000.png").unlink()
    Image.fromarray(drawing(5, RNG)).save(images / "0" / "001.png")
    draw(images / "new", 3, seed=9)
    build(images, tmp_path / "archive")
    queries = [images / "0" / "001.png", images / "1" / "003.png"]
    with index_for(archive, uri) as index:
        assert push(archive, index) == (4, 1, 38)
        rows, _ = archive.read_vectors()
        assert index.contents() == {compute_id(row.path): row.content for row in rows}
        here, there = archive.search(queries, 42), archive.search(queries, 42, index)
    assert there["path"].equals(here["path"])
    np.testing.assert_allclose(there["distance"], here["distance"], atol=1e-3)


# On the command line


def test_push_and_search_on_the_command_line(cbir, tmp_path, images, server):
    for uri in (str(tmp_path / "a.db"), server[0]):
        place = tmp_path / "archive"
        cbir("index", "build", images, "--descriptor", "hog", "--out", place)
        code, out, _ = cbir("index", "push", place, "--to", uri)
        assert code == 0 and "42 added or changed, 0 removed, 0 unchanged: 42 images" in out
        code, out, _ = cbir("index", "push", place, "--to", uri)
        assert code == 0 and "0 added or changed, 0 removed, 42 unchanged: 42 images" in out
        search = ("index", "search", place, images / "0" / "001.png", "-k", "5", "--format", "json")
        code, there, err = cbir(*search, "--milvus", uri)
        assert (code, err) == (0, [])
        here = cbir(*search)[1]
        assert [row.split('"')[3] for row in there.splitlines() if '"path"' in row] == [
            row.split('"')[3] for row in here.splitlines() if '"path"' in row
        ]


# What is not there, or does not fit


def test_a_server_that_is_not_there(cbir, tmp_path, images):
    place = tmp_path / "archive"
    build(images, place, "hog")
    before = {file: file.read_bytes() for file in place.rglob("*") if file.is_file()}
    taken = socket.socket()  # and it does not listen
    taken.bind(("127.0.0.1", 0))
    uri = f"http://somebody:secret@127.0.0.1:{taken.getsockname()[1]}"
    for arguments in (
        ("push", place, "--to", uri),
        ("search", place, images / "0" / "000.png", "--milvus", uri),
    ):
        started = time.monotonic()
        outcome = cbir("index", *arguments)
        assert time.monotonic() - started < LONGEST_S
        assert_two_lines(outcome, "no Milvus answers at http://127.0.0.1:", "nothing was changed")
        assert "secret" not in "".join(outcome[2])
    taken.close()
    assert before == {file: file.read_bytes() for file in before}


def test_a_server_that_says_nothing(tmp_path, images):
    archive = build(images, tmp_path / "archive", "hog").archive
    with socket.socket() as silent:
        silent.bind(("127.0.0.1", 0))
        silent.listen()
        started = time.monotonic()
        with pytest.raises(CbirError, match="no Milvus answers"):
            index_for(archive, f"http://127.0.0.1:{silent.getsockname()[1]}")
        assert time.monotonic() - started < LONGEST_S


def test_a_server_that_goes_away_in_the_middle(cbir, tmp_path, images, server, monkeypatch):
    uri, process = server
    monkeypatch.setattr("cbir_lib.archive.update.SHARD", 8)
    monkeypatch.setattr(milvus, "CALL_S", 5)
    place = tmp_path / "archive"
    archive = build(images, place, "hog").archive
    add, sent = MilvusIndex.add, []

    def die_after_two(*arguments):
        add(*arguments)
        sent.append(arguments)
        if len(sent) == 2:
            process.kill()
            process.wait()

    with monkeypatch.context() as patch:
        patch.setattr(MilvusIndex, "add", die_after_two)
        code, out, err = cbir("index", "push", place, "--to", uri)
    lines = [line for line in err if not line.startswith("images: ")]
    assert_two_lines((code, out, lines), "failed", "start again; what it has received")
    process, _ = start_server(tmp_path / "server", int(uri.rsplit(":", 1)[1]))
    try:
        with index_for(archive, uri) as index:
            assert push(archive, index) == (26, 0, 16)
    finally:
        process.kill()
        process.communicate()


def test_a_collection_of_something_else_is_refused(cbir, tmp_path, images, uri):
    place = tmp_path / "archive"
    archive = build(images, place, "hog").archive
    vectors = RNG.normal(size=(3, 8)).astype(np.float32)
    paths = ["a", "b", "c"]
    identity, own = archive.description.identity, archive.description.archive
    for name, distance, descriptor, of in (
        ("other_descriptor", "L2", "x", own),
        ("other_archive", "L2", identity, "x"),
        ("no_archive", "L2", identity, ""),
        ("other_distance", "cosine", identity, own),
        ("other_dimension", "L2", identity, own),
    ):
        with MilvusIndex(uri, name, distance, descriptor, archive=of) as index:
            index.add(vectors, paths, paths)
    query = images / "0" / "000.png"
    for name, what in (
        ("other_descriptor", "is of another descriptor"),
        ("other_archive", "is of another archive"),
        ("no_archive", "is of another archive"),
        ("other_distance", "compares by COSINE, not by L2"),
        ("other_dimension", "do not fit a collection of 8"),
    ):
        to = ("--collection", name)
        assert_two_lines(cbir("index", "push", place, "--to", uri, *to), what)
        outcome = cbir("index", "search", place, query, "-k", "2", "--milvus", uri, *to)
        assert_two_lines(outcome, what)
    with MilvusIndex(uri, "other_dimension", "L2", identity, archive=own) as index:
        assert len(index) == 3
    assert_two_lines(
        cbir("index", "search", place, query, "--milvus", uri), "has no collection", "index push"
    )


def test_two_archives_of_one_descriptor_share_a_database(cbir, tmp_path, images, uri):
    other = draw(tmp_path / "other", 6, seed=3)
    places = {images: tmp_path / "one", other: tmp_path / "two"}
    for folder, place in places.items():
        build(folder, place, "hog")
        assert cbir("index", "push", place, "--to", uri)[0] == 0
    for folder, place in places.items():
        archive, query = Archive(place), folder / "0" / "000.png"
        with index_for(archive, uri) as index:
            assert len(index) == len(archive)
            assert archive.search([query], 5, index)["path"].equals(
                archive.search([query], 5)["path"]
            )
    name = name_collection(Archive(tmp_path / "one"))
    outcome = cbir("index", "push", tmp_path / "two", "--to", uri, "--collection", name)
    assert_two_lines(outcome, f"the collection {name} of {uri} is of another archive", "another")


def test_a_collection_older_than_its_archive_is_said(cbir, tmp_path, uri):
    images, place = draw(tmp_path / "images", 12), tmp_path / "archive"
    build(images, place, "hog")
    search = ("index", "search", place, images / "0" / "000.png", "-k", "3", "--milvus", uri)
    cbir("index", "push", place, "--to", uri)
    assert cbir(*search)[2] == []
    Image.fromarray(drawing(5, RNG)).save(images / "0" / "001.png")
    build(images, place)
    code, out, err = cbir(*search)
    assert code == 0 and out and len(err) == 1
    assert err[0].endswith(f"push again: cbir index push {place} --to {uri}")
    cbir("index", "push", place, "--to", uri)
    assert cbir(*search)[2] == []


def test_a_build_during_a_push_leaves_it_unfinished(tmp_path, uri, monkeypatch):
    images, place = draw(tmp_path / "images", 12), tmp_path / "archive"
    archive = build(images, place, "hog").archive
    add = MilvusIndex.add

    def build_meanwhile(*arguments):
        monkeypatch.setattr(MilvusIndex, "add", add)
        add(*arguments)
        (images / "0" / "000.png").unlink()
        draw(images / "new", 3, seed=9)
        monkeypatch.setattr("cbir_lib.archive.update.SHARD", 8)
        build(images, place)

    monkeypatch.setattr(MilvusIndex, "add", build_meanwhile)
    with index_for(archive, uri) as index:
        push(archive, index)
        assert "push again" in index.find_gap(archive)
        push(archive, index)
        assert index.find_gap(archive) == ""


def test_the_method_of_a_collection_is_the_one_it_was_made_with(cbir, tmp_path, images, uri):
    build(images, tmp_path / "archive", "hog")
    push_to = ("index", "push", tmp_path / "archive", "--to", uri)
    assert cbir(*push_to, "--method", "hnsw")[0] == 0
    assert cbir(*push_to)[0] == cbir(*push_to, "--method", "hnsw")[0] == 0
    outcome = cbir(*push_to, "--method", "exact")
    assert_two_lines(outcome, "is searched by HNSW, not by FLAT", "--collection NAME")
    assert cbir(*push_to, "--method", "exact", "--collection", "other")[0] == 0


def test_a_mistyped_database_is_not_made(cbir, tmp_path, images):
    build(images, tmp_path / "archive", "hog")
    search = ("index", "search", tmp_path / "archive", images / "0" / "000.png")
    outcome = cbir(*search, "--milvus", tmp_path / "mistyped.db")
    assert_two_lines(outcome, "has no collection", "index push")
    assert not (tmp_path / "mistyped.db").exists()


def test_an_archive_of_an_earlier_version_gets_an_identity_by_a_build(cbir, tmp_path, images, uri):
    place = tmp_path / "archive"
    there = build(images, place, "hog").archive.description.model_copy(update={"archive": None})
    (place / "archive.json").write_text(format_description(there))
    for more in ((), ("--collection", "mine")):
        outcome = cbir("index", "push", place, "--to", uri, *more)
        assert_two_lines(
            outcome, "was built by an earlier version", "build again: cbir index build"
        )
    build(images, place)
    own = Archive(place).description.archive
    assert cbir("index", "push", place, "--to", uri)[0] == 0
    build(images, place)
    assert Archive(place).description.archive == own


@pytest.mark.parametrize(
    ("arguments", "what", "hint"),
    [
        (["--to", "vectors"], "vectors is not an address of Milvus", "http://"),
        (["--to", "nowhere/vectors.db"], "no folder nowhere", ""),
        (["--to", "a.db", "--collection", "my vectors"], "'my vectors'", "letters"),
        (["--to", "a.db", "--method", "ivf"], "method in Milvus 'ivf'", "exact, hnsw"),
        (["--to", "text.db"], "cannot open text.db", "another process"),
    ],
)
def test_mistakes_in_pushing(cbir, tmp_path, images, monkeypatch, arguments, what, hint):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "text.db").write_text("no database")
    build(images, "archive", "hog")
    assert_two_lines(cbir("index", "push", "archive", *arguments), what, hint)
    assert not (tmp_path / "a.db").exists()


def test_a_distance_that_milvus_has_not_is_refused(cbir, tmp_path, images, uri):
    build(images, tmp_path / "archive", NAME)
    outcome = cbir("index", "push", tmp_path / "archive", "--to", uri)
    assert_two_lines(outcome, "Milvus has no distance Jensen-Shannon", "--distance L2 or")
    build(images, tmp_path / "by L2", NAME, distance="L2")
    assert cbir("index", "push", tmp_path / "by L2", "--to", uri)[0] == 0


def test_vectors_that_milvus_cannot_hold_are_refused(uri):
    with MilvusIndex(uri, "a", "L2", "d") as index:
        with pytest.raises(CbirError, match="32769 values are too long"):
            index.add(np.zeros((1, 32769), np.float32), ["a"], ["a"])
        with pytest.raises(CbirError, match="too long for Milvus"):
            index.add(np.zeros((1, 4), np.float32), ["é" * 2049], ["a"])
        index.add(np.ones((1, 4), np.float32), ["é" * 2048], ["a"])
        with pytest.raises(CbirError, match="do not fit a collection of 4"):
            index.add(np.ones((1, 5), np.float32), ["b"], ["b"])
        with pytest.raises(CbirError, match="k = 16385 is out of range"):
            index.search(np.ones((1, 4), np.float32), 16385)
        assert index.search(np.ones((1, 4), np.float32), 1).ids[0, 0] == "é" * 2048


def test_a_database_that_another_process_has_open(uri, tmp_path, images):
    code = (
        "from cbir_lib.archive.milvus import MilvusIndex\n"
        f"with MilvusIndex({uri!r}, 'a', 'L2', 'd'): print('open', flush=True); input()"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout.readline() == "open\n"
    with pytest.raises(CbirError, match="cannot open"):
        MilvusIndex(uri, "a", "L2", "d")
    process.communicate("\n", timeout=300)
    assert process.returncode == 0
    MilvusIndex(uri, "a", "L2", "d").close()


def test_one_database_may_be_open_twice_in_a_process(uri):
    one, other = (MilvusIndex(uri, name, "L2", "d") for name in ("one", "other"))
    one.add(np.ones((1, 4), np.float32), ["a"], ["a"])
    one.close()
    other.add(np.ones((1, 4), np.float32), ["a"], ["a"])
    assert len(other) == 1
    other.close()
    threads = [thread.name for thread in threading.enumerate() if "milvus" in thread.name.lower()]
    assert threads == []


@pytest.mark.parametrize("address", ["root:SECRET@milvus.example:19530", "./milvus.db"])
def test_an_address_in_the_environment_is_not_read(tmp_path, images, address):
    """pymilvus reads it when it is imported, and fails with the address in its message."""
    build(images, tmp_path / "archive", "hog")
    command = [sys.executable, "-m", "cbir_lib.cli", "index", "push", tmp_path / "archive"]
    pushed = subprocess.run(
        [*map(str, command), "--to", str(tmp_path / "a.db")],
        env=os.environ | {"MILVUS_URI": address},
        capture_output=True,
        text=True,
    )
    assert pushed.returncode == 0, pushed.stderr
    assert "SECRET" not in pushed.stdout + pushed.stderr


def test_handlers_of_logging_are_left_to_who_has_set_them_up(tmp_path):
    """pymilvus configures logging when it is imported, which closes them."""
    code = (
        "import logging, sys\n"
        "from cbir_lib.archive.milvus import MilvusIndex\n"
        "logging.basicConfig(filename='own.log', level='INFO')\n"
        "kept = list(logging.getLogger().handlers)\n"
        "assert 'pymilvus' not in sys.modules\n"
        "MilvusIndex('a.db', 'c', 'L2', 'd').close()\n"
        "assert logging.getLogger().handlers == kept and kept[0].stream is not None\n"
        "assert kept[0] in [weak() for weak in logging._handlerList]\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=tmp_path, check=True)


def test_what_a_search_cannot_choose_is_refused(cbir, tmp_path, images):
    build(images, tmp_path / "archive", "hog")
    search = ("index", "search", tmp_path / "archive", images / "0" / "000.png")
    to = ("--milvus", tmp_path / "a.db")
    assert_two_lines(cbir(*search, *to, "--method", "hnsw"), "the method it was pushed with")
    assert_two_lines(cbir(*search, "--collection", "c"), "a collection is in Milvus", "--milvus")


def test_without_pymilvus_it_says_what_to_install(cbir, tmp_path, images, monkeypatch):
    build(images, tmp_path / "archive", "hog")
    for missing in ("pymilvus", "milvus_lite"):
        with monkeypatch.context() as patch:
            patch.setitem(sys.modules, missing, None)
            outcome = cbir("index", "push", tmp_path / "archive", "--to", tmp_path / "a.db")
        assert_two_lines(outcome, f"{missing} is missing", 'pip install "cbir_lib[milvus]"')
    assert Archive(tmp_path / "archive").search([images / "0" / "000.png"]) is not None
