//! bpf(2), as far as device rules on cgroup v2 need it: load, attach, find and detach programs of
//! type `BPF_PROG_TYPE_CGROUP_DEVICE`.

use rustix::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use rustix::io::{Errno, Result};

const PROG_LOAD: libc::c_long = 5;
const PROG_ATTACH: libc::c_long = 8;
const PROG_DETACH: libc::c_long = 9;
const PROG_GET_FD_BY_ID: libc::c_long = 13;
const PROG_QUERY: libc::c_long = 16;

const PROG_TYPE_CGROUP_DEVICE: u32 = 15;
const ATTACH_CGROUP_DEVICE: u32 = 6;

const F_ALLOW_MULTI: u32 = 1 << 1;
const F_REPLACE: u32 = 1 << 2;

/// One instruction of an eBPF program, `struct bpf_insn` of linux/bpf.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BpfInsn {
    /// Operation.
    pub code: u8,
    /// Destination register in the lower half, source register in the upper.
    pub regs: u8,
    /// Jump distance or memory offset.
    pub off: i16,
    /// The operand.
    pub imm: i32,
}

/// The leading members of `union bpf_attr` for `BPF_PROG_LOAD`; the kernel reads what lies behind as zero.
#[repr(C)]
struct Load {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; 16],
}

#[repr(C)]
struct Attach {
    target_fd: u32,
    prog_fd: u32,
    attach_type: u32,
    attach_flags: u32,
    replace_fd: u32,
    pad: u32,
}

#[repr(C)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    query_flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    pad: u32,
    prog_attach_flags: u64,
    link_ids: u64,
    link_attach_flags: u64,
    /// Linux 6.17 to 7.1 write it whatever the size they are told.
    revision: u64,
}

const _: () = assert!(size_of::<Query>() == 64);

#[repr(C)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// # Safety
/// `T` must be laid out as the members of `union bpf_attr` that `command` uses, without uninitialised padding, and
/// every address in it must be valid for what the command does with it until the call returns.
unsafe fn bpf<T>(command: libc::c_long, attr: &mut T) -> Result<libc::c_long> {
    // SAFETY: `attr` is exclusively borrowed and its size is given; the rest is the caller's promise.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attr), size_of::<T>()) };
    if result < 0 { Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)) } else { Ok(result) }
}

/// Takes the descriptor that a bpf command returned.
fn owned(fd: libc::c_long) -> Result<OwnedFd> {
    let fd = i32::try_from(fd).map_err(|_| Errno::BADF)?;
    // SAFETY: the kernel has just made this descriptor for us (close-on-exec), nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn raw(fd: &impl AsFd) -> u32 {
    fd.as_fd().as_raw_fd() as u32
}

/// Has the verifier check a program that decides about device access, and gives a descriptor of it.
pub fn bpf_load_cgroup_device(program: &[BpfInsn]) -> Result<OwnedFd> {
    let mut attr = Load {
        prog_type: PROG_TYPE_CGROUP_DEVICE,
        insn_cnt: u32::try_from(program.len()).map_err(|_| Errno::TOOBIG)?,
        insns: program.as_ptr() as u64,
        license: c"Apache-2.0".as_ptr() as u64,
        log_level: 0,
        log_size: 0,
        log_buf: 0,
        kern_version: 0,
        prog_flags: 0,
        prog_name: *b"keel_devices\0\0\0\0",
    };
    // The verifier gives way to a signal, which may well be one that nobody waits for (EAGAIN; libbpf tries five times, too).
    let mut tries = 0..5;
    loop {
        tries.next();
        // SAFETY: the layout is that of linux/bpf.h; `insns` and `license` point to live, immutable memory.
        match unsafe { bpf(PROG_LOAD, &mut attr) } {
            Err(Errno::AGAIN) if !tries.is_empty() => {}
            loaded => return owned(loaded?),
        }
    }
}

/// Attaches a device program to the cgroup of a directory descriptor, beside those already there or, with `replace`,
/// in the place of that one (atomically; Linux 5.6).
pub fn bpf_attach_cgroup_device(cgroup: impl AsFd, program: impl AsFd, replace: Option<&OwnedFd>) -> Result<()> {
    let mut attr = Attach {
        target_fd: raw(&cgroup),
        prog_fd: raw(&program),
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: F_ALLOW_MULTI | if replace.is_some() { F_REPLACE } else { 0 },
        replace_fd: replace.map_or(0, raw),
        pad: 0,
    };
    // SAFETY: the layout is that of linux/bpf.h; it holds no address.
    unsafe { bpf(PROG_ATTACH, &mut attr) }.map(drop)
}

/// Takes a device program off the cgroup.
pub fn bpf_detach_cgroup_device(cgroup: impl AsFd, program: impl AsFd) -> Result<()> {
    let mut attr = Attach {
        target_fd: raw(&cgroup),
        prog_fd: raw(&program),
        attach_type: ATTACH_CGROUP_DEVICE,
        attach_flags: 0,
        replace_fd: 0,
        pad: 0,
    };
    // SAFETY: the layout is that of linux/bpf.h; it holds no address.
    unsafe { bpf(PROG_DETACH, &mut attr) }.map(drop)
}

/// Descriptors of the device programs that are attached to this cgroup itself (at most 64).
pub fn bpf_query_cgroup_device(cgroup: impl AsFd) -> Result<Vec<OwnedFd>> {
    let mut ids = [0u32; 64];
    let mut attr = Query {
        target_fd: raw(&cgroup),
        attach_type: ATTACH_CGROUP_DEVICE,
        query_flags: 0,
        attach_flags: 0,
        prog_ids: ids.as_mut_ptr() as u64,
        prog_cnt: ids.len() as u32,
        pad: 0,
        prog_attach_flags: 0,
        link_ids: 0,
        link_attach_flags: 0,
        revision: 0,
    };
    // SAFETY: the layout is that of linux/bpf.h; `prog_ids` has room for `prog_cnt` numbers.
    unsafe { bpf(PROG_QUERY, &mut attr) }?;
    let count = (attr.prog_cnt as usize).min(ids.len());
    ids[..count]
        .iter()
        .map(|&id| {
            let mut attr = ById { id, next_id: 0, open_flags: 0 };
            // SAFETY: the layout is that of linux/bpf.h; it holds no address.
            owned(unsafe { bpf(PROG_GET_FD_BY_ID, &mut attr) }?)
        })
        .collect()
}
