//! What is typed for networks, and the files made from it: no kernel needed.

#![cfg(feature = "mydocker")]

use keel::mydocker::network::names::{Dns, ExtraHost, hosts, resolv_conf};
use keel::mydocker::network::ports::{PortSpec, Protocol};
use keel::mydocker::network::{Join, Mode, Netavark, Subnet, free, occupied, rootless};
use std::net::{IpAddr, Ipv4Addr};

#[track_caller]
fn refused<T: std::fmt::Debug>(result: keel::sys::Result<T>, words: &str) {
    let error = result.expect_err(words).to_string();
    assert!(error.contains(words), "{words:?} is missing in {error:?}");
}

fn spec(ip: &str, host_ports: (u16, u16), container_port: u16, protocol: Protocol) -> PortSpec {
    PortSpec { host_ip: ip.parse().unwrap(), host_ports, container_port, protocol }
}

#[test]
fn ports_are_read_as_docker_reads_them() {
    use Protocol::{Sctp, Tcp, Udp};
    for (text, wanted) in [
        ("80", vec![spec("0.0.0.0", (0, 0), 80, Tcp)]),
        ("8080:80", vec![spec("0.0.0.0", (8080, 8080), 80, Tcp)]),
        ("8080:80/UDP", vec![spec("0.0.0.0", (8080, 8080), 80, Udp)]),
        ("127.0.0.1:8080:80/sctp", vec![spec("127.0.0.1", (8080, 8080), 80, Sctp)]),
        ("127.0.0.1::80", vec![spec("127.0.0.1", (0, 0), 80, Tcp)]),
        ("[127.0.0.1]:1:80", vec![spec("127.0.0.1", (1, 1), 80, Tcp)]),
        // A range for one port leaves a choice; a range on a range is one on one; a range alone is all of the kernel's choice.
        ("8000-8010:80", vec![spec("0.0.0.0", (8000, 8010), 80, Tcp)]),
        ("8000-8001:80-81", vec![spec("0.0.0.0", (8000, 8000), 80, Tcp), spec("0.0.0.0", (8001, 8001), 81, Tcp)]),
        ("80-81", vec![spec("0.0.0.0", (0, 0), 80, Tcp), spec("0.0.0.0", (0, 0), 81, Tcp)]),
        ("65535:65535", vec![spec("0.0.0.0", (65535, 65535), 65535, Tcp)]),
    ] {
        assert_eq!(PortSpec::parse(text).unwrap(), wanted, "{text}");
    }
    assert_eq!(PortSpec::parse("1-65535:1-65535").unwrap().len(), 65_535);
    for (text, words) in [
        ("", "invalid containerPort"),
        ("0", "invalid containerPort: 0"),
        ("65536", "invalid containerPort"),
        ("+80", "invalid containerPort"),
        ("8080:", "invalid containerPort"),
        ("x:80", "invalid hostPort: x"),
        ("81-80:81-80", "invalid containerPort: 81-80"),
        ("1-3:1-2", "invalid ranges specified for container and host ports: 2 and 3 ports"),
        ("80/icmp", "invalid proto: icmp"),
        ("1.2.3:80:80", "invalid IP address: 1.2.3"),
        ("[::1]:80:80", "networks are IPv4 only"),
        ("localhost:80:80", "invalid IP address: localhost"),
    ] {
        refused(PortSpec::parse(text), words);
    }
    refused(PortSpec::exposed("80:80"), "invalid exposed port");
    assert_eq!(PortSpec::exposed("53/udp").unwrap(), [spec("0.0.0.0", (0, 0), 53, Udp)]);
}

#[test]
fn networks_are_read_as_docker_reads_them() {
    let network = |name: &str| Join { network: name.into(), ..Join::default() };
    assert_eq!(Mode::parse("none").unwrap(), Mode::None);
    assert_eq!(Mode::parse("host").unwrap(), Mode::Host);
    assert_eq!(Mode::parse("container:web").unwrap(), Mode::Container("web".into()));
    assert_eq!(Mode::parse("default").unwrap(), Mode::Networks(vec![network("bridge")]));
    assert_eq!(Mode::parse_all::<&str>(&[]).unwrap(), Mode::Networks(vec![network("bridge")]));
    assert_eq!(Mode::parse_all(&["a", "b"]).unwrap(), Mode::Networks(vec![network("a"), network("b")]));
    let long = Mode::parse("name=lan,ip=10.0.0.9,alias=db,alias=sql,mac-address=02-42-00-00-00-0A").unwrap();
    let wanted = Join {
        network: "lan".into(),
        address: Some(Ipv4Addr::new(10, 0, 0, 9)),
        mac: Some("02:42:00:00:00:0a".into()),
        aliases: vec!["db".into(), "sql".into()],
    };
    assert_eq!(long, Mode::Networks(vec![wanted]));
    refused(Mode::parse(""), "needs the name");
    refused(Mode::parse("container:"), "needs the name or id of a container");
    refused(Mode::parse("name=lan,ip=x"), "\"x\" is not an IPv4 address");
    refused(Mode::parse("alias=x"), "name= is missing");
    refused(Mode::parse("name=lan,driver-opt=x"), "\"driver-opt\" is not one of");
    refused(Mode::parse("name=lan,mac-address=01:00:00:00:00:00"), "invalid MAC address");
    refused(Mode::parse_all(&["lan", "host"]), "--network host cannot be combined");
    refused(Mode::parse_all(&["lan", "lan"]), "--network lan is given twice");
}

#[test]
fn a_subnet_is_chosen_that_nothing_else_has() {
    let subnet = |text: &str| text.parse::<Subnet>().unwrap();
    assert_eq!(free(&[]).unwrap(), subnet("172.17.0.0/16"));
    // Routes as /proc/net/route prints them on this machine's byte order, and a name server.
    let word = |ip: [u8; 4]| format!("{:08X}", u32::from_ne_bytes(ip));
    let route = |to: [u8; 4], mask: [u8; 4]| format!("eth0\t{}\t{}\t0003\t0\t0\t0\t{}\t0\t0\t0\n", word(to), word([0; 4]), word(mask));
    let routes = ["Iface\tDestination\t…\n".into(), route([0; 4], [0; 4]), route([172, 17, 5, 0], [255, 255, 255, 0])].concat();
    let taken = occupied(&routes, "search x\nnameserver 172.18.0.1\nnameserver ::1\n");
    assert_eq!(taken.len(), 2, "{taken:?}");
    assert_eq!(free(&taken).unwrap(), subnet("172.19.0.0/16"));
    assert_eq!(free(&[subnet("172.16.0.0/12")]).unwrap(), subnet("192.168.0.0/20"));
    refused(free(&[subnet("172.16.0.0/12"), subnet("192.0.0.0/8")]), "all predefined address pools have been fully subnetted");
    refused("10.0.0.1/24".parse::<Subnet>(), "it should be 10.0.0.0/24");
    refused("10.0.0.0/30".parse::<Subnet>(), "the prefix must be 8 to 29");
    refused("10.0.0.0".parse::<Subnet>(), "a prefix such as");
    refused("fd00::/64".parse::<Subnet>(), "IPv4 only");
    assert_eq!(subnet("10.0.0.0/8").last(), Ipv4Addr::new(10, 255, 255, 255));
}

#[test]
fn resolv_conf_follows_dockers_rules() {
    let host =
        "# comment\nnameserver 127.0.0.53\nnameserver 10.0.0.2\nnameserver fe80::1\nsearch a.example b.example\noptions edns0 trust-ad\n";
    let none = Dns::default();
    let own = [Ipv4Addr::new(172, 17, 0, 1)];
    assert_eq!(resolv_conf(host, &none, &[], false), "nameserver 10.0.0.2\nsearch a.example b.example\noptions edns0 trust-ad\n");
    assert_eq!(
        resolv_conf(host, &none, &[], true),
        "nameserver 127.0.0.53\nnameserver 10.0.0.2\nnameserver fe80::1\nsearch a.example b.example\noptions edns0 trust-ad\n"
    );
    assert_eq!(resolv_conf(host, &none, &own, false), "nameserver 172.17.0.1\nsearch a.example b.example\noptions edns0 trust-ad\n");
    // Only a stub on loopback, or nothing at all: docker's public servers.
    for host in ["nameserver 127.0.0.53\n", ""] {
        assert_eq!(resolv_conf(host, &none, &[], false), "nameserver 8.8.8.8\nnameserver 8.8.4.4\n");
    }
    let given = Dns { servers: vec!["9.9.9.9".parse().unwrap()], search: vec!["c".into()], options: vec!["ndots:2".into()] };
    assert_eq!(resolv_conf(host, &given, &[], false), "nameserver 9.9.9.9\nsearch c\noptions ndots:2\n");
    // Our DNS stays in front; it asks those of --dns.
    assert_eq!(resolv_conf(host, &given, &own, false), "nameserver 172.17.0.1\nsearch c\noptions ndots:2\n");
    let dot = Dns { search: vec![".".into()], ..Dns::default() };
    assert_eq!(resolv_conf(host, &dot, &own, false), "nameserver 172.17.0.1\noptions edns0 trust-ad\n");
}

#[test]
fn hosts_names_the_container_and_what_was_added() {
    let extra = ["db:10.0.0.5", "gw=host-gateway", "six:[fd00::1]"].map(|text| ExtraHost::parse(text).unwrap());
    let gateway: IpAddr = "172.17.0.1".parse().unwrap();
    let text = hosts(None, "web", "", &[Ipv4Addr::new(172, 17, 0, 2)], &extra, Some(gateway)).unwrap();
    assert!(text.starts_with("127.0.0.1\tlocalhost\n::1\tlocalhost ip6-localhost ip6-loopback\n"), "{text}");
    assert!(text.ends_with("10.0.0.5\tdb\n172.17.0.1\tgw\nfd00::1\tsix\n172.17.0.2\tweb\n"), "{text}");
    let text = hosts(Some("127.0.0.1 host"), "web", "example", &[Ipv4Addr::LOCALHOST], &[], None).unwrap();
    assert_eq!(text, "127.0.0.1 host\n127.0.0.1\tweb.example web\n");
    refused(hosts(None, "web", "", &[], &extra, None), "--add-host gw:host-gateway: the container has no way to the host");
    refused(ExtraHost::parse("name"), "NAME:ADDRESS is needed");
    refused(ExtraHost::parse("name:x"), "not an IP address, nor host-gateway");
    refused(ExtraHost::parse(":1.2.3.4"), "not the name of a host");
    refused(ExtraHost::parse("a\nb:1.2.3.4"), "not the name of a host");
}

#[test]
fn what_is_not_installed_is_named() {
    let nowhere = || std::iter::once("/nonexistent".into());
    refused(Netavark::find_in(nowhere()), "install the packages netavark and aardvark-dns, or use --network none or host");
    refused(rootless::Program::find_in(nowhere()), "install the package slirp4netns or passt");
}
