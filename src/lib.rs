//! keel: an OCI container runtime, and the library that mydocker shares with it.
//!
//! *Spec says, Plan lists, Host arms, Child runs, Store remembers.* The modules are rooms; each uses only rooms
//! to its left (checked by `tests/rooms.rs`):
//!
//! ```text
//! sys → spec → plan → {arm, cgroup, store} → sandbox → lifecycle → {cli, mydocker}
//! ```
//!
//! - [`sys`]: system calls that no safe crate has, errors; the only room with `unsafe`.
//! - [`spec`]: `config.json` and process documents, loaded, normalised and validated.
//! - [`plan`]: the pure function from a spec and facts about the host to a list of operations.
//! - [`arm`]: what the host opens and prepares before the clone.
//! - [`cgroup`]: cgroup v1, hybrid and v2 by files.
//! - [`store`]: one record per container.
//! - [`sandbox`]: the one clone, the child's loop, and the report that comes back.
//! - [`lifecycle`]: create, start, run, exec, kill, delete and their relatives.
//! - [`cli`]: the command line of `keel`.
//! - `mydocker`: the docker-like front-end (feature `mydocker`).

pub mod arm;
pub mod cgroup;
pub mod cli;
pub mod lifecycle;
#[cfg(feature = "mydocker")]
pub mod mydocker;
pub mod plan;
pub mod sandbox;
pub mod spec;
pub mod store;
pub mod sys;
