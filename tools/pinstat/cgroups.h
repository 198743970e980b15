/* SPDX-License-Identifier: GPL-2.0 */
/* The misc controller's limit of long-term pins. Counts are in bytes. */
#ifndef PINSTAT_CGROUPS_H
#define PINSTAT_CGROUPS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define CGROUP_MAX	UINT64_MAX

struct cgroup {
	char *path;		/* below the root cgroup, escaped */
	uint64_t current, peak;
	uint64_t max;		/* or CGROUP_MAX */
	bool counts;		/* refusals; the root has no limit that could */
	uint64_t refused;	/* how often this limit did, its children's too */
};

struct cgroups {
	struct cgroup *list;
	size_t nr;
	size_t seen;		/* that have the controller */
	size_t broken;		/* values that are not understood; have been told */
};

/* All in which memory is held, or that have a limit, in the order of the tree */
void cgroups_read(struct cgroups *cgs);
void cgroups_free(struct cgroups *cgs);

/* @path: below the root cgroup, not escaped */
bool cgroup_exists(const char *path);
/*
 * Of this cgroup and those above it, the one whose limit leaves least; its path is for
 * free(). False: none has a limit.
 */
bool cgroup_tightest(struct cgroup *cg, const char *path);

#endif
