"""The verdicts, on results made so that the verdict is known."""

import json
import re
from dataclasses import replace
from itertools import permutations
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest

from cbir_lib.evaluation import intervals, measures, significance
from cbir_lib.reproduction import paper, remedies, tables, verdicts
from cbir_lib.reproduction.paper import HALFWAY, RANDOM, Claim, Comparison
from cbir_lib.study import pairwise, results
from cbir_lib.study.config import NetworkRun, read_study
from cbir_lib.study.results import Result
from tests.reproduction.test_paper import ROOT
from tests.study.test_results import WRITTEN

QUERIES = 400
CLASSES = list(paper.IRMA_2009["train"])
LABELS = np.random.default_rng(3).choice(5, QUERIES, p=[0.1, 0.14, 0.4, 0.06, 0.3])
NAMED = {row: name for name, row in paper.ROW_OF.items()}
VARIANTS = {
    "": {},
    "dropout": {"dropout": 0.5},
    "augment": {"augment": True},
    "dropout-augment": {"dropout": 0.5, "augment": True},
    "normalised": {"batch_norm": True},
    "decay0.005": {"weight_decay": 0.005},
    "triplet": {"loss": "triplet"},
    "arcface": {"loss": "arcface"},
    "codes": {"loss": "codes"},
    "code-tree": {"loss": "code-tree"},
    "dropout-arcface": {"dropout": 0.5, "loss": "arcface"},
}


@pytest.fixture(autouse=True, scope="module")
def fewer_draws():
    """A tenth of the permutations: enough for 30 comparisons at once, adjusted by Holm."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(significance, "DRAWS", 999)
        patch.setattr(intervals, "DRAWS", 400)
        yield


def made(
    side, accuracy, seed=0, *, precision=None, first=None, ten=None, budget=1, luck=None, size=64
):
    """A result of a side that is right for this share of the images, chosen by luck.

    ``precision``, ``first`` and ``ten`` are its average precision and those at 1 and at 10, about.
    """
    rng = np.random.default_rng([seed, crc32(repr(side).encode())] if luck is None else luck)
    right = rng.permutation(QUERIES) < round(accuracy * QUERIES)
    answers = np.where(right, LABELS, (LABELS + 1) % 5)
    common = {"dataset": "phantom", "sample_seed": 0, "size": size}
    network = isinstance(side, tuple)
    if network:
        options = VARIANTS[side[1]] | {"budget": budget}
        run = NetworkRun(**common, network=side[0], seed=seed, epochs=40, **options)
        assert run.variant.removesuffix("2xepochs").removesuffix("-") == side[1]
    values, at_1, at_10 = (
        np.clip(rng.normal(accuracy if mean is None else mean, 0.1, QUERIES), 0, 1).tolist()
        for mean in (precision, first, ten)
    )
    written = json.loads(json.dumps(WRITTEN))
    return Result.model_validate(
        written
        | {
            "run": run.id if network else f"phantom-{NAMED[side]}",
            "parameters": run.model_dump() if network else common | {"descriptor": NAMED[side]},
            "data": {
                "dataset": "phantom",
                "checksum": "0f",
                "class_names": CLASSES,
                "images": {"train": 1500, "validation": 300, "test": QUERIES},
                "test_labels": LABELS.tolist(),
            },
            "answers": answers.tolist(),
            "retrieval": written["retrieval"]
            | {"average_precisions": values, "precisions_at_1": at_1, "precisions_at_10": at_10},
            "training": written["training"] if network else None,
        }
    )


def series(accuracies, seeds=range(3), **options):
    """Results of several sides for these seeds; a handcrafted one once."""
    return [
        made(side, accuracy, seed, **options)
        for side, accuracy in accuracies.items()
        for seed in (seeds if isinstance(side, tuple) else [0])
    ]


def claim(number):
    return paper.CLAIMS[number - 1]


def judged(number, accuracies, **options):
    return verdicts.judge(claim(number), series(accuracies, **options))


PLAIN, DROPOUT = {(n, ""): 0.7 for n in "BEF"}, {(n, "dropout"): 0.85 for n in "BEF"}


def test_a_claim_is_supported_where_every_comparison_is_for_it():
    verdict = judged(4, PLAIN | DROPOUT)
    assert verdict.word == "supported"
    assert list(verdict.measured["outcome"]) == ["for"] * 3
    assert list(verdict.measured["seeds"]) == [3] * 3
    assert verdict.measured["difference"].tolist() == pytest.approx([15, 15, 15])
    assert verdict.measured["paper"].tolist() == pytest.approx([0.92, 1.23, 2.20])


def test_one_counterexample_contradicts_it():
    verdict = judged(4, PLAIN | DROPOUT | {("E", "dropout"): 0.5})
    assert verdict.word == "contradicted"
    assert "2 for it, 1 against it" in verdict.reason


def test_it_is_not_decided_where_one_difference_may_be_none():
    verdict = judged(4, PLAIN | DROPOUT | {("E", "dropout"): 0.7})
    assert verdict.word == "undecided"
    assert list(verdict.measured["outcome"]) == ["for", "open", "for"]
    assert verdict.reason.startswith("The measurements are inconclusive.")


def test_it_is_undecided_where_a_side_was_not_run():
    missing = {side: share for side, share in (PLAIN | DROPOUT).items() if side != ("E", "dropout")}
    verdict = judged(4, missing)
    assert verdict.word == "undecided"
    assert verdict.measured.loc[1, "outcome"] == "not run"
    assert np.isnan(verdict.measured.loc[1, "difference"])
    assert verdict.reason.startswith("Some of it was not run.")
    assert verdicts.judge(claim(4), []).word == "undecided"


# Twice the epochs


def with_doubled(plain, more, doubled_plain, doubled_more, names="B"):
    """Results of claim 4, and of the networks ``names`` also with twice the epochs."""
    return [
        *series({(n, ""): plain for n in "BEF"} | {(n, "dropout"): more for n in "BEF"}),
        *series(
            {(n, ""): doubled_plain for n in names} | {(n, "dropout"): doubled_more for n in names},
            budget=2,
        ),
    ]


@pytest.mark.parametrize(
    ("shares", "before", "after", "word", "doubled_word"),
    [
        ((0.7, 0.85, 0.9, 0.95), "for", "for", "supported", "supported"),
        ((0.7, 0.85, 0.95, 0.85), "for", "against", "supported", "contradicted"),
        ((0.7, 0.85, 0.9, 0.9), "for", "open", "supported", "undecided"),
        ((0.85, 0.7, 0.7, 0.85), "against", "for", "contradicted", "contradicted"),
        ((0.8, 0.8, 0.7, 0.85), "open", "for", "undecided", "undecided"),
    ],
)
def test_twice_the_epochs_are_reported_and_do_not_change_the_verdict(
    shares, before, after, word, doubled_word
):
    results = with_doubled(*shares)
    verdict = verdicts.judge(claim(4), results)
    of_profile = [r for r in results if r.parameters["budget"] == 1]
    alone = verdicts.judge(claim(4), of_profile)
    assert (verdict.word, verdict.reason) == (alone.word, alone.reason)
    assert verdict.measured.equals(alone.measured)
    assert verdict.word == word
    assert verdict.doubled_word == doubled_word
    assert len(verdict.doubled) == 1  # E and F have no second training
    row = verdict.doubled.iloc[0]
    assert (row["one"], row["other"]) == (
        "B with dropout and twice the epochs",
        "B with twice the epochs",
    )
    assert (row["before"], row["outcome"]) == (before, after)
    assert row["difference"] == pytest.approx(100 * (shares[3] - shares[2]))
    assert verdict.runs.keys() >= {"phantom-B-2xepochs-s0", "phantom-B-dropout-2xepochs-s2"}
    assert not alone.runs.keys() & {"phantom-B-2xepochs-s0"}


def test_the_verdict_with_twice_the_epochs_changes_where_all_of_it_was_trained_again():
    results = with_doubled(0.85, 0.7, 0.7, 0.85, names="BEF")
    verdict = verdicts.judge(claim(4), results)
    assert (verdict.word, verdict.doubled_word) == ("contradicted", "supported")
    assert verdict.doubled["before"].tolist() == ["against"] * 3
    assert verdict.doubled["outcome"].tolist() == ["for"] * 3


def test_without_a_second_training_of_both_sides_nothing_is_measured_again():
    results = series(PLAIN | DROPOUT) + series({("B", "dropout"): 0.5}, budget=2)
    verdict = verdicts.judge(claim(4), results)
    assert verdict.word == verdict.doubled_word == "supported"
    assert len(verdict.doubled) == 0
    # A handcrafted side has no epochs: the network alone has to be trained again.
    networks = {(n, paper.TRAINED[n]): 0.9 for n in "BCDEFG"}
    results = series(networks | dict.fromkeys(paper.FAMILIES, 0.6))
    results += series({("B", "dropout"): 0.4}, budget=2)
    verdict = verdicts.judge(claim(1), results)
    assert (verdict.word, verdict.doubled_word) == ("supported", "contradicted")
    assert verdict.doubled["other"].tolist() == [*paper.FAMILIES]
    assert set(verdict.doubled["one"]) == {"B with dropout and twice the epochs"}


def test_a_comparison_trained_longer_is_adjusted_with_all_of_its_claim():
    results = with_doubled(0.7, 0.85, 0.9, 0.95)
    verdict = verdicts.judge(claim(4), results)
    longer = verdicts.double_epochs(claim(4).comparisons[0])
    assert longer.sides == (("B", "dropout-2xepochs"), ("B", "2xepochs"))
    mixed, _ = verdicts.measure([longer, *claim(4).comparisons[1:]], results)
    assert verdict.doubled.iloc[0]["p"] == mixed.loc[0, "p"]
    alone, _ = verdicts.measure([longer], results)
    assert verdict.doubled.iloc[0]["p"] > alone.loc[0, "p"]
    assert verdicts.double_epochs(Comparison("Local features", "Gabor histogram")) is None


@given(st.permutations(range(3)), st.integers(0, 50))
@settings(max_examples=3)
def test_the_order_of_seeds_and_results_changes_nothing(order, luck):
    results = series(PLAIN | DROPOUT | {("E", "dropout"): 0.72})
    expected = verdicts.judge(claim(4), results)
    shuffled = [results[i] for i in np.random.default_rng(luck).permutation(len(results))]
    got = verdicts.judge(claim(4), shuffled)
    assert (got.word, got.reason) == (expected.word, expected.reason)
    # Seeds given other names: the same trainings in another order.
    renamed = [
        r.model_copy(update={"parameters": r.parameters | {"seed": order[r.parameters["seed"]]}})
        for r in results
    ]
    got = verdicts.judge(claim(4), renamed)
    assert list(got.measured["outcome"]) == list(expected.measured["outcome"])
    assert got.measured["difference"].tolist() == pytest.approx(
        expected.measured["difference"].tolist()
    )


@given(st.floats(0.5, 0.9), st.floats(0.5, 0.9))
@settings(max_examples=8)
def test_swapping_the_sides_mirrors_the_verdict(one, other):
    results = series({("F", "dropout"): one, ("F", ""): other})
    there = Claim(0, "", "", "", "", (Comparison(("F", "dropout"), ("F", "")),))
    back = replace(there, comparisons=(Comparison(("F", ""), ("F", "dropout")),))
    mirror = {"supported": "contradicted", "contradicted": "supported"}
    words = [verdicts.judge(swapped, results).word for swapped in (there, back)]
    assert words[1] == mirror.get(words[0], words[0])
    if abs(one - other) > 0.15:
        assert words[0] == ("supported" if one > other else "contradicted")


def test_differences_and_intervals_are_those_of_the_other_chapters():
    results = series(PLAIN | DROPOUT)
    row = verdicts.judge(claim(4), results).measured.loc[0]
    expected = pairwise.compute_difference(results, ("B", "dropout"), ("B", ""))
    for name in ("difference", "low", "high", "lowest", "highest", "seeds"):
        assert row[name] == pytest.approx(expected[name])


def test_p_values_are_adjusted_for_the_number_of_comparisons():
    # One of six comparisons that alone would be a difference, and five that are none.
    same = {("C", "dropout"): 0.7} | {(n, paper.TRAINED[n]): 0.7 for n in "ABDEFG" if n != "A"}
    results = series(same, seeds=[0], luck=1)
    alone = series({("A", ""): 0.7 - 0.0165}, seeds=[0], luck=1)
    alone[0].answers[:] = results[0].answers
    wrong = np.flatnonzero(np.equal(results[0].answers, LABELS))[:7]
    for i in wrong:
        alone[0].answers[i] = (LABELS[i] + 1) % 5
    verdict = verdicts.judge(claim(2), results + alone)
    only = replace(claim(2), comparisons=claim(2).comparisons[:1])
    assert verdicts.judge(only, results + alone).measured.loc[0, "p"] == pytest.approx(2 / 2**7)
    assert verdicts.judge(only, results + alone).word == "supported"
    assert verdict.measured.loc[0, "p"] == pytest.approx(6 * 2 / 2**7)
    assert verdict.measured.loc[0, "outcome"] == "open"
    assert verdict.measured.loc[0, "low"] > 0


def test_the_p_values_of_a_claim_are_holms_of_those_of_its_comparisons_alone():
    shares = dict(zip("ABDEFG", (0.82, 0.8, 0.79, 0.78, 0.81, 0.85), strict=True))
    sides = {(n, paper.TRAINED[n]): share for n, share in shares.items()}
    results = series(sides | {("C", "dropout"): 0.84})
    alone = [
        verdicts.judge(replace(claim(2), comparisons=(c,)), results).measured.loc[0, "p"]
        for c in claim(2).comparisons
    ]
    assert len(set(alone)) > 3
    # By hand: the i-th smallest times the number of those not smaller, never below its predecessor.
    order, adjusted, highest = np.argsort(alone), np.empty(6), 0.0
    for place, i in enumerate(order):
        highest = max(highest, min(1, (6 - place) * alone[i]))
        adjusted[i] = highest
    assert verdicts.judge(claim(2), results).measured["p"].tolist() == pytest.approx(
        adjusted.tolist()
    )


def test_networks_are_compared_with_handcrafted_descriptors_of_the_same_size():
    networks = series({(n, paper.TRAINED[n]): 0.9 for n in "BCDEFG"})
    same = series(dict.fromkeys(paper.FAMILIES, 0.6))
    larger = series(dict.fromkeys(paper.FAMILIES, 0.97), size=128)
    verdict = verdicts.judge(claim(1), networks + larger + same)
    assert verdict.word == "supported"
    assert len(verdict.measured) == 30
    better = series(dict.fromkeys(paper.FAMILIES, 0.6) | {"Local features": 0.97})
    assert verdicts.judge(claim(1), networks + better).word == "contradicted"
    assert set(verdicts.judge(claim(1), networks + larger).measured["outcome"]) == {"not run"}


def test_network_a_fails_below_halfway_if_the_others_do_not():
    share = np.bincount(LABELS).max() / QUERIES
    mark = (1 + share) / 2
    others = {(n, ""): mark + 0.15 for n in "BCDEFG"}
    assert judged(3, others | {("A", ""): mark - 0.15}).word == "supported"
    assert judged(3, others | {("A", ""): mark + 0.15}).word == "contradicted"
    verdict = judged(3, others | {("A", ""): mark - 0.15, ("D", ""): mark - 0.15})
    assert verdict.word == "undecided"  # not A alone
    assert verdict.reason.startswith("Other networks fail as well.")
    one = verdict.measured.loc[0]
    assert one["difference"] == pytest.approx(15, abs=0.2)
    assert verdicts.score_halfway(made(("A", ""), 0.5)).mean() == pytest.approx(100 * mark)


def test_little_is_at_most_one_point():
    ways = VARIANTS.keys() - {"normalised", "decay0.005"}
    even = {(n, way): 0.85 for n in "EF" for way in ways}
    same = series(even, luck=1)
    assert verdicts.judge(claim(7), same).word == "supported"
    assert judged(7, even | {("E", way): 0.7 for way in ways}).word == "contradicted"
    assert judged(7, even | {("E", ""): 0.84}).word == "undecided"


def test_the_order_of_handcrafted_descriptors():
    ordered = dict(zip(paper.FAMILIES, (0.9, 0.78, 0.66, 0.54, 0.4), strict=True))
    assert judged(8, ordered).word == "supported"
    assert judged(8, ordered | {"Fourier-Mellin": 0.7}).word == "contradicted"
    verdict = judged(8, ordered | {"Colour histogram": 0.66})
    assert verdict.word == "undecided"
    assert set(verdict.measured["seeds"]) == {0}


@pytest.mark.parametrize(("items", "relevant"), [(5, 1), (5, 3), (6, 6), (7, 2)])
def test_a_random_ranking_by_brute_force(items, relevant):
    orders = set(permutations([1] * relevant + [0] * (items - relevant)))
    every = measures.average_precision(np.array(list(orders), bool))
    assert verdicts.compute_expected_average_precision(relevant, items) == pytest.approx(
        every.mean()
    )


def test_the_learned_representation_against_chance_and_the_families():
    sides = {("C", "dropout"): 0.9} | dict.fromkeys(paper.FAMILIES, 0.6)
    verdict = judged(9, sides)
    assert verdict.word == "supported"
    c = made(("C", "dropout"), 0.9)
    expected = (
        np.mean(c.retrieval.average_precisions) - verdicts.score_random_ranking(c).mean() / 100
    )
    assert verdict.measured.loc[0, "difference"] == pytest.approx(100 * expected, abs=1)
    assert judged(9, sides | {("C", "dropout"): 0.1}).word == "contradicted"
    other = c.model_copy(update={"data": c.data.model_copy(update={"class_names": list("abcde")})})
    assert verdicts.score_random_ranking(other) is None


def test_the_first_answers_are_reported_and_decide_nothing():
    def found(first, ten):
        c = {("C", "dropout"): 0.9}
        return [
            *series(c, precision=0.9, first=first, ten=ten),
            *series(dict.fromkeys(paper.FAMILIES, 0.6), precision=0.6, first=0.5, ten=0.5),
        ]

    ahead, behind = (
        verdicts.judge(claim(9), found(*values)) for values in ((0.9, 0.7), (0.1, 0.5))
    )
    for verdict, at_1, at_10 in ((ahead, "for", "for"), (behind, "against", "open")):
        assert verdict.word == "supported"
        assert verdict.reason == ahead.reason
        assert set(verdict.measured["measure"]) == {"mAP"}
        reported = verdict.reported.groupby("measure")["outcome"].agg(set).to_dict()
        assert reported == {"P@1": {at_1}, "P@10": {at_10}}
        assert verdict.reported["other"].tolist() == [*paper.FAMILIES] * 2
    assert behind.measured.equals(ahead.measured)
    first = verdicts.compute_scores(made(("C", "dropout"), 0.9, first=0.1), "P@1").mean()
    assert behind.reported.iloc[0]["difference"] == pytest.approx(first - 50, abs=2)
    assert len(verdicts.judge(claim(4), series(PLAIN | DROPOUT)).reported) == 0
    unknown = verdicts.judge(claim(9), series({("C", "dropout"): 0.9}))
    assert set(unknown.reported["outcome"]) == {"not run"}


def test_every_claim_names_runs_of_the_study():
    study = read_study(ROOT / "study.yml")
    runs = study.runs("paper")
    networks = {(r.network, r.variant) for r in runs if isinstance(r, NetworkRun)}
    families = {paper.find_row(r.model_dump()) for r in runs} - {None}
    compared = (c for of_paper in paper.CLAIMS for c in (*of_paper.comparisons, *of_paper.reported))
    for side in (s for c in compared for s in c.sides):
        assert side in networks if isinstance(side, tuple) else side in families | {HALFWAY, RANDOM}
        assert ", " not in verdicts.name_side(side)  # each variant has its words


def write(folder, to_write):
    for r in to_write:
        results.write(folder / f"{r.run}.json", r)


def test_table_4_stands_beside_the_papers():
    shares = {(n, paper.TRAINED[n]): 0.5 for n in "CDEFG"} | {("B", "dropout"): 0.92}
    shares |= {("A", ""): 0.6, "Local features": 0.8}
    table = tables.compare_table_4(series(shares) + series({("A", ""): 0.9}, budget=2))
    assert list(table.index) == list(paper.TABLE_4)
    assert table.loc["A", ["paper", "here", "plain", "seeds"]].tolist() == [43.1, 60, 60, 3]
    assert table.loc["B", "mark"] == tables.SAME  # 92.03
    assert table.loc["A", "mark"] == tables.HIGHER
    assert table.loc["C", "mark"] == tables.LOWER
    ranked = table["here"].notna()
    assert ranked.sum() == 8
    assert table.loc["B", ["paper rank", "rank"]].tolist() == [2, 1]
    assert table.loc["Local features", ["paper rank", "rank"]].tolist() == [7, 2]
    assert np.isnan(table.loc["Gabor histogram", "paper rank"])
    assert table.loc["Gabor histogram", "mark"] == ""
    assert np.isnan(table.loc["B", "plain"])


@pytest.mark.parametrize("measure", ["accuracy", "mAP", "P@1", "P@10"])
def test_the_mean_of_a_side_is_over_its_seeds_and_images(measure):
    results = series({("C", "dropout"): 0.6}, precision=0.5, first=0.7, ten=0.4)
    results += series({("C", "dropout"): 0.9}, budget=2)
    results += [made("Local features", 0.8, precision=0.3, first=0.2, ten=0.1)]
    mean = tables.compute_mean(results, ("C", "dropout"), measure)
    values = np.array([verdicts.compute_scores(r, measure) for r in results[:3]])
    assert mean["results"] == results[:3]
    assert mean["seeds"] == 3
    assert mean["mean"] == pytest.approx(values.mean())
    expected = {"accuracy": 60, "mAP": 50, "P@1": 70, "P@10": 40}[measure]
    assert mean["mean"] == pytest.approx(expected, abs=1)
    assert [mean["low"], mean["high"]] == pytest.approx(intervals.compute_paired_interval(values))
    handcrafted = tables.compute_mean(results, "Local features", measure)
    assert handcrafted["seeds"] == 0
    expected = {"accuracy": 80, "mAP": 30, "P@1": 20, "P@10": 10}[measure]
    assert handcrafted["mean"] == pytest.approx(expected, abs=1)
    assert tables.compute_mean(results, ("C", ""), measure) is None
    assert tables.compute_mean(results, "Gabor histogram", measure) is None


@pytest.mark.parametrize(
    ("plain", "dropout", "name", "direction"),
    [
        (0.7, 0.85, "B", "same"),
        (0.85, 0.7, "B", "opposite"),
        (0.7, 0.7, "B", "open"),
        (0.7, 0.85, "C", ""),
    ],
)
def test_a_remedy_goes_in_the_papers_direction_or_not(plain, dropout, name, direction):
    results = series({(name, ""): plain, (name, "dropout"): dropout})
    row = tables.compare_remedies(results, "dropout").loc[name]
    assert row["direction"] == direction
    assert row["difference"] == pytest.approx(100 * (dropout - plain))
    assert (row["without"], row["with"]) == pytest.approx((100 * plain, 100 * dropout))


def test_a_remedy_has_one_effect_wherever_it_is_shown():
    shares = {("B", ""): 0.7, ("B", "dropout"): 0.85, ("G", ""): 0.6, ("G", "augment"): 0.5}
    results = series(shares | {"Local features": 0.8})
    measured = remedies.measure_remedies(results)
    assert {way: [*networks] for way, networks in measured.items()} == {
        "dropout": ["B"],
        "augmentation": ["G"],
        "both": [],
    }
    for remedy, variant in remedies.REMEDIES.items():
        table = tables.compare_remedies(results, variant)
        for name, ours in measured[remedy].items():
            row = table.loc[name]
            assert (row["with"], row["without"]) == (ours["one"], ours["other"])
            for key in ("difference", "low", "high", "seeds"):
                assert row[key] == ours[key]
    rows = {f"B with {remedy}" for remedy in remedies.REMEDIES}
    assert {row for row in tables.tabulate_published_gains().index if row[0] == "B"} <= rows


def test_the_spread_of_two_published_numbers_by_newcombes_formula():
    images, shares = 1493, (87.41, 86.18)
    (p1, l1, u1), (p2, l2, u2) = (
        (k / images, *binomtest(k, images).proportion_ci(method="wilson"))
        for k in (round(s * images / 100) for s in shares)
    )
    low = p1 - p2 - np.hypot(p1 - l1, u2 - p2)
    high = p1 - p2 + np.hypot(u1 - p1, p2 - l2)
    assert tables.compute_interval(*shares, images) == pytest.approx((100 * low, 100 * high))


def test_whole_subjects_are_drawn_where_they_are_known():
    results = series(PLAIN | DROPOUT)
    alone = verdicts.judge(claim(4), results).measured.loc[0]
    # Blocks of images on which the two differ the same way: one subject each.
    gain = sum(np.subtract(*(verdicts.compute_scores(r, "accuracy") for r in pair)) for pair in zip(
        (r for r in results if r.run.startswith("phantom-B-dropout")),
        (r for r in results if re.fullmatch(r"phantom-B-s\d", r.run)), strict=True
    ))  # fmt: skip
    owners = (np.argsort(np.argsort(gain)) // 100).tolist()
    knowing = [
        r.model_copy(update={"data": r.data.model_copy(update={"test_subjects": owners})})
        for r in results
    ]
    row = verdicts.judge(claim(4), knowing).measured.loc[0]
    assert row["difference"] == pytest.approx(alone["difference"])
    assert row["low"] < 0 < alone["low"]
    assert row["p"] > 0.05 > alone["p"]
    assert row["outcome"] == "open"
