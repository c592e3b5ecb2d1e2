//! Room `store`: one directory and one record per container, below `--root`.
//!
//! A record is a line that one write(2) adds to a file, of which the last whole one counts (docs/decisions/0021); whoever changes
//! it holds the directory's lock (flock(2) on the directory itself). A pid counts only together with the start time of its process.

mod container;
mod id;
mod process;
mod root;

pub use container::{Container, Part, Record, RootMount};
pub use id::ContainerId;
pub use process::{ProcessId, Stat};
pub use root::Root;
