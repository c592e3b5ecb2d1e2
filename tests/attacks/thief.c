/* The thief of born_blind.rs: it looks, as fast as it can, at every other process that /proc shows, and says what of the
 * host's it finds there. The needles come on its standard input, one a line, so that its own argv and environment have none;
 * the last one is the path of a file that only the host has. SIGTERM ends it.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char needles[16][256], text[1 << 20];
static int count, self;
static unsigned long looks, processes;
static volatile sig_atomic_t ends;

static void end(int signal)
{
	ends = signal;
}

static void found(const char *where, const char *what)
{
	printf("found %s: %s\n", where, what);
	fflush(stdout);
}

/* Whether a needle is in these bytes. */
static const char *in(const char *bytes, size_t length)
{
	for (int i = 0; i < count; i++)
		if (memmem(bytes, length, needles[i], strlen(needles[i])))
			return needles[i];
	return NULL;
}

static void file(int process, const char *name)
{
	int fd = openat(process, name, O_RDONLY | O_NONBLOCK);
	ssize_t length = fd < 0 ? -1 : read(fd, text, sizeof text);
	const char *needle = length > 0 ? in(text, length) : NULL;
	if (needle)
		found(name, needle);
	if (fd >= 0)
		close(fd);
}

/* Whether a directory, or one above it, leads to the host's file. */
static void directory(int process, const char *name)
{
	char path[1024];
	const char *up[] = { "", "/../../../../../../../../../.." };
	for (int i = 0; i < 2; i++) {
		snprintf(path, sizeof path, "%s%s%s", name, up[i], needles[count - 1]);
		if (faccessat(process, path, F_OK, 0) == 0)
			found(name, path);
	}
}

static void descriptors(int process)
{
	int fd = openat(process, "fd", O_RDONLY | O_DIRECTORY);
	DIR *list = fd < 0 ? NULL : fdopendir(fd);
	struct dirent *entry;
	char path[64], target[1024];
	while (list && (entry = readdir(list))) {
		if (entry->d_name[0] == '.')
			continue;
		snprintf(path, sizeof path, "fd/%s", entry->d_name);
		ssize_t length = readlinkat(process, path, target, sizeof target - 1);
		if (length > 0 && in(target, length))
			found(path, in(target, length));
		directory(process, path);
		struct stat stat;
		if (fstatat(process, path, &stat, 0) == 0 && S_ISREG(stat.st_mode))
			file(process, path);
	}
	if (list)
		closedir(list);
	else if (fd >= 0)
		close(fd);
}

/* All memory that it may read. */
static void memory(int process)
{
	int maps = openat(process, "maps", O_RDONLY), mem = openat(process, "mem", O_RDONLY);
	static char list[1 << 16];
	ssize_t length = 0, more;
	while (maps >= 0 && (more = read(maps, list + length, sizeof list - 1 - length)) > 0)
		length += more;
	list[length] = 0;
	if (in(list, length))
		found("maps", in(list, length));
	for (char *line = list; mem >= 0 && *line; ) {
		unsigned long from, to;
		char access[5];
		if (sscanf(line, "%lx-%lx %4s", &from, &to, access) == 3 && access[1] == 'w')
			for (; from < to; from += sizeof text - 4096) {
				size_t size = to - from < sizeof text ? to - from : sizeof text;
				ssize_t got = pread(mem, text, size, from);
				if (got <= 0)
					break;
				if (in(text, got))
					found("mem", in(text, got));
			}
		line = strchr(line, '\n');
		if (!line)
			break;
		line++;
	}
	if (maps >= 0)
		close(maps);
	if (mem >= 0)
		close(mem);
}

static void look(const char *pid)
{
	int process = openat(AT_FDCWD, pid, O_RDONLY | O_DIRECTORY);
	if (process < 0)
		return;
	looks++;
	file(process, "cmdline");
	directory(process, "root");
	directory(process, "cwd");
	descriptors(process);
	file(process, "environ");
	file(process, "comm");
	memory(process);
	close(process);
}

int main(void)
{
	int last = 0;
	self = getpid();
	while (count < 16 && fgets(needles[count], sizeof needles[0], stdin)) {
		needles[count][strcspn(needles[count], "\n")] = 0;
		count++;
	}
	struct sigaction action = { .sa_handler = end };
	if (count == 0 || chdir("/proc") || sigaction(SIGTERM, &action, NULL))
		return 1;
	puts("ready");
	fflush(stdout);
	while (!ends) {
		DIR *proc = opendir(".");
		struct dirent *entry;
		while (proc && (entry = readdir(proc))) {
			int pid = atoi(entry->d_name);
			if (pid <= 1 || pid == self)
				continue;
			if (pid != last)
				processes++;
			last = pid;
			look(entry->d_name);
		}
		if (proc)
			closedir(proc);
	}
	printf("looked %lu times at %lu processes\n", looks, processes);
	return 0;
}
