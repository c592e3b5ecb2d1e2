//! The list of images: `index.json`.

use super::blob::{DOCUMENT_LIMIT, Digest};
use super::reference::Reference;
use super::{Images, Lease};
use crate::mydocker::files::{self, tree};
use crate::sys::{Context, Error, Result};
use oci_spec::image::{Descriptor, ImageConfiguration, ImageIndex, ImageManifest, MediaType};
use serde::Deserialize;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::path::Path;

/// Where the full reference of an image is written, image specification, "Pre-Defined Annotation Keys".
pub(super) const NAME: &str = "org.opencontainers.image.ref.name";

/// An image as it is stored.
#[derive(Clone, Debug)]
pub struct Image {
    /// The digest of the configuration, which is what docker calls the image's id.
    pub id: Digest,
    /// The digest of the manifest.
    pub digest: Digest,
    /// Full references with a tag: `docker.io/library/busybox:latest`.
    pub names: Vec<Reference>,
    /// Full references with the digest under which the image came from a registry.
    pub digests: Vec<Reference>,
    /// The configuration in types.
    pub config: ImageConfiguration,
    /// The whole configuration, also what the specification does not know (`Healthcheck`, `Shell`, `OnBuild`).
    pub raw: Value,
    /// The manifest.
    pub manifest: ImageManifest,
    /// Bytes of the manifest.
    pub(super) manifest_size: u64,
    /// The chain ids of the layers, lowest first: each stands for a layer and all below it.
    pub layers: Vec<Digest>,
}

impl Image {
    /// When it was made, RFC 3339, if it says so.
    pub fn created(&self) -> Option<&str> {
        self.config.created().as_deref()
    }

    /// `sha256:…` of the uncompressed archive of each layer, lowest first.
    pub fn diff_ids(&self) -> &[String] {
        self.config.rootfs().diff_ids()
    }

    /// How it is named to a user: its first name, or the short id.
    pub fn title(&self) -> String {
        self.names.first().map_or_else(|| self.id.short().to_owned(), Reference::familiar)
    }
}

/// What [`Images::remove`] did, in docker's words.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Removed {
    /// A name is gone.
    Untagged(String),
    /// The image is gone.
    Deleted(Digest),
}

/// `index.json`, in memory.
pub(super) struct Index(ImageIndex);

impl Index {
    /// The manifests, each with its names, in the order in which they came.
    fn images(&self) -> Vec<(Digest, Vec<Reference>)> {
        let mut all: Vec<(Digest, Vec<Reference>)> = Vec::new();
        for descriptor in self.0.manifests() {
            let Ok(digest) = Digest::parse(descriptor.digest().as_ref()) else { continue };
            let name = name_of(descriptor).and_then(|name| Reference::parse(name).ok());
            match all.iter_mut().find(|(known, _)| *known == digest) {
                Some((_, names)) => names.extend(name),
                None => all.push((digest, name.into_iter().collect())),
            }
        }
        all
    }

    /// Gives the image a name, taking it from whoever has it; that one stays, if without a name.
    pub fn name(&mut self, descriptor: &Descriptor, name: Option<&Reference>) {
        let mut manifests = self.0.manifests().clone();
        if let Some(name) = name.map(Reference::to_string) {
            take_name(&mut manifests, &name);
            // The entry without a name is not needed beside one that has one.
            manifests.retain(|other| other.digest() != descriptor.digest() || name_of(other).is_some());
            let mut named = bare(descriptor);
            named.set_annotations(Some(HashMap::from([(NAME.to_owned(), name)])));
            manifests.push(named);
        } else if !manifests.iter().any(|other| other.digest() == descriptor.digest()) {
            manifests.push(bare(descriptor));
        }
        self.0.set_manifests(manifests);
    }

    /// Takes a name away; the image stays.
    fn unname(&mut self, name: &Reference) {
        let mut manifests = self.0.manifests().clone();
        take_name(&mut manifests, &name.to_string());
        self.0.set_manifests(manifests);
    }

    fn forget(&mut self, digest: &Digest) {
        let keep = |other: &&Descriptor| other.digest().to_string() != digest.as_str();
        let manifests = self.0.manifests().iter().filter(keep).cloned().collect::<Vec<_>>();
        self.0.set_manifests(manifests);
    }

    /// Removes an image that cannot be read, by name or by the digest of its manifest; `None` if there is none.
    fn forget_damaged(&mut self, what: &str) -> Option<Vec<Removed>> {
        let asked = Reference::parse(what).ok();
        let named = |(digest, names): &(Digest, Vec<Reference>)| {
            digest.as_str() == what || asked.as_ref().is_some_and(|asked| is_named(digest, names, asked))
        };
        let (digest, names) = self.images().into_iter().find(named)?;
        self.forget(&digest);
        Some(names.iter().map(|name| Removed::Untagged(name.familiar())).chain([Removed::Deleted(digest)]).collect())
    }
}

fn name_of(descriptor: &Descriptor) -> Option<&String> {
    descriptor.annotations().as_ref()?.get(NAME)
}

fn bare(descriptor: &Descriptor) -> Descriptor {
    Descriptor::new(descriptor.media_type().clone(), descriptor.size(), descriptor.digest().clone())
}

fn take_name(manifests: &mut Vec<Descriptor>, name: &str) {
    let Some(at) = manifests.iter().position(|other| name_of(other).is_some_and(|other| other == name)) else { return };
    let old = manifests.remove(at);
    if !manifests.iter().any(|other| other.digest() == old.digest()) {
        manifests.insert(at, bare(&old));
    }
}

impl Images {
    pub(super) fn index(&self) -> Result<Index> {
        let path = self.layout.join("index.json");
        let index: Option<ImageIndex> = files::read_json(&path)?;
        Ok(Index(index.unwrap_or_else(|| {
            let mut empty = ImageIndex::default();
            empty.set_schema_version(2).set_media_type(Some(MediaType::ImageIndex));
            empty
        })))
    }

    /// Changes `index.json` in one step, under its lock.
    pub(super) fn change<T>(&self, change: impl FnOnce(&mut Index) -> Result<T>) -> Result<T> {
        let _lock = self.hold()?;
        let mut index = self.index()?;
        let before = index.0.clone();
        let done = change(&mut index)?;
        if before != index.0 {
            files::write_json(&self.layout.join("index.json"), &index.0, files::Keep::Always)?;
        }
        Ok(done)
    }

    /// All images, in the order in which they came, but for those that [`Images::damaged`] tells of.
    pub fn list(&self) -> Result<Vec<Image>> {
        Ok(self.index()?.images().into_iter().filter_map(|(digest, names)| self.image(digest, names).ok()).collect())
    }

    /// The images that cannot be read, each with its first name or its digest, and why. They are removed by force, and come back by a pull.
    pub fn damaged(&self) -> Result<Vec<(String, Error)>> {
        let title = |digest: &Digest, names: &[Reference]| names.first().map_or_else(|| digest.to_string(), Reference::familiar);
        let all = self.index()?.images().into_iter();
        Ok(all.filter_map(|(digest, names)| Some((title(&digest, &names), self.image(digest, names).err()?))).collect())
    }

    /// One image by its reference, by its id or a unique beginning of it, or by its digest.
    pub fn resolve(&self, what: &str) -> Result<Image> {
        self.find(what)?.ok_or_else(|| Error::new(format!("no such image: {what}")))
    }

    /// [`Images::resolve`]; `None` if there is no such image.
    pub fn find(&self, what: &str) -> Result<Option<Image>> {
        let all = self.index()?.images();
        if let Ok(reference) = Reference::parse(what) {
            let found = all.iter().find(|(digest, names)| is_named(digest, names, &reference));
            if let Some((digest, names)) = found {
                return self.image(digest.clone(), names.clone()).map(Some);
            }
        }
        let prefix = what.strip_prefix("sha256:").unwrap_or(what);
        if prefix.is_empty() || prefix.len() > 64 || !prefix.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b)) {
            Reference::parse(what)?; // a sentence for what is neither
            return Ok(None);
        }
        let mut found: BTreeMap<Digest, Image> = BTreeMap::new();
        for (digest, names) in all {
            let Ok(image) = self.image(digest, names) else { continue };
            if image.id.hex().starts_with(prefix) || image.digest.hex() == prefix {
                found.insert(image.id.clone(), image);
            }
        }
        if found.len() > 1 {
            return Err(Error::new(format!("{what} is the beginning of the ids of {} images", found.len())).hint("give more digits"));
        }
        Ok(found.into_values().next())
    }

    /// Reads manifest and configuration, which must agree.
    pub(super) fn image(&self, digest: Digest, names: Vec<Reference>) -> Result<Image> {
        let (manifest, manifest_size) = {
            let text = self.blobs.document(&digest)?;
            (parse_manifest(&text, &digest)?, text.len() as u64)
        };
        let id = Digest::parse(manifest.config().digest().as_ref())?;
        let (config, raw) = parse_config(&self.blobs.document(&id)?, &id)?;
        let diffs = config.rootfs().diff_ids();
        if diffs.len() != manifest.layers().len() {
            let (said, has) = (diffs.len(), manifest.layers().len());
            return Err(Error::new(format!("the manifest {digest} has {has} layers, and its configuration speaks of {said}")));
        }
        let layers = super::layers::chain(diffs)?;
        let (digests, names) = names.into_iter().partition(|name| name.digest().is_some());
        Ok(Image { id, digest, names, digests, config, raw, manifest, manifest_size, layers })
    }

    /// Names what was added. The caller holds a lease, so that the blobs it brought are all there.
    pub(super) fn add(&self, _lease: &Lease, manifest: &Digest, names: &[Reference]) -> Result<Image> {
        let descriptor = {
            let bytes = self.blobs.document(manifest)?;
            let document = parse_manifest(&bytes, manifest)?;
            for blob in [document.config()].into_iter().chain(document.layers()) {
                let digest = Digest::parse(blob.digest().as_ref())?;
                if self.blobs.size(&digest) != Some(blob.size()) {
                    return Err(Error::new(format!(
                        "the manifest {manifest} names the blob {digest} of {} bytes, which is not there",
                        blob.size()
                    )));
                }
            }
            let media = document.media_type().clone().unwrap_or(MediaType::ImageManifest);
            Descriptor::new(media, bytes.len() as u64, oci_digest(manifest)?)
        };
        self.image(manifest.clone(), Vec::new())?;
        let all = self.change(|index| {
            if names.is_empty() {
                index.name(&descriptor, None);
            }
            names.iter().for_each(|name| index.name(&descriptor, Some(name)));
            Ok(index.images())
        })?;
        let names = all.into_iter().find(|(digest, _)| digest == manifest).map(|(_, names)| names).unwrap_or_default();
        self.image(manifest.clone(), names)
    }

    /// Gives an image one more name.
    pub fn tag(&self, what: &str, name: &Reference) -> Result<()> {
        if name.digest().is_some() {
            return Err(Error::new(format!("{name} has a digest and cannot be given as a name")));
        }
        self.change(|index| {
            let image = self.resolve(what)?;
            let found = index.0.manifests().iter().find(|other| other.digest().to_string() == image.digest.as_str()).cloned();
            index.name(&found.ok_or_else(|| Error::new(format!("no such image: {what}")))?, Some(name));
            Ok(())
        })
    }

    /// Takes a name away, and removes the image with its last one, as `docker rmi` does. `used` tells by which container an image
    /// is used, if any; it is asked under the lock of [`Images::hold`], so that nobody can begin to use one. A used image is never removed: with `force` it loses its name.
    pub fn remove(&self, what: &str, force: bool, used: &dyn Fn(&Image) -> Option<String>) -> Result<Vec<Removed>> {
        let removed = self.change(|index| {
            let image = match self.resolve(what) {
                Err(error) => return if force { index.forget_damaged(what).ok_or(error) } else { Err(error) },
                Ok(image) => image,
            };
            let names: Vec<&Reference> = image.names.iter().chain(&image.digests).collect();
            let asked = Reference::parse(what).ok().filter(|asked| names.contains(&asked));
            let user = used(&image);
            let going: Vec<&Reference> = match &asked {
                // With its last tag an image also loses the digests it came with.
                Some(asked) if asked.digest().is_none() && image.names.len() == 1 => names,
                Some(asked) if image.names.len() + image.digests.len() > 1 => vec![asked],
                None if image.names.len() > 1 && !force => {
                    let familiar: Vec<_> = image.names.iter().map(Reference::familiar).collect();
                    return Err(Error::new(format!("image {what} has several names: {}", familiar.join(", "))).hint("-f removes them all"));
                }
                _ => names,
            };
            let last = going.len() == image.names.len() + image.digests.len();
            if let Some(user) = user.as_ref().filter(|_| last && (!force || going.is_empty())) {
                return Err(Error::new(format!("image {what} is used by container {user}")).hint("remove the container first"));
            }
            let mut removed: Vec<Removed> = going.iter().map(|name| Removed::Untagged(name.familiar())).collect();
            going.iter().for_each(|name| index.unname(name));
            if last && user.is_none() {
                index.forget(&image.digest);
                removed.push(Removed::Deleted(image.id.clone()));
            }
            Ok(removed)
        })?;
        self.sweep()?;
        Ok(removed)
    }

    /// Removes the images without a name that no container uses, or with `all` every unused one; gives what was done and the bytes that became free.
    pub fn prune(&self, all: bool, used: &dyn Fn(&Image) -> Option<String>) -> Result<(Vec<Removed>, u64)> {
        let removed = self.change(|index| {
            let mut removed = Vec::new();
            for image in self.list()? {
                if (!all && !image.names.is_empty()) || used(&image).is_some() {
                    continue;
                }
                removed.extend(image.names.iter().map(|name| Removed::Untagged(name.familiar())));
                index.forget(&image.digest);
                removed.push(Removed::Deleted(image.id));
            }
            Ok(removed)
        })?;
        Ok((removed, self.sweep()?))
    }

    /// See [`Images::sweep`]; the caller has the lease for himself.
    pub(super) fn sweep_all(&self) -> Result<u64> {
        let (mut blobs, mut layers) = (BTreeSet::new(), BTreeSet::new());
        for (digest, _) in self.index()?.images() {
            blobs.insert(digest.hex().to_owned());
            // An image that cannot be read any more keeps its manifest; what that names is kept as far as it can be told.
            let Ok(manifest) = self.blobs.document(&digest).and_then(|text| parse_manifest(&text, &digest)) else { continue };
            let all = [manifest.config()].into_iter().chain(manifest.layers());
            blobs.extend(all.map(|blob| blob.digest().digest().to_owned()));
            if let Ok(image) = self.image(digest, Vec::new()) {
                layers.extend(if image.layers.is_empty() { vec![super::layers::empty_chain()] } else { image.layers });
            }
        }
        let keep = self.layer_files(&layers)?;
        Ok(sweep(&self.blobs.dir, &blobs)? + sweep(&self.blobs.ingest, &BTreeSet::new())? + sweep(&self.layers, &keep)?)
    }
}

/// Removes everything in a directory but what is kept; gives the bytes of what was removed.
fn sweep(dir: &Path, keep: &BTreeSet<String>) -> Result<u64> {
    let mut freed = 0;
    for entry in fs::read_dir(dir).context(|| format!("read {}", dir.display()))? {
        let entry = entry.context(|| format!("read {}", dir.display()))?;
        if keep.contains(entry.file_name().to_string_lossy().as_ref()) {
            continue;
        }
        freed += tree::size(&entry.path()).disk;
        tree::remove_path(&entry.path()).context(|| format!("remove {}", entry.path().display()))?;
    }
    Ok(freed)
}

/// Whether an image is what the reference asks for; a digest counts, whatever tag stands beside it.
fn is_named(digest: &Digest, names: &[Reference], asked: &Reference) -> bool {
    match asked.digest() {
        None => names.contains(asked),
        Some(wanted) => names.iter().any(|name| {
            name.repository() == asked.repository() && (name.digest() == Some(wanted) || (digest == wanted && name.digest().is_none()))
        }),
    }
}

pub(super) fn oci_digest(digest: &Digest) -> Result<oci_spec::image::Digest> {
    digest.as_str().parse().map_err(|e| Error::new(format!("{digest}: {e}")))
}

/// A manifest of an image, of OCI or of docker (version 2, schema 2), with digests that this store can check.
pub(super) fn parse_manifest(text: &[u8], what: &Digest) -> Result<ImageManifest> {
    let bad = |why: &str| Error::new(format!("{what} is not the manifest of an image: {why}"));
    let manifest: ImageManifest = serde_json::from_slice(text).map_err(|e| bad(&e.to_string()))?;
    if manifest.schema_version() != 2 {
        return Err(bad(&format!("its schemaVersion is {}", manifest.schema_version())));
    }
    if manifest.config().size() > DOCUMENT_LIMIT {
        return Err(bad("its configuration is too large"));
    }
    for blob in [manifest.config()].into_iter().chain(manifest.layers()) {
        Digest::parse(blob.digest().as_ref()).map_err(|e| bad(&e.to_string()))?;
    }
    Ok(manifest)
}

/// The configuration of an image in types and as it is.
pub(super) fn parse_config(text: &[u8], what: &Digest) -> Result<(ImageConfiguration, Value)> {
    let bad = |why: String| Error::new(format!("{what} is not the configuration of an image: {why}"));
    let raw: Value = serde_json::from_slice(text).map_err(|e| bad(e.to_string()))?;
    let mut config = ImageConfiguration::deserialize(&raw).map_err(|e| bad(e.to_string()))?;
    // Sets of JSON come in any order.
    if let Some(mut inner) = config.config().clone() {
        let sorted = |list: &Option<Vec<String>>| {
            list.clone().map(|mut list| {
                list.sort();
                list
            })
        };
        let (ports, volumes) = (sorted(inner.exposed_ports()), sorted(inner.volumes()));
        inner.set_exposed_ports(ports).set_volumes(volumes);
        config.set_config(Some(inner));
    }
    Ok((config, raw))
}
