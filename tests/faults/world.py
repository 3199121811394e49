"""The world of the runs: a store that can be killed, a line to it, a tiny model, a data set."""

from __future__ import annotations

import io
import os
import threading
import time
from pathlib import Path

import numpy as np
from PIL import Image

from components.storage import Store
from pipelines.embedded_store import EmbeddedStore
from tests.faults.line import Line
from tests.faults.process import with_libraries
from tests.tiny_model import write_pipeline


class Server:
    """The embedded store, which can be killed and comes back."""

    def __init__(self, folder: Path) -> None:
        self._store = EmbeddedStore(folder)
        self._store.__enter__()
        self.environ, self.uri = dict(self._store.environ), self._store.uri
        self._back: threading.Thread | None = None

    @property
    def pid(self) -> int:
        """The process's id."""
        return self._store.pid

    def kill(self, seconds: float) -> None:
        """Kill the process, and start another one on the same folder and ports in a while."""
        os.kill(self._store.pid, 9)

        def again() -> None:
            self._store.__exit__(None, None, None)
            time.sleep(seconds)
            self._store.__enter__()

        self._back = threading.Thread(target=again)
        self._back.start()

    def settled(self) -> None:
        """Wait until it is up again."""
        if self._back is not None:
            self._back.join()
            self._back = None
        if self._store.environ != self.environ:
            raise RuntimeError("the store came back on another port")

    def close(self) -> None:
        self.settled()
        self._store.__exit__(None, None, None)


class World:
    """Everything that a run needs, in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.server = Server(folder / "store")
        self.line = Line(self.server.environ["STORE_ENDPOINT_URL"])
        #: As it is, past the line.
        self.store = Store.from_env(f"{self.server.uri}/faults", self.server.environ)
        write_boards(self.store.at("datasets/raw"))
        with_libraries(write_pipeline, folder / "base", 0, (8, 16, 16, 16))
        #: What the pipeline is given.
        self.values = {
            "dataset": self.store.uri_of("datasets/raw"),
            "base_model": str(folder / "base"),
            "model_name": "boards",
            "store": self.store.uri,
        }

    def saved(self) -> dict[str, bytes]:
        """The store's objects, without leases."""
        keys = [info.key for info in self.store.list() if not info.key.startswith("leases/")]
        return {key: self.store.get_bytes(key) or b"" for key in keys}

    def restore(self, contents: dict[str, bytes]) -> None:
        """Have these objects in the store and no others."""
        self.store.delete_tree()
        for key, data in contents.items():
            self.store.put_bytes(key, data)

    def undisturbed(self) -> None:
        """Wait until the store is up, and have the line hand on what comes."""
        self.line.disturb(None)
        self.server.settled()

    def close(self) -> None:
        self.line.close()
        self.server.close()


def write_boards(place: Store, images: int = 16, side: int = 96, boxes: int = 1) -> None:
    """A data set of noise with as many boxes on each image, in rows of 24 pixels, and a table of them."""
    random, per_row = np.random.default_rng(0), side // 24
    rows = ["image,class,x0,y0,x1,y1"]
    for number in range(images):
        data = io.BytesIO()
        Image.fromarray(random.integers(0, 256, (side, side, 3), dtype=np.uint8)).save(data, "png")
        place.put_bytes(f"{number:05d}.png", data.getvalue())
        corners = [(24 * (box % per_row) + 4, 24 * (box // per_row) + 4) for box in range(boxes)]
        rows += [f"{number:05d}.png,pin-hole,{x},{y},{x + 16},{y + 16}" for x, y in corners]
    place.put_bytes("annotations.csv", "\n".join(rows).encode())
