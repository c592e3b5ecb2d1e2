//! `inspect`: everything about one thing, in docker's shape.

use super::args::Inspect;
use super::{print, template};
use crate::mydocker::container::{Container, Containers, Device, Record, Resources, State, Status, Ulimit};
use crate::mydocker::files::{Dirs, tree};
use crate::mydocker::image::Images;
use crate::mydocker::network::{Networks, ports::Port};
use crate::mydocker::volume::{Kind, Volumes};
use crate::sys::{Kind as ErrorKind, Result};
use serde_json::{Map, Value, json};

/// `mydocker container inspect`.
pub fn inspect_containers(args: &Inspect, dirs: &Dirs) -> Result<i32> {
    let only = Inspect { format: args.format.clone(), size: args.size, kind: Some("container".into()), names: args.names.clone() };
    inspect(&only, dirs)
}

/// `mydocker inspect`: containers first, then images, volumes and networks of that name.
pub fn inspect(args: &Inspect, dirs: &Dirs) -> Result<i32> {
    let mut found = Vec::new();
    let mut missing = Vec::new();
    for name in &args.names {
        match one(name, args, dirs)? {
            Some(value) => found.push(value),
            None => missing.push(name),
        }
    }
    print(&template::inspect(args.format.as_deref(), &found)?)?;
    for name in &missing {
        let kind = args.kind.as_deref().unwrap_or("object");
        eprintln!("Error: no such {kind}: {name}");
    }
    Ok(i32::from(!missing.is_empty()))
}

fn one(name: &str, args: &Inspect, dirs: &Dirs) -> Result<Option<Value>> {
    let wanted = |kind: &str| args.kind.as_deref().is_none_or(|only| only == kind);
    if wanted("container") {
        match Containers::new(dirs).find(name) {
            Ok(container) => return container_value(&container, args.size).map(Some),
            Err(error) if error.get_kind() == ErrorKind::NoContainer => {}
            Err(error) => return Err(error),
        }
    }
    if wanted("image")
        && let Some(image) = Images::open(dirs)?.find(name)?
    {
        return super::images::value(&Images::open(dirs)?, &image).map(Some);
    }
    if wanted("volume")
        && let Some(volume) = Volumes::open(dirs)?.list()?.into_iter().find(|volume| volume.name == name)
    {
        return Ok(Some(super::volumes::value(&Volumes::open(dirs)?, &volume)));
    }
    if wanted("network") {
        let networks = Networks::open(dirs)?;
        if let Ok(network) = networks.get(name) {
            return super::networks::value(&networks, &network).map(Some);
        }
    }
    Ok(None)
}

/// Bytes of the writable layer, and of the image.
pub fn sizes(record: &Record, dirs: &Dirs) -> (u64, u64) {
    let upper = dirs.containers().join(&record.id).join("upper");
    let image = Images::open(dirs).and_then(|images| images.resolve(&record.image_id).map(|image| images.size(&image)));
    (tree::size(&upper).files, image.unwrap_or(0))
}

fn container_value(container: &Container, size: bool) -> Result<Value> {
    let (record, state) = (container.record()?, container.state()?);
    let mut value = json!({
        "Id": record.id,
        "Created": record.created,
        "Path": record.args.first(),
        "Args": record.args.get(1..).unwrap_or_default(),
        "State": state_value(&state),
        "Image": record.image_id,
        "ResolvConfPath": container.dir().join("resolv.conf"),
        "HostnamePath": container.dir().join("hostname"),
        "HostsPath": container.dir().join("hosts"),
        "LogPath": container.log(),
        "Name": format!("/{}", record.name),
        "RestartCount": state.restarts,
        "Driver": "overlay",
        "Platform": "linux",
        "MountLabel": "",
        "ProcessLabel": "",
        "AppArmorProfile": "",
        "ExecIDs": null,
        "HostConfig": host_config(&record),
        "GraphDriver": {"Name": "overlay", "Data": {
            "LowerDir": record.layers.iter().map(|layer| container.dirs().layers().join(layer).to_string_lossy().into_owned()).collect::<Vec<_>>().join(":"),
            "UpperDir": container.upper(),
            "WorkDir": container.dir().join("work"),
        }},
        "Mounts": mounts(&record, container.dirs())?,
        "Config": config(&record),
        "NetworkSettings": network(container, &record, &state)?,
    });
    if size {
        let (own, image) = sizes(&record, container.dirs());
        (value["SizeRw"], value["SizeRootFs"]) = (json!(own), json!(own + image));
    }
    Ok(value)
}

/// Go's zero time, where docker has no time.
fn stamp(text: &str) -> &str {
    if text.is_empty() { "0001-01-01T00:00:00Z" } else { text }
}

fn state_value(state: &State) -> Value {
    json!({
        "Status": state.status.name(),
        "Running": state.status.is_up(),
        "Paused": state.status == Status::Paused,
        "Restarting": state.status == Status::Restarting,
        "OOMKilled": state.oom_killed,
        "Dead": state.status == Status::Dead,
        "Pid": state.process.filter(|_| state.status.is_up()).map_or(0, |process| process.pid),
        "ExitCode": state.exit_code,
        "Error": state.error,
        "StartedAt": stamp(&state.started),
        "FinishedAt": stamp(&state.finished),
        "Health": state.health.as_ref().map(|health| json!(health)),
    })
}

fn host_config(record: &Record) -> Value {
    let settings = &record.settings;
    let resources = &settings.resources;
    let (policy, retries) = match settings.restart {
        crate::mydocker::container::Restart::OnFailure(count) => ("on-failure".to_owned(), count),
        other => (other.to_string(), 0),
    };
    let binds = settings.mounts.iter().filter(|mount| mount.kind != Kind::Tmpfs);
    let binds: Vec<String> =
        binds.map(|mount| format!("{}:{}{}", mount.shown(), mount.destination, if mount.read_only { ":ro" } else { "" })).collect();
    let device =
        |device: &Device| json!({"PathOnHost": device.host, "PathInContainer": device.container, "CgroupPermissions": device.access});
    let devices: Vec<Value> = settings.devices.iter().map(device).collect();
    let ulimit = |limit: &Ulimit| {
        let name = limit.name.trim_start_matches("RLIMIT_").to_lowercase();
        json!({"Name": name, "Soft": limit.soft.cast_signed(), "Hard": limit.hard.cast_signed()})
    };
    let ulimits: Vec<Value> = settings.ulimits.iter().map(ulimit).collect();
    let log = json!({"max-size": settings.log.size.to_string(), "max-file": settings.log.files.to_string()});
    let mut value = limits(resources);
    let others = json!({
        "Binds": binds,
        "NetworkMode": super::ps::networks(record).join(","),
        "PortBindings": settings.publish,
        "PublishAllPorts": settings.publish_all,
        "RestartPolicy": {"Name": policy, "MaximumRetryCount": retries},
        "AutoRemove": settings.auto_remove,
        "LogConfig": {"Type": if settings.log.none { "none" } else { "json-file" }, "Config": log},
        "UsernsMode": settings.userns,
        "IDMappings": record.first_id.map(|first| {
            let map = [format!("0:{first}:{}", crate::mydocker::userns::COUNT)];
            json!({"UidMap": map, "GidMap": map})
        }),
        "CapAdd": settings.cap_add,
        "CapDrop": settings.cap_drop,
        "CgroupnsMode": if settings.cgroupns.is_empty() { "private" } else { &settings.cgroupns },
        "Dns": settings.dns,
        "DnsOptions": settings.dns_options,
        "DnsSearch": settings.dns_search,
        "ExtraHosts": settings.hosts,
        "GroupAdd": settings.groups,
        "IpcMode": if settings.ipc.is_empty() { "private" } else { &settings.ipc },
        "PidMode": settings.pid,
        "UTSMode": settings.uts,
        "UsernsMode": settings.userns,
        "OomScoreAdj": settings.oom_score_adj.unwrap_or(0),
        "Privileged": settings.privileged,
        "ReadonlyRootfs": settings.read_only,
        "SecurityOpt": settings.security,
        "ShmSize": settings.shm_size.unwrap_or(64 << 20),
        "Sysctls": settings.sysctls,
        "Init": settings.init,
        "Runtime": "keel",
        "CgroupParent": settings.cgroup_parent,
        "Devices": devices,
        "DeviceCgroupRules": settings.device_rules,
        "Ulimits": ulimits,
    });
    if let (Value::Object(value), Value::Object(others)) = (&mut value, others) {
        value.extend(others);
    }
    value
}

fn limits(resources: &Resources) -> Value {
    json!({
        "Memory": resources.memory.unwrap_or(0),
        "MemorySwap": resources.memory_swap.or(resources.memory.map(|memory| memory * 2)).unwrap_or(0),
        "MemoryReservation": resources.memory_reservation.unwrap_or(0),
        "MemorySwappiness": resources.memory_swappiness,
        "OomKillDisable": resources.oom_kill_disable,
        "CpuShares": resources.cpu_shares.unwrap_or(0),
        "CpuPeriod": resources.cpu_period.unwrap_or(0),
        "CpuQuota": resources.cpu_quota.unwrap_or(0),
        "CpusetCpus": resources.cpuset_cpus,
        "CpusetMems": resources.cpuset_mems,
        "PidsLimit": resources.pids_limit,
        "BlkioWeight": resources.blkio_weight.unwrap_or(0),
    })
}

fn config(record: &Record) -> Value {
    let settings = &record.settings;
    let (entrypoint, command) = record.args.split_at(record.entrypoint.min(record.args.len()));
    let set = |names: &mut dyn Iterator<Item = &String>| Value::Object(names.map(|name| (name.clone(), json!({}))).collect::<Map<_, _>>());
    json!({
        "Hostname": if settings.hostname.is_empty() { record.short() } else { &settings.hostname },
        "Domainname": settings.domainname,
        "User": settings.user,
        "Tty": settings.tty,
        "OpenStdin": settings.interactive,
        "StdinOnce": settings.interactive,
        "Env": settings.env,
        "Cmd": command,
        "Entrypoint": if entrypoint.is_empty() { Value::Null } else { json!(entrypoint) },
        "Image": record.image,
        "Volumes": set(&mut settings.mounts.iter().filter(|mount| mount.anonymous).map(|mount| &mount.destination)),
        "WorkingDir": settings.workdir,
        "Labels": settings.labels,
        "ExposedPorts": set(&mut settings.exposed.iter()),
        "StopSignal": settings.stop_signal,
        "StopTimeout": settings.stop_timeout,
        "Healthcheck": settings.health.as_ref().map(|check| json!({"Test": check.test, "Interval": check.interval, "Timeout": check.timeout, "StartPeriod": check.start_period, "StartInterval": check.start_interval, "Retries": check.retries})),
    })
}

fn mounts(record: &Record, dirs: &Dirs) -> Result<Vec<Value>> {
    let volumes = Volumes::open(dirs)?;
    let mounts = record.settings.mounts.iter();
    let all = mounts
        .map(|mount| {
            // Of a volume that has not been provided yet, or is gone, there is none.
            let place = if mount.kind == Kind::Volume { volumes.get(&mount.name).ok().map(|volume| volumes.data(&volume)) } else { None };
            json!({
                "Type": mount.kind,
                "Name": mount.name,
                "Source": place.map_or_else(|| mount.source.clone(), |place| place.to_string_lossy().into_owned()),
                "Destination": mount.destination,
                "Driver": if mount.kind == Kind::Volume { "local" } else { "" },
                "Mode": mount.options.join(","),
                "RW": !mount.read_only,
                "Propagation": mount.propagation,
            })
        })
        .collect();
    Ok(all)
}

fn network(container: &Container, record: &Record, state: &State) -> Result<Value> {
    let mut networks = Map::new();
    for at in &state.attachments {
        networks.insert(
            at.network.clone(),
            json!({"NetworkID": at.network_id, "IPAddress": at.address, "IPPrefixLen": at.prefix, "Gateway": at.gateway, "MacAddress": at.mac, "Aliases": at.aliases, "DNSNames": at.aliases}),
        );
    }
    let mut ports = Map::new();
    for exposed in &record.settings.exposed {
        ports.insert(exposed.clone(), Value::Null);
    }
    let published: Vec<Port> = match state.attachments.is_empty() {
        true => state.ports.clone(),
        false => Networks::open(container.dirs())?.leases()?.remove(&record.id).map(|lease| lease.ports).unwrap_or_default(),
    };
    for port in published {
        let words = super::ps::port_words(&port);
        let key = words.split("->").nth(1).unwrap_or_default().to_owned();
        let binding = json!({"HostIp": port.host_ip, "HostPort": port.host_port.to_string()});
        match ports.entry(key).or_insert(Value::Null) {
            Value::Array(list) => list.push(binding),
            empty => *empty = json!([binding]),
        }
    }
    let first = state.attachments.first();
    Ok(json!({
        "Ports": ports,
        "IPAddress": first.map_or_else(String::new, |at| at.address.to_string()),
        "Gateway": first.and_then(|at| at.gateway).map_or_else(String::new, |gateway| gateway.to_string()),
        "MacAddress": first.map_or("", |at| at.mac.as_str()),
        "Networks": networks,
    }))
}
