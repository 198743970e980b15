/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The limit of a cgroup on what long-term pins hold: see mm/pin_cgroup.c. In a
 * kernel without the misc controller there is no cgroup (NULL) and no limit.
 */
#ifndef _MM_PIN_CGROUP_H
#define _MM_PIN_CGROUP_H

#include <linux/limits.h>
#include <linux/misc_cgroup.h>
#include <linux/sizes.h>
#include <linux/types.h>

struct cgroup_namespace;

/* Pages charged at once, where there is room: 32 MiB */
#define PIN_CGROUP_STEP		(SZ_32M >> PAGE_SHIFT)

#ifdef CONFIG_LONGTERM_PIN_CGROUP
int pin_cgroup_charge(struct misc_cg *cg, struct misc_cg *end,
		      unsigned long npages, struct misc_cg **full);
void pin_cgroup_force(struct misc_cg *cg, unsigned long npages);
void pin_cgroup_refused(struct misc_cg *cg);
void pin_cgroup_uncharge(struct misc_cg *cg, struct misc_cg *end,
			 unsigned long npages);
struct misc_cg *pin_cgroup_common(struct misc_cg *a, struct misc_cg *b);
bool pin_cgroup_tryget(struct misc_cg *cg);
u64 pin_cgroup_limit(struct misc_cg *cg);
bool pin_cgroup_removed(struct misc_cg *cg);
const char *pin_cgroup_path(struct misc_cg *cg, struct cgroup_namespace *ns,
			    char *buf, size_t size);
#else
static inline int pin_cgroup_charge(struct misc_cg *cg, struct misc_cg *end,
				    unsigned long npages, struct misc_cg **full)
{
	return 0;
}

static inline void pin_cgroup_force(struct misc_cg *cg, unsigned long npages)
{
}

static inline void pin_cgroup_refused(struct misc_cg *cg)
{
}

static inline void pin_cgroup_uncharge(struct misc_cg *cg, struct misc_cg *end,
				       unsigned long npages)
{
}

static inline struct misc_cg *pin_cgroup_common(struct misc_cg *a,
						struct misc_cg *b)
{
	return NULL;
}

static inline bool pin_cgroup_tryget(struct misc_cg *cg)
{
	return true;
}

static inline u64 pin_cgroup_limit(struct misc_cg *cg)
{
	return U64_MAX;
}

static inline bool pin_cgroup_removed(struct misc_cg *cg)
{
	return false;
}

static inline const char *pin_cgroup_path(struct misc_cg *cg,
					  struct cgroup_namespace *ns,
					  char *buf, size_t size)
{
	return "-";
}
#endif

#endif /* _MM_PIN_CGROUP_H */
