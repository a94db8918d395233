"""What cells of a notebook display: tables, figures with a description, claims, and rankings."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from IPython.display import HTML, Markdown, display
from matplotlib.figure import Figure

from cbir_lib.book import figures, text
from cbir_lib.datasets import get_source, load_images
from cbir_lib.reproduction import paper
from cbir_lib.reproduction.verdicts import Verdict
from cbir_lib.study import wording
from cbir_lib.study.results import Result, list_example_ids, name_method

RANKED = (
    "Left, a test image as the query; then the training images nearest to it, with distances. "
    "Green: of the same class; red: of the class that is named."
)


def show_text(*paragraphs: str) -> None:
    """Display paragraphs of Markdown, each as an output of its own."""
    for paragraph in paragraphs:
        display(Markdown(paragraph))


def show_table(rows: Mapping | Sequence | pd.DataFrame, classes: str = "") -> None:
    """Display a table without an index; markup in its cells is kept."""
    display(HTML(text.format_html_table(rows, classes)))


def show_figure(figure: Figure) -> None:
    """Display a figure and close it."""
    display(figure)
    plt.close(figure)


def describe_runs(profile: str, results: Sequence[Result]) -> str:
    """Describe the data and the training behind some results, for a caption."""
    return wording.describe_profile(profile, results) if results else "None of it was run"


def list_own_epochs(verdict: Verdict) -> list[Result]:
    """Return the runs of a verdict that were trained for the profile's own epochs."""
    return [r for r in verdict.runs.values() if r.parameters.get("budget", 1) == 1]


def show_claim(verdict: Verdict, profile: str, own_images: bool = False) -> None:
    """Display one claim: what it says, the rule, the verdict and why, the figure and the numbers.

    ``own_images`` if the results are on the paper's images.
    """
    claim, rows = verdict.claim, verdict.measured
    show_text(
        f"**The claim** ({claim.where}). {claim.says}\n\n**The rule.** {claim.rule}\n\n"
        f"**The verdict.** {text.format_badge(verdict.word)} {verdict.reason}"
    )
    if not verdict.runs:
        return  # the reason says so
    several = len(rows) > 12  # one panel per network
    names = rows["other"] if several else pd.Series(text.list_sides(rows), rows.index)
    groups = rows.groupby("one", sort=False) if several else [("", rows)]
    measure = claim.comparisons[0].measure
    where = describe_runs(profile, list_own_epochs(verdict))
    panels = {name: group.set_index(names[group.index]) for name, group in groups}
    show_figure(figures.plot_claim(panels, measure))
    families = any(side in paper.FAMILIES for c in claim.comparisons for side in c.sides)
    diamonds = (
        f" Open diamonds: the paper. {text.describe_published_networks(own_images, families)}"
        if rows["paper"].notna().any()
        else ""
    )
    show_text(
        f"*Differences in {measure} with 95 % intervals; values to the right of the line support "
        f"the claim. {where}.{diamonds}*"
    )
    line = ""
    if allowed := rows["allowance"].max():
        line = f" p values are for the line at {wording.format_points(-allowed)} points, not at 0."
    table = text.tabulate_comparisons(rows).to_html(index=False, border=0)
    units = "in percentage points, with 95 % intervals"
    words = f"Differences in {measure} {units}. {escape(where)}.{line}"
    caption = f"<p><em>{words}</em></p>"
    display(HTML(f"<details><summary>The numbers</summary>{table}{caption}</details>"))
    if reasons := text.describe_outcomes(rows):
        show_text(f"**Why.** {reasons}")
    if np.isfinite(verdict.reported["difference"].astype(float)).any():
        show_text(
            "**Reported, and not decisive.** The precision of the first and the first ten answers:"
        )
        show_table(text.tabulate_reported(verdict), "beside")
        show_text(f"*Differences {units}. {where}.*")
    show_text(text.describe_doubled_epochs(verdict))
    if len(verdict.doubled):
        show_table(text.tabulate_doubled_epochs(verdict), "beside")
        show_text(
            f"*Differences in {measure} with the epochs of the profile and with twice as many, "
            f"{units}. {where}.*"
        )


def show_rankings(
    results: Sequence[Result], pictures: Mapping[str, np.ndarray], choice: str
) -> None:
    """Display the example rankings of one choice, ``median`` or ``lowest``, one figure per result.

    ``pictures`` are by identifier; without any, a note is shown instead.
    """
    for result in results if pictures else ():
        show_text(f"**{name_method(result)}**, {result.retrieval.distance} distance")
        examples = [example for example in result.examples if example.choice == choice]
        display(figures.plot_neighbours(examples, pictures, result.data.class_names))
        plt.close()
    source = get_source(results[0].data.dataset)
    show_text(
        f"*{RANKED} From {source.CAPTION}. {source.CREDIT}.*" if pictures else wording.NO_PICTURES
    )


def show_confused_pairs(*results: Result) -> None:
    """Display test images whose nearest image is of another class, one figure per result.

    A note is shown instead if there is none, or if the images are not on this machine.
    """
    confused = [result for result in results if result.confused]
    if not confused:
        show_text("*No test image's nearest image is of another class.*")
        return
    wanted = set().union(*map(list_example_ids, confused))
    images = load_images(confused[0].data.dataset, wanted)
    for result in confused if images else ():
        if len(results) > 1:
            show_text(f"**{name_method(result)}**")
        display(figures.plot_confused_pairs(result, images))
        plt.close()
    where = get_source(confused[0].data.dataset).CAPTION
    caption = f"*{wording.CONFUSED} From {where}.*"
    show_text(caption if images else wording.NO_PICTURES)
