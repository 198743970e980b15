// SPDX-License-Identifier: GPL-2.0
#include "processes.h"

#include <ctype.h>
#include <err.h>
#include <errno.h>
#include <linux/capability.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "sysroot.h"

static uint64_t in_bytes(uint64_t pages)
{
	return multiply_counts(pages, sysconf(_SC_PAGESIZE));
}

static void holder_in_bytes(struct holder *h)
{
	h->pages = in_bytes(h->pages);
	h->peak = in_bytes(h->peak);
	h->acquired = in_bytes(h->acquired);
	h->released = in_bytes(h->released);
}

static void pins_in_bytes(struct pins *pins)
{
	size_t i;

	for (i = 0; i < pins->nr; i++)
		holder_in_bytes(&pins->holders[i]);
	pins->charge = in_bytes(pins->charge);
	pins->held = in_bytes(pins->held);
	pins->pinned = in_bytes(pins->pinned);
	pins->user = in_bytes(pins->user);
	if (pins->limit < LIMIT_UNKNOWN)
		pins->limit = in_bytes(pins->limit);
}

static void names_read(struct process *p)
{
	size_t len;
	char *text;

	text = sysroot_read(&len, "/proc/%ld/comm", p->pid);
	if (text) {
		if (len && text[len - 1] == '\n')
			len--;
		p->command = escape(text, len);
		free(text);
	}
	text = sysroot_read_memory(&len, p->pid, "cmdline");
	if (text) {
		p->vm = vm_name(text, len);
		free(text);
	}
}

bool process_ignores_limit(long pid, const char *status)
{
	static const char first[] = "user:[4026531837]";
	char ns[sizeof(first) + 1], *path;
	ssize_t len;

	if (!status_has_cap(status, CAP_IPC_LOCK))
		return false;
	path = sysroot_path("/proc/%ld/ns/user", pid);
	len = readlink(path, ns, sizeof(ns));
	free(path);
	/* An old record does not say */
	return len < 0 || ((size_t)len == strlen(first) &&
			   !memcmp(ns, first, len));
}

bool process_read(struct process *p, long pid)
{
	unsigned int line;
	size_t len;
	char *text;

	memset(p, 0, sizeof(*p));
	p->pid = pid;
	text = sysroot_read_memory(&len, pid, "longterm_pins");
	if (!text)
		return false;
	line = pins_parse(&p->pins, text, len);
	free(text);
	if (line) {
		warnx("/proc/%ld/longterm_pins, line %u: not understood", pid,
		      line);
		process_free(p);
		errno = EBADMSG;
		return false;
	}
	pins_in_bytes(&p->pins);

	text = sysroot_read(NULL, "/proc/%ld/status", pid);
	if (text) {
		p->vmlck = multiply_counts(status_kb(text, "VmLck:"), 1024);
		p->vmpin = multiply_counts(status_kb(text, "VmPin:"), 1024);
		/* They are read one after the other, and pins may come between */
		p->untracked = p->vmpin > p->pins.pinned ?
			       p->vmpin - p->pins.pinned : 0;
		if (process_ignores_limit(pid, text))
			p->pins.limit = LIMIT_UNLIMITED;
		free(text);
	}
	return true;
}

void process_free(struct process *p)
{
	free(p->command);
	free(p->vm);
	pins_free(&p->pins);
}

uint64_t process_pinned(const struct process *p)
{
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < p->pins.nr; i++)
		sum = add_counts(sum, p->pins.holders[i].pages);
	return sum;
}

uint64_t process_refused(const struct process *p)
{
	uint64_t sum = 0;
	size_t i;

	for (i = 0; i < p->pins.nr; i++)
		sum = add_counts(sum, holder_refused(&p->pins.holders[i],
						     &p->pins.reasons));
	return sum;
}

static struct process *process_add(struct processes *ps)
{
	ps->list = reallocarray(ps->list, ps->nr + 1, sizeof(*ps->list));
	if (!ps->list)
		err(2, "no memory");
	return memset(&ps->list[ps->nr++], 0, sizeof(*ps->list));
}

static void process_look(struct processes *ps, long pid)
{
	struct process p;

	if (!process_read(&p, pid)) {
		ps->denied += errno == EACCES || errno == EPERM;
		ps->broken += errno == EBADMSG;
		/* All others have ended meanwhile, or are of an old kernel */
		return;
	}
	ps->reports++;
	if (p.pins.nr || p.untracked) {
		names_read(&p);
		*process_add(ps) = p;
	} else {
		process_free(&p);
	}
}

static bool wanted(long pid, const long *pids, size_t npids)
{
	size_t i;

	for (i = 0; i < npids; i++)
		if (pids[i] == pid)
			return true;
	return !npids;
}

static bool same_text(const char *a, const char *b)
{
	return !strcmp(a ?: "", b ?: "");
}

/* Was the memory of a line counted with one before it? */
static bool counted(const struct list *list, size_t at)
{
	size_t i;

	for (i = 0; i < at; i++)
		if (list->lines[i].gone &&
		    list->lines[i].ledger == list->lines[at].ledger)
			return true;
	return false;
}

/*
 * Holders whose process has ended keep their memory all the same. So do those of
 * the memory that a process had before it executed another program: they are
 * listed with its number, which it still has, or which another process has now.
 */
static void gone_read(struct processes *ps, const long *pids, size_t npids)
{
	size_t len, i, first = ps->nr, at;
	struct process *p;
	struct list list;
	unsigned int line;
	char *text;

	text = sysroot_read(&len, "/proc/longterm_pins");
	if (!text)
		return;		/* not root's */
	line = list_parse(&list, text, len);
	free(text);
	if (line) {
		warnx("/proc/longterm_pins, line %u: not understood",
		      line);
		ps->broken++;
	}

	for (i = 0; i < list.nr; i++) {
		struct listed *l = &list.lines[i];

		if (!l->gone || !wanted(l->pid, pids, npids))
			continue;
		for (at = first; at < ps->nr; at++)
			if (ps->list[at].pid == l->pid &&
			    same_text(ps->list[at].command, l->comm))
				break;
		if (at == ps->nr) {
			p = process_add(ps);
			p->pid = l->pid;
			p->gone = true;
			p->command = xstrdup(l->comm);
			p->pins.limit = LIMIT_UNKNOWN;
			p->pins.reasons.names = xcalloc(list.reasons.nr,
							sizeof(char *));
			for (; p->pins.reasons.nr < list.reasons.nr;
			     p->pins.reasons.nr++)
				p->pins.reasons.names[p->pins.reasons.nr] =
					xstrdup(list.reasons.names
						[p->pins.reasons.nr]);
		}
		p = &ps->list[at];
		if (!counted(&list, i)) {
			p->pins.charge = add_counts(p->pins.charge,
						    in_bytes(l->charge));
			p->pins.held = add_counts(p->pins.held,
						  in_bytes(l->held));
		}
		p->pins.holders = reallocarray(p->pins.holders, p->pins.nr + 1,
					       sizeof(*p->pins.holders));
		if (!p->pins.holders)
			err(2, "no memory");
		holder_in_bytes(&l->holder);
		p->pins.holders[p->pins.nr++] = l->holder;
		memset(&l->holder, 0, sizeof(l->holder));
	}
	ps->refusals = list.refusals;
	memset(&list.refusals, 0, sizeof(list.refusals));
	list_free(&list);
}

static int by_number(const void *a, const void *b)
{
	const long *x = a, *y = b;

	return (*x > *y) - (*x < *y);
}

/* All processes, in order; for free() */
static size_t pids_read(long **pids)
{
	DIR *dir = sysroot_opendir("/proc");
	struct dirent *entry;
	size_t nr = 0;

	if (!dir)
		err(1, "cannot read %s/proc", sysroot);
	while ((entry = readdir(dir))) {
		uint64_t pid;

		if (!parse_number(entry->d_name, &pid) || pid > INT32_MAX)
			continue;
		*pids = reallocarray(*pids, nr + 1, sizeof(**pids));
		if (!*pids)
			err(2, "no memory");
		(*pids)[nr++] = pid;
	}
	closedir(dir);
	if (nr)
		qsort(*pids, nr, sizeof(**pids), by_number);
	return nr;
}

/* The one that runs before those it was, or that others were */
static int by_pid(const void *a, const void *b)
{
	const struct process *p = a, *q = b;

	if (p->pid != q->pid)
		return p->pid > q->pid ? 1 : -1;
	if (p->gone != q->gone)
		return p->gone - q->gone;
	return strcmp(p->command ?: "", q->command ?: "");
}

void processes_read(struct processes *ps, const long *pids, size_t npids)
{
	long *all = NULL;
	size_t i;

	memset(ps, 0, sizeof(*ps));
	if (npids) {
		for (i = 0; i < npids; i++)
			process_look(ps, pids[i]);
	} else {
		size_t nr = pids_read(&all);

		for (i = 0; i < nr; i++)
			process_look(ps, all[i]);
		free(all);
	}
	gone_read(ps, pids, npids);
	if (ps->nr)
		qsort(ps->list, ps->nr, sizeof(*ps->list), by_pid);
}

bool processes_supported(const struct processes *ps)
{
	return ps->reports || ps->denied || ps->broken || ps->nr ||
	       sysroot_exists("/proc/self/longterm_pins");
}

void processes_free(struct processes *ps)
{
	size_t i;

	for (i = 0; i < ps->nr; i++)
		process_free(&ps->list[i]);
	free(ps->list);
	refusals_free(&ps->refusals);
}
