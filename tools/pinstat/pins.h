/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the kernel says of long-term pins: /proc/<pid>/longterm_pins, and the list
 * of all holders. The formats are in docs/reports.md. Counts are in
 * pages here, as they are there.
 */
#ifndef PINSTAT_PINS_H
#define PINSTAT_PINS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define LIMIT_UNLIMITED	UINT64_MAX
#define LIMIT_UNKNOWN	(UINT64_MAX - 1)

/* One object that keeps pins; texts are fit to print, see escape() */
struct holder {
	char *name;
	uint64_t pages, peak, acquired, released;
	uint64_t *refused;	/* by reason, as many as in struct reasons */
};

struct reasons {
	char **names;
	size_t nr;
};

/* The holders of one process */
struct pins {
	struct reasons reasons;
	struct holder *holders;
	size_t nr;
	uint64_t charge, held;
	uint64_t pinned;	/* of VmPin, */
	uint64_t user;		/* and of the locked pages of the user */
	uint64_t limit;		/* or LIMIT_* */
	char *cgroup;		/* escaped; NULL: the kernel says none */
	bool cgroup_removed;
};

/* A holder in the list of all; its process may be gone */
struct listed {
	long pid;
	char *comm;		/* escaped */
	bool gone;
	uint64_t charge, held;	/* of all holders of that memory, */
	uint64_t ledger;	/* which this number stands for */
	struct holder holder;
};

/* Refusals of the host since it runs */
struct refusals {
	struct reasons reasons;
	uint64_t *counts;	/* by reason */
};

struct list {
	struct reasons reasons;
	struct listed *lines;
	size_t nr;
	struct refusals refusals;
};

/*
 * Both return 0, or the number of the line that is not understood; what was
 * understood before it is there all the same. To be freed in any case.
 */
unsigned int pins_parse(struct pins *pins, const char *text, size_t len);
unsigned int list_parse(struct list *list, const char *text, size_t len);
void pins_free(struct pins *pins);
void list_free(struct list *list);
void refusals_free(struct refusals *r);

/* Or the most that there is: the figures are untrusted */
uint64_t add_counts(uint64_t a, uint64_t b);
uint64_t multiply_counts(uint64_t a, uint64_t b);
uint64_t holder_refused(const struct holder *h, const struct reasons *reasons);

/* KiB of a line of /proc/<pid>/status such as "VmPin:"; 0 if there is none */
uint64_t status_kb(const char *text, const char *field);
/* Has a process, as its status says, this capability in its user namespace? */
bool status_has_cap(const char *text, unsigned int cap);
/* Is this program a QEMU, as the first word of its command line says? */
bool is_qemu(const char *program);
/* What QEMU's -name says in a command line of len bytes, escaped; NULL if nothing */
char *vm_name(const char *cmdline, size_t len);

/* Decimal digits and nothing else */
bool parse_number(const char *text, uint64_t *value);

#endif
