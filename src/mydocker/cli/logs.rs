//! `logs`: what a container wrote.

use super::args::Logs;
use super::time::{self, Nanos};
use crate::mydocker::container::{Container, Containers, Status};
use crate::mydocker::files::Dirs;
use crate::mydocker::monitor::{
    self,
    log::{Line, files},
    protocol::Hello,
};
use crate::sys::{Context, Error, Result};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use std::collections::VecDeque;
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::fs::MetadataExt;

/// Which lines, and how.
struct Wanted {
    since: Option<Nanos>,
    until: Option<Nanos>,
    timestamps: bool,
}

/// `mydocker logs`.
pub fn logs(args: &Logs, dirs: &Dirs) -> Result<i32> {
    let container = Containers::new(dirs).find(&args.container)?;
    if container.record()?.settings.log.none {
        return Err(Error::new("configured logging driver does not support reading"));
    }
    let point = |text: &Option<String>| text.as_deref().map(time::parse).transpose();
    let wanted = Wanted { since: point(&args.since)?, until: point(&args.until)?, timestamps: args.timestamps };
    let tail = match args.tail.as_str() {
        "all" => None,
        // docker takes a negative number for all.
        number => number.parse::<i64>().map_err(|_| Error::new(format!("invalid number of lines: {number:?}")))?.try_into().ok(),
    };
    let mut follower = Follower::new(&container)?;
    let mut kept: VecDeque<Line> = VecDeque::new();
    follower.read(&mut |line| {
        if !wanted.fits(&line) {
            return Ok(());
        }
        if let Some(limit) = tail {
            kept.push_back(line);
            if kept.len() > limit {
                kept.pop_front();
            }
            return Ok(());
        }
        wanted.print(&line)
    })?;
    kept.iter().try_for_each(|line| wanted.print(line))?;
    if args.follow {
        follow(&container, &mut follower, &wanted)?;
    }
    Ok(0)
}

/// New lines as they come, until the container has ended. The monitor's wire says when that is; a short wait between two
/// looks is what a file without a notification costs.
fn follow(container: &Container, follower: &mut Follower<'_>, wanted: &Wanted) -> Result<()> {
    let inotify = rustix::fs::inotify::init(rustix::fs::inotify::CreateFlags::CLOEXEC | rustix::fs::inotify::CreateFlags::NONBLOCK)
        .context(|| "watch the log")?;
    let flags =
        rustix::fs::inotify::WatchFlags::MODIFY | rustix::fs::inotify::WatchFlags::CREATE | rustix::fs::inotify::WatchFlags::MOVED_TO;
    rustix::fs::inotify::add_watch(&inotify, container.dir(), flags).context(|| "watch the log")?;
    loop {
        let state = container.state();
        let wire = monitor::attach(container, Hello::default()).ok().flatten();
        loop {
            follower.read(&mut |line| if wanted.fits(&line) { wanted.print(&line) } else { Ok(()) })?;
            if wanted.until.is_some_and(|until| time::now() > until) {
                return Ok(());
            }
            let mut fds = vec![PollFd::new(&inotify, PollFlags::IN)];
            fds.extend(wire.iter().map(|wire| PollFd::new(&wire.socket, PollFlags::RDHUP)));
            if wire.is_none() {
                break;
            }
            let _ = poll(&mut fds, Some(&Timespec { tv_sec: 1, tv_nsec: 0 }));
            let ended = fds.get(1).is_some_and(|fd| fd.revents().intersects(PollFlags::RDHUP | PollFlags::HUP | PollFlags::ERR));
            drop(fds);
            let mut space = [0; 4096];
            while rustix::io::read(&inotify, &mut space[..]).is_ok_and(|count| count > 0) {}
            if ended {
                break;
            }
        }
        follower.read(&mut |line| if wanted.fits(&line) { wanted.print(&line) } else { Ok(()) })?;
        let again = state.is_ok() && container.state().is_ok_and(|state| state.status.is_up() || state.status == Status::Restarting);
        if !again {
            return Ok(());
        }
    }
}

impl Wanted {
    fn fits(&self, line: &Line) -> bool {
        if self.since.is_none() && self.until.is_none() {
            return true;
        }
        let Some(at) = time::parse_rfc3339(&line.time) else { return true };
        self.since.is_none_or(|since| at >= since) && self.until.is_none_or(|until| at <= until)
    }

    /// stdout's lines to stdout, stderr's to stderr.
    fn print(&self, line: &Line) -> Result<()> {
        let stamp = if self.timestamps { format!("{} ", line.time) } else { String::new() };
        let text = format!("{stamp}{}", line.log);
        let written = if line.stream == "stderr" {
            std::io::stderr().lock().write_all(text.as_bytes())
        } else {
            std::io::stdout().lock().write_all(text.as_bytes()).and_then(|()| std::io::stdout().flush())
        };
        written.context(|| "write the log")
    }
}

/// Reads on where it stopped, over rotations.
struct Follower<'c> {
    container: &'c Container,
    file: Option<BufReader<File>>,
    /// An unfinished line.
    partial: String,
}

impl<'c> Follower<'c> {
    fn new(container: &'c Container) -> Result<Self> {
        Ok(Self { container, file: None, partial: String::new() })
    }

    /// Everything that is there and has not been read.
    fn read(&mut self, each: &mut dyn FnMut(Line) -> Result<()>) -> Result<()> {
        let path = self.container.log();
        if self.file.is_none() {
            let all = files(&path);
            for old in &all[..all.len() - 1] {
                if let Ok(file) = File::open(old) {
                    self.drain(&mut BufReader::new(file), each)?;
                }
            }
            self.file = File::open(&path).ok().map(BufReader::new);
        }
        loop {
            let Some(mut file) = self.file.take() else { return Ok(()) };
            self.drain(&mut file, each)?;
            let same = |open: &File| {
                let (ours, now) = (open.metadata().ok()?, std::fs::metadata(&path).ok()?);
                Some(ours.ino() == now.ino() && now.len() >= ours.len())
            };
            if same(file.get_ref()).unwrap_or(true) {
                self.file = Some(file);
                return Ok(());
            }
            // Rotated: what was written before the change of name is read; then comes the new file.
            self.drain(&mut file, each)?;
            self.file = File::open(&path).ok().map(BufReader::new);
        }
    }

    fn drain(&mut self, file: &mut BufReader<File>, each: &mut dyn FnMut(Line) -> Result<()>) -> Result<()> {
        loop {
            let count = file.read_line(&mut self.partial).context(|| "read the log")?;
            if count == 0 || !self.partial.ends_with('\n') {
                return Ok(());
            }
            let line = std::mem::take(&mut self.partial);
            // A line that a crash cut short is not the reader's fault.
            if let Ok(line) = serde_json::from_str(&line) {
                each(line)?;
            }
        }
    }
}
