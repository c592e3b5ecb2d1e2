//! The tail of a child: what it does between the moment it gives up its parent's memory and its exec.
//!
//! A child of clone3(2) is a copy of its parent: it has the parent's arguments, environment, heap and
//! stack. Processes of the container that see it through /proc read its command line without any
//! privilege, and with CAP_SYS_PTRACE all of its memory. So before anybody else may see it, a child
//! unmaps everything but the executable's constant parts and one region that was laid out before the
//! clone: the [`Tail`]. That region has a stack, the calls that are left, and the strings that the
//! container's program gets.
//!
//! From then on nothing may use the heap, a writable static, thread-local memory (so no errno of the C
//! library) or the vDSO. That is why this code stands in `sys` and makes its calls by [`raw::syscall`].
//!
//! [`raw::syscall`]: super::raw::syscall

mod calls;
mod memory;
mod program;

use super::process::{Forked, ns};
use super::signals::ignored_signals;
use super::{Context, Result, SchedAttr, SockFilter, Steps};
use memory::Region;
use rustix::fd::{IntoRawFd, OwnedFd, RawFd};
use std::ffi::{CStr, CString, c_char};
use std::ops::Range;

/// Exit code of a child that has reported why it ends, or whose parent is gone.
pub const REPORTED: i32 = 111;

/// What [`Last::CloneAgain`] reports in place of an index; the report's errno is the new process's pid.
pub const CLONED: u32 = u32::MAX;

/// The byte that asks a process that waits for `start` for the descriptors of its namespaces. Every
/// other byte is `start`.
pub const ASK_NAMESPACES: u8 = b'n';

/// How long the command name of a child is its own, from its tail to its exec: at most 15 bytes
/// (PR_SET_NAME of prctl(2)).
pub const NAME: &CStr = c"keel:[init]";

/// One step of a tail. All of them are of the calling process alone.
#[derive(Clone, Copy, Debug)]
pub enum Last<'a> {
    /// clone3(2) as a sibling, into the pid namespace that setns(2) chose for children. The new
    /// process goes on; this one reports its pid and exits.
    CloneAgain,
    /// setsid(2).
    Setsid,
    /// fsopen(2) of a procfs, which the next [`Last::HandOver`] takes.
    OpenProc,
    /// TIOCSCTTY of standard input (ioctl_tty(2)).
    ControllingTerminal,
    /// PR_SET_PDEATHSIG with SIGKILL (prctl(2)).
    DieWithParent,
    /// prlimit(2).
    Rlimit {
        /// `RLIMIT_*`.
        resource: u32,
        /// Soft limit.
        soft: u64,
        /// Hard limit.
        hard: u64,
    },
    /// sched_setattr(2).
    Scheduler(&'a SchedAttr),
    /// ioprio_set(2): class and level.
    IoPriority(u32),
    /// set_mempolicy(2): `MPOL_*` with `MPOL_F_*`, and a bit for each node.
    MemoryPolicy(u32, &'a [u64]),
    /// personality(2).
    Personality(u32),
    /// PR_CAPBSET_DROP for every capability outside of this set.
    BoundingSet(u64),
    /// PR_SET_KEEPCAPS.
    KeepCaps,
    /// setgroups(2).
    Groups(&'a [u32]),
    /// setresgid(2) with one id for all three.
    Gid(u32),
    /// setresuid(2) with one id for all three.
    Uid(u32),
    /// fchown(2) of pipes, and of a terminal that was made for this process, on 0, 1 and 2.
    OwnStdio {
        /// The new owner.
        uid: u32,
        /// Whether there is such a terminal.
        terminal: bool,
    },
    /// /dev/null of this root in place of the host's on 0, 1 and 2.
    OwnNull,
    /// capset(2).
    Capset {
        /// Effective set.
        effective: u64,
        /// Permitted set.
        permitted: u64,
        /// Inheritable set.
        inheritable: u64,
    },
    /// PR_CAP_AMBIENT_RAISE for each capability of the set.
    Ambient(u64),
    /// chdir(2), whose failure is left to [`Last::Cwd`].
    TryChdir(&'a CStr),
    /// chdir(2) unless [`Last::TryChdir`] has succeeded, and a check that the directory is below the root.
    Cwd(&'a CStr),
    /// umask(2).
    Umask(u32),
    /// HOME of this user from /etc/passwd, into the room that [`Program::home`] asked for.
    Home(u32),
    /// Chooses the first candidate that this user may execute.
    FindProgram,
    /// PR_SET_NO_NEW_PRIVS.
    NoNewPrivs,
    /// Reports to the parent and waits for its answer.
    Tell,
    /// The same; then waits on the listening socket for a connection that brings a byte.
    Park,
    /// seccomp(2) with the filter of the tail.
    Seccomp,
    /// Hands the listener of that filter to the parent, or what [`Last::OpenProc`] has opened.
    HandOver(HandOver),
    /// execve(2) of the chosen candidate.
    Exec,
}

/// How the listener of a filter gets to the parent: by a call that the filter lets pass.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HandOver {
    /// By sendmsg(2).
    Message,
    /// By sendmsg(2), and the answer by read(2), with this mark in the sixth argument, which the
    /// calls do not use but a filter can see.
    Marked(u64),
    /// Its number by write(2); the parent copies the descriptor with pidfd_getfd(2).
    Number,
}

/// What is executed.
#[derive(Clone, Copy, Debug)]
pub struct Program<'a> {
    /// argv.
    pub argv: &'a [CString],
    /// The environment.
    pub envp: &'a [CString],
    /// Whether `HOME=` is to be added to the environment, `/` unless [`Last::Home`] finds another.
    pub home: bool,
    /// Paths to try.
    pub candidates: &'a [CString],
    /// The seccomp filter and its `SECCOMP_FILTER_FLAG_*`.
    pub filter: Option<(&'a [SockFilter], u32)>,
}

/// How many namespaces a process has.
const NAMESPACES_MAX: usize = ns::FILES.len();

/// Room for `HOME=` and a directory of the container's passwd, in bytes.
const HOME_MAX: usize = 1024;

/// The stack of the tail, in bytes; what of it is never touched takes no memory.
const STACK: usize = 64 << 10;

/// Where something begins in the region, in bytes.
type Offset = usize;

/// [`Last`] as it lies in the region, where other memory cannot be referred to.
#[derive(Clone, Copy)]
enum Call {
    CloneAgain,
    Setsid,
    OpenProc,
    ControllingTerminal,
    DieWithParent,
    Rlimit(u32, [u64; 2]),
    Scheduler(Offset),
    IoPriority(u32),
    MemoryPolicy(u32, Offset, usize),
    Personality(u32),
    BoundingSet(u64),
    KeepCaps,
    Groups(Offset, usize),
    Gid(u32),
    Uid(u32),
    OwnStdio(u32, bool),
    OwnNull,
    Capset([u64; 3]),
    Ambient(u64),
    TryChdir(Offset),
    Cwd(Offset),
    Umask(u32),
    Home(u32),
    FindProgram,
    NoNewPrivs,
    Tell,
    Park,
    Seccomp,
    HandOver(HandOver),
    Exec,
}

/// What stands at the beginning of the region.
struct Header {
    /// Address of the region's end.
    end: usize,
    /// Index of the first call in the plan.
    first: u32,
    calls: Range<Offset>,
    keep: Range<Offset>,
    wipe: Range<Offset>,
    constant: Range<Offset>,
    argv: Offset,
    envp: Offset,
    candidates: Range<Offset>,
    home: Option<Offset>,
    filter: Option<(Range<Offset>, u32)>,
    rseq: Option<memory::Rseq>,
    /// The signals that the parent ignores.
    ignored: u64,
    steps: Option<Steps>,
    sync: RawFd,
    listener: RawFd,
    /// Those that [`ASK_NAMESPACES`] is answered with, and their number.
    namespaces: ([RawFd; NAMESPACES_MAX], usize),
}

/// A tail that was laid out; it is part of every child that is cloned from now on.
pub struct Tail {
    region: Region,
}

impl Tail {
    /// Lays out `steps`, which the plan counts from `first` on, with the `program` that they execute.
    /// `times` is where the steps note when they began and ended.
    ///
    /// # Errors
    /// There is no memory.
    pub fn new(steps: &[Last<'_>], first: u32, program: &Program<'_>, times: Option<Steps>) -> Result<Self> {
        let mut bytes = Bytes::default();
        // The header is written last, when everything has its place.
        bytes.reserve::<Header>();
        let calls: Vec<Call> = steps.iter().map(|step| bytes.call(step)).collect();
        let calls = bytes.items(&calls);
        let segments = memory::Segments::of_process();
        let mut argv = bytes.strings(program.argv);
        let mut envp = bytes.strings(program.envp);
        let home = program.home.then(|| bytes.home());
        envp.extend(home);
        let candidates = bytes.strings(program.candidates);
        let filter = program.filter.map(|(filter, flags)| (bytes.items(filter), flags));
        let candidates = bytes.items(&candidates);
        let [keep, wipe, constant] = [&segments.keep, &segments.wipe, &segments.constant].map(|ranges| bytes.items(ranges));
        let what = || "map memory for the rest of a child";
        let region = Region::new(bytes.0.len(), (argv.len() + envp.len() + 2) * size_of::<usize>() + STACK).context(what)?;
        let pointers = |offsets: &mut Vec<Offset>| {
            offsets.iter_mut().for_each(|offset| *offset += region.start());
            offsets.push(0);
        };
        pointers(&mut argv);
        pointers(&mut envp);
        let (argv, envp) = (bytes.items(&argv).start, bytes.items(&envp).start);
        let (sync, listener, namespaces) = (-1, -1, ([-1; NAMESPACES_MAX], 0));
        let rseq = memory::rseq();
        let header = Header {
            end: 0,
            first,
            calls,
            keep,
            wipe,
            constant,
            argv,
            envp,
            candidates,
            home,
            filter,
            rseq,
            ignored: ignored_signals(),
            steps: times,
            sync,
            listener,
            namespaces,
        };
        Ok(Self { region: region.filled(&bytes.0, header) })
    }

    /// Gives up all memory but this, and runs the steps. Reports go through `sync`; `listener` is the
    /// socket of [`Last::Park`], which hands out `namespaces`. All stay open until the exec.
    pub fn run(self, _alone: Forked, sync: OwnedFd, listener: Option<OwnedFd>, namespaces: &mut Vec<OwnedFd>) -> ! {
        let (sync, listener) = (sync.into_raw_fd(), listener.map_or(-1, IntoRawFd::into_raw_fd));
        let mut handed = ([-1; NAMESPACES_MAX], 0);
        for (slot, namespace) in handed.0.iter_mut().zip(namespaces.drain(..)) {
            *slot = namespace.into_raw_fd();
            handed.1 += 1;
        }
        self.region.set_descriptors(sync, listener, handed);
        let (start, stack) = (self.region.start(), self.region.end());
        std::mem::forget(self);
        // SAFETY: `Forked` says that this is the only thread of a process that is a copy of another. The
        // region was filled by `new` and ends with `STACK` bytes that are free for a stack.
        unsafe { memory::go_on(start, stack) }
    }
}

/// The region's content while it is put together; every item begins at a multiple of 8.
#[derive(Default)]
struct Bytes(Vec<u8>);

impl Bytes {
    fn reserve<T>(&mut self) -> Offset {
        const { assert!(align_of::<T>() <= 8) };
        let at = self.0.len();
        self.0.resize((at + size_of::<T>()).next_multiple_of(8), 0);
        at
    }

    /// Appends a copy of plain data.
    fn items<T: Copy>(&mut self, items: &[T]) -> Range<Offset> {
        const { assert!(align_of::<T>() <= 8) };
        let start = self.0.len();
        // SAFETY: the bytes of the slice are copied, padding included, and only ever read as `T` again.
        let bytes = unsafe { std::slice::from_raw_parts(items.as_ptr().cast::<std::mem::MaybeUninit<u8>>(), size_of_val(items)) };
        // SAFETY: as above; what padding holds does not matter, and it is this process's own.
        self.0.extend(bytes.iter().map(|byte| unsafe { byte.assume_init_read() }));
        let end = self.0.len();
        self.0.resize(end.next_multiple_of(8), 0);
        start..end
    }

    fn string(&mut self, text: &CStr) -> Offset {
        self.items(text.to_bytes_with_nul()).start
    }

    fn strings(&mut self, list: &[CString]) -> Vec<Offset> {
        list.iter().map(|text| self.string(text)).collect()
    }

    fn home(&mut self) -> Offset {
        let mut room = [0; HOME_MAX];
        room[..6].copy_from_slice(b"HOME=/");
        self.items(&room).start
    }

    fn call(&mut self, step: &Last<'_>) -> Call {
        match *step {
            Last::CloneAgain => Call::CloneAgain,
            Last::Setsid => Call::Setsid,
            Last::OpenProc => Call::OpenProc,
            Last::ControllingTerminal => Call::ControllingTerminal,
            Last::DieWithParent => Call::DieWithParent,
            Last::Rlimit { resource, soft, hard } => Call::Rlimit(resource, [soft, hard]),
            Last::Scheduler(attr) => Call::Scheduler(self.items(std::slice::from_ref(attr)).start),
            Last::IoPriority(priority) => Call::IoPriority(priority),
            Last::MemoryPolicy(mode, nodes) => Call::MemoryPolicy(mode, self.items(nodes).start, nodes.len()),
            Last::Personality(domain) => Call::Personality(domain),
            Last::BoundingSet(set) => Call::BoundingSet(set),
            Last::KeepCaps => Call::KeepCaps,
            Last::Groups(groups) => Call::Groups(self.items(groups).start, groups.len()),
            Last::Gid(gid) => Call::Gid(gid),
            Last::Uid(uid) => Call::Uid(uid),
            Last::OwnStdio { uid, terminal } => Call::OwnStdio(uid, terminal),
            Last::OwnNull => Call::OwnNull,
            Last::Capset { effective, permitted, inheritable } => Call::Capset([effective, permitted, inheritable]),
            Last::Ambient(set) => Call::Ambient(set),
            Last::TryChdir(path) => Call::TryChdir(self.string(path)),
            Last::Cwd(path) => Call::Cwd(self.string(path)),
            Last::Umask(mask) => Call::Umask(mask),
            Last::Home(uid) => Call::Home(uid),
            Last::FindProgram => Call::FindProgram,
            Last::NoNewPrivs => Call::NoNewPrivs,
            Last::Tell => Call::Tell,
            Last::Park => Call::Park,
            Last::Seccomp => Call::Seccomp,
            Last::HandOver(how) => Call::HandOver(how),
            Last::Exec => Call::Exec,
        }
    }
}

/// A C string that lies at an address of the region.
///
/// # Safety
/// `address` is that of a string which [`Bytes::string`] has put there.
unsafe fn string_at<'r>(address: usize) -> &'r CStr {
    // SAFETY: the caller's.
    unsafe { CStr::from_ptr(address as *const c_char) }
}
