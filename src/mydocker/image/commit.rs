//! `commit` and `diff`: what a container changed.

use super::index::oci_digest;
use super::overlay::{Lowers, is_opaque, is_whiteout, kind, names, stat};
use super::stream::Compression;
use super::{Digest, Image, Images, Progress, Reference, Watcher, changes, tar_write};
use crate::mydocker::files::tree::{DEPTH_LIMIT, Walk};
use crate::sys::{Context, Error, Result, rfc3339_now};
use oci_spec::image::{Descriptor, MediaType};
use rustix::fs::{FileType, Mode};
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};
use std::io::{self, Write};
use std::path::{Path, PathBuf};

/// What a commit is asked for.
#[derive(Debug)]
pub struct Commit<'a> {
    /// The container's writable layer, overlayfs's `upperdir`, mounted with `redirect_dir=off` and `metacopy=off`.
    pub upper: &'a Path,
    /// What the container was made from.
    pub parent: &'a Image,
    /// The name of the new image.
    pub reference: Option<&'a Reference>,
    /// The container's own settings (`Cmd`, `Env` …), which take the place of the parent's member `config`.
    pub config: Option<&'a Map<String, Value>>,
    /// Lines of a Dockerfile, applied last.
    pub changes: &'a [String],
    /// Who did it.
    pub author: Option<&'a str>,
    /// What the history says.
    pub message: Option<&'a str>,
    /// What the container ran, for the history.
    pub command: Option<&'a str>,
}

impl Images {
    /// Makes an image of a container's changes: the layers of its parent and one more.
    pub fn commit(&self, asked: &Commit<'_>, watcher: Watcher<'_>) -> Result<Image> {
        let mut config = asked.parent.raw.as_object().cloned().unwrap_or_default();
        if let Some(own) = asked.config {
            config.insert("config".to_owned(), Value::Object(own.clone()));
        }
        changes::apply(&mut config, asked.changes)?; // before anything is touched
        self.can_start(asked.parent.layers.len() + 1)?;
        self.adding(|lease| {
            let (descriptor, diff) = self.put_layer(asked.upper, watcher)?;
            let now = rfc3339_now();
            let mut step = Map::from_iter([("created".to_owned(), json!(now))]);
            let texts = [("created_by", asked.command), ("author", asked.author), ("comment", asked.message)];
            step.extend(texts.into_iter().filter_map(|(key, text)| Some((key.to_owned(), json!(text?)))));
            config.insert("created".to_owned(), json!(now));
            // Of the parent's author nothing is known here.
            config.remove("author");
            config.extend(asked.author.map(|author| ("author".to_owned(), json!(author))));
            append(&mut config, "history", Value::Object(step));
            let rootfs = config.get_mut("rootfs").and_then(Value::as_object_mut);
            append(rootfs.ok_or_else(|| Error::new("the parent's configuration has no rootfs"))?, "diff_ids", json!(diff));
            let mut layers: Vec<Descriptor> = asked.parent.manifest.layers().iter().map(of_oci).collect();
            layers.push(descriptor);
            let manifest = self.put_image(&Value::Object(config), &layers)?;
            let image = self.add(lease, &manifest, asked.reference.map(std::slice::from_ref).unwrap_or_default())?;
            self.unpack_all(lease, &image, watcher)?;
            Ok(image)
        })
    }

    /// Stores the changes as a compressed layer; gives its descriptor and its diff id.
    fn put_layer(&self, upper: &Path, watcher: Watcher<'_>) -> Result<(Descriptor, Digest)> {
        let incoming = self.blobs.begin()?;
        // The header of gzip has neither name nor time: the same changes give the same blob.
        let gzip = flate2::write::GzEncoder::new(incoming, flate2::Compression::default());
        let mut hashed = Hashed { out: gzip, hash: Sha256::new(), size: 0, watcher };
        tar_write::layer(upper, &mut hashed)?;
        let Hashed { out, hash, .. } = hashed;
        let diff = Digest::finish(hash);
        let (digest, size) = out.finish().context(|| "compress the layer")?.keep(None, true)?;
        Ok((Descriptor::new(Compression::Gzip.media_type(), size, oci_digest(&digest)?), diff))
    }
}

fn append(map: &mut Map<String, Value>, key: &str, value: Value) {
    match map.get_mut(key) {
        Some(Value::Array(list)) => list.push(value),
        _ => drop(map.insert(key.to_owned(), json!([value]))),
    }
}

/// A layer's descriptor with the media type of OCI: a manifest has one kind only.
fn of_oci(layer: &Descriptor) -> Descriptor {
    let media = match layer.media_type().as_ref() {
        "application/vnd.docker.image.rootfs.diff.tar.gzip" => MediaType::ImageLayerGzip,
        "application/vnd.docker.image.rootfs.diff.tar" => MediaType::ImageLayer,
        _ => layer.media_type().clone(),
    };
    Descriptor::new(media, layer.size(), layer.digest().clone())
}

/// Hashes what goes into the compressor.
struct Hashed<'a, 'b, W> {
    out: W,
    hash: Sha256,
    size: u64,
    watcher: &'a mut (dyn FnMut(Progress<'_>) + 'b),
}

impl<W: Write> Write for Hashed<'_, '_, W> {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let count = self.out.write(bytes)?;
        self.hash.update(&bytes[..count]);
        let before = self.size;
        self.size += count as u64;
        if before >> 20 != self.size >> 20 {
            (self.watcher)(Progress { doing: "commit", what: "layer", done: self.size, total: None });
        }
        Ok(count)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(()) // a flush in the middle would only make the archive larger
    }
}

/// One line of `docker diff`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Difference {
    /// From the root of the container.
    pub path: PathBuf,
    /// `A` added, `C` changed, `D` deleted.
    pub kind: char,
}

/// What a writable layer changes in the layers below it (topmost first), by path.
pub fn diff(upper: &Path, lowers: &[PathBuf]) -> Result<Vec<Difference>> {
    let root = rustix::fs::open(upper, super::overlay::DIRECTORY, Mode::empty()).context(|| format!("open {}", upper.display()))?;
    let mut walk = Walk::new(root).context(|| format!("open {}", upper.display()))?;
    let mut found = Vec::new();
    compare(&mut walk, &Lowers::open(lowers)?, &mut Vec::new(), &mut found)?;
    found.sort();
    Ok(found)
}

fn compare(walk: &mut Walk, lowers: &Lowers, path: &mut Vec<Vec<u8>>, found: &mut Vec<Difference>) -> Result<()> {
    if path.len() > DEPTH_LIMIT {
        return Err(Error::new(format!("the changes are deeper than {DEPTH_LIMIT} directories")));
    }
    let here = names(walk.top())?;
    if !path.is_empty() && is_opaque(walk.top()) {
        let shown = lowers.names(&path.iter().map(Vec::as_slice).collect::<Vec<_>>())?;
        for gone in shown.difference(&here) {
            path.push(gone.clone());
            found.push(difference(path, 'D'));
            path.pop();
        }
    }
    for name in here {
        let Ok(there) = stat(walk.top(), &name) else { continue }; // gone meanwhile
        path.push(name.clone());
        let below = lowers.find(&path.iter().map(Vec::as_slice).collect::<Vec<_>>());
        match (is_whiteout(&there), below.is_some()) {
            (true, true) => found.push(difference(path, 'D')),
            (true, false) => {}
            (false, true) => found.push(difference(path, 'C')),
            (false, false) => found.push(difference(path, 'A')),
        }
        if kind(&there) == FileType::Directory && walk.enter(&name).is_ok() {
            compare(walk, lowers, path, found)?;
            walk.leave().context(|| "read the changes")?;
        }
        path.pop();
    }
    Ok(())
}

fn difference(path: &[Vec<u8>], kind: char) -> Difference {
    use std::os::unix::ffi::OsStringExt;
    let bytes = path.iter().fold(Vec::new(), |mut all, name| {
        all.push(b'/');
        all.extend_from_slice(name);
        all
    });
    Difference { path: std::ffi::OsString::from_vec(bytes).into(), kind }
}
