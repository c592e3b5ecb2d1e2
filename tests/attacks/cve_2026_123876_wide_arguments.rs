//! CVE-2026-123876: the kernel reads an `int` argument as 32 bits, a seccomp filter sees 64. A
//! program sets the upper half, and a rule that looks at all 64 bits takes the call for another.

use super::{Guard, add_mount, common::Bundle, control_with};
use serde_json::{Value, json};
use std::path::Path;

/// AF_ALG (38) and AF_VSOCK (40), the first plain, then with bits that the kernel does not read,
/// then AF_UNIX with them. Perl passes numbers to syscall(2) as they are. For each, the error's
/// number or the descriptor's is printed.
const SCRIPT: &str = r#"for (38, 40, 1<<32|38, 1<<32|40, 1<<63|40, 1<<32|1) {
    my $got = syscall(41, $_, 5, 0); printf "%s ", $got < 0 ? "errno=" . ($! + 0) : "open" }"#;

fn bundle(seccomp: &Value) -> Bundle {
    Bundle::new(&["/usr/bin/perl", "-e", SCRIPT]).with(|config| {
        config["linux"]["seccomp"] = seccomp.clone();
        config["process"]["rlimits"] = json!([]);
        for dir in ["/lib", "/lib64", "/usr"].map(Path::new).iter().filter(|dir| dir.is_dir()) {
            add_mount(config, "bind", dir, dir.to_str().unwrap());
        }
    })
}

#[test]
#[cfg(target_arch = "x86_64")]
fn the_upper_half_of_an_argument_passes_no_rule() {
    let top = Path::new(env!("CARGO_MANIFEST_DIR"));
    let read = |file: &str| -> Value { serde_json::from_slice(&std::fs::read(top.join(file)).unwrap()).unwrap() };
    let sample = read("bundles/seccomp/config.json")["linux"]["seccomp"].take();
    for profile in [sample, read("src/mydocker/container/seccomp.json")["profile"].take()] {
        let bundle = bundle(&profile);
        let guard = Guard::new(&bundle);
        let denied = "errno=1 errno=1 errno=1 errno=1 errno=1 ";
        assert_eq!(bundle.run().ok(), format!("{denied}open "), "SOCK_SEQPACKET of AF_UNIX alone is permitted");
        control_with(&bundle, &guard, |peer| {
            let said = peer.said(&[], &["run", "ID"]);
            said.code == 0 && !said.out.starts_with(denied)
        });
        guard.unchanged();
    }
}

/// What a profile compares and the kernel never reads is told before anything runs.
#[test]
fn validate_tells_what_the_kernel_never_reads() {
    let rule = |value: u64| {
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["socket"], "action": "SCMP_ACT_ERRNO",
            "args": [{"index": 0, "value": value, "op": "SCMP_CMP_EQ"}]}]})
    };
    let told = "linux.seccomp.syscalls[0].args[0] never holds for socket: the kernel reads only the lower 32 bits of this argument";
    for (value, tells) in [(40, false), (1 << 32 | 40, true)] {
        let bundle = Bundle::new(&["true"]).with(|config| config["linux"]["seccomp"] = rule(value));
        bundle.write();
        let said = bundle.keel(&["validate"]);
        assert_eq!(said.code, 0, "{said:?}");
        assert_eq!(format!("{}{}", said.out, said.err).contains(told), tells, "{said:?}");
    }
}
