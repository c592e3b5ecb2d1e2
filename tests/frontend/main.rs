//! mydocker as its users have it: the binary on the real kernel, every test with a root directory of its own.

#![cfg(feature = "mydocker")]

#[path = "../common/mod.rs"]
mod common;
mod host;
mod hostile;

mod archives;
mod born_blind;
mod changes;
mod clearing;
mod copies;
mod cve_2022_36109_groups;
mod deep;
mod device_targets;
mod events;
mod exec_descriptors;
mod faults;
mod flags;
mod floor;
mod forged_rows;
mod lists;
mod logs;
mod memory;
mod policies;
mod registry;
mod rootless;
mod streams;
mod terminal;
mod usage;
mod userns;
mod volumes_networks;
