// SPDX-License-Identifier: GPL-2.0
#include "sysroot.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

/* More than this is in no file that we read */
#define FILE_MAX	(64u << 20)

const char *sysroot = "";

void *xcalloc(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size ? size : 1);

	if (!p)
		err(2, "no memory");
	return p;
}

char *xstrdup(const char *text)
{
	char *copy = strdup(text);

	if (!copy)
		err(2, "no memory");
	return copy;
}

static char *vxasprintf(const char *fmt, va_list ap)
{
	char *text;

	if (vasprintf(&text, fmt, ap) < 0)
		err(2, "no memory");
	return text;
}

char *xasprintf(const char *fmt, ...)
{
	va_list ap;
	char *text;

	va_start(ap, fmt);
	text = vxasprintf(fmt, ap);
	va_end(ap);
	return text;
}

static char *vpath(const char *fmt, va_list ap)
{
	char *path = vxasprintf(fmt, ap), *full;

	full = xasprintf("%s%s", sysroot, path);
	free(path);
	return full;
}

char *sysroot_path(const char *fmt, ...)
{
	va_list ap;
	char *path;

	va_start(ap, fmt);
	path = vpath(fmt, ap);
	va_end(ap);
	return path;
}

DIR *sysroot_opendir(const char *folder)
{
	char *path = sysroot_path("%s", folder);
	DIR *dir = opendir(path);

	free(path);
	return dir;
}

bool sysroot_exists(const char *fmt, ...)
{
	va_list ap;
	char *path;
	int ret;

	va_start(ap, fmt);
	path = vpath(fmt, ap);
	va_end(ap);
	ret = access(path, F_OK);
	free(path);
	return !ret;
}

/* All that is left to read, with a 0 after it; NULL and errno if it cannot be read */
char *read_fd(size_t *len, int fd)
{
	size_t have = 0, size = 4096;
	char *buf = xcalloc(1, size);
	ssize_t n;

	for (;;) {
		n = read(fd, buf + have, size - have - 1);
		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			break;
		have += n;
		if (have < size - 1)
			continue;
		if (size >= FILE_MAX) {
			errno = EFBIG;
			n = -1;
			break;
		}
		size *= 2;
		buf = realloc(buf, size);
		if (!buf)
			err(2, "no memory");
	}
	if (n < 0) {
		int error = errno;

		free(buf);
		errno = error;
		return NULL;
	}
	buf[have] = '\0';
	if (len)
		*len = have;
	return buf;
}

/* A whole file */
char *sysroot_read(size_t *len, const char *fmt, ...)
{
	char *path, *buf;
	va_list ap;
	int fd, error;

	va_start(ap, fmt);
	path = vpath(fmt, ap);
	va_end(ap);
	fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	free(path);
	if (fd < 0)
		return NULL;
	buf = read_fd(len, fd);
	error = errno;
	close(fd);
	errno = error;
	return buf;
}

static bool write_all(int fd, const char *text, size_t len)
{
	ssize_t n;

	for (; len; text += n, len -= n) {
		n = write(fd, text, len);
		if (n < 0)
			return false;
	}
	return true;
}

/* Milliseconds that a process may take to let such a file be read; all after LATE_MAX */
#define LESS_PATIENCE	50
#define LATE_MAX	5
/* So many times PATIENCE more for children that run or wait for a CPU; all together */
#define BUSY_MAX	5

/* A child, which answers through fd[1]; 0: this is it; negative, and errno: there is none */
static pid_t child_start(int fd[2])
{
	pid_t child;
	int error;

	if (pipe2(fd, O_CLOEXEC))
		return -1;
	/* Nothing that the child could print a second time */
	fflush(stdout);
	child = fork();
	error = errno;
	if (child)
		close(fd[1]);
	if (child < 0)
		close(fd[0]);
	errno = error;
	return child;
}

/* Does it run, or wait for a CPU? */
static bool runnable(pid_t child)
{
	char path[32], stat[64] = "";
	ssize_t n = -1;
	char *state;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/stat", child);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		n = read(fd, stat, sizeof(stat) - 1);
		close(fd);
	}
	state = n > 0 ? strrchr(stat, ')') : NULL;
	return state && !strncmp(state, ") R", 3);
}

/* Does it begin to answer in time? Otherwise it ends when it can: only init waits for it */
static bool child_answers(pid_t child, int fd, int patience)
{
	static unsigned int late, busy;
	struct pollfd wait = { .fd = fd, .events = POLLIN };

	if (late >= LATE_MAX)
		patience = LESS_PATIENCE;
	for (;;) {
		if (poll(&wait, 1, patience) == 1)
			return true;
		if (busy == BUSY_MAX || !runnable(child))
			break;
		/* The host is busy; or who chose the path has made it long */
		busy++;
		patience = PATIENCE;
	}
	late++;
	kill(child, SIGKILL);
	waitpid(child, NULL, WNOHANG);
	return false;
}

/*
 * A file of a process that the kernel reads from its memory, or only when the
 * process does not execute another program just now. Whatever that waits for, a
 * page of FUSE memory for instance, a reader waits for, too: so another process
 * reads it, which can be killed. Then errno is ETIMEDOUT.
 */
char *sysroot_read_memory(size_t *len, long pid, const char *file)
{
	int fd[2], error, status = 0;
	char *buf = NULL, *text;
	pid_t child;

	/* It waits for nothing now; and its child would share its memory */
	if (pid == getpid())
		return sysroot_read(len, "/proc/%ld/%s", pid, file);
	child = child_start(fd);
	if (child < 0)
		return NULL;
	if (!child) {
		text = sysroot_read(len, "/proc/%ld/%s", pid, file);
		error = text ? 0 : errno;
		if (write(fd[1], &error, sizeof(error)) != sizeof(error) ||
		    (text && !write_all(fd[1], text, *len)))
			_exit(1);
		_exit(0);
	}
	if (child_answers(child, fd[0], PATIENCE)) {
		if (read(fd[0], &error, sizeof(error)) != sizeof(error))
			error = EIO;
		else if (!error)
			buf = read_fd(len, fd[0]);
		waitpid(child, &status, 0);
		if (buf && status) {
			free(buf);
			buf = NULL;
			error = EIO;
		}
	} else {
		error = ETIMEDOUT;
	}
	close(fd[0]);
	errno = error;
	return buf;
}

bool in_time(void *answer, size_t size, int patience,
	     void (*work)(void *answer, const void *arg), const void *arg)
{
	pid_t child;
	char *text;
	size_t len;
	bool ok;
	int fd[2];

	child = child_start(fd);
	if (child < 0)
		return false;
	if (!child) {
		work(answer, arg);
		_exit(!write_all(fd[1], answer, size));
	}
	ok = child_answers(child, fd[0], patience);
	if (ok) {
		text = read_fd(&len, fd[0]);
		waitpid(child, NULL, 0);
		ok = text && len == size;
		if (ok)
			memcpy(answer, text, size);
		free(text);
	}
	close(fd[0]);
	return ok;
}

/*
 * Bytes of the character that a text begins with. 0 if they are no UTF-8, or if
 * it is no letter but an order: to begin a line, to write from right to left.
 */
static size_t harmless_char(const char *text, size_t len)
{
	static const uint32_t least[] = {
		[2] = 0xa0, [3] = 0x800, [4] = 0x10000
	};
	uint32_t c = (unsigned char)*text;
	size_t n, i;

	if (c < 0x80)
		return c >= ' ' && c != 0x7f;
	/* Without a locale of UTF-8, tables of it cannot be laid out */
	if (c < 0xc2 || c > 0xf4 || MB_CUR_MAX == 1)
		return 0;
	n = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	c &= 0x7f >> n;
	for (i = 1; i < n; i++) {
		if (i == len || (text[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (text[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ||
	    (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069) ||
	    c == 0x200e || c == 0x200f || c == 0x61c || c == 0xfeff ||
	    (c >= 0xe0000 && c <= 0xe007f))
		return 0;
	return n;
}

static int hex(char c)
{
	return c >= '0' && c <= '9' ? c - '0' :
	       c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

/* \x1b as a name's own text; \x2d, of which systemd makes many, is none of ours */
static bool looks_escaped(const char *text, size_t len)
{
	int c;

	if (len < 4 || text[0] != '\\' || text[1] != 'x' ||
	    hex(text[2]) < 0 || hex(text[3]) < 0)
		return false;
	c = hex(text[2]) << 4 | hex(text[3]);
	return c < ' ' || c >= 0x7f || c == '\\';
}

char *escape(const char *text, size_t len)
{
	char *out = xcalloc(len + 1, 4), *o = out;
	size_t n;

	for (; len; text += n, len -= n) {
		n = harmless_char(text, len);
		if (n && !looks_escaped(text, len)) {
			o = mempcpy(o, text, n);
		} else {
			o += sprintf(o, "\\x%02x", (unsigned char)*text);
			n = 1;
		}
	}
	*o = '\0';
	return out;
}

char *unescape(char *text)
{
	char *in = text, *out = text;
	size_t len = strlen(text);

	for (; len; in++, len--)
		if (looks_escaped(in, len)) {
			*out++ = hex(in[2]) << 4 | hex(in[3]);
			in += 3;
			len -= 3;
		} else {
			*out++ = *in;
		}
	*out = '\0';
	return text;
}

char *json_text(const char *escaped)
{
	char *out = xcalloc(strlen(escaped) + 1, 1), *o = out;
	int c;

	for (; *escaped; escaped++) {
		c = looks_escaped(escaped, strlen(escaped)) ?
			hex(escaped[2]) << 4 | hex(escaped[3]) : -1;
		if (c >= 0 && (c < ' ' || c == 0x7f)) {
			*o++ = c;
			escaped += 3;
		} else {
			*o++ = *escaped;
		}
	}
	return out;
}

char *escape_kernels(const char *text)
{
	char *raw = xstrdup(text), *in = raw, *o = raw, *out;

	for (; *in; in++)
		if (in[0] == '\\' && in[1] >= '0' && in[1] <= '3' &&
		    in[2] >= '0' && in[2] <= '7' && in[3] >= '0' &&
		    in[3] <= '7') {
			*o++ = (in[1] - '0') << 6 | (in[2] - '0') << 3 |
			       (in[3] - '0');
			in += 3;
		} else {
			*o++ = *in;
		}
	/* With what is behind a 0, if one was escaped */
	out = escape(raw, o - raw);
	free(raw);
	return out;
}
