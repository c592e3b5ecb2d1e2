//! Changing the limits of a cgroup that is in use: all of them, or none.

use super::file::{get, number, open_dir, open_write, put};
use super::limits::in_some_order;
use super::systemd::Unit;
use super::{Cgroup, Devices, Version};
use crate::plan::limits::{Limits, Missing};
use crate::sys::{Context, Error, Result};
use rustix::io::Errno;

/// Limits that were changed, and the way back.
#[derive(Debug)]
pub struct Change {
    /// One sentence for each limit that could not be kept.
    pub warnings: Vec<String>,
    /// What the files said before.
    former: Vec<Former>,
    unit: Option<(Unit, Version)>,
}

/// The value of a control file before an update.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Former {
    dir: String,
    file: String,
    value: String,
}

impl Cgroup {
    /// Changes limits, and device rules if some are given. Before the first write, each file has to be there and its value
    /// is read; when a write fails, what was written before it is put back.
    pub fn set(&self, limits: &Limits, devices: Option<&Devices>, rootless: bool) -> Result<Change> {
        self.check_usage(limits)?;
        let former = self.former(limits)?;
        if let Some(devices) = devices {
            self.set_devices(devices, rootless)?;
        }
        let mut change = Change { warnings: Vec::new(), former, unit: self.unit.clone().map(|unit| (unit, self.version)) };
        // systemd refuses all or nothing, so it is first.
        if let Some(unit) = &self.unit {
            unit.set(limits, self.version)?;
        }
        match self.set_limits(limits) {
            Ok(warnings) => change.warnings = warnings,
            Err(error) => return Err(change.undo(error)),
        }
        Ok(change)
    }

    /// Reads what the limits will overwrite, last first: the way back.
    fn former(&self, limits: &Limits) -> Result<Vec<Former>> {
        let mut all = Vec::new();
        for write in limits.writes.iter().rev() {
            let dir = self.dir_for(write)?;
            let (file, value) = match (open_write(&dir, &write.file), &write.missing) {
                (Ok(_), _) => (write.file.as_str(), &write.value),
                (Err(Errno::NOENT), Missing::Skip | Missing::Warn(_)) => continue,
                (Err(Errno::NOENT), Missing::Instead { file, value }) => (*file, value),
                (Err(errno), missing) => {
                    let hint = if let Missing::Refuse(hint) = missing { hint } else { "" };
                    return Err(self.explain(&dir, write, self.failed(write, &write.file, &write.value, errno), hint));
                }
            };
            match get(&dir, file) {
                // What an idle cgroup says there it would not take; back in idle it says it by itself.
                Ok(_) if matches!(file, "cpu.weight" | "cpu.shares") && get(&dir, "cpu.idle").is_ok_and(|idle| idle.trim() == "1") => {}
                Ok(text) => {
                    let value = former_value(file, value, &text);
                    all.push(Former { dir: self.dir(&write.controller).unwrap_or_default(), file: file.into(), value });
                }
                // Commands (memory.reclaim) have no value.
                Err(Errno::INVAL | Errno::ACCESS | Errno::OPNOTSUPP) => {}
                Err(errno) => return Err(self.explain(&dir, write, self.failed(write, file, value, errno), "")),
            }
        }
        Ok(all)
    }
}

impl Change {
    /// Puts the former values back, as something that belongs to the change has failed; the failure, with a word more if
    /// that fails too.
    #[must_use]
    pub fn undo(self, error: Error) -> Error {
        let one = |former: &&Former| {
            let what = || format!("put {} of {} back to {}", former.file, former.dir, former.value);
            open_dir(&former.dir).and_then(|dir| put(dir, &former.file, &former.value)).context(what)
        };
        let files = self.former.iter().map(|former| (former.file.as_str(), former.value.as_str()));
        let told = self.unit.map_or(Ok(()), |(unit, version)| unit.put_back(files, version));
        match in_some_order(self.former.iter().collect(), one).and(told) {
            Ok(()) => error,
            Err(second) => error.hint(format!("and the former limits are not all back: {second}")),
        }
    }
}

/// What has to be written so that `file`, which says `text` now, says so again after `value` was written to it.
///
/// Files of many lines take one at a time, each beginning with what it is for (`8:0 rbps=1 wbps=max`); one that is not
/// there yet stands for no limit.
fn former_value(file: &str, value: &str, text: &str) -> String {
    let key = value.split(' ').next().unwrap_or_default();
    let keyed = value.contains(' ') && (key.contains(':') || matches!(file, "rdma.max" | "misc.max" | "net_prio.ifpriomap"));
    let line = |key: &str| text.lines().find(|line| line.split(' ').next() == Some(key)).map(String::from);
    match file {
        _ if keyed => line(key).unwrap_or_else(|| {
            let rest = &value[key.len()..];
            let unlimited = |pair: &str| match pair.split_once('=') {
                Some((name, _)) => format!(" {name}=max"),
                None if file.contains("weight") => " default".into(),
                None => " 0".into(),
            };
            rest.split_whitespace().fold(key.to_string(), |all, pair| all + &unlimited(pair))
        }),
        "memory.oom_control" => number(text, "oom_kill_disable").unwrap_or(0).to_string(),
        "cgroup.subtree_control" => value.split_whitespace().filter_map(|word| switched(word, text)).collect::<Vec<_>>().join(" "),
        // io.weight and its like, of which the first line is for every device.
        _ => line("default").unwrap_or_else(|| match text.trim() {
            // An empty cpuset is one that has what its parent has; a write of nothing would not reach the kernel.
            "" => "\n".into(),
            text => text.to_string(),
        }),
    }
}

/// The opposite of `+controller` or `-controller` if it changes something.
fn switched(word: &str, text: &str) -> Option<String> {
    let name = word.get(1..)?;
    let on = text.split_whitespace().any(|have| have == name);
    (word.starts_with('+') != on).then(|| format!("{}{name}", if on { '+' } else { '-' }))
}

#[cfg(test)]
mod tests {
    use super::former_value;

    #[test]
    fn what_was_there_is_written_as_the_kernel_takes_it() {
        let table = [
            ("memory.max", "5", "max\n", "max"),
            ("memory.limit_in_bytes", "5", "9223372036854771712\n", "9223372036854771712"),
            ("cpu.max", "5 6", "max 100000\n", "max 100000"),
            ("memory.oom_control", "1", "oom_kill_disable 0\nunder_oom 0\noom_kill 3\n", "0"),
            ("io.max", "8:0 rbps=1", "8:16 rbps=5 wbps=max riops=max wiops=max\n", "8:0 rbps=max"),
            ("io.max", "8:16 rbps=1", "8:16 rbps=5 wbps=max riops=max wiops=max\n", "8:16 rbps=5 wbps=max riops=max wiops=max"),
            ("blkio.throttle.read_bps_device", "8:0 7", "", "8:0 0"),
            ("blkio.bfq.weight_device", "8:0 7", "", "8:0 default"),
            ("io.weight", "8:0 200", "default 100\n8:0 300\n", "8:0 300"),
            ("io.weight", "200", "default 100\n8:0 300\n", "default 100"),
            ("cpuset.cpus", "0", "\n", "\n"),
            ("rdma.max", "mlx5_1 hca_handle=3", "mlx5_1 hca_handle=max hca_object=9\n", "mlx5_1 hca_handle=max hca_object=9"),
            ("net_prio.ifpriomap", "eth0 5", "lo 0\neth0 1\n", "eth0 1"),
            ("cgroup.subtree_control", "+cpu -io +pids", "cpu io\n", "+io -pids"),
        ];
        for (file, value, text, expected) in table {
            assert_eq!(former_value(file, value, text), expected, "{file} = {value:?} over {text:?}");
        }
    }
}
