//! mydocker as its users have it: the binary on the real kernel, every test with a root directory of its own.

#![cfg(feature = "mydocker")]

#[path = "../common/mod.rs"]
mod common;
mod host;

mod faults;
mod flags;
mod floor;
mod logs;
mod policies;
mod rootless;
mod streams;
mod terminal;
mod userns;
