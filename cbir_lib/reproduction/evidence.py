"""The evidence: the published results that the book's statements are based on.

For each data set one profile is the evidence: of those published in ``results/``, the one with the
most training images; on a tie, the one with larger images, then the one with more runs. A
profile that is still being trained counts once it has everything that the comparison shows: each of
the paper's networks with plain training and at least one seed, and every handcrafted descriptor;
pretrained features, which came later, do not count. A
reader's own results are shown next to it as "your run" and never replace it. If nothing is
published for a data set, as for IRMA, the reader's own study is the evidence.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import pandas as pd

from cbir_lib import paths
from cbir_lib.datasets import get_source
from cbir_lib.descriptors import DESCRIPTORS
from cbir_lib.errors import CbirError, unknown_name_error
from cbir_lib.reproduction import paper
from cbir_lib.study import effects, results, summaries, wording
from cbir_lib.study.config import DescriptorRun, NetworkRun, Study, read_study
from cbir_lib.study.results import Result

SEARCH = "search"  # the profile that chose the learning rate; never evidence


@dataclass(frozen=True)
class Evidence:
    """Results of one profile on one data set.

    Attributes
    ----------
    profile
        Its name in ``study.yml``.
    results
        Sorted by name.
    planned
        Number of runs of the profile; larger than the number of results during training.
    """

    profile: str
    results: list[Result]
    planned: int

    @property
    def networks(self) -> list[Result]:
        """Return the results of networks."""
        return [r for r in self.results if "network" in r.parameters]

    @property
    def handcrafted(self) -> list[Result]:
        """Return the results of handcrafted descriptors and of their combination."""
        return self._select_family("handcrafted")

    @property
    def pretrained(self) -> list[Result]:
        """Return the results of features that others have trained."""
        return self._select_family("pretrained")

    def _select_family(self, family: str) -> list[Result]:
        return [r for r in self.results if results.find_family(results.name_method(r)) == family]

    @property
    def caption(self) -> str:
        """Describe the data and the training, for a figure's caption."""
        return wording.describe_profile(self.profile, self.results)

    @property
    def missing_note(self) -> str:
        """Return a note on the runs of the profile that are not published yet; empty if all are."""
        missing = self.planned - len(self.results)
        if missing <= 0:
            return ""
        return (
            f"{len(self.results)} of the {self.planned} runs of profile {self.profile} are "
            f"published; the other {missing} have not been trained yet."
        )


def find_trained_networks(ev: Evidence) -> dict[str, Path]:
    """Return the file of each network of the evidence that is at hand, by the name of its run.

    Trained here with the profile of the evidence, or else shipped. A network that another profile
    trained under the same name of a run is not that of the result.
    """
    return effects.find_networks(paths.build_folder(ev.profile), ev.networks)


def find_study_evidence(folder: Path | str, runs: Sequence[str] | None = None) -> Evidence:
    """Return the evidence for the data set of the study in this folder.

    Raises
    ------
    CbirError
        When the study has no result.
    """
    own = read_study_results(folder, runs)
    dataset = own[0].data.dataset
    study = read_study(paths.study_file())
    names = [n for n, p in study.profiles.items() if p.dataset == dataset and n != SEARCH]
    published = _read_published(names, study)
    return (
        max(published, key=_weight)
        if published
        else Evidence(get_profile_name(folder), own, len(own))
    )


def find_descriptor_evidence(
    name: str, folder: Path | str, runs: Sequence[str] | None = None
) -> Evidence:
    """Return the evidence that has a descriptor of this name in ``study.yml``.

    That of the study in a folder; or else, where its profile has not measured it yet, the first
    published profile that has, those on the same data set first.

    Raises
    ------
    CbirError
        When none has a result of it.
    """
    ev, study = find_study_evidence(folder, runs), read_study(paths.study_file())
    dataset = ev.results[0].data.dataset
    profiles = sorted(study.profiles, key=lambda p: study.profiles[p].dataset != dataset)
    others = (Evidence(p, results.read_published(p), len(study.runs(p))) for p in profiles)
    for one in (ev, *others):
        if any(r.parameters.get("descriptor") == name for r in one.results):
            return one
    summaries.select_descriptor(ev.results, name)  # raises
    return ev


def find_report_evidence(
    folder: Path | str,
    runs: Sequence[str] | None = None,
    dataset: str | None = None,
    profile: str | None = None,
) -> Evidence:
    """Return the evidence for the report: on a data set if it is named, else of a study's folder.

    With a data set, ``runs`` are those that ``profile`` plans in another study file than the
    project's, which may not know the profile.

    Raises
    ------
    CbirError
        As :func:`find_evidence` and :func:`find_study_evidence`.
    """
    if not dataset:
        return find_study_evidence(folder, runs)
    if profile and runs:
        measured = results.read_published(profile) or results.read_all(paths.build_folder(profile))
        return Evidence(profile, measured, len(runs))
    return find_evidence(dataset, profile, read_study(paths.study_file()))


def read_study_results(folder: Path | str, runs: Sequence[str] | None = None) -> list[Result]:
    """Read the results of the study in a folder, or else the published ones of its profile.

    With published results a chapter can be executed by hand before anything has been run. Runs that
    are named have to be in the folder.

    Raises
    ------
    CbirError
        When there is no result, or one of the named runs is missing.
    """
    here = Path(paths.project_root(), folder, "runs").glob("*/result.json")
    if runs or any(here):
        return results.read_all(folder, runs)
    return results.read_published(get_profile_name(folder)) or results.read_all(folder)


def find_evidence(dataset: str, profile: str | None, study: Study) -> Evidence:
    """Return the evidence for a data set, or the results of a profile on it.

    Published results if there are any, else those in ``build/``.

    Raises
    ------
    CbirError
        When there is none; the hint is the command that makes it.
    """
    names = [name for name, planned in study.profiles.items() if planned.dataset == dataset]
    if profile is not None:
        if profile not in study.profiles:
            raise unknown_name_error("profile", profile, study.profiles)
        if profile not in names:
            raise CbirError(
                f"profile {profile} does not use {dataset}",
                f"name one that does: {', '.join(names) or 'the study file has none'}",
            )
    names = [profile] if profile else [name for name in names if name != SEARCH]
    if not names:
        raise CbirError(
            f"no profile uses {dataset}", "add one to study.yml, or name another data set"
        )
    candidates = _read_published(names, study, unfinished=profile is not None)
    for name in names if not candidates else ():
        place = paths.build_folder(name)
        if any(place.glob("runs/*/result.json")):
            candidates.append(Evidence(name, results.read_all(place), len(study.runs(name))))
    if not candidates:
        data = "" if dataset == "phantom" else " --data-root FOLDER"
        raise CbirError(
            f"no results on {dataset}",
            f"make some: cbir study --profile {names[0]}{data}",
        )
    return max(candidates, key=_weight)


def get_profile_name(folder: Path | str) -> str:
    """Return the name of the profile that a folder of build/ belongs to."""
    return Path(folder).name.removesuffix(paths.PUBLISHED).removesuffix(paths.FRESH)


def _read_published(names: Sequence[str], study: Study, unfinished: bool = False) -> list[Evidence]:
    complete = []
    for name in names:
        planned, published = study.runs(name), results.read_published(name)
        first = study.profile(name).seeds[0]
        needed = {
            run.id
            for run in planned
            if (isinstance(run, DescriptorRun) and not DESCRIPTORS[run.descriptor].pretrained)
            or (
                isinstance(run, NetworkRun)
                and run.network in paper.TRAINED
                and (run.variant, run.seed) == ("", first)
            )
        }
        if published and (unfinished or needed <= {r.run for r in published}):
            complete.append(Evidence(name, published, len(planned)))
    return complete


def _weight(evidence: Evidence) -> tuple[int, int, int]:
    images = max(r.data.images["train"] for r in evidence.results)  # some runs have fewer classes
    return images, evidence.results[0].parameters["size"], len(evidence.results)


def is_own(folder: Path | str) -> bool:
    """Return whether a folder of build/ is of a study that ran, not of published results."""
    return not Path(folder).name.endswith(paths.PUBLISHED)


def name_own_study(folder: Path | str, own: Sequence[Result]) -> str:
    """Name the study that a page is built from, which is not the evidence (Markdown).

    ``**Your run** (profile quick: 4,000 training images)``. Where a book was built from
    ``results/`` alone, its reader has run nothing: ``**The published run of profile quick**``.
    """
    profile, parameters = get_profile_name(folder), own[0].parameters
    size = f"{own[0].data.images['train']:,} training images"
    if "epochs" in parameters:
        size += f", {parameters['epochs']} epochs"
    if not is_own(folder):
        return f"**The published run of profile {profile}** ({size})"
    return f"**Your run** (profile {profile}: {size})"


def compare_your_run(
    folder: Path | str, evidence: Evidence, runs: Sequence[str] | None = None
) -> str:
    """Compare the reader's own study with the evidence, one row per method (Markdown).

    Empty if both are the same profile. Accuracy is that of the method's own rule; for networks it
    is the mean over the seeds of the plain training.
    """
    profile = get_profile_name(folder)
    if profile == evidence.profile:
        return ""
    own = read_study_results(folder, runs)
    both = pd.concat(
        [_tabulate_accuracies(own), _tabulate_accuracies(evidence.results)], axis=1, join="inner"
    )
    table = "\n".join(
        f"| {name} | {a:.1f} | {b:.1f} |" for name, a, b in both.itertuples(name=None)
    )
    later = "" if is_own(folder) else "\n\nAfter `make study`, your run stands here."
    return (
        f"{name_own_study(folder, own)} and the evidence (profile {evidence.profile}: "
        f"{evidence.results[0].data.images['train']:,}), test accuracy in percent:\n\n"
        f"| method | profile {profile} | profile {evidence.profile} |\n|---|---|---|\n{table}\n\n"
        f"*Test accuracy (%) of each method's own rule, on "
        f"{get_source(own[0].data.dataset).CAPTION}; networks plainly trained, means of the "
        f"seeds.*{later}"
    )


def _tabulate_accuracies(measured: Sequence[Result]) -> pd.Series:
    """Return the accuracy of each method in percent, by name; networks with plain training."""
    plain = [r for r in measured if "network" not in r.parameters or not results.name_variant(r)]
    return summaries.tabulate_methods(plain)["accuracy"]


def read_effects(folder: Path | str, name: str) -> tuple[str, effects.Effects]:
    """Read the published effects of the evidence, or else of the study, with the profile's name.

    Raises
    ------
    CbirError
        When there is neither.
    """
    profile = find_study_evidence(folder).profile
    own = paths.effects_file(paths.project_root() / folder, name)
    if (published := effects.published_path(profile, name)).is_file():
        return profile, effects.read(published)
    if own.is_file():
        return get_profile_name(folder), effects.read(own)
    if (published := effects.published_path("quick", name)).is_file():
        return "quick", effects.read(published)
    raise CbirError(f"no effects file {name} in {folder}", "run a profile that has it: cbir study")
