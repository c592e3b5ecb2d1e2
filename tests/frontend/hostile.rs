//! Images that want something of the host, and what others on the host may see of an installation.

use crate::host::{Host, tarball};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;

#[test]
fn what_an_image_says_about_itself_does_nothing_on_the_host() {
    let host = Host::new();
    let canary = host.dir.join("canary");
    fs::create_dir_all(&canary).unwrap();
    let made = canary.join("made");
    let names = ["run.oci.hooks.stdout", "run.oci.handler", "org.systemd.property.ExecStart", "org.opencontainers.image.base.name"];
    let labels = names.map(|name| format!("LABEL {name}={}", made.display()));
    let climbing = format!("VOLUME /../../../..{}", canary.display());
    let relative = format!("VOLUME ..{}", canary.display());
    let changes = [
        "ENV LD_PRELOAD=/lib/evil.so PATH=/evil:/bin NOTIFY_SOCKET=/evil XDG_RUNTIME_DIR=/evil DOCKER_CONFIG=/evil",
        "CMD [\"sh\", \"-c\", \"ls -a /evil 2>&1; touch /here\"]",
        "STOPSIGNAL KILL",
        labels[0].as_str(),
        labels[1].as_str(),
        labels[2].as_str(),
        labels[3].as_str(),
    ];
    let import = |name: &str, more: &[&str]| {
        let changes: Vec<&str> = changes.iter().chain(more).flat_map(|change| ["-c", change]).collect();
        host.fed(&[&["import"], &changes[..], &["-", name]].concat(), tarball())
    };
    import("evil", &[]).ok();
    assert!(host.run(&["--rm", "evil"]).ok().contains("/evil"));
    let id = host.detached(&["evil", "sleep", "1000"]);
    // What goes to the runtime: labels are no annotations.
    let config = fs::read_to_string(host.root().join("containers").join(&id).join("config.json")).unwrap();
    let config: serde_json::Value = serde_json::from_str(&config).unwrap();
    let annotations = config["annotations"].as_object().cloned().unwrap_or_default();
    assert!(names.iter().all(|name| !annotations.contains_key(*name)), "{annotations:?}");
    assert!(
        config.get("hooks").is_none_or(|hooks| hooks.as_object().is_none_or(|kinds| kinds.values().all(|k| k == &serde_json::json!([]))))
    );
    // Places that climb, are descriptors, or are the kernel's: below the root, or refused in one sentence.
    for (number, more) in
        [climbing.as_str(), relative.as_str(), "VOLUME /proc", "VOLUME /proc/self/attr", "WORKDIR /proc/self/fd/7"].iter().enumerate()
    {
        let name = format!("evil{number}");
        let said = import(&name, &[more]);
        if said.code == 0 {
            let said = host.run(&["--rm", &name]);
            assert!(said.code == 0 || said.err.lines().count() == 1, "{more}: {said:?}");
            assert!(said.code == 0 || number > 0, "{more}: {said:?}");
        }
    }
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 0);
    host.clear();
}

#[test]
fn a_user_that_is_a_number_is_no_accounts_name() {
    let host = Host::new();
    let accounts = "echo 4242:x:0:0::/root:/bin/sh >> /etc/passwd; echo 4343:x:0: >> /etc/group";
    host.run(&["--name", "made", "busybox", "sh", "-c", accounts]).ok();
    host.ok(&["commit", "-c", "USER 4242:4343", "-c", "CMD [\"sh\", \"-c\", \"id -u; id -g\"]", "made", "rooted"]);
    assert_eq!(host.run(&["--rm", "rooted"]).ok(), "4242\n4343\n");
    host.idle("up", &[]);
    host.exec("up", accounts);
    assert_eq!(host.ok(&["exec", "-u", "4242:4343", "up", "sh", "-c", "id -u; id -g"]), "4242\n4343");
    host.my(&["exec", "-u", "4294967296", "up", "true"]).fails(125, &["4294967296"]);
    host.clear();
}

#[test]
fn nobody_else_sees_an_installation_and_no_socket_has_an_abstract_name() {
    let host = Host::new();
    let mut command = std::process::Command::new("unshare");
    let mydocker = host.command(&["run", "-d", "--network", "none", "--name", "seen", "-v", "data:/data", "busybox", "sleep", "1000"]);
    command
        .args(["--net", "sh", "-c", "umask 0; \"$@\" && cat /proc/net/unix", "sh"])
        .arg(mydocker.get_program())
        .args(mydocker.get_args());
    let said = crate::common::Said::of(command.current_dir(&host.dir).output().unwrap()).ok();
    assert!(said.contains("start.sock") || said.lines().count() > 2, "{said}");
    assert!(!said.contains(" @"), "{said}");
    let mut sockets = 0;
    let mut pending: Vec<PathBuf> = vec![host.root().to_owned()];
    let mut looked = 0;
    while let Some(path) = pending.pop() {
        let (meta, name) = (fs::symlink_metadata(&path).unwrap(), path.strip_prefix(host.root()).unwrap());
        let layer = name.starts_with("layers") && meta.is_dir() && name.components().count() > 1;
        if layer || ["upper", "work", "rootfs", "_data", "hostname", "hosts", "resolv.conf"].iter().any(|part| name.ends_with(part)) {
            continue; // what an image or a container made, or reads
        }
        looked += 1;
        let socket = std::os::unix::fs::FileTypeExt::is_socket(&meta.file_type());
        assert!(!socket || meta.mode() & 0o777 == 0o600, "{} {:o}", path.display(), meta.mode());
        sockets += u32::from(socket);
        let counts = meta.is_dir() || meta.is_file();
        assert!(!counts || meta.mode() & 0o077 == 0, "{} {:o}", path.display(), meta.mode());
        if meta.is_dir() {
            pending.extend(fs::read_dir(&path).unwrap().map(|entry| entry.unwrap().path()));
        }
    }
    // The monitor's; the one at which the program waited is gone.
    assert!(looked > 10 && sockets == 1, "{looked} {sockets}");
    host.clear();
}

/// CVE-2026-57231 and CVE-2026-55686: an environment entry without `=`, and a working directory that is a link to a place of the
/// host's. An image is somebody else's document: what it says is the program's, and nothing more.
#[test]
fn entries_without_a_value_and_links_as_working_directories_stay_in_the_container() {
    use sha2::{Digest, Sha256};
    let host = Host::new();
    let canary = host.dir.join("canary");
    fs::create_dir_all(&canary).unwrap();
    let mut layer = tar::Builder::new(Vec::new());
    let mut link = tar::Header::new_gnu();
    link.set_entry_type(tar::EntryType::Symlink);
    link.set_size(0);
    link.set_mode(0o777);
    layer.append_link(&mut link, "away", &canary).unwrap();
    let mut busybox = fs::File::open("/bin/busybox").unwrap();
    layer.append_file("bin/busybox", &mut busybox).unwrap();
    let layer = layer.into_inner().unwrap();
    let hex: String = Sha256::digest(&layer).iter().map(|byte| format!("{byte:02x}")).collect();
    let config = serde_json::json!({
        "architecture": if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }, "os": "linux",
        "rootfs": {"type": "layers", "diff_ids": [format!("sha256:{hex}")]},
        "config": {"Env": ["HOME", "=value", "", "A=1", "PATH=/bin"], "WorkingDir": "/away",
            "Cmd": ["/bin/busybox", "sh", "-c", "busybox touch here; busybox pwd; echo $A"]},
    });
    let manifest = serde_json::json!([{"Config": "config.json", "RepoTags": ["odd:latest"], "Layers": ["layer.tar"]}]);
    let mut archive = tar::Builder::new(Vec::new());
    let files =
        [("config.json", config.to_string().into_bytes()), ("layer.tar", layer), ("manifest.json", manifest.to_string().into_bytes())];
    for (name, data) in &files {
        let mut header = tar::Header::new_gnu();
        header.set_size(data.len() as u64);
        header.set_mode(0o644);
        archive.append_data(&mut header, name, &data[..]).unwrap();
    }
    let loaded = host.fed(&["load"], &archive.into_inner().unwrap());
    if loaded.code == 0 {
        let said = host.run(&["--rm", "odd"]);
        // The link leads to a directory of that name below the root, or the container is refused in one sentence.
        assert!(said.code == 0 && said.out.ends_with("1\n") || said.code != 0 && said.err.lines().count() == 1, "{said:?}");
    } else {
        assert_eq!(loaded.err.lines().count(), 1, "{loaded:?}");
    }
    assert_eq!(fs::read_dir(&canary).unwrap().count(), 0, "the host's directory was the container's");
    host.clear();
}
