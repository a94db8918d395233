"""Check the answers of an exercise: right, or wrong with a hint for each part; never the answer."""

from __future__ import annotations

from dataclasses import dataclass
from importlib import import_module
from pkgutil import iter_modules

from cbir_lib.errors import CbirError, unknown_name_error
from cbir_lib.teaching import checks
from cbir_lib.teaching.answers import Expected, find_fault

CHAPTERS = tuple(sorted(module.name for module in iter_modules(checks.__path__)))


@dataclass(frozen=True, repr=False)
class Verdict:
    """Whether the answers of an exercise are right; printed, it says which are not, and a hint.

    Attributes
    ----------
    faults
        One ``(name, hint)`` for each wrong part.
    parts
        Number of parts.
    """

    exercise: str
    faults: tuple[tuple[str, str], ...]
    parts: int

    @property
    def share(self) -> float:
        """Return the share of the parts that are right, 0 to 1."""
        return 1 - len(self.faults) / self.parts

    def __bool__(self) -> bool:
        return not self.faults

    def __repr__(self) -> str:
        if not self.faults:
            return f"✓ {self.exercise}: right"
        right = self.parts - len(self.faults)
        counted = f" ({right} of {self.parts} right)" if self.parts > 1 else ""
        lines = [f"  {name}: {hint}" for name, hint in self.faults]
        return "\n".join([f"✗ {self.exercise}: not right{counted}", *lines])


def check(exercise: str, *answers: object) -> Verdict:
    """Check the answers of an exercise.

    Parameters
    ----------
    exercise
        Chapter and number: ``networks-1``.
    answers
        In the order of the starter.

    Returns
    -------
    Verdict
        True if all are right; printed, it gives a hint for each part that is not.

    Raises
    ------
    CbirError
        When there is no such exercise, or the number of answers differs.

    Examples
    --------
    >>> check("retrieval-2", [1, 2, 3])
    Traceback (most recent call last):
    ...
    cbir_lib.errors.CbirError: error: exercise retrieval-2 has 2 answers, not 1
    hint: give them in this order: precisions, mean
    """
    return _compare(exercise, answers, graded=False)


def grade(exercise: str, *answers: object, points: float) -> float:
    """Print the verdict on the answers of an exercise, and return the points for them.

    As :func:`check`, and functions are tried on more arguments. Each part that is right counts the
    same. For automatic grading, where a submission may have redefined ``check``.
    """
    verdict = _compare(exercise, answers, graded=True)
    print(verdict)
    return points * verdict.share


def find_expected(exercise: str) -> tuple[Expected, ...]:
    """Return what is expected of the answers of an exercise, in their order.

    Raises
    ------
    CbirError
        When there is no such exercise.
    """
    chapter, _, number = str(exercise).rpartition("-")
    if chapter not in CHAPTERS:
        raise unknown_name_error("chapter with exercises", chapter or exercise, CHAPTERS)
    exercises = import_module(f"cbir_lib.teaching.checks.{chapter}").EXERCISES
    if number not in map(str, range(1, len(exercises) + 1)):
        known = [f"{chapter}-{n}" for n in range(1, len(exercises) + 1)]
        raise unknown_name_error("exercise", exercise, known)
    return exercises[int(number) - 1]()


def _compare(exercise: str, answers: tuple, graded: bool) -> Verdict:
    expected = find_expected(exercise)
    if len(answers) != len(expected):
        raise CbirError(
            f"exercise {exercise} has {len(expected)} answer{'s' * (len(expected) != 1)}, "
            f"not {len(answers)}",
            f"give them in this order: {', '.join(one.name for one in expected)}",
        )
    remarks = [
        find_fault(one, answer, graded) for one, answer in zip(expected, answers, strict=True)
    ]
    pairs = zip(expected, remarks, strict=True)
    faults = tuple((one.name, fault) for one, fault in pairs if fault)
    return Verdict(exercise, faults, len(expected))
