//! `run`, `create`, `start`, `attach`: containers that begin, and who sits before them.

use super::args::{Attach, Create, Run, Start};
use super::session::{End, Session, detach_keys};
use super::{create, print};
use crate::mydocker::container::{Container, Containers, Record, Restart, Status, journal};
use crate::mydocker::files::Dirs;
use crate::mydocker::monitor::{
    self,
    protocol::{Frame, Hello, Wire},
};
use crate::sys::{Error, Result};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::termios::isatty;

/// `mydocker run`: the program's exit code.
pub fn run(args: &Run, dirs: &Dirs) -> Result<i32> {
    let keys = detach_keys(&args.detach_keys)?;
    if args.detach && !args.create.attach.is_empty() {
        return Err(Error::new("conflicting options: cannot specify both --attach and --detach"));
    }
    if args.create.tty && args.create.interactive && !args.detach && !isatty(rustix::stdio::stdin()) {
        return Err(Error::new("the input device is not a TTY").hint("leave -t out where the input is a pipe or a file"));
    }
    let container = create::create(&args.create, dirs)?;
    if args.detach {
        return detached(&container).map(|()| 0);
    }
    let wanted = |stream: &str| args.create.attach.is_empty() || args.create.attach.iter().any(|given| given.eq_ignore_ascii_case(stream));
    let input = args.create.interactive && wanted("stdin");
    let session =
        Session { tty: args.create.tty, input, outputs: [wanted("stdout"), wanted("stderr")], proxy: args.sig_proxy, detach: keys };
    let mut wire = monitor::begin(&container, Hello { input, output: true, foreground: true })?;
    let end = session.run(&mut wire)?;
    if end == End::Lost {
        // A foreground leaves nothing running behind, also if its monitor was killed.
        super::stop::clear(&container, &container.state()?)?;
        if args.create.rm {
            monitor::remove(&container, &container.record()?, true)?;
        }
    }
    finish(end, &container)
}

/// Starts a container in the background and prints its id.
fn detached(container: &Container) -> Result<()> {
    let mut wire = monitor::begin(container, Hello::default())?;
    started(&mut wire, container)?;
    print(&format!("{}\n", container.id()))
}

/// Waits until the container runs.
fn started(wire: &mut Wire, container: &Container) -> Result<()> {
    loop {
        let mut fds = [PollFd::new(&wire.socket, PollFlags::IN)];
        let _ = poll(&mut fds, None);
        for frame in wire.receive() {
            match frame {
                Frame::Started | Frame::Exit(_) => return Ok(()),
                Frame::Errors(text) => eprint!("{}", String::from_utf8_lossy(&text)),
                Frame::Failed(code, why) => return Err(super::with_code(code, Error::new(why))),
                _ => {}
            }
        }
        if wire.closed {
            return Err(Error::new(format!("the monitor of container {} ended before the container ran", container.id())));
        }
    }
}

fn finish(end: End, container: &Container) -> Result<i32> {
    match end {
        End::Exit(code) => Ok(code),
        End::Detached => Ok(0),
        End::Failed(code, why) => Err(super::with_code(code, Error::new(why))),
        End::Lost => {
            Err(Error::new(format!("the monitor of container {} was killed", container.id()))
                .hint("mydocker rm -f clears the container away"))
        }
    }
}

/// `mydocker create`.
pub fn create(args: &Create, dirs: &Dirs) -> Result<i32> {
    let container = create::create(args, dirs)?;
    print(&format!("{}\n", container.id())).map(|()| 0)
}

/// `mydocker start`.
pub fn start(args: &Start, dirs: &Dirs) -> Result<i32> {
    let containers = Containers::new(dirs);
    if args.by_policy {
        return by_policy(&containers);
    }
    if !(args.attach || args.interactive) {
        return super::each(&args.containers, |name| {
            let container = containers.find(name)?;
            begin(&container)?;
            print(&format!("{name}\n"))
        });
    }
    let [name] = args.containers.as_slice() else { return Err(Error::new("you cannot start and attach multiple containers at once")) };
    let container = containers.find(name)?;
    let record = container.record()?;
    if container.state()?.status.is_up() {
        return attach_to(&container, &record, args.interactive, true, detach_keys(&args.detach_keys)?);
    }
    let input = args.interactive && record.settings.interactive;
    let session = Session { tty: record.settings.tty, input, outputs: [true; 2], proxy: true, detach: detach_keys(&args.detach_keys)? };
    let mut wire = monitor::begin(&container, Hello { input, output: true, foreground: false })?;
    finish(session.run(&mut wire)?, &container)
}

/// Starts a container in the background, if it is not up.
pub fn begin(container: &Container) -> Result<()> {
    let state = container.state()?;
    match state.status {
        Status::Running | Status::Restarting => return Ok(()),
        Status::Paused => return Err(Error::new("cannot start a paused container, try unpause instead")),
        Status::Removing | Status::Dead => return Err(Error::new(format!("container {} is being removed", container.id()))),
        Status::Created | Status::Exited => {}
    }
    started(&mut monitor::begin(container, Hello::default())?, container)
}

/// `start --by-policy`: what docker's daemon does when it begins.
fn by_policy(containers: &Containers) -> Result<i32> {
    let mut wanted = Vec::new();
    for container in containers.list()? {
        // One that cannot be read is for `system doctor`, and keeps none of the others down.
        let (Ok(record), Ok(state)) = (container.record(), container.state()) else { continue };
        let policy = record.settings.restart;
        let again = policy == Restart::Always || policy == Restart::UnlessStopped && !state.stopped_by_user;
        if state.status == Status::Exited && again {
            wanted.push(container);
        }
    }
    let ids: Vec<String> = wanted.iter().map(|container| container.id().to_owned()).collect();
    super::each(&ids, |id| begin(&containers.find(id)?).and_then(|()| print(&format!("{id}\n"))))
}

/// `mydocker attach`.
pub fn attach(args: &Attach, dirs: &Dirs) -> Result<i32> {
    let container = Containers::new(dirs).find(&args.container)?;
    let record = container.record()?;
    match container.state()?.status {
        Status::Running => {}
        Status::Paused => return Err(Error::new("you cannot attach to a paused container, unpause it first")),
        Status::Restarting => return Err(Error::new("you cannot attach to a restarting container, wait until it is running")),
        _ => return Err(Error::new("you cannot attach to a stopped container, start it first")),
    }
    attach_to(&container, &record, !args.no_stdin, args.sig_proxy, detach_keys(&args.detach_keys)?)
}

fn attach_to(container: &Container, record: &Record, input: bool, proxy: bool, detach: Vec<u8>) -> Result<i32> {
    let input = input && record.settings.interactive;
    if record.settings.tty && input && !isatty(rustix::stdio::stdin()) {
        return Err(Error::new("the input device is not a TTY"));
    }
    let hello = Hello { input, output: true, foreground: false };
    let gone = || Error::new(format!("container {} has no monitor to attach to: it was killed", container.id()));
    let mut wire = monitor::attach(container, hello)?.ok_or_else(gone)?;
    journal::tell(container.dirs(), record, "attach", &[]);
    let session = Session { tty: record.settings.tty, input, outputs: [true; 2], proxy, detach };
    finish(session.run(&mut wire)?, container)
}
