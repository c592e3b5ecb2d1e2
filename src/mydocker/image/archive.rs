//! `load` and `save`: images in one tar file, as docker and podman exchange them.
//!
//! What is written is an OCI image layout with docker's `manifest.json` beside it, as docker itself has done since version 25; older
//! ones and podman read the same file. What is read is that, either half alone, and the older form with one directory for each layer.

use super::index::{NAME, oci_digest, parse_manifest};
use super::stream::{Compression, decompress, detect};
use super::tar_read::{Entries, Entry, Kind};
use super::tar_write::Writer;
use super::{Digest, Image, Images, Lease, Progress, Reference, Watcher};
use crate::sys::{Context, Error, Result};
use oci_spec::image::{Descriptor, ImageIndex, MediaType};
use serde::Deserialize;
use serde_json::json;
use std::collections::{BTreeMap, BTreeSet};
use std::io::{BufReader, Read, Write};

/// Where containerd, and so docker, writes the full name.
const CONTAINERD_NAME: &str = "io.containerd.image.name";

/// Most bytes that the names in an archive of images may take in memory, each with what is kept
/// beside it.
const NAMES_LIMIT: usize = 16 << 20;

/// What is kept beside a name: a digest, a size, and the links of the map.
const NAME_COST: usize = 256;

/// Most images in one archive, most names of all of them together, and most indexes that are read
/// to find them.
const IMAGES_LIMIT: usize = 1000;

/// An index in an index in an index is no image.
const NESTING_LIMIT: usize = 4;

/// One image in docker's `manifest.json`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct DockerImage {
    config: String,
    repo_tags: Option<Vec<String>>,
    layers: Vec<String>,
}

/// The files of an archive, which lie in the store as blobs.
#[derive(Default)]
struct Files {
    blobs: BTreeMap<String, (Digest, u64)>,
    links: BTreeMap<String, String>,
    /// Bytes that all of it takes.
    room: usize,
}

/// What a load brought: the image's id, and all names that it has now.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The digest of the configuration.
    pub id: Digest,
    /// The digest of the manifest.
    pub digest: Digest,
    /// Full references with a tag.
    pub names: Vec<Reference>,
}

/// The manifests of an archive, each with the names that it gets.
type Found = Vec<(Digest, Vec<Reference>)>;

impl Files {
    /// Makes room for one more name and, of a link, its target.
    fn reserve(&mut self, path: &str, target: &str) -> Result<()> {
        self.room = self.room.saturating_add(path.len() + target.len() + NAME_COST);
        if self.room > NAMES_LIMIT {
            let count = self.blobs.len() + self.links.len();
            return Err(Error::new(format!(
                "the archive has too many files: their names take more than {} MiB after {count}",
                NAMES_LIMIT >> 20
            )));
        }
        Ok(())
    }

    /// A file by its path; old archives of docker have links for layers that come twice.
    fn get(&self, path: &str) -> Result<&(Digest, u64)> {
        let mut path = clean(path);
        for _ in 0..8 {
            if let Some(found) = self.blobs.get(&path) {
                return Ok(found);
            }
            let Some(target) = self.links.get(&path) else { break };
            path = target.clone();
        }
        Err(Error::new(format!("the archive has no file {path}")))
    }
}

/// A path without `.` and `..`.
fn clean(path: &str) -> String {
    let mut names = Vec::new();
    for name in path.split('/') {
        match name {
            "" | "." => {}
            ".." => drop(names.pop()),
            name => names.push(name),
        }
    }
    names.join("/")
}

impl Images {
    /// Adds the images of an archive of `docker save`, `podman save` or of an OCI image layout, plain or compressed with gzip or zstd.
    pub fn load(&self, source: impl Read + Send, watcher: Watcher<'_>) -> Result<Vec<Loaded>> {
        self.adding(|lease| {
            let files = self.take_files(source, watcher)?;
            let found = if files.blobs.contains_key("index.json") {
                self.of_layout(&files)?
            } else if files.blobs.contains_key("manifest.json") {
                self.of_docker(&files)?
            } else {
                return Err(Error::new("this is no archive of images: it has neither index.json nor manifest.json")
                    .hint("a root file system becomes an image by import"));
            };
            drop(files);
            let light = |image: Image| Loaded { id: image.id, digest: image.digest, names: image.names };
            found.into_iter().map(|(manifest, names)| self.take(lease, &manifest, &names, watcher).map(light)).collect()
        })
    }

    /// Adds an image whose blobs are here. It is unpacked at once, so that a bad one is found now, before it has a name.
    pub(super) fn take(&self, lease: &Lease, manifest: &Digest, names: &[Reference], watcher: Watcher<'_>) -> Result<Image> {
        self.unpack_all(lease, &self.complete(manifest)?, watcher)?;
        self.add(lease, manifest, names)
    }

    fn take_files(&self, source: impl Read + Send, watcher: Watcher<'_>) -> Result<Files> {
        let (compression, source) = detect(source)?;
        let mut entries = Entries::new(BufReader::with_capacity(1 << 20, decompress(compression, source)?));
        let mut files = Files::default();
        while let Some(entry) = entries.next()? {
            let path = clean(&String::from_utf8_lossy(&entry.path));
            match entry.kind {
                Kind::File => {
                    files.reserve(&path, "")?;
                    let blob = self.take_file(&path, &entry, &mut entries, watcher).map_err(|e| e.within(format!("load {path}")))?;
                    files.blobs.insert(path, blob);
                }
                Kind::Symlink => {
                    let dir = path.rsplit_once('/').map_or("", |(dir, _)| dir);
                    let target = clean(&format!("{dir}/{}", String::from_utf8_lossy(&entry.link)));
                    files.reserve(&path, &target)?;
                    files.links.insert(path, target);
                }
                Kind::HardLink => {
                    let target = clean(&String::from_utf8_lossy(&entry.link));
                    files.reserve(&path, &target)?;
                    files.links.insert(path, target);
                }
                _ => {}
            }
        }
        Ok(files)
    }

    fn take_file<R: std::io::BufRead>(
        &self,
        path: &str,
        entry: &Entry,
        entries: &mut Entries<R>,
        watcher: Watcher<'_>,
    ) -> Result<(Digest, u64)> {
        let mut incoming = self.blobs.begin()?;
        let promised = path.strip_prefix("blobs/sha256/").map(|hex| Digest::parse(&format!("sha256:{hex}"))).transpose()?;
        let what = promised.as_ref().map_or(path, |digest| digest.short());
        loop {
            let bytes = entries.data(u64::MAX)?;
            if bytes.is_empty() {
                break;
            }
            incoming.write_all(bytes).context(|| "write a blob")?;
            let count = bytes.len();
            entries.used(count);
            watcher(Progress { doing: "load", what, done: incoming.size(), total: Some(entry.size) });
        }
        incoming.keep(promised.as_ref(), false)
    }

    /// The images that `index.json` lists, for this machine.
    fn of_layout(&self, files: &Files) -> Result<Found> {
        let index: ImageIndex = self.json(files, "index.json")?;
        let (mut found, mut left) = (Vec::new(), IMAGES_LIMIT);
        for descriptor in index.manifests() {
            let annotation = |key| descriptor.annotations().as_ref().and_then(|all| all.get(key));
            let name = annotation(CONTAINERD_NAME)
                // By the specification this is any text; docker writes the bare tag into it, others the whole reference.
                .or_else(|| annotation(NAME).filter(|name| name.contains([':', '/'])))
                .map(|name| Reference::parse(name))
                .transpose()?;
            if let Some(manifest) = self.for_this_machine(descriptor, 0, &mut left)? {
                found.push((manifest, name.into_iter().collect()));
                bounded(&found)?;
            }
        }
        if found.is_empty() { Err(Error::new("the archive has no image for this machine")) } else { Ok(found) }
    }

    /// The manifest that a descriptor means: itself, or of an index the first one for this machine.
    /// `left` is how many indexes may still be read: four in each other, of ten thousand entries
    /// each, have no end.
    fn for_this_machine(&self, descriptor: &Descriptor, depth: usize, left: &mut usize) -> Result<Option<Digest>> {
        let digest = Digest::parse(descriptor.digest().as_ref())?;
        if !is_index(descriptor.media_type()) {
            return Ok(Some(digest).filter(|digest| self.blobs.has(digest)));
        }
        if depth == NESTING_LIMIT {
            return Err(Error::new("an index of images is nested too deeply"));
        }
        *left = left.checked_sub(1).ok_or_else(too_many)?;
        let index: ImageIndex = serde_json::from_slice(&self.blobs.document(&digest)?)
            .map_err(|e| Error::new(format!("{digest} is not an index of images: {e}")))?;
        for candidate in super::platform::order(index.manifests()) {
            if let Some(found) = self.for_this_machine(candidate, depth + 1, left)? {
                return Ok(Some(found));
            }
        }
        Ok(None)
    }

    /// The images that docker's `manifest.json` lists; a manifest is made for each.
    fn of_docker(&self, files: &Files) -> Result<Found> {
        let list: Vec<DockerImage> = self.json(files, "manifest.json")?;
        let mut found = Vec::new();
        for image in list {
            let (config, size) = files.get(&image.config)?;
            let mut layers = Vec::new();
            for path in &image.layers {
                let (digest, size) = files.get(path)?;
                let mut start = Vec::new();
                self.blobs.open(digest)?.take(6).read_to_end(&mut start).context(|| format!("read {path}"))?;
                layers.push(Descriptor::new(Compression::of(&start)?.media_type(), *size, oci_digest(digest)?));
            }
            let manifest = json!({"schemaVersion": 2, "mediaType": MediaType::ImageManifest, "layers": layers,
                "config": Descriptor::new(MediaType::ImageConfig, *size, oci_digest(config)?)});
            let text = serde_json::to_vec(&manifest).map_err(|e| Error::new(format!("write a manifest: {e}")))?;
            let names = image.repo_tags.unwrap_or_default().iter().map(|name| Reference::parse(name)).collect::<Result<_>>()?;
            found.push((self.blobs.put(&text)?, names));
            bounded(&found)?;
        }
        Ok(found)
    }

    fn json<T: serde::de::DeserializeOwned>(&self, files: &Files, path: &str) -> Result<T> {
        let text = self.blobs.document(&files.get(path)?.0)?;
        serde_json::from_slice(&text).map_err(|e| Error::new(format!("{path} of the archive: {e}")))
    }

    /// Writes images into one archive. What was asked for by a name has that name in it, an id has none.
    pub fn save(&self, asked: &[&str], out: impl Write, watcher: Watcher<'_>) -> Result<()> {
        let mut images: Vec<(Image, Vec<Reference>)> = Vec::new();
        for what in asked {
            let image = self.resolve(what)?;
            let name = Reference::parse(what).ok().filter(|name| image.names.contains(name));
            match images.iter_mut().find(|(known, _)| known.digest == image.digest) {
                Some((_, names)) => names.extend(name),
                None => images.push((image, name.into_iter().collect())),
            }
        }
        let mut out = Writer::new(out);
        for dir in ["blobs/", "blobs/sha256/"] {
            out.entry(&Entry { path: dir.into(), kind: Kind::Dir, mode: 0o755, ..Entry::default() })?;
        }
        for digest in images.iter().flat_map(|(image, _)| blobs_of(image)).collect::<BTreeSet<_>>() {
            let file = self.blobs.open(&digest)?;
            let size = file.metadata().context(|| format!("stat the blob {digest}"))?.len();
            out.entry(&Entry { path: blob_path(&digest).into(), mode: 0o644, size, ..Entry::default() })?;
            out.data(file, size)?;
            watcher(Progress { doing: "save", what: digest.short(), done: size, total: Some(size) });
        }
        out.document("index.json", &to_json(&layout_index(&images)?)?)?;
        out.document("manifest.json", &to_json(&images.iter().map(docker_image).collect::<Vec<_>>())?)?;
        out.document("oci-layout", b"{\"imageLayoutVersion\":\"1.0.0\"}")?;
        out.finish().map(drop)
    }

    /// The image of a manifest whose blobs are here, also if it is on no list yet.
    fn complete(&self, manifest: &Digest) -> Result<Image> {
        let document = parse_manifest(&self.blobs.document(manifest)?, manifest)?;
        self.can_start(document.layers().len())?;
        for blob in [document.config()].into_iter().chain(document.layers()) {
            if !self.blobs.has(&Digest::from(blob.digest())) {
                return Err(Error::new(format!("the blob {} is missing", blob.digest())));
            }
        }
        self.image(manifest.clone(), Vec::new())
    }
}

/// Images and names are written down one by one, each time with all others.
fn bounded(found: &Found) -> Result<()> {
    let names: usize = found.iter().map(|(_, names)| names.len()).sum();
    if found.len().max(names) > IMAGES_LIMIT { Err(too_many()) } else { Ok(()) }
}

fn too_many() -> Error {
    Error::new(format!("the archive has more than {IMAGES_LIMIT} images, names or indexes"))
}

/// Whether it is a list of manifests, of OCI or of docker.
pub(super) fn is_index(media: &MediaType) -> bool {
    matches!(media.as_ref(), "application/vnd.oci.image.index.v1+json" | "application/vnd.docker.distribution.manifest.list.v2+json")
}

fn blobs_of(image: &Image) -> Vec<Digest> {
    let layers = image.manifest.layers().iter().map(|layer| Digest::from(layer.digest()));
    layers.chain([image.digest.clone(), image.id.clone()]).collect()
}

fn blob_path(digest: &Digest) -> String {
    format!("blobs/sha256/{}", digest.hex())
}

fn layout_index(images: &[(Image, Vec<Reference>)]) -> Result<serde_json::Value> {
    let mut manifests = Vec::new();
    for (image, names) in images {
        let media = image.manifest.media_type().clone().unwrap_or(MediaType::ImageManifest);
        let descriptor = json!({"mediaType": media, "digest": image.digest, "size": image.manifest_size});
        let named = names.iter().map(|name| {
            let mut descriptor = descriptor.clone();
            descriptor["annotations"] = json!({CONTAINERD_NAME: name.to_string(), NAME: name.to_string()});
            descriptor
        });
        manifests.extend(named);
        if names.is_empty() {
            manifests.push(descriptor);
        }
    }
    Ok(json!({"schemaVersion": 2, "mediaType": MediaType::ImageIndex, "manifests": manifests}))
}

fn docker_image((image, names): &(Image, Vec<Reference>)) -> serde_json::Value {
    let layers: Vec<String> = image.manifest.layers().iter().map(|layer| blob_path(&Digest::from(layer.digest()))).collect();
    let tags: Vec<String> = names.iter().map(Reference::familiar).collect();
    json!({"Config": blob_path(&image.id), "RepoTags": tags, "Layers": layers})
}

fn to_json(value: &impl serde::Serialize) -> Result<Vec<u8>> {
    serde_json::to_vec(value).map_err(|e| Error::new(format!("write the archive: {e}")))
}
