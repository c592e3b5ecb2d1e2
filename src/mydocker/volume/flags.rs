//! `-v`, `--mount` and `--tmpfs`, as docker reads them.

use super::{Kind, MountPoint};
use crate::mydocker::files::random;
use crate::sys::{Error, Result};
use std::collections::BTreeMap;
use std::path::{Component, Path};

const PROPAGATION: &[&str] = &["shared", "rshared", "slave", "rslave", "private", "rprivate"];
/// docker's defaults for memory: no programs, no set-user-ID, no devices.
const TMPFS: &[&str] = &["noexec", "nosuid", "nodev"];

impl MountPoint {
    /// A volume is anonymous until it is named.
    fn new(kind: Kind, destination: String) -> Self {
        let anonymous = kind == Kind::Volume;
        Self {
            kind,
            destination,
            name: if anonymous { random(64) } else { String::new() },
            anonymous,
            source: String::new(),
            read_only: false,
            propagation: String::new(),
            options: Vec::new(),
            no_copy: false,
            make_source: false,
            relabel: String::new(),
            labels: BTreeMap::new(),
            volume_options: BTreeMap::new(),
            subpath: String::new(),
        }
    }

    /// An anonymous volume: an image's `VOLUME`.
    pub fn anonymous(destination: &str) -> Result<Self> {
        Ok(Self::new(Kind::Volume, place(destination)?))
    }

    /// `-v`: `DESTINATION`, or `SOURCE:DESTINATION[:OPTION,…]` where the source is an absolute path or a volume's name.
    pub fn volume_flag(text: &str) -> Result<Self> {
        let bad = |why: String| Error::new(format!("invalid volume specification: '{text}': {why}"));
        let parts: Vec<&str> = text.split(':').collect();
        if parts.iter().any(|part| part.is_empty()) {
            return Err(Error::new(format!("invalid spec: {text}: empty section between colons")));
        }
        let (source, destination, mode) = match parts.as_slice() {
            [destination] => ("", *destination, ""),
            [source, destination] => (*source, *destination, ""),
            [source, destination, mode] => (*source, *destination, *mode),
            _ => return Err(bad("too many colons".into())),
        };
        let destination = place(destination).map_err(|error| bad(error.to_string()))?;
        let mut mount = Self::new(if source.starts_with('/') { Kind::Bind } else { Kind::Volume }, destination);
        if mount.kind == Kind::Bind {
            mount.source = clean(source);
            mount.make_source = true;
        } else if !source.is_empty() {
            mount.named(source)?;
        }
        for option in mode.split(',').filter(|_| !mode.is_empty()) {
            mount.option(option).map_err(|error| bad(error.to_string()))?;
        }
        Ok(mount)
    }

    fn named(&mut self, name: &str) -> Result<()> {
        (self.name, self.anonymous) = (volume_name(name)?.into(), false);
        Ok(())
    }

    fn option(&mut self, option: &str) -> Result<()> {
        match option {
            "ro" => self.read_only = true,
            "rw" => self.read_only = false,
            "z" | "Z" => self.relabel = option.into(),
            "nocopy" if self.kind == Kind::Volume => self.no_copy = true,
            // docker's hints for other systems' file sharing, which Linux does not need.
            "consistent" | "cached" | "delegated" => {}
            _ if self.kind == Kind::Bind && PROPAGATION.contains(&option) => self.propagation = option.into(),
            _ => return Err(Error::new(format!("invalid mode: {option}"))),
        }
        Ok(())
    }

    /// `--mount`: `type=bind|volume|tmpfs,src=…,dst=…,…`, in the CSV that docker takes.
    pub fn mount_flag(text: &str) -> Result<Self> {
        let within = |error: Error| error.within(format!("invalid argument {text:?} for --mount"));
        let fields = csv(text).map_err(within)?;
        let mut pairs: Vec<(String, Option<String>)> = Vec::new();
        for field in fields {
            let (key, value) = field.split_once('=').map_or((field.as_str(), None), |(key, value)| (key, Some(value.to_owned())));
            pairs.push((key.to_ascii_lowercase(), value));
        }
        let find = |names: &[&str]| pairs.iter().rfind(|(key, _)| names.contains(&key.as_str())).and_then(|(_, value)| value.clone());
        let kind = match find(&["type"]).as_deref() {
            None | Some("volume") => Kind::Volume,
            Some("bind") => Kind::Bind,
            Some("tmpfs") => Kind::Tmpfs,
            Some(other) => return Err(within(Error::new(format!("type {other:?} is not supported")).hint("bind, volume or tmpfs"))),
        };
        let destination = find(&["destination", "dst", "target"]).ok_or_else(|| within(Error::new("target is required")))?;
        let mut mount = Self::new(kind, place(&destination).map_err(within)?);
        if kind == Kind::Tmpfs {
            mount.options = TMPFS.iter().map(|option| (*option).into()).collect();
        }
        for (key, value) in &pairs {
            mount.field(key, value.as_deref()).map_err(within)?;
        }
        if kind == Kind::Bind && mount.source.is_empty() {
            return Err(within(Error::new("source is required for a bind mount")));
        }
        Ok(mount)
    }

    fn field(&mut self, key: &str, value: Option<&str>) -> Result<()> {
        let required = || value.filter(|value| !value.is_empty()).ok_or_else(|| Error::new(format!("{key} needs a value")));
        let flag = || match value {
            None | Some("true" | "1") => Ok(true),
            Some("false" | "0") => Ok(false),
            Some(other) => Err(Error::new(format!("invalid value for {key}: {other}"))),
        };
        match (key, self.kind) {
            ("type" | "destination" | "dst" | "target", _) => drop(required()?),
            ("consistency", _) => drop(required()?),
            ("readonly" | "ro", _) => self.read_only = flag()?,
            ("source" | "src", Kind::Bind) => self.source = bind_source(required()?)?,
            ("source" | "src", Kind::Volume) => value.filter(|name| !name.is_empty()).map_or(Ok(()), |name| self.named(name))?,
            ("bind-propagation", Kind::Bind) => {
                let value = required()?;
                if !PROPAGATION.contains(&value) {
                    return Err(Error::new(format!("invalid propagation {value:?}")).hint(PROPAGATION.join(", ")));
                }
                self.propagation = value.into();
            }
            ("bind-create-src", Kind::Bind) => self.make_source = flag()?,
            ("bind-nonrecursive", Kind::Bind) => self.options = if flag()? { vec!["bind".into()] } else { Vec::new() },
            ("bind-recursive", Kind::Bind) => match required()? {
                "enabled" | "readonly" => self.options.clear(),
                "disabled" => self.options = vec!["bind".into()],
                // Read-only itself, but not what is mounted below it.
                "writable" => self.options = vec!["ro".into()],
                other => return Err(Error::new(format!("invalid value for bind-recursive: {other}"))),
            },
            ("volume-nocopy", Kind::Volume) => self.no_copy = flag()?,
            ("volume-subpath", Kind::Volume) => self.subpath = required()?.trim_matches('/').into(),
            ("volume-driver", Kind::Volume) if required()? != "local" => {
                return Err(Error::new(format!("volume driver {:?} is not supported", value.unwrap_or_default())).hint("local is"));
            }
            ("volume-driver", Kind::Volume) => {}
            ("volume-label", Kind::Volume) => {
                let (key, value) = required()?.split_once('=').unwrap_or((required()?, ""));
                self.labels.insert(key.into(), value.into());
            }
            ("volume-opt", Kind::Volume) => {
                let (key, value) = required()?.split_once('=').unwrap_or((required()?, ""));
                self.volume_options.insert(key.into(), value.into());
            }
            ("tmpfs-size", Kind::Tmpfs) => self.options.push(format!("size={}", size(required()?)?)),
            ("tmpfs-mode", Kind::Tmpfs) => self.options.push(format!("mode={:o}", mode(required()?)?)),
            _ => return Err(Error::new(format!("unexpected key {key:?} for a mount of this type"))),
        }
        Ok(())
    }

    /// `--tmpfs`: `DESTINATION[:OPTION,…]`. Options that the runtime does not know go to the file system, as in mount(8).
    pub fn tmpfs_flag(text: &str) -> Result<Self> {
        let (destination, options) = text.split_once(':').unwrap_or((text, ""));
        let place = place(destination).map_err(|error| error.within(format!("invalid --tmpfs {text:?}")))?;
        let mut mount = Self::new(Kind::Tmpfs, place);
        mount.options = TMPFS.iter().map(|option| (*option).into()).collect();
        for option in options.split(',').filter(|option| !option.is_empty()) {
            let valid = match option.split_once('=') {
                Some(("size" | "nr_blocks" | "nr_inodes" | "mode" | "uid" | "gid" | "mpol" | "huge", value)) => !value.is_empty(),
                Some(_) => false,
                None => ["rw", "ro", "exec", "noexec", "suid", "nosuid", "dev", "nodev", "noatime", "relatime", "sync", "async"]
                    .contains(&option),
            };
            match option {
                _ if !valid => return Err(Error::new(format!("invalid --tmpfs {text:?}: invalid tmpfs option {option:?}"))),
                "ro" => mount.read_only = true,
                "rw" => mount.read_only = false,
                _ => mount.options.push(option.into()),
            }
        }
        Ok(mount)
    }
}

/// A destination: absolute, cleaned, and not the root.
fn place(text: &str) -> Result<String> {
    if !text.starts_with('/') {
        return Err(Error::new(format!("invalid mount path: '{text}' mount path must be absolute")));
    }
    if text.contains('\0') {
        return Err(Error::new(format!("invalid mount path: {text:?} holds a zero byte")));
    }
    match clean(text) {
        root if root == "/" => Err(Error::new("invalid specification: destination can't be '/'")),
        cleaned => Ok(cleaned),
    }
}

/// An absolute path without `.`, `..` and double slashes, by name alone.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for component in Path::new(path).components() {
        match component {
            Component::ParentDir => drop(parts.pop()),
            Component::Normal(name) => parts.push(name.to_str().unwrap_or_default()),
            _ => {}
        }
    }
    format!("/{}", parts.join("/"))
}

fn bind_source(text: &str) -> Result<String> {
    if text.starts_with('/') {
        return Ok(clean(text));
    }
    Err(Error::new(format!("invalid mount config for type \"bind\": invalid mount path: '{text}' mount path must be absolute")))
}

/// docker's rule, and its sentence.
pub(super) fn volume_name(text: &str) -> Result<&str> {
    let first = text.bytes().next().is_some_and(|b| b.is_ascii_alphanumeric());
    if first && text.len() > 1 && text.len() <= 255 && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"_.-".contains(&b)) {
        return Ok(text);
    }
    if text.len() == 1 && first {
        return Err(Error::new("volume name is too short, names should be at least two alphanumeric characters"));
    }
    Err(Error::new(format!(
        "{text:?} includes invalid characters for a local volume name, only \"[a-zA-Z0-9][a-zA-Z0-9_.-]\" are allowed. \
         If you intended to pass a host directory, use absolute path"
    )))
}

/// A size in bytes with docker's suffixes b, k, m, g, t (and kb, kib, …), each 1024 times the one before.
pub fn size(text: &str) -> Result<u64> {
    let lower = text.to_ascii_lowercase();
    let digits = lower.find(|c: char| !c.is_ascii_digit()).unwrap_or(lower.len());
    let power = match lower[digits..].trim_start() {
        "" | "b" => Some(0),
        "k" | "kb" | "kib" => Some(1),
        "m" | "mb" | "mib" => Some(2),
        "g" | "gb" | "gib" => Some(3),
        "t" | "tb" | "tib" => Some(4),
        _ => None,
    };
    let value = lower[..digits].parse().ok().zip(power).and_then(|(number, power): (u64, u32)| number.checked_mul(1024_u64.pow(power)));
    value.ok_or_else(|| Error::new(format!("invalid size: '{text}'")))
}

fn mode(text: &str) -> Result<u32> {
    let mode = u32::from_str_radix(text, 8).ok().filter(|mode| *mode <= 0o7777);
    mode.ok_or_else(|| Error::new(format!("invalid value for tmpfs-mode: {text}")).hint("an octal mode such as 1777"))
}

/// One record of RFC 4180: fields between commas, in quotes where they hold commas; a quote in quotes is doubled.
fn csv(text: &str) -> Result<Vec<String>> {
    let mut fields = Vec::new();
    let (mut field, mut quoted) = (String::new(), false);
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        match c {
            '"' if quoted && chars.peek() == Some(&'"') => field.extend(chars.next()),
            '"' if quoted => quoted = false,
            '"' if field.is_empty() => quoted = true,
            ',' if !quoted => fields.push(std::mem::take(&mut field)),
            other => field.push(other),
        }
    }
    fields.push(field);
    if quoted {
        return Err(Error::new("a quote is not closed"));
    }
    if let Some(at) = fields.iter().position(String::is_empty) {
        return Err(Error::new(format!("field {} is empty", at + 1)));
    }
    Ok(fields)
}
