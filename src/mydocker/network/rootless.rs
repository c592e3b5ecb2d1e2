//! Rootless
