"""The rows of the table: how each number comes about, and the goal that keel has there."""
import os
import re
import statistics
from pathlib import Path

from benchlib.runtimes import RULES, TMPFS, Failure, Floor, Hung


class Goal:
    """keel's median at most `factor` times `peer`'s (paired, round by round), or at most `limit` in the row's unit."""

    def __init__(self, factor=None, peer=None, limit=None):
        self.factor, self.peer, self.limit = factor, peer, limit

    def __str__(self):
        return f"≤ {self.factor:g} × {self.peer}" if self.peer else f"≤ {self.limit:g}"


class Row:
    def __init__(self, name, title, unit, goals, views=("v1", "v2", "native")):
        self.name, self.title, self.unit, self.goals, self.views = name, title, unit, goals, views


STATIC = "crun-static"

# How much work a row grows to; benchlib.runtimes makes the configurations.
PARKED = 200
CROWD = 64
AT_ONCE = (1, 8, 64)


def rows(view):
    v2 = view == "v2"
    every = [
        Row("run", "run", "ms", [Goal(1.5, "floor")]),
        Row("create", "create", "ms", [Goal(0.6 if v2 else 0.3, STATIC)]),
        Row("start", "start", "ms", [Goal(0.6, STATIC)]),
        Row("delete", "delete", "ms", [Goal(0.6, STATIC)]),
        Row("delete-force", "delete --force of a running one", "ms", [Goal(limit=2), Goal(0.2, STATIC)]),
        Row("exec", "exec", "ms", [Goal(0.6, STATIC)] if v2 else [Goal(2, "floor")]),
        Row("state", "state", "ms", [Goal(0.5, STATIC)]),
        Row("run-docker", "run, docker-like (seccomp, limits, caps)", "ms", [Goal(1.5, "floor")], views=("v1", "native")),
        Row("run-tmpfs", f"run with {TMPFS} tmpfs mounts", "ms", [Goal(1, STATIC)]),
        Row("run-rules", f"run with {RULES} seccomp rules with an argument", "ms", [Goal(1, STATIC)]),
        Row("list", f"list of {PARKED} containers", "ms", [Goal(1, STATIC)]),
        *(Row(f"create-by-{n}", f"create, each of {CROWD}, {n} at once", "ms", [Goal(1, STATIC)]) for n in AT_ONCE),
        Row("memory", "peak memory of run", "MiB", [Goal(limit=1.6)]),
        Row("parked", "parked init, PSS", "MiB", [Goal(limit=0.4)]),
        Row("parked-ten", "parked init, PSS, each of ten", "MiB", [Goal(limit=0.15)]),
        Row("syscalls", "system calls of run", "", [Goal(limit=420)]),
        Row("forks", "processes and threads made by run", "", [Goal(limit=1)]),
    ]
    return [row for row in every if view in row.views]


def pss_mib(pid):
    rollup = Path(f"/proc/{pid}/smaps_rollup").read_text()
    return int(re.search(r"^Pss:\s+(\d+) kB", rollup, re.M).group(1)) / 1024


class Group:
    """Rows that come from the same work. `round` returns {row name: value}; a runtime may lack one (floor has no create)."""

    rows = ()
    most_rounds = 10**6
    floor_too = True

    def setup(self, runtime):
        return None

    def round(self, runtime, context):
        raise NotImplementedError

    def teardown(self, runtime, context):
        pass


class Run(Group):
    def __init__(self, row, kind):
        self.rows, self.kind = (row,), kind

    @property
    def floor_too(self):
        return self.kind in ("spec", "docker")

    def round(self, runtime, context):
        return {self.rows[0]: runtime.run(self.kind).ns / 1e6}


class Cycle(Group):
    rows = ("create", "start", "delete")
    floor_too = False

    def round(self, runtime, context):
        container, created = runtime.create()
        pidfd = os.pidfd_open(container.pid)
        started = container.start()
        container.await_exit(pidfd)
        deleted = container.delete()
        return {"create": created.ns / 1e6, "start": started.ns / 1e6, "delete": deleted.ns / 1e6}


class Force(Group):
    rows = ("delete-force",)
    floor_too = False

    def round(self, runtime, context):
        return {"delete-force": runtime.live().delete("--force").ns / 1e6}


class Live(Group):
    rows = ("exec", "state")

    def setup(self, runtime):
        return runtime.live()

    def round(self, runtime, container):
        return {"exec": container.exec().ns / 1e6, "state": container.state().ns / 1e6}

    def teardown(self, runtime, container):
        container.delete("--force")


class List(Group):
    rows = ("list",)
    floor_too = False

    def setup(self, runtime):
        return [runtime.parked(number) for number in range(PARKED)]

    def round(self, runtime, context):
        return {"list": runtime.measure(runtime.command("list")).ns / 1e6}


class Crowd(Group):
    """Creates that run at once: the time from the first's start to the last's end, divided by their number."""

    floor_too = False
    most_rounds = 10

    def __init__(self, at_once):
        self.rows, self.at_once = (f"create-by-{at_once}",), at_once

    def round(self, runtime, context):
        nanoseconds = runtime.create_all(CROWD, self.at_once)
        return {self.rows[0]: nanoseconds / CROWD / 1e6}


class Memory(Group):
    rows = ("memory",)
    most_rounds = 7

    def round(self, runtime, context):
        return {"memory": runtime.run().peak_kib / 1024}


class Parked(Group):
    rows = ("parked", "parked-ten")
    most_rounds = 3

    def round(self, runtime, context):
        containers = []
        try:
            containers.append(runtime.parked(0))
            one = pss_mib(containers[0].pid)
            containers += [runtime.parked(number) for number in range(1, 10)]
            ten = statistics.mean(pss_mib(container.pid) for container in containers)
        finally:
            for container in containers:
                container.delete("--force")
        return {"parked": one, "parked-ten": ten}


class Counts(Group):
    """strace counts what the runtime and the container's program (busybox true) call, and every clone, fork and thread."""

    rows = ("syscalls", "forks")
    most_rounds = 3

    def round(self, runtime, context):
        table = runtime.bundles.work / "strace"
        runtime.run(prefix=("/usr/bin/strace", "-f", "-c", "-U", "calls,name", "-o", str(table)))
        calls = {name: int(number) for number, name in re.findall(r"^\s*(\d+)\s+([a-z_0-9]+)$", table.read_text(), re.M)}
        forks = sum(calls.get(name, 0) for name in ("clone", "clone3", "fork", "vfork"))
        return {"syscalls": sum(number for name, number in calls.items() if name != "total"), "forks": forks}


GROUPS = (Run("run", "spec"), Cycle(), Force(), Live(), Run("run-docker", "docker"), Run("run-tmpfs", "tmpfs"), Run("run-rules", "rules"),
          List(), *map(Crowd, AT_ONCE), Memory(), Parked(), Counts())


MOST_REPEATS = 8


def measure(group, runtimes, rounds, wanted, say):
    """Interleaved rounds: in each, every runtime does the work once, and who is first moves on. The first round is thrown away.

    A round in which a runtime hung is repeated, up to MOST_REPEATS times in all (youki's run hangs now and then when the program
    ends at once); a runtime that fails otherwise is out of the group.
    Returns {row: {runtime: [value, ...]}}, {runtime: why it failed} and {runtime: how many rounds it needed a second time}.
    """
    values = {row: {} for row in group.rows if row in wanted}
    failures, contexts, again = {}, {}, {}
    taking_part = [r for r in runtimes if group.floor_too or not isinstance(r, Floor)]
    say(f"{', '.join(values)}")
    for runtime in taking_part:
        try:
            contexts[runtime] = group.setup(runtime)
        except (Failure, OSError) as error:
            failures[runtime.name] = str(error)
    rounds = min(rounds, group.most_rounds)
    for number in range(rounds + 1):
        turn = number % len(taking_part)
        for runtime in taking_part[turn:] + taking_part[:turn]:
            if runtime.name in failures:
                continue
            try:
                got = attempt(group, runtime, contexts[runtime])
                while got is None and again.get(runtime.name, 0) < MOST_REPEATS:
                    again[runtime.name] = again.get(runtime.name, 0) + 1
                    got = attempt(group, runtime, contexts[runtime])
                if got is None:
                    raise Hung(f"hung in {MOST_REPEATS + 1} rounds")
            except (Failure, OSError) as error:
                failures[runtime.name] = str(error)
                runtime.clean()
                continue
            if number:
                for row in values:
                    values[row].setdefault(runtime.name, []).append(got[row])
    for runtime in taking_part:
        try:
            if runtime in contexts:
                group.teardown(runtime, contexts[runtime])
        except (Failure, OSError):
            pass
        runtime.clean()
    for name in failures:  # a number of fewer rounds would not be comparable
        for row in values:
            values[row].pop(name, None)
    return values, failures, again


def attempt(group, runtime, context):
    """One round, or None where the runtime hung and left no more than that to say."""
    try:
        return group.round(runtime, context)
    except Hung:
        if context is None:
            runtime.clean()
            return None
        raise
