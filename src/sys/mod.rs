//! System calls that no safe crate wraps, named as in their man pages, and the error type everything returns.
//!
//! The only room with `unsafe`; every block states the invariant it relies on.

#![allow(unsafe_code)]

mod error;

pub use error::{Context, Error, Kind, Result};
