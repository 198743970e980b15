// SPDX-License-Identifier: GPL-2.0
/*
 * For LD_PRELOAD: a kernel that is wrong, or busy, as pinstat would see it.
 *
 *	WRONG_FILE=longterm_pins WRONG_MATCH='charge [0-9]+' WRONG_TEXT='charge 5'
 *		in files of this name, the first match (POSIX, extended) reads so; a % is
 *		what the first parentheses have matched, a & what the second have
 *	WRONG_CALL=no-unmap	UNMAP_DMA does nothing
 *	WRONG_CALL=no-refusal	MAP_DMA says that it has mapped, also what it refused
 *	WRONG_CALL=no-kill	SIGKILL does nothing
 *	WRONG_CALL=taken	a group can be opened once only: then somebody else has it
 *	WRONG_CALL=busy		to open longterm_pins of a process, the CPU takes three seconds or more
 *
 * Nobody waits for counters: nanosleep() returns at once.
 */
/* pinstat is built without: its open() is open() */
#undef _FILE_OFFSET_BITS
#include <ctype.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <regex.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <linux/vfio.h>

#define NEXT(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

static bool wanted(const char *call)
{
	const char *order = getenv("WRONG_CALL");

	return order && !strcmp(order, call);
}

static void put(FILE *out, const char *text, const regmatch_t *match)
{
	fwrite(text + match->rm_so, 1, match->rm_eo - match->rm_so, out);
}

/* A file of what it is to say */
static int edited(int fd)
{
	static char text[1 << 20];
	int out = memfd_create("edited", MFD_CLOEXEC);
	FILE *f = fdopen(dup(out), "w");
	const char *more = getenv("WRONG_TEXT");
	regmatch_t match[3];
	size_t len = 0;
	regex_t regex;
	ssize_t n;

	while ((n = read(fd, text + len, sizeof(text) - 1 - len)) > 0)
		len += n;
	close(fd);
	text[len] = '\0';
	if (out < 0 || !f || regcomp(&regex, getenv("WRONG_MATCH"), REG_EXTENDED))
		abort();
	if (regexec(&regex, text, 3, match, 0)) {
		fputs(text, f);
	} else {
		fwrite(text, 1, match[0].rm_so, f);
		for (; *more; more++) {
			if (*more == '%')
				put(f, text, &match[1]);
			else if (*more == '&')
				put(f, text, &match[2]);
			else
				fputc(*more, f);
		}
		fputs(text + match[0].rm_eo, f);
	}
	regfree(&regex);
	if (fclose(f))
		abort();
	lseek(out, 0, SEEK_SET);
	return out;
}

/* More than pinstat waits for who waits for others */
static void be_busy(void)
{
	struct timespec now, end;

	clock_gettime(CLOCK_MONOTONIC, &end);
	end.tv_sec += 4;
	do {
		clock_gettime(CLOCK_MONOTONIC, &now);
	} while (now.tv_sec < end.tv_sec);
}

int open(const char *path, int flags, ...)
{
	const char *file = getenv("WRONG_FILE"), *slash = strrchr(path, '/');
	static int groups;
	mode_t mode;
	va_list ap;
	int fd;

	va_start(ap, flags);
	mode = flags & (O_CREAT | __O_TMPFILE) ? va_arg(ap, mode_t) : 0;
	va_end(ap);
	if (!strncmp(path, "/dev/vfio/", 10) && isdigit(path[10]) && wanted("taken") && groups++) {
		errno = EBUSY;
		return -1;
	}
	if (!strncmp(path, "/proc/", 6) && isdigit(path[6]) && !strcmp(slash, "/longterm_pins") && wanted("busy"))
		be_busy();
	fd = NEXT(open)(path, flags, mode);
	return fd >= 0 && file && slash && !strcmp(slash + 1, file) ? edited(fd) : fd;
}

int ioctl(int fd, unsigned long request, ...)
{
	va_list ap;
	void *arg;
	int ret;

	va_start(ap, request);
	arg = va_arg(ap, void *);
	va_end(ap);
	if (request == VFIO_IOMMU_UNMAP_DMA && wanted("no-unmap"))
		return 0;
	ret = NEXT(ioctl)(fd, request, arg);
	return request == VFIO_IOMMU_MAP_DMA && wanted("no-refusal") ? 0 : ret;
}

int kill(pid_t pid, int sig)
{
	return sig == SIGKILL && wanted("no-kill") ? 0 : NEXT(kill)(pid, sig);
}

int nanosleep(const struct timespec *request, struct timespec *left)
{
	(void)request;
	(void)left;
	return 0;
}
