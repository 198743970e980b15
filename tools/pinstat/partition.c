// SPDX-License-Identifier: GPL-2.0
/*
 * The limit longterm_pin of the cgroup that a VM's pins are charged to, and of those
 * above it: libvirt makes the cgroup in the VM's partition.
 */
#include <limits.h>
#include <stdlib.h>
#include <string.h>

#include "cgroups.h"
#include "columns.h"
#include "judge.h"
#include "pins.h"
#include "sysroot.h"

#define PARTITION	"/machine"

/* --- The cgroup ------------------------------------------------------------------ */

/* As libvirt's virSystemdMakeSliceName(): "/machine/a-b" is machine-a\x2db.slice */
static char *slice_name(const char *partition)
{
	static const char plain[] = "0123456789abcdefghijklmnopqrstuvwxyz"
				    "ABCDEFGHIJKLMNOPQRSTUVWXYZ:_.";
	char *name = xstrdup(""), *more;
	const char *at;

	partition += *partition == '/';
	for (at = partition; *at; at++) {
		if (*at == '/')
			more = xasprintf("%s-", name);
		else if (!strchr(plain, *at) || (at == partition && *at == '.'))
			more = xasprintf("%s\\x%02x", name, (unsigned char)*at);
		else
			more = xasprintf("%s%c", name, *at);
		free(name);
		name = more;
	}
	more = xasprintf("%s.slice", name);
	free(name);
	return more;
}

/* Where systemd has it: a-b.slice is in a.slice */
static char *slice_path(const char *slice)
{
	char *path = xstrdup(""), *more;
	const char *dash = slice;

	while ((dash = strchr(dash, '-'))) {
		more = xasprintf("%s/%.*s.slice", path, (int)(dash - slice),
				 slice);
		free(path);
		path = more;
		dash++;
	}
	more = xasprintf("%s/%s", path, slice);
	free(path);
	return more;
}

/* Without systemd: each part but the first ends in .partition, unless it has an end */
static char *plain_path(const char *partition)
{
	char *copy = xstrdup(partition), *at = copy, *part, *more;
	char *path = xstrdup("");

	while ((part = strsep(&at, "/"))) {
		if (!*part)
			continue;
		more = xasprintf("%s/%s%s", path, part,
				 *path && !strchr(part, '.') ? ".partition" : "");
		free(path);
		path = more;
	}
	free(copy);
	return path;
}

/* Below the root cgroup; NULL: it is not known. For free() */
static char *cgroup_of(const struct vm *vm, const struct host *host)
{
	const char *partition = vm->partition ?: PARTITION;
	char *slice, *path;

	if (vm->pid)
		return host->cgroup ? xstrdup(host->cgroup) : NULL;
	/* Longer than the name of a slice may be */
	if (strlen(partition) > NAME_MAX)
		return NULL;
	slice = slice_name(partition);
	path = slice_path(slice);
	free(slice);
	/* A slice is there before its first VM, or it has no limit */
	if (cgroup_exists(PARTITION ".slice") || cgroup_exists(path))
		return path;
	free(path);
	return plain_path(partition);
}

/* --- What its pins hold ---------------------------------------------------------- */

/* Memory of a device is in no cgroup's count */
static bool is_held(const struct verdict *v)
{
	return v->file.kind != FILE_DEVDAX && v->outcome < OUTCOME_FAILS;
}

/* A pin holds its whole page */
static uint64_t held_by(const struct verdict *v, const struct backend *b)
{
	uint64_t page = on_huge_pages(v, b) ? page_size(v, b) : 0;
	uint64_t rest = page ? b->needed % page : 0;

	return rest ? add_counts(b->needed, page - rest) : b->needed;
}

static uint64_t to_be_held(const struct judgement *j, const struct vm *vm,
			   const struct host *host)
{
	/* As one that runs has pinned its ROMs, or needs none for what it adds */
	uint64_t need = vm->pid ? 0 : vm->extra;
	size_t i;

	for (i = 0; i < vm->nr; i++)
		if (is_held(&j->verdicts[i]))
			need = add_counts(need, held_by(&j->verdicts[i],
							&vm->backends[i]));
	/* The cgroup has counted that already */
	return need > host->held ? need - host->held : 0;
}

/* --- Does it fit? ---------------------------------------------------------------- */

static void advise_cgroup(struct judgement *j, const struct vm *vm,
			  const struct cgroup *cg, uint64_t need)
{
	unsigned long long max = add_counts(cg->current, need);
	char *code = NULL;

	if (!strchr(cg->path, '\''))
		code = xasprintf("echo 'longterm_pin %llu' >'/sys/fs/cgroup%s/misc.max'",
				 max, cg->path);
	advise(&j->todo, code, "Raise the limit of longterm_pin of cgroup %s to %llu or more (LONGTERM_PIN_LIMITS in /etc/default/userpin sets it at boot), or end VMs in it%s",
	       cg->path, max, vm->libvirt ?
	       ", or put the VM into another partition (<partition> of <resource>)" : "");
}

static void refuse_held(struct judgement *j, const struct vm *vm,
			const char *why)
{
	size_t i;

	for (i = 0; i < vm->nr; i++) {
		struct verdict *v = &j->verdicts[i];

		if (!is_held(v))
			continue;
		refuse_room(v, xstrdup(why));
		v->reason = "cgroup";
	}
}

/* Whatever the guest does; behind a virtual IOMMU, when it starts */
static bool pins_all(const struct vm *vm, const struct pinners *p)
{
	if (vm->pid && (vm->viommu[0] || vm->viommu[1]))
		return false;
	return p->vfio || p->iommufd || p->nvme || p->vdpa ||
	       vm->secret == SECRET_SEV;
}

/* The guest's mappings, or the driver of a mediated device, may ask for less */
static bool pins_some(const struct vm *vm, const struct pinners *p)
{
	return pins_all(vm, p) || p->vfio || p->iommufd || p->mdev;
}

void judge_cgroup(struct judgement *j, const struct vm *vm,
		  const struct host *host)
{
	uint64_t need = to_be_held(j, vm, host), room;
	struct pinners p = pinners_sum(vm);
	char *path, *has, *lacks, *limit, *why;
	struct cgroup cg;

	if (!pins_some(vm, &p) || !host->kernel || !need)
		return;
	path = cgroup_of(vm, host);
	if (!path || !cgroup_tightest(&cg, path)) {
		free(path);
		return;
	}
	free(path);
	room = cg.max > cg.current ? cg.max - cg.current : 0;
	if (need > room) {
		has = human_size(room);
		lacks = human_size(need - room);
		limit = human_size(cg.max);
		why = xasprintf("cgroup %s may hold %s more of its limit of %s (longterm_pin), %s less than the VM's pins need",
				cg.path, has, limit, lacks);
		if (pins_all(vm, &p))
			refuse_held(j, vm, why);
		else
			warn_of(j, "The kernel may refuse pins (EBUSY): %s.", why);
		advise_cgroup(j, vm, &cg, need);
		free(has);
		free(lacks);
		free(limit);
		free(why);
	}
	free(cg.path);
}
