//! Room `spec`: `config.json` and process documents, loaded, normalised and validated.

mod model;
mod null;

pub use model::*;
