// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <linux/mman.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>
#include <unistd.h>

#include "backing.h"
#include "util.h"

#ifndef STATX_ATTR_DAX
#define STATX_ATTR_DAX		0x00200000
#endif
#ifndef MADV_POPULATE_READ
#define MADV_POPULATE_READ	22
#endif

#define SMALL	(64 * KB)

#define SH	HOW_SHARED
#define RO	HOW_RO
#define DAX	HOW_DAX

#define ROW(_name, _access, _kind, _how, _flags, _size, _folio, _err,	\
	    _reason, _stock, _where)					\
	{ .name = _name, .access = _access, .kind = _kind, .how = _how,	\
	  .flags = _flags, .size = _size, .folio = _folio, .err = _err,	\
	  .reason = _reason, .stock = _stock, .where = _where }

#define ANY	0	/* folios of a size that the file system chooses */

const struct backing backing_table[] = {
	ROW("anon-4k", "private", ANON, 0, MAP_RW,
	    SMALL, PAGE, 0, NO_REASON, "ok", NULL),
	ROW("anon-ro", "private r/o", ANON, RO, MAP_RW,
	    SMALL, PAGE, EFAULT, FAULT, "EFAULT", NULL),
	ROW("thp", "private", THP, 0, MAP_RW,
	    4 * MB, 2 * MB, 0, NO_REASON, "ok", NULL),
	ROW("hugetlb-2m", "shared", HUGETLB, SH, MAP_RW,
	    4 * MB, 2 * MB, 0, NO_REASON, "ok", "USERPIN_HUGE2M"),
	ROW("hugetlb-1g", "shared", HUGETLB, SH, MAP_RW,
	    GB, GB, 0, NO_REASON, "ok", "USERPIN_HUGE1G"),
	ROW("memfd", "shared", MEMFD, SH, MAP_RW,
	    SMALL, PAGE, 0, NO_REASON, "ok", NULL),
	ROW("tmpfs", "shared", FILEBACK, SH, MAP_RW,
	    SMALL, PAGE, 0, NO_REASON, "ok", "USERPIN_TMPFS"),
	ROW("ext4-shared", "shared", FILEBACK, SH, MAP_RW,
	    SMALL, PAGE, EOPNOTSUPP, FILEMAP, "EFAULT", "USERPIN_EXT4"),
	ROW("ext4-private", "private", FILEBACK, 0, MAP_RW,
	    SMALL, PAGE, 0, NO_REASON, "ok", "USERPIN_EXT4"),
	ROW("ext4-shared-r", "shared", FILEBACK, SH, MAP_R,
	    SMALL, ANY, 0, NO_REASON, "ok", "USERPIN_EXT4"),
	ROW("ext4-ro", "shared r/o", FILEBACK, SH | RO, MAP_R,
	    SMALL, ANY, 0, NO_REASON, "ok", "USERPIN_EXT4"),
	ROW("ext4-ro-w", "shared r/o", FILEBACK, SH | RO, MAP_RW,
	    SMALL, PAGE, EFAULT, FAULT, "EFAULT", "USERPIN_EXT4"),
	ROW("ext4-private-r", "private", FILEBACK, 0, MAP_R,
	    SMALL, PAGE, 0, NO_REASON, "ok", "USERPIN_EXT4"),
	ROW("ext4-private-ro", "private r/o", FILEBACK, RO, MAP_R,
	    SMALL, PAGE, 0, NO_REASON, "ok", "USERPIN_EXT4"),
	ROW("xfs-shared", "shared", FILEBACK, SH, MAP_RW,
	    SMALL, PAGE, EOPNOTSUPP, FILEMAP, "EFAULT", "USERPIN_XFS"),
	ROW("xfs-private", "private", FILEBACK, 0, MAP_RW,
	    SMALL, PAGE, 0, NO_REASON, "ok", "USERPIN_XFS"),
	ROW("xfs-shared-r", "shared", FILEBACK, SH, MAP_R,
	    SMALL, ANY, 0, NO_REASON, "ok", "USERPIN_XFS"),
	ROW("xfs-ro", "shared r/o", FILEBACK, SH | RO, MAP_R,
	    SMALL, ANY, 0, NO_REASON, "ok", "USERPIN_XFS"),
	ROW("xfs-ro-w", "shared r/o", FILEBACK, SH | RO, MAP_RW,
	    SMALL, PAGE, EFAULT, FAULT, "EFAULT", "USERPIN_XFS"),
	ROW("xfs-private-r", "private", FILEBACK, 0, MAP_R,
	    SMALL, PAGE, 0, NO_REASON, "ok", "USERPIN_XFS"),
	ROW("xfs-private-ro", "private r/o", FILEBACK, RO, MAP_R,
	    SMALL, PAGE, 0, NO_REASON, "ok", "USERPIN_XFS"),
	ROW("dax-ext4-shared", "shared", FILEBACK, SH | DAX, MAP_RW,
	    SMALL, PAGE, EOPNOTSUPP, FSDAX, "EOPNOTSUPP", "USERPIN_DAX_EXT4"),
	ROW("dax-ext4-shared-r", "shared", FILEBACK, SH | DAX, MAP_R,
	    SMALL, PAGE, EOPNOTSUPP, FSDAX, "EOPNOTSUPP", "USERPIN_DAX_EXT4"),
	ROW("dax-ext4-private", "private", FILEBACK, DAX, MAP_RW,
	    SMALL, PAGE, 0, NO_REASON, "EOPNOTSUPP", "USERPIN_DAX_EXT4"),
	ROW("dax-ext4-private-r", "private", FILEBACK, DAX, MAP_R,
	    SMALL, PAGE, 0, NO_REASON, "EOPNOTSUPP", "USERPIN_DAX_EXT4"),
	ROW("dax-ext4-private-ro", "private r/o", FILEBACK, DAX | RO, MAP_R,
	    SMALL, PAGE, 0, NO_REASON, "EOPNOTSUPP", "USERPIN_DAX_EXT4"),
	ROW("dax-xfs-shared", "shared", FILEBACK, SH | DAX, MAP_RW,
	    SMALL, PAGE, EOPNOTSUPP, FSDAX, "EOPNOTSUPP", "USERPIN_DAX_XFS"),
	ROW("dax-xfs-shared-r", "shared", FILEBACK, SH | DAX, MAP_R,
	    SMALL, PAGE, EOPNOTSUPP, FSDAX, "EOPNOTSUPP", "USERPIN_DAX_XFS"),
	ROW("dax-xfs-private", "private", FILEBACK, DAX, MAP_RW,
	    SMALL, PAGE, 0, NO_REASON, "EOPNOTSUPP", "USERPIN_DAX_XFS"),
	ROW("dax-xfs-private-r", "private", FILEBACK, DAX, MAP_R,
	    SMALL, PAGE, 0, NO_REASON, "EOPNOTSUPP", "USERPIN_DAX_XFS"),
	ROW("dax-xfs-private-ro", "private r/o", FILEBACK, DAX | RO, MAP_R,
	    SMALL, PAGE, 0, NO_REASON, "EOPNOTSUPP", "USERPIN_DAX_XFS"),
	ROW("devdax", "shared", DEVDAX, SH | HOW_FREE | HOW_LEAKS, MAP_RW,
	    2 * MB, ANY, 0, NO_REASON, "ok", "USERPIN_DEVDAX"),
	ROW("secretmem", "shared", SECRET, SH, MAP_RW,
	    SMALL, PAGE, EFAULT, SECRETMEM, "EFAULT", NULL),
	ROW("pci-bar", "shared", BAR, SH | HOW_FREE | HOW_NOPIN, MAP_RW,
	    0, 0, 0, NO_REASON, "ok", NULL),
	ROW("unmapped", "none", HOLE, 0, MAP_RW,
	    SMALL, 0, EFAULT, FAULT, "EFAULT", NULL),
};

const unsigned int nr_backings = sizeof(backing_table) /
				 sizeof(backing_table[0]);

const struct backing *backing_find(const char *name)
{
	unsigned int i;

	for (i = 0; i < nr_backings; i++)
		if (!strcmp(backing_table[i].name, name))
			return &backing_table[i];
	return NULL;
}

void *reserve(size_t size, size_t align, void **base, size_t *reserved)
{
	char *addr;

	*reserved = size + align;
	addr = mmap(NULL, *reserved, PROT_NONE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (addr == MAP_FAILED)
		return NULL;
	*base = addr;
	return (void *)ROUND_UP((uintptr_t)addr, align);
}

char *anon_pages(size_t size)
{
	char *addr = mmap(NULL, size, PROT_READ | PROT_WRITE,
			  MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (addr == MAP_FAILED)
		return NULL;
	madvise(addr, size, MADV_NOHUGEPAGE);
	memset(addr, 0x5a, size);
	return addr;
}

char *untouched(enum kind kind, size_t size)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS, fd = -1;
	size_t reserved;
	void *base;
	char *mem;

	mem = reserve(size, 2 * MB, &base, &reserved);
	if (!mem)
		return NULL;
	if (kind == HUGETLB)
		flags |= MAP_HUGETLB | 21 << MAP_HUGE_SHIFT;
	if (kind == MEMFD) {
		flags = MAP_SHARED;
		fd = memfd_create("untouched", MFD_CLOEXEC);
		if (fd < 0 || ftruncate(fd, size))
			return NULL;
	}
	mem = mmap(mem, size, PROT_READ | PROT_WRITE, flags | MAP_FIXED, fd, 0);
	if (fd >= 0)
		close(fd);
	if (mem == MAP_FAILED)
		return NULL;
	if (kind == ANON)
		madvise(mem, size, MADV_NOHUGEPAGE);
	if (kind == THP)
		madvise(mem, size, MADV_HUGEPAGE);
	return mem;
}

static int __attribute__((format(printf, 3, 4)))
cannot(struct area *a, int err, const char *fmt, ...)
{
	va_list args;

	va_start(args, fmt);
	vsnprintf(a->why, sizeof(a->why), fmt, args);
	va_end(args);
	return err ? -err : -ENODEV;
}

static const char *place(const struct backing *b, struct area *a)
{
	const char *where = getenv(b->where);

	if (!where || !*where)
		snprintf(a->why, sizeof(a->why), "%s: no %s here", b->name,
			 b->where);
	else
		return where;
	return NULL;
}

/* Contents for those who cannot write: a pattern of the whole file */
static int prefill(int fd, size_t size)
{
	char buf[64 * KB];
	size_t at, n;

	for (at = 0; at < size; at += n) {
		n = size - at < sizeof(buf) ? size - at : sizeof(buf);
		fill(buf, n, 1000 + at / sizeof(buf));
		if (write(fd, buf, n) != (ssize_t)n)
			return errno ? -errno : -ENOSPC;
	}
	return 0;
}

static bool is_dax(int fd)
{
	struct statx st;

	return !statx(fd, "", AT_EMPTY_PATH, STATX_BASIC_STATS, &st) &&
	       st.stx_attributes & STATX_ATTR_DAX;
}

static int open_file(const struct backing *b, struct area *a)
{
	char path[256], self[64];
	const char *dir;
	int fd, ret;

	dir = place(b, a);
	if (!dir)
		return -ENODEV;
	snprintf(path, sizeof(path), "%s/%s.%d", dir, b->name, getpid());
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return cannot(a, errno, "%s: %s", path, strerror(errno));
	unlink(path);

	if (b->kind == HUGETLB)
		ret = ftruncate(fd, a->size) ? -errno : 0;
	else
		ret = prefill(fd, a->size);
	if (ret) {
		close(fd);
		return cannot(a, -ret, "%s: %s", path, strerror(-ret));
	}
	if ((b->how & HOW_DAX) && !is_dax(fd)) {
		close(fd);
		return cannot(a, 0, "%s is not on DAX", path);
	}
	if (b->how & HOW_RO) {
		snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
		ret = open(self, O_RDONLY | O_CLOEXEC);
		if (ret >= 0) {
			close(fd);
			fd = ret;
		}
	}
	return fd;
}

static int open_devdax(const struct backing *b, struct area *a)
{
	char path[256];
	const char *dev = place(b, a);
	struct stat st;
	long align;
	int fd;

	if (!dev)
		return -ENODEV;
	fd = open(dev, O_RDWR | O_CLOEXEC);
	if (fd < 0 || fstat(fd, &st))
		return cannot(a, errno, "%s: %s", dev, strerror(errno));
	snprintf(path, sizeof(path), "/sys/dev/char/%u:%u/align",
		 major(st.st_rdev), minor(st.st_rdev));
	align = read_long(path, 2 * MB);
	a->folio = align;
	a->size = ROUND_UP(a->size, (size_t)align);
	return fd;
}

static size_t area_align(const struct backing *b, const struct area *a)
{
	if (b->kind == THP)
		return 2 * MB;
	if (a->folio > PAGE)
		return a->folio;
	return PAGE;
}

static bool is_huge(const struct backing *b, struct area *a)
{
	size_t at;

	for (at = 0; at < a->size; at += b->folio)
		if (!(pfn_flags(pfn_of(a->addr + at)) & PF_THP))
			return false;
	return true;
}

/* Bring the pages in, so that a test sees the pins only */
static int populate(const struct backing *b, struct area *a)
{
	switch (b->kind) {
	case HOLE:
	case BAR:
	case SECRET:
		return 0;
	default:
		break;
	}
	if (!(b->how & HOW_RO) && (b->flags & MAP_W) &&
	    madvise(a->addr, a->size, MADV_POPULATE_READ))
		return -errno;
	if (b->kind == ANON || b->kind == THP || b->kind == HUGETLB ||
	    b->kind == MEMFD)
		if (!(b->how & HOW_RO))
			fill(a->addr, a->size < SMALL ? a->size : SMALL, 9);
	return 0;
}

int area_open(const struct backing *b, struct area *a, struct vfio_dev *bar,
	      void *at)
{
	int prot = b->how & HOW_RO ? PROT_READ : PROT_READ | PROT_WRITE;
	int flags = b->how & HOW_SHARED ? MAP_SHARED : MAP_PRIVATE;
	void *addr = at;
	int ret = 0;

	memset(a, 0, sizeof(*a));
	a->size = b->size;
	a->folio = b->folio;
	a->fd = -1;

	switch (b->kind) {
	case ANON:
	case THP:
	case HOLE:
		flags |= MAP_ANONYMOUS;
		break;
	case HUGETLB:
	case FILEBACK:
		ret = open_file(b, a);
		break;
	case MEMFD:
		ret = memfd_create("userpin", MFD_CLOEXEC);
		if (ret < 0 || ftruncate(ret, a->size))
			return cannot(a, errno, "memfd: %s", strerror(errno));
		break;
	case DEVDAX:
		ret = open_devdax(b, a);
		break;
	case SECRET:
		ret = syscall(SYS_memfd_secret, O_CLOEXEC);
		if (ret < 0)
			return cannot(a, errno, "memfd_secret: %s",
				      strerror(errno));
		if (ftruncate(ret, a->size))
			return cannot(a, errno, "memfd_secret: %s",
				      strerror(errno));
		break;
	case BAR:
		if (!bar)
			return cannot(a, 0, "no device for its BAR");
		a->addr = vfio_bar_map(bar, at, &a->size);
		return a->addr ? 0 : cannot(a, 0, "the BAR cannot be mapped");
	}
	if (ret < 0)
		return ret;
	if (!(flags & MAP_ANONYMOUS))
		a->fd = ret;

	if (!addr)
		addr = reserve(a->size, area_align(b, a), &a->base,
			       &a->reserved);
	if (!addr)
		return cannot(a, ENOMEM, "no address space");
	addr = mmap(addr, a->size, prot, flags | MAP_FIXED, a->fd, 0);
	if (addr == MAP_FAILED) {
		ret = errno;
		area_close(a);
		return cannot(a, ret, "%s: mmap: %s", b->name, strerror(ret));
	}
	a->addr = addr;
	if (b->kind == HOLE)
		munmap(addr, a->size);
	if (b->kind == ANON || b->kind == MEMFD || b->kind == FILEBACK)
		madvise(addr, a->size, MADV_NOHUGEPAGE);
	if (b->kind == THP) {
		madvise(addr, a->size, MADV_HUGEPAGE);
		memset(addr, 1, a->size);
		if (!is_huge(b, a)) {
			area_close(a);
			return cannot(a, 0, "no huge page could be had");
		}
	}
	ret = populate(b, a);
	if (ret) {
		area_close(a);
		return cannot(a, -ret, "%s: populate: %s", b->name,
			      strerror(-ret));
	}
	return 0;
}

void area_close(struct area *a)
{
	if (a->base)
		munmap(a->base, a->reserved);
	else if (a->addr)	/* where the caller wanted it, or a BAR */
		munmap(a->addr, a->size);
	if (a->fd >= 0)
		close(a->fd);
	a->base = NULL;
	a->addr = NULL;
	a->fd = -1;
}
