//! What of a bridge and of the host's loopback is out of others' reach: neighbours on the link,
//! containers, other networks.
//!
//! Where a packet would need CAP_NET_RAW to be made, a route and `route_localnet` in the sender's
//! namespace make the same packet.

use crate::host::*;
use keel::mydocker::network::Join;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::thread;

/// Runs ip(8) in a namespace.
fn ip_in(namespace: &Path, args: &str) {
    run("nsenter", &format!("--net={} ip {args}", namespace.display()));
}

/// From now on the namespace sends what is for 127.0.0.1 to `gateway`, and takes answers from
/// there.
fn send_loopback_to(namespace: &Path, gateway: Ipv4Addr) {
    let sysctl = |key: &str| run("nsenter", &format!("--net={} sysctl -qw net.ipv4.conf.{key}", namespace.display()));
    ["eth0.route_localnet=1", "eth0.rp_filter=0", "all.rp_filter=0"].into_iter().for_each(|key| drop(sysctl(key)));
    // Its own loopback has the address otherwise.
    ip_in(namespace, "addr flush dev lo");
    ip_in(namespace, "link set lo down");
    ip_in(namespace, &format!("route add 127.0.0.1/32 via {gateway} dev eth0"));
}

/// Nobody answers, not even with a refusal.
#[track_caller]
fn dropped(from: &Path, to: (Ipv4Addr, u16)) {
    let said = fetch(Some(from), to).map_err(|error| error.kind());
    assert_eq!(said, Err(ErrorKind::TimedOut), "{} to {to:?}", from.display());
}

#[track_caller]
fn answered(from: Option<&Path>, to: (Ipv4Addr, u16), served: thread::JoinHandle<std::net::SocketAddr>) {
    assert_eq!(fetch(from, to).unwrap_or_else(|error| panic!("{from:?} to {to:?}: {error}")), "hello");
    served.join().unwrap();
}

#[test]
fn a_port_published_on_loopback_does_not_answer_a_neighbour() {
    on_host(|host| {
        let (web, _) = host.container("web", &["bridge"], &["127.0.0.1:8081:81", "8080:80"]);
        send_loopback_to(&host.outside, HOST);
        let served = serve_once(web.path(), 81);
        dropped(&host.outside, (Ipv4Addr::LOCALHOST, 8081));
        answered(None, (Ipv4Addr::LOCALHOST, 8081), served);
        for from in [None, Some(&*host.outside)] {
            answered(from, (HOST, 8080), serve_once(web.path(), 80));
        }
    });
}

#[test]
fn a_container_does_not_reach_the_hosts_loopback() {
    on_host(|host| {
        for network in ["bridge", "lan"] {
            let network = host.networks.get(network).unwrap_or_else(|_| host.user_network("lan"));
            let (web, _) = host.container(&network.name, &[&network.name], &[]);
            send_loopback_to(web.path(), network.gateway.unwrap());
            let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 5555)).unwrap();
            let served = serve(listener);
            dropped(web.path(), (Ipv4Addr::LOCALHOST, 5555));
            // Its own host may still use it.
            answered(None, (Ipv4Addr::LOCALHOST, 5555), served);
        }
    });
}

#[test]
fn a_neighbour_with_a_route_reaches_published_ports_only() {
    on_host(|host| {
        let (web, connected) = host.container("web", &["bridge"], &["8080:80"]);
        let address = connected.attachments[0].address;
        ip_in(&host.outside, &format!("route add 172.16.0.0/12 via {HOST}"));
        for port in [80, 81] {
            let served = serve_once(web.path(), port);
            dropped(&host.outside, (address, port));
            answered(None, (address, port), served); // the host itself
        }
        answered(Some(&host.outside), (HOST, 8080), serve_once(web.path(), 80));
        // Out, and the answers in.
        answered(Some(web.path()), (OUTSIDE, 90), serve_once(&host.outside, 90));
    });
}

#[test]
fn networks_do_not_reach_each_other() {
    on_host(|host| {
        let (a, b) = (host.user_network("a"), host.user_network("b"));
        let (one, _) = host.container("one", &["a"], &[]);
        let (two, at) = host.container("two", &["b"], &["8080:80"]);
        let (beside, near) = host.container("beside", &["a"], &[]);
        let served = serve_once(two.path(), 80);
        dropped(one.path(), (at.attachments[0].address, 80));
        // What is published is for all; on one network all ports are.
        answered(Some(one.path()), (HOST, 8080), served);
        answered(Some(one.path()), (near.attachments[0].address, 81), serve_once(beside.path(), 81));
        // The guard of a network stays with its last container, also of one that joined it later.
        let joined = host.networks.connect(&id("one"), &Join { network: "b".into(), ..Join::default() }).unwrap();
        host.networks.teardown(&id("two")).unwrap();
        let served = serve_once(one.path(), 82);
        dropped(beside.path(), (joined.address, 82));
        let mut both = [&a, &b].map(|network| format!("mydocker-{}", network.interface));
        both.sort();
        assert_eq!(tables(), both);
        drop(served);
        host.networks.disconnect(&id("one"), "b").unwrap();
        assert_eq!(tables(), [format!("mydocker-{}", a.interface)]);
    });
}

#[test]
fn rules_of_others_stay_as_they_are() {
    on_host(|host| {
        let foreign = "add table ip other; add chain ip other input { type filter hook input priority 0; }";
        run("nft", foreign);
        run("iptables", "-A FORWARD -s 10.1.2.3 -j ACCEPT");
        let theirs = || (run("nft", "list table ip other"), run("iptables", "-S FORWARD").contains("-s 10.1.2.3"));
        let before = theirs();
        for _ in 0..2 {
            host.container("web", &["bridge"], &["8080:80"]);
            assert_eq!(tables(), ["mydocker-mydocker0"]);
            // Once more over what a crash has left.
            host.container("web", &["bridge"], &["8080:80"]);
            assert_eq!(tables(), ["mydocker-mydocker0"]);
            host.networks.teardown(&id("web")).unwrap();
            host.networks.teardown(&id("web")).unwrap();
            assert_eq!((tables(), theirs()), (Vec::new(), before.clone()));
        }
        run("iptables", "-D FORWARD -s 10.1.2.3 -j ACCEPT");
        assert_eq!(host.remains(), Vec::<String>::new());
    });
}
