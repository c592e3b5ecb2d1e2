//! regcomp(3) and regexec(3) of the C library: POSIX extended regular expressions.

use super::{Error, Result};
use std::ffi::CString;
use std::mem::MaybeUninit;

/// A compiled expression.
pub struct Regex(libc::regex_t);

impl Regex {
    /// Compiles it.
    pub fn new(text: &str) -> Result<Self> {
        let invalid = || Error::new(format!("{text:?} is no POSIX extended regular expression"));
        let pattern = CString::new(text).map_err(|_| invalid())?;
        let mut compiled = MaybeUninit::uninit();
        // SAFETY: the pattern is NUL-terminated; what is written to is a regex_t.
        match unsafe { libc::regcomp(compiled.as_mut_ptr(), pattern.as_ptr(), libc::REG_EXTENDED | libc::REG_NOSUB) } {
            // SAFETY: with 0 the expression is complete.
            0 => Ok(Self(unsafe { compiled.assume_init() })),
            _ => Err(invalid()),
        }
    }

    /// Whether it matches somewhere in `text`.
    pub fn matches(&self, text: &str) -> bool {
        let Ok(text) = CString::new(text) else { return false };
        // SAFETY: a compiled expression and a NUL-terminated text; no places of matches are asked for.
        unsafe { libc::regexec(&raw const self.0, text.as_ptr(), 0, std::ptr::null_mut(), 0) == 0 }
    }
}

impl Drop for Regex {
    fn drop(&mut self) {
        // SAFETY: compiled once, freed once.
        unsafe { libc::regfree(&raw mut self.0) }
    }
}
