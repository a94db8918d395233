"""Solutions of exercises and answers of quizzes: folded in a page, or left out of it.

Both are written as HTML that browsers, JupyterLab and Colab fold: ``<details class="solution">``,
and one ``<details class="option">`` for each option of a quiz; opened, it says whether it is right.
"""

from __future__ import annotations

import re
from typing import Literal

SOLUTION = re.compile(r'<details class="solution">.*?</details>\n*', re.S)
OPTION = re.compile(
    r'<details class="option">\s*<summary>(?P<option>.*?)</summary>.*?</details>\n*', re.S
)
Shown = Literal["folded", "omitted"]


def omit_solutions(text: str) -> str:
    """Return Markdown without solutions, and with the options of a quiz as a plain list.

    >>> quiz = '<details class="option"><summary>42</summary>Right.</details>'
    >>> omit_solutions("Text.\\n\\n" + quiz + '<details class="solution">43</details>')
    'Text.\\n\\n- 42\\n'
    """
    return OPTION.sub(lambda match: f"- {match['option']}\n", SOLUTION.sub("", text))
