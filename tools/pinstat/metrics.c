// SPDX-License-Identifier: GPL-2.0
/*
 * Prometheus' text format 0.0.4, which node_exporter's textfile collector reads.
 * Figures of holders go when the holder does: a container is closed, a VM ends.
 */
#include "metrics.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "sysroot.h"

static void family(const char *name, const char *type, const char *help)
{
	printf("# HELP %s %s\n# TYPE %s %s\n", name, help, name, type);
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

/*
 * What has ended has its number and name in common with what it was executed
 * from, or to, or just by chance
 */
static void process_labels(const char *name, const struct process *p)
{
	char pid[24];

	snprintf(pid, sizeof(pid), "%ld", p->pid);
	printf("%s", name);
	label('{', "pid", pid);
	label(',', "command", p->command);
	label(',', "vm", p->vm);
	label(',', "state", p->gone ? "gone" : "alive");
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

/* These three are of processes that run: UINT64_MAX for others */
static uint64_t vmlck(const struct process *p)
{
	return p->gone ? UINT64_MAX : p->vmlck;
}

static uint64_t untracked(const struct process *p)
{
	return p->gone ? UINT64_MAX : p->untracked;
}

static uint64_t limit(const struct process *p)
{
	return p->pins.limit < LIMIT_UNKNOWN ? p->pins.limit : UINT64_MAX;
}

static void of_processes(const struct processes *ps, const char *name,
			 const char *help,
			 uint64_t (*get)(const struct process *p))
{
	size_t i;

	family(name, "gauge", help);
	for (i = 0; i < ps->nr; i++) {
		uint64_t v = get(&ps->list[i]);

		if (v == UINT64_MAX)
			continue;
		process_labels(name, &ps->list[i]);
		value(v);
	}
}

/* A family of which each holder has one, at @offset in struct holder */
static void of_holders(const struct processes *ps, const char *name,
		       const char *type, const char *help, size_t offset)
{
	size_t i, n;

	family(name, type, help);
	for (i = 0; i < ps->nr; i++) {
		const struct pins *pins = &ps->list[i].pins;

		for (n = 0; n < pins->nr; n++) {
			const char *h = (const char *)&pins->holders[n];

			process_labels(name, &ps->list[i]);
			label(',', "holder", pins->holders[n].name);
			value(*(const uint64_t *)(h + offset));
		}
	}
}

static void of_reasons(const struct processes *ps)
{
	static const char name[] = "longterm_pin_refused_total";
	size_t i, n, r;

	family(name, "counter", "Requests that were refused, by reason");
	for (i = 0; i < ps->nr; i++) {
		const struct pins *pins = &ps->list[i].pins;

		for (n = 0; n < pins->nr; n++) {
			for (r = 0; r < pins->reasons.nr; r++) {
				process_labels(name, &ps->list[i]);
				label(',', "holder", pins->holders[n].name);
				label(',', "reason", pins->reasons.names[r]);
				value(pins->holders[n].refused[r]);
			}
		}
	}
}

static void of_host(const struct refusals *refused)
{
	static const char name[] = "longterm_pin_host_refused_total";
	size_t r;

	if (!refused->reasons.nr)
		return;
	family(name, "counter",
	       "Requests that were refused since the host runs, by reason");
	for (r = 0; r < refused->reasons.nr; r++) {
		printf("%s", name);
		label('{', "reason", refused->reasons.names[r]);
		value(refused->counts[r]);
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

	family("longterm_pin_cgroup_bytes", "gauge",
	       "Memory that cannot move, of the cgroup and its children");
	for (i = 0; i < cgs->nr; i++)
		of_cgroup("longterm_pin_cgroup_bytes", &cgs->list[i],
			  cgs->list[i].current);
	family("longterm_pin_cgroup_limit_bytes", "gauge",
	       "misc.max of cgroups that have a limit");
	for (i = 0; i < cgs->nr; i++)
		if (cgs->list[i].max != CGROUP_MAX)
			of_cgroup("longterm_pin_cgroup_limit_bytes",
				  &cgs->list[i], cgs->list[i].max);
	family("longterm_pin_cgroup_refused_total", "counter",
	       "How often this limit or one below it has refused");
	for (i = 0; i < cgs->nr; i++)
		if (cgs->list[i].counts)
			of_cgroup("longterm_pin_cgroup_refused_total",
				  &cgs->list[i], cgs->list[i].refused);
}

static void supported(int v)
{
	family("longterm_pin_supported", "gauge",
	       "1 if the kernel reports long-term pins, 0 if it is another one");
	printf("longterm_pin_supported %d\n", v);
}

void metrics_print_none(void)
{
	supported(0);
}

void metrics_print(const struct processes *ps, const struct cgroups *cgs,
		   bool per_holder)
{
	supported(1);
	of_processes(ps, "longterm_pin_charge_bytes",
		     "What counts against RLIMIT_MEMLOCK, once for all holders",
		     charge);
	of_processes(ps, "longterm_pin_held_bytes",
		     "Memory that cannot move", held);
	of_processes(ps, "longterm_pin_vmlck_bytes",
		     "The charge, and what the process has locked by mlock() (VmLck)",
		     vmlck);
	of_processes(ps, "longterm_pin_untracked_bytes",
		     "Pins that no holder explains (VmPin)", untracked);
	of_processes(ps, "longterm_pin_limit_bytes",
		     "RLIMIT_MEMLOCK of processes that it applies to", limit);
	/* No counter: it falls when a holder goes */
	of_processes(ps, "longterm_pin_refused_requests",
		     "Requests that were refused, of holders that still exist",
		     process_refused);
	if (per_holder) {
		of_holders(ps, "longterm_pin_pinned_bytes", "gauge",
			   "Pins that are kept", offsetof(struct holder, pages));
		of_holders(ps, "longterm_pin_acquired_bytes_total", "counter",
			   "Pins taken", offsetof(struct holder, acquired));
		of_holders(ps, "longterm_pin_released_bytes_total", "counter",
			   "Pins given back",
			   offsetof(struct holder, released));
		of_reasons(ps);
	}
	of_cgroups(cgs);
	of_host(&ps->refusals);
	family("longterm_pin_unreadable_processes", "gauge",
	       "Processes whose pins pinstat may not read");
	printf("longterm_pin_unreadable_processes %zu\n", ps->denied);
}
