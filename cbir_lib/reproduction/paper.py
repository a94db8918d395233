"""Every accuracy that the paper publishes, and its claims with the rule that decides each.

Accuracies are in percent; those of networks are on IRMA / ImageCLEFmed 2009.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from itertools import combinations

from cbir_lib.study.pairwise import Measure

CITATION = (
    "ELMarakbey, Gamal, Fouad, Gamal: Content based medical image retrieval using deep learning"
)

# Table 4. A to D were trained on five classes, E to G on three or four, which is another task.
TABLE_4 = {
    "Fourier-Mellin": 46.9,
    "Gabor histogram": 75.6,
    "Tamura histogram": 80.7,
    "Colour histogram": 82.1,
    "Local features": 87.0,
    "A": 43.1,
    "B": 92.03,
    "C": 92.69,
    "D": 89.28,
    "E": 88.38,
    "F": 89.15,
    "G": 90.38,
}

# The numbers of classes that the paper gives for its networks; it gives none for handcrafted rows.
CLASSES = dict.fromkeys("ABCD", (5,)) | dict.fromkeys("EFG", (3, 4))

# What is known about the five handcrafted rows, for captions.
HANDCRAFTED_ROWS = (
    "For its handcrafted rows the paper cites Deselaers, Keysers and Ney (2004), but does not say "
    "on which images, with how many classes and with which classifier they were measured"
)

# Tables 5 and 6: without, with. None is a dash in the paper.
TABLE_5_DROPOUT = {
    "A": (43.1, None),
    "B": (91.11, 92.03),
    "C": (None, 92.69),
    "D": (None, 89.28),
    "E": (86.18, 87.41),
    "F": (85.73, 87.93),
}
TABLE_6_AUGMENTATION = {
    "A": (43.1, None),
    "B": (91.11, None),
    "C": (None, None),
    "D": (None, None),
    "E": (86.18, 87.54),
    "F": (85.73, 87.09),
}
TABLE_7_BOTH = {"E": 88.38, "F": 89.15, "G": 90.38}

# Images of IRMA 2009 by class, from its public label lists; the paper does not give the counts.
IRMA_2009 = {
    "train": {
        "cranium": 1246,
        "spine": 1475,
        "upper extremity": 2038,
        "chest": 4828,
        "lower extremity": 2152,
    },
    "test": {
        "cranium": 142,
        "spine": 213,
        "upper extremity": 596,
        "chest": 93,
        "lower extremity": 449,
    },
}

# The row of Table 4 that corresponds to a run of this study.
ROW_OF = {
    "grey-histogram": "Colour histogram",
    "tamura-histogram": "Tamura histogram",
    "gabor-histogram": "Gabor histogram",
    "fourier-mellin": "Fourier-Mellin",
    "bag-of-words": "Local features",
} | {name: name for name in "ABCDEFG"}


def find_row(parameters: dict) -> str | None:
    """Return the row for a run's parameters; None if the paper has none."""
    return ROW_OF.get(parameters.get("network") or parameters.get("descriptor"))


def label_table_4() -> dict[str, float]:
    """Return Table 4 with the method names of this study's tables."""
    return {f"Network {row}" if len(row) == 1 else row: value for row, value in TABLE_4.items()}


def describe_paper_result(parameters: dict) -> str:
    """Describe the paper's number for a run's method (Markdown)."""
    row = find_row(parameters)
    if row is None:
        return "*The paper gives no number for this method.*"
    number = f'*The paper gives {TABLE_4[row]:g} % for "{row}" (Table 4).'
    if row in TRAINED:
        return f"{number} That is for IRMA, with other classes and 128 x 128 pixels.*"
    return f"{number} {HANDCRAFTED_ROWS}: the two numbers cannot be compared.*"


# The claims. The rules were written down before any network of profile `full` was trained, except
# rule 4, which got its present content while the first were being trained, before any of their
# results was looked at. Results of six epochs on an eighth of the images, and a few trainings on
# the whole set, were known. Later changes are of language only.

VERDICTS = ("supported", "contradicted", "undecided")
LEVEL = 0.05  # of the adjusted p values
RULE = """
1. A claim is a list of **comparisons**, each of which says which side has to be ahead.
2. A comparison is measured as the mean **difference** over the same test images, and over the
   seeds that both sides have. Its 95 % interval comes from resampling seeds and images, whole
   subjects where they are known. Its p value comes from a paired permutation test over the images,
   or whole subjects, of the mean over the seeds, adjusted by Holm's method for the number of
   comparisons of the claim. It speaks **for** the claim if the interval lies above 0 and p is at
   most 0.05, **against** it if the interval lies below 0 and p is at most 0.05. Otherwise it is
   **open**.
3. **Every training runs to the end of its schedule.** The learning rate falls to zero over a
   number of epochs fixed beforehand, and the weights of the last epoch count: a network that loses
   has lost. Some networks are trained a second time with **twice the epochs**. Each comparison
   whose networks all have such a second training is measured again with it, and the report says
   whether its outcome changes. The verdict is that of the profile's own epochs.
4. All results come from **one profile**: of those published for a data set, the one with the most
   training images. Networks have three seeds. Those whose comparisons leave a claim undecided get
   two more, once; the p values are not adjusted for this second look.
5. A claim is **supported** if every comparison speaks for it, **contradicted** if at least one
   speaks against it. Otherwise it is **undecided**, and the report says why: a side was not run,
   or the measurements are inconclusive.
6. What a claim only **reports** decides nothing.

The test is the same in both directions. The claims are not symmetric: they say "every", and one
counterexample is enough to refute that.
"""

HALFWAY = "the halfway mark"
RANDOM = "a random ranking"
Side = str | tuple[str, str]

# The five handcrafted rows, in the paper's order, best first.
FAMILIES = tuple(sorted((row for row in TABLE_4 if len(row) > 1), key=TABLE_4.get, reverse=True))
# The variants of the networks in Table 4. The table does not name them: they follow from matching
# its numbers with those of Tables 5 to 7.
TRAINED = {"A": ""} | dict.fromkeys("BCD", "dropout") | dict.fromkeys("EFG", "dropout-augment")


@dataclass(frozen=True)
class Comparison:
    """``one`` has to be ahead of ``other``.

    Attributes
    ----------
    one, other
        A network and its variant, ``("C", "dropout")``; a handcrafted row of Table 4; ``HALFWAY``,
        for accuracy: halfway between giving every test image the most frequent answer and giving
        the correct one; or ``RANDOM``, for mAP: a random ranking of the training images.
    allowance
        Percentage points by which ``one`` may be behind.
    decides
        Whether it can contradict the claim. In any case it has to hold to support the claim.
    """

    one: Side
    other: Side
    measure: Measure = "accuracy"
    allowance: float = 0.0
    decides: bool = True

    @property
    def sides(self) -> tuple[Side, Side]:
        """Return both sides."""
        return self.one, self.other


@dataclass(frozen=True)
class Claim:
    """A claim of the paper, in our words, and what decides it in addition to :data:`RULE`."""

    number: int
    title: str
    where: str
    says: str
    rule: str
    comparisons: tuple[Comparison, ...]
    reported: tuple[Comparison, ...] = ()  # measured in the same way; decide nothing


def get_published_accuracy(side: Side) -> float | None:
    """Return the paper's accuracy of one side of a comparison; None if it has none."""
    if side == HALFWAY:  # of IRMA's test split
        counts = IRMA_2009["test"].values()
        return 50 + 50 * max(counts) / sum(counts)
    if isinstance(side, str):
        return TABLE_4.get(side)
    name, variant = side
    pair = (None, None)
    if variant in ("", "dropout"):
        pair = TABLE_5_DROPOUT.get(name, pair)
    elif variant == "augment":
        pair = TABLE_6_AUGMENTATION.get(name, pair)
    elif variant == "dropout-augment":
        pair = (None, TABLE_7_BOTH.get(name))
    return pair[variant != ""]


def get_published_difference(comparison: Comparison) -> float | None:
    """Return the paper's difference in percentage points; None unless it has both numbers."""
    if comparison.measure != "accuracy":
        return None
    one, other = map(get_published_accuracy, comparison.sides)
    return None if None in (one, other) else one - other


def _compare_with(
    one: str, others: Iterable[str], measure: Measure = "accuracy"
) -> tuple[Comparison, ...]:
    """Compare a network of Table 4 with other rows of it."""
    sides = [(other, TRAINED[other]) if other in TRAINED else other for other in others]
    return tuple(Comparison((one, TRAINED[one]), side, measure) for side in sides)


def _compare_remedies(names: str, variant: str, *others: str) -> tuple[Comparison, ...]:
    """Compare networks trained in one way with the same networks trained in other ways."""
    return tuple(Comparison((name, variant), (name, other)) for name in names for other in others)


CLAIMS = (
    Claim(
        1,
        "Networks B to G beat every handcrafted descriptor",
        "Abstract, Section V.A, Table 4",
        "Networks B to G classify more test images correctly than each of the five handcrafted "
        "families.",
        "Each of the networks B to G, trained as in Table 4 (B to D with dropout, E to G with "
        "dropout and augmentation), against each of the five families: thirty comparisons of "
        "accuracy. A network answers by its highest score, a descriptor by its nearest neighbour.",
        tuple(c for name in "BCDEFG" for c in _compare_with(name, FAMILIES)),
    ),
    Claim(
        2,
        "C is the best network, and deeper D is worse",
        "Abstract, Table 4",
        "Of the seven networks C is the most accurate; D, which is deeper, does not reach it.",
        "C against each of the six others in accuracy, each trained as in Table 4. The paper's "
        "rows have different numbers of classes; here all have the same.",
        _compare_with("C", "ABDEFG"),
    ),
    Claim(
        3,
        "Network A fails",
        "Tables 4 to 6",
        "The paper's network A, trained without dropout or augmentation, classifies "
        f"{TABLE_4['A']:.1f} % of the images correctly; the lowest of the others reaches "
        f"{min(TABLE_4[name] for name in 'BCDEFG'):.1f} %.",
        "To fail means to have learnt less than half of what there is to learn: an accuracy below "
        "the midpoint between giving every image the most frequent answer of the test split and "
        "always being correct. A has to be below that mark. B to G, trained in the same plain way, "
        "have to be above it for the claim to be supported, because if they fail too, the failure "
        "is not specific to A; they cannot contradict it.",
        (
            Comparison(HALFWAY, ("A", "")),
            *(Comparison((name, ""), HALFWAY, decides=False) for name in "BCDEFG"),
        ),
    ),
    Claim(
        4,
        "Dropout helps",
        "Section V.A.I, Table 5",
        "With dropout after the first two fully connected layers, B, E and F are more accurate.",
        "B, E and F, the networks for which the paper gives both numbers: with dropout against "
        "without, in accuracy.",
        _compare_remedies("BEF", "dropout", ""),
    ),
    Claim(
        5,
        "Augmentation helps",
        "Section V.A.II, Table 6",
        "Trained on rotated and cropped images, E and F are more accurate.",
        "E and F, the networks for which the paper gives both numbers: with augmentation against "
        "without, in accuracy.",
        _compare_remedies("EF", "augment", ""),
    ),
    Claim(
        6,
        "Both together help most",
        "Tables 5 to 7",
        "With dropout and augmentation together, E and F are more accurate than with either alone "
        "or with neither.",
        "E and F with both against neither, against dropout alone and against augmentation alone: "
        "six comparisons of accuracy.",
        _compare_remedies("EF", "dropout-augment", "", "dropout", "augment"),
    ),
    Claim(
        7,
        "Removing the first pooling costs little",
        "Abstract, Tables 2 and 4 to 7",
        "E, which is F without its first pooling, is about as accurate as F.",
        "E against F in accuracy, in each of the four ways of training. Little means at most one "
        "percentage point, slightly more than the largest deficit of E in the paper's own numbers: "
        "a comparison speaks for the claim if E is ahead of F minus one point, and against it if E "
        "is behind that.",
        tuple(
            Comparison(("E", way), ("F", way), allowance=1.0)
            for way in ("", "dropout", "augment", "dropout-augment")
        ),
    ),
    Claim(
        8,
        "The order of the handcrafted descriptors",
        "Table 4",
        "From best to worst: local features, colour histogram, Tamura, Gabor, Fourier-Mellin.",
        "Each of the ten pairs of the five families in accuracy of the nearest neighbour: the one "
        "the paper ranks higher has to be ahead. Colour is grey in radiographs. Kendall's tau of "
        "the two orders is also reported, and decides nothing.",
        tuple(Comparison(better, worse) for better, worse in combinations(FAMILIES, 2)),
    ),
    Claim(
        9,
        "The learned representation serves retrieval",
        "Section V.C, Figure 1",
        "The activations of the best network find similar images. The paper shows one "
        "precision-recall curve, without values and without a curve of another method.",
        "The vectors of C, the paper's best network, trained as in Table 4, in mean average "
        "precision: against a random ranking, the minimum, and against each of the five "
        "families. Mean average precision decides, because Figure 1 draws whole rankings; the "
        "precision of the first and of the first ten answers is reported, and decides nothing.",
        _compare_with("C", (RANDOM, *FAMILIES), "mAP"),
        reported=_compare_with("C", FAMILIES, "P@1") + _compare_with("C", FAMILIES, "P@10"),
    ),
    Claim(
        10,
        "Depth, batch normalisation and stronger regularisation lie ahead",
        "Section VI",
        "The paper plans deeper networks and strong regularisers such as batch normalisation, "
        "against overfitting. It is a plan: the paper gives no number for it.",
        "Tested as if it said that each of the three helps: H, which has two more convolutions, "
        "against D; B with batch normalisation against B; B with ten times the weight decay "
        "against B; all without dropout and augmentation, in accuracy.",
        (
            Comparison(("H", ""), ("D", "")),
            Comparison(("B", "normalised"), ("B", "")),
            Comparison(("B", "decay0.005"), ("B", "")),
        ),
    ),
)
