//! `create` and `run`: from what was typed to a container's record.

use super::args::{Create, Limits};
use super::{names, options, system, units};
use crate::mydocker::container::{Container, Containers, Device, Health, LogLimits, Record, Resources, Restart, Settings, Ulimit};
use crate::mydocker::files::{self, Dirs};
use crate::mydocker::image::{Image, Images, architecture};
use crate::mydocker::network::{
    Mode,
    names::{ExtraHost, host_name},
    ports::PortSpec,
};
use crate::mydocker::userns::is_rootless;
use crate::mydocker::volume::{self, Kind, MountPoint};
use crate::sys::{Context, Error, Result, rfc3339_now};
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::Write;
use std::path::PathBuf;

/// docker's words for a flag that means nothing here.
fn unsupported(flag: &str, why: &str) -> Error {
    Error::new(format!("{flag} is not supported: {why}"))
}

/// Makes a container from an image, which is got first if it is missing.
pub fn create(args: &Create, dirs: &Dirs) -> Result<Container> {
    let (image_name, command) = options::first_word(&args.image_and_args, "image")?;
    if let Some(platform) = &args.platform {
        let own = format!("linux/{}", architecture());
        if *platform != own && platform != "linux" {
            return Err(unsupported("--platform", &format!("images here are for {own}")));
        }
    }
    if let Some(file) = args.cidfile.as_ref().filter(|file| file.exists()) {
        return Err(Error::new(format!(
            "container ID file found, make sure the other container isn't running or delete {}",
            file.display()
        )));
    }
    let images = Images::open(dirs)?;
    // Everything that was typed is looked at before an image is got for it.
    let mut settings = settings(args)?;
    if let Some(name) = &args.name {
        options::name("container", name)?;
    }
    let image = super::images::obtain(&images, image_name, &args.pull, args.quiet)?;
    let unpacked = super::images::unpack(&images, &image)?;
    let lock = images.hold()?;
    // It may have been removed while its layers were unpacked.
    let image = images.resolve(image.id.as_str())?;
    from_image(&mut settings, &image, args)?;
    let (args_all, entrypoint) = arguments(args.entrypoint.as_deref(), command, &image)?;
    settings.mounts.extend(volumes_from(args, dirs)?);
    anonymous_volumes(&mut settings, &image)?;
    let layer = |path: &PathBuf| path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    let mut record = Record {
        id: files::random(64),
        name: args.name.clone().unwrap_or_default(),
        created: rfc3339_now(),
        image: image_name.to_owned(),
        image_id: image.id.to_string(),
        layers: unpacked.iter().map(layer).collect(),
        args: args_all,
        entrypoint,
        settings,
        first_id: None,
    };
    let container = store(&Containers::new(dirs), &mut record, args.name.is_none())?;
    drop(lock);
    if let Some(path) = &args.cidfile {
        let written = std::fs::File::create_new(path).and_then(|mut file| file.write_all(record.id.as_bytes()));
        if let Err(error) = written {
            let _ = container.remove(&record.name, || ());
            return Err(error).context(|| format!("write the container ID file {}", path.display()));
        }
    }
    Ok(container)
}

/// A name of our own choice that is taken is chosen anew.
fn store(containers: &Containers, record: &mut Record, choose: bool) -> Result<Container> {
    let mut attempts = 0;
    loop {
        if choose {
            record.name = names::random_name();
            if attempts > 10 {
                record.name += &files::random(4);
            }
        }
        match containers.create(record) {
            Err(error) if choose && attempts < 20 && error.to_string().contains("already in use") => attempts += 1,
            other => return other,
        }
    }
}

/// `key=value` of files, then of flags.
fn pairs(list: &[String], files: &[PathBuf]) -> Result<BTreeMap<String, String>> {
    let mut all = BTreeMap::new();
    for file in files {
        all.extend(options::label_file(file)?);
    }
    for text in list {
        all.extend([options::label(text)?]);
    }
    Ok(all)
}

/// The variables of `--env-file`, then `-e`.
pub fn environment(files: &[PathBuf], list: &[String]) -> Result<Vec<String>> {
    let mut all = Vec::new();
    for file in files {
        all.extend(options::env_file(file)?);
    }
    for text in list {
        all.extend(options::env(text)?);
    }
    Ok(all.into_iter().map(|(key, value)| format!("{key}={value}")).collect())
}

fn one_of(flag: &str, value: &Option<String>, words: &[&str]) -> Result<String> {
    let value = value.clone().unwrap_or_default();
    let fits = value.is_empty()
        || words.contains(&value.as_str())
        || value.strip_prefix("container:").is_some_and(|name| !name.is_empty() && words.contains(&"container:"));
    if fits { Ok(value) } else { Err(Error::new(format!("{flag}: invalid mode {value:?}")).hint(format!("one of {}", words.join(", ")))) }
}

/// What the flags alone amount to.
fn settings(args: &Create) -> Result<Settings> {
    let sysctls = args.sysctl.iter().map(|text| {
        text.split_once('=')
            .map(|(key, value)| (key.to_owned(), value.to_owned()))
            .ok_or_else(|| Error::new(format!("invalid --sysctl {text:?}: it is not key=value")))
    });
    let ulimits = args.ulimit.iter().map(|text| options::ulimit(text).map(|u| Ulimit { name: u.name, soft: u.soft, hard: u.hard }));
    let devices =
        args.device.iter().map(|text| options::device(text).map(|d| Device { host: d.host, container: d.container, access: d.access }));
    let mut settings = Settings {
        env: environment(&args.env_file, &args.env)?,
        workdir: args.workdir.clone().unwrap_or_default(),
        user: args.user.clone().unwrap_or_default(),
        groups: args.group_add.clone(),
        hostname: args.hostname.clone().unwrap_or_default(),
        domainname: args.domainname.clone().unwrap_or_default(),
        tty: args.tty,
        interactive: args.interactive,
        labels: pairs(&args.label, &args.label_file)?,
        annotations: pairs(&args.annotation, &[])?,
        mounts: mounts(args)?,
        networks: args.network.clone(),
        aliases: args.network_alias.clone(),
        ip: args.ip,
        mac: args.mac_address.clone(),
        publish: args.publish.clone(),
        publish_all: args.publish_all,
        exposed: args.expose.clone(),
        dns: args.dns.clone(),
        dns_search: args.dns_search.clone(),
        dns_options: args.dns_option.clone(),
        hosts: args.add_host.clone(),
        restart: Restart::parse(&args.restart)?,
        auto_remove: args.rm,
        init: args.init,
        read_only: args.read_only,
        privileged: args.privileged,
        cap_add: args.cap_add.clone(),
        cap_drop: args.cap_drop.clone(),
        security: args.security_opt.clone(),
        resources: resources(&args.limits)?,
        ulimits: ulimits.collect::<Result<_>>()?,
        devices: devices.collect::<Result<_>>()?,
        device_rules: args.device_cgroup_rule.clone(),
        sysctls: sysctls.collect::<Result<_>>()?,
        shm_size: args.shm_size.as_deref().map(units::size).transpose()?,
        stop_signal: args.stop_signal.clone().unwrap_or_default(),
        stop_timeout: args.stop_timeout,
        health: None,
        userns: one_of("--userns", &args.userns, &["host", "auto"])?,
        pid: one_of("--pid", &args.pid, &["host", "container:"])?,
        ipc: one_of("--ipc", &args.ipc, &["private", "shareable", "host", "container:"])?,
        uts: one_of("--uts", &args.uts, &["host"])?,
        cgroupns: one_of("--cgroupns", &args.cgroupns, &["private", "host"])?,
        cgroup_parent: args.cgroup_parent.clone().unwrap_or_default(),
        oom_score_adj: args.oom_score_adj,
        log: log_limits(args)?,
    };
    check(&mut settings, args)?;
    Ok(settings)
}

/// What can be refused now rather than at the start.
fn check(settings: &mut Settings, args: &Create) -> Result<()> {
    if settings.auto_remove && settings.restart != Restart::No {
        return Err(Error::new("conflicting options: cannot specify both --restart and --rm"));
    }
    if !settings.stop_signal.is_empty() {
        crate::lifecycle::signal(&settings.stop_signal)?;
    }
    if !settings.workdir.is_empty() && !settings.workdir.starts_with('/') {
        return Err(Error::new(format!("the working directory '{}' is invalid, it needs to be an absolute path", settings.workdir)));
    }
    for (flag, name) in [("--hostname", &settings.hostname), ("--domainname", &settings.domainname)] {
        if name.is_empty() { Ok(()) } else { host_name(flag, name) }?;
    }
    settings.aliases.iter().try_for_each(|alias| host_name("--network-alias", alias))?;
    let mode = Mode::parse_all(&settings.networks)?;
    if matches!(mode, Mode::Host | Mode::Container(_)) && !settings.publish.is_empty() {
        // docker discards them too, and says so.
        eprintln!("WARNING: published ports are discarded when using {} network mode", settings.networks[0]);
    }
    if let (Mode::Container(_), false) = (&mode, settings.hostname.is_empty()) {
        return Err(Error::new("conflicting options: hostname and the network mode"));
    }
    settings.publish.iter().try_for_each(|text| PortSpec::parse(text).map(drop))?;
    settings.exposed.iter().try_for_each(|text| PortSpec::exposed(text).map(drop))?;
    settings.hosts.iter().try_for_each(|text| ExtraHost::parse(text).map(drop))?;
    volume::in_order(settings.mounts.clone())?;
    crate::mydocker::container::settle_security(settings)?;
    if settings.userns == "auto" && settings.privileged {
        return Err(Error::new("privileged mode is incompatible with user namespaces").hint("--userns host"));
    }
    if settings.userns == "auto" && is_rootless() {
        return Err(unsupported("--userns auto", "it needs root; an ordinary user's containers have a user namespace anyway"));
    }
    for (flag, wanted) in [("--pid", &settings.pid), ("--ipc", &settings.ipc)] {
        if settings.userns == "auto" && wanted.starts_with("container:") {
            return Err(Error::new(format!("conflicting options: {flag} {wanted} and --userns auto")));
        }
    }
    for stream in &args.attach {
        if !["stdin", "stdout", "stderr"].contains(&stream.to_ascii_lowercase().as_str()) {
            return Err(Error::new(format!("invalid argument {stream:?} for -a: valid streams are STDIN, STDOUT and STDERR")));
        }
    }
    Ok(())
}

fn mounts(args: &Create) -> Result<Vec<MountPoint>> {
    let flags = args.volume.iter().map(|text| MountPoint::volume_flag(text));
    let flags = flags.chain(args.mount.iter().map(|text| MountPoint::mount_flag(text)));
    flags.chain(args.tmpfs.iter().map(|text| MountPoint::tmpfs_flag(text))).collect()
}

/// `--volumes-from`: another container's mounts, where this one has none of its own.
fn volumes_from(args: &Create, dirs: &Dirs) -> Result<Vec<MountPoint>> {
    let mut all = Vec::new();
    for text in &args.volumes_from {
        let (name, mode) = text.split_once(':').unwrap_or((text, "rw"));
        if !["ro", "rw"].contains(&mode) {
            return Err(Error::new(format!("invalid --volumes-from {text:?}: the mode is ro or rw")));
        }
        let other = Containers::new(dirs).find(name)?.record()?;
        let taken = other.settings.mounts.into_iter().filter(|mount| mount.kind != Kind::Tmpfs);
        all.extend(taken.map(|mount| MountPoint { read_only: mount.read_only || mode == "ro", anonymous: false, ..mount }));
    }
    Ok(all)
}

/// The image's volumes, where nothing else is mounted.
fn anonymous_volumes(settings: &mut Settings, image: &Image) -> Result<()> {
    let config = image.config.config().as_ref();
    for destination in config.and_then(|config| config.volumes().as_ref()).into_iter().flatten() {
        let mount = MountPoint::anonymous(destination)?;
        if !settings.mounts.iter().any(|other| other.destination == mount.destination) {
            settings.mounts.push(mount);
        }
    }
    for mount in settings.mounts.iter_mut().filter(|mount| mount.kind == Kind::Volume && mount.name.is_empty()) {
        (mount.name, mount.anonymous) = (files::random(64), true);
    }
    Ok(())
}

/// What the image says where the flags say nothing.
fn from_image(settings: &mut Settings, image: &Image, args: &Create) -> Result<()> {
    let Some(config) = image.config.config() else {
        settings.health = health(args, None)?;
        return Ok(());
    };
    let env = config.env().clone().unwrap_or_default();
    settings.env.splice(0..0, env);
    let labels: BTreeMap<String, String> = config.labels().clone().unwrap_or_default().into_iter().collect();
    for (key, value) in labels {
        settings.labels.entry(key).or_insert(value);
    }
    let fill = |ours: &mut String, theirs: &Option<String>| {
        if ours.is_empty() {
            ours.clone_from(theirs.as_ref().unwrap_or(&String::new()));
        }
    };
    fill(&mut settings.workdir, config.working_dir());
    fill(&mut settings.user, config.user());
    fill(&mut settings.stop_signal, config.stop_signal());
    settings.exposed.extend(config.exposed_ports().clone().unwrap_or_default());
    settings.exposed.sort();
    settings.exposed.dedup();
    settings.health = health(args, Some(&image.raw["config"]["Healthcheck"]))?;
    Ok(())
}

/// Entry point and command, and how many of the words are the entry point's.
fn arguments(entrypoint: Option<&str>, command: &[String], image: &Image) -> Result<(Vec<String>, usize)> {
    let config = image.config.config().as_ref();
    let theirs = config.and_then(|config| config.entrypoint().clone()).unwrap_or_default();
    let default = config.and_then(|config| config.cmd().clone()).unwrap_or_default();
    let (head, rest) = match entrypoint {
        Some("") => (Vec::new(), command.to_vec()),
        Some(program) => (vec![program.to_owned()], command.to_vec()),
        None if command.is_empty() => (theirs, default),
        None => (theirs, command.to_vec()),
    };
    let count = head.len();
    let all: Vec<String> = head.into_iter().chain(rest).collect();
    if all.is_empty() {
        return Err(Error::new("no command specified").hint("the image has no default command: give one after its name"));
    }
    Ok((all, count))
}

/// The limits of `run` and `update`.
pub fn resources(limits: &Limits) -> Result<Resources> {
    if limits.cpus.is_some() && (limits.cpu_quota.is_some() || limits.cpu_period.is_some()) {
        return Err(Error::new("conflicting options: --cpus and --cpu-period or --cpu-quota cannot both be set"));
    }
    let size = |text: &Option<String>| {
        text.as_deref().map(|text| units::size(text).map(|size| i64::try_from(size).unwrap_or(i64::MAX))).transpose()
    };
    let memory = size(&limits.memory)?.filter(|bytes| *bytes != 0);
    if memory.is_some_and(|bytes| bytes > 0 && bytes < MEMORY_MIN) {
        return Err(Error::new("minimum memory limit allowed is 6MB"));
    }
    let memory_swap = limits.memory_swap.as_deref().map(units::size_or_unlimited).transpose()?.filter(|bytes| *bytes != 0);
    match (memory, memory_swap) {
        (None, Some(swap)) if swap > 0 => {
            return Err(Error::new("you should always set the memory limit when using the memory swap limit"));
        }
        (Some(memory), Some(swap)) if swap > 0 && swap < memory => {
            return Err(Error::new("minimum memory swap limit should be larger than memory limit").hint("it is the sum of memory and swap"));
        }
        _ => {}
    }
    let swappiness = limits.memory_swappiness.filter(|value| *value != -1).map(|value| {
        u64::try_from(value)
            .ok()
            .filter(|value| *value <= 100)
            .ok_or_else(|| Error::new(format!("invalid value: {value}, valid memory swappiness range is 0-100")))
    });
    let quota = limits.cpus.as_deref().map(options::cpus).transpose()?;
    let cpus = system::cpus();
    if quota.is_some_and(|quota| quota > i64::from(cpus) * options::CPU_PERIOD as i64) {
        return Err(Error::new(format!("range of CPUs is from 0.01 to {cpus}.00, as there are only {cpus} CPUs available")));
    }
    Ok(Resources {
        memory,
        memory_swap,
        memory_reservation: size(&limits.memory_reservation)?,
        memory_swappiness: swappiness.transpose()?,
        oom_kill_disable: limits.oom_kill_disable,
        cpu_shares: limits.cpu_shares.filter(|shares| *shares != 0),
        cpu_period: limits.cpu_period.or(quota.map(|_| options::CPU_PERIOD)),
        cpu_quota: limits.cpu_quota.or(quota),
        cpuset_cpus: limits.cpuset_cpus.clone().unwrap_or_default(),
        cpuset_mems: limits.cpuset_mems.clone().unwrap_or_default(),
        pids_limit: limits.pids_limit.filter(|limit| *limit != 0),
        blkio_weight: limits.blkio_weight.filter(|weight| *weight != 0),
    })
}

/// docker's least memory, in bytes.
const MEMORY_MIN: i64 = 6 << 20;

fn log_limits(args: &Create) -> Result<LogLimits> {
    let mut limits = LogLimits::default();
    for option in &args.log_opt {
        match option.split_once('=') {
            Some(("max-size", size)) => limits.size = if size == "-1" { 0 } else { units::size(size)? },
            Some(("max-file", count)) => {
                limits.files =
                    count.parse().ok().filter(|count| *count > 0).ok_or_else(|| Error::new(format!("invalid max-file {count:?}")))?;
            }
            _ => return Err(Error::new(format!("unknown log opt {option:?}")).hint("max-size or max-file")),
        }
    }
    limits.none = args.log_driver == "none";
    Ok(limits)
}

const SECOND: u64 = 1_000_000_000;

/// The flags' health check, with the image's for what they leave out.
fn health(args: &Create, image: Option<&Value>) -> Result<Option<Health>> {
    let theirs = image.filter(|value| value.is_object());
    let flags = args.health_cmd.is_some() || args.health_retries.is_some();
    if args.no_healthcheck {
        return if flags { Err(Error::new("--no-healthcheck conflicts with --health-* options")) } else { Ok(None) };
    }
    let number = |key: &str| theirs.and_then(|value| value[key].as_u64()).filter(|number| *number != 0);
    let test = match &args.health_cmd {
        Some(command) => vec!["CMD-SHELL".to_owned(), command.clone()],
        None => {
            let words = theirs.and_then(|value| value["Test"].as_array()).into_iter().flatten();
            words.filter_map(|word| word.as_str().map(String::from)).collect()
        }
    };
    if test.first().is_none_or(|kind| kind == "NONE") {
        return Ok(None);
    }
    let time = |flag: &Option<String>, key: &str, default: u64| -> Result<u64> {
        let given = flag.as_deref().map(units::duration).transpose()?.map(|time| u64::try_from(time.as_nanos()).unwrap_or(u64::MAX));
        Ok(given.filter(|time| *time != 0).or(number(key)).unwrap_or(default))
    };
    Ok(Some(Health {
        test,
        interval: time(&args.health_interval, "Interval", 30 * SECOND)?,
        timeout: time(&args.health_timeout, "Timeout", 30 * SECOND)?,
        start_period: time(&args.health_start_period, "StartPeriod", 0)?,
        start_interval: time(&args.health_start_interval, "StartInterval", 5 * SECOND)?,
        retries: args.health_retries.or(number("Retries").and_then(|count| count.try_into().ok())).filter(|count| *count != 0).unwrap_or(3),
    }))
}
