// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <linux/dm-ioctl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "hold_lib.h"
#include "util.h"

/* Milliseconds that no test lasts */
#define FOR_EVER	"3600000"
#define PAGE_SECTORS	(PAGE / SECTOR)

/* --- Device mapper -------------------------------------------------------------- */

struct part {
	uint64_t sectors;
	const char *target;
	char how[280];
};

static int dm_call(unsigned long call, const char *name, uint32_t flags,
		   const struct part *part, int n, dev_t *dev)
{
	static union {
		struct dm_ioctl io;
		char room[4096];
	} c;
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

/* Waits for what is on its way, and has the target let go what it holds */
static int dm_suspend(const char *name)
{
	return dm_call(DM_DEV_SUSPEND, name,
		       DM_SUSPEND_FLAG | DM_SKIP_LOCKFS_FLAG, NULL, 0, NULL);
}

static int dm_resume(const char *name)
{
	return dm_call(DM_DEV_SUSPEND, name, 0, NULL, 0, NULL);
}

static void dm_remove(const char *name)
{
	dm_call(DM_DEV_REMOVE, name, 0, NULL, 0, NULL);
}

static int dm_load(const char *name, const struct part *part, int n)
{
	int ret = dm_call(DM_TABLE_LOAD, name, 0, part, n, NULL);

	if (!ret)
		ret = dm_suspend(name);
	if (!ret)
		ret = dm_resume(name);
	return ret;
}

/* In @path, of 32 bytes, where it is then */
static int dm_make(const char *name, const struct part *part, int n, char *path)
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

/* --- The source ------------------------------------------------------------------ */

/* Two parts of a disk, each behind a device that holds it, one behind the other */
struct halves {
	const char *name, *half[2];
};

static const struct halves source_halves = { "source", { "page0", "page1" } };
static const struct halves wide_halves = { "wide", { "wide0", "wide1" } };
static char source_disk[64], source[32];

static int halves_open(const struct halves *h, const char *disk, uint64_t sectors, char *at)
{
	struct part both[2], one = { sectors, "delay", "" };
	char path[32];
	int i, ret;

	for (i = 0; i < 2; i++) {
		snprintf(one.how, sizeof(one.how), "%s %lu " FOR_EVER, disk,
			 i * sectors);
		ret = dm_make(h->half[i], &one, 1, path);
		if (ret)
			return ret;
		both[i] = (struct part){ sectors, "linear", "" };
		snprintf(both[i].how, sizeof(both[i].how), "%s 0", path);
	}
	return dm_make(h->name, both, 2, at);
}

static void halves_close(const struct halves *h)
{
	dm_remove(h->name);
	dm_remove(h->half[0]);
	dm_remove(h->half[1]);
}

static int half_release(const struct halves *h, int i)
{
	int ret = dm_suspend(h->half[i]);

	return ret ?: dm_resume(h->half[i]);
}

int source_open(const char *disk)
{
	snprintf(source_disk, sizeof(source_disk), "%s", disk);
	return halves_open(&source_halves, disk, PAGE_SECTORS, source);
}

void source_close(void)
{
	halves_close(&source_halves);
}

const char *source_path(void)
{
	return source;
}

int source_fill(const void *pages)
{
	int fd = open(source_disk, O_WRONLY | O_DIRECT | O_CLOEXEC), ret = 0;

	if (fd < 0)
		return -errno;
	if (pwrite(fd, pages, 2 * PAGE, 0) != 2 * PAGE)
		ret = -EIO;
	close(fd);
	return ret;
}

int source_release(int page)
{
	return half_release(&source_halves, page);
}

int wide_open(const char *disk, char path[32])
{
	return halves_open(&wide_halves, disk, WIDE / SECTOR, path);
}

void wide_close(void)
{
	halves_close(&wide_halves);
}

int wide_release(int half)
{
	return half_release(&wide_halves, half);
}

/* --- The target ------------------------------------------------------------------ */

static char target_disk[64], target[32];
static uint64_t target_sectors;

static struct part target_part(uint64_t start, uint64_t sectors, bool held)
{
	struct part p = { sectors, held ? "delay" : "linear", "" };

	/* Where and how long: reads, writes, flushes */
	if (held)
		snprintf(p.how, sizeof(p.how),
			 "%s %lu 0 %s %lu " FOR_EVER " %s %lu 0", target_disk,
			 start, target_disk, start, target_disk, start);
	else
		snprintf(p.how, sizeof(p.how), "%s %lu", target_disk, start);
	return p;
}

int target_open(const char *disk)
{
	struct part all;
	uint64_t bytes;
	int fd, ret = 0;

	snprintf(target_disk, sizeof(target_disk), "%s", disk);
	fd = open(disk, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, BLKGETSIZE64, &bytes))
		ret = -errno;
	close(fd);
	if (ret)
		return ret;
	target_sectors = bytes / SECTOR;
	all = target_part(0, target_sectors, false);
	return dm_make("target", &all, 1, target);
}

void target_close(void)
{
	dm_remove("target");
}

const char *target_path(void)
{
	return target;
}

int target_hold(uint64_t page)
{
	uint64_t start = page * PAGE_SECTORS, end = start + PAGE_SECTORS;
	struct part part[3];
	int n = 0;

	if (start)
		part[n++] = target_part(0, start, false);
	part[n++] = target_part(start, PAGE_SECTORS, true);
	if (end < target_sectors)
		part[n++] = target_part(end, target_sectors - end, false);
	return dm_load("target", part, n);
}

int target_release(void)
{
	struct part all = target_part(0, target_sectors, false);

	return dm_load("target", &all, 1);
}
