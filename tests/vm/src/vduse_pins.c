// SPDX-License-Identifier: GPL-2.0
/*
 * Disks that are a program (VDUSE), as holders of pins: registrations, and data that goes
 * through memory that is registered. holders.c has the cases that any holder has.
 * tests/vm/with_vduse loads the modules.
 */
#include <fcntl.h>

#include "test.h"
#include "vduse_lib.h"

#define BOUNCE	VDUSE_SIZE
#define N	((long)(BOUNCE / PAGE))

FIXTURE(vduse)
{
	struct vduse d[2];
	struct snap before;
	char *mem;
};

FIXTURE_SETUP(vduse)
{
	self->mem = small_pages(BOUNCE);
	ASSERT_NE(NULL, self->mem);
	ASSERT_EQ(0, vduse_pair_start(self->d))
		TH_LOG("see tests/vm/with_vduse");
	ASSERT_EQ(0, snap(&self->before));
}

FIXTURE_TEARDOWN(vduse)
{
	EXPECT_EQ(0, vduse_pair_stop(self->d));
	EXPECT_BACK(&self->before);
}

#define EXPECT_PINS(pages)						\
	EXPECT_COUNTS(&self->before, COUNT_PINNED, pages, pages, pages)

TEST_F(vduse, registered)
{
	char *other = small_pages(BOUNCE);
	struct pins p;

	ASSERT_NE(NULL, other);
	EXPECT_EQ(0, vduse_reg(&self->d[0], self->mem));
	EXPECT_PINS(N);
	EXPECT_EQ(0, pins_read(0, &p));
	ASSERT_EQ(1, p.nr);
	EXPECT_EQ(0, strncmp(p.holder[0].name, "vduse.", 6));
	EXPECT_EQ(-EEXIST, vduse_reg(&self->d[0], other));
	EXPECT_PINS(N);
	EXPECT_EQ(0, vduse_dereg(&self->d[0]));
	EXPECT_BACK(&self->before);
	EXPECT_EQ(-ENOENT, vduse_dereg(&self->d[0]));

	/* The holder is the same each time */
	EXPECT_EQ(0, vduse_reg(&self->d[0], other));
	EXPECT_EQ(0, pins_read(0, &p));
	ASSERT_EQ(1, p.nr);
	EXPECT_EQ(N, p.holder[0].pages);
	EXPECT_EQ(2 * N, p.holder[0].acquired);
	vduse_close(&self->d[0]);
	EXPECT_BACK(&self->before);
}

/* As on stock: EFAULT if nothing of it was there, else ENOMEM */
TEST_F(vduse, memory_that_begins_with_a_hole)
{
	ASSERT_EQ(0, munmap(self->mem, PAGE));
	EXPECT_EQ(-EFAULT, vduse_reg(&self->d[0], self->mem));
	EXPECT_REFUSED(&self->before, FAULT, 1);
	EXPECT_BACK(&self->before);
}

/*
 * The kernel reads from the disk what this process has written to its own memory, as the
 * registered pages are the bounce buffer. Without them it is the kernel's.
 */
TEST_F(vduse, disk_that_the_kernel_reads)
{
	char *got = aligned_alloc(PAGE, BOUNCE / 4), *want = malloc(BOUNCE / 4);
	unsigned long served;
	int fd, round;

	ASSERT_NE(NULL, got);
	ASSERT_NE(NULL, want);
	fd = open(self->d[0].disk, O_RDONLY | O_DIRECT | O_CLOEXEC);
	ASSERT_LE(0, fd) TH_LOG("%s", self->d[0].disk);
	for (round = 0; round < 3; round++) {
		if (round == 1) {
			ASSERT_EQ(0, vduse_reg(&self->d[0], self->mem));
			self->d[0].umem = self->mem;
			EXPECT_PINS(N);
		} else if (round == 2) {
			self->d[0].umem = NULL;
			EXPECT_EQ(0, vduse_dereg(&self->d[0]));
		}
		served = self->d[0].served;
		vduse_sectors(want, BOUNCE / 4, round * BOUNCE / 4 / VDUSE_SECTOR);
		EXPECT_EQ((long)BOUNCE / 4, pread(fd, got, BOUNCE / 4,
						  round * BOUNCE / 4));
		EXPECT_EQ(0, memcmp(got, want, BOUNCE / 4))
			TH_LOG("round %d", round);
		EXPECT_LT(served, self->d[0].served);
	}
	EXPECT_BACK(&self->before);
	close(fd);
	free(got);
	free(want);
}

TEST_HARNESS_MAIN
