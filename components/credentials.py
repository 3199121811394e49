"""Keys, tokens and cookies as they are read: held to what a request's header can carry.

What cannot be sent would come back in an exception of the HTTP client, which repeats the header and with it the secret.
Blanks at the ends are taken off: a mounted secret that `echo` made ends in a newline. Not covered: where secrets are
looked for, and which are right.
"""

from __future__ import annotations

import re

from components.errors import UserError

#: Printable ASCII without blanks, and with them; control characters.
_WORD, _WORDS = re.compile(r"[!-~]*"), re.compile(r"[ -~]*")
_CONTROL = re.compile(r"[\x00-\x1f\x7f]")


def checked(value: str, name: str, blanks: bool = False) -> str:
    """The secret `value` without blanks at its ends; empty where nothing is left.

    Args:
        name: of the variable, flag or file that it comes from; a message says it, and never the value.
        blanks: whether the secret may hold blanks, as a list of cookies does.

    Raises:
        UserError: where it holds what a header cannot carry.
    """
    found = value.strip()
    if not (_WORDS if blanks else _WORD).fullmatch(found):
        what = "a line break or another character" if blanks else "a blank, a line break or another character"
        raise UserError(f"{name}: holds {what} that no secret of this kind can have; set it again, as it was given out")
    return found


def signing(value: str, name: str) -> str:
    """The secret `value`, with which requests are signed and which is never sent, without blanks at its ends.

    Args:
        name: as in `checked`.

    Raises:
        UserError: for more than one line, which is two secrets, or half of something else.
    """
    found = value.strip()
    if _CONTROL.search(found):
        raise UserError(f"{name}: holds a line break or another control character; set it again, as it was given out")
    return found
