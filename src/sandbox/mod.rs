//! Room `sandbox`: the one clone, the child's loop, and the report that comes back.

mod child;
mod console;
mod copy_up;
mod ground;
mod ids;
pub(crate) mod mount;
mod net_devices;
pub(crate) mod path;
mod report;
mod spawn;

pub use report::failure;
pub use spawn::{Process, spawn};
