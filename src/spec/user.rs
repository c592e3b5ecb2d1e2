//! `exec --user UID[:GID]`: numbers only, read strictly.
//!
//! Lenient parsers of this string became root where a user was meant (CVE-2024-40635: an overflow; CVE-2026-30892: a
//! lone uid read as 0), so nothing is guessed: digits, no sign, no leading zero, in range.

use crate::sys::{Error, Result};

/// Parses `UID` or `UID:GID`; without a group the caller keeps the one it has, as runc does.
pub fn parse(text: &str) -> Result<(u32, Option<u32>)> {
    let refuse = |why: String| Error::new(format!("--user {text:?}: {why}")).hint("give numbers: UID or UID:GID");
    let (uid, gid) = match text.split_once(':') {
        Some((uid, gid)) => (uid, Some(gid)),
        None => (text, None),
    };
    let uid = id(uid).map_err(|why| refuse(format!("the user id {why}")))?;
    let gid = gid.map(id).transpose().map_err(|why| refuse(format!("the group id {why}")))?;
    Ok((uid, gid))
}

/// One id of an account; the error ends a sentence that begins with whose id it is.
fn id(text: &str) -> std::result::Result<u32, &'static str> {
    match text.as_bytes() {
        [] => Err("is missing"),
        [b'0', _, ..] => Err("has a leading zero"),
        digits if !digits.iter().all(u8::is_ascii_digit) => Err("is not a number; names are not looked up"),
        _ => match text.parse::<u32>() {
            Ok(UNCHANGED) => Err("is 4294967295, which means \"unchanged\" to setresuid(2)"),
            Ok(id) => Ok(id),
            Err(_) => Err("is larger than 4294967294"),
        },
    }
}

/// `(uid_t)-1`: no account has it, the kernel's calls take it as "leave as it is" (setresuid(2), chown(2)).
pub const UNCHANGED: u32 = u32::MAX;

pub use crate::sys::home;
