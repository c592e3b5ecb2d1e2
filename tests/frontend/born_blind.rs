//! A container in the pid namespace of another one, and a program that `exec` starts, show nothing of the host's there:
//! tests/attacks/born_blind.rs with mydocker as the caller, which calls the library in its own process.

use crate::host::Host;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// The flags of a container with a thief in it, from the least power to the most.
const THIEVES: [&[&str]; 4] =
    [&["--cap-drop", "ALL"], &[], &["--cap-add", "SYS_PTRACE", "--cap-add", "DAC_READ_SEARCH"], &["--user", "1000", "--cap-drop", "ALL"]];

/// Starts and programs for each thief: as many as a proof wants, or a few.
fn rounds() -> usize {
    let wanted = std::env::var("KEEL_THIEF_ROUNDS").ok();
    wanted.map_or(25, |rounds| rounds.parse().expect("KEEL_THIEF_ROUNDS is a number"))
}

#[test]
fn neither_a_start_nor_an_exec_shows_anything_of_the_host() {
    let host = Host::new();
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/attacks/thief.c");
    let program = host.dir.join("thief");
    let compiled = Command::new("cc").args(["-O2", "-static", "-o"]).arg(&program).arg(source).status().unwrap();
    assert!(compiled.success());
    let canary = format!("canary-of-{}", host.dir.file_name().unwrap().display());
    let place = host.dir.join(&canary);
    fs::create_dir(&place).unwrap();
    let secret = host.write("secret", "of the host");
    let variables = host.write(&format!("{canary}/env"), "A=b\n");
    let volume = format!("{}:/volume", place.display());
    // The thief itself learns what it looks for from a file, which no other container has.
    let needles = host.write("needles", format!("{canary}\n{secret}\n"));
    let own = [format!("{}:/thief:ro", program.display()), format!("{needles}:/needles:ro")];
    for flags in THIEVES {
        let with = [&["--name", "thief", "-v", &own[0], "-v", &own[1]], flags].concat();
        host.detached(&[&with[..], &["busybox", "sh", "-c", "exec /thief < /needles"]].concat());
        crate::common::eventually("the thief is at work", || host.ok(&["logs", "thief"]) == "ready");
        let caller = |args: &[&str]| {
            let mut command = host.command(args);
            let output = command.env("CANARY", &canary).stderr(Stdio::piped()).output().unwrap();
            assert!(output.status.success(), "{flags:?} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        };
        for _ in 0..rounds() {
            let own = ["--label", &canary, "-v", &volume, "--network", "none", "--pid", "container:thief"];
            caller(&[&["run", "--rm"], &own[..], &["busybox", "true"]].concat());
            caller(&["exec", "--env-file", &variables, "thief", "true"]);
        }
        host.ok(&["kill", "--signal", "TERM", "thief"]);
        assert_eq!(host.ok(&["wait", "thief"]), "0");
        let said = host.ok(&["logs", "thief"]);
        println!("{flags:?}: {said}");
        let (found, rest): (Vec<_>, Vec<_>) = said.lines().partition(|line| line.starts_with("found "));
        assert_eq!(found, Vec::<&str>::new(), "{flags:?}");
        let saw = |line: &&str| line.starts_with("looked ") && !line.contains(" at 0 ");
        assert!(rest.iter().any(saw), "it saw nobody: {said}");
        host.ok(&["rm", "thief"]);
    }
    host.clear();
}
