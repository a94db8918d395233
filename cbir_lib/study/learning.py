"""What the training runs of a study show: learning rate, number of epochs, losses, parameters."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd

from cbir_lib.evaluation.intervals import compute_paired_interval
from cbir_lib.networks.architectures import SECOND_FC, list_layers
from cbir_lib.study.config import NetworkRun
from cbir_lib.study.pairwise import Measure, score_queries
from cbir_lib.study.results import Result, name_method, name_variant, same_images
from cbir_lib.study.summaries import tabulate_networks

Side = tuple[str, str]  # a network and its variant


def tabulate_learning_rates(results: Sequence[Result]) -> pd.DataFrame:
    """Return validation accuracy in percent: one row per rate, one column per network, ``mean``."""
    table = tabulate_networks(results).assign(rate=[r.parameters["learning_rate"] for r in results])
    rates = table.pivot(index="rate", columns="network", values="validation accuracy")
    return rates.assign(mean=rates.mean(axis=1)).rename_axis(columns=None)


def pair_doubled_epochs(
    short: Sequence[Result], long: Sequence[Result]
) -> list[tuple[Result, Result]]:
    """Pair each training run with the one over twice the epochs, if there is one.

    Both have the same network, variant, seed and images.
    """
    by_training = {_identify(r): r for r in long}
    return [
        (r, twice)
        for r in short
        if (twice := by_training.get(_identify(r))) is not None
        and same_images(r, twice)
        and twice.parameters["epochs"] == 2 * r.parameters["epochs"]
    ]


def tabulate_doubled_epochs(pairs: Sequence[tuple[Result, Result]]) -> pd.DataFrame:
    """Return the validation accuracy of pairs of training runs in percent, and the gain in points.

    One row per pair of :func:`pair_doubled_epochs`, by the name of the method; a column per number
    of epochs, and ``gain``.
    """
    rows = {}
    for pair in pairs:
        once, twice = (100 * r.classification.validation_accuracy for r in pair)
        few, many = (f"{r.parameters['epochs']} epochs" for r in pair)
        rows[name_method(pair[0])] = {few: once, many: twice, "gain": twice - once}
    return pd.DataFrame.from_dict(rows, orient="index", columns=None if rows else ["gain"])


def select_bfloat16_comparison(results: Sequence[Result]) -> list[Result]:
    """Select the training runs that compare precisions: float32 on request, or bfloat16.

    Runs that used float32 because the processor seemed to lack bfloat16 are left out.
    """
    return [
        r
        for r in results
        if r.parameters["precision"] == "float32" or r.training.precision == "bfloat16"
    ]


def list_precision_pairs(networks: str, variants: Sequence[str]) -> list[tuple[Side, Side]]:
    """List each network and variant, trained in float32 and as usual, as sides of a comparison."""
    return [
        ((name, "-".join(filter(None, (variant, "float32")))), (name, variant))
        for name in networks
        for variant in variants
    ]


def _identify(result: Result) -> tuple[str, str, int]:
    return result.parameters["network"], name_variant(result), result.parameters["seed"]


def compute_mean_difference(
    results: Sequence[Result], pairs: Sequence[tuple[Side, Side]], measure: Measure = "accuracy"
) -> dict[str, float] | None:
    """Compute how far one side is ahead of the other, averaged over several pairs of trainings.

    With the seeds that all sides have; every score must be known.

    Returns
    -------
    dict or None
        In percentage points: ``difference``, and ``low`` and ``high``, its 95 % interval from
        resampling seeds and images or subjects; ``seeds``, their number. None without a common
        seed.
    """
    runs: dict[Side, dict[int, Result]] = {side: {} for pair in pairs for side in pair}
    for result in results:
        network, variant, seed = _identify(result)
        if (network, variant) in runs:
            runs[network, variant][seed] = result
    seeds = sorted(set.intersection(*(set(of_side) for of_side in runs.values())))
    if not seeds:
        return None
    points = np.mean(
        [
            [
                100 * score_queries(runs[one][seed], measure)
                - 100 * score_queries(runs[other][seed], measure)
                for seed in seeds
            ]
            for one, other in pairs
        ],
        axis=0,
    )  # (S, Q)
    subjects = runs[pairs[0][0]][seeds[0]].data.test_subjects
    low, high = compute_paired_interval(points, subjects=subjects and np.array(subjects))
    return {"difference": float(points.mean()), "low": low, "high": high, "seeds": len(seeds)}


def tabulate_learnt_bits(results: Sequence[Result]) -> pd.DataFrame:
    """Return one row per network and number of learnt bits, and one for the same without; means.

    ``vector``, such as ``32 bits``; ``bytes`` of an image's; ``P@1``, ``P@10``, ``mAP`` and
    ``hierarchical error`` of the first answer in percent (NaN without IRMA codes); ``seeds``.
    Empty if no network has learnt bits.
    """
    trained = [
        r
        for r in results
        if "network" in r.parameters
        and name_variant(r) == (f"{r.parameters['bits']}bits" if "bits" in r.parameters else "")
    ]
    networks = {r.parameters["network"] for r in trained if "bits" in r.parameters}
    rows = []
    for r in trained:
        if r.parameters["network"] in networks:
            bits = r.parameters.get("bits")
            found = r.retrieval
            rows.append(
                {
                    "network": r.parameters["network"],
                    "vector": f"{bits} bits" if bits else f"{SECOND_FC} numbers",
                    "bytes": bits // 8 if bits else 4 * SECOND_FC,
                    "P@1": 100 * found.precision_at_1,
                    "P@10": 100 * found.precision_at_10,
                    "mAP": 100 * found.mean_average_precision,
                    "hierarchical error": 100 * found.hierarchical_error
                    if found.hierarchical_error is not None
                    else np.nan,
                }
            )
    names = ["network", "bytes", "vector"]
    columns = ["P@1", "P@10", "mAP", "hierarchical error"]
    groups = pd.DataFrame(rows, columns=names + columns).groupby(names)
    return groups[columns].mean().assign(seeds=groups.size()).reset_index()


def find_stuck_runs(results: Sequence[Result]) -> list[str]:
    """Return the sorted names of the runs that give every test image the same answer."""
    return sorted({r.run for r in results if len(set(r.answers)) == 1})


def get_final_losses(result: Result) -> tuple[float, float]:
    """Return the training and validation loss of the last epoch, in nats."""
    return result.training.train_loss[-1], result.training.validation_loss[-1]


def count_parameters(run: NetworkRun, classes: int) -> int:
    """Return the number of trainable parameters of a network that is trained on these classes.

    At the size of its input, which is the crop if its images are cropped. Batch normalisation adds
    two per channel of a convolution.
    """
    side = run.options["crop"] or run.size
    shape = {"size": side, "reading": run.reading, "bits": run.bits}
    listed = list(list_layers(run.network, classes=classes, **shape))
    normalised = [layer for layer in listed if run.batch_norm and layer.kind in ("c3", "c5")]
    return sum(layer.parameters for layer in listed) + sum(2 * x.shape[0] for x in normalised)


def count_millions(results: Sequence[Result]) -> dict[Side, float]:
    """Return the trainable parameters in millions, by network and variant."""
    return {
        (r.parameters["network"], name_variant(r)): count_parameters(
            NetworkRun(**r.parameters), len(r.data.class_names)
        )
        / 1e6
        for r in results
    }
