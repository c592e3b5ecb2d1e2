//! The record of a container, and the bundle made from it.
