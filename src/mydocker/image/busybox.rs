//! The image `busybox`, made offline from the distribution's static busybox.

use super::tar_read::{Entry, Kind};
use super::tar_write::Writer;
use super::{Image, Images, Import, Reference};
use crate::sys::{Context, Error, Result};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};

/// Where a distribution may have it.
const PLACES: [&str; 3] = ["/bin/busybox", "/usr/bin/busybox", "/usr/lib/initcpio/busybox"];

/// Largest program that is taken for busybox, in bytes.
const SIZE_LIMIT: u64 = 64 << 20;

const DIRECTORIES: [(&str, u32); 18] = [
    ("bin", 0o755),
    ("dev", 0o755),
    ("etc", 0o755),
    ("home", 0o755),
    ("lib", 0o755),
    ("mnt", 0o755),
    ("proc", 0o555),
    ("root", 0o700),
    ("run", 0o755),
    ("sbin", 0o755),
    ("sys", 0o555),
    ("tmp", 0o1777),
    ("usr", 0o755),
    ("usr/bin", 0o755),
    ("usr/sbin", 0o755),
    ("var", 0o755),
    ("var/log", 0o755),
    ("var/tmp", 0o1777),
];

const FILES: [(&str, u32, &str); 5] = [
    ("etc/group", 0o644, "root:x:0:\ndaemon:x:1:\ntty:x:5:\nwww-data:x:33:\nusers:x:100:\nnobody:x:65534:\n"),
    ("etc/hosts", 0o644, "127.0.0.1\tlocalhost\n::1\tlocalhost\n"),
    (
        "etc/passwd",
        0o644,
        "root:x:0:0:root:/root:/bin/sh\ndaemon:x:1:1:daemon:/usr/sbin:/bin/false\nwww-data:x:33:33:www-data:/var/www:/bin/false\n\
         nobody:x:65534:65534:nobody:/home:/bin/false\n",
    ),
    ("etc/resolv.conf", 0o644, ""),
    ("etc/shadow", 0o600, "root:*:::::::\n"),
];

impl Images {
    /// The image `busybox`; where it is missing, it is made of the busybox of this machine.
    pub fn ensure_busybox(&self) -> Result<Image> {
        let reference = Reference::parse("busybox")?;
        if let Some(image) = self.find("busybox")? {
            return Ok(image);
        }
        let program = PLACES.iter().map(Path::new).find(|path| path.exists() && is_static(path)).ok_or_else(|| {
            Error::new("the image busybox cannot be made: this machine has no static busybox")
                .hint("install the package busybox-static, or import an archive: mydocker import busybox.tar busybox")
        })?;
        let archive = archive(program).map_err(|e| e.within("make the image busybox"))?;
        let changes = ["CMD [\"sh\"]", "ENV PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"].map(str::to_owned);
        let message = format!("made of {}", program.display());
        let asked = Import { reference: Some(&reference), changes: &changes, message: Some(&message) };
        self.import(&archive[..], &asked, &mut |_| {})
    }
}

/// The archive of its root file system: the program, a link for each of its applets, and what a program expects to find.
fn archive(program: &Path) -> Result<Vec<u8>> {
    let meta = fs::metadata(program).context(|| format!("stat {}", program.display()))?;
    if !meta.is_file() || meta.len() > SIZE_LIMIT {
        return Err(Error::new(format!("{} is no program of at most {} MiB", program.display(), SIZE_LIMIT >> 20)));
    }
    let mut out = Writer::new(Vec::new());
    // The time of the program for everything: the same package makes the same layer.
    let entry = |path: &str, kind, mode| Entry { path: path.into(), kind, mode, mtime: (meta.mtime(), 0), ..Entry::default() };
    for (path, mode) in DIRECTORIES {
        out.entry(&entry(&format!("{path}/"), Kind::Dir, mode))?;
    }
    for (path, mode, text) in FILES {
        out.entry(&Entry { size: text.len() as u64, ..entry(path, Kind::File, mode) })?;
        out.data(text.as_bytes(), text.len() as u64)?;
    }
    let bytes = fs::read(program).context(|| format!("read {}", program.display()))?;
    out.entry(&Entry { size: bytes.len() as u64, ..entry("bin/busybox", Kind::File, 0o755) })?;
    out.data(&bytes[..], bytes.len() as u64)?;
    // All names in one directory, so that the order in PATH never matters.
    for name in applets(program)? {
        out.entry(&Entry { link: b"busybox".to_vec(), ..entry(&format!("bin/{name}"), Kind::Symlink, 0o777) })?;
    }
    out.entry(&Entry { link: b"../../bin/busybox".to_vec(), ..entry("usr/bin/env", Kind::Symlink, 0o777) })?;
    out.entry(&Entry { link: b"../run".to_vec(), ..entry("var/run", Kind::Symlink, 0o777) })?;
    out.finish()
}

/// The names that it answers to.
fn applets(program: &Path) -> Result<Vec<String>> {
    let what = || format!("run {} --list", program.display());
    let said = Command::new(program).arg("--list").stdin(Stdio::null()).stderr(Stdio::null()).output().context(what)?;
    let text = String::from_utf8_lossy(&said.stdout);
    let names: Vec<String> = text
        .lines()
        .filter_map(|line| line.rsplit('/').next())
        .filter(|name| !name.is_empty() && *name != "busybox" && *name != "." && *name != "..")
        .map(str::to_owned)
        .collect();
    if names.iter().any(|name| name == "sh") { Ok(names) } else { Err(Error::new(format!("{} has no shell", program.display()))) }
}

/// Whether an ELF program needs nothing else: it has no `PT_INTERP`, the path of a dynamic linker (elf(5)).
pub fn is_static(program: &Path) -> bool {
    let Ok(bytes) = fs::read(program) else { return false };
    let number = |at: usize, size: usize| {
        let bytes = bytes.get(at..at + size)?;
        Some(bytes.iter().rev().fold(0, |sum: usize, b| sum << 8 | usize::from(*b)))
    };
    // 64 bits, little-endian: e_phoff, e_phentsize, e_phnum.
    if !bytes.starts_with(b"\x7fELF\x02\x01") {
        return false;
    }
    let (Some(start), Some(size), Some(count)) = (number(32, 8), number(54, 2), number(56, 2)) else { return false };
    (0..count).all(|i| number(start.saturating_add(i * size), 4).is_some_and(|kind| kind != 3))
}
