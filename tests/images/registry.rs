//! Registries: Debian's docker-registry on loopback, with and without passwords, and one of our own that misbehaves.

use super::{Archive, Store, quiet, read};
use keel::mydocker::files::random;
use keel::mydocker::image::{Digest, Logins, Progress, Reference, login};
use serde_json::{Value, json};
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

const PROGRAM: &str = "/usr/bin/docker-registry";

/// Debian's registry (package docker-registry); killed and removed when dropped.
struct Registry {
    child: Child,
    dir: PathBuf,
    host: String,
}

impl Registry {
    /// With `password`, the user `me` must give it.
    fn new(password: Option<&str>) -> Self {
        let dir = std::env::temp_dir().join(format!("registry-{}", random(12)));
        fs::create_dir(&dir).unwrap();
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let host = format!("127.0.0.1:{port}");
        let mut config = json!({"version": 0.1, "log": {"level": "error"}, "http": {"addr": host},
            "storage": {"filesystem": {"rootdirectory": dir.join("data")}, "delete": {"enabled": true}}});
        if let Some(password) = password {
            let said = Command::new("htpasswd").args(["-nbB", "me", password]).output().expect("htpasswd, of the package apache2-utils");
            fs::write(dir.join("htpasswd"), said.stdout).unwrap();
            config["auth"] = json!({"htpasswd": {"realm": "test", "path": dir.join("htpasswd")}});
        }
        fs::write(dir.join("config.yml"), config.to_string()).unwrap(); // JSON is YAML
        let mut command = Command::new(PROGRAM);
        command.arg("serve").arg(dir.join("config.yml")).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let registry = Self { child: command.spawn().expect("the package docker-registry"), dir, host };
        let until = Instant::now() + Duration::from_secs(30);
        while TcpStream::connect(&registry.host).is_err() {
            assert!(Instant::now() < until, "the registry does not answer");
            std::thread::sleep(Duration::from_millis(20));
        }
        registry
    }

    fn reference(&self, name: &str) -> Reference {
        Reference::parse(&format!("{}/{name}", self.host)).unwrap()
    }
}

impl Drop for Registry {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

fn nobody() -> Logins {
    Logins::at("/nonexistent/config.json".into())
}

fn large() -> Vec<u8> {
    let text: String = (0..20_000).map(|n| format!("line {n}\n")).collect();
    Archive::new().file("large", &text).done()
}

#[test]
fn what_is_pushed_is_pulled() {
    let registry = Registry::new(None);
    let (here, there) = (Store::new(), Store::new());
    let reference = registry.reference("some/name:v1");
    let image = here.import(&large(), &reference.to_string()).unwrap();
    let mut seen = Vec::new();
    let mut watch = |progress: Progress<'_>| seen.push(format!("{} {}", progress.doing, progress.what));
    assert_eq!(here.images.push(&reference, &nobody(), &mut watch).unwrap(), image.digest);
    assert!(seen.contains(&format!("push {}", image.id.short())), "{seen:?}");
    // Again: everything is there.
    seen.clear();
    here.images.push(&reference, &nobody(), &mut |progress| seen.push(progress.doing.to_owned())).unwrap();
    assert_eq!(seen, ["exists", "exists"]);

    let pulled = there.images.pull(&reference, &nobody(), &mut quiet).unwrap();
    assert!(pulled.new);
    assert_eq!((&pulled.image.id, &pulled.digest), (&image.id, &image.digest));
    assert_eq!(read(there.images.layers(&pulled.image, &mut quiet).unwrap()[0].join("large")).len(), 208_890);
    assert!(!there.images.pull(&reference, &nobody(), &mut quiet).unwrap().new);
    let pinned = format!("{}/some/name@{}", registry.host, image.digest);
    assert_eq!(there.images.resolve(&pinned).unwrap().id, image.id);
    assert_eq!(pulled.image.digests[0].to_string(), pinned);
    // By its digest alone.
    there.images.remove(&reference.to_string(), true, &|_| None).unwrap();
    assert!(there.files().is_empty());
    let pulled = there.images.pull(&Reference::parse(&pinned).unwrap(), &nobody(), &mut quiet).unwrap();
    assert_eq!((pulled.image.id, pulled.image.names.len()), (image.id, 0));

    let said = there.images.pull(&registry.reference("some/name:v2"), &nobody(), &mut quiet).unwrap_err().to_string();
    assert!(said.contains("has no manifest v2"), "{said}");
    let said = there.images.push(&registry.reference("absent"), &nobody(), &mut quiet).unwrap_err().to_string();
    assert!(said.starts_with("no such image"), "{said}");
}

#[test]
fn a_password_is_asked_for_stored_and_forgotten() {
    let registry = Registry::new(Some("secret:with:colons"));
    let store = Store::new();
    let reference = registry.reference("private");
    store.import(&large(), &reference.to_string()).unwrap();
    let said = store.images.push(&reference, &nobody(), &mut quiet).unwrap_err().to_string();
    assert!(said.ends_with(&format!("wants to know who you are (mydocker login {})", registry.host)), "{said}");

    let file = store.dir.join("docker/config.json");
    let logins = Logins::at(file.clone());
    let said = login(&registry.host, "me", "wrong", &logins).unwrap_err().to_string();
    assert!(said.contains("the name or the password is wrong"), "{said}");
    assert!(!file.exists());
    fs::create_dir(file.parent().unwrap()).unwrap();
    fs::write(&file, r#"{"detachKeys": "ctrl-x", "auths": {"other.example": {"auth": "YTpi"}}}"#).unwrap();
    login(&registry.host, "me", "secret:with:colons", &logins).unwrap();
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let config: Value = serde_json::from_str(&read(&file)).unwrap();
    assert_eq!((&config["detachKeys"], &config["auths"]["other.example"]["auth"]), (&"ctrl-x".into(), &"YTpi".into()));
    store.images.push(&reference, &logins, &mut quiet).unwrap();
    Store::new().images.pull(&reference, &logins, &mut quiet).unwrap();
    assert!(logins.remove(&registry.host).unwrap());
    assert!(!logins.remove(&registry.host).unwrap());
    let said = Store::new().images.pull(&reference, &logins, &mut quiet).unwrap_err().to_string();
    assert!(said.contains("mydocker login"), "{said}");
}

#[test]
fn podman_reads_what_we_push() {
    if Command::new("podman").arg("--version").stdout(Stdio::null()).status().is_err() {
        crate::skip::skipped("podman is not installed");
        return;
    }
    let registry = Registry::new(None);
    let store = Store::new();
    let reference = registry.reference("image");
    let image = store.import(&large(), &reference.to_string()).unwrap();
    store.images.push(&reference, &nobody(), &mut quiet).unwrap();
    store.images.save(&[&reference.to_string()], fs::File::create(store.dir.join("saved.tar")).unwrap(), &mut quiet).unwrap();
    let podman = |args: &[&str]| {
        let mut command = Command::new("podman");
        command.arg("--root").arg(store.dir.join("podman")).arg("--runroot").arg(store.dir.join("run")).args(["--storage-driver", "vfs"]);
        let said = command.args(args).stdin(Stdio::null()).output().unwrap();
        assert!(said.status.success(), "{args:?}: {}", String::from_utf8_lossy(&said.stderr));
        String::from_utf8(said.stdout).unwrap()
    };
    let id = |text: &str| text.lines().last().unwrap_or_default().to_owned();
    assert_eq!(id(&podman(&["pull", "-q", "--tls-verify=false", &reference.to_string()])), image.id.hex());
    podman(&["rmi", "-a", "-f"]);
    podman(&["load", "-q", "-i", store.dir.join("saved.tar").to_str().unwrap()]);
    assert_eq!(id(&podman(&["image", "inspect", "--format", "{{.Id}}", &reference.to_string()])), image.id.hex());
    // And back, in both of its formats.
    for format in ["docker-archive", "oci-archive"] {
        let path = store.dir.join(format);
        podman(&["save", "-q", "--format", format, "-o", path.to_str().unwrap(), &reference.to_string()]);
        let other = Store::new();
        let loaded = other.images.load(fs::File::open(&path).unwrap(), &mut quiet).unwrap();
        assert_eq!(loaded[0].names, std::slice::from_ref(&reference), "{format}");
        assert_eq!(other.images.resolve(loaded[0].digest.as_str()).unwrap().layers, image.layers, "{format}");
    }
}

/// A registry that answers as it is told: each request is a line `METHOD PATH`, with its headers.
struct Liar {
    host: String,
    asked: Arc<Mutex<Vec<String>>>,
}

/// The whole answer, headers and all.
type Answers = dyn Fn(&str, &[String]) -> Vec<u8> + Send;

impl Liar {
    fn new(answers: Box<Answers>) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let host = listener.local_addr().unwrap().to_string();
        let asked = Arc::new(Mutex::new(Vec::new()));
        let log = Arc::clone(&asked);
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let Ok(mut stream) = stream else { return };
                let lines: Vec<String> =
                    BufReader::new(stream.try_clone().unwrap()).lines().map_while(Result::ok).take_while(|line| !line.is_empty()).collect();
                let Some(first) = lines.first() else { continue };
                let request = first.rsplit_once(' ').unwrap().0.to_owned();
                log.lock().unwrap().push(request.clone());
                let _ = stream.write_all(&answers(&request, &lines));
                let _ = stream.shutdown(std::net::Shutdown::Write);
                let _ = stream.read(&mut [0; 64]);
            }
        });
        Self { host, asked }
    }

    fn pull(&self, store: &Store, logins: &Logins) -> Result<Digest, String> {
        let reference = Reference::parse(&format!("{}/x:1", self.host)).unwrap();
        store.images.pull(&reference, logins, &mut quiet).map(|pulled| pulled.image.id).map_err(|e| e.to_string())
    }

    fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn answer(status: &str, headers: &str, body: &[u8]) -> Vec<u8> {
    let head = format!("HTTP/1.1 {status}\r\nconnection: close\r\ncontent-length: {}\r\n{headers}\r\n", body.len());
    [head.as_bytes(), body].concat()
}

/// A good image: manifest, configuration, layer.
fn good() -> (Vec<u8>, Vec<u8>, Vec<u8>) {
    let layer = large();
    let config =
        json!({"architecture": "amd64", "os": "linux", "rootfs": {"type": "layers", "diff_ids": [Digest::of(&layer)]}}).to_string();
    // As docker writes it.
    let manifest = json!({"schemaVersion": 2, "mediaType": "application/vnd.docker.distribution.manifest.v2+json",
        "config": {"mediaType": "application/vnd.docker.container.image.v1+json", "digest": Digest::of(config.as_bytes()), "size": config.len()},
        "layers": [{"mediaType": "application/vnd.docker.image.rootfs.diff.tar", "digest": Digest::of(&layer), "size": layer.len()}]});
    (manifest.to_string().into_bytes(), config.into_bytes(), layer)
}

/// The blob that a request is for, of these.
fn blob<'a>(request: &str, blobs: &[&'a [u8]]) -> Option<&'a [u8]> {
    blobs.iter().copied().find(|blob| request.ends_with(Digest::of(blob).as_str()))
}

#[test]
fn a_transfer_that_breaks_goes_on_where_it_broke() {
    let (manifest, config, layer) = good();
    let size = layer.len();
    let liar = Liar::new(Box::new(move |request, headers| {
        if request.ends_with("/manifests/1") {
            return answer("200 OK", "", &manifest);
        }
        match blob(request, &[&config, &layer]) {
            Some(found) if found.len() > 1000 => {
                let range = headers
                    .iter()
                    .find_map(|line| line.to_ascii_lowercase().strip_prefix("range: bytes=")?.strip_suffix('-')?.parse::<usize>().ok());
                let from = range.unwrap_or(0);
                let status = if range.is_some() { "206 Partial Content" } else { "200 OK" };
                let whole = answer(status, "", &found[from..]);
                let keep = whole.len() - (found.len() - from) + (found.len() - from).min(100_000);
                whole[..keep].to_vec()
            }
            Some(found) => answer("200 OK", "", found),
            None => answer("404 Not Found", "", b""),
        }
    }));
    assert!(size > 100_000 && size < 300_000);
    let store = Store::new();
    liar.pull(&store, &nobody()).unwrap();
    let asked = liar.asked();
    assert_eq!(asked.iter().filter(|request| request.contains("/blobs/")).count(), 1 + size.div_ceil(100_000), "{asked:?}");
}

#[test]
fn lies_and_failures_of_a_registry_are_told_and_leave_nothing() {
    let check = |answers: Box<Answers>, words: &str| {
        let (liar, store) = (Liar::new(answers), Store::new());
        let said = liar.pull(&store, &nobody()).expect_err(words);
        assert!(said.contains(words) && !said.contains('\n'), "{words}: {said}");
        assert!(store.files().is_empty(), "{said}: {:?}", store.files());
        liar.asked()
    };
    let serve = |change: fn(&mut Vec<u8>, &mut Vec<u8>, &mut Vec<u8>)| -> Box<Answers> {
        let (manifest, config, layer) = good();
        let digests = [Digest::of(&config), Digest::of(&layer)];
        let (mut m, mut c, mut l) = (manifest, config, layer);
        change(&mut m, &mut c, &mut l);
        Box::new(move |request, _| {
            let blob = [&c, &l].into_iter().zip(&digests).find(|(_, digest)| request.ends_with(digest.as_str()));
            match blob {
                _ if request.contains("/manifests/") => answer("200 OK", "content-type: application/json\r\n", &m),
                Some((blob, _)) => answer("200 OK", "", blob),
                None => answer("404 Not Found", "", b""),
            }
        })
    };
    check(serve(|_, _, layer| layer[600] ^= 1), "not what was promised");
    check(serve(|_, config, _| config[5] ^= 1), "not what was promised");
    check(serve(|_, _, layer| layer.push(0)), "is longer than the");
    let asked = check(serve(|_, _, layer| layer.truncate(1000)), "ends after 1000 of");
    assert_eq!(asked.iter().filter(|request| request.contains("/blobs/")).count(), 4, "tried three times: {asked:?}");
    check(serve(|manifest, _, _| manifest.truncate(40)), "is not JSON");
    check(serve(|manifest, _, _| manifest.resize(5 << 20, b' ')), "larger than 4 MiB");
    check(serve(|manifest, _, _| *manifest = b"{\"schemaVersion\": 1}".to_vec()), "schema 1");
    check(serve(|manifest, _, _| *manifest = b"{\"schemaVersion\": 2}".to_vec()), "is not the manifest of an image");
    let elsewhere = json!({"schemaVersion": 2, "mediaType": "application/vnd.oci.image.index.v1+json",
        "manifests": [{"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": Digest::of(b""), "size": 0, "platform": {"os": "plan9", "architecture": "mips"}}]});
    let elsewhere = elsewhere.to_string().into_bytes();
    check(Box::new(move |_, _| answer("200 OK", "", &elsewhere)), "it has the image for plan9/mips (this machine is linux/");
    let wrong = format!("docker-content-digest: {}\r\n", Digest::of(b"other"));
    check(Box::new(move |_, _| answer("200 OK", &wrong, b"{}")), "not what was promised");
    let message = br#"{"errors": [{"code": "X", "message": "a reason\u001b[31m"}]}"#;
    check(Box::new(move |_, _| answer("403 Forbidden", "", message)), "does not let us manifest 1: a reason[31m (mydocker login");
    check(Box::new(|_, _| answer("500 Internal Server Error", "", b"")), "answered 500");
    check(Box::new(|_, _| answer("429 Too Many Requests", "", b"")), "fewer requests");
    check(Box::new(|_, _| b"nonsense\r\n\r\n".to_vec()), "registry 127.0.0.1");
    check(Box::new(|_, _| Vec::new()), "registry 127.0.0.1");
    check(Box::new(|_, _| answer("401 Unauthorized", "www-authenticate: Digest x\r\n", b"")), "not known here");
    check(Box::new(|_, _| answer("302 Found", "location: /v2/x/manifests/1\r\n", b"")), "registry 127.0.0.1");
}

#[test]
fn tokens_are_fetched_and_credentials_go_to_nobody_else() {
    let (manifest, config, layer) = good();
    // The other host gets the blobs' redirections, and must not learn who we are.
    let seen: Arc<Mutex<Vec<String>>> = Arc::default();
    let (log, blobs) = (Arc::clone(&seen), [config.clone(), layer.clone()]);
    let other = Liar::new(Box::new(move |request, headers| {
        log.lock().unwrap().extend(headers.iter().cloned());
        blob(request, &[&blobs[0], &blobs[1]]).map_or_else(|| answer("404 Not Found", "", b""), |blob| answer("200 OK", "", blob))
    }));
    let (elsewhere, own) = (other.host.clone(), Arc::new(Mutex::new(String::new())));
    let name = Arc::clone(&own);
    let liar = Liar::new(Box::new(move |request, headers| {
        let host = name.lock().unwrap().clone();
        let has = |text: &str| headers.iter().any(|line| line.eq_ignore_ascii_case(text));
        if request.starts_with("GET /token?") {
            // me:pw
            let good = has("authorization: Basic bWU6cHc=")
                && request.contains("service=a%20b")
                && request.contains("scope=repository%3Ax%3Apull");
            return if good { answer("200 OK", "", br#"{"token": "T0KEN"}"#) } else { answer("401 Unauthorized", "", b"") };
        }
        if !has("authorization: Bearer T0KEN") {
            let challenge =
                format!("www-authenticate: Bearer realm=\"http://{host}/token\",service=\"a b\",scope=\"repository:x:pull\"\r\n");
            return answer("401 Unauthorized", &challenge, b"");
        }
        match request.split_once("/blobs/") {
            Some((_, digest)) => answer("307 Temporary Redirect", &format!("location: http://{elsewhere}/far/{digest}\r\n"), b""),
            None => answer("200 OK", "", &manifest),
        }
    }));
    own.lock().unwrap().clone_from(&liar.host);
    let store = Store::new();
    let file = store.dir.join("config.json");
    fs::write(&file, json!({"auths": {format!("https://{}/v2/", liar.host): {"auth": "bWU6cHc="}}}).to_string()).unwrap();
    liar.pull(&store, &Logins::at(file)).unwrap();
    let seen = seen.lock().unwrap();
    assert_eq!(seen.iter().filter(|line| line.starts_with("GET ")).count(), 2, "{seen:?}");
    assert!(!seen.iter().any(|line| line.to_ascii_lowercase().starts_with("authorization")), "{seen:?}");
    assert_eq!(liar.asked().iter().filter(|request| request.contains("/token")).count(), 1, "one token does for all");

    let said = liar.pull(&Store::new(), &nobody()).unwrap_err();
    assert!(said.contains("wants to know who you are (mydocker login 127.0.0.1"), "{said}");
}

/// A registry that names another token server than at login, or one that nobody has agreed to, gets no password for it.
#[test]
fn a_password_goes_only_to_the_token_server_of_the_login() {
    let (manifest, config, layer) = good();
    let asked: Arc<Mutex<Vec<String>>> = Arc::default();
    let log = Arc::clone(&asked);
    let tokens = || {
        let log = Arc::clone(&log);
        Liar::new(Box::new(move |request, headers| {
            let shows = headers.iter().any(|line| line.to_ascii_lowercase().starts_with("authorization"));
            log.lock().unwrap().push(format!("{shows} {request}"));
            answer("200 OK", "", br#"{"token": "T0KEN"}"#)
        }))
    };
    let (first, second) = (tokens(), tokens());
    let realm = Arc::new(Mutex::new(format!("http://{}/token", first.host)));
    let named = Arc::clone(&realm);
    let liar = Liar::new(Box::new(move |request, headers| {
        if !headers.iter().any(|line| line.eq_ignore_ascii_case("authorization: Bearer T0KEN")) {
            let challenge = format!("www-authenticate: Bearer realm=\"{}\",service=\"s\"\r\n", named.lock().unwrap());
            return answer("401 Unauthorized", &challenge, b"");
        }
        if request == "GET /v2/" {
            return answer("200 OK", "", b"{}");
        }
        blob(request, &[&config, &layer]).map_or_else(|| answer("200 OK", "", &manifest), |blob| answer("200 OK", "", blob))
    }));
    let store = Store::new();
    let file = store.dir.join("docker/config.json");
    let logins = Logins::at(file.clone());
    login(&liar.host, "me", "pw", &logins).unwrap();
    liar.pull(&store, &logins).unwrap();
    assert!(asked.lock().unwrap().iter().all(|line| line.starts_with("true ")), "{:?}", asked.lock().unwrap());
    asked.lock().unwrap().clear();
    // Another host, another path of the same one, and one that only looks alike.
    let others =
        [format!("http://{}/token", second.host), format!("http://{}/other", first.host), format!("http://{}.example/", first.host)];
    for other in others {
        realm.lock().unwrap().clone_from(&other);
        let said = liar.pull(&Store::new(), &logins).unwrap_err();
        assert!(
            said.contains(&format!("it wants your password sent to {other}, and not to the token server http://{}/token", first.host)),
            "{said}"
        );
    }
    assert_eq!(*asked.lock().unwrap(), Vec::<String>::new());
    // Nobody is asked for a password that is not there.
    *realm.lock().unwrap() = format!("http://{}/token", second.host);
    liar.pull(&Store::new(), &nobody()).unwrap();
    assert!(asked.lock().unwrap().iter().all(|line| line.starts_with("false ")), "{:?}", asked.lock().unwrap());
    asked.lock().unwrap().clear();
    // Another program's login says nothing of a token server: only the registry's own host is one.
    fs::write(&file, json!({"auths": {&liar.host: {"auth": "bWU6cHc="}}}).to_string()).unwrap();
    let said = liar.pull(&Store::new(), &logins).unwrap_err();
    assert!(said.contains(&format!("it wants your password sent to http://{}/token", second.host)), "{said}");
    assert!(said.contains(&format!("mydocker login {}", liar.host)), "{said}");
    assert_eq!(*asked.lock().unwrap(), Vec::<String>::new());
    // A new login agrees to the new one.
    login(&liar.host, "me", "pw", &logins).unwrap();
    liar.pull(&Store::new(), &logins).unwrap();
}
