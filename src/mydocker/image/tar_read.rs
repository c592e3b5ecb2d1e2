//! Reads tar archives entry by entry: ustar, pax and GNU, with their sparse files. The crate `tar` knows the fields of a
//! header; the framing is here, since its own loses binary extended attributes, knows no sparse files of pax, and reads
//! names of any length into memory.

use crate::sys::{Context, Error, Result};
use std::io::{self, BufRead};
use std::ops::Range;
use tar::{EntryType, GnuExtSparseHeader, GnuSparseHeader, Header};

const BLOCK: u64 = 512;

/// Longest name and longest target of a link in bytes: `PATH_MAX` without its NUL. Nothing can be
/// made under a longer one.
pub(super) const PATH_LIMIT: usize = 4095;

/// Longest pax header in bytes: all extended attributes of one entry are in it.
const META_LIMIT: u64 = 1 << 20;

/// Most pieces of a sparse file.
const PIECES_LIMIT: usize = 1 << 16;

/// One member of an archive.
#[derive(Debug, Default)]
pub(super) struct Entry {
    pub path: Vec<u8>,
    pub link: Vec<u8>,
    pub kind: Kind,
    /// Permission bits with set-user-id, set-group-id and sticky.
    pub mode: u32,
    pub uid: u64,
    pub gid: u64,
    /// Seconds and nanoseconds since the epoch.
    pub mtime: (i64, u32),
    /// Length of the file, holes included.
    pub size: u64,
    pub device: (u32, u32),
    pub xattrs: Vec<(Vec<u8>, Vec<u8>)>,
    /// Where the data of a sparse file belongs, in order.
    pub pieces: Option<Vec<Range<u64>>>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) enum Kind {
    #[default]
    File,
    Dir,
    Symlink,
    HardLink,
    Char,
    Block,
    Fifo,
}

/// The entries of an archive; the data of the present one is read from it with [`Entries::data`].
pub(super) struct Entries<R> {
    source: R,
    /// Bytes of the present entry's data that were not read.
    left: u64,
    padding: u64,
}

/// Headers that speak of the entry after them.
#[derive(Default)]
struct Ahead {
    path: Option<Vec<u8>>,
    link: Option<Vec<u8>>,
    /// As it is: taken apart, a million tiny records would take a hundred times the room.
    pax: Vec<u8>,
}

impl<R: BufRead> Entries<R> {
    pub fn new(source: R) -> Self {
        Self { source, left: 0, padding: 0 }
    }

    /// The next entry, or `None` at the end: two empty blocks by the standard, but one or the bare end of file do too.
    pub fn next(&mut self) -> Result<Option<Entry>> {
        self.skip()?;
        let mut ahead = Ahead::default();
        loop {
            let mut header = Header::new_old();
            if !self.block(header.as_mut_bytes())? || header.as_bytes().iter().all(|b| *b == 0) {
                return Ok(None);
            }
            let size = check(&header)?;
            let kind = header.entry_type();
            if kind.is_gnu_longname() {
                ahead.path = Some(self.text(size)?);
            } else if kind.is_gnu_longlink() {
                ahead.link = Some(self.text(size)?);
            } else if kind.is_pax_local_extensions() {
                ahead.pax = self.meta(size, META_LIMIT)?;
            } else if kind.is_pax_global_extensions() {
                self.meta(size, META_LIMIT)?; // a comment in practice (git archive)
            } else {
                return self.entry(&header, ahead).map(Some);
            }
        }
    }

    fn entry(&mut self, header: &Header, ahead: Ahead) -> Result<Entry> {
        let mut entry = Entry { path: header.path_bytes().into_owned(), ..Entry::default() };
        entry.link = header.link_name_bytes().map(|link| link.into_owned()).unwrap_or_default();
        let stored = of_header(&mut entry, header)?;
        let mut sparse = Sparse::default();
        let stored = of_pax(&mut entry, &mut sparse, &ahead.pax)?.unwrap_or(stored);
        entry.path = ahead.path.unwrap_or(entry.path);
        entry.link = ahead.link.unwrap_or(entry.link);
        (self.left, self.padding) = match entry.kind {
            Kind::File => (stored, padding(stored)),
            // Some write the size of a link's target, and no data.
            _ => (0, 0),
        };
        entry.size = self.left;
        if header.entry_type().is_gnu_sparse() {
            self.gnu_sparse(&mut entry, header)?;
        } else if sparse.found {
            self.pax_sparse(&mut entry, sparse)?;
        }
        match entry.path.len().max(entry.link.len()) {
            length if length > PATH_LIMIT => Err(too_long(length as u64, PATH_LIMIT as u64)),
            _ => Ok(entry),
        }
    }

    /// The old GNU format: four pieces in the header, more in blocks that follow it.
    fn gnu_sparse(&mut self, entry: &mut Entry, header: &Header) -> Result<()> {
        let gnu = header.as_gnu().ok_or_else(|| bad("a sparse file without a GNU header"))?;
        let mut pieces = Pieces::default();
        pieces.add_all(&gnu.sparse)?;
        let mut more = gnu.is_extended();
        while more {
            let mut next = GnuExtSparseHeader::new();
            if !self.block(next.as_mut_bytes())? {
                return Err(bad("it ends early"));
            }
            pieces.add_all(next.sparse())?;
            more = next.is_extended();
        }
        entry.size = gnu.real_size().map_err(|_| bad("a sparse file without a size"))?;
        entry.pieces = Some(pieces.checked(entry.size, self.left)?);
        Ok(())
    }

    /// The formats of pax: 0.0 and 0.1 have the map in the header, 1.0 before the data.
    fn pax_sparse(&mut self, entry: &mut Entry, sparse: Sparse) -> Result<()> {
        let numbers = if sparse.major == 1 { self.sparse_map()? } else { sparse.map };
        let mut pieces = Pieces::default();
        for pair in numbers.chunks(2) {
            let [offset, length] = pair else { return Err(bad("the map of a sparse file")) };
            pieces.add(*offset, *length)?;
        }
        entry.size = sparse.size.ok_or_else(|| bad("a sparse file without a size"))?;
        entry.path = sparse.name.unwrap_or_else(|| std::mem::take(&mut entry.path));
        entry.pieces = Some(pieces.checked(entry.size, self.left)?);
        Ok(())
    }

    /// The map before the data: the count first, then an offset and a length for each piece, each
    /// number on a line of its own.
    fn sparse_map(&mut self) -> Result<Vec<u64>> {
        let (mut numbers, mut wanted) = (Vec::new(), None);
        let (mut block, mut digits) = ([0; BLOCK as usize], Vec::new());
        while wanted != Some(numbers.len()) {
            self.data_exact(&mut block)?;
            for &byte in &block {
                match byte {
                    b'0'..=b'9' if digits.len() < 20 => digits.push(byte),
                    b'\n' if !digits.is_empty() => {
                        let number = number(&std::mem::take(&mut digits))?;
                        if wanted.is_some() {
                            numbers.push(number);
                        } else {
                            let count = usize::try_from(number).ok().filter(|count| *count <= PIECES_LIMIT);
                            wanted = Some(count.ok_or_else(too_many_pieces)? * 2);
                        }
                        if wanted == Some(numbers.len()) {
                            break; // the rest of the block is padding
                        }
                    }
                    _ => return Err(bad("the map of a sparse file")),
                }
            }
        }
        Ok(numbers)
    }

    /// Some of the data of the present entry, at most `limit` bytes; nothing at its end. [`Entries::used`] says how much of it was taken.
    pub fn data(&mut self, limit: u64) -> Result<&[u8]> {
        let limit = limit.min(self.left);
        if limit == 0 {
            return Ok(&[]);
        }
        let data = self.source.fill_buf().context(|| READ)?;
        if data.is_empty() {
            return Err(bad("it ends early"));
        }
        Ok(&data[..data.len().min(usize::try_from(limit).unwrap_or(usize::MAX))])
    }

    pub fn used(&mut self, count: usize) {
        self.source.consume(count);
        self.left -= count as u64;
    }

    fn data_exact(&mut self, into: &mut [u8]) -> Result<()> {
        let mut filled = 0;
        while filled < into.len() {
            let data = self.data((into.len() - filled) as u64)?;
            if data.is_empty() {
                return Err(bad("the map of a sparse file"));
            }
            let count = data.len();
            into[filled..filled + count].copy_from_slice(data);
            self.used(count);
            filled += count;
        }
        Ok(())
    }

    /// Over what is left of the present entry.
    fn skip(&mut self) -> Result<()> {
        loop {
            let count = self.data(u64::MAX)?.len();
            if count == 0 {
                break;
            }
            self.used(count);
        }
        // The last padding of an archive is missing now and then.
        let mut left = std::mem::take(&mut self.padding) as usize;
        while left > 0 {
            let count = self.source.fill_buf().context(|| READ)?.len().min(left);
            if count == 0 {
                break;
            }
            self.source.consume(count);
            left -= count;
        }
        Ok(())
    }

    /// One block; false at the end of the file.
    fn block(&mut self, into: &mut [u8; BLOCK as usize]) -> Result<bool> {
        let mut filled = 0;
        while filled < into.len() {
            match self.source.read(&mut into[filled..]) {
                Ok(0) if filled == 0 => return Ok(false),
                Ok(0) => return Err(bad("it ends early")),
                Ok(count) => filled += count,
                Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
                Err(error) => return Err(error).context(|| READ),
            }
        }
        Ok(true)
    }

    fn meta(&mut self, size: u64, limit: u64) -> Result<Vec<u8>> {
        if size > limit {
            return Err(too_long(size, limit));
        }
        let mut bytes = vec![0; size as usize];
        (self.left, self.padding) = (size, padding(size));
        self.data_exact(&mut bytes).map_err(|_| bad("it ends early"))?;
        self.skip()?;
        Ok(bytes)
    }

    /// The text of a GNU long name, without the NUL at its end.
    fn text(&mut self, size: u64) -> Result<Vec<u8>> {
        let mut text = self.meta(size, PATH_LIMIT as u64 + 1)?;
        text.truncate(text.iter().position(|b| *b == 0).unwrap_or(text.len()));
        Ok(text)
    }
}

const READ: &str = "read the archive";

fn bad(why: &str) -> Error {
    Error::new(format!("this is not a good tar archive: {why}"))
}

fn too_long(size: u64, limit: u64) -> Error {
    bad(&format!("a name or attributes of {size} bytes, the limit is {limit}"))
}

fn too_many_pieces() -> Error {
    bad(&format!("a sparse file of more than {PIECES_LIMIT} pieces"))
}

fn padding(size: u64) -> u64 {
    size.wrapping_neg() % BLOCK
}

/// The checksum (of old programs also with signed bytes), and the size of the data.
fn check(header: &Header) -> Result<u64> {
    let bytes = header.as_bytes();
    let blanked = || bytes.iter().enumerate().map(|(at, &b)| if (148..156).contains(&at) { b' ' } else { b });
    let unsigned: u32 = blanked().map(u32::from).sum();
    let signed: i32 = blanked().map(|b| i32::from(b as i8)).sum();
    let stored = header.cksum().map_err(|_| bad("a header without a checksum"))?;
    if stored != unsigned && i64::from(stored) != i64::from(signed) {
        return Err(bad("a header with a wrong checksum"));
    }
    header.entry_size().map_err(|_| bad("a header without a size"))
}

/// What the header itself says; gives the size of the data.
fn of_header(entry: &mut Entry, header: &Header) -> Result<u64> {
    let name = || String::from_utf8_lossy(&header.path_bytes()).into_owned();
    entry.kind = match header.entry_type() {
        // Before POSIX a directory was a file whose name ends with a slash.
        EntryType::Regular | EntryType::Continuous if entry.path.ends_with(b"/") => Kind::Dir,
        EntryType::Regular | EntryType::Continuous | EntryType::GNUSparse => Kind::File,
        EntryType::Directory => Kind::Dir,
        EntryType::Symlink => Kind::Symlink,
        EntryType::Link => Kind::HardLink,
        EntryType::Char => Kind::Char,
        EntryType::Block => Kind::Block,
        EntryType::Fifo => Kind::Fifo,
        other => return Err(bad(&format!("{} is of the unknown type {:?}", name(), char::from(other.as_byte())))),
    };
    let field = |value: io::Result<u64>, field: &str| value.map_err(|_| bad(&format!("the {field} of {}", name())));
    entry.mode = field(header.mode().map(u64::from), "mode")? as u32 & 0o7777;
    entry.uid = field(header.uid(), "user")?;
    entry.gid = field(header.gid(), "group")?;
    // Archives without a time are common enough.
    entry.mtime = (header.mtime().ok().and_then(|time| i64::try_from(time).ok()).unwrap_or(0), 0);
    if matches!(entry.kind, Kind::Char | Kind::Block) {
        let part = |value: io::Result<Option<u32>>| value.ok().flatten().ok_or_else(|| bad(&format!("the device number of {}", name())));
        entry.device = (part(header.device_major())?, part(header.device_minor())?);
    }
    field(header.entry_size(), "size")
}

/// What the pax header says of a sparse file.
#[derive(Default)]
struct Sparse {
    found: bool,
    major: u64,
    size: Option<u64>,
    name: Option<Vec<u8>>,
    map: Vec<u64>,
}

/// What the pax header says instead; gives the size of the data if it says so.
fn of_pax(entry: &mut Entry, sparse: &mut Sparse, mut pax: &[u8]) -> Result<Option<u64>> {
    let mut size = None;
    while let Some((key, value)) = pax_record(&mut pax)? {
        match key {
            b"path" => entry.path = value.to_vec(),
            b"linkpath" => entry.link = value.to_vec(),
            b"size" => size = Some(number(value)?),
            b"uid" => entry.uid = number(value)?,
            b"gid" => entry.gid = number(value)?,
            b"mtime" => entry.mtime = time(value)?,
            b"GNU.sparse.major" => (sparse.found, sparse.major) = (true, number(value)?),
            b"GNU.sparse.name" => sparse.name = Some(value.to_vec()),
            b"GNU.sparse.realsize" | b"GNU.sparse.size" => (sparse.found, sparse.size) = (true, Some(number(value)?)),
            b"GNU.sparse.offset" | b"GNU.sparse.numbytes" => sparse.map.push(number(value)?),
            b"GNU.sparse.map" if !value.is_empty() => {
                sparse.map = value.split(|b| *b == b',').map(number).collect::<Result<_>>()?;
            }
            key => {
                // SCHILY is star's and GNU tar's, LIBARCHIVE's is in base64 and always beside it.
                if let Some(name) = key.strip_prefix(b"SCHILY.xattr.") {
                    entry.xattrs.push((name.to_vec(), value.to_vec()));
                }
            }
        }
    }
    Ok(size)
}

/// The next record of a pax header, `LENGTH KEY=VALUE\n`, which is taken away from its text. Values
/// may hold any byte, so only the length tells where they end.
fn pax_record<'a>(pax: &mut &'a [u8]) -> Result<Option<(&'a [u8], &'a [u8])>> {
    let (bytes, wrong) = (*pax, || bad("a malformed pax header"));
    if bytes.first().is_none_or(|b| *b == 0) {
        return Ok(None);
    }
    let space = bytes.iter().take(21).position(|b| *b == b' ').ok_or_else(wrong)?;
    let length = usize::try_from(number(&bytes[..space])?).map_err(|_| wrong())?;
    let record = bytes.get(space + 1..length).and_then(|record| record.strip_suffix(b"\n")).ok_or_else(wrong)?;
    let equals = record.iter().position(|b| *b == b'=').ok_or_else(wrong)?;
    *pax = &bytes[length..];
    Ok(Some((&record[..equals], &record[equals + 1..])))
}

fn number(digits: &[u8]) -> Result<u64> {
    let text = std::str::from_utf8(digits).ok().filter(|text| text.bytes().all(|b| b.is_ascii_digit()));
    text.and_then(|text| text.parse().ok()).ok_or_else(|| bad(&format!("{:?} is not a number", String::from_utf8_lossy(digits))))
}

/// `seconds.fraction`, and perhaps a sign.
fn time(text: &[u8]) -> Result<(i64, u32)> {
    let wrong = || bad(&format!("{:?} is not a time", String::from_utf8_lossy(text)));
    let text = std::str::from_utf8(text).map_err(|_| wrong())?;
    let (seconds, fraction) = text.split_once('.').unwrap_or((text, ""));
    let mut seconds: i64 = seconds.parse().map_err(|_| wrong())?;
    if !fraction.bytes().all(|b| b.is_ascii_digit()) {
        return Err(wrong());
    }
    let mut nanos: u32 = format!("{fraction:0<9.9}").parse().map_err(|_| wrong())?;
    if text.starts_with('-') && nanos > 0 {
        (seconds, nanos) = (seconds.checked_sub(1).ok_or_else(wrong)?, 1_000_000_000 - nanos);
    }
    Ok((seconds, nanos))
}

#[derive(Default)]
struct Pieces(Vec<Range<u64>>);

impl Pieces {
    fn add_all(&mut self, headers: &[GnuSparseHeader]) -> Result<()> {
        let wrong = |_| bad("the map of a sparse file");
        for header in headers.iter().filter(|header| !header.is_empty()) {
            self.add(header.offset().map_err(wrong)?, header.length().map_err(wrong)?)?;
        }
        Ok(())
    }

    fn add(&mut self, offset: u64, length: u64) -> Result<()> {
        let end = offset.checked_add(length).filter(|_| self.0.last().is_none_or(|last| last.end <= offset));
        self.0.push(offset..end.ok_or_else(|| bad("the map of a sparse file"))?);
        if self.0.len() > PIECES_LIMIT { Err(too_many_pieces()) } else { Ok(()) }
    }

    /// The pieces lie in the file, and the archive has as much data as they say.
    fn checked(self, size: u64, stored: u64) -> Result<Vec<Range<u64>>> {
        let sum: u64 = self.0.iter().map(|piece| piece.end - piece.start).sum();
        if self.0.last().is_some_and(|last| last.end > size) || sum > stored {
            return Err(bad("the map of a sparse file"));
        }
        Ok(self.0)
    }
}
