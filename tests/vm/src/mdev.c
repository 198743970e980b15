// SPDX-License-Identifier: GPL-2.0
/*
 * Pins that a mediated device takes through vfio_pin_pages(), alone and beside
 * those of an IOMMU; and the memory that they take. The device is
 * tests/vm/modules/pin_caller.c, whose module and mdev.ko the stanza in tests.conf
 * loads.
 */
#include <linux/capability.h>
#include <pthread.h>
#include <sys/stat.h>

#include "mdev_lib.h"
#include "test.h"

#define N	32L
#define SIZE	(N * PAGE)
#define P	4U		/* pages that the device pins */

/* A container with a mediated device, and maybe a real one beside it */
struct bench {
	struct vfio v;
	struct snap before, base;
	char uuid[UUID_SIZE];
	char *mem;
	int pc;			/* the mediated device */
};

static void bench_open(struct __test_metadata *_metadata, struct bench *self,
		       bool beside)
{
	NEED_DEVICES(1U);
	self->v.fd = -1;
	ASSERT_TRUE(mdev_supported()) TH_LOG("pin_caller.ko is not loaded");
	ASSERT_EQ(0, mdev_create(self->uuid));
	self->mem = anon_pages(SIZE);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, snap(&self->before));
	if (beside) {
		ASSERT_EQ(0, vfio_open(&self->v, 0));
		ASSERT_EQ(0, vfio_add_mdev(&self->v, self->uuid));
		self->pc = self->v.dev[1].fd;
	} else {
		ASSERT_EQ(0, vfio_open_mdev(&self->v, self->uuid));
		self->pc = self->v.dev[0].fd;
	}
	ASSERT_EQ(0, snap(&self->base));
}

static void bench_close(struct __test_metadata *_metadata, struct bench *self)
{
	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
	EXPECT_EQ(0, mdev_remove(self->uuid));
}

static int pin(struct bench *self, unsigned int page, unsigned int n,
	       unsigned int flags)
{
	return pc_pin(self->pc, IOVA + page * PAGE, n, flags);
}

static int unpin(struct bench *self, unsigned int page, unsigned int n)
{
	return pc_unpin(self->pc, IOVA + page * PAGE, n);
}

static int copy(struct bench *self, unsigned int page, void *data,
		unsigned int len, unsigned int flags)
{
	return pc_copy(self->pc, IOVA + page * PAGE, data, len, flags);
}

static int map(struct bench *self)
{
	return vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW);
}

/* --- With and without a real device in the container ------------------------ */

FIXTURE(mdev)
{
	struct bench b;
};

FIXTURE_VARIANT(mdev)
{
	bool beside;
};

FIXTURE_VARIANT_ADD(mdev, alone) { .beside = false };
FIXTURE_VARIANT_ADD(mdev, beside) { .beside = true };

FIXTURE_SETUP(mdev)
{
	bench_open(_metadata, &self->b, variant->beside);
}

FIXTURE_TEARDOWN(mdev)
{
	bench_close(_metadata, &self->b);
}

/* Pins of the IOMMU, charge and held of what is mapped */
static long mapped(const FIXTURE_VARIANT(mdev) *variant)
{
	return variant->beside ? N : 0;
}

/* A page is charged once, whoever pins it and how often */
TEST_F(mdev, charged_once)
{
	struct bench *bench = &self->b;
	long m = mapped(variant), c = m ? m : P;
	int i;

	ASSERT_EQ(0, map(bench));
	EXPECT_STATE(&bench->base, m, m, m);
	EXPECT_EQ((int)P, pin(bench, 2, P, PIN_CALLER_WRITE));
	EXPECT_STATE(&bench->base, m + P, c, c);
	/* The same again is the same pin, with a use more */
	for (i = 0; i < 3; i++) {
		EXPECT_EQ((int)P, pin(bench, 2, P, PIN_CALLER_WRITE));
	}
	EXPECT_STATE(&bench->base, m + P, c, c);
	for (i = 0; i < 3; i++) {
		EXPECT_EQ(0, unpin(bench, 2, P));
	}
	EXPECT_STATE(&bench->base, m + P, c, c);
	EXPECT_EQ(0, unpin(bench, 2, P));
	EXPECT_STATE(&bench->base, m, m, m);
	EXPECT_EQ((long)SIZE, vfio_unmap(&bench->v, IOVA, SIZE));
	EXPECT_BACK(&bench->base);
}

/* The pages are those of the process, in both directions */
TEST_F(mdev, contents)
{
	struct bench *bench = &self->b;
	unsigned int how[] = { 0, PIN_CALLER_KTHREAD, PIN_CALLER_PAGE };
	char *buf = anon_pages(PAGE);
	size_t i;

	ASSERT_NE(NULL, buf);
	ASSERT_EQ(0, map(bench));
	ASSERT_EQ((int)P, pin(bench, 0, P, PIN_CALLER_WRITE));
	for (i = 0; i < ARRAY_SIZE(how); i++) {
		fill(bench->mem + PAGE, PAGE, 10 + i);
		EXPECT_EQ(0, copy(bench, 1, buf, PAGE, how[i]));
		EXPECT_TRUE(filled(buf, PAGE, 10 + i));
		fill(buf, PAGE, 20 + i);
		EXPECT_EQ(0, copy(bench, 2, buf, PAGE,
				  how[i] | PIN_CALLER_WRITE));
		EXPECT_TRUE(filled(bench->mem + 2 * PAGE, PAGE, 20 + i));
	}
	EXPECT_EQ(0, unpin(bench, 0, P));
}

/* A kernel thread's pins are charged to the process whose memory it is */
TEST_F(mdev, from_a_kernel_thread)
{
	struct bench *bench = &self->b;
	long m = mapped(variant), c = m ? m : P;

	ASSERT_EQ(0, map(bench));
	EXPECT_EQ((int)P, pin(bench, 0, P,
			      PIN_CALLER_WRITE | PIN_CALLER_KTHREAD));
	EXPECT_STATE(&bench->base, m + P, c, c);
	EXPECT_EQ(0, unpin(bench, 0, P));
	EXPECT_STATE(&bench->base, m, m, m);
}

TEST_F(mdev, limit)
{
	struct bench *bench = &self->b;
	long m = mapped(variant);

	ASSERT_EQ(0, set_memlock((m + 2) * PAGE));
	ASSERT_EQ(0, cap_drop(CAP_IPC_LOCK));
	ASSERT_EQ(0, map(bench));
	if (variant->beside) {
		/* All of it is charged already */
		EXPECT_EQ((int)P, pin(bench, 0, P, PIN_CALLER_WRITE));
		EXPECT_STATE(&bench->base, m + P, m, m);
		EXPECT_EQ(0, unpin(bench, 0, P));
	} else {
		EXPECT_EQ(-ENOMEM, pin(bench, 0, 3, PIN_CALLER_WRITE));
		EXPECT_STATE(&bench->base, 0, 0, 0);
		EXPECT_EQ(2, pin(bench, 0, 2, PIN_CALLER_WRITE));
		EXPECT_STATE(&bench->base, 2, 2, 2);
		EXPECT_EQ(-ENOMEM, pin(bench, 2, 1, PIN_CALLER_WRITE));
		EXPECT_EQ(0, unpin(bench, 0, 2));
	}
	EXPECT_STATE(&bench->base, m, m, m);
}

/* What is not mapped cannot be pinned, and leaves the rest of a call unpinned */
TEST_F(mdev, beyond_the_map)
{
	struct bench *bench = &self->b;
	long m = mapped(variant);

	ASSERT_EQ(0, map(bench));
	EXPECT_EQ(-EINVAL, pin(bench, N - 2, 4, PIN_CALLER_WRITE));
	EXPECT_STATE(&bench->base, m, m, m);
	EXPECT_EQ(-EINVAL, unpin(bench, N - 2, 1));
	ASSERT_EQ((long)SIZE, vfio_unmap(&bench->v, IOVA, SIZE));
	ASSERT_EQ(0, vfio_map(&bench->v, bench->mem, IOVA, SIZE, MAP_R));
	EXPECT_EQ(-EPERM, pin(bench, 0, 1, PIN_CALLER_WRITE));
	EXPECT_EQ(1, pin(bench, 0, 1, 0));
	EXPECT_EQ(0, unpin(bench, 0, 1));
	EXPECT_STATE(&bench->base, m, m, m);
}

/* The memory of a device that pins it is unmapped: the device lets go */
TEST_F(mdev, unmap_with_pins)
{
	struct bench *bench = &self->b;
	struct pin_caller_stat stat;

	ASSERT_EQ(0, map(bench));
	ASSERT_EQ((int)P, pin(bench, 0, P, PIN_CALLER_WRITE));
	ASSERT_EQ((int)P, pin(bench, 2, P, PIN_CALLER_WRITE));
	EXPECT_EQ((long)SIZE, vfio_unmap(&bench->v, IOVA, SIZE));
	EXPECT_EQ(0, pc_stat(bench->pc, &stat));
	EXPECT_EQ(0UL, (unsigned long)stat.pinned);
	EXPECT_EQ(2UL * P, (unsigned long)stat.unmapped);
	EXPECT_BACK(&bench->base);
}

/* A device that does not: the unmap fails, and what it is about stays mapped */
TEST_F(mdev, unmap_with_pins_that_stay)
{
	struct bench *bench = &self->b;
	long m = mapped(variant), c = m ? m : P;

	ASSERT_EQ(0, map(bench));
	ASSERT_EQ((int)P, pin(bench, 0, P, PIN_CALLER_WRITE));
	ASSERT_EQ(0, pc_keep(bench->pc, true));
	EXPECT_EQ(-EBUSY, vfio_unmap(&bench->v, IOVA, SIZE));
	EXPECT_EQ(-EBUSY, vfio_unmap_all(&bench->v));
	EXPECT_STATE(&bench->base, m + P, c, c);
	EXPECT_EQ(-EEXIST, map(bench));
	ASSERT_EQ(0, pc_keep(bench->pc, false));
	EXPECT_EQ((long)SIZE, vfio_unmap(&bench->v, IOVA, SIZE));
	EXPECT_BACK(&bench->base);
}

TEST_F(mdev, close_with_pins)
{
	struct bench *bench = &self->b;

	ASSERT_EQ(0, map(bench));
	ASSERT_EQ((int)P, pin(bench, 0, P, PIN_CALLER_WRITE));
	vfio_close(&bench->v);
	EXPECT_BACK(&bench->before);
}

/* The pages may have changed in between: then they are others, and charged */
TEST_F(mdev, other_pages)
{
	struct bench *bench = &self->b;
	long m = mapped(variant);

	ASSERT_EQ(0, map(bench));
	ASSERT_EQ(0, madvise(bench->mem, SIZE, MADV_DONTNEED));
	memset(bench->mem, 1, SIZE);
	ASSERT_EQ((int)P, pin(bench, 0, P, PIN_CALLER_WRITE));
	EXPECT_STATE(&bench->base, m + P, m + P, m + P);
	EXPECT_EQ((long)SIZE, vfio_unmap(&bench->v, IOVA, SIZE));
	EXPECT_BACK(&bench->base);
}

/* The last pages of the IOVA space, whose end is 0: an IOMMU may end before */
TEST_F(mdev, top)
{
	const uint64_t top = -PAGE, first = top - PAGE;
	struct bench *bench = &self->b;
	struct vfio *v = &bench->v;
	long m = variant->beside ? 3 : 0, c = variant->beside ? 2 : 0;

	if (variant->beside && vfio_room(v, top, PAGE) == VFIO_NOWHERE) {
		EXPECT_EQ(-EINVAL, vfio_map(v, bench->mem, top, PAGE, MAP_RW));
		return;
	}
	ASSERT_EQ(0, vfio_map(v, bench->mem, first, 2 * PAGE, MAP_RW));
	EXPECT_EQ(-EEXIST, vfio_map(v, bench->mem, top, PAGE, MAP_RW));
	/* What the count goes on with is not what it wraps to */
	ASSERT_EQ(0, vfio_map(v, bench->mem, 0, PAGE, MAP_RW));
	EXPECT_GT(0, pc_pin(bench->pc, top, 2, PIN_CALLER_WRITE));
	EXPECT_STATE(&bench->base, m, c, c);
	EXPECT_EQ(2, pc_pin(bench->pc, first, 2, PIN_CALLER_WRITE));
	EXPECT_EQ(0, pc_unpin(bench->pc, top, 1));
	EXPECT_STATE(&bench->base, m + 1, c ? c : 1, c ? c : 1);
	EXPECT_EQ(-EINVAL, vfio_unmap(v, top, PAGE));
	EXPECT_EQ(2 * (long)PAGE, vfio_unmap(v, first, 2 * PAGE));
	EXPECT_EQ((long)PAGE, vfio_unmap(v, 0, PAGE));
	EXPECT_BACK(&bench->base);
}

/* The process whose memory it is ends: pins stay, new ones are refused */
TEST_F(mdev, owner_dies)
{
	struct bench *bench = &self->b;
	struct snap now;
	int sv[2], status;
	pid_t pid;

	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (map(bench) || chan_put(sv[1], 0) || chan_get(sv[1], NULL))
			_exit(1);
		_exit(0);
	}
	ASSERT_EQ(0, chan_get(sv[0], NULL));
	EXPECT_EQ((int)P, pin(bench, 0, P, PIN_CALLER_WRITE));
	EXPECT_EQ(0, pins_read(0, &now.pins));
	EXPECT_EQ(0, now.pins.nr) TH_LOG("it is charged to the caller");
	EXPECT_EQ(0, pins_read(pid, &now.pins));
	EXPECT_EQ(variant->beside ? N : P, now.pins.charge);
	EXPECT_EQ(mapped(variant) + P, pins_pages(&now.pins));
	EXPECT_EQ(0, chan_put(sv[0], 0));
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_GT(0, pin(bench, P, 1, PIN_CALLER_WRITE));
	EXPECT_EQ(0, snap(&now));
	EXPECT_EQ(variant->beside ? N : P, now.counted - bench->base.counted);
	EXPECT_EQ(0, unpin(bench, 0, P));
	EXPECT_EQ((long)SIZE, vfio_unmap(&bench->v, IOVA, SIZE));
	EXPECT_BACK(&bench->base);
}

/* Dirty tracking: a mediated device dirties what it pins, and nothing else */
TEST_F(mdev, dirty_tracking)
{
	const uint64_t all = (1ULL << N) - 1;
	struct bench *bench = &self->b;
	uint64_t bits = 0;

	ASSERT_EQ(0, map(bench));
	ASSERT_EQ((int)P, pin(bench, 2, P, PIN_CALLER_WRITE));
	ASSERT_EQ(0, vfio_dirty(&bench->v, true));
	EXPECT_EQ(0, vfio_dirty_get(&bench->v, IOVA, SIZE, &bits));
	EXPECT_EQ(variant->beside ? all : 0x3cULL, bits);
	EXPECT_EQ(0, unpin(bench, 2, P));
	EXPECT_EQ(1, pin(bench, 9, 1, PIN_CALLER_WRITE));
	EXPECT_EQ(0, vfio_dirty_get(&bench->v, IOVA, SIZE, &bits));
	EXPECT_EQ(variant->beside ? all : 0x23cULL, bits);

	/* Told once; what is still pinned may have become dirty since */
	EXPECT_EQ(0, vfio_dirty_get(&bench->v, IOVA, SIZE, &bits));
	EXPECT_EQ(variant->beside ? all : 0x200ULL, bits);
	EXPECT_EQ(0, vfio_dirty(&bench->v, false));
	EXPECT_EQ(0, unpin(bench, 9, 1));
}

TEST_F(mdev, unmap_with_dirty_bitmap)
{
	struct bench *bench = &self->b;
	uint64_t bits = 0;

	ASSERT_EQ(0, map(bench));
	ASSERT_EQ(0, vfio_dirty(&bench->v, true));
	ASSERT_EQ((int)P, pin(bench, 2, P, PIN_CALLER_WRITE));
	ASSERT_EQ(1, pin(bench, 20, 1, PIN_CALLER_WRITE));
	EXPECT_EQ(0, unpin(bench, 20, 1));
	EXPECT_EQ((long)SIZE, vfio_unmap_dirty(&bench->v, IOVA, SIZE, &bits));
	EXPECT_EQ(variant->beside ? (1ULL << N) - 1 : 0x10003cULL, bits);
	EXPECT_EQ(0, vfio_dirty(&bench->v, false));
	EXPECT_BACK(&bench->base);
}

/* Addresses are not changed under a device that may use them any time */
TEST_F(mdev, no_change_of_addresses)
{
	struct bench *bench = &self->b;

	ASSERT_EQ(0, map(bench));
	EXPECT_EQ(-EBUSY, vfio_vaddr_drop(&bench->v, IOVA, SIZE));
}

/* --- A real device joins a mediated one, and leaves it ---------------------- */

FIXTURE(join)
{
	struct bench b;
};

FIXTURE_SETUP(join)
{
	bench_open(_metadata, &self->b, false);
}

FIXTURE_TEARDOWN(join)
{
	bench_close(_metadata, &self->b);
}

/* The IOMMU's device goes first, then what the other pins is charged alone */
TEST_F(join, leaves)
{
	struct bench *bench = &self->b;

	ASSERT_EQ(0, vfio_add(&bench->v, 0));
	ASSERT_EQ(0, map(bench));
	ASSERT_EQ((int)P, pin(bench, 0, P, PIN_CALLER_WRITE));
	EXPECT_STATE(&bench->base, N + P, N, N);
	vfio_remove(&bench->v);
	EXPECT_STATE(&bench->base, P, P, P);
	fill(bench->mem, PAGE, 3);
	EXPECT_EQ(0, unpin(bench, 0, P));
	EXPECT_BACK(&bench->base);

	/* and comes back to mappings without pins */
	ASSERT_EQ(0, vfio_add(&bench->v, 0));
	EXPECT_STATE(&bench->base, N, N, N);
	EXPECT_EQ(0, edu_check(&bench->v.dev[1], bench->mem, IOVA, SIZE));
	EXPECT_EQ((long)SIZE, vfio_unmap(&bench->v, IOVA, SIZE));
	EXPECT_BACK(&bench->base);
}

/* A limit that does not allow what a device needs that joins */
TEST_F(join, beyond_the_limit)
{
	struct bench *bench = &self->b;

	ASSERT_EQ(0, map(bench));
	ASSERT_EQ((int)P, pin(bench, 0, P, PIN_CALLER_WRITE));
	ASSERT_EQ(0, set_memlock((N - 1) * PAGE));
	ASSERT_EQ(0, cap_drop(CAP_IPC_LOCK));
	/* The mapping was made with the capability, so it may go on */
	EXPECT_EQ(0, vfio_add(&bench->v, 0));
	EXPECT_STATE(&bench->base, N + P, N, N);
	vfio_remove(&bench->v);
	EXPECT_STATE(&bench->base, P, P, P);
	EXPECT_EQ((long)SIZE, vfio_unmap(&bench->v, IOVA, SIZE));

	ASSERT_EQ(0, map(bench));
	EXPECT_EQ(-ENOMEM, vfio_add(&bench->v, 0));
	EXPECT_STATE(&bench->base, 0, 0, 0);
	EXPECT_EQ(0, set_memlock(N * PAGE));
	EXPECT_EQ(0, vfio_add(&bench->v, 0));
	EXPECT_STATE(&bench->base, N, N, N);
}

/* The limit is lowered: what the other one has pinned stays so, and is charged */
TEST_F(join, lowered_limit)
{
	struct bench *bench = &self->b;

	ASSERT_EQ(0, cap_drop(CAP_IPC_LOCK));
	ASSERT_EQ(0, vfio_add(&bench->v, 0));
	ASSERT_EQ(0, map(bench));
	ASSERT_EQ((int)P, pin(bench, 0, P, PIN_CALLER_WRITE));
	ASSERT_EQ(0, set_memlock(PAGE));
	vfio_remove(&bench->v);
	EXPECT_STATE(&bench->base, P, P, P);
	EXPECT_EQ(-ENOMEM, vfio_add(&bench->v, 0));
	EXPECT_STATE(&bench->base, P, P, P);
	EXPECT_EQ(0, unpin(bench, 0, P));
	EXPECT_BACK(&bench->base);
}

/* What it needs comes in steps of the limit, of which nothing may be left */
TEST_F(join, large)
{
	const long n = 5000;
	struct bench *bench = &self->b;
	char *mem = anon_pages(n * PAGE);

	ASSERT_NE(NULL, mem);
	ASSERT_EQ(0, vfio_map(&bench->v, mem, IOVA, n * PAGE, MAP_RW));
	EXPECT_STATE(&bench->base, 0, 0, 0);
	ASSERT_EQ(0, vfio_add(&bench->v, 0));
	EXPECT_STATE(&bench->base, n, n, n);
	ASSERT_EQ((int)P, pin(bench, 0, P, PIN_CALLER_WRITE));
	EXPECT_STATE(&bench->base, n + P, n, n);
	EXPECT_EQ(0, edu_check_once(&bench->v.dev[1], mem, IOVA, n * PAGE));
	vfio_remove(&bench->v);
	EXPECT_STATE(&bench->base, P, P, P);
	EXPECT_EQ(n * (long)PAGE, vfio_unmap_all(&bench->v));
	EXPECT_BACK(&bench->base);
}

/* One page of one mapping cannot be had: the device stays out, nothing is left */
TEST_F(join, refused)
{
	struct bench *bench = &self->b;
	char *mem = anon_pages(SIZE), *hole = anon_pages(SIZE);

	ASSERT_NE(NULL, mem);
	ASSERT_NE(NULL, hole);
	ASSERT_EQ(0, map(bench));
	ASSERT_EQ(0, vfio_map(&bench->v, hole, IOVA + SIZE, SIZE, MAP_RW));
	ASSERT_EQ(0, vfio_map(&bench->v, mem, IOVA + 2 * SIZE, SIZE, MAP_RW));
	ASSERT_EQ((int)P, pin(bench, 0, P, PIN_CALLER_WRITE));
	ASSERT_EQ(0, munmap(hole + 5 * PAGE, PAGE));
	EXPECT_EQ(-EFAULT, vfio_add(&bench->v, 0));
	EXPECT_STATE(&bench->base, P, P, P);
	EXPECT_EQ((long)SIZE, vfio_unmap(&bench->v, IOVA + SIZE, SIZE));
	ASSERT_EQ(0, vfio_add(&bench->v, 0));
	EXPECT_STATE(&bench->base, 2 * N + P, 2 * N, 2 * N);
	EXPECT_EQ(0, edu_check_once(&bench->v.dev[1], mem, IOVA + 2 * SIZE,
				    SIZE));
}

/*
 * The device is attached by another process than the one that mapped: it gets
 * the memory of that one, who pays.
 */
TEST_F(join, by_another_process)
{
	struct bench *bench = &self->b;
	int sv[2], status;
	struct pins p;
	pid_t pid;

	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		fill(bench->mem, EDU_LEN, 41);
		if (map(bench) || chan_put(sv[1], 0) || chan_get(sv[1], NULL))
			_exit(1);
		if (!filled(bench->mem + PAGE, EDU_LEN, 41))
			_exit(2);
		_exit(0);
	}
	ASSERT_EQ(0, chan_get(sv[0], NULL));
	memset(bench->mem, 0, SIZE);
	ASSERT_EQ(0, vfio_add(&bench->v, 0));
	EXPECT_EQ(0, pins_read(0, &p));
	EXPECT_EQ(0, p.nr);
	EXPECT_EQ(0, pins_read(pid, &p));
	EXPECT_EQ(N, p.charge);
	EXPECT_EQ(N, status_pages(pid, "VmLck:"));
	EXPECT_EQ(0, edu_copy(&bench->v.dev[1], IOVA + PAGE, IOVA, EDU_LEN));
	EXPECT_FALSE(filled(bench->mem + PAGE, EDU_LEN, 41));
	EXPECT_EQ(0, chan_put(sv[0], 0));
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ((long)SIZE, vfio_unmap(&bench->v, IOVA, SIZE));
	EXPECT_BACK(&bench->base);
}

/*
 * The same with private memory of a DAX file: what is pinned is a copy of what
 * that process has there, not of what the one has that attaches.
 */
TEST_F(join, dax_by_another_process)
{
	const long half = 32 * KB;
	struct bench *bench = &self->b;
	char want[64 * KB];
	int sv[2], status;
	struct area a;
	pid_t pid;

	fill(want, sizeof(want), 1000);
	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (area_open(backing_find("dax-ext4-private"), &a, NULL,
			      bench->mem) || a.size != sizeof(want) ||
		    memcmp(a.addr, want, sizeof(want)))
			_exit(1);
		if (vfio_map(&bench->v, a.addr, IOVA, half, MAP_R) ||
		    vfio_map(&bench->v, a.addr + half, IOVA + half, half,
			     MAP_RW) ||
		    chan_put(sv[1], 0) || chan_get(sv[1], NULL))
			_exit(2);
		if (memcmp(a.addr, want, half))
			_exit(3);
		/* The device has copied the beginning */
		if (memcmp(a.addr + half, want, EDU_LEN))
			_exit(4);
		if (memcmp(a.addr + half + EDU_LEN, want + half + EDU_LEN,
			   half - EDU_LEN))
			_exit(5);
		_exit(0);
	}
	ASSERT_EQ(0, chan_get(sv[0], NULL));
	fill(bench->mem, SIZE, 51);
	ASSERT_EQ(0, vfio_add(&bench->v, 0));
	EXPECT_EQ(0, edu_copy(&bench->v.dev[1], IOVA + half, IOVA, EDU_LEN));
	EXPECT_EQ(0, chan_put(sv[0], 0));
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(2 * half, vfio_unmap_all(&bench->v));
	EXPECT_BACK(&bench->base);
}

/*
 * The real device joins, and the mediated one goes, so that addresses may change:
 * then what was pinned for the first moves to another process.
 */
TEST_F(join, new_owner)
{
	struct bench *bench = &self->b;
	struct vfio *v = &bench->v;
	int sv[2], status;
	struct vfio_dev d;
	struct pins p;
	pid_t pid;

	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (map(bench))
			_exit(1);
		/* Its files would keep the device */
		vfio_remove(v);
		if (chan_put(sv[1], 0) || chan_get(sv[1], NULL))
			_exit(1);
		_exit(0);
	}
	ASSERT_EQ(0, chan_get(sv[0], NULL));
	ASSERT_EQ(0, vfio_add(v, 0));
	EXPECT_EQ(-EBUSY, vfio_vaddr_drop(v, IOVA, SIZE));
	d = v->dev[0];
	v->dev[0] = v->dev[1];
	v->dev[1] = d;
	vfio_remove(v);
	EXPECT_EQ(0, pins_read(pid, &p));
	EXPECT_EQ(N, p.charge);
	EXPECT_EQ(0, vfio_vaddr_drop(v, IOVA, SIZE));
	EXPECT_EQ(0, vfio_vaddr_set(v, bench->mem, IOVA, SIZE));
	EXPECT_EQ(0, pins_read(pid, &p));
	EXPECT_EQ(0, p.charge);
	EXPECT_STATE(&bench->base, N, N, N);
	EXPECT_EQ(0, chan_put(sv[0], 0));
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ((long)SIZE, vfio_unmap(v, IOVA, SIZE));
	EXPECT_BACK(&bench->base);
}

/* Who mapped is dead: its memory cannot be pinned any more */
TEST_F(join, after_the_owner_died)
{
	struct bench *bench = &self->b;
	int status;
	pid_t pid;

	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid)
		_exit(map(bench) ? 1 : 0);
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_GT(0, vfio_add(&bench->v, 0));
	EXPECT_STATE(&bench->base, 0, 0, 0);
	EXPECT_EQ((long)SIZE, vfio_unmap(&bench->v, IOVA, SIZE));
	EXPECT_EQ(0, vfio_add(&bench->v, 0));
}

/* --- Memory of the cgroup --------------------------------------------------- */

/*
 * A page is charged once, so RLIMIT_MEMLOCK does not bound what the kernel needs for
 * each mapping and each pin. memory.max does: whoever goes on is killed.
 */
#define MAPS		8192UL		/* with N pins each, twice what MAX is good for */
#define MOST_MAPS	65535UL		/* dma_entry_limit */
#define MAX		(8 * MB)
#define MAX_MAPS	(4 * MB)	/* half of what MOST_MAPS need */
#define MAX_BITMAP	(2 * MAX * 8 * PAGE)	/* its dirty bitmap is twice MAX */

FIXTURE(memory)
{
	struct bench b;
	char dir[128];
	int sv[2];
	unsigned long *maps;	/* that a process has made, and pinned, in full */
};

FIXTURE_SETUP(memory)
{
	bench_open(_metadata, &self->b, false);
	snprintf(self->dir, sizeof(self->dir), "%s/memory-%d", cgroup_root(),
		 getpid());
	ASSERT_EQ(0, mkdir(self->dir, 0755));
	ASSERT_EQ(0, chan_pair(self->sv));
	self->maps = mmap(NULL, PAGE, PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->maps);
}

FIXTURE_TEARDOWN(memory)
{
	munmap(self->maps, PAGE);
	bench_close(_metadata, &self->b);
	EXPECT_EQ(0, remove_cgroup(self->dir));
}

static int set_memory_max(FIXTURE_DATA(memory) *self, unsigned long bytes)
{
	char path[160], text[32];

	snprintf(path, sizeof(path), "%s/memory.max", self->dir);
	snprintf(text, sizeof(text), "%lu", bytes);
	return write_text(path, text);
}

static long memory_current(FIXTURE_DATA(memory) *self)
{
	char path[160];

	snprintf(path, sizeof(path), "%s/memory.current", self->dir);
	return read_long(path, -1);
}

/* Each CPU may keep 64 pages for the next charge */
static bool memory_is_back(void *arg)
{
	return memory_current(arg) < (long)MAX / 4;
}

/* Do @fn in a process of the cgroup, which may lock N pages */
static pid_t start(FIXTURE_DATA(memory) *self,
		   int (*fn)(FIXTURE_DATA(memory) *self))
{
	char path[160];
	pid_t pid;

	snprintf(path, sizeof(path), "%s/cgroup.procs", self->dir);
	*self->maps = 0;
	pid = fork();
	if (!pid) {
		if (write_text(path, "0") || set_memlock(SIZE) ||
		    cap_drop(CAP_IPC_LOCK))
			_exit(100);
		_exit(fn(self));
	}
	return pid;
}

static int in_cgroup(FIXTURE_DATA(memory) *self,
		     int (*fn)(FIXTURE_DATA(memory) *self))
{
	pid_t pid = start(self, fn);
	int status;

	return pid < 0 || reap(pid, &status) ? -1 : status;
}

#define EXPECT_KILLED(status)						\
	do {								\
		int __status = (status);				\
									\
		EXPECT_TRUE(WIFSIGNALED(__status) &&			\
			    WTERMSIG(__status) == SIGKILL)		\
			TH_LOG("status 0x%x", __status);		\
		EXPECT_EQ(1, cgroup_value(self->dir, "memory.events",	\
					  "oom_kill"));			\
	} while (0)

static int map_nth(FIXTURE_DATA(memory) *self, unsigned long n)
{
	return vfio_map(&self->b.v, self->b.mem, IOVA + n * SIZE, SIZE, MAP_RW);
}

static int pin_nth(FIXTURE_DATA(memory) *self, unsigned long n,
		   unsigned int flags)
{
	return pc_pin(self->b.pc, IOVA + n * SIZE, N, PIN_CALLER_WRITE | flags);
}

/*
 * All that is pinned is there, and is what takes the memory; then it is back. @killed:
 * who pinned may have been killed before it counted the last one.
 */
static void pinned_and_back(struct __test_metadata *_metadata,
			    FIXTURE_DATA(memory) *self, bool killed)
{
	struct pin_caller_stat stat;
	struct snap now;
	long more;

	TH_LOG("%lu pins of %ld pages", *self->maps * N, N);
	EXPECT_LT(MAPS / 64, *self->maps);
	EXPECT_GT(MAPS, *self->maps);
	EXPECT_EQ(0, pc_stat(self->b.pc, &stat));
	more = (long)stat.pinned - (long)*self->maps * N;
	EXPECT_TRUE(!more || (killed && more == N)) TH_LOG("%ld more", more);
	EXPECT_EQ(0, snap(&now));
	EXPECT_EQ((long)stat.pinned, now.foll - self->b.base.foll);
	EXPECT_EQ(N, now.counted - self->b.base.counted);
	EXPECT_LT((long)MAX / 2, memory_current(self));
	EXPECT_GE((long)MAX, memory_current(self));

	EXPECT_LT(0, vfio_unmap_all(&self->b.v));
	EXPECT_BACK(&self->b.base);
	EXPECT_TRUE(wait_for(memory_is_back, self))
		TH_LOG("%ld", memory_current(self));
}

static int map_and_unmap(FIXTURE_DATA(memory) *self)
{
	if (map_nth(self, 0) || pin_nth(self, 0, 0) != N)
		return 1;
	return vfio_unmap_all(&self->b.v) != (long)SIZE;
}

static int pin_many(FIXTURE_DATA(memory) *self)
{
	for (; *self->maps < MAPS; ++*self->maps) {
		if (map_nth(self, *self->maps))
			return 1;
		if (pin_nth(self, *self->maps, 0) != N)
			return 2;
	}
	return 0;
}

TEST_F(memory, many_pins)
{
	ASSERT_EQ(0, set_memory_max(self, MAX));
	EXPECT_KILLED(in_cgroup(self, pin_many));
	pinned_and_back(_metadata, self, true);
	EXPECT_EQ(0, in_cgroup(self, map_and_unmap));
	EXPECT_BACK(&self->b.base);
}

/* Not to be killed, so that whoever asks for memory in vain gets ENOMEM */
static int map_many(FIXTURE_DATA(memory) *self)
{
	unsigned long i;

	if (write_text("/proc/self/oom_score_adj", "-1000"))
		return 1;
	for (i = 0; i < MAPS; i++) {
		if (map_nth(self, i))
			return 2;
	}
	return chan_put(self->sv[1], 0) || chan_get(self->sv[1], NULL) ? 3 : 0;
}

/* That is in no cgroup which pays, so the one of the process that mapped does */
TEST_F(memory, many_pins_by_a_kernel_thread)
{
	int status, ret = N;
	pid_t pid;

	ASSERT_EQ(0, set_memory_max(self, MAX));
	pid = start(self, map_many);
	ASSERT_LT(0, pid);
	ASSERT_EQ(0, chan_get(self->sv[0], NULL));
	for (; *self->maps < MAPS; ++*self->maps) {
		ret = pin_nth(self, *self->maps, PIN_CALLER_KTHREAD);
		if (ret != N)
			break;
	}
	EXPECT_EQ(-ENOMEM, ret);
	pinned_and_back(_metadata, self, false);
	EXPECT_EQ(0, cgroup_value(self->dir, "memory.events", "oom_kill"));
	EXPECT_EQ(0, chan_put(self->sv[0], 0));
	EXPECT_EQ(0, reap(pid, &status));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, in_cgroup(self, map_and_unmap));
	EXPECT_BACK(&self->b.base);
}

/* Mappings without any pin */
static int map_most(FIXTURE_DATA(memory) *self)
{
	for (; *self->maps < MOST_MAPS; ++*self->maps) {
		if (map_nth(self, *self->maps))
			return 1;
	}
	return 0;
}

TEST_F(memory, many_maps)
{
	long more;

	ASSERT_EQ(0, set_memory_max(self, MAX_MAPS));
	EXPECT_KILLED(in_cgroup(self, map_most));
	TH_LOG("%lu maps", *self->maps);
	EXPECT_LT(MOST_MAPS / 16, *self->maps);
	/* It may have been killed before it counted the last one */
	more = vfio_unmap_all(&self->b.v) - (long)(*self->maps * SIZE);
	EXPECT_TRUE(!more || more == (long)SIZE) TH_LOG("%ld bytes more", more);
	EXPECT_BACK(&self->b.base);
	EXPECT_EQ(0, in_cgroup(self, map_and_unmap));
}

/* One mapping, of addresses where nothing is */
static int track_dirty(FIXTURE_DATA(memory) *self)
{
	struct vfio *v = &self->b.v;

	if (vfio_map(v, self->b.mem, IOVA, MAX_BITMAP, MAP_RW))
		return 1;
	++*self->maps;
	switch (vfio_dirty(v, true)) {
	case 0:
		return vfio_dirty(v, false) ? 3 : 0;
	case -ENOMEM:
		return 2;
	default:
		return 4;
	}
}

TEST_F(memory, dirty_bitmap)
{
	ASSERT_EQ(0, set_memory_max(self, MAX));
	/* No room is no reason to kill it */
	EXPECT_EQ(2, WEXITSTATUS(in_cgroup(self, track_dirty)));
	EXPECT_EQ(1UL, *self->maps);
	EXPECT_EQ((long)MAX_BITMAP, vfio_unmap_all(&self->b.v));
	EXPECT_BACK(&self->b.base);
	EXPECT_EQ(0, in_cgroup(self, map_and_unmap));
}

/* --- At the same time ------------------------------------------------------- */

#define SECONDS	4

struct worker {
	struct bench *bench;
	volatile bool *stop;
	unsigned int id;
	unsigned long done;
	int error;
};

/* Each has mappings of its own, which it unmaps with the device's pins on them */
static void *map_and_pin(void *arg)
{
	struct worker *w = arg;
	uint64_t iova = IOVA + w->id * SIZE;
	int ret;

	for (; !*w->stop && !w->error; w->done++) {
		ret = vfio_map(&w->bench->v, w->bench->mem, iova, SIZE, MAP_RW);
		if (!ret)
			ret = pc_pin(w->bench->pc, iova, P, PIN_CALLER_WRITE);
		if (ret != (int)P ||
		    vfio_unmap(&w->bench->v, iova, SIZE) != (long)SIZE)
			w->error = ret < 0 ? ret : -EIO;
	}
	return NULL;
}

/* Another device comes to the container, and goes */
static void *come_and_go(void *arg)
{
	struct worker *w = arg;
	struct vfio *v = &w->bench->v;
	char uuid[UUID_SIZE];

	w->error = mdev_create(uuid);
	if (w->error)
		return NULL;
	for (; !*w->stop && !w->error; w->done++) {
		w->error = vfio_add_mdev(v, uuid);
		if (!w->error)
			vfio_remove(v);
	}
	mdev_remove(uuid);
	return NULL;
}

#define WORKERS	4

static bool all_worked(void *arg)
{
	struct worker *w = arg;
	int i;

	for (i = 0; i < WORKERS; i++)
		if (!w[i].done && !w[i].error)
			return false;
	return true;
}

static void together(struct __test_metadata *_metadata, struct bench *bench)
{
	volatile bool stop = false;
	struct worker w[WORKERS] = {};
	pthread_t thread[WORKERS];
	unsigned int i;

	for (i = 0; i < WORKERS; i++) {
		w[i] = (struct worker){ bench, &stop, i, 0, 0 };
		ASSERT_EQ(0, pthread_create(&thread[i], NULL, i < 3 ?
					    map_and_pin : come_and_go, &w[i]));
	}
	sleep_ms(SECONDS * 1000);
	EXPECT_TRUE(wait_for(all_worked, w));
	stop = true;
	for (i = 0; i < WORKERS; i++) {
		pthread_join(thread[i], NULL);
		EXPECT_EQ(0, w[i].error) TH_LOG("thread %u", i);
		EXPECT_LT(0UL, w[i].done) TH_LOG("thread %u", i);
	}
	EXPECT_BACK(&bench->base);
}

TEST_F(mdev, threads)
{
	together(_metadata, &self->b);
}

TEST_HARNESS_MAIN
