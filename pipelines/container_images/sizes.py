"""How large the images are: whole, and beyond their base."""

from __future__ import annotations

from components import images
from components.progress import size
from pipelines.container_images.program import inspect
from pipelines.table import columns


def table(tag: str, base: str) -> list[str]:
    """A line an image, for a terminal. Uncompressed sizes, as Docker gives them; a registry holds about a third."""
    below = inspect(base)
    rows = [["image", "size", "beyond the base", "id"]]
    for step in (*images.STEPS, images.TOOLS):
        found = inspect(images.image(step, tag))
        beyond = found["Size"] - below["Size"]
        rows.append([images.image(step, tag), size(found["Size"]), size(beyond), found["Id"][:19]])
    return [*columns(rows), f"base: {base}, {size(below['Size'])}"]
