// SPDX-License-Identifier: GPL-2.0
/*
 * Guest pages that KVM writes or reads through (kvm_vcpu_map) and regions that it
 * pins for long, held for as long as a test wants. How nested guests use them by
 * themselves is in kvm_nested.c.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <signal.h>
#include <sys/ioctl.h>

#include "kvm_lib.h"
#include "test.h"

#define N	16UL
#define SIZE	(N * PAGE)

FIXTURE(kvm_map)
{
	struct guest g;
	struct snap before;
	struct area area;
	struct vfio v;
	int fd;			/* of the module */
	char *mem;
	char text[64];
};

FIXTURE_SETUP(kvm_map)
{
	self->v.fd = -1;
	self->area.fd = -1;
	ASSERT_TRUE(pins_supported());
	self->mem = anon_pages(SIZE);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, guest_open(&self->g));
	self->fd = caller_open();
	ASSERT_LE(0, self->fd) TH_LOG("is kvm_caller.ko loaded?");
	snprintf(self->text, sizeof(self->text), "written by %d", getpid());
}

FIXTURE_TEARDOWN(kvm_map)
{
	if (self->fd >= 0)
		close(self->fd);
	guest_close(&self->g);
	area_close(&self->area);
	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
}

/* Pins that are there now and were not at the start */
static long pins_more(FIXTURE_DATA(kvm_map) *self)
{
	struct snap *now = malloc(sizeof(*now));
	long n = LONG_MIN;

	if (now && !snap(now))
		n = now->foll - self->before.foll;
	free(now);
	return n;
}

/* What is mapped is no long-term pin: nobody is charged */
static bool charged(FIXTURE_DATA(kvm_map) *self)
{
	struct snap *now = malloc(sizeof(*now));
	bool yes = true;

	if (now && !snap(now))
		yes = now->vmlck != self->before.vmlck ||
		      now->counted != self->before.counted ||
		      now->pins.charge != self->before.pins.charge ||
		      pins_pages(&now->pins) != pins_pages(&self->before.pins);
	free(now);
	return yes;
}

static int write_through(FIXTURE_DATA(kvm_map) *self)
{
	return caller_write(self->fd, 8, self->text, sizeof(self->text));
}

/* --- What a map is ------------------------------------------------------------ */

/* Pinned while it is mapped, and not for long: nothing is charged */
TEST_F(kvm_map, page_is_pinned_while_mapped)
{
	char got[64] = "";
	int fd2;

	ASSERT_EQ(0, guest_slot(&self->g, 0, GPA, self->mem, SIZE, false));
	fill(self->mem, PAGE, 1);
	ASSERT_EQ(1, caller_map(self->fd, &self->g, GPA));
	EXPECT_EQ(1, pins_more(self));
	EXPECT_FALSE(charged(self));

	/* It is that page */
	EXPECT_EQ(0, caller_read(self->fd, 0, got, sizeof(got)));
	EXPECT_EQ(0, memcmp(got, self->mem, sizeof(got)));
	EXPECT_EQ(0, write_through(self));
	EXPECT_STREQ(self->text, self->mem + 8);

	/* One pin for each map, also of the same page */
	fd2 = caller_open();
	ASSERT_LE(0, fd2);
	EXPECT_EQ(1, caller_map(fd2, &self->g, GPA));
	EXPECT_EQ(2, pins_more(self));
	EXPECT_EQ(0, caller_unmap(fd2, 0));
	EXPECT_EQ(1, pins_more(self));
	EXPECT_EQ(0, caller_unmap(self->fd, KVM_CALLER_DIRTY));
	EXPECT_EQ(0, pins_more(self));
	close(fd2);
}

static void expect_no_map(struct __test_metadata *_metadata,
			  FIXTURE_DATA(kvm_map) *self, const char *what)
{
	EXPECT_EQ(-EINVAL, caller_map(self->fd, &self->g, GPA))
		TH_LOG("%s", what);
	EXPECT_EQ(0, pins_more(self)) TH_LOG("%s", what);
}

TEST_F(kvm_map, what_cannot_be_written_is_not_mapped)
{
	expect_no_map(_metadata, self, "no memslot");
	ASSERT_EQ(0, guest_slot(&self->g, 0, GPA, self->mem, SIZE, true));
	expect_no_map(_metadata, self, "read-only memslot");
	ASSERT_EQ(0, guest_slot(&self->g, 0, GPA, self->mem, 0, true));
	ASSERT_EQ(0, guest_slot(&self->g, 0, GPA, self->mem, SIZE, false));
	ASSERT_EQ(0, mprotect(self->mem, PAGE, PROT_READ));
	expect_no_map(_metadata, self, "read-only mapping");
	ASSERT_EQ(0, munmap(self->mem, PAGE));
	expect_no_map(_metadata, self, "no mapping");
}

/* A map that nobody ends goes with its file, and so does the VM */
TEST_F(kvm_map, close_ends_map)
{
	ASSERT_EQ(0, guest_slot(&self->g, 0, GPA, self->mem, SIZE, false));
	ASSERT_EQ(1, caller_map(self->fd, &self->g, GPA));
	guest_close(&self->g);
	EXPECT_EQ(1, pins_more(self));
	close(self->fd);
	self->fd = -1;
}

/* --- Kinds of memory ---------------------------------------------------------- */

/* Which of them a guest may have, and what it takes to write there */
static void try_backing(struct __test_metadata *_metadata,
			FIXTURE_DATA(kvm_map) *self, const char *name,
			int pinned)
{
	const struct backing *b = backing_find(name);
	char got[64] = "";

	ASSERT_NE(NULL, b);
	if (b->kind == BAR)
		ASSERT_EQ(0, vfio_open(&self->v, 0));
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, area_open(b, &self->area, &self->v.dev[0], NULL))
		TH_LOG("%s", self->area.why);
	ASSERT_EQ(0, guest_slot(&self->g, 0, GPA, self->area.addr,
				self->area.size, false));
	if (pinned < 0) {
		EXPECT_EQ(pinned, caller_map(self->fd, &self->g, GPA));
		EXPECT_EQ(0, pins_more(self));
		return;
	}
	ASSERT_EQ(pinned, caller_map(self->fd, &self->g, GPA));
	EXPECT_EQ(pinned, pins_more(self));
	EXPECT_FALSE(charged(self));
	if (b->kind != BAR) {
		EXPECT_EQ(0, write_through(self));
		EXPECT_STREQ(self->text, self->area.addr + 8);
	} else {
		/* The device says who it is, through KVM's map */
		EXPECT_EQ(0, caller_read(self->fd, 0, got, 4));
		EXPECT_EQ(0x010000edU, *(uint32_t *)got);
	}
	EXPECT_EQ(0, caller_unmap(self->fd, KVM_CALLER_DIRTY));
	EXPECT_EQ(0, pins_more(self));
}

#define MEMORY(test, name, pinned)					\
	TEST_F(kvm_map, test)						\
	{								\
		try_backing(_metadata, self, name, pinned);		\
	}

MEMORY(memory_thp, "thp", 1)
MEMORY(memory_hugetlb, "hugetlb-2m", 1)
MEMORY(memory_memfd, "memfd", 1)
MEMORY(memory_tmpfs, "tmpfs", 1)
MEMORY(memory_ext4_shared, "ext4-shared", 1)
MEMORY(memory_ext4_private, "ext4-private", 1)
MEMORY(memory_xfs_shared, "xfs-shared", 1)
MEMORY(memory_fsdax_shared, "dax-ext4-shared", 1)
MEMORY(memory_fsdax_private, "dax-ext4-private", 1)
MEMORY(memory_devdax, "devdax", 1)
MEMORY(memory_secretmem, "secretmem", -EINVAL)
MEMORY(memory_bar, "pci-bar", 0)

/* A page with references behind a VM_PFNMAP mapping: taken, and put again */
TEST_F(kvm_map, pfnmap_page_is_put_if_it_was_taken)
{
	int i, fd2 = caller_open();
	char *mem;

	ASSERT_LE(0, fd2);
	mem = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd2, 0);
	ASSERT_NE(MAP_FAILED, (void *)mem);
	ASSERT_EQ(0, guest_slot(&self->g, 0, GPA, mem, PAGE, false));
	EXPECT_EQ(1, caller_refs(fd2));
	for (i = 0; i < 3; i++) {
		ASSERT_EQ(0, caller_map(self->fd, &self->g, GPA));
		EXPECT_EQ(2, caller_refs(fd2));
		EXPECT_EQ(0, pins_more(self));
		EXPECT_EQ(0, write_through(self));
		EXPECT_STREQ(self->text, mem + 8);
		EXPECT_EQ(0, caller_unmap(self->fd, i == 0 ? 0 :
					  i == 1 ? KVM_CALLER_DIRTY :
					  KVM_CALLER_DIRTY |
					  KVM_CALLER_ATOMIC));
		EXPECT_EQ(1, caller_refs(fd2));
	}
	munmap(mem, PAGE);
	close(fd2);
}

/* --- What is only read -------------------------------------------------------- */

/* The same page, and nothing but a pin is on it */
static void try_reading(struct __test_metadata *_metadata,
			FIXTURE_DATA(kvm_map) *self, const char *name,
			int pinned)
{
	const struct backing *b = backing_find(name);
	char got[64] = "";
	uint64_t pfn;
	char first;

	ASSERT_NE(NULL, b);
	ASSERT_EQ(0, area_open(b, &self->area, NULL, NULL))
		TH_LOG("%s", self->area.why);
	ASSERT_EQ(0, guest_slot(&self->g, 0, GPA, self->area.addr,
				self->area.size, false));
	first = *(volatile char *)self->area.addr;
	pfn = pfn_of(self->area.addr);
	ASSERT_EQ(pinned, caller_map_readonly(self->fd, &self->g, GPA));
	if (pinned < 0) {
		EXPECT_EQ(0, pins_more(self));
		return;
	}
	EXPECT_EQ(pinned, pins_more(self));
	EXPECT_FALSE(charged(self));
	EXPECT_EQ(pfn, pfn_of(self->area.addr)) TH_LOG("this is a copy");
	EXPECT_EQ(0, caller_read(self->fd, 0, got, sizeof(got)));
	EXPECT_EQ(first, got[0]);
	EXPECT_EQ(0, memcmp(got, self->area.addr, sizeof(got)));
	EXPECT_EQ(0, caller_unmap(self->fd, 0));
	EXPECT_EQ(0, pins_more(self));
}

#define READ(test, name, pinned)					\
	TEST_F(kvm_map, test)						\
	{								\
		try_reading(_metadata, self, name, pinned);		\
	}

READ(read_thp, "thp", 1)
READ(read_hugetlb, "hugetlb-2m", 1)
READ(read_memfd, "memfd", 1)
READ(read_ext4_shared, "ext4-shared", 1)
READ(read_ext4_shared_ro, "ext4-ro", 1)
READ(read_ext4_private, "ext4-private", 1)
READ(read_ext4_private_ro, "ext4-private-ro", 1)
READ(read_xfs_shared_ro, "xfs-ro", 1)
READ(read_fsdax_shared, "dax-ext4-shared", 1)
READ(read_fsdax_private, "dax-ext4-private", 1)
READ(read_devdax, "devdax", 1)
READ(read_secretmem, "secretmem", -EINVAL)

static void expect_read(struct __test_metadata *_metadata,
			FIXTURE_DATA(kvm_map) *self, const char *what)
{
	char got[64] = "";

	EXPECT_EQ(1, caller_map_readonly(self->fd, &self->g, GPA))
		TH_LOG("%s", what);
	EXPECT_EQ(1, pins_more(self)) TH_LOG("%s", what);
	EXPECT_EQ(0, caller_read(self->fd, 0, got, sizeof(got)));
	EXPECT_TRUE(filled(got, sizeof(got), 7)) TH_LOG("%s", what);
	EXPECT_EQ(0, caller_unmap(self->fd, 0));
	EXPECT_EQ(0, pins_more(self)) TH_LOG("%s", what);
}

TEST_F(kvm_map, what_cannot_be_written_can_be_read)
{
	fill(self->mem, PAGE, 7);
	ASSERT_EQ(0, guest_slot(&self->g, 0, GPA, self->mem, SIZE, true));
	expect_read(_metadata, self, "read-only memslot");
	ASSERT_EQ(0, guest_slot(&self->g, 0, GPA, self->mem, 0, true));
	EXPECT_EQ(-EINVAL, caller_map_readonly(self->fd, &self->g, GPA))
		TH_LOG("no memslot");
	ASSERT_EQ(0, guest_slot(&self->g, 0, GPA, self->mem, SIZE, false));
	ASSERT_EQ(0, mprotect(self->mem, PAGE, PROT_READ));
	expect_read(_metadata, self, "read-only mapping");
	ASSERT_EQ(0, munmap(self->mem, PAGE));
	EXPECT_EQ(-EINVAL, caller_map_readonly(self->fd, &self->g, GPA))
		TH_LOG("no mapping");
	EXPECT_EQ(0, pins_more(self));
}

/* Memory that nobody has touched is the zero page, which has no pins */
TEST_F(kvm_map, read_untouched_memory)
{
	char zero[64] = "", got[64] = "some";
	char *mem = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	ASSERT_NE(MAP_FAILED, (void *)mem);
	ASSERT_EQ(0, guest_slot(&self->g, 0, GPA, mem, PAGE, false));
	EXPECT_EQ(1, caller_map_readonly(self->fd, &self->g, GPA));
	EXPECT_EQ(0, pins_more(self));
	EXPECT_EQ(0, caller_read(self->fd, 0, got, sizeof(got)));
	EXPECT_EQ(0, memcmp(zero, got, sizeof(got)));
	EXPECT_EQ(0, caller_unmap(self->fd, 0));
	EXPECT_EQ(0, pins_more(self));
	munmap(mem, PAGE);
}

TEST_F(kvm_map, read_pfnmap)
{
	const char text[64] = "in the module";
	int fd2 = caller_open();
	char got[64] = "";
	char *mem;

	ASSERT_LE(0, fd2);
	mem = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd2, 0);
	ASSERT_NE(MAP_FAILED, (void *)mem);
	memcpy(mem, text, sizeof(text));
	munmap(mem, PAGE);
	mem = mmap(NULL, PAGE, PROT_READ, MAP_SHARED, fd2, 0);
	ASSERT_NE(MAP_FAILED, (void *)mem);
	ASSERT_EQ(0, guest_slot(&self->g, 0, GPA, mem, PAGE, false));

	EXPECT_EQ(-EINVAL, caller_map(self->fd, &self->g, GPA));
	EXPECT_EQ(1, caller_refs(fd2));
	ASSERT_EQ(0, caller_map_readonly(self->fd, &self->g, GPA));
	EXPECT_EQ(2, caller_refs(fd2));
	EXPECT_EQ(0, pins_more(self));
	EXPECT_EQ(0, caller_read(self->fd, 0, got, sizeof(got)));
	EXPECT_STREQ(text, got);
	EXPECT_EQ(0, caller_unmap(self->fd, 0));
	EXPECT_EQ(1, caller_refs(fd2));
	munmap(mem, PAGE);
	close(fd2);
}

/* 1 if the page is dirty, or logged as written; 0 if it is neither; -errno */
static int written(FIXTURE_DATA(kvm_map) *self, char *page)
{
	uint64_t pages = 0;
	int ret = guest_written(&self->g, 0, &pages);

	return ret ?: pages || pfn_flags(pfn_of(page)) & PF_DIRTY;
}

/* Neither the map nor any form of its unmap is a write, to whoever looks */
static void stays_clean(struct __test_metadata *_metadata,
			FIXTURE_DATA(kvm_map) *self, const char *where)
{
	static const unsigned int hows[] = {
		0, KVM_CALLER_DIRTY, KVM_CALLER_ATOMIC,
		KVM_CALLER_DIRTY | KVM_CALLER_ATOMIC,
	};
	const char *dir = getenv(where);
	char path[256], page[PAGE];
	unsigned int i;
	char *mem;
	int fd;

	ASSERT_NE(NULL, dir);
	snprintf(path, sizeof(path), "%s/kvm_map", dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	fill(page, PAGE, 8);
	ASSERT_EQ((ssize_t)PAGE, pwrite(fd, page, PAGE, 0));
	ASSERT_EQ(0, fsync(fd));
	mem = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)mem);
	ASSERT_EQ(0, guest_logged_slot(&self->g, 0, GPA, mem, PAGE));
	ASSERT_TRUE(filled(mem, PAGE, 8));
	ASSERT_EQ(0, written(self, mem));

	for (i = 0; i < sizeof(hows) / sizeof(hows[0]); i++) {
		ASSERT_EQ(1, caller_map_readonly(self->fd, &self->g, GPA));
		EXPECT_EQ(1, pins_more(self));
		EXPECT_EQ(0, written(self, mem)) TH_LOG("by the map");
		EXPECT_EQ(0, caller_unmap(self->fd, hows[i]));
		EXPECT_EQ(0, pins_more(self));
		EXPECT_EQ(0, written(self, mem))
			TH_LOG("by the unmap, %u", hows[i]);
	}

	/* What a write is */
	ASSERT_EQ(1, caller_map(self->fd, &self->g, GPA));
	EXPECT_EQ(1, written(self, mem)) TH_LOG("so this shows nothing");
	ASSERT_EQ(0, msync(mem, PAGE, MS_SYNC));
	EXPECT_EQ(0, written(self, mem));
	EXPECT_EQ(0, caller_unmap(self->fd, KVM_CALLER_DIRTY));
	EXPECT_EQ(1, written(self, mem)) TH_LOG("so this shows nothing");
	munmap(mem, PAGE);
	close(fd);
	unlink(path);
}

TEST_F(kvm_map, read_leaves_ext4_clean)
{
	stays_clean(_metadata, self, "USERPIN_EXT4");
}

TEST_F(kvm_map, read_leaves_xfs_clean)
{
	stays_clean(_metadata, self, "USERPIN_XFS");
}

/* --- What was written is not lost --------------------------------------------- */

/* What the disk has at the start of a file */
static int on_disk(const char *path, char *page)
{
	void *buf = aligned_alloc(PAGE, PAGE);
	int fd = open(path, O_RDONLY | O_DIRECT | O_CLOEXEC);
	int ret = -ENOMEM;

	if (fd >= 0 && buf) {
		ret = pread(fd, buf, PAGE, 0) == (ssize_t)PAGE ? 0 : -EIO;
		memcpy(page, buf, PAGE);
	}
	if (fd >= 0)
		close(fd);
	free(buf);
	return ret;
}

struct notice {
	const char *mem;
	long before;
};

static bool is_clean(void *arg)
{
	struct notice *n = arg;

	return vmstat("pin_noticed") > n->before &&
	       !(pfn_flags(pfn_of(n->mem)) & (PF_DIRTY | PF_WRITEBACK));
}

/* What has been noticed since there were @before, the flusher writes; 0 or -errno */
static int let_flusher_write(const char *mem, long before)
{
	struct notice n = { mem, before };
	bool clean;
	int ret;

	ret = write_text("/proc/sys/vm/dirty_expire_centisecs", "1") ?:
	      write_text("/proc/sys/vm/dirty_writeback_centisecs", "1");
	clean = !ret && wait_for(is_clean, &n);
	return write_text("/proc/sys/vm/dirty_expire_centisecs", "3000") ?:
	       write_text("/proc/sys/vm/dirty_writeback_centisecs", "500") ?:
	       ret ?: clean ? 0 : -ETIMEDOUT;
}

/*
 * Written back while it is mapped, so that the page is clean and its mapping
 * read-only; then written through the map. Nothing but the put of the pin knows
 * that the page is dirty again. A clone is made of the page meanwhile: it does not
 * change.
 */
static void write_behind_writeback(struct __test_metadata *_metadata,
				   FIXTURE_DATA(kvm_map) *self,
				   const char *where, unsigned int how,
				   bool clone)
{
	const char *dir = getenv(where);
	char path[256], copy[256], page[PAGE];
	int fd, to = -1;
	long before;
	bool dax;
	char *mem;

	if (!dir)
		SKIP(return, "no %s", where);
	dax = strstr(dir, "dax");
	snprintf(path, sizeof(path), "%s/kvm_map", dir);
	snprintf(copy, sizeof(copy), "%s/clone", dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	fill(page, PAGE, 3);
	ASSERT_EQ((ssize_t)PAGE, pwrite(fd, page, PAGE, 0));
	ASSERT_EQ(0, fsync(fd));
	mem = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)mem);
	ASSERT_EQ(0, guest_slot(&self->g, 0, GPA, mem, PAGE, false));

	ASSERT_EQ(1, caller_map(self->fd, &self->g, GPA));
	EXPECT_EQ(1, pins_more(self));
	ASSERT_EQ(0, msync(mem, PAGE, MS_SYNC));
	if (clone) {
		to = open(copy, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
		ASSERT_LE(0, to);
		ASSERT_EQ(0, ioctl(to, FICLONE, fd));
		close(to);
	}
	if (!dax)
		ASSERT_EQ(0ULL, pfn_flags(pfn_of(mem)) & PF_DIRTY)
			TH_LOG("not clean, so this shows nothing");
	ASSERT_EQ(0, write_text("/proc/sys/vm/drop_caches", "3"));
	ASSERT_EQ(0, write_through(self));
	EXPECT_STREQ(self->text, mem + 8);
	before = vmstat("pin_noticed");
	ASSERT_EQ(0, caller_unmap(self->fd, how));
	EXPECT_EQ(0, pins_more(self));

	/* The flusher asks nobody for what is noted: it finds what the put has said */
	if (clone)
		EXPECT_EQ(0, let_flusher_write(mem, before)) TH_LOG("the flusher");
	ASSERT_EQ(0, msync(mem, PAGE, MS_SYNC));
	EXPECT_EQ(0, on_disk(path, page));
	EXPECT_STREQ(self->text, page + 8) TH_LOG("msync did not write it");

	guest_close(&self->g);
	munmap(mem, PAGE);
	close(fd);
	ASSERT_EQ(0, write_text("/proc/sys/vm/drop_caches", "3"));
	ASSERT_EQ(0, remount(dir)) TH_LOG("%s", dir);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, fd);
	EXPECT_EQ((ssize_t)PAGE, pread(fd, page, PAGE, 0));
	EXPECT_STREQ(self->text, page + 8) TH_LOG("lost with the mount");
	close(fd);
	unlink(path);
	if (!clone)
		return;
	to = open(copy, O_RDONLY | O_CLOEXEC);
	EXPECT_EQ((ssize_t)PAGE, pread(to, page, PAGE, 0));
	EXPECT_TRUE(filled(page, PAGE, 3)) TH_LOG("the clone has changed");
	close(to);
	unlink(copy);
}

#define WRITTEN(test, where, how, clone)				\
	TEST_F(kvm_map, test)						\
	{								\
		write_behind_writeback(_metadata, self, where, how,	\
				       clone);				\
	}

WRITTEN(written_to_ext4, "USERPIN_EXT4", KVM_CALLER_DIRTY, false)
WRITTEN(written_to_xfs, "USERPIN_XFS", KVM_CALLER_DIRTY, false)
WRITTEN(written_to_fsdax, "USERPIN_DAX_EXT4", KVM_CALLER_DIRTY, false)
WRITTEN(written_to_ext4_atomic, "USERPIN_EXT4",
	KVM_CALLER_DIRTY | KVM_CALLER_ATOMIC, false)
WRITTEN(written_to_xfs_atomic, "USERPIN_XFS",
	KVM_CALLER_DIRTY | KVM_CALLER_ATOMIC, false)
/* These give the page a new place, or account for it, when it becomes dirty */
WRITTEN(written_to_btrfs, "USERPIN_BTRFS", KVM_CALLER_DIRTY, false)
WRITTEN(written_to_btrfs_atomic, "USERPIN_BTRFS",
	KVM_CALLER_DIRTY | KVM_CALLER_ATOMIC, false)
WRITTEN(written_to_btrfs_with_clone, "USERPIN_BTRFS", KVM_CALLER_DIRTY, true)
WRITTEN(written_to_btrfs_with_clone_atomic, "USERPIN_BTRFS",
	KVM_CALLER_DIRTY | KVM_CALLER_ATOMIC, true)
WRITTEN(written_to_xfs_with_clone, "USERPIN_XFS", KVM_CALLER_DIRTY, true)
WRITTEN(written_to_nfs, "USERPIN_NFS", KVM_CALLER_DIRTY, false)
WRITTEN(written_to_xfs_with_clone_atomic, "USERPIN_XFS",
	KVM_CALLER_DIRTY | KVM_CALLER_ATOMIC, true)

/* --- Memory that goes away while it is mapped --------------------------------- */

/* A page of the map's own: KVM goes on writing there, and no one else sees it */
static void goes_away(struct __test_metadata *_metadata,
		      FIXTURE_DATA(kvm_map) *self, char *mem,
		      int (*go)(char *mem), unsigned int how)
{
	char got[64] = "";

	fill(mem, PAGE, 5);
	ASSERT_EQ(0, guest_slot(&self->g, 0, GPA, mem, PAGE, false));
	ASSERT_EQ(1, caller_map(self->fd, &self->g, GPA));
	ASSERT_EQ(0, go(mem));
	EXPECT_EQ(1, pins_more(self));
	EXPECT_EQ(0, write_through(self));
	EXPECT_EQ(0, caller_read(self->fd, 8, got, sizeof(got)));
	EXPECT_STREQ(self->text, got);
	EXPECT_EQ(0, caller_unmap(self->fd, how));
	EXPECT_EQ(0, pins_more(self));
}

static int go_unmap(char *mem)
{
	return munmap(mem, PAGE);
}

static int go_dontneed(char *mem)
{
	return madvise(mem, PAGE, MADV_DONTNEED) || mem[8];
}

static int go_remove(char *mem)
{
	return madvise(mem, PAGE, MADV_REMOVE) || mem[8];
}

static void nothing(int sig)
{
	(void)sig;
}

/* Whoever has the page mapped is told */
static int go_poison(char *mem)
{
	signal(SIGBUS, nothing);
	return madvise(mem, PAGE, MADV_HWPOISON);
}

TEST_F(kvm_map, munmap_while_mapped)
{
	goes_away(_metadata, self, self->mem, go_unmap, KVM_CALLER_DIRTY);
}

TEST_F(kvm_map, dontneed_while_mapped)
{
	goes_away(_metadata, self, self->mem, go_dontneed, KVM_CALLER_DIRTY);
}

TEST_F(kvm_map, dontneed_while_mapped_atomic)
{
	goes_away(_metadata, self, self->mem, go_dontneed,
		  KVM_CALLER_DIRTY | KVM_CALLER_ATOMIC);
}

TEST_F(kvm_map, poison_while_mapped)
{
	char *mem = anon_pages(PAGE);

	ASSERT_NE(NULL, mem);
	goes_away(_metadata, self, mem, go_poison, KVM_CALLER_DIRTY);
	/* And is not given out again */
	EXPECT_EQ(-EINVAL, caller_map(self->fd, &self->g, GPA));
	munmap(mem, PAGE);
}

/* A hole is punched, or the file gets shorter */
static void file_goes_away(struct __test_metadata *_metadata,
			   FIXTURE_DATA(kvm_map) *self, const char *where,
			   bool truncate, unsigned int how)
{
	const char *dir = getenv(where);
	char path[256], got[64] = "";
	char *mem;
	int fd;

	ASSERT_NE(NULL, dir);
	snprintf(path, sizeof(path), "%s/kvm_map", dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, PAGE));
	mem = mmap(NULL, PAGE, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)mem);
	if (!truncate) {
		goes_away(_metadata, self, mem, go_remove, how);
		EXPECT_EQ(0, mem[8]);
	} else {
		fill(mem, PAGE, 5);
		ASSERT_EQ(0, guest_slot(&self->g, 0, GPA, mem, PAGE, false));
		ASSERT_EQ(1, caller_map(self->fd, &self->g, GPA));
		ASSERT_EQ(0, ftruncate(fd, 0));
		EXPECT_EQ(0, write_through(self));
		EXPECT_EQ(0, caller_unmap(self->fd, how));
		EXPECT_EQ(0, pins_more(self));
		/* What comes there later is not what was cut off */
		ASSERT_EQ(0, ftruncate(fd, PAGE));
		EXPECT_EQ((ssize_t)sizeof(got), pread(fd, got, sizeof(got), 8));
		EXPECT_EQ(0, got[0]);
	}
	ASSERT_EQ(0, fsync(fd));
	munmap(mem, PAGE);
	close(fd);
	unlink(path);
}

#define FILE_GONE(test, where, truncate, how)				\
	TEST_F(kvm_map, test)						\
	{								\
		file_goes_away(_metadata, self, where, truncate, how);	\
	}

FILE_GONE(remove_of_tmpfs_while_mapped, "USERPIN_TMPFS", false,
	  KVM_CALLER_DIRTY)
FILE_GONE(remove_of_ext4_while_mapped, "USERPIN_EXT4", false, KVM_CALLER_DIRTY)
FILE_GONE(remove_of_xfs_while_mapped, "USERPIN_XFS", false, KVM_CALLER_DIRTY)
FILE_GONE(truncate_of_ext4_while_mapped, "USERPIN_EXT4", true, KVM_CALLER_DIRTY)
FILE_GONE(truncate_of_ext4_while_mapped_atomic, "USERPIN_EXT4", true,
	  KVM_CALLER_DIRTY | KVM_CALLER_ATOMIC)
FILE_GONE(truncate_of_xfs_while_mapped_atomic, "USERPIN_XFS", true,
	  KVM_CALLER_DIRTY | KVM_CALLER_ATOMIC)

/* --- Memory that is to move or merge ------------------------------------------ */

TEST_F(kvm_map, migration_waits_for_unmap)
{
	uint64_t pfn;
	int to;

	ASSERT_EQ(0, guest_slot(&self->g, 0, GPA, self->mem, SIZE, false));
	to = !node_of(self->mem);
	ASSERT_EQ(1, move_to(self->mem, 1, PAGE, to))
		TH_LOG("memory that is not pinned does not move either");
	ASSERT_EQ(1, caller_map(self->fd, &self->g, GPA));
	pfn = pfn_of(self->mem);
	EXPECT_EQ(0, move_to(self->mem, 1, PAGE, !to));
	EXPECT_EQ(pfn, pfn_of(self->mem));
	EXPECT_EQ(0, write_through(self));
	EXPECT_EQ(0, caller_unmap(self->fd, KVM_CALLER_DIRTY));
	EXPECT_EQ(1, move_to(self->mem, 1, PAGE, !to)) TH_LOG("a pin is left");
	EXPECT_STREQ(self->text, self->mem + 8);
}

struct merge {
	char *a, *b;
	long scans;
};

static bool scanned(void *arg)
{
	struct merge *m = arg;

	return read_long(KSM "/full_scans", 0) > m->scans + 3;
}

static bool merged(void *arg)
{
	struct merge *m = arg;

	return pfn_of(m->a) == pfn_of(m->b);
}

/* Two pages alike: they become one when the map has gone, and no sooner */
TEST_F(kvm_map, ksm_waits_for_unmap)
{
	char *loose = anon_pages(2 * PAGE), *twin = anon_pages(PAGE);
	struct merge m = { .a = loose, .b = loose + PAGE };
	struct merge held = { .a = self->mem, .b = twin };

	ASSERT_NE(NULL, loose);
	ASSERT_NE(NULL, twin);
	fill(loose, PAGE, 41);
	fill(loose + PAGE, PAGE, 41);
	fill(self->mem, PAGE, 42);
	fill(twin, PAGE, 42);
	ASSERT_EQ(0, guest_slot(&self->g, 0, GPA, self->mem, SIZE, false));
	ASSERT_EQ(1, caller_map(self->fd, &self->g, GPA));
	ASSERT_EQ(0, madvise(loose, 2 * PAGE, MADV_MERGEABLE));
	ASSERT_EQ(0, madvise(twin, PAGE, MADV_MERGEABLE));
	ASSERT_EQ(0, madvise(self->mem, PAGE, MADV_MERGEABLE));
	m.scans = read_long(KSM "/full_scans", 0);
	ASSERT_EQ(0, ksm_start());
	EXPECT_TRUE(wait_for(merged, &m))
		TH_LOG("pages that are not pinned were not merged");
	EXPECT_TRUE(wait_for(scanned, &m));
	EXPECT_FALSE(merged(&held));
	EXPECT_EQ(0, write_through(self));
	EXPECT_TRUE(filled(twin, PAGE, 42)) TH_LOG("the other page changed");
	fill(self->mem, PAGE, 42);
	EXPECT_EQ(0, caller_unmap(self->fd, KVM_CALLER_DIRTY));
	EXPECT_TRUE(wait_for(merged, &held)) TH_LOG("a pin is left");

	/* A map of a merged page gets a page of its own */
	EXPECT_EQ(1, caller_map(self->fd, &self->g, GPA));
	EXPECT_EQ(0, write_through(self));
	EXPECT_STREQ(self->text, self->mem + 8);
	EXPECT_TRUE(filled(twin, PAGE, 42)) TH_LOG("the other page changed");
	EXPECT_EQ(0, caller_unmap(self->fd, KVM_CALLER_DIRTY));
	EXPECT_EQ(0, write_text(KSM "/run", "2"));
}

/* fork() leaves the map's page to the parent, with a copy for the child */
TEST_F(kvm_map, fork_copies_what_is_mapped)
{
	int status;
	pid_t pid;

	fill(self->mem, PAGE, 6);
	ASSERT_EQ(0, guest_slot(&self->g, 0, GPA, self->mem, SIZE, false));
	ASSERT_EQ(1, caller_map(self->fd, &self->g, GPA));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		pause();
	self->mem[PAGE - 1] = 0;
	EXPECT_EQ(0, write_through(self));
	EXPECT_STREQ(self->text, self->mem + 8)
		TH_LOG("the parent has lost the page that is mapped");
	kill(pid, SIGKILL);
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, caller_unmap(self->fd, KVM_CALLER_DIRTY));
}

TEST_F(kvm_map, killed_while_mapped)
{
	int status, i;
	pid_t pid;

	for (i = 0; i < 5; i++) {
		int sv[2];
		long got = -1;

		ASSERT_EQ(0, chan_pair(sv));
		pid = fork();
		ASSERT_LE(0, pid);
		if (!pid) {
			struct guest g;
			int fd = caller_open();
			long ret = guest_open(&g) ?:
				   guest_slot(&g, 0, GPA, self->mem, SIZE,
					      false);

			chan_put(sv[1], ret ?: caller_map(fd, &g, GPA));
			pause();
			_exit(0);
		}
		ASSERT_EQ(0, chan_get(sv[0], &got));
		EXPECT_EQ(1, got);
		EXPECT_EQ(1, pins_more(self));
		kill(pid, SIGKILL);
		EXPECT_EQ(0, reap(pid, &status));
		EXPECT_BACK(&self->before);
		close(sv[0]);
		close(sv[1]);
	}
}

/* --- Regions: as SEV has them ------------------------------------------------- */

static const struct holder *the_holder(const struct pins *p)
{
	int i;

	for (i = 0; i < p->nr; i++)
		if (!strncmp(p->holder[i].name, "kvm-test.", 9))
			return &p->holder[i];
	return NULL;
}

TEST_F(kvm_map, region_is_a_holder)
{
	const struct holder *h;
	struct pins p;

	ASSERT_EQ(0, caller_pin(self->fd, self->mem + 100, SIZE - 200));
	EXPECT_STATE_UNCHARGED(&self->before, (long)N, 0, (long)N, (long)N);
	ASSERT_EQ(0, pins_read(0, &p));
	h = the_holder(&p);
	ASSERT_NE(NULL, h);
	EXPECT_EQ((long)N, h->pages);

	EXPECT_EQ(-EINVAL, caller_put(self->fd, self->mem, SIZE));
	EXPECT_EQ(0, caller_put(self->fd, self->mem + 100, SIZE - 200));
	EXPECT_STATE(&self->before, 0, 0, 0);
	/* It stays, for what it may be asked */
	ASSERT_EQ(0, pins_read(0, &p));
	h = the_holder(&p);
	ASSERT_NE(NULL, h);
	EXPECT_EQ((long)N, h->peak);
	EXPECT_EQ((long)N, h->released);
}

/*
 * A guest that is encrypted and has a device: its memory is held once, and the
 * one limit leaves as much as it always did beside the other
 */
TEST_F(kvm_map, region_and_device_are_held_once)
{
	NEED_DEVICES(1U);
	ASSERT_EQ(0, cap_drop(CAP_IPC_LOCK));
	ASSERT_EQ(0, set_memlock(SIZE));
	ASSERT_EQ(0, vfio_open(&self->v, 0));
	ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW));
	EXPECT_STATE(&self->before, (long)N, (long)N, (long)N);
	ASSERT_EQ(0, caller_pin(self->fd, self->mem, SIZE));
	EXPECT_STATE(&self->before, 2 * (long)N, (long)N, (long)N);
	EXPECT_EQ(0, edu_check(&self->v.dev[0], self->mem, IOVA, SIZE));
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	EXPECT_STATE_UNCHARGED(&self->before, (long)N, 0, (long)N, (long)N);
	EXPECT_EQ(0, caller_put(self->fd, self->mem, SIZE));
	EXPECT_STATE(&self->before, 0, 0, 0);
}

static void try_region(struct __test_metadata *_metadata,
		       FIXTURE_DATA(kvm_map) *self, const char *name, int want,
		       enum reason why)
{
	const struct backing *b = backing_find(name);
	struct snap *base = malloc(sizeof(*base));
	char *log;

	ASSERT_NE(NULL, b);
	ASSERT_NE(NULL, base);
	ASSERT_EQ(0, area_open(b, &self->area, NULL, NULL))
		TH_LOG("%s", self->area.why);
	log_room(1);
	ASSERT_EQ(0, snap(base));
	EXPECT_EQ(want, caller_pin(self->fd, self->area.addr,
				   self->area.size));
	if (!want) {
		EXPECT_EQ((long)(self->area.size / PAGE), pins_more(self));
		EXPECT_EQ(0, caller_put(self->fd, self->area.addr,
					self->area.size));
	} else {
		EXPECT_REFUSED(base, why, 1);
		log = kernel_log();
		ASSERT_NE(NULL, log);
		EXPECT_NE(NULL, strstr(log, ": kvm-test."));
		EXPECT_NE(NULL, strstr(log, getenv(b->where)))
			TH_LOG("the file is not named");
		free(log);
	}
	EXPECT_EQ(0, pins_more(self));
	free(base);
}

#define REGION(test, name, want, why)					\
	TEST_F(kvm_map, test)						\
	{								\
		try_region(_metadata, self, name, want, why);		\
	}

REGION(region_thp, "thp", 0, NO_REASON)
REGION(region_hugetlb, "hugetlb-2m", 0, NO_REASON)
REGION(region_memfd, "memfd", 0, NO_REASON)
REGION(region_ext4_private, "ext4-private", 0, NO_REASON)
REGION(region_ext4_readonly, "ext4-ro", 0, NO_REASON)
REGION(region_ext4_shared, "ext4-shared", -EOPNOTSUPP, FILEMAP)
REGION(region_xfs_shared, "xfs-shared", -EOPNOTSUPP, FILEMAP)
REGION(region_fsdax_shared, "dax-ext4-shared", -EOPNOTSUPP, FSDAX)

TEST_F(kvm_map, region_limit)
{
	struct snap *base = malloc(sizeof(*base));

	ASSERT_NE(NULL, base);
	ASSERT_EQ(0, cap_drop(CAP_IPC_LOCK));
	ASSERT_EQ(0, set_memlock(SIZE - PAGE));
	ASSERT_EQ(0, snap(base));
	EXPECT_EQ(-ENOMEM, caller_pin(self->fd, self->mem, SIZE));
	EXPECT_REFUSED(base, MEMLOCK, 1);
	EXPECT_STATE(&self->before, 0, 0, 0);
	EXPECT_EQ(0, caller_pin(self->fd, self->mem, SIZE - PAGE));
	/* A page counts in each region that has it, as on stock */
	EXPECT_EQ(-ENOMEM, caller_pin(self->fd, self->mem, PAGE));
	ASSERT_EQ(0, set_memlock(SIZE));
	EXPECT_EQ(0, caller_pin(self->fd, self->mem, PAGE));
	EXPECT_REFUSED(base, MEMLOCK, 2);
	EXPECT_STATE_UNCHARGED(&self->before, (long)N, 0, (long)N - 1,
			       (long)N - 1);
	free(base);
}

/*
 * The VM that takes over is another process's. The pins stay in the ledger where
 * they are, whatever that one's limit; reports say whose they are now.
 */
TEST_F(kvm_map, region_moves_to_another_process)
{
	static struct pins all;
	const struct holder *h;
	int sv[2], status;
	struct pins p;
	long got = -1;
	pid_t pid;

	ASSERT_EQ(0, caller_pin(self->fd, self->mem, SIZE));
	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		int fd = caller_open();
		long ret;

		ret = cap_drop(CAP_IPC_LOCK) ?: set_memlock(SIZE - PAGE);
		chan_put(sv[1], ret ?: caller_take(fd, self->fd));
		chan_get(sv[1], &ret);
		_exit(0);
	}
	ASSERT_EQ(0, chan_get(sv[0], &got));
	EXPECT_EQ(0, got);
	EXPECT_STATE_UNCHARGED(&self->before, (long)N, 0, (long)N, (long)N);
	ASSERT_EQ(0, pins_read(pid, &p));
	EXPECT_EQ(NULL, the_holder(&p));
	EXPECT_EQ(0, status_pages(pid, "VmLck:"));
	ASSERT_EQ(0, pins_read_all(&all));
	h = the_holder(&all);
	ASSERT_NE(NULL, h);
	EXPECT_EQ(pid, h->pid);
	EXPECT_EQ((long)N, h->pages);
	EXPECT_STREQ("alive", h->state);

	/* They go with the process that has them now */
	ASSERT_EQ(0, chan_put(sv[0], 0));
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_BACK(&self->before);
}

/* The process is gone, the file is open elsewhere */
TEST_F(kvm_map, region_outlives_its_process)
{
	static struct pins all;
	const struct holder *h;
	int sv[2], status;
	long got = -1;
	pid_t pid;

	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		chan_put(sv[1], caller_pin(self->fd, self->mem, SIZE));
		_exit(0);
	}
	ASSERT_EQ(0, chan_get(sv[0], &got));
	EXPECT_EQ(0, got);
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ((long)N, pins_more(self));
	ASSERT_EQ(0, pins_read_all(&all));
	h = the_holder(&all);
	ASSERT_NE(NULL, h);
	EXPECT_EQ(pid, h->pid);
	EXPECT_STREQ("gone", h->state);
	close(self->fd);
	self->fd = -1;
	EXPECT_EQ(0, pins_more(self));
}

TEST_HARNESS_MAIN
