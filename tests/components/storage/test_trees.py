"""Trees on the real server: published whole or not at all, fetched whole, and what damage is answered with."""

from __future__ import annotations

import hashlib
import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from components.errors import UserError
from components.storage import Entry, Manifest, Store, digest_of, sha256_file, transfer
from pipelines.embedded_store import EmbeddedStore
from tests.components.storage.conftest import Over

pytestmark = pytest.mark.integration

FILES = {"model_index.json": b"{}", "unet/weights.safetensors": b"w" * 100_000, "unet/.hidden": b"", "a b/ü.txt": b"1"}


def write(folder: Path, files: dict[str, bytes] = FILES) -> Path:
    for path, data in files.items():
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        (folder / path).write_bytes(data)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {p.relative_to(folder).as_posix(): p.read_bytes() for p in folder.rglob("*") if p.is_file()}


def sent(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The keys that go over the line from here on."""
    keys: list[str] = []
    real = transfer.send

    def spy(store: Store, key: str, *rest: object, **more: object) -> str:
        keys.append(key)
        return real(store, key, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(transfer, "send", spy)
    return keys


def test_a_tree_comes_back_as_it_was(place: Store, tmp_path: Path) -> None:
    published = place.put_tree(write(tmp_path / "a"), made_by={"step": "test"})
    assert [entry.path for entry in published.files] == sorted(FILES)
    assert published.total_bytes == 100_003
    fetched = place.get_tree(tmp_path / "b")
    assert fetched == published == place.manifest()
    assert fetched.made_by == {"step": "test"}
    assert fetched.created.endswith("+00:00")
    assert content(tmp_path / "b") == FILES


def test_only_what_is_wanted_is_fetched(place: Store, tmp_path: Path) -> None:
    place.put_tree(write(tmp_path / "a"))
    manifest = place.get_tree(tmp_path / "b", only=lambda path: path.startswith("unet/"))
    assert sorted(content(tmp_path / "b")) == ["unet/.hidden", "unet/weights.safetensors"]
    assert len(manifest.files) == len(FILES)


def test_single_files_of_a_tree_have_plain_addresses(place: Store, tmp_path: Path) -> None:
    place.put_tree(write(tmp_path / "a"))
    assert place.get_bytes("model_index.json") == b"{}"
    assert [info.key for info in place.list()] == sorted([*FILES, "MANIFEST.json"])


def test_the_digest_is_of_paths_and_content_alone(place: Store, tmp_path: Path) -> None:
    first = place.at("1").put_tree(write(tmp_path / "a"), {"step": "one"})
    second = place.at("2").put_tree(write(tmp_path / "b"), {"step": "two"})
    other = place.at("3").put_tree(write(tmp_path / "c", {**FILES, "a b/ü.txt": b"2"}))
    assert first.digest == second.digest != other.digest


def test_without_a_manifest_there_is_no_tree(place: Store, tmp_path: Path) -> None:
    place.put_bytes("model_index.json", b"{}")
    assert place.manifest() is None
    with pytest.raises(UserError, match=f"{place.uri}: nothing is published there"):
        place.get_tree(tmp_path / "b")
    assert not (tmp_path / "b").exists()


def test_an_upload_that_was_cut_goes_on(place: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = write(tmp_path / "a")
    place.put_tree(folder)
    place.delete(["MANIFEST.json", "a b/ü.txt"])
    assert place.manifest() is None
    keys = sent(monkeypatch)
    place.put_tree(folder)
    assert keys == ["a b/ü.txt"]
    place.get_tree(tmp_path / "b")
    assert content(tmp_path / "b") == FILES


def test_other_content_that_was_left_is_never_replaced(place: Store, tmp_path: Path) -> None:
    place.put_bytes("model_index.json", b"[]")
    with pytest.raises(UserError, match=f"{place.uri}: other content .* delete what is there first"):
        place.put_tree(write(tmp_path / "a"))
    assert place.manifest() is None
    assert place.get_bytes("model_index.json") == b"[]"
    place.delete_tree()
    place.put_tree(tmp_path / "a")
    place.get_tree(tmp_path / "b")
    assert content(tmp_path / "b") == FILES


def test_the_same_tree_again_sends_nothing(place: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = place.put_tree(write(tmp_path / "a"), {"attempt": 1})
    keys = sent(monkeypatch)
    assert place.put_tree(tmp_path / "a", {"attempt": 2}) == first
    assert keys == []


def test_the_first_manifest_wins(place: Store, tmp_path: Path) -> None:
    first = place.put_tree(write(tmp_path / "a"))
    with pytest.raises(UserError, match=f"{place.uri}: other content"):
        place.put_tree(write(tmp_path / "b", {"model_index.json": b"[]"}))
    assert place.manifest() == first
    place.get_tree(tmp_path / "c")
    assert content(tmp_path / "c") == FILES


@pytest.mark.parametrize("round_", range(4))
def test_writers_at_the_same_moment_never_mix(place: Store, tmp_path: Path, round_: int) -> None:
    trees = [{f"{n}.bin": bytes([writer]) * 20_000 for n in range(6)} for writer in range(4)]
    folders = [write(tmp_path / str(writer), tree) for writer, tree in enumerate(trees)]
    won: list[int] = []
    lost: list[BaseException] = []

    def publish(writer: int) -> None:
        try:
            place.put_tree(folders[writer])
            won.append(writer)
        except BaseException as error:
            lost.append(error)

    threads = [threading.Thread(target=publish, args=(writer,)) for writer in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(won) <= 1
    assert all(isinstance(error, UserError) and "other content" in str(error) for error in lost)
    if won:
        place.get_tree(tmp_path / "fetched")
        assert content(tmp_path / "fetched") == trees[won[0]]
    else:
        assert place.manifest() is None


def test_writers_of_the_same_tree_all_succeed(place: Store, tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    made: list[Manifest] = []
    threads = [threading.Thread(target=lambda: made.append(place.put_tree(folder))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(made) == 4
    assert {manifest.digest for manifest in made} == {place.manifest().digest}  # type: ignore[union-attr]
    place.get_tree(tmp_path / "b")
    assert content(tmp_path / "b") == FILES


def test_another_writers_object_before_the_commit_is_noticed(
    place: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    real = transfer.send

    def send(store: Store, key: str, *rest: object, **more: object) -> str:
        tag = real(store, key, *rest, **more)  # type: ignore[arg-type]
        if key == "model_index.json":
            place.put_bytes(key, b"[]")
        return tag

    monkeypatch.setattr(transfer, "send", send)
    with pytest.raises(UserError, match="other content"):
        place.put_tree(write(tmp_path / "a"))
    assert place.manifest() is None


@pytest.mark.parametrize(
    ("data", "message"),
    [(b"W" * 100_000, "damaged"), (b"w" * 50_000, "damaged: 50000 bytes, .* 100000 bytes"), (None, "not in the store")],
)
def test_damage_names_its_key_and_writes_nothing(
    place: Store, tmp_path: Path, data: bytes | None, message: str
) -> None:
    place.put_tree(write(tmp_path / "a"))
    if data is None:
        place.delete(["unet/weights.safetensors"])
    else:
        place.put_bytes("unet/weights.safetensors", data)
    with pytest.raises(UserError, match=f"{place.uri}/unet/weights.safetensors: {message}"):
        place.get_tree(tmp_path / "b")
    left = content(tmp_path / "b")
    assert "unet/weights.safetensors" not in left
    assert all(FILES[path] == data for path, data in left.items())


def test_files_already_there_are_kept_or_replaced_by_their_digest(place: Store, tmp_path: Path) -> None:
    place.put_tree(write(tmp_path / "a"))
    write(tmp_path / "b", {**FILES, "unet/weights.safetensors": b"v" * 100_000, "own": b"mine"})
    before = (tmp_path / "b" / "model_index.json").stat()
    place.get_tree(tmp_path / "b")
    after = (tmp_path / "b" / "model_index.json").stat()
    assert content(tmp_path / "b") == {**FILES, "own": b"mine"}
    assert (after.st_ino, after.st_mtime_ns) == (before.st_ino, before.st_mtime_ns)


def test_a_file_shared_by_a_hard_link_is_replaced_not_written_into(place: Store, tmp_path: Path) -> None:
    place.put_tree(write(tmp_path / "a"))
    write(tmp_path / "base", {"model_index.json": b"base"})
    (tmp_path / "b").mkdir()
    (tmp_path / "b" / "model_index.json").hardlink_to(tmp_path / "base" / "model_index.json")
    place.get_tree(tmp_path / "b")
    assert (tmp_path / "base" / "model_index.json").read_bytes() == b"base"


@pytest.mark.parametrize("path", ["../evil", "/tmp/evil", "a/../../evil", "a\\..\\evil", "a//b", "", "./a", "C:/evil"])
def test_a_manifest_that_leads_out_is_refused(place: Store, tmp_path: Path, path: str) -> None:
    place.put_bytes("MANIFEST.json", Manifest.of([Entry(path, 1, "0" * 64)], {}).to_json())
    with pytest.raises(UserError, match=f"{place.uri}/MANIFEST.json: not a manifest that can be used .*path"):
        place.get_tree(tmp_path / "in" / "b")
    assert not list(tmp_path.rglob("evil"))
    assert not (tmp_path / "in").exists()


def test_a_link_in_the_target_does_not_lead_out(place: Store, tmp_path: Path) -> None:
    place.put_tree(write(tmp_path / "a"))
    (tmp_path / "b").mkdir()
    (tmp_path / "elsewhere").mkdir()
    (tmp_path / "b" / "unet").symlink_to(tmp_path / "elsewhere")
    with pytest.raises(UserError, match="a link leads out of"):
        place.get_tree(tmp_path / "b")
    assert list((tmp_path / "elsewhere").iterdir()) == []


@pytest.mark.parametrize(
    "change",
    [
        lambda m: m.update(schema=2),
        lambda m: m.update(digest="0" * 64),
        lambda m: m.pop("files"),
        lambda m: m.update(files="all"),
        lambda m: m["files"][0].update(sha256="short"),
        lambda m: m["files"][0].update(bytes=-1),
        lambda m: m["files"][0].update(bytes=1.5),
        lambda m: m["files"][0].update(mode=7),
        lambda m: m["files"][0].update(path=7),
        lambda m: m["files"].append(m["files"][0]),
        lambda m: m["files"][0].update(path="unet/weights.safetensors/x"),
    ],
)
def test_a_damaged_manifest_is_named(
    place: Store, tmp_path: Path, change: Callable[[dict[str, object]], object]
) -> None:
    data = json.loads(place.put_tree(write(tmp_path / "a")).to_json())
    change(data)
    place.put_bytes("MANIFEST.json", json.dumps(data).encode())
    with pytest.raises(UserError, match=f"{place.uri}/MANIFEST.json: .*publish the tree again"):
        place.manifest()


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff\xfe", b"null"])
def test_a_manifest_that_is_none_is_named(place: Store, data: bytes) -> None:
    place.put_bytes("MANIFEST.json", data)
    with pytest.raises(UserError, match="MANIFEST.json: not a manifest"):
        place.manifest()


def test_everything_wrong_in_a_folder_is_told_at_once(place: Store, tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    (folder / "out").symlink_to("/etc/hostname")
    (folder / "gone").symlink_to(folder / "nothing")
    (folder / "folder").symlink_to(folder / "unet")
    os.mkfifo(folder / "pipe")
    with pytest.raises(UserError) as caught:
        place.put_tree(folder)
    assert len(caught.value.problems) == 4
    assert f"{folder}/out: links to what lies outside" in str(caught.value)
    assert list(place.list()) == []


def test_links_within_the_folder_are_followed(place: Store, tmp_path: Path) -> None:
    folder = write(tmp_path / "a")
    (folder / "alias.json").symlink_to("model_index.json")
    place.put_tree(folder)
    assert place.get_bytes("alias.json") == b"{}"


def test_named_files_may_lie_anywhere(place: Store, tmp_path: Path) -> None:
    write(tmp_path / "blobs", {"1f3e": b"{}"})
    (tmp_path / "link").symlink_to(tmp_path / "blobs" / "1f3e")
    place.put_files({"model_index.json": tmp_path / "link"})
    place.get_tree(tmp_path / "b")
    assert content(tmp_path / "b") == {"model_index.json": b"{}"}


@pytest.mark.parametrize("name", ["a\\b", "a\nb", "MANIFEST.json"])
def test_a_name_that_no_key_can_have_is_told(place: Store, tmp_path: Path, name: str) -> None:
    with pytest.raises(UserError, match="rename it"):
        place.put_tree(write(tmp_path / "a", {"fine": b"", name: b""}))
    assert list(place.list()) == []


def test_no_folder_and_an_empty_one_are_told(place: Store, tmp_path: Path) -> None:
    with pytest.raises(UserError, match="is no folder"):
        place.put_tree(tmp_path / "nothing")
    with pytest.raises(UserError, match="holds no files"):
        place.put_tree(tmp_path)


@pytest.mark.parametrize("size", [1_000, 20_000_000])
def test_a_file_that_changes_meanwhile_is_not_published(
    place: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    folder = write(tmp_path / "a", {"f": b"1" * size})
    real = transfer.send

    def send(store: Store, key: str, path: Path, *rest: object, **more: object) -> str:
        path.write_bytes(b"2" * (size - len(rest)))
        return real(store, key, path, *rest, **more)  # type: ignore[arg-type]

    monkeypatch.setattr(transfer, "send", send)
    with pytest.raises(UserError, match=f"{folder}/f: changed while it was sent"):
        place.put_tree(folder)
    assert list(place.list()) == []


def test_trees_cross_a_line_that_fails(over: Over, place: Store, tmp_path: Path) -> None:
    files = {f"{n}.bin": os.urandom(200_000) for n in range(6)}
    over("reset", 3).put_tree(write(tmp_path / "a", files))
    over("truncate", 3).get_tree(tmp_path / "b")
    over("busy", 3).get_tree(tmp_path / "c")
    assert content(tmp_path / "b") == content(tmp_path / "c") == files


def test_many_files(place: Store, tmp_path: Path) -> None:
    files = {f"{n % 7}/{n:04d}.png": str(n).encode() for n in range(400)}
    place.put_tree(write(tmp_path / "a", files))
    place.get_tree(tmp_path / "b")
    assert content(tmp_path / "b") == files


def test_a_large_file_takes_little_memory(place: Store, tmp_path: Path, embedded_store: EmbeddedStore) -> None:
    (tmp_path / "a").mkdir()
    block = os.urandom(1 << 20)
    with (tmp_path / "a" / "weights.bin").open("wb") as file:
        for _ in range(64):
            file.write(block)
    program = (
        "import resource, sys; from pathlib import Path; from components.storage import Store\n"
        "peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss\n"
        "store, folder = Store.from_env(sys.argv[1]), Path(sys.argv[2])\n"
        "store.generation(); before = peak()\n"
        "store.put_tree(folder / 'a'); store.get_tree(folder / 'b')\n"
        "print(peak() - before)"
    )
    done = subprocess.run(
        [sys.executable, "-c", program, place.uri, str(tmp_path)],
        env={**os.environ, **embedded_store.environ},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    )
    unit = 1 if sys.platform == "darwin" else 1024
    assert int(done.stdout.splitlines()[-1]) * unit < 40 << 20
    assert sha256_file(tmp_path / "b" / "weights.bin") == sha256_file(tmp_path / "a" / "weights.bin")


def test_digests_are_those_of_the_standard(tmp_path: Path) -> None:
    (tmp_path / "f").write_bytes(b"abc")
    assert sha256_file(tmp_path / "f") == "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad"
    assert (
        digest_of({"b": 1, "a": [True, None, "ü"]}) == hashlib.sha256(b'{"a":[true,null,"\\u00fc"],"b":1}').hexdigest()
    )
    assert digest_of({"a": 1, "b": 2}) == digest_of({"b": 2, "a": 1})
    with pytest.raises(ValueError, match="JSON"):
        digest_of(float("nan"))
    with pytest.raises(TypeError):
        digest_of(Path("a"))
