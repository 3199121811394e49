"""Which base the next model is trained from: the user's, or with ``warm_start`` the model published last.

A model that is published would, as the next base, be a reason to train again, and so for ever. Hence only a data set
that is news is trained on from the published model; otherwise the base is the one that this model was itself made
from, and every later step is answered from its cache. Not covered: what news is (`components.snapshot.news`).
"""

from __future__ import annotations

from components.progress import log
from components.snapshot.published import Base, as_base, base_of, trained_on
from components.storage import Store


def predecessor(store: Store, model_name: str, version: str, given: Base) -> Base:
    """The base of the model published last; `given`, the user's, where there is no model or no record."""
    return (base_of(store, model_name, version) if version else None) or given


def next_base(store: Store, model_name: str, version: str, dataset_revision: str, given: Base, workers: int) -> Base:
    """The base to train from, with ``warm_start``.

    Args:
        version: published last under `model_name`; empty where there is none.
        dataset_revision: as it is given out to the later steps.
        given: the user's base, which the first model is trained from.
    """
    if not version:
        log("warm start: no model published yet; training starts from base_model")
        return given
    before = trained_on(store, model_name, version)
    if before is not None and before.asked_revision == dataset_revision:
        log(f"warm start: no new data since model {version}; the base stays the one that it was trained from")
        return predecessor(store, model_name, version, given)
    found = as_base(store, model_name, version, workers)
    log(f"warm start: new data since model {version}; training goes on from it")
    return found
