//! `checkpoint`: CRIU writes a container's processes into files. What `restore` shares with it.

use super::criu::{Ask, Criu, Message, Surroundings, Yard, excerpt, own};
use super::criu_fields::{ext_mount, opts, page_server};
use super::decide::view;
use super::kill::not_running;
use super::status::{Status, look};
use super::{Runtime, cgroup_of, delete};
use crate::arm;
use crate::cgroup::Cgroup;
use crate::plan::{self, At, Op, Plan, Tree};
use crate::sandbox::in_root;
use crate::spec::Spec;
use crate::spec::options::LOCKABLE;
use crate::store::ContainerId;
use crate::sys::{Context, Error, Log, MountAttr, Result, ns, unescape_mount_path};
use rustix::fd::{AsRawFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxAttributes, StatxFlags, fstat, makedev, statx};
use rustix::io::Errno;
use std::ffi::CStr;
use std::path::{Path, PathBuf};

/// How CRIU is asked, for a checkpoint and for a restore.
#[derive(Clone, Debug, Default)]
pub struct CriuOptions {
    /// The program, if it is not to be looked for in `$PATH`.
    pub criu: Option<PathBuf>,
    /// Where the images are.
    pub image_path: PathBuf,
    /// Where CRIU's log stays; with the images if it is not given.
    pub work_path: Option<PathBuf>,
    /// TCP connections go with the container.
    pub tcp_established: bool,
    /// Connections that are not accepted yet are left out.
    pub tcp_skip_in_flight: bool,
    /// Unix sockets whose other end is outside.
    pub ext_unix_sk: bool,
    /// Sessions and terminals that began outside.
    pub shell_job: bool,
    /// File locks.
    pub file_locks: bool,
    /// Open files that have no name any more get one in the images.
    pub link_remap: bool,
    /// What CRIU does about cgroups.
    pub cgroups: CgroupsMode,
    /// The network namespace is not saved, but made empty.
    pub empty_network: bool,
    /// Memory that is in a newer image is punched out of the older one.
    pub auto_dedup: bool,
}

/// `--manage-cgroups-mode`; the numbers are those of CRIU's `criu_cg_mode`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum CgroupsMode {
    Ignore = 0,
    #[default]
    Soft = 3,
    Full = 4,
    Strict = 5,
}

/// What only a checkpoint takes.
#[derive(Clone, Debug, Default)]
pub struct CheckpointOptions {
    /// How CRIU is asked.
    pub criu: CriuOptions,
    /// The container goes on.
    pub leave_running: bool,
    /// Memory only, of a container that goes on; a later one saves what has changed since.
    pub pre_dump: bool,
    /// The images of the pre-dump before, relative to these.
    pub parent_path: Option<String>,
    /// Address and port of a `criu page-server` that takes the memory.
    pub page_server: Option<(String, u16)>,
}

/// File in the images with what the first three descriptors were, as runc writes it.
pub(super) const DESCRIPTORS: &str = "descriptors.json";

/// What a joined network namespace is called in the images.
pub(super) const NETWORK: &str = "extRootNetNS";

/// `keel checkpoint`. The container is gone afterwards, unless it was to go on.
pub fn checkpoint(runtime: &Runtime, id: &ContainerId, options: &CheckpointOptions, log: &Log) -> Result<()> {
    let present = look(runtime, id, true)?;
    if !matches!(present.status, Status::Running | Status::Paused) {
        return Err(not_running(id).within("cannot checkpoint"));
    }
    let (record, init) = (&present.record, present.init.as_ref().ok_or_else(|| not_running(id))?);
    let spec = super::kept_spec(&present.container)?;
    let cgroup = cgroup_of(record)?.ok_or_else(|| not_running(id))?;
    let plan = planned(id, &record.bundle, &spec, &cgroup)?;
    let pid = record.init.map_or(0, |init| init.pid);
    let mounts = external(&mounts(&plan)?, pid)?;
    let images = Images::open(&options.criu)?;
    let mut request = images.request(&options.criu, "dump.log", &mounts);
    request.number(opts::PID, u64::from(pid.cast_unsigned()));
    request.text(opts::ROOT, &record.rootfs.to_string_lossy());
    request.flag(opts::LEAVE_RUNNING, options.leave_running);
    request.flag(opts::TRACK_MEM, options.pre_dump);
    configured(&mut request, &spec);
    if let Some(parent) = &options.parent_path {
        if Path::new(parent).is_absolute() {
            return Err(Error::new(format!("--parent-path {parent} has to be relative to --image-path")));
        }
        let dir = options.criu.image_path.join(parent);
        std::fs::metadata(&dir).context(|| format!("--parent-path {parent}: look at {}", dir.display()))?;
        request.text(opts::PARENT_IMG, parent);
    }
    if let Some(dir) = cgroup.dir("freezer") {
        request.text(opts::FREEZE_CGROUP, &dir);
    }
    if joins_network(&plan) {
        let inode = std::fs::metadata(format!("/proc/{pid}/ns/net")).map(|m| std::os::unix::fs::MetadataExt::ino(&m));
        let inode = inode.context(|| format!("look at /proc/{pid}/ns/net"))?;
        request.text(opts::EXTERNAL, &format!("net[{inode}]:{NETWORK}"));
    }
    if !options.pre_dump {
        images.save_descriptors(pid)?;
    }
    if let Some((address, port)) = &options.page_server {
        let mut server = Message::default();
        server.text(page_server::ADDRESS, address);
        server.number(page_server::PORT, u64::from(*port));
        request.message(opts::PS, &server);
    }
    let ask = if options.pre_dump { Ask::PreDump } else { Ask::Dump };
    let yard = Yard::new(&present.container, &cgroup, Some(pid))?;
    yard.show(&mut request);
    let criu = Criu::start(options.criu.criu.as_deref(), &Surroundings::default())?;
    criu.ask(ask, &request, |_, _, _| Ok(()))
        .map_err(|e| e.within(format!("checkpoint container {id}")).hint(excerpt(&images.log("dump.log"))))?;
    drop(yard);
    if options.leave_running || options.pre_dump {
        return Ok(());
    }
    delete::end(record, init)?;
    delete::destroy(&present.container, record, Some(&spec), log)
}

/// The plan of a container whose processes CRIU is to save or has saved. What it could not bring back as it was is refused.
pub(super) fn planned(id: &ContainerId, bundle: &Path, spec: &Spec, cgroup: &Cgroup) -> Result<Plan> {
    let mut facts = arm::facts(false);
    if !facts.privileged || facts.uid != 0 {
        return Err(Error::new("checkpoint and restore need root"));
    }
    facts.cgroup = view(cgroup);
    let chosen = plan::Options { id: id.to_string(), bundle: bundle.to_owned(), ..plan::Options::default() };
    let plan = plan::create(spec, &facts, &chosen)?;
    supported(&plan)?;
    Ok(plan)
}

/// The file with options for CRIU: as of runc and crun that of the annotation, of which an empty name means none, else the host's for
/// crun, else that for runc.
pub(super) fn configured(request: &mut Message, spec: &Spec) {
    let of_the_host = || ["/etc/criu/crun.conf", "/etc/criu/runc.conf"].into_iter().find(|path| Path::new(path).exists());
    let path = spec.annotations.get("org.criu.config").map(String::as_str).or_else(of_the_host);
    if let Some(path) = path.filter(|path| !path.is_empty()) {
        request.text(opts::CONFIG_FILE, path);
    }
}

/// See [`planned`].
pub(super) fn supported(plan: &Plan) -> Result<()> {
    let refused =
        |what: &str, at: String| Err(Error::new(format!("checkpoint and restore of a container {what} are not supported")).at(at));
    if plan.ops.contains(&Op::Chroot) {
        return refused("without a mount namespace of its own", "linux.namespaces".into());
    }
    if let Some(join) = plan.joins.iter().find(|join| join.kind != ns::NET) {
        return refused("that joins this namespace", join.at.to_string());
    }
    if let Some(tree) = plan.trees.iter().find(|tree| tree.id_map.is_some()) {
        return refused("with an idmapped mount", tree.at.to_string());
    }
    let other = |tree: &Tree| tree.source != plan.rootfs;
    if plan.ops.iter().any(|op| matches!(op, Op::MountRoot { .. }) || matches!(op, Op::AttachRoot(i) if other(&plan.trees[*i]))) {
        return refused("that mounts its own root", "mounts[0]".into());
    }
    Ok(())
}

pub(super) fn joins_network(plan: &Plan) -> bool {
    plan.joins.iter().any(|join| join.kind == ns::NET)
}

/// A mount that the configuration asks for.
pub(super) struct Mounted {
    /// Where it is in the container, by `config.json`; also its name in the images.
    pub at: String,
    /// Where `config.json` says so.
    pub place: At,
    /// What of the host's it is, which is not saved but found again; none if it is the container's own.
    pub source: Option<String>,
    /// A masked file; of a masked directory only CRIU can tell.
    pub mask: bool,
    /// The attributes of the mount, one after the other.
    pub attributes: Vec<MountAttr>,
    /// A later one is over it, so that no path leads there.
    pub hidden: bool,
}

impl Mounted {
    /// Whether nobody may write there.
    pub fn is_read_only(&self) -> bool {
        const RDONLY: u64 = libc::MOUNT_ATTR_RDONLY;
        self.attributes.iter().fold(false, |so_far, attr| attr.attr_set & RDONLY != 0 || so_far && attr.attr_clr & RDONLY == 0)
    }
}

/// The mounts of the container, in the order in which they are made. By the configuration, not by the container's mountinfo:
/// what the container itself has mounted never becomes the host's.
pub(super) fn mounts(plan: &Plan) -> Result<Vec<Mounted>> {
    let mut mounts: Vec<Mounted> = Vec::new();
    for op in &plan.ops {
        let Some(mount) = mounted(plan, op) else { continue };
        if mount.source.is_some() {
            readable(&mount.at)?;
        }
        mounts.iter_mut().filter(|under| Path::new(&under.at).starts_with(&mount.at)).for_each(|under| under.hidden = true);
        mounts.push(mount);
    }
    Ok(mounts)
}

/// The path of an operation, as the kernel writes it.
fn below_root(path: &CStr) -> String {
    Path::new("/").join(Path::new(&*path.to_string_lossy())).components().collect::<PathBuf>().to_string_lossy().into_owned()
}

/// What an operation mounts: of the host's there are bind mounts, the cgroups of v1, /dev/null over masked files.
fn mounted(plan: &Plan, op: &Op) -> Option<Mounted> {
    let plain = |path: &CStr, place| Mounted { at: below_root(path), place, source: None, mask: false, attributes: vec![], hidden: false };
    match op {
        Op::Attach { tree, to } => {
            let Tree { source, attr, attr_recursive, locked, at, .. } = &plan.trees[*tree];
            let kept = if *locked { LOCKABLE } else { 0 };
            let attributes = vec![inherited(source), *attr_recursive, MountAttr { attr_clr: attr.attr_clr & !kept, ..*attr }];
            Some(Mounted { source: Some(source.to_string_lossy().into_owned()), attributes, ..plain(&to.path, *at) })
        }
        Op::Mount { to, at, .. } => Some(plain(&to.path, *at)),
        Op::Mask(path, at) => {
            let attributes = vec![MountAttr::RDONLY];
            Some(Mounted { source: Some("/dev/null".into()), mask: true, attributes, ..plain(path, *at) })
        }
        // In a user namespace nobody makes device nodes: they are the host's, mounted.
        Op::Device(node, at) if plan.in_user_namespace && FileType::from_raw_mode(node.mode) != FileType::Fifo => {
            let mount = plain(&node.path, *at);
            Some(Mounted { source: Some(mount.at.clone()), attributes: vec![MountAttr::RDONLY], ..mount })
        }
        _ => None,
    }
}

/// What a bind has of the mount it is made from.
fn inherited(source: &CStr) -> MountAttr {
    use rustix::fs::StatVfsMountFlags as Flags;
    let present = rustix::fs::statvfs(source).map_or(Flags::empty(), |stat| stat.f_flag);
    let flags = [
        (Flags::RDONLY, libc::MOUNT_ATTR_RDONLY),
        (Flags::NOSUID, libc::MOUNT_ATTR_NOSUID),
        (Flags::NODEV, libc::MOUNT_ATTR_NODEV),
        (Flags::NOEXEC, libc::MOUNT_ATTR_NOEXEC),
    ];
    let attr_set = flags.iter().filter(|(flag, _)| present.contains(*flag)).fold(0, |set, (_, attr)| set | attr);
    MountAttr { attr_set, ..MountAttr::default() }
}

/// CRIU writes `mnt[KEY]:NAME` and looks a mount up by the beginning of that: a name with `]:` in it would be taken for
/// another mount's (CVE-2026-119101, CVE-2026-115520).
fn readable(path: &str) -> Result<()> {
    if path.contains("]:") || path.contains('\n') {
        return Err(Error::new(format!("CRIU cannot read the name of a mount at {path:?} back")).at("mounts"));
    }
    Ok(())
}

/// Which mounts are the host's: pairs of where the kernel says they are and their names in the images. CRIU knows a mount by its path
/// alone: of several at one path each comes back as the last, which is what is seen. That has to be the host's if any is, and of one
/// file system with those under it: CRIU (4.2) gives them the peer groups of its source.
fn external(mounts: &[Mounted], pid: i32) -> Result<Vec<(String, String)>> {
    let mut found_at: Vec<(String, &Mounted)> = Vec::new();
    for mount in mounts {
        let Some(path) = found(mount, pid)? else { continue };
        let under = found_at.iter().position(|(at, _)| *at == path).map(|under| found_at.remove(under).1);
        let external = is_external(mount, pid, &path)?;
        if under.is_some_and(|under| !external || device(under) != device(mount)) {
            let what = format!("{} is mounted over a mount of the host's at the same path: CRIU cannot tell them apart", mount.at);
            return Err(Error::new(what).at(mount.place.to_string()));
        }
        if external {
            readable(&path)?;
            found_at.push((path, mount));
        }
    }
    Ok(found_at.into_iter().map(|(path, mount)| (path, mount.at.clone())).collect())
}

/// The file system that a mount's source is on.
fn device(mount: &Mounted) -> Option<u64> {
    std::fs::metadata(mount.source.as_ref()?).ok().map(|source| std::os::unix::fs::MetadataExt::dev(&source))
}

/// Where a mount is in the container as the kernel names it; none if it is not there and need not be.
fn found(mount: &Mounted, pid: i32) -> Result<Option<String>> {
    if mount.hidden {
        return Ok(Some(mount.at.clone()));
    }
    let what = || format!("find the mount {} of the container", mount.at);
    let point = match in_root(Path::new(&format!("/proc/{pid}/root")), &mount.at) {
        Err(Errno::NOENT) => None,
        other => Some(other.context(what)?).filter(is_mount_point),
    };
    let Some(point) = point else {
        if mount.source.is_none() || mount.mask {
            return Ok(None);
        }
        // After a restore it could not be given its attributes.
        let gone = format!("the mount {} cannot be seen in the container: it would not come back", mount.at);
        return Err(Error::new(gone).at(mount.place.to_string()));
    };
    let path = std::fs::read_link(format!("/proc/self/fd/{}", point.as_raw_fd())).context(what)?;
    Ok(Some(path.to_string_lossy().into_owned()))
}

/// Whether a descriptor is the root of a mount.
pub(super) fn is_mount_point(fd: &OwnedFd) -> bool {
    statx(fd, c"", AtFlags::EMPTY_PATH, StatxFlags::empty()).is_ok_and(|stat| stat.stx_attributes.contains(StatxAttributes::MOUNT_ROOT))
}

/// A masked directory has a file system of its own, which is saved; a masked file is the host's /dev/null.
fn is_external(mount: &Mounted, pid: i32, path: &str) -> Result<bool> {
    Ok(match (mount.mask, mount.hidden) {
        (false, _) => mount.source.is_some(),
        (true, false) => is_null(pid, &mount.at),
        (true, true) => hides_null(pid, path)?,
    })
}

/// Whether /dev/null is mounted at a path where something else is seen.
fn hides_null(pid: i32, path: &str) -> Result<bool> {
    let file = format!("/proc/{pid}/mountinfo");
    let text = std::fs::read_to_string(&file).context(|| format!("read {file}"))?;
    let hidden = |line: &str| {
        let mut fields = line.split(' ').skip(3);
        fields.next() == Some("/null") && fields.next().is_some_and(|at| unescape_mount_path(at) == Path::new(path))
    };
    Ok(text.lines().any(hidden))
}

/// Whether a path of the container is /dev/null: a masked file is, and not a masked directory or one that was never there.
pub(super) fn is_null(pid: i32, at: &str) -> bool {
    in_root(Path::new(&format!("/proc/{pid}/root")), at)
        .and_then(fstat)
        .is_ok_and(|stat| FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3))
}

/// The directories of images and log, open for CRIU.
pub(super) struct Images {
    images: OwnedFd,
    work: OwnedFd,
    image_path: PathBuf,
    work_path: PathBuf,
}

impl Images {
    /// Opens them; missing ones are made.
    pub fn open(options: &CriuOptions) -> Result<Self> {
        let open = |path: &Path| {
            let what = || format!("open the directory {}", path.display());
            std::os::unix::fs::DirBuilderExt::mode(&mut std::fs::DirBuilder::new(), 0o700).recursive(true).create(path).context(what)?;
            rustix::fs::open(path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(what)
        };
        let (image_path, work_path) = (options.image_path.clone(), options.work_path.clone().unwrap_or_else(|| options.image_path.clone()));
        Ok(Self { images: open(&image_path)?, work: open(&work_path)?, image_path, work_path })
    }

    /// The same directories by way of another process's mount namespace: CRIU mounts below its working directory, which
    /// the kernel permits in its own namespace only.
    pub fn seen_by(self, pid: i32) -> Result<Self> {
        let open = |path: &Path| {
            let path = format!("/proc/{pid}/root{}", path.display());
            rustix::fs::open(&path, OFlags::DIRECTORY | OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty()).context(|| format!("open {path}"))
        };
        Ok(Self { images: open(&self.image_path)?, work: open(&self.work_path)?, ..self })
    }

    /// The processes of a user namespace open the images themselves, by the directory's descriptor: it must let them pass. The
    /// files are for their owner alone.
    pub fn let_pass(&self) -> Result<()> {
        const SEARCH: u32 = 0o011;
        let what = || format!("let the container pass the directory {}", self.image_path.display());
        let mode = fstat(&self.images).context(what)?.st_mode & 0o7777;
        if mode & SEARCH == SEARCH {
            return Ok(());
        }
        rustix::fs::fchmod(&self.images, Mode::from_raw_mode(mode | SEARCH)).context(what)
    }

    /// CRIU's log.
    pub fn log(&self, name: &str) -> PathBuf {
        self.work_path.join(name)
    }

    /// `criu_opts` with what both directions take. `mounts` are pairs of a key and a value.
    pub fn request(&self, options: &CriuOptions, log: &str, mounts: &[(String, String)]) -> Message {
        let mut request = Message::default();
        request.number(opts::IMAGES_DIR_FD, own(&self.images));
        request.number(opts::WORK_DIR_FD, own(&self.work));
        request.number(opts::LOG_LEVEL, 4);
        request.text(opts::LOG_FILE, log);
        request.flag(opts::EXT_UNIX_SK, options.ext_unix_sk);
        request.flag(opts::TCP_ESTABLISHED, options.tcp_established);
        request.flag(opts::SHELL_JOB, options.shell_job);
        request.flag(opts::FILE_LOCKS, options.file_locks);
        request.flag(opts::AUTO_DEDUP, options.auto_dedup);
        request.flag(opts::LINK_REMAP, options.link_remap);
        request.flag(opts::TCP_SKIP_IN_FLIGHT, options.tcp_skip_in_flight);
        // The other end of the terminal is keel's or the engine's.
        request.flag(opts::ORPHAN_PTS_MASTER, true);
        request.flag(opts::MANAGE_CGROUPS, options.cgroups != CgroupsMode::Ignore);
        request.number(opts::MANAGE_CGROUPS_MODE, options.cgroups as u64);
        if options.empty_network {
            request.number(opts::EMPTY_NS, ns::NET);
        }
        for (key, value) in mounts {
            let mut mount = Message::default();
            mount.text(ext_mount::KEY, key);
            mount.text(ext_mount::VAL, value);
            request.message(opts::EXT_MNT, &mount);
        }
        request
    }

    fn save_descriptors(&self, pid: i32) -> Result<()> {
        let link =
            |fd| std::fs::read_link(format!("/proc/{pid}/fd/{fd}")).map_or_else(|_| String::new(), |p| p.to_string_lossy().into_owned());
        let path = self.image_path.join(DESCRIPTORS);
        let text = serde_json::to_vec(&[link(0), link(1), link(2)]).unwrap_or_default();
        std::fs::write(&path, text).context(|| format!("write {}", path.display()))
    }

    /// What the first three descriptors were.
    pub fn descriptors(&self) -> Result<Vec<String>> {
        let path = self.image_path.join(DESCRIPTORS);
        let what = || format!("read {}", path.display());
        let text = std::fs::read(&path).context(what).map_err(|e| e.hint("is there a checkpoint in --image-path?"))?;
        serde_json::from_slice(&text).map_err(|e| Error::new(format!("{}: {e}", what())))
    }
}
