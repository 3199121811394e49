"""Random stores made of live and dead things, with what should become of each object known from how it was made."""

from __future__ import annotations

import dataclasses
import json
from random import Random

from components.artifacts import CheckpointIndex, CheckpointRef
from components.models.catalog import Latest
from components.models.record import ModelRecord
from components.storage import Entry, Manifest, digest_of
from components.storage.naming import version_after
from pipelines.cleanup.contents import Contents, Item, read, read_leases
from pipelines.cleanup.policy import DAY, HOUR, Policy

URI = "s3://bucket/prefix"
NOW = 2e9
POLICY = Policy(keep=2, grace=DAY, unpublished=30 * DAY)

#: Ages, in seconds: of what is under way, of what may still be gone on with, and of what nobody waits for.
FRESH, RECENT, OLD = HOUR, 5 * DAY, 90 * DAY


class Shelf:
    """Objects with their content and time; `dead` holds the keys that clean-up is to delete."""

    def __init__(self) -> None:
        self.objects: dict[str, tuple[bytes, float]] = {}
        self.dead: set[str] = set()
        self.open_ended = False  #: whether something stays whose base model is not known
        self.bases: dict[str, list[str]] = {}  #: place → keys, of base models that train put there
        self.used: set[str] = set()  #: places of base models that something staying was made from

    def put(self, key: str, data: bytes, age: float, dead: bool = False) -> None:
        assert key not in self.objects, key
        self.objects[key] = data, NOW - age
        if dead:
            self.dead.add(key)

    def tree(
        self,
        place: str,
        age: float,
        dead: bool = False,
        made_by: dict | None = None,
        files: int = 2,
        whole: bool = True,
    ) -> None:
        """A tree of a few files; without its manifest where it is not `whole`."""
        entries = []
        for number in range(files):
            data = f"{place} {number} ".encode() * (1 + number)
            # Names on both sides of the manifest's, in the order of a listing.
            path = f"{'Az'[number % 2]}{number}.bin"
            self.put(f"{place}/{path}", data, age, dead)
            entries.append(Entry(path, len(data), digest_of(number)))
        if whole:
            self.put(f"{place}/MANIFEST.json", Manifest.of(entries, made_by).to_json(), age, dead)

    def contents(self) -> Contents:
        items = [Item(key, len(data), modified) for key, (data, modified) in self.objects.items()]
        held = read_leases((item for item in items if item.key.startswith("leases/")), self.get, NOW)
        return read(URI, items, self.get, NOW, held)

    def get(self, key: str) -> bytes | None:
        return self.objects[key][0] if key in self.objects else None

    def size(self) -> int:
        return sum(len(data) for data, _ in self.objects.values())


def random_shelf(random: Random) -> Shelf:
    """A store in which a bit of everything has happened."""
    shelf = Shelf()
    _foreign(shelf, random)
    for number in range(random.randint(0, 3)):
        _model(shelf, random, f"model{number}")
    for kind in ("finished", "unfinished", "leased", "busy"):
        for _ in range(random.randint(0, 2)):
            _unpublished(shelf, random, kind)
    for number in range(random.randint(0, 2)):
        _dataset(shelf, random, f"set{number}")
    for age in random.choices((RECENT, OLD), k=random.randint(0, 3)):
        shelf.put(f"features/{_hex(random, 16)}.npz", b"f" * 10, age, dead=age == OLD)
        shelf.put(f"leases/run-{_hex(random, 16)}/{_hex(random, 12)}.json", b'{"running": false}', age, dead=True)
    for place, keys in shelf.bases.items():
        if place not in shelf.used and not shelf.open_ended:
            shelf.dead.update(keys)
    return shelf


def _foreign(shelf: Shelf, random: Random) -> None:
    shelf.put("GENERATION", b"g" * 32, OLD)
    for key in (
        "crop/ab-cd/report.html",
        "snapshots/x.json",
        "notes.txt",
        "backups/train/x/index.json",
        "models/notes",
    ):
        if random.random() < 0.5:
            shelf.put(key, b"not ours", OLD)
    if random.random() < 0.5:
        shelf.tree("base-models/stable-diffusion-v1-5", OLD)
    if random.random() < 0.5:
        shelf.put("datasets/raw/a.jpg", b"jpg", OLD)


def _base(shelf: Shelf, random: Random) -> str:
    """A base model that train put there, a new one or one that others use too; its place."""
    if shelf.bases and random.random() < 0.5:
        return random.choice(sorted(shelf.bases))
    place = f"base-models/{_hex(random, 16)}"
    before = set(shelf.objects)
    shelf.tree(place, OLD, made_by={"step": "train"})
    shelf.bases[place] = sorted(set(shelf.objects) - before)
    return place


def _run(
    shelf: Shelf, random: Random, age: float, base: str, finished: bool, chosen: set[int], stays: str
) -> tuple[str, dict[int, str]]:
    """A training run; its fingerprint and the places of its checkpoints by step.

    Args:
        stays: "all", "listed" (index and its checkpoints), "committed", "chosen" or "none".
    """
    run = _hex(random, 16)
    place, attempt, other = f"train/{run}", _hex(random, 8), _hex(random, 8)
    steps = {step: f"{place}/{attempt}/step-{step:06d}" for step in (100, 200, 300)}
    all_stays, some = stays == "all", stays != "none"
    for step, tree in steps.items():
        lives = all_stays or stays in ("listed", "committed") or (stays == "chosen" and step in chosen)
        shelf.tree(tree, age, dead=not lives)
    for lost, whole in ((100, True), (200, False)):
        if random.random() < 0.5:
            lives = all_stays or (stays == "committed" and whole)
            shelf.tree(f"{place}/{other}/step-{lost:06d}", age, dead=not lives, whole=whole)
    for whole in (True, False):
        if random.random() < 0.5:
            lives = all_stays or (stays == "committed" and whole)
            shelf.tree(f"{place}/state/{attempt}-{200 + whole:06d}", age, dead=not lives, files=1, whole=whole)
    if random.random() < 0.5:
        lives = stays in ("all", "listed", "committed")
        shelf.put(f"{place}/evaluating/abc/step-000100/pin-hole.npz", b"cache", age, dead=not lives)
    shelf.put(f"{place}/reports/train.html", b"<html>", age, dead=not some)
    if random.random() < 0.3:
        shelf.put(f"{place}/by-hand/notes.txt", b"mine", age)
    if finished:
        refs = [CheckpointRef(0, None, []), *(CheckpointRef(s, f"{URI}/{tree}", ["unet"]) for s, tree in steps.items())]
        index = CheckpointIndex(
            run, f"{URI}/{base}", "tiny", "b" * 64, "c" * 64, 64, {"short": "a short"},
            [dataclasses.asdict(ref) for ref in refs], {},
        )  # fmt: skip
        shelf.put(f"{place}/index.json", json.dumps(dataclasses.asdict(index)).encode(), age, dead=not some)
    return run, steps


def _model(shelf: Shelf, random: Random, name: str) -> None:
    """A model whose versions were made from one run each, or two of the same run."""
    count = random.randint(1, 5)
    latest = random.randrange(count)
    kept = {latest, *range(max(0, count - POLICY.keep), count)}
    version, made = "", 0
    while made < count:
        shared = random.choice((1, 1, 2)) if made + 1 < count else 1
        numbers = range(made, made + shared)
        chosen = {number: random.choice((0, 100, 300)) for number in numbers}
        lives = {chosen[number] for number in numbers if number in kept}
        base = _base(shelf, random)
        if lives:
            shelf.used.add(base)
        run, steps = _run(shelf, random, RECENT, base, True, lives, "chosen" if lives else "none")
        for number in numbers:
            version = version_after([version], _hex(random, 12), NOW - 50 * DAY)
            step = chosen[number]
            record = ModelRecord(
                step=step, run=run, checkpoint_uri=f"{URI}/{steps[step]}" if step else None, base_uri=f"{URI}/{base}",
                base_model="tiny", base_revision="b" * 64, dataset="boards", dataset_revision="d" * 64,
                dataset_version="", crops_digest="c" * 64, resolution=64, prompts={}, metric="kd_lite0", mode="min",
                improved=True, metrics={}, base_metrics={}, generation={}, settings={}, dtype="fp16", licence="other",
                code_version="1",
            )  # fmt: skip
            made_by = {"step": "convert", "model": dataclasses.asdict(record)}
            shelf.tree(f"models/{name}/{version}", RECENT, dead=number not in kept, made_by=made_by, files=3)
            # Absent where a publisher was killed before it: then the newest is what readers would get.
            if number == latest and (latest != count - 1 or random.random() < 0.7):
                pointer = Latest(version, f"{name}-{version}.safetensors", "e" * 64)
                shelf.put(f"models/{name}/latest.json", pointer.to_json(), RECENT)
        made += shared
    for age in (FRESH, OLD):
        if random.random() < 0.5:
            half = version_after([version], _hex(random, 12), NOW - age)
            shelf.tree(f"models/{name}/{half}", age, dead=age == OLD, whole=False)


def _unpublished(shelf: Shelf, random: Random, kind: str) -> None:
    base = _base(shelf, random)
    age = random.choice((RECENT, OLD))
    if kind == "leased":
        # Nothing was written for long, but a step says that it is at it.
        run, _ = _run(shelf, random, OLD, base, random.random() < 0.5, set(), "all")
        shelf.put(f"leases/run-{run}/{_hex(random, 12)}.json", b'{"running": true}', 60.0)
        shelf.open_ended = True
    elif kind == "busy":
        # No lease: the youngest object says that it is under way.
        run, _ = _run(shelf, random, OLD, base, random.random() < 0.5, set(), "all")
        shelf.put(f"train/{run}/reports/evaluate.html", b"<html>", FRESH)
        shelf.open_ended = shelf.open_ended or f"train/{run}/index.json" not in shelf.objects
        shelf.used.add(base)
    elif kind == "finished":
        _run(shelf, random, age, base, True, set(), "listed" if age == RECENT else "none")
        if age == RECENT:
            shelf.used.add(base)
    else:
        _run(shelf, random, age, base, False, set(), "committed" if age == RECENT else "none")
        shelf.open_ended = shelf.open_ended or age == RECENT


def _dataset(shelf: Shelf, random: Random, name: str) -> None:
    home, held = f"datasets/{name}", random.random() < 0.3
    shelf.put(f"{home}/DATASET.json", b'{"schema": 1}', OLD)
    contents = {digest_of([name, number]): f"image {number}".encode() for number in range(4)}
    for number, (sha256, data) in enumerate(contents.items()):
        loose, age = number == 3, random.choice((FRESH, OLD))
        shelf.put(f"{home}/objects/{sha256[:2]}/{sha256[2:]}", data, age, dead=loose and age == OLD and not held)
    for names in (list(contents)[:2], list(contents)[1:3]):
        manifest = Manifest.of([Entry(f"{sha[:4]}.png", len(contents[sha]), sha) for sha in names], {})
        key = f"{home}/versions/{version_after([], manifest.digest, NOW - OLD)}.json"
        shelf.put(key, manifest.to_json(), OLD)
    if held:
        shelf.put(f"leases/dataset-{name}/{_hex(random, 12)}.json", b'{"running": true}', 60.0)


def _hex(random: Random, digits: int) -> str:
    return f"{random.getrandbits(4 * digits):0{digits}x}"
