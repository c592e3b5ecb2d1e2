//! The same profile through libseccomp, in the way runc uses it (libcontainer/seccomp/seccomp_linux.go).

use super::bpf::{self, Data};
use keel::spec::{Seccomp, SyscallArg};
use keel::sys::SockFilter;
use libseccomp::{ScmpAction, ScmpArch, ScmpArgCompare, ScmpCompareOp, ScmpFilterContext, ScmpSyscall};
use std::collections::BTreeMap;
use std::io::{Read, Seek};
use std::sync::Mutex;

/// An architecture of a CPU family: its name in profiles, libseccomp's and the kernel's, and where its numbers begin.
pub type Arch = (&'static str, ScmpArch, u32, u32);

pub const X86: [Arch; 3] = [
    ("SCMP_ARCH_X86_64", ScmpArch::X8664, 0xc000_003e, 0),
    ("SCMP_ARCH_X86", ScmpArch::X86, 0x4000_0003, 0),
    ("SCMP_ARCH_X32", ScmpArch::X32, 0xc000_003e, 0x4000_0000),
];
pub const ARM: [Arch; 2] = [("SCMP_ARCH_AARCH64", ScmpArch::Aarch64, 0xc000_00b7, 0), ("SCMP_ARCH_ARM", ScmpArch::Arm, 0x4000_0028, 0)];

/// The program that libseccomp makes of a profile.
pub struct Oracle(Vec<SockFilter>);

/// The number by which a program of this ABI makes the call itself, not through a multiplexer.
pub fn number(name: &str, arch: ScmpArch) -> Option<u32> {
    static KNOWN: Mutex<BTreeMap<(u32, String), Option<u32>>> = Mutex::new(BTreeMap::new());
    let look_up = || {
        let number = ScmpSyscall::from_name_by_arch(name, arch).ok()?.as_raw_syscall();
        // libseccomp answers with a pseudo number for x86's multiplexed calls even where there is a number too.
        let direct = || (300..=402).find(|n| arch == ScmpArch::X86 && name_of(*n, arch).as_deref() == Some(name));
        u32::try_from(number).ok().or_else(direct)
    };
    *KNOWN.lock().unwrap().entry((arch as u32, name.into())).or_insert_with(look_up)
}

pub fn name_of(number: u32, arch: ScmpArch) -> Option<String> {
    ScmpSyscall::from_raw_syscall(number as i32).get_name_by_arch(arch).ok()
}

fn action(name: &str, errno: Option<u32>) -> ScmpAction {
    let errno = errno.unwrap_or(1);
    match name {
        "SCMP_ACT_KILL" | "SCMP_ACT_KILL_THREAD" => ScmpAction::KillThread,
        "SCMP_ACT_KILL_PROCESS" => ScmpAction::KillProcess,
        "SCMP_ACT_TRAP" => ScmpAction::Trap,
        "SCMP_ACT_ERRNO" => ScmpAction::Errno(errno as i32),
        "SCMP_ACT_TRACE" => ScmpAction::Trace(errno as u16),
        "SCMP_ACT_NOTIFY" => ScmpAction::Notify,
        "SCMP_ACT_LOG" => ScmpAction::Log,
        "SCMP_ACT_ALLOW" => ScmpAction::Allow,
        _ => panic!("{name}"),
    }
}

fn compare(arg: &SyscallArg) -> ScmpArgCompare {
    let (op, datum) = match arg.op.as_str() {
        "SCMP_CMP_NE" => (ScmpCompareOp::NotEqual, arg.value),
        "SCMP_CMP_LT" => (ScmpCompareOp::Less, arg.value),
        "SCMP_CMP_LE" => (ScmpCompareOp::LessOrEqual, arg.value),
        "SCMP_CMP_EQ" => (ScmpCompareOp::Equal, arg.value),
        "SCMP_CMP_GE" => (ScmpCompareOp::GreaterEqual, arg.value),
        "SCMP_CMP_GT" => (ScmpCompareOp::Greater, arg.value),
        "SCMP_CMP_MASKED_EQ" => (ScmpCompareOp::MaskedEqual(arg.value), arg.value_two),
        op => panic!("{op}"),
    };
    ScmpArgCompare::new(arg.index, op, datum)
}

impl Oracle {
    pub fn new(family: &[Arch], seccomp: &Seccomp) -> Self {
        let default = action(&seccomp.default_action, seccomp.default_errno_ret);
        let mut context = ScmpFilterContext::new(default).unwrap();
        let filtered: Vec<&Arch> = (family.iter().enumerate())
            .filter(|(i, arch)| *i == 0 || seccomp.architectures.iter().any(|name| name == arch.0))
            .map(|(_, arch)| arch)
            .collect();
        for arch in &filtered {
            context.add_arch(arch.1).unwrap();
        }
        if !filtered.iter().any(|arch| arch.1 == ScmpArch::native()) {
            context.remove_arch(ScmpArch::native()).unwrap();
        }
        for rule in &seccomp.syscalls {
            let action = action(&rule.action, rule.errno_ret);
            let twice = (0..6).any(|i| rule.args.iter().filter(|arg| arg.index == i).count() > 1);
            let conditions: Vec<_> = rule.args.iter().map(compare).collect();
            for call in rule.names.iter().filter(|_| action != default).filter_map(|name| ScmpSyscall::from_name(name).ok()) {
                match conditions.as_slice() {
                    [] => _ = context.add_rule(action, call).unwrap(),
                    all if twice => all.iter().for_each(|c| _ = context.add_rule_conditional(action, call, &[*c]).unwrap()),
                    all => _ = context.add_rule_conditional(action, call, all).unwrap(),
                }
            }
        }
        Self(export(&context))
    }

    /// libseccomp's verdict.
    pub fn verdict(&self, data: &Data) -> u32 {
        bpf::run(&self.0, data)
    }
}

fn export(context: &ScmpFilterContext) -> Vec<SockFilter> {
    let mut file = std::fs::File::from(rustix::fs::memfd_create("bpf", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    context.export_bpf(&file).unwrap();
    file.rewind().unwrap();
    let mut bytes = Vec::new();
    file.read_to_end(&mut bytes).unwrap();
    let instruction = |b: &[u8]| SockFilter {
        code: u16::from_ne_bytes([b[0], b[1]]),
        jt: b[2],
        jf: b[3],
        k: u32::from_ne_bytes([b[4], b[5], b[6], b[7]]),
    };
    bytes.chunks_exact(8).map(instruction).collect()
}
