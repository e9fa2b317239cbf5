"""Nothing in the package takes an error of a disk for "there is nothing there", except where that was looked at.

Found are: `except OSError` (or a handler of several that has it) which does not raise, `suppress(OSError)`, and the
questions of pathlib, os.path and glob, which answer "no" after errors, depending on the version of Python. The helpers
of `fra_dist.files` stand for all of these. A new place either uses them or is added here, with the reason why an error
there may count as nothing.
"""

import ast
from collections.abc import Iterator
from pathlib import Path

import fra_dist

PACKAGE = Path(fra_dist.__file__).parent
QUESTIONS = {"exists", "is_dir", "is_file", "glob", "rglob", "isdir", "isfile", "lexists", "is_symlink", "is_fifo"}
WIDE = {"OSError", "IOError", "EnvironmentError", "Exception", "PermissionError"}

SAID = "the error is reported, by the name of what failed"
AGAIN = "the same is tried again soon, or met again where it is reported"
SORTED = "only numbers that stand for an answer end here, the others are raised"
COPY = "it concerns a copy, which is then made again from the original"
TIDY = "it only clears away, and what stays does no harm"
WORDS = "it only passes words on to people"
FIRST = "whatever cannot be looked at here is then opened, and that says why it cannot be"
OTHER = "it asks /proc, /dev, the network or a library, not a disk"
REVIEWED = {
    "doctor/clusters.py:check_ray": SAID,
    "doctor/disks.py:check_run_folder": SAID,
    "doctor/libraries.py:check_dali": SAID,
    "doctor/libraries.py:check_step": SAID,
    "doctor/machine.py:check_clock": SAID,
    "doctor/machine.py:check_home": SAID,
    "doctor/machine.py:check_shared_memory": SAID,
    "doctor/machine.py:check_temporary_folder": SAID,
    "doctor/network.py:check_host_name": SAID,
    "doctor/network.py:check_ports": SAID,
    "data/making/photo_sets.py:_digest_of": SORTED,
    "export/places.py:_whole_folder": FIRST,
    "export/places.py:refuse_to_replace": FIRST,
    "machine_memory.py:limit_files": OTHER,
    "train/execution.py:_name_user": OTHER,
    "train/convolution_choice.py:choose": SAID,
    "train/cpu_measurements.py:_cpu_name": OTHER,
    "train/precision.py:bf16_share": SAID,
    "machine_memory.py:memory_limit": OTHER,
    "train/hooks/profile.py:Profile._finish": SAID,
    "train/signals.py:_say": WORDS,
    "train/sinks/opening.py:saved_at": AGAIN,
    "train/sinks/sink.py:Guarded._do": SAID,
    "cli/main.py:_run": SAID,
    "data/making/checking.py:CheckTask.__call__": SAID,
    "data/making/checking.py:_against_manifest": SAID,
    "data/making/cleaning_tasks.py:_encode": SAID,
    "data/making/listing.py:_kind": SAID,
    "data/making/listing.py:_look": SAID,
    "data/making/listing.py:list_folder": SAID,
    "data/stores/fetching.py:Fetcher._finish": SAID,
    "distributed/context.py:from_main": SAID,
    "distributed/interface.py:resolve.ask": SAID,
    "distributed/interface.py:listen_at": SORTED,
    "distributed/interface.py:_machine": OTHER,  # /proc; a machine of its own
    "eval/during.py:measure_sets": SAID,
    "eval/embed/photo_stream.py:Files.read": SAID,
    "distributed/gpus.py:_may_be_opened": OTHER,  # device files: a cgroup forbids those of other jobs
    "distributed/gpus.py:sign_of_gpu": OTHER,
    "kernels/self_check.py:_try": SAID,
    "launch/chaos/slow_files.py:main": SAID,
    "launch/ledger.py:Ledger.save": SAID,
    "launch/ledger.py:note": SAID,
    "launch/task.py:Task._open_log": SAID,
    "launch/task.py:Task._record": SAID,
    "launch/torchrun.py:Restarts.look": SAID,
    "report/picture_hook.py:_reported": SAID,
    "report/user_photos.py:read_square": SAID,
    "train/sinks/tensorboard.py:TensorBoard.write": SAID,
    "train/liveness/watchdog.py:Watchdog._write": SAID,
    "train/liveness/stack_dumps.py:dump_stacks": SAID,
    "train/liveness/stack_dumps.py:record_verdict": SAID,
    "train/run_dir/fence.py:read_attempt": SAID,
    "train/run_dir/row_file.py:RowFile.flush": SAID,
    "train/trainer.py:Run._describe": SAID,
    "files.py:patiently": AGAIN,
    "leases.py:Lease._renew": AGAIN,
    "launch/elastic.py:_show": AGAIN,
    "launch/pulse_watch.py:Silence._read": AGAIN,
    "launch/slurm.py:job_state": AGAIN,
    "launch/slurm_following.py:_read_from": AGAIN,
    "launch/task.py:Task._reserve": AGAIN,
    "launch/task.py:_copy": AGAIN,
    "train/checkpoints/retention.py:apply_retention": AGAIN,
    "train/liveness/heartbeats.py:Heartbeats.read": AGAIN,
    "train/liveness/pulse.py:Pulse._say": AGAIN,
    "data/making/cleaning_tasks.py:_hash": AGAIN,
    "files.py:sync_folder": SORTED,
    "text_lines.py:_opened": SORTED,
    "leases.py:Lease._clear": SORTED,
    "leases.py:age_of": SORTED,
    "leases.py:is_locked_by_other": SORTED,
    "leases.py:lock": SORTED,
    "data/stores/file_locks.py:can_lock": SORTED,
    "data/stores/file_locks.py:inode": COPY,
    "data/stores/remote_folder.py:RemoteFolder.sizes": COPY,
    "data/stores/shard_cache.py:ShardCache.get_small": COPY,
    "data/stores/shard_cache.py:ShardCache.open": COPY,
    "data/stores/shard_cache.py:ShardCache.put_small": COPY,
    "eval/embed/photo_stream.py:Files.digest": COPY,
    "eval/features/feature_cache.py:Cache.load": COPY,
    "data/shards/writer.py:ShardWriter.abandon": TIDY,
    "files.py:_remove": TIDY,
    "files.py:sweep": TIDY,
    "leases.py:Lease.release": TIDY,
    "train/checkpoints/writing.py:delete_checkpoint": TIDY,
    "train/sinks/tensorboard.py:TensorBoard.close": TIDY,
    "data/making/workers.py:_pool": SAID,
    "data/making/photo_sources.py:photo_bytes": WORDS,
    "launch/outcome.py:last_line": WORDS,
    "launch/task.py:Task._shown_log": WORDS,
    "safe_output.py:SafeOutput.flush": WORDS,
    "stand_ins.py:stand_in_at": WORDS,
    "safe_output.py:SafeOutput.isatty": WORDS,
    "safe_output.py:SafeOutput.write": WORDS,
    "safe_output.py:to_null": WORDS,
    "train/liveness/watchdog.py:Watchdog._end": WORDS,
    "train/liveness/stack_dumps.py:_first_verdict": WORDS,
    "train/run_dir/folder.py:_commit": WORDS,
    "config/shipped.py:_is_there": FIRST,
    "config/shipped.py:copy_shipped": FIRST,
    "data/making/shard_making.py:_refuse_inside": FIRST,
    "report/user_photos.py:_matches": FIRST,
    "report/user_photos.py:find_photos": FIRST,
    "data/decoding/images.py:turn_of": OTHER,
    "data/decoding/open_pipeline.py:open_pipeline": OTHER,
    "launch/chaos/small_disks.py:own_mounts": OTHER,
    "launch/chaos/trainings.py:trainers": OTHER,
    "launch/pulse_watch.py:state_of": OTHER,
    "launch/torchrun.py:_address_here": OTHER,
    "launch/torchrun.py:_host_here": OTHER,
    "launch/torchrun.py:_is_task": OTHER,
}


def functions(tree: ast.AST, name: str = "") -> Iterator[tuple[str, ast.AST]]:
    """(qualified name of the function around it, node) of every node below."""
    for child in ast.iter_child_nodes(tree):
        named = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef)
        here = f"{name}.{child.name}".lstrip(".") if named else name
        yield here, child
        yield from functions(child, here)


def names_in(node: ast.AST | None) -> set[str]:
    return {
        n.id if isinstance(n, ast.Name) else n.attr
        for n in ast.walk(node or ast.Pass())
        if isinstance(n, ast.Name | ast.Attribute)
    }


def swallows(node: ast.AST) -> bool:
    """Whether an error of a disk may end here without being said."""
    if isinstance(node, ast.ExceptHandler):
        raised = isinstance(node.body[-1], ast.Raise)
        return not raised and (node.type is None or bool(names_in(node.type) & WIDE))
    if not isinstance(node, ast.Call):
        return False
    if names_in(node.func) & {"suppress"}:
        return any(names_in(argument) & WIDE for argument in node.args)
    asked = isinstance(node.func, ast.Attribute) and node.func.attr in QUESTIONS
    ours = isinstance(node.func, ast.Attribute) and names_in(node.func.value) == {"files"}
    return asked and not ours


def found_in(source: str) -> set[str]:
    return {where or "the module" for where, node in functions(ast.parse(source)) if swallows(node)}


def test_each_place_where_a_disk_error_counts_as_nothing_was_looked_at():
    found = {
        f"{path.relative_to(PACKAGE).as_posix()}:{where}"
        for path in PACKAGE.rglob("*.py")
        for where in found_in(path.read_text(encoding="utf-8"))
    }
    new, gone = found - REVIEWED.keys(), REVIEWED.keys() - found
    assert not new, f"use fra_dist.files, or say in REVIEWED why an error is nothing here: {sorted(new)}"
    assert not gone, f"no longer there, take them out of REVIEWED: {sorted(gone)}"


def test_the_ways_to_swallow_an_error_are_seen():
    assert found_in("def f():\n try: g()\n except OSError: return None\n") == {"f"}
    assert found_in("class A:\n def f(self):\n  with suppress(ValueError, OSError): g()\n") == {"A.f"}
    assert found_in("def f(p):\n return p.exists() or os.path.isdir(p)\n") == {"f"}
    assert found_in("def f(p):\n try: g()\n except OSError as e: raise failure(e) from None\n") == set()
    assert found_in("def f(p):\n return files.exists(p) or exists(p)\n") == set()
