"""The pipeline on this machine: host processes or containers, an embedded object store, no network.

Everything it needs lies in one folder, the workdir (``runs`` by default):

    runs/<model name>/        what a run made, for people: pages, pictures, the model file
    runs/.local/store/        the embedded object store's data and credentials
    runs/.local/artifacts/    what KFP keeps of each step, and its cache
    runs/.local/sample-*/     the drawn sample sets, where one was asked for
"""

from __future__ import annotations

import contextlib
import dataclasses
import hashlib
import os
import shutil
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from components import hub, images
from components.archives import SUFFIXES
from components.artifacts import EVENTS, SAMPLES, Decision, Metrics, PublishedModel, read_json, write_json
from components.base_model.places import SUFFIXES as SINGLE_FILES
from components.base_model.places import kind_of
from components.dataset import is_archive, is_remote
from components.errors import UserError
from components.memory import own_peak
from components.models import catalog
from components.models.record import record_of
from components.storage import Store
from components.versions.dvc_location import is_dvc
from pipelines import events
from pipelines.config import QUICKSTART_BASE, SAMPLE_DATASETS, PipelineConfig
from pipelines.embedded_store import EmbeddedStore

if TYPE_CHECKING:
    from pipelines.kfp_local import Runner, StepRun

QUICKSTART = Path(__file__).parent / "quickstart"

#: From the settings, the folder of artifacts and the variables that reach the embedded store to what runs the steps.
MakeRunner = Callable[[PipelineConfig, Path, Mapping[str, str]], "Runner"]


@dataclass(frozen=True)
class StepCost:
    """What one step took; `cached` where it did not run."""

    step: str
    seconds: float
    peak_bytes: int
    cached: bool


@dataclass(frozen=True)
class Outcome:
    """What a run made and what it cost."""

    folder: Path  #: of the results
    decision: Decision
    metrics: Metrics
    model: PublishedModel
    model_file: Path
    steps: list[StepCost]
    seconds: float
    peak_bytes: int  #: largest sum of one step's, the store's and this process's memory


def prepare(config: PipelineConfig, workdir: Path) -> PipelineConfig:
    """`config` with its names replaced by places: the sample set, the base model, absolute paths.

    Raises:
        UserError: for each place that is not there, all of them together.
    """
    problems = []
    dataset, base = config.dataset, config.base_model
    try:
        (workdir / ".local").mkdir(parents=True, exist_ok=True)
    except OSError as error:
        problems.append(f"--workdir {workdir}: cannot be written ({error.strerror}); name a folder that can")
    if base == QUICKSTART_BASE:
        base = str(QUICKSTART / "base")
    elif base.startswith(hub.SCHEME):
        try:
            hub.parse(base)
        except UserError as error:
            problems.append(f"base_model: {error}")
    elif not is_remote(base):
        base = os.path.abspath(Path(base).expanduser())  # noqa: PTH100 - keeps the user's own links
        if not (Path(base).is_file() if kind_of(base) == "file" else Path(base).is_dir()):
            problems.append(
                f"base_model: {base} is no folder; give a diffusers folder, a single file ({', '.join(SINGLE_FILES)}), "
                f"an s3:// place of either, hf://owner/name@revision or {QUICKSTART_BASE!r}"
            )
    if is_dvc(dataset) and config.store is None:
        problems.append(
            "dataset: DVC's remote is read with the STORE_* variables, and with the embedded store these are its own; "
            "give your own store, --set store=s3://bucket/prefix, where the remote is"
        )
    if dataset not in SAMPLE_DATASETS and not is_remote(dataset):
        dataset = os.path.abspath(Path(dataset).expanduser())  # noqa: PTH100
        # The plan unpacks an archive, and says what is wrong with it.
        if not Path(dataset).is_dir() and not is_archive(dataset):
            kind = "is a file, not a folder" if Path(dataset).exists() else "does not exist"
            problems.append(
                f"dataset: {dataset} {kind}; give the folder that holds the images and annotations, or an archive "
                f"of it ({', '.join(SUFFIXES)})"
            )
        elif Path(dataset).is_dir() and not any(Path(dataset).iterdir()):
            problems.append(f"dataset: {dataset} is empty; give the folder that holds the images and annotations")
    if problems:
        raise UserError(*problems)
    if dataset in SAMPLE_DATASETS:
        dataset = str(_sample_set(dataset, workdir))
    return config.model_copy(update={"dataset": dataset, "base_model": base})


def _sample_set(name: str, workdir: Path) -> Path:
    """A drawn data set; the folder's name carries a digest of the code that draws it, so that changed
    code draws anew."""
    from pipelines.quickstart.samples import write_samples

    digest = hashlib.sha256()
    for path in sorted(QUICKSTART.glob("*.py")):
        digest.update(path.read_bytes())
    folder = workdir.absolute() / ".local" / f"{name}-{digest.hexdigest()[:8]}"
    if not folder.is_dir():
        temporary = folder.with_name(f"{name}.tmp")
        shutil.rmtree(temporary, ignore_errors=True)
        write_samples(temporary, what=SAMPLE_DATASETS[name])
        temporary.rename(folder)
    return folder


def as_processes(config: PipelineConfig, root: Path, store: Mapping[str, str]) -> Runner:
    """Steps as processes of this machine."""
    from pipelines.host_processes import HostProcesses

    return HostProcesses(store)


def run(config: PipelineConfig, workdir: Path, make_runner: MakeRunner = as_processes) -> Outcome:
    """Run the prepared `config` in `workdir`; steps' output goes to standard output as it comes.

    Raises:
        kfp_local.StepFailed: when a step fails.
    """
    from pipelines import kfp_local
    from pipelines.pipeline import arguments, make_pipeline

    started = time.monotonic()
    local = workdir.absolute() / ".local"
    record = kfp_local.Log(order=images.STEPS, stream=sys.stdout)
    with _store(config, local) as (uri, environ, store_peak):
        config = config.model_copy(update={"store": uri})
        runner = make_runner(config, local / "artifacts", environ)
        outputs = kfp_local.run_pipeline(
            make_pipeline(config, image=runner.image),
            arguments(config),
            root=str(local / "artifacts"),
            cache=str(local / "cache"),
            runner=runner,
            record=record,
        )
        places = {name: Path(artifact.uri) for name, artifact in outputs.items()}  # type: ignore[attr-defined]
        model = read_json(places["model"] / "model.json", PublishedModel)
        folder = workdir / config.model_name
        model_file = _collect(places, model, folder, uri, environ)
        peak = store_peak() + own_peak() + max((r.peak_bytes for r in record.runs), default=0)
    costs = [_cost(step, record.runs) for step in images.STEPS]
    outcome = Outcome(
        folder=folder,
        decision=read_json(places["best"] / "best.json", Decision),
        metrics=read_json(places["metrics"] / "metrics.json", Metrics),
        model=model,
        model_file=model_file,
        steps=costs,
        seconds=time.monotonic() - started,
        peak_bytes=peak,
    )
    write_json(
        folder / "run.json",
        {
            "settings": config.model_dump(mode="json"),
            "steps": [dataclasses.asdict(cost) for cost in costs],
            "seconds": outcome.seconds,
            "peak_bytes": outcome.peak_bytes,
            "model": dataclasses.asdict(model),
        },
    )
    return outcome


def _cost(step: str, runs: Sequence[StepRun]) -> StepCost:
    """What a step took, its parts included: these may run at the same time, and their times are added."""
    own = [run for run in runs if images.PARTS.get(run.step, run.step) == step]
    return StepCost(step, sum(r.seconds for r in own), max((r.peak_bytes for r in own), default=0), not own)


@contextlib.contextmanager
def _store(config: PipelineConfig, local: Path) -> Iterator[tuple[str, Mapping[str, str], Callable[[], int]]]:
    """The store to use: its URI, the variables that reach it, and a function that gives its peak memory."""
    if config.store is not None:
        yield config.store, {}, lambda: 0
        return
    with EmbeddedStore(local / "store") as embedded:
        yield embedded.uri, embedded.environ, embedded.peak_bytes


def _collect(
    places: Mapping[str, Path], model: PublishedModel, folder: Path, store: str, environ: Mapping[str, str]
) -> Path:
    """Put what people want to see into `folder`, replacing what an earlier run left; the model's path."""
    environ = {**os.environ, **environ}
    folder.mkdir(parents=True, exist_ok=True)
    pages = {
        "crops.html": places["crops_report"],
        "training.html": places["training_report"],
        "report.html": places["evaluation_report"],
        "decision.html": places["decision"],
        "comparison.png": places["metrics"] / "comparison.png",
        "metrics.json": places["metrics"] / "metrics.json",
        "MODEL_CARD.md": places["model"] / "README.md",
    }
    for name, source in pages.items():
        shutil.copyfile(source, folder / name)
    generated = folder / "generated"
    shutil.rmtree(generated, ignore_errors=True)
    shutil.copytree(places["metrics"] / "images", generated)
    target = folder / model.file
    for old in folder.iterdir():
        if old.suffix in catalog.WEIGHTS and old != target:
            old.unlink()
    published = Store.from_env(model.uri, environ)
    if not target.exists() or target.stat().st_size != model.bytes:
        published.download_file(model.file, target)
    # A file holds weights only: without its config it can be loaded nowhere.
    beside = ("config/", "lora/", SAMPLES)
    for name in beside[:2]:
        shutil.rmtree(folder / name, ignore_errors=True)
    (folder / SAMPLES).unlink(missing_ok=True)
    manifest = published.get_tree(folder, only=lambda path: path.startswith(beside))
    shutil.rmtree(folder / EVENTS, ignore_errors=True)
    if record := record_of(manifest.made_by):
        events.fetch(Store.from_env(store, environ), record.run, folder / EVENTS)
    return target
