//! Every flag of run that changes what the program sees.

use crate::common::eventually;
use crate::host::{Host, has_controller};
use std::fs;

#[test]
fn environment_user_and_directory() {
    let host = Host::new();
    fs::write(host.dir.join("env"), "# comment\nFILE=from file\nA=file\n").unwrap();
    let said = host.sh(
        &["--env-file", "env", "-e", "A=flag", "-w", "/tmp/new", "-u", "1000:7", "--group-add", "9"],
        "echo $FILE-$A; pwd; id -u; id -g; id -G; echo $HOME",
    );
    assert_eq!(said, "from file-flag\n/tmp/new\n1000\n7\n7 9\n/home/app\n");
    assert_eq!(host.sh(&["-u", "app"], "id -u; grep CapEff /proc/self/status"), "1000\nCapEff:\t0000000000000000\n");
    assert_eq!(host.run(&["--rm", "--entrypoint", "echo", "busybox", "a", "b"]).ok(), "a b\n");
    let said = host.sh(&["--hostname", "boxy", "--add-host", "db:10.1.2.3"], "hostname; cat /etc/hostname; grep db /etc/hosts");
    assert_eq!(said, "boxy\nboxy\n10.1.2.3\tdb\n");
    let id = host.sh(&["--cidfile", "cid"], "hostname");
    let cid = fs::read_to_string(host.dir.join("cid")).unwrap();
    assert_eq!((cid.len(), &cid[..12]), (64, id.trim()));
    host.run(&["--cidfile", "cid", "busybox", "true"]).fails(125, &["container ID file found"]);
    host.nothing_left();
}

#[test]
fn exec_flags() {
    let host = Host::new();
    host.detached(&["--name", "box", "-e", "A=1", "-u", "app", "busybox", "sleep", "1000"]);
    let said = host.my(&[
        "exec",
        "-e",
        "A=2",
        "-e",
        "B=3",
        "-w",
        "/var",
        "-u",
        "root",
        "box",
        "sh",
        "-c",
        "echo $A$B $HOME; pwd; id -u; grep CapEff /proc/self/status",
    ]);
    assert_eq!(said.ok(), "23 /root\n/var\n0\nCapEff:\t00000000a80425fb\n");
    assert_eq!(host.exec("box", "id -u; echo $A"), "1000\n1\n");
    assert!(host.my(&["exec", "--privileged", "-u", "0", "box", "grep", "CapEff", "/proc/self/status"]).ok().contains("ffffff\n"));
    host.my(&["exec", "-d", "-u", "root", "box", "sh", "-c", "echo done > /tmp/done"]).ok();
    eventually("the detached program ran", || host.exec("box", "cat /tmp/done 2>/dev/null; true") == "done\n");
    let mut cat = host.command(&["exec", "-i", "box", "cat"]);
    let mut cat = cat.stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    std::io::Write::write_all(&mut cat.stdin.take().unwrap(), b"\0through\xff").unwrap();
    assert_eq!(cat.wait_with_output().unwrap().stdout, b"\0through\xff");
    host.clear();
}

#[test]
fn limits_are_what_was_asked_for() {
    let host = Host::new();
    let cpuset: &[&str] = if has_controller("cpuset") { &["--cpuset-cpus", "0"] } else { &[] };
    let limits = ["-m", "32m", "--memory-swap", "48m", "--cpus", "0.5", "--pids-limit", "17"];
    let id = host.detached(&[&limits, cpuset, &["busybox", "sleep", "1000"]].concat());
    let read = |controller: &str, v1: &str, v2: &str| {
        let two = fs::read_to_string(format!("/sys/fs/cgroup/mydocker/{id}/{v2}"));
        let one = || fs::read_to_string(format!("/sys/fs/cgroup/{controller}/mydocker/{id}/{v1}"));
        two.or_else(|_| one()).unwrap_or_else(|e| panic!("{v1}: {e}")).trim().to_owned()
    };
    assert_eq!(read("memory", "memory.limit_in_bytes", "memory.max"), (32 << 20).to_string());
    assert!(["50000", "50000 100000"].contains(&read("cpu", "cpu.cfs_quota_us", "cpu.max").as_str()));
    assert_eq!(read("pids", "pids.max", "pids.max"), "17");
    if !cpuset.is_empty() {
        assert_eq!(host.exec(&id, "grep Cpus_allowed_list /proc/self/status"), "Cpus_allowed_list:\t0\n");
    }
    // What needs more memory than that is killed, and that is known afterwards.
    let said = host.run(&[
        "--name",
        "big",
        "-m",
        "8m",
        "--memory-swap",
        "8m",
        "busybox",
        "sh",
        "-c",
        "exec dd if=/dev/zero of=/dev/null bs=64M count=1",
    ]);
    assert_eq!((said.code, host.inspect("big", "{{.State.OOMKilled}}").as_str()), (137, "true"), "{said:?}");
    host.run(&["-m", "1k", "busybox", "true"]).fails(125, &["minimum memory limit"]);
    host.run(&["--cpus", "9999", "busybox", "true"]).fails(125, &["range of CPUs is from 0.01 to"]);
    host.run(&["--no-such-flag=1", "busybox", "true"]).fails(125, &["unknown flag: --no-such-flag ("]);
    host.my(&["exec", "-x", "big", "true"]).fails(125, &["unknown flag: -x"]);
    host.clear();
}

#[test]
fn the_root_can_be_read_only_and_have_tmpfs() {
    let host = Host::new();
    let said = host.sh(
        &["--read-only", "--tmpfs", "/scratch:size=1m,mode=700"],
        "touch /x 2>&1; touch /scratch/x && stat -c %a /scratch; mount | grep scratch; df /dev/shm >/dev/null; touch /dev/shm/y",
    );
    assert!(said.starts_with("touch: /x: Read-only file system\n700\n") && said.contains("size=1024k"), "{said}");
    assert!(host.sh(&["--shm-size", "8m"], "grep /dev/shm /proc/mounts").contains("size=8192k"));
    host.nothing_left();
}

#[test]
fn privileges_are_given_and_taken() {
    let host = Host::new();
    let effective = |flags: &[&str]| {
        u64::from_str_radix(host.sh(flags, "grep CapEff /proc/self/status").split_whitespace().nth(1).unwrap(), 16).unwrap()
    };
    let default = effective(&[]);
    assert_eq!(default, 0xa804_25fb, "docker's fourteen");
    assert_eq!(effective(&["--cap-add", "NET_ADMIN"]), default | 1 << 12);
    assert_eq!(effective(&["--cap-add", "CAP_SYS_TIME", "--cap-drop", "mknod"]), (default | 1 << 25) & !(1 << 27));
    assert_eq!(effective(&["--cap-drop", "ALL", "--cap-add", "CHOWN"]), 1);
    assert!(effective(&["--privileged"]) & 1 << 21 != 0);
    host.run(&["--cap-add", "NOSUCH", "busybox", "true"]).fails(125, &["NOSUCH"]);
    // seccomp: docker's profile by default, none or a file when told.
    let mode = |flags: &[&str]| host.sh(flags, "grep -E '^(Seccomp|NoNewPrivs):' /proc/self/status").replace(['\t', '\n'], "");
    assert_eq!(mode(&[]), "NoNewPrivs:0Seccomp:2");
    assert_eq!(mode(&["--security-opt", "seccomp=unconfined", "--security-opt", "no-new-privileges"]), "NoNewPrivs:1Seccomp:0");
    assert_eq!(mode(&["--privileged"]), "NoNewPrivs:0Seccomp:0");
    let profile =
        r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 1}]}"#;
    fs::write(host.dir.join("profile.json"), profile).unwrap();
    assert!(host.sh(&["--security-opt", "seccomp=profile.json"], "mkdir /made 2>&1; true").contains("Operation not permitted"));
    host.run(&["--security-opt", "seccomp=missing.json", "busybox", "true"]).fails(125, &["missing.json"]);
    host.run(&["--security-opt", "nosuch", "busybox", "true"]).fails(125, &["nosuch"]);
    assert_eq!(host.my(&["ps", "-aq"]).ok().lines().count(), 0, "nothing is made of what is refused");
    host.nothing_left();
}

#[test]
fn kernel_settings_and_devices() {
    let host = Host::new();
    assert_eq!(host.sh(&["--ulimit", "nofile=100:200"], "ulimit -n; ulimit -Hn"), "100\n200\n");
    assert_eq!(host.sh(&["--sysctl", "kernel.shmmni=1234"], "cat /proc/sys/kernel/shmmni"), "1234\n");
    host.run(&["--rm", "--sysctl", "kernel.panic=1", "busybox", "true"]).fails(125, &["kernel.panic"]);
    assert_eq!(
        host.sh(&["--device", "/dev/null:/dev/other:rw"], "echo x > /dev/other && stat -c %F /dev/other"),
        "character special file\n"
    );
    host.run(&["--rm", "--device", "/nosuch", "busybox", "true"]).fails(125, &["/nosuch"]);
    assert_eq!(host.sh(&["--cap-add", "MKNOD"], "mknod /m c 1 1 && head -c1 /m 2>&1 | tail -c 24"), "Operation not permitted\n");
    host.nothing_left();
}

#[test]
fn an_init_reaps_and_passes_signals() {
    let host = Host::new();
    let line = "trap 'echo term; exit 4' TERM; (sleep 0.01 & ) ; echo ready; while :; do sleep 0.02; done";
    let id = host.detached(&["--init", "busybox", "sh", "-c", line]);
    eventually("ready", || host.my(&["logs", &id]).ok() == "ready\n");
    assert!(host.exec(&id, "cat /proc/1/cmdline").contains("docker-init"));
    eventually("orphans are reaped", || !host.exec(&id, "cat /proc/[0-9]*/stat 2>/dev/null; true").contains(") Z "));
    host.my(&["stop", "-t", "20", &id]).ok();
    assert_eq!((host.my(&["logs", &id]).ok().as_str(), host.inspect(&id, "{{.State.ExitCode}}").as_str()), ("ready\nterm\n", "4"));
    host.run(&["--rm", "--init", "busybox", "nothing"]).fails(127, &[]);
    host.clear();
}

#[test]
fn volumes_with_names_and_other_containers_networks() {
    let host = Host::new();
    host.sh(&["-v", "data:/etc"], "echo kept > /etc/kept; cat /etc/passwd > /dev/null");
    // Filled with what the image has there, once.
    assert_eq!(host.sh(&["-v", "data:/d:ro"], "cat /d/kept; grep -c root /d/passwd; touch /d/x 2>/dev/null || echo ro"), "kept\n1\nro\n");
    host.detached(&["--name", "first", "busybox", "sleep", "1000"]);
    let first = host.exec("first", "readlink /proc/self/ns/net");
    let join = ["run", "--rm", "--network", "container:first", "busybox", "readlink", "/proc/self/ns/net"];
    assert_eq!(host.my(&join).ok(), first);
    let own = fs::read_link("/proc/self/ns/net").unwrap();
    assert_eq!(
        host.my(&["run", "--rm", "--network", "host", "busybox", "readlink", "/proc/self/ns/net"]).ok().trim(),
        own.to_string_lossy()
    );
    assert_eq!(host.sh(&[], "ls /sys/class/net"), "lo\n");
    host.my(&["rm", "-f", "first"]).ok();
    host.my(&join).fails(125, &["first"]);
    host.clear();
}

#[test]
fn seccomp_profiles_in_dockers_form_depend_on_capabilities() {
    let host = Host::new();
    let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "archMap": [{"architecture": "SCMP_ARCH_X86_64", "subArchitectures": ["SCMP_ARCH_X86"]},
        {"architecture": "SCMP_ARCH_AARCH64", "subArchitectures": null}], "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28, "args": [], "comment": "", "includes": {}, "excludes": {"caps": ["CAP_SYS_TIME"]}},
        {"names": ["chmod", "fchmodat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 28, "includes": {"caps": ["CAP_SYS_TIME"], "minKernel": "4.8"}, "excludes": {}},
        {"names": ["sync"], "action": "SCMP_ACT_KILL", "includes": {"arches": ["s390x"]}, "excludes": {}}]}"#;
    std::fs::write(host.dir.join("profile.json"), profile).unwrap();
    let run = |flags: &[&str]| {
        let line = "mkdir /x 2>&1; chmod 600 /etc 2>&1; sync && echo synced";
        host.sh(&[&["--security-opt", "seccomp=profile.json"], flags].concat(), line)
    };
    let full = "No space left on device";
    let said = run(&[]);
    assert!(said.starts_with("mkdir:") && said.contains(full) && said.lines().count() == 2, "{said}");
    let said = run(&["--cap-add", "SYS_TIME"]);
    assert!(said.starts_with("chmod:") && said.contains(full) && said.lines().count() == 2, "{said}");
    // That of podman's distribution is docker's, with all of its conditions.
    let shipped = "/usr/share/containers/seccomp.json";
    if std::path::Path::new(shipped).exists() {
        let flag = format!("seccomp={shipped}");
        assert_eq!(host.sh(&["--security-opt", &flag], "hostname other 2>/dev/null || echo refused"), "refused\n");
        assert_eq!(host.sh(&["--security-opt", &flag, "--cap-add", "SYS_ADMIN"], "hostname other && echo done"), "done\n");
    }
    std::fs::write(host.dir.join("profile.json"), profile.replace("minKernel", "maxKernel")).unwrap();
    host.run(&["--rm", "--security-opt", "seccomp=profile.json", "busybox", "true"]).fails(125, &["decoding seccomp profile", "maxKernel"]);
    host.nothing_left();
}

/// Aliases and host names are written into files whose separators are spaces, commas and ends of lines.
#[test]
fn a_host_name_is_one() {
    let host = Host::new();
    let long = "a".repeat(64);
    let labels = format!("{0}.{0}.{0}.{0}.{0}", "a".repeat(60));
    host.idle("up", &[]);
    for name in ["a b", "a\n10.0.0.1 bank", "a,b", "a#b", "-a", "a-", "a..b", ".a", "a.", "é", "a/b", &long, &labels] {
        for flag in ["--hostname", "--domainname", "--network-alias"] {
            host.my(&["create", &format!("{flag}={name}"), "busybox"]).fails(125, &[&format!("invalid {flag}"), "not the name of a host"]);
        }
        host.my(&["create", "--network", &format!("name=bridge,alias={name}"), "busybox"]).fails(125, &["invalid --network"]);
        host.my(&["create", "--add-host", &format!("{name}:10.0.0.1"), "busybox"]).fails(125, &["invalid --add-host"]);
        let alias = format!("--alias={name}");
        host.my(&["network", "connect", &alias, "bridge", "up"]).fails(1, &["invalid --alias", "not the name of a host"]);
    }
    host.my(&["create", "--network-alias", "", "busybox"]).fails(125, &["not the name of a host"]);
    let longer = format!("{}.{}", "a".repeat(40), "b".repeat(30));
    host.my(&["create", "--hostname", &longer, "busybox"]).fails(125, &["more than 64 characters"]);
    assert_eq!(
        host.sh(&["--hostname", "My_host-1.example", "--domainname", "example.org"], "hostname; cat /etc/hostname"),
        "My_host-1.example\nMy_host-1.example\n"
    );
    host.clear();
}
