"""snapshot: digests of what a run depends on, so that unchanged work can be skipped.

The one step that always runs. It reads the data set (a folder, an ``s3://`` prefix, an archive or a version), the base
model, the version published last and the store's generation, and gives each as a short string; all
later steps are cached on the ones they use. Not covered: what the files mean.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from components.base_model.revision import base_revision
from components.crop.config import CropConfig
from components.errors import Unavailable, UserError
from components.models import catalog
from components.progress import log
from components.revision import dataset_revision
from components.runtime import Result
from components.snapshot.config import SnapshotConfig
from components.snapshot.lineage import next_base, predecessor
from components.snapshot.news import Seen, decide
from components.snapshot.published import Base
from components.storage import Store

_MODEL_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,62}")


def snapshot(
    config: SnapshotConfig, crop_settings: CropConfig, dataset: str, base_model: str, model_name: str, store: str
) -> Result:
    """Look at the data set, the base model and the store, and say which revision each is at.

    Args:
        config: the step's settings.
        crop_settings: the crop step's, for what `RetrainIf` counts.
        dataset: local folder or ``s3://bucket/prefix`` with the annotated images, or an archive of them.
        base_model: local folder in diffusers layout, an ``s3://`` tree published with a manifest, a single-file
            checkpoint in either, or ``hf://owner/name@revision``.
        model_name: name that the finished model is published under: ``[a-z0-9][a-z0-9._-]*``, 63 at most.
        store: ``s3://`` prefix of the object store that runs and models are kept in.

    Returns:
        Output parameters, all strings: ``dataset_revision`` and ``base_revision`` (sha256 digests;
        of a repository of the hub the commit), ``base`` (where the base to train from is: `base_model`, or with
        ``warm_start`` the model published last, see `components.snapshot.lineage`),
        ``published_revision`` (the version published last under `model_name`, empty where there is
        none), ``generation`` (changes when the store is wiped or cleaned), ``news`` (a sentence). Where the data
        set has changed too little (`components.snapshot.news`), ``dataset_revision`` is the one that the published
        model was trained on, by which the later steps are answered from the cache.

    Raises:
        UserError: a path or prefix that is missing, empty or unreadable, a folder that is no diffusers
            model, a wrong name.
        Unavailable: the object store, or the hub, does not answer.
    """
    found: dict[str, str] = {}
    problems: list[str] = []
    looks: dict[str, Callable[[], str]] = {
        "dataset_revision": lambda: dataset_revision(dataset, config.workers),
        "base_revision": lambda: base_revision(base_model, config.workers),
        "published_revision": lambda: published_revision(store, model_name),
        "generation": lambda: Store.from_env(store).generation(),
    }
    for name, look in looks.items():
        try:
            found[name] = look()
        except UserError as error:
            problems += (problem for problem in error.problems if problem not in problems)
        except Unavailable:
            # What the user can mend comes first.
            if not problems:
                raise
    if problems:
        raise UserError(*problems)
    home, base = Store.from_env(store), Base(base_model, found["base_revision"])
    published = (home, model_name, found["published_revision"])
    seen = Seen(
        dataset,
        found["dataset_revision"],
        # A base that follows from the model published last makes that model no other one.
        predecessor(*published, base).revision if config.warm_start else base.revision,
        found["generation"],
        model_name,
        found["published_revision"],
    )
    verdict = decide(config.retrain_if, crop_settings, seen, home)
    if config.warm_start:
        base = next_base(*published, verdict.revision, base, config.workers)
    given_out = {"dataset_revision": verdict.revision, "base": base.place, "base_revision": base.revision}
    return Result(parameters={**found, **given_out, "news": verdict.news})


def published_revision(store: str, model_name: str) -> str:
    """The version in ``models/<model_name>/latest.json``, or an empty string where none is published."""
    if not _MODEL_NAME.fullmatch(model_name):
        raise UserError(
            f"model_name: {model_name!r} cannot name a published model; use 1 to 63 lower-case letters, "
            "digits, '.', '_' or '-', a letter or digit first"
        )
    found = catalog.latest(Store.from_env(store).at("models", model_name))
    if found is None:
        log(f"no model published as {model_name} yet")
        return ""
    log(f"published last as {model_name}: {found.version}")
    return found.version
