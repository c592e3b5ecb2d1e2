/* The symbols that Rust's standard library for the gnu target, or gcc's unwinder, wants beyond what musl has.
 * docs/decisions/0003 says why a release is linked this way. */

/* glibc 2.35's fast look-up of unwind tables. Not found: the unwinder then asks dl_iterate_phdr(3), which musl has. */
int _dl_find_object(void *address, void *result)
{
	(void)address;
	(void)result;
	return -1;
}

/* std asks which glibc it runs on before it uses what only newer ones do right. 0.0 makes it assume nothing. */
const char *gnu_get_libc_version(void)
{
	return "0.0";
}

/* std calls it after a failed name look-up; musl reads resolv.conf anew each time anyway. */
int __res_init(void)
{
	return 0;
}
