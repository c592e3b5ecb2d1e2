//! `stop`, `restart`, `kill`, `pause`, `unpause`, `wait`, `rm`, `rename`: what ends a container or holds it up.

use super::args::{Kill, Names, Rename, Rm, Stop};
use super::{each, options, print, run};
use crate::lifecycle;
use crate::mydocker::container::{Container, Containers, State, Status, journal};
use crate::mydocker::files::Dirs;
use crate::mydocker::monitor::{
    self,
    protocol::{Frame, Hello, Wire},
};
use crate::sys::{Error, Kind as ErrorKind, Result, rfc3339_now};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::OwnedFd;
use rustix::process::{Signal, pidfd_send_signal};
use std::time::{Duration, Instant};

/// docker's grace between the stop signal and SIGKILL.
const GRACE: u64 = 10;

/// How long a killed container may take to be gone.
const PATIENCE: Duration = Duration::from_secs(30);

/// `mydocker stop`.
pub fn stop(args: &Stop, dirs: &Dirs) -> Result<i32> {
    let containers = Containers::new(dirs);
    each(&args.containers, |name| {
        stop_one(&containers.find(name)?, args.timeout, args.signal.as_deref())?;
        print(&format!("{name}\n"))
    })
}

/// `mydocker restart`.
pub fn restart(args: &Stop, dirs: &Dirs) -> Result<i32> {
    let containers = Containers::new(dirs);
    each(&args.containers, |name| {
        let container = containers.find(name)?;
        stop_one(&container, args.timeout, args.signal.as_deref())?;
        run::begin(&container)?;
        tell(&container, "restart", &[]);
        print(&format!("{name}\n"))
    })
}

/// Waits for a process's end, or for something to read; whether it came in time. No limit is forever.
fn ends(process: &OwnedFd, limit: Option<Duration>) -> bool {
    let until = limit.map(|limit| Instant::now() + limit);
    loop {
        let left = until.map(|until| until.saturating_duration_since(Instant::now()));
        let left = left.map(|left| Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() });
        match poll(&mut [PollFd::new(process, PollFlags::IN)], left.as_ref()) {
            Ok(0) => return false,
            Ok(_) => return true,
            Err(rustix::io::Errno::INTR) => {}
            Err(_) => return false,
        }
    }
}

/// For `events`; of a container that is gone already there is nothing more to tell.
fn tell(container: &Container, action: &str, more: &[(&str, &str)]) {
    if let Ok(record) = container.record() {
        journal::tell(container.dirs(), &record, action, more);
    }
}

/// Sends the stop signal, waits, kills, and sees the container recorded as ended. No restart follows.
fn stop_one(container: &Container, timeout: Option<i64>, signal: Option<&str>) -> Result<()> {
    let record = container.record()?;
    let signal = signal.map(lifecycle::signal).transpose()?.unwrap_or_else(|| monitor::stop_signal(&record));
    let state = container.state()?;
    if !(state.status.is_up() || state.status == Status::Restarting) {
        return Ok(());
    }
    let state = settled(container, container.change(|state| state.stopped_by_user = true)?)?;
    if state.status == Status::Paused {
        unpause_one(container)?;
    }
    let seconds = timeout.unwrap_or_else(|| i64::try_from(record.settings.stop_timeout.unwrap_or(GRACE)).unwrap_or(i64::MAX));
    let grace = u64::try_from(seconds).ok().map(Duration::from_secs);
    if let Some(process) = container.process(&state) {
        let kill = |signal: Signal| {
            journal::tell(container.dirs(), &record, "kill", &[("signal", &signal.as_raw().to_string())]);
            pidfd_send_signal(&process, signal)
        };
        let _ = kill(signal);
        if !ends(&process, grace) {
            let _ = kill(Signal::KILL);
            ends(&process, Some(PATIENCE));
        }
    }
    match gone(container, &state) {
        // `--rm` was quicker.
        Err(error) if error.get_kind() == ErrorKind::NoContainer => {}
        other => other?,
    }
    journal::tell(container.dirs(), &record, "stop", &[]);
    Ok(())
}

/// The state of a container that a user no longer wants, once it waits for no restart: its monitor hears of that, and has either ended
/// it, or just started it once more.
fn settled(container: &Container, mut state: State) -> Result<State> {
    if let Some(monitor) = state.monitor.filter(|_| state.status == Status::Restarting && container.monitored(&state)) {
        let until = Instant::now() + PATIENCE;
        let _ = monitor.open().map(|monitor| pidfd_send_signal(&monitor, Signal::TERM));
        while state.status == Status::Restarting && container.monitored(&state) && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(2));
            state = container.state()?;
        }
    }
    Ok(state)
}

/// Waits for the monitor to record the end; without one, does so itself.
fn gone(container: &Container, state: &State) -> Result<()> {
    let Some(monitor) = state.monitor.filter(|_| container.monitored(state)).and_then(|monitor| monitor.open()) else {
        return clear(container, state);
    };
    // Should it wait to restart the container after all, this is how it hears of the user's wish.
    let _ = pidfd_send_signal(&monitor, Signal::TERM);
    // The monitor itself may live on for a client that reads slowly.
    let wire = monitor::attach(container, Hello::default())?;
    let told = wire.is_some_and(|mut wire| last_word(&mut wire, Some(PATIENCE)).is_some() || !wire.closed);
    if !told {
        // Killed: it closes its socket a moment before it is gone.
        ends(&monitor, Some(PATIENCE));
    }
    let now = container.state()?;
    if !(now.status.is_up() || now.status == Status::Restarting) {
        return Ok(());
    }
    if container.monitored(&now) {
        return Err(Error::new(format!("container {} does not end", container.id())).hint("a process of it hangs in the kernel"));
    }
    // Killed before it could write the end down.
    clear(container, state)
}

/// Waits until the monitor says how the container ended, or is gone, or the time is over.
fn last_word(wire: &mut Wire, limit: Option<Duration>) -> Option<i32> {
    while !wire.closed {
        for frame in wire.receive() {
            if let Frame::Exit(code) | Frame::Failed(code, _) = frame {
                return Some(code);
            }
        }
        if !wire.closed && !ends(&wire.socket, limit) {
            return None;
        }
    }
    None
}

/// Ends and records what no monitor stands by, and what was in the state `before`.
pub fn clear(container: &Container, before: &State) -> Result<()> {
    let process = container.process(&container.state()?);
    if let Some(process) = &process {
        let _ = pidfd_send_signal(process, Signal::KILL);
        ends(process, Some(PATIENCE));
    }
    monitor::settle(container)?;
    let up = before.status.is_up() || before.status == Status::Restarting;
    let mut died = process.is_some();
    let change = |state: &mut State| {
        died |= up && state.unseen();
        if died {
            (state.status, state.exit_code, state.finished) = (Status::Exited, 137, rfc3339_now());
            state.error.clear();
        }
        (state.process, state.monitor) = (None, None);
        state.disconnect();
    };
    container.change(change)?;
    if died {
        tell(container, "die", &[("exitCode", "137")]);
    }
    Ok(())
}

/// `mydocker kill`.
pub fn kill(args: &Kill, dirs: &Dirs) -> Result<i32> {
    let signal = lifecycle::signal(&args.signal)?;
    let containers = Containers::new(dirs);
    each(&args.containers, |name| {
        let container = containers.find(name)?;
        let state = container.state()?;
        let not = || Error::new(format!("cannot kill container: {name}: container {} is not running", container.id()));
        let process = container.process(&state).filter(|_| state.status.is_up()).ok_or_else(not)?;
        if signal == Signal::KILL || signal == monitor::stop_signal(&container.record()?) {
            container.change(|state| state.stopped_by_user = true)?;
        }
        tell(&container, "kill", &[("signal", &signal.as_raw().to_string())]);
        pidfd_send_signal(&process, signal).map_err(|errno| match errno {
            // It ended between the two.
            rustix::io::Errno::SRCH => not(),
            errno => Error::new(format!("signal container {name}")).errno(errno),
        })?;
        if signal == Signal::KILL {
            if state.status == Status::Paused {
                // A frozen process does not die of SIGKILL on cgroup v1; on v2 it may be gone by now.
                let _ = unpause_one(&container);
            }
            ends(&process, Some(PATIENCE));
            gone(&container, &state)?;
        }
        print(&format!("{name}\n"))
    })
}

/// `mydocker pause`.
pub fn pause(args: &Names, dirs: &Dirs) -> Result<i32> {
    let containers = Containers::new(dirs);
    each(&args.containers, |name| {
        pause_one(&containers.find(name)?)?;
        print(&format!("{name}\n"))
    })
}

/// Writes down the new status, unless the container has ended meanwhile.
fn replace(container: &Container, old: Status, new: Status) -> Result<State> {
    container.change(|state| {
        if state.status == old {
            state.status = new;
        }
    })
}

/// Freezes a running container.
pub fn pause_one(container: &Container) -> Result<()> {
    match container.state()?.status {
        Status::Paused => return Err(Error::new(format!("container {} is already paused", container.id()))),
        Status::Running => {}
        _ => return Err(Error::new(format!("container {} is not running", container.id()))),
    }
    lifecycle::pause(&container.runtime()?, &container.runtime_id()?)?;
    replace(container, Status::Running, Status::Paused)?;
    tell(container, "pause", &[]);
    Ok(())
}

/// Thaws one.
pub fn unpause_one(container: &Container) -> Result<()> {
    lifecycle::resume(&container.runtime()?, &container.runtime_id()?)?;
    replace(container, Status::Paused, Status::Running)?;
    tell(container, "unpause", &[]);
    Ok(())
}

/// `mydocker unpause`.
pub fn unpause(args: &Names, dirs: &Dirs) -> Result<i32> {
    let containers = Containers::new(dirs);
    each(&args.containers, |name| {
        let container = containers.find(name)?;
        if container.state()?.status != Status::Paused {
            return Err(Error::new(format!("container {} is not paused", container.id())));
        }
        unpause_one(&container)?;
        print(&format!("{name}\n"))
    })
}

/// `mydocker wait`: prints the exit code of each.
pub fn wait(args: &Names, dirs: &Dirs) -> Result<i32> {
    let containers = Containers::new(dirs);
    each(&args.containers, |name| print(&format!("{}\n", wait_one(&containers.find(name)?)?)))
}

fn wait_one(container: &Container) -> Result<i32> {
    loop {
        let state = container.state()?;
        if !(state.status.is_up() || state.status == Status::Restarting) {
            return Ok(state.exit_code);
        }
        if let Some(mut wire) = monitor::attach(container, Hello::default())? {
            if let Some(code) = last_word(&mut wire, None) {
                return Ok(code);
            }
        } else if let Some(process) = container.process(&state) {
            ends(&process, None);
        }
    }
}

/// `mydocker rm`.
pub fn rm(args: &Rm, dirs: &Dirs) -> Result<i32> {
    let containers = Containers::new(dirs);
    each(&args.containers, |name| {
        let container = match containers.find(name) {
            // docker's rm -f is content if there is nothing to remove, and says so.
            Err(error) if args.force && error.get_kind() == ErrorKind::NoContainer => {
                eprintln!("Error: {error}");
                return Ok(());
            }
            other => other?,
        };
        remove(&container, args.force, args.volumes)?;
        print(&format!("{name}\n"))
    })
}

/// Removes a container; one that is up only by force.
pub fn remove(container: &Container, force: bool, volumes: bool) -> Result<()> {
    for _ in 0..16 {
        match try_remove(container, force, volumes) {
            // Started after we looked: by force, that one is ended as well.
            Err(error) if force && error.get_kind() == ErrorKind::WrongState => {}
            other => return other,
        }
    }
    try_remove(container, force, volumes)
}

fn try_remove(container: &Container, force: bool, volumes: bool) -> Result<()> {
    let state = container.state()?;
    let record = container.record()?;
    if state.status.is_up() || state.status == Status::Restarting || container.monitored(&state) {
        if !force {
            if !state.status.is_up() && state.status != Status::Restarting {
                return Err(Error::new(format!("cannot remove container \"/{}\": it is being started", record.name)));
            }
            let advice = if state.status == Status::Paused { "unpause and then stop the container" } else { "stop the container" };
            return Err(Error::new(format!("cannot remove container \"/{}\": container is {}", record.name, state.status))
                .hint(format!("{advice} before removing or force remove")));
        }
        let mut state = container.change(|state| state.stopped_by_user = true)?;
        if let Some(monitor) = state.monitor.filter(|_| !state.status.is_up()).and_then(|monitor| monitor.open()) {
            // It is about to start the container, or to do so again: what it has made by now is cleared away below.
            let _ = pidfd_send_signal(&monitor, Signal::KILL);
            ends(&monitor, Some(PATIENCE));
            state = container.state()?;
        }
        if state.status == Status::Paused {
            // A frozen process does not die of SIGKILL on cgroup v1.
            let _ = unpause_one(container);
        }
        if let Some(process) = container.process(&state) {
            let _ = pidfd_send_signal(&process, Signal::KILL);
            ends(&process, Some(PATIENCE));
        }
        match gone(container, &state) {
            Err(error) if error.get_kind() == ErrorKind::NoContainer => return Ok(()),
            other => other?,
        }
    }
    // `--rm` may have been quicker.
    match container.record() {
        Err(error) if error.get_kind() == ErrorKind::NoContainer => return Ok(()),
        other => other.map(drop)?,
    }
    // Volumes stay unless -v says otherwise, also those that nobody named.
    monitor::remove(container, &record, volumes)
}

/// `mydocker rename`.
pub fn rename(args: &Rename, dirs: &Dirs) -> Result<i32> {
    options::name("container", &args.name)?;
    let containers = Containers::new(dirs);
    containers.rename(&containers.find(&args.container)?, &args.name).map(|()| 0)
}
