//! Our filters in the running kernel: it accepts them, and calls end as the profile says.
//!
//! A filter binds the thread that loads it, so each test loads one in a thread of its own.

use keel::plan::seccomp::compile;
use keel::spec::Seccomp;
use keel::sys::{SockFilter, seccomp};
use rustix::io::Errno;
use std::os::unix::process::ExitStatusExt;
use std::process::Command;

fn docker() -> Seccomp {
    serde_json::from_str(include_str!("data/docker-seccomp.json")).unwrap()
}

/// Runs a closure under the filter of a profile.
fn under<T: Send>(profile: &Seccomp, run: impl FnOnce() -> T + Send) -> T {
    let filter = compile(profile).unwrap();
    std::thread::scope(|scope| {
        let thread = scope.spawn(move || {
            rustix::thread::set_no_new_privs(true).unwrap();
            assert_eq!(seccomp(filter.flags, &filter.program), Ok(0));
            run()
        });
        thread.join().unwrap()
    })
}

fn socket(family: u16) -> Result<(), Errno> {
    let family = rustix::net::AddressFamily::from_raw(family);
    rustix::net::socket(family, rustix::net::SocketType::SEQPACKET, None).map(drop)
}

#[test]
fn docker_profile_denies_and_allows() {
    let socketpair = || {
        let (domain, kind) = (rustix::net::AddressFamily::UNIX, rustix::net::SocketType::STREAM);
        rustix::net::socketpair(domain, kind, rustix::net::SocketFlags::empty(), None).map(drop)
    };
    under(&docker(), || {
        assert_eq!(rustix::system::sethostname(b"x"), Err(Errno::PERM));
        assert_eq!(rustix::process::pivot_root("/", "/"), Err(Errno::PERM));
        // AF_ALG (38) and AF_VSOCK (40) are refused, AF_UNIX (1) below them and AF_NFC (39) between them are not.
        assert_eq!(socket(1), Ok(()));
        assert_eq!(socket(38), Err(Errno::PERM));
        assert_eq!(socket(40), Err(Errno::PERM));
        assert_ne!(socket(39), Err(Errno::PERM));
        assert_eq!(socketpair(), Ok(()));
        assert!(std::fs::read("/proc/self/status").is_ok());
    });
}

#[test]
fn kernel_reports_the_filter() {
    let status = under(&docker(), || std::fs::read_to_string("/proc/thread-self/status").unwrap());
    assert!(status.contains("\nSeccomp:\t2\nSeccomp_filters:\t1\n"), "{status}");
}

#[test]
fn calls_newer_than_the_profile_do_not_exist() {
    // Without the names that came after statx (2017), openat2 (2020) is newer than the profile.
    let since = [
        "io_pgetevents",
        "rseq",
        "pidfd_send_signal",
        "pidfd_open",
        "close_range",
        "openat2",
        "faccessat2",
        "epoll_pwait2",
        "landlock_create_ruleset",
        "landlock_add_rule",
        "landlock_restrict_self",
        "memfd_secret",
        "process_mrelease",
        "futex_waitv",
        "cachestat",
        "fchmodat2",
        "map_shadow_stack",
        "futex_wake",
        "futex_wait",
        "futex_requeue",
        "statmount",
        "listmount",
        "mseal",
        "setxattrat",
        "getxattrat",
        "listxattrat",
        "removexattrat",
        "uretprobe",
        "clone3",
    ];
    let open = || {
        let (flags, mode) = (rustix::fs::OFlags::PATH, rustix::fs::Mode::empty());
        rustix::fs::openat2(rustix::fs::CWD, "/", flags, mode, rustix::fs::ResolveFlags::empty()).map(drop)
    };
    let mut profile = docker();
    assert_eq!(under(&profile, open), Ok(()));
    for rule in &mut profile.syscalls {
        rule.names.retain(|name| !since.contains(&name.as_str()));
    }
    assert_eq!(under(&profile, open), Err(Errno::NOSYS));
    // An older call that the profile does not name is denied, as before.
    assert_eq!(under(&profile, || rustix::system::sethostname(b"x")), Err(Errno::PERM));
}

#[test]
fn kernel_refuses_what_is_no_program() {
    assert_eq!(seccomp(0, &[]), Err(Errno::INVAL));
    let jump_past_the_end = [SockFilter { code: 0x05, jt: 0, jf: 0, k: 7 }];
    assert_eq!(seccomp(0, &jump_past_the_end), Err(Errno::INVAL));
    assert_eq!(seccomp(0, &[SockFilter::default(); 70_000]), Err(Errno::INVAL));
}

const KILLED: &str = "KEEL_TEST_SECCOMP_KILLED";

/// In a child: the kernel ends the process at the first uname(2).
#[test]
fn kill_process_kills() {
    if std::env::var_os(KILLED).is_some() {
        let profile = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["uname"], "action": "SCMP_ACT_KILL_PROCESS"}]}"#;
        under(&serde_json::from_str(profile).unwrap(), rustix::system::uname);
        return;
    }
    let this = std::env::current_exe().unwrap();
    let output = Command::new(this).args(["--exact", "kill_process_kills"]).env(KILLED, "1").output().unwrap();
    assert_eq!(output.status.signal(), Some(31), "{output:?}");
}
