//! System calls that no safe crate wraps, named as in their man pages, and the error type everything returns.
//!
//! The only room with `unsafe`; every block states the invariant it relies on. What a caller could break memory or somebody else's
//! descriptors with is not public: a process that is a copy of ours, or numbers of descriptors that others own.
//!
//! ```compile_fail
//! let _ = keel::sys::clone3(0, None);
//! ```
//! ```compile_fail
//! let _ = keel::sys::close_range(0, 2, false);
//! ```
//! ```compile_fail
//! let _ = keel::sys::dup_to(std::io::stdin(), 1);
//! ```
//! ```compile_fail
//! let _ = keel::sys::inherited(3);
//! ```
//! ```compile_fail
//! let _ = keel::sys::begin(3, std::ptr::null());
//! ```

#![allow(unsafe_code)]

mod alloc;
mod bpf;
mod entry;
mod errno_words;
mod error;
mod log;
mod mount;
mod netlink;
mod passwd;
mod process;
mod raw;
mod regex;
mod scheduling;
mod seccomp;
mod seccomp_notify;
mod signals;
mod socket;
mod steps;
mod tail;
mod time;

pub use alloc::{Arena, retire_arena};
pub use bpf::*;
pub use entry::{begin, c_library, executed_as};
pub use error::{Context, Error, Kind, Result, plain, shorten};
pub use log::Log;
pub use mount::{MountAttr, mount_id, mount_setattr, mountinfo_id, unescape_mount_path};
pub use netlink::{NetAddress, Netlink};
pub use passwd::home;
pub use process::*;
pub(crate) use process::{clone_sibling, clone3, close_range, dup_to, inherited};
pub use regex::Regex;
pub use scheduling::*;
pub use seccomp::{pidfd_getfd, seccomp, seccomp_listener};
pub use seccomp_notify::{Notification, SeccompData, answer, notification, still_waits};
pub use signals::{Signals, catchable_signals, default_signals, ignored_signals};
pub use socket::bind_private;
pub use steps::{Step, Steps, now};
pub use tail::{ASK_NAMESPACES, CLONED, HandOver, Last, NAME, Program, REPORTED, Tail};
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
