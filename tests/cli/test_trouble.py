"""Answers go where they are sent; whatever goes wrong, no traceback reaches a user."""

import json
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from cbir_lib import paths
from cbir_lib.archive import update
from cbir_lib.cli import index, main
from tests.fixtures import write_drawings


@pytest.fixture(scope="module")
def place(tmp_path_factory):
    """A folder with an archive, and queries with odd names."""
    root = tmp_path_factory.mktemp("trouble")
    write_drawings(root / "images", 6)
    update.build(root / "images", root / "archive", "grey-histogram")
    picture = (root / "images" / "000.png").read_bytes()
    for name in (b"bad\xff.png", "Ω.png".encode(), b"two\nlines.png", b"q.png"):
        Path(root, os.fsdecode(name)).write_bytes(picture)
    return root


# Several commands in one process, which takes seconds to start; their exit codes go to a file.
COMMANDS = """
import json, sys
from cbir_lib.cli.main import main
codes = []
for arguments in json.loads(sys.argv[1]):
    sys.argv = ["cbir", *arguments]
    try:
        main()
    except SystemExit as stop:
        codes.append(stop.code)
json.dump(codes, open("codes.json", "w"))
"""


def run(place, *command, shell="", **environment):
    """Run Python in a process of its own, with a shell's redirection."""
    quoted = " ".join(f"'{argument}'" for argument in command)
    return subprocess.run(
        f'"{sys.executable}" {quoted} {shell}'.encode(errors="surrogateescape"),
        shell=True,
        cwd=place,
        env=os.environ | {"PYTHONPATH": str(paths.project_root())} | environment,
        capture_output=True,
    )


def search(place, *arguments, shell=""):
    """Search as users do."""
    command = ("-m", "cbir_lib.cli", "index", "search", "archive", "q.png", *arguments)
    return run(place, *command, shell=shell)


def search_often(place, *searches, shell="", **environment):
    """Search several times in one process."""
    commands = json.dumps([["index", "search", "archive", *each] for each in searches])
    ended = run(place, "-c", COMMANDS, commands, shell=shell, **environment)
    codes = json.loads((place / "codes.json").read_text())
    assert (ended.returncode, codes) == (0, [0] * len(searches)), ended.stderr
    return ended


def test_any_name_can_be_asked_for(place):
    html = ("two\nlines.png", "--format", "html", "--out", "answer")
    names = (("bad\udcff.png", "-k", "2"), html, ("Ω.png", "-k", "2", "--format", "json"))
    ended = search_often(place, *names, PYTHONIOENCODING="latin-1")
    assert ended.stderr == b""
    table, _, answer = ended.stdout.partition(b"[")
    assert b"00" in table and (place / "answer").exists()
    assert len(json.loads(b"[" + answer)) == 2


def test_json_on_a_terminal_of_ascii_is_json(place):
    shutil.copy(place / "q.png", place / "ä.png")
    ended = search_often(
        place, ("ä.png", "-k", "1", "--format", "json"), PYTHONIOENCODING="ascii:backslashreplace"
    )
    assert json.loads(ended.stdout)[0]["query"] == "ä.png"


def assert_refused(code, lines, said):
    assert code == 2
    assert [line[:6] for line in lines] == ["error:", "hint: "], lines
    assert said in "".join(lines)


@pytest.mark.parametrize("command", [("index", "build", ""), ("index", "search", "x", "", "-k")])
def test_an_empty_argument_is_no_folder(command, cbir):
    code, _, lines = cbir(*command)
    assert_refused(code, lines, "an argument is empty")


@pytest.mark.parametrize(
    ("out", "said"),
    [
        (".", "it is a folder"),
        ("/proc/x.html", "cannot write /proc/x.html"),
        ("q.png/x", "q.png is not a folder"),
        ("/dev/full", "no space left"),
    ],
)
def test_what_cannot_be_written_there_is_two_lines(place, out, said, cbir, monkeypatch):
    monkeypatch.chdir(place)
    code, _, lines = cbir("index", "search", "archive", "q.png", "--out", out)
    assert_refused(code, lines, said)


def test_a_full_disk_behind_the_output_is_two_lines(place):
    ended = search(place, shell="> /dev/full")
    assert_refused(ended.returncode, ended.stderr.decode().splitlines(), "No space left")


def test_a_closed_output_is_two_lines_and_a_closed_input_is_not_missed(place):
    ended = search(place, shell=">&-")
    assert_refused(ended.returncode, ended.stderr.decode().splitlines(), "it is closed")
    # The first file that is opened must not get the number of standard error, and its messages.
    ended = search(place, "--out", "answer.txt", shell="2>&- <&-")
    assert ended.returncode == 0 and b"answer.txt" in ended.stdout
    assert len((place / "answer.txt").read_text().splitlines()) == 6


@pytest.mark.parametrize(
    "command",
    [
        ("report", "--dataset", "phantom"),
        ("effects", "real", "--data-root", "none"),
        ("effects", "gap", "--data-root", "none"),
        *(("effects", name) for name in ("labels", "transfer", "redrawn")),
        ("index", "search", "none", "none.png"),
    ],
    ids=" ".join,
)
def test_where_an_answer_cannot_go_is_said_before_it_is_computed(command, cbir, tmp_path):
    began = time.monotonic()
    code, _, lines = cbir(*command, "--out", str(tmp_path))
    assert_refused(code, lines, "it is a folder")
    assert time.monotonic() - began < 60  # of minutes to hours


@pytest.mark.parametrize("out", ["/dev/stdout", "-"])
def test_standard_output_by_name_has_the_answer_alone(place, out):
    ended = search(place, "--format", "json", "--out", out)
    assert ended.returncode == 0
    assert len(json.loads(ended.stdout)) == 5
    assert ended.stderr == f"5 results in {out}\n".encode()
    assert not (place / "-").exists()


def test_an_open_file_has_the_answer_and_what_is_said_one_after_the_other(place):
    files = ("/dev/stdout", "/dev/stderr", "/dev/fd/2", "/proc/self/fd/1")
    searches = [("q.png", "--format", "json", "--out", file) for file in files]
    search_often(place, *searches, shell="> both.txt 2>&1")
    text = (place / "both.txt").read_text()
    for file in files:
        answer, said, text = text.partition(f"5 results in {file}\n")
        assert said and len(json.loads(answer)) == 5
    assert text == ""


def test_a_reader_that_has_enough_is_no_error(place):
    ended = search(place, shell="| true")
    assert (ended.stdout, ended.stderr) == (b"", b"")


TROUBLE = {
    PermissionError(13, "Permission denied", "a.png"): (2, "a.png: Permission denied"),
    OSError(30, "Read-only file system", "x"): (2, "Read-only"),
    MemoryError(): (2, "too little memory"),
    RuntimeError("can't start new thread"): (2, "too little memory"),
    KeyboardInterrupt(): (2, "interrupted"),
    UnicodeEncodeError("latin-1", "Ω", 0, 1, "ordinal not in range"): (2, "latin-1"),
    KeyError("classes"): (70, "a fault in cbir itself: KeyError: 'classes'"),
    RecursionError("too deep"): (70, "RecursionError"),
}


@pytest.mark.parametrize("error", TROUBLE, ids=lambda error: type(error).__name__)
def test_no_exception_leaves_the_command(error, place, monkeypatch, capsys, tmp_path):
    def fail(*_, **__):
        raise error

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(index, "_search_archive", fail)
    search = ["cbir", "index", "search", str(place / "archive"), str(place / "q.png")]
    monkeypatch.setattr(sys, "argv", search)
    with pytest.raises(SystemExit) as stop:
        main.main()
    code, said = TROUBLE[error]
    lines = capsys.readouterr().err.splitlines()
    assert stop.value.code == code
    assert len(lines) == 2 and said in lines[0]
    logs = list(tmp_path.glob("cbir-*.log"))
    assert len(logs) == (code == 70)
    for log in logs:
        assert str(log) in lines[1]
        assert "Traceback" in log.read_text() and "cbir 0" in log.read_text()


def test_credentials_are_hidden_in_errors_and_logs(place, monkeypatch, capsys, tmp_path):
    address = "http://root:s3/cr@et@localhost:19530/db?token=t0ken"

    def fail(*_, **__):
        raise LookupError(f"cannot reach {address} as s3/cr@et with t0ken")

    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    monkeypatch.setattr(index, "_search_archive", fail)
    search = ["cbir", "index", "search", str(place / "archive"), str(place / "q.png")]
    for option in (["--milvus", address], [f"--milvus={address}"]):
        monkeypatch.setattr(sys, "argv", [*search, *option])
        with pytest.raises(SystemExit):
            main.main()
    said = capsys.readouterr().err + "".join(log.read_text() for log in tmp_path.glob("*.log"))
    assert "LookupError" in said
    for secret in ("s3/cr", "cr@et", "t0ken"):
        assert secret not in said


def test_in_a_folder_that_was_removed_it_says_so(tmp_path):
    gone = tmp_path / "gone"
    gone.mkdir()
    script = f"import os, sys; os.chdir({str(gone)!r}); os.rmdir({str(gone)!r})\n"
    script += "from cbir_lib.cli.main import main; sys.argv = ['cbir', 'data', 'list']; main()"
    ended = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"PYTHONPATH": str(paths.project_root())},
        capture_output=True,
        text=True,
    )
    assert ended.returncode == 2
    assert ended.stderr.splitlines()[0] == "error: the current folder was removed"
