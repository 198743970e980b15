// SPDX-License-Identifier: GPL-2.0
#include "memfile.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "props.h"
#include "sysroot.h"

/*
 * ID PARENT MAJOR:MINOR ROOT DIR OPTIONS TAGS... - TYPE SOURCE OPTIONS, with
 * blanks and backslashes as \ooo
 */
static bool mount_parse(struct mount *mount, char *line)
{
	char *fields[6], *word, *type, *source;
	size_t n;

	for (n = 0; n < 6; n++) {
		fields[n] = strsep(&line, " ");
		if (!fields[n])
			return false;
	}
	do {
		word = strsep(&line, " ");
		if (!word)
			return false;
	} while (strcmp(word, "-"));
	type = strsep(&line, " ");
	source = strsep(&line, " ");
	if (!type || !source || !line || fields[4][0] != '/')
		return false;
	mount->dir = unescape(xstrdup(fields[4]));
	mount->fs = escape_again(type);
	mount->source = unescape(xstrdup(source));
	mount->options = xasprintf("%s,%s", fields[5], line);
	return true;
}

void mounts_parse(struct mounts *m, const char *text)
{
	char *copy = xstrdup(text), *at = copy, *line;
	struct mount mount;

	while ((line = strsep(&at, "\n"))) {
		if (!mount_parse(&mount, line))
			continue;
		m->list = reallocarray(m->list, m->nr + 1, sizeof(*m->list));
		if (!m->list)
			err(2, "no memory");
		m->list[m->nr++] = mount;
	}
	free(copy);
}

bool mounts_read(struct mounts *m, long pid)
{
	char *text = NULL;

	*m = (struct mounts){ 0 };
	/* libvirt's QEMUs have mounts of their own */
	if (pid) {
		text = sysroot_read(NULL, "/proc/%ld/mountinfo", pid);
		if (text)
			m->pid = pid;
	}
	if (!text)
		text = sysroot_read(NULL, "/proc/self/mountinfo");
	if (!text)
		return false;
	mounts_parse(m, text);
	free(text);
	return true;
}

void mounts_free(struct mounts *m)
{
	size_t i;

	for (i = 0; i < m->nr; i++) {
		free(m->list[i].dir);
		free(m->list[i].fs);
		free(m->list[i].source);
		free(m->list[i].options);
	}
	free(m->list);
	*m = (struct mounts){ 0 };
}

/* The deepest; of several at one place the last, which hides the others */
static const struct mount *mount_of(const struct mounts *m, const char *path)
{
	const struct mount *found = NULL;
	size_t i, len, best = 0;

	for (i = 0; i < m->nr; i++) {
		const char *dir = m->list[i].dir;

		len = strcmp(dir, "/") ? strlen(dir) : 0;
		if (len >= best && !strncmp(path, dir, len) &&
		    (path[len] == '/' || !path[len])) {
			found = &m->list[i];
			best = len;
		}
	}
	return found;
}

/* The value of an option, "" if it has none; NULL if it is not there */
static char *mount_option(const struct mount *mount, const char *name)
{
	char *copy = xstrdup(mount->options), *at = copy, *word, *value = NULL;
	size_t len = strlen(name);

	while (!value && (word = strsep(&at, ",")))
		if (!strncmp(word, name, len) &&
		    (!word[len] || word[len] == '='))
			value = unescape(xstrdup(word + len + !!word[len]));
	free(copy);
	return value;
}

static bool fs_is(const struct mount *mount, const char *names)
{
	size_t len = strlen(mount->fs);
	const char *at = names;

	while (len && (at = strstr(at, mount->fs))) {
		if ((at == names || at[-1] == ' ') &&
		    (at[len] == ' ' || !at[len]))
			return true;
		at++;
	}
	return false;
}

/*
 * Without an option, or with dax=inode, it is a matter of the file, or of the
 * folder that it is made in.
 */
static bool is_dax(const struct mount *mount, const char *real)
{
	char *dax = mount_option(mount, "dax");
	bool always = dax && (!*dax || !strcmp(dax, "always"));
	bool never = dax && !strcmp(dax, "never");
	struct fsxattr attr;
	struct statx stx;
	struct stat st;
	int fd;

	free(dax);
	if (always || never || !real)
		return always;
	if (!statx(AT_FDCWD, real, 0, 0, &stx) &&
	    stx.stx_attributes & stx.stx_attributes_mask & STATX_ATTR_DAX)
		return true;
	/* No other file is opened: devices might act on it */
	if (stat(real, &st) || !S_ISDIR(st.st_mode))
		return false;
	fd = open(real, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (fd < 0)
		return false;
	if (!ioctl(fd, FS_IOC_FSGETXATTR, &attr))
		always = attr.fsx_xflags & FS_XFLAG_DAX;
	close(fd);
	return always;
}

static enum file_kind fs_kind(const struct mounts *m, const struct mount *mount,
			      const char *path, const char *real, int depth)
{
	enum file_kind kind;
	char *upper;

	if (fs_is(mount, "tmpfs ramfs hugetlbfs"))
		return FILE_MEMORY;
	if (fs_is(mount, "devtmpfs"))
		return strncmp(path, "/dev/dax", 8) ? FILE_DISK : FILE_DEVDAX;
	/* What is written there is on another one */
	if (fs_is(mount, "overlay") && depth < 4) {
		upper = mount_option(mount, "upperdir");
		mount = upper ? mount_of(m, upper) : NULL;
		kind = mount ? fs_kind(m, mount, upper, NULL, depth + 1) :
			       FILE_UNKNOWN;
		free(upper);
		return kind == FILE_UNKNOWN ? FILE_TRACKED : kind;
	}
	return is_dax(mount, real) ? FILE_DAX : FILE_TRACKED;
}

/* The folder above, in place; false if there is none */
static bool cut_last(char *path)
{
	char *slash = strrchr(path, '/');

	if (!slash || slash == path)
		return false;
	*slash = '\0';
	return true;
}

/*
 * Where @path is on the running system, through links and up to a folder that is
 * there; NULL: nowhere, or it is another system's.
 */
static char *real_path(const struct mounts *m, const char *path)
{
	char *at, *real = NULL;

	if (*sysroot)
		return NULL;
	at = m->pid ? xasprintf("/proc/%ld/root%s", m->pid, path) :
		      xstrdup(path);
	do {
		/* /proc/PID/root is a link itself, to / as it looks from here */
		real = m->pid ? (access(at, F_OK) ? NULL : xstrdup(at)) :
				realpath(at, NULL);
	} while (!real && cut_last(at));
	free(at);
	return real;
}

struct memfile memfile_look(const struct mounts *m, const char *path)
{
	struct memfile f = { 0 };
	const struct mount *mount;
	char *real, *full;
	struct stat st;

	if (*path != '/')
		return f;
	real = real_path(m, path);
	mount = mount_of(m, real && !m->pid ? real : path);
	if (mount) {
		f.fs = mount->fs;
		f.kind = fs_kind(m, mount, path, real, 0);
	}
	free(real);

	full = m->pid && !*sysroot ?
		xasprintf("/proc/%ld/root%s", m->pid, path) :
		sysroot_path("%s", path);
	if (!stat(full, &st)) {
		f.maker = S_ISDIR(st.st_mode) ? MAKER_QEMU : MAKER_OTHER;
		if (S_ISBLK(st.st_mode))
			f.kind = FILE_DISK;
		else if (S_ISCHR(st.st_mode))
			f.kind = strncmp(path, "/dev/dax", 8) ? FILE_UNKNOWN :
								FILE_DEVDAX;
	} else if (errno == ENOENT && !*sysroot) {
		f.maker = MAKER_QEMU;
	}
	free(full);
	return f;
}

const char *hugetlbfs_dir(const struct mounts *m, uint64_t pagesize)
{
	const char *found = NULL;
	uint64_t size;
	char *value;
	size_t i;

	for (i = 0; i < m->nr && !found; i++) {
		if (strcmp(m->list[i].fs, "hugetlbfs"))
			continue;
		value = mount_option(&m->list[i], "pagesize");
		if (!pagesize || (value && parse_size(value, 'B', &size) &&
				  size == pagesize))
			found = m->list[i].dir;
		free(value);
	}
	return found;
}
