r"""The IRMA code of a radiograph: parsing, describing, and the hierarchical error of an answer.

A code is TTTT-DDD-AAA-BBB: technique, direction, anatomy and biological system, each a tree. Every
character, 0-9 or a-z, refines those before it; ``0`` leaves the rest of its axis unspecified. In an
answer, ``*`` means "don't know".

T. M. Lehmann, H. Schubert, D. Keysers, M. Kohnen, B. B. Wein: The IRMA code for unique
classification of medical images. Proc. SPIE 5033, 2003. doi:10.1117/12.480677
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from cbir_lib.errors import CbirError, unknown_name_error

AXES = {"technique": 4, "direction": 3, "anatomy": 3, "biosystem": 3}  # characters
LABELS = "0123456789abcdefghijklmnopqrstuvwxyz"
UNSPECIFIED, DONT_KNOW = "0", "*"
FORM = "write it TTTT-DDD-AAA-BBB, each character 0-9 or a-z, as in 1121-127-700-500"

# The paper's five classes, by the first character of the anatomy.
CLASSES = {
    "2": "cranium",
    "3": "spine",
    "4": "upper extremity",
    "5": "chest",
    "9": "lower extremity",
}

# Only names that a public source gives; anything else is "not named here". Technique and biological
# system: the benchmark's own label lists, in part. Direction and anatomy: the examples of Lehmann
# et al. 2003 (Figure 1), and public readers of the data set.
NAMES = {
    "technique": {
        "1": "x-ray",
        "11": "plain radiography",
        "111": "digital",
        "1111": "overview image",
        "1112": "tomography",
        "1113": "high beam energy",
        "1114": "low beam energy",
        "112": "analog",
        "1121": "overview image",
        "1122": "tomography",
        "1123": "high beam energy",
        "1124": "low beam energy",
        "12": "fluoroscopy",
        "121": "digital",
        "122": "analog",
        "13": "angiography",
        "131": "digital",
        "132": "analog",
        "14": "computed tomography",
        "2": "sonography",
        "3": "magnetic resonance measurements",
        "31": "magnetic resonance imaging",
        "4": "nuclear medicine",
        "5": "optical imaging",
        "6": "biophysical procedures",
        "7": "others",
        "8": "secondary digitalization",
    },
    "direction": {
        "1": "coronal",
        "11": "posteroanterior",
        "12": "anteroposterior",
        "127": "supine",
        "2": "sagittal",
        "21": "lateral, right-left",
        "211": "inspiration",
        "22": "lateral, left-right",
        "3": "axial",
        "4": "other direction",
    },
    "anatomy": {
        "1": "whole body",
        "2": "cranium",
        "3": "spine",
        "4": "upper extremity",
        "41": "hand",
        "42": "radiocarpal joint",
        "43": "forearm",
        "44": "elbow",
        "45": "upper arm",
        "46": "shoulder",
        "5": "chest",
        "52": "lung",
        "6": "breast",
        "7": "abdomen",
        "72": "upper abdomen",
        "722": "middle",
        "8": "pelvis",
        "9": "lower extremity",
        "91": "foot",
        "92": "ankle joint",
        "93": "lower leg",
        "94": "knee",
        "95": "upper leg",
        "96": "hip",
    },
    "biosystem": {
        "1": "cerebrospinal system",
        "2": "cardiovascular system",
        "3": "respiratory system",
        "3a": "lung",
        "4": "gastrointestinal system",
        "43": "stomach",
        "5": "uropoietic system",
        "51": "kidney",
        "6": "reproductive system",
        "62": "female system",
        "625": "breast",
        "7": "musculoskeletal system",
        "8": "endocrine system",
        "9": "immune system",
        "a": "dermal system",
    },
}


@dataclass(frozen=True)
class IrmaCode:
    """One code, axis by axis: 4, 3, 3 and 3 characters, lower case; ``*`` only in answers.

    ``str`` prints it with hyphens.

    Raises
    ------
    CbirError
        When an axis has the wrong length, or a character that is not a label.
    """

    technique: str
    direction: str
    anatomy: str
    biosystem: str

    def __post_init__(self):
        for (axis, length), characters in zip(AXES.items(), astuple(self), strict=True):
            if len(characters) != length:
                raise CbirError(
                    f"IRMA code {str(self)!r}: {axis} {characters!r} has {len(characters)} "
                    f"characters, not {length}",
                    FORM,
                )
            for position, character in enumerate(characters, start=1):
                if character not in LABELS + DONT_KNOW:
                    raise CbirError(
                        f"IRMA code {str(self)!r}: character {position} of {axis} is {character!r}",
                        FORM,
                    )

    def __str__(self) -> str:
        return "-".join(astuple(self))


def parse_code(text: str | IrmaCode, answer: bool = False) -> IrmaCode:
    """Parse a code in any spelling: with or without hyphens, upper case, quotes, white space.

    >>> code = parse_code("1121127700500")
    >>> str(code), code.anatomy
    ('1121-127-700-500', '700')

    Parameters
    ----------
    answer
        Whether ``*``, "don't know", is allowed.

    Raises
    ------
    CbirError
        When the text is not a code; the message names the axis and the character.
    """
    clean = str(text).strip("\"' \t\r\n").lower()
    if "-" in clean:
        parts = clean.split("-")
        if len(parts) != len(AXES):
            raise CbirError(f"IRMA code {clean!r} has {len(parts)} axes, not {len(AXES)}", FORM)
    else:
        if len(clean) != sum(AXES.values()):
            raise CbirError(
                f"IRMA code {clean!r} has {len(clean)} characters, not {sum(AXES.values())}", FORM
            )
        ends = np.cumsum(list(AXES.values()))
        parts = [clean[end - length : end] for end, length in zip(ends, AXES.values(), strict=True)]
    code = IrmaCode(*parts)
    if not answer and DONT_KNOW in clean:
        axis = next(axis for axis in AXES if DONT_KNOW in getattr(code, axis))
        raise CbirError(
            f"IRMA code {clean!r}: {axis} has a '*'", "'*' is for answers; give the whole code"
        )
    return code


def describe_axis(axis: str, characters: str) -> tuple[str, ...]:
    """Name each character of an axis, up to the last one that is specified.

    >>> describe_axis("direction", "127")
    ('coronal', 'anteroposterior', 'supine')
    """
    if axis not in AXES:
        raise unknown_name_error("axis of the IRMA code", axis, AXES)
    names = []
    for end, character in enumerate(characters.rstrip(UNSPECIFIED), start=1):
        if character == DONT_KNOW:
            return (*names, "don't know")
        prefix = characters[:end]
        other = "unspecified" if character == UNSPECIFIED else f"{prefix} (not named here)"
        names.append(NAMES[axis].get(prefix, other))
    return tuple(names) or ("unspecified",)


def name_region(code: str | IrmaCode) -> str:
    """Name the body region, which is the first character of the anatomy.

    >>> name_region("1121-120-942-700")
    'lower extremity'
    """
    return describe_axis("anatomy", parse_code(code, answer=True).anatomy)[0]


@dataclass(frozen=True)
class Branching:
    """The number of labels possible at each position, by axis and the characters before it.

    A position that is not listed counts as one label: after the end of a path, only ``0`` can
    follow.
    """

    labels: Mapping[tuple[str, str], int]

    @classmethod
    def from_codes(cls, codes: Iterable[str | IrmaCode]) -> Branching:
        """Count the labels, including ``0``, that occur in these codes, such as training codes."""
        following: dict[tuple[str, str], set[str]] = {}
        for code in {parse_code(code) for code in codes}:
            for axis, length in AXES.items():
                characters = getattr(code, axis)
                for i in range(length):
                    following.setdefault((axis, characters[:i]), set()).add(characters[i])
        return cls({place: len(labels) for place, labels in following.items()})

    def count_labels(self, axis: str, characters: str) -> list[int]:
        """Return the number of labels at each position of this path."""
        return [self.labels.get((axis, characters[:i]), 1) for i in range(len(characters))]


# A constant number of labels cancels, so that position i of an axis weighs 1/i.
CONSTANT_BRANCHING = Branching({})


def compute_hierarchical_errors(
    true: Sequence[str | IrmaCode],
    answers: Sequence[str | IrmaCode],
    branching: Branching = CONSTANT_BRANCHING,
) -> np.ndarray:
    r"""Compute the hierarchical error of the ImageCLEF medical annotation task for each image.

    An axis with the true characters :math:`l_1 \ldots l_I` costs :math:`\sum_i \frac{1}{b_i}
    \frac{1}{i} \delta_i`, scaled to at most 1/4. :math:`b_i` is the number of labels possible at
    position i after the true characters before it: a mistake among few costs more.
    :math:`\delta_i` is 0 as long as the answer is correct, 1 from its first wrong character on,
    and 1/2 from its first ``*`` on. As in the benchmark's own program, a ``*`` costs nothing where
    the true character is ``0``: what is unspecified cannot be known.

    Parameters
    ----------
    true, answers
        N codes each; answers may contain ``*``.
    branching
        Source of :math:`b_i`. The benchmark counts labels in its complete list, which does not come
        with the images. ``Branching.from_codes`` on the training codes approximates it; by default
        all :math:`b_i` are equal. Compare only errors of the same branching.

    Returns
    -------
    (N,) float64
        Errors, 0..1. The benchmark's score is their sum.

    References
    ----------
    H. Müller, T. Deselaers, T. M. Deserno, J. Kalpathy-Cramer, E. Kim, W. Hersh: Overview of the
    ImageCLEFmed 2007 medical retrieval and medical annotation tasks. LNCS 5152, 2008.
    """
    if len(true) != len(answers):
        raise CbirError(
            f"{len(answers)} answers for {len(true)} codes", "give one answer for each image"
        )
    true = [parse_code(code) for code in true]
    answers = [parse_code(code, answer=True) for code in answers]
    total = np.zeros(len(true))
    for axis, length in AXES.items():
        paths = [getattr(code, axis) for code in true]
        correct = np.array([list(path) for path in paths], dtype="U1").reshape(-1, length)
        answered = [list(getattr(code, axis)) for code in answers]
        answered = np.array(answered, dtype="U1").reshape(-1, length)
        labels = np.array([branching.count_labels(axis, path) for path in paths])
        labels = labels.reshape(-1, length)
        weights = 1 / (labels * np.arange(1, length + 1))
        unsure = np.logical_or.accumulate(answered == DONT_KNOW, axis=1)
        wrong = np.logical_or.accumulate((answered != correct) & ~unsure, axis=1)
        free = (answered == DONT_KNOW) & (correct == UNSPECIFIED)
        costs = np.select([wrong, unsure & ~free], [1.0, 0.5], 0.0)
        total += (weights * costs).sum(axis=1) / weights.sum(axis=1) / len(AXES)
    return total


def compute_hierarchical_error(
    true: str | IrmaCode, answer: str | IrmaCode, branching: Branching = CONSTANT_BRANCHING
) -> float:
    """Compute the hierarchical error of one answer, 0..1: see :func:`compute_hierarchical_errors`.

    The example has the second and third of three characters wrong, on one axis of four:
    (1/2 + 1/3) / (1 + 1/2 + 1/3) / 4.

    >>> compute_hierarchical_error("1121-127-700-500", "1121-110-700-500")
    0.11363636363636363
    """
    return float(compute_hierarchical_errors([true], [answer], branching)[0])
