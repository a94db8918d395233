"""The study file, the runs that follow from it, and the notebooks that take their parameters."""

import ast
import re
from dataclasses import fields
from pathlib import Path

import jupytext
import papermill
import pytest
import yaml
from pydantic import ValidationError
from sklearn.model_selection import ParameterGrid

from cbir_lib.descriptors import DESCRIPTORS, build_descriptor
from cbir_lib.errors import CbirError
from cbir_lib.preprocessing import Preprocessing
from cbir_lib.study import (
    CombinationRun,
    DescriptorRun,
    NetworkRun,
    Profile,
    Study,
    read_study,
)

ROOT = Path(__file__).parents[1]
COMMON = {"dataset": "mednist", "images": {"train": 3}, "sample_seed": 0, "size": 64}


@pytest.fixture(scope="module")
def study():
    return read_study(ROOT / "study.yml")


# The file of this study


@pytest.mark.parametrize("profile", ["quick", "mednist", "paper"])
def test_every_profile_runs_all_networks_and_descriptors(profile, study):
    runs = study.runs(profile)
    assert [r.network for r in runs if isinstance(r, NetworkRun)] == list("ABCDEFG")
    assert [r.descriptor for r in runs if isinstance(r, DescriptorRun)] == list(DESCRIPTORS)
    assert isinstance(runs[-1], CombinationRun)
    assert set(runs[-1].member_runs) < {run.id for run in runs}


def test_what_is_tried_exists_and_comes_first_as_its_default(study):
    for name, grid in study.grid.descriptors.items():
        defaults = build_descriptor(name).get_params()
        first = next(iter(ParameterGrid(grid)))
        assert first.items() <= defaults.items() or name == "vlad"  # 32 words by default
        for settings in ParameterGrid(grid):
            build_descriptor(name, **settings)


def test_run_ids_are_readable_and_unique(study):
    for profile in study.profiles:
        ids = [run.id for run in study.runs(profile)]
        assert len(set(ids)) == len(ids)
        assert all(re.fullmatch(r"[A-Za-z0-9]+(-[A-Za-z0-9]+)+", run_id) for run_id in ids)
    ids = [run.id for run in study.runs("quick")]
    assert ids[0] == "phantom-A-s0"
    assert ids[-1] == "phantom-combination"


def test_every_seed_and_reading_has_its_own_run():
    study = Study.model_validate(
        {
            "profiles": {
                reading: {
                    "dataset": "mednist",
                    "images": {"train": 1, "validation": 1, "test": 1},
                    "seeds": [0, 7],
                    "reading": reading,
                    "training": {"epochs": 3},
                }
                for reading in ("units", "flattened")
            },
            "grid": {"networks": ["A", "B"], "descriptors": {"grey-histogram": {"bins": [16]}}},
        }
    )
    found = [[run.id for run in study.runs(profile)] for profile in study.profiles]
    assert found == [
        ["mednist-A-s0", "mednist-A-s7", "mednist-B-s0", "mednist-B-s7", "mednist-grey-histogram"],
        [
            *("mednist-A-flattened-s0", "mednist-A-flattened-s7"),
            *("mednist-B-flattened-s0", "mednist-B-flattened-s7", "mednist-grey-histogram"),
        ],
    ]
    run = study.run("flattened", "mednist-B-flattened-s7")
    assert (run.network, run.reading, run.seed, run.epochs) == ("B", "flattened", 7, 3)
    assert run.batch_size == NetworkRun.model_fields["batch_size"].default  # the profile says none


def test_an_unknown_profile_or_run_is_refused(study):
    with pytest.raises(CbirError, match="did you mean 'quick'") as caught:
        study.runs("quik")
    assert "'quik'" in caught.value.what
    with pytest.raises(CbirError, match="did you mean 'phantom-A-s0'"):
        study.run("quick", "phantom-A-s9")


# A run


def test_a_run_is_frozen_and_strict():
    run = NetworkRun(**COMMON, network="A")
    with pytest.raises(ValidationError, match="frozen"):
        run.seed = 1
    for wrong in ({"epochs": "10"}, {"epochs": 0}, {"learning_rate": "1e-3"}, {"epoch": 10}):
        with pytest.raises(ValidationError, match=next(iter(wrong))):
            NetworkRun(**COMMON, network="A", **wrong)
    with pytest.raises(ValidationError, match="network"):
        DescriptorRun(**COMMON, descriptor="grey-histogram", network="A")


# What is refused in a study file


def written(path, edit):
    """A copy of the study file, edited."""
    content = yaml.safe_load((ROOT / "study.yml").read_text(encoding="utf-8"))
    edit(content)
    path.write_text(yaml.safe_dump(content))
    return path


def refused(path):
    with pytest.raises(CbirError) as caught:
        read_study(path)
    assert str(path) in caught.value.what
    assert len(str(caught.value).splitlines()) == 2
    return caught.value


@pytest.mark.parametrize(
    ("place", "value", "said"),
    [
        ("profiles.quick.size", "ten", "profiles.quick.size: Input should be a valid integer, got"),
        ("profiles.quick.size", 64.5, "profiles.quick.size"),
        ("profiles.quick.size", 8, "profiles.quick.size"),  # network D pools four times
        ("profiles.quick.seeds", [], "profiles.quick.seeds"),
        ("profiles.quick.seeds", [True], "profiles.quick.seeds.0"),
        ("profiles.quick.images", {"train": 1}, "images.validation"),
        ("profiles.quick.training.epochs", 0, "profiles.quick.training.epochs"),
        # PyYAML reads 1e-3, without a point, as text.
        ("profiles.quick.training.learning_rate", "1e-3", "learning_rate: .*, got '1e-3'"),
        ("profiles.quick.learning_rate", 0.1, "profiles.quick.learning_rate"),
        ("profiles.quick.training.momentun", 0.9, "profiles.quick.training.momentun"),
        ("grids", {}, "grids"),
        ("grid.descriptors", ["hog"], "grid.descriptors"),
        ("grid.descriptors.hog", {"cell_px": 8}, "grid.descriptors.hog.cell_px"),
    ],
)
def test_a_wrong_type_or_unknown_key_is_refused(place, value, said, tmp_path):
    *parents, key = place.split(".")

    def edit(content):
        for parent in parents:
            content = content[parent]
        content[key] = value

    assert re.search(said, refused(written(tmp_path / "study.yml", edit)).what)


@pytest.mark.parametrize(
    ("section", "key", "value", "kind", "name", "meant"),
    [
        ("grid", "networks", ["A", "g"], "network", "g", "G"),
        (
            "grid",
            "descriptors",
            {"gray-histogram": {}},
            "descriptor",
            "gray-histogram",
            "grey-histogram",
        ),
        (
            "grid",
            "combination",
            ["hog", "tamura"],
            "run of a descriptor",
            "tamura",
            "tamura-histogram",
        ),
        ("quick", "dataset", "MedNIST", "data set", "MedNIST", "mednist"),
        ("quick", "reading", "unit", "reading", "unit", "units"),
    ],
)
def test_an_unknown_name_is_refused_and_the_closest_suggested(
    section, key, value, kind, name, meant, tmp_path
):
    def edit(content):
        (content["grid"] if section == "grid" else content["profiles"][section])[key] = value

    error = refused(written(tmp_path / "study.yml", edit))
    place = f"grid.{key}" if section == "grid" else f"profiles.{section}.{key}"
    assert error.what.endswith(f"{place}: unknown {kind} {name!r}")
    assert f"did you mean {meant!r}?" in error.hint


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"profiles: [", "is not YAML"),
        (b"profiles:\n\t- tab", "is not YAML"),
        (b"\xff\xfe\x00", "is not YAML"),
        (b"", "the file"),
        (b"- profiles", "the file"),
        (b"grid: {networks: [A]}", "profiles: Field required"),
    ],
)
def test_what_is_no_study_is_refused(content, said, tmp_path):
    path = tmp_path / "study.yml"
    path.write_bytes(content)
    assert said in refused(path).what


def test_a_missing_file_is_refused(tmp_path):
    assert "No such file" in refused(tmp_path / "none.yml").what


# What takes the parameters of a run


@pytest.mark.parametrize("kind", [NetworkRun, DescriptorRun, CombinationRun])
def test_the_notebook_s_parameters_are_those_of_the_run(kind, study, tmp_path):
    name = next(run.notebook for run in study.runs("quick") if isinstance(run, kind))
    path = tmp_path / f"{name}.ipynb"
    jupytext.write(jupytext.read(ROOT / "notebooks" / f"{name}.md"), path)
    declared = papermill.inspect_notebook(path)
    assert set(declared) == {*kind.model_fields, "folder"}
    # Opened by hand, the notebook does one of the runs of the quick profile.
    values = {key: ast.literal_eval(parameter["default"]) for key, parameter in declared.items()}
    assert Path(values.pop("folder")).parts[0] == "build"
    run = kind(**values)
    assert run == study.run("quick", run.id)


def test_defaults_agree_wherever_they_stand():
    from cbir_lib.training import Settings

    settings = {field.name: field.default for field in fields(Settings)}
    run = {name: field.default for name, field in NetworkRun.model_fields.items()}
    assert settings == {name: run[name] for name in settings}
    assert Preprocessing().clahe == run["clahe"]
    profile = Profile.model_fields
    assert Preprocessing().size == profile["size"].default
    assert profile["reading"].default == run["reading"]
