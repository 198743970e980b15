// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "dm_lib.h"
#include "hold_lib.h"
#include "util.h"

/* Milliseconds that no test lasts */
#define FOR_EVER	"3600000"
#define PAGE_SECTORS	(PAGE / SECTOR)

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

int target_hold(uint64_t page, uint64_t pages)
{
	uint64_t start = page * PAGE_SECTORS, end = start + pages * PAGE_SECTORS;
	struct part part[3];
	int n = 0;

	if (end > target_sectors)
		end = target_sectors;
	if (start)
		part[n++] = target_part(0, start, false);
	part[n++] = target_part(start, end - start, true);
	if (end < target_sectors)
		part[n++] = target_part(end, target_sectors - end, false);
	return dm_load("target", part, n);
}

int target_release(void)
{
	struct part all = target_part(0, target_sectors, false);

	return dm_load("target", &all, 1);
}

uint64_t target_pages(void)
{
	return target_sectors / PAGE_SECTORS;
}

unsigned int target_held(void)
{
	unsigned int writes;
	char text[64];

	if (dm_status("target", "delay", text, sizeof(text)) ||
	    sscanf(text, "%*u %u", &writes) != 1)
		return 0;
	return writes;
}
