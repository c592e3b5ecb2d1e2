//! Networks, addresses and ports as they are recorded, and what a crash leaves of them.

use crate::host::*;
use keel::mydocker::network::{Connected, Create, Guest, Join, Namespace, Network};
use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::thread;

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
