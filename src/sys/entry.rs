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

/// The arguments as the C library passed them to `main`. Only [`entry!`] calls this.
#[allow(clippy::not_unsafe_ptr_arg_deref)]
pub fn arguments(argc: c_int, argv: *const *const c_char) -> Vec<OsString> {
    (0..usize::try_from(argc).unwrap_or(0))
        // SAFETY: the C library passes `argc` valid strings to main, and `main` is the only caller.
        .map(|i| OsString::from_vec(unsafe { CStr::from_ptr(*argv.add(i)) }.to_bytes().to_vec()))
        .collect()
}
