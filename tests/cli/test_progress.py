"""How far a command is: lines where there is no terminal, a bar where there is one."""

import pytest

from cbir_lib.cli.progress import counting


@pytest.mark.parametrize(
    ("steps", "thousands"),
    [(range(1, 3001), [1000, 2000, 3000]), (range(512, 3001, 512), [1024, 2048]), ([20], [])],
    ids=["each image", "each shard", "few"],
)
def test_progress_is_a_line_per_thousand_whatever_the_steps(capsys, steps, thousands):
    with counting("images") as progress:
        for done in steps:
            progress(done, 3000)
    said = capsys.readouterr().err.splitlines()
    assert said == [f"images: {done:,} of 3,000" for done in thousands]


def test_progress_is_a_bar_on_a_terminal_which_is_gone_when_it_ends(capsys, monkeypatch):
    monkeypatch.setattr("sys.stderr.isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    with counting("images") as progress:
        progress(1000, 3000)
        progress(3000, 3000)
    out, err = capsys.readouterr()
    assert out == "" and "3000/3000" in err and err.endswith("\x1b[2K")
