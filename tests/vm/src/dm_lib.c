// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "dm_lib.h"
#include "util.h"

/* Of the last call, and its answer */
static union {
	struct dm_ioctl io;
	char room[4096];
} c;

static int dm_call(unsigned long call, const char *name, uint32_t flags,
		   const struct part *part, int n, dev_t *dev)
{
	char *at = c.room + sizeof(c.io);
	uint64_t start = 0;
	int fd, ret;

	memset(&c, 0, sizeof(c));
	c.io.version[0] = DM_VERSION_MAJOR;
	c.io.data_size = sizeof(c);
	c.io.data_start = sizeof(c.io);
	c.io.flags = flags;
	c.io.target_count = n;
	strcpy(c.io.name, name);
	for (; n--; part++) {
		struct dm_target_spec *spec = (void *)at;

		spec->sector_start = start;
		spec->length = part->sectors;
		strcpy(spec->target_type, part->target);
		strcpy(at + sizeof(*spec), part->how);
		spec->next = ROUND_UP(sizeof(*spec) + strlen(part->how) + 1, 8);
		at += spec->next;
		start += part->sectors;
	}
	fd = open("/dev/mapper/control", O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	ret = ioctl(fd, call, &c) ? -errno : 0;
	close(fd);
	if (dev)
		*dev = c.io.dev;
	return ret;
}

int dm_suspend(const char *name)
{
	return dm_call(DM_DEV_SUSPEND, name,
		       DM_SUSPEND_FLAG | DM_SKIP_LOCKFS_FLAG, NULL, 0, NULL);
}

int dm_resume(const char *name)
{
	return dm_call(DM_DEV_SUSPEND, name, 0, NULL, 0, NULL);
}

int dm_status(const char *name, const char *target, char *text, size_t size)
{
	int ret = dm_call(DM_TABLE_STATUS, name, 0, NULL, 0, NULL);
	struct dm_target_spec *spec;
	uint32_t at = c.io.data_start, i;

	for (i = 0; !ret && i < c.io.target_count; i++) {
		spec = (void *)(c.room + at);
		if (!strcmp(spec->target_type, target)) {
			snprintf(text, size, "%s", (char *)(spec + 1));
			return 0;
		}
		/* From the first one on */
		at = c.io.data_start + spec->next;
	}
	return ret ?: -ENOENT;
}

void dm_remove(const char *name)
{
	dm_call(DM_DEV_REMOVE, name, 0, NULL, 0, NULL);
}

int dm_load(const char *name, const struct part *part, int n)
{
	int ret = dm_call(DM_TABLE_LOAD, name, 0, part, n, NULL);

	if (!ret)
		ret = dm_suspend(name);
	if (!ret)
		ret = dm_resume(name);
	return ret;
}

int dm_make(const char *name, const struct part *part, int n, char *path)
{
	dev_t dev;
	int ret;

	ret = dm_call(DM_DEV_CREATE, name, 0, NULL, 0, &dev);
	if (ret)
		return ret;
	snprintf(path, 32, "/dev/dm-%u", minor(dev));
	ret = dm_load(name, part, n);
	if (ret)
		dm_remove(name);
	return ret;
}
