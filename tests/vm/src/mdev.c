// SPDX-License-Identifier: GPL-2.0
/*
 * Pins that a mediated device takes through vfio_pin_pages(), alone and beside
 * those of an IOMMU. The device is tests/vm/modules/pin_caller.c, whose module
 * and mdev.ko the stanza in tests.conf loads.
 */
#include <fcntl.h>
#include <linux/capability.h>
#include <sys/ioctl.h>

#include "test.h"
#include "../modules/pin_caller.h"

#define CREATE "/sys/class/pin_caller/pin_caller/mdev_supported_types/pin_caller-pin/create"

#define N	32L
#define SIZE	(N * PAGE)
#define P	4U		/* pages that the device pins */

FIXTURE(mdev)
{
	struct vfio v;
	struct snap before, base;
	char uuid[40];
	char *mem;
	int pc;			/* the device */
};

FIXTURE_VARIANT(mdev)
{
	bool beside;		/* a real device is in the container, too */
};

FIXTURE_VARIANT_ADD(mdev, alone) { .beside = false };
FIXTURE_VARIANT_ADD(mdev, beside) { .beside = true };

FIXTURE_SETUP(mdev)
{
	NEED_DEVICES(1U);
	self->v.fd = -1;
	if (!file_exists(CREATE))
		SKIP(return, "pin_caller.ko is not loaded");
	snprintf(self->uuid, sizeof(self->uuid),
		 "01234567-89ab-cdef-0123-%012d", getpid());
	ASSERT_EQ(0, write_text(CREATE, self->uuid));
	self->mem = anon_pages(SIZE);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, snap(&self->before));
	if (variant->beside) {
		ASSERT_EQ(0, vfio_open(&self->v, 0));
		ASSERT_EQ(0, vfio_add_mdev(&self->v, self->uuid));
		self->pc = self->v.dev[1].fd;
	} else {
		ASSERT_EQ(0, vfio_open_mdev(&self->v, self->uuid));
		self->pc = self->v.dev[0].fd;
	}
	ASSERT_EQ(0, snap(&self->base));
}

FIXTURE_TEARDOWN(mdev)
{
	char path[128];

	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
	snprintf(path, sizeof(path), "/sys/bus/mdev/devices/%s/remove",
		 self->uuid);
	EXPECT_EQ(0, write_text(path, "1"));
}

static int call(int fd, unsigned long what, uint64_t iova, unsigned int npages,
		unsigned int flags)
{
	struct pin_caller_range range = { iova, npages, flags };
	int ret = ioctl(fd, what, &range);

	return ret < 0 ? -errno : ret;
}

static int pin(FIXTURE_DATA(mdev) *self, unsigned int page, unsigned int n,
	       unsigned int flags)
{
	return call(self->pc, PIN_CALLER_PIN, IOVA + page * PAGE, n, flags);
}

static int unpin(FIXTURE_DATA(mdev) *self, unsigned int page, unsigned int n)
{
	return call(self->pc, PIN_CALLER_UNPIN, IOVA + page * PAGE, n, 0);
}

static int copy(FIXTURE_DATA(mdev) *self, unsigned int page, void *data,
		unsigned int len, unsigned int flags)
{
	struct pin_caller_copy arg = {
		IOVA + page * PAGE, (uintptr_t)data, len, flags
	};

	return ioctl(self->pc, PIN_CALLER_COPY, &arg) < 0 ? -errno : 0;
}

/* Pins of the IOMMU, charge and held of what is mapped */
static long mapped(const FIXTURE_VARIANT(mdev) *variant)
{
	return variant->beside ? N : 0;
}

static int map(FIXTURE_DATA(mdev) *self)
{
	return vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_RW);
}

/* A page is charged once, whoever pins it and how often */
TEST_F(mdev, charged_once)
{
	long m = mapped(variant), c = m ? m : P;
	int i;

	ASSERT_EQ(0, map(self));
	EXPECT_STATE(&self->base, m, m, m);
	EXPECT_EQ((int)P, pin(self, 2, P, PIN_CALLER_WRITE));
	EXPECT_STATE(&self->base, m + P, c, c);
	/* The same again is the same pin, with a use more */
	for (i = 0; i < 3; i++)
		EXPECT_EQ((int)P, pin(self, 2, P, PIN_CALLER_WRITE));
	EXPECT_STATE(&self->base, m + P, c, c);
	for (i = 0; i < 3; i++)
		EXPECT_EQ(0, unpin(self, 2, P));
	EXPECT_STATE(&self->base, m + P, c, c);
	EXPECT_EQ(0, unpin(self, 2, P));
	EXPECT_STATE(&self->base, m, m, m);
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	EXPECT_BACK(&self->base);
}

/* The pages are those of the process, in both directions */
TEST_F(mdev, contents)
{
	unsigned int how[] = { 0, PIN_CALLER_KTHREAD, PIN_CALLER_PAGE };
	char *buf = anon_pages(PAGE);
	size_t i;

	ASSERT_NE(NULL, buf);
	ASSERT_EQ(0, map(self));
	ASSERT_EQ((int)P, pin(self, 0, P, PIN_CALLER_WRITE));
	for (i = 0; i < ARRAY_SIZE(how); i++) {
		fill(self->mem + PAGE, PAGE, 10 + i);
		EXPECT_EQ(0, copy(self, 1, buf, PAGE, how[i]));
		EXPECT_TRUE(filled(buf, PAGE, 10 + i));
		fill(buf, PAGE, 20 + i);
		EXPECT_EQ(0, copy(self, 2, buf, PAGE,
				  how[i] | PIN_CALLER_WRITE));
		EXPECT_TRUE(filled(self->mem + 2 * PAGE, PAGE, 20 + i));
	}
	EXPECT_EQ(0, unpin(self, 0, P));
}

/* A kernel thread's pins are charged to the process whose memory it is */
TEST_F(mdev, from_a_kernel_thread)
{
	long m = mapped(variant), c = m ? m : P;

	ASSERT_EQ(0, map(self));
	EXPECT_EQ((int)P, pin(self, 0, P,
			      PIN_CALLER_WRITE | PIN_CALLER_KTHREAD));
	EXPECT_STATE(&self->base, m + P, c, c);
	EXPECT_EQ(0, unpin(self, 0, P));
	EXPECT_STATE(&self->base, m, m, m);
}

TEST_F(mdev, limit)
{
	long m = mapped(variant);

	ASSERT_EQ(0, set_memlock((m + 2) * PAGE));
	ASSERT_EQ(0, cap_drop(CAP_IPC_LOCK));
	ASSERT_EQ(0, map(self));
	if (variant->beside) {
		/* All of it is charged already */
		EXPECT_EQ((int)P, pin(self, 0, P, PIN_CALLER_WRITE));
		EXPECT_STATE(&self->base, m + P, m, m);
		EXPECT_EQ(0, unpin(self, 0, P));
	} else {
		EXPECT_EQ(-ENOMEM, pin(self, 0, 3, PIN_CALLER_WRITE));
		EXPECT_STATE(&self->base, 0, 0, 0);
		EXPECT_EQ(2, pin(self, 0, 2, PIN_CALLER_WRITE));
		EXPECT_STATE(&self->base, 2, 2, 2);
		EXPECT_EQ(-ENOMEM, pin(self, 2, 1, PIN_CALLER_WRITE));
		EXPECT_EQ(0, unpin(self, 0, 2));
	}
	EXPECT_STATE(&self->base, m, m, m);
}

/* What is not mapped cannot be pinned, and leaves the rest of a call unpinned */
TEST_F(mdev, beyond_the_map)
{
	long m = mapped(variant);

	ASSERT_EQ(0, map(self));
	EXPECT_EQ(-EINVAL, pin(self, N - 2, 4, PIN_CALLER_WRITE));
	EXPECT_STATE(&self->base, m, m, m);
	EXPECT_EQ(-EINVAL, unpin(self, N - 2, 1));
	ASSERT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	ASSERT_EQ(0, vfio_map(&self->v, self->mem, IOVA, SIZE, MAP_R));
	EXPECT_EQ(-EPERM, pin(self, 0, 1, PIN_CALLER_WRITE));
	EXPECT_EQ(1, pin(self, 0, 1, 0));
	EXPECT_EQ(0, unpin(self, 0, 1));
	EXPECT_STATE(&self->base, m, m, m);
}

/* The memory of a device that pins it is unmapped: the device lets go */
TEST_F(mdev, unmap_with_pins)
{
	struct pin_caller_stat stat;

	ASSERT_EQ(0, map(self));
	ASSERT_EQ((int)P, pin(self, 0, P, PIN_CALLER_WRITE));
	ASSERT_EQ((int)P, pin(self, 2, P, PIN_CALLER_WRITE));
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	EXPECT_EQ(0, ioctl(self->pc, PIN_CALLER_STAT, &stat));
	EXPECT_EQ(0UL, (unsigned long)stat.pinned);
	EXPECT_EQ(2UL * P, (unsigned long)stat.unmapped);
	EXPECT_BACK(&self->base);
}

TEST_F(mdev, close_with_pins)
{
	ASSERT_EQ(0, map(self));
	ASSERT_EQ((int)P, pin(self, 0, P, PIN_CALLER_WRITE));
	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
}

/* The pages may have changed in between: then they are others, and charged */
TEST_F(mdev, other_pages)
{
	long m = mapped(variant);

	ASSERT_EQ(0, map(self));
	ASSERT_EQ(0, madvise(self->mem, SIZE, MADV_DONTNEED));
	memset(self->mem, 1, SIZE);
	ASSERT_EQ((int)P, pin(self, 0, P, PIN_CALLER_WRITE));
	EXPECT_STATE(&self->base, m + P, m + P, m + P);
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	EXPECT_BACK(&self->base);
}

/* The IOMMU's device goes first, then what the other pins is charged alone */
TEST_F(mdev, real_device_leaves)
{
	struct vfio_dev first;

	if (!variant->beside)
		SKIP(return, "there is no real device in this variant");
	ASSERT_EQ(0, map(self));
	ASSERT_EQ((int)P, pin(self, 0, P, PIN_CALLER_WRITE));
	EXPECT_STATE(&self->base, N + P, N, N);
	first = self->v.dev[0];
	self->v.dev[0] = self->v.dev[1];
	self->v.dev[1] = first;
	vfio_remove(&self->v);
	EXPECT_STATE(&self->base, P, P, P);
	fill(self->mem, PAGE, 3);
	EXPECT_EQ(0, unpin(self, 0, P));
	EXPECT_BACK(&self->base);

	/* and comes back to mappings without pins */
	ASSERT_EQ(0, vfio_add(&self->v, 0));
	EXPECT_STATE(&self->base, N, N, N);
	EXPECT_EQ(0, edu_check(&self->v.dev[1], self->mem, IOVA, SIZE));
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	EXPECT_BACK(&self->base);
}

/* A limit that does not allow what a device needs that joins */
TEST_F(mdev, real_device_joins_beyond_the_limit)
{
	if (variant->beside)
		SKIP(return, "the real device is there already");
	ASSERT_EQ(0, map(self));
	ASSERT_EQ((int)P, pin(self, 0, P, PIN_CALLER_WRITE));
	ASSERT_EQ(0, set_memlock((N - 1) * PAGE));
	ASSERT_EQ(0, cap_drop(CAP_IPC_LOCK));
	/* The mapping was made with the capability, so it may go on */
	EXPECT_EQ(0, vfio_add(&self->v, 0));
	EXPECT_STATE(&self->base, N + P, N, N);
	vfio_remove(&self->v);
	EXPECT_STATE(&self->base, P, P, P);
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));

	ASSERT_EQ(0, map(self));
	EXPECT_EQ(-ENOMEM, vfio_add(&self->v, 0));
	EXPECT_STATE(&self->base, 0, 0, 0);
	EXPECT_EQ(0, set_memlock(N * PAGE));
	EXPECT_EQ(0, vfio_add(&self->v, 0));
	EXPECT_STATE(&self->base, N, N, N);
}

/* The process whose memory it is ends: pins stay, new ones are refused */
TEST_F(mdev, owner_dies)
{
	struct snap now;
	int sv[2], status;
	pid_t pid;

	ASSERT_EQ(0, chan_pair(sv));
	pid = fork();
	ASSERT_LE(0, pid);
	if (!pid) {
		if (map(self) || chan_put(sv[1], 0) || chan_get(sv[1], NULL))
			_exit(1);
		_exit(0);
	}
	ASSERT_EQ(0, chan_get(sv[0], NULL));
	EXPECT_EQ((int)P, pin(self, 0, P, PIN_CALLER_WRITE));
	EXPECT_STATE(&self->base, 0, 0, 0);
	EXPECT_EQ(0, chan_put(sv[0], 0));
	EXPECT_EQ(0, reap(pid, 60000, &status));
	EXPECT_EQ(0, status);
	EXPECT_GT(0, pin(self, P, 1, PIN_CALLER_WRITE));
	EXPECT_EQ(0, snap(&now));
	EXPECT_EQ(variant->beside ? N : P, now.counted - self->base.counted);
	EXPECT_EQ(0, unpin(self, 0, P));
	EXPECT_EQ((long)SIZE, vfio_unmap(&self->v, IOVA, SIZE));
	EXPECT_BACK(&self->base);
}

/* Dirty tracking: a mediated device dirties what it pins, and nothing else */
TEST_F(mdev, dirty_tracking)
{
	uint64_t bits = 0;

	ASSERT_EQ(0, map(self));
	ASSERT_EQ((int)P, pin(self, 2, P, PIN_CALLER_WRITE));
	ASSERT_EQ(0, vfio_dirty(&self->v, true));
	EXPECT_EQ(0, vfio_dirty_get(&self->v, IOVA, SIZE, &bits));
	EXPECT_EQ(variant->beside ? (1ULL << N) - 1 : 0x3cULL, bits);
	EXPECT_EQ(0, unpin(self, 2, P));
	EXPECT_EQ(1, pin(self, 9, 1, PIN_CALLER_WRITE));
	EXPECT_EQ(0, vfio_dirty_get(&self->v, IOVA, SIZE, &bits));
	if (!variant->beside)
		EXPECT_EQ(0x23cULL, bits);
	EXPECT_EQ(0, vfio_dirty(&self->v, false));
	EXPECT_EQ(0, unpin(self, 9, 1));
}

/* Addresses are not changed under a device that may use them any time */
TEST_F(mdev, no_change_of_addresses)
{
	ASSERT_EQ(0, map(self));
	EXPECT_EQ(-EBUSY, vfio_vaddr_drop(&self->v, IOVA, SIZE));
}

TEST_HARNESS_MAIN
