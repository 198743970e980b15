/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the KUnit tests of long-term pins share: a mm that can die, real user
 * memory, and means to make things fail.
 */
#ifndef _MM_TESTS_PIN_KUNIT_H
#define _MM_TESTS_PIN_KUNIT_H

#include <kunit/resource.h>
#include <kunit/test.h>
#include <linux/debugfs.h>
#include <linux/delay.h>
#include <linux/fault-inject.h>
#include <linux/kthread.h>
#include <linux/limits.h>
#include <linux/misc_cgroup.h>
#include <linux/mm.h>
#include <linux/mman.h>
#include <linux/nsproxy.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/sizes.h>
#include <linux/swap.h>
#include <linux/syscalls.h>
#include <linux/vmstat.h>
#include <uapi/asm-generic/mman-common.h>

/* For its probes; a file that has it made trace points already */
#undef CREATE_TRACE_POINTS
#include <trace/events/kmem.h>

/**
 * struct pin_test - what a suite starts each of its tests with
 * @mm: the struct stays until the end of the test
 * @used: @mm is current->mm, and lives as long
 * @charged: NR_LONGTERM_PINNED at the start
 *
 * kunit_vm_mmap() would attach a mm, too, but nobody could kill that one.
 */
struct pin_test {
	struct mm_struct *mm;
	bool used;
	long charged;
};

/* Pages that are part of VmLck */
#define pin_test_charge(ledger)	pin_ledger_charge(ledger, PIN_COUNTER_LOCKED)

/* No machine has this page frame, nor those behind it */
#define PIN_TEST_NO_PFN		BIT(BITS_PER_LONG - 1)

/* A mm with room for mappings; the caller has its only user */
static inline struct mm_struct *pin_test_mm_new(struct kunit *test)
{
	struct mm_struct *mm = mm_alloc();

	KUNIT_ASSERT_NOT_NULL(test, mm);
	mm->task_size = TASK_SIZE;
	arch_pick_mmap_layout(mm, &current->signal->rlim[RLIMIT_STACK]);
	return mm;
}

static inline void pin_test_mmput(void *mm)
{
	mmput(mm);
}

/* Another mm, alive until the end of the test */
static inline struct mm_struct *pin_test_other_mm(struct kunit *test)
{
	struct mm_struct *mm = pin_test_mm_new(test);
	int ret;

	ret = kunit_add_action_or_reset(test, pin_test_mmput, mm);
	KUNIT_ASSERT_EQ(test, ret, 0);
	return mm;
}

/* NR_LONGTERM_PINNED, with what each CPU has not passed on yet */
static inline long pin_test_charged(void)
{
#ifdef CONFIG_SMP
	size_t len = 0;
	loff_t pos = 0;

	vmstat_refresh(NULL, 0, NULL, &len, &pos);
#endif
	return global_node_page_state(NR_LONGTERM_PINNED);
}

static inline void pin_test_begin(struct kunit *test, struct pin_test *t)
{
	t->charged = pin_test_charged();
	t->mm = pin_test_mm_new(test);
	mmgrab(t->mm);
	kthread_use_mm(t->mm);
	t->used = true;
}

/* The mm dies: its memory goes, only the struct stays */
static inline void pin_test_mm_dies(struct kunit *test, struct pin_test *t)
{
	kthread_unuse_mm(t->mm);
	t->used = false;
	mmput(t->mm);
	KUNIT_ASSERT_EQ(test, atomic_read(&t->mm->mm_users), 0);
}

/*
 * Runs in another thread than the test did. That one has ended, which puts the
 * user of its mm, but not the reference of kthread_use_mm().
 */
static inline void pin_test_end(struct kunit *test, struct pin_test *t)
{
	KUNIT_EXPECT_EQ(test, pin_test_charged(), t->charged);
	if (!t->mm)
		return;
	if (t->used)
		mmdrop(t->mm);
	mmdrop(t->mm);
}

/*
 * Writable anonymous memory at a multiple of PMD_SIZE, as huge pages or without
 * (@advice), and all of it there.
 */
static inline unsigned long pin_test_map(struct kunit *test, size_t size,
					 int advice)
{
	unsigned long addr;
	int ret;

	addr = vm_mmap(NULL, 0, size + PMD_SIZE, PROT_READ | PROT_WRITE,
		       MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));
	addr = ALIGN(addr, PMD_SIZE);
	ret = do_madvise(current->mm, addr, size, advice);
	KUNIT_ASSERT_EQ(test, ret, 0);
	ret = do_madvise(current->mm, addr, size, MADV_POPULATE_WRITE);
	KUNIT_ASSERT_EQ(test, ret, 0);
	/* Folios on their way to the LRU have one more reference */
	lru_add_drain_all();
	return addr;
}

static inline unsigned long pin_test_map_small(struct kunit *test, size_t size)
{
	return pin_test_map(test, size, MADV_NOHUGEPAGE);
}

/* The page that is mapped at @addr now; nothing is kept on it */
static inline struct page *pin_test_page(struct kunit *test, unsigned long addr)
{
	struct page *page = NULL;
	long ret;

	ret = get_user_pages_fast(addr, 1, 0, &page);
	KUNIT_ASSERT_EQ(test, ret, 1);
	put_page(page);
	return page;
}

/* @size bytes of huge pages; skips the test if the kernel has none to give */
static inline unsigned long pin_test_map_huge(struct kunit *test, size_t size)
{
	unsigned long addr = 0, at;

	if (IS_ENABLED(CONFIG_TRANSPARENT_HUGEPAGE))
		addr = pin_test_map(test, size, MADV_HUGEPAGE);
	else
		kunit_skip(test, "no transparent huge pages in this kernel");

	for (at = addr; at < addr + size; at += PMD_SIZE) {
		struct folio *folio = page_folio(pin_test_page(test, at));

		if (folio_size(folio) != PMD_SIZE)
			kunit_skip(test, "no free memory for a huge page");
	}
	return addr;
}

/*
 * A hugetlb page of 1 GiB; skips the test if there is none. The test unmaps it,
 * so that it is back in the pool for the next.
 */
static inline unsigned long pin_test_map_gigantic(struct kunit *test)
{
	unsigned long addr = -EINVAL;

	if (IS_ENABLED(CONFIG_HUGETLB_PAGE))
		addr = ksys_mmap_pgoff(0, SZ_1G, PROT_READ | PROT_WRITE,
				       MAP_PRIVATE | MAP_ANONYMOUS |
				       MAP_HUGETLB | 30 << MAP_HUGE_SHIFT,
				       -1, 0);
	if (IS_ERR_VALUE(addr))
		kunit_skip(test, "no 1G page in the pool, see hugepagesz=1G hugepages=1");
	return addr;
}

/* FOLL_PIN references on the folio of a page */
static inline int pin_test_pins(struct page *page)
{
	struct folio *folio = page_folio(page);

	if (folio_test_large(folio))
		return atomic_read(&folio->_pincount);
	return folio_ref_count(folio) / GUP_PIN_COUNTING_BIAS;
}

/* RLIMIT_MEMLOCK of this thread, which is a process of its own */
static inline void pin_test_limit(unsigned long npages)
{
	current->signal->rlim[RLIMIT_MEMLOCK].rlim_cur = npages << PAGE_SHIFT;
}

/* As if SIGKILL had come; kernel threads do not let it come */
static inline void pin_test_killed(bool killed)
{
	unsigned long flags;

	if (!lock_task_sighand(current, &flags))
		return;
	if (killed) {
		sigaddset(&current->pending.signal, SIGKILL);
		set_thread_flag(TIF_SIGPENDING);
	} else {
		sigdelset(&current->pending.signal, SIGKILL);
		recalc_sigpending();
	}
	unlock_task_sighand(current, &flags);
}

#ifdef CONFIG_LONGTERM_PIN_CGROUP
/* Cgroups without limits, each the child of the next; their path is / */
static inline struct misc_cg *pin_test_cgroups(struct kunit *test,
					       unsigned int n)
{
	struct misc_cg *cg = kunit_kcalloc(test, n, sizeof(*cg), GFP_KERNEL);
	struct misc_cg *root = get_current_misc_cg();
	unsigned int i, type;

	KUNIT_ASSERT_NOT_NULL(test, cg);
	for (i = 0; i < n; i++) {
		cg[i].css.cgroup = root->css.cgroup;
		cg[i].css.flags = CSS_NO_REF;
		cg[i].css.parent = i + 1 < n ? &cg[i + 1].css : NULL;
		for (type = 0; type < MISC_CG_RES_TYPES; type++)
			cg[i].res[type].max = U64_MAX;
	}
	put_misc_cg(root);
	return cg;
}

/* Let the last of some cgroups be the child of another */
static inline void pin_test_cgroup_below(struct misc_cg *last,
					 struct misc_cg *parent)
{
	last->css.parent = &parent->css;
}

static inline void pin_test_cgroup_limit(struct misc_cg *cg,
					 unsigned long npages)
{
	WRITE_ONCE(cg->res[MISC_CG_RES_LONGTERM_PIN].max,
		   npages == ULONG_MAX ? U64_MAX : (u64)npages << PAGE_SHIFT);
}

/* Pages that a cgroup is charged */
static inline u64 pin_test_usage(struct misc_cg *cg)
{
	return atomic64_read(&cg->res[MISC_CG_RES_LONGTERM_PIN].usage) >>
	       PAGE_SHIFT;
}

/* Charges that were refused */
static inline u64 pin_test_cgroup_refusals(struct misc_cg *cg)
{
	return atomic64_read(&cg->res[MISC_CG_RES_LONGTERM_PIN].events_local);
}

/* Let a ledger that holds nothing be of another cgroup */
static inline void pin_test_join(struct misc_cg **of_ledger, struct misc_cg *cg)
{
	put_misc_cg(*of_ledger);
	*of_ledger = cg;
}
#else
/* Never made, but the tests are compiled */
struct misc_cg {
	int none;
};

static inline struct misc_cg *pin_test_cgroups(struct kunit *test,
					       unsigned int n)
{
	kunit_skip(test, "no misc controller in this kernel");
	return NULL;
}

static inline void pin_test_cgroup_below(struct misc_cg *last,
					 struct misc_cg *parent)
{
}

static inline void pin_test_cgroup_limit(struct misc_cg *cg,
					 unsigned long npages)
{
}

static inline u64 pin_test_usage(struct misc_cg *cg)
{
	return 0;
}

static inline u64 pin_test_cgroup_refusals(struct misc_cg *cg)
{
	return 0;
}

static inline void pin_test_join(struct misc_cg **of_ledger, struct misc_cg *cg)
{
}
#endif

/**
 * struct pin_test_call - something that another thread does
 * @work: the thing
 * @data: for @work
 * @done: it has been done
 * @task: the thread
 */
struct pin_test_call {
	void (*work)(void *data);
	void *data;
	struct completion done;
	struct task_struct *task;
};

static inline int pin_test_call_thread(void *data)
{
	struct pin_test_call *call = data;

	call->work(call->data);
	/* More than one may wait, and @call is on a stack */
	complete_all(&call->done);
	return 0;
}

/* To be begun by one of the two that follow, and ended by pin_test_call_wait() */
static inline void pin_test_call_init(struct kunit *test,
				      struct pin_test_call *call)
{
	init_completion(&call->done);
	call->task = kthread_create(pin_test_call_thread, call, "pin_test");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, call->task);
	get_task_struct(call->task);
}

/* Whether it is done while the caller holds locks; else it waits for one of them */
static inline bool pin_test_call_ends(struct pin_test_call *call)
{
	wake_up_process(call->task);
	/* KUnit gives up after 300 s */
	return wait_for_completion_timeout(&call->done, 240 * HZ);
}

/* Whether it waits for a lock; else it is done, or waits in a loop */
static inline bool pin_test_call_waits(struct pin_test_call *call)
{
	int i;

	wake_up_process(call->task);
	/* KUnit gives up after 300 s */
	for (i = 0; i < 12000 && !completion_done(&call->done); i++) {
		if (READ_ONCE(call->task->__state) & TASK_UNINTERRUPTIBLE)
			return true;
		msleep(20);
	}
	return false;
}

static inline void pin_test_call_wait(struct pin_test_call *call)
{
	kthread_stop(call->task);
	put_task_struct(call->task);
}

/**
 * struct pin_test_mmap_lock - another thread that holds a mmap_lock
 * @mm: of which mm
 * @held: it does now
 */
struct pin_test_mmap_lock {
	struct mm_struct *mm;
	struct completion held;
};

static inline int pin_test_mmap_lock_thread(void *data)
{
	struct pin_test_mmap_lock *lock = data;
	struct mm_struct *mm = lock->mm;

	mmap_write_lock(mm);
	/* The caller goes on, and @lock is on its stack */
	complete(&lock->held);
	for (;;) {
		set_current_state(TASK_IDLE);
		if (kthread_should_stop())
			break;
		schedule();
	}
	__set_current_state(TASK_RUNNING);
	mmap_write_unlock(mm);
	return 0;
}

/* Ended by kthread_stop() */
static inline struct task_struct *
pin_test_hold_mmap_lock(struct kunit *test, struct mm_struct *mm)
{
	struct pin_test_mmap_lock lock = { .mm = mm };
	struct task_struct *task;

	init_completion(&lock.held);
	task = kthread_run(pin_test_mmap_lock_thread, &lock, "pin_test");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, task);
	wait_for_completion(&lock.held);
	return task;
}

#ifdef CONFIG_FAULT_INJECTION_DEBUG_FS
/**
 * struct pin_test_faults - the settings of one kind of fault injection
 * @attr: the settings that all kinds have
 * @ignore: whether allocations that may sleep do not fail
 * @min_order: smallest pages that fail to be allocated
 * @old_attr: before the test
 * @old_ignore: before the test
 * @old_min_order: before the test
 */
struct pin_test_faults {
	struct fault_attr *attr;
	bool *ignore;
	u32 *min_order;
	struct fault_attr old_attr;
	bool old_ignore;
	u32 old_min_order;
};

/* The variable behind a file of debugfs: nothing else leads there */
static inline void *pin_test_knob(const char *dir, const char *name)
{
	struct dentry *parent = debugfs_lookup(dir, NULL);
	struct dentry *file;
	void *knob = NULL;

	if (!parent)
		return NULL;
	file = debugfs_lookup(name, parent);
	if (file)
		knob = d_inode(file)->i_private;
	dput(file);
	dput(parent);
	return knob;
}

static inline void pin_test_faults_end(void *data)
{
	struct pin_test_faults *f = data;

	*f->attr = f->old_attr;
	*f->ignore = f->old_ignore;
	if (f->min_order)
		*f->min_order = f->old_min_order;
}

static inline struct pin_test_faults *
pin_test_faults_of(struct kunit *test, const char *dir)
{
	unsigned long *probability = pin_test_knob(dir, "probability");
	struct pin_test_faults *f;

	if (!probability)
		kunit_skip(test, "no %s in this kernel", dir);
	f = kunit_kzalloc(test, sizeof(*f), GFP_KERNEL);
	KUNIT_ASSERT_NOT_NULL(test, f);
	f->attr = container_of(probability, struct fault_attr, probability);
	f->ignore = pin_test_knob(dir, "ignore-gfp-wait");
	f->min_order = pin_test_knob(dir, "min-order");
	KUNIT_ASSERT_NOT_NULL(test, f->ignore);

	f->old_attr = *f->attr;
	f->old_ignore = *f->ignore;
	if (f->min_order)
		f->old_min_order = *f->min_order;
	KUNIT_ASSERT_EQ(test, 0, kunit_add_action_or_reset(test,
							   pin_test_faults_end,
							   f));
	/* Only what the test asks for: quiet, not random, none but its own */
	f->attr->verbose = 0;
	f->attr->probability = 0;
	f->attr->interval = 1;
	f->attr->task_filter = true;
	atomic_set(&f->attr->times, -1);
	atomic_set(&f->attr->space, 0);
	*f->ignore = false;
	if (f->min_order)
		*f->min_order = 0;
	return f;
}

/* From now on until the end of the test, small allocations can fail */
static inline void *pin_test_slab_faults(struct kunit *test)
{
	return pin_test_faults_of(test, "failslab");
}

/* So can those of pages */
static inline void *pin_test_page_faults(struct kunit *test)
{
	return pin_test_faults_of(test, "fail_page_alloc");
}

/* All of them fail for this thread, or none */
static inline void pin_test_fail_all(void *faults, bool on)
{
	struct pin_test_faults *f = faults;

	atomic_set(&f->attr->space, 0);
	current->make_it_fail = on;
	f->attr->probability = on ? 100 : 0;
}

/* All of them fail once this thread has got some @bytes; ended as the former */
static inline void pin_test_fail_after(void *faults, unsigned int bytes)
{
	struct pin_test_faults *f = faults;

	pin_test_fail_all(faults, true);
	atomic_set(&f->attr->space, bytes);
}

#ifdef CONFIG_KCSAN
/* Rounds after which KCSAN, which takes samples, has seen each access many times */
#define PIN_TEST_RACE_ROUNDS	10000

/**
 * struct pin_test_race - a thread that does one thing again and again
 * @mm: the thread's; or NULL
 * @work: the thing
 * @data: for @work
 * @rounds: how often it was done
 */
struct pin_test_race {
	struct mm_struct *mm;
	void (*work)(void *data);
	void *data;
	unsigned long rounds;
};

static inline int pin_test_race_thread(void *data)
{
	struct pin_test_race *race = data;

	if (race->mm)
		kthread_use_mm(race->mm);
	while (!kthread_should_stop()) {
		race->work(race->data);
		WRITE_ONCE(race->rounds, race->rounds + 1);
		cond_resched();
	}
	if (race->mm)
		kthread_unuse_mm(race->mm);
	return 0;
}

/*
 * Two threads at the same time, the one with @mm; what they must not do to each other,
 * KCSAN reports
 */
static inline void pin_test_race(struct kunit *test, struct mm_struct *mm,
				 void (*one)(void *data),
				 void (*other)(void *data), void *data)
{
	struct pin_test_race race = { .mm = mm, .work = one, .data = data };
	struct task_struct *task;
	unsigned long i;

	task = kthread_run(pin_test_race_thread, &race, "pin_test");
	KUNIT_ASSERT_NOT_ERR_OR_NULL(test, task);
	while (!READ_ONCE(race.rounds))
		cond_resched();
	for (i = 0; i < PIN_TEST_RACE_ROUNDS; i++) {
		other(data);
		cond_resched();
	}
	kthread_stop(task);
}
#endif

/**
 * struct pin_test_sweep - an operation is made again and again, each time with
 *	another allocation that fails
 * @task: who makes it, while it does
 * @n: which allocation fails; from 1
 * @needed: count those that their caller needs, else all
 * @seen: how many of these there were, this time
 * @refused: one of these failed: the operation cannot succeed
 * @armed: the next allocation of any kind was to fail
 * @failures: how often the operation failed
 *
 * First the n-th of all allocations fails, of which the kernel can do without
 * some. Debugging makes more of these, now and then, so that the others have no
 * fixed number, and one may be left out. So then the n-th fails of those that
 * are asked for without __GFP_NOWARN, and with it what is tried before.
 */
struct pin_test_sweep {
	struct task_struct *task;
	unsigned int n;
	bool needed;
	unsigned int seen;
	bool refused;
	bool armed;
	unsigned int failures;
};

static inline void pin_test_sweep_arm(struct pin_test_sweep *s)
{
	s->armed = s->needed && !s->refused && s->seen + 1 >= s->n;
	current->fail_nth = s->armed;
}

static inline void pin_test_allocated(struct pin_test_sweep *s, const void *ptr,
				      gfp_t gfp)
{
	if (!s->needed || current != s->task || !in_task())
		return;
	if (!(gfp & __GFP_NOWARN)) {
		s->seen += !!ptr;
		s->refused |= !ptr;
	}
	pin_test_sweep_arm(s);
}

static inline void pin_test_cache_alloc(void *sweep, unsigned long call_site,
					const void *ptr, struct kmem_cache *s,
					gfp_t gfp, int node)
{
	pin_test_allocated(sweep, ptr, gfp);
}

static inline void pin_test_kmalloc(void *sweep, unsigned long call_site,
				    const void *ptr, size_t bytes_req,
				    size_t bytes_alloc, gfp_t gfp, int node)
{
	pin_test_allocated(sweep, ptr, gfp);
}

static inline void pin_test_sweep_free(void *sweep)
{
	unregister_trace_kmalloc(pin_test_kmalloc, sweep);
	unregister_trace_kmem_cache_alloc(pin_test_cache_alloc, sweep);
	tracepoint_synchronize_unregister();
}

/* After pin_test_slab_faults() */
static inline struct pin_test_sweep *pin_test_sweep(struct kunit *test)
{
	struct pin_test_sweep *s = kunit_kzalloc(test, sizeof(*s), GFP_KERNEL);
	int ret;

	KUNIT_ASSERT_NOT_NULL(test, s);
	if (register_trace_kmem_cache_alloc(pin_test_cache_alloc, s))
		kunit_skip(test, "no tracepoints in this kernel");
	ret = register_trace_kmalloc(pin_test_kmalloc, s);
	KUNIT_ASSERT_EQ(test, ret, 0);
	ret = kunit_add_action_or_reset(test, pin_test_sweep_free, s);
	KUNIT_ASSERT_EQ(test, ret, 0);
	s->n = 1;
	return s;
}

/* Directly before the operation */
static inline void pin_test_sweep_begin(struct pin_test_sweep *s)
{
	s->task = current;
	s->seen = 0;
	s->refused = false;
	pin_test_sweep_arm(s);
	if (!s->needed)
		current->fail_nth = s->n;
}

/* Directly after it: @failed tells whether it did. Returns false at the end. */
static inline bool pin_test_sweep_end(struct pin_test_sweep *s, bool failed)
{
	bool injected = (s->armed || !s->needed) && !current->fail_nth;

	s->task = NULL;
	current->fail_nth = 0;
	s->armed = false;
	s->failures += failed;
	s->n++;
	if (injected || s->refused || failed)
		return true;
	if (s->needed)
		return false;
	s->needed = true;
	s->n = 1;
	return true;
}
#else
struct pin_test_sweep {
	bool refused;
	unsigned int failures;
};

static inline struct pin_test_sweep *pin_test_sweep(struct kunit *test)
{
	return NULL;
}

static inline void pin_test_sweep_begin(struct pin_test_sweep *s)
{
}

static inline bool pin_test_sweep_end(struct pin_test_sweep *s, bool failed)
{
	return false;
}

static inline void *pin_test_slab_faults(struct kunit *test)
{
	kunit_skip(test, "no fault injection in this kernel");
	return NULL;
}

static inline void *pin_test_page_faults(struct kunit *test)
{
	return pin_test_slab_faults(test);
}

static inline void pin_test_fail_all(void *faults, bool on)
{
}

static inline void pin_test_fail_after(void *faults, unsigned int bytes)
{
}
#endif

#endif /* _MM_TESTS_PIN_KUNIT_H */
