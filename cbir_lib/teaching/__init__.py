"""Teaching: exercises that check themselves, and the course that is written from the chapters."""

from cbir_lib.teaching.checking import check, grade
from cbir_lib.teaching.material import load_examples, read_published

__all__ = ["check", "grade", "load_examples", "read_published"]
