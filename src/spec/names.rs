//! Names that `config.json` uses for the kernel's constants, each table once: validation, the plan and `features` read them.

/// Namespace types of config-linux.md and their flags of clone(2).
pub const NAMESPACES: &[(&str, i32)] = &[
    ("cgroup", libc::CLONE_NEWCGROUP),
    ("ipc", libc::CLONE_NEWIPC),
    ("mount", libc::CLONE_NEWNS),
    ("network", libc::CLONE_NEWNET),
    ("pid", libc::CLONE_NEWPID),
    ("time", libc::CLONE_NEWTIME),
    ("user", libc::CLONE_NEWUSER),
    ("uts", libc::CLONE_NEWUTS),
];

/// Capabilities of capabilities(7); the index is the kernel's number (linux/capability.h, Linux 5.9 to 6.18).
pub const CAPABILITIES: &[&str] = &[
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_DAC_READ_SEARCH",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_SETGID",
    "CAP_SETUID",
    "CAP_SETPCAP",
    "CAP_LINUX_IMMUTABLE",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_BROADCAST",
    "CAP_NET_ADMIN",
    "CAP_NET_RAW",
    "CAP_IPC_LOCK",
    "CAP_IPC_OWNER",
    "CAP_SYS_MODULE",
    "CAP_SYS_RAWIO",
    "CAP_SYS_CHROOT",
    "CAP_SYS_PTRACE",
    "CAP_SYS_PACCT",
    "CAP_SYS_ADMIN",
    "CAP_SYS_BOOT",
    "CAP_SYS_NICE",
    "CAP_SYS_RESOURCE",
    "CAP_SYS_TIME",
    "CAP_SYS_TTY_CONFIG",
    "CAP_MKNOD",
    "CAP_LEASE",
    "CAP_AUDIT_WRITE",
    "CAP_AUDIT_CONTROL",
    "CAP_SETFCAP",
    "CAP_MAC_OVERRIDE",
    "CAP_MAC_ADMIN",
    "CAP_SYSLOG",
    "CAP_WAKE_ALARM",
    "CAP_BLOCK_SUSPEND",
    "CAP_AUDIT_READ",
    "CAP_PERFMON",
    "CAP_BPF",
    "CAP_CHECKPOINT_RESTORE",
];

/// Resource limits of getrlimit(2) and the kernel's numbers.
pub const RLIMITS: &[(&str, u32)] = &[
    ("RLIMIT_AS", libc::RLIMIT_AS),
    ("RLIMIT_CORE", libc::RLIMIT_CORE),
    ("RLIMIT_CPU", libc::RLIMIT_CPU),
    ("RLIMIT_DATA", libc::RLIMIT_DATA),
    ("RLIMIT_FSIZE", libc::RLIMIT_FSIZE),
    ("RLIMIT_LOCKS", libc::RLIMIT_LOCKS),
    ("RLIMIT_MEMLOCK", libc::RLIMIT_MEMLOCK),
    ("RLIMIT_MSGQUEUE", libc::RLIMIT_MSGQUEUE),
    ("RLIMIT_NICE", libc::RLIMIT_NICE),
    ("RLIMIT_NOFILE", libc::RLIMIT_NOFILE),
    ("RLIMIT_NPROC", libc::RLIMIT_NPROC),
    ("RLIMIT_RSS", libc::RLIMIT_RSS),
    ("RLIMIT_RTPRIO", libc::RLIMIT_RTPRIO),
    ("RLIMIT_RTTIME", libc::RLIMIT_RTTIME),
    ("RLIMIT_SIGPENDING", libc::RLIMIT_SIGPENDING),
    ("RLIMIT_STACK", libc::RLIMIT_STACK),
];

/// Mount propagation, as a mount option and as `linux.rootfsPropagation`: the `MS_*` flag of mount(2), which
/// mount_setattr(2) takes too, and whether it holds for the whole tree.
pub const PROPAGATION: &[(&str, u64, bool)] = &[
    ("private", libc::MS_PRIVATE, false),
    ("rprivate", libc::MS_PRIVATE, true),
    ("rshared", libc::MS_SHARED, true),
    ("rslave", libc::MS_SLAVE, true),
    ("runbindable", libc::MS_UNBINDABLE, true),
    ("shared", libc::MS_SHARED, false),
    ("slave", libc::MS_SLAVE, false),
    ("unbindable", libc::MS_UNBINDABLE, false),
];

/// Hook names of config.md, in the order in which they run in a container's life.
pub const HOOKS: &[&str] = &["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Seccomp actions of config-linux.md; `SCMP_ACT_NOTIFY` needs `listenerPath`.
pub const SECCOMP_ACTIONS: &[&str] = &[
    "SCMP_ACT_ALLOW",
    "SCMP_ACT_ERRNO",
    "SCMP_ACT_KILL",
    "SCMP_ACT_KILL_PROCESS",
    "SCMP_ACT_KILL_THREAD",
    "SCMP_ACT_LOG",
    "SCMP_ACT_NOTIFY",
    "SCMP_ACT_TRACE",
    "SCMP_ACT_TRAP",
];

/// Comparisons of an argument, config-linux.md.
pub const SECCOMP_OPERATORS: &[&str] =
    &["SCMP_CMP_EQ", "SCMP_CMP_GE", "SCMP_CMP_GT", "SCMP_CMP_LE", "SCMP_CMP_LT", "SCMP_CMP_MASKED_EQ", "SCMP_CMP_NE"];

/// Architectures of config-linux.md. A rule for one that the host cannot run never matches and is accepted.
pub const SECCOMP_ARCHES: &[&str] = &[
    "SCMP_ARCH_AARCH64",
    "SCMP_ARCH_ARM",
    "SCMP_ARCH_LOONGARCH64",
    "SCMP_ARCH_M68K",
    "SCMP_ARCH_MIPS",
    "SCMP_ARCH_MIPS64",
    "SCMP_ARCH_MIPS64N32",
    "SCMP_ARCH_MIPSEL",
    "SCMP_ARCH_MIPSEL64",
    "SCMP_ARCH_MIPSEL64N32",
    "SCMP_ARCH_PARISC",
    "SCMP_ARCH_PARISC64",
    "SCMP_ARCH_PPC",
    "SCMP_ARCH_PPC64",
    "SCMP_ARCH_PPC64LE",
    "SCMP_ARCH_RISCV64",
    "SCMP_ARCH_S390",
    "SCMP_ARCH_S390X",
    "SCMP_ARCH_SH",
    "SCMP_ARCH_SHEB",
    "SCMP_ARCH_X32",
    "SCMP_ARCH_X86",
    "SCMP_ARCH_X86_64",
];

/// Flags of seccomp(2) that config-linux.md names, and the kernel's bits.
pub const SECCOMP_FLAGS: &[(&str, u64)] = &[
    ("SECCOMP_FILTER_FLAG_LOG", libc::SECCOMP_FILTER_FLAG_LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW),
    ("SECCOMP_FILTER_FLAG_TSYNC", libc::SECCOMP_FILTER_FLAG_TSYNC),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV),
];

/// Scheduling policies of config.md, "scheduler", and the kernel's numbers (linux/sched.h). `SCHED_ISO` is reserved: no
/// kernel has it.
pub const SCHEDULERS: &[(&str, u32)] = &[
    ("SCHED_BATCH", 3),
    ("SCHED_DEADLINE", 6),
    ("SCHED_FIFO", 1),
    ("SCHED_IDLE", 5),
    ("SCHED_ISO", 4),
    ("SCHED_OTHER", 0),
    ("SCHED_RR", 2),
];

/// Flags of sched_setattr(2) that config.md names, and the kernel's bits.
pub const SCHEDULER_FLAGS: &[(&str, u64)] = &[
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
];

/// I/O scheduling classes of config.md, "ioPriority", and the kernel's numbers (ioprio_set(2)).
pub const IO_CLASSES: &[(&str, u32)] = &[("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3), ("IOPRIO_CLASS_RT", 1)];

/// Modes of config-linux.md, "Memory policy", and the kernel's numbers (set_mempolicy(2)).
pub const MEMORY_MODES: &[(&str, u32)] = &[
    ("MPOL_BIND", 2),
    ("MPOL_DEFAULT", 0),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED", 1),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];

/// Flags of a memory policy's mode.
pub const MEMORY_FLAGS: &[(&str, u32)] =
    &[("MPOL_F_NUMA_BALANCING", 1 << 13), ("MPOL_F_RELATIVE_NODES", 1 << 14), ("MPOL_F_STATIC_NODES", 1 << 15)];

/// Execution domains of config-linux.md, "Personality", and the kernel's numbers (personality(2)).
pub const PERSONALITIES: &[(&str, u32)] = &[("LINUX", 0), ("LINUX32", 0x0008)];

/// What a name stands for in one of the tables of this module.
pub fn value<T: Copy>(table: &[(&str, T)], name: &str) -> Option<T> {
    table.iter().find(|row| row.0 == name).map(|row| row.1)
}

/// The number of a capability, or none if this release does not know the name.
pub fn capability(name: &str) -> Option<u8> {
    CAPABILITIES.iter().position(|known| *known == name).and_then(|n| u8::try_from(n).ok())
}

/// The number of a resource limit.
pub fn rlimit(name: &str) -> Option<u32> {
    value(RLIMITS, name)
}

/// The clone(2) flag of a namespace type.
pub fn namespace(kind: &str) -> Option<i32> {
    value(NAMESPACES, kind)
}

/// The names in a capability set given as a bit mask, separated by commas.
pub fn capability_names(set: u64) -> String {
    let names = CAPABILITIES.iter().enumerate().filter(|(n, _)| set >> n & 1 == 1);
    names.map(|(_, name)| *name).collect::<Vec<_>>().join(", ")
}
