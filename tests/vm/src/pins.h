/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the kernel says about long-term pins: /proc/<pid>/longterm_pins, the
 * list of all holders, counters, tracepoints, and the log. All
 * counts are in pages of 4 KiB.
 */
#ifndef USERPIN_PINS_H
#define USERPIN_PINS_H

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* Columns of refusals, in the order of /proc/<pid>/longterm_pins */
enum reason {
	FSDAX,
	FILEMAP,
	SECRETMEM,
	PFNMAP,
	MEMLOCK,
	CGROUP,
	MIGRATE,
	OVERFLOW_,
	NOMEM,
	FAULT,
	EOF_,
	NOSPACE,
	NOHUGETLB,
	NR_REASONS,
	NO_REASON = NR_REASONS,
};

extern const char *const reason_name[NR_REASONS + 1];

/*
 * Stock 6.12 has none of this. A program that was started with --stock expects what
 * docs/behaviour.md says of it.
 */
extern bool on_stock;
/* Take that argument away, which is the first one */
void stock_option(int *argc, char **argv);

#define UNLIMITED	LONG_MAX
#define NO_LIMIT	-1	/* the process has ended */
#define MAX_HOLDERS	64

struct holder {
	int pid;		/* these three in the list of the host only */
	char comm[64];
	char state[8];
	char name[48];
	long pages, peak, acquired, released;
	long refused[NR_REASONS];
	/* These are in the list of the host only */
	long charge, held;	/* of the ledger */
	long ledger;		/* its number */
};

struct pins {
	int nr;
	struct holder holder[MAX_HOLDERS];
	long charge, held, pinned, user, limit;
	char cgroup[512];	/* as the kernel escapes it */
	bool removed;		/* that cgroup has been */
};

/* 0, or -errno; -EBADMSG when the text is not what it must be */
int pins_parse(const char *text, struct pins *p);
int pins_read(pid_t pid, struct pins *p);
/* The list of all holders. What is not of a holder is not set in @p. */
int pins_read_all(struct pins *p);
bool pins_supported(void);

/* Sums over the holders */
long pins_pages(const struct pins *p);
long pins_refused(const struct pins *p, enum reason why);
/* Pages of holders whose process has ended, or does another program; of the host */
long pins_of_the_dead(void);
/* Holders of a process, which may have ended; of the host's list */
int holders_of(pid_t pid);
/* All of the host since boot, as the list of all holders has them */
long pins_refused_ever(enum reason why);

/* A line like "VmLck:" of /proc/<pid>/status, in pages; of /proc/vmstat; a node's */
long status_pages(pid_t pid, const char *key);
long vmstat(const char *key);
long vmstat_of_node(int node, const char *key);

/* The number behind a word in a cgroup's file; LONG_MAX for "max", or -1 */
long cgroup_value(const char *dir, const char *file, const char *key);
/* The cgroup's misc.current of longterm_pin, in pages, or -1 */
long cgroup_held(const char *dir);
/* Where all cgroups are */
const char *cgroup_root(void);

/* Everything that a map changes and its unmap must put back */
struct snap {
	struct pins pins;
	long vmlck, vmpin;
	long counted;		/* nr_longterm_pinned */
	long foll;		/* nr_foll_pin_acquired - released */
	long cgroups;		/* misc.current of all cgroups together */
};

int snap(struct snap *s);
/* NULL when @b is as @a but for refusals and holders without pages; or what is not */
const char *snap_differs(const struct snap *a, const struct snap *b);
/* The same, waiting for counters that other CPUs still have to bring home */
const char *snap_settles(const struct snap *a);

/* The kernel log, one line each, without escapes of a reader's own */
char *kernel_log(void);
/* Lines of refusals that one user gets in five seconds: mm/pin_refusal.c */
#define LOG_LINES	10
/* Until so many more lines of refusals have room in the log */
void log_room(int lines);
/* Whether a line of the log that holds @a also holds @b */
bool logged(const char *log, const char *a, const char *b);
/* How many lines of the log hold both */
int log_lines(const char *a, const char *b);

#define TRACEFS	"/sys/kernel/tracing"

/* Tracepoints user_pages:longterm_* */
bool trace_supported(void);
int trace_on(void);
void trace_off(void);
int trace_mark(const char *text);
char *trace_read(void);
/* The lines of @event that @pid caused; in *@sum, of its field @field the sum */
int trace_count(const char *text, const char *event, pid_t pid,
		const char *field, long *sum);

/* What the IOMMU layer was told to map and unmap of a range; bytes */
struct iommu_pieces {
	int maps, unmaps;
	long most, least;	/* of one map */
	long mapped, unmapped;
};

int iommu_trace_start(void);
void iommu_trace_stop(struct iommu_pieces *p, uint64_t iova, size_t size);
/* After the stop: which frames were mapped at @iova, one for each page, 0: none */
void iommu_trace_frames(uint64_t iova, uint64_t *pfn, size_t npages);

#endif
