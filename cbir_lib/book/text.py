"""Sentences and cells of tables that the chapters of the book show."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence

import numpy as np
import pandas as pd

from cbir_lib import irma_code
from cbir_lib.datasets.phantom.parameters import Exposure
from cbir_lib.descriptors import DESCRIPTORS
from cbir_lib.reproduction import paper, remedies, verdicts
from cbir_lib.reproduction.ablations import MeasuredAblation
from cbir_lib.study import effects, losses, real, summaries
from cbir_lib.study.config import name_briefly, name_network
from cbir_lib.study.results import Circumstances, ClassRetrieval, Result, Retrieval
from cbir_lib.study.wording import (
    DASH,
    format_difference,
    format_p,
    format_points,
    format_settings,
    format_share,
    join_words,
)

MARKS = dict(zip(paper.VERDICTS, "✓✗?", strict=True))
RANKING_MEASURES = {  # as a table names them
    "mAP": "mean_average_precision",
    "macro mAP": "macro_mean_average_precision",
    "P@10": "precision_at_10",
    "R-precision": "r_precision",
    "nDCG@10": "ndcg_at_10",
    "hierarchical error": "hierarchical_error",
}


# Numbers


def format_numbers(values: Iterable[float], digits: int = 3) -> list[str]:
    """Format numbers with this many digits, and a dash for each that is not finite."""
    return [f"{value:.{digits}f}" if np.isfinite(value) else DASH for value in values]


def format_pair(pair: Sequence[float | None], digits: int) -> str:
    """Format a number without and with something: ``91.1 → 92.0``; a dash for both missing."""
    missing = [value is None or not np.isfinite(value) for value in pair]
    if all(missing):
        return DASH
    return " → ".join(
        DASH if absent else f"{value:.{digits}f}"
        for value, absent in zip(pair, missing, strict=True)
    )


def format_millions(number: float) -> str:
    """Format a number of millions with one decimal, or two below 1."""
    return f"{number:.1f}" if number >= 1 else f"{number:.2f}"


def format_duration(circumstances: Iterable[Circumstances]) -> str:
    """Format the sum of the times of several runs in minutes, or in hours from one hour on."""
    minutes = sum(sum(c.seconds.values()) for c in circumstances) / 60
    return f"{minutes:.0f} min" if minutes < 60 else f"{minutes / 60:.1f} h"


def format_measure(row: pd.Series, measure: str) -> str:
    """Format a measure of a row of methods with its interval: ``84.2 % (81.0 to 86.9 %)``."""
    low, high = row[f"{measure} low"], row[f"{measure} high"]
    return f"{row[measure]:.1f} % ({low:.1f} to {high:.1f} %)"


def format_measures(table: pd.DataFrame, measure: str) -> list[str]:
    """Format a column of methods, each with its interval: ``84.2 (81.0 to 86.9)``."""
    columns = [measure, f"{measure} low", f"{measure} high"]
    return [
        f"{mean:.1f} ({low:.1f} to {high:.1f})" for mean, low, high in table[columns].to_numpy()
    ]


def format_retrieval(search: Retrieval | ClassRetrieval, measure: str) -> str:
    """Format a measure of rankings in percent, with its interval if there is one.

    The interval over subjects, or else over queries.
    """
    interval = f"{measure}_interval"
    over_subjects = getattr(search, f"{interval}_of_subjects", None)
    return format_share(getattr(search, measure), over_subjects or getattr(search, interval, None))


def format_change(row: Mapping[str, float]) -> str:
    """Format the difference of an effect: ``+1.2 points (+0.3 to +2.1)``."""
    value, low, high = (
        format_points(row[key]) for key in ("difference", "difference low", "difference high")
    )
    return f"{value} points ({low} to {high})"


def advise_on_descriptor(found: Sequence[Result], caption: str) -> str:
    """Say which descriptor that needs no labels is the first to try, by measurement (Markdown).

    ``found`` are all results of a profile, ``caption`` its description. By precision at 10: what a
    reader sees of a ranking is its beginning.
    """
    table = summaries.tabulate_methods(found)
    by_title = {entry.title: name for name, entry in DESCRIPTORS.items()}
    free = table[table.index.isin(by_title)].sort_values("P@10", ascending=False)
    first, second = free.iloc[0], free.iloc[1]
    accurate, whole = (free.loc[free[measure].idxmax()] for measure in ("accuracy", "mAP"))
    said = [
        f"Of the {len(free)} descriptors that need no labels, take **`{by_title[first.name]}`** "
        f"first: of ten neighbours {first['P@10']:.1f} % are of the query's class, and with the "
        f"next best, {name_in_sentence(second.name)}, {second['P@10']:.1f} %.",
        f"By the nearest neighbour alone the best is {name_in_sentence(accurate.name)}, "
        f"{format_measure(accurate, 'accuracy')}; over whole rankings it is "
        f"{name_in_sentence(whole.name)}, mAP {format_measure(whole, 'mAP')}.",
    ]
    networks = table[table.index.str.startswith("Network ")]
    if len(networks):
        top = networks.loc[networks["mAP"].idxmax()]
        said.append(
            f"{name_in_sentence(top.name)}, trained on such images and their labels, has "
            f"{top['P@10']:.1f} % among ten, and a mAP of {format_measure(top, 'mAP')}. If whole "
            "classes are to be found and your images have labels, train a network on them."
        )
    said.append("On your images the order may be different: try a few queries with two of them.")
    return " ".join(said) + f"\n\n*{caption}.*"


def describe_learned_metric(networks: Sequence[Result]) -> list[str]:
    """Say what the loss with the highest mAP changes; nothing if none was trained (Markdown)."""
    trained = losses.select_losses(networks)
    if not trained:
        return []
    table = losses.tabulate_losses(trained)
    # The highest mAP comes first; of its network there may be no plain training.
    compared = [name for name in table.index if name[1] != losses.CROSS_ENTROPY]
    compared = [name for name in compared if (name[0], losses.CROSS_ENTROPY) in table.index]
    if not compared:
        return []
    network, loss = compared[0]
    best, plain = table.loc[(network, loss)], table.loc[(network, losses.CROSS_ENTROPY)]
    return [
        "It would also train networks to search rather than to name classes. "
        f"{name_network(network, loss)} has a mAP of {best['mAP']:.1f} %, by cross-entropy a "
        f"mAP of {plain['mAP']:.1f} %; the nearest neighbour is right for "
        f"{best['nearest neighbour']:.1f} % and "
        f"{plain['nearest neighbour']:.1f} % ([learned metrics](learned_metrics.html))."
    ]


def describe_fine_grades(measured: Sequence[Result]) -> list[str]:
    """Say what learning codes changes; nothing if no network did, or none by classes (Markdown)."""
    graded = losses.select_fine_grades(measured)
    fine = [r for r in graded.values() if "network" in r.parameters]
    errors = {
        loss: 100 * float(np.mean([r.retrieval.hierarchical_error for r in of_loss]))
        for loss, of_loss in losses.group_by_loss(fine).items()
    }
    asking = {loss: errors[loss] for loss in losses.ASKING_FOR_CODES if loss in errors}
    if not asking or losses.CROSS_ENTROPY not in errors:
        return []
    best = min(asking, key=asking.__getitem__)
    lowest, found = next(iter(graded.items()))
    return [
        "Where the same view of the same part is wanted, a network taught the code has a lower "
        f"hierarchical error of the nearest image ({errors[best]:.1f} % by {best}) than one "
        f"taught the class ({errors[losses.CROSS_ENTROPY]:.1f} %)"
        + (
            ""
            if "network" in found.parameters
            else f"; with {name_in_sentence(lowest)}, the best of the other methods, it is "
            f"{100 * found.retrieval.hierarchical_error:.1f} %, without training a network"
        )
        + " ([fine grades](learned_metrics.html#fine-grades))."
    ]


# Names


PROPER = re.compile("Network|Fourier|Gabor|Haralick|Radon|Tamura|Zernike|[A-Z]{2}")


def name_in_sentence(method: str) -> str:
    """Return the name of a method within a sentence: ``Network C with dropout``, ``thumbnail``."""
    return method if PROPER.match(method) else method[0].lower() + method[1:]


def describe_films(shares: pd.DataFrame, method: str) -> str:
    """Return the precision of a method's first answers to real films: ``97.8 % (chest) and ...``.

    ``shares`` has a row per method and a column per region, in percent.
    """
    return join_words(f"{shares.loc[method, region]:.1f} % ({region})" for region in shares.columns)


def describe_best_for_films(rival: str) -> str:
    """Say which method serves best for films of patients, and how a rival does; no full stop.

    MedNIST's published films: the best by its worse region on the films for choosing, and what it
    does on the others. Empty where nothing is published.
    """
    path = effects.published_path("real", "mednist")
    if not path.is_file():
        return ""
    measured = effects.read(path)
    choosing, judging = (
        real.tabulate(measured, half)["P@1"].unstack("region") for half in real.HALVES
    )
    best = choosing.min(axis=1).idxmax()
    said = (
        "With films of patients as queries, searched among the simulated images, the order "
        f"changes: the first answer of {name_in_sentence(best)} shows the right region "
        f"for {describe_films(judging, best)}"
    )
    if rival in judging.index:
        said += f", that of {name_in_sentence(rival)} for {describe_films(judging, rival)}"
    return said


def list_sides(rows: pd.DataFrame) -> list[str]:
    """Return the name of each comparison of a claim: ``C with dropout over B with dropout``."""
    return [f"{row['one']} over {row['other']}" for _, row in rows.iterrows()]


# Markup


def format_html_table(rows: Mapping | Sequence | pd.DataFrame, classes: str = "") -> str:
    """Format a table as HTML; markup in its cells is kept."""
    return pd.DataFrame(rows).to_html(escape=False, index=False, border=0, classes=classes)


def format_badge(word: str) -> str:
    """Format a verdict on a claim as HTML, with a mark that can be read without colour."""
    return f'<span class="verdict v{paper.VERDICTS.index(word)}">{MARKS[word]} {word}</span>'


def format_outcomes(outcomes: Iterable[str]) -> list[str]:
    """Format outcomes of comparisons, each with its mark."""
    return [f"{verdicts.OUTCOMES[outcome]} {outcome}" for outcome in outcomes]


# Sentences


def describe_fewer_seeds(differences: Mapping[str, Mapping[str, float]], seeds: int) -> str:
    """Name the rows with fewer seeds than ``seeds``, for a caption; empty if there are none."""
    names = [name for name, difference in differences.items() if difference["seeds"] < seeds]
    if len(names) == len(differences) and all(d["seeds"] == 1 for d in differences.values()):
        return " One seed each."
    return f" Fewer than {seeds} seeds: {', '.join(names)}." if names else ""


def describe_seeds(difference: Mapping[str, float]) -> str:
    """Describe how far apart the seeds are: ``2 seeds, +0.6 to +1.5``, or ``one seed``."""
    if difference["seeds"] == 1:
        return "one seed"
    lowest, highest = (format_points(difference[key]) for key in ("lowest", "highest"))
    return f"{difference['seeds']} seeds, {lowest} to {highest}"


def describe_ablation(measured: MeasuredAblation) -> str:
    """Describe a change, its verdict and its differences in percentage points (Markdown)."""
    ablation, accuracy = measured.ablation, measured.differences["accuracy"]
    return (
        f"{ablation.effect[0].upper()}{ablation.effect[1:]} ({name_briefly(*ablation.other)} → "
        f"{name_briefly(*ablation.one)}): **{measured.verdict}**. Accuracy "
        f"{format_difference(accuracy)} points, {describe_seeds(accuracy)}; mAP "
        f"{format_difference(measured.differences['mAP'])}."
    )


def describe_ablations(measured: Sequence[MeasuredAblation], section: str, missing: str) -> str:
    """Describe the changes of a section as a list in Markdown; ``missing`` if there are none."""
    lines = [describe_ablation(m) for m in measured if m.ablation.section == section]
    return "\n".join(f"- {line}" for line in lines) or missing


def list_ablations(measured: Sequence[MeasuredAblation], direction: str) -> str:
    """List the changes of one direction, with the measure if only one of the two decides."""
    names = []
    for m in measured:
        if m.direction == direction:
            alone = [f"{measure} alone" for measure in m.verdict.split()[1:]]
            details = ", ".join([name_briefly(*m.ablation.one), *alone])
            names.append(f"{m.ablation.effect} ({details})")
    return ", ".join(names) or "none"


def describe_published_networks(own_images: bool, families: bool = False) -> str:
    """Describe on which images the paper's numbers were measured, for a caption.

    ``own_images`` if this study was run on the paper's images; ``families`` to include the
    handcrafted rows.
    """
    networks = (
        "The paper's networks are of the same collection and may be compared with these number by "
        "number, except E to G, which had other classes."
        if own_images
        else "The paper's networks: IRMA, other images and classes, 128 px."
    )
    return networks + (f" {paper.HANDCRAFTED_ROWS}." if families else "")


def describe_remedies(runs: str, own_images: bool) -> str:
    """Return the caption of a table of a remedy; ``runs`` describes the data and the training."""
    return (
        "*Test accuracy without → with, mean of the seeds that both have, and the paired "
        "difference. Open: the interval contains 0. "
        f"{runs}. {describe_published_networks(own_images)}*"
    )


def describe_outcomes(rows: pd.DataFrame) -> str:
    """List the comparisons that keep a claim from being supported; empty if there are none."""
    reasons = {
        "against": "Against the claim",
        "open": "Open, since the interval contains the line, p is above the level, or both",
        "not run": "Not run",
    }
    return " ".join(
        f"{words}: {'; '.join(list_sides(rows[rows['outcome'] == outcome]))}."
        for outcome, words in reasons.items()
        if (rows["outcome"] == outcome).any()
    )


def describe_doubled_epochs(verdict: verdicts.Verdict) -> str:
    """Describe what twice the epochs change about the verdict on a claim (Markdown)."""
    again = verdict.doubled
    if again.empty:
        return "**Twice the epochs.** No comparison of this claim was measured with them."
    changed = int((again["before"] != again["outcome"]).sum())
    several = len(again) > 1
    stays = "stays" if verdict.doubled_word == verdict.word else "would be"
    return (
        f"**Twice the epochs.** Of {len(again)} comparison{'s' * several} measured again, "
        f"{changed} change{'s' * (changed == 1)} outcome; with {'them' if several else 'it'} "
        f"in place, the verdict {stays} {format_badge(verdict.doubled_word)}."
    )


def describe_exposure_parameter(name: str) -> str:
    """Describe a parameter of the phantom's exposure and its range, for a caption."""
    m = Exposure.__dataclass_fields__[name].metadata
    unit = " degrees" if name.endswith("_deg") else ""
    range_ = f"from {m['low']:,g} to {m['high']:,g}{unit}".replace("-", "\N{MINUS SIGN}")
    return f"*{m['meaning'].capitalize()}, {range_}. Simulated images.*"


# Tables


def tabulate_codes(codes: Iterable[str]) -> pd.DataFrame:
    """Return the words behind IRMA codes: a row per code, a column per axis."""
    rows = {}
    for code in codes:
        parsed = irma_code.parse_code(code)
        rows[code] = {
            axis: ", ".join(irma_code.describe_axis(axis, getattr(parsed, axis)))
            for axis in irma_code.AXES
        }
    return pd.DataFrame.from_dict(rows, orient="index")


def tabulate_accuracies(table: pd.DataFrame, published: Mapping[str, str | None]) -> pd.DataFrame:
    """Format :func:`cbir_lib.study.summaries.tabulate_methods`, the most accurate method first.

    ``published`` is the row of the paper's Table 4 of each method, or None.
    """
    shown = pd.DataFrame(
        {
            "accuracy (%)": format_measures(table, "accuracy"),
            "balanced (%)": format_measures(table, "balanced accuracy"),
            "mAP (%)": format_measures(table, "mAP"),
            "paper (%)": [paper.TABLE_4.get(published[name], DASH) for name in table.index],
        },
        index=table.index,
    )
    return shown.loc[table["accuracy"].sort_values(ascending=False).index]


def tabulate_rankings(results: Mapping[str, Result]) -> pd.DataFrame:
    """Return how good rankings are, a row per method and one for chance, formatted for display.

    In percent with intervals; only the measures that all results have.
    """
    table = {
        f"{shown} (%)": {name: format_retrieval(r.retrieval, key) for name, r in results.items()}
        for shown, key in RANKING_MEASURES.items()
        if all(getattr(r.retrieval, key) is not None for r in results.values())
    }
    shown = pd.DataFrame(table)
    first = next(iter(results.values())).retrieval
    by_chance = {
        f"{name} (%)": format_share(value)
        for name, key in RANKING_MEASURES.items()
        if (value := getattr(first, f"{key}_by_chance", None)) is not None
    }
    if by_chance:
        shown.loc["by chance"] = pd.Series(by_chance)
    shown["distance"] = pd.Series({name: r.retrieval.distance for name, r in results.items()})
    # A wide table breaks a cell before its interval, and nowhere else.
    return shown.fillna(DASH).map(
        lambda cell: cell.replace(" to ", "\N{NO-BREAK SPACE}to\N{NO-BREAK SPACE}")
    )


def tabulate_effects(rows: pd.DataFrame) -> pd.DataFrame:
    """Format rows of one factor of :func:`cbir_lib.study.effects.tabulate` for display.

    The settings that all rows have are columns; the mean average precision and its difference have
    their intervals.
    """
    settings = [n for n in rows if n not in effects.MEASURED and rows[n].notna().all()]
    columns = {name: rows[name] for name in ("method", "level", *settings)}
    if "weights" in columns:
        columns["weights"] = rows["weights"].map(format_settings)
    columns["mAP (%)"] = [
        f"{value:.1f} ({low:.1f} to {high:.1f})"
        for value, low, high in rows[["mAP", "low", "high"]].to_numpy(float)
    ]
    change = rows[["difference", "difference low", "difference high"]]
    change = change.set_axis(["difference", "low", "high"], axis=1)
    columns["difference"] = [format_difference(row) for row in change.to_dict("records")]
    columns |= {f"{name} (%)": rows[name].map("{:.1f}".format) for name in ("P@1", "P@10")}
    return pd.DataFrame(columns).set_index("method")


def tabulate_paired_tests(tests: pd.DataFrame, measure: str) -> pd.DataFrame:
    """Format :func:`cbir_lib.study.pairwise.run_paired_tests` for display."""
    return pd.DataFrame(
        {
            f"{measure} behind (points)": [
                f"{difference:.1f} ({low:.1f} to {high:.1f})".replace("-", "\N{MINUS SIGN}")
                for difference, low, high in tests[["difference", "low", "high"]]
                .round(1)
                .add(0)  # no minus zero
                .to_numpy()
            ],
            "p": tests["p"].map(format_p),
            "p, adjusted": tests["holm"].map(format_p),
        },
        index=tests.index,
    )


# Tables of the report


def tabulate_comparisons(rows: pd.DataFrame) -> pd.DataFrame:
    """Return the measured comparisons of a claim, formatted for display."""
    return pd.DataFrame(
        {
            "comparison": list_sides(rows),
            "points (95 % interval)": [format_difference(row) for _, row in rows.iterrows()],
            "p (Holm)": [format_p(p) if np.isfinite(p) else DASH for p in rows["p"]],
            "paper": [format_points(d) if np.isfinite(d) else DASH for d in rows["paper"]],
            "seeds": rows["seeds"].replace(0, DASH).to_list(),
            "says": format_outcomes(rows["outcome"]),
        }
    )


def tabulate_doubled_epochs(verdict: verdicts.Verdict) -> pd.DataFrame:
    """Return the comparisons that were measured with twice the epochs, before and after."""
    again = verdict.doubled
    before = verdict.measured.loc[again.index]
    return pd.DataFrame(
        {
            "comparison": list_sides(before),
            "points (95 % interval)": [format_difference(row) for _, row in before.iterrows()],
            "outcome": format_outcomes(again["before"]),
            "points, twice the epochs": [format_difference(row) for _, row in again.iterrows()],
            "p (Holm), twice the epochs": [format_p(p) for p in again["p"]],
            "outcome, twice the epochs": format_outcomes(again["outcome"]),
        }
    )


def tabulate_reported(verdict: verdicts.Verdict) -> pd.DataFrame:
    """Return what a claim reports without deciding anything by it, one column per measure."""
    columns = {
        f"{measure}, points (95 % interval)": dict(
            zip(
                list_sides(rows),
                [format_difference(row) for _, row in rows.iterrows()],
                strict=True,
            )
        )
        for measure, rows in verdict.reported.groupby("measure", sort=False)
    }
    return pd.DataFrame(columns).rename_axis("comparison").reset_index()


def tabulate_table_4(table: pd.DataFrame) -> pd.DataFrame:
    """Format :func:`cbir_lib.reproduction.tables.compare_table_4` for display (HTML)."""

    def describe_rank(there: float, here: float) -> str:
        moved = " <b>≠</b>" if np.isfinite(here) and there != here else ""
        return " → ".join(format_numbers((there, here), 0)) + moved

    return pd.DataFrame(
        {
            "method": [f"Network {name}" if len(name) == 1 else name for name in table.index],
            "paper (%)": [f"{value:.2f}" for value in table["paper"]],
            "here (%)": [
                f"{row.here:.1f} ({row.low:.1f} to {row.high:.1f})"
                if np.isfinite(row.here)
                else DASH
                for row in table.itertuples()
            ],
            "difference (points)": [
                f"{row.mark} {format_points(row.here - row.paper)}" if row.mark else DASH
                for row in table.itertuples()
            ],
            "rank": [
                describe_rank(there, here)
                for there, here in table[["paper rank", "rank"]].to_numpy(float)
            ],
            "plain (%)": format_numbers(table["plain"], 1),
            "seeds": table["seeds"].replace(0, DASH).to_list(),
        }
    )


def tabulate_ablations(
    measured: Sequence[MeasuredAblation], millions: Mapping[tuple[str, str], float]
) -> pd.DataFrame:
    """Format changes, a row each: parameters in millions, the differences, the verdict."""
    rows = {
        m.ablation.title: {
            "million": " → ".join(
                format_millions(millions[side]) for side in (m.ablation.other, m.ablation.one)
            ),
            **{
                measure: format_difference(difference)
                for measure, difference in m.differences.items()
            },
            "verdict": m.verdict,
        }
        for m in measured
    }
    return pd.DataFrame.from_dict(rows, orient="index").rename_axis("change")


def tabulate_remedy(differences: Mapping[str, Mapping[str, float]], remedy: str) -> pd.DataFrame:
    """Format what a remedy changes, a row per network, next to the paper's numbers.

    ``differences`` are those of :func:`cbir_lib.reproduction.remedies.measure_remedies`.
    """
    return pd.DataFrame.from_dict(
        {
            name: {
                "paper (%)": format_pair(remedies.get_published_pair(name, remedy), 2),
                "here (%)": format_pair((d["other"], d["one"]), 1),
                "difference (95 % interval)": format_difference(d),
                "seeds": describe_seeds(d),
            }
            for name, d in differences.items()
        },
        orient="index",
    ).rename_axis("network")


def tabulate_remedies(table: pd.DataFrame) -> pd.DataFrame:
    """Format :func:`cbir_lib.reproduction.tables.compare_remedies` for display (HTML)."""
    directions = {
        "same": "= same direction",
        "opposite": "<b>≠ other direction</b>",
        "open": "○ open",
    }
    columns = ["paper without", "paper with", "without", "with", "paper", "difference", "low"]
    rows = table.reindex(columns=[*columns, "high", "seeds", "direction"])
    numbers = [*columns, "high", "seeds"]
    rows[numbers] = rows[numbers].astype(float)
    return pd.DataFrame(
        {
            "network": list(rows.index),
            "paper (%)": [
                format_pair(pair, 2) for pair in rows[["paper without", "paper with"]].to_numpy()
            ],
            "here (%)": [format_pair(pair, 1) for pair in rows[["without", "with"]].to_numpy()],
            "paper (points)": [format_points(d) if np.isfinite(d) else DASH for d in rows["paper"]],
            "here (points, 95 % interval)": [format_difference(row) for _, row in rows.iterrows()],
            "direction": [directions.get(direction, DASH) for direction in rows["direction"]],
            "seeds": format_numbers(rows["seeds"], 0),
        }
    )
