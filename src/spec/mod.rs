//! Room `spec`.
