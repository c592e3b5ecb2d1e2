//! Room `sandbox`: the one clone, the child's loop, and the report that comes back.

mod child;
mod console;
mod ground;
mod ids;
mod mount;
mod path;
mod report;
mod spawn;

pub use report::failure;
pub use spawn::{Process, spawn};
