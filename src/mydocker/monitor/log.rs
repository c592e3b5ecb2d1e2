//! The log of a container: docker's json-file, one JSON document a line, rotated.

use crate::mydocker::container::LogLimits;
use crate::sys::{Context, Result, rfc3339_now};
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// A line that is longer is written in pieces, as docker's are.
const LINE_MAX: usize = 16 << 10;

/// One line of the log.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Line {
    /// The text, with its newline unless the line was cut.
    pub log: String,
    /// `stdout` or `stderr`.
    pub stream: String,
    /// RFC 3339 with nanoseconds.
    pub time: String,
}

/// The writing side, which is the monitor's.
#[derive(Debug)]
pub struct Writer {
    path: PathBuf,
    file: File,
    size: u64,
    limits: LogLimits,
    /// What has come of an unfinished line, for each stream.
    partial: [Vec<u8>; 2],
}

/// The files of a log, oldest first.
pub fn files(path: &Path) -> Vec<PathBuf> {
    let mut all: Vec<PathBuf> = (1..).map(|i| numbered(path, i)).take_while(|path| path.exists()).collect();
    all.reverse();
    all.push(path.to_owned());
    all
}

fn numbered(path: &Path, number: u32) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(format!(".{number}"));
    name.into()
}

fn open(path: &Path) -> Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path).context(|| format!("open the log {}", path.display()))
}

impl Writer {
    /// Opens the log for appending.
    pub fn open(path: &Path, limits: LogLimits) -> Result<Self> {
        let file = open(path)?;
        let size = file.metadata().map_or(0, |meta| meta.len());
        Ok(Self { path: path.to_owned(), file, size, limits, partial: Default::default() })
    }

    /// Takes what the program wrote to stdout (0) or stderr (1). A log that cannot be written must not stop a program,
    /// so a failure (a full disk) loses lines only.
    pub fn write(&mut self, stream: usize, bytes: &[u8]) {
        if self.limits.none {
            return;
        }
        let partial = &mut self.partial[stream];
        partial.extend_from_slice(bytes);
        let mut text = String::new();
        let mut done = 0;
        let time = rfc3339_now();
        while done < partial.len() {
            let rest = &partial[done..];
            let newline = rest.iter().take(LINE_MAX).position(|byte| *byte == b'\n');
            let length = match newline {
                Some(at) => at + 1,
                None if rest.len() >= LINE_MAX => whole(&rest[..LINE_MAX]),
                None => break,
            };
            push(&mut text, &rest[..length], stream, &time);
            done += length;
        }
        partial.drain(..done);
        self.append(&text);
    }

    /// Writes what is left of lines without an end.
    pub fn finish(&mut self) {
        for stream in 0..2 {
            let rest = std::mem::take(&mut self.partial[stream]);
            if !rest.is_empty() {
                let mut text = String::new();
                push(&mut text, &rest, stream, &rfc3339_now());
                self.append(&text);
            }
        }
    }

    fn append(&mut self, text: &str) {
        if text.is_empty() {
            return;
        }
        let mut rest = text;
        while !rest.is_empty() {
            // As many whole lines as the file has room for, but at least one.
            let room = if self.limits.size == 0 {
                rest.len()
            } else {
                usize::try_from(self.limits.size.saturating_sub(self.size)).unwrap_or(usize::MAX)
            };
            let fits = if rest.len() <= room {
                Some(rest.len())
            } else {
                rest.as_bytes()[..room].iter().rposition(|byte| *byte == b'\n').map(|at| at + 1)
            };
            let Some(length) = fits.or_else(|| (self.size == 0).then(|| rest.find('\n').map_or(rest.len(), |at| at + 1))) else {
                self.rotate();
                continue;
            };
            let (now, later) = rest.split_at(length);
            if self.file.write_all(now.as_bytes()).is_ok() {
                self.size += now.len() as u64;
            }
            rest = later;
        }
    }

    /// `log.json` becomes `log.json.1`, that `log.json.2`; the last of `max-file` goes.
    fn rotate(&mut self) {
        for number in (1..self.limits.files.max(1)).rev() {
            let from = if number == 1 { self.path.clone() } else { numbered(&self.path, number - 1) };
            let _ = fs::rename(from, numbered(&self.path, number));
        }
        if self.limits.files <= 1 {
            let _ = self.file.set_len(0);
        }
        // Where there is no new file (no space, no descriptor), the old one goes on as if it were new.
        self.size = 0;
        if let Ok(file) = open(&self.path) {
            self.file = file;
        }
    }
}

/// How much of `bytes` to take so that no character is cut.
fn whole(bytes: &[u8]) -> usize {
    (bytes.len().saturating_sub(3)..=bytes.len())
        .rev()
        .find(|&end| bytes.get(end).is_none_or(|next| next & 0xc0 != 0x80))
        .unwrap_or(bytes.len())
}

fn push(text: &mut String, line: &[u8], stream: usize, time: &str) {
    let line = Line { log: String::from_utf8_lossy(line).into_owned(), stream: ["stdout", "stderr"][stream].into(), time: time.into() };
    // Strings always have a JSON form.
    text.push_str(&serde_json::to_string(&line).unwrap_or_default());
    text.push('\n');
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(path: &Path) -> Vec<Line> {
        let read = |path: &PathBuf| fs::read_to_string(path).unwrap();
        files(path)
            .iter()
            .flat_map(|file| read(file).lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Line>>())
            .collect()
    }

    #[test]
    fn lines_are_kept_whole_and_files_rotated() {
        let dir = std::env::temp_dir().join(format!("mydocker-log-{}", std::process::id()));
        fs::create_dir_all(&dir).unwrap();
        let path = dir.join("log.json");
        let mut writer = Writer::open(&path, LogLimits { size: 2000, files: 3, none: false }).unwrap();
        writer.write(0, b"one\ntw");
        writer.write(1, b"err\n");
        writer.write(0, b"o\nlast");
        writer.finish();
        let texts: Vec<(String, String)> = lines(&path).into_iter().map(|line| (line.stream, line.log)).collect();
        let expected = [("stdout", "one\n"), ("stderr", "err\n"), ("stdout", "two\n"), ("stdout", "last")];
        assert_eq!(texts, expected.map(|(stream, log)| (stream.to_owned(), log.to_owned())));
        for i in 0..100 {
            writer.write(0, format!("line {i}\n").as_bytes());
        }
        assert_eq!(files(&path).len(), 3);
        assert!(files(&path).iter().all(|file| fs::metadata(file).unwrap().len() <= 2000));
        let last = lines(&path);
        assert_eq!(last.last().unwrap().log, "line 99\n");
        let long = "ä".repeat(20_000);
        let mut writer = Writer::open(&dir.join("long.json"), LogLimits::default()).unwrap();
        writer.write(0, format!("x{long}\n").as_bytes());
        assert_eq!(lines(&dir.join("long.json")).iter().map(|line| line.log.as_str()).collect::<String>(), format!("x{long}\n"));
        fs::remove_dir_all(dir).unwrap();
    }
}
