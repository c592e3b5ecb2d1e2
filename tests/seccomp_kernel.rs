//! Our filters in the running kernel: it accepts them, and calls end as the profile says.
//!
//! A filter binds the thread that loads it, so each test loads one in a thread of its own.

use keel::plan::seccomp::{Call, NATIVE, compile};
use keel::spec::{Seccomp, SyscallArg, SyscallRule};
use keel::sys::{SeccompData, SockFilter, seccomp};
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

/// CVE-2026-123876: a program that sets the bits of an argument which the kernel does not read
/// makes the same call, and gets the same answer of the filter. Every argument of every call is
/// tried that our tables say is read in part.
#[test]
fn unread_bits_of_no_argument_pass_the_filter() {
    const MARK: u64 = 0x5a5a_5a5a;
    let audit = if cfg!(target_arch = "x86_64") { 0xc000_003e } else { 0xc000_00b7 };
    let mut rules = Vec::new();
    let mut calls = Vec::new();
    for index in 0..6 {
        let mut names = Vec::new();
        for nr in 0..1024 {
            let Some(name) = Call::of(&SeccompData { nr, arch: audit, ..SeccompData::default() }).name else { continue };
            let bits = NATIVE.bits_read(NATIVE.name(), name, index);
            if bits != u64::MAX {
                names.push(name.to_owned());
                calls.push(format!("{nr} {index} {}", !bits & 0x1234_5678_9abc_0000 | MARK & bits));
            }
        }
        let (short, int) = names.into_iter().partition(|name| NATIVE.bits_read(NATIVE.name(), name, index) == 0xffff);
        for (names, bits) in [(short, 0xffff), (int, 0xffff_ffff)] {
            let arg = SyscallArg { index: u32::from(index), value: MARK & bits, value_two: 0, op: "SCMP_CMP_EQ".into() };
            let errno_ret = Some(1000 + u32::from(index));
            rules.push(SyscallRule { names, action: "SCMP_ACT_ERRNO".into(), errno_ret, args: vec![arg] });
        }
    }
    assert!(calls.len() > 400, "only {} arguments are read in part", calls.len());
    let profile = Seccomp { default_action: "SCMP_ACT_ALLOW".into(), syscalls: rules, ..Seccomp::default() };
    // The filter stays over an execve(2). Perl hands on numbers as they are.
    let script = r#"for (@ARGV) { my ($nr, $i, $value) = split / /; my @args = (0) x 6; $args[$i] = $value + 0;
        syscall($nr, @args) == -1 or die "$_: no error"; print 0 + $!, "\n" }"#;
    let output = under(&profile, || Command::new("perl").args(["-e", script]).args(&calls).output().unwrap());
    let said = String::from_utf8(output.stdout).unwrap();
    let passed: Vec<_> =
        calls.iter().zip(said.lines()).filter(|(call, errno)| call.split(' ').nth(1) != errno.strip_prefix("100")).collect();
    assert!(passed.is_empty() && said.lines().count() == calls.len(), "{passed:?} {}", String::from_utf8_lossy(&output.stderr));
}
