//! The sequence of a create or run, the one place that states it, and why it is so.

use super::seccomp::Handover;
use super::{At, Facts, Join, NetDevice, Op, Options, Plan, Program, Stage, below_root, cstring, join_keyring, mounts, process};
use crate::spec::{self, IdMapping, Namespace, Spec, names, numbers, sysctl};
use crate::sys::{Error, Result, ns};
use std::fmt::Write;
use std::os::unix::ffi::OsStrExt;

/// The plan of `create` and `run`.
///
/// 1. cgroup v1 first, or as late as it may be if the parent makes it meanwhile (`join_cgroups`).
/// 2. The OOM score and the label through the host's /proc; ids; then non-dumpable before any setns(2).
/// 3. Namespaces; the session, names, loopback and keyring that belong to them.
/// 4. The root and all mounts in the order of `config.json`, devices, terminal, sysctls; the hooks of the runtime see
///    the finished mounts and may still write to the root, so read-only and masks come after them.
/// 5. pivot_root, or chroot where the mounts are not the container's alone, and everything of the host's is closed.
/// 6. The tail: the parent's memory is given up, and a pid namespace of others is entered. From here on others may see the
///    process, and there is nothing of the host left in it ([0024](../../docs/decisions/0024-born-blind.md)).
/// 7. The identity of the program (`process::identity`), the wait for `start`, exec.
pub fn create(spec: &Spec, facts: &Facts, options: &Options) -> Result<Plan> {
    let process = spec.process.as_ref().ok_or_else(|| Error::new("there is no process to create").at("process"))?;
    let root = spec.root.as_ref().ok_or_else(|| Error::new("there is no root file system").at("root"))?;
    let rootfs = options.bundle.join(&root.path);
    let mut plan = Plan {
        rootfs: cstring(&rootfs.to_string_lossy(), At::field("root.path"))?,
        process: Program::new(process)?,
        groups_denied: facts.groups_denied,
        keeps_groups: process::keeps_groups(spec),
        ..Plan::default()
    };
    // The CPUs of the caller are not the container's, as in runc; since Linux 6.2 a cpuset does not widen them.
    plan.ops.push(Op::CpuAffinity(Box::new(numbers::ALL)));
    plan.ops.extend((0..process::resctrl_groups(&spec.linux)).map(Op::JoinResctrl));
    let new = |kind: u64| spec.linux.namespaces.iter().any(|n| kind_of(n) == Some(kind) && n.path.is_empty());
    if !new(ns::USER) {
        plan.ops.extend(process::oom_score(process)?);
    }
    plan.ops.extend(process::labels(process, facts, options.keyring.is_some())?);
    if spec.linux.namespace("user").is_some_and(|user| !user.path.is_empty()) {
        // There are no rights for these in the namespace that is joined.
        plan.ops.extend(process::privileged(process)?);
    }
    namespaces(&mut plan, spec, facts)?;
    if plan.maps.is_some() {
        plan.outside = process::privileged(process)?;
        // To lower the score below that of a shim takes CAP_SYS_RESOURCE on the host.
        plan.outside.extend(process::oom_score(process)?);
    }
    if !plan.enters_pids {
        plan.ops.push(Op::Setsid);
    }
    if !spec.hostname.is_empty() {
        plan.ops.push(Op::Hostname(cstring(&spec.hostname, At::field("hostname"))?));
    }
    if !spec.domainname.is_empty() {
        plan.ops.push(Op::Domainname(cstring(&spec.domainname, At::field("domainname"))?));
    }
    if new(ns::NET) {
        plan.ops.push(Op::LoopbackUp);
    }
    net_devices(&mut plan, spec, facts)?;
    plan.ops.extend(join_keyring(options.keyring.as_ref())?);
    let own_mounts = new(ns::MOUNT);
    mounts::plan(&mut plan, spec, facts, options, own_mounts)?;
    sysctls(&mut plan, spec)?;
    if plan.process.terminal {
        let size = process.console_size.as_ref().map(|s| (s.height, s.width));
        plan.ops.push(Op::Console { bind: true, size, bare_newlines: false });
    }
    hooks_before_pivot(&mut plan, spec, facts, options);
    working_directory(&mut plan, &process.cwd)?;
    let jail = match (own_mounts, options.no_pivot) {
        // The others of the namespace keep their root.
        (false, _) => Op::Chroot,
        (true, true) => Op::MoveRoot,
        (true, false) => Op::PivotRoot,
    };
    after_hooks(&mut plan, spec, root.readonly, jail)?;
    plan.ops.push(Op::CloseFds);
    join_cgroups(&mut plan, facts);
    plan.descriptors = facts.descriptors.filter(|[soft, _]| *soft < descriptors(&plan));
    process::begin_tail(&mut plan);
    // Also without hooks `run` stops here: its record then knows the process before the program runs.
    let park = Op::Sync(if options.park { Stage::Created } else { Stage::StartContainer });
    process::identity(&mut plan, process, &spec.linux, facts, Some(park))?;
    if let (Some(mark), Some(loaded)) = (options.watched, plan.ops.iter().position(|op| *op == Op::Seccomp)) {
        // Whatever follows may be a call that is asked about.
        plan.ops.insert(loaded + 1, Op::Sync(Stage::Listener(Handover::Marked(mark))));
    }
    Ok(plan)
}

/// No less than the descriptors that the plan has open at once: each mount and mount point stays
/// open until all are closed at once, which is quicker.
fn descriptors(plan: &Plan) -> u64 {
    const OTHERS: usize = 64;
    (OTHERS + plan.trees.len() + 2 * plan.ops.len()) as u64
}

/// The most descriptors that one message brings the child.
pub const TASKS_MAX: usize = 32;

/// Where the child joins its v1 cgroups: before what is accounted to them, shown from them, rooted in them or needs the parent's
/// answer, and as root of the host. In a user namespace that is at once; else the parent makes them while the child makes
/// namespaces and mounts.
fn join_cgroups(plan: &mut Plan, facts: &Facts) {
    let joins = (0..facts.cgroup.tasks).map(Op::JoinCgroup);
    if !facts.cgroup.beside || plan.in_user_namespace || !(1..=TASKS_MAX).contains(&facts.cgroup.tasks) {
        plan.ops.splice(0..0, joins);
        return;
    }
    let shown = |tree: usize| facts.cgroup.mounts.iter().any(|(_, path)| path.as_os_str().as_bytes() == plan.trees[tree].source.as_bytes());
    let needs_them = |op: &Op| match op {
        Op::Sync(_) | Op::CloseFds => true,
        Op::Unshare(kinds) => kinds & ns::CGROUP != 0,
        Op::OpenTree(tree) => shown(*tree),
        Op::Mount { fs, .. } => fs.copy_up,
        _ => false,
    };
    let at = plan.ops.iter().position(needs_them).unwrap_or(0);
    plan.ops.splice(at..at, std::iter::once(Op::AwaitCgroup).chain(joins));
}

/// Devices are moved once the container is in its network namespace, before anything in it could look for them.
fn net_devices(plan: &mut Plan, spec: &Spec, facts: &Facts) -> Result<()> {
    const CAP_NET_ADMIN: u64 = 1 << 12;
    if spec.linux.net_devices.is_empty() {
        return Ok(());
    }
    if !facts.privileged || facts.capabilities & CAP_NET_ADMIN == 0 {
        return Err(Error::new("moving network devices needs CAP_NET_ADMIN and CAP_SYS_ADMIN on the host").at("linux.netDevices"));
    }
    let name = |host: &String, given: &String| if given.is_empty() { host.clone() } else { given.clone() };
    plan.net_devices = spec.linux.net_devices.iter().map(|(host, d)| NetDevice { host: host.clone(), name: name(host, &d.name) }).collect();
    plan.ops.push(Op::Sync(Stage::NetDevices));
    Ok(())
}

/// How many file systems `proc` a container mounts that joins a pid namespace: each shows the namespace of the process that opens it,
/// and the container's own is there only when its mounts are made.
pub fn joined_procs(plan: &Plan) -> usize {
    let proc = |op: &&Op| matches!(op, Op::Mount { fs, .. } if fs.kind.as_bytes() == b"proc");
    if plan.enters_pids { plan.ops.iter().filter(proc).count() } else { 0 }
}

/// A process that opens a procfs in the pid namespace that `container` joins, hands it over and ends. Those who are there see it,
/// and there is nothing in it: its root is empty, and of its parent's memory nothing is left.
pub fn proc_opener(container: &Plan) -> Plan {
    let joins: Vec<Join> = container.joins.iter().filter(|join| join.kind & (ns::USER | ns::PID) != 0).cloned().collect();
    let number = |kind| joins.iter().position(|join| join.kind == kind).map(Op::JoinNamespace);
    // Whoever has no rights over the pid namespace has them in its user namespace.
    let (user, pids) = (number(ns::USER), number(ns::PID));
    let ops = [Op::NonDumpable].into_iter().chain(user).chain([Op::Unshare(ns::MOUNT)]).chain(pids).chain([Op::EmptyRoot, Op::CloseFds]);
    let ops: Vec<Op> = ops.collect();
    let tail = ops.len();
    let last = [Op::CloneAgain(0), Op::OpenProc, Op::Sync(Stage::Listener(Handover::Message))];
    Plan { joins, enters_pids: true, tail, ops: ops.into_iter().chain(last).collect(), ..Plan::default() }
}

/// The operations after the last `Sync`, for the sentence of what failed in a container that `start` let go.
pub fn after_start(spec: &Spec) -> Result<Plan> {
    let process = spec.process.as_ref().ok_or_else(|| Error::new("there is no process to start").at("process"))?;
    let mut plan = Plan { process: Program::new(process)?, ..Plan::default() };
    let names = process.capabilities.as_ref().map_or(&[][..], |caps| &caps.permitted);
    plan.capabilities[1] = process::capability_set(names);
    process::last(&mut plan, process, &spec.linux, !process::waits_under_filter(&spec.linux))?;
    Ok(plan)
}

/// The namespaces are complete and the host's /proc is in sight: this is where a caller who could
/// not open them later, for a hook or an exec, is given them.
fn hooks_before_pivot(plan: &mut Plan, spec: &Spec, facts: &Facts, options: &Options) {
    let entered = options.park || !spec.hooks.create_container.is_empty() || !spec.hooks.start_container.is_empty();
    let kinds = spec.linux.namespaces.iter().filter_map(kind_of).fold(0, |all, kind| all | kind);
    if entered && kinds != 0 && !facts.may_trace() {
        plan.ops.push(Op::Sync(Stage::Namespaces(kinds)));
    }
    if !spec.hooks.prestart.is_empty() || !spec.hooks.create_runtime.is_empty() {
        plan.ops.push(Op::Sync(Stage::CreateRuntime));
    }
    if !spec.hooks.create_container.is_empty() {
        plan.ops.push(Op::Sync(Stage::CreateContainer));
    }
}

/// runc makes a working directory that is missing, and engines lean on it (`workingDir` of a pod, `ctr run --cwd`). It
/// has to be before the root becomes read-only.
fn working_directory(plan: &mut Plan, cwd: &str) -> Result<()> {
    let at = At::field("process.cwd");
    if cwd.trim_matches('/').is_empty() {
        return Ok(());
    }
    plan.ops.push(Op::MakeDir(below_root(cwd, at)?, at));
    Ok(())
}

/// Masks and read-only paths are resolved below the root before pivot_root, while the host's /dev/null is in sight:
/// the container's own may be anything (CVE-2025-31133). The same for a read-only root.
fn after_hooks(plan: &mut Plan, spec: &Spec, mut readonly: bool, jail: Op) -> Result<()> {
    // A mount upon the root is not seen by who has the root already, so neither of these can be a mount of its own there.
    let is_root = |path: &str| spec::clean(path).is_empty();
    for (i, path) in spec.linux.readonly_paths.iter().enumerate() {
        let at = At::entry("linux.readonlyPaths", i);
        if is_root(path) {
            readonly = true;
            continue;
        }
        plan.ops.push(Op::ReadOnly(below_root(path, at)?, at));
    }
    let label = &spec.linux.mount_label;
    plan.mask_label = (!label.is_empty()).then(|| cstring(label, At::field("linux.mountLabel"))).transpose()?;
    for (i, path) in spec.linux.masked_paths.iter().enumerate() {
        let at = At::entry("linux.maskedPaths", i);
        if is_root(path) {
            return Err(Error::new("the root cannot be masked: there would be no program to execute").at(at.to_string()));
        }
        let path = below_root(path, at)?;
        if !plan.ops.iter().any(|op| matches!(op, Op::Mask(masked, _) if *masked == path)) {
            plan.ops.push(Op::Mask(path, at));
        }
    }
    mounts::late_readonly(plan, spec)?;
    if readonly {
        plan.ops.push(Op::RootReadonly);
    }
    plan.ops.push(jail);
    let flag = mounts::propagation(&spec.linux.rootfs_propagation)?;
    if flag & (libc::MS_SHARED | libc::MS_UNBINDABLE) != 0 {
        plan.ops.push(Op::RootPropagation(flag));
    }
    Ok(())
}

fn sysctls(plan: &mut Plan, spec: &Spec) -> Result<()> {
    let at = At::field("linux.sysctl");
    for (key, value) in &spec.linux.sysctl {
        let file = sysctl::file(key).ok_or_else(|| Error::new(format!("{key:?} is no sysctl")).at(at.to_string()))?;
        plan.ops.push(Op::Sysctl { path: cstring(&format!("sys/{file}"), at)?, value: cstring(value, at)? });
    }
    Ok(())
}

fn kind_of(namespace: &Namespace) -> Option<u64> {
    names::namespace(&namespace.kind).map(|flag| u64::from(flag.cast_unsigned()))
}

/// Whether the maps are more than an ordinary user may write itself: one id, its own (user_namespaces(7)).
pub fn needs_helper((uids, gids): &(Vec<IdMapping>, Vec<IdMapping>), facts: &Facts) -> bool {
    let own = |maps: &[IdMapping], id| matches!(maps, [only] if only.host_id == id && only.size == 1);
    !(facts.privileged || own(uids, facts.uid) && own(gids, facts.gid))
}

/// Which namespaces are created, which joined, and by which system call.
///
/// - A new user namespace is made together with the others, so that it owns them: by the clone, or by an unshare(2) of the
///   child if others are joined, which belong to the host and are joined before.
/// - Without one only a pid namespace has to be made by the clone: the child makes the others, which takes as long as what
///   the parent has to do beside it.
/// - A joined user namespace comes first for an ordinary user, who has no rights before it, and last for root, whose
///   rights over the host's other namespaces end with it. New namespaces are then made inside it, a pid namespace in a
///   second clone.
/// - setns(2) into a pid namespace takes effect only for children. The child that is to be in it is cloned last of all, when
///   those who are there already may see it (`process::begin_tail`).
/// - A cgroup namespace is unshared once the process is in its cgroup, a time namespace takes effect at exec.
fn namespaces(plan: &mut Plan, spec: &Spec, facts: &Facts) -> Result<()> {
    let mut new = 0;
    for (i, namespace) in spec.linux.namespaces.iter().enumerate() {
        let at = At::entry("linux.namespaces", i);
        let kind = kind_of(namespace).ok_or_else(|| Error::new(format!("unknown namespace {:?}", namespace.kind)).at(at.to_string()))?;
        if namespace.path.is_empty() {
            new |= kind;
        } else {
            plan.joins.push(Join { kind, path: cstring(&namespace.path, at)?, at });
        }
    }
    let late = new & (ns::CGROUP | ns::TIME);
    let made = new & !late;
    let late = if new & ns::USER == 0 { late } else { late & !ns::TIME };
    plan.in_user_namespace = spec.linux.namespaces.iter().any(|n| n.kind == "user");
    plan.enters_pids = plan.joins.iter().any(|join| join.kind == ns::PID);
    let joins_user = plan.joins.iter().any(|join| join.kind == ns::USER);
    let mut joins: Vec<usize> = (0..plan.joins.len()).collect();
    joins.sort_by_key(|&i| match plan.joins[i].kind {
        ns::USER => 2 * u8::from(facts.privileged),
        _ => 1,
    });
    let joins = joins.into_iter().map(Op::JoinNamespace);
    if new & ns::USER != 0 {
        if plan.joins.is_empty() {
            plan.clone = made;
        } else {
            // A pid namespace takes a clone of its own. It belongs to the new user namespace as much.
            plan.ops.extend(joins);
            plan.ops.push(Op::Unshare(made & !ns::PID));
        }
        user_namespace(plan, new, spec, facts)?;
        if plan.clone == 0 && made & ns::PID != 0 {
            plan.ops.push(Op::CloneAgain(ns::PID));
        }
        plan.ops.push(Op::NonDumpable);
    } else {
        plan.ops.push(Op::NonDumpable);
        plan.ops.extend(joins);
        if joins_user {
            plan.groups_may_stay = !facts.privileged;
            plan.ops.push(Op::BecomeRoot);
            if made & ns::PID != 0 {
                plan.ops.push(Op::CloneAgain(made));
            } else if made != 0 {
                plan.ops.push(Op::Unshare(made));
            }
        } else {
            plan.clone = made & ns::PID;
            if made != plan.clone {
                plan.ops.push(Op::Unshare(made & !ns::PID));
            }
        }
    }
    if late & ns::CGROUP != 0 {
        plan.ops.push(Op::Unshare(ns::CGROUP));
    }
    time(plan, late & ns::TIME, spec)
}

/// The child is in its new user namespace, and becomes root there.
fn user_namespace(plan: &mut Plan, new: u64, spec: &Spec, facts: &Facts) -> Result<()> {
    let maps = (spec.linux.uid_mappings.clone(), spec.linux.gid_mappings.clone());
    plan.groups_denied = facts.groups_denied || !facts.privileged && !needs_helper(&maps, facts);
    plan.maps = Some(maps);
    // The offsets' file is the process's own only until it changes its ids, which makes it non-dumpable (proc(5)).
    time(plan, new & ns::TIME, spec)?;
    plan.ops.push(Op::Sync(Stage::Ids));
    plan.ops.push(Op::BecomeRoot);
    Ok(())
}

/// A new time namespace and its clocks, which can be set until somebody is in it (time_namespaces(7)). Before Linux 6.3 not even an exec
/// brings the process that made it into it, only its children, and the program is to be the first one there.
fn time(plan: &mut Plan, new: u64, spec: &Spec) -> Result<()> {
    if new == 0 {
        return Ok(());
    }
    plan.ops.push(Op::Unshare(new));
    if !spec.linux.time_offsets.is_empty() {
        let mut text = String::new();
        for (clock, offset) in &spec.linux.time_offsets {
            let _ = writeln!(text, "{clock} {} {}", offset.secs, offset.nanosecs);
        }
        plan.ops.push(Op::TimeOffsets(cstring(&text, At::field("linux.timeOffsets"))?));
    }
    plan.ops.push(Op::EnterTime);
    Ok(())
}
