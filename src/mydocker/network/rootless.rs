//! The network of an ordinary user's container: slirp4netns or pasta, a program per container that carries its traffic.

use super::mode::Join;
use super::ports::{Port, PortSpec, Protocol, hold};
use crate::store::ProcessId;
use crate::sys::{Context, Error, Result};
use serde_json::{Value, json};
use std::fs;
use std::io::{ErrorKind, Read, Write};
use std::net::{Ipv4Addr, Shutdown};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

/// The container's address and its name server, which slirp4netns(1) hands out.
const SLIRP: (Ipv4Addr, Ipv4Addr) = (Ipv4Addr::new(10, 0, 2, 100), Ipv4Addr::new(10, 0, 2, 3));
/// Where pasta is told to answer for the host's name servers: an address nobody has (RFC 3927).
const PASTA_DNS: Ipv4Addr = Ipv4Addr::new(169, 254, 1, 1);
/// How long the program may take to bring the interface up.
const PATIENCE: Duration = Duration::from_secs(10);

/// The program that carries the traffic; it ends when this is dropped, so whoever stands by the container holds it.
#[derive(Debug)]
pub struct Helper {
    child: Child,
    /// For the record, should the holder die.
    pub process: ProcessId,
    /// The published ports.
    pub ports: Vec<Port>,
    /// The container's address, where it is not the host's own.
    pub address: Option<Ipv4Addr>,
    /// Who answers DNS, for `resolv.conf`.
    pub name_server: Ipv4Addr,
}

impl Drop for Helper {
    fn drop(&mut self) {
        // It may have ended with its network namespace.
        drop(self.child.kill());
        drop(self.child.wait());
    }
}

/// A program that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Program {
    /// slirp4netns(1): a network of the container's own, 10.0.2.0/24.
    Slirp4netns(PathBuf),
    /// pasta(1): a copy of the host's addresses and routes.
    Pasta(PathBuf),
}

impl Program {
    /// Looks in `$PATH`.
    pub fn find() -> Result<Self> {
        Self::find_in(std::env::split_paths(&std::env::var_os("PATH").unwrap_or_default()))
    }

    /// Looks in these directories; slirp4netns comes first, which needs no address on the host.
    pub fn find_in(places: impl Iterator<Item = PathBuf>) -> Result<Self> {
        let places: Vec<PathBuf> = places.filter(|place| place.is_absolute()).collect();
        let find = |name: &str| places.iter().map(|place| place.join(name)).find(|program| program.is_file());
        find("slirp4netns").map(Self::Slirp4netns).or_else(|| find("pasta").map(Self::Pasta)).ok_or_else(|| {
            let hint = "install the package slirp4netns or passt, or use --network none or host";
            Error::new("a network without root needs slirp4netns or pasta, and neither is installed").hint(hint)
        })
    }
}

/// The name server of a container that a program connects, for its `resolv.conf`.
pub fn name_server(program: &Program) -> Ipv4Addr {
    if matches!(program, Program::Slirp4netns(_)) { SLIRP.1 } else { PASTA_DNS }
}

/// What an ordinary user's container may ask of its networks: the default one, and nothing in it that is a bridge's.
pub fn accept(joins: &[Join]) -> Result<()> {
    let hint = "without root there is the default network, host, none and container:NAME";
    match joins {
        [only] if only.network != "bridge" => Err(Error::new(format!("network {} needs root", only.network)).hint(hint)),
        [only] if only.address.is_some() => Err(Error::new("--ip needs root").hint(hint)),
        [only] if only.mac.is_some() => Err(Error::new("--mac-address needs root").hint(hint)),
        [only] if !only.aliases.is_empty() => Err(Error::new("--network-alias needs root").hint(hint)),
        [_] => Ok(()),
        _ => Err(Error::new("several networks need root").hint(hint)),
    }
}

/// Connects the network namespace of the process, which has a user namespace of its own. `dir` is for a socket.
pub fn connect(program: &Program, dir: &Path, pid: i32, ports: &[PortSpec]) -> Result<Helper> {
    if let Some(port) = ports.iter().find(|port| port.protocol == Protocol::Sctp) {
        return Err(Error::new(format!("port {}/sctp cannot be published without root", port.container_port)).hint("only tcp and udp can"));
    }
    // The program binds the ports itself: ours are released as it is started.
    let ports = hold(ports, &[])?.ports;
    let mut helper = match program {
        Program::Slirp4netns(path) => slirp(path, dir, pid, ports)?,
        Program::Pasta(path) => pasta(path, pid, ports)?,
    };
    helper.wait_for_route(pid)?;
    if matches!(program, Program::Slirp4netns(_)) {
        // By descriptor, as the path may be too long for a socket's address (unix(7)).
        let dir = fs::File::open(dir).context(|| format!("open {}", dir.display()))?;
        let place = PathBuf::from(format!("/proc/self/fd/{}", std::os::fd::AsRawFd::as_raw_fd(&dir)));
        helper.ports.iter().try_for_each(|port| forward(&place.join(socket(pid)), port))?;
    }
    drop(fs::remove_file(dir.join(socket(pid)))); // pasta has none
    Ok(helper)
}

fn socket(pid: i32) -> String {
    format!("slirp-{pid}.sock")
}

fn slirp(program: &Path, dir: &Path, pid: i32, ports: Vec<Port>) -> Result<Helper> {
    drop(fs::remove_file(dir.join(socket(pid)))); // of an earlier process with this pid
    let mut command = Command::new(program);
    command.current_dir(dir);
    command.args(["--configure", "--mtu=65520", "--disable-host-loopback", "--enable-sandbox", "--enable-seccomp"]);
    // It ends when the other end of its standard input is closed: with us, however we go.
    command.arg("--exit-fd=0").arg("--api-socket").arg(socket(pid)).arg(pid.to_string()).arg("tap0");
    // It makes its socket with the umask that it inherits; the monitor has one thread.
    let before = rustix::process::umask(rustix::fs::Mode::from_raw_mode(0o177));
    let started = start(command, ports, Some(SLIRP.0), SLIRP.1);
    rustix::process::umask(before);
    started
}

fn pasta(program: &Path, pid: i32, ports: Vec<Port>) -> Result<Helper> {
    let mut command = Command::new(program);
    command.args(["--foreground", "--quiet", "--config-net", "--no-map-gw", "-T", "none", "-U", "none"]);
    command.arg("--dns-forward").arg(PASTA_DNS.to_string());
    for (flag, protocol) in [("-t", Protocol::Tcp), ("-u", Protocol::Udp)] {
        let mut wanted = ports.iter().filter(|port| port.protocol == protocol).peekable();
        if wanted.peek().is_none() {
            command.args([flag, "none"]);
        }
        for port in wanted {
            command.args([flag, &format!("{}/{}:{}", port.host_ip, port.host_port, port.container_port)]);
        }
    }
    command.arg(pid.to_string());
    start(command, ports, None, PASTA_DNS)
}

fn start(mut command: Command, ports: Vec<Port>, address: Option<Ipv4Addr>, name_server: Ipv4Addr) -> Result<Helper> {
    let what = format!("execute {}", command.get_program().display());
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped()).spawn().context(|| what)?;
    let process = ProcessId::of(child.id().cast_signed()).inspect_err(|_| drop(child.kill()))?;
    Ok(Helper { child, process, ports, address, name_server })
}

impl Helper {
    /// The interface is up when there is a route through it.
    fn wait_for_route(&mut self, pid: i32) -> Result<()> {
        let routes = format!("/proc/{pid}/net/route");
        let deadline = Instant::now() + PATIENCE;
        loop {
            let text = fs::read_to_string(&routes).context(|| format!("read {routes}"))?;
            if text.lines().count() > 1 {
                return Ok(());
            }
            let ended = self.child.try_wait().context(|| "wait for the network's program")?.is_some();
            if ended || Instant::now() > deadline {
                drop(self.child.kill());
                let mut said = String::new();
                if let Some(mut errors) = self.child.stderr.take() {
                    drop(errors.read_to_string(&mut said)); // what it said is only for the message
                }
                let said = said.lines().filter(|line| !line.contains("syslog")).collect::<Vec<_>>().join(", ");
                let error = Error::new(format!("connect the network of process {pid} without root: {said}"));
                let tun = said.contains("/dev/net/tun") && said.contains("denied");
                return Err(if tun { error.hint("/dev/net/tun should have mode 0666, as distributions have it") } else { error });
            }
            sleep(Duration::from_millis(2));
        }
    }
}

/// One request of slirp4netns(1), "API SOCKET".
fn forward(socket: &Path, port: &Port) -> Result<()> {
    let what = || format!("publish {port}");
    let request = json!({ "execute": "add_hostfwd", "arguments": {
        "proto": port.protocol, "host_addr": port.host_ip, "host_port": port.host_port,
        "guest_addr": SLIRP.0, "guest_port": port.container_port,
    }});
    // It listens only after it has configured the interface.
    let deadline = Instant::now() + PATIENCE;
    let mut stream = loop {
        match UnixStream::connect(socket) {
            Err(error) if Instant::now() < deadline && matches!(error.kind(), ErrorKind::NotFound | ErrorKind::ConnectionRefused) => {
                sleep(Duration::from_millis(2));
            }
            other => break other.context(what)?,
        }
    };
    let mut answer = String::new();
    // In one piece: it takes what it reads first for the whole.
    stream
        .write_all(request.to_string().as_bytes())
        .and_then(|()| stream.shutdown(Shutdown::Write))
        .and_then(|()| stream.read_to_string(&mut answer))
        .context(what)?;
    match serde_json::from_str::<Value>(&answer) {
        Ok(answer) if answer.get("return").is_some() => Ok(()),
        _ => Err(Error::new(what()).hint(format!("slirp4netns says {}", answer.trim()))),
    }
}
