//! Files that keel writes under a name of the caller's, and that others must find complete: pid
//! files and profiles.

use crate::sys::{Context, Error, Result};
use std::fs::{self, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{FileTypeExt, OpenOptionsExt};
use std::path::Path;

/// Refuses a name that has something else than a regular file, as [`write`] would put a file in its
/// place: a device of the host's, which is then gone for everybody, a FIFO or a socket that
/// somebody listens at, or a link.
pub(super) fn check(what: &str, path: &Path) -> Result<()> {
    let kind = match fs::symlink_metadata(path) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
        found => found.context(|| format!("write {what} {}", path.display()))?.file_type(),
    };
    let kind = match () {
        () if kind.is_file() => return Ok(()),
        () if kind.is_dir() => "a directory",
        () if kind.is_symlink() => "a symbolic link",
        () if kind.is_fifo() => "a FIFO",
        () if kind.is_socket() => "a socket",
        () => "a device",
    };
    Err(Error::new(format!("write {what} {}: it is {kind}, which a file must not replace", path.display())))
}

/// Writes a file that is complete before it has its name.
pub(super) fn write(what: &str, path: &Path, text: &str) -> Result<()> {
    check(what, path)?;
    let sentence = || format!("write {what} {}", path.display());
    let name = path.file_name().ok_or_else(|| Error::new(sentence()))?.to_string_lossy();
    // In a directory where others may write, a name that can be guessed could be theirs already,
    // and a link.
    let temporary = path.with_file_name(format!(".{name}.{:016x}", super::random()?));
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o666).open(&temporary).context(sentence)?;
    let written = file.write_all(text.as_bytes()).and_then(|()| fs::rename(&temporary, path));
    written.context(sentence).inspect_err(|_| drop(fs::remove_file(&temporary)))
}
