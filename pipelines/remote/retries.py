"""Whether a step that the profile gives retries is tried again: a setting of Argo's controller, not of the pipeline.

KFP's compiler gives a step's template how often and how long, and no policy. Argo fills in the one of the controller's
defaults for templates, and where these have none tries again what failed. As KFP 2.17 is installed it is ``OnError``,
which leaves a step that failed alone (``k8s/components/retries`` sets another). KFP's API does not tell it, so it is
read with kubectl, where that leads to the same cluster: with ``--port-forward`` or ``--context``.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import yaml

from components import images
from pipelines.cluster.profile import Profile
from pipelines.remote import kubectl
from pipelines.remote.access import Access

_CONFIG_MAP = "workflow-controller-configmap"
#: Where it is said what helps.
REMEDY = 'k8s/README.md, "Retries", says what to set'
_FAILS = "a step that fails (a crash, too little memory, a timeout, an eviction)"


@dataclass(frozen=True)
class Policy:
    """How Argo tries again what does not say so itself."""

    name: str  #: ``retryPolicy`` of templates that have none
    #: Of tries beyond the first for templates without retries; "" where these have none, "none": no limit.
    limit: str

    def tries(self, retries: int) -> str:
        """How often a step is tried that has so many retries."""
        if self.name == "Always":
            return f"{retries + 1} tries"
        if self.name == "OnFailure":
            return f"{retries + 1} tries, 1 where its pod is deleted"
        return f"1 try, up to {retries + 1} where its pod is deleted" if self.name == "OnError" else "1 try"

    @property
    def problem(self) -> str | None:
        """What is not as the profile has it, for people; None where all is."""
        if self.name in ("Always", "OnFailure") and self.limit not in ("", "0"):
            return (
                f"a step without retries, and the graph around each, is tried again, too (limit {self.limit}); {REMEDY}"
            )
        if self.name == "Always":
            return None
        if self.name == "OnFailure":
            return f"a step whose pod is deleted, with its node for example, is not tried again; {REMEDY}"
        return f"{_FAILS} is not tried again: retryPolicy is {self.name}; {REMEDY}"


#: Said where the policy cannot be read.
NOT_KNOWN = (
    "not known, kubectl may not look (--context, --port-forward); as KFP 2.17 is installed, "
    f"{_FAILS} is not tried again; {REMEDY}"
)


def look(access: Access) -> Policy | None:
    """The policy of the cluster; None where kubectl may not, or need not, lead there."""
    if access.forward is None and access.context is None:
        return None
    found = kubectl.get(access.context, "configmap", _CONFIG_MAP, "--namespace", access.installed_in)
    return None if found is None else of(found)


def of(config_map: dict[str, Any]) -> Policy | None:
    """The policy that a config map of Argo's controller sets; None where it is written in a way not known here."""
    data = config_map.get("data") or {}
    try:
        defaults = yaml.safe_load(data.get("workflowDefaults", "")) or {}
        strategy = ((defaults.get("spec") or {}).get("templateDefaults") or {}).get("retryStrategy") or {}
        # The older form, all of it below one key.
        if "config" in data or not isinstance(strategy, dict):
            return None
    except (yaml.YAMLError, AttributeError):
        return None
    # Argo's own default depends on whether there is an expression that decides.
    name = strategy.get("retryPolicy") or ("Always" if strategy.get("expression") else "OnFailure")
    return Policy(str(name), str(strategy.get("limit", "none")) if strategy else "")


def asked_for(profile: Profile) -> bool:
    """Whether the profile gives any step retries."""
    return any(getattr(profile.steps, step).retries for step in images.STEPS)
