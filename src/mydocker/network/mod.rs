//! Networks of containers.
