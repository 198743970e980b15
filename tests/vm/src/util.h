/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Small helpers of the tests: files, time, patterns, page frames, and talk
 * between a test and the processes it makes. What fails returns -errno.
 */
#ifndef USERPIN_UTIL_H
#define USERPIN_UTIL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define PAGE	4096UL
#define KB	1024UL
#define MB	(1024UL * KB)
#define GB	(1024UL * MB)

#define ROUND_UP(x, a)	(((x) + (a) - 1) / (a) * (a))

/* Bits of /proc/kpageflags */
#define PF_DIRTY	(1ULL << 4)
#define PF_WRITEBACK	(1ULL << 8)
#define PF_ANON		(1ULL << 12)
#define PF_TAIL		(1ULL << 16)
#define PF_THP		(1ULL << 22)

/* Files */
char *slurp(const char *path);
int write_text(const char *path, const char *text);
long read_long(const char *path, long otherwise);
bool file_exists(const char *path);
/* Unmount a disk's file system, and mount it again as it was */
int remount(const char *dir);

/*
 * Time. What others are to do is waited for by looks, not by the clock: each is a
 * moment after the one before, and every CPU has run since. On a busy host they
 * take longer. PATIENCE looks, minutes at least, are more than anything takes.
 */
#define PATIENCE	20000
uint64_t now_ms(void);
void sleep_ms(unsigned int ms);
void before_next_look(void);

/* rmdir(), waiting for tasks that have ended to leave the cgroup; 0 or -errno */
int remove_cgroup(const char *dir);
/* By QEMU's TCG, and not by KVM */
bool cpus_emulated(void);
/* The thread runs on this CPU only; 0 or -errno */
int run_on(int cpu);
/* Does cond() say yes within PATIENCE looks? */
bool wait_for(bool (*cond)(void *arg), void *arg);

/* Anonymous memory of small pages; NULL without memory */
char *small_pages(size_t size);

/* Contents: a sequence that @seed chooses */
void fill(void *to, size_t len, unsigned int seed);
bool filled(const void *at, size_t len, unsigned int seed);

/* Page frames of this process; 0 when there is none */
uint64_t pfn_of(const void *addr);
uint64_t pfn_flags(uint64_t pfn);
/* Is there a page, mapped in one piece with all others of its page table? */
bool mapped_huge(const void *addr);
/* The first frame of the folio that @pfn belongs to; in *@n how many it has */
uint64_t folio_of(uint64_t pfn, long *n);

/* NUMA nodes: where a page is; ask @n pages, @step bytes apart, to go elsewhere */
int node_of(void *mem);
/* What is there goes to the node, and what will be comes from it; 0 or -errno */
int bind_to_node(int node, void *mem, size_t size);
/* Returns how many are there then; at most MOVE_MAX */
#define MOVE_MAX	64UL
long move_to(void *mem, size_t n, size_t step, int to);

/* Ask reclaim for this page; is it gone? To be waited for. */
bool reclaimed(void *mem);

/*
 * Fault injection: after arm(), the @n-th thing of this thread that can fail
 * fails, once: an allocation, or a copy from or to user space. disarm() ends
 * that; was there a failure?
 */
bool failing_supported(void);
int failing_open(void);
void arm(int fd, int n);
bool disarm(int fd);

/**
 * struct failing - each thing of an operation that can fail does so in turn
 * @fd: what failing_open() returned; all else begins as 0
 * @n: the @n-th of them is to fail this time
 * @injected: it did; else there are fewer, and the operation came through without
 * @ret: what the operation returned this time: 0 or -errno
 * @failures: how often that was an error
 *
 *	while (failing_next(&f)) {
 *		failing_arm(&f);
 *		ret = operation();
 *		failing_disarm(&f, ret);
 *		...
 *	}
 *
 * Programs that include test.h say FAILING_NEXT(), and EXPECT_FAILED_IN_TURN() at the end.
 */
struct failing {
	int fd;
	int n;
	bool injected;
	int ret;
	int failures;
};

/* Is there a next one? No more after @injected is false, or after FAILING_MOST times */
#define FAILING_MOST	20000
bool failing_next(struct failing *f);
void failing_arm(const struct failing *f);
/* @ret: 0, or -errno where the operation has failed */
void failing_disarm(struct failing *f, int ret);

/* KSM: start it, impatient and thorough */
#define KSM	"/sys/kernel/mm/ksm"
int ksm_start(void);

/* Capabilities and limits of this process */
int cap_drop(int cap);
/*
 * Capabilities belong to the effective user, who stays root, counters to the real one.
 * Two who have nothing else.
 */
#define SOMEBODY	4711
#define ANOTHER		4712
/* Without CAP_IPC_LOCK, unless @capable */
int become(uid_t uid, bool capable);
int set_memlock(size_t bytes);

/*
 * A socket pair between two processes. Waits are bounded, so that a peer that
 * died is an error and not a hang.
 */
int chan_pair(int sv[2]);
int chan_put(int fd, long value);
int chan_get(int fd, long *value);
int chan_put_fd(int fd, int pass);
int chan_get_fd(int fd);

/*
 * Is thread @tid of this process asleep in system call @nr, where a signal would
 * wake it? So sleep those who wait for others, not those who wait for a disk.
 */
bool sleeps_in(pid_t tid, long nr);

/* Wait for @pid to end: 0 and its status as of waitpid(), or -ETIMEDOUT */
int reap(pid_t pid, int *status);
int reap_within(pid_t pid, unsigned int looks, int *status);

#endif
