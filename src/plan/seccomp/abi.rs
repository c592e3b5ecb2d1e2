//! The ABIs by which a program can enter the kernel, as seccomp sees them.

use super::table::{self, Entry};

/// How the system calls of one ABI look in `struct seccomp_data`.
pub(super) struct Abi {
    /// The ABI's name in a profile.
    pub name: &'static str,
    /// `seccomp_data.arch`, an `AUDIT_ARCH_*` of linux/audit.h.
    pub audit: u32,
    /// Where its numbers begin: 0, or `__X32_SYSCALL_BIT`.
    pub base: u32,
    /// Where numbers begin that say nothing about how new a call is, if there are such: ARM's private calls.
    pub private: Option<u32>,
    /// Whether socket and System V IPC calls can also be made through socketcall(2) and ipc(2).
    pub multiplexed: bool,
}

/// The ABIs that one kernel can serve, the native one first, which alone has registers of 64 bits,
/// and the calls of each in the same order.
///
/// ABIs that share an audit value stand together, by rising base. All families so far are little-endian.
pub struct Family {
    pub(super) abis: &'static [Abi],
    pub(super) find: fn(&str) -> Option<Entry>,
    /// The other way round: the ABI's place in `abis`, and a number of it.
    pub(super) name: fn(usize, u32) -> Option<&'static str>,
}

impl Family {
    /// The native ABI's name in a profile.
    pub fn name(&self) -> &'static str {
        self.abis[0].name
    }

    /// Which bits the kernel reads of a call's argument, from 0 to 5, by way of an ABI of this
    /// family (`SCMP_ARCH_*`). All of a register's are taken for read of what our tables do not
    /// have.
    pub fn bits_read(&self, abi: &str, call: &str, index: u8) -> u64 {
        let column = self.abis.iter().position(|other| other.name == abi).unwrap_or_default();
        (self.find)(call).map_or(u64::MAX, |entry| entry.widths[column].mask(index))
    }
}

const AUDIT_ARCH_I386: u32 = 0x4000_0003;
const AUDIT_ARCH_X86_64: u32 = 0xc000_003e;
const AUDIT_ARCH_ARM: u32 = 0x4000_0028;
const AUDIT_ARCH_AARCH64: u32 = 0xc000_00b7;

/// x86_64 kernels.
pub static X86: Family = Family {
    abis: &[
        Abi { name: "SCMP_ARCH_X86_64", audit: AUDIT_ARCH_X86_64, base: 0, private: None, multiplexed: false },
        Abi { name: "SCMP_ARCH_X32", audit: AUDIT_ARCH_X86_64, base: 0x4000_0000, private: None, multiplexed: false },
        Abi { name: "SCMP_ARCH_X86", audit: AUDIT_ARCH_I386, base: 0, private: None, multiplexed: true },
    ],
    find: table::x86,
    name: table::x86_name,
};

/// aarch64 kernels.
pub static ARM: Family = Family {
    abis: &[
        Abi { name: "SCMP_ARCH_AARCH64", audit: AUDIT_ARCH_AARCH64, base: 0, private: None, multiplexed: false },
        Abi { name: "SCMP_ARCH_ARM", audit: AUDIT_ARCH_ARM, base: 0, private: Some(0x000f_0000), multiplexed: false },
    ],
    find: table::arm,
    name: table::arm_name,
};

/// The family this binary is built for.
#[cfg(target_arch = "x86_64")]
pub static NATIVE: &Family = &X86;
/// The family this binary is built for.
#[cfg(target_arch = "aarch64")]
pub static NATIVE: &Family = &ARM;
#[cfg(not(any(target_arch = "x86_64", target_arch = "aarch64")))]
compile_error!("no system call table for this CPU: add one with hack/syscalls and a Family here");

/// Every architecture that config-linux.md, "Seccomp", names. Those of other families cannot occur on this machine.
pub const ARCHITECTURES: [&str; 23] = [
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
];

const SOCKETCALL: u32 = 102;
const IPC: u32 = 117;

/// The multiplexer's number and the first argument that make this call on x86 (linux/net.h, linux/ipc.h).
pub(super) fn multiplexer(name: &str) -> Option<(u32, u8)> {
    Some(match name {
        "socket" => (SOCKETCALL, 1),
        "bind" => (SOCKETCALL, 2),
        "connect" => (SOCKETCALL, 3),
        "listen" => (SOCKETCALL, 4),
        "accept" => (SOCKETCALL, 5),
        "getsockname" => (SOCKETCALL, 6),
        "getpeername" => (SOCKETCALL, 7),
        "socketpair" => (SOCKETCALL, 8),
        "send" => (SOCKETCALL, 9),
        "recv" => (SOCKETCALL, 10),
        "sendto" => (SOCKETCALL, 11),
        "recvfrom" => (SOCKETCALL, 12),
        "shutdown" => (SOCKETCALL, 13),
        "setsockopt" => (SOCKETCALL, 14),
        "getsockopt" => (SOCKETCALL, 15),
        "sendmsg" => (SOCKETCALL, 16),
        "recvmsg" => (SOCKETCALL, 17),
        "accept4" => (SOCKETCALL, 18),
        "recvmmsg" => (SOCKETCALL, 19),
        "sendmmsg" => (SOCKETCALL, 20),
        "semop" => (IPC, 1),
        "semget" => (IPC, 2),
        "semctl" => (IPC, 3),
        "semtimedop" => (IPC, 4),
        "msgsnd" => (IPC, 11),
        "msgrcv" => (IPC, 12),
        "msgget" => (IPC, 13),
        "msgctl" => (IPC, 14),
        "shmat" => (IPC, 21),
        "shmdt" => (IPC, 22),
        "shmget" => (IPC, 23),
        "shmctl" => (IPC, 24),
        _ => return None,
    })
}
