"""Nothing there is one thing, an error is another."""

import contextlib
import errno
import json
import os
import threading
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from fra_dist import files, json_lines, text_lines
from fra_dist.errors import AccessError, DiskError
from fra_dist.exit_status import FAILED, REFUSED
from fra_dist.train.run_dir.row_file import RowFile


class Flaky:
    """A system call that fails a number of times before it works, or for ever."""

    def __init__(self, call, number, times):
        self.call, self.number, self.times, self.calls = call, number, times, 0

    def __call__(self, *args, **kwargs):
        self.calls += 1
        if self.times < 0 or self.calls <= self.times:
            raise OSError(self.number, os.strerror(self.number))
        return self.call(*args, **kwargs)


@pytest.fixture(autouse=True)
def short_pauses(monkeypatch):
    monkeypatch.setattr(files, "PAUSES", (0.0, 0.0, 0.0))


LOOKS = {
    "exists": ("stat", lambda path: files.exists(path)),
    "is_folder": ("stat", lambda path: files.is_folder(path.parent)),
    "is_file": ("stat", lambda path: files.is_file(path)),
    "names_in": ("listdir", lambda path: files.names_in(path.parent) == ["there"]),
    "read_bytes": ("open", lambda path: files.read_bytes(path) == b"{}"),
    "rows": ("open", lambda path: json_lines.read_rows(path) == [{}]),
    "rows from the end": ("pread", lambda path: [row for _, row in json_lines.from_end(path)] == [{}]),
}


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize("number", [errno.EIO, errno.ESTALE, errno.EAGAIN, errno.ETIMEDOUT])
def test_an_error_that_passes_is_tried_again(tmp_path, monkeypatch, look, number):
    (tmp_path / "there").write_text("{}")
    name, ask = LOOKS[look]
    monkeypatch.setattr(files.os, name, Flaky(getattr(os, name), number, times=2))
    assert ask(tmp_path / "there")


@pytest.mark.parametrize("look", LOOKS)
@pytest.mark.parametrize(("number", "kind"), [(errno.EIO, DiskError), (errno.EACCES, AccessError)])
def test_an_error_that_stays_is_never_nothing_there(tmp_path, monkeypatch, look, number, kind):
    (tmp_path / "there").write_text("{}")
    name, ask = LOOKS[look]
    flaky = Flaky(getattr(os, name), number, times=-1)
    monkeypatch.setattr(files.os, name, flaky)
    with pytest.raises(kind, match=str(tmp_path)) as raised:
        ask(tmp_path / "there")
    monkeypatch.undo()
    assert raised.value.exit_status == (FAILED if kind is DiskError else REFUSED)
    assert flaky.calls == (4 if kind is DiskError else 1)


def test_nothing_there(tmp_path):
    (tmp_path / "file").write_text("")
    for path in (tmp_path / "none", tmp_path / "file" / "below", tmp_path / ("x" * 300)):
        assert not files.exists(path)
        assert not files.is_folder(path)
    assert files.names_in(tmp_path / "none") == []
    assert files.read_bytes(tmp_path / "none") is None
    assert json_lines.read_rows(tmp_path / "none") == []


def test_a_pipe_in_the_place_of_a_file_is_refused_and_not_waited_for(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    with pytest.raises(AccessError, match="not a regular file"):
        files.read_bytes(tmp_path / "pipe")
    with pytest.raises(AccessError, match="not a regular file"):
        json_lines.read_rows(tmp_path / "pipe")
    with pytest.raises(OSError, match="not a regular file"):
        json_lines.append(tmp_path / "pipe", {"step": 1})


@pytest.mark.parametrize("call", ["fsync", "replace"])
def test_a_file_is_written_whole_or_not_at_all(tmp_path, monkeypatch, call):
    path = tmp_path / "state.json"
    files.write_whole(path, "old")
    monkeypatch.setattr(files.os, call, Flaky(getattr(os, call), errno.EIO, times=2))
    files.write_whole(path, "new")
    assert path.read_text() == "new"
    monkeypatch.setattr(files.os, call, Flaky(getattr(os, call), errno.EIO, times=-1))
    with pytest.raises(OSError, match="Input/output"):
        files.write_whole(path, "newer")
    assert path.read_text() == "new"
    assert os.listdir(tmp_path) == ["state.json"]


def test_a_link_that_leads_nowhere_is_not_nothing(tmp_path):
    link = tmp_path / "link"
    link.symlink_to("/a/disk/that/is/not/mounted")
    for read in (files.read_bytes, files.names_in, json_lines.read_rows):
        assert not read(tmp_path / "none")
        assert not read(tmp_path / "none" / "deeper")
        with pytest.raises(AccessError, match="link: No such file"):
            read(link)
    (tmp_path / "file").write_text("")
    with pytest.raises(AccessError, match="Not a directory"):
        files.names_in(tmp_path / "file")
    assert files.names_in(tmp_path / "file" / "deeper") == []


def test_an_error_while_looking_for_a_link_is_an_error_of_the_disk(tmp_path, monkeypatch):
    monkeypatch.setattr(files.os, "lstat", Flaky(os.lstat, errno.EIO, times=2))
    assert files.read_bytes(tmp_path / "none") is None
    monkeypatch.setattr(files.os, "lstat", Flaky(os.lstat, errno.EIO, times=-1))
    with pytest.raises(DiskError, match=r"cannot look at .*none: Input/output"):
        files.names_in(tmp_path / "none")


def test_what_killed_writers_left_is_swept_and_nothing_else(tmp_path):
    for name in (".config.yaml.partial-7", "config.yaml", ".lock", ".partial-00000002-7"):
        (tmp_path / name).write_text("")
    files.sweep(tmp_path)
    assert sorted(os.listdir(tmp_path)) == [".lock", ".partial-00000002-7", "config.yaml"]


ROWS = st.lists(st.integers(0, 30), max_size=40).map(sorted)
JUNK = [b"\xff{}", b'{"step": 3', b"[1]", b"null", b"7", b"[" * 5000, b'{"step": null}', b'{"step": "4"}', b"\x00"]


def write(path, steps, junk, torn):
    lines = [json.dumps({"step": step, "key": "a\u2028b\u0085c\udce9"}).encode() for step in steps]
    for place, what in junk:
        lines.insert(place % (len(lines) + 1), what)
    path.write_bytes(b"".join(line + b"\n" for line in lines) + torn)


@given(
    ROWS, st.lists(st.tuples(st.integers(0, 40), st.sampled_from(JUNK)), max_size=4), st.sampled_from([b"", b'{"st'])
)
def test_rows_from_both_ends_are_the_same_whatever_lies_between(tmp_path_factory, steps, junk, torn):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write(path, steps, junk, torn)
    forward, backward = json_lines.DamagedLines(path), json_lines.DamagedLines(path)
    rows = json_lines.read_rows(path, forward)
    assert rows == [row for _, row in json_lines.from_end(path, backward)][::-1]
    assert [row["step"] for row in rows if json_lines.step_of_row(row) is not None] == steps
    assert forward.count == backward.count


@given(ROWS, st.integers(-1, 31), st.sampled_from([b"", b'{"st']), st.integers(1, 200))
def test_rows_after_a_step_are_dropped_and_the_others_keep_their_bytes(tmp_path_factory, steps, last, torn, chunk):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    write(path, steps, [], torn)
    before = path.read_bytes()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(text_lines, "_CHUNK", chunk)
        json_lines.drop_after(path, last)
    kept = sum(step <= last for step in steps)
    assert path.read_bytes() == b"".join(line + b"\n" for line in before.split(b"\n")[:kept])


def test_a_row_out_of_order_goes_as_well(tmp_path):
    path = tmp_path / "rows.jsonl"
    write(path, [1, 2, 9, 3, 4, 7, 8], [(4, b"junk")], b"")
    damage = json_lines.drop_after(path, 5)
    assert [row["step"] for row in json_lines.iterate(path)] == [1, 2, 3, 4]
    assert damage.count == 1
    assert "1 damaged line was left out of rows.jsonl" in damage.text()


def test_a_row_after_a_torn_one_is_whole(tmp_path):
    path = tmp_path / "rows.jsonl"
    path.write_bytes(b'{"step": 1}\n{"step": 2, "lo')
    json_lines.append(path, {"step": 3, "key": "\u2028"})
    assert [row["step"] for row in json_lines.iterate(path)] == [1, 3]


class Stingy:
    """A write that takes `taken[i]` bytes at its i-th call, fails where that is None, and takes all from then on."""

    def __init__(self, taken):
        self.taken, self.write = list(taken), os.write

    def __call__(self, handle, data):
        most = self.taken.pop(0) if self.taken else len(data)
        if most is None:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        return self.write(handle, data[:most])


LONG = [{"step": step, "loss": 0.5} for step in range(4)]
WIDTH = len(json_lines.encode(LONG[0]))


@given(st.lists(st.none() | st.integers(1, 60), max_size=8))
def test_lines_that_a_disk_takes_in_pieces_are_written_once(tmp_path_factory, taken):
    path = tmp_path_factory.mktemp("rows") / "rows.jsonl"
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lines.os, "write", Stingy(taken))
        patch.setattr(json_lines.os, "ftruncate", lambda *_: pytest.fail("lines of others may be behind ours"))
        writer = json_lines.LineWriter(path, [json_lines.encode(row) for row in LONG])
        for _ in range(9):
            with contextlib.suppress(OSError):
                writer.write()
    assert path.read_bytes() == b"".join(json_lines.encode(row) for row in LONG)


@pytest.mark.parametrize("taken", range(1, 2 * WIDTH))
@pytest.mark.parametrize("others", [False, True])
def test_lines_of_others_stay_and_a_line_that_they_ended_is_written_once(tmp_path, monkeypatch, taken, others):
    path, other, damage = tmp_path / "rows.jsonl", {"other": 1}, json_lines.DamagedLines(tmp_path / "rows.jsonl")
    writer = json_lines.LineWriter(path, [json_lines.encode(row) for row in LONG])
    monkeypatch.setattr(json_lines.os, "write", Stingy([taken, None]))
    with pytest.raises(OSError, match="No space"):
        writer.write()
    assert len(writer.lines) == 4 - taken // WIDTH
    if others:
        json_lines.append(path, other)
    else:
        json_lines.drop_after(path, 9)  # cuts off what is no whole line
    writer.write()
    rows = json_lines.read_rows(path, damage)
    assert [row for row in rows if row != other] == LONG
    assert rows.count(other) == others
    assert damage.count == (others and 0 < taken % WIDTH < WIDTH - 1)


def test_a_line_that_is_forgotten_is_not_continued(tmp_path, monkeypatch):
    path = tmp_path / "rows.jsonl"
    rows = RowFile(path)
    monkeypatch.setattr(json_lines.os, "write", Stingy([10, None]))
    rows.append(LONG[3])
    rows.forget(lambda row: row["step"] > 1)
    json_lines.drop_after(path, 1)
    rows.append(LONG[2])
    assert path.read_bytes() == json_lines.encode(LONG[2])


def test_the_end_of_a_million_rows_is_read_in_the_memory_of_a_few(tmp_path):
    path = tmp_path / "metrics.jsonl"
    with path.open("w") as stream:
        for first in range(0, 1_000_000, 10_000):
            stream.writelines(f'{{"step": {step}, "loss/total": 1.5}}\n' for step in range(first, first + 10_000))
    read = []
    pread = os.pread
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(json_lines.os, "pread", lambda *args: read.append(args[1]) or pread(*args))
        json_lines.drop_after(path, 999_000)
        rows = json_lines.last_rows(path, 256, lambda row: "loss/total" in row)
    assert [rows[0]["step"], rows[-1]["step"]] == [998_745, 999_000]
    assert sum(read) < 1 << 20


def test_a_long_file_is_thinned_and_its_rare_rows_stay(tmp_path):
    path = tmp_path / "rows.jsonl"
    rows = [{"step": n, "loss": 1.0} for n in range(1000)] + [
        {"step": 500, "a": 1, "b": 2},
        {"step": 7, "x": {}, "y": 1},
    ]
    path.write_text("".join(json.dumps(row) + "\n" for row in rows) + "junk\n")
    kept = json_lines.thinned(path, most=50)
    assert kept[0] == rows[0]
    assert kept[-2:] == rows[-2:]
    assert 50 <= len(kept) - 2 <= 100
    assert json_lines.thinned(path) == rows


def test_work_that_hangs_is_left_behind_and_holds_up_nothing():
    from fra_dist.train.liveness.bounded import Aside

    release, done = threading.Event(), []
    aside = Aside()
    assert aside.run(lambda: done.append(1), 30.0)
    assert not aside.run(release.wait, 0.01)
    assert not aside.run(lambda: done.append(2), 30.0)
    release.set()
    while aside.hangs:
        time.sleep(0.01)
    assert aside.run(lambda: done.append(3), 30.0)
    assert done == [1, 3]


def test_a_file_that_a_library_writes_appears_as_a_whole_with_the_mode_of_new_files(tmp_path):
    path = tmp_path / "weights"
    path.write_text("old")
    with files.whole_file(path) as partial:
        partial.unlink()
        os.close(os.open(partial, os.O_WRONLY | os.O_CREAT, 0o600))
        partial.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    (tmp_path / "usual").touch()
    assert path.stat().st_mode == (tmp_path / "usual").stat().st_mode
    assert sorted(os.listdir(tmp_path)) == ["usual", "weights"]


def test_a_file_whose_writing_fails_leaves_the_old_one_alone(tmp_path):
    path = tmp_path / "weights"
    path.write_text("old")

    def fail_halfway():
        with files.whole_file(path) as partial:
            partial.write_text("ne")
            raise RuntimeError("half")

    with pytest.raises(RuntimeError, match="half"):
        fail_halfway()
    assert path.read_text() == "old"
    assert os.listdir(tmp_path) == ["weights"]
