"""What Pillow raises over a file that is no image, is damaged, or unpacks to more pixels than an image has."""

from __future__ import annotations

import struct
import zlib

from PIL import Image

#: Its decoders let many kinds of errors through. `Image.DecompressionBombError` is its guard, which stays on.
DAMAGED = (
    *(Image.DecompressionBombError, Image.UnidentifiedImageError),
    *(OSError, SyntaxError, ValueError, EOFError, struct.error, zlib.error),
)
