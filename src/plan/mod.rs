//! Room `plan`.

pub mod limits;
