//! Health checks: a command in the container, now and then.

use super::COMMAND_EXEC;
use crate::mydocker::container::{Container, Health as Check, HealthState, Probe, journal};
use crate::store::ProcessId;
use crate::sys::rfc3339_now;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::AsFd;
use rustix::process::{Pid, Signal, kill_process, kill_process_group};
use std::io::Read;
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

/// How much of a check's output is kept, in bytes.
const OUTPUT_MAX: usize = 4096;

/// How many checks are kept.
const LOG_MAX: usize = 5;

/// The checks of one run.
pub struct Health {
    check: Check,
    begun: Instant,
    next: Instant,
    current: Option<Current>,
}

/// A check that runs.
struct Current {
    child: Child,
    start: String,
    deadline: Instant,
    output: Vec<u8>,
}

impl Health {
    /// Whose first check is due after an interval.
    pub fn new(check: Check, _container: &Container) -> Self {
        let begun = Instant::now();
        let mut health = Self { check, begun, next: begun, current: None };
        health.next = begun + health.pause();
        health
    }

    fn pause(&self) -> Duration {
        let starting = self.begun.elapsed() < Duration::from_nanos(self.check.start_period);
        Duration::from_nanos(if starting { self.check.start_interval } else { self.check.interval })
    }

    /// When something is to be done; a running check is looked at often, as its end has no descriptor here.
    pub fn next(&self) -> Option<Instant> {
        match &self.current {
            Some(current) => Some(current.deadline.min(Instant::now() + Duration::from_millis(50))),
            None => Some(self.next),
        }
    }

    /// The check's process, which is not to be reaped by anybody else.
    pub fn pid(&self) -> Option<i32> {
        self.current.as_ref().map(|current| current.child.id().cast_signed())
    }

    /// Begins a check that is due, ends one that is done or late.
    pub fn turn(&mut self, container: &Container) {
        match self.current.take() {
            None if self.next <= Instant::now() => self.begin(container),
            None => {}
            Some(current) => self.look(current, container),
        }
    }

    fn begin(&mut self, container: &Container) {
        let dirs = container.dirs();
        let mut command = Command::new("/proc/self/exe");
        command.arg0("mydocker").arg("--root").arg(&dirs.data).arg("--run-root").arg(&dirs.run).arg(COMMAND_EXEC).arg(container.id());
        match self.check.test.split_first() {
            Some((kind, rest)) if kind == "CMD-SHELL" => command.args(["/bin/sh", "-c"]).args(rest.first()),
            Some((_, rest)) => command.args(rest),
            None => return,
        };
        // A group of its own, so that a check that hangs can be ended with all it started outside.
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
        let timeout = Duration::from_nanos(self.check.timeout);
        let start = rfc3339_now();
        match command.spawn() {
            Ok(child) => self.current = Some(Current { child, start, deadline: Instant::now() + timeout, output: Vec::new() }),
            Err(error) => self.record(container, Probe { end: rfc3339_now(), start, exit_code: -1, output: error.to_string() }),
        }
    }

    fn look(&mut self, mut current: Current, container: &Container) {
        current.read();
        let late = Instant::now() >= current.deadline;
        let (exit_code, output) = match current.child.try_wait() {
            Ok(Some(status)) => {
                current.read();
                (status.code().unwrap_or(-1), String::from_utf8_lossy(&current.output).into_owned())
            }
            Ok(None) if !late => {
                self.current = Some(current);
                return;
            }
            _ => {
                // What it runs in the container is its child, and not in its group once it has a session of its own.
                for inside in children(current.child.id()) {
                    let _ = kill_process(inside, Signal::KILL);
                }
                if let Some(group) = Pid::from_raw(current.child.id().cast_signed()) {
                    let _ = kill_process_group(group, Signal::KILL);
                }
                let _ = current.child.wait();
                let timeout = Duration::from_nanos(self.check.timeout);
                (-1, format!("Health check exceeded timeout ({}s)", timeout.as_secs_f32()))
            }
        };
        self.record(container, Probe { start: current.start, end: rfc3339_now(), exit_code, output });
    }

    fn record(&mut self, container: &Container, probe: Probe) {
        self.next = Instant::now() + self.pause();
        let starting = self.begun.elapsed() < Duration::from_nanos(self.check.start_period);
        let own = ProcessId::own().ok();
        let retries = self.check.retries;
        let mut changed = None;
        let _ = container.change(|state| {
            if state.monitor != own {
                return;
            }
            let before = state.health.as_ref().map(|health| health.status.clone());
            let health = state.health.get_or_insert_with(HealthState::default);
            if probe.exit_code == 0 {
                (health.failing_streak, health.status) = (0, "healthy".into());
            } else if !(starting && health.status == "starting") {
                health.failing_streak += 1;
                if health.failing_streak >= retries {
                    health.status = "unhealthy".into();
                }
            }
            health.log.push(probe);
            let excess = health.log.len().saturating_sub(LOG_MAX);
            health.log.drain(..excess);
            changed = Some(health.status.clone()).filter(|now| before.as_ref() != Some(now));
        });
        if let (Some(status), Ok(record)) = (changed, container.record()) {
            journal::tell(container.dirs(), &record, &format!("health_status: {status}"), &[]);
        }
    }
}

/// The children of a process of one thread.
fn children(pid: u32) -> Vec<Pid> {
    let list = std::fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    list.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw).collect()
}

impl Current {
    fn read(&mut self) {
        let Some(output) = &mut self.child.stdout else { return };
        let mut space = [0; OUTPUT_MAX];
        loop {
            let mut fds = [PollFd::from_borrowed_fd(output.as_fd(), PollFlags::IN)];
            if poll(&mut fds, Some(&Timespec { tv_sec: 0, tv_nsec: 0 })).unwrap_or(0) == 0 {
                return;
            }
            match output.read(&mut space) {
                Ok(count) if count > 0 => {
                    let room = OUTPUT_MAX.saturating_sub(self.output.len());
                    self.output.extend_from_slice(&space[..count.min(room)]);
                }
                _ => return,
            }
        }
    }
}

impl Drop for Health {
    fn drop(&mut self) {
        if let Some(current) = &mut self.current {
            let _ = current.child.kill();
            let _ = current.child.wait();
        }
    }
}
