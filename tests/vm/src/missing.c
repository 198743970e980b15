// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that is mapped and has no page: the file ends before, tmpfs is full, no
 * huge page is free. Is the reason told, where it is, and does it help to do what
 * the log says?
 */
#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/mman.h>
#include <linux/userfaultfd.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/syscall.h>

#include "../inaccessible.h"
#include "test.h"

#define HUGE	(2 * MB)
#define OVERCOMMIT	"/proc/sys/vm/overcommit_memory"
#define POOL	"/sys/kernel/mm/hugepages/hugepages-2048kB/"

/* Of the log, for each reason */
#define EOF_HELP	": the file ends before this address; make it as long"
#define TMPFS_HELP	" on tmpfs: the tmpfs has no room for the page; enlarge"
#define HUGE_HELP	" on hugetlbfs: no huge page of this size is free"
#define FAULT_HELP	": the address has no mapping, or one without these rights"

FIXTURE(missing)
{
	struct vfio v;
	struct snap before, base;
	char *mem;
	size_t size;
	char dir[32];		/* a tmpfs of its own */
	long pool;		/* huge pages at the start */
};

static int set_pool(long pages)
{
	char text[24];

	snprintf(text, sizeof(text), "%ld", pages);
	return write_text(POOL "nr_hugepages", text);
}

FIXTURE_SETUP(missing)
{
	NEED_DEVICES(1U);
	self->pool = read_long(POOL "nr_hugepages", 0);
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, vfio_open(&self->v, 0));
	ASSERT_EQ(0, snap(&self->base));
}

FIXTURE_TEARDOWN(missing)
{
	vfio_close(&self->v);
	if (self->mem)
		munmap(self->mem, self->size);
	if (*self->dir) {
		umount2(self->dir, MNT_DETACH);
		rmdir(self->dir);
	}
	EXPECT_EQ(0, set_pool(self->pool));
	EXPECT_EQ(self->pool, read_long(POOL "nr_hugepages", 0));
	EXPECT_BACK(&self->before);
}

/*
 * Map all of an area, the page at @at of which cannot be had. The log tells why,
 * and the trace event the range from there on; nothing stays pinned.
 */
static void refused(struct __test_metadata *_metadata, struct vfio *v,
		    char *mem, size_t size, unsigned int flags, size_t at,
		    enum reason why, const char *help)
{
	static struct snap base;
	static struct pins now;
	char want[160], *log, *trace;

	log_room(1);
	ASSERT_EQ(0, snap(&base));
	ASSERT_EQ(0, trace_on());
	EXPECT_EQ(-EFAULT, vfio_map(v, mem, IOVA, size, flags));
	trace_off();
	EXPECT_REFUSED(&base, why, 1);
	EXPECT_STATE(&base, 0, 0, 0);
	EXPECT_EQ(0L, vfio_unmap(v, IOVA, size));

	ASSERT_EQ(0, pins_read(0, &now));
	ASSERT_EQ(1, now.nr);
	snprintf(want, sizeof(want),
		 "longterm_pin: refused %s: %s of \"missing\" [%d], uid 0, ",
		 reason_name[why], now.holder[0].name, getpid());
	log = kernel_log();
	ASSERT_NE(NULL, log);
	EXPECT_TRUE(logged(log, want, help)) TH_LOG("%s ... %s", want, help);
	free(log);

	snprintf(want, sizeof(want), " start=0x%lx npages=%zu reason=%s ",
		 (unsigned long)mem + at, (size - at) / PAGE, reason_name[why]);
	trace = trace_read();
	ASSERT_NE(NULL, trace);
	EXPECT_TRUE(logged(trace, "longterm_refuse", want)) TH_LOG("%s", want);
	free(trace);
}

/* It does now */
static void maps(struct __test_metadata *_metadata, struct vfio *v, char *mem,
		 size_t size, unsigned int flags)
{
	static struct snap base;
	long n = size / PAGE;

	ASSERT_EQ(0, snap(&base));
	EXPECT_EQ(0, vfio_map(v, mem, IOVA, size, flags));
	EXPECT_REFUSED(&base, NO_REASON, 0);
	EXPECT_STATE(&base, n, n, n);
	if (flags & MAP_W)
		EXPECT_EQ(0, edu_check_once(&v->dev[0], mem, IOVA, size));
	EXPECT_EQ((long)size, vfio_unmap(v, IOVA, size));
	EXPECT_BACK(&base);
}

#define REFUSED(at, why, help)						\
	refused(_metadata, &self->v, self->mem, self->size, MAP_RW, at,	\
		why, help)
#define MAPS()								\
	maps(_metadata, &self->v, self->mem, self->size, MAP_RW)

/* --- Files that are too short ----------------------------------------------- */

FIXTURE(cut)
{
	const struct backing *b;
	struct vfio v;
	struct area a;
	struct snap before;
};

FIXTURE_VARIANT(cut)
{
	const char *name;
};

#define CUT(_id, _name) FIXTURE_VARIANT_ADD(cut, _id) { .name = _name }

CUT(memfd, "memfd");
CUT(tmpfs, "tmpfs");
CUT(ext4_private, "ext4-private");
CUT(ext4_private_r, "ext4-private-r");
CUT(xfs_private, "xfs-private");
CUT(dax_ext4_private, "dax-ext4-private");
CUT(hugetlb_2m, "hugetlb-2m");

FIXTURE_SETUP(cut)
{
	NEED_DEVICES(1U);
	self->a.fd = -1;
	self->b = backing_find(variant->name);
	ASSERT_NE(NULL, self->b);
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, vfio_open(&self->v, 0));
	ASSERT_EQ(0, area_open(self->b, &self->a, NULL, NULL))
		TH_LOG("%s", self->a.why);
}

FIXTURE_TEARDOWN(cut)
{
	vfio_close(&self->v);
	area_close(&self->a);
	EXPECT_BACK(&self->before);
}

TEST_F(cut, in_the_middle)
{
	/* A page that the file has in part is there, a huge page is not */
	size_t at = self->a.folio > PAGE ? self->a.folio : 6 * PAGE;
	size_t end = self->a.folio > PAGE ? at : at - PAGE + 1;

	ASSERT_EQ(0, ftruncate(self->a.fd, end));
	refused(_metadata, &self->v, self->a.addr, self->a.size,
		self->b->flags, at, EOF_, EOF_HELP);
	ASSERT_EQ(0, ftruncate(self->a.fd, self->a.size));
	maps(_metadata, &self->v, self->a.addr, self->a.size, self->b->flags);
}

TEST_F(cut, empty)
{
	ASSERT_EQ(0, ftruncate(self->a.fd, 0));
	refused(_metadata, &self->v, self->a.addr, self->a.size,
		self->b->flags, 0, EOF_, EOF_HELP);
	ASSERT_EQ(0, ftruncate(self->a.fd, self->a.size));
	maps(_metadata, &self->v, self->a.addr, self->a.size, self->b->flags);
}

/* fallocate() can make such a size; the last huge page is not mapped then */
TEST_F(missing, huge_page_in_part)
{
	char path[64];
	int fd;

	snprintf(path, sizeof(path), "%s/part", getenv("USERPIN_HUGE2M"));
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, unlink(path));
	self->size = 2 * HUGE;
	/* A writable mapping would make the file longer */
	self->mem = mmap(NULL, self->size, PROT_READ,
			 MAP_SHARED | MAP_NORESERVE, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
	ASSERT_EQ(0, mprotect(self->mem, self->size, PROT_READ | PROT_WRITE));
	ASSERT_EQ(0, fallocate(fd, 0, 0, HUGE + HUGE / 2));
	ASSERT_EQ(0, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			       HUGE, HUGE));
	REFUSED(HUGE, EOF_, EOF_HELP);
	ASSERT_EQ(0, ftruncate(fd, self->size));
	MAPS();
	close(fd);
}

/* --- A tmpfs that is full ---------------------------------------------------- */

static void full_tmpfs(struct __test_metadata *_metadata,
		       FIXTURE_DATA(missing) *self, int how)
{
	char path[64];
	int fd;

	strcpy(self->dir, "/tmp/full.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->dir));
	ASSERT_EQ(0, mount("full", self->dir, "tmpfs", 0, "size=8m"));
	snprintf(path, sizeof(path), "%s/ram", self->dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	self->size = 16 * MB;
	ASSERT_EQ(0, ftruncate(fd, self->size));
	self->mem = mmap(NULL, self->size, PROT_READ | PROT_WRITE, how, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
	close(fd);

	REFUSED(8 * MB, NOSPACE, TMPFS_HELP);
	ASSERT_EQ(0, mount("full", self->dir, "tmpfs", MS_REMOUNT, "size=16m"));
	MAPS();
}

TEST_F(missing, full_tmpfs_shared)
{
	full_tmpfs(_metadata, self, MAP_SHARED);
}

/* A copy is made of a page of the file, which has to be there before */
TEST_F(missing, full_tmpfs_private)
{
	full_tmpfs(_metadata, self, MAP_PRIVATE);
}

static void map_memfd(struct __test_metadata *_metadata,
		      FIXTURE_DATA(missing) *self, size_t size)
{
	int fd = memfd_create("missing", MFD_CLOEXEC);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, size));
	self->size = size;
	self->mem = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
	close(fd);
}

/* A memfd has no size=, but what is in it is committed memory */
TEST_F(missing, memfd_beyond_the_commit_limit)
{
	char mode[8];
	void *others;
	int ret;

	map_memfd(_metadata, self, 16 * PAGE);
	snprintf(mode, sizeof(mode), "%ld", read_long(OVERCOMMIT, 0));
	ASSERT_EQ(0, write_text(OVERCOMMIT, "1"));
	others = mmap(NULL, 64 * GB, PROT_READ | PROT_WRITE,
		      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	/* Until this is back nobody can commit memory, not even who looks */
	write_text(OVERCOMMIT, "2");
	ret = vfio_map(&self->v, self->mem, IOVA, self->size, MAP_RW);
	ASSERT_EQ(0, write_text(OVERCOMMIT, mode));
	ASSERT_NE(MAP_FAILED, others);
	munmap(others, 64 * GB);
	EXPECT_EQ(-EFAULT, ret);
	EXPECT_REFUSED(&self->base, NOSPACE, 1);
	EXPECT_STATE(&self->base, 0, 0, 0);
	MAPS();
}

/* --- No huge page ------------------------------------------------------------ */

/* Two of them, for which none is reserved */
static void map_huge(struct __test_metadata *_metadata,
		     FIXTURE_DATA(missing) *self, int how)
{
	self->size = 2 * HUGE;
	self->mem = mmap(NULL, self->size, PROT_READ | PROT_WRITE,
			 how | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB |
			 MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)self->mem);
}

static void empty_pool(struct __test_metadata *_metadata,
		       FIXTURE_DATA(missing) *self, int how)
{
	long left = read_long(POOL "free_hugepages", 0) -
		    read_long(POOL "resv_hugepages", 0);
	char *others;

	/* Others have reserved all but one */
	ASSERT_LE(2, left);
	others = mmap(NULL, (left - 1) * HUGE, PROT_READ | PROT_WRITE,
		      MAP_SHARED | MAP_ANONYMOUS | MAP_HUGETLB | MAP_HUGE_2MB,
		      -1, 0);
	ASSERT_NE(MAP_FAILED, (void *)others);
	map_huge(_metadata, self, how);

	REFUSED(HUGE, NOHUGETLB, HUGE_HELP);
	ASSERT_EQ(0, set_pool(self->pool + 1));
	MAPS();
	munmap(others, (left - 1) * HUGE);
}

TEST_F(missing, empty_pool_shared)
{
	empty_pool(_metadata, self, MAP_SHARED);
}

TEST_F(missing, empty_pool_private)
{
	empty_pool(_metadata, self, MAP_PRIVATE);
}

/* There are free ones, and on another node */
TEST_F(missing, no_huge_page_of_the_node)
{
	const char *node = getenv("USERPIN_MEM_NODE");

	ASSERT_NE(NULL, node);
	map_huge(_metadata, self, MAP_SHARED);
	ASSERT_EQ(0, bind_to_node(atoi(node), self->mem, self->size));
	REFUSED(0, NOHUGETLB, HUGE_HELP);
	ASSERT_EQ(0, bind_to_node(0, self->mem, self->size));
	MAPS();
}

/* --- What has another cause -------------------------------------------------- */

TEST_F(missing, hole_in_the_middle)
{
	size_t at = 8 * MB + 5 * PAGE;

	map_memfd(_metadata, self, 16 * MB);
	ASSERT_EQ(0, munmap(self->mem + at, PAGE));
	REFUSED(at, FAULT, FAULT_HELP);
	ASSERT_EQ(self->mem + at,
		  mmap(self->mem + at, PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	MAPS();
}

TEST_F(missing, no_right_in_the_middle)
{
	size_t at = 8 * MB + 5 * PAGE;

	map_memfd(_metadata, self, 16 * MB);
	ASSERT_EQ(0, mprotect(self->mem + at, PAGE, PROT_READ));
	REFUSED(at, FAULT, FAULT_HELP);
	ASSERT_EQ(0, mprotect(self->mem + at, PAGE, PROT_READ | PROT_WRITE));
	MAPS();
}

/* Pages that a userfaultfd is to fill, as when a VM arrives by postcopy */
static void lacks(struct __test_metadata *_metadata,
		  FIXTURE_DATA(missing) *self)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { (uintptr_t)self->mem, self->size },
		.mode = UFFDIO_REGISTER_MODE_MISSING,
	};
	int fd = syscall(__NR_userfaultfd, O_CLOEXEC);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ioctl(fd, UFFDIO_API, &api));
	ASSERT_EQ(0, ioctl(fd, UFFDIO_REGISTER, &reg));
	REFUSED(0, FAULT, FAULT_HELP);
	close(fd);
	MAPS();
}

TEST_F(missing, memfd_that_userfaultfd_lacks)
{
	map_memfd(_metadata, self, 16 * PAGE);
	lacks(_metadata, self);
}

TEST_F(missing, huge_page_that_userfaultfd_lacks)
{
	map_huge(_metadata, self, MAP_SHARED);
	lacks(_metadata, self);
}

static void nothing(int sig)
{
	(void)sig;
}

/* Memory that has failed: neither more room nor more huge pages would help */
TEST_F(missing, memfd_that_failed)
{
	map_memfd(_metadata, self, 16 * PAGE);
	fill(self->mem, self->size, 3);
	signal(SIGBUS, nothing);
	ASSERT_EQ(0, madvise(self->mem + 5 * PAGE, PAGE, MADV_HWPOISON));
	REFUSED(5 * PAGE, FAULT, FAULT_HELP);
}

TEST_F(missing, huge_page_that_failed)
{
	map_huge(_metadata, self, MAP_PRIVATE);
	fill(self->mem, PAGE, 3);
	signal(SIGBUS, nothing);
	ASSERT_EQ(0, madvise(self->mem, PAGE, MADV_HWPOISON));
	REFUSED(0, FAULT, FAULT_HELP);
}

/* --- A page that the architecture cannot make accessible ------------------------- */

FIXTURE(inaccessible)
{
};

FIXTURE_SETUP(inaccessible)
{
}

FIXTURE_TEARDOWN(inaccessible)
{
}

/*
 * It is the last one of a page table. On stock GUP-fast goes on with the next page
 * table: the file gets the page that comes next, at the place of this one.
 */
TEST_F(inaccessible, page_before_another_page_table)
{
	const char *dir = getenv("USERPIN_EXT4");
	char *mem = small_pages(3 * HUGE), *page, *back = small_pages(2 * PAGE);
	char name[64];
	int fd;

	if (!dir)
		SKIP(return, "no ext4, see USERPIN_EXT4");
	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, back);
	snprintf(name, sizeof(name), "%s/inaccessible", dir);
	fd = open(name, O_RDWR | O_CREAT | O_EXCL | O_DIRECT, 0600);
	ASSERT_LE(0, fd);
	unlink(name);

	page = (char *)(((uintptr_t)mem + 2 * HUGE) & ~(HUGE - 1)) - PAGE;
	fill(page, 2 * PAGE, 1);
	EXPECT_EQ(2 * (long)PAGE, pwrite(fd, page, 2 * PAGE, 0));
	fill(page, 2 * PAGE, 2);
	strcpy(page, INACCESSIBLE);
	EXPECT_EQ(-1, pwrite(fd, page, 2 * PAGE, 0));
	EXPECT_EQ(EFAULT, errno);
	EXPECT_EQ(2 * (long)PAGE, pread(fd, back, 2 * PAGE, 0));
	EXPECT_TRUE(filled(back, 2 * PAGE, 1));

	fill(page, 2 * PAGE, 2);
	EXPECT_EQ(2 * (long)PAGE, pwrite(fd, page, 2 * PAGE, 0));
	EXPECT_EQ(2 * (long)PAGE, pread(fd, back, 2 * PAGE, 0));
	EXPECT_TRUE(filled(back, 2 * PAGE, 2));
	close(fd);
	munmap(mem, 3 * HUGE);
}

TEST_HARNESS_MAIN
