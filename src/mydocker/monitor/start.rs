//! Everything between the record of a container and its running program, and the way back.

use super::link::{Link, Wired, published, wire};
use crate::lifecycle::{self, CreateOptions};
use crate::mydocker::container::{Container, Containers, Prepared, Record, Status, bundle};
use crate::mydocker::files;
use crate::mydocker::image::is_static;
use crate::mydocker::network::{Attachment, Mode, Namespace, Networks, names, ports, rootless};
use crate::mydocker::userns;
use crate::mydocker::volume::{self, Volumes};
use crate::spec::Mount;
use crate::store::ProcessId;
use crate::sys::{Context, Error, Kind, Log, Result, bind_private, ns, setns};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{Mode as FileMode, OFlags};
use rustix::net::{AddressFamily, SocketAddrUnix, SocketFlags, SocketType};
use rustix::pipe::{PipeFlags, pipe_with};
use std::net::{IpAddr, Ipv4Addr};
use std::path::{Path, PathBuf};

/// A container whose program runs.
pub struct Started {
    /// Its first process, our child.
    pub pidfd: OwnedFd,
    /// The same, to be written down.
    pub process: ProcessId,
    /// stdout and stderr; with a terminal, its other end and nothing.
    pub outputs: [Option<OwnedFd>; 2],
    /// stdin; with a terminal, its other end once more.
    pub input: Option<OwnedFd>,
    /// The network.
    pub link: Link,
    /// For the user.
    pub warnings: Vec<String>,
}

/// Who is told of a container's process, interfaces and an ordinary user's ports before its program is executed.
pub trait Ready: FnOnce(ProcessId, Vec<Attachment>, Vec<ports::Port>) -> Result<()> {}
impl<F: FnOnce(ProcessId, Vec<Attachment>, Vec<ports::Port>) -> Result<()>> Ready for F {}

/// Starts a container; `ready` is told of its process and interfaces before the program is executed. If that fails,
/// nothing of it is left but its files.
pub fn start(container: &Container, record: &Record, ready: impl Ready) -> Result<Started> {
    settle(container)?;
    try_start(container, record, ready).inspect_err(|_| {
        // The first failure is the one to tell.
        let _ = settle(container);
    })
}

/// Takes away what a container's run has made outside its directory: processes, cgroup, runtime state, network. What is
/// not there is no error, so this is also how a run is cleaned up whose monitor was killed.
pub fn settle(container: &Container) -> Result<()> {
    let log = Log::open(None, false, false)?;
    let removed = lifecycle::delete(&container.runtime()?, &container.runtime_id()?, true, &log);
    let networks = Networks::open(container.dirs())?;
    let leased = Namespace::of(container.dirs(), container.id()).path().exists() || networks.leases()?.contains_key(container.id());
    let left = if leased { networks.teardown(container.id()) } else { Ok(()) };
    removed.and(left)
}

fn try_start(container: &Container, record: &Record, ready: impl Ready) -> Result<Started> {
    let mode = Mode::parse_all(&record.settings.networks)?;
    let mut prepared = Prepared { shared: shared(container, record)?, ..Prepared::default() };
    let owner = record.first_id.map(userns::of_ids).transpose()?;
    prepared.user = owner.as_ref().map(|owner| format!("/proc/self/fd/{}", rustix::fd::AsRawFd::as_raw_fd(owner)).into());
    let Wired { attachments, servers, held, user, warnings } = wire(container, record, &mode, owner.as_ref(), &mut prepared)?;
    etc(container, record, &mode, &attachments, &servers)?;
    prepared.mounts = volumes(container, record)?;
    if record.settings.init {
        prepared.init = Some(reaper(container)?);
    }
    let aside = owner.as_ref().zip(record.first_id).map(|(owner, first)| Aside::mount(container, record, first, owner)).transpose()?;
    let (spec, identity) = bundle(container, record, &prepared)?;
    let text = serde_json::to_vec(&spec).map_err(|e| Error::new(format!("write the configuration: {e}")))?;
    files::write(&container.dir().join("config.json"), &text, files::Keep::UntilReboot)?;
    let mut helper = None;
    let uid = record.first_id.map_or(identity.uid, |first| first.saturating_add(identity.uid));
    let mut started = execute(container, record, uid, |process| {
        // Its namespace must be there, and its program not yet run.
        let connect = |program| rootless::connect(&program, &container.run_dir(), process.pid, &published(record)?);
        helper = user.map(connect).transpose()?;
        ready(process, attachments, helper.as_ref().map(|helper| helper.ports.clone()).unwrap_or_default())
    })?;
    drop(aside);
    (started.link, started.warnings) = (Link { _held: held, _helper: helper }, warnings);
    Ok(started)
}

/// The mount namespace in which the root of a container with ids of its own is mounted, until the runtime has it. Dropped, we are
/// back in the host's, and what was mounted is nobody's but the container's.
struct Aside {
    before: OwnedFd,
}

impl Aside {
    fn mount(container: &Container, record: &Record, first: u32, owner: &OwnedFd) -> Result<Self> {
        let path = "/proc/self/ns/mnt";
        let before = rustix::fs::open(path, OFlags::RDONLY | OFlags::CLOEXEC, FileMode::empty()).context(|| format!("open {path}"))?;
        let aside = Self { before };
        container.mount_shifted(record, first, owner)?;
        Ok(aside)
    }
}

impl Drop for Aside {
    fn drop(&mut self) {
        // To its root directory, which is where a monitor is.
        let _ = setns(&self.before, ns::MOUNT);
    }
}

/// Volumes are made if missing, and new ones filled with what the image has there.
fn volumes(container: &Container, record: &Record) -> Result<Vec<Mount>> {
    let volumes = Volumes::open(container.dirs())?;
    let mut image = None;
    let mut all = Vec::new();
    for mut mount in volume::in_order(record.settings.mounts.clone())? {
        if mount.kind == volume::Kind::Volume {
            let root = match image {
                Some(ref root) => root,
                None => image.insert(container.image_root(record)?),
            };
            volumes.provide(&mut mount, root.as_fd())?;
        }
        mount.prepare()?;
        let mut spec = mount.spec();
        // Ours to map; a bind shows the host's ids as they are.
        if record.first_id.is_some() && mount.kind == volume::Kind::Volume {
            spec.options.push("idmap".into());
        }
        all.push(spec);
    }
    Ok(all)
}

/// The directory in /proc of another container's first process.
pub(super) fn running(container: &Container, other: &str) -> Result<PathBuf> {
    let found = Containers::new(container.dirs()).find(other)?;
    let state = found.state()?;
    let up = state.status.is_up() && found.process(&state).is_some();
    let process = state.process.filter(|_| up);
    let process = process.ok_or_else(|| Error::new(format!("cannot join the namespaces of a container that is not running: {other}")))?;
    Ok(format!("/proc/{}", process.pid).into())
}

/// `--pid container:X` and `--ipc container:X`.
fn shared(container: &Container, record: &Record) -> Result<Vec<(&'static str, PathBuf)>> {
    let mut all = Vec::new();
    for (kind, wanted) in [("pid", &record.settings.pid), ("ipc", &record.settings.ipc)] {
        if let Some(other) = wanted.strip_prefix("container:") {
            all.push((kind, running(container, other)?.join("ns").join(kind)));
        }
    }
    Ok(all)
}

/// hosts, hostname and resolv.conf, which are bound into the container; rewritten in place, as a bind shows the file and
/// not its name.
fn etc(container: &Container, record: &Record, mode: &Mode, attachments: &[Attachment], dns_servers: &[Ipv4Addr]) -> Result<()> {
    let settings = &record.settings;
    let read = |path: &str| std::fs::read_to_string(path).unwrap_or_default();
    let with_host = *mode == Mode::Host;
    let servers =
        settings.dns.iter().map(|ip| ip.parse::<IpAddr>().map_err(|_| Error::new(format!("invalid --dns {ip:?}: not an IP address"))));
    let dns =
        names::Dns { servers: servers.collect::<Result<_>>()?, search: settings.dns_search.clone(), options: settings.dns_options.clone() };
    let hostname = if settings.hostname.is_empty() { record.short() } else { &settings.hostname };
    let extra = settings.hosts.iter().map(|text| names::ExtraHost::parse(text)).collect::<Result<Vec<_>>>()?;
    let own: Vec<Ipv4Addr> = attachments.iter().map(|attachment| attachment.address).collect();
    let gateway = if with_host { Some(Ipv4Addr::LOCALHOST.into()) } else { attachments.first().and_then(|a| a.gateway).map(IpAddr::from) };
    let base = with_host.then(|| read("/etc/hosts"));
    let hosts = names::hosts(base.as_deref(), hostname, &settings.domainname, &own, &extra, gateway)?;
    let resolv = names::resolv_conf(&read("/etc/resolv.conf"), &dns, dns_servers, with_host);
    for (name, text) in [("hosts", hosts), ("resolv.conf", resolv), ("hostname", format!("{hostname}\n"))] {
        let path = container.dir().join(name);
        std::fs::write(&path, text).context(|| format!("write {}", path.display()))?;
        let mode = std::os::unix::fs::PermissionsExt::from_mode(0o644);
        std::fs::set_permissions(&path, mode).context(|| format!("set the mode of {}", path.display()))?;
    }
    Ok(())
}

/// A copy of our executable for `--init`, since what is bound into a container could be written to by a privileged one.
/// Where ours needs shared libraries (it is static as released), a distribution's init does.
fn reaper(container: &Container) -> Result<PathBuf> {
    let path = container.dir().join("init");
    let candidates = ["/proc/self/exe", "/usr/bin/tini-static", "/usr/bin/catatonit"].map(Path::new);
    let none = || Error::new("--init needs a static executable, and mydocker was built with shared libraries").hint("or install tini");
    let source = candidates.into_iter().find(|candidate| is_static(candidate)).ok_or_else(none)?;
    std::fs::copy(source, &path).context(|| format!("copy {} to {}", source.display(), path.display()))?;
    let mode = std::os::unix::fs::PermissionsExt::from_mode(0o755);
    std::fs::set_permissions(&path, mode).context(|| format!("set the mode of {}", path.display()))?;
    Ok(path)
}

/// Our own standard descriptors while a container is created: it inherits them.
struct Stdio;

impl Stdio {
    fn give(input: &OwnedFd, output: &OwnedFd, errors: &OwnedFd) -> Result<Self> {
        let what = || "hand the container its standard streams";
        let stdio = Self;
        rustix::stdio::dup2_stdin(input).context(what)?;
        rustix::stdio::dup2_stdout(output).context(what)?;
        rustix::stdio::dup2_stderr(errors).context(what)?;
        Ok(stdio)
    }
}

impl Drop for Stdio {
    fn drop(&mut self) {
        if let Ok(null) = null() {
            let _ = rustix::stdio::dup2_stdin(&null)
                .and_then(|()| rustix::stdio::dup2_stdout(&null))
                .and_then(|()| rustix::stdio::dup2_stderr(&null));
        }
    }
}

fn null() -> Result<OwnedFd> {
    rustix::fs::open(c"/dev/null", OFlags::RDWR | OFlags::CLOEXEC, FileMode::empty()).context(|| "open /dev/null")
}

/// Creates and starts the container with pipes or a terminal of ours.
fn execute(container: &Container, record: &Record, uid: u32, ready: impl FnOnce(ProcessId) -> Result<()>) -> Result<Started> {
    let settings = &record.settings;
    let what = || "make the container's standard streams";
    let mut options = CreateOptions { bundle: container.dir().to_owned(), stays: true, ..CreateOptions::default() };
    let (outputs, input);
    if settings.tty {
        let socket = Console::listen(container)?;
        options.console_socket = Some(socket.path.clone());
        create(container, &options)?;
        let master = socket.receive()?;
        outputs = [Some(master.try_clone().context(what)?), None];
        input = Some(master);
    } else {
        let pipe = || pipe_with(PipeFlags::CLOEXEC).context(what);
        let (out_read, out_write) = pipe()?;
        let (err_read, err_write) = pipe()?;
        let (theirs, ours) = if settings.interactive { pipe().map(|(read, write)| (read, Some(write)))? } else { (null()?, None) };
        if uid != 0 {
            // So that the program can open /dev/stdout and its relatives, as docker's can.
            for fd in [&out_write, &err_write] {
                match rustix::fs::fchown(fd, Some(rustix::fs::Uid::from_raw(uid)), None) {
                    Err(rustix::io::Errno::INVAL) => {
                        return Err(Error::new(format!("user {uid} does not exist in the user namespace"))
                            .hint("give yourself more ids in /etc/subuid and /etc/subgid"));
                    }
                    other => other.context(what)?,
                }
            }
        }
        let given = Stdio::give(&theirs, &out_write, &err_write)?;
        let created = create(container, &options);
        drop(given);
        created?;
        for fd in [Some(&out_read), Some(&err_read), ours.as_ref()].into_iter().flatten() {
            rustix::io::ioctl_fionbio(fd, true).context(what)?;
        }
        outputs = [Some(out_read), Some(err_read)];
        input = ours;
    }
    let (runtime, id) = (container.runtime()?, container.runtime_id()?);
    let pid = lifecycle::state(&runtime, &id)?.pid;
    let process = ProcessId::of(pid)?;
    let pidfd = process.open().ok_or_else(|| Error::new("the container's process ended before it was started"))?;
    ready(process)?;
    lifecycle::start(&runtime, &id, &Log::open(None, false, false)?, || Ok(()))?;
    Ok(Started { pidfd, process, outputs, input, link: Link::default(), warnings: Vec::new() })
}

fn create(container: &Container, options: &CreateOptions) -> Result<()> {
    let log = Log::open(None, false, false)?;
    lifecycle::create(&container.runtime()?, &container.runtime_id()?, options, &log)?;
    std::env::set_current_dir("/").context(|| "leave the bundle")
}

/// The socket on which a new terminal's other end arrives.
struct Console {
    path: PathBuf,
    socket: OwnedFd,
    _dir: OwnedFd,
}

impl Console {
    fn listen(container: &Container) -> Result<Self> {
        let what = || "make the console socket";
        let dir = rustix::fs::open(container.run_dir(), OFlags::PATH | OFlags::CLOEXEC, FileMode::empty()).context(what)?;
        // By descriptor, as the path may be too long for a socket's address.
        let path = PathBuf::from(format!("/proc/self/fd/{}/console.sock", rustix::fd::AsRawFd::as_raw_fd(&dir)));
        let _ = std::fs::remove_file(&path);
        let socket = rustix::net::socket_with(AddressFamily::UNIX, SocketType::STREAM, SocketFlags::CLOEXEC, None).context(what)?;
        bind_private(&socket, &SocketAddrUnix::new(&path).context(what)?).context(what)?;
        rustix::net::listen(&socket, 1).context(what)?;
        Ok(Self { path, socket, _dir: dir })
    }

    fn receive(self) -> Result<OwnedFd> {
        let what = || "receive the container's terminal";
        let connection = rustix::net::accept_with(&self.socket, SocketFlags::CLOEXEC).context(what)?;
        let _ = std::fs::remove_file(&self.path);
        let master = lifecycle::receive(connection.as_fd())?;
        rustix::io::ioctl_fionbio(&master, true).context(what)?;
        Ok(master)
    }
}

/// Whether the container is up: what a command that wants a running one asks.
pub fn must_run(container: &Container) -> Result<ProcessId> {
    let state = container.state()?;
    let process = state.process.filter(|_| state.status.is_up() && container.process(&state).is_some());
    let not = || Error::new(format!("container {} is not running", container.id())).kind(Kind::WrongState);
    match state.status {
        Status::Restarting => Err(Error::new(format!("container {} is restarting, wait until the container is running", container.id()))),
        _ => process.ok_or_else(not),
    }
}
