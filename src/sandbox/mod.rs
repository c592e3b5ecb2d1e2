//! Room `sandbox`: the one clone, the child's loop, and the report that comes back.

mod child;
mod console;
mod copy_up;
mod ground;
mod ids;
pub mod joined_proc;
mod listener;
pub(crate) mod mount;
mod move_root;
mod net_devices;
pub(crate) mod path;
mod report;
mod spawn;

pub use ids::map;
pub use path::in_root;
pub use report::failure;
pub use spawn::{End, Namespaces, Process, ask_namespaces, released, spawn};
