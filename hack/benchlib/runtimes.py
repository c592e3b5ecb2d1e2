"""What is measured: OCI runtimes by runc's command line, and floor, behind one small interface."""
import json
import os
import select
import shutil
import signal
import subprocess
import time
from pathlib import Path

# Mounts of the kind "tmpfs", rules of the kind "rules".
TMPFS, RULES = 100, 600
SPEC_CAPABILITIES = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"]


class Failure(Exception):
    """A runtime could not do what a row asks of it here; the message is the last line it wrote to standard error."""


class Hung(Failure):
    """It had not ended after four seconds."""


class Sample:
    def __init__(self, nanoseconds, peak_kib):
        self.ns, self.peak_kib = nanoseconds, peak_kib


class Bundles:
    """config.json for each runtime, kind and program; one root file system for all. cgroup names start with keelbench."""

    def __init__(self, work, top, view):
        self.work, self.view = Path(work), view
        self.rootfs = self.work / "rootfs"
        subprocess.run([f"{top}/hack/rootfs", str(self.rootfs)], check=True, stdout=subprocess.DEVNULL)
        self.base = json.loads((Path(top) / "bundles/hello/config.json").read_text())
        self.seccomp = json.loads((Path(top) / "bundles/seccomp/config.json").read_text())["linux"]["seccomp"]

    def config(self, kind, args, cgroup):
        config = json.loads(json.dumps(self.base))
        process, linux = config["process"], config["linux"]
        process["args"] = args
        config["root"] = {"path": str(self.rootfs), "readonly": kind == "spec"}
        linux["cgroupsPath"] = f"/{cgroup}"
        if self.view != "v2":  # as `runc spec` and docker do: a cgroup namespace on v2 only
            linux["namespaces"] = [n for n in linux["namespaces"] if n["type"] != "cgroup"]
        if kind == "tmpfs":
            options = ["nosuid", "nodev", "size=64k", "mode=755"]
            config["mounts"] += [
                {"destination": f"/run/{i}", "type": "tmpfs", "source": "tmpfs", "options": options} for i in range(TMPFS)]
        elif kind == "rules":
            linux["seccomp"] = {
                "defaultAction": "SCMP_ACT_ALLOW", "architectures": self.seccomp["architectures"],
                "syscalls": [
                    {"names": ["ioctl"], "action": "SCMP_ACT_ERRNO", "args": [{"index": 1, "value": 0x7000 + 3 * i, "op": "SCMP_CMP_EQ"}]}
                    for i in range(RULES)]}
        elif kind == "spec":
            for name in ("bounding", "effective", "permitted"):
                process["capabilities"][name] = SPEC_CAPABILITIES
        else:
            config["mounts"].append({"destination": "/run", "type": "tmpfs", "source": "tmpfs", "options": ["nosuid", "mode=755", "size=65536k"]})
            linux["seccomp"] = self.seccomp
            linux["resources"].update(
                memory={"limit": 134217728}, pids={"limit": 100}, cpu={"shares": 1024, "period": 100000, "quota": 50000})
        return config

    def path(self, runtime, kind, args, number):
        name = f"keelbench-{runtime}-{kind}-{Path(args[0]).name}-{number}"
        bundle = self.work / name
        if not bundle.exists():
            bundle.mkdir()
            (bundle / "config.json").write_text(json.dumps(self.config(kind, args, name)))
        return str(bundle), name


class Runtime:
    """An OCI runtime. Every container has its own bundle, so its own cgroup; all state is below the bench's folder."""

    def __init__(self, name, program, bundles, spawn):
        self.name, self.program, self.bundles, self.spawn_program = name, os.path.abspath(program), bundles, spawn
        self.root = str(bundles.work / f"state-{name}")
        self.errors = str(bundles.work / f"errors-{name}")

    def command(self, *args):
        return [self.program, "--root", self.root, *args]

    def measure(self, argv):
        """Runs argv by the C helper; raises Failure when it fails."""
        helper = subprocess.run([self.spawn_program, self.errors, *argv], capture_output=True, text=True)
        if helper.returncode:
            raise Failure(helper.stderr.strip() or "could not be started")
        nanoseconds, peak, status = helper.stdout.split()
        if status == "124":
            raise Hung("it did not end within 4 s")
        if status != "0":
            lines = Path(self.errors).read_text(errors="replace").strip().splitlines()
            raise Failure(lines[-1] if lines else f"exit status {status} and nothing on stderr")
        return Sample(int(nanoseconds), int(peak))

    def run(self, kind="spec", prefix=()):
        bundle, name = self.bundles.path(self.name, kind, ["/bin/true"], 0)
        return self.measure([*prefix, *self.command("run", "--bundle", bundle, name)])

    def create(self, args=("/bin/true",), number=0):
        bundle, name = self.bundles.path(self.name, "spec", list(args), number)
        pid_file = f"{bundle}/pid"
        sample = self.measure(self.command("create", "--bundle", bundle, "--pid-file", pid_file, name))
        return Container(self, name, int(Path(pid_file).read_text())), sample

    def create_all(self, count, at_once):
        """Creates so many containers, some at once; the nanoseconds that takes. They are deleted again, untimed."""
        made = [self.bundles.path(self.name, "spec", ["/bin/true"], number) for number in range(count)]
        words = "".join(f"{bundle}\n{name}\n" for bundle, name in made)
        command = ["xargs", "-d", "\n", "-n", "2", "-P", str(at_once),
                   "sh", "-c", 'bundle=$3; name=$4; exec "$0" --root "$1" create --bundle "$bundle" "$name" < /dev/null > /dev/null 2>> "$2"',
                   self.program, self.root, self.errors]
        before = time.monotonic_ns()
        done = subprocess.run(command, input=words, text=True, timeout=120)
        taken = time.monotonic_ns() - before
        for _, name in made:
            subprocess.run(self.command("delete", "--force", name), capture_output=True)
        if done.returncode:
            lines = Path(self.errors).read_text(errors="replace").strip().splitlines()
            raise Failure(lines[-1] if lines else f"xargs ended with {done.returncode}")
        return taken

    def live(self):
        """A running container, for exec and state."""
        container, _ = self.create(("/bin/sleep", "1000"))
        self.measure(self.command("start", container.name))
        return container

    def parked(self, number):
        return self.create(("/bin/true",), number)[0]

    def clean(self):
        """Whatever a failed row left behind."""
        for name in os.listdir(self.root) if os.path.isdir(self.root) else []:
            subprocess.run(self.command("delete", "--force", name), capture_output=True)
        shutil.rmtree(self.root, ignore_errors=True)


class Container:
    def __init__(self, runtime, name, pid):
        self.runtime, self.name, self.pid = runtime, name, pid

    def start(self):
        return self.runtime.measure(self.runtime.command("start", self.name))

    def await_exit(self, pidfd):
        """Not timed: until the program has ended."""
        if not select.select([pidfd], [], [], 30)[0]:
            raise Failure("the program did not end")
        os.close(pidfd)

    def delete(self, *flags):
        return self.runtime.measure(self.runtime.command("delete", *flags, self.name))

    def exec(self):
        return self.runtime.measure(self.runtime.command("exec", self.name, "/bin/true"))

    def state(self):
        return self.runtime.measure(self.runtime.command("state", self.name))


class Floor(Runtime):
    """The floor program: what the kernel must do, for the rows where that is a number."""

    def __init__(self, program, bundles, spawn):
        super().__init__("floor", program, bundles, spawn)
        from benchlib import bpf
        self.filter = str(bundles.work / "filter.bpf")
        Path(self.filter).write_bytes(bpf.compile_profile(bundles.seccomp))
        self.view = ["-2"] if bundles.view == "v2" else []

    def run(self, kind="spec", prefix=()):
        flags = ["-D", "-s", self.filter] if kind == "docker" else []
        name = f"keelbench-floor-{kind}"
        return self.measure([*prefix, self.program, *self.view, *flags, "-n", name, str(self.bundles.rootfs), "/bin/true"])

    def live(self):
        return FloorContainer(self, "keelbench-floor-live", [], ["/bin/sleep", "1000"])

    def parked(self, number):
        return FloorContainer(self, f"keelbench-floor-parked-{number}", ["-P"], ["/bin/true"])

    def clean(self):
        pass


class FloorContainer:
    def __init__(self, floor, name, flags, args):
        self.floor, self.name = floor, name
        command = [floor.program, *floor.view, *flags, "-n", name, str(floor.bundles.rootfs), *args]
        self.process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE)
        wanted = "floor" if flags else os.path.basename(args[0])
        procs = Path("/sys/fs/cgroup", "" if floor.view else "pids", name, "cgroup.procs")
        if flags:
            self.process.stdout.readline()  # "parked"
        deadline = time.monotonic() + 10
        while time.monotonic() < deadline:
            pids = procs.read_text().split() if procs.exists() else []
            if pids and Path(f"/proc/{pids[0]}/comm").read_text().strip() == wanted:
                self.pid = int(pids[0])
                self.record = floor.bundles.work / "floor-record"
                self.record.write_text(json.dumps({"id": name, "pid": self.pid, "status": "running", "bundle": "/" + "b" * 40}) + " " * 600)
                return
            time.sleep(0.001)
        self.process.kill()
        raise Failure("floor did not come up")

    def exec(self):
        return self.floor.measure([self.floor.program, *self.floor.view, "-E", str(self.pid), "-n", self.name, "/bin/true"])

    def state(self):
        return self.floor.measure([self.floor.program, "-S", str(self.record)])

    def delete(self, *_flags):
        os.kill(self.pid, signal.SIGKILL)
        self.process.wait()
        self.process.stdout.close()
