"""The checks on every node of an allocation: a program that each node runs, and the reading of what all of them print.

python -m fra_dist.doctor.nodes SUBJECT       on one node: a line of JSON a finding, with the name of the host
"""

import json
import platform
import sys
from collections.abc import Iterable
from dataclasses import asdict, replace

from fra_dist.doctor.examine import examine
from fra_dist.doctor.result import CheckResult
from fra_dist.doctor.subject import Subject

_MARK = "fra-dist node: "


def command(python: str, subject: Subject) -> list[str]:
    """Return the command that examines one node with the given Python."""
    return [python, "-u", "-m", "fra_dist.doctor.nodes", subject.to_json()]


def read_lines(lines: Iterable[str]) -> dict[str, list[CheckResult]]:
    """Return the findings of each host from what all nodes printed, in the order in which hosts appeared."""
    found: dict[str, list[CheckResult]] = {}
    for line in lines:
        _, mark, text = line.partition(_MARK)
        if mark:
            row = json.loads(text)
            found.setdefault(row.pop("host"), []).append(CheckResult(**row))
    return found


def joined_hosts(hosts: dict[str, list[CheckResult]]) -> list[CheckResult]:
    """Return one list for all hosts: of a check that is ok one finding with the number of hosts, others by host."""
    found: list[CheckResult] = []
    for name in dict.fromkeys(one.name for all_of_it in hosts.values() for one in all_of_it):
        here = {host: next((one for one in own if one.name == name), None) for host, own in hosts.items()}
        missing = [host for host, one in here.items() if one is None]
        if missing:
            found.append(CheckResult("fail", f"no answer from {', '.join(missing)}", "look at that node", name))
        fine = [host for host, one in here.items() if one and one.verdict == "ok"]
        if fine:
            first = here[fine[0]]
            assert first is not None
            where = f"{len(fine)} of {len(hosts)} nodes, {fine[0]}: " if len(hosts) > 1 else ""
            found.append(replace(first, text=where + first.text))
        found += [replace(one, text=f"{host}: {one.text}") for host, one in here.items() if one and one.verdict != "ok"]
    return found


def main() -> int:
    """Examine this node and print each finding; always 0, since the one who reads the lines judges."""
    for one in examine(Subject.from_json(sys.argv[1])):
        print(_MARK + json.dumps({"host": platform.node(), **asdict(one)}), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
