//! What `create` and `run` were asked for, as it is written into the record. Absent means the default.

use crate::mydocker::volume::MountPoint;
use crate::sys::{Error, Result};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fmt;

/// Everything of `create` and `run` that outlives the command.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Settings {
    /// `KEY=VALUE`, the image's and then `-e`'s.
    pub env: Vec<String>,
    /// The working directory.
    pub workdir: String,
    /// `name|uid[:group|gid]`, the image's or `-u`'s.
    pub user: String,
    /// `--group-add`.
    pub groups: Vec<String>,
    /// The host's name inside; empty for the short id.
    pub hostname: String,
    /// `--domainname`.
    pub domainname: String,
    /// `-t`.
    pub tty: bool,
    /// `-i`.
    pub interactive: bool,
    /// The image's labels, then `--label`'s.
    pub labels: BTreeMap<String, String>,
    /// `--annotation`.
    pub annotations: BTreeMap<String, String>,
    /// `-v`, `--mount`, `--tmpfs`, and the image's volumes.
    pub mounts: Vec<MountPoint>,
    /// `--network`, as given; empty for the default bridge.
    pub networks: Vec<String>,
    /// `--network-alias`.
    pub aliases: Vec<String>,
    /// `--ip`.
    pub ip: Option<std::net::Ipv4Addr>,
    /// `--mac-address`.
    pub mac: Option<String>,
    /// `-p`, as given.
    pub publish: Vec<String>,
    /// `-P`.
    pub publish_all: bool,
    /// The image's exposed ports and `--expose`: `80/tcp`.
    pub exposed: Vec<String>,
    /// `--dns`.
    pub dns: Vec<String>,
    /// `--dns-search`.
    pub dns_search: Vec<String>,
    /// `--dns-option`.
    pub dns_options: Vec<String>,
    /// `--add-host`.
    pub hosts: Vec<String>,
    /// `--restart`.
    pub restart: Restart,
    /// `--rm`.
    pub auto_remove: bool,
    /// `--init`.
    pub init: bool,
    /// `--read-only`.
    pub read_only: bool,
    /// `--privileged`.
    pub privileged: bool,
    /// `--cap-add`.
    pub cap_add: Vec<String>,
    /// `--cap-drop`.
    pub cap_drop: Vec<String>,
    /// `--security-opt`, as given.
    pub security: Vec<String>,
    /// Limits.
    pub resources: Resources,
    /// `--ulimit`.
    pub ulimits: Vec<Ulimit>,
    /// `--device`.
    pub devices: Vec<Device>,
    /// `--device-cgroup-rule`, as given.
    pub device_rules: Vec<String>,
    /// `--sysctl`.
    pub sysctls: BTreeMap<String, String>,
    /// `--shm-size`, in bytes.
    pub shm_size: Option<u64>,
    /// `--stop-signal`.
    pub stop_signal: String,
    /// `--stop-timeout`, in seconds; docker's default is 10.
    pub stop_timeout: Option<u64>,
    /// `--health-*` and the image's; none if there is no check.
    pub health: Option<Health>,
    /// `--userns`: empty or `host` for none, `auto` for ids of our own choice.
    pub userns: String,
    /// `--pid`: empty, `host` or `container:X`.
    pub pid: String,
    /// `--ipc`: empty, `private`, `host` or `container:X`.
    pub ipc: String,
    /// `--uts`: empty or `host`.
    pub uts: String,
    /// `--cgroupns`: empty, `private` or `host`.
    pub cgroupns: String,
    /// `--cgroup-parent`.
    pub cgroup_parent: String,
    /// `--oom-score-adj`.
    pub oom_score_adj: Option<i32>,
    /// `--log-opt`.
    pub log: LogLimits,
}

/// Limits, as `run` and `update` take them. Sizes in bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Resources {
    /// `-m`.
    pub memory: Option<i64>,
    /// `--memory-swap`: memory and swap together; -1 for no limit.
    pub memory_swap: Option<i64>,
    /// `--memory-reservation`.
    pub memory_reservation: Option<i64>,
    /// `--memory-swappiness`, 0 to 100.
    pub memory_swappiness: Option<u64>,
    /// `--oom-kill-disable` (cgroup v1).
    pub oom_kill_disable: bool,
    /// `--cpu-shares`.
    pub cpu_shares: Option<u64>,
    /// `--cpu-period`, in microseconds.
    pub cpu_period: Option<u64>,
    /// `--cpu-quota` or `--cpus`, in microseconds a period.
    pub cpu_quota: Option<i64>,
    /// `--cpuset-cpus`.
    pub cpuset_cpus: String,
    /// `--cpuset-mems`.
    pub cpuset_mems: String,
    /// `--pids-limit`; -1 for no limit.
    pub pids_limit: Option<i64>,
    /// `--blkio-weight`, 10 to 1000.
    pub blkio_weight: Option<u16>,
}

/// A limit of setrlimit(2).
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Ulimit {
    /// `RLIMIT_NOFILE`.
    pub name: String,
    /// The soft limit.
    pub soft: u64,
    /// The hard limit.
    pub hard: u64,
}

/// A device of the host in the container.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Path on the host.
    pub host: String,
    /// Path in the container.
    pub container: String,
    /// Of `rwm`.
    pub access: String,
}

/// `--restart`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Restart {
    /// Never.
    #[default]
    No,
    /// After a failure, so often at most; 0 is without end.
    OnFailure(u32),
    /// Whenever it ends; also after a reboot, by `mydocker start --restart`.
    Always,
    /// Whenever it ends, unless a user stopped it.
    UnlessStopped,
}

impl Restart {
    /// `no`, `on-failure[:N]`, `always`, `unless-stopped`.
    pub fn parse(text: &str) -> Result<Self> {
        let (name, count) = text.split_once(':').map_or((text, None), |(name, count)| (name, Some(count)));
        let invalid = || Error::new(format!("invalid restart policy {text:?}")).hint("no, on-failure[:N], always or unless-stopped");
        match (name, count) {
            ("" | "no", None) => Ok(Self::No),
            ("on-failure", None) => Ok(Self::OnFailure(0)),
            ("on-failure", Some(count)) => count.parse().map(Self::OnFailure).map_err(|_| invalid()),
            ("always", None) => Ok(Self::Always),
            ("unless-stopped", None) => Ok(Self::UnlessStopped),
            _ => Err(invalid()),
        }
    }

    /// Whether a container that ended with `code` after `restarts` restarts is started again.
    pub fn again(self, code: i32, restarts: u32, stopped_by_user: bool) -> bool {
        !stopped_by_user
            && match self {
                Self::No => false,
                Self::OnFailure(max) => code != 0 && (max == 0 || restarts < max),
                Self::Always | Self::UnlessStopped => true,
            }
    }
}

impl fmt::Display for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::No => f.write_str("no"),
            Self::OnFailure(0) => f.write_str("on-failure"),
            Self::OnFailure(max) => write!(f, "on-failure:{max}"),
            Self::Always => f.write_str("always"),
            Self::UnlessStopped => f.write_str("unless-stopped"),
        }
    }
}

/// A health check; times in nanoseconds, as in the image's configuration.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct Health {
    /// `["CMD", …]` or `["CMD-SHELL", line]`.
    pub test: Vec<String>,
    /// Between checks; 30 s.
    pub interval: u64,
    /// For each check; 30 s.
    pub timeout: u64,
    /// Failures before this much time has passed do not count.
    pub start_period: u64,
    /// Between checks in that time; 5 s.
    pub start_interval: u64,
    /// Failures in a row that make it unhealthy; 3.
    pub retries: u32,
}

/// Limits of the log file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct LogLimits {
    /// `max-size`, in bytes.
    pub size: u64,
    /// `max-file`.
    pub files: u32,
    /// `--log-driver none`.
    #[serde(default)]
    pub none: bool,
}

impl Default for LogLimits {
    fn default() -> Self {
        Self { size: 10_000_000, files: 3, none: false }
    }
}
