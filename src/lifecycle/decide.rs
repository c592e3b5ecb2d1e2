//! What `create`, `run`, `restore` and `plan` do is decided here, before anything is touched.

use super::create::CreateOptions;
use super::timeline::Timeline;
use super::watch::Watcher;
use super::{Runtime, agent, listen_fds, notify, output, random};
use crate::arm;
use crate::cgroup::{Cgroup, Devices, Layout, Manager, Resctrl};
use crate::plan::limits::{self, Limits};
use crate::plan::seccomp::Filter;
use crate::plan::{self, CgroupView, Facts, Options, Plan};
use crate::spec::options::MountOptions;
use crate::spec::{self, Mount, Spec};
use crate::store::{Container, ContainerId};
use crate::sys::{Context, Error, Result, limits_of};
use rustix::fd::OwnedFd;
use std::collections::BTreeMap;
use std::ffi::CString;
use std::os::unix::ffi::OsStringExt;
use std::path::{Component, Path, PathBuf};

/// Everything that is decided before anything is touched.
pub(super) struct Decided {
    pub options: Options,
    pub spec: Spec,
    pub facts: Facts,
    pub plan: Plan,
    pub filter: Option<Filter>,
    pub watcher: Option<Watcher>,
    pub cgroup: Cgroup,
    pub resctrl: Option<Resctrl>,
    /// The container has a socket for sd_notify(3).
    pub notifies: bool,
    pub limits: Limits,
    pub devices: Option<Devices>,
    pub warnings: Vec<String>,
    /// See [`spec::UNKNOWN`].
    pub unknown: Vec<String>,
}

impl Decided {
    /// Where the terminal goes: to the caller's socket, or to ours in the foreground.
    pub(super) fn console(&self, options: &CreateOptions, foreground: Option<OwnedFd>) -> Result<Option<OwnedFd>> {
        match &options.console_socket {
            Some(path) if self.plan.process.terminal => arm::connect_to("console socket", path).map(Some),
            Some(_) => Err(Error::new("--console-socket without a terminal").at("process.terminal").hint("set terminal to true")),
            None => Ok(foreground),
        }
    }
}

/// `keel plan`: what create would do, in order, without touching anything.
pub fn plan(runtime: &Runtime, id: &ContainerId, options: &CreateOptions) -> Result<(Plan, Vec<String>)> {
    decide(runtime, id, options, true, &Timeline::OFF).map(|decided| (decided.plan, decided.warnings))
}

/// Reads and checks everything, and lists what there is to do.
pub(super) fn decide(runtime: &Runtime, id: &ContainerId, options: &CreateOptions, park: bool, timeline: &Timeline) -> Result<Decided> {
    options.pid_file.iter().try_for_each(|file| output::check(super::PID_FILE, file))?;
    let bundle = absolute(&options.bundle)?;
    let spec::Loaded { mut spec, warnings: found } = timeline.step("load", "", || match &options.config {
        Some(file) => spec::load_file(&bundle, file),
        None => spec::load(&bundle),
    })?;
    let (unknown, mut warnings): (Vec<_>, Vec<_>) = found.into_iter().partition(|sentence| sentence.ends_with(spec::UNKNOWN));
    warnings.extend(timeline.step("validate", "", || spec::validate(&spec))?);
    let notifies = notify::offer(&mut spec, &runtime.root.path().join(id.as_str()).join(Container::NOTIFY))?;
    let process = spec.process.as_ref();
    let mut facts = arm::facts(
        process.is_some_and(|p| !p.apparmor_profile.is_empty() || !p.selinux_label.is_empty()) || !spec.linux.mount_label.is_empty(),
    );
    let listening = listen_fds();
    arm::preserved(options.preserve_fds + listening)?;
    let mut watcher = Watcher::prepare(&mut spec, options)?;
    rootfs_exists(&bundle, &spec)?;
    let cgroup = timeline.step("locate the cgroup", "linux.cgroupsPath", || match runtime.manager {
        Manager::Cgroupfs => Cgroup::locate(&Layout::detect()?, &spec.linux.cgroups_path, id.as_str()),
        Manager::Systemd => Cgroup::locate_unit(&Layout::detect()?, &spec.linux.cgroups_path, id.as_str(), &spec.annotations),
        Manager::Disabled => Ok(Cgroup::none(&Layout::detect()?)),
    })?;
    let limits = limits::writes(&spec.linux.resources, cgroup.version())?;
    warnings.extend_from_slice(&limits.warnings);
    let devices = if cgroup.is_none() { None } else { Some(Devices::new(&spec.linux.resources.devices)?) };
    facts.descriptors = Some(limits_of(0, libc::RLIMIT_NOFILE).context(|| "ask for the limit of open descriptors")?);
    facts.cgroup = view(&cgroup);
    if cgroup.is_none() {
        show_others(&mut facts.cgroup, &cgroup)?;
    }
    facts.links = links(&spec, &bundle);
    facts.cgroup.beside = facts.cgroup.tasks > 0 && runtime.manager == Manager::Cgroupfs && !facts.rootless() && !facts.in_user_namespace;
    let compile = |profile| timeline.step("compile the seccomp filter", "linux.seccomp", || plan::seccomp::compile(profile));
    let filter = spec.linux.seccomp.as_ref().map(compile).transpose()?;
    warnings.extend(filter.iter().flat_map(|f| f.warnings.clone()));
    let filter = match &mut watcher {
        Some(watcher) => filter.map(|filter| watcher.filter(filter)),
        None => filter,
    };
    let chosen = Options {
        id: id.to_string(),
        bundle,
        no_pivot: options.no_pivot,
        keyring: if options.no_new_keyring { None } else { Some(session_keyring(id)?) },
        park,
        preserve_fds: options.preserve_fds + listening,
        watched: watcher.as_ref().map(|watcher| watcher.mark),
    };
    let mut plan = timeline.step("plan", "", || list(&spec, &facts, &chosen))?;
    agent::exists(&spec)?;
    let resctrl = spec.linux.intel_rdt.as_ref().map(|rdt| Resctrl::locate(rdt, id.as_str())).transpose()?;
    warnings.append(&mut plan.warnings);
    Ok(Decided { options: chosen, spec, facts, plan, filter, watcher, cgroup, resctrl, notifies, limits, devices, warnings, unknown })
}

/// The bundle's path, which the state has for hooks and engines: absolute, links in it as the caller has named them, unless
/// there is a `..`, before which they count.
fn absolute(bundle: &Path) -> Result<PathBuf> {
    let up = bundle.components().any(|part| part == Component::ParentDir);
    let found = if up { bundle.canonicalize() } else { std::path::absolute(bundle) };
    found.context(|| format!("--bundle {}", bundle.display()))
}

/// As from runc `_ses.ID`, by which administrators know it, and a number that is not known before: nobody else's keyring is
/// joined, not that of an earlier container of this id, nor one that was laid out for it.
fn session_keyring(id: &ContainerId) -> Result<String> {
    Ok(format!("_ses.{id}.{:016x}", random()?))
}

/// What the sources of mounts with `copy-symlink` say, if they are links.
fn links(spec: &Spec, bundle: &Path) -> BTreeMap<usize, CString> {
    let mounts = spec.mounts.iter().enumerate().filter(|(_, mount)| MountOptions::of(mount).copy_link);
    let said = |(number, mount): (usize, &Mount)| {
        let target = std::fs::read_link(bundle.join(&mount.source)).ok()?;
        Some((number, CString::new(target.into_os_string().into_vec()).ok()?))
    };
    mounts.filter_map(said).collect()
}

/// The plan, and what keel passes on to the program beside it.
pub(super) fn list(spec: &Spec, facts: &Facts, options: &Options) -> Result<Plan> {
    let mut plan = plan::create(spec, facts, options)?;
    let listening = listen_fds();
    if listening > 0 {
        // sd_listen_fds(3): the program is pid 1 of its namespace.
        plan.process.envp.extend([std::ffi::CString::new(format!("LISTEN_FDS={listening}")).unwrap_or_default(), c"LISTEN_PID=1".into()]);
    }
    Ok(plan)
}

fn rootfs_exists(bundle: &Path, spec: &Spec) -> Result<()> {
    let path = bundle.join(spec.root.as_ref().map_or("", |root| &root.path));
    let metadata =
        std::fs::metadata(&path).context(|| format!("open the root file system {}", path.display())).map_err(|e| e.at("root.path"))?;
    if metadata.is_dir() {
        Ok(())
    } else {
        Err(Error::new(format!("the root file system {} is not a directory", path.display())).at("root.path"))
    }
}

/// The hierarchies in which the container has no cgroup, for its mounts of type `cgroup`.
pub(super) fn show_others(view: &mut CgroupView, cgroup: &Cgroup) -> Result<()> {
    for mount in cgroup.others(&Layout::detect()?) {
        view.links.extend(mount.links);
        view.others.push((mount.name, mount.source.into()));
    }
    Ok(())
}

/// The container's cgroup as the plan sees it.
pub(super) fn view(cgroup: &Cgroup) -> CgroupView {
    let mounts = cgroup.mounts();
    CgroupView {
        v2: cgroup.version() == limits::Version::V2,
        // On a hybrid host the unified tree beside the v1 ones is entered by the clone itself.
        beside: false,
        tasks: if cgroup.version() == limits::Version::V1 { mounts.iter().filter(|m| m.name != "unified").count() } else { 0 },
        links: mounts.iter().flat_map(|m| m.links.clone()).collect(),
        others: Vec::new(),
        mounts: mounts.into_iter().map(|m| (m.name, m.source.into())).collect(),
    }
}
