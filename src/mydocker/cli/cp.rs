//! `cp`: files between a container and the host, or a tar stream.
//!
//! Both sides are a root directory and a path below it. In a container's root no link leads out of it (openat2(2) with
//! RESOLVE_IN_ROOT, CVE-2018-15664), and what is found is held by descriptors, so that nobody can exchange it meanwhile.

use super::units;
use super::visible::visible;
use crate::mydocker::container::{Container, Containers};
use crate::mydocker::files::{Dirs, Lock};
use crate::mydocker::image::{Receive, Received, pack, receive, special};
use crate::sys::{Context, Error, Result};
use clap::Args;
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, ResolveFlags, openat2, readlinkat, statat};
use rustix::io::Errno;
use std::io::{BufReader, IsTerminal, Write};

/// `cp`.
#[derive(Args, Debug)]
pub struct Cp {
    /// Archive mode (copy all uid/gid information)
    #[arg(short, long)]
    archive: bool,
    /// Always follow symbol link in SRC_PATH
    #[arg(short = 'L', long)]
    follow_link: bool,
    /// Suppress progress output during copy
    #[arg(short, long)]
    quiet: bool,
    /// CONTAINER:PATH, a path of the host, or - for a tar archive from stdin
    #[arg(value_name = "SRC")]
    source: String,
    /// CONTAINER:PATH, a path of the host, or - for a tar archive to stdout
    #[arg(value_name = "DEST")]
    destination: String,
}

const HOLD: OFlags = OFlags::PATH.union(OFlags::CLOEXEC);

/// As many links as the kernel follows (path_resolution(7)).
const LINKS_LIMIT: usize = 40;

/// `CONTAINER:PATH`; a path that begins with `/` or `.` is the host's, whatever else it holds.
fn of_container(text: &str) -> Option<(&str, &str)> {
    if text.starts_with(['/', '.']) { None } else { text.split_once(':') }
}

/// One side.
struct Side {
    root: OwnedFd,
    /// From the root; the end is as it was typed.
    path: String,
    /// How it was typed, for messages.
    typed: String,
    resolve: ResolveFlags,
    /// The id on the host that is root's in a running container of `--userns auto`; else 0.
    first: u32,
    /// Held while a stopped container's file system is mounted.
    _lock: Option<Lock>,
}

/// A name in a directory that is held.
struct Place {
    dir: OwnedFd,
    name: Vec<u8>,
}

impl Side {
    fn host(path: &str) -> Result<Self> {
        let root = rustix::fs::open(c"/", HOLD | OFlags::DIRECTORY, Mode::empty()).context(|| "open /")?;
        let whole = std::env::current_dir().context(|| "find the working directory")?.join(path);
        let whole = whole.to_str().ok_or_else(|| Error::new(format!("the path {} is not UTF-8", whole.display())))?;
        // `join` drops what ends a path only in our eyes.
        Ok(Self { root, path: whole.to_owned(), typed: path.to_owned(), resolve: ResolveFlags::empty(), first: 0, _lock: None })
    }

    fn container(container: &Container, path: &str, typed: &str) -> Result<Self> {
        if path.is_empty() {
            return Err(Error::new(format!("{typed}: no path was given")).hint("as in: NAME:/etc/hosts"));
        }
        let lock = container.lock()?;
        let (state, record) = (container.state()?, container.record()?);
        let (root, first, lock) = match state.status.is_up() {
            true => (container.live_root(&state)?, record.first_id.unwrap_or_default(), None),
            false => (container.stopped_root(&record)?, 0, Some(lock)),
        };
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        Ok(Self { root, path: format!("/{path}"), typed: typed.to_owned(), resolve, first, _lock: lock })
    }

    fn open(&self, path: &[u8], flags: OFlags) -> rustix::io::Result<OwnedFd> {
        let path = path.iter().position(|b| *b != b'/').map_or(&b"."[..], |start| &path[start..]);
        // A rename that races with `..` is answered with EAGAIN.
        for _ in 0..64 {
            match openat2(&self.root, path, HOLD | flags, Mode::empty(), self.resolve) {
                Err(Errno::AGAIN | Errno::INTR) => {}
                other => return other,
            }
        }
        Err(Errno::AGAIN)
    }

    /// Whether it was typed as a directory: `x/`, `x/.`.
    fn as_directory(&self) -> bool {
        self.path.ends_with('/') || self.contents()
    }

    /// Whether what is in the directory is meant, not the directory: `x/.`.
    fn contents(&self) -> bool {
        let last = self.path.rsplit('/').next().unwrap_or_default();
        matches!(last, "." | "..") || self.path.trim_matches('/').is_empty()
    }

    /// The last name, as it was typed.
    fn base(&self) -> &str {
        self.path.trim_end_matches('/').rsplit('/').next().unwrap_or_default()
    }

    /// The directory and the name of it; with `follow`, of what links lead to.
    fn place(&self, follow: bool) -> Result<Place> {
        let mut path = self.path.trim_end_matches('/').as_bytes().to_vec();
        for _ in 0..LINKS_LIMIT {
            let (parent, name) = match path.iter().rposition(|b| *b == b'/') {
                Some(at) => (path[..at].to_vec(), path[at + 1..].to_vec()),
                None => (Vec::new(), path.clone()),
            };
            if matches!(&name[..], b"" | b"." | b"..") {
                let dir = self.open(&path, OFlags::DIRECTORY).context(|| self.what())?;
                return Ok(Place { dir, name: b".".to_vec() });
            }
            let dir = self.open(&parent, OFlags::DIRECTORY).context(|| self.what())?;
            match readlinkat(&dir, &name[..], Vec::new()) {
                Ok(target) if follow => {
                    let target = target.as_bytes();
                    path = if target.starts_with(b"/") { target.to_vec() } else { [&parent[..], b"/", target].concat() };
                }
                _ => return Ok(Place { dir, name }),
            }
        }
        Err(Error::new(self.what()).errno(Errno::LOOP))
    }

    fn what(&self) -> String {
        format!("could not find {}", self.typed)
    }
}

impl Place {
    fn kind(&self) -> rustix::io::Result<FileType> {
        statat(&self.dir, &self.name[..], AtFlags::SYMLINK_NOFOLLOW).map(|there| FileType::from_raw_mode(there.st_mode))
    }
}

/// `mydocker cp`.
pub fn cp(args: &Cp, dirs: &Dirs) -> Result<i32> {
    let containers = Containers::new(dirs);
    let side = |text: &str| match of_container(text) {
        Some((name, path)) => Side::container(&containers.find(name)?, path, text),
        None => Side::host(text),
    };
    match (of_container(&args.source), of_container(&args.destination)) {
        (Some(_), Some(_)) => return Err(Error::new("copying between containers is not supported")),
        (None, None) => return Err(Error::new("must specify at least one container source")),
        _ => {}
    }
    if args.destination == "-" {
        return to_stream(args, &side(&args.source)?);
    }
    let done = if args.source == "-" { from_stream(&side(&args.destination)?)? } else { between(args, &side)? };
    for path in &done.left_out {
        eprintln!("WARNING: the device node {} was not copied to the host", visible(path));
    }
    if !args.quiet && std::io::stderr().is_terminal() {
        eprintln!("Successfully copied {} to {}", units::human_size(done.bytes), args.destination);
    }
    Ok(0)
}

/// What is copied, and the name under which it is packed.
fn origin(args: &Cp, source: &Side) -> Result<(Place, Vec<u8>, bool)> {
    let place = source.place(args.follow_link || source.as_directory())?;
    let directory = place.kind().context(|| source.what())? == FileType::Directory;
    if source.as_directory() && !directory {
        return Err(Error::new(format!("{} is not a directory", source.typed)));
    }
    let shown = if source.contents() { b".".to_vec() } else { source.base().as_bytes().to_vec() };
    Ok((place, shown, directory))
}

fn to_stream(args: &Cp, source: &Side) -> Result<i32> {
    if std::io::stdout().is_terminal() {
        return Err(Error::new("cowardly refusing to copy an archive to a terminal").hint("redirect it to a file"));
    }
    let (place, shown, _) = origin(args, source)?;
    pack(place.dir.as_fd(), &place.name, &shown, source.first, std::io::stdout().lock()).map(|()| 0)
}

fn from_stream(to: &Side) -> Result<Received> {
    let refused = || format!("destination \"{}\" must be a directory", to.typed);
    let place = to.place(true)?;
    if place.kind().context(|| to.what())? != FileType::Directory {
        return Err(Error::new(refused()));
    }
    let dir = directory(&place, to)?;
    // Who made the archive said whose the files are.
    receive(BufReader::new(std::io::stdin().lock()), dir.as_fd(), Receive { first: to.first, ..Receive::default() })
}

/// The directory of a place, opened for work in it.
fn directory(place: &Place, side: &Side) -> Result<OwnedFd> {
    let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    rustix::fs::openat(&place.dir, &place.name[..], flags, Mode::empty()).context(|| format!("open {}", side.typed))
}

fn between(args: &Cp, side: &dyn Fn(&str) -> Result<Side>) -> Result<Received> {
    let (source, to) = (side(&args.source)?, side(&args.destination)?);
    let (from, mut shown, is_directory) = origin(args, &source)?;
    let place = to.place(true)?;
    let there = place.kind();
    if let Some(what) = there.ok().and_then(special) {
        let typed = &to.typed;
        return Err(Error::new(format!("invalid output path: \"{typed}\" must be a directory or a regular file: got {what}")));
    }
    let target = match there {
        Ok(FileType::Directory) => directory(&place, &to)?,
        Ok(_) if is_directory => return Err(Error::new(format!("cannot copy a directory to the file {}", to.typed))),
        Ok(_) if to.as_directory() => return Err(Error::new(format!("{} is not a directory", to.typed))),
        Err(Errno::NOENT) if to.as_directory() && !is_directory => {
            return Err(Error::new(format!("destination directory {} must exist", to.typed)));
        }
        Ok(_) | Err(Errno::NOENT) => {
            shown.clone_from(&place.name);
            let parent = Place { dir: place.dir, name: b".".to_vec() };
            directory(&parent, &to)?
        }
        Err(errno) => return Err(Error::new(to.what()).errno(errno)),
    };
    let out = of_container(&args.source).is_some();
    let owner = if args.archive {
        None
    } else if out {
        Some((rustix::process::geteuid().as_raw(), rustix::process::getegid().as_raw()))
    } else {
        Some((0, 0))
    };
    let how = Receive { owner, first: to.first, distrusted: out };
    let (reader, writer) = std::io::pipe().context(|| "make a pipe")?;
    std::thread::scope(|scope| {
        let sender = scope.spawn(move || {
            let mut out = std::io::BufWriter::with_capacity(1 << 16, writer);
            pack(from.dir.as_fd(), &from.name, &shown, source.first, &mut out).and_then(|()| out.flush().context(|| "write to a pipe"))
        });
        let done = receive(BufReader::with_capacity(1 << 16, reader), target.as_fd(), how);
        let sent = sender.join().map_err(|_| Error::new("the thread that reads died"))?;
        match (done, sent) {
            // Who reads nothing more has a reason of his own, and it is the one to tell.
            (Err(error), Err(broken)) if broken.get_errno() == Some(Errno::PIPE) => Err(error),
            (_, Err(error)) => Err(error),
            (done, Ok(())) => done,
        }
    })
}
