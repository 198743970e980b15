/* SPDX-License-Identifier: GPL-2.0 */
/* Processes that hold long-term pins. Counts are in bytes. */
#ifndef PINSTAT_PROCESSES_H
#define PINSTAT_PROCESSES_H

#include "pins.h"

struct process {
	long pid;
	char *command;		/* escaped; NULL if it cannot be read */
	char *vm;		/* escaped; NULL if it is no QEMU with a name */
	bool gone;		/* has ended; its holders are still there */
	struct pins pins;	/* counts are in bytes, too */
	uint64_t vmlck;
	uint64_t vmpin;
	uint64_t untracked;	/* of VmPin, pins that no holder explains */
};

struct processes {
	struct process *list;
	size_t nr;
	size_t reports;		/* processes whose pins could be read */
	size_t denied;		/* that we may not read */
	size_t broken;		/* whose report is not understood; has been told */
	struct refusals refusals;	/* none if that is not ours to read */
};

/*
 * Does RLIMIT_MEMLOCK not apply, for CAP_IPC_LOCK? @status: /proc/PID/status. It
 * counts in the first user namespace only.
 */
bool process_ignores_limit(long pid, const char *status);
/*
 * Of one process. False, and errno, if there is nothing to read; EBADMSG if it is
 * not understood, which has been told.
 */
bool process_read(struct process *p, long pid);
/*
 * All that hold pins, and those that ended and whose holders are left; of @pids,
 * if there are any, those that are there.
 */
void processes_read(struct processes *ps, const long *pids, size_t npids);
uint64_t process_pinned(const struct process *p);
uint64_t process_refused(const struct process *p);
/* Has the kernel such reports, whether there are pins or not? */
bool processes_supported(const struct processes *ps);
void process_free(struct process *p);
void processes_free(struct processes *ps);

#endif
