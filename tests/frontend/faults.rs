//! Two at once, killed at any moment, rebooted, out of space: the next command understands what is left, and `rm -f` clears it.

use crate::common::{Said, eventually};
use crate::host::{Host, end, kill};
use rustix::process::Signal;
use std::fs;
use std::process::Stdio;
use std::time::Duration;

#[test]
fn of_two_with_one_name_one_wins() {
    let host = Host::new();
    let runs: Vec<_> = (0..4).map(|_| host.spawn(&["-d", "--name", "only", "busybox", "sleep", "1000"])).collect();
    let said: Vec<Said> = runs.into_iter().map(|run| Said::of(run.wait_with_output().unwrap())).collect();
    assert_eq!(said.iter().filter(|said| said.code == 0).count(), 1, "{said:?}");
    assert!(said.iter().filter(|said| said.code != 0).all(|said| said.code == 125 && said.err.contains("already in use")), "{said:?}");
    assert_eq!(host.my(&["ps", "-aq"]).ok().lines().count(), 1);
    // So with starts of one container, and with removals.
    host.my(&["stop", "-t", "0", "only"]).ok();
    let at_once = |args: &[&str]| {
        let all: Vec<_> = (0..4).map(|_| host.command(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()).collect();
        all.into_iter().map(|child| Said::of(child.wait_with_output().unwrap())).collect::<Vec<_>>()
    };
    let said = at_once(&["start", "only"]);
    assert!(said.iter().any(|said| said.code == 0), "{said:?}");
    assert_eq!(host.status("only"), "running");
    assert_eq!(host.remains().iter().filter(|line| line.contains("sleep 1000")).count(), 1);
    let said = at_once(&["rm", "-f", "only"]);
    assert!(said.iter().any(|said| said.code == 0), "{said:?}");
    assert!(said.iter().all(|said| said.code == 0 || said.err.contains("no such container")), "{said:?}");
    host.nothing_left();
}

#[test]
fn a_killed_monitor_is_seen_and_cleared_up_after() {
    let host = Host::new();
    let id = host.detached(&["--name", "box", "busybox", "sleep", "1000"]);
    kill(host.monitor(&id), Signal::KILL);
    // Its program lives on, and can be listed, entered, stopped and started again.
    assert_eq!(host.my(&["ps", "--format", "{{.State}}"]).ok(), "running\n");
    assert_eq!(host.exec("box", "echo in"), "in\n");
    host.my(&["attach", "box"]).fails(1, &["killed"]);
    host.my(&["stop", "-t", "0", "box"]).ok();
    assert_eq!(host.inspect("box", "{{.State.Status}} {{.State.ExitCode}}"), "exited 137");
    assert_eq!(host.remains(), Default::default());
    host.my(&["start", "box"]).ok();
    // Both killed: it has exited, and nobody saw how.
    kill(host.monitor(&id), Signal::KILL);
    kill(host.pid("box"), Signal::KILL);
    eventually("it is seen", || host.inspect("box", "{{.State.Status}} {{.State.ExitCode}}") == "exited 255");
    assert!(host.inspect("box", "{{.State.Error}}").contains("was not seen"));
    host.my(&["start", "box"]).ok();
    kill(host.monitor(&id), Signal::KILL);
    host.my(&["rm", "-f", "box"]).ok();
    host.nothing_left();
    // A foreground whose monitor is killed clears up itself.
    let run = host.spawn(&["--rm", "--name", "front", "busybox", "sleep", "1000"]);
    eventually("it runs", || host.my(&["ps", "--format", "{{.State}}"]).ok() == "running\n");
    kill(host.monitor("front"), Signal::KILL);
    Said::of(run.wait_with_output().unwrap()).fails(125, &["was killed"]);
    host.nothing_left();
}

/// Of a container that is killed before its program is executed, the monitor would else hold the door open at which it waits.
#[test]
fn a_monitor_keeps_nothing_of_how_the_container_was_made() {
    let host = Host::new();
    let id = host.detached(&["busybox", "sleep", "1000"]);
    let descriptors = || -> Vec<String> {
        let entries = fs::read_dir(format!("/proc/{}/fd", host.monitor(&id))).unwrap().flatten();
        entries.filter_map(|entry| Some(fs::read_link(entry.path()).ok()?.to_string_lossy().into_owned())).collect()
    };
    let all = descriptors();
    assert!(!all.iter().any(|to| to.starts_with("/sys/fs/cgroup")), "{all:?}");
    // The one that commands connect to, once the `run` above has gone.
    eventually("one socket is left", || descriptors().iter().filter(|to| to.starts_with("socket:")).count() == 1);
    host.clear();
}

#[test]
fn kills_at_any_moment_leave_what_the_next_command_understands() {
    let host = Host::new();
    for step in 0..40u32 {
        let mut run = host.spawn(&["-d", "--name", "box", "busybox", "sleep", "1000"]);
        std::thread::sleep(Duration::from_micros(u64::from(step * step) * 60));
        kill(run.id().cast_signed(), Signal::KILL);
        if step % 2 == 0 {
            // And its monitor, if there is one by now.
            for line in host.remains().iter().filter(|line| line.starts_with("process ") && line.contains(" monitor ")) {
                kill(line.split(' ').nth(1).unwrap().parse().unwrap(), Signal::KILL);
            }
        }
        run.wait().unwrap();
        let listed = host.my(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]).ok();
        assert!(["", "box created\n", "box running\n", "box exited\n"].contains(&listed.as_str()), "{listed}");
        host.my(&["rm", "-f", "box"]).ok();
        assert_eq!(host.my(&["ps", "-aq"]).ok(), "", "step {step}");
        for _ in 0..300 {
            if host.remains().is_empty() {
                break;
            }
            std::thread::sleep(Duration::from_millis(10));
        }
        assert_eq!(host.remains(), Default::default(), "step {step}");
    }
}

/// `system doctor` names what is left of whatever was killed, and `system prune` leaves nothing of it.
#[test]
fn prune_finds_what_kills_at_any_moment_leave() {
    let host = Host::new();
    for step in 0..24u32 {
        let name = format!("box{step}");
        // A run is killed, or a removal; with a volume, and every other time with the monitor.
        let run: Vec<&str> = vec!["-d", "--rm", "--name", &name, "-v", "/data", "busybox", "sleep", "1000"];
        let mut victim = if step % 3 == 2 {
            host.detached(&run[1..]);
            host.command(&["rm", "-f", &name]).stdout(Stdio::null()).stderr(Stdio::null()).spawn().unwrap()
        } else {
            host.spawn(&run)
        };
        std::thread::sleep(Duration::from_micros(u64::from(step * step) * 100));
        kill(victim.id().cast_signed(), Signal::KILL);
        if step % 2 == 0 {
            for line in host.remains().iter().filter(|line| line.starts_with("process ") && line.contains(" monitor ")) {
                kill(line.split(' ').nth(1).unwrap().parse().unwrap(), Signal::KILL);
            }
        }
        victim.wait().unwrap();
    }
    // What runs is nobody's fault and is stopped as always; one whose monitor was killed, too, and one that is only being started.
    eventually("nobody stands by", || {
        host.my(&["ps", "-q"]).ok().lines().for_each(|id| drop(host.my(&["stop", "-t", "0", id])));
        !host.remains().iter().any(|line| line.contains(" monitor "))
    });
    host.my(&["system", "prune", "-f", "--volumes"]).ok();
    assert_eq!(host.my(&["system", "doctor"]).ok(), "Nothing is amiss.\n");
    host.nothing_left();
    assert_eq!(host.my(&["volume", "ls", "-q"]).ok(), "");
}

/// What is written without a flush of the disk may be empty after a loss of power.
#[test]
fn what_a_loss_of_power_emptied_is_understood() {
    let host = Host::new();
    let id = host.detached(&["--name", "kept", "--restart", "always", "busybox", "sleep", "1000"]);
    let gone = host.my(&["create", "--rm", "--name", "gone", "--network", "none", "busybox", "true"]).ok();
    kill(host.monitor("kept"), Signal::KILL);
    end(host.pid("kept"));
    eventually("they are gone", || !host.remains().iter().any(|line| line.starts_with("process ")));
    fs::write(host.container("kept").join("state.json"), "").unwrap();
    let record = host.container("gone").join("container.json");
    fs::write(&record, "").unwrap();
    fs::remove_dir_all(host.root().join("run")).unwrap();
    assert_eq!(host.my(&["ps", "-a", "--format", "{{.Names}} {{.State}}"]).ok(), "kept exited\n");
    let said = host.my(&["system", "doctor"]);
    assert!(said.code == 1 && said.out.contains(gone.trim()) && !said.out.contains("cannot be read"), "{said:?}");
    host.my(&["start", "--by-policy"]).ok();
    assert_eq!(host.status(&id), "running");
    host.my(&["create", "--name", "gone", "--network", "none", "busybox", "true"]).ok();
    host.my(&["system", "doctor", "--fix"]).ok();
    assert!(!record.exists());
    assert_eq!(host.my(&["ps", "-a", "--format", "{{.Names}}"]).ok(), "gone\nkept\n");
    host.clear();
}

#[test]
fn a_reboot_is_noticed() {
    let host = Host::new();
    let id = host.detached(&["--name", "box", "--restart", "always", "busybox", "sh", "-c", "echo up; exec sleep 1000"]);
    eventually("it is up", || host.my(&["logs", "box"]).ok() == "up\n");
    kill(host.monitor(&id), Signal::KILL);
    end(host.pid("box"));
    eventually("they are gone", || !host.remains().iter().any(|line| line.starts_with("process ")));
    // As after a boot: another boot id, nothing in the run directory. The pids are somebody else's.
    let path = host.container("box").join("state.json");
    let mut state: serde_json::Value = serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
    (state["boot"], state["process"]["pid"], state["monitor"]["pid"]) = ("another".into(), 1.into(), 1.into());
    fs::write(&path, serde_json::to_vec(&state).unwrap()).unwrap();
    fs::remove_dir_all(host.root().join("run")).unwrap();
    assert_eq!(host.inspect("box", "{{.State.Status}} {{.State.ExitCode}}"), "exited 255");
    host.my(&["exec", "box", "true"]).fails(1, &["is not running"]);
    assert!(host.my(&["start", "--by-policy"]).ok().contains(&id));
    eventually("it is up again", || host.my(&["logs", "box"]).ok() == "up\nup\n");
    host.clear();
}

#[test]
fn a_full_disk_is_said_and_a_log_that_cannot_be_written_stops_nothing() {
    let host = Host::bare("small");
    fs::create_dir(host.root()).unwrap();
    let text = host.root().to_string_lossy().into_owned();
    let mount = |size: &str| std::process::Command::new("mount").args(["-t", "tmpfs", "-o", size, "small", &text]).status().unwrap();
    assert!(mount("size=8m").success());
    let result = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
        host.import();
        let id = host.detached(&["busybox", "sh", "-c", "read x < /dev/zero; true"]);
        host.my(&["rm", "-f", &id]).ok();
        // The program writes more than there is room for, and ends as it would.
        let said = host.run(&["--name", "chatty", "busybox", "sh", "-c", "yes 0123456789 | head -n 1000000; echo end >&2"]);
        assert_eq!((said.code, said.out.len(), said.err.as_str()), (0, 11_000_000, "end\n"));
        fs::write(host.root().join("filler"), vec![0; 16 << 20]).unwrap_err();
        let said = host.run(&["--name", "full", "busybox", "true"]);
        assert!(said.code == 125 && said.err.contains("no space left"), "{said:?}");
        assert_eq!(host.my(&["ps", "-a", "--format", "{{.Names}}"]).ok(), "chatty\n");
        fs::remove_file(host.root().join("filler")).unwrap();
        host.my(&["rm", "-f", "chatty"]).ok();
    }));
    let _ = std::process::Command::new("umount").arg("-l").arg(&text).status();
    result.unwrap();
    host.nothing_left();
}

#[test]
fn a_root_directory_may_have_any_name_but_overlayfs_separators() {
    let host = Host::at("a b'\"$(x)\u{fc}");
    assert_eq!(host.sh(&[], "echo fine"), "fine\n");
    host.nothing_left();
    let host = Host::at("a,b");
    host.run(&["--rm", "busybox", "true"]).fails(125, &["separator"]);
    host.nothing_left();
}
