"""The crop step's page and findings, kept in the object store whatever becomes of the step.

KFP keeps nothing of a step that fails but its log, so what explains a refusal is stored before, and its address is
printed.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Iterator
from contextlib import contextmanager

from components.crop.annotations import Problem
from components.crop.config import CropConfig
from components.crop.page import refusal
from components.crop.quality import Quality
from components.crop.reading import Refused
from components.errors import Unavailable, UserError
from components.progress import log
from components.storage import Store, digest_of
from components.storage.uri import key_part


class Record:
    """``<store>/crop/<data set's revision>-<digest of the settings>/``, or nothing where there is no store."""

    def __init__(self, store: str, revision: str, config: CropConfig) -> None:
        settings = digest_of(config.model_dump(mode="json"))
        name = key_part(f"{revision[:16] or 'unknown'}-{settings[:8]}", "dataset_revision")
        self._store = Store.from_env(store).at("crop", name) if store else None

    def keep(self, page: str, quality: Quality) -> None:
        """Store the page (HTML) and ``quality.json``, and print the page's address."""
        if self._store is None:
            return
        findings = json.dumps(dataclasses.asdict(quality), ensure_ascii=False, allow_nan=False)
        self._store.put_bytes("quality.json", findings.encode(), "application/json")
        self._store.put_bytes("report.html", page.encode(), "text/html")
        log(f"report: {self._store.uri_of('report.html')}")

    @contextmanager
    def of_refusals(self, dataset: str) -> Iterator[None]:
        """Where the block ends in a UserError, keep a page that explains it."""
        try:
            yield
        except UserError as error:
            found: list[Problem] = error.found if isinstance(error, Refused) else []
            try:
                self.keep(refusal(dataset, error, found), Quality(problems=found))
            except (UserError, Unavailable) as trouble:
                log(f"the report is not in the store: {trouble}")
            raise
