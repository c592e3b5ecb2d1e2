//! `--init`: the first process of a container, which starts the program, passes signals on and reaps what is orphaned.

use crate::sys::{Signals, catchable_signals, default_signals, signal_from_raw};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, kill_process, waitid};
use std::ffi::OsString;
use std::os::unix::process::CommandExt;
use std::process::Command;

/// `docker-init -- PROGRAM [ARGUMENT...]`; the program's exit code.
pub fn init(args: &[OsString]) -> i32 {
    let rest = args.get(1..).unwrap_or_default();
    let rest = if rest.first().is_some_and(|word| word == "--") { &rest[1..] } else { rest };
    let Some((program, arguments)) = rest.split_first() else { return 125 };
    // mydocker itself ignores it (sys::entry), which the program would inherit.
    if default_signals(1 << (Signal::XFSZ.as_raw() - 1)).is_err() {
        return 125;
    }
    let mut command = Command::new(program);
    // A group of its own, the terminal's foreground: what is typed reaches the program and not us.
    command.args(arguments).process_group(0);
    let child = match command.spawn() {
        Ok(child) => child.id().cast_signed(),
        Err(error) => {
            eprintln!("docker-init: {}: {error}", program.to_string_lossy());
            return if error.kind() == std::io::ErrorKind::NotFound { 127 } else { 126 };
        }
    };
    let Some(child) = Pid::from_raw(child) else { return 125 };
    // After the program has its own mask. A signal that comes before reaches nobody: pid 1 has no default actions.
    let Ok(signals) = Signals::catch(catchable_signals().chain([Signal::CHILD.as_raw()])) else { return 125 };
    let _ = rustix::termios::tcsetpgrp(rustix::stdio::stdin(), child);
    loop {
        let ended = waitid(WaitId::Pid(child), WaitIdOptions::EXITED | WaitIdOptions::NOHANG);
        if let Ok(Some(status)) = ended {
            return status.exit_status().unwrap_or_else(|| 128 + status.terminating_signal().unwrap_or_default());
        }
        while wait_for_orphans(child) {}
        let _ = poll(&mut [PollFd::new(&signals, PollFlags::IN)], None);
        while let Some(signal) = signals.next().and_then(signal_from_raw) {
            if signal != Signal::CHILD {
                let _ = kill_process(child, signal);
            }
        }
    }
}

/// Reaps one child other than the program; false if there is none.
fn wait_for_orphans(program: Pid) -> bool {
    let children = std::fs::read_to_string("/proc/thread-self/children").unwrap_or_default();
    let orphans = children.split_whitespace().filter_map(|pid| pid.parse().ok()).filter_map(Pid::from_raw).filter(|pid| *pid != program);
    let mut reaped = false;
    for orphan in orphans {
        reaped |= matches!(waitid(WaitId::Pid(orphan), WaitIdOptions::EXITED | WaitIdOptions::NOHANG), Ok(Some(_)));
    }
    reaped
}
