//! What a profile must not say, and what the compiler decides where neither the specification nor libseccomp does.

#[path = "seccomp/bpf.rs"]
mod bpf;

use keel::plan::seccomp::{ARM, X86, compile, compile_for};
use keel::spec::{Seccomp, SyscallArg, SyscallRule};
use keel::sys::SockFilter;

fn profile(json: &str) -> Seccomp {
    serde_json::from_str(json).unwrap()
}

fn program(profile: &Seccomp) -> Vec<SockFilter> {
    compile_for(&X86, profile).unwrap().program
}

/// The verdict on an x86_64 system call with a first argument.
fn verdict(program: &[SockFilter], nr: u32, first: u64) -> u32 {
    bpf::run(program, &bpf::Data { nr, arch: 0xc000_003e, args: [first, 0, 0, 0, 0, 0] })
}

#[test]
fn refusals_say_what_and_where() {
    for (json, expected) in [
        (
            r#"{"defaultAction": ""  , "syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG"}]}"#,
            "a seccomp action is missing (config.json: linux.seccomp.defaultAction)",
        ),
        (r#"{"defaultAction": "SCMP_ACT_NONE"}"#, "SCMP_ACT_NONE is not a seccomp action (config.json: linux.seccomp.defaultAction)"),
        (
            r#"{"defaultAction": "SCMP_ACT_NOTIFY", "defaultErrnoRet": 1}"#,
            "SCMP_ACT_NOTIFY returns no errno (config.json: linux.seccomp.defaultErrnoRet)",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "defaultErrnoRet": 1}"#,
            "SCMP_ACT_ALLOW returns no errno (config.json: linux.seccomp.defaultErrnoRet)",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": 4096}"#,
            "SCMP_ACT_ERRNO cannot return 4096, the largest is 4095 (config.json: linux.seccomp.defaultErrnoRet)",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_TRACE", "defaultErrnoRet": 65536}"#,
            "SCMP_ACT_TRACE cannot return 65536, the largest is 65535 (config.json: linux.seccomp.defaultErrnoRet)",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86", "x86"]}"#,
            "x86 is not an architecture (config.json: linux.seccomp.architectures[1])",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_LOG", "LOG"]}"#,
            "LOG is not a seccomp flag (config.json: linux.seccomp.flags[1])",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "listenerMetadata": "m"}"#,
            "metadata for a seccomp listener without its path (config.json: linux.seccomp.listenerMetadata)",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"]}]}"#,
            "a seccomp action is missing (config.json: linux.seccomp.syscalls[0].action)",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG", "errnoRet": 1}]}"#,
            "SCMP_ACT_LOG returns no errno (config.json: linux.seccomp.syscalls[0].errnoRet)",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read", ""], "action": "SCMP_ACT_LOG"}]}"#,
            "a system call's name is empty (config.json: linux.seccomp.syscalls[0].names[1])",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"index": 6, "op": "SCMP_CMP_EQ"}]}]}"#,
            "a system call has no argument 6, the last is 5 (config.json: linux.seccomp.syscalls[0].args[0].index)",
        ),
        (
            r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": [], "action": "SCMP_ACT_LOG"}, {"names": ["read"], "action": "SCMP_ACT_LOG", "args": [{"op": "=="}]}]}"#,
            "== is not a seccomp comparison (config.json: linux.seccomp.syscalls[1].args[0].op)",
        ),
    ] {
        assert_eq!(compile_for(&X86, &profile(json)).unwrap_err().to_string(), expected, "{json}");
    }
}

#[test]
fn an_empty_profile_is_no_filter() {
    assert_eq!(compile(&Seccomp::default()).unwrap().program, []);
    // Not the same: a default action without rules.
    assert_ne!(compile(&profile(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#)).unwrap().program, []);
}

#[test]
fn flags_are_those_of_the_system_call() {
    let flags = |flags: &str| compile(&profile(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "flags": [{flags}]}}"#))).unwrap().flags;
    assert_eq!(flags(""), 0);
    assert_eq!(compile(&profile(r#"{"defaultAction": "SCMP_ACT_ALLOW"}"#)).unwrap().flags, 4, "absent is not empty");
    assert_eq!(flags(r#""SECCOMP_FILTER_FLAG_LOG""#), 2);
    assert_eq!(flags(r#""SECCOMP_FILTER_FLAG_LOG", "SECCOMP_FILTER_FLAG_SPEC_ALLOW""#), 6);
    assert_eq!(flags(r#""SECCOMP_FILTER_FLAG_TSYNC", "SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV""#), 0);
    let waits = r#"{"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV"]"#;
    let filter = compile(&profile(&format!("{waits}}}"))).unwrap();
    assert_eq!(filter.warnings.len(), 1, "no flag is dropped without a word");
    assert!(filter.warnings[0].contains("linux.seccomp.flags[0]"), "{:?}", filter.warnings);
    let filter = compile(&profile(&format!(r#"{waits}, "syscalls": [{{"names": ["read"], "action": "SCMP_ACT_NOTIFY"}}]}}"#))).unwrap();
    assert_eq!((filter.flags, filter.warnings.len()), (0x28, 0), "a listener, which makes the flag possible");
}

/// libseccomp refuses the first two of these rules together and takes the others in an order of its own.
#[test]
fn of_conditional_rules_the_strictest_applies() {
    let profile = profile(
        r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["close"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 7, "op": "SCMP_CMP_EQ"}]},
        {"names": ["close"], "action": "SCMP_ACT_KILL_PROCESS", "args": [{"index": 0, "value": 7, "op": "SCMP_CMP_EQ"}]},
        {"names": ["close"], "action": "SCMP_ACT_LOG", "args": [{"index": 0, "value": 9, "op": "SCMP_CMP_LE"}]},
        {"names": ["close"], "action": "SCMP_ACT_ERRNO", "errnoRet": 9, "args": [{"index": 0, "value": 3, "op": "SCMP_CMP_LT"}]}
    ]}"#,
    );
    let program = program(&profile);
    let close = |fd| verdict(&program, 3, fd);
    assert_eq!([2, 3, 7, 9, 10].map(close), [0x0005_0009, 0x7ffc_0000, 0x8000_0000, 0x7ffc_0000, 0x0005_0001]);
}

#[test]
fn an_unconditional_rule_decides_and_the_user_is_told() {
    let json = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["close", "read"], "action": "SCMP_ACT_KILL_PROCESS", "args": [{"index": 0, "value": 7, "op": "SCMP_CMP_EQ"}]},
        {"names": ["open", "read"], "action": "SCMP_ACT_LOG"},
        {"names": ["read"], "action": "SCMP_ACT_TRAP"}
    ]}"#;
    assert_eq!(verdict(&program(&profile(json)), 0, 7), 0x7ffc_0000);
    assert_eq!(
        compile_for(&X86, &profile(json)).unwrap().warnings,
        [0, 2].map(|i| format!(
            "linux.seccomp.syscalls[{i}] has no effect on read: linux.seccomp.syscalls[1] decides on it without conditions"
        ))
    );
}

#[test]
fn calls_newer_than_the_profile_are_unknown_to_it() {
    let json = |default: &str| {
        format!(r#"{{"defaultAction": "{default}", "syscalls": [{{"names": ["openat2", "statx"], "action": "SCMP_ACT_LOG"}}]}}"#)
    };
    // openat2 is number 437; 436 is older, so the default action is an answer that programs know.
    for (default, expected) in [
        ("SCMP_ACT_ERRNO", [0x0005_0001, 0x7ffc_0000, 0x0005_0026]),
        ("SCMP_ACT_KILL_PROCESS", [0x8000_0000, 0x7ffc_0000, 0x0005_0026]),
        ("SCMP_ACT_ALLOW", [0x7fff_0000, 0x7ffc_0000, 0x7fff_0000]),
        ("SCMP_ACT_TRACE", [0x7ff0_0001, 0x7ffc_0000, 0x7ff0_0001]),
    ] {
        let program = program(&profile(&json(default)));
        assert_eq!([436, 437, 438].map(|nr| verdict(&program, nr, 0)), expected);
    }
}

/// The verdict of an i386 multiplexer, 102 socketcall(2) or 117 ipc(2), on one of its calls; the rest is a pointer.
fn multiplexed(program: &[SockFilter], nr: u32, call: u64) -> u32 {
    bpf::run(program, &bpf::Data { nr, arch: 0x4000_0003, args: [call, 0xffff_d000, 0, 0, 0, 0] })
}

const ALLOW: u32 = 0x7fff_0000;
const EPERM: u32 = 0x0005_0001;

/// AF_ALG (38, CVE-2026-31431) and AF_VSOCK (40) by way of socketcall(2), where a filter cannot see the family.
#[test]
fn docker_profile_withholds_sockets_through_socketcall() {
    let mut docker = profile(include_str!("data/docker-seccomp.json"));
    let named = program(&docker);
    let names = docker.syscalls[0].names.len();
    docker.syscalls[0].names.retain(|name| name != "socketcall");
    assert_eq!(docker.syscalls[0].names.len(), names - 1);
    let program = program(&docker);
    assert_eq!(multiplexed(&program, 102, 1), EPERM, "socket has conditions");
    for call in 2..=20 {
        assert_eq!(multiplexed(&program, 102, call), ALLOW, "call {call} is listed without conditions");
    }
    assert_eq!(multiplexed(&program, 102, 21), EPERM, "no call");
    // The system call of its own, 359, shows its arguments.
    let socket = |family| bpf::run(&program, &bpf::Data { nr: 359, arch: 0x4000_0003, args: [family, 0, 0, 0, 0, 0] });
    assert_eq!([2, 38, 39, 40, 41].map(socket), [ALLOW, EPERM, ALLOW, EPERM, ALLOW]);
    // Who allows socketcall by name gets all of it.
    assert_eq!(multiplexed(&named, 102, 1), ALLOW);
}

#[test]
fn multiplexers_permit_no_more_than_can_be_checked() {
    let with = |default: &str, action: &str, arg: &str| {
        let rule = format!(r#"{{"names": ["socket", "shmat"], "action": "{action}", "args": [{arg}]}}"#);
        let json = format!(r#"{{"defaultAction": "{default}", "architectures": ["SCMP_ARCH_X86"], "syscalls": [{rule}]}}"#);
        let program = program(&profile(&json));
        let verdicts = [(102, 1), (117, 21)].map(|(nr, call)| multiplexed(&program, nr, call));
        assert_eq!(verdicts[0], verdicts[1]);
        verdicts[0]
    };
    let first = r#"{"index": 0, "value": 38, "op": "SCMP_CMP_NE"}"#;
    let second = r#"{"index": 1, "value": 1, "op": "SCMP_CMP_NE"}"#;
    for conditions in [first, second, &format!("{first}, {second}"), &format!("{first}, {first}")] {
        assert_eq!(with("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", conditions), EPERM, "{conditions}");
        assert_eq!(with("SCMP_ACT_LOG", "SCMP_ACT_ALLOW", conditions), 0x7ffc_0000, "{conditions}");
        assert_eq!(with("SCMP_ACT_KILL", "SCMP_ACT_ERRNO", conditions), 0, "{conditions}");
        assert_eq!(with("SCMP_ACT_KILL_PROCESS", "SCMP_ACT_KILL_THREAD", conditions), 0x8000_0000, "{conditions}");
    }
    // Stricter than the default: extended, for without its condition it denies too much, not too little.
    assert_eq!(with("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO", first), EPERM);
    // No condition at all, or one that compares no bit.
    assert_eq!(with("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", ""), ALLOW);
    let void = r#"{"index": 0, "value": 0, "valueTwo": 4294967296, "op": "SCMP_CMP_MASKED_EQ"}"#;
    assert_eq!(with("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", void), ALLOW);
    // A bit that 32 bits do not have: no call can have it set.
    let unreadable = r#"{"index": 0, "value": 4294967296, "valueTwo": 4294967296, "op": "SCMP_CMP_MASKED_EQ"}"#;
    assert_eq!(with("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW", unreadable), EPERM);
}

/// Jumps over more than 255 instructions, up to the kernel's limit and over it.
#[test]
fn programs_may_be_long_but_not_too_long() {
    let many = |count: u64| {
        let arg = |i: u64| SyscallArg { index: 0, value: i << 32 | i, value_two: 0, op: "SCMP_CMP_EQ".into() };
        let rule = |i: u64| SyscallRule {
            names: vec![["brk", "munmap"][i as usize % 2].into()],
            action: "SCMP_ACT_ERRNO".into(),
            errno_ret: Some((i % 4000) as u32),
            args: vec![arg(i)],
        };
        Seccomp { default_action: "SCMP_ACT_ALLOW".into(), syscalls: (0..count).map(rule).collect(), ..Seccomp::default() }
    };
    let program = program(&many(700));
    for (i, nr) in (0..700).zip([12, 11].into_iter().cycle()) {
        assert_eq!(verdict(&program, nr, i << 32 | i), 0x0005_0000 | i as u32);
        assert_eq!(verdict(&program, nr, i), if i == 0 { 0x0005_0000 } else { 0x7fff_0000 });
    }
    let refusal = compile_for(&X86, &many(1000)).unwrap_err().to_string();
    assert!(refusal.ends_with("instructions, the kernel takes 4096 (config.json: linux.seccomp.syscalls)"), "{refusal}");
}

/// CVE-2026-123876: the verdict is on what the kernel reads. close(2) reads an unsigned int,
/// chmod(2) an unsigned short.
#[test]
fn unread_bits_of_an_argument_change_nothing() {
    const HIGH: u64 = 0xffff_ffff_0000_0000;
    // Operator, value and valueTwo, and arguments for which it holds and does not.
    type Case = (&'static str, u64, u64, &'static [u64], &'static [u64]);
    let cases: [Case; 19] = [
        ("EQ", 40, 0, &[40], &[39, 41]),
        ("NE", 40, 0, &[39, 41], &[40]),
        ("GT", 40, 0, &[41, 0xffff_ffff], &[0, 40]),
        ("GE", 40, 0, &[40, 0xffff_ffff], &[0, 39]),
        ("LT", 40, 0, &[0, 39], &[40, 0xffff_ffff]),
        ("LE", 40, 0, &[0, 40], &[41, 0xffff_ffff]),
        ("MASKED_EQ", 6, 2, &[2, 0xffff_fff3], &[0, 4, 6]),
        // All bits but some, as C programs write it.
        ("MASKED_EQ", !6, 1, &[1, 7], &[0, 8, 0x8000_0001]),
        // -1 and less, and what is below.
        ("EQ", u64::MAX, 0, &[0xffff_ffff], &[0, 0x7fff_ffff]),
        ("NE", u64::MAX, 0, &[0, 0x7fff_ffff], &[0xffff_ffff]),
        ("GE", 0xffff_ffff_8000_0000, 0, &[0x8000_0000, 0xffff_ffff], &[0, 0x7fff_ffff]),
        ("MASKED_EQ", HIGH | 0x8000_0000, HIGH | 0x8000_0000, &[0x8000_0000], &[0x7fff_ffff]),
        // Numbers that no argument can be.
        ("EQ", 1 << 32 | 40, 0, &[], &[0, 40, 0xffff_ffff]),
        ("NE", 1 << 32 | 40, 0, &[0, 40, 0xffff_ffff], &[]),
        ("GT", 1 << 32, 0, &[], &[0, 1, 0xffff_ffff]),
        ("LE", 1 << 32, 0, &[0, 1, 0xffff_ffff], &[]),
        ("LT", HIGH, 0, &[0, 1, 0xffff_ffff], &[]),
        ("MASKED_EQ", HIGH, 0, &[0, 40, 0xffff_ffff], &[]),
        ("MASKED_EQ", HIGH, 1 << 32, &[], &[0, 40, 0xffff_ffff]),
    ];
    for (op, value, two, holds, fails) in cases {
        for (default, action) in [("SCMP_ACT_ALLOW", "SCMP_ACT_ERRNO"), ("SCMP_ACT_ERRNO", "SCMP_ACT_ALLOW")] {
            let arg = format!(r#"{{"index": 0, "value": {value}, "valueTwo": {two}, "op": "SCMP_CMP_{op}"}}"#);
            let rule = format!(r#"{{"names": ["close", "brk"], "action": "{action}", "args": [{arg}]}}"#);
            let architectures = r#"["SCMP_ARCH_X86", "SCMP_ARCH_X32"]"#;
            let json = format!(r#"{{"defaultAction": "{default}", "architectures": {architectures}, "syscalls": [{rule}]}}"#);
            let program = program(&profile(&json));
            let [then, otherwise] = if action == "SCMP_ACT_ALLOW" { [ALLOW, EPERM] } else { [EPERM, ALLOW] };
            for (args, expected) in [(holds, then), (fails, otherwise)] {
                for (arg, upper) in args.iter().flat_map(|arg| [0, 1 << 32, 0x8000_0000_0000_0000, HIGH].map(|upper| (arg, upper))) {
                    let on = |arch, nr| bpf::run(&program, &bpf::Data { nr, arch, args: [arg | upper, 0, 0, 0, 0, 0] });
                    let all = [on(0xc000_003e, 3), on(0xc000_003e, 0x4000_0003), on(0x4000_0003, 6)];
                    assert_eq!(all, [expected; 3], "{op} {value:#x} {two:#x}: {:#x}, {default}", arg | upper);
                }
            }
        }
    }
    // An unsigned long is read whole.
    let brk = |op: &str, arg| {
        let arg_of = format!(r#"{{"index": 0, "value": 40, "op": "SCMP_CMP_{op}"}}"#);
        let rule = format!(r#"{{"names": ["brk"], "action": "SCMP_ACT_ERRNO", "args": [{arg_of}]}}"#);
        verdict(&program(&profile(&format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{rule}]}}"#))), 12, arg)
    };
    assert_eq!([brk("EQ", 40), brk("EQ", 1 << 32 | 40), brk("GT", 1 << 32)], [EPERM, ALLOW, EPERM]);
}

/// `umode_t` has 16 bits, and so have the user ids of the oldest calls of i386.
#[test]
fn unread_bits_of_short_arguments_change_nothing() {
    let rule = |names: &str, index, op: &str, value| {
        format!(
            r#"{{"names": [{names}], "action": "SCMP_ACT_ERRNO", "args": [{{"index": {index}, "value": {value}, "op": "SCMP_CMP_{op}"}}]}}"#
        )
    };
    let rules = [rule(r#""chmod""#, 1, "GT", 0o777), rule(r#""setuid""#, 0, "EQ", 0)].join(",");
    let json = format!(r#"{{"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86"], "syscalls": [{rules}]}}"#);
    let program = program(&profile(&json));
    let chmod = |mode| {
        [(0xc000_003e, 90), (0x4000_0003, 15)].map(|(arch, nr)| bpf::run(&program, &bpf::Data { nr, arch, args: [0, mode, 0, 0, 0, 0] }))
    };
    assert_eq!([chmod(0o777), chmod(0o4755)], [[ALLOW; 2], [EPERM; 2]]);
    assert_eq!([chmod(0xabcd_0000_0000 | 0o777), chmod(0x1234_0000 | 0o4755)], [[ALLOW; 2], [EPERM; 2]]);
    let setuid = |arch, nr, uid| bpf::run(&program, &bpf::Data { nr, arch, args: [uid, 0, 0, 0, 0, 0] });
    assert_eq!([0, 0x1_0000, 1].map(|uid| setuid(0x4000_0003, 23, uid)), [EPERM, EPERM, ALLOW], "16 bits by i386");
    assert_eq!([0, 0x1_0000, 1].map(|uid| setuid(0xc000_003e, 105, uid)), [EPERM, ALLOW, ALLOW], "32 bits by x86_64");
}

/// A condition that holds since the kernel reads too little does not make its rule one without
/// conditions, which would override others.
#[test]
fn a_rule_that_always_holds_does_not_lift_a_stricter_one() {
    let json = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["close"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 4294967295, "op": "SCMP_CMP_LE"}]},
        {"names": ["close"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 4294967296, "op": "SCMP_CMP_LT"}]},
        {"names": ["close"], "action": "SCMP_ACT_KILL_PROCESS", "args": [{"index": 0, "value": 7, "op": "SCMP_CMP_EQ"}]}
    ]}"#;
    let program = program(&profile(json));
    assert_eq!([6, 7, 1 << 32 | 7].map(|fd| verdict(&program, 3, fd)), [ALLOW, 0x8000_0000, 0x8000_0000]);
}

#[test]
fn conditions_on_what_the_kernel_never_reads_are_told() {
    let json = r#"{"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [
        {"names": ["brk", "close"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 4294967296, "op": "SCMP_CMP_LT"}]},
        {"names": ["brk", "munmap"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 4294967296, "op": "SCMP_CMP_LT"}]},
        {"names": ["socket"], "action": "SCMP_ACT_ALLOW", "args": [
            {"index": 2, "value": 18446744073709551615, "op": "SCMP_CMP_NE"},
            {"index": 0, "value": 18446744069414584320, "valueTwo": 4294967296, "op": "SCMP_CMP_MASKED_EQ"}
        ]},
        {"names": ["chmod"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 1, "value": 65536, "op": "SCMP_CMP_EQ"}]},
        {"names": ["dup"], "action": "SCMP_ACT_ALLOW", "args": [{"index": 0, "value": 0, "op": "SCMP_CMP_MASKED_EQ"}]}
    ]}"#;
    let expected = [
        "linux.seccomp.syscalls[0].args[0] always holds for close: the kernel reads only the lower 32 bits of this argument",
        "linux.seccomp.syscalls[2].args[1] never holds for socket: the kernel reads only the lower 32 bits of this argument",
        "linux.seccomp.syscalls[3].args[0] never holds for chmod: the kernel reads only the lower 16 bits of this argument",
    ];
    assert_eq!(compile_for(&X86, &profile(json)).unwrap().warnings, expected);
    let docker = compile_for(&X86, &profile(include_str!("data/docker-seccomp.json"))).unwrap();
    assert!(docker.program.len() <= 226, "{} instructions; comparing 64 bits took 263", docker.program.len());
    assert!(!docker.warnings.iter().any(|warning| warning.contains("the kernel reads")), "{:?}", docker.warnings);
}

/// libseccomp fits 2,000 rules with an argument each into what the kernel takes; architectures of 32 and of 64 bits look at the
/// lower word by the same instructions.
#[test]
fn two_thousand_values_of_an_argument_fit_on_three_architectures() {
    // Values that stand alone, neighbours, and both ends; above 32 bits for every seventh.
    let value = |i: u64| (if i.is_multiple_of(3) { i * 5 } else { i * 5 + 1 }) | if i.is_multiple_of(7) { 1 << 32 } else { 0 };
    let mut values: Vec<u64> = (0..1998).map(value).collect();
    values.extend([u64::from(u32::MAX), u64::from(u32::MAX) - 1]);
    let rule = |value: &u64| {
        let args = format!(r#"[{{"index": 1, "value": {value}, "op": "SCMP_CMP_EQ"}}]"#);
        format!(r#"{{"names": ["mmap"], "action": "SCMP_ACT_ALLOW", "args": {args}}}"#)
    };
    let rules = values.iter().map(rule).collect::<Vec<_>>().join(",");
    let json = format!(
        r#"{{"defaultAction": "SCMP_ACT_ERRNO", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": [{rules}]}}"#
    );
    let program = program(&profile(&json));
    assert!(program.len() <= 4096, "{} instructions", program.len());
    let second = |value| bpf::run(&program, &bpf::Data { nr: 9, arch: 0xc000_003e, args: [0, value, 0, 0, 0, 0] });
    for candidate in (0..10_000).chain(u64::from(u32::MAX) - 3..u64::from(u32::MAX) + 10_000) {
        assert_eq!(second(candidate) == 0x7fff_0000, values.contains(&candidate), "{candidate}");
    }
}

/// Arguments whose types are known from man pages, by every kind of type.
#[test]
fn argument_widths_are_those_of_the_kernels_types() {
    for (name, bits) in [
        ("socket", [32, 32, 32, 64, 64, 64]),
        ("openat", [32, 64, 32, 16, 64, 64]),
        ("clone", [32, 64, 64, 64, 64, 64]),
        ("mmap", [64, 64, 64, 64, 32, 64]),
        ("setresuid", [32, 32, 32, 64, 64, 64]),
        ("kill", [32, 32, 64, 64, 64, 64]),
        ("prctl", [32, 64, 64, 64, 64, 64]),
        ("ioctl", [32, 32, 64, 64, 64, 64]),
        ("lseek", [32, 64, 32, 64, 64, 64]),
        ("read", [32, 64, 64, 64, 64, 64]),
        ("ptrace", [64, 32, 64, 64, 64, 64]),
        ("futex", [64, 32, 32, 64, 64, 32]),
        ("fanotify_mark", [32, 32, 64, 32, 64, 64]),
        ("keyctl", [32, 64, 64, 64, 64, 64]),
        ("personality", [32, 64, 64, 64, 64, 64]),
        ("unshare", [64; 6]),
        ("no_such_call", [64; 6]),
    ] {
        for family in [&X86, &ARM] {
            let read = [0, 1, 2, 3, 4, 5].map(|i| family.bits_read(family.name(), name, i).count_ones());
            assert_eq!(read, bits, "{name} on {}", family.name());
        }
    }
}
