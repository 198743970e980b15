// SPDX-License-Identifier: GPL-2.0
/*
 * The pmem device of a DAX file system goes away while a process copies a page
 * of it. Nothing is left of the file system afterwards: this has a boot of its own.
 */
#include <fcntl.h>
#include <pthread.h>
#include <setjmp.h>
#include <signal.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>

#include "../modules/mm_hold.h"
#include "test.h"

static char *addr;		/* two pages of the file, mapped private */
static int hold;
static char device[128];	/* of the file system, in sysfs */
static volatile pid_t remover;

static void *copy_first(void *arg)
{
	(void)arg;
	if (!ioctl(hold, MM_HOLD_FAULT))
		addr[0] = 'x';
	return NULL;
}

static void *unbind(void *arg)
{
	char driver[160], *name;

	(void)arg;
	name = realpath(device, NULL);
	snprintf(driver, sizeof(driver), "%s/driver/unbind", device);
	if (name && !ioctl(hold, MM_HOLD_WAIT)) {
		remover = gettid();
		write_text(driver, strrchr(name, '/') + 1);
	}
	free(name);
	return NULL;
}

/* The device takes no new references, and waits for the old ones to end */
static bool removal_waits(void *arg)
{
	char path[64], *where;
	bool waits;

	(void)arg;
	snprintf(path, sizeof(path), "/proc/self/task/%d/wchan", remover);
	where = remover ? slurp(path) : NULL;
	waits = where && !strcmp(where, "memunmap_pages");
	free(where);
	return waits;
}

static sigjmp_buf out;

static void on_sigbus(int sig)
{
	siglongjmp(out, sig);
}

TEST(a_fault_ends)
{
	const char *dir = getenv("USERPIN_DAX_EXT4");
	pthread_t copier, thread;
	char path[256], *old;
	struct stat st;
	int fd;

	ASSERT_NE(NULL, dir);
	ASSERT_EQ(0, stat(dir, &st));
	snprintf(device, sizeof(device), "/sys/dev/block/%u:%u/device",
		 major(st.st_dev), minor(st.st_dev));
	snprintf(path, sizeof(path), "%s/dax_removal", dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	old = small_pages(2 * PAGE);
	ASSERT_NE(NULL, old);
	fill(old, 2 * PAGE, 3);
	ASSERT_EQ((ssize_t)(2 * PAGE), pwrite(fd, old, 2 * PAGE, 0));
	addr = mmap(NULL, 2 * PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	ASSERT_NE(MAP_FAILED, (void *)addr);
	ASSERT_EQ(0, memcmp(addr, old, 2 * PAGE));

	hold = open("/dev/mm_hold", O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, hold) TH_LOG("is mm_hold.ko loaded?");
	ASSERT_EQ(0, pthread_create(&thread, NULL, unbind, NULL));
	ASSERT_EQ(0, pthread_create(&copier, NULL, copy_first, NULL));
	ASSERT_TRUE(wait_for(removal_waits, NULL, SETTLE_MS));

	/* It was repeated for as long as the removal took, and that waits for us */
	signal(SIGBUS, on_sigbus);
	if (!sigsetjmp(out, 1)) {
		addr[PAGE] = 'y';
		EXPECT_TRUE(false) TH_LOG("a page of the device was copied");
	}

	EXPECT_EQ(0, ioctl(hold, MM_HOLD_GO));
	EXPECT_EQ(0, pthread_join(copier, NULL));
	EXPECT_EQ('x', addr[0]);
	EXPECT_EQ(0, memcmp(addr + 1, old + 1, PAGE - 1));
	EXPECT_EQ(0, pthread_join(thread, NULL));
}

TEST_HARNESS_MAIN
