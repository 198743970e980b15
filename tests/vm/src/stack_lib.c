// SPDX-License-Identifier: GPL-2.0
#include <dirent.h>
#include <endian.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/major.h>
#include <linux/raid/md_p.h>
#include <linux/raid/md_u.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "dm_lib.h"
#include "hold_lib.h"
#include "stack_lib.h"
#include "util.h"

static int write_all(const char *path, uint64_t pages)
{
	int fd = open(path, O_WRONLY | O_DIRECT | O_CLOEXEC), ret = 0;
	char *zeroes = small_pages(MB);
	uint64_t at, n;

	if (fd < 0)
		return -errno;
	for (at = 0; !ret && at < pages * PAGE; at += n) {
		n = pages * PAGE - at < MB ? pages * PAGE - at : MB;
		if (pwrite(fd, zeroes, n, at) != (ssize_t)n)
			ret = -errno;
	}
	close(fd);
	return ret;
}

/* --- dm-integrity ----------------------------------------------------------------- */

/* Its superblock: magic, version, and where it says how large it is */
static int integrity_size(uint64_t *sectors)
{
	int fd = open(target_path(), O_RDONLY | O_DIRECT | O_CLOEXEC), ret;
	char *super = small_pages(PAGE);
	uint64_t n;

	ret = pread(fd, super, PAGE, 0) == PAGE ? 0 : -EIO;
	close(fd);
	memcpy(&n, super + 16, sizeof(n));
	*sectors = le64toh(n);
	return ret ?: memcmp(super, "integrt", 8) ? -EINVAL : 0;
}

static int integrity_open(char *path)
{
	struct part part = { 1, "integrity", "" };
	int ret;

	snprintf(part.how, sizeof(part.how), "%s 0 4 D 1 internal_hash:crc32c", target_path());
	/* It makes a superblock where there are zeroes */
	ret = write_all(target_path(), 1) ?: dm_make("integrity", &part, 1, path);
	if (ret)
		return ret;
	dm_remove("integrity");
	ret = integrity_size(&part.sectors);
	/* Whole pages; each sector has a checksum when it has been written to */
	part.sectors &= ~(PAGE / SECTOR - 1);
	return ret ?: dm_make("integrity", &part, 1, path) ?:
		write_all(path, part.sectors * SECTOR / PAGE);
}

/* --- scsi_debug ------------------------------------------------------------------- */

#define SCSI_DEBUG	"/sys/bus/pseudo/drivers/scsi_debug/"

static bool disk_appeared(void *path)
{
	static const char dir[] = "/sys/bus/pseudo/drivers/scsi_debug/adapter0/host0/target0:0:0/0:0:0:0/block";
	struct dirent *e;
	DIR *d = opendir(dir);

	if (!d)
		return false;
	while ((e = readdir(d))) {
		if (*e->d_name != '.')
			snprintf(path, 32, "/dev/%.20s", e->d_name);
	}
	closedir(d);
	return *(char *)path && file_exists(path);
}

static int scsi_debug_open(const char *with, char *path)
{
	char command[200];

	snprintf(command, sizeof(command),
		 "insmod %s/drivers/scsi/scsi_debug.ko %s max_queue=1 delay=0",
		 getenv("USERPIN_OBJ"), with);
	if (system(command))
		return -ENODEV;
	*path = 0;
	return wait_for(disk_appeared, path) ? 0 : -ENODEV;
}

int stack_slow(unsigned int jiffies)
{
	char text[12];

	snprintf(text, sizeof(text), "%u", jiffies);
	return write_text(SCSI_DEBUG "delay", text);
}

/* --- md --------------------------------------------------------------------------- */

#define MD		"/dev/md0"
#define MD_SYS		"/sys/block/md0/md/"
#define CHUNK		(64 * KB)

uint64_t stack_leg(enum stack stack)
{
	return target_pages() / (stack == RAID1 ? 2 : 3);
}

uint64_t stack_stripe(uint64_t page)
{
	uint64_t chunk = CHUNK / PAGE;

	return page / (2 * chunk) * chunk + page % chunk;
}

static int md_open(enum stack stack, char *path)
{
	int legs = stack == RAID1 ? 2 : 3, i, ret = 0, fd;
	uint64_t pages = stack_leg(stack);
	mdu_array_info_t info = {
		.minor_version = 90,
		.level = stack == RAID1 ? 1 : 5,
		/* KiB; its superblock is behind that */
		.size = (pages * PAGE - 2 * MD_RESERVED_BYTES) / CHUNK * CHUNK / KB,
		.nr_disks = legs,
		.raid_disks = legs,
		.state = 1 << MD_SB_CLEAN,
		.active_disks = legs,
		.working_disks = legs,
		.layout = stack == RAID1 ? 0 : 2,
		.chunk_size = stack == RAID1 ? 0 : CHUNK,
	};
	struct stat st;

	write_text("/sys/module/md_mod/parameters/new_array", "md0");
	fd = open(MD, O_RDWR | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	if (ioctl(fd, SET_ARRAY_INFO, &info))
		ret = -errno;
	for (i = 0; i < legs && !ret; i++) {
		struct part part = { pages * PAGE / SECTOR, "linear", "" };
		char name[8], leg[32];

		snprintf(name, sizeof(name), "leg%d", i);
		snprintf(part.how, sizeof(part.how), "%s %llu", target_path(),
			 i * (unsigned long long)part.sectors);
		ret = dm_make(name, &part, 1, leg);
		if (!ret && !stat(leg, &st)) {
			mdu_disk_info_t disk = {
				.number = i,
				.raid_disk = i,
				.major = major(st.st_rdev),
				.minor = minor(st.st_rdev),
				.state = 1 << MD_DISK_ACTIVE | 1 << MD_DISK_SYNC,
			};

			ret = ioctl(fd, ADD_NEW_DISK, &disk) ? -errno : 0;
		}
	}
	if (!ret && ioctl(fd, RUN_ARRAY, NULL))
		ret = -errno;
	close(fd);
	/* What is to be written has not to wait until all legs know that it is */
	ret = ret ?: write_text(MD_SYS "safe_mode_delay", "0");
	if (stack == RAID5)
		ret = ret ?: write_text(MD_SYS "skip_copy", "1");
	strcpy(path, MD);
	return ret;
}

static bool md_stopped(void *arg)
{
	int fd = open(MD, O_RDONLY | O_CLOEXEC), ret;

	(void)arg;
	ret = ioctl(fd, STOP_ARRAY, NULL);
	close(fd);
	return !ret;
}

static void md_close(enum stack stack)
{
	wait_for(md_stopped, NULL);
	dm_remove("leg0");
	dm_remove("leg1");
	if (stack == RAID5)
		dm_remove("leg2");
}

int stack_open(enum stack stack, char *path)
{
	switch (stack) {
	case INTEGRITY:
		return integrity_open(path);
	case T10_PI:
		return scsi_debug_open("dev_size_mb=64 dif=1 dix=1", path);
	case ZONED:
		return scsi_debug_open("dev_size_mb=256 zbc=managed zone_size_mb=4", path);
	case RAID1:
	case RAID5:
		return md_open(stack, path);
	default:
		strcpy(path, target_path());
		return 0;
	}
}

void stack_close(enum stack stack)
{
	switch (stack) {
	case INTEGRITY:
		dm_remove("integrity");
		break;
	case T10_PI:
	case ZONED:
		if (system("rmmod scsi_debug"))
			fprintf(stderr, "scsi_debug is in use\n");
		break;
	case RAID1:
	case RAID5:
		md_close(stack);
		break;
	default:
		break;
	}
}
