// SPDX-License-Identifier: GPL-2.0
/*
 * Does a VM's memory fit? All of it is there from the start, once a device pins it or
 * it is locked. Huge pages are there from the start in any case: libvirt has them
 * preallocated.
 */
#include <stdlib.h>
#include <string.h>

#include "columns.h"
#include "judge.h"
#include "nodes.h"
#include "pins.h"
#include "sysroot.h"

static uint64_t meminfo(const char *field)
{
	char *text = sysroot_read(NULL, "/proc/meminfo");
	uint64_t kb = text ? status_kb(text, field) : 0;

	free(text);
	return multiply_counts(kb, 1024);
}

/* Takes @why */
void refuse_room(struct verdict *v, char *why)
{
	v->outcome = OUTCOME_REFUSES;
	free(v->why);
	v->why = why;
}

/* --- Memory that moves ---------------------------------------------------------- */

/* QEMU moves memory only if that leaves something to the host */
static void room_to_move(struct judgement *j, const struct vm *vm)
{
	uint64_t need = 0, have = meminfo("MemAvailable:"), keep;
	char *need_text, *have_text;
	size_t i;

	for (i = 0; i < vm->nr; i++)
		if (j->verdicts[i].outcome == OUTCOME_MOVES)
			need = add_counts(need, vm->backends[i].needed);
	keep = meminfo("MemTotal:") / 64;
	if (keep < 128 << 20)
		keep = 128 << 20;
	have = have > keep ? have - keep : !!have;
	if (!have || need <= have)
		return;
	need_text = human_size(need);
	have_text = human_size(have);
	for (i = 0; i < vm->nr; i++) {
		struct verdict *v = &j->verdicts[i];

		if (v->outcome == OUTCOME_MOVES)
			refuse_room(v, xasprintf("the kernel does not pin it (%s), and it cannot move to anonymous memory: that needs %s, and the host has %s free",
						 v->reason, need_text,
						 have_text));
	}
	free(need_text);
	free(have_text);
}

/* --- Huge pages ------------------------------------------------------------------ */

static bool read_count(uint64_t *n, const char *folder, const char *file)
{
	char *text = sysroot_read(NULL, "%s/%s", folder, file);
	bool ok;

	if (text)
		text[strcspn(text, "\n")] = '\0';
	ok = text && parse_number(text, n);
	free(text);
	return ok;
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* Of the whole host: free and not promised to others; @more: to be made on demand */
static bool host_pool(uint64_t pagesize, uint64_t *pages, uint64_t *more)
{
	char *folder = xasprintf("/sys/kernel/mm/hugepages/hugepages-%llukB",
				 (unsigned long long)pagesize >> 10);
	uint64_t reserved = 0, most = 0, surplus = 0;
	bool ok = read_count(pages, folder, "free_hugepages");

	read_count(&reserved, folder, "resv_hugepages");
	read_count(&most, folder, "nr_overcommit_hugepages");
	read_count(&surplus, folder, "surplus_hugepages");
	free(folder);
	*pages = less(*pages, reserved);
	*more = less(most, surplus);
	return ok;
}

/* The sum of a figure over these nodes; false: it is known of none of them */
static bool sum_of_nodes(const char *nodes, uint64_t *sum,
			 bool (*get)(uint64_t node, uint64_t arg, uint64_t *n),
			 uint64_t arg)
{
	bool set[MAX_NODES], any = false;
	uint64_t node, n;

	*sum = 0;
	if (!nodes_parse(nodes, set))
		return false;
	for (node = 0; node < MAX_NODES; node++)
		if (set[node] && get(node, arg, &n)) {
			*sum = add_counts(*sum, n);
			any = true;
		}
	return any;
}

static bool node_pool(uint64_t node, uint64_t pagesize, uint64_t *pages)
{
	char *folder = xasprintf("/sys/devices/system/node/node%llu/hugepages/hugepages-%llukB",
				 (unsigned long long)node,
				 (unsigned long long)pagesize >> 10);
	bool ok = read_count(pages, folder, "free_hugepages");

	free(folder);
	return ok;
}

uint64_t page_size(const struct verdict *v, const struct backend *b)
{
	return b->pagesize ?: v->file.pagesize ?: meminfo("Hugepagesize:");
}

static bool same_nodes(const struct backend *a, const struct backend *b)
{
	return !strcmp(a->nodes ?: "", b->nodes ?: "");
}

/* A file that is there has its pages already, or some of them: it may be sparse */
static uint64_t to_be_made(const struct verdict *v, const struct backend *b)
{
	return less(b->needed, b->kind == BACKEND_FILE ? v->file.there : 0);
}

/* There is no pool of that size, where pools are known at all */
static void refuse_size(struct judgement *j, size_t of, uint64_t size)
{
	char *text;

	if (!sysroot_exists("/sys/kernel/mm/hugepages") ||
	    sysroot_exists("/sys/kernel/mm/hugepages/hugepages-%llukB",
			   (unsigned long long)size >> 10))
		return;
	text = human_size(size);
	refuse_room(&j->verdicts[of],
		    xasprintf("the kernel has no huge pages of %s", text));
	advise(&j->todo, NULL, "Use huge pages of a size that the kernel has: see /sys/kernel/mm/hugepages");
	free(text);
}

/*
 * All of them that have the same pool: those of this size, @of: and of the same
 * nodes
 */
static void pool_fits(struct judgement *j, const struct vm *vm, size_t of,
		      bool bound)
{
	const struct backend *b = &vm->backends[of];
	uint64_t size = page_size(&j->verdicts[of], b), need = 0;
	uint64_t have, host, more;
	size_t i;
	char *text;

	if (!size)
		return;
	if (!host_pool(size, &host, &more)) {
		refuse_size(j, of, size);
		return;
	}
	have = host;
	if (bound && !sum_of_nodes(b->nodes, &have, node_pool, size))
		return;
	have = add_counts(have, more);
	for (i = 0; i < vm->nr; i++) {
		const struct backend *o = &vm->backends[i];
		const struct verdict *v = &j->verdicts[i];

		if (on_huge_pages(v, o) && page_size(v, o) == size &&
		    (!bound || same_nodes(o, b)))
			need = add_counts(need, to_be_made(v, o) / size +
						!!(to_be_made(v, o) % size));
	}
	if (need <= have)
		return;
	text = human_size(size);
	refuse_room(&j->verdicts[of],
		    xasprintf("the host has %llu free huge pages of %s%s%s, and the VM needs %llu",
			      (unsigned long long)have, text,
			      bound ? " on nodes " : "", bound ? b->nodes : "",
			      (unsigned long long)need));
	j->verdicts[of].no_pages = need - have;
	j->verdicts[of].pagesize = size;
	free(text);
}

static void room_for_huge_pages(struct judgement *j, const struct vm *vm)
{
	size_t i;

	for (i = 0; i < vm->nr; i++) {
		const struct backend *b = &vm->backends[i];
		const struct verdict *v = &j->verdicts[i];

		if (!on_huge_pages(v, b) || !to_be_made(v, b) ||
		    (b->kind == BACKEND_FILE && !b->path))
			continue;
		pool_fits(j, vm, i, false);
		if (b->nodes && !b->by_cpuset)
			pool_fits(j, vm, i, true);
	}
}

/* --- tmpfs ------------------------------------------------------------------------- */

static bool on_tmpfs(const struct verdict *v, const struct backend *b)
{
	return b->kind == BACKEND_FILE && !b->hugetlb && v->file.fs &&
	       !strcmp(v->file.fs, "tmpfs") && to_be_made(v, b);
}

static void room_on_tmpfs(struct judgement *j, const struct vm *vm,
			  const struct host *host)
{
	size_t i, k;

	for (i = 0; i < vm->nr; i++) {
		struct verdict *v = &j->verdicts[i];
		uint64_t need = 0, have;
		char *need_text, *have_text, *dir;

		if (!on_tmpfs(v, &vm->backends[i]) ||
		    !memfile_room(&host->mounts, &v->file, &have))
			continue;
		for (k = 0; k < vm->nr; k++)
			if (on_tmpfs(&j->verdicts[k], &vm->backends[k]) &&
			    !strcmp(j->verdicts[k].file.dir, v->file.dir))
				need = add_counts(need,
						  to_be_made(&j->verdicts[k],
							     &vm->backends[k]));
		if (need <= have)
			continue;
		need_text = human_size(need);
		have_text = human_size(have);
		dir = escape(v->file.dir, strlen(v->file.dir));
		if (j->pinned || vm->locked) {
			refuse_room(v, xasprintf("the tmpfs %s has %s free, and the VM needs %s in it",
						 dir, have_text, need_text));
			v->reason = "nospace";
			v->no_room = need;
		} else {
			warn_of(j, "The tmpfs %s has %s free, and the VM may need %s in it: QEMU ends with SIGBUS when it is full.",
				dir, have_text, need_text);
		}
		free(need_text);
		free(have_text);
		free(dir);
	}
}

/* --- Memory ------------------------------------------------------------------------ */

/* How much memory of small pages comes of it, beside what is there already */
static uint64_t small_pages(const struct verdict *v, const struct backend *b)
{
	if (on_huge_pages(v, b) || b->readonly || v->outcome >= OUTCOME_FAILS)
		return 0;
	/* The private copy of a file that is there is new all the same */
	if (!b->share)
		return add_counts(b->needed, held_twice(v, b) ?
					     to_be_made(v, b) : 0);
	if (v->outcome == OUTCOME_MOVES)
		return b->needed;
	if (b->kind == BACKEND_FILE &&
	    !(v->file.fs && !strcmp(v->file.fs, "tmpfs")))
		return 0;
	return to_be_made(v, b);
}

/* What is free, and what the kernel drops for it: nodes have no MemAvailable */
static bool node_memory(uint64_t node, uint64_t arg, uint64_t *bytes)
{
	static const char * const fields[] = {
		"MemFree:", "Active(file):", "Inactive(file):", "SReclaimable:",
	};
	char *text = sysroot_read(NULL, "/sys/devices/system/node/node%llu/meminfo",
				  (unsigned long long)node), *at, *field;
	bool known = text && strstr(text, " MemFree:");
	uint64_t kib = 0;
	size_t i;

	(void)arg;
	for (i = 0; known && i < sizeof(fields) / sizeof(*fields); i++) {
		field = xasprintf(" %s", fields[i]);
		at = strstr(text, field);
		if (at)
			kib = add_counts(kib, status_kb(at + 1, fields[i]));
		free(field);
	}
	*bytes = multiply_counts(kib, 1024);
	free(text);
	return known;
}

static void room_on_nodes(struct judgement *j, const struct vm *vm)
{
	size_t i, k;

	for (i = 0; i < vm->nr; i++) {
		const struct backend *b = &vm->backends[i];
		uint64_t need = 0, have;
		char *need_text, *have_text;

		if (!b->nodes || !small_pages(&j->verdicts[i], b) ||
		    !sum_of_nodes(b->nodes, &have, node_memory, 0))
			continue;
		for (k = 0; k < vm->nr; k++)
			if (same_nodes(&vm->backends[k], b))
				need = add_counts(need, small_pages(&j->verdicts[k],
								    &vm->backends[k]));
		if (need <= have)
			continue;
		need_text = human_size(need);
		have_text = human_size(have);
		warn_of(j, "RAM does not fit: the VM needs %s on the host's nodes %s, which have %s free.",
			need_text, b->nodes, have_text);
		free(need_text);
		free(have_text);
	}
}

static void room_in_memory(struct judgement *j, const struct vm *vm)
{
	uint64_t need = 0, have = meminfo("MemAvailable:"), all;
	char *need_text, *have_text, *all_text;
	size_t i;

	for (i = 0; i < vm->nr; i++)
		need = add_counts(need, small_pages(&j->verdicts[i],
						    &vm->backends[i]));
	if (!have || need <= have)
		return;
	all = meminfo("MemTotal:");
	need_text = human_size(need);
	have_text = human_size(have);
	all_text = human_size(all);
	warn_of(j, "RAM does not fit: the VM needs %s when it starts, and the host has %s of %s free.",
		need_text, have_text, all_text);
	free(need_text);
	free(have_text);
	free(all_text);
}

void judge_room(struct judgement *j, const struct vm *vm,
		const struct host *host)
{
	struct pinners p = pinners_sum(vm);

	room_to_move(j, vm);
	/* One that runs has its memory */
	if (vm->pid)
		return;
	room_for_huge_pages(j, vm);
	room_on_tmpfs(j, vm, host);
	/* A mediated device pins a part of it, and later */
	if (!p.vfio && !p.iommufd && !p.nvme && !p.vdpa &&
	    vm->secret != SECRET_SEV && !vm->locked)
		return;
	room_in_memory(j, vm);
	room_on_nodes(j, vm);
}
