"""Reaching Kubeflow Pipelines: who is asked, as whom, and every way in which it goes wrong."""

from __future__ import annotations

import json
import shutil
import socket
import ssl
import subprocess
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest

from components.errors import Unavailable, UserError
from pipelines.__main__ import main
from pipelines.remote import access, kubectl
from pipelines.remote.access import Access
from pipelines.remote.server import Server, connected
from tests.pipelines.remote import kfp_server
from tests.pipelines.remote.kfp_server import KfpServer


def given(*words: str) -> Access:
    return access.from_flags(access.flags().parse_args(words), {})


def problem(capsys: pytest.CaptureFixture[str], *words: str) -> tuple[int, str]:
    """Exit status and message of a command."""
    status = main(["status", *words])
    return status, capsys.readouterr().err


def test_flags_go_before_variables_and_these_before_kfps_own_config(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "token").write_text("secret\n")
    kept = {"namespace": "kept", "client_authentication_cookie": "session=kept"}
    (tmp_path / "context.json").write_text(json.dumps(kept))
    environ = {"KF_PIPELINES_ENDPOINT": "kfp.example.com/pipeline/", "KFP_NAMESPACE": "team-a"}
    flags = access.flags()
    found = access.from_flags(flags.parse_args([]), environ)
    assert (found.host, found.namespace, found.cookie) == ("https://kfp.example.com/pipeline", "team-a", "session=kept")
    words = ["--host", "http://other:8888", "--namespace", "team-b", "--cookie", "session=given"]
    found = access.from_flags(flags.parse_args([*words, "--token-file", str(tmp_path / "token")]), environ)
    assert (found.host, found.namespace, found.cookie) == ("http://other:8888", "team-b", "session=given")
    assert access.from_flags(flags.parse_args([]), {"KFP_ENDPOINT": "http://a"}).namespace == "kept"
    hidden = repr(access.from_flags(flags.parse_args(["--token", "secret"]), environ))
    assert "secret" not in hidden
    assert "session" not in hidden


def test_all_that_is_wrong_with_the_flags_is_said_together(tmp_path: Path) -> None:
    with pytest.raises(UserError) as caught:
        given("--token-file", str(tmp_path / "none"), "--ca-file", "nowhere.pem", "--cookie", "session")
    text = str(caught.value)
    for part in ("where is Kubeflow Pipelines?", "--token-file", "--ca-file nowhere.pem", "--cookie: write NAME=VALUE"):
        assert part in text
    with pytest.raises(UserError, match="--host and --port-forward: give one"):
        given("--host", "http://a", "--port-forward")
    with pytest.raises(UserError, match="is no http:// or https:// address"):
        given("--host", "ftp://a")


def test_nobody_answers(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        status, said = problem(capsys, "--host", f"http://127.0.0.1:{free.getsockname()[1]}")
    assert status == 75
    assert "does not answer at http://127.0.0.1" in said
    assert "refused" in said


@pytest.mark.parametrize(
    ("written", "asked"),
    [
        ("localhost:8080", "http://localhost:8080"),
        ("127.0.0.1:8080/pipeline", "http://127.0.0.1:8080/pipeline"),
        ("[::1]:8080", "http://[::1]:8080"),
        ("localhost", "http://localhost"),
        ("localhost.example.com", "https://localhost.example.com"),
        ("kfp:8888", "https://kfp:8888"),
        ("https://localhost:8080", "https://localhost:8080"),
    ],
)
def test_an_address_without_a_scheme_is_taken_for_what_it_most_likely_is(written: str, asked: str) -> None:
    """On kind KFP is at localhost, and nobody has a certificate for that."""
    assert given("--host", written).host == asked


def test_where_nobody_answers_the_scheme_that_was_taken_is_said(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        status, said = problem(capsys, "--host", f"127.0.0.1:{port}")
        assert status == 75
        assert f"at http://127.0.0.1:{port} (" in said
        assert "; http:// was tried, as none was written: write https:// where that is meant" in said
        # A name of this machine that is not known as one.
        monkeypatch.setattr(socket, "getaddrinfo", lambda _, *rest: _addresses("127.0.0.1", *rest))
        _, said = problem(capsys, "--host", f"kfp.example.com:{port}")
        assert "; https:// was tried, as none was written: write http:// where that is meant" in said
        _, said = problem(capsys, "--host", f"https://kfp.example.com:{port}")
        assert "was tried" not in said


_addresses = socket.getaddrinfo


def test_a_token_is_sent_and_read_anew_for_each_request(kfp: KfpServer, tmp_path: Path) -> None:
    kfp.token = "first"
    path = tmp_path / "token"
    path.write_text("first\n")
    with connected(given("--host", kfp.url, "--token-file", str(path))) as server:
        kfp.token = "second"
        with pytest.raises(UserError, match="has expired"):
            server.check()
        path.write_text("second")
        server.check()


@pytest.mark.parametrize(
    ("fault", "expected"),
    [
        (kfp_server.answers(401), "asks for a login (status 401); give --token-file"),
        (kfp_server.answers(302, Location="https://idp.example.com/login"), "asks for a login (it leads to a login)"),
        (kfp_server.answers(200, "<html>", "text/html; charset=utf-8"), "asks for a login (a web page came"),
        (kfp_server.answers(403, '{"message": "User is not authorized"}'), "may not do this (status 403): User is not"),
        (kfp_server.answers(404, "404 page not found", "text/plain"), "no Kubeflow Pipelines 2 answers there"),
        (kfp_server.answers(200, "hello", "text/plain"), "answers, but not as Kubeflow Pipelines does"),
    ],
)  # fmt: skip
def test_who_may_not_or_asks_the_wrong_one_is_told_so(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str], fault: kfp_server.Fault, expected: str
) -> None:
    kfp.faults.append(fault)
    status, said = problem(capsys, "--host", kfp.url)
    assert status == 2
    assert expected in said


def test_an_expired_cookie_is_called_that(kfp: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    kfp.faults.append(kfp_server.answers(200, "<!doctype html>", "text/html"))
    status, said = problem(capsys, "--host", kfp.url, "--cookie", "oauth2_proxy=old")
    assert status == 2
    assert "the token or cookie is not valid, or has expired" in said
    assert "old" not in said


def test_a_server_that_is_too_old_is_named_with_what_is_needed(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    kfp.tag = "2.5.0"
    status, said = problem(capsys, "--host", kfp.url)
    assert status == 2
    assert "is Kubeflow Pipelines 2.5.0; this pipeline needs 2.16 or newer" in said


def test_in_multi_user_mode_a_namespace_is_needed_and_given_on(
    kfp: KfpServer, capsys: pytest.CaptureFixture[str]
) -> None:
    kfp.multi_user = True
    status, said = problem(capsys, "--host", kfp.url)
    assert status == 2
    assert "--namespace NAME" in said
    status, said = problem(capsys, "--host", kfp.url, "--namespace", "team-a")
    assert "no run in it yet" in said


def test_a_quota_is_called_one_whatever_the_status(kfp: KfpServer, server: Server) -> None:
    said = 'workflows.argoproj.io "x" is forbidden: exceeded quota: defect-diffusion, requested: pods=1'
    kfp.faults.append(kfp_server.answers(500, json.dumps({"message": said})))
    with pytest.raises(UserError, match="a quota of the cluster is used up: .*exceeded quota: defect-diffusion"):
        server.check()


def test_a_failing_server_is_unavailable_and_pages_of_proxies_are_not_repeated(kfp: KfpServer, server: Server) -> None:
    kfp.faults.append(kfp_server.answers(502, "<html><h1>Bad Gateway</h1></html>", "text/html"))
    with pytest.raises(Unavailable, match=r"status 502\): Bad Gateway$"):
        server.check()


def test_tls_where_there_is_none(kfp: KfpServer, capsys: pytest.CaptureFixture[str]) -> None:
    status, said = problem(capsys, "--host", kfp.url.replace("http", "https"))
    assert status == 2
    assert "no TLS is spoken there" in said


def test_a_certificate_of_an_own_authority(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "ca.pem"
    subprocess.run(
        ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days", "2",
         "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1", "-keyout", key, "-out", certificate],
        check=True, capture_output=True,
    )  # fmt: skip

    class Healthy(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b'{"tag_name": "2.17.0"}')

        def log_message(self, *_: object) -> None:
            """Nothing."""

    web = HTTPServer(("127.0.0.1", 0), Healthy)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    web.socket = context.wrap_socket(web.socket, server_side=True)
    threading.Thread(target=web.serve_forever, daemon=True).start()
    host = f"https://127.0.0.1:{web.server_port}"
    status, said = problem(capsys, "--host", host)
    assert status == 2
    assert "its certificate is not trusted" in said
    assert "--ca-file" in said
    with connected(given("--host", host, "--ca-file", str(certificate))):
        pass
    web.shutdown()


def test_ports_are_forwarded_by_kubectl_and_closed_in_the_end(
    kfp: KfpServer, kubectl: Callable[[str], Path], tmp_path: Path
) -> None:
    put = kubectl(f'echo "$@" >{tmp_path}/asked\necho "Forwarding from 127.0.0.1:{kfp.port} -> 8888"\nexec sleep 600')
    found = given("--port-forward", "--installed-in", "pipelines", "--context", "mine")
    with connected(found) as server:
        server.check()
        forward = server._forward
        assert forward is not None
        assert forward.alive
    assert not forward.alive
    asked = put.parent.parent.joinpath("asked").read_text().strip()
    expected = "--context mine --namespace pipelines port-forward --address 127.0.0.1 svc/ml-pipeline :8888"
    assert asked == expected


def test_a_forward_that_ends_is_started_again_at_the_same_port(
    kfp: KfpServer, kubectl: Callable[[str], Path], tmp_path: Path
) -> None:
    said = f'echo "Forwarding from 127.0.0.1:{kfp.port} -> 8888"'
    kubectl(f'echo "$@" >>{tmp_path}/asked\n{said}\nexec sleep 600')
    clock = iter(range(100))
    with connected(given("--port-forward")) as server:
        assert server._forward is not None
        server._forward.__exit__()
        kfp.faults.append(kfp_server.drop)
        server.patient(server.check, 60, lambda: next(clock), lambda _: None)
        assert server._forward.alive
    assert (tmp_path / "asked").read_text().splitlines()[1].endswith(f"{kfp.port}:8888")


def test_a_forward_that_cannot_be_made_is_told_in_kubectls_words(
    kubectl: Callable[[str], Path], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    kubectl("echo 'Error from server (NotFound): services \"ml-pipeline\" not found' >&2; exit 1")
    status, said = problem(capsys, "--port-forward")
    assert status == 2
    assert 'kubectl could not reach the service: Error from server (NotFound): services "ml-pipeline"' in said
    monkeypatch.setenv("PATH", "/nowhere")
    status, said = problem(capsys, "--port-forward")
    assert status == 2
    assert "kubectl is not on the PATH" in said


def test_a_kubectl_that_says_nothing_is_not_waited_for(kubectl_silent: kubectl.PortForward) -> None:
    with pytest.raises(Unavailable, match="kubectl said nothing"):
        kubectl_silent.restart()
    assert not kubectl_silent.alive


@pytest.fixture
def kubectl_silent(kubectl: Callable[[str], Path]) -> kubectl.PortForward:
    kubectl("exec sleep 600")
    from pipelines.remote.kubectl import PortForward

    return PortForward("kubeflow", "ml-pipeline", 8888, None, patience=0.3)
