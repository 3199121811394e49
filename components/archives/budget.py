"""How much an archive may unpack to: against archives made to fill a disk from a few bytes."""

from __future__ import annotations

from components.errors import UserError
from components.progress import size

#: Photographs hardly shrink; masks and tables do, by 20 to 100 times. Deflate ends at 1032.
RATIO = 200
#: Up to here the ratio is not looked at: a few blank masks may well shrink by more.
SLACK = 64 << 20
LARGEST = 256 << 30
MOST_ENTRIES = 1_000_000


class Budget:
    """Bytes and entries that are left.

    Args:
        packed: bytes of the archive.
        free: bytes on the disk that it is unpacked to.
    """

    def __init__(self, packed: int, free: int) -> None:
        self.packed, self.free = packed, free
        self.spent = self.entries = 0

    def spend(self, count: int) -> None:
        """Take `count` more bytes.

        Raises:
            UserError: where that is beyond a limit; call it before they are written.
        """
        self.spent += count
        if self.spent > max(SLACK, RATIO * self.packed):
            raise UserError(
                f"unpacks to {size(self.spent)} or more from {size(self.packed)}, over {RATIO} times as much; where "
                "that is right, unpack it yourself and give the folder"
            )
        if self.spent > LARGEST:
            raise UserError(f"unpacks to more than {size(LARGEST)}; unpack it yourself and give the folder")
        if self.spent > self.free:
            raise UserError(
                f"unpacks to {size(self.spent)} or more, but {size(self.free)} are free on the disk of TMPDIR; free "
                "some space or set TMPDIR"
            )

    def count(self) -> None:
        """One more entry. Raises UserError where there are too many."""
        self.entries += 1
        if self.entries > MOST_ENTRIES:
            raise UserError(f"more than {MOST_ENTRIES:,} entries; unpack it yourself and give the folder")
