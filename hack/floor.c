/*
 * floor - the limit that a container runtime is measured against: the kernel's work for one container, asked for in the
 * cheapest way known. It reads no config.json, keeps no record, recovers from nothing: a yardstick, not a runtime.
 *
 *   floor [-2] [-D] [-s BPF] [-P] [-n NAME] ROOTFS PROGRAM [ARG...]   what `run` must do
 *   floor [-2] -E PID -n NAME PROGRAM [ARG...]                        what `exec` must do in the container of PID
 *   floor -S FILE                                                    what `state` must do: read a record, look at a process
 *
 *   -2  cgroup v2: clone3(CLONE_INTO_CGROUP), a cgroup namespace. Without it v1: the child writes itself into each `tasks`
 *   -D  docker-like: its limits, capabilities and a tmpfs on /run, instead of the runtime specification's sample
 *   -s  load this file as the seccomp program (struct sock_filter array)
 *   -P  park: say "parked" and wait for SIGTERM where the program would be executed, to weigh the process
 *   -n  the name of the cgroups, below the root of each hierarchy (default: floor-PID)
 *
 * cc -O2 -static -o floor floor.c      (x86-64 or aarch64, Linux 5.12 or newer, root)
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/filter.h>
#include <linux/sched.h>
#include <linux/seccomp.h>
#include <net/if.h>
#include <sched.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <sys/wait.h>
#include <unistd.h>

/* Attributes of mount_setattr(2) and fsmount(2). */
enum { RO = 1, NOSUID = 2, NODEV = 4, NOEXEC = 8 };
#define TREE_CLONE 1
#define RECURSIVE 0x8000
#define FROM_FD 0x4 /* MOVE_MOUNT_F_EMPTY_PATH */
struct attributes { uint64_t set, clear, propagation, userns; };

static int v2, docker, park, record_only;
static const char *filter_file, *rootfs, *name;
static char name_buffer[32], **program;
static struct sock_fprog filter;

static void fail(const char *what)
{
	dprintf(2, "floor: %s: %s\n", what, strerror(errno));
	_exit(111);
}
#define MUST(call) ({ long must_ = (long)(call); if (must_ < 0) fail(#call); must_; })

/* --- cgroups --------------------------------------------------------------------------------------------------------- */

static const char *const hierarchies[] = { "systemd", "pids", "blkio", "freezer", "devices", "memory", "cpuset", "cpuacct", "cpu" };
#define HIERARCHIES (sizeof hierarchies / sizeof *hierarchies)
static int group[HIERARCHIES], tasks[HIERARCHIES], group2 = -1;

static void put(int dir, const char *file, const char *value)
{
	int fd = MUST(openat(dir, file, O_WRONLY | O_CLOEXEC));
	MUST(write(fd, value, strlen(value)));
	close(fd);
}

static void inherit(int from, int to, const char *file)
{
	char value[256];
	int fd = MUST(openat(from, file, O_RDONLY | O_CLOEXEC));
	ssize_t size = MUST(read(fd, value, sizeof value - 1));
	close(fd);
	value[size] = 0;
	put(to, file, value);
}

static void allow_devices(int dir)
{
	static const char *const allowed[] = { "c *:* m", "b *:* m", "c 1:3 rwm", "c 1:8 rwm", "c 1:7 rwm", "c 5:0 rwm", "c 1:5 rwm",
					       "c 1:9 rwm", "c 5:1 rwm", "c 136:* rwm", "c 5:2 rwm" };
	put(dir, "devices.deny", "a");
	int fd = MUST(openat(dir, "devices.allow", O_WRONLY | O_CLOEXEC));
	for (unsigned i = 0; i < sizeof allowed / sizeof *allowed; i++)
		MUST(write(fd, allowed[i], strlen(allowed[i])));
	close(fd);
}

static void set_limits(const char *hierarchy, int dir)
{
	if (!strcmp(hierarchy, "memory"))
		put(dir, "memory.limit_in_bytes", "134217728");
	if (!strcmp(hierarchy, "pids"))
		put(dir, "pids.max", "100");
	if (!strcmp(hierarchy, "cpu")) {
		put(dir, "cpu.shares", "1024");
		put(dir, "cpu.cfs_period_us", "100000");
		put(dir, "cpu.cfs_quota_us", "50000");
	}
}

static void make_cgroups(void)
{
	char path[128];
	if (v2) {
		snprintf(path, sizeof path, "/sys/fs/cgroup/%s", name);
		MUST(mkdir(path, 0755));
		group2 = MUST(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
		return; /* limits: the controllers are elsewhere in the view that this is used in; the v2 devices program is left out */
	}
	for (unsigned i = 0; i < HIERARCHIES; i++) {
		snprintf(path, sizeof path, "/sys/fs/cgroup/%s/%s", hierarchies[i], name);
		group[i] = tasks[i] = -1;
		if (mkdir(path, 0755) < 0) {
			if (errno == ENOENT)
				continue; /* not mounted on this machine */
			fail(path);
		}
		group[i] = MUST(open(path, O_PATH | O_DIRECTORY | O_CLOEXEC));
		if (!strcmp(hierarchies[i], "cpuset")) {
			int parent = MUST(openat(group[i], "..", O_PATH | O_DIRECTORY | O_CLOEXEC));
			inherit(parent, group[i], "cpuset.cpus");
			inherit(parent, group[i], "cpuset.mems");
			close(parent);
		}
		if (!strcmp(hierarchies[i], "devices"))
			allow_devices(group[i]);
		if (docker)
			set_limits(hierarchies[i], group[i]);
		tasks[i] = MUST(openat(group[i], "tasks", O_WRONLY | O_CLOEXEC));
	}
}

/* A single-threaded process that writes itself into `tasks` takes no lock of the whole machine; `cgroup.procs` would. */
static void join_cgroups(void)
{
	for (unsigned i = 0; i < HIERARCHIES && !v2; i++)
		if (tasks[i] >= 0)
			MUST(write(tasks[i], "0", 1));
}

static void remove_cgroups(void)
{
	char path[128];
	for (unsigned i = 0; i < (v2 ? 1 : HIERARCHIES); i++) {
		if (!v2 && group[i] < 0)
			continue;
		snprintf(path, sizeof path, v2 ? "/sys/fs/cgroup/%s%s" : "/sys/fs/cgroup/%s/%s", v2 ? "" : hierarchies[i], name);
		MUST(rmdir(path));
	}
}

/* --- mounts ---------------------------------------------------------------------------------------------------------- */

/* A detached mount of a new file system; `options` is key, value, key, value, 0. */
static int new_mount(const char *type, const char *const *options, int attributes)
{
	int fs = MUST(syscall(SYS_fsopen, type, 1)), mount;
	for (; options && *options; options += 2)
		MUST(syscall(SYS_fsconfig, fs, options[1] ? 1 : 0, options[0], options[1], 0));
	MUST(syscall(SYS_fsconfig, fs, 6, 0, 0, 0));
	mount = MUST(syscall(SYS_fsmount, fs, 1, attributes));
	close(fs);
	return mount;
}
#define OPTIONS(...) (const char *const[]){ __VA_ARGS__, 0 }

static void attach(int mount, int dir, const char *path) { MUST(syscall(SYS_move_mount, mount, "", dir, path, FROM_FD)); }
static void set_attributes(int mount, uint64_t set)
{
	struct attributes attributes = { set, 0, 0, 0 };
	MUST(syscall(SYS_mount_setattr, mount, "", AT_EMPTY_PATH, &attributes, sizeof attributes));
}

static void mount_cgroups(int root)
{
	const int attributes = NOSUID | NOEXEC | NODEV;
	if (v2) {
		MUST(unshare(CLONE_NEWCGROUP)); /* first: from the initial namespace the mount would wait for a grace period */
		attach(new_mount("cgroup2", 0, attributes | RO), root, "sys/fs/cgroup");
		return;
	}
	int base = new_mount("tmpfs", OPTIONS("mode", "755"), attributes);
	attach(base, root, "sys/fs/cgroup");
	for (unsigned i = 0; i < HIERARCHIES; i++) {
		char path[128];
		if (group[i] < 0)
			continue;
		MUST(mkdirat(base, hierarchies[i], 0755));
		snprintf(path, sizeof path, "/sys/fs/cgroup/%s/%s", hierarchies[i], name);
		int tree = MUST(syscall(SYS_open_tree, AT_FDCWD, path, TREE_CLONE | O_CLOEXEC));
		set_attributes(tree, attributes | RO);
		attach(tree, base, hierarchies[i]);
		close(tree);
	}
	set_attributes(base, RO);
}

static void make_devices(int dev)
{
	static const struct { const char *name; int major, minor; } nodes[] = { { "null", 1, 3 }, { "zero", 1, 5 }, { "full", 1, 7 },
										 { "tty", 5, 0 }, { "random", 1, 8 }, { "urandom", 1, 9 } };
	static const char *const links[][2] = { { "/proc/self/fd", "fd" }, { "/proc/self/fd/0", "stdin" }, { "/proc/self/fd/1", "stdout" },
						{ "/proc/self/fd/2", "stderr" }, { "/proc/kcore", "core" }, { "pts/ptmx", "ptmx" } };
	umask(0);
	for (unsigned i = 0; i < sizeof nodes / sizeof *nodes; i++)
		MUST(mknodat(dev, nodes[i].name, S_IFCHR | 0666, makedev(nodes[i].major, nodes[i].minor)));
	for (unsigned i = 0; i < sizeof links / sizeof *links; i++)
		MUST(symlinkat(links[i][0], dev, links[i][1]));
	umask(022);
}

static void hide(int proc, int sys, int dev)
{
	static const char *const read_only[] = { "bus", "fs", "irq", "sys", "sysrq-trigger" };
	static const char *const masked[] = { "acpi", "asound", "interrupts", "kcore", "keys", "latency_stats", "timer_list", "timer_stats",
					      "sched_debug", "scsi", "firmware", "devices/virtual/powercap" };
	const unsigned in_proc = sizeof masked / sizeof *masked - 2;
	int empty = -1;
	for (unsigned i = 0; i < sizeof read_only / sizeof *read_only; i++) {
		int tree = syscall(SYS_open_tree, proc, read_only[i], TREE_CLONE | O_CLOEXEC);
		if (tree < 0)
			continue;
		set_attributes(tree, RO);
		attach(tree, proc, read_only[i]);
		close(tree);
	}
	for (unsigned i = 0; i < sizeof masked / sizeof *masked; i++) {
		struct stat st;
		int at = i < in_proc ? proc : sys, cover;
		if (fstatat(at, masked[i], &st, AT_SYMLINK_NOFOLLOW) < 0)
			continue;
		if (!S_ISDIR(st.st_mode))
			cover = MUST(syscall(SYS_open_tree, dev, "null", TREE_CLONE | O_CLOEXEC));
		else if (empty < 0)
			cover = empty = new_mount("tmpfs", OPTIONS("nr_inodes", "1"), RO);
		else
			cover = MUST(syscall(SYS_open_tree, empty, "", TREE_CLONE | O_CLOEXEC | AT_EMPTY_PATH));
		attach(cover, at, masked[i]);
		if (cover != empty)
			close(cover);
	}
}

static void make_root(void)
{
	const int safe = NOSUID | NOEXEC | NODEV;
	int proc = new_mount("proc", 0, docker ? safe : 0);
	int dev = new_mount("tmpfs", OPTIONS("mode", "755", "size", "65536k"), NOSUID);
	int pts = new_mount("devpts", OPTIONS("newinstance", 0, "ptmxmode", "0666", "mode", "0620", "gid", "5"), NOSUID | NOEXEC);
	int shm = new_mount("tmpfs", OPTIONS("mode", "1777", "size", "65536k"), safe);
	int mqueue = new_mount("mqueue", 0, safe);
	int sys = new_mount("sysfs", 0, safe | RO);

	struct attributes private = { 0, 0, MS_PRIVATE, 0 };
	MUST(syscall(SYS_mount_setattr, AT_FDCWD, "/", RECURSIVE, &private, sizeof private));
	int root = MUST(syscall(SYS_open_tree, AT_FDCWD, rootfs, TREE_CLONE | O_CLOEXEC | RECURSIVE));
	if (!docker)
		set_attributes(root, RO);
	MUST(syscall(SYS_move_mount, root, "", AT_FDCWD, rootfs, FROM_FD));

	attach(proc, root, "proc");
	attach(dev, root, "dev");
	MUST(mkdirat(dev, "pts", 0755));
	MUST(mkdirat(dev, "shm", 01777));
	MUST(mkdirat(dev, "mqueue", 0755));
	attach(pts, dev, "pts");
	attach(shm, dev, "shm");
	attach(mqueue, dev, "mqueue");
	attach(sys, root, "sys");
	if (docker)
		attach(new_mount("tmpfs", OPTIONS("mode", "755", "size", "65536k"), NOSUID), root, "run");
	mount_cgroups(root);
	make_devices(dev);
	hide(proc, sys, dev);

	MUST(fchdir(root));
	MUST(syscall(SYS_pivot_root, ".", "."));
	MUST(umount2(".", MNT_DETACH));
	MUST(chdir("/"));
}

/* --- the process ----------------------------------------------------------------------------------------------------- */

static void drop_privileges(void)
{
	struct rlimit files = { 1024, 1024 };
	uint32_t keep = docker ? 0xa80425fb : 1u << CAP_AUDIT_WRITE | 1u << CAP_KILL | 1u << CAP_NET_BIND_SERVICE;
	MUST(setrlimit(RLIMIT_NOFILE, &files));
	for (int capability = 0; capability <= CAP_LAST_CAP; capability++)
		if (capability >= 32 || !(keep >> capability & 1))
			MUST(prctl(PR_CAPBSET_DROP, capability, 0, 0, 0));
	struct __user_cap_header_struct header = { _LINUX_CAPABILITY_VERSION_3, 0 };
	struct __user_cap_data_struct data[2] = { { keep, keep, 0 }, { 0, 0, 0 } };
	MUST(syscall(SYS_capset, &header, data));
	MUST(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0));
	if (filter.len)
		MUST(syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER, 0, &filter));
	MUST(syscall(SYS_close_range, 3, ~0u, 0));
}

static void execute(void)
{
	static char *environment[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm", 0 };
	if (park) {
		sigset_t set;
		int signal;
		sigemptyset(&set);
		sigaddset(&set, SIGTERM);
		sigprocmask(SIG_BLOCK, &set, 0);
		MUST(write(1, "parked\n", 7));
		sigwait(&set, &signal);
		_exit(0);
	}
	execve(program[0], program, environment);
	fail(program[0]);
}

static void container(void)
{
	join_cgroups();
	struct ifreq loopback = { .ifr_name = "lo", .ifr_flags = IFF_UP | IFF_RUNNING };
	int sock = MUST(socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0));
	MUST(ioctl(sock, SIOCSIFFLAGS, &loopback));
	close(sock);
	MUST(sethostname("floor", 5));
	MUST(setsid());
	make_root();
	drop_privileges();
	execute();
}

static void joined(void)
{
	join_cgroups();
	MUST(setsid());
	drop_privileges();
	execute();
}

/*
 * clone3(2), inline: with CLONE_VM | CLONE_VFORK and no stack of its own the child goes on in this very frame while the
 * parent is stopped, so no function that the parent has yet to return from may return in the child.
 */
static inline __attribute__((always_inline)) long clone3(struct clone_args *args)
{
#if defined(__x86_64__)
	long result;
	__asm__ volatile("syscall" : "=a"(result) : "0"((long)SYS_clone3), "D"(args), "S"(sizeof *args) : "rcx", "r11", "memory");
	return result;
#elif defined(__aarch64__)
	register long x8 __asm__("x8") = SYS_clone3, x0 __asm__("x0") = (long)args, x1 __asm__("x1") = sizeof *args;
	__asm__ volatile("svc 0" : "+r"(x0) : "r"(x8), "r"(x1) : "memory");
	return x0;
#else
#error "clone3 is written out for x86-64 and aarch64 only"
#endif
}

static int run_child(uint64_t namespaces, void (*body)(void))
{
	int status;
	struct clone_args args = { .flags = namespaces, .exit_signal = SIGCHLD };
	if (!park)
		args.flags |= CLONE_VM | CLONE_VFORK; /* no copy of the page tables */
	if (v2) {
		args.flags |= CLONE_INTO_CGROUP;
		args.cgroup = group2;
	}
	long pid = clone3(&args);
	if (pid == 0) {
		body();
		_exit(111);
	}
	if (pid < 0) {
		errno = -pid;
		fail("clone3");
	}
	while (waitpid(pid, &status, 0) < 0)
		if (errno != EINTR)
			fail("waitpid");
	return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

static int run_exec(int target)
{
	char path[160];
	if (v2) {
		snprintf(path, sizeof path, "/sys/fs/cgroup/%s", name);
		group2 = MUST(open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	}
	for (unsigned i = 0; i < HIERARCHIES && !v2; i++) {
		snprintf(path, sizeof path, "/sys/fs/cgroup/%s/%s/tasks", hierarchies[i], name);
		tasks[i] = open(path, O_WRONLY | O_CLOEXEC);
	}
	int pidfd = MUST(syscall(SYS_pidfd_open, target, 0));
	MUST(setns(pidfd, CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWNET | (v2 ? CLONE_NEWCGROUP : 0)));
	return run_child(0, joined);
}

static int show_record(const char *file)
{
	char text[4096], path[32];
	int fd = MUST(open(file, O_RDONLY | O_CLOEXEC));
	ssize_t size = MUST(read(fd, text, sizeof text));
	close(fd);
	snprintf(path, sizeof path, "/proc/%d/stat", getppid());
	fd = MUST(open(path, O_RDONLY | O_CLOEXEC));
	char stat[1024];
	MUST(read(fd, stat, sizeof stat));
	close(fd);
	MUST(write(1, text, size));
	return 0;
}

static void load_filter(void)
{
	struct stat st;
	int fd = MUST(open(filter_file, O_RDONLY | O_CLOEXEC));
	MUST(fstat(fd, &st));
	filter.len = st.st_size / sizeof(struct sock_filter);
	filter.filter = mmap(0, st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (filter.filter == MAP_FAILED)
		fail(filter_file);
	close(fd);
}

int main(int argc, char **argv)
{
	int option, target = 0;
	while ((option = getopt(argc, argv, "+2Ds:Pn:E:S")) != -1)
		switch (option) {
		case '2': v2 = 1; break;
		case 'D': docker = 1; break;
		case 's': filter_file = optarg; break;
		case 'P': park = 1; break;
		case 'n': name = optarg; break;
		case 'E': target = atoi(optarg); break;
		case 'S': record_only = 1; break;
		default: return 2;
		}
	if (argc - optind < (target || record_only ? 1 : 2) || (target && !name))
		return dprintf(2, "usage: see the head of floor.c\n"), 2;
	if (record_only)
		return show_record(argv[optind]);
	if (filter_file)
		load_filter();
	if (!name) {
		snprintf(name_buffer, sizeof name_buffer, "floor-%d", getpid());
		name = name_buffer;
	}
	if (!target)
		rootfs = argv[optind++];
	program = argv + optind;
	if (target)
		return run_exec(target);
	make_cgroups();
	int code = run_child(CLONE_NEWPID | CLONE_NEWIPC | CLONE_NEWUTS | CLONE_NEWNS | CLONE_NEWNET, container);
	remove_cgroups();
	return code;
}
