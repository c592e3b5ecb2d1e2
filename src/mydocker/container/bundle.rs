//! The bundle of a container: the runtime's configuration, made anew at each start from the record.

use super::{Container, Record, Security, Settings, User, capabilities, resolve};
use crate::mydocker::userns::{has_one_id, is_rootless};
use crate::spec::{self, Capabilities, Device, DeviceRule, Linux, Mount, Namespace, Pids, Process, Resources, Rlimit, Root, Spec};
use crate::sys::{Context, Error, Result};
use rustix::fs::{FileType, Mode, OFlags};
use std::path::{Path, PathBuf};

/// What a start has found out before the configuration can be written.
#[derive(Clone, Debug, Default)]
pub struct Prepared {
    /// The network namespace to join; empty for a new one with loopback, none for the host's.
    pub network: Option<PathBuf>,
    /// Namespaces of other containers: kind and path.
    pub shared: Vec<(&'static str, PathBuf)>,
    /// The user namespace to join (`--userns auto`); the root file system is then mounted at `rootfs` already.
    pub user: Option<PathBuf>,
    /// Volumes, binds and tmpfs, with their sources.
    pub mounts: Vec<Mount>,
    /// The program that reaps for `--init`, on the host.
    pub init: Option<PathBuf>,
}

/// The variables of docker's, of the image and of the user, later ones winning.
pub fn environment(settings: &Settings, hostname: &str, home: &str) -> Vec<String> {
    let mut env = vec![
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
        format!("HOSTNAME={hostname}"),
        format!("HOME={home}"),
    ];
    if settings.tty {
        env.push("TERM=xterm".into());
    }
    for entry in &settings.env {
        let key = entry.split_once('=').map_or(entry.as_str(), |(key, _)| key);
        env.retain(|old| old.split_once('=').is_none_or(|(name, _)| name != key));
        env.push(entry.clone());
    }
    env
}

fn mount(destination: &str, kind: &str, options: &[&str]) -> Mount {
    let options = options.iter().map(|option| (*option).to_owned()).collect();
    Mount { destination: destination.into(), kind: kind.into(), source: kind.into(), options, ..Mount::default() }
}

/// Paths that docker hides or protects.
const MASKED: [&str; 12] = [
    "/proc/asound",
    "/proc/acpi",
    "/proc/interrupts",
    "/proc/kcore",
    "/proc/keys",
    "/proc/latency_stats",
    "/proc/timer_list",
    "/proc/timer_stats",
    "/proc/sched_debug",
    "/proc/scsi",
    "/sys/devices/virtual/powercap",
    "/sys/firmware",
];
const READ_ONLY: [&str; 5] = ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"];

/// The `process.user` of a container whose command line asked for the groups `asked`. In a user namespace with one id the
/// groups of the image's files do not exist and the kernel forbids setgroups(2), so that only groups that were asked for
/// stay, which are then refused with a reason.
pub fn process_user(user: &User, asked: &[String]) -> spec::User {
    let none = asked.is_empty() && is_rootless() && has_one_id();
    let groups = if none { Vec::new() } else { user.groups.clone() };
    spec::User { uid: user.uid, gid: user.gid, additional_gids: groups, ..spec::User::default() }
}

/// The configuration of a container, and who its program runs as.
pub fn bundle(container: &Container, record: &Record, prepared: &Prepared) -> Result<(Spec, User)> {
    let settings = &record.settings;
    let layers = container.layers(record);
    let user = resolve(&settings.user, &settings.groups, &layers)?;
    let capabilities = capabilities(settings)?;
    let security = Security::of(settings, &capabilities)?;
    let hostname = if settings.hostname.is_empty() { record.short() } else { &settings.hostname };
    let unmasked = settings.privileged || security.unmasked;
    let process = Process {
        terminal: settings.tty,
        user: process_user(&user, &settings.groups),
        args: arguments(record, prepared),
        env: environment(settings, hostname, &user.home),
        cwd: if settings.workdir.is_empty() { "/".into() } else { settings.workdir.clone() },
        capabilities: Some(sets(&capabilities, user.uid)),
        rlimits: settings.ulimits.iter().map(|u| Rlimit { kind: u.name.clone(), soft: u.soft, hard: u.hard }).collect(),
        no_new_privileges: security.no_new_privileges,
        apparmor_profile: security.apparmor.clone(),
        selinux_label: security.selinux.clone(),
        oom_score_adj: settings.oom_score_adj,
        ..Process::default()
    };
    let paths = |list: &[&str]| if unmasked { Vec::new() } else { list.iter().map(|path| (*path).to_owned()).collect() };
    let (devices, rules) = devices(settings)?;
    let own_uts = settings.uts != "host";
    let linux = Linux {
        namespaces: namespaces(settings, prepared),
        cgroups_path: cgroups_path(record),
        resources: Resources { devices: rules, ..limits(&settings.resources) },
        sysctl: settings.sysctls.clone(),
        seccomp: security.seccomp,
        masked_paths: paths(&MASKED),
        readonly_paths: paths(&READ_ONLY),
        mount_label: security.selinux,
        devices,
        ..Linux::default()
    };
    let spec = Spec {
        oci_version: "1.2.0".into(),
        process: Some(process),
        root: Some(Root { path: "rootfs".into(), readonly: settings.read_only }),
        hostname: if own_uts { hostname.to_owned() } else { String::new() },
        domainname: if own_uts { settings.domainname.clone() } else { String::new() },
        mounts: mounts(container, record, prepared)?,
        annotations: settings.annotations.clone(),
        linux,
        ..Spec::default()
    };
    Ok((spec, user))
}

fn arguments(record: &Record, prepared: &Prepared) -> Vec<String> {
    let mut args = record.args.clone();
    if prepared.init.is_some() {
        args.splice(0..0, [INIT.to_owned(), "--".to_owned()]);
    }
    args
}

/// Where docker has it.
const INIT: &str = "/sbin/docker-init";

/// docker gives a program that is not root its capabilities in the bounding set only.
fn sets(names: &[String], uid: u32) -> Capabilities {
    let effective = if uid == 0 { names.to_vec() } else { Vec::new() };
    Capabilities { bounding: names.to_vec(), effective: effective.clone(), permitted: effective, ..Capabilities::default() }
}

fn cgroups_path(record: &Record) -> String {
    match record.settings.cgroup_parent.as_str() {
        // Below our own cgroup, if that was delegated to the user; else there is none, and limits are refused.
        "" if is_rootless() => String::new(),
        "" => format!("/mydocker/{}", record.id),
        parent => format!("{}/{}", parent.trim_end_matches('/'), record.id),
    }
}

fn namespaces(settings: &Settings, prepared: &Prepared) -> Vec<Namespace> {
    let kinds = [("pid", &settings.pid), ("ipc", &settings.ipc), ("uts", &settings.uts), ("cgroup", &settings.cgroupns)];
    let new = |kind: &str, path: String| Namespace { kind: kind.into(), path };
    let mut all = vec![new("mount", String::new())];
    for (kind, wanted) in kinds {
        let shared = prepared.shared.iter().find(|(shared, _)| *shared == kind);
        // docker shares the host's cgroup namespace with a privileged container on v1 only; ours is always private.
        if let Some((_, path)) = shared {
            all.push(new(kind, path.to_string_lossy().into_owned()));
        } else if wanted != "host" {
            all.push(new(kind, String::new()));
        }
    }
    if let Some(path) = &prepared.user {
        all.push(new("user", path.to_string_lossy().into_owned()));
    }
    if let Some(path) = &prepared.network {
        all.push(new("network", path.to_string_lossy().into_owned()));
    }
    all
}

fn mounts(container: &Container, record: &Record, prepared: &Prepared) -> Result<Vec<Mount>> {
    let settings = &record.settings;
    let ro: &[&str] = if settings.privileged { &[] } else { &["ro"] };
    let with = |base: &[&'static str]| [base, ro].concat();
    let shifted = prepared.user.is_some();
    // Nobody but the owner of a namespace mounts what shows it. For the network's, the runtime sees to that.
    let proc = match settings.pid == "host" && (shifted || is_rootless()) {
        true => Mount { source: "/proc".into(), kind: "bind".into(), ..mount("/proc", "", &["rbind", "nosuid", "noexec", "nodev"]) },
        false => mount("/proc", "proc", &["nosuid", "noexec", "nodev"]),
    };
    // The group tty has no id where there is but one.
    let tty = if is_rootless() && has_one_id() { &[][..] } else { &["gid=5"] };
    let shm = format!("size={}", settings.shm_size.unwrap_or(64 << 20));
    // With ids of its own the root has been mounted already: only the host's root may map the ids of the layers.
    let mut all = if shifted { Vec::new() } else { vec![overlay(container, record)?] };
    all.extend([
        proc,
        mount("/dev", "tmpfs", &["nosuid", "strictatime", "mode=755", "size=65536k"]),
        mount("/dev/pts", "devpts", &[&["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620"], tty].concat()),
        mount("/sys", "sysfs", &with(&["nosuid", "noexec", "nodev"])),
        mount("/sys/fs/cgroup", "cgroup", &with(&["nosuid", "noexec", "nodev"])),
    ]);
    let bind =
        |source: String, destination: &str, options: &[&str]| Mount { source, kind: "bind".into(), ..mount(destination, "", options) };
    if settings.ipc == "host" {
        for path in ["/dev/mqueue", "/dev/shm"] {
            all.push(bind(path.into(), path, &["rbind", "nosuid", "noexec", "nodev"]));
        }
    } else {
        all.push(mount("/dev/mqueue", "mqueue", &["nosuid", "noexec", "nodev"]));
        all.push(Mount { source: "shm".into(), ..mount("/dev/shm", "tmpfs", &["nosuid", "noexec", "nodev", "mode=1777", &shm]) });
    }
    let mut users: Vec<Mount> = prepared.mounts.clone();
    for name in ["resolv.conf", "hostname", "hosts"] {
        let destination = format!("/etc/{name}");
        if !users.iter().any(|mount| mount.destination == destination) {
            let source = container.dir().join(name).to_string_lossy().into_owned();
            users.push(bind(source, &destination, if shifted { &["rbind", "rprivate", "idmap"] } else { &["rbind", "rprivate"] }));
        }
    }
    if let Some(init) = &prepared.init {
        users.push(bind(init.to_string_lossy().into_owned(), INIT, &["bind", "ro"]));
    }
    // What is mounted below another mount comes after it; docker sorts so. A mount of the user's replaces one of ours.
    users.sort_by_key(|mount| mount.destination.split('/').filter(|part| !part.is_empty()).count());
    all.retain(|ours| !users.iter().any(|theirs| theirs.destination.trim_end_matches('/') == ours.destination));
    all.extend(users);
    Ok(all)
}

/// The image's layers below, the container's own on top. Only the runtime mounts it, inside the container.
fn overlay(container: &Container, record: &Record) -> Result<Mount> {
    let layers = container.dirs().layers();
    let text = |path: &Path| path.to_string_lossy().into_owned();
    let refuse = |path: &str| {
        Error::new(format!("the path {path} holds a character that overlayfs takes for a separator")).hint("choose another --root")
    };
    let lowers: Vec<String> = record.layers.iter().map(|layer| text(&layers.join(layer))).collect();
    let (upper, work) = (text(&container.upper()), text(&container.dir().join("work")));
    if let Some(bad) = lowers.iter().chain([&upper]).find(|path| path.contains([':', ',', '\\'])) {
        return Err(refuse(bad));
    }
    let lower = if lowers.is_empty() { text(&container.dir().join("rootfs")) } else { lowers.join(":") };
    let mut options = vec![format!("lowerdir={lower}"), format!("upperdir={upper}"), format!("workdir={work}")];
    if is_rootless() {
        options.push("userxattr".into());
    }
    Ok(Mount { options, ..mount("/", "overlay", &[]) })
}

/// Limits as the runtime takes them.
pub fn limits(wanted: &super::Resources) -> Resources {
    let mut resources = Resources::default();
    let memory = &mut resources.memory;
    (memory.limit, memory.reservation, memory.swappiness) = (wanted.memory, wanted.memory_reservation, wanted.memory_swappiness);
    // docker: as much swap as memory, where only the memory is limited.
    memory.swap = wanted.memory_swap.or(wanted.memory.filter(|limit| *limit > 0).map(|limit| limit.saturating_mul(2)));
    memory.disable_oom_killer = wanted.oom_kill_disable.then_some(true);
    let cpu = &mut resources.cpu;
    (cpu.shares, cpu.period, cpu.quota) = (wanted.cpu_shares, wanted.cpu_period, wanted.cpu_quota);
    (cpu.cpus, cpu.mems) = (wanted.cpuset_cpus.clone(), wanted.cpuset_mems.clone());
    resources.pids = wanted.pids_limit.map(|limit| Pids { limit: Some(limit) });
    resources.block_io.weight = wanted.blkio_weight;
    resources
}

/// The devices of the user, or all of the host's for a privileged container, and the rules that let it use them.
fn devices(settings: &Settings) -> Result<(Vec<Device>, Vec<DeviceRule>)> {
    let any = |allow: bool| DeviceRule { allow, access: "rwm".into(), ..DeviceRule::default() };
    if settings.privileged {
        let mut devices = Vec::new();
        host_devices(Path::new("/dev"), &mut devices, 0)?;
        return Ok((devices, vec![any(true)]));
    }
    let mut rules = vec![any(false)];
    let mut devices = Vec::new();
    for device in &settings.devices {
        let what = || format!("error gathering device information while adding custom device {:?}", device.host);
        let found = node(Path::new(&device.host), &device.container).context(what)?;
        let found = found.ok_or_else(|| Error::new(what()).hint("it is not a device node"))?;
        rules.push(DeviceRule {
            allow: true,
            kind: found.kind.clone(),
            major: Some(found.major),
            minor: Some(found.minor),
            access: device.access.clone(),
        });
        devices.push(found);
    }
    for rule in &settings.device_rules {
        rules.push(device_rule(rule)?);
    }
    Ok((devices, rules))
}

/// `--device-cgroup-rule 'c 1:3 rwm'`.
fn device_rule(text: &str) -> Result<DeviceRule> {
    let invalid = || Error::new(format!("invalid device cgroup format '{text}'")).hint("as in: c 1:3 rwm, or: b *:* r");
    let [kind, numbers, access] = text.split_whitespace().collect::<Vec<_>>()[..] else { return Err(invalid()) };
    let (major, minor) = numbers.split_once(':').ok_or_else(invalid)?;
    let number = |text: &str| if text == "*" { Ok(None) } else { text.parse().map(Some).map_err(|_| invalid()) };
    if !["a", "b", "c"].contains(&kind) || access.is_empty() || !access.chars().all(|c| "rwm".contains(c)) {
        return Err(invalid());
    }
    Ok(DeviceRule { allow: true, kind: kind.into(), major: number(major)?, minor: number(minor)?, access: access.into() })
}

/// The node at a path, links followed, as the container is to have it; `None` if it is no device.
fn node(host: &Path, container: &str) -> rustix::io::Result<Option<Device>> {
    let file = rustix::fs::open(host, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?;
    let stat = rustix::fs::fstat(&file)?;
    let kind = match FileType::from_raw_mode(stat.st_mode) {
        FileType::CharacterDevice => "c",
        FileType::BlockDevice => "b",
        _ => return Ok(None),
    };
    Ok(Some(Device {
        kind: kind.into(),
        path: container.into(),
        major: rustix::fs::major(stat.st_rdev).into(),
        minor: rustix::fs::minor(stat.st_rdev).into(),
        file_mode: Some(stat.st_mode & 0o7777),
        uid: Some(stat.st_uid),
        gid: Some(stat.st_gid),
    }))
}

/// Every node below the host's /dev but for terminals, and what has a file system of its own there.
fn host_devices(dir: &Path, devices: &mut Vec<Device>, depth: usize) -> Result<()> {
    const NOT: [&str; 7] = ["pts", "shm", "fd", "mqueue", ".lxc", ".lxd-mounts", ".udev"];
    for entry in std::fs::read_dir(dir).context(|| format!("read {}", dir.display()))?.flatten() {
        let (path, name) = (entry.path(), entry.file_name());
        let Ok(kind) = entry.file_type() else { continue };
        if kind.is_dir() {
            if depth < 8 && !NOT.iter().any(|not| name == *not) {
                host_devices(&path, devices, depth + 1)?;
            }
        } else if !kind.is_symlink() && name != "console" && name != "ptmx" {
            // Those two are the container's own.
            // A node that vanishes meanwhile is not there to be given.
            devices.extend(node(&path, &path.to_string_lossy()).ok().flatten());
        }
    }
    Ok(())
}
