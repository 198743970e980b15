// SPDX-License-Identifier: GPL-2.0
#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <linux/fs.h>
#include <linux/membarrier.h>
#include <linux/mempolicy.h>
#include <mntent.h>
#include <poll.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "util.h"

#define LOOK_MS	5

#define DEBUGFS		"/sys/kernel/debug"

char *slurp(const char *path)
{
	size_t len = 0, room = 1 << 16;
	char *buf, *more;
	ssize_t n;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return NULL;
	buf = malloc(room);
	while (buf) {
		n = read(fd, buf + len, room - len - 1);
		if (n < 0) {
			n = errno;
			free(buf);
			close(fd);
			errno = n;
			return NULL;
		}
		if (!n)
			break;
		len += n;
		if (len + 1 < room)
			continue;
		room *= 2;
		more = realloc(buf, room);
		if (!more)
			free(buf);
		buf = more;
	}
	close(fd);
	if (buf)
		buf[len] = 0;
	return buf;
}

int write_text(const char *path, const char *text)
{
	ssize_t len = strlen(text), n;
	int fd, ret = 0;

	fd = open(path, O_WRONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = write(fd, text, len);
	if (n < 0)
		ret = -errno;
	else if (n != len)
		ret = -EIO;
	close(fd);
	return ret;
}

int remount(const char *dir)
{
	const char *how = strstr(dir, "dax") ? "dax=always" :
			  /* As with_nfs does it */
			  strstr(dir, "nfs") ?
			  "vers=4,addr=127.0.0.1,clientaddr=127.0.0.1" : NULL;
	FILE *mounts = setmntent("/proc/mounts", "r");
	struct mntent *m;
	int ret = -ENOENT;

	if (!mounts)
		return -errno;
	while (ret == -ENOENT && (m = getmntent(mounts))) {
		if (strcmp(m->mnt_dir, dir))
			continue;
		ret = 0;
		if (umount(dir) ||
		    mount(m->mnt_fsname, dir, m->mnt_type, 0, how))
			ret = -errno;
	}
	endmntent(mounts);
	return ret;
}

long read_long(const char *path, long otherwise)
{
	char *text = slurp(path), *end;
	long value;

	if (!text)
		return otherwise;
	value = strtol(text, &end, 0);
	if (end == text)
		value = otherwise;
	free(text);
	return value;
}

bool file_exists(const char *path)
{
	return !eaccess(path, F_OK);
}

uint64_t now_ms(void)
{
	struct timespec ts;

	clock_gettime(CLOCK_MONOTONIC, &ts);
	return ts.tv_sec * 1000ULL + ts.tv_nsec / 1000000;
}

void sleep_ms(unsigned int ms)
{
	struct timespec ts = { ms / 1000, ms % 1000 * 1000000L };

	while (nanosleep(&ts, &ts) && errno == EINTR)
		;
}

/* Returns when RCU's grace period has ended, in which each CPU has its turn */
static void all_cpus_run(void)
{
	if (syscall(SYS_membarrier, MEMBARRIER_CMD_GLOBAL, 0, 0))
		abort();
}

bool cpus_emulated(void)
{
	char *text = slurp("/proc/cpuinfo");
	bool emulated = text && strstr(text, "QEMU TCG");

	free(text);
	return emulated;
}

int run_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu, &set);
	return sched_setaffinity(0, sizeof(set), &set) ? -errno : 0;
}

void before_next_look(void)
{
	sleep_ms(LOOK_MS);
	all_cpus_run();
}

int remove_cgroup(const char *dir)
{
	int i;

	for (i = 0; i < PATIENCE; i++) {
		if (!rmdir(dir))
			return 0;
		if (errno != EBUSY)
			break;
		before_next_look();
	}
	return -errno;
}

bool wait_for(bool (*cond)(void *arg), void *arg)
{
	unsigned int look;

	for (look = 1; !cond(arg); look++) {
		if (look == PATIENCE)
			return false;
		before_next_look();
	}
	return true;
}

char *small_pages(size_t size)
{
	char *mem = mmap(NULL, size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	if (mem == MAP_FAILED)
		return NULL;
	madvise(mem, size, MADV_NOHUGEPAGE);
	return mem;
}

static inline uint32_t next_word(uint32_t x)
{
	/* xorshift32: any non-zero start has the full period */
	x ^= x << 13;
	x ^= x >> 17;
	x ^= x << 5;
	return x;
}

void fill(void *to, size_t len, unsigned int seed)
{
	uint32_t x = seed * 2654435761U | 1, *word = to;

	for (; len >= sizeof(x); len -= sizeof(x)) {
		x = next_word(x);
		*word++ = x;
	}
}

bool filled(const void *at, size_t len, unsigned int seed)
{
	uint32_t x = seed * 2654435761U | 1;
	const uint32_t *word = at;

	for (; len >= sizeof(x); len -= sizeof(x)) {
		x = next_word(x);
		if (*word++ != x)
			return false;
	}
	return true;
}

static uint64_t read_entry(const char *path, uint64_t index)
{
	uint64_t entry = 0;
	int fd;

	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return 0;
	if (pread(fd, &entry, sizeof(entry), index * sizeof(entry)) !=
	    sizeof(entry))
		entry = 0;
	close(fd);
	return entry;
}

uint64_t pfn_of(const void *addr)
{
	uint64_t entry = read_entry("/proc/self/pagemap",
				    (uintptr_t)addr / PAGE);

	if (!(entry >> 63))	/* not present */
		return 0;
	return entry & ((1ULL << 55) - 1);
}

uint64_t pfn_flags(uint64_t pfn)
{
	return read_entry("/proc/kpageflags", pfn);
}

bool mapped_huge(const void *addr)
{
	struct page_region region;
	struct pm_scan_arg arg = {
		.size = sizeof(arg),
		.start = (uintptr_t)addr,
		.end = (uintptr_t)addr + PAGE,
		.vec = (uintptr_t)&region,
		.vec_len = 1,
		.category_mask = PAGE_IS_PRESENT | PAGE_IS_HUGE,
		.return_mask = PAGE_IS_HUGE,
	};
	int fd = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	int n;

	if (fd < 0)
		return false;
	n = ioctl(fd, PAGEMAP_SCAN, &arg);
	close(fd);
	return n == 1;
}

uint64_t folio_of(uint64_t pfn, long *n)
{
	while (pfn_flags(pfn) & PF_TAIL)
		pfn--;
	for (*n = 1; pfn_flags(pfn + *n) & PF_TAIL;)
		++*n;
	return pfn;
}

long move_to(void *mem, size_t n, size_t step, int to)
{
	int node[MOVE_MAX], status[MOVE_MAX];
	void *page[MOVE_MAX];
	long there = 0, ret;
	size_t i;

	if (n > MOVE_MAX)
		return -E2BIG;
	for (i = 0; i < n; i++) {
		page[i] = (char *)mem + i * step;
		node[i] = to;
		status[i] = -1;
	}
	ret = syscall(SYS_move_pages, 0, n, page, node, status, 2 /* MOVE */);
	if (ret < 0)
		return -errno;
	ret = syscall(SYS_move_pages, 0, n, page, NULL, status, 0);
	if (ret < 0)
		return -errno;
	for (i = 0; i < n; i++)
		there += status[i] == to;
	return there;
}

bool reclaimed(void *mem)
{
	/* The first try may only find that the page is wanted after all */
	return madvise(mem, PAGE, MADV_PAGEOUT) || !pfn_of(mem);
}

bool failing_supported(void)
{
	return file_exists("/proc/thread-self/fail-nth") &&
	       file_exists(DEBUGFS "/failslab");
}

int failing_open(void)
{
	static const char *const file[][2] = {
		{ "failslab/ignore-gfp-wait", "N" },
		{ "failslab/task-filter", "N" },
		{ "failslab/verbose", "0" },
		{ "fail_page_alloc/ignore-gfp-wait", "N" },
		{ "fail_page_alloc/ignore-gfp-highmem", "N" },
		{ "fail_page_alloc/min-order", "0" },
		{ "fail_page_alloc/verbose", "0" },
		{ "fail_usercopy/verbose", "0" },
		{ "fail_iommufd/verbose", "0" },
	};
	char path[96];
	size_t i;
	int fd;

	for (i = 0; i < sizeof(file) / sizeof(file[0]); i++) {
		snprintf(path, sizeof(path), DEBUGFS "/%s", file[i][0]);
		write_text(path, file[i][1]);
	}
	fd = open("/proc/thread-self/fail-nth", O_RDWR | O_CLOEXEC);
	return fd < 0 ? -errno : fd;
}

/*
 * Copies from and to user space can be made to fail, too, and these here are
 * some. What fails once does not fail again.
 */
void arm(int fd, int n)
{
	char text[16];
	int len = sprintf(text, "%d", n);

	if (pwrite(fd, text, len, 0) != len && pwrite(fd, text, len, 0) != len)
		abort();
}

bool disarm(int fd)
{
	char text[16] = "";
	ssize_t len = pread(fd, text, sizeof(text) - 1, 0);

	if (len < 0 && errno == EFAULT)
		return false;	/* it was left for this read */
	if (len <= 0)
		abort();
	arm(fd, 0);
	return atoi(text) == 0;
}

bool failing_next(struct failing *f)
{
	if (f->n && (!f->injected || f->n == FAILING_MOST))
		return false;
	f->n++;
	return true;
}

void failing_arm(const struct failing *f)
{
	arm(f->fd, f->n);
}

void failing_disarm(struct failing *f, int ret)
{
	f->injected = disarm(f->fd);
	f->ret = ret;
	f->failures += !!ret;
}

int ksm_start(void)
{
	write_text(KSM "/smart_scan", "0");
	write_text(KSM "/sleep_millisecs", "1");
	write_text(KSM "/pages_to_scan", "1000");
	return write_text(KSM "/run", "1");
}

int node_of(void *mem)
{
	int status = -1;

	if (syscall(SYS_move_pages, 0, 1, &mem, NULL, &status, 0))
		return -errno;
	return status;
}

int bind_to_node(int node, void *mem, size_t size)
{
	unsigned long mask = 1UL << node;

	return syscall(SYS_mbind, mem, size, MPOL_BIND, &mask,
		       8 * sizeof(mask), MPOL_MF_MOVE) ? -errno : 0;
}

int cap_drop(int cap)
{
	struct __user_cap_header_struct head = {
		.version = _LINUX_CAPABILITY_VERSION_3,
	};
	struct __user_cap_data_struct data[_LINUX_CAPABILITY_U32S_3];
	uint32_t bit = 1U << cap % 32;

	if (syscall(SYS_capget, &head, data))
		return -errno;
	data[cap / 32].effective &= ~bit;
	data[cap / 32].permitted &= ~bit;
	data[cap / 32].inheritable &= ~bit;
	if (syscall(SYS_capset, &head, data))
		return -errno;
	return 0;
}

int become(uid_t uid, bool capable)
{
	if (setresuid(uid, 0, 0))
		return -errno;
	return capable ? 0 : cap_drop(CAP_IPC_LOCK);
}

int set_memlock(size_t bytes)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_MEMLOCK, &limit))
		return -errno;
	limit.rlim_cur = bytes;
	if (limit.rlim_max < bytes)
		limit.rlim_max = bytes;
	return setrlimit(RLIMIT_MEMLOCK, &limit) ? -errno : 0;
}

int chan_pair(int sv[2])
{
	return socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, sv) ?
	       -errno : 0;
}

static int chan_wait(int fd)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	unsigned int look;
	int n;

	for (look = 0; look < PATIENCE; look++) {
		n = poll(&pfd, 1, LOOK_MS);
		if (n > 0)
			return 0;
		if (n < 0 && errno != EINTR)
			return -errno;
		all_cpus_run();
	}
	return -ETIMEDOUT;
}

static int chan_send(int fd, long value, int pass)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { &value, sizeof(value) };
	struct msghdr msg = { .msg_iov = &iov, .msg_iovlen = 1 };
	struct cmsghdr *cmsg;

	if (pass >= 0) {
		memset(&control, 0, sizeof(control));
		msg.msg_control = control.buf;
		msg.msg_controllen = sizeof(control.buf);
		cmsg = CMSG_FIRSTHDR(&msg);
		cmsg->cmsg_level = SOL_SOCKET;
		cmsg->cmsg_type = SCM_RIGHTS;
		cmsg->cmsg_len = CMSG_LEN(sizeof(int));
		memcpy(CMSG_DATA(cmsg), &pass, sizeof(int));
	}
	return sendmsg(fd, &msg, MSG_NOSIGNAL) == sizeof(value) ? 0 : -errno;
}

static int chan_recv(int fd, long *value, int *passed)
{
	union {
		char buf[CMSG_SPACE(sizeof(int))];
		struct cmsghdr align;
	} control;
	struct iovec iov = { value, sizeof(*value) };
	struct msghdr msg = {
		.msg_iov = &iov,
		.msg_iovlen = 1,
		.msg_control = control.buf,
		.msg_controllen = sizeof(control.buf),
	};
	struct cmsghdr *cmsg;
	ssize_t n;
	int ret;

	ret = chan_wait(fd);
	if (ret)
		return ret;
	n = recvmsg(fd, &msg, 0);
	if (n < 0)
		return -errno;
	if (n != sizeof(*value))
		return -EPIPE;
	cmsg = CMSG_FIRSTHDR(&msg);
	if (cmsg && cmsg->cmsg_type == SCM_RIGHTS)
		memcpy(passed, CMSG_DATA(cmsg), sizeof(int));
	return 0;
}

int chan_put(int fd, long value)
{
	return chan_send(fd, value, -1);
}

int chan_get(int fd, long *value)
{
	int passed = -1, ret;
	long dummy;

	ret = chan_recv(fd, value ? value : &dummy, &passed);
	if (passed >= 0)
		close(passed);
	return ret;
}

int chan_put_fd(int fd, int pass)
{
	return chan_send(fd, 0, pass);
}

int chan_get_fd(int fd)
{
	int passed = -EBADF, ret;
	long value;

	ret = chan_recv(fd, &value, &passed);
	return ret ? ret : passed;
}

bool sleeps_in(pid_t tid, long nr)
{
	char path[64], *text, *state;
	bool sleeps;

	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", tid);
	text = slurp(path);
	state = text ? strrchr(text, ')') : NULL;
	sleeps = state && !strncmp(state, ") S", 3);
	free(text);
	if (!sleeps)
		return false;
	snprintf(path, sizeof(path), "/proc/self/task/%d/syscall", tid);
	/* "running" where it is not in a system call */
	return read_long(path, -1) == nr;
}

int reap_within(pid_t pid, unsigned int looks, int *status)
{
	unsigned int look;
	pid_t got;

	for (look = 1;; look++) {
		got = waitpid(pid, status, WNOHANG);
		if (got == pid)
			return 0;
		if (got < 0 && errno != EINTR)
			return -errno;
		if (look == looks)
			return -ETIMEDOUT;
		before_next_look();
	}
}

int reap(pid_t pid, int *status)
{
	return reap_within(pid, PATIENCE, status);
}
