"""Files of a great many parts: PNG's chunks, JPEG's segments, DICOM's elements, numbers in a tag.

What reads them makes Python objects of each, however little it holds: a file of parts that are
empty takes a hundred times its own size in memory, and minutes.
"""

from __future__ import annotations

import io

MOST_PARTS = 500_000  # with which no reader took more than 0.4 GB; a radiograph has hundreds
TOO_MANY_PARTS = "a file of too many parts, which is not read"


class PartsError(Exception):
    """A file has more than ``MOST_PARTS`` parts."""


def comes_from_parts(error: BaseException | None) -> bool:
    """Tell whether an exception is :class:`PartsError`, or was raised where it was caught."""
    while error and not isinstance(error, PartsError):
        error = error.__context__
    return error is not None


class FileOfParts(io.BytesIO):
    """A file in memory that can be read ``MOST_PARTS`` times, so at most in as many parts.

    Then it raises :class:`PartsError`. Readers written in Python read each part by itself.
    """

    _reads = 0

    def read(self, size: int | None = -1, /) -> bytes:
        """Read up to ``size`` bytes; all that is left if it is negative or None."""
        self._reads += 1
        if self._reads > MOST_PARTS:
            raise PartsError
        return super().read(size)
