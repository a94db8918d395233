"""The commands for measurements that need a second data set or the renderer."""

from __future__ import annotations

import ctypes
from contextlib import suppress
from pathlib import Path
from typing import Annotated

import typer

from cbir_lib.cli.options import DataRoot, StudyFile, load_study
from cbir_lib.errors import CbirError
from cbir_lib.files import check_writable

Films = Annotated[str, typer.Option(help="Real radiographs: mednist, fracatlas, irma, or folder.")]

app = typer.Typer(help="Measurements outside a study: another data set, re-rendered images.")
# Of glibc's mallopt (malloc.h).
M_TRIM_THRESHOLD, M_MMAP_MAX = -1, -4


@app.callback()
def _keep_freed_memory() -> None:
    """Let glibc keep what networks free: the system would clear the same pages at every batch.

    The conductor does so by variables, for the processes that it starts.
    """
    with suppress(OSError, AttributeError, TypeError):  # another C library
        libc = ctypes.CDLL(None)
        libc.mallopt(M_TRIM_THRESHOLD, 2**31 - 1)
        libc.mallopt(M_MMAP_MAX, 0)


@app.command("transfer")
def effects_transfer(
    study_file: StudyFile = None,
    out: Annotated[
        Path | None, typer.Option(help="The file to write; by default in results/transfer/.")
    ] = None,
) -> None:
    """Train a network on each of two data sets, search both with each, and write the measurements.

    The data sets are the phantom and MedNIST (`cbir data fetch mednist`); the settings are
    `grid.effects.transfer` of the study file. Takes some minutes. No image is written.

    Example: `cbir effects transfer`
    """
    from cbir_lib.study import transfer

    _write_effects("transfer", transfer.measure, study_file, out)


@app.command("redrawn")
def effects_redrawn(
    study_file: StudyFile = None,
    out: Annotated[
        Path | None, typer.Option(help="The file to write; by default in results/redrawn/.")
    ] = None,
) -> None:
    """Re-render queries with different exposures, search with them, and write the measurements.

    Needs the extra `phantom`; the settings are `grid.effects.redrawn` of the study file. Takes
    some minutes.

    Example: `cbir effects redrawn`
    """
    from cbir_lib.study import rerendered

    _write_effects("redrawn", rerendered.measure, study_file, out)


@app.command("real")
def effects_real(
    dataset: Films = "mednist",
    data_root: DataRoot = None,
    study_file: StudyFile = None,
    missing: Annotated[
        bool, typer.Option("--missing", help="Only measure methods that the file lacks.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option(help="The file to write; by default in results/real/.")
    ] = None,
) -> None:
    """Search the simulated radiographs with real ones, and write the measurements.

    Takes the handcrafted descriptors with the settings of the evidence, and every network of the
    evidence that is in models/ or was trained here with its profile; the settings are
    `grid.effects.real` of the study file. A folder of your own needs sub-folders named after
    regions: chest, upper extremity and so on. No film is written.

    Examples: `cbir effects real`, `cbir effects real --missing`,
    `cbir effects real --dataset folder --data-root my-films`
    """
    from cbir_lib.datasets import load
    from cbir_lib.descriptors import DESCRIPTORS
    from cbir_lib.networks.modules import read_network
    from cbir_lib.reproduction import evidence
    from cbir_lib.study import effects, real, results

    study = load_study(study_file)
    plan = _get_plan(study, "real")
    path = _choose_path(out, effects.published_path("real", dataset))
    films = load(dataset, data_root)
    basis = evidence.find_evidence("phantom", None, study)
    files = evidence.find_trained_networks(basis)
    networks = results.group_by_method(
        r for r in basis.networks if r.run in files and not r.parameters["classes"]
    )
    descriptors = {
        result.parameters["descriptor"]: result.settings
        for result in basis.results
        if "descriptor" in result.parameters
    }
    before = effects.read(path) if missing and path.is_file() else None
    if before:
        real.check_same(before, plan, films)
        there = real.tabulate(before, "choosing").index.unique("method")
        networks = {n: networks[n] for n in real.list_missing(before, networks)}
        descriptors = {n: s for n, s in descriptors.items() if DESCRIPTORS[n].title not in there}
        if not networks and not descriptors:
            print(f"no method is missing: {path}")
            return
    trained = {n: [read_network(files[r.run]) for r in seeds] for n, seeds in networks.items()}
    measured = real.measure(plan, films, descriptors, trained, lambda line: print(line, flush=True))
    effects.write(path, real.merge(before, measured) if before else measured)
    print(f"the effects: {path}")


@app.command("labels")
def effects_labels(
    study_file: StudyFile = None,
    out: Annotated[
        Path | None, typer.Option(help="The file to write; by default in results/labels/.")
    ] = None,
) -> None:
    """Learn from few labelled images, with the pretrained network and from scratch.

    Needs the extra `pretrained`; the settings are `grid.effects.labels` of the study file. Takes
    about an hour of one core.

    Example: `cbir effects labels`
    """
    from cbir_lib.study import few_labels

    plan = _get_plan(load_study(study_file), "labels")
    path = _choose_path(out, few_labels.find_published_path())
    measured = few_labels.measure(plan, lambda line: print(line, flush=True))
    few_labels.write(path, measured)
    print(f"the measurements: {path}")


@app.command("gap")
def effects_gap(
    dataset: Films = "mednist",
    data_root: DataRoot = None,
    study_file: StudyFile = None,
    phantom: Annotated[
        Path | None, typer.Option(help="A phantom drawn otherwise; by default the embedded one.")
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="The file to write; by default in results/gap/.")
    ] = None,
) -> None:
    """Measure what separates real radiographs from the simulated ones of the same regions.

    Grey values, frequencies, and how well a classifier tells them apart; the films are those of
    `cbir effects real`. Takes about a minute. No film is written.

    Examples: `cbir effects gap`, `cbir effects gap --dataset folder --data-root my-films`,
    `cbir effects gap --phantom my-phantom`, drawn with `cbir phantom render --change`
    """
    from cbir_lib.datasets import load
    from cbir_lib.datasets.phantom.changes import read_changes
    from cbir_lib.study import gap

    plan = _get_plan(load_study(study_file), "real")
    changes = read_changes(phantom) if phantom else []
    if phantom and not (changes or out):
        raise CbirError(f"{phantom} has no changes to be named by", "name the file: --out FILE")
    path = _choose_path(out, gap.find_published_path(dataset, changes))
    drawn = load("phantom", phantom)
    measured = gap.measure(plan, load(dataset, data_root), drawn, changes)
    gap.write(path, measured)
    print(f"the measurements: {path}")


def _choose_path(out: Path | None, default: Path) -> Path:
    """Return the file to write; refuse one that cannot be, before anything is measured."""
    path = out or default
    check_writable(path)
    return path


def _get_plan(study, name: str):
    """Return what ``grid.effects`` of a study says of the effects with this name."""
    if (plan := getattr(study.grid.effects, name)) is None:
        raise CbirError(f"the study has no grid.effects.{name}", "add it to study.yml")
    return plan


def _write_effects(name: str, measure, study_file: Path | None, out: Path | None) -> None:
    """Measure the effects with this name in ``grid.effects`` of the study file, and write them."""
    from cbir_lib.study import effects

    study = load_study(study_file)
    plan, grids = _get_plan(study, name), study.grid.descriptors
    path = _choose_path(out, effects.published_path(name, name))
    effects.write(path, measure(plan, grids, lambda line: print(line, flush=True)))
    print(f"the effects: {path}")
