// SPDX-License-Identifier: GPL-2.0
/*
 * Device-dax is unbound while its memory is pinned, and bound again: its pages
 * are others then. Whoever puts the old ones takes no pin off the new ones.
 */
#include <fcntl.h>

#include "test.h"

#define DRIVER	"/sys/bus/dax/drivers/device_dax/"

#define IOVA_NEW	(IOVA + 64 * MB)

FIXTURE(unplug)
{
	struct vfio v;
	struct snap before, base;
	struct area area;
	long n;			/* pages of it */
	bool bound;
};

static const char *device(void)
{
	return strrchr(getenv("USERPIN_DEVDAX"), '/') + 1;
}

static int unbind(FIXTURE_DATA(unplug) *self)
{
	int ret = write_text(DRIVER "unbind", device());

	self->bound = self->bound && ret;
	return ret;
}

static int bind(FIXTURE_DATA(unplug) *self)
{
	int ret = write_text(DRIVER "bind", device());

	self->bound = !ret;
	return ret;
}

static int open_memory(struct area *area)
{
	return area_open(backing_find("devdax"), area, NULL, NULL);
}

FIXTURE_SETUP(unplug)
{
	NEED_DEVICES(1U);
	self->v.fd = -1;
	self->bound = true;
	ASSERT_NE(NULL, getenv("USERPIN_DEVDAX"));
	ASSERT_EQ(0, open_memory(&self->area)) TH_LOG("%s", self->area.why);
	self->n = self->area.size / PAGE;
	ASSERT_EQ(0, snap(&self->before));
	ASSERT_EQ(0, vfio_open(&self->v, 0));
	ASSERT_EQ(0, snap(&self->base));
}

FIXTURE_TEARDOWN(unplug)
{
	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
	if (!self->bound)
		EXPECT_EQ(0, bind(self));
}

/*
 * Pins of the holders, and pages that are pinned: those of a device that is gone
 * are none.
 */
#define EXPECT_PINS(_held, _pages)					\
	do {								\
		static struct snap now;					\
									\
		EXPECT_EQ(0, snap(&now));				\
		EXPECT_EQ((long)(_held), pins_pages(&now.pins));	\
		EXPECT_EQ((long)(_pages), now.foll - self->base.foll);	\
		EXPECT_EQ(0, now.pins.charge);				\
		EXPECT_EQ(0, now.pins.held);				\
	} while (0)

TEST_F(unplug, while_pinned)
{
	ASSERT_EQ(0, vfio_map(&self->v, self->area.addr, IOVA, self->area.size,
			      MAP_RW));
	EXPECT_PINS(self->n, self->n);
	ASSERT_EQ(0, unbind(self));
	EXPECT_PINS(self->n, 0);
	EXPECT_EQ((long)self->area.size,
		  vfio_unmap(&self->v, IOVA, self->area.size));
	EXPECT_BACK(&self->base);
	area_close(&self->area);
}

/* Nobody unmaps: the container is closed */
TEST_F(unplug, close_of_container)
{
	ASSERT_EQ(0, vfio_map(&self->v, self->area.addr, IOVA, self->area.size,
			      MAP_RW));
	ASSERT_EQ(0, unbind(self));
	area_close(&self->area);
	vfio_close(&self->v);
	EXPECT_BACK(&self->before);
}

static void again(struct __test_metadata *_metadata,
		  FIXTURE_DATA(unplug) *self, bool old_first)
{
	struct area new;

	ASSERT_EQ(0, vfio_map(&self->v, self->area.addr, IOVA, self->area.size,
			      MAP_RW));
	ASSERT_EQ(0, unbind(self));
	area_close(&self->area);
	ASSERT_EQ(0, bind(self));
	ASSERT_EQ(0, open_memory(&new)) TH_LOG("%s", new.why);
	EXPECT_EQ(0, vfio_map(&self->v, new.addr, IOVA_NEW, new.size, MAP_RW));
	EXPECT_PINS(2 * self->n, self->n);

	/* Which pins go first cannot be told; none goes too many */
	EXPECT_EQ((long)new.size,
		  vfio_unmap(&self->v, old_first ? IOVA : IOVA_NEW, new.size));
	EXPECT_PINS(self->n, self->n);
	if (old_first)
		EXPECT_EQ(0, edu_check(&self->v.dev[0], new.addr, IOVA_NEW,
				       new.size));
	EXPECT_EQ((long)new.size,
		  vfio_unmap(&self->v, old_first ? IOVA_NEW : IOVA, new.size));
	EXPECT_BACK(&self->base);

	/* The pages are as good as new: they can be pinned, and go again */
	EXPECT_EQ(0, vfio_map(&self->v, new.addr, IOVA, new.size, MAP_RW));
	EXPECT_PINS(self->n, self->n);
	EXPECT_EQ((long)new.size, vfio_unmap(&self->v, IOVA, new.size));
	area_close(&new);
	EXPECT_EQ(0, unbind(self));
	EXPECT_EQ(0, bind(self));
}

TEST_F(unplug, and_bound_again)
{
	again(_metadata, self, true);
}

TEST_F(unplug, and_bound_again_new_first)
{
	again(_metadata, self, false);
}

TEST_HARNESS_MAIN
