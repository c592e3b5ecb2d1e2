//! Room `plan`.

pub mod seccomp;
