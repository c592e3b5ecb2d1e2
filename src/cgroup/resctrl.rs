//! Intel RDT, config-linux.md "IntelRdt": a group of the resctrl file system, which is the container's own or shared, and
//! a monitoring group below it. Documentation/filesystems/resctrl.rst has the files.

use crate::spec::IntelRdt;
use crate::sys::{Context, Error, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{Mode, OFlags, open, statfs};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};
use std::path::{Path, PathBuf};

const ROOT: &str = "/sys/fs/resctrl";
/// linux/magic.h
const RDTGROUP_SUPER_MAGIC: i64 = 0x0765_5821;

/// A container's groups, as its record keeps them.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Resctrl {
    group: PathBuf,
    /// The group was not there before: it goes with the container.
    made: bool,
    monitor: Option<PathBuf>,
    /// What to write to `schemata`, or what it has to say already.
    lines: Vec<String>,
    /// What to write there last, whatever it says.
    forced: Vec<String>,
}

impl Resctrl {
    /// Where the container `id` will be. Touches nothing.
    pub fn locate(rdt: &IntelRdt, id: &str) -> Result<Self> {
        if !statfs(ROOT).is_ok_and(|fs| fs.f_type == RDTGROUP_SUPER_MAGIC) {
            return Err(Error::new(format!("Intel RDT needs a resctrl file system mounted at {ROOT}, which this host does not have"))
                .at("linux.intelRdt"));
        }
        Self::below(Path::new(ROOT), rdt, id)
    }

    fn below(root: &Path, rdt: &IntelRdt, id: &str) -> Result<Self> {
        let group = root.join(if rdt.clos_id.is_empty() { id } else { &rdt.clos_id });
        let made = !group.exists();
        let lines = lines(rdt);
        if made && !rdt.clos_id.is_empty() && lines.is_empty() && rdt.schemata.is_empty() {
            return Err(Error::new(format!("there is no {}, and no schema to make it with", group.display())).at("linux.intelRdt.closID"));
        }
        let monitor = rdt.enable_monitoring.then(|| group.join("mon_groups").join(id));
        Ok(Self { group, made, monitor, lines, forced: rdt.schemata.clone() })
    }

    /// Makes the groups and opens their `tasks`, into each of which a process writes `0` to enter.
    pub fn create(&self) -> Result<Vec<OwnedFd>> {
        let schemata = self.group.join("schemata");
        if self.made {
            make(&self.group)?;
            write(&schemata, &self.lines)?;
        } else {
            let has = std::fs::read_to_string(&schemata).context(|| format!("read {}", schemata.display()))?;
            if let Some(line) = self.lines.iter().find(|line| !has.lines().any(|other| other.trim() == line.trim())) {
                let words = format!("{} exists and does not say {line:?}", schemata.display());
                return Err(Error::new(words).at("linux.intelRdt"));
            }
        }
        write(&schemata, &self.forced)?;
        self.monitor.as_deref().map_or(Ok(()), make)?;
        self.tasks()
    }

    /// Opens the `tasks` of the groups.
    pub fn tasks(&self) -> Result<Vec<OwnedFd>> {
        let one = |group: &Path| {
            let path = group.join("tasks");
            open(&path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).context(|| format!("open {}", path.display()))
        };
        std::iter::once(self.group.as_path()).chain(self.monitor.as_deref()).map(one).collect()
    }

    /// Gives the group other schemata (`update`); what it said of the same resources before, to be put back by
    /// [`Resctrl::put_back`].
    pub fn set(&self, rdt: &IntelRdt) -> Result<Vec<String>> {
        let (schemata, lines) = (self.group.join("schemata"), lines(rdt));
        let has = std::fs::read_to_string(&schemata).context(|| format!("read {}", schemata.display()))?;
        let resource = |line: &str| line.split(':').next().map(|name| name.trim().to_owned());
        let former = has.lines().filter(|old| lines.iter().any(|new| resource(new) == resource(old)));
        let former = former.map(|line| line.trim().to_owned()).collect();
        write(&schemata, &lines).map(|()| former)
    }

    /// Gives the group lines that it had.
    pub fn put_back(&self, former: &[String]) -> Result<()> {
        write(&self.group.join("schemata"), former)
    }

    /// Removes what was made.
    pub fn remove(&self) -> Result<()> {
        let own = self.made.then_some(self.group.as_path());
        self.monitor.as_deref().into_iter().chain(own).try_for_each(|path| match rustix::fs::rmdir(path) {
            Err(Errno::NOENT) => Ok(()),
            other => other.context(|| format!("remove {}", path.display())),
        })
    }
}

/// Without the `MB:` lines of the cache schema where there is a bandwidth schema too.
fn lines(rdt: &IntelRdt) -> Vec<String> {
    let bandwidth = !rdt.mem_bw_schema.is_empty();
    let cache = rdt.l3_cache_schema.lines().filter(|line| !(bandwidth && line.trim_start().starts_with("MB:")));
    cache.chain(rdt.mem_bw_schema.lines()).filter(|line| !line.is_empty()).map(str::to_owned).collect()
}

fn make(path: &Path) -> Result<()> {
    match rustix::fs::mkdir(path, Mode::from_raw_mode(0o755)) {
        Err(Errno::NOSPC) => {
            Err(Error::new(format!("make {}", path.display())).errno(Errno::NOSPC).hint("the CPU has no more classes or monitors"))
        }
        other => other.context(|| format!("make {}", path.display())),
    }
}

/// One write for all lines, as the kernel takes them; its words for what is wrong are in `info/last_cmd_status`.
fn write(schemata: &Path, lines: &[String]) -> Result<()> {
    if lines.is_empty() {
        return Ok(());
    }
    let text = lines.join("\n") + "\n";
    std::fs::write(schemata, text.as_bytes()).context(|| format!("write {lines:?} to {}", schemata.display())).map_err(|error| {
        match std::fs::read_to_string(Path::new(ROOT).join("info/last_cmd_status")) {
            Ok(status) => error.hint(status.trim().to_owned()),
            Err(_) => error,
        }
    })
}

#[cfg(test)]
mod tests {
    use super::{Resctrl, lines};
    use crate::spec::IntelRdt;
    use std::fs;

    /// Directories in place of resctrl's groups: what keel reads and writes, not what the CPU makes of it.
    #[test]
    fn groups_are_made_compared_and_removed() {
        let root = std::env::temp_dir().join(format!("keel-resctrl-{}", std::process::id()));
        let shared = root.join("shared");
        fs::create_dir_all(&shared).unwrap();
        fs::write(shared.join("schemata"), "    L3:0=f;1=f\n    MB:0=100\n").unwrap();
        fs::write(shared.join("tasks"), "").unwrap();
        let rdt = |clos: &str, l3: &str| IntelRdt { clos_id: clos.into(), l3_cache_schema: l3.into(), ..IntelRdt::default() };
        let at = |rdt: &IntelRdt| Resctrl::below(&root, rdt, "id");

        let found = at(&rdt("shared", "L3:0=f;1=f")).unwrap();
        assert_eq!(found.create().unwrap().len(), 1);
        found.remove().unwrap();
        assert!(shared.exists(), "a group that was there stays");
        let error = at(&rdt("shared", "L3:0=1;1=1")).unwrap().create().unwrap_err().to_string();
        assert!(error.contains("does not say \"L3:0=1;1=1\" (config.json: linux.intelRdt)"), "{error}");
        let error = at(&rdt("missing", "")).unwrap_err().to_string();
        assert!(error.contains("no schema to make it with (config.json: linux.intelRdt.closID)"), "{error}");

        let former = found.set(&rdt("", "L3:0=3;1=f")).unwrap();
        assert_eq!(former, ["L3:0=f;1=f"], "and not the bandwidth");
        assert_eq!(fs::read_to_string(shared.join("schemata")).unwrap(), "L3:0=3;1=f\n");
        found.put_back(&former).unwrap();
        assert_eq!(fs::read_to_string(shared.join("schemata")).unwrap(), "L3:0=f;1=f\n");

        let own = at(&rdt("", "L3:0=3")).unwrap();
        assert!(own.made && own.group.ends_with("id"));
        let forced = IntelRdt { schemata: vec!["L2:0=1".into()], enable_monitoring: true, ..rdt("shared", "") };
        let forced = at(&forced).unwrap();
        assert_eq!(forced.monitor.as_ref().unwrap(), &shared.join("mon_groups/id"));
        fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn bandwidth_has_one_schema() {
        let rdt = IntelRdt { l3_cache_schema: "L3:0=f\nMB:0=20".into(), mem_bw_schema: "MB:0=50".into(), ..IntelRdt::default() };
        assert_eq!(lines(&rdt), ["L3:0=f", "MB:0=50"]);
        assert_eq!(lines(&IntelRdt { mem_bw_schema: String::new(), ..rdt }), ["L3:0=f", "MB:0=20"]);
    }
}
