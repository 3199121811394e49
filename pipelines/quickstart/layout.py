"""The copper of a made-up printed circuit board: pads, vias, pours and 45°/90° traces, placed without collisions.

A layout is a list of shapes with net numbers; nothing here knows how a board looks (`finishes`) or what can be
wrong with it (`defects`).
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from itertools import pairwise

import numpy as np

from pipelines.quickstart.canvas import Canvas, FloatArray, Point

CELL = 4.0  # resolution of the free-space map, pixels
OUTSIDE = 48.0  # boards go on beyond the picture


@dataclass
class Shape:
    """A piece of copper: a polyline of `width` > 0, a filled polygon (width 0), or a disc (a single point)."""

    points: list[Point]
    width: float
    net: int
    exposed: bool = False  # free of solder mask: a pad

    def draw(self, canvas: Canvas, value: int = 255, grow: float = 0.0) -> None:
        """Draw it into a mask, `grow` pixels larger on every side."""
        if len(self.points) == 1:
            canvas.disc(self.points[0], self.width / 2 + grow, value)
        elif self.width > 0:
            canvas.stroke(self.points, self.width + 2 * grow, value)
        else:
            canvas.polygon(self.points, value, grow)


@dataclass
class Layout:
    """All there is on a board of `size` × `size` pixels."""

    size: int
    shapes: list[Shape] = field(default_factory=list)
    holes: list[tuple[Point, float]] = field(default_factory=list)  # centre, radius
    outlines: list[list[Point]] = field(default_factory=list)  # of components, for the silk screen
    labels: list[tuple[Point, str]] = field(default_factory=list)
    ground: float = 0.0  # width of the clearance around nets in a flooded board; 0: not flooded

    @property
    def traces(self) -> list[Shape]:
        """Shapes that are polylines."""
        return [s for s in self.shapes if s.width > 0 and len(s.points) > 1]


class FreeSpace:
    """Distance from every cell of a coarse grid to the nearest copper."""

    def __init__(self, size: int) -> None:
        count = math.ceil((size + 2 * OUTSIDE) / CELL)
        axis = (np.arange(count, dtype=np.float32) + 0.5) * CELL - OUTSIDE
        self.x, self.y = axis[None, :], axis[:, None]
        self.distance: FloatArray = np.full((count, count), 1e6, dtype=np.float32)

    def occupy(self, shape: Shape) -> None:
        """Take the shape's copper into account."""
        if shape.width == 0:
            xs, ys = zip(*shape.points, strict=True)
            dx = np.maximum(np.maximum(min(xs) - self.x, self.x - max(xs)), 0)
            dy = np.maximum(np.maximum(min(ys) - self.y, self.y - max(ys)), 0)
            self.distance = np.minimum(self.distance, np.hypot(dx, dy))
            return
        pairs = list(pairwise(shape.points)) or [(shape.points[0],) * 2]
        for (ax, ay), (bx, by) in pairs:
            dx, dy = bx - ax, by - ay
            t = ((self.x - ax) * dx + (self.y - ay) * dy) / max(dx * dx + dy * dy, 1e-6)
            t = np.clip(t, 0, 1)
            away = np.hypot(self.x - ax - t * dx, self.y - ay - t * dy) - shape.width / 2
            self.distance = np.minimum(self.distance, away)

    def clearance(self, points: np.ndarray) -> float:
        """The smallest distance to copper along `points`, (n, 2); outside the map counts as free."""
        cells = np.floor((points + OUTSIDE) / CELL).astype(int)
        inside = ((cells >= 0) & (cells < len(self.distance))).all(axis=1)
        if not inside.any():
            return 0.0
        return float(self.distance[cells[inside, 1], cells[inside, 0]].min())


def sample_path(points: Sequence[Point], step: float = CELL) -> np.ndarray:
    """Points every `step` pixels along a polyline, (n, 2) float."""
    pieces = []
    for a, b in pairwise(points):
        count = max(2, math.ceil(math.dist(a, b) / step) + 1)
        stride = ((b[0] - a[0]) / (count - 1), (b[1] - a[1]) / (count - 1))
        pieces.append(np.arange(count)[:, None] * stride + a)
    return np.concatenate(pieces)


def octilinear_paths(a: Point, b: Point, bend: float) -> list[list[Point]]:
    """Ways from `a` to `b` in horizontal, vertical and 45° runs; `bend` in 0..1 moves the middle run."""
    (ax, ay), (bx, by) = a, b
    dx, dy = bx - ax, by - ay
    d = min(abs(dx), abs(dy))
    sx, sy = math.copysign(1, dx), math.copysign(1, dy)
    diagonal = (sx * d, sy * d)
    straight = (dx - diagonal[0], dy - diagonal[1])
    first = (straight[0] * bend, straight[1] * bend)
    cut = min(d, 18.0)
    return [
        [a, (ax + straight[0], ay + straight[1]), b],
        [a, (ax + diagonal[0], ay + diagonal[1]), b],
        [a, (ax + first[0], ay + first[1]), (ax + first[0] + diagonal[0], ay + first[1] + diagonal[1]), b],
        [a, (bx - sx * cut, ay), (bx, ay + sy * cut), b],
        [a, (ax, by - sy * cut), (ax + sx * cut, by), b],
    ]


class _Planner:
    def __init__(self, rng: np.random.Generator, size: int) -> None:
        self.rng, self.size = rng, size
        self.layout = Layout(size)
        self.free = FreeSpace(size)
        self.nets = 0
        self.parent: dict[int, int] = {}
        self.terminals: list[tuple[Point, float, int]] = []  # where traces may start: point, radius, net
        self.trace = float(np.exp(rng.uniform(math.log(6), math.log(36))))  # the board's usual trace width
        self.gap = max(5.0, self.trace * float(rng.uniform(0.45, 0.9)))

    def new_net(self) -> int:
        self.nets += 1
        self.parent[self.nets] = self.nets
        return self.nets

    def root(self, net: int) -> int:
        while self.parent[net] != net:
            net = self.parent[net]
        return net

    def put(self, shape: Shape) -> None:
        self.layout.shapes.append(shape)
        self.free.occupy(shape)

    def anywhere(self, margin: float = -20.0) -> Point:
        x, y = self.rng.uniform(margin, self.size - margin, 2)
        return float(x), float(y)

    def room(self, x0: float, y0: float, x1: float, y1: float) -> bool:
        xs, ys = np.arange(x0, x1 + CELL, CELL), np.arange(y0, y1 + CELL, CELL)
        grid = np.stack(np.meshgrid(xs, ys), axis=-1).reshape(-1, 2)
        return self.free.clearance(grid) > self.gap

    def pour(self) -> None:
        """A large copper area with cut corners, sometimes drilled."""
        rng = self.rng
        x, y = self.anywhere(-40)
        w, h = (float(v) for v in rng.uniform(50, 260, 2))
        if not self.room(x, y, x + w, y + h):
            return
        c = [float(rng.choice([0, 8, 25, 50])) for _ in range(4)]
        c = [min(v, w / 2.1, h / 2.1) for v in c]
        points = [(x + c[0], y), (x + w - c[1], y), (x + w, y + c[1]), (x + w, y + h - c[2]), (x + w - c[2], y + h),
                  (x + c[3], y + h), (x, y + h - c[3]), (x, y + c[0])]  # fmt: skip
        net = self.new_net()
        self.put(Shape(points, 0, net))
        for _ in range(rng.integers(0, 4)):
            radius = float(rng.uniform(4, 12))
            if min(w, h) > 4 * radius + 20:
                hx = float(rng.uniform(x + 2 * radius + 8, x + w - 2 * radius - 8))
                hy = float(rng.uniform(y + 2 * radius + 8, y + h - 2 * radius - 8))
                self.layout.holes.append(((hx, hy), radius))
        for tx, ty in ((x + w, y + h / 2), (x, y + h / 2), (x + w / 2, y), (x + w / 2, y + h)):
            self.terminals.append(((tx, ty), 6.0, net))

    def bus(self) -> None:
        """Several traces side by side that turn together."""
        rng = self.rng
        count, width = int(rng.integers(3, 9)), self.trace * float(rng.uniform(0.6, 1.1))
        pitch = width + max(5.0, self.gap * float(rng.uniform(0.7, 1.2)))
        a, b = self.anywhere(-40), self.anywhere(-40)
        if rng.random() < 0.5:
            side = int(rng.integers(4))
            edge = -OUTSIDE + 4 if side < 2 else self.size + OUTSIDE - 4
            a = (edge, a[1]) if side % 2 else (a[0], edge)
        if math.dist(a, b) < 120:
            return
        path = octilinear_paths(a, b, float(rng.uniform(0.2, 0.8)))[int(rng.integers(3))]
        path = [p for i, p in enumerate(path) if i == 0 or math.dist(p, path[i - 1]) > 1]
        if min(math.dist(p, q) for p, q in pairwise(path)) < count * pitch:
            return  # inner lanes would cross where the bends are nearer than the bus is wide
        lanes = [offset_path(path, (i - (count - 1) / 2) * pitch) for i in range(count)]
        if any(self.free.clearance(sample_path(lane)) < self.gap + width / 2 for lane in lanes):
            return
        for lane in lanes:
            net = self.new_net()
            self.put(Shape(lane, width, net))
            for end in (lane[0], lane[-1]):
                self.terminals.append((end, width / 2, net))

    def pad(self, centre: Point, w: float, h: float) -> None:
        x, y = centre
        net = self.new_net()
        corner = float(self.rng.choice([0, min(w, h) * 0.25]))
        if corner:
            points = [(x - w / 2 + corner, y - h / 2), (x + w / 2 - corner, y - h / 2),
                      (x + w / 2, y - h / 2 + corner), (x + w / 2, y + h / 2 - corner),
                      (x + w / 2 - corner, y + h / 2), (x - w / 2 + corner, y + h / 2),
                      (x - w / 2, y + h / 2 - corner), (x - w / 2, y - h / 2 + corner)]  # fmt: skip
        else:
            points = [(x - w / 2, y - h / 2), (x + w / 2, y - h / 2), (x + w / 2, y + h / 2), (x - w / 2, y + h / 2)]
        self.put(Shape(points, 0, net, exposed=True))
        self.terminals.append((centre, max(w, h) / 2, net))

    def ring(self, centre: Point, radius: float, hole: float, exposed: bool) -> None:
        net = self.new_net()
        self.put(Shape([centre], 2 * radius, net, exposed))
        self.layout.holes.append((centre, hole))
        self.terminals.append((centre, radius, net))

    def component(self) -> None:
        """Pads in rows: two-pad parts, packages with two rows, pin headers with drilled rings, single vias."""
        rng = self.rng
        x, y = self.anywhere()
        kind = rng.choice(["chip part", "package", "header", "via", "via", "dot"])
        turned = bool(rng.random() < 0.5)
        unit = float(np.clip(self.trace * rng.uniform(1.0, 1.8), 12, 34))
        if kind in ("via", "dot"):
            radius = unit * float(rng.uniform(0.5, 1.0))
            if self.room(x - radius, y - radius, x + radius, y + radius):
                self.ring((x, y), radius, 0 if kind == "dot" else radius * float(rng.uniform(0.35, 0.65)), True)
            return
        if kind == "chip part":
            columns, rows, pitch, span = 1, 2, unit, unit * float(rng.uniform(1.8, 3))
        elif kind == "package":
            columns, rows = int(rng.integers(3, 8)), 2
            pitch, span = unit * float(rng.uniform(1.2, 1.7)), unit * float(rng.uniform(4, 6))
        else:
            columns, rows = int(rng.integers(2, 6)), int(rng.integers(1, 3))
            pitch = span = unit * float(rng.uniform(2.1, 2.8))
        w, h = (columns - 1) * pitch + unit, (rows - 1) * span + unit
        if turned:
            w, h = h, w
        if not self.room(x - unit, y - unit, x + w + unit, y + h + unit):
            return
        drilled = kind == "header"
        for row in range(rows):
            for column in range(columns):
                u, v = column * pitch + unit / 2, row * span + unit / 2
                centre = (x + v, y + u) if turned else (x + u, y + v)
                if drilled:
                    self.ring(centre, unit * 0.6, unit * 0.28, True)
                else:
                    slim = 0.62 if kind == "package" else 1.0
                    size = (unit * 1.3, unit * slim) if turned else (unit * slim, unit * 1.3)
                    self.pad(centre, *size)
        m = 0.45 * unit
        self.layout.outlines.append([(x - m, y - m), (x + w + m, y - m), (x + w + m, y + h + m), (x - m, y + h + m)])
        name = {"chip part": "RCLD", "package": "UQ", "header": "JP"}[str(kind)]
        self.layout.labels.append(((x, y - unit), f"{name[int(rng.integers(len(name)))]}{rng.integers(1, 99)}"))

    def connect(self) -> None:
        """One trace from a terminal to another one, or out of the picture, if there is a free way."""
        rng = self.rng
        start, radius, net = self.terminals[int(rng.integers(len(self.terminals)))]
        if rng.random() < 0.3:
            end, end_radius, other = self.anywhere(), 0.0, net
            if rng.random() < 0.7:
                end = (end[0], -OUTSIDE + 4 if end[1] < self.size / 2 else self.size + OUTSIDE - 4)
        else:
            end, end_radius, other = self.terminals[int(rng.integers(len(self.terminals)))]
        if not 20 < math.dist(start, end) < 420 or (other != net and self.root(other) == self.root(net)):
            return
        width = self.trace * float(rng.choice([0.6, 1, 1, 1, 1.5, 2.2]))
        for path in octilinear_paths(start, end, float(rng.uniform(0.1, 0.9))):
            points = sample_path(path)
            away = np.minimum(np.hypot(*(points - start).T) - radius, np.hypot(*(points - end).T) - end_radius)
            points = points[away > self.gap + width / 2 + CELL]
            if len(points) and self.free.clearance(points) > self.gap + width / 2:
                self.put(Shape(path, width, net))
                self.parent[self.root(other)] = self.root(net)
                if end_radius == 0.0 and 0 < end[0] < self.size and 0 < end[1] < self.size:
                    self.ring(end, width * 0.5 + 5, max(3.0, width * 0.3), True)
                    self.parent[self.root(self.nets)] = self.root(net)
                return


def offset_path(points: Sequence[Point], distance: float) -> list[Point]:
    """The polyline moved sideways by `distance`, corners mitred."""
    path = np.asarray(points, dtype=float)
    along = np.diff(path, axis=0)
    along /= np.linalg.norm(along, axis=1, keepdims=True)
    normals = np.stack([-along[:, 1], along[:, 0]], axis=1)
    moved = [path[0] + distance * normals[0]]
    for i in range(1, len(path) - 1):
        mitre = normals[i - 1] + normals[i]
        moved.append(path[i] + distance * mitre * 2 / max(float(mitre @ mitre), 0.5))
    moved.append(path[-1] + distance * normals[-1])
    return [(float(x), float(y)) for x, y in moved]


def plan_board(rng: np.random.Generator, size: int, flooded: bool | None = None) -> Layout:
    """A random layout of `size` × `size` pixels.

    Trace widths are 4 to 65 pixels whatever the size: a larger board holds more, not larger, parts.
    `flooded` fills what is free with a ground plane (default: one board in six).
    """
    planner = _Planner(rng, size)
    area = (size / 640) ** 2
    for _ in range(round(area * rng.integers(2, 16))):
        planner.pour()
    for _ in range(round(area * rng.integers(3, 14))):
        planner.bus()
    for _ in range(max(4, round(area * 700 / planner.trace))):
        planner.component()
    if planner.terminals:
        for _ in range(max(10, round(area * 320))):
            planner.connect()
    layout = planner.layout
    if flooded if flooded is not None else rng.random() < 1 / 6:
        layout.ground = max(5.0, planner.gap * 0.9)
    for shape in layout.shapes:
        shape.net = planner.root(shape.net)
    return layout
