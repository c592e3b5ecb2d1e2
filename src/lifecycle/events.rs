//! `events`: what a container uses, and when it runs out of memory.

use super::status::{Present, Status, look};
use super::{Runtime, cgroup_of};
use crate::cgroup;
use crate::store::ContainerId;
use crate::sys::{Context, Error, Kind, Result, ns};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use serde::Serialize;
use std::time::{Duration, Instant};

/// What a container uses, in the shape of runc's `events`.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Stats {
    /// Of its cgroup.
    #[serde(flatten)]
    pub cgroup: cgroup::Stats,
    /// Cache and memory bandwidth; nothing is measured.
    pub intel_rdt: IntelRdt,
    /// Of its own network namespace; none if it shares the host's.
    pub network_interfaces: Option<Vec<NetworkInterface>>,
}

/// runc's `intel_rdt`, empty.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IntelRdt {}

/// Counters of a network interface since it was made, as the container sees them: bytes and packets.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "PascalCase")]
#[allow(missing_docs)] // columns of /proc/net/dev, proc_pid_net(5)
pub struct NetworkInterface {
    pub name: String,
    pub rx_bytes: u64,
    pub rx_packets: u64,
    pub rx_errors: u64,
    pub rx_dropped: u64,
    pub tx_bytes: u64,
    pub tx_packets: u64,
    pub tx_errors: u64,
    pub tx_dropped: u64,
}

/// Something that [`events`] tells of.
#[derive(Clone, Debug, PartialEq)]
pub enum Event {
    /// The interval is over.
    Stats(Box<Stats>),
    /// The container was out of memory.
    Oom,
}

fn living(runtime: &Runtime, id: &ContainerId) -> Result<Present> {
    let present = look(runtime, id, false)?;
    match present.status {
        Status::Creating | Status::Stopped => Err(Error::new(format!("container with id {id} is not running")).kind(Kind::WrongState)),
        _ => Ok(present),
    }
}

/// What the container uses now: `keel events --stats`.
pub fn stats(runtime: &Runtime, id: &ContainerId) -> Result<Stats> {
    stats_of(&living(runtime, id)?)
}

fn stats_of(present: &Present) -> Result<Stats> {
    let cgroup = cgroup_of(&present.record)?.map(|cgroup| cgroup.stats()).transpose()?.unwrap_or_default();
    let own_network = present.record.namespaces & ns::NET != 0;
    let network_interfaces = present.record.init.filter(|_| own_network).map(|init| interfaces(init.pid)).transpose()?;
    Ok(Stats { cgroup, network_interfaces, ..Stats::default() })
}

/// Interfaces of the network namespace of a process.
fn interfaces(pid: i32) -> Result<Vec<NetworkInterface>> {
    let path = format!("/proc/{pid}/net/dev");
    Ok(parse_interfaces(&std::fs::read_to_string(&path).context(|| format!("read {path}"))?))
}

/// Two lines of header, then `eth0: ` and 16 numbers: 8 of what was received, 8 of what was sent.
fn parse_interfaces(text: &str) -> Vec<NetworkInterface> {
    let interface = |line: &str| {
        let (name, numbers) = line.rsplit_once(':')?;
        let n: Vec<u64> = numbers.split_whitespace().map(str::parse).collect::<std::result::Result<_, _>>().ok()?;
        let [rx_bytes, rx_packets, rx_errors, rx_dropped, _, _, _, _, tx_bytes, tx_packets, tx_errors, tx_dropped, ..] = n[..] else {
            return None;
        };
        let name = name.trim().to_string();
        Some(NetworkInterface { name, rx_bytes, rx_packets, rx_errors, rx_dropped, tx_bytes, tx_packets, tx_errors, tx_dropped })
    };
    text.lines().filter_map(interface).collect()
}

/// Tells `each` of what happens, with the use at every interval, until the container has stopped or `each` fails.
pub fn events(runtime: &Runtime, id: &ContainerId, interval: Duration, mut each: impl FnMut(Event) -> Result<()>) -> Result<()> {
    let present = living(runtime, id)?;
    let Some(init) = &present.init else { return Ok(()) };
    let mut watch = cgroup_of(&present.record)?.map(|cgroup| cgroup.watch_oom()).transpose()?.flatten();
    let mut next = Instant::now() + interval;
    loop {
        let left = next.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs().cast_signed(), tv_nsec: left.subsec_nanos().into() };
        let mut fds = vec![PollFd::new(init, PollFlags::IN)];
        fds.extend(watch.as_ref().map(cgroup::OomWatch::poll_fd));
        match poll(&mut fds, Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => {}
            Err(errno) => return Err(Error::new(format!("wait for events of container {id}")).errno(errno)),
        }
        let ended = !fds[0].revents().is_empty();
        drop(fds);
        match watch.as_mut().map(cgroup::OomWatch::occurred) {
            Some(Some(true)) => each(Event::Oom)?,
            Some(None) => watch = None,
            _ => {}
        }
        if ended {
            return Ok(());
        }
        if Instant::now() >= next {
            next = Instant::now() + interval;
            match stats_of(&present) {
                Ok(stats) => each(Event::Stats(Box::new(stats)))?,
                // It stops at this moment: the next round sees it.
                Err(error) if matches!(error.get_errno(), Some(Errno::NOENT | Errno::NODEV)) => {}
                Err(error) => return Err(error),
            }
        }
    }
}

/// How many processes of a container the kernel has killed for want of memory; also of one that has stopped.
pub fn oom_kills(runtime: &Runtime, id: &ContainerId) -> Result<u64> {
    let present = look(runtime, id, false)?;
    cgroup_of(&present.record)?.map_or(Ok(0), |cgroup| cgroup.oom_kill_count())
}

#[cfg(test)]
mod tests {
    use super::parse_interfaces;

    #[test]
    fn interfaces_are_read() {
        let text = "Inter-|   Receive  |  Transmit\n face |bytes packets errs drop fifo frame compressed multicast|bytes packets errs drop\n    lo:  1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16\neth0.5:77 0 0 0 0 0 0 0 88 0 0 0 0 0 0 0\n";
        let read = parse_interfaces(text);
        assert_eq!(read.len(), 2);
        let lo = &read[0];
        assert_eq!((lo.name.as_str(), lo.rx_bytes, lo.rx_packets, lo.rx_errors, lo.rx_dropped), ("lo", 1, 2, 3, 4));
        assert_eq!((lo.tx_bytes, lo.tx_packets, lo.tx_errors, lo.tx_dropped), (9, 10, 11, 12));
        assert_eq!((read[1].name.as_str(), read[1].tx_bytes), ("eth0.5", 88));
    }
}
