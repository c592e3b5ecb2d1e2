//! `pull`, `push`, `login`: images to and from a registry.

use super::archive::is_index;
use super::blob::{DOCUMENT_LIMIT, read_limited};
use super::http::{Answer, Client, Sent, encode, header};
use super::index::parse_manifest;
use super::{Digest, Image, Images, Lease, Logins, Progress, Reference, Watcher, platform};
use crate::sys::{Context, Error, Result};
use oci_spec::image::{Descriptor, ImageIndex, MediaType};
use serde_json::Value;
use std::io::{Read, Write};
use ureq::http::{Method, StatusCode};

/// What we can read, in the order in which we like it.
const ACCEPT: &str = "application/vnd.oci.image.index.v1+json, application/vnd.docker.distribution.manifest.list.v2+json, \
    application/vnd.oci.image.manifest.v1+json, application/vnd.docker.distribution.manifest.v2+json";

/// How often a broken transfer is begun, the first time counted.
const ATTEMPTS: usize = 3;

/// An index that refers to an index and so on is no image.
const NESTING_LIMIT: usize = 4;

/// What a pull brought.
#[derive(Clone, Debug)]
pub struct Pulled {
    /// The image.
    pub image: Image,
    /// The digest that the registry has for the reference: that of an index, if it has several platforms.
    pub digest: Digest,
    /// Whether the name meant another image before, or none.
    pub new: bool,
}

impl Images {
    /// Fetches an image for this machine and unpacks it.
    pub fn pull(&self, reference: &Reference, logins: &Logins, watcher: Watcher<'_>) -> Result<Pulled> {
        let mut client = Client::new(reference, logins, "pull")?;
        let doing = || format!("pull {}", reference.familiar());
        self.adding(|lease| self.pull_with(lease, &mut client, reference, watcher)).map_err(|e| e.within(doing()))
    }

    fn pull_with(&self, lease: &Lease, client: &mut Client, reference: &Reference, watcher: Watcher<'_>) -> Result<Pulled> {
        let asked = reference.digest().map_or_else(|| reference.tag().unwrap_or_default().to_owned(), Digest::to_string);
        let (top, text, media) = fetch_manifest(client, &asked, reference.digest())?;
        let (digest, text) = for_this_machine(client, top.clone(), text, &media, 0)?;
        let manifest = parse_manifest(&text, &digest)?;
        self.can_start(manifest.layers().len())?; // before anything of it is fetched
        // What lies here already is not fetched again, and what the manifest does not name is never asked for.
        for blob in [manifest.config()].into_iter().chain(manifest.layers()) {
            self.fetch_blob(client, blob, watcher)?;
        }
        self.blobs.put(&text)?;
        let before = self.find(&reference.to_string())?.map(|image| image.digest);
        let mut names = vec![reference.pinned(&top)];
        if reference.tag().is_some() {
            names.insert(0, reference.tagged());
        }
        let image = self.take(lease, &digest, &names, watcher)?;
        Ok(Pulled { new: before.as_ref() != Some(&image.digest), image, digest: top })
    }

    /// Fetches a blob; one that breaks off goes on where it broke.
    fn fetch_blob(&self, client: &mut Client, blob: &Descriptor, watcher: Watcher<'_>) -> Result<()> {
        let digest = Digest::parse(blob.digest().as_ref())?;
        if self.blobs.size(&digest) == Some(blob.size()) {
            watcher(Progress { doing: "exists", what: digest.short(), done: blob.size(), total: Some(blob.size()) });
            return Ok(());
        }
        let mut incoming = self.blobs.begin()?;
        let url = client.url(&format!("blobs/{digest}"));
        let mut failed = None;
        for _ in 0..ATTEMPTS {
            let range = format!("bytes={}-", incoming.size());
            let headers: &[(&str, &str)] = if incoming.size() > 0 { &[("range", &range)] } else { &[] };
            let answer = match client.ask(&Method::GET, &url, headers) {
                Ok(answer) => answer,
                Err(error) => {
                    failed = Some(error);
                    continue;
                }
            };
            match answer.status() {
                StatusCode::PARTIAL_CONTENT if incoming.size() > 0 => {}
                StatusCode::OK => incoming.restart()?,
                status if status.is_server_error() => {
                    failed = Some(client.refused(&format!("blob {digest}"), answer));
                    continue;
                }
                _ => return Err(client.refused(&format!("blob {digest}"), answer)),
            }
            match copy(answer, &mut incoming, blob.size(), digest.short(), watcher) {
                Ok(()) if incoming.size() == blob.size() => return incoming.keep(Some(&digest), false).map(drop),
                Ok(()) => failed = Some(client.bad(&format!("the blob {digest} ends after {} of {} bytes", incoming.size(), blob.size()))),
                Err(Broken::Network(why)) => failed = Some(client.bad(&format!("the blob {digest}: {why}"))),
                Err(Broken::Ours(error)) => return Err(error),
            }
        }
        Err(failed.unwrap_or_else(|| client.bad("it gave up")))
    }

    /// Sends an image to the registry and repository of its name; gives the digest that it has there.
    pub fn push(&self, reference: &Reference, logins: &Logins, watcher: Watcher<'_>) -> Result<Digest> {
        let image = self.resolve(&reference.to_string())?;
        let tag = reference.tag().ok_or_else(|| Error::new(format!("{} has no tag to push", reference.familiar())))?;
        let mut client = Client::new(reference, logins, "pull,push")?;
        let doing = || format!("push {}", reference.familiar());
        let _lease = self.lease()?; // nothing of it goes away meanwhile
        for blob in image.manifest.layers().iter().chain([image.manifest.config()]) {
            self.send_blob(&mut client, blob, watcher).map_err(|e| e.within(doing()))?;
        }
        let text = self.blobs.document(&image.digest)?;
        let media = image.manifest.media_type().clone().unwrap_or(MediaType::ImageManifest);
        let url = client.url(&format!("manifests/{tag}"));
        let body = &mut || -> Result<Option<Sent>> { Ok(Some((text.len() as u64, Box::new(std::io::Cursor::new(text.clone()))))) };
        let answer = client.send(&Method::PUT, &url, &[("content-type", media.as_ref())], body)?;
        if answer.status() != StatusCode::CREATED {
            return Err(client.refused("take the manifest", answer).within(doing()));
        }
        Ok(image.digest)
    }

    fn send_blob(&self, client: &mut Client, blob: &Descriptor, watcher: Watcher<'_>) -> Result<()> {
        let digest = Digest::parse(blob.digest().as_ref())?;
        let (what, total) = (digest.short(), Some(blob.size()));
        let url = client.url(&format!("blobs/{digest}"));
        if client.ask(&Method::HEAD, &url, &[])?.status() == StatusCode::OK {
            watcher(Progress { doing: "exists", what, done: blob.size(), total });
            return Ok(());
        }
        let mut failed = None;
        for _ in 0..ATTEMPTS {
            watcher(Progress { doing: "push", what, done: 0, total });
            match self.send_once(client, &digest, blob.size()) {
                Ok(()) => {
                    watcher(Progress { doing: "push", what, done: blob.size(), total });
                    return Ok(());
                }
                Err((error, true)) => failed = Some(error),
                Err((error, false)) => return Err(error),
            }
        }
        Err(failed.unwrap_or_else(|| client.bad("it gave up")))
    }

    /// One upload, in one piece; the second half of an error tells whether to try again.
    fn send_once(&self, client: &mut Client, digest: &Digest, size: u64) -> std::result::Result<(), (Error, bool)> {
        let what = format!("take the blob {}", digest.short());
        let refused = |client: &Client, answer: Answer| {
            let again = answer.status().is_server_error();
            (client.refused(&what, answer), again)
        };
        let url = client.url("blobs/uploads/");
        let answer = client.ask(&Method::POST, &url, &[]).map_err(|e| (e, true))?;
        if answer.status() != StatusCode::ACCEPTED {
            return Err(refused(client, answer));
        }
        let location = client.location(&answer).map_err(|e| (e, false))?;
        let joint = if location.contains('?') { '&' } else { '?' };
        let url = format!("{location}{joint}digest={}", encode(digest.as_str()));
        let body = &mut || -> Result<Option<Sent>> { Ok(Some((size, Box::new(self.blobs.open(digest)?)))) };
        let answer = client.send(&Method::PUT, &url, &[("content-type", "application/octet-stream")], body).map_err(|e| (e, true))?;
        if answer.status() == StatusCode::CREATED { Ok(()) } else { Err(refused(client, answer)) }
    }
}

/// Asks a registry whether it knows the user, and stores the password if it does.
pub fn login(registry: &str, user: &str, password: &str, logins: &Logins) -> Result<()> {
    let nowhere = Reference::parse(&format!("{registry}/x")).ok().filter(|reference| reference.domain() == registry);
    let reference = nowhere.ok_or_else(|| Error::new(format!("{registry:?} is not the name of a registry")).hint("host or host:port"))?;
    if user.is_empty() || user.contains(':') {
        return Err(Error::new("a user's name is not empty and has no colon"));
    }
    let checked = Client::new(&reference, logins, "pull")?.check(user, password);
    let realm = checked.map_err(|e| e.within(format!("log in to {registry}")))?;
    logins.store(registry, user, password, realm.as_deref())
}

/// A manifest or an index: its digest, its text and its kind.
fn fetch_manifest(client: &mut Client, what: &str, promised: Option<&Digest>) -> Result<(Digest, Vec<u8>, String)> {
    let url = client.url(&format!("manifests/{what}"));
    let mut answer = client.ask(&Method::GET, &url, &[("accept", ACCEPT)])?;
    if answer.status() != StatusCode::OK {
        return Err(client.refused(&format!("manifest {what}"), answer));
    }
    let told = header(&answer, "docker-content-digest").and_then(|digest| Digest::parse(digest).ok());
    let kind = header(&answer, "content-type").unwrap_or_default().split(';').next().unwrap_or_default().trim().to_owned();
    let text = read_limited(answer.body_mut().as_reader(), &format!("the manifest {what}"))?;
    let digest = Digest::of(&text);
    if let Some(promised) = promised.or(told.as_ref()).filter(|promised| **promised != digest) {
        return Err(client.bad(&format!("the manifest {what} is not what was promised: {digest} instead of {promised}")));
    }
    let value: Value = serde_json::from_slice(&text).map_err(|e| client.bad(&format!("the manifest {what} is not JSON: {e}")))?;
    if value["schemaVersion"] == 1 {
        return Err(client
            .bad(&format!("{what} is of schema 1, which nobody has written for years"))
            .hint("push it again with a newer docker"));
    }
    // The document itself knows best; a header may have been made up on the way.
    let media = value["mediaType"].as_str().map_or(kind, str::to_owned);
    Ok((digest, text, media))
}

/// Follows an index to the manifest for this machine.
fn for_this_machine(client: &mut Client, digest: Digest, text: Vec<u8>, media: &str, depth: usize) -> Result<(Digest, Vec<u8>)> {
    if !is_index(&MediaType::from(media)) {
        return Ok((digest, text));
    }
    if depth == NESTING_LIMIT {
        return Err(client.bad("its index is nested too deeply"));
    }
    let index: ImageIndex = serde_json::from_slice(&text).map_err(|e| client.bad(&format!("{digest} is not an index of images: {e}")))?;
    let Some(best) = platform::order(index.manifests()).first().copied().cloned() else {
        return Err(client
            .bad(&format!("it has the image for {}", platform::list(index.manifests())))
            .hint(format!("this machine is linux/{}", super::import::architecture())));
    };
    if best.size() > DOCUMENT_LIMIT {
        return Err(client.bad("its manifest is too large"));
    }
    let wanted = Digest::parse(best.digest().as_ref())?;
    let (digest, text, media) = fetch_manifest(client, wanted.as_str(), Some(&wanted))?;
    for_this_machine(client, digest, text, &media, depth + 1)
}

/// Why a blob could not be copied.
enum Broken {
    Network(String),
    Ours(Error),
}

fn copy(
    mut answer: Answer,
    incoming: &mut super::blob::Incoming,
    size: u64,
    what: &str,
    watcher: Watcher<'_>,
) -> std::result::Result<(), Broken> {
    let mut body = answer.body_mut().as_reader();
    let mut buffer = vec![0; 1 << 17];
    loop {
        let count = match body.read(&mut buffer) {
            Ok(0) => return Ok(()),
            Ok(count) => count,
            Err(error) if error.kind() == std::io::ErrorKind::Interrupted => continue,
            Err(error) => return Err(Broken::Network(error.to_string())),
        };
        if incoming.size() + count as u64 > size {
            return Err(Broken::Ours(Error::new(format!("the blob {what} is longer than the {size} bytes that were promised"))));
        }
        incoming.write_all(&buffer[..count]).context(|| "write a blob").map_err(Broken::Ours)?;
        watcher(Progress { doing: "pull", what, done: incoming.size(), total: Some(size) });
    }
}
