"""Recurring runs: one a name, replaced so that there are never two that are enabled.

A schedule's new form is created disabled, what was there is disabled, the new one is enabled, and only then is the old
one deleted. Ended at any point, that leaves at most one enabled, and the same command again ends with exactly one. Not
covered: two who replace the same schedule at the same moment.

A name is no schedule's alone: KFP lets anybody in the namespace give another pipeline's schedule the same. Those of
other pipelines are left as they are; where only they have it, that is said.

Deleting leaves runs alone that the old schedule started: KFP would end them with it by default.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import kfp_server_api

from components.errors import UserError
from pipelines.remote import kubectl
from pipelines.remote.server import Missing, Server
from pipelines.remote.versions import Version, named, pipeline

#: KFP's own default, where the config map `pipeline-install-config` says nothing else.
_TIMEZONE = "UTC"
_PAGE = 100


@dataclass(frozen=True)
class Wanted:
    """A schedule as it should be."""

    name: str
    cron: str  #: six fields
    experiment_id: str
    version: Version
    parameters: Mapping[str, Any]
    account: str


def find(server: Server, name: str, pipeline_id: str | None) -> list[Any]:
    """The recurring runs of a name and pipeline, the oldest first; more than one where a replacement did not end.

    Raises:
        UserError: where only other pipelines have schedules of that name.
    """
    answer = server.recurring_runs.recurring_run_service_list_recurring_runs(
        namespace=server.namespace or "", page_size=_PAGE, filter=named(name)
    )
    there = answer.recurring_runs or []
    ours = [one for one in there if pipeline_id is not None and _pipeline_of(one) == pipeline_id]
    if there and not ours:
        whose = _pipeline_of(there[0]) or "one without a name"
        raise UserError(
            f"{name}: is the schedule of another pipeline here ({whose}), and left as it is; `schedule create "
            "--schedule NAME` makes one of another name"
        )
    return sorted(ours, key=lambda found: (found.created_at, found.recurring_run_id))


def existing(server: Server, name: str) -> list[Any]:
    """As `find`, of this project's pipeline.

    Raises:
        UserError: where there is none.
    """
    found = find(server, name, pipeline(server))
    if not found:
        raise UserError(f"{name}: no schedule of this name; `schedule create` makes one, `schedule show` lists them")
    return found


def every(server: Server, experiment_id: str) -> list[Any]:
    """All recurring runs of an experiment, the oldest first."""
    answer = server.recurring_runs.recurring_run_service_list_recurring_runs(
        namespace=server.namespace or "", experiment_id=experiment_id, page_size=_PAGE, sort_by="created_at"
    )
    return list(answer.recurring_runs or [])


def put(server: Server, wanted: Wanted) -> tuple[Any, bool]:
    """Make the schedule be as wanted; it, and whether anything was changed."""
    before = find(server, wanted.name, wanted.version.pipeline_id)
    if len(before) == 1 and enabled(before[0]) and _same(before[0], wanted):
        return before[0], False
    new = server.recurring_runs.recurring_run_service_create_recurring_run(
        kfp_server_api.V2beta1RecurringRun(
            display_name=wanted.name,
            experiment_id=wanted.experiment_id,
            namespace=server.namespace,
            pipeline_version_reference=wanted.version.reference,
            runtime_config=kfp_server_api.V2beta1RuntimeConfig(parameters=dict(wanted.parameters)),
            service_account=wanted.account,
            # A run that takes longer than the interval is not doubled, and what was missed is not made up for.
            max_concurrency="1",
            no_catchup=True,
            mode=kfp_server_api.RecurringRunMode.DISABLE,
            trigger=kfp_server_api.V2beta1Trigger(cron_schedule=kfp_server_api.V2beta1CronSchedule(cron=wanted.cron)),
        )
    )
    _keep_only(server, new)
    return new, True


def pause(server: Server, name: str) -> None:
    """Disable every schedule of the name."""
    for one in existing(server, name):
        server.recurring_runs.recurring_run_service_disable_recurring_run(one.recurring_run_id)


def resume(server: Server, name: str) -> Any:
    """Enable the newest schedule of the name, and delete others that a replacement left."""
    newest = existing(server, name)[-1]
    _keep_only(server, newest)
    return newest


def delete(server: Server, name: str) -> None:
    """Delete every schedule of the name. Runs that they started go on."""
    for one in existing(server, name):
        _delete(server, one)


def enabled(found: Any) -> bool:
    """Whether a schedule starts runs."""
    return bool(found.status == "ENABLED" if found.status else found.mode == "ENABLE")


def timezone(server: Server) -> str:
    """Whose times a schedule's are, in words: a setting of KFP's controller, which its API does not tell."""
    access = server.access
    if access.forward is not None:
        found = kubectl.get(access.context, "configmap", "pipeline-install-config", "--namespace", access.forward)
        if found is not None and (zone := found.get("data", {}).get("cronScheduleTimezone")):
            return f"{zone}, the time zone of KFP's controller"
    return (
        f"{_TIMEZONE}, unless the operator gave KFP's controller another time zone (cronScheduleTimezone in the config "
        "map pipeline-install-config)"
    )


def _keep_only(server: Server, kept: Any) -> None:
    """Leave one schedule of its name, enabled: the others are disabled before it is enabled, and deleted after that."""
    there = find(server, kept.display_name, _pipeline_of(kept))
    others = [one for one in there if one.recurring_run_id != kept.recurring_run_id]
    for one in others:
        if enabled(one):
            server.recurring_runs.recurring_run_service_disable_recurring_run(one.recurring_run_id)
    server.recurring_runs.recurring_run_service_enable_recurring_run(kept.recurring_run_id)
    for one in others:
        _delete(server, one)


def _pipeline_of(found: Any) -> str | None:
    reference = found.pipeline_version_reference
    return reference.pipeline_id if reference is not None else None


def _delete(server: Server, found: Any) -> None:
    try:
        server.recurring_runs.recurring_run_service_delete_recurring_run(
            found.recurring_run_id, propagation_policy="ORPHAN"
        )
    except Missing:
        return


def _same(found: Any, wanted: Wanted) -> bool:
    """Whether a schedule on the server is as wanted already. Numbers come back as floats, which compare equal."""
    reference, trigger, config = found.pipeline_version_reference, found.trigger, found.runtime_config
    return bool(
        reference is not None
        and reference.pipeline_version_id == wanted.version.version_id
        and found.experiment_id == wanted.experiment_id
        and trigger is not None
        and trigger.cron_schedule is not None
        and trigger.cron_schedule.cron == wanted.cron
        and config is not None
        and config.parameters == dict(wanted.parameters)
        and found.service_account == wanted.account
        and str(found.max_concurrency) == "1"
        and found.no_catchup
    )
