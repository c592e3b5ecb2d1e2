//! Exit codes, pipes on both sides, signals and slow readers.

use crate::common::{Said, eventually};
use crate::host::{Host, kill};
use rustix::process::Signal;
use std::io::{BufRead, Read, Write};
use std::time::Duration;

/// Bytes of every value, with no end of line at the end.
pub fn noise(length: usize) -> Vec<u8> {
    let mut state = 1u32;
    let mut next = || {
        state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        (state >> 24) as u8
    };
    (0..length).map(|_| next()).collect()
}

#[test]
fn exit_codes_are_dockers() {
    let host = Host::new();
    host.run(&["--rm", "busybox", "sh", "-c", "exit 7"]).fails(7, &[]);
    host.run(&["--rm", "busybox", "/nothing"]).fails(127, &["/nothing"]);
    host.run(&["--rm", "busybox", "nothing"]).fails(127, &["nothing"]);
    host.run(&["--rm", "busybox", "/etc"]).fails(126, &["/etc"]);
    host.run(&["--rm", "busybox", "/etc/passwd"]).fails(126, &["/etc/passwd"]);
    host.run(&["--rm", "--pull", "never", "nosuch", "true"]).fails(125, &["nosuch"]);
    host.run(&["--rm", "--nosuch", "busybox", "true"]).fails(125, &["--nosuch"]);
    host.run(&["--rm", "-w", "relative", "busybox", "true"]).fails(125, &["absolute path"]);
    host.run(&["--rm", "-u", "nosuch", "busybox", "true"]).fails(125, &["unable to find user nosuch"]);
    host.nothing_left();
    // Without --rm a container that could not start is there, as created.
    host.run(&["--name", "never", "busybox", "/nothing"]).fails(127, &[]);
    assert_eq!(host.inspect("never", "{{.State.Status}} {{.State.ExitCode}}"), "created 127");
    host.my(&["start", "never"]).fails(1, &["/nothing"]);
    host.clear();
}

#[test]
fn binary_data_passes_both_ways_and_the_end_of_it() {
    let host = Host::new();
    let data = noise(1_500_000);
    let mut run = host.spawn(&["--rm", "-i", "busybox", "sh", "-c", "cat; echo done >&2"]);
    let (mut input, sent) = (run.stdin.take().unwrap(), data.clone());
    let writer = std::thread::spawn(move || input.write_all(&sent).unwrap());
    let output = run.wait_with_output().unwrap();
    writer.join().unwrap();
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == data, "{} of {} bytes", output.stdout.len(), data.len());
    assert_eq!(output.stderr, b"done\n");
    // Without -i the program's input is empty at once.
    let mut run = host.spawn(&["--rm", "busybox", "sh", "-c", "cat; echo end"]);
    let _open = run.stdin.take();
    assert_eq!(Said::of(run.wait_with_output().unwrap()).ok(), "end\n");
    host.nothing_left();
}

#[test]
fn a_slow_reader_loses_nothing() {
    let host = Host::new();
    let data = noise(4_000_000);
    std::fs::write(host.dir.join("big"), &data).unwrap();
    let volume = format!("{}:/big:ro", host.dir.join("big").display());
    let mut run =
        host.spawn(&["--name", "slow", "--log-driver", "none", "-v", &volume, "busybox", "sh", "-c", "echo begun >&2; exec cat /big"]);
    let mut first = [0; 6];
    run.stderr.as_mut().unwrap().read_exact(&mut first).unwrap();
    // The program waits for us, as it would at a pipe: what is under way is bounded.
    std::thread::sleep(Duration::from_millis(300));
    assert_eq!(host.status("slow"), "running");
    let output = run.wait_with_output().unwrap();
    assert!(output.stdout == data, "{} of {} bytes", output.stdout.len(), data.len());
    host.clear();
}

#[test]
fn an_end_is_recorded_though_its_output_is_not_read() {
    let host = Host::new();
    let mut run = host.spawn(&["--name", "unread", "busybox", "sh", "-c", "head -c 600000 /dev/zero; exit 4"]);
    eventually("it ended", || host.my(&["ps", "-a", "--format", "{{.State}}"]).out == "exited\n");
    host.my(&["rm", "unread"]).ok();
    host.nothing_left_but(&run);
    let mut output = Vec::new();
    run.stdout.take().unwrap().read_to_end(&mut output).unwrap();
    assert_eq!((output.len(), run.wait().unwrap().code()), (600_000, Some(4)));
    host.nothing_left();
}

#[test]
fn input_that_nobody_reads_does_not_hold_up_signals() {
    let host = Host::new();
    let line = "trap 'echo got; exit 5' USR1; echo ready; while :; do sleep 0.02; done";
    let mut run = host.spawn(&["--rm", "-i", "busybox", "sh", "-c", line]);
    let mut input = run.stdin.take().unwrap();
    let writer = std::thread::spawn(move || drop(input.write_all(&[b'x'; 3_000_000])));
    let mut ready = [0; 6];
    run.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    kill(run.id().cast_signed(), Signal::USR1);
    let said = Said::of(run.wait_with_output().unwrap());
    assert_eq!((said.code, said.out.as_str()), (5, "got\n"), "{said:?}");
    writer.join().unwrap();
    host.nothing_left();
}

#[test]
fn signals_are_passed_on_unless_told_otherwise() {
    let host = Host::new();
    let line = "trap 'echo int' INT; trap 'echo term; exit 2' TERM; echo ready; while :; do sleep 0.02; done";
    let mut run = host.spawn(&["--rm", "busybox", "sh", "-c", line]);
    let mut out = run.stdout.take().unwrap();
    let mut ready = [0; 6];
    out.read_exact(&mut ready).unwrap();
    kill(run.id().cast_signed(), Signal::INT);
    let mut int = [0; 4];
    out.read_exact(&mut int).unwrap();
    assert_eq!(&int, b"int\n");
    kill(run.id().cast_signed(), Signal::TERM);
    let mut rest = String::new();
    out.read_to_string(&mut rest).unwrap();
    assert_eq!((run.wait().unwrap().code(), rest.as_str()), (Some(2), "term\n"));
    // --sig-proxy=false: the signal is ours, and the container goes as its foreground went.
    let mut run = host.spawn(&["--rm", "--sig-proxy=false", "--stop-signal", "KILL", "busybox", "sh", "-c", line]);
    run.stdout.as_mut().unwrap().read_exact(&mut ready).unwrap();
    kill(run.id().cast_signed(), Signal::TERM);
    assert_eq!(Said::of(run.wait_with_output().unwrap()).code, 128 + 15);
    eventually("it is gone", || host.my(&["ps", "-aq"]).ok().is_empty());
    host.nothing_left();
}

#[test]
fn output_that_cannot_be_written_is_an_error() {
    let host = Host::new();
    let full = || std::fs::File::options().write(true).open("/dev/full").unwrap();
    let run = ["run", "--rm", "--network", "none", "busybox", "sh", "-c", "echo lost; echo told >&2"];
    let said = Said::of(host.command(&run).stdout(full()).output().unwrap());
    said.fails(125, &["told", "write the standard output", "no space left on device"]);
    // A program that wrote nothing there is not blamed.
    let quiet = ["run", "--rm", "--network", "none", "busybox", "sh", "-c", "exit 3"];
    assert_eq!(Said::of(host.command(&quiet).stdout(full()).output().unwrap()).code, 3);
    host.nothing_left();
}

/// docker's client hands on what it can catch, below `--init` too: those that a runtime rarely sees as well (SIGPIPE, SIGURG, SIGXFSZ,
/// SIGIO, SIGPWR and the first and last real-time ones).
#[test]
fn every_signal_is_passed_on() {
    const RARE: [i32; 7] = [13, 23, 25, 29, 30, 34, 64];
    let host = Host::new();
    let traps: String = RARE.iter().map(|number| format!("trap 'echo {number}' {number}; ")).collect();
    let line = traps + "echo ready; while :; do sleep 0.02; done";
    let id = host.detached(&["busybox", "sleep", "1000"]);
    let program = ["busybox", "sh", "-c", &line];
    for mut client in [
        host.spawn(&[&["--rm"], &program[..]].concat()),
        host.spawn(&[&["--rm", "--init"], &program[..]].concat()),
        host.command(&[&["exec", &id], &program[1..]].concat()).stdout(std::process::Stdio::piped()).spawn().unwrap(),
    ] {
        let (sender, lines) = std::sync::mpsc::channel();
        let out = std::io::BufReader::new(client.stdout.take().unwrap());
        std::thread::spawn(move || out.lines().map_while(Result::ok).try_for_each(|line| sender.send(line)));
        let next = || lines.recv_timeout(Duration::from_secs(20)).unwrap_or_default();
        assert_eq!(next(), "ready");
        for number in RARE {
            kill(client.id().cast_signed(), keel::sys::signal_from_raw(number).unwrap());
            assert_eq!(next(), number.to_string());
        }
        kill(client.id().cast_signed(), Signal::KILL);
        client.wait().unwrap();
    }
    host.clear();
}

#[test]
fn several_may_be_attached() {
    let host = Host::new();
    let id = host.detached(&["-i", "busybox", "sh", "-c", "while read line; do echo got $line; done; exit 6"]);
    let mut watch = host.command(&["attach", "--no-stdin", &id]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    eventually("the first is attached", || host.actions(&id).contains(&"attach".to_owned()));
    let mut talk = host.command(&["attach", &id]).stdin(std::process::Stdio::piped()).stdout(std::process::Stdio::piped()).spawn().unwrap();
    let mut seen = [0; 8];
    // Who came first is not known: the watcher may miss what was said before.
    talk.stdin.as_mut().unwrap().write_all(b"one\n").unwrap();
    talk.stdout.as_mut().unwrap().read_exact(&mut seen).unwrap();
    assert_eq!(&seen, b"got one\n");
    let wait = host.command(&["wait", &id]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(talk.stdin.take());
    assert_eq!(talk.wait().unwrap().code(), Some(6));
    assert_eq!(watch.wait().unwrap().code(), Some(6));
    assert_eq!(Said::of(wait.wait_with_output().unwrap()).ok(), "6\n");
    host.clear();
}
