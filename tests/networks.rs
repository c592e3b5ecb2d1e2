//! Networks on the real kernel, netavark and aardvark-dns. Each test's thread moves into a network and a mount namespace of its own,
//! which is "the host" here; "outside" is one more namespace, and containers are namespaces with sockets in them.

#![cfg(feature = "mydocker")]

use keel::mydocker::files::Dirs;
use keel::mydocker::network::ports::PortSpec;
use keel::mydocker::network::rootless::{self, Program};
use keel::mydocker::network::{Connected, Create, Guest, Join, Namespace, Network, Networks};
use keel::sys::{self, ns};
use rustix::fs::{CWD, FileType, Gid, Mode, Uid, makedev, mknodat};
use rustix::mount::{MountPropagationFlags, UnmountFlags, mount_bind, mount_change, unmount};
use rustix::thread::{set_thread_groups, set_thread_res_gid, set_thread_res_uid};
use std::fs;
use std::io::{Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

const HOST: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const OUTSIDE: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 2);
/// An ordinary user.
const NOBODY: u32 = 65_534;
static NUMBER: AtomicU32 = AtomicU32::new(0);

/// A host of its own.
struct Host {
    dirs: Dirs,
    networks: Networks,
    outside: PathBuf,
}

/// Runs a test on a host of its own; a panic inside is the test's.
fn on_host(test: impl FnOnce(&Host) + Send + 'static) {
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
    fn container(&self, name: &str, networks: &[&str], ports: &[&str]) -> (Namespace, Connected) {
        let joins: Vec<Join> = networks.iter().map(|network| Join { network: (*network).into(), ..Join::default() }).collect();
        self.joined(name, &joins, ports).unwrap()
    }

    fn joined(&self, name: &str, joins: &[Join], ports: &[&str]) -> keel::sys::Result<(Namespace, Connected)> {
        let pin = Namespace::of(&self.dirs, &id(name));
        pin.make()?;
        let ports: Vec<PortSpec> = ports.iter().flat_map(|port| PortSpec::parse(port).unwrap()).collect();
        let guest = Guest { id: &id(name), name, namespace: pin.path(), joins, ports: &ports, dns: &[] };
        self.networks.setup(&guest).map(|connected| (pin, connected))
    }

    fn user_network(&self, name: &str) -> Network {
        self.networks.create(&Create { name: name.into(), ..Create::default() }).unwrap()
    }

    /// What of ours is in the kernel: links but the test's own, and firewall rules that name a port or a subnet.
    fn remains(&self) -> Vec<String> {
        let links: Vec<String> =
            run("ip", "-o link").lines().map(str::to_owned).filter(|line| !line.contains(" lo:") && !line.contains(" out0@")).collect();
        let rules: Vec<String> =
            run("iptables-save", "").lines().filter(|line| line.contains("--dport") || line.contains("172.")).map(str::to_owned).collect();
        [links, rules].concat()
    }

    fn aardvark(&self) -> Option<i32> {
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

/// 64 hexadecimal digits that differ with the name.
fn id(name: &str) -> String {
    let digits: String = name.bytes().map(|byte| format!("{byte:02x}")).collect();
    digits.chars().cycle().take(64).collect()
}

fn run(program: &str, args: &str) -> String {
    let output = Command::new(program).args(args.split_whitespace()).output().unwrap();
    assert!(output.status.success(), "{program} {args}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn ip(args: &str) {
    run("ip", args);
}

/// Does something in a network namespace; sockets stay in the one they were made in.
fn inside<T: Send>(namespace: &Path, what: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let there = scope.spawn(|| {
            sys::setns(fs::File::open(namespace).unwrap(), ns::NET).unwrap();
            what()
        });
        there.join().unwrap()
    })
}

/// Serves one TCP connection: what was said to it, with where from.
fn serve_once(namespace: &Path, port: u16) -> thread::JoinHandle<SocketAddr> {
    serve(inside(namespace, || TcpListener::bind((Ipv4Addr::UNSPECIFIED, port)).unwrap()))
}

fn serve(listener: TcpListener) -> thread::JoinHandle<SocketAddr> {
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
struct Target(Child);

impl Drop for Target {
    fn drop(&mut self) {
        drop(self.0.kill());
        drop(self.0.wait());
    }
}

/// Gives everybody /dev/net/tun, as distributions do, in this mount namespace.
fn open_tun(host: &Host) {
    let tun = host.dirs.data.join("tun");
    mknodat(CWD, &tun, FileType::CharacterDevice, Mode::from_raw_mode(0o666), makedev(10, 200)).unwrap();
    fs::set_permissions(&tun, PermissionsExt::from_mode(0o666)).unwrap();
    mount_bind(&tun, "/dev/net/tun").unwrap();
}

fn wait_until(what: &str, done: impl Fn() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !done() {
        assert!(Instant::now() < deadline, "{what} did not come");
        thread::sleep(Duration::from_millis(10));
    }
}

/// Gives root up for this thread; the result takes it back.
fn become_nobody() -> impl FnOnce() {
    let user = Uid::from_raw(NOBODY);
    set_thread_groups(&[]).unwrap();
    set_thread_res_gid(Gid::from_raw(NOBODY), Gid::from_raw(NOBODY), Gid::ROOT).unwrap();
    set_thread_res_uid(user, user, Uid::ROOT).unwrap();
    || {
        set_thread_res_uid(Uid::ROOT, Uid::ROOT, Uid::ROOT).unwrap();
        set_thread_res_gid(Gid::ROOT, Gid::ROOT, Gid::ROOT).unwrap();
    }
}

fn fetch(namespace: Option<&Path>, to: (Ipv4Addr, u16)) -> std::io::Result<String> {
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
fn resolve(namespace: &Path, server: Ipv4Addr, name: &str) -> Result<Vec<Ipv4Addr>, u8> {
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

#[test]
fn the_default_bridge_has_addresses_nat_and_published_ports() {
    on_host(|host| {
        let (pin, web) = host.container("web", &["bridge"], &["8080:80", "127.0.0.1:8081:81/tcp", "7000-7002:70-72/udp"]);
        assert_eq!(web.attachments[0].address.octets()[3], 2);
        assert_eq!(web.held.ports.len(), 5);
        assert!(web.warnings.is_empty(), "{:?}", web.warnings);
        // From outside, from the host by each of its addresses, and from another container.
        let (other, _) = host.container("other", &["bridge"], &[]);
        for (from, to) in [(Some(&*host.outside), HOST), (None, HOST), (None, Ipv4Addr::LOCALHOST), (Some(other.path()), HOST)] {
            let served = serve_once(pin.path(), 80);
            assert_eq!(fetch(from, (to, 8080)).unwrap_or_else(|error| panic!("{from:?} to {to}: {error}")), "hello");
            served.join().unwrap();
        }
        // Published on loopback only.
        let served = serve_once(pin.path(), 81);
        assert!(fetch(Some(&host.outside), (HOST, 8081)).is_err());
        assert_eq!(fetch(None, (Ipv4Addr::LOCALHOST, 8081)).unwrap(), "hello");
        served.join().unwrap();
        // A range of UDP.
        let server = inside(pin.path(), || UdpSocket::bind("0.0.0.0:72").unwrap());
        let client = inside(&host.outside, || UdpSocket::bind("0.0.0.0:0").unwrap());
        client.send_to(b"ping", (HOST, 7002)).unwrap();
        server.set_read_timeout(Some(Duration::from_secs(10))).unwrap();
        let mut text = [0; 16];
        let (length, peer) = server.recv_from(&mut text).unwrap();
        assert_eq!((&text[..length], peer.ip()), (&b"ping"[..], IpAddr::V4(OUTSIDE)));
        // Out: the other side sees the host's address, having no route to ours.
        let served = serve_once(&host.outside, 90);
        assert_eq!(fetch(Some(pin.path()), (OUTSIDE, 90)).unwrap(), "hello");
        assert_eq!(served.join().unwrap().ip(), IpAddr::V4(HOST));

        host.networks.teardown(&id("other")).unwrap();
        host.networks.teardown(&id("web")).unwrap();
        assert!(!pin.path().exists());
        assert!(host.networks.leases().unwrap().is_empty());
        assert_eq!(host.remains(), Vec::<String>::new());
        host.networks.teardown(&id("web")).unwrap();
    });
}

#[test]
fn containers_find_each_other_by_name() {
    on_host(|host| {
        let network = host.user_network("lan");
        let gateway = network.gateway.unwrap();
        let aliased = Join { network: "lan".into(), aliases: vec!["db".into()], ..Join::default() };
        let (one, a) = host.container("one", &["lan"], &[]);
        let (two, b) = host.joined("two", &[aliased], &[]).unwrap();
        let (a, b) = (a.attachments[0].address, b.attachments[0].address);
        assert_ne!(a, b);
        for name in ["two", "db", &id("two")[..12]] {
            wait_until(name, || resolve(one.path(), gateway, name) == Ok(vec![b]));
        }
        wait_until("one", || resolve(two.path(), gateway, "one") == Ok(vec![a]));
        // Others are not on this network.
        let (other, _) = host.container("other", &["bridge"], &[]);
        let bridge = host.networks.get("bridge").unwrap();
        assert!(!resolve(other.path(), bridge.gateway.unwrap(), "one").is_ok_and(|found| !found.is_empty()));
        let dns = host.aardvark().unwrap();
        for name in ["one", "two", "other"] {
            host.networks.teardown(&id(name)).unwrap();
        }
        // Not a daemon: gone with its last container.
        let deadline = Instant::now() + Duration::from_secs(20);
        while Path::new(&format!("/proc/{dns}/net")).exists()
            && fs::read_to_string(format!("/proc/{dns}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
        {
            assert!(Instant::now() < deadline, "aardvark-dns {dns} stays");
            thread::sleep(Duration::from_millis(20));
        }
        host.networks.remove("lan").unwrap();
        assert_eq!(host.remains(), Vec::<String>::new());
    });
}

/// Everything an ordinary user's container wants of its network, by one of the programs.
fn rootless(program: Program) {
    on_host(move |host| {
        ip(&format!("route add default via {OUTSIDE}"));
        open_tun(host);
        let dir = host.dirs.data.join("user");
        fs::create_dir(&dir).unwrap();
        std::os::unix::fs::chown(&dir, Some(NOBODY), Some(NOBODY)).unwrap();
        fs::set_permissions(&host.dirs.data, PermissionsExt::from_mode(0o755)).unwrap();
        let become_root = become_nobody();
        let mut target = Command::new("unshare");
        target
            .args(["--user", "--net", "--map-root-user", "sleep", "600"])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null());
        let target = Target(target.spawn().unwrap());
        let pid = target.0.id().cast_signed();
        let namespace = PathBuf::from(format!("/proc/{pid}/ns/net"));
        wait_until("the namespaces", || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim() == "sleep");
        let ports = [PortSpec::parse("8080:80").unwrap(), PortSpec::parse("127.0.0.1::81").unwrap()].concat();
        let helper = rootless::connect(&program, &dir, pid, &ports);
        become_root();
        let helper = helper.unwrap();
        for (from, to, port) in [(Some(&*host.outside), HOST, 0), (None, Ipv4Addr::LOCALHOST, 0), (None, Ipv4Addr::LOCALHOST, 1)] {
            let port = helper.ports[port];
            let served = serve_once(&namespace, port.container_port);
            // The pasta of Debian 12 now and then forgets a connection that it has accepted.
            wait_until(&format!("{port} at {to}"), || fetch(from, (to, port.host_port)).is_ok_and(|text| text == "hello"));
            served.join().unwrap();
        }
        let served = serve_once(&host.outside, 90);
        assert_eq!(fetch(Some(&namespace), (OUTSIDE, 90)).unwrap(), "hello");
        assert_eq!(served.join().unwrap().ip(), IpAddr::V4(HOST));
        // What listens on the host's loopback is not the container's.
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 99)).unwrap();
        for gateway in [Ipv4Addr::new(10, 0, 2, 2), OUTSIDE, Ipv4Addr::LOCALHOST] {
            let there = SocketAddr::from((gateway, 99));
            assert!(inside(&namespace, || TcpStream::connect_timeout(&there, Duration::from_secs(1))).is_err(), "{gateway}");
        }
        drop(listener);
        let process = helper.process;
        drop(helper);
        assert!(process.open().is_none(), "the program outlives its handle");
        assert_eq!(fs::read_dir(&dir).unwrap().count(), 0);
    });
}

#[test]
fn an_ordinary_user_has_a_network_by_slirp4netns() {
    rootless(Program::Slirp4netns("/usr/bin/slirp4netns".into()));
}

#[test]
fn an_ordinary_user_has_a_network_by_pasta() {
    rootless(Program::Pasta("/usr/bin/pasta".into()));
}

#[track_caller]
fn refused<T>(result: keel::sys::Result<T>, words: &str) {
    let error = result.err().expect(words).to_string();
    assert!(error.contains(words), "{words:?} is missing in {error:?}");
}

#[test]
fn networks_are_made_found_and_removed() {
    on_host(|host| {
        let networks = &host.networks;
        let named = |name: &str| Create { name: name.into(), ..Create::default() };
        let names = |all: Vec<Network>| all.into_iter().map(|network| network.name).collect::<Vec<_>>();
        assert_eq!(names(networks.list().unwrap()), ["bridge", "host", "none"]);
        // The host has a route to the first pool.
        ip("route add 172.17.9.0/24 dev out0");
        let bridge = networks.get("bridge").unwrap();
        assert_eq!((bridge.interface.as_str(), bridge.subnet.unwrap().to_string().as_str()), ("mydocker0", "172.17.0.0/16"));
        let lan = networks.create(&Create { labels: [("a".into(), "b".into())].into(), ..named("lan") }).unwrap();
        assert_eq!(lan.subnet.unwrap().to_string(), "172.18.0.0/16");
        assert_eq!(lan.gateway, Some(Ipv4Addr::new(172, 18, 0, 1)));
        assert_eq!(networks.get(&lan.id[..8]).unwrap(), lan);
        let own = Create { subnet: Some("10.9.0.0/24".parse().unwrap()), gateway: Some(Ipv4Addr::new(10, 9, 0, 254)), ..named("own") };
        assert_eq!(networks.create(&own).unwrap().gateway, Some(Ipv4Addr::new(10, 9, 0, 254)));

        refused(networks.get("other"), "network other not found");
        refused(networks.get(""), "not found");
        refused(networks.create(&named("lan")), "network with name lan already exists");
        refused(networks.create(&named("bridge")), "network with name bridge already exists");
        refused(networks.create(&named("../x")), "invalid network name \"../x\"");
        refused(networks.create(&Create { driver: "macvlan".into(), ..named("x") }), "network driver \"macvlan\" is not supported");
        refused(networks.create(&Create { name: "x".into(), ..own.clone() }), "subnet 10.9.0.0/24 overlaps with that of network own");
        let outside = Create { subnet: Some("10.8.0.0/24".parse().unwrap()), gateway: Some(Ipv4Addr::new(10, 9, 0, 1)), ..named("x") };
        refused(networks.create(&outside), "gateway 10.9.0.1 is no host's address in 10.8.0.0/24");
        let outside = Create { gateway: None, ip_range: Some("10.0.0.0/8".parse().unwrap()), ..outside };
        refused(networks.create(&outside), "ip range 10.0.0.0/8 is not in the subnet 10.8.0.0/24");
        for (option, value, words) in
            [("mtu", "9", "invalid value \"9\""), ("parent", "eth0", "network option \"parent\" is not supported")]
        {
            refused(networks.create(&Create { options: [(option.into(), value.into())].into(), ..named("x") }), words);
        }
        refused(networks.remove("none"), "none is a pre-defined network and cannot be removed");
        assert_eq!(names(networks.list().unwrap()), ["bridge", "host", "lan", "none", "own"]);

        host.container("web", &["lan"], &[]);
        refused(networks.remove("lan"), "network lan has active endpoints: container web is connected to it");
        assert_eq!(names(networks.prune(|_| false).unwrap()), ["own"]);
        networks.teardown(&id("web")).unwrap();
        networks.remove(&lan.id[..12]).unwrap();
        assert_eq!(names(networks.list().unwrap()), ["bridge", "host", "none"]);
    });
}

#[test]
fn addresses_are_given_once() {
    on_host(|host| {
        // Of the 8 addresses, the first and last and the gateway's are not to be had.
        let small = Create { name: "small".into(), subnet: Some("10.9.0.0/29".parse().unwrap()), internal: true, ..Create::default() };
        host.networks.create(&small).unwrap();
        let last = |connected: &Connected| connected.attachments[0].address.octets()[3];
        let join = |address: [u8; 4]| vec![Join { network: "small".into(), address: Some(address.into()), ..Join::default() }];
        assert_eq!(last(&host.container("a", &["small"], &[]).1), 2);
        assert_eq!(last(&host.container("b", &["small"], &[]).1), 3);
        let (pin, fixed) = host.joined("c", &join([10, 9, 0, 5]), &[]).unwrap();
        assert_eq!((last(&fixed), fixed.attachments[0].mac.as_str()), (5, "02:42:0a:09:00:05"));
        assert_eq!(fixed.attachments[0].gateway, None);
        assert_eq!(host.networks.resolvers(&fixed.attachments).unwrap(), [Ipv4Addr::new(10, 9, 0, 1)]);
        assert!(resolve(pin.path(), Ipv4Addr::new(10, 9, 0, 1), "a").is_ok());
        assert!(run("nsenter", &format!("--net={} ip route", pin.path().display())).lines().all(|line| !line.starts_with("default")));
        refused(host.joined("x", &join([10, 9, 0, 5]), &[]), "address 10.9.0.5 of network small is already in use");
        refused(host.joined("x", &join([10, 9, 0, 1]), &[]), "already in use");
        refused(host.joined("x", &join([10, 8, 0, 5]), &[]), "it does not belong to the subnet 10.9.0.0/29");
        // The one given back is the last to be given again.
        host.networks.teardown(&id("a")).unwrap();
        assert_eq!(last(&host.container("d", &["small"], &[]).1), 4);
        assert_eq!(last(&host.container("e", &["small"], &[]).1), 6);
        assert_eq!(last(&host.container("f", &["small"], &[]).1), 2);
        refused(host.joined("x", &[Join { network: "small".into(), ..Join::default() }], &[]), "no free address left in 10.9.0.0/29");
        // A failure leaves nothing, and a container on none or host has no address to ask for.
        refused(
            host.joined("x", &[Join { network: "host".into(), ..Join::default() }], &[]),
            "containers cannot be connected to the network host",
        );
        assert!(!host.networks.leases().unwrap().contains_key(&id("x")));
        assert!(!Namespace::all(&host.dirs).unwrap().contains(&id("x")));
        let ports = host.joined("g", &[Join { network: "missing".into(), ..Join::default() }], &[]);
        refused(ports, "network missing not found");
    });
}

#[test]
fn a_port_has_one_owner() {
    on_host(|host| {
        let bridge = [Join { network: "bridge".into(), ..Join::default() }];
        let (_, first) = host.container("first", &["bridge"], &["127.0.0.1:8080:80", "9000-9001:90", ":91"]);
        assert_eq!((first.held.ports[1].host_port, first.held.ports.len(), first.held.sockets.len()), (9000, 3, 3));
        assert_ne!(first.held.ports[2].host_port, 0);
        refused(host.joined("second", &bridge, &["8080:80"]), "publish 0.0.0.0:8080->80/tcp: port is already allocated");
        // Another address, protocol, or the rest of a range is free; the holder's death changes nothing.
        drop(first);
        let (_, second) = host.joined("second", &bridge, &["192.0.2.1:8080:80", "127.0.0.1:8080:80/udp", "9000-9001:90"]).unwrap();
        assert_eq!(second.held.ports[2].host_port, 9001);
        // A program of the host has it, or cannot have it while we do.
        let listener = TcpListener::bind("0.0.0.0:7070").unwrap();
        refused(host.joined("third", &bridge, &["7070:80"]), "port is already allocated");
        drop(listener);
        assert!(TcpListener::bind("0.0.0.0:9001").is_err());
        refused(host.joined("third", &bridge, &["192.0.2.77:1:80"]), "192.0.2.77 is no address of this host");
        refused(host.joined("third", &bridge, &["5:5", "5:6"]), "port is already allocated");
        host.networks.teardown(&id("first")).unwrap();
        host.joined("third", &bridge, &["127.0.0.1:8080:81"]).unwrap();
        assert_eq!(host.networks.leases().unwrap().len(), 2);
    });
}

#[test]
fn a_running_container_is_connected_and_disconnected() {
    on_host(|host| {
        let (lan, other) = (host.user_network("lan"), host.user_network("other"));
        let (web, _) = host.container("web", &["lan"], &["8080:80"]);
        let (peer, _) = host.container("peer", &["other"], &[]);
        let at =
            host.networks.connect(&id("web"), &Join { network: "other".into(), aliases: vec!["www".into()], ..Join::default() }).unwrap();
        assert_eq!(at.interface, "eth1");
        wait_until("www", || resolve(peer.path(), other.gateway.unwrap(), "www") == Ok(vec![at.address]));
        let served = serve_once(web.path(), 80);
        assert_eq!(fetch(Some(peer.path()), (at.address, 80)).unwrap(), "hello");
        served.join().unwrap();
        refused(
            host.networks.connect(&id("web"), &Join { network: "other".into(), ..Join::default() }),
            "web is already connected to network other",
        );
        refused(host.networks.connect(&id("none"), &Join { network: "lan".into(), ..Join::default() }), "has no network of its own");
        // Published ports survive the loss of one of two networks.
        host.networks.disconnect(&id("web"), "lan").unwrap();
        refused(host.networks.disconnect(&id("web"), "lan"), "web is not connected to network lan");
        let served = serve_once(web.path(), 80);
        assert_eq!(fetch(None, (HOST, 8080)).unwrap(), "hello");
        served.join().unwrap();
        host.networks.remove(&lan.id).unwrap();
        let again = host.user_network("lan");
        assert_eq!(host.networks.connect(&id("web"), &Join { network: again.name, ..Join::default() }).unwrap().interface, "eth0");
        for name in ["web", "peer"] {
            host.networks.teardown(&id(name)).unwrap();
        }
        assert_eq!(host.remains(), Vec::<String>::new());
    });
}

#[test]
fn a_container_on_two_networks_finds_names_on_both() {
    on_host(|host| {
        let (a, _) = (host.user_network("a"), host.user_network("b"));
        let (both, _) = host.container("both", &["a", "b"], &[]);
        let (_, far) = host.container("far", &["b"], &[]);
        wait_until("far", || resolve(both.path(), a.gateway.unwrap(), "far") == Ok(vec![far.attachments[0].address]));
    });
}

#[test]
fn what_a_crash_leaves_is_undone() {
    on_host(|host| {
        // The namespace went without a word: SIGKILL of everything and an unmount, or a container whose root removed its link.
        let (pin, _) = host.container("gone", &["bridge"], &["8080:80"]);
        pin.remove().unwrap();
        host.networks.teardown(&id("gone")).unwrap();
        assert_eq!(host.remains(), Vec::<String>::new());
        let (pin, _) = host.container("naughty", &["bridge"], &["8080:80"]);
        run("nsenter", &format!("--net={} ip link del eth0", pin.path().display()));
        host.networks.teardown(&id("naughty")).unwrap();
        assert_eq!(host.remains(), Vec::<String>::new());
        // Killed before netavark had done anything: only the lease is there.
        let (pin, _) = host.container("half", &["bridge"], &["8080:80"]);
        let leases = host.dirs.run.join("network/leases.json");
        let text = fs::read_to_string(&leases).unwrap();
        host.networks.teardown(&id("half")).unwrap();
        fs::write(&leases, &text).unwrap();
        pin.make().unwrap();
        host.networks.teardown(&id("half")).unwrap();
        assert_eq!(host.remains(), Vec::<String>::new());
        // Started again without having been torn down.
        host.container("again", &["bridge"], &["8080:80"]);
        let (pin, _) = host.container("again", &["bridge"], &["8080:80"]);
        let served = serve_once(pin.path(), 80);
        assert_eq!(fetch(Some(&host.outside), (HOST, 8080)).unwrap(), "hello");
        served.join().unwrap();
        assert_eq!(host.networks.leases().unwrap().len(), 1);
        // After a reboot nothing of it is true, and what is pinned is an empty file.
        host.networks.teardown(&id("again")).unwrap();
        let boot = fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap();
        assert!(text.contains(boot.trim()));
        fs::write(&leases, text.replace(boot.trim(), "before")).unwrap();
        fs::write(Namespace::of(&host.dirs, &id("half")).path(), "").unwrap();
        assert!(host.networks.leases().unwrap().is_empty());
        let (pin, _) = host.container("half", &["bridge"], &["8080:80"]);
        assert!(pin.exists());
        host.networks.teardown(&id("half")).unwrap();
        assert_eq!(Namespace::all(&host.dirs).unwrap(), ["outside"]);
    });
}

#[test]
fn many_containers_come_and_go_at_once() {
    on_host(|host| {
        thread::scope(|scope| {
            for n in 0..8 {
                // A new thread has the mount namespace and the network namespace of the one that made it.
                scope.spawn(move || {
                    let name = format!("c{n}");
                    let (_, connected) = host.container(&name, &["bridge"], &[&format!("{}:80", 8100 + n)]);
                    assert_eq!(connected.attachments.len(), 1);
                    if n % 2 == 0 {
                        host.networks.teardown(&id(&name)).unwrap();
                    }
                });
            }
        });
        let leases = host.networks.leases().unwrap();
        let mut addresses: Vec<Ipv4Addr> = leases.values().map(|lease| lease.attachments[0].address).collect();
        addresses.sort();
        addresses.dedup();
        assert_eq!((leases.len(), addresses.len()), (4, 4));
        for id in leases.keys() {
            host.networks.teardown(id).unwrap();
        }
        assert_eq!(host.remains(), Vec::<String>::new());
    });
}

#[test]
fn a_namespace_of_a_process_is_pinned() {
    on_host(|host| {
        let target =
            Target(Command::new("unshare").args(["--net", "sleep", "600"]).stdin(Stdio::null()).stdout(Stdio::null()).spawn().unwrap());
        let pid = target.0.id();
        wait_until("the namespace", || fs::read_to_string(format!("/proc/{pid}/comm")).unwrap().trim() == "sleep");
        let joins = [Join { network: "bridge".into(), ..Join::default() }];
        let namespace = PathBuf::from(format!("/proc/{pid}/ns/net"));
        let guest = Guest { id: "abc", name: "abc", namespace: &namespace, joins: &joins, ports: &[], dns: &[] };
        host.networks.setup(&guest).unwrap();
        assert!(run("nsenter", &format!("--target {pid} --net ip -o addr")).contains("eth0"));
        // The process is gone before its links.
        drop(target);
        host.networks.teardown("abc").unwrap();
        assert_eq!(host.remains(), Vec::<String>::new());
        assert_eq!(Namespace::all(&host.dirs).unwrap(), ["outside"]);
    });
}

#[test]
fn dns_outlives_comings_goings_and_its_own_death() {
    on_host(|host| {
        let gateway = host.user_network("lan").gateway.unwrap();
        let (first, one) = host.container("first", &["lan"], &[]);
        let address = one.attachments[0].address;
        for n in 0..8 {
            let name = format!("t{n}");
            let start = Instant::now();
            let (pin, connected) = host.container(&name, &["lan"], &[]);
            let mid = Instant::now();
            // At once: no waiting.
            assert!(connected.warnings.is_empty(), "{:?}", connected.warnings);
            assert_eq!(resolve(pin.path(), gateway, "first"), Ok(vec![address]), "{name}");
            let asked = Instant::now();
            host.networks.teardown(&id(&name)).unwrap();
            println!("setup {:?} teardown {:?}", mid - start, asked.elapsed());
        }
        let dns = host.aardvark().unwrap();
        run("kill", &format!("-KILL {dns}"));
        host.container("second", &["lan"], &[]);
        assert_ne!(host.aardvark().unwrap(), dns);
        assert_eq!(resolve(first.path(), gateway, "first"), Ok(vec![address]));
    });
}
