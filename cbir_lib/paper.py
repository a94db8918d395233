"""Every accuracy the paper publishes, with its table. Percent, on IRMA / ImageCLEFmed 2009."""

from __future__ import annotations

CITATION = (
    "ELMarakbey, Gamal, Fouad, Gamal: Content based medical image retrieval using deep learning"
)

# Table 4. A to D were trained on five classes, E to G on three or four: not the same task.
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

# Tables 5 and 6: without, with. None stands for a dash in the paper.
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

# Images of IRMA 2009 by class, from its public label lists; the paper does not count them.
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

# The row of Table 4 that a run of this study stands beside.
ROW_OF = {
    "grey-histogram": "Colour histogram",
    "tamura-histogram": "Tamura histogram",
    "gabor-histogram": "Gabor histogram",
    "fourier-mellin": "Fourier-Mellin",
    "bag-of-words": "Local features",
} | {name: name for name in "ABCDEFG"}


def row_of(parameters: dict) -> str | None:
    """The row for a run's parameters; None where the paper has none."""
    return ROW_OF.get(parameters.get("network") or parameters.get("descriptor"))


def table_4() -> dict[str, float]:
    """Table 4 by the names this study's tables use."""
    return {f"Network {row}" if len(row) == 1 else row: value for row, value in TABLE_4.items()}
