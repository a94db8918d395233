"""Expected answers: compared with what was given, and a hint, never the answer, where it is wrong.

One class per kind of answer. Each finds the fault of an answer: its form first (nothing given, the
wrong type or shape, NaN), then its value.
"""

from __future__ import annotations

import hashlib
import math
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from numbers import Number as AnyNumber
from numbers import Real
from typing import Protocol

import numpy as np

UNANSWERED = "not answered yet: replace the dots"
SALT = "cbir_lib.teaching"
ROUNDS = 10_000  # of the hash, so that guessing costs more than thinking


class Expected(Protocol):
    """What is expected of one answer of an exercise."""

    name: str  # of the variable in the starter

    def find_fault(self, answer: object) -> str | None:
        """Return what is wrong with an answer, as a hint; None if it is right."""


@dataclass(frozen=True)
class Number:
    """A number.

    Attributes
    ----------
    value
        What the library computes.
    hint
        What to think of where the answer is wrong.
    tolerance
        Largest absolute difference; 0 for a whole number.
    common
        Pairs of a typical wrong answer and its own hint.
    """

    name: str
    value: float
    hint: str
    tolerance: float = 0.0
    common: Sequence[tuple[float, str]] = ()

    def find_fault(self, answer: object) -> str | None:
        answer = _unwrap(answer)
        if isinstance(answer, bool | np.bool_) or not isinstance(answer, AnyNumber):
            return f"a number is expected, not {_describe_type(answer)}"
        if not _is_real(answer):
            return "a real number is expected, not a complex one"
        number = _convert_to_float(answer)
        if not math.isfinite(number):
            return f"a finite number is expected, not {answer}"
        if self._matches(number, self.value):
            return None
        for wrong, hint in self.common:
            if self._matches(number, wrong):
                return hint
        return self.hint

    def _matches(self, answer: float, value: float) -> bool:
        return abs(answer - float(value)) <= self.tolerance + 1e-9 * abs(value)


@dataclass(frozen=True)
class Array:
    """An array or a list of numbers, or of yes and no, of a known shape.

    ``tolerance`` is the largest absolute difference of a value.
    """

    name: str
    value: np.ndarray
    hint: str
    tolerance: float = 0.0

    def find_fault(self, answer: object) -> str | None:
        if isinstance(answer, str) or not isinstance(answer, Iterable):
            return f"an array is expected, not {_describe_type(answer)}"
        expected = np.asarray(self.value)
        try:
            value = _convert_to_array(answer)
        except (ValueError, TypeError):  # rows of different lengths
            return f"an array of shape {expected.shape} is expected; this has no single shape"
        if value.shape != expected.shape:
            return f"shape {expected.shape} is expected, not {value.shape}"
        if expected.dtype == bool and value.dtype != bool:
            return f"True and False are expected, not values of type {value.dtype}"
        if expected.dtype != bool and value.dtype.kind not in "iuf":
            return f"numbers are expected, not values of type {value.dtype}"
        if not np.isfinite(value).all():
            return f"{np.count_nonzero(~np.isfinite(value))} values are not finite"
        close = np.abs(value.astype(float) - expected.astype(float)) <= self.tolerance + 1e-9
        if close.all():
            return None
        return f"{np.count_nonzero(~close)} of {close.size} values are wrong. {self.hint}"


@dataclass(frozen=True)
class Items:
    """A set of things, in any order: a set, a list or an array; arrays of two columns are pairs."""

    name: str
    value: frozenset
    hint: str

    def find_fault(self, answer: object) -> str | None:
        if isinstance(answer, str) or not isinstance(answer, Iterable):
            return f"a set is expected, not {_describe_type(answer)}"
        kind = type(next(iter(self.value)))
        try:
            value = frozenset(_hashable(item) for item in answer)
        except TypeError:
            return "a set of plain things is expected: " + kind.__name__
        if strange := [item for item in value if not isinstance(item, kind)]:
            return (
                f"elements of type {kind.__name__} are expected, not {_describe_type(strange[0])}"
            )
        if value == self.value:
            return None
        missing, extra = len(self.value - value), len(value - self.value)
        counts = [f"{missing} missing"] * bool(missing) + [f"{extra} too many"] * bool(extra)
        return f"{' and '.join(counts)}. {self.hint}"


@dataclass(frozen=True)
class Word:
    """One word of a closed list; case does not matter.

    ``value`` is the word, or what :func:`hide` makes of it where no library computes it.
    """

    name: str
    value: str
    options: tuple[str, ...]
    hint: str

    def find_fault(self, answer: object) -> str | None:
        if not isinstance(answer, str):
            return f"a text is expected, not {_describe_type(answer)}"
        word = answer.strip().lower()
        if word not in [option.lower() for option in self.options]:
            return f"one of these is expected: {', '.join(self.options)}"
        return None if self.value in (hide(word), *self._plain(word)) else self.hint

    def _plain(self, word: str) -> list[str]:
        return [option for option in self.options if option.lower() == word]


@dataclass(frozen=True)
class Function:
    """A function that the reader writes, tried on several arguments beside a reference.

    Attributes
    ----------
    cases
        Arguments of each call.
    hidden
        Arguments of further calls, which only grading makes.
    """

    name: str
    reference: Callable[..., float]
    cases: Sequence[tuple]
    hint: str
    tolerance: float = 1e-9
    hidden: Sequence[tuple] = ()

    def find_fault(self, answer: object, graded: bool = False) -> str | None:
        if not callable(answer):
            return f"a function is expected, not {_describe_type(answer)}"
        for arguments in (*self.cases, *(self.hidden if graded else ())):
            shown = ", ".join(map(repr, arguments))
            try:
                value = answer(*arguments)
            except Exception as error:
                return f"{self.name}({shown}) raises {type(error).__name__}: {error}"
            if value is None or value is Ellipsis:
                return f"{self.name}({shown}) returns nothing"
            expected = Number(self.name, self.reference(*arguments), self.hint, self.tolerance)
            if fault := expected.find_fault(value):
                return f"{self.name}({shown}): {fault}"
        return None


def find_fault(expected: Expected, answer: object, graded: bool = False) -> str | None:
    """Return what is wrong with an answer, as a hint; None if it is right.

    With ``graded``, functions are tried on the hidden arguments too.
    """
    if answer is Ellipsis or answer is None:
        return UNANSWERED
    if isinstance(expected, Function):
        return expected.find_fault(answer, graded)
    if not isinstance(answer, str) and _holds_dots(answer):
        return UNANSWERED
    return expected.find_fault(answer)


def hide(word: str) -> str:
    """Return a salted hash of a word, so that no answer stands in the source.

    >>> hide("window") == hide(" Window ")
    True
    """
    word = word.strip().lower().encode()
    return hashlib.pbkdf2_hmac("sha256", word, SALT.encode(), ROUNDS).hex()[:16]


def _holds_dots(answer: object) -> bool:
    if isinstance(answer, list | tuple | set | frozenset):
        return any(item is Ellipsis or _holds_dots(item) for item in answer)
    return False


def _unwrap(answer: object) -> object:
    """Return the number in an array or tensor of one value; anything else as it is."""
    if hasattr(answer, "item") and np.size(_list_tensor(answer)) == 1:
        return answer.item()
    return answer


def _list_tensor(value: object) -> object:
    """Return a tensor of torch as nested lists; anything else as it is.

    NumPy takes no tensor that has a gradient, is on a GPU, or is of bfloat16.
    """
    return value.tolist() if hasattr(value, "detach") else value


def _is_real(value: object) -> bool:
    # A decimal is a number to Python, but not a real one.
    return isinstance(value, Real | Decimal) and not isinstance(value, bool)


def _convert_to_float(number: Real | Decimal) -> float:
    """Return the nearest float; the largest there is for a number that is larger."""
    try:
        return float(number)
    except OverflowError:
        return sys.float_info.max if number > 0 else -sys.float_info.max
    except ValueError:  # a signalling NaN of decimal
        return math.nan


def _convert_to_array(answer: Iterable) -> np.ndarray:
    """Return an array; fractions, decimals and whole numbers of any size as float64."""
    answer = _list_tensor(answer)
    if isinstance(answer, Iterable) and not hasattr(answer, "__array__"):
        answer = [_list_tensor(item) for item in answer]
    value = np.asarray(answer)
    if value.dtype == object and all(map(_is_real, value.flat)):
        value = np.vectorize(_convert_to_float, otypes=[float])(value)
    return value


def _hashable(item: object) -> object:
    if hasattr(item, "tolist"):  # of NumPy or torch
        item = item.tolist()
    return tuple(map(_hashable, item)) if isinstance(item, list | tuple) else item


def _describe_type(answer: object) -> str:
    if isinstance(answer, np.ndarray):
        return f"an array of shape {answer.shape}"
    name = type(answer).__name__
    return f"{'an' if name[0] in 'aeiou' else 'a'} {name}"
