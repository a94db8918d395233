"""Which published results are the evidence, and what is said beside a reader's own."""

import shutil
from itertools import permutations

import numpy as np
import pytest
import yaml

from cbir_lib import paths
from cbir_lib.errors import CbirError
from cbir_lib.reproduction import evidence
from cbir_lib.reproduction.evidence import Evidence
from cbir_lib.study import results, wording
from cbir_lib.study.config import NetworkRun, read_study
from cbir_lib.study.results import Result
from tests.study.test_results import changed

PHANTOM = {"dataset": "phantom", "size": 64, "seeds": [0, 1]}
STUDY = {
    "profiles": {
        "quick": PHANTOM | {"seeds": [0], "networks": ["plain"]},
        "full": PHANTOM,
        "sharp": PHANTOM | {"size": 128},
        "search": PHANTOM | {"networks": ["plain"], "descriptors": False},
        "paper": {"dataset": "irma", "networks": ["plain"]},
        "mednist": {"dataset": "mednist", "networks": ["plain"]},
    },
    "grid": {
        "networks": {
            "plain": {"network": ["A", "B"]},
            "dropout": {"network": ["B"], "dropout": [0.5]},
            "three": {"network": ["B"], "classes": [["chest", "spine", "cranium"]]},
            "deeper": {"network": ["H"]},
        },
        "descriptors": {"grey-histogram": {"bins": [16]}, "hog": {}},
        "combination": ["grey-histogram", "hog"],
    },
}


@pytest.fixture
def project(tmp_path, monkeypatch):
    """An empty project with the study above."""
    (tmp_path / "study.yml").write_text(yaml.safe_dump(STUDY, sort_keys=False))
    monkeypatch.setattr(paths, "project_root", lambda: tmp_path)
    return tmp_path


@pytest.fixture
def study(project):
    return read_study(project / "study.yml")


def result_of(run, train, accuracy=0.5, dataset="phantom"):
    """A result of a run on so many training images; on half of them where classes are left out."""
    few = getattr(run, "classes", None)
    return Result(
        **changed(
            run=run.id,
            parameters=run.model_dump(),
            data__dataset=dataset,
            data__images={"train": train // 2 if few else train, "validation": 5, "test": 4},
            rules__0__accuracy=accuracy,
        )
    )


@pytest.fixture
def put(project, study):
    """Write results of a profile's runs, all but some, published or only done here."""

    def write(profile, train=1000, without=(), place="results", accuracy=0.5):
        dataset = study.profile(profile).dataset
        written = [
            result_of(run, train, accuracy, dataset)
            for run in study.runs(profile)
            if run.id not in without
        ]
        for r in written:
            name = f"{r.run}.json" if place == "results" else f"runs/{r.run}/result.json"
            results.write(project / place / profile / name, r)
        return sorted(written, key=lambda r: r.run)

    return write


# Which profile


@pytest.mark.parametrize("images", permutations([1000, 2000, 3000]))
def test_it_is_the_profile_with_the_most_training_images(images, put, study):
    profiles = ("quick", "full", "sharp")
    written = {name: put(name, count) for name, count in zip(profiles, images, strict=True)}
    most = profiles[np.argmax(images)]
    chosen = evidence.find_evidence("phantom", None, study)
    assert (chosen.profile, chosen.results) == (most, written[most])
    assert chosen.planned == len(study.runs(most))
    # Whoever asks: a study of any of them, published or not.
    put("quick", place="build")
    assert evidence.find_study_evidence("build/quick") == chosen


def test_of_as_many_images_the_larger_ones_count_then_the_most_runs(put, study):
    put("quick", 1000)
    put("full", 1000)
    assert (
        evidence.find_evidence("phantom", None, study).profile == "full"
    )  # as quick, with more runs
    put("sharp", 1000, without=("phantom-B-dropout-s0", "phantom-B-dropout-s1"))
    assert evidence.find_evidence("phantom", None, study).profile == "sharp"


def test_images_are_counted_where_no_class_is_left_out(put, study):
    put("quick", 1500)
    put("full", 2000)  # its trainings of three classes have 1,000 images
    assert evidence.find_evidence("phantom", None, study).profile == "full"


def test_the_search_is_no_evidence_but_can_be_asked_for(put, study, project):
    put("search", 9000)
    put("quick", place="build")
    assert evidence.find_study_evidence("build/quick").profile == "quick"
    assert evidence.find_evidence("phantom", None, study).profile == "quick"
    quick = put("quick", 1000)
    assert evidence.find_evidence("phantom", None, study) == Evidence("quick", quick, len(quick))
    assert evidence.find_study_evidence("build/quick") == Evidence("quick", quick, len(quick))
    named = evidence.find_evidence("phantom", "search", study)
    assert (named.profile, len(named.results)) == ("search", 4)


# A profile that is still being trained


@pytest.mark.parametrize(
    "missing", ["phantom-A-s0", "phantom-B-s0", "phantom-hog", "phantom-grey-histogram"]
)
def test_a_profile_without_all_of_the_comparison_is_no_evidence_yet(missing, put, study):
    put("quick", 1000)
    full = put("full", 5000, without=[missing])
    assert evidence.find_evidence("phantom", None, study).profile == "quick"
    assert (
        evidence.find_study_evidence("build/quick", None).profile == "quick"
        if put("quick", place="build")
        else None
    )
    named = evidence.find_evidence("phantom", "full", study)  # that is what was asked for
    assert (named.profile, named.results) == ("full", full)
    assert named.planned == len(full) + 1


def test_a_profile_with_all_of_the_comparison_is_evidence_and_says_what_it_lacks(put, study):
    put("quick", 1000)
    without = (
        *("phantom-A-s1", "phantom-B-dropout-s0", "phantom-B-3classes-s1"),
        *("phantom-H-s0", "phantom-combination"),  # neither is of the paper
    )
    full = put("full", 5000, without=without)
    chosen = evidence.find_evidence("phantom", None, study)
    assert chosen == Evidence("full", full, len(full) + 5)
    assert len(study.runs("full")) == 13
    assert chosen.missing_note == (
        "8 of the 13 runs of profile full are published; the other 5 have not been trained yet."
    )
    put("full", 5000)
    assert evidence.find_evidence("phantom", None, study).missing_note == ""


def test_learned_and_handcrafted_are_told_apart(put, study):
    put("full", 5000)
    chosen = evidence.find_evidence("phantom", None, study)
    kinds = {run.id: isinstance(run, NetworkRun) for run in study.runs("full")}
    assert {r.run for r in chosen.networks} == {name for name, is_one in kinds.items() if is_one}
    assert {r.run for r in chosen.handcrafted} == {
        *("phantom-combination", "phantom-grey-histogram", "phantom-hog")
    }
    assert chosen.caption == wording.describe_profile("full", chosen.results)


def with_pretrained(project):
    """The study, with pretrained features."""
    more = STUDY["grid"]["descriptors"] | {"pretrained": {}}
    text = yaml.safe_dump(STUDY | {"grid": STUDY["grid"] | {"descriptors": more}}, sort_keys=False)
    (project / "study.yml").write_text(text)
    return read_study(project / "study.yml")


def test_pretrained_features_are_a_family_and_a_profile_is_evidence_without_them(put, project):
    put("full", 5000)
    study = with_pretrained(project)
    chosen = evidence.find_evidence("phantom", None, study)
    assert (chosen.profile, chosen.pretrained) == ("full", [])
    run = study.run("full", "phantom-pretrained")
    made = result_of(run, 5000)
    results.write(project / "results/full/phantom-pretrained.json", made)
    chosen = evidence.find_evidence("phantom", None, study)
    assert chosen.pretrained == [made]
    assert made not in chosen.handcrafted and made not in chosen.networks
    every = [*chosen.pretrained, *chosen.handcrafted, *chosen.networks]
    assert sorted(every, key=lambda r: r.run) == chosen.results


def test_a_descriptor_not_yet_in_the_evidence_is_read_from_a_smaller_profile(put, project):
    put("full", 5000)
    put("quick", 1000)
    study = with_pretrained(project)
    with pytest.raises(CbirError, match="the study has no result of pretrained"):
        evidence.find_descriptor_evidence("pretrained", "build/quick")
    for profile, train in (("mednist", 800), ("quick", 1000), ("full", 5000)):
        dataset = study.profile(profile).dataset
        made = result_of(study.run(profile, f"{dataset}-pretrained"), train, dataset=dataset)
        results.write(project / f"results/{profile}/{made.run}.json", made)
        found = evidence.find_descriptor_evidence("pretrained", "build/quick")
        assert (found.profile, found.pretrained) == (profile, [made])
    assert evidence.find_descriptor_evidence("hog", "build/quick").profile == "full"


# Where nothing is published


def test_the_networks_of_the_evidence_are_those_of_its_profile(put, study, project, monkeypatch):
    runs = [r.run for r in put("full") if "network" in r.parameters]
    monkeypatch.setattr(paths, "models_folder", lambda: project / "models")
    quick, own, shipped = (
        paths.model_file(paths.build_folder("quick"), runs[0]),
        paths.model_file(paths.build_folder("full"), runs[1]),
        project / "models" / f"{runs[2]}.safetensors",
    )
    for file in (own, shipped, quick):  # the other profile's is the latest
        file.parent.mkdir(parents=True, exist_ok=True)
        file.touch()
    ev = evidence.find_evidence("phantom", None, study)
    assert evidence.find_trained_networks(ev) == {runs[1]: own, runs[2]: shipped}


def test_irma_without_published_results_falls_back_to_what_was_done_here(put, study):
    put("full", 5000)  # of other images
    own = put("paper", 12_000, place="build", without=["irma-hog"])
    chosen = evidence.find_evidence("irma", None, study)
    assert (chosen.profile, chosen.results) == ("paper", own)
    assert chosen.missing_note.startswith("4 of the 5 runs of profile paper")
    assert evidence.find_study_evidence("build/paper") == Evidence("paper", own, len(own))
    some = [own[0].run, own[2].run]
    assert evidence.find_study_evidence("build/paper", some).results == [own[0], own[2]]
    published = put("paper", 12_000)
    assert evidence.find_evidence("irma", None, study).results == published
    assert evidence.find_study_evidence("build/paper", some).results == published


@pytest.mark.parametrize(
    ("dataset", "profile", "what", "hint"),
    [
        ("irma", None, "no results on irma", "cbir study --profile paper --data-root FOLDER"),
        ("phantom", None, "no results on phantom", "cbir study --profile quick"),
        ("phantom", "full", "no results on phantom", "cbir study --profile full"),
        ("irma", "quick", "profile quick does not use irma", "paper"),
        ("irma", "papre", "unknown profile 'papre'", "did you mean"),
        ("folder", None, "no profile uses folder", "study.yml"),
        ("folder", "paper", "profile paper does not use folder", "the study file has none"),
    ],
)
def test_where_there_is_none_the_command_that_makes_it_is_named(
    dataset, profile, what, hint, study
):
    with pytest.raises(CbirError) as caught:
        evidence.find_evidence(dataset, profile, study)
    assert what in caught.value.what
    assert hint in caught.value.hint
    assert len(str(caught.value).splitlines()) == 2
    assert ("--data-root" in caught.value.hint) == (dataset == "irma" and profile is None)


def test_a_study_without_a_result_is_refused(project):
    with pytest.raises(CbirError, match="no result in build/quick"):
        evidence.find_study_evidence("build/quick")


def test_published_results_stand_in_for_a_study_that_was_not_run(put, project):
    published = put("quick", accuracy=0.5)
    for folder in ("build/quick", "build/quick-published"):
        assert evidence.read_study_results(folder) == published
    own = put("quick", place="build", accuracy=0.75, without=("phantom-A-s0",))
    assert evidence.read_study_results("build/quick") == own
    names = [r.run for r in own]
    assert evidence.read_study_results("build/quick", names[:2]) == own[:2]


def test_runs_that_are_named_have_to_be_in_the_folder(put, project):
    name = put("quick")[0].run
    with pytest.raises(CbirError, match="cannot read"):
        evidence.read_study_results("build/quick", [name])


def test_the_report_is_on_the_data_set_named_or_on_that_of_the_study(put, study, project):
    put("full"), put("mednist")
    put("quick", place="build")
    assert evidence.find_report_evidence("build/quick").profile == "full"
    assert evidence.find_report_evidence("build/quick", dataset="mednist").profile == "mednist"
    assert evidence.find_report_evidence("nowhere", None, "phantom", "full").profile == "full"


def test_the_report_is_on_a_profile_that_another_study_file_plans(put, project, tmp_path):
    put("full")
    own = put("quick", place="build")  # called otherwise in a study file of the reader's
    (project / "build" / "quick").rename(project / "build" / "mine")
    chosen = evidence.find_report_evidence("nowhere", ["a", "b"], "phantom", "mine")
    assert chosen == Evidence("mine", own, 2)


def test_a_profile_s_name_is_that_of_its_folder():
    for suffix in ("", "-published", "-fresh"):
        assert evidence.get_profile_name(f"build/paper-phantom{suffix}") == "paper-phantom"


# The reader's own study


def test_a_book_of_published_results_has_no_run_of_its_reader(put, study, project):
    put("full", 9000, accuracy=0.9)
    put("quick", 4000, place="build", accuracy=0.6)
    chosen = evidence.find_evidence("phantom", "full", study)
    own = evidence.compare_your_run("build/quick", chosen)
    assert own.startswith("**Your run** (profile quick: 4,000")
    assert "make study" not in own
    shutil.copytree(project / "build/quick", project / "build/quick-published")
    published = evidence.compare_your_run("build/quick-published", chosen)
    assert published.startswith("**The published run of profile quick** (4,000")
    assert published.endswith("After `make study`, your run stands here.")


def test_your_run_stands_beside_the_evidence_method_by_method(put, study, project):
    put("full", 9000, accuracy=0.9)
    put("quick", 4000, place="build", accuracy=0.6)
    # Two seeds of A in the evidence: their mean stands there. B with dropout is no row.
    (run,) = (run for run in study.runs("full") if run.id == "phantom-A-s1")
    results.write(project / "results/full/phantom-A-s1.json", result_of(run, 9000, 0.8))
    # B is not in the evidence as the reader has it.
    for seed in (0, 1):
        (project / f"results/full/phantom-B-s{seed}.json").unlink()
    chosen = evidence.find_evidence("phantom", "full", study)
    said = evidence.compare_your_run("build/quick", chosen)
    head, *rows, caption = (line for line in said.splitlines() if line)
    assert "simulated" in caption
    assert head == (
        "**Your run** (profile quick: 4,000 training images, 1000 epochs) and the evidence "
        "(profile full: 9,000), test accuracy in percent:"
    )
    assert rows[:2] == ["| method | profile quick | profile full |", "|---|---|---|"]
    cells = {
        name: values for _, name, *values, _ in (map(str.strip, r.split("|")) for r in rows[2:])
    }
    titles = {results.name_method(r) for r in chosen.handcrafted}
    assert cells == {"Network A": ["60.0", "85.0"]} | {name: ["60.0", "90.0"] for name in titles}
    assert evidence.compare_your_run("build/quick", chosen, ["phantom-A-s0"]).count("\n|") == 3


def test_there_is_nothing_beside_the_evidence_itself(put, study):
    put("full", 9000)
    put("full", 9000, place="build")
    chosen = evidence.find_evidence("phantom", None, study)
    for folder in ("build/full", "build/full-published", "build/full-fresh"):
        assert evidence.compare_your_run(folder, chosen) == ""


def test_your_run_leaves_out_other_ways_of_training(put, study):
    put("full", 9000)
    put("sharp", 5000, place="build")
    said = evidence.compare_your_run("build/sharp", evidence.find_evidence("phantom", None, study))
    named = [row.split("|")[1].strip() for row in said.splitlines()[4:-2]]
    networks = [name for name in named if name.startswith("Network")]
    assert networks == ["Network A", "Network B", "Network H"]  # not of three classes
    assert len(named) == 6
