"""The verdicts, on results made so that the verdict is known."""

import json
import re
import shutil
from dataclasses import replace
from itertools import permutations
from zlib import crc32

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import binomtest
from test_paper import ROOT
from test_results import WRITTEN

from cbir_lib import claims, evaluation, paper, results
from cbir_lib.errors import CbirError
from cbir_lib.paper import HALFWAY, RANDOM, Claim, Comparison
from cbir_lib.results import Result
from cbir_lib.study import NetworkRun, read_study

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
}


def made(side, accuracy, seed=0, *, best_epoch=10, epochs=40, precision=None, luck=None, size=64):
    """A result of a side that is right for this share of the images, chosen by luck."""
    rng = np.random.default_rng([seed, crc32(repr(side).encode())] if luck is None else luck)
    right = rng.permutation(QUERIES) < round(accuracy * QUERIES)
    answers = np.where(right, LABELS, (LABELS + 1) % 5)
    common = {"dataset": "phantom", "sample_seed": 0, "size": size}
    network = isinstance(side, tuple)
    if network:
        run = NetworkRun(**common, network=side[0], seed=seed, epochs=epochs, **VARIANTS[side[1]])
        assert run.variant == side[1]
    values = np.clip(rng.normal(accuracy if precision is None else precision, 0.1, QUERIES), 0, 1)
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
            "retrieval": written["retrieval"] | {"average_precisions": values.tolist()},
            "training": written["training"] | {"best_epoch": best_epoch} if network else None,
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
    return claims.judge(claim(number), {"toy": series(accuracies, **options)})


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
    assert verdict.word == "cannot be tested here"
    assert list(verdict.measured["outcome"]) == ["for", "open", "for"]
    assert verdict.reason.startswith("The measurement does not decide.")


def test_it_cannot_be_tested_where_a_side_was_not_run():
    missing = {side: share for side, share in (PLAIN | DROPOUT).items() if side != ("E", "dropout")}
    verdict = judged(4, missing)
    assert verdict.word == "cannot be tested here"
    assert verdict.measured.loc[1, "outcome"] == "not run"
    assert np.isnan(verdict.measured.loc[1, "difference"])
    assert verdict.reason.startswith("Not all of it was run.")
    assert claims.judge(claim(4), {"toy": []}).word == "cannot be tested here"


@pytest.mark.parametrize(
    ("plain", "dropout", "late", "word"),
    [
        (0.7, 0.85, (), "supported"),
        (0.7, 0.85, ("dropout",), "supported"),  # the winner would only get better
        (0.7, 0.85, ("",), "cannot be tested here"),
        (0.85, 0.7, (), "contradicted"),
        (0.85, 0.7, ("",), "contradicted"),
        (0.85, 0.7, ("dropout",), "cannot be tested here"),
    ],
)
def test_who_loses_while_still_learning_has_not_lost(plain, dropout, late, word):
    found = [
        r
        for variant, share in (("", plain), ("dropout", dropout))
        for r in series(
            {(n, variant): share for n in "BEF"}, best_epoch=37 if variant in late else 36
        )
    ]
    verdict = claims.judge(claim(4), {"toy": found})
    assert verdict.word == word
    if word == "cannot be tested here":
        assert set(verdict.measured["outcome"]) == {"loser still learning"}
        assert abs(verdict.measured["difference"].mean()) == pytest.approx(15)  # is shown
        assert verdict.reason.startswith("Training was cut short.")


def test_still_learning_is_more_than_half_of_the_trainings():
    late, early = (made(("B", ""), 0.7, best_epoch=epoch) for epoch in (37, 36))
    assert claims.still_learning([late, late, early])
    assert not claims.still_learning([late, early])
    assert not claims.still_learning([made("Local features", 0.7), None])


@given(st.permutations(range(3)), st.integers(0, 50))
@settings(max_examples=3)
def test_the_order_of_seeds_and_results_changes_nothing(order, luck):
    found = series(PLAIN | DROPOUT | {("E", "dropout"): 0.72})
    expected = claims.judge(claim(4), {"toy": found})
    shuffled = [found[i] for i in np.random.default_rng(luck).permutation(len(found))]
    got = claims.judge(claim(4), {"toy": shuffled})
    assert (got.word, got.reason) == (expected.word, expected.reason)
    # Seeds given other names: the same trainings in another order.
    renamed = [
        r.model_copy(update={"parameters": r.parameters | {"seed": order[r.parameters["seed"]]}})
        for r in found
    ]
    got = claims.judge(claim(4), {"toy": renamed})
    assert list(got.measured["outcome"]) == list(expected.measured["outcome"])
    assert got.measured["difference"].tolist() == pytest.approx(
        expected.measured["difference"].tolist()
    )


@given(st.floats(0.5, 0.9), st.floats(0.5, 0.9), st.booleans(), st.booleans())
@settings(max_examples=8)
def test_swapping_the_sides_mirrors_the_verdict(one, other, one_late, other_late):
    found = series({("F", "dropout"): one}, best_epoch=40 if one_late else 5)
    found += series({("F", ""): other}, best_epoch=40 if other_late else 5)
    there = Claim(0, "", "", "", "", (Comparison(("F", "dropout"), ("F", "")),))
    back = replace(there, comparisons=(Comparison(("F", ""), ("F", "dropout")),))
    mirror = {"supported": "contradicted", "contradicted": "supported"}
    words = [claims.judge(each, {"toy": found}).word for each in (there, back)]
    assert words[1] == mirror.get(words[0], words[0])
    if not one_late and not other_late and abs(one - other) > 0.15:
        assert words[0] == ("supported" if one > other else "contradicted")


def test_differences_and_intervals_are_those_of_the_other_chapters():
    found = series(PLAIN | DROPOUT)
    row = claims.judge(claim(4), {"toy": found}).measured.loc[0]
    expected = results.difference(found, ("B", "dropout"), ("B", ""))
    for name in ("difference", "low", "high", "lowest", "highest", "seeds"):
        assert row[name] == pytest.approx(expected[name])


def test_p_values_are_adjusted_for_the_number_of_comparisons():
    # One of six comparisons that alone would be a difference, and five that are none.
    same = {("C", "dropout"): 0.7} | {(n, paper.TRAINED[n]): 0.7 for n in "ABDEFG" if n != "A"}
    found = series(same, seeds=[0], luck=1)
    alone = series({("A", ""): 0.7 - 0.0165}, seeds=[0], luck=1)
    alone[0].answers[:] = found[0].answers
    wrong = np.flatnonzero(np.equal(found[0].answers, LABELS))[:7]
    for i in wrong:
        alone[0].answers[i] = (LABELS[i] + 1) % 5
    verdict = claims.judge(claim(2), {"toy": found + alone})
    only = replace(claim(2), comparisons=claim(2).comparisons[:1])
    assert claims.judge(only, {"toy": found + alone}).measured.loc[0, "p"] == pytest.approx(
        2 / 2**7
    )
    assert claims.judge(only, {"toy": found + alone}).word == "supported"
    assert verdict.measured.loc[0, "p"] == pytest.approx(6 * 2 / 2**7)
    assert verdict.measured.loc[0, "outcome"] == "open"
    assert verdict.measured.loc[0, "low"] > 0


def test_handcrafted_results_may_be_of_another_profile_on_the_same_images():
    networks = {(n, paper.TRAINED[n]): 0.9 for n in "BCDEFG"}
    evidence = {"long": series(networks), "quick": series(dict.fromkeys(paper.FAMILIES, 0.6))}
    verdict = claims.judge(claim(1), evidence)
    assert verdict.word == "supported"
    assert set(verdict.measured["profile"]) == {"long"}
    assert len(verdict.measured) == 30
    worse = evidence | {
        "quick": series(dict.fromkeys(paper.FAMILIES, 0.6) | {"Local features": 0.97})
    }
    assert claims.judge(claim(1), worse).word == "contradicted"
    elsewhere = evidence | {"quick": series(dict.fromkeys(paper.FAMILIES, 0.6), size=128)}
    assert set(claims.judge(claim(1), elsewhere).measured["outcome"]) == {"not run"}


def test_of_several_profiles_the_one_with_most_seeds_then_most_epochs_decides():
    sides = PLAIN | DROPOUT
    short = series(sides, epochs=20)
    long = series({s: v for s, v in sides.items() if s[0] == "F"}, epochs=200)
    few = series(sides, seeds=[0], epochs=900)
    for order in permutations([("short", short), ("long", long), ("few", few)]):
        verdict = claims.judge(claim(4), dict(order))
        assert list(verdict.measured["profile"]) == ["short", "short", "long"]


def test_network_a_fails_below_halfway_if_the_others_do_not():
    share = np.bincount(LABELS).max() / QUERIES
    mark = (1 + share) / 2
    others = {(n, ""): mark + 0.15 for n in "BCDEFG"}
    assert judged(3, others | {("A", ""): mark - 0.15}).word == "supported"
    assert judged(3, others | {("A", ""): mark + 0.15}).word == "contradicted"
    verdict = judged(3, others | {("A", ""): mark - 0.15, ("D", ""): mark - 0.15})
    assert verdict.word == "cannot be tested here"  # not A alone
    assert verdict.reason.startswith("Others fail as well.")
    one = verdict.measured.loc[0]
    assert one["difference"] == pytest.approx(15, abs=0.2)
    assert claims.halfway(made(("A", ""), 0.5)).mean() == pytest.approx(100 * mark)


def test_little_is_at_most_one_point():
    ways = VARIANTS.keys() - {"normalised", "decay0.005"}
    even = {(n, way): 0.85 for n in "EF" for way in ways}
    same = series(even, luck=1)
    assert claims.judge(claim(7), {"toy": same}).word == "supported"
    assert judged(7, even | {("E", way): 0.7 for way in ways}).word == "contradicted"
    assert judged(7, even | {("E", ""): 0.84}).word == "cannot be tested here"


def test_the_order_of_handcrafted_descriptors():
    ordered = dict(zip(paper.FAMILIES, (0.9, 0.78, 0.66, 0.54, 0.4), strict=True))
    assert judged(8, ordered).word == "supported"
    assert judged(8, ordered | {"Fourier-Mellin": 0.7}).word == "contradicted"
    verdict = judged(8, ordered | {"Colour histogram": 0.66})
    assert verdict.word == "cannot be tested here"
    assert set(verdict.measured["seeds"]) == {0}


@pytest.mark.parametrize(("items", "relevant"), [(5, 1), (5, 3), (6, 6), (7, 2)])
def test_a_random_ranking_by_brute_force(items, relevant):
    orders = set(permutations([1] * relevant + [0] * (items - relevant)))
    every = evaluation.average_precision(np.array(list(orders), bool))
    assert claims.expected_average_precision(relevant, items) == pytest.approx(every.mean())


def test_the_learned_representation_against_chance_and_the_families():
    sides = {("C", "dropout"): 0.9} | dict.fromkeys(paper.FAMILIES, 0.6)
    verdict = judged(9, sides)
    assert verdict.word == "supported"
    c = made(("C", "dropout"), 0.9)
    expected = np.mean(c.retrieval.average_precisions) - claims.blind(c).mean() / 100
    assert verdict.measured.loc[0, "difference"] == pytest.approx(100 * expected, abs=1)
    assert judged(9, sides | {("C", "dropout"): 0.1}).word == "contradicted"
    other = c.model_copy(update={"data": c.data.model_copy(update={"class_names": list("abcde")})})
    assert claims.blind(other) is None


def test_every_claim_names_runs_of_the_study():
    study = read_study(ROOT / "study.yml")
    runs = study.runs("paper")
    networks = {(r.network, r.variant) for r in runs if isinstance(r, NetworkRun)}
    families = {paper.row_of(r.model_dump()) for r in runs} - {None}
    for side in (s for each in paper.CLAIMS for c in each.comparisons for s in c.sides):
        assert side in networks if isinstance(side, tuple) else side in families | {HALFWAY, RANDOM}
        assert ", " not in claims.called(side)  # each variant has its words


def write(folder, found):
    for r in found:
        results.write(folder / f"{r.run}.json", r)


def test_results_are_gathered_from_runs_and_from_published_files(tmp_path, monkeypatch):
    monkeypatch.setattr(claims, "project_root", lambda: tmp_path)
    shutil.copy(ROOT / "study.yml", tmp_path)
    (tmp_path / "results" / "scale").mkdir(parents=True)  # of no profile
    (tmp_path / "results" / "scale" / "scale.json").write_text("{}")
    found = series(PLAIN)
    for r in found[:2]:
        results.write(tmp_path / "build" / "cpu" / "runs" / r.run / "result.json", r)
    write(tmp_path / "results" / "cpu", found)
    write(tmp_path / "results" / "long", found)
    other = found[0].model_copy(
        update={"data": found[0].data.model_copy(update={"dataset": "irma"})}
    )
    write(tmp_path / "results" / "paper", [other])
    study = read_study(ROOT / "study.yml")
    gathered = claims.gather(claims.places("phantom", None, study))
    assert {name: len(of) for name, of in gathered.items()} == {"cpu": 2, "long": 9}
    assert claims.gather(claims.places("irma", None, study)) == {"paper": [other]}
    assert [*claims.places("phantom", "long", study)] == ["long"]
    beside = claims.beside("build/cpu")
    assert next(iter(beside)) == "cpu"
    gathered = claims.gather(beside, [found[0].run])
    assert {name: len(of) for name, of in gathered.items()} == {"cpu": 1, "long": 9}


@pytest.mark.parametrize(
    ("dataset", "profile", "what", "hint"),
    [
        ("irma", None, "no result on irma", "cbir study --profile paper --data-root FOLDER"),
        ("phantom", None, "no result on phantom", "cbir study --profile quick"),
        ("irma", "quick", "profile quick is not on irma", "paper"),
        ("irma", "papre", "unknown profile 'papre'", "did you mean"),
        ("folder", None, "no profile is on folder", "study.yml"),
    ],
)
def test_where_there_is_nothing_to_report_the_command_is_named(
    dataset, profile, what, hint, tmp_path, monkeypatch
):
    monkeypatch.setattr(claims, "project_root", lambda: tmp_path)
    with pytest.raises(CbirError) as caught:
        claims.places(dataset, profile, read_study(ROOT / "study.yml"))
    assert what in caught.value.what
    assert hint in caught.value.hint


def test_table_4_stands_beside_the_papers():
    shares = {(n, paper.TRAINED[n]): 0.5 for n in "CDEFG"} | {("B", "dropout"): 0.92}
    shares |= {("A", ""): 0.6, "Local features": 0.8}
    table = claims.table_4({"toy": series(shares), "other": series({("A", ""): 0.6}, seeds=[0])})
    assert list(table.index) == list(paper.TABLE_4)
    assert table.loc["A", ["paper", "here", "profile", "seeds"]].tolist() == [43.1, 60, "toy", 3]
    assert table.loc["B", "mark"] == claims.SAME  # 92.03
    assert table.loc["A", "mark"] == claims.HIGHER
    assert table.loc["C", "mark"] == claims.LOWER
    ranked = table["here"].notna()
    assert ranked.sum() == 8
    assert table.loc["B", ["paper rank", "rank"]].tolist() == [2, 1]
    assert table.loc["Local features", ["paper rank", "rank"]].tolist() == [7, 2]
    assert np.isnan(table.loc["Gabor histogram", "paper rank"])
    assert table.loc["Gabor histogram", "mark"] == ""
    assert np.isnan(table.loc["B", "plain"])


def test_one_run_has_wilsons_interval_and_several_one_of_seeds_and_images():
    [one] = series({("A", ""): 0.6}, seeds=[0])
    one.classification.accuracy_interval[:] = [0.55, 0.65]
    found = claims.accuracy_of({"toy": [one]}, ("A", ""))
    assert (found["low"], found["high"]) == pytest.approx((55, 65))
    several = claims.accuracy_of({"toy": series({("A", ""): 0.6})}, ("A", ""))
    assert several["accuracy"] == pytest.approx(60)
    assert 55 < several["low"] < 60 < several["high"] < 65


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
    found = series({(name, ""): plain, (name, "dropout"): dropout})
    row = claims.remedies({"toy": found}, "dropout").loc[name]
    assert row["direction"] == direction
    assert row["difference"] == pytest.approx(100 * (dropout - plain))
    assert (row["without"], row["with"]) == pytest.approx((100 * plain, 100 * dropout))


def test_the_spread_of_two_published_numbers_by_newcombes_formula():
    images, shares = 1493, (87.41, 86.18)
    (p1, l1, u1), (p2, l2, u2) = (
        (k / images, *binomtest(k, images).proportion_ci(method="wilson"))
        for k in (round(s * images / 100) for s in shares)
    )
    low = p1 - p2 - np.hypot(p1 - l1, u2 - p2)
    high = p1 - p2 + np.hypot(u1 - p1, p2 - l2)
    assert claims.spread(*shares, images) == pytest.approx((100 * low, 100 * high))


def test_whole_subjects_are_drawn_where_any_result_knows_them():
    found = series(PLAIN | DROPOUT)
    alone = claims.judge(claim(4), {"toy": found}).measured.loc[0]
    # Blocks of images on which the two differ the same way: one subject each.
    gain = sum(np.subtract(*(claims.scores(r, "accuracy") for r in pair)) for pair in zip(
        (r for r in found if r.run.startswith("phantom-B-dropout")),
        (r for r in found if re.fullmatch(r"phantom-B-s\d", r.run)), strict=True
    ))  # fmt: skip
    owners = (np.argsort(np.argsort(gain)) // 100).tolist()
    knowing = made("Local features", 0.8)
    knowing = knowing.model_copy(
        update={"data": knowing.data.model_copy(update={"test_subjects": owners})}
    )
    row = claims.judge(claim(4), {"toy": found, "quick": [knowing]}).measured.loc[0]
    assert row["difference"] == pytest.approx(alone["difference"])
    assert row["low"] < 0 < alone["low"]
    assert row["p"] > 0.05 > alone["p"]
    assert row["outcome"] == "open"
