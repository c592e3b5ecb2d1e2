//! Bytes on their way from a blob to a tree: the compression by its magic, and two threads, so that reading,
//! decompressing and hashing overlap with making files.

use super::Progress;
use super::blob::Digest;
use crate::sys::{Context, Error, Result};
use sha2::{Digest as _, Sha256};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, Sender, SyncSender, channel, sync_channel};

/// What goes from one thread to the other at once, in bytes.
const CHUNK: usize = 1 << 20;

/// How many chunks there are; more would only cost memory.
const CHUNKS: usize = 4;

/// Largest window of zstd, as a power of two: what a decoder keeps in memory is chosen by whoever
/// compressed. RFC 8878 (section 3.1.1.1.2) asks for 8 MiB; more than 16 MiB is used only by `zstd
/// --ultra` and `--long`.
const WINDOW_LOG: u32 = 24;

/// How a layer is compressed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Compression {
    None,
    Gzip,
    Zstd,
}

impl Compression {
    /// By the first bytes; media types lie, magic numbers do not.
    pub fn of(start: &[u8]) -> Result<Self> {
        match start {
            [0x1f, 0x8b, ..] => Ok(Self::Gzip),
            [0x28, 0xb5, 0x2f, 0xfd, ..] | [0x50..=0x5f, 0x2a, 0x4d, 0x18, ..] => Ok(Self::Zstd),
            [0xfd, b'7', b'z', b'X', b'Z', ..] => Err(Self::refused("xz", "xz -d")),
            [b'B', b'Z', b'h', ..] => Err(Self::refused("bzip2", "bzip2 -d")),
            [b'P', b'K', 3, 4, ..] => Err(Error::new("this is a zip archive, not a tar")),
            _ => Ok(Self::None),
        }
    }

    fn refused(name: &str, by: &str) -> Error {
        Error::new(format!("the archive is compressed with {name}"))
            .hint(format!("unpack it first, with {by}; gzip and zstd are read as they are"))
    }

    /// The media type of such a layer, image specification, "Media Types".
    pub fn media_type(self) -> oci_spec::image::MediaType {
        match self {
            Self::None => oci_spec::image::MediaType::ImageLayer,
            Self::Gzip => oci_spec::image::MediaType::ImageLayerGzip,
            Self::Zstd => oci_spec::image::MediaType::ImageLayerZstd,
        }
    }
}

/// A reader that was asked for its first bytes, and the compression they tell.
pub(super) fn detect<R: Read>(mut source: R) -> Result<(Compression, impl BufRead + use<R>)> {
    let mut start = Vec::new();
    source.by_ref().take(6).read_to_end(&mut start).context(|| "read the archive")?;
    Ok((Compression::of(&start)?, BufReader::with_capacity(CHUNK, io::Cursor::new(start).chain(source))))
}

/// What comes out of [`detect`] without its compression.
pub(super) fn decompress<'a, R: BufRead + Send + 'a>(compression: Compression, source: R) -> Result<Box<dyn Read + Send + 'a>> {
    Ok(match compression {
        Compression::None => Box::new(source),
        Compression::Gzip => Box::new(flate2::bufread::MultiGzDecoder::new(source)),
        Compression::Zstd => {
            let begin = || "begin to decompress";
            let mut decoder = zstd::Decoder::with_buffer(source).context(begin)?;
            decoder.window_log_max(WINDOW_LOG).context(begin)?;
            Box::new(decoder)
        }
    })
}

/// A reader that also writes down what passes.
pub(super) struct Tee<R, W> {
    pub source: R,
    pub copy: W,
}

impl<R: Read, W: Write> Read for Tee<R, W> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(into)?;
        self.copy.write_all(&into[..count])?;
        Ok(count)
    }
}

/// What has passed through [`pipe`].
#[derive(Debug)]
pub(super) struct Passed {
    pub digest: Digest,
    pub size: u64,
}

/// Reads `source` to its end and hashes it in a thread of its own, while `consume` works on what was read. No thread outlives it.
pub(super) fn pipe<T: Send>(source: impl Read + Send, consume: impl FnOnce(&mut Chunks) -> Result<T>) -> Result<(T, Passed)> {
    std::thread::scope(|scope| {
        let (full, to_consume) = sync_channel(CHUNKS);
        let (give_back, empty) = channel();
        let reader = scope.spawn(move || read_all(source, &full, &empty));
        let mut chunks = Chunks { full: to_consume, give_back, chunk: Vec::new(), at: 0 };
        let done = consume(&mut chunks).and_then(|done| {
            // What follows the end of the archive belongs to the digest.
            chunks.drain().context(|| "read the archive")?;
            Ok(done)
        });
        drop(chunks); // the reader stops at its next chunk
        let passed = reader.join().map_err(|_| Error::new("the thread that reads the archive died"))?;
        Ok((done?, passed))
    })
}

fn read_all(mut source: impl Read, full: &SyncSender<io::Result<Vec<u8>>>, empty: &Receiver<Vec<u8>>) -> Passed {
    let (mut hash, mut size) = (Sha256::new(), 0);
    loop {
        let mut chunk = empty.try_recv().unwrap_or_else(|_| vec![0; CHUNK]);
        chunk.resize(CHUNK, 0);
        let mut filled = 0;
        let mut failed = None;
        while filled < CHUNK {
            match source.read(&mut chunk[filled..]) {
                Ok(0) => break,
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => {
                    failed = Some(error);
                    break;
                }
            }
        }
        chunk.truncate(filled);
        hash.update(&chunk);
        size += filled as u64;
        let last = filled < CHUNK;
        let gone = filled > 0 && full.send(Ok(chunk)).is_err();
        if let Some(error) = failed.filter(|_| !gone) {
            let _ = full.send(Err(error));
        }
        if last || gone {
            return Passed { digest: Digest::finish(hash), size };
        }
    }
}

/// The consumer's end of [`pipe`].
pub(super) struct Chunks {
    full: Receiver<io::Result<Vec<u8>>>,
    give_back: Sender<Vec<u8>>,
    chunk: Vec<u8>,
    at: usize,
}

impl Chunks {
    fn drain(&mut self) -> io::Result<()> {
        loop {
            let length = self.fill_buf()?.len();
            if length == 0 {
                return Ok(());
            }
            self.consume(length);
        }
    }
}

impl BufRead for Chunks {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        if self.at == self.chunk.len() {
            let old = std::mem::take(&mut self.chunk);
            if old.capacity() > 0 {
                let _ = self.give_back.send(old);
            }
            self.at = 0;
            if let Ok(next) = self.full.recv() {
                self.chunk = next?;
            }
        }
        Ok(&self.chunk[self.at..])
    }

    fn consume(&mut self, count: usize) {
        self.at += count;
    }
}

impl Read for Chunks {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

/// A reader that tells how much of it was read, to [`Watched`] in another thread.
pub(super) struct Counting<R> {
    source: R,
    done: Arc<AtomicU64>,
}

impl<R> Counting<R> {
    pub fn new(source: R) -> (Self, Arc<AtomicU64>) {
        let done = Arc::new(AtomicU64::new(0));
        (Self { source, done: Arc::clone(&done) }, done)
    }
}

impl<R: Read> Read for Counting<R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.source.read(into)?;
        self.done.fetch_add(count as u64, Ordering::Relaxed);
        Ok(count)
    }
}

/// Passes what [`Counting`] counted on to the watcher, in the thread that may call it.
pub(super) struct Watched<'a, 'b, R> {
    pub chunks: R,
    pub counted: Arc<AtomicU64>,
    pub watcher: &'a mut (dyn FnMut(Progress<'_>) + 'b),
    /// What is told; `done` is what was told last.
    pub progress: Progress<'a>,
}

impl<R: BufRead> Read for Watched<'_, '_, R> {
    fn read(&mut self, into: &mut [u8]) -> io::Result<usize> {
        let count = self.fill_buf()?.read(into)?;
        self.consume(count);
        Ok(count)
    }
}

impl<R: BufRead> BufRead for Watched<'_, '_, R> {
    fn fill_buf(&mut self) -> io::Result<&[u8]> {
        let done = self.counted.load(Ordering::Relaxed);
        if done != self.progress.done {
            self.progress.done = done;
            (self.watcher)(self.progress);
        }
        self.chunks.fill_buf()
    }

    fn consume(&mut self, count: usize) {
        self.chunks.consume(count);
    }
}
