/*
 * spawn - starts one program, waits for it, and says what it took. Written in C and linked statically, so that what is measured
 * starts from the smallest possible parent: a child's peak memory in rusage begins with what its parent had at exec.
 *
 *   spawn ERRORS PROGRAM [ARG...]     standard error goes into the file ERRORS, the other two to /dev/null
 *   prints: NANOSECONDS PEAK_KIB STATUS       from before the start to the end of wait4(2); 124 after 4 s
 */
#define _GNU_SOURCE
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

static volatile pid_t child;
static volatile sig_atomic_t late;

static void kill_child(int signal)
{
	(void)signal;
	late = 1;
	if (child > 0)
		kill(-child, SIGKILL);
}

static long long now(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec * 1000000000LL + t.tv_nsec;
}

int main(int argc, char **argv)
{
	static char *environment[] = { "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "XDG_RUNTIME_DIR=/run", 0 };
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	struct rusage usage;
	int status, code;
	pid_t pid;
	if (argc < 3)
		return 2;
	signal(SIGALRM, kill_child);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setflags(&attributes, POSIX_SPAWN_SETPGROUP); /* so that a late one dies with its children */
	posix_spawn_file_actions_init(&files);
	posix_spawn_file_actions_addopen(&files, 0, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_addopen(&files, 1, "/dev/null", O_WRONLY, 0);
	posix_spawn_file_actions_addopen(&files, 2, argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0600);
	alarm(4);
	long long start = now();
	if ((code = posix_spawn(&pid, argv[2], &files, &attributes, argv + 2, environment)) != 0) {
		fprintf(stderr, "spawn: %s: errno %d\n", argv[2], code);
		return 1;
	}
	child = pid;
	while (wait4(pid, &status, 0, &usage) < 0)
		if (errno != EINTR)
			return 1;
	long long end = now();
	printf("%lld %ld %d\n", end - start, usage.ru_maxrss, late ? 124 : WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status));
	return 0;
}
