"""Single objects on the real server: written, read, listed, deleted, and over lines that fail."""

from __future__ import annotations

import os
import threading
from pathlib import Path

import pytest

from components.errors import Unavailable, UserError
from components.storage import Store, access, connection
from pipelines.embedded_store import EmbeddedStore
from tests.components.storage.conftest import Over

pytestmark = pytest.mark.integration


def test_bytes_come_back_and_absent_ones_are_none(place: Store) -> None:
    place.put_bytes("a/b.json", b"{}")
    assert place.get_bytes("a/b.json") == b"{}"
    assert place.exists("a/b.json")
    assert place.get_bytes("a/c.json") is None
    assert not place.exists("a/c.json")


def test_an_empty_object_is_not_an_absent_one(place: Store) -> None:
    place.put_bytes("empty", b"")
    assert place.get_bytes("empty") == b""


def test_the_last_put_stays(place: Store) -> None:
    place.put_bytes("k", b"1")
    place.put_bytes("k", b"22")
    assert place.get_bytes("k") == b"22"


def test_places_nest(place: Store) -> None:
    place.at("models", "boards").put_bytes("latest.json", b"1")
    assert place.get_bytes("models/boards/latest.json") == b"1"
    assert place.at("models/boards").uri == f"{place.uri}/models/boards"
    assert Store.from_env(place.at("models").uri).get_bytes("boards/latest.json") == b"1"


def test_a_listing_is_sorted_relative_and_below_the_prefix(place: Store) -> None:
    for key in ("b", "a/2", "a/1", "ab"):
        place.put_bytes(key, key.encode())
    assert [info.key for info in place.list()] == ["a/1", "a/2", "ab", "b"]
    assert [info.key for info in place.list("a/")] == ["a/1", "a/2"]
    assert [info.key for info in place.at("a").list()] == ["1", "2"]
    first = next(place.list())
    assert (first.bytes, len(first.etag)) == (3, 32)
    assert first.last_modified is not None
    assert list(place.at("nothing").list()) == []


def test_a_listing_goes_over_many_pages(place: Store) -> None:
    keys = [f"k{n:04d}" for n in range(1100)]
    for key in keys:
        place.put_bytes(key, b"")
    assert [info.key for info in place.list()] == keys
    place.delete_tree()
    assert list(place.list()) == []


def test_deleting_is_idempotent_and_takes_no_neighbours(place: Store) -> None:
    for key in ("tree/a", "tree/MANIFEST.json", "tree2/a"):
        place.put_bytes(key, b"1")
    place.at("tree").delete_tree()
    place.at("tree").delete_tree()
    place.delete(["tree/a", "never"])
    assert [info.key for info in place.list()] == ["tree2/a"]


def test_a_whole_bucket_is_not_deleted(store: Store) -> None:
    with pytest.raises(ValueError, match="whole bucket"):
        store.delete_tree()


@pytest.mark.parametrize("key", ["", "/a", "../a", "a/../b", "a//b", "a/.", "a\\b", "a\nb", "C:/a", "x" * 1025])
def test_unsound_keys_are_refused(place: Store, key: str) -> None:
    with pytest.raises(ValueError, match="key"):
        place.put_bytes(key, b"")


def test_of_many_creators_one_wins(place: Store) -> None:
    won: list[int] = []

    def create(number: int) -> None:
        if place.create_bytes("one", b"%d" % number):
            won.append(number)

    threads = [threading.Thread(target=create, args=(n,)) for n in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) == 1
    assert place.get_bytes("one") == b"%d" % won[0]


def test_files_go_there_and_back(place: Store, tmp_path: Path) -> None:
    (tmp_path / "page.html").write_bytes(b"<html>" + bytes(range(256)) * 40)
    place.upload_file("report/page.html", tmp_path / "page.html")
    place.download_file("report/page.html", tmp_path / "new" / "page.html")
    assert (tmp_path / "new" / "page.html").read_bytes() == (tmp_path / "page.html").read_bytes()
    status = place.connection.client.stat_object(place.bucket, place.name("report/page.html"))
    assert status.content_type == "text/html"


def test_a_failed_download_leaves_the_file_as_it_was(place: Store, tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"before")
    with pytest.raises(UserError, match=f"{place.uri}/gone: not in the store"):
        place.download_file("gone", tmp_path / "f")
    assert (tmp_path / "f").read_bytes() == b"before"
    assert [p.name for p in tmp_path.iterdir()] == ["f"]


def test_a_download_that_cannot_be_written_is_the_users_to_mend(place: Store, tmp_path: Path) -> None:
    place.put_bytes("k", b"1")
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UserError, match="cannot be written"):
        place.download_file("k", tmp_path / "file" / "k")


def test_a_generation_stays_until_the_store_is_wiped(place: Store) -> None:
    first = place.generation()
    assert len(first) == 32
    assert Store.from_env(place.uri).generation() == first
    place.delete_tree()
    assert place.generation() != first


def test_a_generation_is_counted_up(place: Store) -> None:
    first = place.generation()
    for count in (2, 3):
        assert place.next_generation() == f"{first}-{count}" == place.generation()
    place.put_bytes("GENERATION", b"by-hand")
    assert place.next_generation() == "by-2"


def test_threads_agree_on_a_new_generation(place: Store) -> None:
    seen: list[str] = []
    threads = [threading.Thread(target=lambda: seen.append(place.generation())) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(seen) == 8
    assert len(set(seen)) == 1


@pytest.mark.parametrize("fault", ["reset", "busy"])
def test_a_store_that_fails_twice_is_asked_a_third_time(over: Over, fault: str) -> None:
    store = over(fault, 2)
    store.put_bytes("k", b"1")
    assert store.get_bytes("k") == b"1"


def test_a_listing_goes_on_where_it_broke_off(over: Over, place: Store) -> None:
    place.put_bytes("a", b"")
    assert [info.key for info in over("busy", 2).list()] == ["a"]


def test_a_listing_that_comes_damaged_is_asked_for_again(over: Over, place: Store) -> None:
    place.put_bytes("a", b"")
    assert [info.key for info in over("flip answer", 1, where=0.0).list()] == ["a"]
    store = over("flip answer", 3, at=1, where=0.0)
    assert store.get_bytes("a") == b""
    assert [info.key for info in store.list()] == ["a"]


def test_an_upload_and_a_download_that_break_off_are_done_again(over: Over, place: Store, tmp_path: Path) -> None:
    data = bytes(range(256)) * 4000
    (tmp_path / "f").write_bytes(data)
    over("reset", 1).upload_file("f", tmp_path / "f")
    over("truncate", 1, where=0.15).download_file("f", tmp_path / "g")
    assert (tmp_path / "g").read_bytes() == data


@pytest.mark.parametrize(("element", "bit"), [(b"<LastModified>", 6), (b"<Size>", 6), (b"<Key>", 7)])
def test_a_time_number_or_letter_that_is_damaged_on_its_way_is_asked_for_again(
    over: Over, place: Store, element: bytes, bit: int
) -> None:
    place.put_bytes("a", b"1")
    store = over("flip answer", 1, at=1, after=element, where=0.0, bit=bit)
    assert store.get_bytes("a") == b"1"
    [found] = store.list()
    assert (found.key, found.bytes) == ("a", 1)


def test_what_is_damaged_on_its_way_to_the_store_is_sent_again(over: Over, place: Store, tmp_path: Path) -> None:
    (tmp_path / "parts").write_bytes(os.urandom(9 << 20))
    store = over("flip request", 1)
    store.put_bytes("put", b"1" * 100)
    assert place.get_bytes("put") == b"1" * 100
    assert over("flip request", 1).create_bytes("created", b"2" * 100)
    assert place.get_bytes("created") == b"2" * 100
    over("flip request", 1, at=1).upload_file("parts", tmp_path / "parts")
    place.download_file("parts", tmp_path / "back")
    assert (tmp_path / "back").read_bytes() == (tmp_path / "parts").read_bytes()


def test_what_is_damaged_on_its_way_here_is_read_again(over: Over, place: Store, tmp_path: Path) -> None:
    place.put_bytes("k", b"1" * 100)
    assert over("flip answer", 2).get_bytes("k") == b"1" * 100
    over("flip answer", 2).download_file("k", tmp_path / "k")
    assert (tmp_path / "k").read_bytes() == b"1" * 100


def test_what_stays_damaged_is_named(over: Over, place: Store, tmp_path: Path) -> None:
    place.put_bytes("k", b"1" * 100)
    store = over("flip answer", 1000)
    for read in (lambda: store.get_bytes("k"), lambda: store.download_file("k", tmp_path / "k")):
        with pytest.raises(UserError, match=f"{place.uri}/k: damaged: .* publish it again"):
            read()
    assert not (tmp_path / "k").exists()


def test_a_store_that_stays_busy_is_unavailable(over: Over, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(connection, "PATIENCE", 1.0)
    with pytest.raises(Unavailable, match="is busy .SlowDown.; check that the object store runs"):
        over("busy", 1000).get_bytes("k")


def test_an_answer_that_does_not_come_is_asked_for_again_though_it_has_taken_all_the_time(
    over: Over, place: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(access, "READ_SECONDS", 1.0)
    monkeypatch.setattr(connection, "PATIENCE", 1.0)
    place.put_bytes("k", b"1")
    store = over("stall", 1, at=1, seconds=1.5)
    assert store.get_bytes("k") == b"1"
    assert store.get_bytes("k") == b"1"


def test_a_web_page_is_not_a_store(over: Over) -> None:
    with pytest.raises(UserError, match="does not speak S3; check STORE_ENDPOINT_URL"):
        list(over("page", 1000).list())


def test_a_bucket_that_is_not_there_is_named(embedded_store: EmbeddedStore) -> None:
    store = Store.from_env("s3://no-such-bucket/x", embedded_store.environ)
    for request in (lambda: store.get_bytes("a"), lambda: list(store.list()), lambda: store.put_bytes("a", b"")):
        with pytest.raises(UserError, match=r"s3://no-such-bucket/x.*no such bucket .* create it or correct"):
            request()


def test_a_bucket_is_made_once(embedded_store: EmbeddedStore) -> None:
    store = Store.from_env("s3://made-by-a-test", embedded_store.environ)
    store.ensure_bucket()
    store.ensure_bucket()
    store.put_bytes("k", b"1")
    assert store.get_bytes("k") == b"1"
