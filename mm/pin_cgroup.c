// SPDX-License-Identifier: GPL-2.0
/*
 * The limit of a cgroup on what long-term pins hold: the resource longterm_pin
 * of the misc controller.
 *
 * RLIMIT_MEMLOCK is of a process, and says how many pages may be pinned. This
 * is about the host: memory with a pin can neither move nor be reclaimed, and a
 * single page keeps its whole folio so, which may be 1 GiB. So this counts what
 * a ledger holds, in bytes. A ledger is charged to the cgroup in which it was
 * made, and stays there: what moved with a process could not be refused.
 *
 * It has no exceptions. Whoever sets it means all in the cgroup, those with
 * CAP_IPC_LOCK too.
 */

#include <linux/cgroup.h>
#include <linux/init.h>
#include <linux/limits.h>
#include <linux/minmax.h>
#include <linux/mm.h>
#include <linux/spinlock.h>

#include "pin_cgroup.h"

/*
 * All charges of this resource are made under it. So what was found to have
 * room still has it, and a charge that fails, which raises the usage for a
 * moment, refuses no other.
 */
static DEFINE_SPINLOCK(pin_cgroup_lock);

static u64 bytes_of(unsigned long npages)
{
	return (u64)npages << PAGE_SHIFT;
}

/* Returns the pages that were charged, or an error */
static long charge_locked(struct misc_cg *cg, unsigned long npages,
			  unsigned long step, bool quiet)
{
	u64 max, room;
	int ret;

	lockdep_assert_held(&pin_cgroup_lock);

	pin_cgroup_tightest(cg, &max, &room);
	if (step > npages && room >= bytes_of(step) &&
	    !misc_cg_try_charge(MISC_CG_RES_LONGTERM_PIN, cg, bytes_of(step)))
		return step;
	if (quiet && room < bytes_of(npages))
		return -EBUSY;
	ret = misc_cg_try_charge(MISC_CG_RES_LONGTERM_PIN, cg,
				 bytes_of(npages));
	return ret ?: npages;
}

/**
 * pin_cgroup_charge() - charge a cgroup, and those above it, for held pages
 * @cg: the cgroup
 * @npages: how many pages it must be
 * @step: how many the caller would rather take, to come here seldom; may be
 *	fewer than @npages
 * @quiet: a failure is no refusal yet, and not for misc.events
 *
 * Near a limit just @npages are charged: a step there would take room from
 * others, and its failure would be counted in misc.events though nothing was
 * refused.
 *
 * Idea: the stocks of memcg, which belong to a CPU; these belong to a ledger,
 * so nobody need take them away.
 *
 * Context: Process context; does not sleep.
 * Return: pages charged, @npages or @step; or
 * -EBUSY: the limit of the cgroup, or of one above it, does not allow @npages.
 */
long pin_cgroup_charge(struct misc_cg *cg, unsigned long npages,
		       unsigned long step, bool quiet)
{
	long ret;

	spin_lock(&pin_cgroup_lock);
	ret = charge_locked(cg, npages, step, quiet);
	spin_unlock(&pin_cgroup_lock);
	return ret;
}

/**
 * pin_cgroup_uncharge() - give back what pin_cgroup_charge() took
 * @cg: the cgroup; may have been removed
 * @npages: how many pages
 *
 * Context: Any context; does not sleep.
 */
void pin_cgroup_uncharge(struct misc_cg *cg, unsigned long npages)
{
	misc_cg_uncharge(MISC_CG_RES_LONGTERM_PIN, cg, bytes_of(npages));
}

/**
 * pin_cgroup_tightest() - find whose limit comes first
 * @cg: the cgroup; the caller keeps it
 * @max: set to the limit, in bytes; U64_MAX: there is none
 * @room: set to how much of it is left, in bytes
 *
 * Others charge and change limits meanwhile.
 *
 * Context: Any context; does not sleep.
 * Return: the one with the least room of @cg and those above it; the nearest
 * if there are several.
 */
struct misc_cg *pin_cgroup_tightest(struct misc_cg *cg, u64 *max, u64 *room)
{
	struct misc_cg *tightest = cg;

	*max = U64_MAX;
	*room = U64_MAX;
	for (; cg; cg = css_misc(cg->css.parent)) {
		struct misc_res *res = &cg->res[MISC_CG_RES_LONGTERM_PIN];
		u64 limit = READ_ONCE(res->max);
		u64 usage = atomic64_read(&res->usage);
		u64 left = limit > usage ? limit - usage : 0;

		if (limit == U64_MAX || left >= *room)
			continue;
		*max = limit;
		*room = left;
		tightest = cg;
	}
	return tightest;
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
 * Context: Process context. With @ns may sleep; takes cgroup_mutex.
 * Return: @buf, or "?" if it is too small.
 */
const char *pin_cgroup_path(struct misc_cg *cg, struct cgroup_namespace *ns,
			    char *buf, size_t size)
{
	int len;

	if (ns)
		len = cgroup_path_ns(cg->css.cgroup, buf, size, ns);
	else
		len = cgroup_path(cg->css.cgroup, buf, size);
	return len < 0 || len >= size ? "?" : buf;
}

/* There is no end to memory but that of the host, which is not known here */
static int __init pin_cgroup_init(void)
{
	return misc_cg_set_capacity(MISC_CG_RES_LONGTERM_PIN, U64_MAX);
}
subsys_initcall(pin_cgroup_init);

#include "tests/pin_cgroup_kunit.h"
