//! `--log`, `--log-format`, `--debug`: lines that callers parse.

use super::{Context, Result, plain, rfc3339_now, shorten};
use rustix::fd::{AsFd, BorrowedFd};
use std::fs::File;
use std::io::Write;
use std::path::Path;

/// The most bytes of a message, which is then less than 4 KiB also with its time and level.
const MESSAGE: usize = 3900;

/// Where messages go. Nothing is written unless there is something to say.
#[derive(Debug)]
pub struct Log {
    file: Option<File>,
    json: bool,
    debug: bool,
    quiet: bool,
}

impl Log {
    /// Opens the log file for appending, as several commands of one container write to it.
    pub fn open(path: Option<&Path>, json: bool, debug: bool) -> Result<Self> {
        let open = |path: &Path| {
            let file = std::fs::OpenOptions::new().append(true).create(true).open(path);
            file.context(|| format!("open the log {}", path.display()))
        };
        Ok(Self { file: path.map(open).transpose()?, json, debug, quiet: false })
    }

    /// Keeps warnings off stderr, for the commands that start a container's program: their stderr is the program's own, and
    /// conmon for one shows it as the first lines of a container's log. A log file has them, and `--debug` shows them.
    #[must_use]
    pub fn quiet(self) -> Self {
        Self { quiet: true, ..self }
    }

    /// The log file, for a process that closes everything else.
    pub fn descriptor(&self) -> Option<BorrowedFd<'_>> {
        self.file.as_ref().map(AsFd::as_fd)
    }

    /// A failure; always on stderr too, where people look. Exactly one line in the file: podman parses it whole.
    pub fn error(&self, message: &str) {
        if self.file.is_some() {
            self.write("error", message);
        }
        if self.file.is_none() && self.json { self.write("error", message) } else { say("error", message) }
    }

    /// Something was asked for that has no effect, or could not be done and does no harm.
    pub fn warning(&self, message: &str) {
        if self.file.is_some() || self.debug || !self.quiet {
            self.notice(message);
        }
    }

    /// What the caller has asked for by a flag, such as `--seccomp-log`: it is said as a warning, also by a quiet log.
    pub fn notice(&self, message: &str) {
        if self.file.is_some() || self.json { self.write("warning", message) } else { say("warning", message) }
    }

    /// A step, with `--debug`.
    pub fn debug(&self, message: impl FnOnce() -> String) {
        if self.debug {
            let message = message();
            if self.file.is_some() || self.json { self.write("debug", &message) } else { say("debug", &message) }
        }
    }

    /// One line, one write. A log that cannot be written must not end a container.
    fn write(&self, level: &str, message: &str) {
        let message = &*shorten(message, MESSAGE);
        let time = rfc3339_now();
        let line = if self.json {
            let quoted = |text: &str| serde_json::Value::from(text).to_string();
            format!("{{\"level\":{},\"msg\":{},\"time\":{}}}\n", quoted(level), quoted(message), quoted(&time))
        } else {
            format!("time={time:?} level={level} msg={message:?}\n")
        };
        let _ = match &self.file {
            Some(file) => (&*file).write_all(line.as_bytes()),
            None => std::io::stderr().write_all(line.as_bytes()),
        };
    }
}

fn say(level: &str, message: &str) {
    let line = format!("keel: {level}: {}\n", shorten(&plain(message).to_string(), MESSAGE));
    let _ = std::io::stderr().write_all(line.as_bytes());
}
