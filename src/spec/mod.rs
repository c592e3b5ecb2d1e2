//! Room `spec`: `config.json` and process documents, loaded, normalised and validated.

mod features;
mod json;
mod load;
mod model;
pub mod names;
pub mod numbers;
pub mod options;
mod place;
mod sample;
pub mod sysctl;
pub mod user;
mod validate;

pub use features::features;
pub use load::{Loaded, UNKNOWN, load, load_file, load_process, load_resources, parse, parse_process, parse_resources};
pub use model::*;
pub use sample::sample;
pub(crate) use validate::clean;
pub use validate::{VERSIONS, faults, validate, validate_process, validate_resources};
