"""The compiled pipeline of both shipped profiles, as committed: a change in what a cluster gets shows in review.

``python -m tests.pipelines.golden`` (or ``make golden``) writes them anew.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from kfp import compiler

from pipelines.cluster import profile
from pipelines.config import load
from pipelines.pipeline import make_pipeline

FOLDER = Path(__file__).parent / "compiled"
SHIPPED = ("kind", "gpu")
#: The gpu profile holds no images: it is compiled with these.
REFERENCES = FOLDER / "images.yaml"


def compile_into(folder: Path, name: str, settings: Sequence[str] = ()) -> Path:
    """Compile the quickstart, with `settings` changed, with the shipped profile `name` to ``folder/<name>.yaml``.

    Without the comments at its head: kfp writes settings there in another order each time.
    """
    chosen = profile.load(name, REFERENCES if name == "gpu" else None)
    path = folder / f"{name}.yaml"
    compiler.Compiler().compile(make_pipeline(load("quickstart", settings), profile=chosen), str(path))
    lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
    path.write_text("".join(line for line in lines if not line.startswith("#")), encoding="utf-8")
    return path


if __name__ == "__main__":
    for name in SHIPPED:
        print(f"wrote {compile_into(FOLDER, name)}")
