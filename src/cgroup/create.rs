//! Making the container's cgroups, with nothing left behind if that fails.

use super::file::{get, open_dir, open_write, put, write_to};
use super::{Cgroup, Devices, Entry, Tree, Unit, Version};
use crate::plan::limits::Limits;
use crate::sys::{
    Context, Error, Result, bpf_attach_cgroup_device, bpf_detach_cgroup_device, bpf_load_cgroup_device, bpf_query_cgroup_device,
    in_user_namespace,
};
use rustix::fd::OwnedFd;
use rustix::fs::{AtFlags, CWD, Mode, mkdirat, unlinkat};
use rustix::io::Errno;

/// Removes directories made before, innermost first. One that somebody else uses by now stays.
pub(super) fn undo(made: &[String]) {
    for dir in made.iter().rev() {
        let _ = unlinkat(CWD, dir, AtFlags::REMOVEDIR);
    }
}

/// What an unprivileged user is told who has no cgroup of his own; EROFS is a read-only bind of the host's.
fn is_permission(errno: Errno) -> bool {
    matches!(errno, Errno::ACCESS | Errno::PERM | Errno::ROFS)
}

/// Whether that is to be expected: of an unprivileged user, and of who is root in a user namespace only (rootless podman).
fn is_unprivileged(rootless: bool, errno: Errno) -> bool {
    is_permission(errno) && (rootless || in_user_namespace())
}

impl Cgroup {
    /// [`Cgroup::begin`] and [`Cgroup::fill`] in one. On failure exactly the directories made here are gone again.
    pub fn create(&mut self, limits: &Limits, devices: Option<&Devices>, rootless: bool) -> Result<Entry> {
        let mut entry = self.begin(limits, rootless, true)?;
        match self.fill(&mut entry, limits, devices, rootless) {
            Ok(()) => Ok(entry),
            Err(error) => {
                self.abandon(entry);
                Err(error)
            }
        }
    }

    /// Makes the scope of systemd and the cgroup2 directory, which a process is cloned into, or with `all` every directory, and
    /// opens them. On failure nothing is left.
    ///
    /// `rootless`: hierarchies in which we may make nothing are left out (`self` shrinks: keep it for the record),
    /// unless `linux.cgroupsPath` or a limit asks for them.
    pub fn begin(&mut self, limits: &Limits, rootless: bool, all: bool) -> Result<Entry> {
        let holder = self.unit.as_ref().map(|unit| unit.start(limits, self.version)).transpose()?;
        let mut entry = Entry { holder, ..Entry::default() };
        let made = self.make(&mut entry, limits, rootless, |tree| all || tree.is_unified());
        match made.and_then(|()| self.make_room(limits, &mut entry)) {
            Ok(()) => Ok(entry),
            Err(error) => {
                self.abandon(entry);
                Err(error)
            }
        }
    }

    /// What [`Cgroup::begin`] left: the other directories, device rules, limits. The process may already be there, and waits
    /// for this before it runs the program. After a failure, once the process has ended: [`Cgroup::abandon`].
    ///
    /// `rootless`: device rules need not be kept, as in runc, since an unprivileged user can open no more devices than before.
    pub fn fill(&mut self, entry: &mut Entry, limits: &Limits, devices: Option<&Devices>, rootless: bool) -> Result<()> {
        let open = entry.open.clone();
        self.make(entry, limits, rootless, |tree| !open.contains(&tree.mount))?;
        if let Some(devices) = devices {
            self.set_devices(devices, rootless)?;
        }
        entry.warnings = self.set_limits(limits)?;
        self.make_room(limits, entry)?;
        entry.filled = true;
        Ok(())
    }

    /// Takes back what was made for a start that failed and whose process has ended.
    pub fn abandon(&self, mut entry: Entry) {
        entry.holder = None;
        if entry.filled {
            // What its processes made below it goes too.
            let _ = self.remove();
        } else {
            let _ = self.unit.as_ref().map(Unit::stop);
        }
        undo(&entry.made);
    }

    /// With one process allowed, the holder would keep the container's out: it is two until that one is in.
    fn make_room(&self, limits: &Limits, entry: &mut Entry) -> Result<()> {
        const FILE: &str = "pids.max";
        let one = limits.writes.iter().rfind(|write| write.file == FILE).filter(|write| write.value == "1");
        if let (Some(_), Some(write), Some(dir)) = (&entry.holder, one, self.dir("pids")) {
            open_dir(&dir).and_then(|fd| put(fd, FILE, "2")).context(|| format!("set {FILE} to 2 in {dir}"))?;
            entry.late = Some((dir, FILE, write.value.clone()));
        }
        Ok(())
    }

    fn make(&mut self, entry: &mut Entry, limits: &Limits, rootless: bool, wanted: impl Fn(&Tree) -> bool) -> Result<()> {
        let tolerable = |errno: Errno, explicit: bool| !explicit && is_unprivileged(rootless, errno);
        let mut lost = Vec::new();
        for tree in std::mem::take(&mut self.trees) {
            if !wanted(&tree) {
                self.trees.push(tree);
                continue;
            }
            let dir = tree.dir();
            let before = entry.made.len();
            let fresh = match make(&tree.mount, &tree.path, &mut entry.made) {
                Err(errno) if tolerable(errno, self.explicit) => {
                    lost.push(tree);
                    continue;
                }
                Err(errno) => {
                    let error = Error::new(format!("make the cgroup {dir}")).errno(errno).at("linux.cgroupsPath");
                    let hint = "an unprivileged user needs a cgroup that was delegated to him, or no linux.cgroupsPath and no limits";
                    return Err(if is_unprivileged(rootless, errno) { error.hint(hint) } else { error });
                }
                Ok(fresh) => fresh,
            };
            if tree.is_unified() && self.unit.is_none() {
                become_threaded(&tree, &entry.made[before..]).context(|| format!("make the cgroup {dir} a threaded one"))?;
            }
            // A scope is new, and its holder is in it.
            if !fresh && self.unit.is_none() {
                vacant(&tree)?;
            }
            if tree.has("cpuset") {
                inherit_cpuset(&tree, &entry.made[before..], limits)?;
            }
            if self.version == Version::V2 {
                enable_controllers(&tree).context(|| format!("enable the controllers of {dir}"))?;
            }
            match entry.open(&tree, &dir) {
                Err(errno) if tolerable(errno, self.explicit) => lost.push(tree),
                Err(errno) => return Err(Error::new(format!("open the cgroup {dir}")).errno(errno)),
                Ok(()) => self.trees.push(tree),
            }
        }
        if !lost.is_empty()
            && let Some(write) = limits.writes.iter().find(|write| self.tree(&write.controller).is_none())
        {
            let what = format!("set {} to {}", write.file, write.value);
            let error = match self.version == Version::V2 || lost.iter().any(|tree| tree.has(&write.controller)) {
                true => Error::new(format!("{what}: permission denied to make a cgroup for it"))
                    .hint("delegate a cgroup to this user (systemd: Delegate=yes), or ask for no limits"),
                false => Error::new(format!("{what}: controller {} is not mounted as cgroup v1", write.controller)),
            };
            return Err(error.at(&write.at));
        }
        Ok(())
    }

    /// By files where v1 has the devices controller, else by a program on the cgroup2 directory.
    pub(super) fn set_devices(&self, devices: &Devices, rootless: bool) -> Result<()> {
        const AT: &str = "linux.resources.devices";
        let done = if let Some(tree) = self.trees.iter().find(|tree| tree.has("devices")) {
            write_rules(tree, &devices.v1()?)
        } else if let Some(tree) = self.unified() {
            open_dir(&tree.dir()).and_then(|dir| attach(&dir, devices)).context(|| format!("attach the device rules to {}", tree.dir()))
        } else if rootless || self.is_none() || in_user_namespace() {
            Ok(())
        } else {
            Err(Error::new("limit access to devices: this host has neither the devices controller nor cgroup2 mounted"))
        };
        match done {
            Err(error) if error.get_errno().is_some_and(|errno| is_unprivileged(rootless, errno)) => Ok(()),
            done => done.map_err(|error| error.at(AT)),
        }
    }

    /// Gives the cgroup2 directory, and the files in it that the kernel lists for delegation, to a user (host uid),
    /// so that a container with a cgroup namespace of its own and a writable mount can have sub-cgroups
    /// (Documentation/admin-guide/cgroup-v2.rst, "Delegation"). Nothing is given away on v1: its files are not safe for that.
    pub fn delegate(&self, uid: u32) -> Result<()> {
        let Some(tree) = self.unified().filter(|_| self.version == Version::V2) else { return Ok(()) };
        let owner = Some(rustix::fs::Uid::from_raw(uid));
        let dir = open_dir(&tree.dir()).context(|| format!("open the cgroup {}", tree.dir()))?;
        let files = open_dir("/sys/kernel/cgroup").and_then(|dir| get(dir, "delegate"));
        let files = files.unwrap_or_else(|_| "cgroup.procs\ncgroup.subtree_control\ncgroup.threads".into());
        for name in std::iter::once("").chain(files.lines()) {
            match rustix::fs::chownat(&dir, name, owner, None, AtFlags::EMPTY_PATH | AtFlags::SYMLINK_NOFOLLOW) {
                Ok(()) | Err(Errno::NOENT) => {}
                Err(errno) => return Err(Error::new(format!("give {}/{name} to user {uid}", tree.dir())).errno(errno)),
            }
        }
        Ok(())
    }
}

/// `mkdir -p` below a mount point, which for most containers is one call. Says whether the last one is new.
fn make(mount: &str, path: &str, made: &mut Vec<String>) -> rustix::io::Result<bool> {
    let dir = format!("{mount}{path}");
    let mkdir = || mkdirat(CWD, &dir, Mode::from_raw_mode(0o755));
    let mut result = mkdir();
    if result == Err(Errno::NOENT)
        && let Some((parent, _)) = path.rsplit_once('/').filter(|(parent, _)| !parent.is_empty())
    {
        make(mount, parent, made)?;
        result = mkdir();
    }
    match result {
        Ok(()) => made.push(dir),
        Err(Errno::EXIST) => return Ok(false),
        Err(errno) => return Err(errno),
    }
    Ok(true)
}

/// What is made below a threaded cgroup, or the root of threaded ones, takes no process until it is
/// threaded itself (cgroups(7), "Threaded mode"), as runc and crun make it. Only there: a cgroup
/// cannot be taken back from it.
fn become_threaded(tree: &Tree, made: &[String]) -> rustix::io::Result<()> {
    const TYPE: &str = "cgroup.type";
    // The root of the hierarchy has children of either kind.
    if tree.path.matches('/').count() < 2 {
        return Ok(());
    }
    let is_invalid = |dir: &OwnedFd| get(dir, TYPE).is_ok_and(|kind| kind.trim() == "domain invalid");
    let innermost = open_dir(&tree.dir())?;
    if !is_invalid(&innermost) {
        return Ok(());
    }
    // Outermost first: below an invalid one none can become threaded.
    for dir in made.iter().map(|dir| open_dir(dir)) {
        let dir = dir?;
        if is_invalid(&dir) {
            put(&dir, TYPE, "threaded")?;
        }
    }
    if is_invalid(&innermost) { put(&innermost, TYPE, "threaded") } else { Ok(()) }
}

/// A container gets a cgroup for itself: others' processes would be frozen and killed with it.
fn vacant(tree: &Tree) -> Result<()> {
    let path = tree.dir();
    let dir = open_dir(&path).context(|| format!("open the cgroup {path}"))?;
    let mut pids = Vec::new();
    super::kill::list(&dir, &mut pids).context(|| format!("list the processes of {path}"))?;
    if !pids.is_empty() {
        let what = format!("container's cgroup is not empty: {} process(es) found in {path}", pids.len());
        return Err(Error::new(what).at("linux.cgroupsPath").hint("another container or service uses it"));
    }
    let frozen = get(&dir, "cgroup.freeze").is_ok_and(|text| text.trim() == "1")
        || get(&dir, "freezer.self_freezing").is_ok_and(|text| text.trim() == "1");
    if frozen {
        return Err(Error::new(format!("container's cgroup unexpectedly frozen: {path}")).at("linux.cgroupsPath"));
    }
    Ok(())
}

/// A new v1 cpuset has no CPUs and no memory nodes, and takes no process until it has: each gets what its parent
/// has (cgroup-v1/cpusets.rst), but for what the container's own limits will say.
fn inherit_cpuset(tree: &Tree, made: &[String], limits: &Limits) -> Result<()> {
    const FILES: [&str; 2] = ["cpuset.cpus", "cpuset.mems"];
    /// The values of a cgroup, after it and what is above it have got them.
    fn filled(tree: &Tree, path: &str, made: &[String], wanted: [bool; 2]) -> rustix::io::Result<[String; 2]> {
        let at = format!("{}{path}", tree.mount);
        let dir = open_dir(&at)?;
        let mut values = [String::new(), String::new()];
        if !made.contains(&at) {
            for (value, file) in values.iter_mut().zip(FILES) {
                *value = get(&dir, file)?.trim().to_string();
            }
        }
        let lacking = [0, 1].map(|i| wanted[i] && values[i].is_empty());
        if lacking != [false; 2]
            && let Some((parent, _)) = path.rsplit_once('/')
        {
            let inherited = filled(tree, parent, made, lacking)?;
            for i in (0..2).filter(|&i| lacking[i]) {
                put(&dir, FILES[i], &inherited[i])?;
                values[i].clone_from(&inherited[i]);
            }
        }
        Ok(values)
    }
    let own = FILES.map(|file| limits.writes.iter().any(|write| write.file == file));
    let inherit = match (own, tree.path.rsplit_once('/')) {
        // What the container's limits will say must be within what is above it.
        ([false, false], _) => filled(tree, &tree.path, made, [true; 2]),
        (_, Some((parent, _))) => filled(tree, parent, made, [true; 2]).and_then(|_| filled(tree, &tree.path, made, own.map(|own| !own))),
        (_, None) => Ok(Default::default()),
    };
    inherit.map(drop).context(|| format!("inherit the CPUs and memory nodes for {}", tree.dir()))
}

/// Makes every controller that the host's root offers available to the container, as runc does. Where an ancestor
/// refuses (it has processes of its own, or is not ours) nothing is said here: a limit that needs it will say so.
fn enable_controllers(tree: &Tree) -> rustix::io::Result<()> {
    let offered = get(open_dir(&tree.mount)?, "cgroup.controllers")?;
    let present = get(open_dir(&tree.dir())?, "cgroup.controllers")?;
    let lacking = |name: &&str| !present.split_whitespace().any(|have| have == *name);
    let missing: Vec<String> = offered.split_whitespace().filter(lacking).map(|name| format!("+{name}")).collect();
    if missing.is_empty() {
        return Ok(());
    }
    for (end, _) in tree.path.match_indices('/') {
        let dir = open_dir(&format!("{}{}", tree.mount, &tree.path[..end]))?;
        if put(&dir, "cgroup.subtree_control", &missing.join(" ")).is_err() {
            for one in &missing {
                let _ = put(&dir, "cgroup.subtree_control", one);
            }
        }
    }
    Ok(())
}

/// One open for each file and one write for each rule.
fn write_rules(tree: &Tree, rules: &[(&'static str, String)]) -> Result<()> {
    let path = tree.dir();
    let dir = open_dir(&path).context(|| format!("open the cgroup {path}"))?;
    for group in rules.chunk_by(|a, b| a.0 == b.0) {
        let name = group[0].0;
        let file = open_write(&dir, name).context(|| format!("open {path}/{name}"))?;
        for (_, rule) in group {
            write_to(&file, rule).context(|| format!("write {rule:?} to {path}/{name}"))?;
        }
    }
    Ok(())
}

/// Puts the program on the cgroup, and takes off what an earlier one of ours left, without a moment with neither.
fn attach(dir: &OwnedFd, devices: &Devices) -> rustix::io::Result<()> {
    let program = bpf_load_cgroup_device(&devices.program())?;
    let before = bpf_query_cgroup_device(dir)?;
    if let [only] = before.as_slice()
        && bpf_attach_cgroup_device(dir, &program, Some(only)).is_ok()
    {
        return Ok(());
    }
    bpf_attach_cgroup_device(dir, &program, None)?;
    before.iter().try_for_each(|old| bpf_detach_cgroup_device(dir, old))
}
