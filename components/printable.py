"""Text of others as it may stand in a terminal and in a log: nothing that moves the cursor, colours, reorders what is
read or begins a line of its own, and never without end.

Not covered: how values are quoted (`components.documents.shown`), HTML (`components.report`).
"""

from __future__ import annotations

import re

#: Characters of a line, and lines of a message, that are printed.
LONGEST = 1000
MOST_LINES = 40

#: Control characters, separators of lines, halves of surrogate pairs, and what overrides the direction of writing.
UNPRINTABLE = re.compile("[\x00-\x1f\x7f-\x9f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")
#: Our own messages go on in a line that begins with blanks; whatever other newline there is came with a user's text.
_CONTINUED = re.compile(r"\n(?=  )")


def is_text(text: str) -> bool:
    """Whether `text` can be written anywhere: Python's may hold halves of surrogate pairs, which no encoding has."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def one_line(text: str, longest: int = LONGEST) -> str:
    """`text` with its unprintable characters written as Python escapes them, cut to `longest` characters."""
    shown = UNPRINTABLE.sub(_escaped, text[: longest + 1])
    return shown if len(shown) <= longest else shown[: longest - 1] + "…"


def lines(text: str) -> str:
    """As `one_line` for each line of a message: where the next begins with two blanks, a newline is kept."""
    parts = _CONTINUED.split(text, maxsplit=MOST_LINES)
    return "\n".join([*map(one_line, parts[:MOST_LINES]), *["  …"] * (len(parts) > MOST_LINES)])


def _escaped(found: re.Match[str]) -> str:
    return ascii(found[0])[1:-1]
