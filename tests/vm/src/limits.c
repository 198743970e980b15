// SPDX-License-Identifier: GPL-2.0
/*
 * RLIMIT_MEMLOCK: to the page, together with mlock(), with and without
 * CAP_IPC_LOCK; and what a map that fails leaves behind, which is nothing.
 */
#include <linux/capability.h>
#include <pthread.h>

#include "test.h"

#define ROOM	16UL	/* pages that the limit allows in most tests */

FIXTURE(limits)
{
	struct vfio v, other;
	struct snap before, base;
	char *mem;		/* 64 MiB of pages, first touched by the pin */
};

FIXTURE_SETUP(limits)
{
	NEED_DEVICES(2U);
	self->other.fd = -1;
	self->mem = small_pages(64 * MB);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, vfio_open(&self->v, 0));
	ASSERT_EQ(0, snap(&self->base));
}

FIXTURE_TEARDOWN(limits)
{
	vfio_close(&self->other);
	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
}

/* Map @n pages of the memory from page @at on */
static int map(FIXTURE_DATA(limits) *self, size_t at, size_t n)
{
	return vfio_map(&self->v, self->mem + at * PAGE, IOVA + at * PAGE,
			n * PAGE, MAP_RW);
}

static long unmap(FIXTURE_DATA(limits) *self, size_t at, size_t n)
{
	return vfio_unmap(&self->v, IOVA + at * PAGE, n * PAGE) / (long)PAGE;
}

static void limit_to(struct __test_metadata *_metadata, size_t bytes)
{
	ASSERT_EQ(0, set_memlock(bytes));
	ASSERT_EQ(0, cap_drop(CAP_IPC_LOCK));
}

TEST_F(limits, to_the_page)
{
	struct pins p;

	limit_to(_metadata, ROOM * PAGE);
	EXPECT_EQ(0, map(self, 0, ROOM));
	EXPECT_STATE(&self->base, ROOM, ROOM, ROOM);
	EXPECT_EQ(0, pins_read(0, &p));
	EXPECT_EQ((long)ROOM, p.limit);

	EXPECT_EQ(-ENOMEM, map(self, ROOM, 1));
	EXPECT_STATE(&self->base, ROOM, ROOM, ROOM);
	EXPECT_REFUSED(&self->base, MEMLOCK, 1);
	EXPECT_EQ(0, edu_check(&self->v.dev[0], self->mem, IOVA, ROOM * PAGE));

	/* What is given back can be had again, and no more */
	EXPECT_EQ((long)ROOM, unmap(self, 0, ROOM));
	EXPECT_EQ(0, map(self, 0, ROOM - 1));
	EXPECT_EQ(0, map(self, ROOM, 1));
	EXPECT_EQ(-ENOMEM, map(self, ROOM + 1, 1));
	EXPECT_STATE(&self->base, ROOM, ROOM, ROOM);
}

TEST_F(limits, one_too_many)
{
	limit_to(_metadata, ROOM * PAGE);
	EXPECT_EQ(-ENOMEM, map(self, 0, ROOM + 1));
	EXPECT_BACK(&self->base);
	EXPECT_EQ(0, map(self, 0, ROOM));
}

/* A limit that is no multiple of the page size is rounded down */
TEST_F(limits, odd_limit)
{
	limit_to(_metadata, ROOM * PAGE + PAGE - 1);
	EXPECT_EQ(-ENOMEM, map(self, 0, ROOM + 1));
	EXPECT_EQ(0, map(self, 0, ROOM));
	EXPECT_STATE(&self->base, ROOM, ROOM, ROOM);
}

TEST_F(limits, zero)
{
	limit_to(_metadata, 0);
	EXPECT_EQ(-ENOMEM, map(self, 0, 1));
	EXPECT_BACK(&self->base);
}

/* A failure far into a large map puts back all that came before it */
TEST_F(limits, late_failure)
{
	limit_to(_metadata, 6000 * PAGE);
	EXPECT_EQ(0, map(self, 8192, 100));
	EXPECT_EQ(-ENOMEM, map(self, 0, 8192));
	EXPECT_STATE(&self->base, 100, 100, 100);
	EXPECT_REFUSED(&self->base, MEMLOCK, 1);
	EXPECT_EQ(0, map(self, 0, 5900));
	EXPECT_STATE(&self->base, 6000, 6000, 6000);
	EXPECT_EQ(-ENOMEM, map(self, 6000, 1));
}

/* The same for another cause than the limit */
TEST_F(limits, late_fault)
{
	EXPECT_EQ(0, map(self, 8192, 100));
	ASSERT_EQ(0, munmap(self->mem + 8000 * PAGE, PAGE));
	EXPECT_EQ(-EFAULT, map(self, 0, 8192));
	EXPECT_STATE(&self->base, 100, 100, 100);
	EXPECT_REFUSED(&self->base, FAULT, 1);
}

TEST_F(limits, with_mlock)
{
	char *locked = anon_pages(4 * PAGE);
	char *more = anon_pages(4 * PAGE);

	ASSERT_NE(NULL, locked);
	ASSERT_NE(NULL, more);
	limit_to(_metadata, (ROOM + 4) * PAGE);
	ASSERT_EQ(0, mlock(locked, 4 * PAGE));
	EXPECT_EQ(-ENOMEM, map(self, 0, ROOM + 1));
	EXPECT_EQ(4, status_pages(0, "VmLck:") - self->base.vmlck);
	EXPECT_EQ(0, map(self, 0, ROOM));
	EXPECT_EQ((long)ROOM + 4, status_pages(0, "VmLck:") - self->base.vmlck);

	/* mlock() sees what is pinned */
	EXPECT_EQ(-1, mlock(more, PAGE));
	EXPECT_EQ(ENOMEM, errno);
	EXPECT_EQ(0, munlock(locked, 4 * PAGE));
	EXPECT_STATE(&self->base, ROOM, ROOM, ROOM);
	EXPECT_EQ(0, mlock(more, 4 * PAGE));
	EXPECT_EQ(-ENOMEM, map(self, ROOM, 1));
	EXPECT_EQ((long)ROOM, unmap(self, 0, ROOM));
	EXPECT_EQ(4, status_pages(0, "VmLck:") - self->base.vmlck);
	EXPECT_EQ(0, munlock(more, 4 * PAGE));
}

/* Of the same pages, too, as ever with VFIO: VmLck adds both */
TEST_F(limits, of_mlocked_memory)
{
	limit_to(_metadata, (2 * ROOM - 1) * PAGE);
	ASSERT_EQ(0, mlock(self->mem, ROOM * PAGE));
	EXPECT_EQ(-ENOMEM, map(self, 0, ROOM));
	EXPECT_EQ((long)ROOM, status_pages(0, "VmLck:") - self->base.vmlck);
	ASSERT_EQ(0, set_memlock(2 * ROOM * PAGE));
	EXPECT_EQ(0, map(self, 0, ROOM));
	EXPECT_EQ(2 * (long)ROOM, status_pages(0, "VmLck:") - self->base.vmlck);

	/* They part again without the other noticing */
	EXPECT_EQ(0, munlock(self->mem, ROOM * PAGE));
	EXPECT_STATE(&self->base, ROOM, ROOM, ROOM);
	EXPECT_EQ(0, mlock(self->mem, ROOM * PAGE));
	EXPECT_EQ((long)ROOM, unmap(self, 0, ROOM));
	EXPECT_EQ((long)ROOM, status_pages(0, "VmLck:") - self->base.vmlck);
	EXPECT_EQ(0, munlock(self->mem, ROOM * PAGE));
}

TEST_F(limits, cap_ipc_lock)
{
	ASSERT_EQ(0, set_memlock(PAGE));
	EXPECT_EQ(0, map(self, 0, 3 * ROOM));
	EXPECT_STATE(&self->base, 3 * ROOM, 3 * ROOM, 3 * ROOM);

	/* Without it what is there stays, but there is no more */
	ASSERT_EQ(0, cap_drop(CAP_IPC_LOCK));
	EXPECT_EQ(-ENOMEM, map(self, 3 * ROOM, 1));
	EXPECT_STATE(&self->base, 3 * ROOM, 3 * ROOM, 3 * ROOM);
	EXPECT_EQ((long)(3 * ROOM), unmap(self, 0, 3 * ROOM));
	EXPECT_EQ(0, map(self, 0, 1));
}

TEST_F(limits, lowered)
{
	limit_to(_metadata, ROOM * PAGE);
	EXPECT_EQ(0, map(self, 0, ROOM / 2));
	EXPECT_EQ(0, map(self, ROOM / 2, ROOM / 2));
	ASSERT_EQ(0, set_memlock(ROOM / 2 * PAGE));
	EXPECT_EQ(-ENOMEM, map(self, ROOM, 1));
	EXPECT_STATE(&self->base, ROOM, ROOM, ROOM);
	EXPECT_EQ((long)ROOM / 2, unmap(self, 0, ROOM / 2));
	EXPECT_EQ(-ENOMEM, map(self, ROOM, 1));
	EXPECT_EQ((long)ROOM / 2, unmap(self, ROOM / 2, ROOM / 2));
	EXPECT_EQ(0, map(self, 0, ROOM / 2));
	EXPECT_EQ(-ENOMEM, map(self, ROOM, 1));
}

/* Memory that is charged already may be mapped for another device at the limit */
TEST_F(limits, second_device)
{
	ASSERT_EQ(0, vfio_open(&self->other, 1));
	limit_to(_metadata, ROOM * PAGE);
	EXPECT_EQ(0, map(self, 0, ROOM));
	EXPECT_EQ(0, vfio_map(&self->other, self->mem, IOVA, ROOM * PAGE,
			      MAP_RW));
	EXPECT_STATE(&self->base, 2 * ROOM, ROOM, ROOM);
	EXPECT_EQ(-ENOMEM, vfio_map(&self->other, self->mem + ROOM * PAGE,
				    IOVA + ROOM * PAGE, PAGE, MAP_RW));
	EXPECT_STATE(&self->base, 2 * ROOM, ROOM, ROOM);
	EXPECT_EQ((long)(ROOM * PAGE),
		  vfio_unmap(&self->other, IOVA, ROOM * PAGE));
	EXPECT_STATE(&self->base, ROOM, ROOM, ROOM);
}

/**
 * struct refused_maps - a thread whose maps are refused, again and again
 * @v: the container
 * @mem: the memory
 * @size: more bytes than the limit allows, and one batch of pages at most
 * @stop: it ends
 * @rounds: how many maps there were
 * @wrong: an unexpected result; or 0
 */
struct refused_maps {
	struct vfio *v;
	char *mem;
	size_t size;
	volatile bool stop;
	volatile unsigned long rounds;
	int wrong;
};

static void *map_in_vain(void *arg)
{
	struct refused_maps *m = arg;
	int ret;

	while (!m->stop) {
		ret = vfio_map(m->v, m->mem, IOVA, m->size, MAP_RW);
		if (ret != -ENOMEM)
			m->wrong = ret ?: 1;
		m->rounds++;
	}
	return NULL;
}

static bool has_refused(void *arg)
{
	struct refused_maps *m = arg;

	return m->rounds;
}

#define BUSY	100UL	/* pages that the limit allows then */

/* A page more of a stack that is locked; SIGSEGV if the limit does not allow it */
static void grow_stack(char *top, size_t pages)
{
	*(volatile char *)(top - (pages + 1) * PAGE) = 1;
}

/* What is refused takes no room from others, not even for a moment */
TEST_F(limits, refused_map_takes_no_room)
{
	struct refused_maps m = {
		.v = &self->v, .mem = self->mem, .size = (BUSY + 1) * PAGE,
	};
	char *locked = anon_pages(BUSY * PAGE), *area, *top;
	pthread_t thread;
	int i;

	ASSERT_NE(NULL, locked);
	limit_to(_metadata, BUSY * PAGE);
	ASSERT_EQ(0, pthread_create(&thread, NULL, map_in_vain, &m));
	EXPECT_TRUE(wait_for(has_refused, &m));
	/* A stack has a gap below it */
	area = mmap(NULL, 16 * MB, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1,
		    0);
	ASSERT_NE(MAP_FAILED, (void *)area);
	top = area + 16 * MB;
	ASSERT_EQ(0, munmap(area, 16 * MB));
	ASSERT_EQ((void *)(top - PAGE),
		  mmap(top - PAGE, PAGE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN | MAP_FIXED,
		       -1, 0));
	for (i = 0; i < 300; i++) {
		ASSERT_EQ(0, mlock(top - PAGE, PAGE));
		/* All but the page of the stack */
		EXPECT_EQ(0, mlock(locked, (BUSY - 1) * PAGE));
		EXPECT_EQ(0, munlock(locked, (BUSY - 1) * PAGE));
		grow_stack(top, 1);
		EXPECT_EQ(0, munmap(top - 2 * PAGE, PAGE));
		/* What the heap gets is locked, too */
		ASSERT_EQ(0, mlockall(MCL_FUTURE));
		EXPECT_NE((void *)-1, sbrk((BUSY - 1) * PAGE));
		EXPECT_NE((void *)-1, sbrk(-(long)(BUSY - 1) * (long)PAGE));
		ASSERT_EQ(0, munlockall());
	}
	m.stop = true;
	pthread_join(thread, NULL);
	EXPECT_EQ(0, m.wrong);
	EXPECT_REFUSED(&self->base, MEMLOCK, (long)m.rounds);
	munmap(top - PAGE, PAGE);
	EXPECT_STATE(&self->base, 0, 0, 0);
}

/* VmLck has the charge, which is a field of its own */
TEST_F(limits, vmlck_is_the_charge)
{
	static const size_t sizes[] = {
		1, 3, 31, 511, 512, 513, 1025, 4095, 4096, 4097
	};
	size_t at = 0, i;
	long sum = 0;

	for (i = 0; i < ARRAY_SIZE(sizes); i++) {
		EXPECT_EQ(0, map(self, at, sizes[i]));
		sum += sizes[i];
		at += sizes[i];
		EXPECT_STATE(&self->base, sum, sum, sum);
	}
	for (at = 0, i = 0; i < ARRAY_SIZE(sizes); i++) {
		EXPECT_EQ((long)sizes[i], unmap(self, at, sizes[i]));
		sum -= sizes[i];
		at += sizes[i];
		EXPECT_STATE(&self->base, sum, sum, sum);
	}
}

TEST_HARNESS_MAIN
