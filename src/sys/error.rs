//! One error type: what was done, to what, where in `config.json`, the errno, and a hint where errno misleads.

use super::errno_words::WORDS;
use rustix::io::Errno;
use std::borrow::Cow;
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

/// The most bytes that a message has of what failed, of its place, and of its hint: less than 4 KiB together, as conmon reads
/// 8,191 bytes and shows its user the beginning.
const PARTS: [usize; 3] = [2000, 500, 1000];

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let part = |text: &str, number: usize| shorten(&plain(text).to_string(), PARTS[number]).into_owned();
        write!(f, "{}", part(&self.what, 0))?;
        if let Some(at) = &self.at {
            write!(f, " (config.json: {})", part(at, 1))?;
        }
        if let Some(errno) = self.errno {
            write!(f, ": {}", strerror(errno))?;
        }
        if let Some(hint) = &self.hint {
            write!(f, " ({})", part(hint, 2))?;
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

/// The words for an errno, in lower case as Go's and so runc's callers expect them ("no such file or directory" is searched
/// for by podman and docker). Not by strerror(3), whose words in musl, which a release is linked with, are others.
fn strerror(errno: Errno) -> String {
    let number = errno.raw_os_error();
    let words = usize::try_from(number).ok().and_then(|number| WORDS.get(number)).copied().unwrap_or_default();
    if words.is_empty() { format!("errno {number}") } else { words.to_owned() }
}

/// A text of at most so many bytes: the middle of a longer one is left out, so that what it is about and its cause stay.
pub fn shorten(text: &str, most: usize) -> Cow<'_, str> {
    const GAP: &str = " […] ";
    if text.len() <= most {
        return text.into();
    }
    let left = most.saturating_sub(GAP.len());
    let boundary = |at: &usize| text.is_char_boundary(*at);
    let head = &text[..(0..=left * 2 / 3).rev().find(boundary).unwrap_or(0)];
    let tail = &text[(text.len() - left / 3..=text.len()).find(boundary).unwrap_or(text.len())..];
    format!("{head}{GAP}{tail}").into()
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
