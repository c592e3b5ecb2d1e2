//! The one small process that stands by a running container.
