//! The `mydocker` binary.

#![no_main]

#[global_allocator]
static ARENA: keel::sys::Arena = keel::sys::Arena;

keel::entry!(keel::mydocker::cli::run);
