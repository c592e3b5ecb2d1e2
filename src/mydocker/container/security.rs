//! Capabilities, seccomp profile and labels of a container, by docker's defaults and options.

use super::{Settings, profile};
use crate::spec::{Seccomp, SyscallRule, names};
use crate::sys::{Context, Error, Result};
use serde::Deserialize;
use std::collections::BTreeMap;

/// docker's default set.
const DEFAULT: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// Every capability that this kernel has.
fn all() -> Vec<String> {
    let last = std::fs::read_to_string("/proc/sys/kernel/cap_last_cap").ok().and_then(|text| text.trim().parse::<u32>().ok());
    let mask = last.filter(|last| *last < 63).map_or(u64::MAX, |last| (1 << (last + 1)) - 1);
    names::capability_names(mask).split(',').map(|name| name.trim().to_owned()).filter(|name| !name.is_empty()).collect()
}

/// The capabilities by `--privileged`, `--cap-add` and `--cap-drop`: `ALL` first, then single ones, as docker does.
pub fn capabilities(settings: &Settings) -> Result<Vec<String>> {
    if settings.privileged {
        return Ok(all());
    }
    let full = |name: &String| {
        let upper = name.to_ascii_uppercase();
        let name = if upper == "ALL" || upper.starts_with("CAP_") { upper } else { format!("CAP_{upper}") };
        if name == "ALL" || names::capability(&name).is_some() { Ok(name) } else { Err(Error::new(format!("invalid capability: {name}"))) }
    };
    let add = settings.cap_add.iter().map(full).collect::<Result<Vec<_>>>()?;
    let drop = settings.cap_drop.iter().map(full).collect::<Result<Vec<_>>>()?;
    let has = |list: &[String], name: &str| list.iter().any(|entry| entry == name);
    let mut set = if has(&add, "ALL") { all() } else { DEFAULT.map(String::from).to_vec() };
    if has(&drop, "ALL") {
        set.clear();
    }
    set.retain(|name| !has(&drop, name));
    set.extend(add.iter().filter(|name| *name != "ALL").cloned());
    set.sort();
    set.dedup();
    Ok(set)
}

/// What `--security-opt` amounts to.
#[derive(Clone, Debug, Default)]
pub struct Security {
    /// The filter; none if unconfined.
    pub seccomp: Option<Seccomp>,
    /// `no-new-privileges`.
    pub no_new_privileges: bool,
    /// AppArmor's profile.
    pub apparmor: String,
    /// SELinux's label.
    pub selinux: String,
    /// `systempaths=unconfined`: nothing is masked.
    pub unmasked: bool,
}

/// `seccomp.json`: the default profile, and what each capability adds to it.
#[derive(Deserialize)]
struct Profile {
    capabilities: BTreeMap<String, Vec<String>>,
    profile: Seccomp,
}

impl Security {
    /// Reads the options; a profile's file is read now.
    pub fn of(settings: &Settings, capabilities: &[String]) -> Result<Self> {
        let mut security = Self::default();
        let mut filter = if settings.privileged { None } else { Some("builtin") };
        let mut selinux = Vec::new();
        for option in &settings.security {
            let (key, value) = option.split_once(['=', ':']).map_or((option.as_str(), None), |(key, value)| (key, Some(value)));
            match (key, value) {
                ("seccomp", Some("unconfined")) => filter = None,
                ("seccomp", Some(path)) => filter = Some(path),
                ("no-new-privileges", None | Some("true")) => security.no_new_privileges = true,
                ("no-new-privileges", Some("false")) => security.no_new_privileges = false,
                ("apparmor", Some(profile)) => security.apparmor = if profile == "unconfined" { String::new() } else { profile.to_owned() },
                ("label", Some("disable")) => selinux.clear(),
                ("label", Some(part))
                    if part.split_once(':').is_some_and(|(kind, _)| ["user", "role", "type", "level"].contains(&kind)) =>
                {
                    selinux.push(part.to_owned());
                }
                ("systempaths", Some("unconfined")) => security.unmasked = true,
                _ => return Err(Error::new(format!("invalid --security-opt: {option:?}"))),
            }
        }
        security.seccomp = match filter {
            None => None,
            Some("builtin") => Some(default(capabilities)?),
            Some(text) if text.starts_with('{') => Some(profile::parse("given", text, capabilities)?),
            Some(path) => Some(profile::parse(path, &read(path)?, capabilities)?),
        };
        if !selinux.is_empty() {
            let part = |kind: &str, default: &str| {
                let found = selinux.iter().find_map(|part| part.strip_prefix(kind)?.strip_prefix(':'));
                found.unwrap_or(default).to_owned()
            };
            security.selinux =
                [part("user", "system_u"), part("role", "system_r"), part("type", "container_t"), part("level", "s0")].join(":");
        }
        Ok(security)
    }
}

/// The default profile for a set of capabilities.
fn default(capabilities: &[String]) -> Result<Seccomp> {
    let parsed: std::result::Result<Profile, _> = serde_json::from_str(include_str!("seccomp.json"));
    let Profile { capabilities: by_capability, mut profile } =
        parsed.map_err(|e| Error::new(format!("the built-in seccomp profile: {e}")))?;
    if cfg!(target_arch = "aarch64") {
        profile.architectures = vec!["SCMP_ARCH_AARCH64".into(), "SCMP_ARCH_ARM".into()];
    }
    let mut names: Vec<String> =
        by_capability.into_iter().filter(|(name, _)| capabilities.contains(name)).flat_map(|(_, calls)| calls).collect();
    names.sort();
    names.dedup();
    // A call that is allowed whole needs no rule with conditions, nor one that denies it.
    profile.syscalls.retain(|rule| rule.names.len() > 1 || !names.contains(&rule.names[0]));
    if !names.is_empty() {
        profile.syscalls.push(SyscallRule { names, action: "SCMP_ACT_ALLOW".into(), ..SyscallRule::default() });
    }
    Ok(profile)
}

fn read(path: &str) -> Result<String> {
    std::fs::read_to_string(path).context(|| format!("opening seccomp profile ({path}) failed"))
}

/// Checks the options as a start will, and puts the text of a profile in the place of its path, as docker does: the file
/// may be gone by then, and a relative path means something else to a monitor.
pub fn settle_security(settings: &mut Settings) -> Result<()> {
    for option in &mut settings.security {
        if let Some(path) =
            option.strip_prefix("seccomp=").filter(|path| !["unconfined", "builtin"].contains(path) && !path.starts_with('{'))
        {
            *option = format!("seccomp={}", read(path)?.trim_start());
        }
    }
    let capabilities = capabilities(settings)?;
    // The built-in profile need not be checked.
    if settings.security.is_empty() { Ok(()) } else { Security::of(settings, &capabilities).map(drop) }
}
