"""Networks that differ in the loss they were trained by: the runs, their table, the differences."""

from __future__ import annotations

from collections.abc import Sequence

import pandas as pd

from cbir_lib.study.config import NetworkRun, name_briefly
from cbir_lib.study.pairwise import compute_difference
from cbir_lib.study.results import Result, find_family, name_method, name_variant
from cbir_lib.study.summaries import index_by_name, tabulate_networks

CROSS_ENTROPY = NetworkRun.model_fields["loss"].default
ASKING_FOR_CODES = ("codes", "code-tree")
MEASURES = ("P@1", "P@10", "mAP")


def get_loss(result: Result) -> str:
    """Return the loss that a network was trained by."""
    return result.parameters.get("loss", CROSS_ENTROPY)


def select_losses(results: Sequence[Result]) -> list[Result]:
    """Select the networks trained by a loss that compares images, and the same plainly trained.

    All else is as in plain training. Empty if there is none of the former.
    """
    trained = [r for r in _select_plain(results) if get_loss(r) not in ASKING_FOR_CODES]
    networks = {r.parameters["network"] for r in trained if get_loss(r) != CROSS_ENTROPY}
    return [r for r in trained if r.parameters["network"] in networks]


def select_fine_grades(results: Sequence[Result]) -> dict[str, Result]:
    """Select what shows whether it helps to learn codes, by name, lowest hierarchical error first.

    The networks trained by a loss that asks for codes, the same by all other losses, and the best
    method of each other family. Empty if there is none of the first.
    """
    plain = _select_plain(results)
    networks = {r.parameters["network"] for r in plain if get_loss(r) in ASKING_FOR_CODES}
    chosen = [r for r in plain if r.parameters["network"] in networks]
    for family in ("handcrafted", "pretrained") if chosen else ():
        graded = [
            r
            for r in results
            if find_family(name_method(r)) == family and r.retrieval.ndcg is not None
        ]
        chosen += sorted(graded, key=_get_error)[:1]
    return dict(sorted(index_by_name(chosen).items(), key=lambda named: _get_error(named[1])))


def _select_plain(results: Sequence[Result]) -> list[Result]:
    """Select networks that differ from plain training in nothing but the loss."""
    return [
        r
        for r in results
        if "network" in r.parameters and name_variant(r) == r.parameters.get("loss", "")
    ]


def _get_error(result: Result) -> float:
    return result.retrieval.hierarchical_error


def group_by_loss(results: Sequence[Result]) -> dict[str, list[Result]]:
    """Group networks by the loss that they were trained by; those of a group are its seeds."""
    groups: dict[str, list[Result]] = {}
    for result in results:
        groups.setdefault(get_loss(result), []).append(result)
    return groups


def tabulate_losses(results: Sequence[Result]) -> pd.DataFrame:
    """Return one row per network and loss, means of the seeds in percent, the highest mAP first.

    ``nearest neighbour`` and ``own answer``, the accuracy by either on the test split; ``P@10`` and
    ``mAP``; ``best epoch``, whose weights were kept; ``seeds``.
    """
    columns = ["nearest neighbour", "own answer", "P@10", "mAP", "best epoch", "seeds"]
    table = tabulate_networks(results)
    if table.empty:
        return pd.DataFrame(columns=columns)
    rules = [{rule.rule: 100 * rule.accuracy for rule in r.rules} for r in results]
    table = table.assign(
        loss=[get_loss(r) for r in results],
        **{
            "nearest neighbour": [rule["nearest neighbour"] for rule in rules],
            "own answer": [rule["softmax"] for rule in rules],
            "P@10": [100 * r.retrieval.precision_at_10 for r in results],
        },
    )
    groups = table.groupby(["network", "loss"])
    means = groups[columns[:-1]].mean().assign(seeds=groups.size())
    return means.sort_values("mAP", ascending=False)


def compare_losses(results: Sequence[Result]) -> dict[str, pd.DataFrame]:
    """Compare each loss with cross-entropy, by measure: a row each, ``G with the triplet loss``.

    Paired by seed and image, as :func:`cbir_lib.study.pairwise.compute_difference` returns it.
    Losses without a common seed are left out.
    """
    sides = {
        (r.parameters["network"], get_loss(r)): None for r in results if "loss" in r.parameters
    }
    panels: dict[str, dict[str, dict]] = {measure: {} for measure in MEASURES}
    for network, loss in sides:
        for measure, rows in panels.items():
            found = compute_difference(results, (network, loss), (network, ""), measure)
            if found is not None:
                rows[name_briefly(network, loss)] = found
    return {m: pd.DataFrame.from_dict(rows, orient="index") for m, rows in panels.items()}
