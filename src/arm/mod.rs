//! Room `arm`.
