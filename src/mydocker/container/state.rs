//! How a container is: written by its monitor, and by commands when there is none.

use crate::mydocker::network::{Attachment, ports::Port};
use crate::store::ProcessId;
use serde::{Deserialize, Serialize};
use std::fmt;

/// docker's words for what a container does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Status {
    /// Never started.
    #[default]
    Created,
    /// Its program runs.
    Running,
    /// Its processes are frozen.
    Paused,
    /// It ended and waits to be started again by its policy.
    Restarting,
    /// It ended.
    Exited,
    /// It is being removed.
    Removing,
    /// It could not be removed whole.
    Dead,
}

impl Status {
    /// As docker writes it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Running => "running",
            Self::Paused => "paused",
            Self::Restarting => "restarting",
            Self::Exited => "exited",
            Self::Removing => "removing",
            Self::Dead => "dead",
        }
    }

    /// Whether it has processes.
    pub fn is_up(self) -> bool {
        matches!(self, Self::Running | Self::Paused)
    }
}

impl fmt::Display for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// `state.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "camelCase")]
pub struct State {
    /// What it does.
    pub status: Status,
    /// Its first process.
    pub process: Option<ProcessId>,
    /// The process that stands by it.
    pub monitor: Option<ProcessId>,
    /// The boot in which the two live, from /proc/sys/kernel/random/boot_id.
    pub boot: String,
    /// RFC 3339; empty if it was never started.
    pub started: String,
    /// RFC 3339; empty if it never ended.
    pub finished: String,
    /// How it ended: the program's exit code, or 128+N for signal N.
    pub exit_code: i32,
    /// Why it could not start.
    pub error: String,
    /// The kernel killed it for want of memory.
    pub oom_killed: bool,
    /// How often its policy started it again.
    pub restarts: u32,
    /// A user stopped it: `unless-stopped` and `always` let it be.
    pub stopped_by_user: bool,
    /// If it has a health check.
    pub health: Option<HealthState>,
    /// Where it is reachable.
    pub attachments: Vec<Attachment>,
    /// Published ports that are in no lease: an ordinary user's.
    pub ports: Vec<Port>,
}

impl State {
    /// It is reachable no more.
    pub fn disconnect(&mut self) {
        self.attachments.clear();
        self.ports.clear();
    }
}

/// The `error` of a container that was up when its monitor and its processes vanished.
pub(super) const UNSEEN: &str = "its end was not seen: the host was restarted, or its monitor killed";

impl State {
    /// Whether nobody knows how it ended.
    pub fn unseen(&self) -> bool {
        self.error == UNSEEN
    }
}

/// What the health checks said.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct HealthState {
    /// `starting`, `healthy` or `unhealthy`.
    pub status: String,
    /// Failures in a row.
    pub failing_streak: u32,
    /// The last five.
    pub log: Vec<Probe>,
}

/// One health check.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default, rename_all = "PascalCase")]
pub struct Probe {
    /// RFC 3339.
    pub start: String,
    /// RFC 3339.
    pub end: String,
    /// 0 is well.
    pub exit_code: i32,
    /// The first 4096 bytes of what it wrote.
    pub output: String,
}
