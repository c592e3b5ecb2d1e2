//! `import`: an image of one layer from the plain archive of a root file system.

use super::index::oci_digest;
use super::stream::{Counting, Tee, Watched, decompress, detect, pipe};
use super::unpack::unpack;
use super::{Digest, Image, Images, Lease, Progress, Reference, Watcher, changes};
use crate::sys::{Error, Result, rfc3339_now};
use oci_spec::image::{Descriptor, MediaType};
use serde_json::{Map, Value, json};
use std::io::Read;

/// What an import is asked for.
#[derive(Clone, Debug, Default)]
pub struct Import<'a> {
    /// The name of the new image.
    pub reference: Option<&'a Reference>,
    /// Lines of a Dockerfile: `CMD ["sh"]`.
    pub changes: &'a [String],
    /// What the history says.
    pub message: Option<&'a str>,
}

/// A layer that was added to the store.
pub(super) struct Added {
    pub descriptor: Descriptor,
    pub diff: Digest,
}

impl Images {
    /// Makes an image from an archive, plain or compressed with gzip or zstd.
    pub fn import(&self, source: impl Read + Send, asked: &Import<'_>, watcher: Watcher<'_>) -> Result<Image> {
        let mut config = Map::new();
        changes::apply(&mut config, asked.changes)?; // before anything is touched
        if let Some(reference) = asked.reference.filter(|reference| reference.digest().is_some()) {
            return Err(Error::new(format!("{reference} has a digest and cannot be given as a name")));
        }
        self.adding(|lease| {
            let added = self.add_bottom(lease, source, watcher)?;
            let mut document = new_config(config);
            document["rootfs"]["diff_ids"] = json!([added.diff]);
            document["history"] = json!([{"created": document["created"], "comment": asked.message.unwrap_or("imported from an archive")}]);
            let manifest = self.put_image(&document, &[added.descriptor])?;
            self.add(lease, &manifest, asked.reference.map(std::slice::from_ref).unwrap_or_default())
        })
    }

    /// Stores an archive as a layer with nothing below it and unpacks it, in one pass.
    fn add_bottom(&self, _lease: &Lease, source: impl Read + Send, watcher: Watcher<'_>) -> Result<Added> {
        let mut incoming = self.blobs.begin()?;
        let growing = self.grow()?;
        let (counting, counted) = Counting::new(Tee { source, copy: &mut incoming });
        let (compression, source) = detect(counting)?;
        let progress = Progress { doing: "import", what: "archive", done: 0, total: None };
        let (made, passed) = pipe(decompress(compression, source)?, |chunks| {
            unpack(&mut Watched { chunks, counted, watcher, progress }, &growing.0, &[] as &[&std::path::Path])
        })?;
        if passed.size == 0 {
            return Err(Error::new("the archive is empty"));
        }
        let (digest, size) = incoming.keep(None, true)?;
        self.keep(growing, &passed.digest, made)?;
        Ok(Added { descriptor: Descriptor::new(compression.media_type(), size, oci_digest(&digest)?), diff: passed.digest })
    }

    /// Stores configuration and manifest; gives the manifest's digest.
    pub(super) fn put_image(&self, config: &Value, layers: &[Descriptor]) -> Result<Digest> {
        let text = serde_json::to_vec(config).map_err(|e| Error::new(format!("write a configuration: {e}")))?;
        let digest = self.blobs.put(&text)?;
        let manifest = json!({
            "schemaVersion": 2,
            "mediaType": MediaType::ImageManifest,
            "config": Descriptor::new(MediaType::ImageConfig, text.len() as u64, oci_digest(&digest)?),
            "layers": layers,
        });
        let text = serde_json::to_vec(&manifest).map_err(|e| Error::new(format!("write a manifest: {e}")))?;
        self.blobs.put(&text)
    }
}

/// A configuration for this machine, without layers.
pub(super) fn new_config(inner: Map<String, Value>) -> Value {
    let mut document = json!({"created": rfc3339_now(), "architecture": architecture(), "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": []}, "history": []});
    for (key, value) in inner {
        document[key] = value;
    }
    document
}

/// The architecture of this program as Go calls it.
pub fn architecture() -> &'static str {
    match std::env::consts::ARCH {
        "x86_64" => "amd64",
        "aarch64" => "arm64",
        "x86" => "386",
        "powerpc64" => "ppc64le",
        other => other,
    }
}
