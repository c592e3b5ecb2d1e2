//! Packets and names: bridge, NAT, published ports, DNS.

use crate::host::*;
use keel::mydocker::network::Join;
use std::fs;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

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
