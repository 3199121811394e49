"""How the store is reached: URIs, variables, and what a wrong one is answered with."""

from __future__ import annotations

import time
import traceback
from pathlib import Path

import pytest

from components.errors import Unavailable, UserError
from components.storage import Store, parse_uri
from components.storage.access import Access
from pipelines.embedded_store import EmbeddedStore

KEYS = {"STORE_ACCESS_KEY_ID": "key", "STORE_SECRET_ACCESS_KEY": "5up3r-s3cr3t"}
HERE = {"STORE_ENDPOINT_URL": "http://127.0.0.1:9", **KEYS}


@pytest.mark.parametrize(
    ("uri", "parts"),
    [
        ("s3://bucket", ("bucket", "")),
        ("s3://bucket/", ("bucket", "")),
        ("s3://bucket/a/b/", ("bucket", "a/b")),
        ("minio://mlpipeline/v2/x", ("mlpipeline", "v2/x")),
        ("gs://bucket/a b", ("bucket", "a b")),
    ],
)
def test_a_uri_is_a_bucket_and_a_prefix(uri: str, parts: tuple[str, str]) -> None:
    assert parse_uri(uri) == parts


@pytest.mark.parametrize(
    "uri",
    ["", "bucket/x", "/data", "http://x/y", "s3:/bucket", "s3://", "s3:///x", "s3://B/x", "s3://Bucket/x"]
    + ["s3://ab", "s3://1.2.3.4/x", "s3://a..b/x", "s3://bucket/../x", "s3://bucket/a//b", "s3://bucket/a\\b"],
)
def test_what_is_no_uri_is_refused_with_the_form_to_write(uri: str) -> None:
    with pytest.raises(UserError, match="://bucket/prefix"):
        parse_uri(uri)


def test_our_own_names_come_before_those_of_aws() -> None:
    aws = {"AWS_ENDPOINT_URL": "http://aws:1", "AWS_ACCESS_KEY_ID": "a", "AWS_SECRET_ACCESS_KEY": "b"}
    assert Store.from_env("s3://bucket", aws).connection.endpoint == "http://aws:1"
    s3 = {**aws, "AWS_ENDPOINT_URL_S3": "http://s3:2"}
    assert Store.from_env("s3://bucket", s3).connection.endpoint == "http://s3:2"
    assert Store.from_env("s3://bucket", {**s3, **HERE}).connection.endpoint == "http://127.0.0.1:9"
    assert Store.from_env("s3://bucket", KEYS).connection.endpoint == "https://s3.amazonaws.com"


@pytest.mark.parametrize(
    ("environ", "message"),
    [
        ({"STORE_ENDPOINT_URL": "seaweedfs:9000"}, r"STORE_ENDPOINT_URL: 'seaweedfs:9000' .*write http"),
        ({"STORE_ENDPOINT_URL": "http://"}, "STORE_ENDPOINT_URL"),
        ({"AWS_ENDPOINT_URL": "http://x:99999"}, "AWS_ENDPOINT_URL: "),
        ({"STORE_ENDPOINT_URL": "http://x:1/minio"}, "STORE_ENDPOINT_URL"),
        (
            {"STORE_ENDPOINT_URL": "http://store..svc:1"},
            "STORE_ENDPOINT_URL: .*http://store..svc:1.* is not the address",
        ),
        ({"STORE_ENDPOINT_URL": "http://sto re:1"}, "STORE_ENDPOINT_URL: "),
        ({"STORE_ENDPOINT_URL": f"http://{'a' * 300}:1"}, "STORE_ENDPOINT_URL: "),
        ({"STORE_REGION": "us east"}, "STORE_REGION: 'us east' is no region's name; write one such as us-east-1"),
        ({"AWS_REGION": "us/../x"}, "AWS_REGION: "),
        ({"STORE_ACCESS_KEY_ID": "k"}, "STORE_SECRET_ACCESS_KEY: not set while STORE_ACCESS_KEY_ID is"),
        ({"AWS_SECRET_ACCESS_KEY": "k"}, "AWS_ACCESS_KEY_ID: not set while AWS_SECRET_ACCESS_KEY is"),
        (
            {"STORE_CA_BUNDLE": "/no/such.pem", "STORE_ENDPOINT_URL": "https://x:1"},
            "STORE_CA_BUNDLE: /no/such.pem is no file",
        ),
    ],
)
def test_a_wrong_variable_is_named_before_any_request(environ: dict[str, str], message: str) -> None:
    with pytest.raises(UserError, match=message):
        Store.from_env("s3://bucket", environ)


def test_a_bundle_matters_to_tls_only() -> None:
    Store.from_env("s3://bucket", {**HERE, "AWS_CA_BUNDLE": "/no/such.pem"})


@pytest.mark.parametrize("host", ["host", "host.", "höst.example", "under_score", "127.0.0.1", "[::1]", "a-b.c"])
def test_names_of_hosts_are_taken(host: str) -> None:
    Store.from_env("s3://bucket", {**HERE, "STORE_ENDPOINT_URL": f"http://{host}:1"})


@pytest.mark.parametrize("rest", ["/5up3r", "?sig=5up3r", "#5up3r"])
def test_what_follows_the_endpoint_is_refused_and_not_repeated(rest: str) -> None:
    with pytest.raises(UserError, match="STORE_ENDPOINT_URL: goes on after the host and port") as caught:
        Store.from_env("s3://bucket", {"STORE_ENDPOINT_URL": f"http://host:1{rest}"})
    assert "5up3r" not in str(caught.value)


def test_a_password_in_the_endpoint_is_refused_and_not_repeated() -> None:
    with pytest.raises(UserError) as caught:
        Store.from_env("s3://bucket", {"STORE_ENDPOINT_URL": "http://me:5up3r@host:1"})
    assert "STORE_ENDPOINT_URL" in str(caught.value)
    assert "5up3r" not in str(caught.value)


def test_minio_needs_an_address() -> None:
    with pytest.raises(UserError, match="STORE_ENDPOINT_URL: not set; minio://"):
        Store.from_env("minio://bucket", KEYS)


def test_a_secret_key_is_any_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # It signs requests and is sent with none of them.
    secret = "pass phrase mit Schlüssel"
    access = Access.from_env("s3", {**HERE, "STORE_SECRET_ACCESS_KEY": f"{secret}\n"})
    assert access.provider.retrieve().secret_key == secret
    with pytest.raises(UserError, match="STORE_SECRET_ACCESS_KEY: holds a line break") as caught:
        Access.from_env("s3", {**HERE, "STORE_SECRET_ACCESS_KEY": "5up3r\ns3cr3t"})
    assert "5up3r" not in str(caught.value)
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    (tmp_path / "credentials").write_text(f"[default]\naws_access_key_id = me\naws_secret_access_key = {secret}\n")
    assert Access.from_env("s3", {}).provider.retrieve().secret_key == secret


def test_no_secret_in_what_is_printed() -> None:
    store = Store.from_env("s3://bucket/x", HERE)
    shown = f"{store!r} {store} {store.connection!r} {vars(store.connection)!r}"
    assert "5up3r" not in shown
    assert "s3://bucket/x" in shown


def test_a_wrong_address_is_told_within_seconds() -> None:
    started = time.monotonic()
    with pytest.raises(Unavailable) as caught:
        Store.from_env("s3://bucket/x", HERE).get_bytes("a")
    assert time.monotonic() - started < 6
    message = str(caught.value)
    assert "http://127.0.0.1:9 refuses the connection" in message
    assert "STORE_ENDPOINT_URL" in message
    assert "5up3r" not in "".join(traceback.format_exception(caught.value))


def test_a_host_that_nobody_knows_is_told() -> None:
    environ = {**HERE, "STORE_ENDPOINT_URL": "http://no-such-host.invalid:9000"}
    with pytest.raises(Unavailable, match="has a host name that nobody knows"):
        Store.from_env("s3://bucket", environ).ensure_bucket()


def test_without_any_credentials_the_variables_are_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "none"))
    # Where roles are given out: a port at which nobody listens.
    monkeypatch.setenv("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://127.0.0.1:9/")
    store = Store.from_env("s3://bucket", {"STORE_ENDPOINT_URL": "http://127.0.0.1:9"})
    with pytest.raises(UserError, match="no credentials .* STORE_ACCESS_KEY_ID"):
        store.get_bytes("a")


@pytest.mark.integration
def test_the_users_aws_file_is_read(
    embedded_store: EmbeddedStore, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    environ = embedded_store.environ
    (tmp_path / "credentials").write_text(
        f"[default]\naws_access_key_id = {environ['STORE_ACCESS_KEY_ID']}\n"
        f"aws_secret_access_key = {environ['STORE_SECRET_ACCESS_KEY']}\n"
    )
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    endpoint = {"STORE_ENDPOINT_URL": environ["STORE_ENDPOINT_URL"]}
    assert Store.from_env(embedded_store.uri, endpoint).get_bytes("never/written") is None


@pytest.mark.integration
@pytest.mark.parametrize(
    "changed", [{"STORE_SECRET_ACCESS_KEY": "wr0ng-s3cr3t"}, {"STORE_ACCESS_KEY_ID": "nobody-by-name"}]
)
def test_wrong_credentials_name_the_variables_and_show_nothing(
    embedded_store: EmbeddedStore, changed: dict[str, str]
) -> None:
    store = Store.from_env(embedded_store.uri + "/x", {**embedded_store.environ, **changed})
    for request in (
        lambda: store.get_bytes("a"),
        lambda: list(store.list()),
        lambda: store.put_bytes("a", b""),
        lambda: store.create_bytes("a", b""),
        lambda: store.exists("a"),
        store.ensure_bucket,
    ):
        with pytest.raises(UserError, match="check STORE_ACCESS_KEY_ID and STORE_SECRET_ACCESS_KEY") as caught:
            request()
        shown = "".join(traceback.format_exception(caught.value))
        assert changed.get("STORE_SECRET_ACCESS_KEY", embedded_store.environ["STORE_SECRET_ACCESS_KEY"]) not in shown


@pytest.mark.integration
def test_tls_to_a_plain_store_is_told(embedded_store: EmbeddedStore) -> None:
    endpoint = embedded_store.environ["STORE_ENDPOINT_URL"].replace("http://", "https://")
    store = Store.from_env(embedded_store.uri, {**embedded_store.environ, "STORE_ENDPOINT_URL": endpoint})
    with pytest.raises(UserError, match="does not speak TLS.*STORE_ENDPOINT_URL"):
        store.get_bytes("a")
