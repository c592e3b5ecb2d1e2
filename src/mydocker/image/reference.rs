//! What a user types for an image, as docker reads it (the grammar of the distribution project's package `reference`).

use super::blob::Digest;
use crate::sys::{Error, Result};
use std::fmt;

/// The registry of names that do not begin with one: docker's well-known constant.
pub const DEFAULT_DOMAIN: &str = "docker.io";

/// Where names without a directory live at [`DEFAULT_DOMAIN`].
const OFFICIAL: &str = "library/";

/// Longest `domain/path`, in bytes.
const NAME_LIMIT: usize = 255;

/// Longest tag, in bytes.
const TAG_LIMIT: usize = 128;

/// A full reference: `docker.io/library/busybox:latest`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Reference {
    domain: String,
    path: String,
    tag: Option<String>,
    digest: Option<Digest>,
}

impl Reference {
    /// Reads `[domain/]path[:tag][@digest]`; without tag and digest the tag is `latest`.
    pub fn parse(text: &str) -> Result<Self> {
        let bad = |why: &str| Error::new(format!("{text:?} is not the name of an image: {why}"));
        let (name, digest) = match text.split_once('@') {
            Some((name, digest)) => (name, Some(Digest::parse(digest).map_err(|e| bad(&e.to_string()))?)),
            None => (text, None),
        };
        let (domain, rest) = split_domain(name);
        let (path, tag) = match rest.split_once(':') {
            Some((path, tag)) => (path, Some(tag.to_owned())),
            None => (rest, None),
        };
        if name.is_empty() {
            return Err(bad("it is empty"));
        }
        if domain == DEFAULT_DOMAIN && is_hex(path, 64) {
            return Err(bad("64 hexadecimal digits would be taken for an id"));
        }
        if !is_domain(domain) {
            return Err(bad(&format!("{domain:?} is not a host name with an optional port")));
        }
        let path = if domain == DEFAULT_DOMAIN && !path.contains('/') { format!("{OFFICIAL}{path}") } else { path.to_owned() };
        if path.bytes().any(|b| b.is_ascii_uppercase()) {
            return Err(bad("it must be in lower case"));
        }
        if !path.split('/').all(is_component) {
            return Err(bad("its parts are of a-z and 0-9, joined by one '.', one or two '_', or '-'"));
        }
        if domain.len() + 1 + path.len() > NAME_LIMIT {
            return Err(bad(&format!("it is longer than {NAME_LIMIT} bytes")));
        }
        if tag.as_deref().is_some_and(|tag| !is_tag(tag)) {
            return Err(bad(&format!(
                "a tag has 1 to {TAG_LIMIT} letters, digits, '_', '.' and '-', and begins with none of the last two"
            )));
        }
        let tag = if digest.is_none() { tag.or_else(|| Some("latest".to_owned())) } else { tag };
        Ok(Self { domain: domain.to_owned(), path, tag, digest })
    }

    /// The registry: `docker.io`, `localhost:5000`.
    pub fn domain(&self) -> &str {
        &self.domain
    }

    /// The repository in the registry: `library/busybox`.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// The tag; absent only if there is a digest.
    pub fn tag(&self) -> Option<&str> {
        self.tag.as_deref()
    }

    /// The digest of the manifest, if it was given.
    pub fn digest(&self) -> Option<&Digest> {
        self.digest.as_ref()
    }

    /// `domain/path`, without tag and digest.
    pub fn repository(&self) -> String {
        format!("{}/{}", self.domain, self.path)
    }

    /// The repository as people write it: `busybox`, `someone/tool`, `localhost:5000/x`.
    pub fn familiar_repository(&self) -> String {
        if self.domain != DEFAULT_DOMAIN {
            return self.repository();
        }
        match self.path.strip_prefix(OFFICIAL) {
            // `library/a/b` is not `a/b`.
            Some(short) if !short.contains('/') => short.to_owned(),
            _ => self.path.clone(),
        }
    }

    /// The short form that people write: `busybox:latest`.
    pub fn familiar(&self) -> String {
        self.ended(self.familiar_repository())
    }

    /// Without the digest.
    pub(super) fn tagged(&self) -> Self {
        Self { digest: None, ..self.clone() }
    }

    /// The same repository with this digest and no tag.
    pub(super) fn pinned(&self, digest: &Digest) -> Self {
        Self { tag: None, digest: Some(digest.clone()), ..self.clone() }
    }

    fn ended(&self, mut text: String) -> String {
        if let Some(tag) = &self.tag {
            text += &format!(":{tag}");
        }
        if let Some(digest) = &self.digest {
            text += &format!("@{digest}");
        }
        text
    }
}

impl fmt::Display for Reference {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.ended(self.repository()))
    }
}

/// The first part is a registry if it can be no directory: it has a dot, a port or an upper-case letter, or is `localhost`.
fn split_domain(name: &str) -> (&str, &str) {
    match name.split_once('/') {
        // An old name of the same.
        Some((first, rest)) if first.strip_prefix("index.") == Some(DEFAULT_DOMAIN) => (DEFAULT_DOMAIN, rest),
        Some((first, rest)) if first.contains(['.', ':']) || first == "localhost" || first.bytes().any(|b| b.is_ascii_uppercase()) => {
            (first, rest)
        }
        _ => (DEFAULT_DOMAIN, name),
    }
}

/// A host name, an IPv4 address or an IPv6 address in brackets, and perhaps a port.
fn is_domain(domain: &str) -> bool {
    let port = |port: &str| !port.is_empty() && port.bytes().all(|b| b.is_ascii_digit());
    if let Some(rest) = domain.strip_prefix('[') {
        let Some((address, after)) = rest.split_once(']') else { return false };
        return address.parse::<std::net::Ipv6Addr>().is_ok() && (after.is_empty() || after.strip_prefix(':').is_some_and(port));
    }
    let (host, after) = domain.split_once(':').map_or((domain, None), |(host, port)| (host, Some(port)));
    let label = |label: &str| {
        let ends = |b: Option<u8>| b.is_some_and(|b| b.is_ascii_alphanumeric());
        let bytes = label.as_bytes();
        ends(bytes.first().copied()) && ends(bytes.last().copied()) && bytes.iter().all(|&b| b.is_ascii_alphanumeric() || b == b'-')
    };
    host.split('.').all(label) && after.is_none_or(port)
}

/// `[a-z0-9]+` joined by `.`, `_`, `__` or any number of `-`.
fn is_component(part: &str) -> bool {
    fn alnum(b: &u8) -> bool {
        b.is_ascii_lowercase() || b.is_ascii_digit()
    }
    let bytes = part.as_bytes();
    let ends = bytes.first().is_some_and(alnum) && bytes.last().is_some_and(alnum);
    let separator = |s: &[u8]| matches!(s, [] | b"." | b"_" | b"__") || s.iter().all(|&b| b == b'-');
    ends && bytes.split(alnum).all(separator)
}

fn is_tag(tag: &str) -> bool {
    let word = |b: u8| b.is_ascii_alphanumeric() || b == b'_';
    tag.len() <= TAG_LIMIT && tag.bytes().next().is_some_and(word) && tag.bytes().all(|b| word(b) || b == b'.' || b == b'-')
}

/// Whether it is a number of that many lower-case hexadecimal digits.
pub(super) fn is_hex(text: &str, digits: usize) -> bool {
    text.len() == digits && text.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
}
