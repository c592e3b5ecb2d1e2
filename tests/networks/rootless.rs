//! An ordinary user's network, by slirp4netns and by pasta.

use crate::host::*;
use keel::mydocker::network::ports::PortSpec;
use keel::mydocker::network::rootless::{self, Program};
use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::time::Duration;

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
