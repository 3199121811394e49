"""Kubeflow Pipelines' API as far as this project uses it: a server with state, that refuses what KFP would refuse.

Every request is held against KFP's v2beta1 paths, their query parameters and `kfp_server_api`'s models (a field or
value that they do not have is an error), and recorded. Faults are put in the way of single requests. It runs no pods: a
test says what becomes of a run.
"""

from __future__ import annotations

import dataclasses
import datetime
import email.parser
import email.policy
import itertools
import json
import re
import threading
import urllib.parse
from collections.abc import Callable, Mapping
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import kfp_server_api
import yaml

_LISTED = {"page_token", "page_size", "sort_by", "filter", "namespace"}
#: Method, path, query parameters, body's model. From KFP's OpenAPI description, v2beta1.
ROUTES: tuple[tuple[str, str, set[str], str | None], ...] = (
    ("GET", "/apis/v2beta1/healthz", set(), None),
    ("GET", "/apis/v2beta1/pipelines", _LISTED, None),
    ("POST", "/apis/v2beta1/pipelines", set(), "V2beta1Pipeline"),
    ("GET", "/apis/v2beta1/pipelines/{id}/versions", _LISTED - {"namespace"}, None),
    ("GET", "/apis/v2beta1/pipelines/{id}/versions/{version}", set(), None),
    ("POST", "/apis/v2beta1/pipelines/upload_version", {"name", "display_name", "pipelineid", "description"}, "file"),
    ("GET", "/apis/v2beta1/experiments", _LISTED, None),
    ("POST", "/apis/v2beta1/experiments", set(), "V2beta1Experiment"),
    ("GET", "/apis/v2beta1/runs", _LISTED | {"experiment_id"}, None),
    ("POST", "/apis/v2beta1/runs", {"experiment_id"}, "V2beta1Run"),
    ("GET", "/apis/v2beta1/runs/{id}", {"experiment_id"}, None),
    ("POST", "/apis/v2beta1/runs/{id}:terminate", {"experiment_id"}, None),
    ("GET", "/apis/v2beta1/recurringruns", _LISTED | {"experiment_id"}, None),
    ("POST", "/apis/v2beta1/recurringruns", set(), "V2beta1RecurringRun"),
    ("POST", "/apis/v2beta1/recurringruns/{id}:enable", set(), None),
    ("POST", "/apis/v2beta1/recurringruns/{id}:disable", set(), None),
    ("DELETE", "/apis/v2beta1/recurringruns/{id}", {"propagation_policy"}, None),
    ("GET", "/apis/v1alpha1/runs/{id}/nodes/{pod}/log", set(), None),
    ("GET", "/k8s/pod/logs", {"podname", "runid", "podnamespace"}, None),
)

Fault = Callable[["_Handler"], bool]
"""Called before a request is served; true where it answered in the server's place."""


@dataclasses.dataclass
class Refused(Exception):
    """A request that KFP would refuse."""

    status: int
    message: str


class KfpServer:
    """The server and its state; `url` while it is entered."""

    def __init__(self) -> None:
        self.tag, self.multi_user = "2.17.0", False
        self.pages = False  #: whether KFP's pages stand before its API, as on kind and behind Kubeflow's dashboard
        self.token: str | None = None  #: where given, every request must carry it
        self.pipelines: dict[str, dict[str, Any]] = {}
        self.versions: dict[str, dict[str, Any]] = {}
        self.experiments: dict[str, dict[str, Any]] = {}
        self.runs: dict[str, dict[str, Any]] = {}
        self.recurring: dict[str, dict[str, Any]] = {}
        self.logs: dict[str, str] = {}  #: pod → what it wrote
        self.scenes: list[Callable[[dict[str, Any]], None]] = []  #: what the next looks at a run find, one each
        self.requests: list[str] = []  #: ``METHOD path`` of those that were served
        self.faults: list[Fault] = []  #: of the next requests, one each; a fault stays while it returns None
        self.watchers: list[Callable[[], None]] = []  #: called after every request that was served
        self.lock = threading.Lock()
        self._number = itertools.count(1)
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), type("Handler", (_Handler,), {"kfp": self}))
        self._http.daemon_threads = True

    def __enter__(self) -> KfpServer:
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._http.shutdown()
        self._http.server_close()

    @property
    def port(self) -> int:
        return int(self._http.server_port)

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def enabled(self) -> list[str]:
        """Ids of the schedules that would start runs."""
        return [name for name, one in self.recurring.items() if one["mode"] == "ENABLE"]

    def serve(self, method: str, target: str, body: bytes, content_type: str) -> Any:
        """The answer to a request, as data; text for a log.

        Raises:
            Refused: for a request that KFP would refuse.
        """
        parts = urllib.parse.urlsplit(target)
        query = dict(urllib.parse.parse_qsl(parts.query, keep_blank_values=True))
        for number, (verb, path, known, model) in enumerate(ROUTES):
            pattern = re.sub(r"\\{(\w+)\\}", r"(?P<\1>[^/:]+)", re.escape(path))
            match = re.fullmatch(pattern, parts.path)
            if match is None or verb != method:
                continue
            if set(query) - known:
                raise Refused(400, f"unknown query parameters {sorted(set(query) - known)}")
            if model == "file":
                given: Any = _uploaded(body, content_type)
            else:
                given = json.loads(body) if body else None
                if (given is None) != (model is None):
                    raise Refused(400, f"a body: {given is not None}, asked for: {model}")
                if model is not None:
                    check_model(given, model)
            self.requests.append(f"{method} {parts.path}")
            return getattr(self, f"_route_{number}")(query, given, **match.groupdict())
        raise Refused(404, f"Not Found: {method} {parts.path}")

    # The order is that of ROUTES.

    def _route_0(self, query: dict, given: None) -> Any:
        if self.pages:
            return {"apiServerTagName": self.tag, "apiServerReady": True, "multi_user": self.multi_user}
        return {"tag_name": self.tag, "multi_user": self.multi_user, "commit_sha": "unknown"}

    def _route_1(self, query: dict, given: None) -> Any:
        return {"pipelines": self._listed(self.pipelines, query)}

    def _route_2(self, query: dict, given: dict) -> Any:
        if any(one["display_name"] == given["display_name"] for one in self.pipelines.values()):
            raise Refused(409, "Already exist error: the name is taken")
        return self._made(self.pipelines, "pipeline_id", given)

    def _route_3(self, query: dict, given: None, id: str) -> Any:
        of_it = {name: one for name, one in self.versions.items() if one["pipeline_id"] == id}
        return {"pipeline_versions": self._listed(of_it, query)}

    def _route_4(self, query: dict, given: None, id: str, version: str) -> Any:
        return self._there(self.versions, version)

    def _route_5(self, query: dict, given: str) -> Any:
        self._there(self.pipelines, query["pipelineid"])
        if any(one["name"] == query["name"] for one in self.versions.values()):
            raise Refused(409, "Already exist error: the version's name is taken")
        documents = list(yaml.safe_load_all(given))
        spec = {"pipeline_spec": documents[0], "platform_spec": documents[1]}
        made = {"name": query["name"], "display_name": query["name"], "pipeline_spec": spec}
        return self._made(self.versions, "pipeline_version_id", {**made, "pipeline_id": query["pipelineid"]})

    def _route_6(self, query: dict, given: None) -> Any:
        return {"experiments": self._listed(self.experiments, query)}

    def _route_7(self, query: dict, given: dict) -> Any:
        return self._made(self.experiments, "experiment_id", given)

    def _route_8(self, query: dict, given: None) -> Any:
        return {"runs": self._listed(self.runs, query)}

    def _route_9(self, query: dict, given: dict) -> Any:
        self._check_runs(given)
        never = "1970-01-01T00:00:00Z"
        return self._made(self.runs, "run_id", {**given, "state": "PENDING", "finished_at": never})

    def _route_10(self, query: dict, given: None, id: str) -> Any:
        run = self._there(self.runs, id)
        if self.scenes:
            self.scenes.pop(0)(run)
        return run

    def _route_11(self, query: dict, given: None, id: str) -> Any:
        self._there(self.runs, id)["state"] = "CANCELING"
        return {}

    def _route_12(self, query: dict, given: None) -> Any:
        return {"recurringRuns": self._listed(self.recurring, query)}

    def _route_13(self, query: dict, given: dict) -> Any:
        self._check_runs(given)
        if len(given["trigger"]["cron_schedule"]["cron"].split()) != 6:
            raise Refused(400, "the tests' schedules have six fields")
        if not 1 <= int(given["max_concurrency"]) <= 10:
            raise Refused(400, "Max concurrency of the recurring run is out of range")
        status = "ENABLED" if given["mode"] == "ENABLE" else "DISABLED"
        return self._made(self.recurring, "recurring_run_id", {**given, "status": status})

    def _route_14(self, query: dict, given: None, id: str) -> Any:
        self._there(self.recurring, id).update(mode="ENABLE", status="ENABLED")
        return {}

    def _route_15(self, query: dict, given: None, id: str) -> Any:
        self._there(self.recurring, id).update(mode="DISABLE", status="DISABLED")
        return {}

    def _route_16(self, query: dict, given: None, id: str) -> Any:
        self._there(self.recurring, id)
        if query.get("propagation_policy") not in (None, "FOREGROUND", "BACKGROUND", "ORPHAN"):
            raise Refused(400, "no such policy")
        del self.recurring[id]
        return {}

    def _route_17(self, query: dict, given: None, id: str, pod: str) -> Any:
        self._there(self.runs, id)
        if self.pages:
            return "<!doctype html>"
        # KFP has sent its status before it looks for the log.
        return self.logs.get(pod, '{"error_message":"Failed to read logs for run","error_details":"…"}')

    def _route_18(self, query: dict, given: None) -> Any:
        self._there(self.runs, query["runid"])
        if not self.pages or query["podname"] not in self.logs:
            raise Refused(500, "Could not get main container logs")
        return self.logs[query["podname"]]

    def _check_runs(self, given: Mapping[str, Any]) -> None:
        """What KFP checks of a run and of a schedule."""
        self._there(self.experiments, given["experiment_id"])
        reference = given["pipeline_version_reference"]
        spec = self._there(self.versions, reference["pipeline_version_id"])["pipeline_spec"]["pipeline_spec"]
        parameters = given["runtime_config"]["parameters"]
        known = set(spec["root"]["inputDefinitions"]["parameters"])
        if set(parameters) - known:
            raise Refused(400, f"Unknown pipeline parameters {sorted(set(parameters) - known)}")
        if len(json.dumps(parameters)) > 10_000:
            raise Refused(400, "The input parameter length exceed maximum size of 10000")

    def _made(self, among: dict[str, dict], key: str, given: dict) -> dict:
        number = next(self._number)
        name = f"{key.split('_')[0]}-{number:04d}"
        made = datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc) + datetime.timedelta(minutes=number)
        # Numbers pass through protobuf's Struct, where all are floating.
        among[name] = {**json.loads(json.dumps(given), parse_int=float), key: name, "created_at": made.isoformat()}
        if "max_concurrency" in given:
            among[name]["max_concurrency"] = given["max_concurrency"]
        return among[name]

    def _listed(self, among: Mapping[str, dict], query: Mapping[str, str]) -> list[dict]:
        if self.multi_user and "namespace" in query and not query["namespace"]:
            raise Refused(400, "Invalid input error: a namespace is needed in multi-user mode")
        found = list(among.values())
        # KFP unquotes it once more.
        wanted = json.loads(urllib.parse.unquote_plus(query.get("filter") or '{"predicates": []}'))
        for predicate in wanted["predicates"]:
            if set(predicate) != {"operation", "key", "stringValue"} or predicate["operation"] != "EQUALS":
                raise Refused(400, f"the tests know no filter like {predicate}")
            found = [one for one in found if one[predicate["key"]] == predicate["stringValue"]]
        if experiment := query.get("experiment_id"):
            found = [one for one in found if one["experiment_id"] == experiment]
        field, _, direction = (query.get("sort_by") or "created_at").partition(" ")
        found.sort(key=lambda one: one[field], reverse=direction == "desc")
        return found[: int(query.get("page_size") or 20)]

    @staticmethod
    def _there(among: dict[str, dict], name: str) -> dict:
        if name not in among:
            raise Refused(404, f"ResourceNotFoundError: {name} not found")
        return among[name]


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    # Head and body are two writes; with Nagle's algorithm the second waits for 40 ms.
    disable_nagle_algorithm = True
    kfp: KfpServer

    def do_GET(self) -> None:
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        with self.kfp.lock:
            if self.kfp.faults and self.kfp.faults.pop(0)(self):
                return
            if self.kfp.token is not None and self.headers.get("Authorization") != f"Bearer {self.kfp.token}":
                self.answer(401, json.dumps({"code": 16, "message": "Request header error: there is no user identity"}))
                return
            try:
                found = self.kfp.serve(self.command, self.path, body, self.headers.get("Content-Type", ""))
                status = 200
            except Refused as refused:
                found, status = {"code": 3, "message": refused.message, "error": refused.message}, refused.status
            except Exception as defect:
                # Of this server: not as a 500, which would be asked again.
                found, status = {"message": f"the tests' server: {defect!r}"}, 400
            for watch in self.kfp.watchers:
                watch()
        if isinstance(found, str):
            self.answer(status, found, "text/html" if found.startswith("<") else "text/plain")
        else:
            self.answer(status, json.dumps(found))

    do_POST = do_DELETE = do_GET

    def answer(self, status: int, text: str, content_type: str = "application/json", **headers: str) -> None:
        data = text.encode()
        self.send_response(status)
        for name, value in {"Content-Type": content_type, "Content-Length": str(len(data)), **headers}.items():
            self.send_header(name, value)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: object) -> None:
        """Nothing: what was asked for is in `KfpServer.requests`."""


def fine(_: _Handler) -> bool:
    """No fault."""
    return False


def drop(handler: _Handler) -> bool:
    """The connection breaks before the request is served."""
    handler.close_connection = True
    handler.connection.close()
    return True


def answers(status: int, text: str = "{}", content_type: str = "application/json", **headers: str) -> Fault:
    """Something in front of KFP, or KFP itself, answers like this."""

    def fault(handler: _Handler) -> bool:
        handler.answer(status, text, content_type, **headers)
        return True

    return fault


def dies_after(handler: _Handler) -> bool:
    """The request is served, and its answer is lost."""
    length = int(handler.headers.get("Content-Length") or 0)
    assert length == 0 or handler.command == "POST"
    handler.answer = lambda *_, **__: drop(handler)  # type: ignore[method-assign,assignment]
    return False


def check_model(data: Any, model: str) -> None:
    """Hold JSON against one of `kfp_server_api`'s models.

    Raises:
        Refused: for a field that the model does not have, or a value that its field does not take.
    """
    kind = re.fullmatch(r"list\[(.+)\]", model)
    if kind is not None:
        for one in data:
            check_model(one, kind[1])
        return
    found = getattr(kfp_server_api, model, None)
    if found is None:
        expected = {
            "str": str,
            "bool": bool,
            "int": int,
            "datetime": str,
            "object": (dict, list, str, int, float, bool),
        }
        if model in expected and not isinstance(data, expected[model]):  # type: ignore[arg-type]
            raise Refused(400, f"{data!r} is no {model}")
        return
    if not found.openapi_types:
        if data not in found.allowable_values:
            raise Refused(400, f"{data!r} is none of {found.allowable_values}")
        return
    known = {json_name: found.openapi_types[name] for name, json_name in found.attribute_map.items()}
    for name, value in data.items():
        if name not in known:
            raise Refused(400, f"{model} has no field {name!r}")
        check_model(value, known[name])


def _uploaded(body: bytes, content_type: str) -> str:
    """The one file in a multipart body, whose field KFP calls ``uploadfile``."""
    head = f"Content-Type: {content_type}\r\n\r\n".encode()
    message = email.parser.BytesParser(policy=email.policy.default).parsebytes(head + body)
    (part,) = message.iter_parts()
    if part.get_param("name", header="content-disposition") != "uploadfile":
        raise Refused(400, "Failed to read pipeline from file")
    data = part.get_payload(decode=True)
    assert isinstance(data, bytes)
    return data.decode()
