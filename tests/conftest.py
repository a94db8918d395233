"""What several files of tests share; every test keeps its cache of decoded data to itself."""

import sys

import pytest
from hypothesis import settings

from cbir_lib import cli

settings.register_profile("unhurried", deadline=None)  # a busy machine is no failure
settings.load_profile("unhurried")


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CBIR_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("CBIR_DATA", raising=False)


@pytest.fixture
def cbir(monkeypatch, capsys):
    """Run the command in this process; give its exit code, output and error lines."""

    def run(*arguments):
        monkeypatch.setattr(sys, "argv", ["cbir", *map(str, arguments)])
        with pytest.raises(SystemExit) as stop:
            cli.main()
        out, err = capsys.readouterr()
        return stop.value.code, out, err.splitlines()

    return run
