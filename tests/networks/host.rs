//! A host with networks: namespaces of the test's own, what is outside it, and how one talks across.

use keel::mydocker::files::Dirs;
use keel::mydocker::network::ports::PortSpec;
use keel::mydocker::network::{Connected, Create, Guest, Join, Namespace, Network, Networks};
use keel::sys::{self, ns};
use rustix::fs::{CWD, FileType, Gid, Mode, Uid, makedev, mknodat};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::fs;
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

pub const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
pub const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// An ordinary user.
pub const NOBODY: u32 = 65_534;
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A host of its own.
pub struct Host {
    pub dirs: Dirs,
    pub networks: Networks,
    pub outside: PathBuf,
}

/// Runs a test on a host of its own; a panic inside is the test's.
pub fn on_host(test: impl FnOnce(&Host) + Send + 'static) {
    let done = thread::spawn(|| {
        sys::unshare(ns::NET | ns::MOUNT).unwrap();
        mount_change("/", MountPropagationFlags::REC | MountPropagationFlags::PRIVATE).unwrap();
        let host = Host::new();
        test(&host);
    });
    if let Err(panic) = done.join() {
        std::panic::resume_unwind(panic);
    }
}

impl Host {
    fn new() -> Self {
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let data = std::env::temp_dir().join(format!("mydocker-net-{}-{number}", std::process::id()));
        let dirs = Dirs { run: data.join("run"), data };
        let outside = Namespace::of(&dirs, "outside");
        outside.make().unwrap();
        ip("link set lo up");
        ip(&format!("link add out0 type veth peer name eth0 netns {}", outside.path().display()));
        ip(&format!("addr add {HOST}/24 dev out0"));
        ip("link set out0 up");
        let inside = |args: &str| run("nsenter", &format!("--net={} ip {args}", outside.path().display()));
        inside(&format!("addr add {OUTSIDE}/24 dev eth0"));
        inside("link set eth0 up");
        Self { networks: Networks::open(&dirs).unwrap(), outside: outside.path().to_owned(), dirs }
    }

    /// A container: a namespace, connected.
    pub fn container(&self, name: &str, networks: &[&str], ports: &[&str]) -> (Namespace, Connected) {
        let joins: Vec<Join> = networks.iter().map(|network| Join { network: (*network).into(), ..Join::default() }).collect();
        self.joined(name, &joins, ports).unwrap()
    }

    pub fn joined(&self, name: &str, joins: &[Join], ports: &[&str]) -> keel::sys::Result<(Namespace, Connected)> {
        let pin = Namespace::of(&self.dirs, &id(name));
        pin.make()?;
        let ports: Vec<PortSpec> = ports.iter().flat_map(|port| PortSpec::parse(port).unwrap()).collect();
        let guest = Guest { id: &id(name), name, namespace: pin.path(), joins, ports: &ports, dns: &[] };
        self.networks.setup(&guest).map(|connected| (pin, connected))
    }

    pub fn user_network(&self, name: &str) -> Network {
        self.networks.create(&Create { name: name.into(), ..Create::default() }).unwrap()
    }

    /// What of ours is in the kernel: links but the test's own, and firewall rules that name a port or a subnet.
    pub fn remains(&self) -> Vec<String> {
        let links: Vec<String> =
            run("ip", "-o link").lines().map(str::to_owned).filter(|line| !line.contains(" lo:") && !line.contains(" out0@")).collect();
        let rules: Vec<String> =
            run("iptables-save", "").lines().filter(|line| line.contains("--dport") || line.contains("172.")).map(str::to_owned).collect();
        [links, rules, tables()].concat()
    }

    pub fn aardvark(&self) -> Option<i32> {
        fs::read_to_string(self.dirs.run.join("network/aardvark-dns/aardvark.pid")).ok()?.trim().parse().ok()
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        // A test that failed halfway leaves containers.
        for id in self.networks.leases().unwrap_or_default().keys() {
            drop(self.networks.teardown(id));
        }
        drop(Namespace::of(&self.dirs, "outside").remove());
        let _ = unmount("/dev/net/tun", UnmountFlags::DETACH); // only if it was mounted
        drop(fs::remove_dir_all(&self.dirs.data));
    }
}

/// Our tables of nftables, sorted.
pub fn tables() -> Vec<String> {
    let all = run("nft", "list tables ip");
    let mut ours: Vec<String> = all.lines().filter_map(|line| Some(line.strip_prefix("table ip ")?.to_owned())).collect();
    ours.retain(|name| name.starts_with("mydocker-"));
    ours.sort();
    ours
}

/// 64 hexadecimal digits that differ with the name.
pub fn id(name: &str) -> String {
    let digits: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    digits.chars().cycle().take(64).collect()
}

pub fn run(program: &str, args: &str) -> String {
    let output = Command::new(program).args(args.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{program} {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

pub fn ip(args: &str) {
    run("ip", args);
}

/// Does something in a network namespace; sockets stay in the one they were made in.
pub fn inside<T: Send>(namespace: &Path, what: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let there = scope.spawn(|| {
            sys::setns(fs::File::open(namespace).unwrap(), ns::NET).unwrap();
            what()
        });
        there.join().unwrap()
    })
}

/// Serves one TCP connection: what was said to it, with where from.
pub fn serve_once(namespace: &Path, port: u16) -> thread::JoinHandle<SocketAddr> {
    serve(inside(namespace, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()))
}

pub fn serve(listener: TcpListener) -> thread::JoinHandle<SocketAddr> {
    thread::spawn(move || {
        loop {
            let (mut stream, peer) = listener.accept().unwrap();
            // A client that gave up is not the one.
            if stream.read_exact(&mut [0; 3]).is_ok() && stream.write_all(b"hello").is_ok() {
                return peer;
            }
        }
    })
}

/// A process that ends with its test.
pub struct Target(pub Child);

impl Drop for Target {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Gives everybody /dev/net/tun, as distributions do, in this mount namespace.
pub fn open_tun(host: &Host) {
    let tun = host.dirs.data.join("tun");
    mknodat(CWD, &tun, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(10, 200)).unwrap();
    fs::set_permissions(&tun, PermissionsExt::from_mode(0o666)).unwrap();
    mount_bind(&tun, "/dev/net/tun").unwrap();
}

pub fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Gives root up for this thread; the result takes it back.
pub fn become_nobody() -> impl FnOnce() {
    let user = Uid::from_raw(NOBODY);
    set_thread_groups(&[]).unwrap();
    set_thread_res_gid(Gid::from_raw(NOBODY), Gid::from_raw(NOBODY), Gid::ROOT).unwrap();
    set_thread_res_uid(user, user, Uid::ROOT).unwrap();
    || {
        set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).unwrap();
        set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).unwrap();
    }
}

pub fn fetch(namespace: Option<&Path>, to: (Ipv4Addr, u16)) -> std::io::Result<String> {
    let fetch = move || {
        let mut stream = TcpStream::connect_timeout(&to.into(), Duration::from_secs(5))?;
        stream.set_read_timeout(Some(Duration::from_secs(5)))?;
        stream.write_all(b"GET")?;
        let mut text = String::new();
        stream.read_to_string(&mut text).map(|_| text)
    };
    namespace.map_or_else(fetch, |namespace| inside(namespace, fetch))
}

/// One question for an A record, as RFC 1035 has it; the addresses of the answer, or its error code.
pub fn resolve(namespace: &Path, server: Ipv4Addr, name: &str) -> Result<Vec<Ipv4Addr>, u8> {
    let socket = inside(namespace, || UdpSocket::bind((Ipv4Addr::UNSPECIFIED, 0)).unwrap());
    socket.connect((server, 53)).unwrap();
    socket.set_read_timeout(Some(Duration::from_secs(1))).unwrap();
    let mut question = vec![0x12, 0x34, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0];
    for label in name.split('.') {
        question.push(label.len() as u8);
        question.extend(label.bytes());
    }
    question.extend([0, 0, 1, 0, 1]);
    let mut answer = [0; 512];
    let deadline = Instant::now() + Duration::from_secs(20);
    // aardvark-dns reads its files after netavark's return; until then nobody answers, or as before.
    let length = loop {
        drop(socket.send(&question));
        match socket.recv(&mut answer) {
            Ok(length) => break length,
            Err(error) => assert!(Instant::now() < deadline, "no answer from {server} for {name}: {error}"),
        }
    };
    if answer[3] & 15 != 0 {
        return Err(answer[3] & 15);
    }
    // An answer is a pointer, type, class, ttl, length and an address: 16 bytes.
    let answers = answer[question.len()..length].chunks_exact(16).filter(|record| record[3] == 1);
    Ok(answers.map(|record| Ipv4Addr::new(record[12], record[13], record[14], record[15])).collect())
}

#[track_caller]
pub fn refused<T>(result: keel::sys::Result<T>, words: &str) {
    let error = result.err().expect(words).to_string();
    assert!(error.contains(words), "{words:?} is missing in {error:?}");
}
