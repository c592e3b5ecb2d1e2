//! One error type: what was done, to what, where in `config.json`, the errno, and a hint where errno misleads.

use rustix::io::Errno;
use std::fmt;

/// What callers act upon; everything else about an error is words.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Something failed; exit code 1.
    Failed,
    /// No container of that name ("does not exist").
    NoContainer,
    /// The container's state does not allow the command ("container not running").
    WrongState,
    /// The program to execute could not be found or executed inside the container.
    Exec,
}

/// A failure: `attach /srv/data at /data (config.json: mounts[3]): No such file or directory (hint)`.
#[derive(Clone, Debug)]
pub struct Error {
    what: String,
    at: Option<String>,
    errno: Option<Errno>,
    hint: Option<String>,
    kind: Kind,
}

/// The result of everything that can fail in this library.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// A failure described by a sentence in the infinitive or a statement: `open /dev/null`, `container x does not exist`.
    pub fn new(what: impl Into<String>) -> Self {
        Self { what: what.into(), at: None, errno: None, hint: None, kind: Kind::Failed }
    }

    /// Where in `config.json` the value stands: `mounts[3]`, `process.cwd`.
    #[must_use]
    pub fn at(mut self, path: impl Into<String>) -> Self {
        self.at.get_or_insert_with(|| path.into());
        self
    }

    /// Takes the place away, where the failure came from something else than the container's own `process`.
    #[must_use]
    pub fn nowhere(mut self) -> Self {
        self.at = None;
        self
    }

    /// The errno the kernel gave.
    #[must_use]
    pub fn errno(mut self, errno: Errno) -> Self {
        self.errno = Some(errno);
        self
    }

    /// What the user can do, or what the errno really means here.
    #[must_use]
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Sets what callers act upon.
    #[must_use]
    pub fn kind(mut self, kind: Kind) -> Self {
        self.kind = kind;
        self
    }

    /// What callers act upon.
    pub fn get_kind(&self) -> Kind {
        self.kind
    }

    /// The errno the kernel gave, if the failure came from a system call.
    pub fn get_errno(&self) -> Option<Errno> {
        self.errno
    }

    /// Puts the larger operation in front: `create the cgroup: mkdir /sys/fs/cgroup/x: Permission denied`.
    #[must_use]
    pub fn within(mut self, doing: impl fmt::Display) -> Self {
        self.what = format!("{doing}: {}", self.what);
        self
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", plain(&self.what))?;
        if let Some(at) = &self.at {
            write!(f, " (config.json: {})", plain(at))?;
        }
        if let Some(errno) = self.errno {
            write!(f, ": {}", strerror(errno))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, " ({})", plain(hint))?;
        }
        Ok(())
    }
}

/// The text with control characters as Rust writes them (`\n`, `\u{1b}`): what an image or a document says may be part of a
/// message, which stays one line and gives the terminal no orders.
pub fn plain(text: &str) -> impl fmt::Display {
    struct Plain<'a>(&'a str);
    impl fmt::Display for Plain<'_> {
        fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            self.0.split_inclusive(char::is_control).try_for_each(|part| match part.char_indices().next_back() {
                Some((end, last)) if last.is_control() => write!(f, "{}{}", &part[..end], last.escape_default()),
                _ => f.write_str(part),
            })
        }
    }
    Plain(text)
}

impl std::error::Error for Error {}

/// What musl, which a release is linked with, says otherwise than Go and glibc: a message must not depend on the linker.
const WORDS: &[(Errno, &str)] = &[
    (Errno::BUSY, "device or resource busy"),
    (Errno::IO, "input/output error"),
    (Errno::LOOP, "too many levels of symbolic links"),
    (Errno::MFILE, "too many open files"),
    (Errno::NAMETOOLONG, "file name too long"),
    (Errno::NFILE, "too many open files in system"),
    (Errno::NODATA, "no data available"),
    (Errno::NOMEM, "cannot allocate memory"),
    (Errno::NOTTY, "inappropriate ioctl for device"),
    (Errno::OPNOTSUPP, "operation not supported"),
    (Errno::OVERFLOW, "value too large for defined data type"),
    (Errno::XDEV, "invalid cross-device link"),
];

/// The words for an errno, without Rust's `(os error N)` tail, in lower case as Go's and so runc's callers expect them
/// ("no such file or directory" is searched for by podman and docker).
fn strerror(errno: Errno) -> String {
    if let Some((_, words)) = WORDS.iter().find(|(known, _)| *known == errno) {
        return (*words).to_owned();
    }
    let text = std::io::Error::from(errno).to_string();
    let text = text.split(" (os error").next().unwrap_or(&text);
    // musl has no words for the rare ones.
    if text == "No error information" {
        return format!("errno {}", errno.raw_os_error());
    }
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_lowercase().collect::<String>() + chars.as_str())
}

/// Turns the errno of a system call or an I/O error into an [`Error`] that says what was being done.
pub trait Context<T> {
    /// `rustix::fs::open(p, ..).context(|| format!("open {p}"))?`
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T>;
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| Error::new(what()).errno(e))
    }
}

impl<T> Context<T> for std::io::Result<T> {
    fn context<S: Into<String>>(self, what: impl FnOnce() -> S) -> Result<T> {
        self.map_err(|e| match Errno::from_io_error(&e) {
            Some(errno) => Error::new(what()).errno(errno),
            None => Error::new(format!("{}: {e}", what().into())),
        })
    }
}
