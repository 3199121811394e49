"""What the name of a class may be: in annotations, where others chose it, and in the settings that mean one of them.

It stands in file names, prompts, pages and logs, so it is one line of text that can be written anywhere.
"""

from __future__ import annotations

from components.printable import UNPRINTABLE

#: Characters of a name: beyond it stands a description, or another file's content.
LONGEST = 200


def class_problem(name: str) -> str | None:
    """What is wrong with the name of a class, as the end of a sentence; None where nothing is."""
    if UNPRINTABLE.search(name):
        return "holds control characters or is no valid text"
    if len(name) > LONGEST:
        return f"is longer than {LONGEST} characters"
    return None
