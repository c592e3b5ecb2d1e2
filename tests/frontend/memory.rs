//! Archives that want the machine's memory. Whatever is in them, `load`, `import` and `pull` take
//! less than 64 MiB of it.

use crate::common::Said;
use crate::host::Host;
use serde_json::json;
use sha2::{Digest, Sha256};
use std::fmt::Write as _;
use std::fs::File;
use std::io::{BufRead, BufReader, BufWriter, Write};
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use tar::{EntryType, Header};

/// The bound, in KiB.
const BOUND: u64 = 64 << 10;

/// An archive that is written to a file as it grows.
struct Archive<W: Write>(W);

impl<W: Write> Archive<W> {
    fn entry(&mut self, kind: EntryType, path: &str, data: &[u8]) {
        let mut header = Header::new_gnu();
        header.as_mut_bytes()[..path.len()].copy_from_slice(path.as_bytes());
        header.set_entry_type(kind);
        header.set_mode(0o755);
        header.set_uid(0);
        header.set_gid(0);
        header.set_mtime(1);
        header.set_size(data.len() as u64);
        header.set_cksum();
        self.0.write_all(header.as_bytes()).unwrap();
        self.0.write_all(data).unwrap();
        self.0.write_all(&[0; 512][..data.len().next_multiple_of(512) - data.len()]).unwrap();
    }

    /// An entry whose name is in a header of GNU's before it.
    fn gnu(&mut self, kind: EntryType, path: &str) {
        self.entry(EntryType::GNULongName, "././@LongLink", format!("{path}\0").as_bytes());
        self.entry(kind, "x", b"");
    }

    fn pax(&mut self, records: &[(&str, &str)]) {
        let mut text = String::new();
        for (key, value) in records {
            let rest = key.len() + value.len() + 3;
            let length = (rest + 1..).find(|length| length - rest == length.to_string().len()).unwrap();
            writeln!(text, "{length} {key}={value}").unwrap();
        }
        self.entry(EntryType::XHeader, "pax", text.as_bytes());
    }

    fn blob(&mut self, data: &[u8]) -> String {
        let hex: String = Sha256::digest(data).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
        self.long(&format!("blobs/sha256/{hex}"), data);
        format!("sha256:{hex}")
    }

    fn long(&mut self, path: &str, data: &[u8]) {
        self.entry(EntryType::Regular, path, data);
    }

    fn descriptor(&mut self, media: &str, data: &[u8]) -> serde_json::Value {
        json!({"mediaType": format!("application/vnd.oci.image.{media}"), "digest": self.blob(data), "size": data.len()})
    }

    fn end(mut self) -> W {
        self.0.write_all(&[0; 1024]).unwrap();
        self.0
    }
}

/// Writes an archive compressed to a file of the host's.
fn gzip(host: &Host, fill: impl FnOnce(&mut Archive<&mut dyn Write>)) -> PathBuf {
    let path = host.dir.join("archive");
    let mut out = flate2::write::GzEncoder::new(BufWriter::new(File::create(&path).unwrap()), flate2::Compression::fast());
    let mut archive = Archive(&mut out as &mut dyn Write);
    fill(&mut archive);
    archive.end();
    out.finish().unwrap().flush().unwrap();
    path
}

/// Runs a command and writes down the most memory that it had at once, in KiB.
const TIMED: &str = "import resource, subprocess, sys
code = subprocess.run(sys.argv[2:]).returncode
open(sys.argv[1], 'w').write(str(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)";

/// Runs a command with the archive as its input; what it said, and its peak of resident memory in
/// KiB. It is Python that waits for it: what a process had before its execve counts in getrusage(2),
/// and this test has more than the bound.
fn measured(host: &Host, args: &[&str], archive: &Path) -> (Said, u64) {
    let report = host.dir.join("report");
    let command = host.command(args);
    let mut timed = Command::new("python3");
    timed.args(["-c", TIMED]).arg(&report).arg(command.get_program()).args(command.get_args());
    let input = Stdio::from(File::open(archive).unwrap());
    let output = timed.stdin(input).stdout(Stdio::piped()).stderr(Stdio::piped()).output().unwrap();
    let text = std::fs::read_to_string(&report).unwrap();
    (Said::of(output), text.parse().unwrap_or_else(|error| panic!("{text:?}: {error}")))
}

/// The command takes the archive, or refuses it with these words, below the bound.
#[track_caller]
fn bounded(host: &Host, args: &[&str], archive: &Path, words: &str) {
    let before = host.store();
    let (said, peak) = measured(host, args, archive);
    println!("{peak:>7} KiB: {args:?} {}", said.err.chars().take(200).collect::<String>());
    assert!(peak < BOUND, "{peak} KiB: {}", said.err);
    if words.is_empty() {
        said.ok();
    } else {
        said.fails(1, &[words]);
        let left: Vec<String> = host.store().into_iter().filter(|name| name != "lock" && !before.contains(name)).collect();
        assert!(left.is_empty(), "{left:?}");
    }
}

#[test]
fn long_names() {
    let host = Host::bare("root");
    // A name of a megabyte, again and again, and as long as a name may be.
    let name = "n".repeat(1 << 20);
    let huge = |archive: &mut Archive<&mut dyn Write>| (0..200).for_each(|i| archive.gnu(EntryType::Regular, &format!("{i}{name}")));
    bounded(&host, &["load"], &gzip(&host, huge), "the limit is 4096");
    bounded(&host, &["import", "-"], &gzip(&host, huge), "the limit is 4096");
    let huge = |archive: &mut Archive<&mut dyn Write>| {
        for i in 0..200 {
            archive.pax(&[("path", &format!("{i}{}", &name[..1_000_000]))]);
            archive.entry(EntryType::Regular, "x", b"");
        }
    };
    bounded(&host, &["load"], &gzip(&host, huge), "the limit is 4095");
    for kind in [EntryType::Regular, EntryType::Symlink] {
        let many = |archive: &mut Archive<&mut dyn Write>| {
            (0..60_000).for_each(|i| archive.gnu(kind, &format!("{i}{}", &name[..4080])));
        };
        bounded(&host, &["load"], &gzip(&host, many), "too many files");
    }
}

#[test]
fn many_entries() {
    let host = Host::bare("root");
    let small = |archive: &mut Archive<&mut dyn Write>| {
        (0..500_000).for_each(|i| archive.entry(EntryType::Symlink, &format!("{i}"), b""));
    };
    bounded(&host, &["load"], &gzip(&host, small), "too many files");
    // Directories whose times are to be set when all is made; they are few enough for a test, and
    // their paths long.
    let deep = "d".repeat(250) + "/";
    let deep = deep.repeat(15);
    let directories = |archive: &mut Archive<&mut dyn Write>| {
        (0..20_000).for_each(|i| archive.gnu(EntryType::Directory, &format!("{deep}{i}")));
    };
    bounded(&host, &["import", "-", "directories"], &gzip(&host, directories), "");
}

#[test]
fn attributes_and_maps() {
    let host = Host::bare("root");
    let record = "5 a=\n".repeat((1 << 20) / 5);
    let records = |archive: &mut Archive<&mut dyn Write>| {
        for i in 0..50 {
            archive.entry(EntryType::XHeader, "pax", record.as_bytes());
            archive.entry(EntryType::Regular, &format!("{i}"), b"");
        }
    };
    bounded(&host, &["import", "-", "records"], &gzip(&host, records), "");
    let map = "0,0,".repeat(1 << 18);
    let maps = |archive: &mut Archive<&mut dyn Write>| {
        archive.pax(&[("GNU.sparse.size", "0"), ("GNU.sparse.map", &map[..1_000_000 - 1])]);
        archive.entry(EntryType::Regular, "x", b"");
    };
    bounded(&host, &["import", "-"], &gzip(&host, maps), "sparse");
    let pieces: String = "65536\n".to_owned() + &(0..65536).fold(String::new(), |text, i| text + &format!("{i}\n0\n"));
    let pieces = |archive: &mut Archive<&mut dyn Write>| {
        archive.pax(&[("GNU.sparse.major", "1"), ("GNU.sparse.minor", "0"), ("GNU.sparse.realsize", "70000")]);
        let mut map = pieces.clone().into_bytes();
        map.resize(map.len().next_multiple_of(512), 0);
        archive.entry(EntryType::Regular, "x", &map);
    };
    bounded(&host, &["import", "-", "pieces"], &gzip(&host, pieces), "");
}

#[test]
fn a_compressor_that_wants_a_large_window() {
    let host = Host::bare("root");
    let path = host.dir.join("archive");
    let mut out = zstd::Encoder::new(File::create(&path).unwrap(), 1).unwrap();
    out.window_log(27).unwrap();
    out.long_distance_matching(true).unwrap();
    let mut archive = Archive(out);
    // Bytes without a pattern, a window full of them.
    let mut state = 1_u64;
    let data: Vec<u8> = std::iter::repeat_with(|| {
        state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
        (state >> 56) as u8
    })
    .take(150 << 20)
    .collect();
    archive.entry(EntryType::Regular, "noise", &data);
    archive.end().finish().unwrap();
    bounded(&host, &["import", "-"], &path, "too much memory for decoding");
}

/// An archive with one image, whose documents are these.
fn image(archive: &mut Archive<&mut dyn Write>, config: &str, more: &str) {
    let layer = archive.descriptor("layer.v1.tar", &[0; 1024]);
    let config = archive.descriptor("config.v1+json", config.as_bytes());
    let manifest = format!(r#"{{"schemaVersion":2,"config":{config},"layers":[{layer}]{more}}}"#);
    let manifest = archive.descriptor("manifest.v1+json", manifest.as_bytes());
    let index = json!({"schemaVersion": 2, "manifests": [manifest]}).to_string();
    archive.long("index.json", index.as_bytes());
}

fn config(more: &str) -> String {
    let diff: String = Sha256::digest([0; 1024]).iter().fold(String::new(), |text, byte| text + &format!("{byte:02x}"));
    format!(r#"{{"architecture":"amd64","os":"linux","rootfs":{{"type":"layers","diff_ids":["sha256:{diff}"]}}{more}}}"#)
}

#[test]
fn huge_documents() {
    let host = Host::bare("root");
    let zeros = |count: usize| format!(r#","x":[{}0]"#, "0,".repeat(count));
    let keys = |count: usize| (0..count).fold(String::new(), |text, i| text + &format!(r#","k{i}":0"#));
    let text = |size: usize| format!(r#","x":"{}""#, "t".repeat(size));
    let large = (4 << 20) - 1000;
    for more in [zeros(large / 2), keys(280_000)] {
        bounded(&host, &["load"], &gzip(&host, |archive| image(archive, &config(&more), "")), "values");
        bounded(&host, &["load"], &gzip(&host, |archive| image(archive, &config(""), &more)), "values");
        let index = |archive: &mut Archive<&mut dyn Write>| {
            archive.long("index.json", format!(r#"{{"schemaVersion":2,"manifests":[]{more}}}"#).as_bytes());
        };
        bounded(&host, &["load"], &gzip(&host, index), "values");
    }
    // What is within all limits, together.
    for (one, two) in [(zeros(65_000), zeros(65_000)), (keys(65_000), keys(65_000)), (text(large), text(large))] {
        bounded(&host, &["load"], &gzip(&host, |archive| image(archive, &config(&one), &two)), "");
        let id = host.ok(&["images", "-q"]);
        host.ok(&["rmi", &id]);
    }
    let larger = text(large + 2000);
    bounded(&host, &["load"], &gzip(&host, |archive| image(archive, &config(&larger), "")), "its configuration is too large");
}

#[test]
fn many_large_images() {
    let host = Host::bare("root");
    let images = |archive: &mut Archive<&mut dyn Write>| {
        let layer = archive.descriptor("layer.v1.tar", &[0; 1024]);
        let mut manifests = Vec::new();
        for i in 0..40 {
            let text = config(&format!(r#","x":"{i}{}""#, "t".repeat(4_000_000)));
            let config = archive.descriptor("config.v1+json", text.as_bytes());
            let manifest = json!({"schemaVersion": 2, "config": config, "layers": [layer]}).to_string();
            manifests.push(archive.descriptor("manifest.v1+json", manifest.as_bytes()));
        }
        archive.long("index.json", json!({"schemaVersion": 2, "manifests": manifests}).to_string().as_bytes());
    };
    bounded(&host, &["load"], &gzip(&host, images), "");
    let names = |archive: &mut Archive<&mut dyn Write>| {
        archive.long("config", config("").as_bytes());
        archive.long("layer", &[0; 1024]);
        let tags: Vec<String> = (0..1001).map(|i| format!("name:{i}")).collect();
        archive.long("manifest.json", json!([{"Config": "config", "RepoTags": tags, "Layers": ["layer"]}]).to_string().as_bytes());
    };
    bounded(&host, &["load"], &gzip(&host, names), "more than 1000 images, names or indexes");
}

#[test]
fn indexes_of_indexes_come_to_an_end() {
    let host = Host::bare("root");
    let indexes = |archive: &mut Archive<&mut dyn Write>| {
        let missing = format!("sha256:{}", "0".repeat(64));
        let leaf = json!({"mediaType": "application/vnd.oci.image.manifest.v1+json", "digest": missing, "size": 1});
        let mut below = leaf;
        for _ in 0..3 {
            let index = json!({"schemaVersion": 2, "manifests": vec![below; 3000]}).to_string();
            below = archive.descriptor("index.v1+json", index.as_bytes());
        }
        archive.long("index.json", json!({"schemaVersion": 2, "manifests": [below]}).to_string().as_bytes());
    };
    bounded(&host, &["load"], &gzip(&host, indexes), "more than 1000 images, names or indexes");
}

/// A registry that answers everything with one document; its address.
fn registry(media: &'static str, document: String) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let head = format!("HTTP/1.1 200 OK\r\ncontent-type: {media}\r\ncontent-length: {}\r\nconnection: close\r\n\r\n", document.len());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = BufReader::new(stream.unwrap());
            let mut line = String::new();
            while stream.read_line(&mut line).unwrap() > 2 {
                line.clear();
            }
            // Who refuses it reads no more.
            let _ = stream.get_mut().write_all(head.as_bytes()).and_then(|()| stream.get_mut().write_all(document.as_bytes()));
        }
    });
    address
}

#[test]
fn a_registry_that_answers_at_length() {
    let host = Host::bare("root");
    let zeros = "0,".repeat((4 << 20) / 2 - 1000);
    for (media, document) in [
        ("application/vnd.oci.image.manifest.v1+json", format!(r#"{{"schemaVersion":2,"x":[{zeros}0]}}"#)),
        ("application/vnd.oci.image.index.v1+json", format!(r#"{{"schemaVersion":2,"manifests":[],"x":[{zeros}0]}}"#)),
    ] {
        let name = format!("{}/x:y", registry(media, document));
        bounded(&host, &["pull", &name], Path::new("/dev/null"), "values");
    }
}
