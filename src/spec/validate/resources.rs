//! config-linux.md, "Control groups". Which limits the host's cgroups have is not known here; what is checked are
//! values no kernel takes, and names that become file names.

use crate::spec::Resources;
use crate::sys::{Error, Result};

pub(super) fn check(resources: &Resources, warnings: &mut Vec<String>) -> Result<()> {
    device_rules(resources, warnings)?;
    file_names(resources)?;
    block_io(resources)?;
    let memory = &resources.memory;
    for (set, field) in [(memory.kernel, "kernel"), (memory.kernel_tcp, "kernelTCP")] {
        // Engines write 0 for "not set".
        if set.is_some_and(|bytes| bytes != 0) {
            warnings.push(format!("linux.resources.memory.{field} is deprecated, has no effect on current kernels and is ignored"));
        }
    }
    if let Some(idle) = resources.cpu.idle.filter(|idle| !(0..=1).contains(idle)) {
        return Err(Error::new(format!("{idle} is neither 0 nor 1")).at("linux.resources.cpu.idle"));
    }
    Ok(())
}

fn device_rules(resources: &Resources, warnings: &mut Vec<String>) -> Result<()> {
    for (i, rule) in resources.devices.iter().enumerate() {
        let refuse = |field: &str, why: String| Err(Error::new(why).at(format!("linux.resources.devices[{i}].{field}")));
        if !matches!(rule.kind.as_str(), "" | "a" | "b" | "c") {
            return refuse("type", format!("the device type {:?} does not exist; a, b and c do", rule.kind));
        }
        let known = |letters: &[u8]| rule.access.bytes().filter(|b| letters.contains(b)).count();
        if known(b"rwm") == 0 || known(b"rwma") != rule.access.len() {
            return refuse("access", format!("the access {:?} is not made of r, w and m", rule.access));
        }
        if known(b"a") != 0 {
            // The letter of the device type that is all of them: runc takes it, and makes nothing of it.
            warnings.push(format!("linux.resources.devices[{i}].access: the letter a of {:?} has no meaning", rule.access));
        }
        for (number, field) in [(rule.major, "major"), (rule.minor, "minor")] {
            if let Some(number) = number.filter(|n| !(-1..=i64::from(u32::MAX)).contains(n)) {
                return refuse(field, format!("{number} is no device number"));
            }
        }
    }
    Ok(())
}

/// Keys of `unified`, page sizes and RDMA devices come to stand in paths below the cgroup or in lines written there.
fn file_names(resources: &Resources) -> Result<()> {
    for key in resources.unified.keys() {
        // A file of cgroup v2 is CONTROLLER.NAME; the ones without a dot would be directories of other cgroups.
        if key.contains(['/', '\0', '\n']) || key.starts_with('.') || !key.contains('.') {
            return Err(Error::new(format!("{key:?} is not the name of a cgroup v2 file")).at("linux.resources.unified"));
        }
        // They limit nothing: they would stop the container before it runs, or bring processes of the host's into its cgroup.
        if matches!(key.as_str(), "cgroup.procs" | "cgroup.threads" | "cgroup.kill" | "cgroup.freeze") {
            return Err(Error::new(format!("{key} is not a limit but moves, freezes or kills processes")).at("linux.resources.unified"));
        }
    }
    for (i, limit) in resources.hugepage_limits.iter().enumerate() {
        let digits = limit.page_size.trim_end_matches(|c: char| !c.is_ascii_digit());
        let number = !digits.is_empty() && !digits.starts_with('0') && digits.bytes().all(|b| b.is_ascii_digit());
        if !number || !matches!(&limit.page_size[digits.len()..], "KB" | "MB" | "GB") {
            let words = format!("{:?} is not a page size such as 64KB, 2MB or 1GB", limit.page_size);
            return Err(Error::new(words).at(format!("linux.resources.hugepageLimits[{i}].pageSize")));
        }
    }
    for name in resources.rdma.keys().chain(resources.network.priorities.iter().map(|p| &p.name)) {
        if name.is_empty() || name.contains(|c: char| c.is_whitespace() || c == '\0') {
            return Err(Error::new(format!("{name:?} is not the name of a device")).at("linux.resources"));
        }
    }
    Ok(())
}

/// 0 is what engines write for "not set".
fn block_io(resources: &Resources) -> Result<()> {
    let io = &resources.block_io;
    for (weight, field) in [(io.weight, "weight"), (io.leaf_weight, "leafWeight")] {
        if let Some(weight) = weight.filter(|w| *w != 0 && !(10..=1000).contains(w)) {
            return Err(Error::new(format!("weight {weight} is outside of 10 to 1000")).at(format!("linux.resources.blockIO.{field}")));
        }
    }
    Ok(())
}
