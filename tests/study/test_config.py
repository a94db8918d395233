"""The study file, the runs that follow from it, and the notebooks that take their parameters."""

import re
import time
from dataclasses import fields
from datetime import date
from itertools import product
from pathlib import Path
from typing import get_args

import numpy as np
import pytest
import torch
import yaml
from pydantic import ValidationError
from sklearn.model_selection import ParameterGrid

from cbir_lib.descriptors import DESCRIPTORS, build_descriptor
from cbir_lib.errors import CbirError
from cbir_lib.images.preprocessing import Preprocessing
from cbir_lib.irma_code import CLASSES
from cbir_lib.networks import classifier, modules, training
from cbir_lib.networks.architectures import NETWORKS, OWN_NETWORKS, READINGS
from cbir_lib.study import results
from cbir_lib.study.config import (
    VARIANTS,
    CombinationRun,
    DescriptorRun,
    NetworkRun,
    Profile,
    Study,
    list_combinations,
    name_briefly,
    name_network,
    read_study,
)

ROOT = Path(__file__).parents[2]
COMMON = {"dataset": "mednist", "images": {"train": 3}, "sample_seed": 0, "size": 64}


@pytest.fixture(scope="module")
def study():
    return read_study(ROOT / "study.yml")


# The file of this study


@pytest.mark.parametrize("profile", ["quick", "mednist", "full", "paper", "paper-phantom"])
def test_every_profile_with_descriptors_runs_all_of_them_and_the_plain_networks(profile, study):
    runs = study.runs(profile)
    networks = [r for r in runs if isinstance(r, NetworkRun)]
    assert {r.network for r in networks if not r.variant} >= set("ABCDEFG")
    if profile in ("quick", "mednist"):
        plain = [r for r in networks if r.variant == r.model_dump().get("loss", "")]
        assert plain == networks and (profile == "mednist") == any(r.variant for r in networks)
        assert [r.id[-4:] for r in networks if not r.variant] == [
            f"{name}-s0" for name in "ABCDEFG"
        ]
    assert [r.descriptor for r in runs if isinstance(r, DescriptorRun)] == list(DESCRIPTORS)
    assert isinstance(runs[-1], CombinationRun)
    assert set(runs[-1].member_runs) < {run.id for run in runs}


def test_a_profile_can_leave_descriptors_out_of_its_effects(study):
    quick, full = ({e.name: e.plan for e in study.effects(p)} for p in ("quick", "full"))
    assert quick["representation"] == full["representation"]
    assert quick["robustness"] | {"descriptors": []} == full["robustness"] | {"descriptors": []}
    left_out = {*full["robustness"]["descriptors"]} - {*quick["robustness"]["descriptors"]}
    assert left_out == {*study.profile("quick").effects_without} == {"pretrained"}


def test_what_a_profile_leaves_out_is_in_no_list_of_descriptors(tmp_path):
    def edit(content):
        effects = content["grid"]["effects"]
        left_out = [effects["representation"]["fused"][0], effects["robustness"]["descriptors"][0]]
        content["profiles"]["quick"]["effects_without"] = left_out

    edited = read_study(written(tmp_path / "study.yml", edit))
    left_out = {*edited.profile("quick").effects_without}
    lists = [
        effect.plan.get(key, [])
        for effect in edited.effects("quick")
        for key in ("descriptors", "fused")
    ]
    assert not left_out & {name for names in lists for name in names}


def test_effects_are_measured_with_networks_trained_as_in_the_paper(study):
    ways = ("", "dropout-", "augment-", "dropout-augment-")
    expected = {f"phantom-{n}-{way}s{seed}" for n in "ABCDEFG" for way in ways for seed in range(3)}
    deeper = {f"phantom-H-s{seed}" for seed in range(3)}
    assert {*study.effects("full")[0].networks} == expected | deeper


def test_the_evidence_and_the_paper_end_by_their_schedule_but_for_two_comparisons(study):
    for profile in ("full", "paper", "paper-phantom"):
        networks = [r for r in study.runs(profile) if isinstance(r, NetworkRun)]
        constant = {(r.network, r.variant) for r in networks if r.schedule == "constant"}
        assert constant == {("B", "constant"), ("B", "constant-stopped")}
        stopped = {r.variant for r in networks if r.early_stopping}
        assert stopped == {"constant-stopped"}


def test_a_profile_may_name_the_schedule_that_is_the_default(tmp_path):
    def edit(content):
        content["profiles"]["quick"]["training"]["schedule"] = "cosine"

    edited = read_study(written(tmp_path / "study.yml", edit))
    before = {run.id: run for run in read_study(ROOT / "study.yml").runs("quick")}
    assert {run.id: run for run in edited.runs("quick")} == before


def test_a_budget_multiplies_the_epochs_of_the_profile_and_names_the_run():
    rows = {"plain": {"network": ["B"]}, "longer": {"network": ["B"], "budget": [2, 3]}}
    study = made(rows, training={"epochs": 7}, descriptors=False)
    runs = study.runs("one")
    assert [run.id for run in runs] == [
        *("mednist-B-s0", "mednist-B-2xepochs-s0", "mednist-B-3xepochs-s0"),
    ]
    assert [run.epochs for run in runs] == [7, 7, 7]
    assert [run.all_epochs for run in runs] == [7, 14, 21]
    assert runs[1].title == "Network B with twice the epochs, seed 0"
    assert [run.settings["epochs"] for run in runs] == [7, 14, 21]  # what is trained for


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
        assert all(re.fullmatch(r"[A-Za-z0-9]+(-[A-Za-z0-9.]+)+", run_id) for run_id in ids)
    ids = [run.id for run in study.runs("quick")]
    assert ids[0] == "phantom-A-s0"
    assert ids[-1] == "phantom-combination"


def test_every_network_of_every_profile_can_be_built_at_its_size(study):
    built = {}
    for profile in study.profiles:
        for run in study.runs(profile):
            if isinstance(run, NetworkRun):
                assert set(run.options) == set(modules.build_network.__kwdefaults__)
                built[run.network, run.size, str(run.options)] = run
    for run in built.values():
        with torch.device("meta"):
            mean = np.zeros((run.size, run.size), np.float32)
            network = modules.build_network(run.network, mean, classes=5, **run.options).eval()
            images = torch.zeros((3, run.size, run.size), dtype=torch.uint8)
            assert network(images).shape == (3, 5), run.id
    assert {run.network for run in built.values()} == {*NETWORKS, *OWN_NETWORKS}


def test_classes_of_a_row_are_those_of_its_data_set(study):
    chosen = {
        tuple(run.classes)
        for profile in study.profiles
        for run in study.runs(profile)
        if isinstance(run, NetworkRun) and run.classes
    }
    assert {len(classes) for classes in chosen} == {3, 4}
    assert all(set(classes) < set(CLASSES.values()) for classes in chosen)


# Rows of the grid


def made(rows, **profile):
    """A study of these rows."""
    profile = {"dataset": "mednist", "training": {"epochs": 3}, **profile}
    return Study.model_validate(
        {
            "profiles": {"one": profile},
            "grid": {"networks": rows, "descriptors": {"grey-histogram": {"bins": [16]}}},
        }
    )


def test_every_combination_of_a_row_runs_for_every_seed():
    rows = {
        "plain": {"network": ["A", "B"]},
        "both": {"network": ["B", "C"], "reading": ["units", "flattened"], "dropout": [0.5]},
        "left out": {"network": ["G"]},
    }
    study = made(rows, seeds=[0, 7], networks=["both", "plain"])
    ids = [run.id for run in study.runs("one")]
    assert ids == [
        *("mednist-B-dropout-s0", "mednist-B-dropout-s7"),
        *("mednist-B-flattened-dropout-s0", "mednist-B-flattened-dropout-s7"),
        *("mednist-C-dropout-s0", "mednist-C-dropout-s7"),
        *("mednist-C-flattened-dropout-s0", "mednist-C-flattened-dropout-s7"),
        *("mednist-A-s0", "mednist-A-s7", "mednist-B-s0", "mednist-B-s7"),
        "mednist-grey-histogram",
    ]
    run = study.run("one", "mednist-B-flattened-dropout-s7")
    assert (run.network, run.reading, run.dropout, run.seed) == ("B", "flattened", 0.5, 7)
    assert run.epochs == 3
    assert run.batch_size == NetworkRun.model_fields["batch_size"].default  # the profile says none


def test_a_row_with_seeds_of_its_own_has_these():
    rows = {"plain": {"network": ["A", "B"]}, "more": {"network": ["B"], "seed": [3, 4]}}
    ids = [run.id for run in made(rows, seeds=[0, 7], descriptors=False).runs("one")]
    assert ids == [f"mednist-{run}" for run in ("A-s0", "A-s7", "B-s0", "B-s7", "B-s3", "B-s4")]
    with pytest.raises(CbirError, match="more than one run named mednist-B-s3"):
        made(rows, seeds=[0, 3], descriptors=False).runs("one")


def test_a_profile_takes_all_rows_unless_it_names_some_and_may_leave_out_descriptors():
    rows = {"plain": {"network": ["A"]}, "pooled": {"network": ["A"], "reading": ["pooled"]}}

    def ids(**profile):
        return [run.id for run in made(rows, **profile).runs("one")]

    assert ids() == ["mednist-A-s0", "mednist-A-pooled-s0", "mednist-grey-histogram"]
    assert ids(networks=[]) == ["mednist-grey-histogram"]
    assert ids(networks=["pooled"], descriptors=False) == ["mednist-A-pooled-s0"]


def test_combinations_are_the_product_the_last_parameter_fastest():
    values = {"network": ["A", "B"], "dropout": [0.0, 0.5], "seed": [1]}
    assert list_combinations(values) == [
        {"network": n, "dropout": d, "seed": s} for n, d, s in product(*values.values())
    ]
    assert list_combinations({}) == [{}]


def test_a_row_has_the_last_word_over_the_training_of_the_profile():
    rows = {"rates": {"network": ["A"], "learning_rate": [0.1, 0.2]}, "plain": {"network": ["A"]}}
    study = made(rows, training={"learning_rate": 0.3}, descriptors=False)
    assert [run.learning_rate for run in study.runs("one")] == [0.1, 0.2, 0.3]


@pytest.mark.parametrize(
    ("rows", "name"),
    [
        ({"a": {"network": ["A"]}, "b": {"network": ["B", "A"]}}, "mednist-A-s0"),
        ({"a": {"network": ["A", "A"]}}, "mednist-A-s0"),
        ({"a": {"network": ["A"], "dropout": [0.5, 0.5]}}, "mednist-A-dropout-s0"),
        # Three classes are three classes, whichever they are.
        ({"a": {"network": ["A"], "classes": [["a", "b", "c"], ["d", "e", "f"]]}}, "A-3classes-s0"),
    ],
)
def test_two_runs_of_one_name_are_refused(rows, name):
    with pytest.raises(CbirError) as caught:
        made(rows).runs("one")
    assert caught.value.what.startswith("profile one has more than one run ")
    assert caught.value.what.endswith(name)
    assert "VARIANTS" in caught.value.hint
    with pytest.raises(CbirError, match="more than one run"):
        made({"a": {"network": ["A"]}}, seeds=[0, 0]).runs("one")


# By hand: of each parameter another value than the default, its word in the name of the run, and
# what readers call it.
WORDS = {
    "classes": (["chest", "spine", "hand"], "3classes", "3 classes"),
    "reading": ("flattened", "flattened", "flattened maps"),
    "crop": (48, "crop48", "crops of 48 px"),
    "batch_norm": (True, "normalised", "batch normalisation"),
    "clahe": (False, "raw", "no CLAHE"),
    "mean": (False, "uncentred", "no mean image"),
    "dropout": (0.5, "dropout", "dropout"),
    "augment": (True, "augment", "augmentation"),
    "variations": (["gamma", "blur"], "gamma-blur", "varied gamma and varied blur"),
    "bits": (48, "48bits", "48 learnt bits"),
    "schedule": ("constant", "constant", "a constant learning rate"),
    "early_stopping": (True, "stopped", "early stopping"),
    "learning_rate": (0.0025, "rate0.0025", "a learning rate of 0.0025"),
    "momentum": (0.5, "momentum0.5", "a momentum of 0.5"),
    "weight_decay": (0.0, "decay0", "no weight decay"),
    "precision": ("bfloat16", "bfloat16", "bfloat16"),
    "loss": ("arcface", "arcface", "the ArcFace loss"),
    "budget": (2, "2xepochs", "twice the epochs"),
}


def test_every_variant_has_its_word_in_the_name():
    assert list(WORDS) == list(VARIANTS)
    plain = NetworkRun(**COMMON, network="C")
    assert (plain.id, plain.variant, plain.title) == ("mednist-C-s0", "", "Network C, seed 0")
    for name, (value, word, term) in WORDS.items():
        run = NetworkRun(**COMMON, network="C", **{name: value})
        assert (run.variant, run.id) == (word, f"mednist-C-{word}-s0")
        assert run.title == f"Network C with {term}, seed 0"
        default = NetworkRun(**COMMON, network="C", **{name: getattr(plain, name)})
        assert default.id == plain.id
    values = {name: value for name, (value, *_) in WORDS.items()}
    whole = NetworkRun(**COMMON, network="C", **values)
    assert whole.variant == "-".join(word for _, word, _ in WORDS.values())
    *terms, last = (term for *_, term in WORDS.values())
    listed = ", ".join(terms).replace("gamma and", "gamma,")
    assert whole.title == f"Network C with {listed} and {last}, seed 0"
    assert NetworkRun(**COMMON, network="C", dropout=0.25).variant == "dropout0.25"


@pytest.mark.parametrize(
    ("parameter", "value", "word", "term"),
    [
        ("learning_rate", 1e-5, "rate0.00001", "a learning rate of 0.00001"),
        ("learning_rate", 0.12345678, "rate0.12345678", "a learning rate of 0.12345678"),
        ("learning_rate", 2.0, "rate2", "a learning rate of 2"),
        ("momentum", 0.0, "momentum0", "a momentum of 0"),
        ("weight_decay", 5e-5, "decay0.00005", "a weight decay of 0.00005"),
        ("dropout", 1e-5, "dropout0.00001", "dropout of 0.00001"),
    ],
)
def test_numbers_in_names_are_written_out(parameter, value, word, term):
    run = NetworkRun(**COMMON, network="C", **{parameter: value})
    assert (run.variant, run.title) == (word, f"Network C with {term}, seed 0")


@pytest.mark.parametrize(
    ("variant", "named"),
    [
        ("", ""),
        ("normalised-raw-8variations", "with batch normalisation, no CLAHE and 8 variations"),
        ("dropout-augment", "with dropout and augmentation"),
        ("dropout0.3", "with dropout of 0.3"),
        ("triplet", "with the triplet loss"),
        (
            "supervised-contrastive-2xepochs",
            "with the supervised contrastive loss and twice the epochs",
        ),
        ("proxy-anchor", "with the proxy-anchor loss"),
        ("code-tree", "with the tree of IRMA codes"),
        ("codes", "with IRMA codes for classes"),
        ("constant-stopped", "with a constant learning rate and early stopping"),
        ("decay0.005", "with a weight decay of 0.005"),
        ("float32", "with float32"),
    ],
)
def test_networks_have_names_for_readers(variant, named):
    assert name_network("B", variant) == f"Network B {named}".rstrip()


def test_every_variant_of_the_study_has_terms_for_its_parts(study):
    networks = [run for profile in study.profiles for run in study.runs(profile)]
    variants = {run.variant for run in networks if isinstance(run, NetworkRun)}
    assert len(variants) > 40
    for variant in filter(None, variants):
        terms = name_briefly("B", variant).removeprefix("B with ")
        same = {"dropout", "float32"} & {*variant.split("-")}  # whose names are the terms
        assert {*re.split(r", | and ", terms)} & {*variant.split("-")} == same, terms


def test_a_run_with_the_papers_loss_has_the_parameters_it_always_had():
    plain, other = (NetworkRun(**COMMON, network="C", loss=n) for n in ("cross-entropy", "arcface"))
    assert "loss" not in plain.model_dump() and '"loss"' not in plain.model_dump_json()
    assert other.model_dump() == plain.model_dump() | {"loss": "arcface"}
    assert NetworkRun(**plain.model_dump()) == plain and NetworkRun(**other.model_dump()) == other
    assert plain.digest != other.digest
    published = results.read_published("quick")
    networks = [r.parameters for r in published if "network" in r.parameters]
    assert networks and all(NetworkRun(**p).model_dump() == p for p in networks)


def test_the_paper_s_regularisation_in_a_name():
    common = COMMON | {"dataset": "phantom"}
    run = NetworkRun(**common, network="C", augment=True, dropout=0.5)
    assert run.id == "phantom-C-dropout-augment-s0"


def test_what_names_a_run_and_what_the_profile_decides_is_all_there_is():
    by_profile = {*COMMON, "seed", "epochs", "patience", "batch_size", "learning_rate"}
    assert NetworkRun.model_fields.keys() == {"network", *VARIANTS, *by_profile}
    assert VARIANTS.keys() & by_profile == {"learning_rate"}


def test_digests_tell_every_parameter_apart():
    plain = NetworkRun(**COMMON, network="C")
    others = [{name: value} for name, (value, *_) in WORDS.items()]
    others += [{"seed": 1}, {"epochs": 9}, {"patience": 9}, {"batch_size": 9}]
    digests = {NetworkRun(**COMMON | {"network": "C"} | other).digest for other in others}
    digests |= {NetworkRun(**COMMON | {"size": 32}, network="C").digest, plain.digest}
    digests.add(NetworkRun(**COMMON, network="D").digest)
    assert len(digests) == len(others) + 3
    assert NetworkRun(**COMMON, network="C").digest == plain.digest
    assert re.fullmatch(r"[0-9a-f]{12}", plain.digest)


@pytest.mark.parametrize(
    ("size", "chosen", "crop"),
    [
        (128, {"augment": True}, 120),  # as B and C fit the paper's FC-n
        (64, {"augment": True}, 60),
        (128, {"augment": True, "crop": 100}, 100),
        (128, {"crop": 120}, 120),
        (128, {}, None),
    ],
)
def test_augmentation_crops_as_120_of_128_unless_told(size, chosen, crop):
    options = NetworkRun(**COMMON | {"size": size}, network="C", **chosen).options
    assert options["crop"] == crop
    assert options["turns"] == options["shifts"] == chosen.get("augment", False)


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
        (
            "profiles.quick.training.learning_rate",
            "1e-3",
            "learning_rate: .*, got '1e-3', which YAML reads as text: write it with a point",
        ),
        ("profiles.quick.sample_seed", -5, "profiles.quick.sample_seed"),
        ("profiles.quick.learning_rate", 0.1, "profiles.quick.learning_rate"),
        ("profiles.quick.training.momentun", 0.9, "profiles.quick.training.momentun"),
        # A profile's trainings end by their schedule, so that who loses has lost.
        (
            "profiles.quick.training.schedule",
            "constant",
            "profiles.quick.training.schedule: .*a constant rate never decays.*, got 'constant'",
        ),
        ("profiles.quick.training.schedule", "cosin", "training.schedule: .*, got 'cosin'"),
        ("profiles.quick.training.precision", "half", "profiles.quick.training.precision: "),
        ("profiles.quick.training.budget", 2, "profiles.quick.training.budget: "),
        ("grids", {}, "grids: unknown key$"),
        ("profiles.own", {"datset": "phantom"}, "own.datset: unknown key; did you mean 'dataset'"),
        ("grid.combination", ["hog"], "grid.combination: hog cannot be combined"),
        ("grid.combination", ["hog", "lbp", "hog"], "hog, lbp, hog cannot be combined"),
        ("grid.descriptors.hog", {"cell_px": [[8]]}, r"cell_px: \[8\] is no value of a parameter"),
        ("grid.descriptors.hog", {"cell_px": [date(2020, 1, 1)]}, "is no value of a parameter"),
        ("grid.descriptors.lbp", {"grid": [None]}, "None is no value of a parameter"),
        ("grid.effects.redrawn.photons", [-1.0], "photons.0: Input should be greater than 0"),
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
        ("quick", "networks", ["plain", "bothe"], "row", "bothe", "both"),
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
    ("name", "grid", "wrong", "meant"),
    [
        ("lbp", {"neighbors": [8]}, "neighbors", "neighbours"),
        ("vlad", {"words": [16], "step": [4]}, "step", "step_px"),
        ("pretrained", {"layers": ["head"]}, "layers", "layer"),
    ],
)
def test_an_unknown_parameter_of_a_descriptor_is_refused_before_anything_starts(
    name, grid, wrong, meant, tmp_path
):
    def edit(content):
        content["grid"]["descriptors"][name] = grid

    error = refused(written(tmp_path / "study.yml", edit))
    assert error.what.endswith(f"grid.descriptors.{name}: unknown parameter {wrong!r}")
    assert f"did you mean {meant!r}? known: " in error.hint


@pytest.mark.parametrize(("effect", "key"), [("transfer", "datasets"), ("real", "regions")])
def test_an_unknown_data_set_is_refused_where_it_stands(effect, key, tmp_path):
    def edit(content):
        by_name = content["grid"]["effects"][effect][key]
        by_name["mednits"] = by_name["mednist"]

    error = refused(written(tmp_path / "study.yml", edit))
    assert f"grid.effects.{effect}.{key}: unknown data set 'mednits'" in error.what


@pytest.mark.parametrize(
    ("levels", "said", "hint"),
    [
        ({"rotatoin": [5.0]}, "unknown perturbation 'rotatoin'", "did you mean 'rotation'?"),
        ({"crop": [1.0, 0.0]}, "crop 0.0 is out of range", "give 0.05 to 1"),
    ],
)
def test_a_change_that_cannot_be_is_refused_before_anything_starts(levels, said, hint, tmp_path):
    def edit(content):
        content["grid"]["effects"]["robustness"]["levels"] = levels

    error = refused(written(tmp_path / "study.yml", edit))
    assert error.what.endswith(f"grid.effects.robustness.levels: {said}")
    assert hint in error.hint


@pytest.mark.parametrize(
    ("kind", "name", "parameter"),
    [("descriptors", "hog", "cell_px"), ("networks", "deeper", "network")],
)
def test_a_parameter_without_values_is_refused(kind, name, parameter, tmp_path):
    def edit(content):
        content["grid"][kind][name] = {parameter: []}

    place = f"grid.{kind}.{name}.{parameter}: List should have at least 1 item"
    assert place in refused(written(tmp_path / "study.yml", edit)).what


@pytest.mark.parametrize(
    ("row", "said", "hint"),
    [
        ({"network": ["A", "g"]}, "unknown network 'g'", "did you mean 'G'?"),
        ({"network": ["A"], "droput": [0.5]}, "unknown parameter 'droput'", "'dropout'?"),
        ({"network": ["A"], "seed": ["one"]}, "seed: Input should be a valid integer", ""),
        ({"network": ["A"], "epochs": [1]}, "unknown parameter 'epochs'", "known: network"),
        ({"network": ["A"], "seed": [-1]}, "seed: Input should be greater than or equal to 0", ""),
        ({"network": ["A"], "momentum": [5]}, "momentum: Input should be less than 1", ""),
        ({"network": ["A"], "dropout": [0.5, 1.0]}, "dropout: Input should be less than 1", ""),
        ({"network": ["A"], "dropout": ["half"]}, "dropout: Input should be a valid number", ""),
        ({"network": ["A"], "reading": ["unit"]}, "reading: Input should be 'units', ", ""),
        ({"network": ["A"], "schedule": ["linear"]}, "schedule: Input should be 'cosine' or", ""),
        ({"network": ["A"], "precision": ["half"]}, "precision: Input should be 'auto', ", ""),
        ({"network": ["A"], "loss": ["tripled"]}, "loss: Input should be 'cross-entropy', ", ""),
        ({"network": ["A"], "budget": [0]}, "budget: Input should be greater than or equal", ""),
        ({"network": ["A"], "budget": [0.5]}, "budget: Input should be a valid integer", ""),
        ({"network": ["A"], "augment": ["yes"]}, "augment: Input should be a valid boolean", ""),
        ({"network": ["A"], "crop": [0]}, "crop: Input should be greater than or equal to 1", ""),
        ({"network": ["A"], "classes": ["chest"]}, "classes: Input should be a valid list", ""),
        ({"dropout": [0.5]}, "network: Field required", ""),
    ],
    ids=str,
)
def test_what_is_wrong_in_a_row_is_named_with_its_place(row, said, hint, tmp_path):
    def edit(content):
        content["grid"]["networks"]["deeper"] = row

    error = refused(written(tmp_path / "study.yml", edit))
    assert f"grid.networks.deeper: {said}" in error.what
    assert hint in error.hint


@pytest.mark.parametrize(
    ("row", "said"),
    [
        ({"network": ["G"], "classes": [["chest"]]}, "1 classes cannot be told apart"),
        ({"network": ["G"], "classes": [["chest", "nope"]]}, "class of phantom 'nope'"),
        ({"network": ["G"], "classes": [["chest", "chest"]]}, "name each once"),
        ({"network": ["G"], "variations": [["blur", "blur"]]}, "name each once"),
        ({"network": ["D"], "crop": [8, 16]}, "network D pools 4 times: an image of 8 px is too"),
        ({"network": ["G"], "crop": [65]}, "a crop is larger than the 64 px of profile small"),
        ({"network": ["D"], "augment": [True]}, "an image of 15 px is too small"),
    ],
    ids=str,
)
def test_a_network_that_cannot_be_built_is_refused_before_anything_starts(row, said, tmp_path):
    size = 16 if "augment" in row else 64
    content = {
        "profiles": {"small": {"dataset": "phantom", "size": size}},
        "grid": {"networks": {"other": {"network": ["G"]}, "own": row}},
    }
    path = tmp_path / "study.yml"
    path.write_text(yaml.safe_dump(content))
    error = refused(path)
    assert "grid.networks.own: " in error.what and said in error.what
    # A profile that does not have the row does not mind.
    if "name each once" not in said:
        content["profiles"]["small"]["networks"] = ["other"]
        path.write_text(yaml.safe_dump(content))
        assert len(read_study(path).runs("small")) == 1


@pytest.mark.parametrize(
    "row", [{"network": "A"}, {"network": ["A"], "dropout": 0.5}, ["A"], "A"], ids=str
)
def test_a_row_is_lists_of_values(row, tmp_path):
    def edit(content):
        content["grid"]["networks"]["deeper"] = row

    error = refused(written(tmp_path / "study.yml", edit))
    assert "grid.networks.deeper" in error.what


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (b"profiles: [", "cannot be read"),
        (b"profiles:\n\t- tab", "cannot be read"),
        (b"\xff\xfe\x00", "cannot be read"),
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


def test_defaults_agree_wherever_they_stand():
    settings = {field.name: field.default for field in fields(training.Settings)}
    run = {name: field.default for name, field in NetworkRun.model_fields.items()}
    assert settings == {name: run[name] for name in settings}
    assert set(NetworkRun(dataset="phantom", sample_seed=0, size=64, network="B").settings) == set(
        settings
    )
    assert Preprocessing().clahe == run["clahe"]
    profile = Profile.model_fields
    assert Preprocessing().size == profile["size"].default
    build = modules.build_network.__kwdefaults__
    for name in ("reading", "dropout", "batch_norm", "crop"):
        assert build[name] == run[name]
    assert build["turns"] is build["shifts"] is run["augment"] is False


@pytest.mark.parametrize(
    ("field", "names"),
    [
        ("reading", READINGS),
        ("schedule", classifier.SCHEDULES),
        ("precision", ("auto", *training.PRECISIONS)),
        ("loss", classifier.LOSSES),
    ],
)
def test_names_agree_wherever_they_stand(field, names):
    assert get_args(NetworkRun.model_fields[field].annotation) == names


# Odd files: an answer or two lines, within two seconds

ROW = "profiles: {p: {dataset: phantom}}\ngrid: {networks: {r: {network: [G], %s}}}\n"
DROPOUTS = [value / 10_000 for value in range(9_900)]
ODD = {
    "deep list": ("[" * 100_000, "deep"),  # enough to overflow the stack of a parser in C
    "deep mapping": ("{a: " * 50_000, "deep"),
    "deep blocks": ("- " * 50_000, "deep"),
    "deep anchors": ("".join(f"&a{i} [" for i in range(20_000)), "deep"),
    "deep aliases": (
        "\n".join(["a0: &a0 [x]"] + [f"a{i}: &a{i} [*a{i - 1}]" for i in range(1, 200)]),
        "deep",
    ),
    "a key twice": ("profiles: {}\ngrid: {}\nprofiles: {}\n", "2 keys 'profiles' in one place"),
    "an inner key twice": (
        "grid: {networks: {r: {network: [G], network: [F]}}}",
        "2 keys 'network'",
    ),
    "deep but closed": ("a: " + "[" * 60 + "]" * 60, "deep"),
    "no such day": ("profiles: 2020-13-45", "month must be"),
    "long number": (f"profiles: {'9' * 5000}", "4300 digits"),
    "list as a name": (
        "profiles: {p: {dataset: phantom}}\ngrid: {networks: {r: {network: [[G]]}}}",
        "G",
    ),
    "mapping as a key": ("{{a: b}: c}", "unhashable"),
    "alias of itself": ("a: &x [*x]", "contains itself"),
    "bomb": (
        "a0: &a0 [x, x]\n" + "".join(f"a{i}: &a{i} [*a{i - 1}, *a{i - 1}]\n" for i in range(1, 40)),
        "more than 100,000 values",
    ),
    "large": ("#" * 300_000, "more than 262,144 bytes"),
    "tag": ("profiles: !!python/object/apply:os.system [touch trapped]", "could not determine"),
    "binary": (bytes(range(256)), "decode"),
    "infinite": (ROW % "dropout: [.inf]", "finite number"),
    "not a number": (ROW % "learning_rate: [.nan]", ""),
    "four by a hundred": (
        ROW
        % ", ".join(
            f"{name}: [{', '.join(str(value / 1000) for value in range(1, 101))}]"
            for name in ("dropout", "learning_rate", "momentum", "weight_decay")
        ),
        "100,000,000 runs",
    ),
    "settings of a descriptor": (
        "profiles: {p: {dataset: phantom}}\ngrid: {descriptors: {hog: "
        f"{{cell_px: {list(range(2, 200))}, orientations: {list(range(2, 90))}}}}}}}",
        "17,424 settings",
    ),
    "a profile that leaves build": ("profiles: {../x: {dataset: phantom}}\ngrid: {}", "folder"),
    **{
        f"a profile called {name}": (
            f"profiles: {{{name}: {{dataset: phantom}}}}\ngrid: {{}}",
            "is the name of a folder for something else",
        )
        for name in ("verification", "cache", "quick-published")
    },
    "negative seed": ("profiles: {p: {dataset: phantom, seeds: [-1]}}\ngrid: {}", "seeds"),
    "huge seed": (
        "profiles: {p: {dataset: phantom, seeds: [99999999999999999999]}}\ngrid: {}",
        "seeds",
    ),
    "long name": (f"profiles: {{p: {{dataset: {'x' * 100_000}}}}}\ngrid: {{}}", "unknown data set"),
    "empty": ("", ""),
    "number": ("7", ""),
    **{
        f"tag {tag}": (ROW % f"dropout: [!!{tag}]", "cannot be read")
        for tag in ("bool x", "int ''", "timestamp x", f"float {':'.join(['59'] * 400)}")
    },
    "long number in other digits": (ROW % f"dropout: [0x{'1' * 5000}]", "dropout"),
    "many variations": (
        ROW % f"variations: [[{', '.join(['blur'] * 30_000)}]], dropout: {DROPOUTS}",
        "variations",
    ),
    "many classes": (
        ROW % f"classes: [[{', '.join(map(str, range(16_000)))}]], dropout: {DROPOUTS}",
        "classes",
    ),
}


@pytest.mark.parametrize(("text", "reason"), ODD.values(), ids=ODD)
def test_an_odd_file_is_two_lines_within_two_seconds(text, reason, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "study.yml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    started = time.process_time()
    with pytest.raises(CbirError) as caught:
        read_study(path)
    assert time.process_time() - started < 2
    lines = str(caught.value).splitlines()
    assert len(lines) == 2 and str(path) in lines[0] and reason in lines[0]
    assert len(str(caught.value)) < 1000
    assert not (tmp_path / "trapped").exists()


def test_the_seeds_of_a_profile_count(tmp_path):
    path = tmp_path / "study.yml"
    row = f"network: [G], dropout: {[value / 1000 for value in range(100)]}"
    text = "profiles: {p: {dataset: phantom, seeds: %s}}\ngrid: {networks: {r: {%s}}}\n"
    path.write_text(text % (list(range(100)), row))
    assert len(read_study(path).runs("p")) == 10_000
    path.write_text(text % (list(range(101)), f"{row}, seed: [7]"))
    assert len(read_study(path).runs("p")) == 100
    path.write_text(text % (list(range(101)), row))
    with pytest.raises(CbirError, match="profile p has 10,100 runs"):
        read_study(path)
