//! Opening and parsing: what goes wrong is said with the file, the line and the path; nothing hangs, nothing is dropped.

use keel::spec::{load, load_process, parse};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A directory of its own for a test, removed with it.
struct Bundle(PathBuf);

impl Bundle {
    fn new(name: &str) -> Self {
        let dir = std::env::temp_dir().join(format!("keel-spec-{}-{name}", std::process::id()));
        fs::create_dir(&dir).unwrap();
        Self(dir)
    }

    fn config(&self) -> PathBuf {
        self.0.join("config.json")
    }

    fn write(&self, text: impl AsRef<[u8]>) -> &Self {
        fs::write(self.config(), text).unwrap();
        self
    }

    /// The words of the refusal, without the directory's name.
    fn refusal(&self) -> String {
        load(&self.0).unwrap_err().to_string().replace(self.0.to_str().unwrap(), "B")
    }
}

impl Drop for Bundle {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

#[test]
fn missing() {
    let bundle = Bundle::new("missing");
    assert_eq!(bundle.refusal(), "open B/config.json: no such file or directory (`keel spec` writes one)");
    let words = load(Path::new("/nonexistent/b")).unwrap_err().to_string();
    assert_eq!(
        words,
        "open /nonexistent/b/config.json: no such file or directory (the bundle directory does not exist; --bundle names it)"
    );
    assert_eq!(load_process(Path::new("/nonexistent")).unwrap_err().to_string(), "open /nonexistent: no such file or directory");
}

#[test]
fn not_a_file() {
    let bundle = Bundle::new("kind");
    fs::create_dir(bundle.config()).unwrap();
    assert_eq!(bundle.refusal(), "open B/config.json: is a directory");
    fs::remove_dir(bundle.config()).unwrap();
    // A fifo that nobody writes to: an open that waits would hang here for ever.
    assert!(Command::new("mkfifo").arg(bundle.config()).status().unwrap().success());
    assert_eq!(bundle.refusal(), "B/config.json is not a regular file");
    fs::remove_file(bundle.config()).unwrap();
    std::os::unix::fs::symlink("/dev/zero", bundle.config()).unwrap();
    assert_eq!(bundle.refusal(), "B/config.json is not a regular file");
    fs::remove_file(bundle.config()).unwrap();
    let _socket = std::os::unix::net::UnixListener::bind(bundle.config()).unwrap();
    assert_eq!(bundle.refusal(), "open B/config.json: no such device or address");
}

#[test]
fn a_link_is_followed() {
    let bundle = Bundle::new("link");
    fs::write(bundle.0.join("real"), "{}").unwrap();
    std::os::unix::fs::symlink("real", bundle.config()).unwrap();
    assert!(load(&bundle.0).is_ok());
}

#[test]
fn too_large() {
    let bundle = Bundle::new("large");
    let file = fs::File::create(bundle.config()).unwrap();
    file.set_len((16 << 20) + 1).unwrap();
    assert_eq!(bundle.refusal(), "B/config.json is 16777217 bytes; keel reads at most 16 MiB");
    // The limit itself is fine.
    let mut text = vec![b' '; 16 << 20];
    text[..2].copy_from_slice(b"{}");
    assert!(load(&bundle.write(text).0).is_ok());
    // A file that says it is empty and is not: the bound holds on what is read.
    assert_eq!(
        load_process(Path::new("/proc/self/mountinfo")).unwrap_err().to_string().split(':').next(),
        Some("parse /proc/self/mountinfo")
    );
}

#[test]
fn errors_name_the_place() {
    let bundle = Bundle::new("place");
    for (text, words) in [
        ("", "EOF while parsing a value at line 1 column 0"),
        ("[]", "invalid type: sequence, expected struct Spec at line 1 column 0"),
        ("{\n \"root\": {\"path\": 5}\n}", "invalid type: integer `5`, expected a string at line 2 column 19 (config.json: root.path)"),
        (
            "{\"mounts\": [{}, {\"options\": [\"ro\", null]}]}",
            "invalid type: null, expected a string at line 1 column 39 (config.json: mounts[1].options[1])",
        ),
        (
            "{\"process\": {\"user\": {\"uid\": 4294967296}}}",
            "invalid value: integer `4294967296`, expected u32 at line 1 column 39 (config.json: process.user.uid)",
        ),
        (
            "{\"process\": {\"user\": {\"uid\": -1}}}",
            "invalid value: integer `-1`, expected u32 at line 1 column 31 (config.json: process.user.uid)",
        ),
        ("{\"process\": {\"args\": [\"a\" \"b\"]}}", "expected `,` or `]` at line 1 column 27 (config.json: process.args[0])"),
        ("{\"hostname\": \"a\", \"hostname\": \"b\"}", "duplicate field `hostname` at line 1 column 28"),
        ("{\"root\": [\"/\"]}", "invalid type: sequence, expected struct Root at line 1 column 9 (config.json: root)"),
        (
            "{\"annotations\": {\"a\\\"b,{\": 1}}",
            "invalid type: integer `1`, expected a string at line 1 column 28 (config.json: annotations.a\\\"b,{)",
        ),
        ("{} x", "trailing characters at line 1 column 4"),
        ("{\"hostname\": \"\u{fffd}", "EOF while parsing a string at line 1 column 17 (config.json: hostname)"),
    ] {
        assert_eq!(bundle.write(text).refusal(), format!("parse B/config.json: {words}"), "{text}");
    }
    assert!(bundle.write(b"{\"hostname\": \"\xff\"}").refusal().contains("invalid unicode code point"));
    // Skipping what is unknown takes no stack, so depth is no attack.
    let deep = format!("{{\"x\": {}", "[".repeat(1_000_000));
    assert!(bundle.write(deep).refusal().contains("EOF while parsing a list"));
}

/// Our paths against those of serde_path_to_error: each value of a document made wrong in turn.
#[test]
fn paths_are_as_by_serde_path_to_error() {
    let document: serde_json::Value = serde_json::from_str(&fs::read_to_string("tests/data/spec/everything.json").unwrap()).unwrap();
    let mut compared = 0;
    for pointer in crate::pointers(&document) {
        for wrong in
            [serde_json::json!([[{"x": 1}]]), serde_json::json!("x,{[\""), serde_json::json!({"x": [{"y": []}]}), serde_json::json!(-1.5)]
        {
            let changed = crate::with(document.clone(), &pointer, wrong);
            for text in [changed.to_string(), format!("{changed:#}")] {
                let json = &mut serde_json::Deserializer::from_str(&text);
                let Err(theirs) = serde_path_to_error::deserialize::<_, keel::spec::Spec>(json) else { continue };
                let ours = parse(text.as_bytes()).unwrap_err().to_string();
                assert_eq!(ours, format!("{} (config.json: {})", theirs.inner(), theirs.path()), "{pointer}");
                compared += 1;
            }
        }
    }
    assert!(compared > 1000, "{compared}");
}

#[test]
fn unknown_keys_are_told() {
    let warnings = |text: &str| parse(text.as_bytes()).unwrap().warnings;
    let unknown = |path: &str| format!("{path} is not in runtime-spec 1.3.0 and is ignored");
    assert_eq!(warnings("{}"), [""; 0]);
    assert_eq!(warnings(r#"{"x": {"y": 1}, "z": null}"#), [unknown("x"), unknown("z")]);
    assert_eq!(warnings(r#"{"process": {"user": {"name": "x"}}}"#), [unknown("process.user.name")]);
    assert_eq!(warnings(r#"{"mounts": [{}, {"opts": []}]}"#), [unknown("mounts[1].opts")]);
    assert_eq!(warnings(r#"{"linux": {"resources": {"memory": {"limits": 1}}}}"#), [unknown("linux.resources.memory.limits")]);
    assert_eq!(warnings(r#"{"linux": {"timeOffsets": {"boottime": {"sec": 1}}}}"#), [unknown("linux.timeOffsets.boottime.sec")]);
    for platform in ["windows", "solaris", "vm", "zos"] {
        assert_eq!(warnings(&format!("{{\"{platform}\": {{}}}}")), [format!("{platform} is not for Linux and is ignored")]);
    }
    // Keys of maps are the user's own.
    assert_eq!(warnings(r#"{"annotations": {"x": "y"}, "linux": {"sysctl": {"a.b": "c"}}}"#), [""; 0]);
}

/// Go writes null for what is empty, and runc reads it so.
#[test]
fn null_is_absent() {
    let document = parse(br#"{"process": {"args": null, "user": null, "rlimits": null, "noNewPrivileges": null}, "mounts": null, "linux": null, "hooks": null, "root": null}"#);
    let spec = document.unwrap().spec;
    assert_eq!(spec, parse(br#"{"process": {}}"#).unwrap().spec);
    assert_eq!((spec.root, spec.process), (None, Some(keel::spec::Process::default())));
}
