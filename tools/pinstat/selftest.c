// SPDX-License-Identifier: GPL-2.0
/*
 * pinstat selftest: pin memory through a VFIO group, give it back, and compare what
 * the kernel says with what it must say. It is for hosts on which VMs run, so it
 * opens no device, does no DMA and changes no setting; all that it takes ends with
 * its process, however that ends.
 */
#include "selftest.h"

#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <getopt.h>
#include <inttypes.h>
#include <libsmartcols/libsmartcols.h>
#include <linux/capability.h>
#include <linux/magic.h>
#include <linux/memfd.h>
#include <linux/vfio.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/statfs.h>
#include <sys/syscall.h>
#include <sys/utsname.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "columns.h"
#include "groups.h"
#include "processes.h"
#include "sysroot.h"

#ifndef MADV_POPULATE_WRITE
#define MADV_POPULATE_WRITE	23
#endif

#define MB		(UINT64_C(1) << 20)
#define TOTAL		(64 * MB)	/* that is pinned at once */
#define LIMIT		(4 * MB)	/* of the process that is to be refused */
#define KILLED		(16 * MB)	/* that the process holds which is killed */
/* Less than this available: the host has other troubles */
#define AVAILABLE	(512 * MB)
#define READ_WRITE	(VFIO_DMA_MAP_FLAG_READ | VFIO_DMA_MAP_FLAG_WRITE)

/* Looks at the host's counters, a tenth of a second apart: CPUs bring theirs home in one second */
#define LOOKS		30
#define ROUNDS		3

/* linux/iommufd.h, which Debian 12 does not have: only iommufd's file knows this call */
struct vfio_ioas {
	uint32_t size, ioas_id;
	uint16_t op, reserved;
};
#define IOMMUFD_VFIO_IOAS	_IO(';', 0x88)

enum kind { SMALL, THP, MEMFD, HUGETLB, NR_KINDS };

struct memory {
	const char *name;
	char *addr;		/* NULL: there is none of this kind */
	uint64_t size;
	uint64_t offset;	/* of its IOVA */
	bool huge;		/* all of it is huge pages */
};

struct test {
	bool json;
	const char *dir;	/* for the file on a disk, or NULL */
	struct group group;
	int container;
	uint64_t iova;		/* room for twice TOTAL begins here */
	uint64_t page, huge_page;
	struct memory memory[NR_KINDS];
	uint64_t vmlck, vmpin;	/* of this process, without our pins */
	pid_t child;		/* that holds pins, or 0 */

	/* The step that is under way, and what is wrong in it */
	char *step, *wrong;
	unsigned int nr, failed, skipped;
	struct libscols_table *table;	/* for JSON */
};

/* --- Steps -------------------------------------------------------------------------- */

static char *vtext(const char *fmt, va_list ap)
{
	char *text;

	if (vasprintf(&text, fmt, ap) < 0)
		err(2, "no memory");
	return text;
}

static void report(struct test *t, const char *result, const char *detail)
{
	const char *cells[] = { result, t->step, detail };
	struct libscols_line *line;
	char number[16];
	size_t i;

	if (!t->json) {
		printf("%s %u %s%s%s\n", result, t->nr, t->step,
		       detail ? !strcmp(result, "skip") ? ": " : "\n" : "", detail ?: "");
		fflush(stdout);
		return;
	}
	snprintf(number, sizeof(number), "%u", t->nr);
	line = scols_table_new_line(t->table, NULL);
	if (!line || scols_line_set_data(line, 0, number))
		err(2, "no memory");
	for (i = 0; i < sizeof(cells) / sizeof(*cells); i++)
		if (cells[i] && scols_line_set_data(line, i + 1, cells[i]))
			err(2, "no memory");
}

__attribute__((format(printf, 2, 3)))
static void begin(struct test *t, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	t->step = vtext(fmt, ap);
	va_end(ap);
	t->nr++;
}

/* A line of what is wrong in this step */
__attribute__((format(printf, 2, 3)))
static void wrong(struct test *t, const char *fmt, ...)
{
	char *text, *all;
	va_list ap;

	va_start(ap, fmt);
	text = vtext(fmt, ap);
	va_end(ap);
	all = xasprintf("%s%s    %s", t->wrong ?: "", t->wrong ? "\n" : "", text);
	free(text);
	free(t->wrong);
	t->wrong = all;
}

static void expect(struct test *t, const char *what, int64_t want, int64_t got)
{
	if (want != got)
		wrong(t, "%s: expected %" PRId64 ", got %" PRId64, what, want, got);
}

static void end(struct test *t)
{
	t->failed += !!t->wrong;
	report(t, t->wrong ? "not ok" : "ok", t->wrong);
	free(t->wrong);
	free(t->step);
	t->step = t->wrong = NULL;
}

/* Instead of end(): the step could not be done */
__attribute__((format(printf, 2, 3)))
static void skip(struct test *t, const char *fmt, ...)
{
	char *why;
	va_list ap;

	va_start(ap, fmt);
	why = vtext(fmt, ap);
	va_end(ap);
	t->skipped++;
	report(t, "skip", why);
	free(why);
	free(t->step);
	t->step = NULL;
}

/* --- A container -------------------------------------------------------------------- */

static char *why_no_container(int error)
{
	if (error == EACCES || error == EPERM)
		return xasprintf("/dev/vfio/vfio: %s; run it as root", strerror(error));
	if (!access("/dev/iommu", F_OK) || !access("/dev/vfio/devices", F_OK))
		return xstrdup("/dev/vfio/vfio is not there, but iommufd is: this kernel has no VFIO containers "
			       "(CONFIG_VFIO_CONTAINER), or vfio-pci is not loaded: modprobe vfio-pci");
	return xasprintf("/dev/vfio/vfio: %s; modprobe vfio-pci", strerror(error));
}

/* 0, or an errno, as the other calls here */
static int call(int fd, unsigned long request, void *arg)
{
	return ioctl(fd, request, arg) < 0 ? errno : 0;
}

/* Where the IOMMU has room for what we map */
static char *find_iova(struct test *t)
{
	struct vfio_iommu_type1_info *info = xcalloc(1, sizeof(*info));
	struct vfio_iommu_type1_info_cap_iova_range *ranges;
	struct vfio_info_cap_header *cap;
	uint32_t size = sizeof(*info), at;
	uint64_t start;
	size_t i;

	for (;;) {
		info->argsz = size;
		if (ioctl(t->container, VFIO_IOMMU_GET_INFO, info))
			return xasprintf("VFIO_IOMMU_GET_INFO: %s", strerror(errno));
		if (info->argsz <= size)
			break;
		size = info->argsz;
		free(info);
		info = xcalloc(1, size);
	}
	/* A multiple of a huge page, and not what a device may take for nothing */
	t->iova = t->huge_page > 16 * MB ? t->huge_page : 16 * MB;
	at = info->flags & VFIO_IOMMU_INFO_CAPS ? info->cap_offset : 0;
	while (at && at + sizeof(*cap) <= size) {
		cap = (void *)info + at;
		at = cap->next;
		if (cap->id != VFIO_IOMMU_TYPE1_INFO_CAP_IOVA_RANGE)
			continue;
		ranges = (void *)cap;
		for (i = 0; i < ranges->nr_iovas; i++) {
			start = ranges->iova_ranges[i].start;
			start = start > t->iova ? (start + t->huge_page - 1) & -t->huge_page : t->iova;
			if (start <= ranges->iova_ranges[i].end &&
			    ranges->iova_ranges[i].end - start >= 2 * TOTAL)
				break;
		}
		if (i == ranges->nr_iovas)
			return xstrdup("the IOMMU has no 128 MiB of addresses in one piece");
		t->iova = start;
	}
	free(info);
	return NULL;
}

/* Put the group into a container; the reason if that fails */
static char *container_open(struct test *t)
{
	struct vfio_ioas ioas = { .size = sizeof(ioas) };
	int error;

	t->container = open("/dev/vfio/vfio", O_RDWR | O_CLOEXEC);
	if (t->container < 0)
		return why_no_container(errno);
	error = call(t->container, IOMMUFD_VFIO_IOAS, &ioas);
	if (!error || error == ENODEV)
		return xstrdup("/dev/vfio/vfio is that of iommufd (CONFIG_IOMMUFD_VFIO_CONTAINER), which keeps no "
			       "account of pins");
	if (ioctl(t->container, VFIO_GET_API_VERSION) != VFIO_API_VERSION)
		return xstrdup("/dev/vfio/vfio has an API that we do not know");
	if (ioctl(t->container, VFIO_CHECK_EXTENSION, VFIO_TYPE1v2_IOMMU) != 1)
		return xstrdup("VFIO has no type1v2: modprobe vfio_iommu_type1");
	error = call(t->group.fd, VFIO_GROUP_SET_CONTAINER, &t->container);
	if (error)
		return xasprintf("group %ld cannot be put into a container: %s%s", t->group.number, strerror(error),
				 error == EBUSY || error == EPERM ? "; another program or driver has its devices" : "");
	if (ioctl(t->container, VFIO_SET_IOMMU, VFIO_TYPE1v2_IOMMU))
		return xasprintf("the IOMMU does not take group %ld: %s; the kernel's log may say why (journalctl -k)",
				 t->group.number, strerror(errno));
	return find_iova(t);
}

/* All that it had pinned goes with it */
static void container_close(struct test *t)
{
	close(t->group.fd);
	close(t->container);
	t->group.fd = t->container = -1;
}

/* As container_open(), of a group that was closed */
static char *container_reopen(struct test *t)
{
	char *path = xasprintf("/dev/vfio/%ld", t->group.number), *why;

	t->group.fd = open(path, O_RDWR | O_CLOEXEC);
	/* A VM that starts just now, for example */
	if (t->group.fd < 0 && errno == EBUSY)
		errx(2, "group %ld: another program has taken it meanwhile; run it again", t->group.number);
	why = t->group.fd < 0 ? xasprintf("%s: %s", path, strerror(errno)) : container_open(t);
	free(path);
	return why;
}

/* How often this process was refused for that reason */
static uint64_t count_refused(const char *reason)
{
	uint64_t sum = 0;
	struct process p;
	size_t i, n;

	if (!process_read(&p, getpid()))
		return 0;
	for (i = 0; i < p.pins.reasons.nr; i++)
		for (n = 0; !strcmp(p.pins.reasons.names[i], reason) && n < p.pins.nr; n++)
			sum += p.pins.holders[n].refused[i];
	process_free(&p);
	return sum;
}

static int map(struct test *t, const void *addr, uint64_t offset, uint64_t size, uint32_t flags)
{
	struct vfio_iommu_type1_dma_map arg = {
		.argsz = sizeof(arg),
		.flags = flags,
		.vaddr = (uintptr_t)addr,
		.iova = t->iova + offset,
		.size = size,
	};

	int error = call(t->container, VFIO_IOMMU_MAP_DMA, &arg);

	/* A limit of the user's is no fault of the kernel's */
	if (error == EBUSY && count_refused("cgroup"))
		errx(2, "a cgroup's limit of longterm_pin refuses it: see pinstat --cgroup, or run it elsewhere");
	return error;
}

static int unmap(struct test *t, uint64_t offset, uint64_t size)
{
	struct vfio_iommu_type1_dma_unmap arg = {
		.argsz = sizeof(arg),
		.iova = t->iova + offset,
		.size = size,
	};

	return call(t->container, VFIO_IOMMU_UNMAP_DMA, &arg) ?: arg.size == size ? 0 : ENOENT;
}

/* --- What the kernel says of this process: exact ---------------------------------------- */

/* In bytes. Nobody else has a part in these figures */
static void expect_pins(struct test *t, const char *when, uint64_t pinned, uint64_t charge, uint64_t held)
{
	uint64_t acquired = 0, released = 0;
	struct process p;
	size_t i;

	if (!process_read(&p, getpid())) {
		wrong(t, "/proc/%d/longterm_pins: %s", getpid(), strerror(errno));
		return;
	}
	for (i = 0; i < p.pins.nr; i++) {
		acquired += p.pins.holders[i].acquired;
		released += p.pins.holders[i].released;
	}
	const struct {
		const char *what;
		int64_t want, got;
	} figures[] = {
		{ "pinned", pinned, process_pinned(&p) },
		{ "acquired less released", pinned, acquired - released },
		{ "charge", charge, p.pins.charge },
		{ "held", held, p.pins.held },
		{ "VmLck", t->vmlck + charge, p.vmlck },
		{ "VmPin", t->vmpin, p.vmpin },
	};
	for (i = 0; i < sizeof(figures) / sizeof(*figures); i++)
		if (figures[i].want != figures[i].got)
			wrong(t, "%s, %s: expected %" PRId64 ", got %" PRId64 " bytes", when, figures[i].what,
			      figures[i].want, figures[i].got);
	process_free(&p);
}

static size_t count_holders(void)
{
	struct process p;
	size_t n;

	if (!process_read(&p, getpid()))
		return 0;
	n = p.pins.nr;
	process_free(&p);
	return n;
}

static void map_or_wrong(struct test *t, const void *addr, uint64_t offset, uint64_t size, uint32_t flags)
{
	int error = map(t, addr, offset, size, flags);

	if (error)
		wrong(t, "MAP_DMA of %" PRIu64 " bytes: %s", size, strerror(error));
}

static void unmap_or_wrong(struct test *t, uint64_t offset, uint64_t size)
{
	int error = unmap(t, offset, size);

	if (error)
		wrong(t, "UNMAP_DMA of %" PRIu64 " bytes: %s", size, strerror(error));
}

/* --- Memory ----------------------------------------------------------------------------- */

static uint64_t number_in(const char *path)
{
	char *text = sysroot_read(NULL, "%s", path);
	uint64_t value = text ? strtoull(text, NULL, 10) : 0;

	free(text);
	return value;
}

/* A page everywhere: what is not there now, the kernel would have to find while it pins */
static int populate(void *addr, uint64_t size)
{
	return madvise(addr, size, MADV_POPULATE_WRITE) ? errno : 0;
}

static char *small_pages(uint64_t size)
{
	char *addr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (addr == MAP_FAILED)
		return NULL;
	/* EINVAL: the kernel has no others */
	madvise(addr, size, MADV_NOHUGEPAGE);
	if (!populate(addr, size))
		return addr;
	munmap(addr, size);
	return NULL;
}

/* How much of it is huge pages, as /proc/self/smaps says */
static uint64_t huge_part(const char *addr)
{
	static const char field[] = "AnonHugePages:";
	char *text = sysroot_read(NULL, "/proc/self/smaps"), *at = text, *line, *rest;
	uint64_t kb = 0, start, stop;
	bool ours = false;

	while (at && (line = strsep(&at, "\n"))) {
		start = strtoull(line, &rest, 16);
		if (rest != line && *rest == '-') {
			stop = strtoull(rest + 1, NULL, 16);
			ours = start <= (uintptr_t)addr && (uintptr_t)addr < stop;
		} else if (ours && !strncmp(line, field, strlen(field))) {
			kb = strtoull(line + strlen(field), NULL, 10);
		}
	}
	free(text);
	return kb * 1024;
}

static char *huge_pages(struct test *t, uint64_t size, const char **why)
{
	uint64_t room = size + t->huge_page;
	char *addr = mmap(NULL, room, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0), *start;

	if (addr == MAP_FAILED) {
		*why = strerror(errno);
		return NULL;
	}
	start = (char *)(((uintptr_t)addr + t->huge_page - 1) & -t->huge_page);
	if (start > addr)
		munmap(addr, start - addr);
	munmap(start + size, addr + room - (start + size));
	*why = "the kernel gives none (/sys/kernel/mm/transparent_hugepage/enabled), or has none free";
	if (madvise(start, size, MADV_HUGEPAGE))
		*why = "the kernel has none (CONFIG_TRANSPARENT_HUGEPAGE)";
	else if (!populate(start, size) && huge_part(start) >= size)
		return start;
	munmap(start, size);
	return NULL;
}

static char *memfd_pages(uint64_t size)
{
	int fd = memfd_create("pinstat-selftest", MFD_CLOEXEC);
	char *addr = MAP_FAILED;

	if (fd < 0)
		return NULL;
	if (!ftruncate(fd, size))
		addr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	close(fd);
	if (addr == MAP_FAILED)
		return NULL;
	if (!populate(addr, size))
		return addr;
	munmap(addr, size);
	return NULL;
}

/* Of a pool that has twice as many to spare: some VM may want the others just now */
static char *hugetlb_pages(struct test *t, uint64_t size, const char **why)
{
	char *pool = xasprintf("/sys/kernel/mm/hugepages/hugepages-%" PRIu64 "kB", t->huge_page / 1024);
	char *path = xasprintf("%s/free_hugepages", pool), *addr;
	uint64_t unused = number_in(path);

	free(path);
	path = xasprintf("%s/resv_hugepages", pool);
	unused -= number_in(path);
	free(path);
	free(pool);
	if ((int64_t)unused < (int64_t)(2 * size / t->huge_page)) {
		*why = "fewer than 16 MiB are free (vm.nr_hugepages)";
		return NULL;
	}
	addr = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB |
		    __builtin_ctzll(t->huge_page) << MAP_HUGE_SHIFT, -1, 0);
	if (addr == MAP_FAILED) {
		*why = strerror(errno);
		return NULL;
	}
	if (!populate(addr, size))
		return addr;
	*why = "the pool, its cgroup or the NUMA policy gives none";
	munmap(addr, size);
	return NULL;
}

/* 64 MiB in all: of small pages, what there is no other kind for */
static void make_memory(struct test *t)
{
	static const char * const names[] = {
		[SMALL] = "small pages", [THP] = "transparent huge pages", [MEMFD] = "memfd",
		[HUGETLB] = "huge pages of the pool",
	};
	static const unsigned int mb[] = { [THP] = 16, [MEMFD] = 16, [HUGETLB] = 8 };
	uint64_t left = TOTAL, offset = 0;
	const char *why = NULL;
	unsigned int i;

	for (i = NR_KINDS; i-- > 0;) {
		struct memory *m = &t->memory[i];

		m->name = names[i];
		m->size = i == SMALL ? left : mb[i] * MB;
		m->huge = i == THP || i == HUGETLB;
		if (m->huge && m->size % t->huge_page)
			why = "a page is larger than what is pinned here";
		else
			m->addr = i == SMALL ? small_pages(m->size) : i == MEMFD ? memfd_pages(m->size) :
				  i == THP ? huge_pages(t, m->size, &why) : hugetlb_pages(t, m->size, &why);
		if (!m->addr && !m->huge)
			errx(2, "no memory for %s: %s", m->name, strerror(errno));
		if (!m->addr) {
			begin(t, "%s", m->name);
			skip(t, "%s", why);
			continue;
		}
		left -= m->size;
	}
	for (i = 0; i < NR_KINDS; i++) {
		t->memory[i].offset = offset;
		offset += t->memory[i].size;
	}
}

/* --- The steps: this process ------------------------------------------------------------ */

static void test_kind(struct test *t, const struct memory *m)
{
	const uint64_t size = m->size, second = m->offset + TOTAL;

	begin(t, "%s: %" PRIu64 " MiB are pinned, charged and held", m->name, size / MB);
	map_or_wrong(t, m->addr, m->offset, size, READ_WRITE);
	expect_pins(t, "pinned", size, size, size);
	end(t);

	begin(t, "%s: mapped at a second address, and charged once", m->name);
	map_or_wrong(t, m->addr, second, size, READ_WRITE);
	expect_pins(t, "mapped twice", 2 * size, size, size);
	end(t);

	begin(t, "%s: given back with the second unmap, and not before", m->name);
	unmap_or_wrong(t, m->offset, size);
	expect_pins(t, "unmapped once", size, size, size);
	unmap_or_wrong(t, second, size);
	expect_pins(t, "unmapped twice", 0, 0, 0);
	end(t);

	begin(t, "%s: mapped for reading only, and given back", m->name);
	map_or_wrong(t, m->addr, m->offset, size, VFIO_DMA_MAP_FLAG_READ);
	expect_pins(t, "mapped", size, size, size);
	unmap_or_wrong(t, m->offset, size);
	expect_pins(t, "unmapped", 0, 0, 0);
	end(t);

	if (!m->huge)
		return;
	begin(t, "%s: of a single small page the charge is that, and all of the huge page is held", m->name);
	map_or_wrong(t, m->addr, m->offset, t->page, READ_WRITE);
	expect_pins(t, "mapped", t->page, t->page, t->huge_page);
	unmap_or_wrong(t, m->offset, t->page);
	expect_pins(t, "unmapped", 0, 0, 0);
	end(t);
}

/* An open file without a name, on a disk; -1, and the reason */
static int disk_file(const char *dir, char **why)
{
	char *path = NULL;
	struct statfs fs;
	int fd;

	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0 && (errno == EOPNOTSUPP || errno == EISDIR)) {
		path = xasprintf("%s/pinstat-selftest.XXXXXX", dir);
		fd = mkostemp(path, O_CLOEXEC);
		if (fd >= 0)
			unlink(path);
		free(path);
	}
	if (fd < 0 || fstatfs(fd, &fs)) {
		*why = xasprintf("%s: %s", dir, strerror(errno));
	} else if (fs.f_type == TMPFS_MAGIC || fs.f_type == HUGETLBFS_MAGIC || fs.f_type == RAMFS_MAGIC) {
		*why = xasprintf("%s is in memory", dir);
	} else {
		return fd;
	}
	if (fd >= 0)
		close(fd);
	return -1;
}

static void test_file(struct test *t)
{
	const char *dir = t->dir ?: getenv("TMPDIR") ?: "/var/tmp", *reason = "file";
	char *why = NULL, *addr;
	struct statx stx;
	uint64_t before;
	int fd, error;

	begin(t, "a shared file on a disk, for writing: refused by EOPNOTSUPP, and nothing is pinned");
	fd = disk_file(dir, &why);
	if (fd < 0 && !t->dir && strcmp(dir, "/var/tmp")) {
		free(why);
		dir = "/var/tmp";
		fd = disk_file(dir, &why);
	}
	if (fd < 0) {
		skip(t, "no file can be made on a disk (%s); --dir names a folder there", why);
		free(why);
		return;
	}
	if (!statx(fd, "", AT_EMPTY_PATH, 0, &stx) &&
	    stx.stx_attributes & stx.stx_attributes_mask & STATX_ATTR_DAX)
		reason = "fsdax";
	addr = MAP_FAILED;
	if (!ftruncate(fd, t->page))
		addr = mmap(NULL, t->page, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	error = errno;
	close(fd);
	if (addr == MAP_FAILED) {
		skip(t, "%s: %s", dir, strerror(error));
		return;
	}
	before = count_refused(reason);
	error = map(t, addr, 0, t->page, READ_WRITE);
	if (error != EOPNOTSUPP)
		wrong(t, "MAP_DMA: expected %s, got %s", strerror(EOPNOTSUPP), error ? strerror(error) : "success");
	if (!error)
		unmap_or_wrong(t, 0, t->page);
	if (count_refused(reason) != before + 1)
		wrong(t, "refusals for %s: expected %" PRIu64 ", got %" PRIu64, reason, before + 1, count_refused(reason));
	expect_pins(t, "refused", 0, 0, 0);
	munmap(addr, t->page);
	end(t);
}

static bool map_all(struct test *t)
{
	unsigned int i;
	int error = 0;

	for (i = 0; i < NR_KINDS && !error; i++)
		if (t->memory[i].addr)
			error = map(t, t->memory[i].addr, t->memory[i].offset, t->memory[i].size, READ_WRITE);
	if (error)
		wrong(t, "MAP_DMA: %s", strerror(error));
	return !error;
}

static void unmap_all(struct test *t)
{
	unsigned int i;

	for (i = 0; i < NR_KINDS; i++)
		if (t->memory[i].addr)
			unmap(t, t->memory[i].offset, t->memory[i].size);
}

static void test_all(struct test *t)
{
	begin(t, "64 MiB at once: pinned, charged and held");
	map_all(t);
	expect_pins(t, "pinned", TOTAL, TOTAL, TOTAL);
	end(t);

	begin(t, "64 MiB at once: given back");
	unmap_all(t);
	expect_pins(t, "unmapped", 0, 0, 0);
	end(t);
}

/* --- The steps: counters of the host, in which others have a part ----------------------------- */

enum { COUNTED, FOLL, CGROUP, NR_WIDE };

static const char * const wide_names[] = {
	[COUNTED] = "nr_longterm_pinned of the host",
	[FOLL] = "nr_foll_pin_acquired less nr_foll_pin_released of the host",
	[CGROUP] = "misc.current of the cgroup",
};

struct wide {
	bool there[NR_WIDE];
	int64_t value[NR_WIDE];	/* in bytes */
	int64_t acquired;	/* only grows */
};

/* The number after a word at the begin of a line; false if there is none */
static bool line_of(const char *text, const char *name, int64_t unit, int64_t *value)
{
	size_t len = strlen(name);

	*value = 0;
	while (text && (strncmp(text, name, len) || text[len] != ' ')) {
		text = strchr(text, '\n');
		text = text ? text + 1 : NULL;
	}
	if (!text)
		return false;
	*value = strtoll(text + len, NULL, 10) * unit;
	return true;
}

/* The file with the charge of the process @pid; NULL if there is none */
static char *cgroup_file(long pid)
{
	static const char * const roots[] = { "/sys/fs/cgroup", "/sys/fs/cgroup/unified" };
	char *file = NULL, *path;
	struct process p;
	size_t i;

	if (!process_read(&p, pid))
		return NULL;
	path = p.pins.cgroup ? unescape(p.pins.cgroup) : NULL;
	for (i = 0; path && !file && i < sizeof(roots) / sizeof(*roots); i++) {
		file = xasprintf("%s%s/misc.current", roots[i], path);
		if (access(file, R_OK)) {
			free(file);
			file = NULL;
		}
	}
	process_free(&p);
	return file;
}

static struct wide wide_read(const struct test *t, const char *cgroup)
{
	struct wide w;
	int64_t released;
	char *text;

	/* So that all CPUs add what they have counted; for root */
	free(sysroot_read(NULL, "/proc/sys/vm/stat_refresh"));
	text = sysroot_read(NULL, "/proc/vmstat");
	w.there[COUNTED] = line_of(text, "nr_longterm_pinned", t->page, &w.value[COUNTED]);
	w.there[FOLL] = line_of(text, "nr_foll_pin_acquired", t->page, &w.acquired) &&
			line_of(text, "nr_foll_pin_released", t->page, &released);
	w.value[FOLL] = w.there[FOLL] ? w.acquired - released : 0;
	free(text);
	text = cgroup ? sysroot_read(NULL, "%s", cgroup) : NULL;
	w.there[CGROUP] = line_of(text, "longterm_pin", 1, &w.value[CGROUP]);
	free(text);
	return w;
}

/*
 * Look until each counter is @bytes more than it was in @from. Which of them were, as
 * bits; in *@moving, those that others change; in *@last, what there was at the end.
 */
static unsigned int wide_wait(const struct test *t, const char *cgroup, const struct wide *from, int64_t bytes,
			      struct wide *last, unsigned int *moving)
{
	const struct timespec moment = { .tv_nsec = 100000000 };
	unsigned int right = 0, look, i;
	struct wide now;

	for (look = 0; look < LOOKS && right != (1 << NR_WIDE) - 1; look++) {
		if (look)
			nanosleep(&moment, NULL);
		now = wide_read(t, cgroup);
		for (i = 0; i < NR_WIDE; i++) {
			if (!now.there[i] || now.value[i] - from->value[i] == bytes)
				right |= 1u << i;
			/* What we have changed ourselves has arrived by then */
			if (look > LOOKS / 2 && now.value[i] != last->value[i])
				*moving |= 1u << i;
		}
		*last = now;
	}
	return right;
}

/*
 * Others may pin at the same time, so the counters are compared for up to three
 * rounds. A counter that is right in one is right; one that never is, though nobody
 * else changes it, is wrong.
 */
static void test_wide(struct test *t, const char *what, int64_t bytes, bool (*up)(struct test *t),
		      void (*down)(struct test *t))
{
	unsigned int good = 0, moving = 0, round, i, right;
	struct wide before = { 0 }, mid = { 0 }, after = { 0 };
	bool grew = true, works = up(t);
	char *cgroup = NULL;

	if (works) {
		cgroup = cgroup_file(t->child ?: getpid());
		down(t);
	}
	for (round = 0; works && round < ROUNDS && good != (1 << NR_WIDE) - 1; round++) {
		before = wide_read(t, cgroup);
		works = up(t);
		if (!works)
			break;
		right = wide_wait(t, cgroup, &before, bytes, &mid, &moving);
		/* Whatever others do, this one does not shrink */
		grew &= mid.acquired - before.acquired >= bytes;
		down(t);
		good |= right & wide_wait(t, cgroup, &before, 0, &after, &moving);
	}
	if (!works) {
		begin(t, "%s: counters of the host", what);
		end(t);
	}
	for (i = 0; works && i < NR_WIDE; i++) {
		begin(t, "%s: %s goes up, and back", what, wide_names[i]);
		if (!before.there[i] && i == CGROUP) {
			skip(t, "the misc controller is not enabled");
			continue;
		}
		if (!before.there[i])
			wrong(t, "it is not in /proc/vmstat");
		else if (i == FOLL && !grew)
			wrong(t, "nr_foll_pin_acquired grew by less than %" PRId64 " bytes", bytes);
		if (!(good & 1u << i) && moving & 1u << i && !t->wrong) {
			skip(t, "others pinned and put at the same time, in each of %d rounds", ROUNDS);
			continue;
		}
		if (!(good & 1u << i)) {
			expect(t, "more bytes when pinned", bytes, mid.value[i] - before.value[i]);
			expect(t, "more bytes when given back", 0, after.value[i] - before.value[i]);
		}
		end(t);
	}
	free(cgroup);
}

/* --- The steps: other processes ------------------------------------------------------------ */

/* It ends with this one, whatever ends that. Returns 0 in it. */
static pid_t spawn(void)
{
	pid_t parent = getpid(), pid;

	fflush(stdout);
	pid = fork();
	if (pid < 0)
		err(2, "fork");
	if (!pid) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return pid;
}

/* It has said why it cannot run */
static void exit_as(int status)
{
	if (WIFEXITED(status) && WEXITSTATUS(status) == 2)
		exit(2);
}

/* What there is without any pins of ours */
static void read_base(struct test *t)
{
	struct process p;

	if (!process_read(&p, getpid()))
		err(2, "/proc/%d/longterm_pins", getpid());
	t->vmlck = p.vmlck;
	t->vmpin = p.vmpin;
	process_free(&p);
}

static int drop_ipc_lock(void)
{
	struct __user_cap_header_struct head = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct data[2];

	if (syscall(SYS_capget, &head, data))
		return -1;
	data[0].effective &= ~(1u << CAP_IPC_LOCK);
	data[0].permitted &= ~(1u << CAP_IPC_LOCK);
	data[0].inheritable &= ~(1u << CAP_IPC_LOCK);
	return syscall(SYS_capset, &head, data);
}

static void expect_enomem(struct test *t, const char *what, int error)
{
	if (error != ENOMEM)
		wrong(t, "MAP_DMA %s: expected %s, got %s", what, strerror(ENOMEM),
		      error ? strerror(error) : "success");
}

static void under_limit(struct test *t)
{
	const struct rlimit limit = { LIMIT, LIMIT };
	char *mem = small_pages(2 * LIMIT), *why;
	struct process p;

	if (!mem || drop_ipc_lock() || setrlimit(RLIMIT_MEMLOCK, &limit)) {
		wrong(t, "cannot be prepared: %s", strerror(errno));
		return;
	}
	why = container_reopen(t);
	if (why) {
		wrong(t, "%s", why);
		return;
	}
	read_base(t);
	if (process_read(&p, getpid())) {
		expect(t, "its limit in longterm_pins", LIMIT, p.pins.limit);
		process_free(&p);
	}
	expect_enomem(t, "of twice the limit", map(t, mem, 0, 2 * LIMIT, READ_WRITE));
	expect_pins(t, "refused", 0, 0, 0);
	expect(t, "refusals for memlock", 1, count_refused("memlock"));
	map_or_wrong(t, mem, 0, LIMIT, READ_WRITE);
	expect_enomem(t, "of a page more than the limit", map(t, mem + LIMIT, LIMIT, t->page, READ_WRITE));
	expect_pins(t, "at the limit", LIMIT, LIMIT, LIMIT);
	expect(t, "refusals for memlock", 2, count_refused("memlock"));
	unmap_or_wrong(t, 0, LIMIT);
	expect_pins(t, "unmapped", 0, 0, 0);
}

static void test_limit(struct test *t)
{
	int fds[2], status;
	size_t len = 0;
	pid_t pid;

	begin(t, "RLIMIT_MEMLOCK of 4 MiB without CAP_IPC_LOCK: pins up to it, ENOMEM beyond, and nothing changes then");
	if (pipe2(fds, O_CLOEXEC))
		err(2, "pipe");
	pid = spawn();
	if (!pid) {
		under_limit(t);
		if (t->wrong && write(fds[1], t->wrong, strlen(t->wrong)) < 0)
			_exit(1);
		_exit(0);
	}
	close(fds[1]);
	t->wrong = read_fd(&len, fds[0]);
	close(fds[0]);
	if (!len) {
		free(t->wrong);
		t->wrong = NULL;
	}
	waitpid(pid, &status, 0);
	exit_as(status);
	if (status)
		wrong(t, "the process for it ended with status %#x", status);
	end(t);
}

static void hold(struct test *t, int out)
{
	char *mem = small_pages(KILLED), *why = NULL;
	int error;

	if (!mem)
		why = xasprintf("no memory: %s", strerror(errno));
	why = why ?: container_reopen(t);
	if (!why) {
		error = map(t, mem, 0, KILLED, READ_WRITE);
		why = error ? xasprintf("MAP_DMA: %s", strerror(error)) : xstrdup("ok");
	}
	if (write(out, why, strlen(why)) < 0)
		_exit(1);
	close(out);
	for (;;)
		pause();
}

static void kill_holder(struct test *t)
{
	int status = 0;

	kill(t->child, SIGKILL);
	waitpid(t->child, &status, 0);
	exit_as(status);
	t->child = 0;
}

/* A process that has pinned KILLED, and waits */
static bool start_holder(struct test *t)
{
	size_t len = 0;
	char *said;
	int fds[2];
	bool ok;

	if (pipe2(fds, O_CLOEXEC))
		err(2, "pipe");
	t->child = spawn();
	if (!t->child) {
		close(fds[0]);
		hold(t, fds[1]);
	}
	close(fds[1]);
	said = read_fd(&len, fds[0]);
	close(fds[0]);
	ok = len && !strcmp(said, "ok");
	if (!ok) {
		wrong(t, "another process cannot pin: %s", len ? said : "it has ended");
		kill_holder(t);
	}
	free(said);
	return ok;
}

/* In the list of all holders, which root sees; true as well if there is no list */
static bool listed(const char *holder, bool otherwise)
{
	bool found = false;
	struct list list;
	size_t len, i;
	char *text;

	text = sysroot_read(&len, "/proc/longterm_pins");
	if (!text)
		return otherwise;
	list_parse(&list, text, len);
	free(text);
	for (i = 0; i < list.nr; i++)
		found |= !strcmp(list.lines[i].holder.name, holder);
	list_free(&list);
	return found;
}

static void test_killed(struct test *t)
{
	char *holder = NULL, *why;
	struct process p;

	begin(t, "a process that holds 16 MiB is killed: its holder goes, and the group is free");
	if (!start_holder(t)) {
		end(t);
		return;
	}
	if (process_read(&p, t->child)) {
		expect(t, "its holders", 1, p.pins.nr);
		expect(t, "its charge", KILLED, p.pins.charge);
		expect(t, "its VmLck", KILLED, p.vmlck);
		holder = p.pins.nr ? xstrdup(p.pins.holders[0].name) : NULL;
		process_free(&p);
	} else {
		wrong(t, "/proc/%d/longterm_pins: %s", t->child, strerror(errno));
	}
	if (holder && !listed(holder, true))
		wrong(t, "%s is not in /proc/longterm_pins", holder);
	kill_holder(t);
	if (holder && listed(holder, false))
		wrong(t, "%s is still in /proc/longterm_pins", holder);
	why = container_reopen(t);
	if (why)
		wrong(t, "the group cannot be had again: %s", why);
	free(why);
	container_close(t);
	free(holder);
	end(t);
}

/* --- All of it ---------------------------------------------------------------------------------- */

static void usage(FILE *out)
{
	fputs("Usage: pinstat selftest [options] [GROUP]\n"
	      "\n"
	      "Pins and frees 64 MiB through a VFIO group, compares what the kernel counts with what it must\n"
	      "count, and says passed or failed. It opens no device, does no DMA and changes no driver.\n"
	      "GROUP: a number, /dev/vfio/NUMBER, or the address of a PCI device in it; without, the first that\n"
	      "is free. All its devices must be bound to vfio-pci, or have no driver.\n"
	      "\n"
	      " -J, --json      JSON: the steps\n"
	      " -d, --dir DIR   where a file on a disk may be, for a moment (default: $TMPDIR, /var/tmp)\n"
	      " -h, --help      this\n"
	      "\n"
	      "Exit codes: 0 passed, 1 failed, 2 it could not run: usage, rights, no group, another kernel.\n", out);
}

static const char *parse(struct test *t, int argc, char **argv)
{
	static const struct option longs[] = {
		{ "json", no_argument, NULL, 'J' },
		{ "dir", required_argument, NULL, 'd' },
		{ "help", no_argument, NULL, 'h' },
		{ NULL }
	};
	struct stat st;
	int c;

	while ((c = getopt_long(argc, argv, "Jd:h", longs, NULL)) >= 0) {
		switch (c) {
		case 'J':
			t->json = true;
			break;
		case 'd':
			if (stat(optarg, &st))
				err(2, "--dir: %s", optarg);
			if (!S_ISDIR(st.st_mode))
				errx(2, "--dir: %s is no folder", optarg);
			t->dir = optarg;
			break;
		case 'h':
			usage(stdout);
			exit(fflush(stdout) || ferror(stdout) ? 2 : 0);
		default:
			fputs("See pinstat selftest --help.\n", stderr);
			exit(2);
		}
	}
	if (optind + 1 < argc)
		errx(2, "one group, and not '%s' as well", argv[optind + 1]);
	return argv[optind];
}

/* Whatever would make the verdict one about this host, and not about the kernel */
static void check_host(struct test *t)
{
	struct utsname name;
	uint64_t available;
	char *text;
	FILE *f;

	if (*sysroot)
		errx(2, "selftest is about the running system, not about --sysroot");
	uname(&name);
	if (!sysroot_exists("/proc/self/longterm_pins"))
		errx(2, "this kernel (%s) is not a userpin kernel: it has no /proc/PID/longterm_pins, and there is nothing "
		     "to test", name.release);
	text = sysroot_read(NULL, "/proc/meminfo");
	available = text ? status_kb(text, "MemAvailable:") * 1024 : 0;
	free(text);
	if (available < AVAILABLE)
		errx(2, "%" PRIu64 " MiB of memory are available; the test does not run with less than %" PRIu64,
		     available / MB, AVAILABLE / MB);
	/* Should memory run out all the same, the kernel ends this process, and no VM */
	f = fopen("/proc/self/oom_score_adj", "w");
	if (f) {
		fputs("1000", f);
		fclose(f);
	}
	t->page = sysconf(_SC_PAGESIZE);
	t->huge_page = number_in("/sys/kernel/mm/transparent_hugepage/hpage_pmd_size") ?: 2 * MB;
}

/* RLIMIT_MEMLOCK is of who runs this; root has CAP_IPC_LOCK */
static void check_limit(struct test *t)
{
	struct rlimit limit;
	struct process p;
	bool limited;

	if (!process_read(&p, getpid()))
		err(2, "/proc/%d/longterm_pins", getpid());
	limited = p.pins.limit != LIMIT_UNLIMITED;
	process_free(&p);
	read_base(t);
	if (!limited || getrlimit(RLIMIT_MEMLOCK, &limit) || limit.rlim_cur >= TOTAL + t->vmlck)
		return;
	limit.rlim_cur = limit.rlim_max;
	if (limit.rlim_max < TOTAL + t->vmlck || setrlimit(RLIMIT_MEMLOCK, &limit))
		errx(2, "RLIMIT_MEMLOCK allows %" PRIu64 " MiB, and the test pins 64; run it as root, or with a higher "
		     "limit (ulimit -l)", (uint64_t)limit.rlim_max / MB);
}

static void start_table(struct test *t)
{
	static const char * const names[] = { "step", "result", "name", "detail" };
	size_t i;

	t->table = scols_new_table();
	if (!t->table || scols_table_set_name(t->table, "selftest") || scols_table_enable_json(t->table, 1))
		err(2, "no memory");
	for (i = 0; i < sizeof(names) / sizeof(*names); i++) {
		struct libscols_column *column = scols_table_new_column(t->table, names[i], 0, 0);

		if (!column || scols_column_set_json_type(column, i ? SCOLS_JSON_STRING : SCOLS_JSON_NUMBER))
			err(2, "no memory");
	}
}

static int verdict(const struct test *t)
{
	if (t->json) {
		if (scols_print_table(t->table))
			err(2, "cannot print the table");
		putchar('\n');
	} else if (t->failed) {
		printf("pinstat selftest: failed (%u of %u)\n", t->failed, t->nr);
	} else {
		printf("pinstat selftest: passed (%u steps", t->nr);
		if (t->skipped)
			printf(", %u of them skipped", t->skipped);
		puts(")");
	}
	return t->failed ? 1 : 0;
}

/*
 * One at a time: each would take pins that the other makes at the same moment for a
 * mistake of the kernel. The lock ends with the process. It is root's, so that nobody
 * else can hold it up, and of this mount of /proc: others take no turns.
 */
static void wait_for_turn(void)
{
	int fd = open("/proc/longterm_pins", O_RDONLY | O_CLOEXEC);

	if (fd < 0 || !flock(fd, LOCK_EX | LOCK_NB) || errno != EWOULDBLOCK)
		return;
	warnx("waiting for another selftest to end");
	flock(fd, LOCK_EX);
}

int selftest_main(int argc, char **argv)
{
	struct test t = { .container = -1 };
	const char *which;
	unsigned int i;
	char *why;

	which = parse(&t, argc, argv);
	check_host(&t);
	wait_for_turn();
	t.group = group_take(which);
	check_limit(&t);
	why = container_open(&t);
	if (why)
		errx(2, "%s", why);
	start_table(&t);

	begin(&t, "group %ld in a container, and nothing pinned: %s", t.group.number, t.group.devices);
	expect_pins(&t, "before", 0, 0, 0);
	end(&t);
	make_memory(&t);
	for (i = 0; i < NR_KINDS; i++)
		if (t.memory[i].addr)
			test_kind(&t, &t.memory[i]);
	test_file(&t);
	test_all(&t);
	test_wide(&t, "64 MiB at once", TOTAL, map_all, unmap_all);

	begin(&t, "the container closed with 64 MiB pinned: no holder is left");
	map_all(&t);
	container_close(&t);
	expect_pins(&t, "closed", 0, 0, 0);
	expect(&t, "holders", 0, count_holders());
	end(&t);

	test_limit(&t);
	test_killed(&t);
	test_wide(&t, "a process that holds 16 MiB is killed", KILLED, start_holder, kill_holder);
	return verdict(&t);
}
