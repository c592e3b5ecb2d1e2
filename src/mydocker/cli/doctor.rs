//! `system doctor`: what crashes have left, who holds it, and how it is mended.
//!
//! Everything here may be running at the same time as other commands: what is named is looked at under the lock of whoever
//! makes it, or has an owner that is known to live no more. `--fix` twice is the same as once.

use super::{print, words::Words};
use crate::cgroup::Cgroup;
use crate::lifecycle;
use crate::mydocker::container::{Container, Containers, State, Status};
use crate::mydocker::files::{Dirs, Lock};
use crate::mydocker::image::Images;
use crate::mydocker::monitor;
use crate::mydocker::network::{Namespace, Networks};
use crate::mydocker::volume::Volumes;
use crate::store::{ContainerId, Root};
use crate::sys::{Context, Error, Kind, Log, Result, unescape_mount_path};
use clap::Args;
use rustix::mount::{UnmountFlags, unmount};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

/// `system doctor`.
#[derive(Args, Debug)]
pub struct Doctor {
    /// Mend what is found
    #[arg(long)]
    pub fix: bool,
    /// Format output as json
    #[arg(long, value_name = "FORMAT", value_parser = ["json"])]
    pub format: Option<String>,
}

/// One thing that is not as it should be.
struct Finding {
    /// `state`, `mount`, `cgroup`, `namespace`, `lease`, `runtime`, `files`.
    kind: &'static str,
    /// What, in a sentence.
    what: String,
    /// Processes that hold it.
    holders: Vec<i32>,
    mend: Mend,
}

/// How a finding is mended.
enum Mend {
    /// The run of a container is settled, and its state written down as it is; `--rm` removes it.
    Settle(Container),
    /// The runtime's record and cgroup of nobody.
    Runtime(String),
    /// Address, ports and namespace of nobody.
    Network(String),
    Unmount(PathBuf),
    /// All of [`Containers::leftovers`].
    Leftovers,
    /// All of [`Volumes::prune`]'s.
    Volumes,
    /// [`Images::sweep`].
    Images,
    /// By the user, who is told how.
    Not(String),
}

/// `mydocker system doctor`: 0 if all is well or was mended, else 1.
pub fn doctor(args: &Doctor, dirs: &Dirs) -> Result<i32> {
    let findings = examine(dirs)?;
    let mut failed = 0;
    let mut rows: Vec<Value> = Vec::new();
    let mut out = String::new();
    let colours = Words::stdout();
    for finding in &findings {
        let mended = if args.fix { Some(mend(finding, dirs)) } else { None };
        let (mark, note) = match &mended {
            None => (colours.warning("found"), String::new()),
            Some(Ok(())) => (colours.good("mended"), String::new()),
            Some(Err(error)) => (colours.bad("not mended"), format!(": {error}")),
        };
        failed += usize::from(!matches!(mended, Some(Ok(()))));
        let holders: Vec<String> = finding.holders.iter().map(|pid| format!("{pid} ({})", command(*pid))).collect();
        let held = if holders.is_empty() { String::new() } else { format!(", held by {}", holders.join(", ")) };
        out += &format!("{mark}: {}: {}{held}{note}\n", finding.kind, finding.what);
        let error = mended.as_ref().and_then(|mended| mended.as_ref().err()).map(ToString::to_string);
        rows.push(json!({"Kind": finding.kind, "What": finding.what, "Holders": finding.holders, "Mended": matches!(mended, Some(Ok(()))), "Error": error}));
    }
    if args.format.is_some() {
        print(&rows.iter().map(|row| format!("{row}\n")).collect::<String>())?;
        return Ok(i32::from(failed > 0));
    }
    out += &match (findings.len(), args.fix) {
        (0, _) => "Nothing is amiss.\n".to_owned(),
        (count, false) => format!("{count} found; --fix mends what can be mended.\n"),
        (count, true) => format!("{} of {count} mended.\n", count - failed),
    };
    print(&out)?;
    Ok(i32::from(failed > 0))
}

fn command(pid: i32) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/comm")).unwrap_or_default();
    if text.is_empty() { "gone".into() } else { text.trim().chars().filter(|c| !c.is_control()).collect() }
}

fn examine(dirs: &Dirs) -> Result<Vec<Finding>> {
    let containers = Containers::new(dirs);
    let mut all = Vec::new();
    for container in containers.list()? {
        match state(&container) {
            Ok(finding) => all.extend(finding),
            // Removed meanwhile.
            Err(error) if error.get_kind() == Kind::NoContainer => {}
            // Among the files that were left.
            Err(_) if !container.is_whole() => {}
            Err(error) => {
                let words = format!("container {} cannot be read: {error}", short(container.id()));
                let mend = Mend::Not(format!("remove {} by hand", container.dir().display()));
                all.push(Finding { kind: "state", what: words, holders: Vec::new(), mend });
            }
        }
    }
    runtime(dirs, &mut all)?;
    network(dirs, &mut all)?;
    mounts(dirs, &mut all)?;
    files(dirs, &containers, &mut all)?;
    Ok(all)
}

/// Does something while no container of that id is up or can begin: its monitor first writes itself down under this lock, and
/// takes everything away before it writes the end down. `None` if there is one that is up.
fn idle<T>(dirs: &Dirs, id: &str, act: impl FnOnce() -> T) -> Option<T> {
    // Without a directory: a container has one before and after all else of it.
    let Ok(container) = Containers::new(dirs).find(id) else { return Some(act()) };
    let _lock = container.lock().ok();
    let up = container.state().is_ok_and(|state| is_up(&container, &state));
    if up { None } else { Some(act()) }
}

fn is_up(container: &Container, state: &State) -> bool {
    container.monitored(state) || (state.status.is_up() && container.process(state).is_some())
}

fn short(id: &str) -> String {
    id.chars().take(12).collect()
}

/// What a container's state file says wrongly.
fn state(container: &Container) -> Result<Option<Finding>> {
    let _lock = container.lock()?;
    let record = container.record()?;
    let now = container.state()?;
    let written: State = container.written_state()?;
    let monitored = container.monitored(&now);
    let name = || format!("container {} ({})", record.short(), record.name);
    let found = |what: String, holders: Vec<i32>, mend: Mend| Some(Finding { kind: "state", what, holders, mend });
    if monitored {
        return Ok(None);
    }
    if now.status.is_up() && container.process(&now).is_some() {
        let what = format!("{} runs without its monitor, which was killed: nobody writes its log or its end", name());
        let pid = now.process.map(|process| process.pid);
        let advice = format!("mydocker restart {} gives it a new one", record.name);
        return Ok(found(what, pid.into_iter().collect(), Mend::Not(advice)));
    }
    let settle = Mend::Settle(container.clone());
    if written.status != now.status {
        let what = format!("{} is written down as {}, and its processes are gone", name(), written.status);
        return Ok(found(what, Vec::new(), settle));
    }
    if now.status == Status::Removing {
        return Ok(found(format!("the removal of {} was not finished", name()), Vec::new(), settle));
    }
    if record.settings.auto_remove && now.status == Status::Exited {
        return Ok(found(format!("{} has ended and was to be removed (--rm)", name()), Vec::new(), settle));
    }
    Ok(None)
}

/// The runtime's records, and their cgroups, of containers that are not up.
fn runtime(dirs: &Dirs, all: &mut Vec<Finding>) -> Result<()> {
    let root = Root::new(Some(&dirs.run.join("keel")))?;
    for id in root.list()? {
        let Some(Ok(record)) = idle(dirs, id.as_str(), || root.open(&id).and_then(|container| container.record())) else { continue };
        let parsed: Option<Cgroup> = record.cgroup.read().ok().flatten();
        let places: BTreeSet<String> =
            parsed.iter().flat_map(Cgroup::paths).map(|(_, path)| path).filter(|path| Path::new(path).exists()).collect();
        let holders = parsed.as_ref().and_then(|cgroup| cgroup.procs().ok()).unwrap_or_default();
        let mend = || Mend::Runtime(id.as_str().to_owned());
        let what = format!("the runtime's record {} of a container that is not up", root.path().join(id.as_str()).display());
        all.push(Finding { kind: "runtime", what, holders: Vec::new(), mend: mend() });
        if !places.is_empty() {
            let places: Vec<String> = places.into_iter().collect();
            let what = format!("the cgroup of a container that is not up: {}", places.join(", "));
            all.push(Finding { kind: "cgroup", what, holders, mend: mend() });
        }
    }
    Ok(())
}

/// Pinned namespaces and leases of containers that are not up.
fn network(dirs: &Dirs, all: &mut Vec<Finding>) -> Result<()> {
    for id in Namespace::all(dirs)? {
        let pin = Namespace::of(dirs, &id);
        let there = idle(dirs, &id, || (pin.path().exists(), pin.exists()));
        let what = match there {
            Some((_, true)) => format!("the pinned network namespace {} of a container that is not up", pin.path().display()),
            Some((true, false)) => format!("the file {}, at which no namespace is pinned any more", pin.path().display()),
            _ => continue,
        };
        let holders = if pin.exists() { in_namespace(pin.path()) } else { Vec::new() };
        all.push(Finding { kind: "namespace", what, holders, mend: Mend::Network(id) });
    }
    if !dirs.run.join("network").exists() {
        return Ok(());
    }
    let networks = Networks::open(dirs)?;
    for (id, lease) in networks.leases()? {
        if !idle(dirs, &id, || networks.leases().is_ok_and(|leases| leases.contains_key(&id))).unwrap_or(false) {
            continue;
        }
        let addresses: Vec<String> = lease.attachments.iter().map(|at| format!("{} on {}", at.address, at.network)).collect();
        let what = format!("the lease of container {} ({}), which is not up: {}", short(&id), lease.name, addresses.join(", "));
        all.push(Finding { kind: "lease", what, holders: Vec::new(), mend: Mend::Network(id) });
    }
    Ok(())
}

/// The processes, other than our own, for which `test` holds of their directory in /proc.
fn processes(test: impl Fn(&Path) -> bool) -> Vec<i32> {
    let own = std::process::id().cast_signed();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let pids = entries.filter_map(|entry| Some((entry.file_name().to_str()?.parse::<i32>().ok()?, entry.path())));
    pids.filter(|(pid, path)| *pid != own && test(path)).map(|(pid, _)| pid).collect()
}

fn in_namespace(pin: &Path) -> Vec<i32> {
    let Ok(wanted) = fs::metadata(pin) else { return Vec::new() };
    processes(|dir| fs::metadata(dir.join("ns/net")).is_ok_and(|meta| (meta.dev(), meta.ino()) == (wanted.dev(), wanted.ino())))
}

/// Mounts of the host inside a container's directory: the runtime mounts inside containers only, so nothing of ours is there.
fn mounts(dirs: &Dirs, all: &mut Vec<Finding>) -> Result<()> {
    let Ok(base) = fs::canonicalize(dirs.containers()) else { return Ok(()) };
    let path = "/proc/self/mountinfo";
    let text = fs::read_to_string(path).context(|| format!("read {path}"))?;
    let places = text.lines().filter_map(|line| line.split(' ').nth(4)).map(unescape_mount_path);
    let places: Vec<PathBuf> = places.filter(|place| place.starts_with(&base) && *place != base).collect();
    // Later ones lie upon or in earlier ones.
    for place in places.into_iter().rev() {
        let below = |link: PathBuf| fs::read_link(link).is_ok_and(|to| to.starts_with(&place));
        let holders = processes(|dir| below(dir.join("cwd")) || below(dir.join("root")));
        let what = format!("the mount {} in the directory of a container", place.display());
        all.push(Finding { kind: "mount", what, holders, mend: Mend::Unmount(place.clone()) });
    }
    Ok(())
}

/// What was not finished when it was made or removed.
fn files(dirs: &Dirs, containers: &Containers, all: &mut Vec<Finding>) -> Result<()> {
    let mut add = |path: &Path, mend: Mend| {
        let what = format!("{} was left by a command that was killed", path.display());
        all.push(Finding { kind: "files", what, holders: Vec::new(), mend });
    };
    containers.leftovers(false)?.iter().for_each(|path| add(path, Mend::Leftovers));
    let hidden = |dir: &Path| -> Vec<PathBuf> {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        entries.filter(|entry| entry.file_name().as_encoded_bytes().starts_with(b".")).map(|entry| entry.path()).collect()
    };
    if dirs.volumes().exists() {
        let _lock = Lock::dir(&dirs.volumes())?;
        hidden(&dirs.volumes()).iter().for_each(|path| add(path, Mend::Volumes));
    }
    if dirs.images().exists() {
        Images::open(dirs)?.unfinished()?.iter().for_each(|path| add(path, Mend::Images));
    }
    Ok(())
}

/// What one finding's mending took away with it is no error for the next.
fn mend(finding: &Finding, dirs: &Dirs) -> Result<()> {
    match &finding.mend {
        Mend::Settle(container) => settle(container),
        Mend::Runtime(id) => {
            let runtime = lifecycle::Runtime { root: Root::new(Some(&dirs.run.join("keel")))?, manager: crate::cgroup::Manager::Cgroupfs };
            let (log, name) = (Log::open(None, false, false)?, ContainerId::new(id)?);
            idle(dirs, id, || lifecycle::delete(&runtime, &name, true, &log)).unwrap_or(Ok(()))
        }
        Mend::Network(id) => {
            let networks = Networks::open(dirs)?;
            let act = || match networks.leases()?.contains_key(id) {
                true => networks.teardown(id),
                false => Namespace::of(dirs, id).remove(),
            };
            idle(dirs, id, act).unwrap_or(Ok(()))
        }
        Mend::Unmount(place) => match unmount(place, UnmountFlags::DETACH | UnmountFlags::NOFOLLOW) {
            Err(rustix::io::Errno::INVAL | rustix::io::Errno::NOENT) => Ok(()),
            other => other.context(|| format!("unmount {}", place.display())),
        },
        Mend::Leftovers => Containers::new(dirs).leftovers(true).map(drop),
        Mend::Volumes => Volumes::open(dirs)?.prune(|_| false).map(drop),
        Mend::Images => Images::open(dirs)?.sweep().map(drop),
        Mend::Not(advice) => Err(Error::new(advice.clone())),
    }
}

fn settle(container: &Container) -> Result<()> {
    let Ok(record) = container.record() else { return Ok(()) };
    let (id, dirs) = (container.id(), container.dirs());
    // It may have been started since it was looked at.
    let Some(settled) = idle(dirs, id, || monitor::settle(container)) else { return Ok(()) };
    settled?;
    // What is read is corrected, and written down as such.
    let state = container.change(|state| {
        if !is_up(container, state) {
            (state.process, state.monitor) = (None, None);
        }
    })?;
    let unwanted = record.settings.auto_remove && state.status == Status::Exited || state.status == Status::Removing;
    if unwanted && !is_up(container, &state) { monitor::remove(container, &record, record.settings.auto_remove) } else { Ok(()) }
}

/// Mends all that can be mended, for `system prune`; what cannot is told.
pub fn mend_all(dirs: &Dirs) -> Result<()> {
    for finding in examine(dirs)? {
        if let Err(error) = mend(&finding, dirs) {
            eprintln!("WARNING: {}: {error}", finding.what);
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    #[test]
    fn paths_of_mountinfo() {
        assert_eq!(super::unescape_mount_path("/a\\040b\\134c\\x"), std::path::PathBuf::from("/a b\\c\\x"));
    }
}
