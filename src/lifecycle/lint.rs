//! `validate`: what is wrong with a bundle, by the specification and on this host. Touches nothing, and goes on after a
//! fault, so that all are told at once.

use super::{CreateOptions, Runtime, agent, decide};
use crate::arm;
use crate::cgroup::{Layout, Resctrl, Version};
use crate::plan::{limits, seccomp};
use crate::sandbox::in_root;
use crate::spec::{self, Hook, Spec, names, sysctl};
use crate::store::ContainerId;
use crate::sys::{Context, Error, Result};
use rustix::fs::{Access, AtFlags, CWD, FileType, accessat, fstat};
use std::collections::BTreeSet;
use std::path::Path;

/// Something that [`lint`] found.
#[derive(Clone, Debug)]
pub enum Finding {
    /// `create` would fail.
    Error(Error),
    /// `create` would succeed, but something has no effect.
    Warning(String),
}

/// Everything that can be found wrong with a bundle.
pub fn lint(runtime: &Runtime, id: &ContainerId, options: &CreateOptions) -> Vec<Finding> {
    let bundle = std::path::absolute(&options.bundle).unwrap_or_else(|_| options.bundle.clone());
    let loaded = match spec::load(&bundle) {
        Ok(loaded) => loaded,
        Err(error) => return vec![Finding::Error(error)],
    };
    let (mut errors, warnings) = spec::faults(&loaded.spec);
    let mut all: Vec<String> = loaded.warnings.into_iter().chain(warnings).collect();
    errors.extend(host(&loaded.spec, &bundle));
    // What is left can only be found by going on to the plan, which stops at the first fault.
    match decide::plan(runtime, id, options) {
        Ok((_, more)) => all.extend(more),
        Err(error) if errors.is_empty() => errors.push(error),
        Err(_) => {}
    }
    let mut seen = BTreeSet::new();
    all.retain(|warning| seen.insert(warning.clone()));
    errors.retain(|error| seen.insert(error.to_string()));
    errors.into_iter().map(Finding::Error).chain(all.into_iter().map(Finding::Warning)).collect()
}

/// Each question to the host is independent of the others.
fn host(spec: &Spec, bundle: &Path) -> Vec<Error> {
    let mut errors: Vec<Error> = Vec::new();
    errors.extend(namespaces(spec));
    errors.extend(controllers(spec));
    errors.extend(security_modules(spec));
    errors.extend(program(spec, bundle).err());
    errors.extend(sources(spec, bundle));
    errors.extend(hooks(spec));
    errors.extend(network_devices(spec));
    errors.extend(sysctls(spec));
    errors.extend(agent::exists(spec).err());
    errors.extend(spec.linux.seccomp.as_ref().and_then(|profile| seccomp::compile(profile).err()));
    errors.extend(spec.linux.intel_rdt.as_ref().and_then(|rdt| Resctrl::locate(rdt, "validate").err()));
    errors
}

fn namespaces(spec: &Spec) -> Vec<Error> {
    let file = |kind: &str| match kind {
        "network" => "net".to_owned(),
        "mount" => "mnt".to_owned(),
        other => other.to_owned(),
    };
    let list = spec.linux.namespaces.iter().enumerate().filter(|(_, ns)| names::namespace(&ns.kind).is_some());
    list.filter_map(|(i, ns)| {
        let at = format!("linux.namespaces[{i}]");
        if !Path::new("/proc/self/ns").join(file(&ns.kind)).exists() {
            return Some(Error::new(format!("this kernel has no namespaces of type {}", ns.kind)).at(at));
        }
        let missing = !ns.path.is_empty() && !Path::new(&ns.path).exists();
        missing.then(|| Error::new(format!("there is no namespace {}", ns.path)).at(format!("{at}.path")))
    })
    .collect()
}

/// The controllers that the limits need, against those that this host has mounted or enabled.
fn controllers(spec: &Spec) -> Vec<Error> {
    let layout = match Layout::detect() {
        Ok(layout) => layout,
        Err(error) => return vec![error],
    };
    let limits = match limits::writes(&spec.linux.resources, layout.version) {
        Ok(limits) => limits,
        Err(error) => return vec![error],
    };
    let mut present: Vec<String> = layout.hierarchies.iter().flat_map(|h| h.controllers.clone()).collect();
    if layout.version == Version::V2 {
        let text = std::fs::read_to_string("/sys/fs/cgroup/cgroup.controllers").unwrap_or_default();
        present.extend(text.split_whitespace().map(str::to_owned));
    }
    let mut missing: Vec<&limits::Write> = Vec::new();
    for write in &limits.writes {
        let core = write.controller.is_empty() || write.controller == "cgroup";
        if !core && !present.contains(&write.controller) && missing.iter().all(|known| known.controller != write.controller) {
            missing.push(write);
        }
    }
    missing.iter().map(|write| Error::new(format!("this host has no cgroup controller {}", write.controller)).at(&write.at)).collect()
}

fn security_modules(spec: &Spec) -> Vec<Error> {
    let Some(process) = &spec.process else { return Vec::new() };
    let facts = arm::facts(true);
    let wanted = [
        (
            !process.apparmor_profile.is_empty() && process.apparmor_profile != "unconfined" && !facts.apparmor,
            "AppArmor",
            "process.apparmorProfile",
        ),
        (!process.selinux_label.is_empty() && !facts.selinux, "SELinux", "process.selinuxLabel"),
        (!spec.linux.mount_label.is_empty() && !facts.selinux, "SELinux", "linux.mountLabel"),
    ];
    let missing = wanted.iter().filter(|(missing, ..)| *missing);
    missing.map(|(_, module, at)| Error::new(format!("{module} is not enabled on this host")).at(*at)).collect()
}

/// Looks the program up in the root file system, links followed inside it. What a mount may bring is not judged.
fn program(spec: &Spec, bundle: &Path) -> Result<()> {
    let (Some(process), Some(root)) = (&spec.process, &spec.root) else { return Ok(()) };
    let Some(name) = process.args.first() else { return Ok(()) };
    let root = bundle.join(&root.path);
    if !root.is_dir() {
        return Err(Error::new(format!("the root file system {} is not a directory", root.display())).at("root.path"));
    }
    let path = process.env.iter().rev().find_map(|e| e.strip_prefix("PATH=")).unwrap_or_default();
    let candidates: Vec<String> = match name.contains('/') {
        true => vec![Path::new(&process.cwd).join(name).to_string_lossy().into_owned()],
        false => path.split(':').filter(|dir| !dir.is_empty()).map(|dir| format!("{dir}/{name}")).collect(),
    };
    let mounted = |path: &str| spec.mounts.iter().any(|m| m.destination != "/" && Path::new(path).starts_with(&m.destination));
    let executable = |path: &String| {
        let stat = in_root(&root, path).and_then(fstat);
        stat.is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile && stat.st_mode & 0o111 != 0)
    };
    let found = |path: &String| mounted(path) || executable(path);
    match candidates.iter().any(found) {
        true => Ok(()),
        false if name.contains('/') => {
            Err(Error::new(format!("{name} is not in the root file system, or not executable")).at("process.args[0]"))
        }
        false => Err(Error::new(format!("{name:?}: executable file not found in $PATH")).at("process.args[0]")),
    }
}

/// Sources of bind mounts, and file systems that the kernel does not know now (a module may bring them).
fn sources(spec: &Spec, bundle: &Path) -> Vec<Error> {
    let check = |(i, mount): (usize, &spec::Mount)| {
        let source = bundle.join(&mount.source);
        let bind = spec::options::MountOptions::of(mount).bind && !mount.source.is_empty();
        bind.then(|| std::fs::symlink_metadata(&source).context(|| format!("look for the mount source {}", source.display())).err())
            .flatten()
            .map(|error| error.at(format!("mounts[{i}].source")))
    };
    spec.mounts.iter().enumerate().filter_map(check).collect()
}

/// All but `startContainer` are found on the host, config.md "POSIX-platform Hooks".
fn hooks(spec: &Spec) -> Vec<Error> {
    let hooks = &spec.hooks;
    let lists: [(&str, &Vec<Hook>); 5] = [
        ("prestart", &hooks.prestart),
        ("createRuntime", &hooks.create_runtime),
        ("createContainer", &hooks.create_container),
        ("poststart", &hooks.poststart),
        ("poststop", &hooks.poststop),
    ];
    let each = lists.iter().flat_map(|(name, list)| list.iter().enumerate().map(move |(i, hook)| (name, i, hook)));
    each.filter_map(|(name, i, hook)| {
        let runs = accessat(CWD, hook.path.as_str(), Access::EXEC_OK, AtFlags::empty());
        runs.context(|| format!("look for the hook {}", hook.path)).err().map(|e| e.at(format!("hooks.{name}[{i}].path")))
    })
    .collect()
}

fn network_devices(spec: &Spec) -> Vec<Error> {
    let missing = spec.linux.net_devices.keys().filter(|name| !Path::new("/sys/class/net").join(name).exists());
    missing.map(|name| Error::new(format!("this host has no network device {name}")).at(format!("linux.netDevices.{name}"))).collect()
}

/// Parameters of network devices may come with the container's own.
fn sysctls(spec: &Spec) -> Vec<Error> {
    let unknown =
        |key: &&String| sysctl::file(key).is_some_and(|file| !file.starts_with("net/") && !Path::new("/proc/sys").join(file).exists());
    spec.linux.sysctl.keys().filter(unknown).map(|key| Error::new(format!("this kernel has no sysctl {key}")).at("linux.sysctl")).collect()
}
