// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <stdio.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "mdev_lib.h"
#include "util.h"

#define CREATE "/sys/class/pin_caller/pin_caller/mdev_supported_types/pin_caller-pin/create"

bool mdev_supported(void)
{
	return file_exists(CREATE);
}

int mdev_create(char uuid[UUID_SIZE])
{
	static unsigned int nr;

	snprintf(uuid, UUID_SIZE, "01234567-89ab-cdef-%04x-%012d",
		 ++nr & 0xffff, getpid());
	return write_text(CREATE, uuid);
}

int mdev_remove(const char *uuid)
{
	char path[128];

	snprintf(path, sizeof(path), "/sys/bus/mdev/devices/%s/remove", uuid);
	return write_text(path, "1");
}

static int call(int fd, unsigned long what, uint64_t iova, unsigned int npages,
		unsigned int flags)
{
	struct pin_caller_range range = { iova, npages, flags };
	int ret = ioctl(fd, what, &range);

	return ret < 0 ? -errno : ret;
}

int pc_pin(int fd, uint64_t iova, unsigned int npages, unsigned int flags)
{
	return call(fd, PIN_CALLER_PIN, iova, npages, flags);
}

int pc_unpin(int fd, uint64_t iova, unsigned int npages)
{
	return call(fd, PIN_CALLER_UNPIN, iova, npages, 0);
}

int pc_copy(int fd, uint64_t iova, void *data, unsigned int len,
	    unsigned int flags)
{
	struct pin_caller_copy arg = { iova, (uintptr_t)data, len, flags };

	return ioctl(fd, PIN_CALLER_COPY, &arg) < 0 ? -errno : 0;
}

int pc_keep(int fd, bool keep)
{
	return ioctl(fd, PIN_CALLER_KEEP, (unsigned long)keep) < 0 ? -errno : 0;
}

int pc_stat(int fd, struct pin_caller_stat *stat)
{
	return ioctl(fd, PIN_CALLER_STAT, stat) < 0 ? -errno : 0;
}
