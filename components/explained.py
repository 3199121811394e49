"""What an exception says to the user: every step, each of its processes and every command end by this alone.

What it can be is told in `components.errors`, `components.disk` and `components.shortage`; else it is a defect of ours.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from components.disk import refusal
from components.errors import Unavailable, UserError
from components.shortage import shortage


def explained(error: Exception, who: str, places: Sequence[Path] = ()) -> UserError | Unavailable | None:
    """The message that `error` stands for; None for a defect of ours, to be raised.

    Args:
        who: the step, or the command, that could not go on.
        places: what outputs are written to, where that is known.
    """
    known = error if isinstance(error, (UserError, Unavailable)) else refusal(error, places)
    # First: a reader may have taken it for a damaged file.
    return shortage(error, who) or known
