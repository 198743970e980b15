// SPDX-License-Identifier: GPL-2.0
/*
 * The limit of a cgroup on what long-term pins hold: the resource longterm_pin
 * of the misc controller.
 *
 * RLIMIT_MEMLOCK is of a process, and says how many pages may be pinned. This
 * is about the host: memory with a pin can neither move nor be reclaimed, and a
 * single page keeps its whole folio so, which may be 1 GiB. So this counts what
 * a ledger holds, in bytes. A ledger is charged to the cgroup in which it was
 * made, and stays there: what moved with a process could not be refused. A
 * process that adopts a ledger has what is added charged to its own.
 *
 * It has no exceptions. Whoever sets it means all in the cgroup, those with
 * CAP_IPC_LOCK too.
 */

#include <kunit/static_stub.h>
#include <linux/cgroup.h>
#include <linux/init.h>
#include <linux/limits.h>
#include <linux/mm.h>

#include "pin_cgroup.h"

static u64 bytes_of(unsigned long npages)
{
	return (u64)npages << PAGE_SHIFT;
}

static struct misc_res *res_of(struct misc_cg *cg)
{
	return &cg->res[MISC_CG_RES_LONGTERM_PIN];
}

static struct misc_cg *above(struct misc_cg *cg)
{
	return css_misc(cg->css.parent);
}

/* The first one from @cg upwards, below @end, that has no room for @bytes; or NULL */
static struct misc_cg *find_full(struct misc_cg *cg, struct misc_cg *end,
				 u64 bytes)
{
	for (; cg != end; cg = above(cg)) {
		u64 max = READ_ONCE(res_of(cg)->max);
		u64 usage = atomic64_read(&res_of(cg)->usage);

		if (bytes > max || usage > max - bytes)
			return cg;
	}
	return NULL;
}

/* Inlined also where its address is taken, for a test */
static __always_inline bool charge_one(struct misc_cg *cg, u64 bytes)
{
	u64 max = READ_ONCE(res_of(cg)->max);
	s64 usage = atomic64_read(&res_of(cg)->usage);

	KUNIT_STATIC_STUB_REDIRECT(charge_one, cg, bytes);
	do {
		if (bytes > max || usage > max - bytes)
			return false;
	} while (!atomic64_try_cmpxchg(&res_of(cg)->usage, &usage,
				       usage + bytes));
	return true;
}

/* @cg and all above it, below @end, have been charged */
static void raise_watermarks(struct misc_cg *cg, struct misc_cg *end)
{
	for (; cg != end; cg = above(cg)) {
		s64 usage = atomic64_read(&res_of(cg)->usage);
		s64 most = atomic64_read(&res_of(cg)->watermark);

		while (usage > most &&
		       !atomic64_try_cmpxchg(&res_of(cg)->watermark, &most,
					     usage))
			;
	}
}

/**
 * pin_cgroup_charge() - charge a cgroup, and those above it, for held pages
 * @cg: the cgroup; NULL for none
 * @end: the first one above it that is not charged; NULL to charge all
 * @npages: how many pages
 * @full: set to the one that has no room, if it fails; the caller says so with
 *	pin_cgroup_refused() when its request is refused
 *
 * There is no lock that all processes share. A request that does not fit adds
 * nothing, not even for a moment: it would make another fail that fits. So a
 * first pass only reads. A second one adds, from the bottom up, and compares
 * again; when another charge was faster, it takes back what it added, and the
 * first pass decides. Only in that race may a third charge that fits be refused.
 *
 * Idea: misc_cg_try_charge(), which adds first and compares afterwards.
 *
 * Context: Any context; does not sleep.
 * Return: 0; or
 * -EBUSY: the limit of the cgroup, or of one above it, does not allow it.
 */
int pin_cgroup_charge(struct misc_cg *cg, struct misc_cg *end,
		      unsigned long npages, struct misc_cg **full)
{
	u64 bytes = bytes_of(npages);
	struct misc_cg *i, *j;

	for (;;) {
		*full = find_full(cg, end, bytes);
		if (*full)
			return -EBUSY;
		for (i = cg; i != end; i = above(i))
			if (!charge_one(i, bytes))
				break;
		if (i == end) {
			raise_watermarks(cg, end);
			return 0;
		}
		for (j = cg; j != i; j = above(j))
			atomic64_sub(bytes, &res_of(j)->usage);
	}
}

/**
 * pin_cgroup_force() - charge a cgroup, and those above it, beyond their limits
 * @cg: the cgroup; NULL for none
 * @npages: how many pages
 *
 * For memory that two ledgers hold after a move, and that one was charged for.
 *
 * Context: Any context; does not sleep.
 */
void pin_cgroup_force(struct misc_cg *cg, unsigned long npages)
{
	struct misc_cg *i;

	for (i = cg; i; i = above(i))
		atomic64_add(bytes_of(npages), &res_of(i)->usage);
	raise_watermarks(cg, NULL);
}

/**
 * pin_cgroup_refused() - count a refusal in misc.events
 * @cg: the cgroup that had no room
 *
 * Context: Any context; does not sleep.
 */
void pin_cgroup_refused(struct misc_cg *cg)
{
	atomic64_inc(&res_of(cg)->events_local);
	cgroup_file_notify(&cg->events_local_file);
	for (; above(cg); cg = above(cg)) {
		atomic64_inc(&res_of(cg)->events);
		cgroup_file_notify(&cg->events_file);
	}
}

/**
 * pin_cgroup_uncharge() - give back what pin_cgroup_charge() took
 * @cg: the cgroup; may have been removed
 * @end: the first one above it that keeps its charge; NULL for none
 * @npages: how many pages
 *
 * Context: Any context; does not sleep.
 */
void pin_cgroup_uncharge(struct misc_cg *cg, struct misc_cg *end,
			 unsigned long npages)
{
	s64 bytes = bytes_of(npages);

	for (; npages && cg != end; cg = above(cg))
		WARN_ON_ONCE(atomic64_add_negative(-bytes, &res_of(cg)->usage));
}

/**
 * pin_cgroup_common() - find the nearest cgroup that has two others below it
 * @a: a cgroup; the caller keeps it
 * @b: another one, or the same; the caller keeps it
 *
 * Context: Any context; does not sleep.
 * Return: that cgroup, which may be one of them.
 */
struct misc_cg *pin_cgroup_common(struct misc_cg *a, struct misc_cg *b)
{
	struct misc_cg *i;

	for (; a; a = above(a))
		for (i = b; i; i = above(i))
			if (i == a)
				return a;
	return NULL;
}

/**
 * pin_cgroup_tryget() - keep a cgroup
 * @cg: the cgroup, which is there by RCU; or NULL
 *
 * Context: Any context; does not sleep. In a RCU section.
 * Return: whether there is a reference now, for put_misc_cg().
 */
bool pin_cgroup_tryget(struct misc_cg *cg)
{
	return !cg || css_tryget(&cg->css);
}

/**
 * pin_cgroup_limit() - read the limit of a cgroup
 * @cg: the cgroup; the caller keeps it
 *
 * Context: Any context; does not sleep.
 * Return: bytes; U64_MAX: there is none.
 */
u64 pin_cgroup_limit(struct misc_cg *cg)
{
	return READ_ONCE(res_of(cg)->max);
}

/**
 * pin_cgroup_removed() - tell whether a cgroup is gone for its users
 * @cg: the cgroup; the caller keeps it
 *
 * What is charged to it stays so, and so does its limit.
 *
 * Context: Any context; does not sleep.
 * Return: true if it was removed, or the controller taken from it.
 */
bool pin_cgroup_removed(struct misc_cg *cg)
{
	return css_is_dying(&cg->css);
}

/**
 * pin_cgroup_path() - write the path of a cgroup
 * @cg: the cgroup; the caller keeps it
 * @ns: of whom; NULL for the host's
 * @buf: receives the path
 * @size: bytes in @buf
 *
 * cgroup_path_ns() takes cgroup_mutex, and who has that may wait for a mmap_lock: a
 * process that moves to other cpusets. Below the unified hierarchy's root the
 * namespace tells its own root without a lock.
 *
 * Context: Process context. With @ns may sleep; takes cgroup_mutex in a hierarchy of
 * version 1.
 * Return: @buf, or "?" if it is too small.
 */
const char *pin_cgroup_path(struct misc_cg *cg, struct cgroup_namespace *ns,
			    char *buf, size_t size)
{
	struct cgroup *cgroup = cg->css.cgroup;
	int len;

	if (!ns)
		len = cgroup_path(cgroup, buf, size);
	else if (cgroup->root == &cgrp_dfl_root)
		len = kernfs_path_from_node(cgroup->kn,
					    ns->root_cset->dfl_cgrp->kn,
					    buf, size);
	else
		len = cgroup_path_ns(cgroup, buf, size, ns);
	return len < 0 || len >= size ? "?" : buf;
}

/* There is no end to memory but that of the host, which is not known here */
static int __init pin_cgroup_init(void)
{
	return misc_cg_set_capacity(MISC_CG_RES_LONGTERM_PIN, U64_MAX);
}
subsys_initcall(pin_cgroup_init);

#include "tests/pin_cgroup_kunit.h"
