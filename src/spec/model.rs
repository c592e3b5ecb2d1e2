//! The types of OCI runtime-spec 1.3.0 for Linux, as `config.json` spells them in camelCase.
//!
//! Our own rather than `oci-spec`'s: that crate refuses a whole file for one unknown capability, reads an absent
//! `pids.limit` as 0 and injects ids and limits into exec documents (`docs/decisions/0002`). A test compares the two.
//! Absent lists are empty; `Option` is used where absence means something else than the type's zero.

use super::json::Object;
use serde::{Deserialize, Deserializer, Serialize, Serializer};
use std::collections::BTreeMap;

fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

/// Declares one object of the spec: every field may be absent or null (what must be there is for `validate` to say),
/// fields that hold their type's zero are not written. The order is that of the spec's Go types.
macro_rules! object {
    ($(#[$meta:meta])* $name:ident { $($(#[$fmeta:meta])* $field:ident: $ty:ty,)* }) => {
        $(#[$meta])*
        #[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "camelCase", default, remote = "Self")]
        #[allow(missing_docs)] // the fields are those of the spec section that the type's comment names
        pub struct $name { $($(#[$fmeta])* #[serde(skip_serializing_if = "is_default", deserialize_with = "super::json::as_default")] pub $field: $ty,)* }

        // `remote` makes serde's derived code plain functions of the type, which these two wrap.
        impl Serialize for $name {
            fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
                $name::serialize(self, serializer)
            }
        }

        impl<'de> Deserialize<'de> for $name {
            fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
                $name::deserialize(Object(deserializer))
            }
        }
    };
}

object! {
    /// [config.md](https://github.com/opencontainers/runtime-spec/blob/v1.3.0/config.md)
    Spec {
        oci_version: String,
        process: Option<Process>,
        root: Option<Root>,
        hostname: String,
        domainname: String,
        mounts: Vec<Mount>,
        hooks: Hooks,
        annotations: BTreeMap<String, String>,
        linux: Linux,
    }
}

object! {
    /// config.md, "Root"
    Root { path: String, readonly: bool, }
}

object! {
    /// config.md, "Mounts"
    Mount {
        destination: String,
        #[serde(rename = "type")] kind: String,
        source: String,
        options: Vec<String>,
        uid_mappings: Vec<IdMapping>,
        gid_mappings: Vec<IdMapping>,
    }
}

object! {
    /// config.md, "Process"; also the document of `exec --process`
    Process {
        terminal: bool,
        console_size: Option<ConsoleSize>,
        user: User,
        args: Vec<String>,
        command_line: String,
        env: Vec<String>,
        cwd: String,
        capabilities: Option<Capabilities>,
        rlimits: Vec<Rlimit>,
        no_new_privileges: bool,
        apparmor_profile: String,
        oom_score_adj: Option<i32>,
        scheduler: Option<Scheduler>,
        selinux_label: String,
        io_priority: Option<IoPriority>,
        #[serde(rename = "execCPUAffinity")] exec_cpu_affinity: Option<CpuAffinity>,
    }
}

object! {
    /// config.md, "consoleSize", in characters
    ConsoleSize { height: u16, width: u16, }
}

object! {
    /// config.md, "User"
    User { uid: u32, gid: u32, umask: Option<u32>, additional_gids: Vec<u32>, username: String, }
}

object! {
    /// config.md, "capabilities": names as in capabilities(7), kept as text because a newer name only warns
    Capabilities {
        bounding: Vec<String>,
        effective: Vec<String>,
        inheritable: Vec<String>,
        permitted: Vec<String>,
        ambient: Vec<String>,
    }
}

object! {
    /// config.md, "rlimits": `type` as in getrlimit(2)
    Rlimit { #[serde(rename = "type")] kind: String, soft: u64, hard: u64, }
}

object! {
    /// config.md, "scheduler"
    Scheduler { policy: String, nice: i32, priority: i32, flags: Vec<String>, runtime: u64, deadline: u64, period: u64, }
}

object! {
    /// config.md, "ioPriority"
    IoPriority { class: String, priority: i32, }
}

object! {
    /// config.md, "execCPUAffinity": lists as in cpuset(7)
    CpuAffinity { initial: String, #[serde(rename = "final")] last: String, }
}

object! {
    /// config.md, "POSIX-platform Hooks"
    Hooks {
        prestart: Vec<Hook>,
        create_runtime: Vec<Hook>,
        create_container: Vec<Hook>,
        start_container: Vec<Hook>,
        poststart: Vec<Hook>,
        poststop: Vec<Hook>,
    }
}

object! {
    /// config.md, one entry of the hooks; `timeout` in seconds
    Hook { path: String, args: Vec<String>, env: Option<Vec<String>>, timeout: Option<i64>, }
}

object! {
    /// config-linux.md
    Linux {
        namespaces: Vec<Namespace>,
        uid_mappings: Vec<IdMapping>,
        gid_mappings: Vec<IdMapping>,
        time_offsets: BTreeMap<String, TimeOffset>,
        devices: Vec<Device>,
        net_devices: BTreeMap<String, NetDevice>,
        cgroups_path: String,
        resources: Resources,
        intel_rdt: Option<IntelRdt>,
        memory_policy: Option<MemoryPolicy>,
        sysctl: BTreeMap<String, String>,
        seccomp: Option<Seccomp>,
        rootfs_propagation: String,
        masked_paths: Vec<String>,
        readonly_paths: Vec<String>,
        mount_label: String,
        personality: Option<Personality>,
    }
}

object! {
    /// config-linux.md, "Namespaces"
    Namespace { #[serde(rename = "type")] kind: String, path: String, }
}

object! {
    /// config-linux.md, "User namespace mappings"
    IdMapping {
        #[serde(rename = "containerID")] container_id: u32,
        #[serde(rename = "hostID")] host_id: u32,
        size: u32,
    }
}

object! {
    /// config-linux.md, "Offset for Time Namespace"
    TimeOffset { secs: i64, nanosecs: u32, }
}

object! {
    /// config-linux.md, "Devices"
    Device {
        #[serde(rename = "type")] kind: String,
        path: String,
        major: i64,
        minor: i64,
        file_mode: Option<u32>,
        uid: Option<u32>,
        gid: Option<u32>,
    }
}

object! {
    /// config-linux.md, "Network Devices"
    NetDevice { name: String, }
}

object! {
    /// config-linux.md, "IntelRdt"
    IntelRdt {
        #[serde(rename = "closID")] clos_id: String,
        schemata: Vec<String>,
        #[serde(rename = "l3CacheSchema")] l3_cache_schema: String,
        mem_bw_schema: String,
        #[serde(rename = "enableCMT")] enable_cmt: bool,
        #[serde(rename = "enableMBM")] enable_mbm: bool,
        enable_monitoring: bool,
    }
}

object! {
    /// config-linux.md, "Memory policy"
    MemoryPolicy { mode: String, nodes: String, flags: Vec<String>, }
}

object! {
    /// config-linux.md, "Personality"
    Personality { domain: String, flags: Vec<String>, }
}

object! {
    /// config-linux.md, "Control groups"
    Resources {
        devices: Vec<DeviceRule>,
        memory: Memory,
        cpu: Cpu,
        pids: Option<Pids>,
        #[serde(rename = "blockIO")] block_io: BlockIo,
        hugepage_limits: Vec<HugepageLimit>,
        network: Network,
        rdma: BTreeMap<String, Rdma>,
        unified: BTreeMap<String, String>,
    }
}

object! {
    /// config-linux.md, "Allowed Device list"; an absent number is a wildcard
    DeviceRule {
        allow: bool,
        #[serde(rename = "type")] kind: String,
        major: Option<i64>,
        minor: Option<i64>,
        access: String,
    }
}

object! {
    /// config-linux.md, "Memory", in bytes; -1 is unlimited
    Memory {
        limit: Option<i64>,
        reservation: Option<i64>,
        swap: Option<i64>,
        kernel: Option<i64>,
        #[serde(rename = "kernelTCP")] kernel_tcp: Option<i64>,
        swappiness: Option<u64>,
        #[serde(rename = "disableOOMKiller")] disable_oom_killer: Option<bool>,
        use_hierarchy: Option<bool>,
        check_before_update: Option<bool>,
    }
}

object! {
    /// config-linux.md, "CPU"; times in microseconds
    Cpu {
        shares: Option<u64>,
        quota: Option<i64>,
        burst: Option<u64>,
        period: Option<u64>,
        realtime_runtime: Option<i64>,
        realtime_period: Option<u64>,
        cpus: String,
        mems: String,
        idle: Option<i64>,
    }
}

object! {
    /// config-linux.md, "PIDs"; absent differs from 0
    Pids { limit: Option<i64>, }
}

object! {
    /// config-linux.md, "Block IO"
    BlockIo {
        weight: Option<u16>,
        leaf_weight: Option<u16>,
        weight_device: Vec<WeightDevice>,
        throttle_read_bps_device: Vec<ThrottleDevice>,
        throttle_write_bps_device: Vec<ThrottleDevice>,
        #[serde(rename = "throttleReadIOPSDevice")] throttle_read_iops_device: Vec<ThrottleDevice>,
        #[serde(rename = "throttleWriteIOPSDevice")] throttle_write_iops_device: Vec<ThrottleDevice>,
    }
}

object! {
    /// config-linux.md, "weightDevice"
    WeightDevice { major: i64, minor: i64, weight: Option<u16>, leaf_weight: Option<u16>, }
}

object! {
    /// config-linux.md, "throttle*Device": bytes or operations a second
    ThrottleDevice { major: i64, minor: i64, rate: u64, }
}

object! {
    /// config-linux.md, "Huge page limits", in bytes
    HugepageLimit { page_size: String, limit: u64, }
}

object! {
    /// config-linux.md, "Network"
    Network { #[serde(rename = "classID")] class_id: Option<u32>, priorities: Vec<InterfacePriority>, }
}

object! {
    /// config-linux.md, "priorities"
    InterfacePriority { name: String, priority: u32, }
}

object! {
    /// config-linux.md, "RDMA"
    Rdma { hca_handles: Option<u32>, hca_objects: Option<u32>, }
}

object! {
    /// config-linux.md, "Seccomp"; names as in seccomp(2) and libseccomp
    Seccomp {
        default_action: String,
        default_errno_ret: Option<u32>,
        architectures: Vec<String>,
        flags: Option<Vec<String>>,
        listener_path: String,
        listener_metadata: String,
        syscalls: Vec<SyscallRule>,
    }
}

object! {
    /// config-linux.md, "syscalls"
    SyscallRule { names: Vec<String>, action: String, errno_ret: Option<u32>, args: Vec<SyscallArg>, }
}

object! {
    /// config-linux.md, "args": `value_two` is the value compared after masking with `value` for `SCMP_CMP_MASKED_EQ`
    SyscallArg { index: u32, value: u64, value_two: u64, op: String, }
}

impl IdMapping {
    /// The text of a uid_map or gid_map (user_namespaces(7)): a line for each mapping.
    pub fn map_text(list: &[Self]) -> String {
        list.iter().map(|map| format!("{} {} {}\n", map.container_id, map.host_id, map.size)).collect()
    }
}

impl Seccomp {
    /// Whether any rule, or the default, sends calls to the listener.
    pub fn notifies(&self) -> bool {
        let notify = |action: &str| action == "SCMP_ACT_NOTIFY";
        notify(&self.default_action) || self.syscalls.iter().any(|rule| notify(&rule.action))
    }
}

impl Linux {
    /// The entry of a namespace type, if the container has or joins one; without it the runtime's is inherited.
    pub fn namespace(&self, kind: &str) -> Option<&Namespace> {
        self.namespaces.iter().find(|ns| ns.kind == kind)
    }
}
