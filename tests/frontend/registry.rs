//! `pull`, `push`, `login`, `logout` with Debian's docker-registry on loopback.

use crate::host::Host;
use serde_json::json;
use std::fs;
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};

/// Killed and removed when dropped. The user `me` has the password `secret`.
struct Registry {
    child: Child,
    dir: PathBuf,
    host: String,
}

impl Registry {
    fn new(host: &Host) -> Self {
        let dir = host.dir.join("registry");
        fs::create_dir(&dir).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let address = format!("127.0.0.1:{port}");
        let said = Command::new("htpasswd").args(["-nbB", "me", "secret"]).output().expect("htpasswd, of the package apache2-utils");
        fs::write(dir.join("htpasswd"), said.stdout).unwrap();
        let config = json!({"version": 0.1, "log": {"level": "error"}, "http": {"addr": address},
            "storage": {"filesystem": {"rootdirectory": dir.join("data")}},
            "auth": {"htpasswd": {"realm": "test", "path": dir.join("htpasswd")}}});
        fs::write(dir.join("config.yml"), config.to_string()).unwrap(); // JSON is YAML
        let mut command = Command::new("docker-registry");
        command.arg("serve").arg(dir.join("config.yml")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Self { child: command.spawn().expect("the package docker-registry"), dir, host: address };
        super::common::eventually("the registry answers", || TcpStream::connect(&registry.host).is_ok());
        registry
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[test]
fn to_a_registry_and_back() {
    let host = Host::new();
    let registry = Registry::new(&host);
    let name = format!("{}/team/box", registry.host);
    let (one, two) = (format!("{name}:1"), format!("{name}:2"));
    host.my(&["push", &one]).fails(1, &["does not exist locally"]);
    host.my(&["tag", "busybox", &one]).ok();
    host.my(&["tag", "busybox", &two]).ok();
    host.my(&["push", &one]).fails(1, &[&registry.host]);

    // Who the registry does not know is not written down.
    host.fed(&["login", "-u", "me", "--password-stdin", &registry.host], b"wrong\n").fails(1, &["log in to"]);
    host.my(&["login", "--password-stdin", &registry.host]).fails(1, &["--username"]);
    host.my(&["login", &registry.host]).fails(1, &["non TTY"]);
    assert!(!host.dir.join("docker/config.json").exists());
    assert_eq!(host.fed(&["login", "-u", "me", "--password-stdin", &registry.host], b"secret\n").ok(), "Login Succeeded\n");

    let said = host.my(&["push", "-a", &name]);
    assert!(said.err.contains(&format!("The push refers to repository [{name}]")) && said.err.contains(": Pushed"), "{said:?}");
    let pushed = said.ok();
    assert_eq!(pushed.matches(": digest: sha256:").count(), 2, "{pushed}");

    let other = Host::bare("root");
    fs::create_dir(other.dir.join("docker")).unwrap();
    fs::copy(host.dir.join("docker/config.json"), other.dir.join("docker/config.json")).unwrap();
    let said = other.my(&["pull", &one]);
    assert!(said.err.contains("1: Pulling from team/box") && said.err.contains(": Pull complete"), "{said:?}");
    let pulled = said.ok();
    assert!(pulled.contains(&format!("Status: Downloaded newer image for {one}\n{one}\n")), "{pulled}");
    assert!(other.my(&["pull", &one]).ok().contains("Status: Image is up to date for"));
    assert_eq!(other.my(&["pull", "-q", "-a", &name]).ok(), format!("{one}\n{two}\n"));
    other.my(&["pull", "-a", &one]).fails(1, &["--all-tags"]);
    assert_eq!(other.run(&["--rm", "--pull", "always", "-q", &two, "echo", "ran"]).ok(), "ran\n");
    let digests = other.my(&["images", "--digests", "--format", "{{.Digest}}"]).ok();
    assert!(digests.lines().all(|digest| digest.starts_with("sha256:")), "{digests}");
    other.my(&["pull", &format!("{name}:3")]).fails(1, &["3"]);
    // `run` gets what is missing, and says so on stderr only.
    other.my(&["rmi", &one, &two]).ok();
    let said = other.run(&["--rm", &one, "echo", "ran"]);
    assert!(said.err.contains(&format!("Unable to find image '{one}' locally")), "{said:?}");
    assert_eq!(said.ok(), "ran\n");

    assert_eq!(other.my(&["logout", &registry.host]).ok(), format!("Removing login credentials for {}\n", registry.host));
    assert_eq!(other.my(&["logout", &registry.host]).ok(), format!("Not logged in to {}\n", registry.host));
    other.my(&["pull", &two]).fails(1, &[&registry.host]);
}
