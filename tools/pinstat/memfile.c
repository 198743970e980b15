// SPDX-License-Identifier: GPL-2.0
#include "memfile.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <libmount.h>
#include <limits.h>
#include <linux/fs.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include "pins.h"
#include "props.h"
#include "sysroot.h"

/* Lines that are not understood are left out, and told by nobody */
static int skip_line(struct libmnt_table *table, const char *file, int line)
{
	(void)table;
	(void)file;
	(void)line;
	return 1;
}

static void mounts_parse(struct mounts *m, FILE *f, const char *name)
{
	m->table = mnt_new_table();
	if (!m->table)
		err(2, "no memory");
	mnt_table_set_parser_errcb(m->table, skip_line);
	mnt_table_parse_stream(m->table, f, name);
	fclose(f);
}

bool mounts_read(struct mounts *m, long pid)
{
	char *path = NULL;
	FILE *f = NULL;

	*m = (struct mounts){ 0 };
	/* libvirt's QEMUs have mounts of their own */
	if (pid) {
		path = sysroot_path("/proc/%ld/mountinfo", pid);
		f = fopen(path, "re");
		if (f)
			m->pid = pid;
	}
	if (!f) {
		free(path);
		path = sysroot_path("/proc/self/mountinfo");
		f = fopen(path, "re");
	}
	if (f)
		mounts_parse(m, f, "mountinfo");
	free(path);
	return f;
}

void mounts_of_text(struct mounts *m, char *text, size_t len)
{
	FILE *f = fmemopen(text, len, "r");

	*m = (struct mounts){ 0 };
	if (!f)
		err(2, "no memory");
	mounts_parse(m, f, "mountinfo");
}

void mounts_free(struct mounts *m)
{
	mnt_unref_table(m->table);
	*m = (struct mounts){ 0 };
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
 * The deepest; of several at one place the last, which hides the others. Not by
 * mnt_table_find_mountpoint(), which looks at this system's folders.
 */
static struct libmnt_fs *mount_of(const struct mounts *m, const char *path)
{
	char *at = xstrdup(path);
	struct libmnt_fs *found;

	do
		found = mnt_table_find_target(m->table, at, MNT_ITER_BACKWARD);
	while (!found && cut_last(at));
	free(at);
	return found ?: mnt_table_find_target(m->table, "/", MNT_ITER_BACKWARD);
}

/* The value of an option, "" if it has none; NULL if it is not there */
static char *mount_option(struct libmnt_fs *mount, const char *name)
{
	char *value = NULL, *copy;
	size_t len = 0;

	if (mnt_fs_get_option(mount, name, &value, &len))
		return NULL;
	copy = strndup(value ?: "", len);
	if (!copy)
		err(2, "no memory");
	return copy;
}

static bool fs_is(struct libmnt_fs *mount, const char *names)
{
	const char *fs = mnt_fs_get_fstype(mount) ?: "", *at = names;
	size_t len = strlen(fs);

	while (len && (at = strstr(at, fs))) {
		if ((at == names || at[-1] == ' ') &&
		    (at[len] == ' ' || !at[len]))
			return true;
		at++;
	}
	return false;
}

/* What there is at a path. Only a child looks, as the path may lead to any file system */
struct seen {
	char real[PATH_MAX];	/* "": nowhere, or it is another system's */
	bool dax;		/* the file there says so, or its folder */
	int error;		/* of stat() */
	mode_t mode;
	uint64_t blocks;
};

/* Says the file, or the folder that it is made in, that it is for DAX? */
static bool has_dax(const char *real)
{
	struct fsxattr attr;
	struct statx stx;
	struct stat st;
	bool dax = false;
	int fd;

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
		dax = attr.fsx_xflags & FS_XFLAG_DAX;
	close(fd);
	return dax;
}

/* Without an option, or with dax=inode, it is a matter of the file */
static bool is_dax(struct libmnt_fs *mount, const struct seen *seen)
{
	char *dax = mount_option(mount, "dax");
	bool always = dax && (!*dax || !strcmp(dax, "always"));
	bool never = dax && !strcmp(dax, "never");

	free(dax);
	return always || (!never && seen && seen->dax);
}

static enum file_kind fs_kind(const struct mounts *m, struct libmnt_fs *mount,
			      const char *path, const struct seen *seen,
			      int depth)
{
	enum file_kind kind;
	char *upper;

	if (fs_is(mount, "tmpfs ramfs hugetlbfs"))
		return FILE_MEMORY;
	/* Which kind of device it is, its node says, if that is there */
	if (fs_is(mount, "devtmpfs"))
		return strncmp(path, "/dev/dax", 8) ? FILE_DEVICE : FILE_DEVDAX;
	/* What is written there is on another one */
	if (fs_is(mount, "overlay") && depth < 4) {
		upper = mount_option(mount, "upperdir");
		mount = upper ? mount_of(m, upper) : NULL;
		kind = mount ? fs_kind(m, mount, upper, NULL, depth + 1) :
			       FILE_UNKNOWN;
		free(upper);
		return kind == FILE_UNKNOWN ? FILE_TRACKED : kind;
	}
	return is_dax(mount, seen) ? FILE_DAX : FILE_TRACKED;
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

/* As the processes of these mounts see it; for free() */
static char *outside_path(const struct mounts *m, const char *path)
{
	return m->pid && !*sysroot ?
		xasprintf("/proc/%ld/root%s", m->pid, path) :
		sysroot_path("%s", path);
}

struct look {
	const struct mounts *mounts;
	const char *path;
};

static void look(void *answer, const void *arg)
{
	const struct look *l = arg;
	struct seen *seen = answer;
	struct stat st;
	char *path;

	path = real_path(l->mounts, l->path);
	if (path && strlen(path) < sizeof(seen->real)) {
		strcpy(seen->real, path);
		seen->dax = has_dax(path);
	}
	free(path);
	path = outside_path(l->mounts, l->path);
	seen->error = stat(path, &st) ? errno : 0;
	free(path);
	if (!seen->error) {
		seen->mode = st.st_mode;
		seen->blocks = st.st_blocks;
	}
}

static void file_seen(struct memfile *f, const struct seen *seen,
		      const char *path)
{
	if (seen->error) {
		if (seen->error == ENOENT && !*sysroot)
			f->maker = MAKER_QEMU;
		return;
	}
	f->maker = S_ISDIR(seen->mode) ? MAKER_QEMU : MAKER_OTHER;
	if (S_ISREG(seen->mode))
		f->there = multiply_counts(seen->blocks, 512);
	else if (S_ISBLK(seen->mode))
		f->kind = FILE_DISK;
	else if (S_ISCHR(seen->mode))
		f->kind = strncmp(path, "/dev/dax", 8) ? FILE_DEVICE :
							 FILE_DEVDAX;
}

struct memfile memfile_look(const struct mounts *m, const char *path)
{
	const struct look what = { m, path };
	struct seen seen = { .error = EIO };
	struct memfile f = { 0 };
	struct libmnt_fs *mount;
	const char *name;
	char *value;

	if (*path != '/')
		return f;
	/* A record answers */
	if (*sysroot)
		look(&seen, &what);
	else if (!in_time(&seen, sizeof(seen), PATIENCE, look, &what))
		f.late = true;
	mount = mount_of(m, *seen.real && !m->pid ? seen.real : path);
	if (mount) {
		name = mnt_fs_get_fstype(mount) ?: "";
		f.fs = escape(name, strlen(name));
		f.dir = xstrdup(mnt_fs_get_target(mount) ?: "");
		if (!f.late)
			f.kind = fs_kind(m, mount, path, &seen, 0);
		value = mount_option(mount, "pagesize");
		if (value && !parse_size(value, 'B', &f.pagesize))
			f.pagesize = 0;
		free(value);
	}
	file_seen(&f, &seen, path);
	return f;
}

void memfile_free(struct memfile *f)
{
	free(f->fs);
	free(f->dir);
	*f = (struct memfile){ 0 };
}

/* A line of a record's file statfs: the folder as in mountinfo, its size, and what is free */
static bool recorded_room(const char *dir, uint64_t *bytes)
{
	char *text = sysroot_read(NULL, "/statfs"), *at = text, *line, *word;
	bool found = false;
	char *mount;

	while (!found && (line = strsep(&at, "\n"))) {
		word = strrchr(line, ' ');
		if (!word || !parse_number(word + 1, bytes))
			continue;
		*word = '\0';
		word = strrchr(line, ' ');
		if (!word)
			continue;
		*word = '\0';
		mount = mnt_unmangle(line);
		found = mount && !strcmp(mount, dir);
		free(mount);
	}
	free(text);
	return found;
}

#define NO_LIMIT	UINT64_MAX

static void ask_room(void *answer, const void *dir)
{
	uint64_t *bytes = answer;
	struct statvfs st;

	*bytes = statvfs(dir, &st) || !st.f_blocks ? NO_LIMIT :
		 multiply_counts(st.f_bavail, st.f_frsize);
}

bool memfile_room(const struct mounts *m, const struct memfile *f,
		  uint64_t *bytes)
{
	char *full;
	bool ok;

	/* No other file system is asked: a server may not answer */
	if (!f->fs || strcmp(f->fs, "tmpfs"))
		return false;
	if (*sysroot)
		return recorded_room(f->dir, bytes);
	full = outside_path(m, f->dir);
	/* The way to it may lead through others. Without blocks it has no limit */
	ok = in_time(bytes, sizeof(*bytes), PATIENCE, ask_room, full) &&
	     *bytes != NO_LIMIT;
	free(full);
	return ok;
}

char *mount_dir(const struct mounts *m, const char *fs, uint64_t pagesize)
{
	struct libmnt_iter *iter = mnt_new_iter(MNT_ITER_FORWARD);
	struct libmnt_fs *mount;
	char *value, *found = NULL;
	uint64_t size;

	if (!iter)
		err(2, "no memory");
	while (!found && !mnt_table_next_fs(m->table, iter, &mount)) {
		if (!fs_is(mount, fs))
			continue;
		value = mount_option(mount, "pagesize");
		if (!pagesize || (value && parse_size(value, 'B', &size) &&
				  size == pagesize))
			found = xstrdup(mnt_fs_get_target(mount) ?: "");
		free(value);
	}
	mnt_free_iter(iter);
	return found;
}
