r"""The IRMA code of a radiograph: read it, name it, and count how wrong an answer is.

A code is TTTT-DDD-AAA-BBB: technique, direction, anatomy and biological system, a tree each. Every
character, 0-9 or a-z, refines those before it; ``0`` leaves the rest of its axis unspecified. In an
answer, ``*`` says "don't know".

T. M. Lehmann, H. Schubert, D. Keysers, M. Kohnen, B. B. Wein: The IRMA code for unique
classification of medical images. Proc. SPIE 5033, 2003. doi:10.1117/12.480677
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import astuple, dataclass

import numpy as np

from cbir_lib.errors import CbirError, unknown

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

# Only what a public source says; anything else is "not named here". Technique and biological
# system: the benchmark's own lists of labels, in part. Direction and anatomy: the examples of
# Lehmann et al. 2003 (Figure 1), and public readers of the data set.
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
    """One code, axis by axis: lower case, 4, 3, 3 and 3 characters; ``*`` in answers alone.

    ``str`` prints it with hyphens, ``compact`` without.

    Raises
    ------
    CbirError
        When an axis has another length, or a character that is no label.
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

    @property
    def compact(self) -> str:
        """The 13 characters without hyphens."""
        return "".join(astuple(self))


def parse(text: str | IrmaCode, answer: bool = False) -> IrmaCode:
    """Read a code in any of its spellings: hyphens or none, upper case, quotes, white space.

    Parameters
    ----------
    answer
        Whether ``*``, "don't know", is allowed.

    Raises
    ------
    CbirError
        When it is no code; the message names the axis and the character.
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


def words(axis: str, characters: str) -> tuple[str, ...]:
    """Each character of an axis in words, as far as it is specified.

    >>> words("direction", "127")
    ('coronal', 'anteroposterior', 'supine')
    """
    if axis not in AXES:
        raise unknown("axis of the IRMA code", axis, AXES)
    found = []
    for end, character in enumerate(characters.rstrip(UNSPECIFIED), start=1):
        if character == DONT_KNOW:
            return (*found, "don't know")
        prefix = characters[:end]
        other = "unspecified" if character == UNSPECIFIED else f"{prefix} (not named here)"
        found.append(NAMES[axis].get(prefix, other))
    return tuple(found) or ("unspecified",)


def describe(code: str | IrmaCode) -> str:
    """The whole code in words.

    >>> describe("1121-110-500-000")
    'x-ray, plain radiography, analog, overview image; coronal, posteroanterior; chest; unspecified'
    """
    code = parse(code, answer=True)
    return "; ".join(", ".join(words(axis, getattr(code, axis))) for axis in AXES)


def region(code: str | IrmaCode) -> str:
    """The body region: the first character of the anatomy in words.

    >>> region("1121-120-942-700")
    'lower extremity'
    """
    return words("anatomy", parse(code, answer=True).anatomy)[0]


def is_a(code: str | IrmaCode, other: str | IrmaCode) -> bool:
    """Whether ``code`` says all that ``other`` says, and maybe more: a partial order.

    On each axis, the characters of ``other`` up to its closing zeros begin those of ``code``.

    >>> is_a("1121-127-942-700", "1121-120-900-700")
    True
    """
    pairs = zip(astuple(parse(code)), astuple(parse(other)), strict=True)
    return all(mine.startswith(its.rstrip(UNSPECIFIED)) for mine, its in pairs)


@dataclass(frozen=True)
class Branching:
    """How many labels are possible at each position, by axis and the characters before it.

    A place that is not listed counts as one label: where a path has ended, only ``0`` can follow.
    """

    labels: Mapping[tuple[str, str], int]

    @classmethod
    def of(cls, codes: Iterable[str | IrmaCode]) -> Branching:
        """Count the labels that occur in these codes, ``0`` among them: the training codes, say."""
        following: dict[tuple[str, str], set[str]] = {}
        for code in {parse(code) for code in codes}:
            for axis, length in AXES.items():
                characters = getattr(code, axis)
                for i in range(length):
                    following.setdefault((axis, characters[:i]), set()).add(characters[i])
        return cls({place: len(labels) for place, labels in following.items()})

    def along(self, axis: str, characters: str) -> list[int]:
        """The number of labels at each position of this path."""
        return [self.labels.get((axis, characters[:i]), 1) for i in range(len(characters))]


# Any constant number of labels: it cancels, and position i of an axis weighs 1/i.
CONSTANT = Branching({})


def errors(
    true: Sequence[str | IrmaCode],
    answers: Sequence[str | IrmaCode],
    branching: Branching = CONSTANT,
) -> np.ndarray:
    r"""The hierarchical error of the ImageCLEF medical annotation task, for each image.

    An axis with the true characters :math:`l_1 \ldots l_I` costs :math:`\sum_i \frac{1}{b_i}
    \frac{1}{i} \delta_i`, scaled to at most 1/4. :math:`b_i` is the number of labels possible at
    position i after the true characters before it: a mistake among few is dearer. :math:`\delta_i`
    is 0 as long as the answer is right, 1 from its first wrong character on, and 1/2 from its
    first ``*`` on. As in the benchmark's own program, a ``*`` costs nothing where the true
    character is ``0``: what is unspecified cannot be known.

    Parameters
    ----------
    true, answers
        N codes each; answers may have ``*``.
    branching
        Where :math:`b_i` comes from. The benchmark counts in its list of all labels, which is not
        with the images. ``Branching.of`` the training codes comes near; by default all
        :math:`b_i` are equal. Compare errors of one branching only.

    Returns
    -------
    (N,) float64
        Each 0..1. The benchmark's score is their sum.

    References
    ----------
    H. Müller, T. Deselaers, T. M. Deserno, J. Kalpathy-Cramer, E. Kim, W. Hersh: Overview of the
    ImageCLEFmed 2007 medical retrieval and medical annotation tasks. LNCS 5152, 2008.
    """
    if len(true) != len(answers):
        raise CbirError(
            f"{len(answers)} answers for {len(true)} codes", "give one answer for each image"
        )
    true = [parse(code) for code in true]
    answers = [parse(code, answer=True) for code in answers]
    total = np.zeros(len(true))
    for axis, length in AXES.items():
        paths = [getattr(code, axis) for code in true]
        right = np.array([list(path) for path in paths], dtype="U1").reshape(-1, length)
        given = [list(getattr(code, axis)) for code in answers]
        given = np.array(given, dtype="U1").reshape(-1, length)
        labels = np.array([branching.along(axis, path) for path in paths]).reshape(-1, length)
        weights = 1 / (labels * np.arange(1, length + 1))
        unsure = np.logical_or.accumulate(given == DONT_KNOW, axis=1)
        wrong = np.logical_or.accumulate((given != right) & ~unsure, axis=1)
        free = (given == DONT_KNOW) & (right == UNSPECIFIED)
        costs = np.select([wrong, unsure & ~free], [1.0, 0.5], 0.0)
        total += (weights * costs).sum(axis=1) / weights.sum(axis=1) / len(AXES)
    return total


def error(true: str | IrmaCode, answer: str | IrmaCode, branching: Branching = CONSTANT) -> float:
    """The hierarchical error of one answer, 0..1: see :func:`errors`.

    >>> error("1121-127-700-500", "1121-110-700-500")  # 1/2 + 1/3 of 1 + 1/2 + 1/3, a quarter
    0.11363636363636363
    """
    return float(errors([true], [answer], branching)[0])
