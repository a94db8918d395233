"""Which shipped network a chapter looks into, and the fall back to one trained here."""

import shutil

import pytest

from cbir_lib import paths
from cbir_lib.errors import CbirError
from cbir_lib.reproduction import evidence, shipped
from cbir_lib.study import results


def test_shipped_networks_are_those_of_the_folder():
    names = shipped.list_shipped_networks()
    assert names == sorted(names) and len(names) >= 3
    for name in names:
        assert (paths.models_folder() / f"{name}.safetensors").is_file()


def test_the_best_of_those_with_a_result_is_selected(tmp_path):
    ev = evidence.find_study_evidence(tmp_path / "quick")
    candidates = [r for r in ev.networks if r.run in shipped.list_shipped_networks()]
    measured = shipped.select_measured_network(tmp_path / "quick")
    if not candidates:
        pytest.skip("no shipped network was measured in the evidence")
    best = max(candidates, key=lambda r: r.retrieval.mean_average_precision)
    assert measured.result.run == best.run and measured.profile == ev.profile
    assert measured.file == paths.models_folder() / f"{best.run}.safetensors"
    assert measured.eligible == len(candidates)


def test_without_a_shipped_one_the_studys_own_is_selected(tmp_path, monkeypatch):
    published = results.read_published("quick")
    own = next(r for r in published if r.run == "phantom-C-s0")
    folder = tmp_path / "quick"
    for result in (own, next(r for r in published if r.run == "phantom-G-s0")):
        results.write(paths.result_file(folder, result.run), result)
    file = paths.model_file(folder, own.run)
    file.write_bytes(b"weights")  # only C has some
    monkeypatch.setattr(paths, "models_folder", lambda: tmp_path / "nothing")
    measured = shipped.select_measured_network(folder)
    assert (measured.result.run, measured.file, measured.eligible) == (own.run, file, 1)
    assert measured.profile == "quick"
    shutil.rmtree(folder / "runs" / own.run)
    with pytest.raises(CbirError, match="no trained network"):
        shipped.select_measured_network(folder)
