// SPDX-License-Identifier: GPL-2.0
/*
 * A process writes to a page of a DAX file that it has mapped private, so the page
 * is copied. A module (mm_hold.ko) stops the fault after the copy; meanwhile the
 * block is taken out of the file, or the device goes away. Little is left of the
 * file system then: this has a boot of its own.
 */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/sysmacros.h>

#include "../modules/mm_hold.h"
#include "test.h"

#define SIZE	(2 * PAGE)

static int hold, file;
static char *addr;		/* the file, mapped private, both pages present */
static char *old, *new;		/* what is in it, and what will be in its block */
static char *name;		/* of the device, in sysfs */
static char *driver;		/* its driver's folder there */
static const char zeroes[PAGE];
static volatile pid_t other;	/* who changes things meanwhile */
static volatile bool over;	/* that has ended */

static void *copy_first(void *arg)
{
	(void)arg;
	if (!ioctl(hold, MM_HOLD_FAULT))
		addr[0] = 'x';
	return NULL;
}

/* The threads are there before: a fault that is held may keep mmap_lock */
static int begin(const char *dir, void *(*change)(void *), pthread_t threads[2])
{
	char path[256];

	snprintf(path, sizeof(path), "%s/dax_race", dir);
	file = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	old = small_pages(SIZE);
	new = small_pages(SIZE);
	if (file < 0 || !old || !new)
		return -ENOMEM;
	fill(old, SIZE, 3);
	fill(new, SIZE, 4);
	if (pwrite(file, old, SIZE, 0) != (ssize_t)SIZE)
		return -EIO;
	addr = mmap(NULL, SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE, file, 0);
	if (addr == MAP_FAILED || memcmp(addr, old, SIZE))
		return -EILSEQ;
	hold = open("/dev/mm_hold", O_RDWR | O_CLOEXEC);
	if (hold < 0)
		return -errno;
	other = 0;
	over = false;
	return -(pthread_create(&threads[0], NULL, change, NULL) ?:
		 pthread_create(&threads[1], NULL, copy_first, NULL));
}

static void *renew_block(void *arg)
{
	(void)arg;
	if (!ioctl(hold, MM_HOLD_WAIT)) {
		other = gettid();
		if (fallocate(file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
			      0, PAGE) ||
		    pwrite(file, new, PAGE, 0) != (ssize_t)PAGE)
			file = -1;
	}
	over = true;
	return NULL;
}

static bool punch_waits(void *arg)
{
	(void)arg;
	return over || (other && sleeps_in(other, SYS_fallocate));
}

FIXTURE(dax_race)
{
};

FIXTURE_VARIANT(dax_race)
{
	const char *where;
};

FIXTURE_VARIANT_ADD(dax_race, ext4) { .where = "USERPIN_DAX_EXT4" };
FIXTURE_VARIANT_ADD(dax_race, xfs) { .where = "USERPIN_DAX_XFS" };

FIXTURE_SETUP(dax_race)
{
	ASSERT_NE(NULL, getenv(variant->where));
}

FIXTURE_TEARDOWN(dax_race)
{
}

/*
 * While a page of the file is copied, the file system cannot take its block away:
 * otherwise the copy would be of what is in that block next, or, if the file gets
 * the block again, of what was in it before.
 */
TEST_F(dax_race, hole_punched)
{
	pthread_t threads[2];

	(void)self;
	ASSERT_EQ(0, begin(getenv(variant->where), renew_block, threads))
		TH_LOG("is mm_hold.ko loaded?");
	EXPECT_TRUE(wait_for(punch_waits, NULL));
	EXPECT_FALSE(over) TH_LOG("the block was taken away meanwhile");
	/* Where it was, its page is mapped again */
	(void)*(volatile char *)(addr + 1);
	EXPECT_EQ(0, ioctl(hold, MM_HOLD_GO));
	EXPECT_EQ(0, pthread_join(threads[1], NULL));
	EXPECT_EQ(0, pthread_join(threads[0], NULL));
	EXPECT_LE(0, file) TH_LOG("fallocate() or write failed");
	/* A page as it once was in the file, and not a mixture */
	EXPECT_EQ('x', addr[0]);
	EXPECT_TRUE(!memcmp(addr + 1, old + 1, PAGE - 1) ||
		    !memcmp(addr + 1, new + 1, PAGE - 1) ||
		    !memcmp(addr + 1, zeroes + 1, PAGE - 1));
	EXPECT_EQ(0, memcmp(addr + PAGE, old + PAGE, PAGE));
}

static void *unbind(void *arg)
{
	char path[256];

	(void)arg;
	snprintf(path, sizeof(path), "%s/unbind", driver);
	if (!ioctl(hold, MM_HOLD_WAIT)) {
		other = gettid();
		write_text(path, name);
	}
	return NULL;
}

/* The device takes no new references, and waits for the old ones to end */
static bool removal_waits(void *arg)
{
	char path[64], *where;
	bool waits;

	(void)arg;
	snprintf(path, sizeof(path), "/proc/self/task/%d/wchan", other);
	where = other ? slurp(path) : NULL;
	waits = where && !strcmp(where, "memunmap_pages");
	free(where);
	return waits;
}

static sigjmp_buf out;

static void on_sigbus(int sig)
{
	siglongjmp(out, sig);
}

/* The last fixture: there is no file system afterwards */
FIXTURE(dax_device)
{
};

FIXTURE_SETUP(dax_device)
{
}

FIXTURE_TEARDOWN(dax_device)
{
}

TEST_F(dax_device, removed)
{
	const char *dir = getenv("USERPIN_DAX_EXT4");
	char path[256], *device;
	pthread_t threads[2];
	struct stat st;

	(void)self;
	ASSERT_NE(NULL, dir);
	ASSERT_EQ(0, stat(dir, &st));
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/device",
		 major(st.st_dev), minor(st.st_dev));
	device = realpath(path, NULL);
	strcat(path, "/driver");
	driver = realpath(path, NULL);
	ASSERT_TRUE(device && driver);
	name = strrchr(device, '/') + 1;

	ASSERT_EQ(0, begin(dir, unbind, threads))
		TH_LOG("is mm_hold.ko loaded?");
	ASSERT_TRUE(wait_for(removal_waits, NULL));

	/* It was repeated for as long as the removal took, which waits for us */
	signal(SIGBUS, on_sigbus);
	if (!sigsetjmp(out, 1)) {
		addr[PAGE] = 'y';
		EXPECT_TRUE(false) TH_LOG("a page of the device was copied");
	}

	EXPECT_EQ(0, ioctl(hold, MM_HOLD_GO));
	EXPECT_EQ(0, pthread_join(threads[1], NULL));
	EXPECT_EQ('x', addr[0]);
	EXPECT_EQ(0, memcmp(addr + 1, old + 1, PAGE - 1));
	EXPECT_EQ(0, pthread_join(threads[0], NULL));

	/* Stock cannot unmount a DAX file system without the device's memory */
	munmap(addr, SIZE);
	snprintf(path, sizeof(path), "%s/bind", driver);
	EXPECT_EQ(0, write_text(path, name));
	free(device);
	free(driver);
}

TEST_HARNESS_MAIN
