"""Artefacts: stamps, atomic writes, resume, damage."""

from __future__ import annotations

import errno
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from foveate import store
from foveate.schema import FoveateError
from foveate.store import Artefact, stamp_of, write_aside, write_json, write_parquet

json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


def make(folder: Path, **settings: object) -> Artefact:
    return Artefact(folder / "thing", "thing", 1, settings, {"parent": "0" * 64})


@given(st.dictionaries(st.text(), json_values, max_size=4))
def test_stamp_does_not_depend_on_the_order_of_keys(settings: dict[str, object]) -> None:
    turned = dict(reversed(settings.items()))
    assert stamp_of("s", 1, settings, {}) == stamp_of("s", 1, turned, {})
    assert stamp_of("s", 1, settings, {}) != stamp_of("s", 2, settings, {})
    assert stamp_of("s", 1, settings, {"a": "1"}) != stamp_of("s", 1, settings, {"a": "2"})


def test_stamp_is_the_hash_of_canonical_json() -> None:
    # Written out, because a change here would make every user's project outdated.
    text = '{"parents":{"video":"x"},"settings":{"a":1.5,"b":[null,"é"]},"stage":"track","version":1}'
    assert stamp_of("track", 1, {"b": [None, "é"], "a": 1.5}, {"video": "x"}) == hashlib.sha256(text.encode()).hexdigest()


def test_complete_only_when_sealed_with_this_stamp(tmp_path: Path) -> None:
    artefact = make(tmp_path, a=1)
    assert not artefact.complete()
    artefact.begin()
    write_json(artefact.path("x/one.json"), [1])
    assert not artefact.complete()
    artefact.finish({"n": 1})
    assert artefact.complete() and artefact.facts() == {"n": 1} and artefact.files(".json") == ["x/one.json"]
    assert not make(tmp_path, a=2).complete()
    artefact.path("x/one.json").write_text("longer than before")
    assert not artefact.complete()


def test_begin_keeps_parts_of_the_same_stamp_only(tmp_path: Path) -> None:
    artefact = make(tmp_path, a=1)
    artefact.begin()
    write_json(artefact.path("part.json"), 1)
    artefact.path(".part2.123.aside.json").write_text("half")
    artefact.begin()
    assert artefact.has("part.json") and not list(artefact.folder.glob(".*"))
    other = make(tmp_path, a=2)
    other.begin()
    assert not other.has("part.json")


def test_damage_is_named(tmp_path: Path) -> None:
    artefact = make(tmp_path)
    artefact.begin()
    write_parquet(artefact.path("t.parquet"), pa.table({"a": [1, 2, 3]}))
    artefact.finish()
    assert artefact.table("t.parquet").num_rows == 3
    data = bytearray(artefact.path("t.parquet").read_bytes())
    data[len(data) // 2] ^= 255
    artefact.path("t.parquet").write_bytes(bytes(data))
    with pytest.raises(FoveateError, match="damaged") as caught:
        artefact.table("t.parquet")
    assert caught.value.file == artefact.path("t.parquet") and "foveate run" in str(caught.value)
    with pytest.raises(FoveateError, match="missing"):
        artefact.checked("other.parquet")


def test_nothing_is_left_of_a_failed_write(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")

    def fail(code: int) -> None:
        with write_aside(target) as aside:
            aside.write_text("new")
            raise OSError(code, os.strerror(code))

    with pytest.raises(FoveateError, match="disk is full"):
        fail(errno.ENOSPC)
    with pytest.raises(PermissionError):
        fail(errno.EACCES)
    assert target.read_text() == "old" and list(tmp_path.iterdir()) == [target]


def test_full_disk_is_a_clear_error(tmp_path: Path) -> None:
    """A real ENOSPC from the operating system, on a device that is always full."""
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    code = (
        "import sys; from pathlib import Path; from foveate import store\n"
        "with store.write_aside(Path(sys.argv[1])) as aside:\n"
        "    aside.symlink_to('/dev/full'); aside.write_text('x')"
    )
    run = subprocess.run([sys.executable, "-c", code, str(tmp_path / "a.txt")], capture_output=True, text=True)
    assert run.returncode and "the disk is full" in run.stderr and not list(tmp_path.iterdir())


def test_killed_in_the_middle_leaves_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    code = (
        "import os, signal, sys; from pathlib import Path; from foveate import store\n"
        "with store.write_aside(Path(sys.argv[1])) as aside:\n"
        "    aside.write_text('half'); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(target)]).returncode == -9
    assert target.read_text() == "old"


def test_fingerprint(tmp_path: Path) -> None:
    video = tmp_path / "v ü.mp4"
    video.write_bytes(b"a" * 3_000_000)
    first = store.fingerprint(video)
    assert first == store.fingerprint(video)
    found = video.stat()
    data = bytearray(video.read_bytes())
    data[-1] = 0
    video.write_bytes(bytes(data))
    os.utime(video, ns=(found.st_atime_ns, found.st_mtime_ns + 1_000_000))
    assert store.fingerprint(video) != first
    moved = tmp_path / "moved.mp4"
    moved.write_bytes(b"a" * 3_000_000)
    os.utime(moved, ns=(0, 0))
    assert store.fingerprint(moved) == first  # copied without its time: the same footage
    with pytest.raises(FoveateError, match="no such file"):
        store.fingerprint(tmp_path / "none.mp4")


def test_a_snapshot_answers_once_and_changes_make_it_ask_anew() -> None:
    asked: list[str] = []

    @store.remembered
    def ask(about: object, *, name: str = "") -> int:
        asked.append(name)
        if name == "wrong":
            raise FoveateError("no such thing")
        return len(asked)

    one, other = object(), object()
    assert [ask(one), ask(one)] == [1, 2]  # outside, nothing is remembered
    with store.snapshot():
        assert ask(one) == ask(one) == 3
        assert ask(other) == 4 and ask(one, name="a") == 5 == ask(one, name="a")
        for _ in range(2):
            with pytest.raises(FoveateError):
                ask(one, name="wrong")
        assert asked.count("wrong") == 1
        with store.changes():
            assert [ask(one), ask(one)] == [7, 8]
        assert ask(one) == ask(one) == 9
    assert ask(one) == 10


def test_an_artefact_finished_within_a_snapshot_is_seen_after_the_changes(tmp_path: Path) -> None:
    artefact = Artefact(tmp_path / "a", "s", 1, {}, {})
    with store.snapshot():
        assert not artefact.complete()
        with store.changes():
            artefact.begin()
            artefact.finish()
            assert artefact.complete()
        assert artefact.complete()
