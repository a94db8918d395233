"""Every test keeps its cache of decoded data to itself."""

import pytest


@pytest.fixture(autouse=True)
def own_cache(tmp_path_factory, monkeypatch):
    monkeypatch.setenv("CBIR_CACHE", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("CBIR_DATA", raising=False)
