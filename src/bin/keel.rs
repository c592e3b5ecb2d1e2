//! The `keel` binary.

#![no_main]

keel::entry!(keel::cli::run);
