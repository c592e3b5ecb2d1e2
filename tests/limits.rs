//! `linux.resources` as control files: every field, for both versions of cgroups, as tables.

use keel::plan::limits::{Missing, Version, cpu_weight, io_weight, writes};
use keel::spec::Resources;
use serde_json::{Value, json};

fn resources(value: Value) -> Resources {
    serde_json::from_value(value).expect("resources of the table")
}

/// `file=value` of each write, in order.
fn files(value: &Value, version: Version) -> Vec<String> {
    let limits = writes(&resources(value.clone()), version).unwrap_or_else(|e| panic!("{value}: {e}"));
    limits.writes.iter().map(|w| format!("{}={}", w.file, w.value)).collect()
}

#[test]
fn each_field_becomes_these_files() {
    let table = [
        (json!({}), vec![], vec![]),
        (json!({"cpu": {}, "memory": {}, "pids": {}, "blockIO": {}}), vec![], vec![]),
        // CPU
        (json!({"cpu": {"shares": 1024}}), vec!["cpu.shares=1024"], vec!["cpu.weight=100"]),
        (json!({"cpu": {"shares": 0}}), vec![], vec![]),
        (
            json!({"cpu": {"quota": 50000, "period": 100000}}),
            vec!["cpu.cfs_period_us=100000", "cpu.cfs_quota_us=50000"],
            vec!["cpu.max=50000 100000"],
        ),
        (json!({"cpu": {"quota": 50000}}), vec!["cpu.cfs_quota_us=50000"], vec!["cpu.max=50000"]),
        (json!({"cpu": {"quota": -1}}), vec!["cpu.cfs_quota_us=-1"], vec!["cpu.max=max"]),
        (json!({"cpu": {"period": 20000}}), vec!["cpu.cfs_period_us=20000"], vec!["cpu.max=max 20000"]),
        (
            json!({"cpu": {"quota": 9000, "burst": 500}}),
            vec!["cpu.cfs_quota_us=9000", "cpu.cfs_burst_us=500"],
            vec!["cpu.max=9000", "cpu.max.burst=500"],
        ),
        (json!({"cpu": {"idle": 1, "shares": 512}}), vec!["cpu.idle=1"], vec!["cpu.idle=1"]),
        (json!({"cpu": {"idle": 0, "shares": 1024}}), vec!["cpu.idle=0", "cpu.shares=1024"], vec!["cpu.idle=0", "cpu.weight=100"]),
        (
            json!({"cpu": {"realtimePeriod": 1000000, "realtimeRuntime": 95}}),
            vec!["cpu.rt_period_us=1000000", "cpu.rt_runtime_us=95"],
            vec![],
        ),
        (json!({"cpu": {"cpus": "0-1", "mems": "0"}}), vec!["cpuset.cpus=0-1", "cpuset.mems=0"], vec!["cpuset.cpus=0-1", "cpuset.mems=0"]),
        // memory: v1 and the spec limit memory+swap, v2 swap alone
        (
            json!({"memory": {"limit": 300, "swap": 500}}),
            vec!["memory.limit_in_bytes=300", "memory.memsw.limit_in_bytes=500"],
            vec!["memory.swap.max=200", "memory.max=300"],
        ),
        (
            json!({"memory": {"limit": 300, "swap": 300}}),
            vec!["memory.limit_in_bytes=300", "memory.memsw.limit_in_bytes=300"],
            vec!["memory.swap.max=0", "memory.max=300"],
        ),
        (
            json!({"memory": {"limit": 300, "swap": -1}}),
            vec!["memory.limit_in_bytes=300", "memory.memsw.limit_in_bytes=-1"],
            vec!["memory.swap.max=max", "memory.max=300"],
        ),
        (json!({"memory": {"limit": 300, "swap": 0}}), vec!["memory.limit_in_bytes=300"], vec!["memory.max=300"]),
        (
            json!({"memory": {"limit": -1}}),
            vec!["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=-1"],
            vec!["memory.swap.max=max", "memory.max=max"],
        ),
        (
            json!({"memory": {"limit": -1, "swap": 700}}),
            vec!["memory.limit_in_bytes=-1", "memory.memsw.limit_in_bytes=700"],
            vec!["memory.swap.max=700", "memory.max=max"],
        ),
        (json!({"memory": {"swap": -1}}), vec!["memory.memsw.limit_in_bytes=-1"], vec!["memory.swap.max=max"]),
        (json!({"memory": {"reservation": 100}}), vec!["memory.soft_limit_in_bytes=100"], vec!["memory.low=100"]),
        (json!({"memory": {"swappiness": 0, "disableOOMKiller": true}}), vec!["memory.swappiness=0", "memory.oom_control=1"], vec![]),
        (json!({"memory": {"disableOOMKiller": false, "useHierarchy": true, "kernel": -1}}), vec![], vec![]),
        // pids, runtime-spec 1.3.0: absent, -1, 0 and a number are four things (0 as runc writes it)
        (json!({"pids": {"limit": 32}}), vec!["pids.max=32"], vec!["pids.max=32"]),
        (json!({"pids": {"limit": 0}}), vec!["pids.max=1"], vec!["pids.max=1"]),
        (json!({"pids": {"limit": -1}}), vec!["pids.max=max"], vec!["pids.max=max"]),
        // block I/O
        (
            json!({"blockIO": {"weight": 500, "leafWeight": 10}}),
            vec!["blkio.weight=500", "blkio.leaf_weight=10"],
            vec!["io.bfq.weight=500"],
        ),
        (json!({"blockIO": {"weight": 0}}), vec![], vec![]),
        (
            json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 0, "weight": 10, "leafWeight": 20}]}}),
            vec!["blkio.weight_device=8:0 10", "blkio.leaf_weight_device=8:0 20"],
            vec!["io.bfq.weight=8:0 10"],
        ),
        (
            json!({"blockIO": {
                "throttleReadBpsDevice": [{"major": 8, "minor": 0, "rate": 1}, {"major": 8, "minor": 16, "rate": 0}],
                "throttleWriteBpsDevice": [{"major": 8, "minor": 0, "rate": 2}],
                "throttleReadIOPSDevice": [{"major": 8, "minor": 0, "rate": 3}],
                "throttleWriteIOPSDevice": [{"major": 8, "minor": 0, "rate": 4}]}}),
            vec![
                "blkio.throttle.read_bps_device=8:0 1",
                "blkio.throttle.read_bps_device=8:16 0",
                "blkio.throttle.write_bps_device=8:0 2",
                "blkio.throttle.read_iops_device=8:0 3",
                "blkio.throttle.write_iops_device=8:0 4",
            ],
            vec!["io.max=8:0 rbps=1", "io.max=8:16 rbps=max", "io.max=8:0 wbps=2", "io.max=8:0 riops=3", "io.max=8:0 wiops=4"],
        ),
        // the rest
        (
            json!({"hugepageLimits": [{"pageSize": "2MB", "limit": 4096}]}),
            vec!["hugetlb.2MB.limit_in_bytes=4096", "hugetlb.2MB.rsvd.limit_in_bytes=4096"],
            vec!["hugetlb.2MB.max=4096", "hugetlb.2MB.rsvd.max=4096"],
        ),
        (
            json!({"network": {"classID": 1048577, "priorities": [{"name": "eth0", "priority": 5}]}}),
            vec!["net_cls.classid=1048577", "net_prio.ifpriomap=eth0 5"],
            vec![],
        ),
        (json!({"rdma": {"mlx5_1": {"hcaHandles": 3}}}), vec!["rdma.max=mlx5_1 hca_handle=3"], vec!["rdma.max=mlx5_1 hca_handle=3"]),
        (
            json!({"rdma": {"mlx5_1": {"hcaHandles": 3, "hcaObjects": 9}}}),
            vec!["rdma.max=mlx5_1 hca_handle=3 hca_object=9"],
            vec!["rdma.max=mlx5_1 hca_handle=3 hca_object=9"],
        ),
    ];
    for (value, v1, v2) in table {
        assert_eq!(files(&value, Version::V1), v1, "v1 of {value}");
        assert_eq!(files(&value, Version::V2), v2, "v2 of {value}");
    }
}

#[test]
fn unified_keys_come_last_and_line_by_line() {
    let value = json!({"memory": {"limit": 300}, "unified": {"memory.high": "200", "io.max": "8:0 rbps=1\n8:16 rbps=2\n", "cgroup.max.depth": "3"}});
    let expected = ["memory.max=300", "cgroup.max.depth=3", "io.max=8:0 rbps=1", "io.max=8:16 rbps=2", "memory.high=200"];
    assert_eq!(files(&value, Version::V2), expected);
    let limits = writes(&resources(value), Version::V2).expect("valid");
    let owners: Vec<_> = limits.writes.iter().map(|w| w.controller.as_str()).collect();
    assert_eq!(owners, ["memory", "", "io", "io", "memory"]);
}

#[test]
fn what_a_version_cannot_express_is_said_once() {
    let table = [
        (json!({"memory": {"useHierarchy": false}}), Version::V1, "linux.resources.memory.useHierarchy is ignored"),
        (json!({"memory": {"swappiness": 60}}), Version::V2, "linux.resources.memory.swappiness is ignored"),
        (json!({"memory": {"disableOOMKiller": true}}), Version::V2, "linux.resources.memory.disableOOMKiller is ignored"),
        (json!({"cpu": {"realtimeRuntime": 5}}), Version::V2, "linux.resources.cpu.realtimeRuntime is ignored"),
        (json!({"cpu": {"idle": 1, "shares": 5}}), Version::V1, "linux.resources.cpu.shares is ignored"),
        (json!({"blockIO": {"leafWeight": 10}}), Version::V2, "linux.resources.blockIO.leafWeight is ignored"),
        (json!({"network": {"classID": 5}}), Version::V2, "linux.resources.network.classID is ignored"),
        (
            json!({"network": {"priorities": [{"name": "lo", "priority": 1}]}}),
            Version::V2,
            "linux.resources.network.priorities[0] is ignored",
        ),
    ];
    for (value, version, start) in table {
        let limits = writes(&resources(value.clone()), version).unwrap_or_else(|e| panic!("{value}: {e}"));
        assert_eq!(limits.warnings.len(), 1, "{value}: {:?}", limits.warnings);
        assert!(limits.warnings[0].starts_with(start), "{value}: {}", limits.warnings[0]);
        assert_eq!(limits.writes.iter().filter(|w| w.file != "cpu.idle").count(), 0, "{value}");
    }
}

#[test]
fn what_no_kernel_can_keep_is_refused_with_its_place() {
    use Version::{V1, V2};
    let table = [
        (json!({"cpu": {"shares": 262145}}), V1, "linux.resources.cpu.shares", "the maximum allowed cpu-shares is 262144"),
        (json!({"cpu": {"shares": 1}}), V1, "linux.resources.cpu.shares", "the minimum allowed cpu-shares is 2"),
        (json!({"cpu": {"idle": 2}}), V2, "linux.resources.cpu.idle", "0 or 1"),
        (json!({"memory": {"limit": 10, "swap": 9}}), V1, "linux.resources.memory.swap", "below"),
        (json!({"memory": {"limit": 10, "swap": 9}}), V2, "linux.resources.memory.swap", "below"),
        (json!({"memory": {"swap": 9}}), V2, "linux.resources.memory.swap", "without memory.limit"),
        (json!({"memory": {"limit": -2}}), V2, "linux.resources.memory.limit", "-2 bytes"),
        (json!({"memory": {"swappiness": 101}}), V1, "linux.resources.memory.swappiness", "0-100"),
        (json!({"blockIO": {"weight": 9}}), V2, "linux.resources.blockIO.weight", "10-1000"),
        (json!({"blockIO": {"weight": 1001}}), V1, "linux.resources.blockIO.weight", "10-1000"),
        (json!({"hugepageLimits": [{"pageSize": "../x", "limit": 1}]}), V2, "linux.resources.hugepageLimits[0]", "no page size"),
        (json!({"hugepageLimits": [{"pageSize": "MB", "limit": 1}]}), V1, "linux.resources.hugepageLimits[0]", "no page size"),
        (json!({"unified": {"memory.high": "1"}}), V1, "linux.resources.unified.memory.high", "need cgroup v2"),
        (json!({"unified": {"../memory.high": "1"}}), V2, "linux.resources.unified.../memory.high", "no slashes"),
        (json!({"unified": {"tasks": "1"}}), V2, "linux.resources.unified.tasks", "CONTROLLER.PARAMETER"),
    ];
    for (value, version, at, words) in table {
        let error = writes(&resources(value.clone()), version).expect_err(&value.to_string()).to_string();
        assert!(error.contains(&format!("(config.json: {at})")) && error.contains(words), "{value}: {error}");
    }
}

#[test]
fn every_write_names_where_it_stands() {
    let value = json!({
        "cpu": {"shares": 2}, "memory": {"limit": 5, "disableOOMKiller": true}, "pids": {"limit": 1},
        "blockIO": {"throttleReadIOPSDevice": [{"major": 1, "minor": 0, "rate": 5}]}
    });
    let limits = writes(&resources(value), Version::V1).expect("valid");
    let at: Vec<_> = limits.writes.iter().map(|w| w.at.trim_start_matches("linux.resources.")).collect();
    assert_eq!(at, ["memory.limit", "memory.disableOOMKiller", "cpu.shares", "pids.limit", "blockIO.throttleReadIOPSDevice[0]"]);
}

#[test]
fn other_files_for_other_kernels() {
    let missing = |value: Value, version| writes(&resources(value), version).expect("valid").writes[0].missing.clone();
    let weight = json!({"blockIO": {"weight": 500}});
    assert_eq!(missing(weight.clone(), Version::V1), Missing::Instead { file: "blkio.bfq.weight", value: "500".into() });
    assert_eq!(missing(weight, Version::V2), Missing::Instead { file: "io.weight", value: "4950".into() });
    let device = json!({"blockIO": {"weightDevice": [{"major": 8, "minor": 1, "weight": 1000}]}});
    assert_eq!(missing(device, Version::V2), Missing::Instead { file: "io.weight", value: "8:1 10000".into() });
    assert_eq!(missing(json!({"memory": {"limit": 5, "swap": 5}}), Version::V2), Missing::Skip, "no swap is no swap");
    assert!(matches!(missing(json!({"memory": {"limit": 5, "swap": 6}}), Version::V2), Missing::Refuse(_)));
}

#[test]
fn weights_follow_the_current_formulas() {
    // The formula's fixed points (minimum, default, maximum), what is beside them, and samples computed to 50 digits.
    let pairs = [(1, 1), (2, 1), (3, 2), (10, 4), (102, 17), (256, 35), (512, 59), (1023, 100), (1024, 100), (1025, 101), (2048, 174)];
    for (shares, weight) in pairs.into_iter().chain([(10240, 639), (262_143, 10_000), (262_144, 10_000), (999_999, 10_000)]) {
        assert_eq!(cpu_weight(shares), weight, "{shares} shares");
    }
    for (blkio, io) in [(10, 1), (100, 910), (500, 4950), (1000, 10_000)] {
        assert_eq!(io_weight(blkio), io, "weight {blkio}");
    }
}

#[test]
fn an_update_can_ask_for_the_usage_first() {
    let above = |value: Value| writes(&resources(value), Version::V2).expect("valid").above_usage;
    assert_eq!(above(json!({"memory": {"limit": 100, "swap": 200, "checkBeforeUpdate": true}})), Some(100));
    assert_eq!(above(json!({"memory": {"limit": -1, "swap": 200, "checkBeforeUpdate": true}})), Some(200));
    assert_eq!(above(json!({"memory": {"limit": 100}})), None);
}
