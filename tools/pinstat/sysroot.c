// SPDX-License-Identifier: GPL-2.0
#include "sysroot.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
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

static char *escape_for(const char *text, size_t len, char plain)
{
	char *out = xcalloc(len + 1, 4), *o = out;

	for (; len; len--, text++) {
		unsigned char c = *text;

		if (c >= ' ' && c <= '~' && (c != '\\' || c == plain))
			*o++ = c;
		else
			o += sprintf(o, "\\%03o", c);
	}
	*o = '\0';
	return out;
}

char *escape(const char *text, size_t len)
{
	return escape_for(text, len, '\0');
}

char *escape_rest(const char *text)
{
	return escape_for(text, strlen(text), '\\');
}
