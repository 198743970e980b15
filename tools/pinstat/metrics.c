// SPDX-License-Identifier: GPL-2.0
/*
 * OpenMetrics, which node_exporter's textfile collector reads, too. Figures of
 * holders go when the holder does: a container is closed, a VM ends.
 */
#include "metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sysroot.h"

static void family(const char *name, const char *type, const char *unit,
		   const char *help)
{
	printf("# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
	if (unit)
		printf("# UNIT %s %s\n", name, unit);
}

static void label(char before, const char *name, const char *value)
{
	printf("%c%s=\"", before, name);
	for (value = value ?: ""; *value; value++) {
		if (*value == '\\' || *value == '"')
			putchar('\\');
		putchar(*value);
	}
	putchar('"');
}

static void process_labels(const char *name, const struct process *p)
{
	char pid[24];

	snprintf(pid, sizeof(pid), "%ld", p->pid);
	printf("%s", name);
	label('{', "pid", pid);
	label(',', "command", p->command);
	label(',', "vm", p->vm);
}

static void value(uint64_t v)
{
	printf("} %" PRIu64 "\n", v);
}

static uint64_t charge(const struct process *p)
{
	return p->pins.charge;
}

static uint64_t held(const struct process *p)
{
	return p->pins.held;
}

static uint64_t untracked(const struct process *p)
{
	return p->untracked;
}

static void of_processes(const struct processes *ps, const char *name,
			 const char *help,
			 uint64_t (*get)(const struct process *p))
{
	size_t i;

	family(name, "gauge", "bytes", help);
	for (i = 0; i < ps->nr; i++) {
		process_labels(name, &ps->list[i]);
		value(get(&ps->list[i]));
	}
}

/* A family of which each holder has one, at @offset in struct holder */
static void of_holders(const struct processes *ps, const char *name,
		       const char *suffix, const char *help, size_t offset)
{
	char *sample = xasprintf("%s%s", name, suffix);
	size_t i, n;

	family(name, *suffix ? "counter" : "gauge", "bytes", help);
	for (i = 0; i < ps->nr; i++) {
		const struct pins *pins = &ps->list[i].pins;

		for (n = 0; n < pins->nr; n++) {
			const char *h = (const char *)&pins->holders[n];

			process_labels(sample, &ps->list[i]);
			label(',', "holder", pins->holders[n].name);
			value(*(const uint64_t *)(h + offset));
		}
	}
	free(sample);
}

static void of_reasons(const struct processes *ps)
{
	const char *name = "longterm_pin_refused";
	size_t i, n, r;

	family(name, "counter", NULL, "Requests that were refused, by reason");
	for (i = 0; i < ps->nr; i++) {
		const struct pins *pins = &ps->list[i].pins;

		for (n = 0; n < pins->nr; n++) {
			for (r = 0; r < pins->reasons.nr; r++) {
				process_labels("longterm_pin_refused_total",
					       &ps->list[i]);
				label(',', "holder", pins->holders[n].name);
				label(',', "reason", pins->reasons.names[r]);
				value(pins->holders[n].refused[r]);
			}
		}
	}
}

static void of_cgroup(const char *name, const struct cgroup *cg, uint64_t v)
{
	printf("%s", name);
	label('{', "cgroup", cg->path);
	value(v);
}

static void of_cgroups(const struct cgroups *cgs)
{
	size_t i;

	family("longterm_pin_cgroup_bytes", "gauge", "bytes",
	       "Memory that cannot move, of the cgroup and its children");
	for (i = 0; i < cgs->nr; i++)
		of_cgroup("longterm_pin_cgroup_bytes", &cgs->list[i],
			  cgs->list[i].current);
	family("longterm_pin_cgroup_limit_bytes", "gauge", "bytes",
	       "misc.max of cgroups that have a limit");
	for (i = 0; i < cgs->nr; i++)
		if (cgs->list[i].max != CGROUP_MAX)
			of_cgroup("longterm_pin_cgroup_limit_bytes",
				  &cgs->list[i], cgs->list[i].max);
	family("longterm_pin_cgroup_refused", "counter", NULL,
	       "How often this limit or one below it has refused");
	for (i = 0; i < cgs->nr; i++)
		of_cgroup("longterm_pin_cgroup_refused_total", &cgs->list[i],
			  cgs->list[i].refused);
}

void metrics_print(const struct processes *ps, const struct cgroups *cgs)
{
	size_t i;

	of_processes(ps, "longterm_pin_charge_bytes",
		     "What counts against RLIMIT_MEMLOCK, each page once",
		     charge);
	of_processes(ps, "longterm_pin_held_bytes",
		     "Memory that cannot move", held);
	of_processes(ps, "longterm_pin_untracked_bytes",
		     "Pins that no holder explains (VmPin)", untracked);
	family("longterm_pin_limit_bytes", "gauge", "bytes",
	       "RLIMIT_MEMLOCK of processes that have one");
	for (i = 0; i < ps->nr; i++) {
		if (ps->list[i].pins.limit >= LIMIT_UNKNOWN)
			continue;
		process_labels("longterm_pin_limit_bytes", &ps->list[i]);
		value(ps->list[i].pins.limit);
	}
	of_holders(ps, "longterm_pin_pinned_bytes", "", "Pins that are kept",
		   offsetof(struct holder, pages));
	of_holders(ps, "longterm_pin_acquired_bytes", "_total", "Pins taken",
		   offsetof(struct holder, acquired));
	of_holders(ps, "longterm_pin_released_bytes", "_total",
		   "Pins given back", offsetof(struct holder, released));
	of_reasons(ps);
	of_cgroups(cgs);
	family("longterm_pin_unreadable_processes", "gauge", NULL,
	       "Processes whose pins pinstat may not read");
	printf("longterm_pin_unreadable_processes %zu\n", ps->denied);
	puts("# EOF");
}
