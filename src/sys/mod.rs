//! System calls that no safe crate wraps, named as in their man pages, and the error type everything returns.
//!
//! The only room with `unsafe`; every block states the invariant it relies on.

#![allow(unsafe_code)]

mod alloc;
mod bpf;
mod entry;
mod error;
mod log;
mod mount;
mod netlink;
mod process;
mod regex;
mod scheduling;
mod seccomp;
mod seccomp_notify;
mod socket;
mod steps;
mod time;

pub use alloc::{Arena, keep, only_kept, retire_arena};
pub use bpf::*;
pub use entry::{arguments, executed_as};
pub use error::{Context, Error, Kind, Result, plain};
pub use log::Log;
pub use mount::{MountAttr, mount_id, mount_setattr, mountinfo_id};
pub use netlink::{NetAddress, Netlink};
pub use process::*;
pub use regex::Regex;
pub use scheduling::*;
pub use seccomp::{pidfd_getfd, seccomp, seccomp_listener};
pub use seccomp_notify::{Notification, SeccompData, answer, notification, read_marked, send_marked, still_waits};
pub use socket::bind_private;
pub use steps::{Step, Steps, now};
pub use time::{local_offset, rfc3339, rfc3339_now};

/// One instruction of a classic BPF program, `struct sock_filter` of linux/filter.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SockFilter {
    /// Operation, from linux/bpf_common.h.
    pub code: u16,
    /// Instructions to skip if the comparison holds.
    pub jt: u8,
    /// Instructions to skip if it does not.
    pub jf: u8,
    /// The operand.
    pub k: u32,
}

/// Whether this process is in a user namespace other than the first one, user_namespaces(7): only that one maps every id to
/// itself.
pub fn in_user_namespace() -> bool {
    use rustix::fs::{Mode, OFlags};
    let mut text = [0; 64];
    let file = rustix::fs::open(c"/proc/self/uid_map", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty());
    // One line of the first namespace fits; of more than one it does not matter what the others say.
    let length = file.and_then(|file| rustix::io::read(file, &mut text));
    length.is_ok_and(|length| {
        !text[..length].split(u8::is_ascii_whitespace).filter(|word| !word.is_empty()).eq([&b"0"[..], b"0", b"4294967295"])
    })
}
