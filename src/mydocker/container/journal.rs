//! What has happened, for `events`: one JSON document a line below `Dirs::run`, so that a reboot forgets it as docker's daemon does.
//!
//! Whoever does something writes it down himself. A journal that cannot be written (a full disk) loses lines and stops nobody.

use super::Record;
use crate::mydocker::files::{Dirs, make_dir};
use crate::sys::{Context, Result, rfc3339_now};
use rustix::fs::{FlockOperation, flock};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::PathBuf;

/// How long a file may grow, in bytes; two are kept.
const SIZE_MAX: u64 = 1 << 20;

/// One line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Happening {
    /// `container`, `network` or `volume`.
    pub kind: String,
    /// docker's word: `create`, `start`, `die`.
    pub action: String,
    /// What it happened to.
    pub id: String,
    /// docker's attributes, for a container also its labels.
    pub attributes: BTreeMap<String, String>,
    /// RFC 3339.
    pub time: String,
}

/// The two files, older first.
pub fn journals(dirs: &Dirs) -> [PathBuf; 2] {
    [dirs.run.join("events.json.1"), dirs.run.join("events.json")]
}

/// Writes down that something happened to a container.
pub fn tell(dirs: &Dirs, record: &Record, action: &str, more: &[(&str, &str)]) {
    let mut attributes = record.settings.labels.clone();
    attributes.extend([("image", &record.image), ("name", &record.name)].map(|(key, value)| (key.to_owned(), value.clone())));
    attributes.extend(more.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())));
    note(dirs, "container", action, &record.id, attributes);
}

/// [`tell`] of something else.
pub fn note(dirs: &Dirs, kind: &str, action: &str, id: &str, attributes: BTreeMap<String, String>) {
    let line = Happening { kind: kind.into(), action: action.into(), id: id.into(), attributes, time: rfc3339_now() };
    let _ = append(dirs, &line);
}

fn append(dirs: &Dirs, line: &Happening) -> Result<()> {
    let [older, path] = journals(dirs);
    let what = || format!("write {}", path.display());
    let mut text = serde_json::to_vec(line).unwrap_or_default();
    text.push(b'\n');
    loop {
        let mut file = match OpenOptions::new().append(true).create(true).mode(0o600).open(&path) {
            Err(error) if error.kind() == ErrorKind::NotFound => {
                make_dir(&dirs.run)?;
                continue;
            }
            other => other.context(what)?,
        };
        rustix::io::retry_on_intr(|| flock(&file, FlockOperation::LockExclusive)).context(what)?;
        let meta = file.metadata().context(what)?;
        // Another one has put it aside while we waited.
        if !is(&path, &file) {
            continue;
        }
        if meta.len() > 0 && meta.len() + text.len() as u64 > SIZE_MAX {
            fs::rename(&path, &older).context(what)?;
            continue;
        }
        return file.write_all(&text).context(what);
    }
}

/// Whether the open file is the one at the path.
pub fn is(path: &std::path::Path, file: &File) -> bool {
    let number = |meta: fs::Metadata| (meta.dev(), meta.ino());
    file.metadata().map(number).ok() == fs::metadata(path).map(number).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_journal_is_rotated_and_keeps_the_newest_lines() {
        let data = std::env::temp_dir().join(format!("mydocker-journal-{}", std::process::id()));
        let dirs = Dirs { run: data.join("run"), data: data.clone() };
        let large = BTreeMap::from([("text".to_owned(), "x".repeat(100 << 10))]);
        for number in 0..25 {
            note(&dirs, "volume", "create", &number.to_string(), large.clone());
        }
        let texts = journals(&dirs).map(|path| fs::read_to_string(path).unwrap());
        fs::remove_dir_all(data).unwrap();
        assert!(texts.iter().all(|text| text.len() as u64 <= SIZE_MAX));
        let ids: Vec<String> = texts.concat().lines().map(|line| serde_json::from_str::<Happening>(line).unwrap().id).collect();
        let kept: Vec<String> = (25 - ids.len()..25).map(|number| number.to_string()).collect();
        assert_eq!(ids, kept);
        assert!(ids.len() > 10 && ids.len() < 25, "{ids:?}");
    }
}
