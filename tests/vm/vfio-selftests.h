/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Included in front of upstream's VFIO selftests (see the Makefile), so that their
 * verdicts do not depend on how busy the host is.
 */
#ifndef USERPIN_VFIO_SELFTESTS_H
#define USERPIN_VFIO_SELFTESTS_H

#include <poll.h>
#include <stdio.h>
#include <unistd.h>

/* kselftest_harness.h waits 30 s for the end of a case: tests/vm/run ends what hangs */
#define poll(fds, n, ms)	poll(fds, n, -1)

/*
 * The driver of igb sleeps while the device is to do something, and looks a number of
 * times. Part of the device is the main loop of the QEMU that the VM runs on, its timers
 * among others. Who looks for a file that nobody has asked for before has been through
 * that loop, since the root file system is the host's, by 9p.
 */
static inline void sleep_until_qemu_was_there(useconds_t us)
{
	static unsigned int n;
	char path[64];

	usleep(us);
	snprintf(path, sizeof(path), "/no.%d.%u", (int)getpid(), n++);
	access(path, F_OK);
}

#define usleep(us)	sleep_until_qemu_was_there(us)

#endif
