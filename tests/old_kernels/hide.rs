//! An older kernel: a seccomp filter that refuses what it does not have. Every process that is started under it inherits it.
//!
//! What a filter cannot see, because it is behind a pointer, is decided by a supervisor (seccomp_unotify(2)): the calls in
//! question wait for it. Nobody attacks it, so that it may look at memory that could change.

use keel::plan::seccomp::compile;
use keel::spec::Seccomp;
use keel::sys::{seccomp, seccomp_listener};
use libseccomp::{ScmpNotifReq, ScmpNotifResp, ScmpNotifRespFlags};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::io::Errno;
use serde_json::{Value, json};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::PathBuf;
use std::sync::mpsc;
use std::thread::JoinHandle;

/// What the kernel does not have, and what it says instead.
#[derive(Clone, Copy)]
pub enum Hide {
    /// This system call.
    Call(&'static str, Errno),
    /// This system call, with such arguments.
    When(&'static str, Errno, fn(&Call) -> bool),
    /// Files of this name.
    File(&'static str),
}

/// The calls by which programs open files.
const OPENS: [&str; 3] = ["open", "openat", "openat2"];

impl Hide {
    /// As a seccomp profile has it.
    fn rule(&self) -> Value {
        match self {
            Hide::Call(name, errno) => json!({"names": [name], "action": "SCMP_ACT_ERRNO", "errnoRet": errno.raw_os_error()}),
            Hide::When(name, ..) => json!({"names": [name], "action": "SCMP_ACT_NOTIFY"}),
            Hide::File(_) => json!({"names": OPENS, "action": "SCMP_ACT_NOTIFY"}),
        }
    }
}

/// A call that waits for its answer.
pub struct Call {
    pid: u32,
    name: String,
    pub args: [u64; 6],
    memory: File,
}

impl Call {
    fn of(request: &ScmpNotifReq) -> Option<Self> {
        let memory = File::open(format!("/proc/{}/mem", request.pid)).ok()?;
        Some(Self { pid: request.pid, name: request.data.syscall.get_name().ok()?, args: request.data.args, memory })
    }

    /// The number of 64 bits at this index of what an argument points to.
    pub fn word(&self, arg: usize, index: u64) -> u64 {
        let mut word = [0; 8];
        self.memory.read_exact_at(&mut word, self.args[arg] + 8 * index).map_or(0, |()| u64::from_ne_bytes(word))
    }

    /// The string that an argument points to.
    pub fn text(&self, arg: usize) -> String {
        let mut bytes = [0; 256];
        let count = self.memory.read_at(&mut bytes, self.args[arg]).unwrap_or(0);
        String::from_utf8_lossy(bytes[..count].split(|byte| *byte == 0).next().unwrap_or_default()).into_owned()
    }

    /// What a descriptor of the caller's is.
    pub fn opened(&self, fd: u64) -> PathBuf {
        std::fs::read_link(format!("/proc/{}/fd/{fd}", self.pid)).unwrap_or_default()
    }

    /// What this kernel says to the call, if it does not have it.
    fn refusal(&self, hides: &[Hide]) -> Option<Errno> {
        hides.iter().find_map(|hide| match *hide {
            Hide::When(name, errno, applies) => (name == self.name && applies(self)).then_some(errno),
            Hide::File(file) => {
                let opens = OPENS.contains(&self.name.as_str());
                (opens && self.text(usize::from(self.name != "open")).rsplit('/').next() == Some(file)).then_some(Errno::NOENT)
            }
            Hide::Call(..) => None,
        })
    }
}

/// Runs a closure, and whatever it starts, on such a kernel. The supervisor ends with the last process under the filter, and
/// says how many calls it refused; none if the filter did that alone.
pub fn under<T: Send + 'static>(hides: &'static [Hide], run: impl FnOnce() -> T + Send + 'static) -> (T, JoinHandle<Option<usize>>) {
    let (send, receive) = mpsc::channel::<OwnedFd>();
    let supervisor = std::thread::spawn(move || {
        let listener = receive.recv().ok()?;
        let mut refused = 0;
        while let Ok(request) = ScmpNotifReq::receive(listener.as_raw_fd()) {
            let empty = ScmpNotifRespFlags::empty();
            let response = match Call::of(&request).and_then(|call| call.refusal(hides)) {
                Some(errno) => {
                    refused += 1;
                    ScmpNotifResp::new_error(request.id, -errno.raw_os_error(), empty)
                }
                None => ScmpNotifResp::new_continue(request.id, empty),
            };
            // Who was killed meanwhile needs no answer.
            let _ = response.respond(listener.as_raw_fd());
        }
        Some(refused)
    });
    let thread = std::thread::spawn(move || {
        let rules: Vec<_> = hides.iter().map(Hide::rule).collect();
        let profile: Seccomp = serde_json::from_value(json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": rules})).unwrap();
        let filter = compile(&profile).unwrap();
        match hides.iter().all(|hide| matches!(hide, Hide::Call(..))) {
            true => assert_eq!(seccomp(filter.flags, &filter.program), Ok(0)),
            false => send.send(seccomp_listener(filter.flags, &filter.program).unwrap()).unwrap(),
        }
        run()
    });
    (thread.join().unwrap(), supervisor)
}
