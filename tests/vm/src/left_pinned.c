// SPDX-License-Identifier: GPL-2.0
/*
 * Three pages stay pinned when this program ends, and no holder knows of them: a
 * process keeps them that has left the test's cgroup. tests/vm/init has to tell;
 * then they go. For a test of that (harness-pins in tests.conf).
 */
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <unistd.h>

/* The kernel's own */
#include <../../../mm/gup_test.h>

#include "util.h"

#define N	3
#define TOLD	"userpin: 3 pages are pinned"

static int pin(void)
{
	struct pin_longterm_test test = { .size = N * PAGE };
	int fd = open("/sys/kernel/debug/gup_test", O_RDWR | O_CLOEXEC);
	char *mem = small_pages(N * PAGE);

	if (fd < 0 || !mem)
		return -1;
	memset(mem, 1, N * PAGE);
	test.addr = (uintptr_t)mem;
	return ioctl(fd, PIN_LONGTERM_TEST_START, &test);
}

static int leave_cgroup(void)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/cgroup.procs",
		 getenv("USERPIN_CGROUP") ?: "/sys/fs/cgroup");
	return write_text(path, "0");
}

/* The pins go with this process, when the kernel's log says so from now on */
static void wait_until_told(int log)
{
	char line[1024] = "";
	ssize_t len;

	while (!strstr(line, TOLD)) {
		len = read(log, line, sizeof(line) - 1);
		/* The log was faster than this */
		if (len < 0 && errno != EPIPE)
			break;
		line[len < 0 ? 0 : len] = 0;
	}
}

int main(void)
{
	int log = open("/dev/kmsg", O_RDONLY | O_CLOEXEC), sv[2];
	long err;

	if (log < 0 || lseek(log, 0, SEEK_END) < 0 || chan_pair(sv))
		return 1;
	switch (fork()) {
	case -1:
		return 1;
	case 0:
		close(0);
		close(1);
		close(2);
		if (chan_put(sv[1], pin() || leave_cgroup()))
			return 1;
		wait_until_told(log);
		return 0;
	}
	close(sv[1]);
	if (chan_get(sv[0], &err) || err) {
		printf("not ok 1 pages are pinned\n1..1\n");
		return 1;
	}
	printf("ok 1 pages are pinned\n1..1\n");
	return 0;
}
