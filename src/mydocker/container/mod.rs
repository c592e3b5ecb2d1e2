//! The record of a container, and the bundle made from it.

mod bundle;
mod files;
pub mod journal;
mod leftovers;
mod profile;
mod record;
mod security;
mod settings;
mod state;
mod store;
mod tree;
mod users;

pub use bundle::{Prepared, bundle, environment, limits, process_user};
pub use files::Layers;
pub use record::Record;
pub use security::{Security, capabilities, settle_security};
pub use settings::{Device, Health, LogLimits, Resources, Restart, Settings, Ulimit};
pub use state::{HealthState, Probe, State, Status};
pub use store::{Container, Containers};
pub use users::{User, resolve};
