//! The command line of `mydocker`.

pub mod filter;
pub mod names;
pub mod options;
pub mod pages;
pub mod progress;
pub mod table;
pub mod template;
pub mod time;
pub mod units;
pub mod words;

use std::ffi::OsString;

/// Runs one command; the exit code.
pub fn run(_args: Vec<OsString>) -> i32 {
    125
}
