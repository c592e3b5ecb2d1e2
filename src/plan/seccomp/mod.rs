//! A profile's seccomp filter, compiled to classic BPF (seccomp(2), config-linux.md "Seccomp").
//!
//! The verdicts are those that runc gets out of libseccomp, which is the oracle of `tests/seccomp_oracle.rs`, but for
//! multiplexed calls and for bits that the kernel does not read (below). The program is another: system calls with equal verdicts are merged into ranges and found
//! by a balanced search. For Docker's default profile with its three architectures that is 226 instructions instead of a
//! thousand, and the kernel takes as much less time to load it. Compiling them takes some 50 µs, so nothing is cached.
//!
//! What a profile means, where the specification leaves it open:
//!
//! - *Architectures.* The native one is always filtered. Those of other CPU families cannot occur and have no effect.
//!   A system call by way of an architecture that is not listed kills the thread, x32 included.
//! - *Names* that no table of ours has are skipped, as runc does: profiles name calls of every architecture and of
//!   kernels to come, and to skip one leaves it to the default action.
//! - *Several rules for one system call.* The first without conditions decides alone. Among those with conditions, any
//!   that holds applies; if several do, the strictest action, in the kernel's order for several filters. (libseccomp's
//!   choice depends on its internal order here, and it refuses two actions for the same condition.)
//! - *A rule with the default action* has no effect, as in runc.
//! - *Two conditions on one argument* in a rule are alternatives, as in runc; otherwise all conditions must hold.
//! - *Arguments of which the kernel reads a part*, an `int` in a register of 64 bits for instance,
//!   are compared as far as they are read. Otherwise a program would set the rest and pass
//!   (CVE-2026-123876): socket(2) takes 0x1_0000_0028 for 40. libseccomp compares the whole register,
//!   but in 32-bit architectures, where it cuts the profile's values down. Decision 0025 says what
//!   becomes of each comparison, and of values that need more bits.
//! - *Multiplexed calls.* On x86 a rule for a socket or System V IPC call also covers the same call made through
//!   socketcall(2) or ipc(2), where the first argument says which and the call's own arguments are in memory, out of a
//!   filter's sight. This differs from libseccomp: a rule that has conditions and permits more than the default action
//!   does not cover it. libseccomp drops the condition on the first argument there, and so lets 32-bit programs have the
//!   AF_ALG and AF_VSOCK sockets that docker's rules for `socket` withhold. Other rules are extended as libseccomp has
//!   it: without conditions on the first argument, and with those on others, which see the multiplexer's own. A rule for
//!   `socketcall` or `ipc` by name does what it says: a profile that allows these allows all their calls.
//! - *Unknown system calls.* With a default action that denies, a system call with a number above the greatest one
//!   that the profile names fails with ENOSYS instead. Otherwise C libraries would take the EPERM for a call that is newer
//!   than the profile as the answer, and not fall back to the older call (runc pull request 2750).

mod abi;
mod emit;
mod profile;
mod rules;
mod table;
mod watch;

pub use crate::sys::HandOver as Handover;
pub use abi::{ARCHITECTURES, ARM, Family, NATIVE, X86};
pub use rules::{handover, hands_over_at_create};
pub use watch::{Call, minimal, permits, recordable, verdict, watched};

use crate::spec;
use crate::sys::{Error, Result, SockFilter};
use emit::{Program, Target};
use profile::{Profile, Verdicts};

/// What an architecture that the profile does not list gets: libseccomp's default, which runc leaves as it is.
const BAD_ARCHITECTURE: u32 = libc::SECCOMP_RET_KILL_THREAD;

/// A filter ready to load.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Filter {
    /// The program. Empty if the profile is, as in `"seccomp": {}`: then there is nothing to load.
    pub program: Vec<SockFilter>,
    /// `SECCOMP_FILTER_FLAG_*` for seccomp(2).
    pub flags: u32,
    /// What the user should know though the filter is good, each a sentence.
    pub warnings: Vec<String>,
}

/// Compiles `linux.seccomp` for this machine.
///
/// # Errors
/// A word that is unknown, a value that cannot be, or a program that the kernel would refuse as too long.
pub fn compile(seccomp: &spec::Seccomp) -> Result<Filter> {
    compile_for(NATIVE, seccomp)
}

/// Compiles `linux.seccomp` for machines of a CPU family.
///
/// # Errors
/// As [`compile`].
pub fn compile_for(family: &'static Family, seccomp: &spec::Seccomp) -> Result<Filter> {
    if !seccomp.listener_metadata.is_empty() && seccomp.listener_path.is_empty() {
        return Err(Error::new("metadata for a seccomp listener without its path").at("linux.seccomp.listenerMetadata"));
    }
    let mut verdicts = Verdicts::default();
    let flags = rules::flags(seccomp.flags.as_deref(), seccomp.notifies(), &mut verdicts.warnings)?;
    if seccomp.default_action.is_empty() && seccomp.syscalls.is_empty() {
        return Ok(Filter { program: Vec::new(), flags, warnings: verdicts.warnings });
    }
    let profile = Profile::new(family, seccomp)?;
    profile.warn(&mut verdicts.warnings);
    let mut program = Program::default();
    let mut otherwise = Target::Return(BAD_ARCHITECTURE);
    // Back to front: the native architecture comes last here and first in the program.
    for abis in family.abis.chunk_by(|a, b| a.audit == b.audit).rev() {
        if !abis.iter().any(|abi| profile.lists(abi)) {
            continue;
        }
        let runs = profile.runs(abis, &mut verdicts);
        let search = program.search(&runs, &mut |program, verdict| verdicts.write(verdict, &profile, program));
        program.begin(search);
        let number = program.load(emit::NR);
        otherwise = program.equal(abis[0].audit, number, otherwise);
    }
    program.begin(otherwise);
    program.load(emit::ARCH);
    let program = program.into_instructions();
    if program.len() > libc::BPF_MAXINSNS as usize {
        let what = format!("the seccomp filter needs {} instructions, the kernel takes {}", program.len(), libc::BPF_MAXINSNS);
        return Err(Error::new(what).at("linux.seccomp.syscalls"));
    }
    Ok(Filter { program, flags, warnings: verdicts.warnings })
}
