/* The symbols that Rust's standard library for the gnu target, or gcc's unwinder, wants beyond what musl has.
 * docs/decisions/0003 says why a release is linked this way. */

/* glibc 2.35's fast look-up of unwind tables. Not found: the unwinder then asks dl_iterate_phdr(3), which musl has. */
int _dl_find_object(void *address, void *result)
{
	(void)address;
	(void)result;
	return -1;
}

/* musl's own version, "1.2.5". */
extern const char __libc_version[];

/* std asks which glibc it runs on before it uses what only newer ones do right. What is no
 * glibc's version, "musl 1.2.5", makes it assume nothing. `keel --version` prints it. */
const char *gnu_get_libc_version(void)
{
	static char version[24] = "musl ";
	for (unsigned i = 0; __libc_version[i] && 5 + i < sizeof version - 1; i++)
		version[5 + i] = __libc_version[i];
	return version;
}

/* std calls it after a failed name look-up; musl reads resolv.conf anew each time anyway. */
int __res_init(void)
{
	return 0;
}
