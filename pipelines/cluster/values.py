"""Kubernetes' values as types of settings: names, labels, quantities, durations, image references.

Each is checked by Kubernetes' own rules, so that a mistake is found before anything is submitted.
Not covered: whether what is named exists on the cluster.
"""

from __future__ import annotations

import re
from typing import Annotated, Any

from pydantic import AfterValidator, BeforeValidator, Field

_UNITS = {"": 1, "K": 10**3, "M": 10**6, "G": 10**9, "T": 10**12, "Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}

_SUBDOMAIN = r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*"
_LABEL = r"[A-Za-z0-9]([-A-Za-z0-9_.]{0,61}[A-Za-z0-9])?"
_PATH = r"[a-z0-9]+((\.|_{1,2}|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<name>[A-Za-z0-9][-A-Za-z0-9.]*(:\d+)?(/{_PATH})+|{_PATH})"
    r"(:(?P<tag>\w[\w.-]{0,127}))?(@(?P<digest>sha256:[0-9a-f]{64}))?",
    re.ASCII,
)


def _name(value: str) -> str:
    if len(value) > 253 or not re.fullmatch(_SUBDOMAIN, value):
        raise ValueError("is no name in Kubernetes; write lower-case letters, digits, dashes and dots")
    return value


def _label_key(value: str) -> str:
    prefix, _, name = value.rpartition("/")
    if not re.fullmatch(_LABEL, name) or ("/" in value and not re.fullmatch(_SUBDOMAIN, prefix)):
        raise ValueError("is no label key; write name or domain/name, the name of up to 63 letters, digits, - _ .")
    return value


def _label_value(value: str) -> str:
    if value and not re.fullmatch(_LABEL, value):
        raise ValueError("is no label value; write up to 63 letters, digits, - _ .")
    return value


def _resource(value: str) -> str:
    _label_key(value)
    if "/" not in value:
        raise ValueError("is no accelerator; name the resource that its device plugin offers, such as nvidia.com/gpu")
    return value


def _text(value: Any) -> Any:
    """A number as it stands in YAML, as text."""
    return str(value) if isinstance(value, (int, float)) and not isinstance(value, bool) else value


def _cpu(value: str) -> str:
    if not re.fullmatch(r"\d+m|\d+(\.\d+)?", value, re.ASCII) or float(value.rstrip("m")) == 0:
        raise ValueError("is no amount of CPU; write cores (2, 0.5) or thousandths (500m)")
    return value


def _size(value: str) -> str:
    match = re.fullmatch(r"([1-9]\d*)([KMGT]i?)?", value, re.ASCII)
    if not match:
        raise ValueError("is no size; write a whole number with Ki, Mi, Gi or Ti, for example 4Gi")
    return value


def size_in_bytes(value: str) -> int:
    """``4Gi`` → 4294967296."""
    number = re.match(r"\d+", value)
    assert number is not None
    return int(number[0]) * _UNITS[value[number.end() :]]


def cores(value: str) -> float:
    """``500m`` → 0.5."""
    return float(value.removesuffix("m")) / (1000 if value.endswith("m") else 1)


def _duration(value: Any) -> Any:
    if isinstance(value, str):
        match = re.fullmatch(r"([1-9]\d*)([smhd])", value, re.ASCII)
        if not match:
            raise ValueError("is no duration; write a whole number with s, m, h or d, for example 90m")
        return int(match[1]) * _SECONDS[match[2]]
    if isinstance(value, bool):
        raise ValueError("is no duration; write a whole number with s, m, h or d, for example 90m")
    return value


def image_parts(reference: str) -> tuple[str, str | None, str | None]:
    """Name, tag and digest of an image reference.

    Raises:
        ValueError: when it is none.
    """
    match = _REFERENCE.fullmatch(reference)
    if not match:
        raise ValueError("is no image reference; write registry/name@sha256:<64 hexadecimal digits>")
    return match["name"], match["tag"], match["digest"]


Name = Annotated[str, AfterValidator(_name)]
LabelKey = Annotated[str, AfterValidator(_label_key)]
LabelValue = Annotated[str, AfterValidator(_label_value)]
Resource = Annotated[str, AfterValidator(_resource)]
Cpu = Annotated[str, BeforeValidator(_text), AfterValidator(_cpu)]
Size = Annotated[str, AfterValidator(_size)]
#: Whole seconds, or written with a unit: 90m.
Duration = Annotated[int, BeforeValidator(_duration), Field(gt=0, le=2**31 - 1)]
