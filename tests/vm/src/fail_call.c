// SPDX-License-Identifier: GPL-2.0
/*
 * For LD_PRELOAD: the Nth call of a function fails.
 *
 *	FAIL_CALL=pwrite:3:ENOSPC	one of pread, pwrite, mmap_fixed, batch_end
 *
 * mmap_fixed: mmap() with MAP_FIXED of a file that may be written and is shared,
 * over what was mapped before; it unmaps that, as a real failure may.
 * batch_end: the write() that ends a batch of vhost's maps.
 */
#include <dlfcn.h>
#include <errno.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include <linux/vhost_types.h>

static bool fails(const char *name)
{
	static int calls;
	const char *order = getenv("FAIL_CALL");
	size_t len = strlen(name);

	if (!order || strncmp(order, name, len) || order[len] != ':' ||
	    ++calls != atoi(order + len + 1))
		return false;
	order = strrchr(order, ':') + 1;
	errno = !strcmp(order, "ENOSPC") ? ENOSPC : !strcmp(order, "ENOMEM") ? ENOMEM : EIO;
	return true;
}

#define NEXT(name) ((typeof(&name))dlsym(RTLD_NEXT, #name))

/* What _FILE_OFFSET_BITS=64 and _FORTIFY_SOURCE call */
ssize_t __pread64_chk(int fd, void *buf, size_t size, off64_t at, size_t room)
{
	(void)room;
	return pread64(fd, buf, size, at);
}

ssize_t pread64(int fd, void *buf, size_t size, off64_t at)
{
	return fails("pread") ? -1 : NEXT(pread64)(fd, buf, size, at);
}

ssize_t pwrite64(int fd, const void *buf, size_t size, off64_t at)
{
	return fails("pwrite") ? -1 : NEXT(pwrite64)(fd, buf, size, at);
}

ssize_t write(int fd, const void *buf, size_t size)
{
	struct vhost_msg_v2 msg = {};

	if (size == sizeof(msg))
		memcpy(&msg, buf, size);
	if (msg.type == VHOST_IOTLB_MSG_V2 && msg.iotlb.type == VHOST_IOTLB_BATCH_END && fails("batch_end"))
		return -1;
	return NEXT(write)(fd, buf, size);
}

void *mmap64(void *addr, size_t size, int prot, int flags, int fd, off64_t at)
{
	static char old[1];

	/* Over what is mapped already: it is resident or not, but there */
	if (flags & MAP_FIXED && flags & MAP_SHARED && prot & PROT_WRITE && fd >= 0 &&
	    !msync(addr, getpagesize(), MS_ASYNC) && !madvise(addr, getpagesize(), MADV_NORMAL) &&
	    !mincore(addr, getpagesize(), (void *)old) && *old & 1 && fails("mmap_fixed")) {
		int err = errno;

		munmap(addr, size);
		errno = err;
		return MAP_FAILED;
	}
	return NEXT(mmap64)(addr, size, prot, flags, fd, at);
}
