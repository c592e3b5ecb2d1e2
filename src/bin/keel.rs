//! The `keel` binary.

#![no_main]

#[global_allocator]
static ARENA: keel::sys::Arena = keel::sys::Arena;

keel::entry!(keel::cli::run);
