//! The `mydocker` binary.

#![no_main]

keel::entry!(keel::mydocker::cli::run);
