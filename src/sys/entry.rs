//! A `main` without the start-up work of Rust's runtime.
//!
//! std's own entry polls the standard descriptors, ignores SIGPIPE (which a container would inherit) and probes the
//! stack page by page: some 40 system calls that every command would pay for (`docs/decisions/0003`).

use std::ffi::{CStr, OsString, c_char, c_int};
use std::os::unix::ffi::OsStringExt;

/// Defines the C `main` of a binary: `keel::entry!(run)` where `fn run(args: Vec<OsString>) -> i32`.
#[macro_export]
macro_rules! entry {
    ($run:path) => {
        // SAFETY: the one definition of `main` in a `#![no_main]` binary.
        #[unsafe(no_mangle)]
        extern "C" fn main(argc: std::ffi::c_int, argv: *const *const std::ffi::c_char) -> std::ffi::c_int {
            $run($crate::sys::arguments(argc, argv))
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

/// The arguments as the C library passed them to `main`. Only [`entry!`] calls this.
#[allow(clippy::not_unsafe_ptr_arg_deref)]
pub fn arguments(argc: c_int, argv: *const *const c_char) -> Vec<OsString> {
    (0..usize::try_from(argc).unwrap_or(0))
        // SAFETY: the C library passes `argc` valid strings to main, and `main` is the only caller.
        .map(|i| OsString::from_vec(unsafe { CStr::from_ptr(*argv.add(i)) }.to_bytes().to_vec()))
        .collect()
}
