//! Container ids, validated once.

use crate::sys::{Error, Result};
use std::fmt;

/// The longest name of a directory entry (NAME_MAX, limits.h).
const LENGTH_MAX: usize = 255;

/// A container id as runc accepts it: letters, digits, `_`, `+`, `-`, `.`, not `.` or `..`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ContainerId(String);

impl ContainerId {
    /// Validates; from then on the id is safe as a file name.
    pub fn new(text: &str) -> Result<Self> {
        let fits = |c: char| c.is_ascii_alphanumeric() || "_+-.".contains(c);
        if text.is_empty() || text.len() > LENGTH_MAX || text == "." || text == ".." || !text.chars().all(fits) {
            return Err(Error::new(format!("invalid container ID format: {text:?}"))
                .hint(format!("1 to {LENGTH_MAX} of the characters a-z A-Z 0-9 _ + - .")));
        }
        Ok(Self(text.to_owned()))
    }

    /// As given.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for ContainerId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

#[cfg(test)]
mod tests {
    use super::ContainerId;

    #[test]
    fn only_names_that_are_safe_as_file_names_pass() {
        for good in ["a", "A-1_b+c.d", "..a", &"x".repeat(255)] {
            assert!(ContainerId::new(good).is_ok(), "{good}");
        }
        for bad in ["", ".", "..", "a/b", "../x", "a b", "a\n", "ä", &"x".repeat(256)] {
            assert!(ContainerId::new(bad).is_err(), "{bad}");
        }
    }
}
