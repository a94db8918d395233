"""Publish the results of a study, its pictures and its best networks."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from pathlib import Path

from cbir_lib import paths
from cbir_lib.datasets import get_source, load_images
from cbir_lib.errors import CbirError
from cbir_lib.files import replacing, replacing_folder
from cbir_lib.reproduction import evidence, paper, shipped, tables
from cbir_lib.study import effects, results, summaries
from cbir_lib.study.config import Study, read_study
from cbir_lib.study.results import Result

SHIPPED_BYTES = 29e6  # limit for all networks in the repository


def unpublished_runs(study: Study, profile: str) -> list[str]:
    """Return the runs of a profile that have no result with the same parameters in ``results/``."""
    published = {r.run: r.parameters for r in results.read_published(profile)}
    runs = study.runs(profile)
    return [run.id for run in runs if run.list_changes(published.get(run.id, {}))]


def unpublished_effects(study: Study, profile: str) -> list[str]:
    """Return the effects of a profile that are not in ``results/`` with the same parameters."""
    missing = []
    for run in study.effects(profile):
        file = effects.published_path(profile, run.name)
        if not file.is_file() or run.list_changes(effects.read(file).parameters):
            missing.append(run.id)
    return missing


def finished_networks(study: Study, profile: str, work: Path, runs: Sequence[str]) -> list[str]:
    """Return those of these runs whose results are in a study's folder or published."""
    missing = set(unpublished_runs(study, profile))
    return [run for run in runs if run not in missing or paths.result_file(work, run).is_file()]


def publish(study: Study, profile: str) -> list[str]:
    """Copy the finished results of a study to ``results/``; return a report as lines of text.

    Results that were published before and are not finished here are kept; so are those whose runs
    were measured here with other parameters than the profile plans, which are not published. With
    the project's own study file, results that it no longer plans are removed, and if the profile is
    its evidence, the README's pictures are drawn and the best networks copied to ``models/``. Each
    of the two folders is replaced as a whole and each picture as one file, when it is complete: a
    kill or a failure at any moment leaves the old or the new, and publishing again completes the
    rest.

    Raises
    ------
    CbirError
        When no run of the profile is finished.
    """
    work, target = paths.build_folder(profile), paths.results_folder(profile)
    planned = {run.id: run for run in study.runs(profile)}
    finished = [name for name in planned if paths.result_file(work, name).is_file()]
    measured_here = results.read_all(work, finished) if finished else []
    others = [r.run for r in measured_here if planned[r.run].list_changes(r.parameters)]
    published = [result for result in measured_here if result.run not in others]
    if not published:
        what = f"no finished run in {work}" + (" has the profile's parameters" if others else "")
        raise CbirError(what, f"cbir study --profile {profile}")
    measured = {}
    for run in study.effects(profile):
        if (file := paths.effects_file(work, run.name)).is_file():
            effect = effects.read(file)
            if run.list_changes(effect.parameters):
                others.append(run.id)
            else:
                measured[file.name] = effect
    own = study == read_study(paths.study_file())
    with replacing_folder(target) as new:
        if target.is_dir():
            shutil.copytree(target, new, dirs_exist_ok=True, ignore=_ignore_parts)
        stale = [file for file in new.glob("*.json") if file.stem not in planned] if own else []
        for file in stale:
            file.unlink()
        for result in published:
            results.write(new / f"{result.run}.json", result)
        for name, effect in measured.items():
            effects.write(new / "effects" / name, effect)
    missing = unpublished_runs(study, profile)
    lines = [
        f"{len(published)} results in results/{profile}/; {len(missing)} runs are still missing"
    ]
    if others:
        lines.append(
            f"not published, of other parameters; run the study again: {', '.join(others)}"
        )
    if stale:
        lines.append(
            f"removed, no longer planned: {', '.join(sorted(file.stem for file in stale))}"
        )
    if published[0].data.dataset != "phantom":  # the only images that are ours
        return lines
    if not own:  # the pictures and networks are not of its runs
        return lines
    best = evidence.find_evidence("phantom", None, study)
    if best.profile == profile:
        lines.append(_draw_pictures(best.results, paths.book_folder() / "assets"))
        redrawn = study.grid.effects.redrawn
        named = redrawn.networks if redrawn else []
        lines += _ship_models(work, paths.models_folder(), named)
    return lines


def _ship_models(work: Path, folder: Path, named: Sequence[str]) -> list[str]:
    """Write a network for real films, the named and the best of each kind, up to the size limit.

    First comes the smallest that reaches the aim with real films, then the runs that the study file
    names, then the best by their validation accuracy. The weights are those trained here, or else
    those in ``folder``. A run trained elsewhere has neither, and the best of the others takes its
    place.
    """
    from cbir_lib.networks.modules import read_network, save_network

    whole = [
        result
        for result in results.read_published(work.name)
        if "network" in result.parameters and not result.parameters.get("classes")
    ]
    files = effects.find_networks(work, whole)
    at_hand = [result for result in whole if result.run in files]
    kinds: dict[str, list[Result]] = {}
    for result in at_hand:
        kinds.setdefault(result.parameters["network"], []).append(result)

    def rank(result: Result) -> float:
        return -result.classification.validation_accuracy

    films = shipped.select_for_films(at_hand)
    best = sorted((min(same, key=rank) for same in kinds.values()), key=rank)
    order = [
        *sorted(films, key=lambda run: files[run].stat().st_size)[:1],
        *(run for run in named if run in files),
        *(result.run for result in best),
    ]
    if not order:
        return [f"models/ stays as it is: no network of {work.name} is here"]
    total, lines = 0, []
    with replacing_folder(folder) as new:
        for other in folder.glob("[!.]*"):
            if other.is_file() and other.suffix != ".safetensors":
                shutil.copy2(other, new)
        for run in dict.fromkeys(order):
            name = f"{run}.safetensors"
            trained = read_network(files[run])
            size = sum(2 * tensor.numel() for tensor in trained.module.state_dict().values())
            if total + size < SHIPPED_BYTES:
                total += size
                save_network(new / name, trained, half=True)
                lines.append(f"models/{name}: {size / 1e6:.1f} MB")
    return lines


def _ignore_parts(_folder: str, names: list[str]) -> list[str]:
    """Return the names of a folder's files that were being written, for :func:`shutil.copytree`."""
    return [name for name in names if name.startswith(".")]


def _draw_pictures(evidence_results: Sequence[Result], folder: Path) -> str:
    import matplotlib

    matplotlib.use("agg")
    from cbir_lib.book import figures

    best = summaries.select_best(evidence_results)
    chosen = [example for example in best.examples if example.choice == "median"]
    images = load_images(best.data.dataset, results.list_example_ids(best))
    drawn = {
        "ranking": figures.plot_neighbours(chosen, images, best.data.class_names),
        "comparison": figures.plot_accuracies_beside_paper(
            summaries.tabulate_methods(tables.select_table_4(evidence_results)),
            paper.label_table_4(),
            get_source(best.data.dataset).CAPTION,
        ),
    }
    for name, figure in drawn.items():
        with replacing(folder / f"{name}.png") as part:
            figure.savefig(part, format="png", dpi=120)
    return f"pictures in {folder}"
