//! Opens and parses `config.json` and process documents.
//!
//! One pass on the way that works: serde_json, with serde_ignored listening for keys that no type knows. Only a
//! document that fails is read a second time, to learn the path of the value that was wrong.

use super::{Process, Resources, Spec, place};
use crate::sys::{Context, Error, Result};
use rustix::fs::{FileType, Mode, OFlags, fstat, open};
use rustix::io::Errno;
use serde::de::DeserializeOwned;
use serde_ignored::Path as KeyPath;
use std::fs::File;
use std::io::Read;
use std::path::Path;

/// The largest document keel reads, in bytes. The largest seen in the field are a few hundred kB (long seccomp lists).
const MAX_SIZE: u64 = 16 << 20;

/// Keys of the spec that other platforms have (config.md, "Platform-specific configuration").
const OTHER_PLATFORMS: &[&str] = &["solaris", "windows", "vm", "zos", "freebsd"];

/// How the sentence about a key ends that the specification does not know, and wants to be ignored (config.md, "Extensibility").
pub const UNKNOWN: &str = " is not in runtime-spec 1.3.0 and is ignored";

/// A parsed `config.json`, not validated yet.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The document.
    pub spec: Spec,
    /// One sentence for each key that has no meaning for keel, so that nothing is dropped silently.
    pub warnings: Vec<String>,
}

/// Reads `config.json` of a bundle directory (bundle.md).
pub fn load(bundle: &Path) -> Result<Loaded> {
    load_file(bundle, Path::new("config.json"))
}

/// Reads another file in its place, relative to the bundle.
pub fn load_file(bundle: &Path, file: &Path) -> Result<Loaded> {
    let file = bundle.join(file);
    let bytes = read(&file, false).map_err(|e| match e.get_errno() {
        Some(Errno::NOENT) if bundle.is_dir() => e.hint("`keel spec` writes one"),
        Some(Errno::NOENT) => e.hint("the bundle directory does not exist; --bundle names it"),
        _ => e,
    })?;
    parse(&bytes).map_err(|e| e.within(format_args!("parse {}", file.display())))
}

/// Parses the text of a `config.json`.
pub fn parse(bytes: &[u8]) -> Result<Loaded> {
    let (spec, warnings) = parse_as(bytes)?;
    Ok(Loaded { spec, warnings })
}

/// Reads the document of `exec --process FILE`.
pub fn load_process(path: &Path) -> Result<(Process, Vec<String>)> {
    parse_process(&read(path, true)?).map_err(|e| e.within(format_args!("parse {}", path.display())))
}

/// Parses the document of `exec --process`: config.md's `process` object alone, and its warnings.
pub fn parse_process(bytes: &[u8]) -> Result<(Process, Vec<String>)> {
    parse_as(bytes)
}

/// Reads the document of `update --resources FILE`.
pub fn load_resources(path: &Path) -> Result<(Resources, Vec<String>)> {
    parse_resources(&read(path, true)?).map_err(|e| e.within(format_args!("parse {}", path.display())))
}

/// Parses the document of `update --resources`: config-linux.md's `resources` object alone, and its warnings.
pub fn parse_resources(bytes: &[u8]) -> Result<(Resources, Vec<String>)> {
    parse_as(bytes)
}

/// Reads a regular file whole. `O_NONBLOCK` because opening a fifo would wait for its writer; symbolic links are
/// followed as runc does, the bundle belongs to the caller.
fn read(path: &Path, pipes: bool) -> Result<Vec<u8>> {
    let doing = || format!("open {}", path.display());
    let fd = open(path, OFlags::RDONLY | OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY, Mode::empty()).context(doing)?;
    let stat = fstat(&fd).context(|| format!("fstat {}", path.display()))?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::RegularFile => {}
        FileType::Fifo | FileType::CharacterDevice if pipes => rustix::fs::fcntl_setfl(&fd, OFlags::empty()).context(doing)?,
        FileType::Directory => return Err(Error::new(doing()).errno(Errno::ISDIR)),
        _ => return Err(Error::new(format!("{} is not a regular file", path.display()))),
    }
    let size = u64::try_from(stat.st_size).unwrap_or(0);
    let too_large = |n: u64| Error::new(format!("{} is {n} bytes; keel reads at most 16 MiB", path.display()));
    if size > MAX_SIZE {
        return Err(too_large(size));
    }
    // One byte more than expected, so that the end is seen by the first read; the bound holds if the file grows meanwhile.
    let mut bytes = Vec::with_capacity(usize::try_from(size).unwrap_or(0) + 1);
    File::from(fd).take(MAX_SIZE + 1).read_to_end(&mut bytes).context(|| format!("read {}", path.display()))?;
    if bytes.len() as u64 > MAX_SIZE {
        return Err(too_large(bytes.len() as u64));
    }
    Ok(bytes)
}

fn parse_as<T: DeserializeOwned>(bytes: &[u8]) -> Result<(T, Vec<String>)> {
    let mut warnings = Vec::new();
    let mut json = serde_json::Deserializer::from_slice(bytes);
    let document = serde_ignored::deserialize(&mut json, |key| warnings.push(unknown(&key)))
        .and_then(|document| json.end().map(|()| document))
        .map_err(|e| locate(bytes, &e))?;
    Ok((document, warnings))
}

/// Says where in the document the value stands that failed; the line and column are in serde_json's words already.
fn locate(bytes: &[u8], error: &serde_json::Error) -> Error {
    let words = Error::new(error.to_string());
    match place::path(bytes, error.line(), error.column()) {
        path if path.is_empty() => words,
        path => words.at(path),
    }
}

fn unknown(key: &KeyPath) -> String {
    let mut path = String::new();
    write_path(key, &mut path);
    match OTHER_PLATFORMS.contains(&path.as_str()) {
        true => format!("{path} is not for Linux and is ignored"),
        false => path + UNKNOWN,
    }
}

/// Spells a path as the rest of keel does: `mounts[3].options`.
fn write_path(key: &KeyPath, out: &mut String) {
    match key {
        KeyPath::Root => {}
        KeyPath::Seq { parent, index } => {
            write_path(parent, out);
            out.push_str(&format!("[{index}]"));
        }
        KeyPath::Map { parent, key } => {
            write_path(parent, out);
            if !out.is_empty() {
                out.push('.');
            }
            out.push_str(key);
        }
        KeyPath::Some { parent } | KeyPath::NewtypeStruct { parent } | KeyPath::NewtypeVariant { parent } => write_path(parent, out),
    }
}
