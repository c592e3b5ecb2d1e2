//! A `main` without the start-up work of Rust's runtime.
//!
//! std's own entry polls the standard descriptors, ignores SIGPIPE (which a container would inherit) and probes the
//! stack page by page: some 40 system calls that every command would pay for (`docs/decisions/0003`).

use super::process::check;
use super::{Context, Result};
use std::ffi::{CStr, OsString, c_char, c_int};
use std::io::Write;
use std::os::unix::ffi::OsStringExt;
use std::path::Path;

/// Defines the C `main` of a binary: `keel::entry!(run)` where `fn run(args: Vec<OsString>) -> i32`.
#[macro_export]
macro_rules! entry {
    ($run:path) => {
        // SAFETY: the one definition of `main` in a `#![no_main]` binary.
        #[unsafe(no_mangle)]
        extern "C" fn main(argc: std::ffi::c_int, argv: *const *const std::ffi::c_char) -> std::ffi::c_int {
            // SAFETY: these are what the C library gives `main`, and nothing has been opened or started yet.
            $run(unsafe { $crate::sys::begin(argc, argv) })
        }
    };
}

/// What the kernel was asked to execute as this process (`AT_EXECFN` of getauxval(3)): `/dev/fd/N` by execveat(2) of a descriptor.
pub fn executed_as() -> &'static CStr {
    // SAFETY: getauxval(3) only reads; the address, if there is one, is of a string that the kernel put above the stack, for good.
    match unsafe { libc::getauxval(libc::AT_EXECFN) } {
        0 => c"",
        // SAFETY: as above.
        address => unsafe { CStr::from_ptr(address as *const c_char) },
    }
}

/// The beginning of a process of ours, from what the C library gives `main`: its arguments.
///
/// - Standard input, output and error that the caller has closed are /dev/null from now on: otherwise files of ours would get
///   these numbers, and be the container's.
/// - SIGCHLD has its default action: a caller's SIG_IGN survives execve(2), and with it the kernel keeps no exit status of a child
///   (wait(2), "Notes").
/// - SIGXFSZ is ignored, so that below a limit of file sizes (RLIMIT_FSIZE) a write fails with a sentence, and what was begun
///   is taken back. Programs of containers have its default action again (`default_signals`).
///
/// Ends the process with a sentence and exit code 1 where that cannot be done.
///
/// # Safety
/// `argc` and `argv` are those of `main`, which calls this first of all.
pub unsafe fn begin(argc: c_int, argv: *const *const c_char) -> Vec<OsString> {
    // SAFETY: the C library passes `argc` valid strings.
    let argument = |i| OsString::from_vec(unsafe { CStr::from_ptr(*argv.add(i)) }.to_bytes().to_vec());
    let arguments: Vec<_> = (0..usize::try_from(argc).unwrap_or(0)).map(argument).collect();
    if let Err(error) = open_standard_descriptors().and_then(|()| set_signals()) {
        let name = arguments.first().and_then(|path| Path::new(path).file_name()).unwrap_or_default();
        let _ = writeln!(std::io::stderr(), "{}: error: {error}", name.display());
        super::exit(1);
    }
    arguments
}

/// The C library of this program: `musl 1.2.5` or `glibc 2.41`. hack/keel-cc decides which one a
/// release is linked against, so that only the binary itself knows.
pub fn c_library() -> String {
    #[cfg(target_env = "gnu")]
    {
        // SAFETY: gnu_get_libc_version(3) gives a string that is never freed; hack/musl-shim.c has the function for musl.
        let version = unsafe { CStr::from_ptr(libc::gnu_get_libc_version()) }.to_string_lossy();
        if version.starts_with("musl") { version.into_owned() } else { format!("glibc {version}") }
    }
    #[cfg(not(target_env = "gnu"))]
    "musl".to_owned()
}

fn open_standard_descriptors() -> Result<()> {
    let what = || "open stdin, stdout and stderr, which the caller has closed";
    let mut three = [0, 1, 2].map(|fd| libc::pollfd { fd, events: 0, revents: 0 });
    // SAFETY: poll(2) writes the answers of three descriptors.
    check(i64::from(unsafe { libc::poll(three.as_mut_ptr(), 3, 0) })).context(what)?;
    for _ in three.iter().filter(|one| one.revents & libc::POLLNVAL != 0) {
        // The lowest number that is free is one that was found closed.
        // SAFETY: opens a descriptor, which belongs to nobody as the standard ones do.
        check(i64::from(unsafe { libc::open(c"/dev/null".as_ptr(), libc::O_RDWR) })).context(what)?;
    }
    Ok(())
}

fn set_signals() -> Result<()> {
    for (signal, action) in [(libc::SIGCHLD, libc::SIG_DFL), (libc::SIGXFSZ, libc::SIG_IGN)] {
        // SAFETY: installs no handler; no other thread runs yet.
        if unsafe { libc::signal(signal, action) } == libc::SIG_ERR {
            let error = std::io::Error::last_os_error();
            return Err(error).context(|| format!("set the action of signal {signal}"));
        }
    }
    Ok(())
}
