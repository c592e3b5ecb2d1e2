//! Content named by its digest.

use super::reference::is_hex;
use crate::mydocker::files;
use crate::sys::{Context, Error, Result};
use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

/// Largest manifest, index or configuration that is read, in bytes; registries themselves stop at 4 MiB.
pub(super) const DOCUMENT_LIMIT: u64 = 4 << 20;

/// Most values in such a document. Four MiB of `[0,0,…]` are two million, and a hundred MiB once
/// they are read; the largest real documents have some thousand.
const VALUES_LIMIT: usize = 1 << 16;

/// A digest of SHA-256 as the image specification writes it: `sha256:` and 64 lower-case hexadecimal digits.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Digest(String);

impl Digest {
    /// Reads a digest, and refuses any other algorithm.
    pub fn parse(text: &str) -> Result<Self> {
        match text.strip_prefix("sha256:") {
            Some(hex) if is_hex(hex, 64) => Ok(Self(text.to_owned())),
            _ => Err(Error::new(format!("{text:?} is not a digest: sha256 and 64 digits of 0-9 and a-f are expected"))),
        }
    }

    /// The digest of these bytes.
    pub fn of(bytes: &[u8]) -> Self {
        Self::finish(Sha256::new_with_prefix(bytes))
    }

    pub(super) fn finish(state: Sha256) -> Self {
        let mut text = String::with_capacity(71);
        text += "sha256:";
        for byte in state.finalize() {
            use fmt::Write;
            let _ = write!(text, "{byte:02x}");
        }
        Self(text)
    }

    /// The 64 digits.
    pub fn hex(&self) -> &str {
        &self.0[7..]
    }

    /// The first twelve digits, as tables show them.
    pub fn short(&self) -> &str {
        &self.0[7..19]
    }

    /// With the algorithm in front.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Digest {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Digest {
    type Error = Error;

    fn try_from(text: String) -> Result<Self> {
        Self::parse(&text)
    }
}

impl From<Digest> for String {
    fn from(digest: Digest) -> Self {
        digest.0
    }
}

impl From<&oci_spec::image::Digest> for Digest {
    /// Of a digest that was checked to be SHA-256.
    fn from(digest: &oci_spec::image::Digest) -> Self {
        Self(digest.to_string())
    }
}

/// The blobs of an image layout: `blobs/sha256/HEX`, and `ingest/` beside it for what is not complete.
#[derive(Clone, Debug)]
pub(super) struct Blobs {
    pub dir: PathBuf,
    pub ingest: PathBuf,
}

impl Blobs {
    pub fn new(layout: &Path) -> Self {
        Self { dir: layout.join("blobs/sha256"), ingest: layout.join("ingest") }
    }

    pub fn path(&self, digest: &Digest) -> PathBuf {
        self.dir.join(digest.hex())
    }

    pub fn has(&self, digest: &Digest) -> bool {
        self.path(digest).exists()
    }

    /// The size in bytes, if the blob is there.
    pub fn size(&self, digest: &Digest) -> Option<u64> {
        fs::metadata(self.path(digest)).ok().map(|meta| meta.len())
    }

    pub fn open(&self, digest: &Digest) -> Result<File> {
        File::open(self.path(digest)).context(|| format!("open the blob {digest}"))
    }

    /// A manifest, index or configuration, checked against its digest.
    pub fn document(&self, digest: &Digest) -> Result<Vec<u8>> {
        let bytes = read_limited(self.open(digest)?, &format!("the blob {digest}"))?;
        if Digest::of(&bytes) != *digest {
            return Err(Error::new(format!("the blob {digest} is damaged")).hint("remove the image and get it again"));
        }
        Ok(bytes)
    }

    /// Stores a document, durably: it is small, and everything hangs from it.
    pub fn put(&self, bytes: &[u8]) -> Result<Digest> {
        let digest = Digest::of(bytes);
        if !self.has(&digest) {
            files::write(&self.path(&digest), bytes, files::Keep::Always)?;
        }
        Ok(digest)
    }

    /// Begins a blob whose digest is not known yet.
    pub fn begin(&self) -> Result<Incoming> {
        let path = self.ingest.join(files::random(16));
        let open = OpenOptions::new().write(true).read(true).create_new(true).mode(0o600).open(&path);
        let file = open.context(|| format!("make {}", path.display()))?;
        Ok(Incoming { file, path, hash: Sha256::new(), size: 0, blobs: self.clone() })
    }
}

/// A JSON document of at most [`DOCUMENT_LIMIT`] bytes and [`VALUES_LIMIT`] values, or a refusal.
pub(super) fn read_limited(source: impl Read, what: &str) -> Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(DOCUMENT_LIMIT + 1).read_to_end(&mut bytes).context(|| format!("read {what}"))?;
    if bytes.len() as u64 > DOCUMENT_LIMIT {
        return Err(Error::new(format!("{what} is larger than {} MiB", DOCUMENT_LIMIT >> 20)));
    }
    if values(&bytes) > VALUES_LIMIT {
        return Err(Error::new(format!("{what} has more than {VALUES_LIMIT} values")));
    }
    Ok(bytes)
}

/// How many values a JSON document has at most: outside of strings, each begins with a bracket or
/// follows a comma.
fn values(text: &[u8]) -> usize {
    let (mut count, mut quoted, mut escaped) = (1, false, false);
    for byte in text {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if quoted => escaped = true,
            b'"' => quoted = !quoted,
            b',' | b'[' | b'{' if !quoted => count += 1,
            _ => {}
        }
    }
    count
}

/// A blob that is being written; unless it is kept, it is removed.
#[derive(Debug)]
pub(super) struct Incoming {
    file: File,
    path: PathBuf,
    hash: Sha256,
    size: u64,
    blobs: Blobs,
}

impl Incoming {
    /// Bytes written so far.
    pub fn size(&self) -> u64 {
        self.size
    }

    /// Forgets what was written.
    pub fn restart(&mut self) -> Result<()> {
        (self.hash, self.size) = (Sha256::new(), 0);
        let truncate = self.file.set_len(0).and_then(|()| io::Seek::rewind(&mut self.file));
        truncate.context(|| format!("empty {}", self.path.display()))
    }

    /// Gives the blob its name if it has the digest that was promised. `durable`: to disk first, for what cannot be fetched again.
    pub fn keep(mut self, promised: Option<&Digest>, durable: bool) -> Result<(Digest, u64)> {
        let digest = Digest::finish(std::mem::take(&mut self.hash));
        if let Some(promised) = promised.filter(|promised| **promised != digest) {
            return Err(Error::new(format!("the digest is not what was promised: {digest} instead of {promised}")));
        }
        let name = self.blobs.path(&digest);
        let sync = if durable { self.file.sync_data() } else { Ok(()) };
        sync.and_then(|()| fs::rename(&self.path, &name)).context(|| format!("write {}", name.display()))?;
        Ok((digest, self.size))
    }
}

impl Write for Incoming {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.file.write(bytes)?;
        self.hash.update(&bytes[..count]);
        self.size += count as u64;
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for Incoming {
    fn drop(&mut self) {
        // Gone already if it was kept.
        let _ = fs::remove_file(&self.path);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_counted_outside_of_strings() {
        for (text, count) in [("1", 1), ("[1,2]", 3), (r#"{"a,[{":"\",[","b":[]}"#, 4), ("[[[[", 5)] {
            assert_eq!(values(text.as_bytes()), count, "{text}");
        }
        let large = format!("[{}0]", "0,".repeat(VALUES_LIMIT));
        assert!(read_limited(large.as_bytes(), "it").unwrap_err().to_string().contains("more than 65536 values"));
        assert!(read_limited(&large.as_bytes()[4..], "it").is_ok());
    }
}
