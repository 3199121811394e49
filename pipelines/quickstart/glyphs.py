"""A small stroke font for silk screens and chip markings: no font file, the same strokes on every machine.

Letters are polylines on a grid 2 wide and 4 high. Only the characters in `STROKES` exist; others are left blank.
"""

from pipelines.quickstart.canvas import Canvas, Point

STROKES: dict[str, list[list[tuple[float, float]]]] = {
    "0": [[(0, 0), (2, 0), (2, 4), (0, 4), (0, 0)]],
    "1": [[(0, 1), (1, 0), (1, 4)]],
    "2": [[(0, 0), (2, 0), (2, 2), (0, 2), (0, 4), (2, 4)]],
    "3": [[(0, 0), (2, 0), (2, 4), (0, 4)], [(0, 2), (2, 2)]],
    "4": [[(0, 0), (0, 2), (2, 2)], [(2, 0), (2, 4)]],
    "5": [[(2, 0), (0, 0), (0, 2), (2, 2), (2, 4), (0, 4)]],
    "6": [[(2, 0), (0, 0), (0, 4), (2, 4), (2, 2), (0, 2)]],
    "7": [[(0, 0), (2, 0), (1, 4)]],
    "8": [[(0, 0), (2, 0), (2, 4), (0, 4), (0, 0)], [(0, 2), (2, 2)]],
    "9": [[(2, 2), (0, 2), (0, 0), (2, 0), (2, 4), (0, 4)]],
    "A": [[(0, 4), (1, 0), (2, 4)], [(0.5, 2.6), (1.5, 2.6)]],
    "C": [[(2, 0), (0, 0), (0, 4), (2, 4)]],
    "D": [[(0, 0), (1.3, 0), (2, 1), (2, 3), (1.3, 4), (0, 4), (0, 0)]],
    "J": [[(2, 0), (2, 4), (0, 4), (0, 3)]],
    "L": [[(0, 0), (0, 4), (2, 4)]],
    "M": [[(0, 4), (0, 0), (1, 2), (2, 0), (2, 4)]],
    "N": [[(0, 4), (0, 0), (2, 4), (2, 0)]],
    "P": [[(0, 4), (0, 0), (2, 0), (2, 2), (0, 2)]],
    "Q": [[(0, 0), (2, 0), (2, 4), (0, 4), (0, 0)], [(1.2, 3), (2.2, 4.4)]],
    "R": [[(0, 4), (0, 0), (2, 0), (2, 2), (0, 2)], [(0.8, 2), (2, 4)]],
    "S": [[(2, 0), (0, 0), (0, 2), (2, 2), (2, 4), (0, 4)]],
    "T": [[(0, 0), (2, 0)], [(1, 0), (1, 4)]],
    "U": [[(0, 0), (0, 4), (2, 4), (2, 0)]],
    "X": [[(0, 0), (2, 4)], [(2, 0), (0, 4)]],
    "-": [[(0.3, 2), (1.7, 2)]],
}


def write_text(canvas: Canvas, text: str, corner: Point, height: float, turned: bool = False) -> None:
    """Write `text` with its upper left `corner` given, letters `height` pixels high; `turned` runs downwards."""
    unit, x, y = height / 4, *corner
    for i, character in enumerate(text.upper()):
        for stroke in STROKES.get(character, []):
            points = [((3 * i + u) * unit, v * unit) for u, v in stroke]
            placed = [(x - v, y + u) if turned else (x + u, y + v) for u, v in points]
            canvas.stroke(placed, max(1.2, 0.55 * unit))
