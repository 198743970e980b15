/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Tests of the reasons of refusals, with mappings of each kind that can be had
 * without a file system. Included by mm/pin_refusal.c.
 */
#ifdef CONFIG_LONGTERM_PIN_KUNIT_TEST

#ifndef _MM_TESTS_PIN_REFUSAL_KUNIT_H
#define _MM_TESTS_PIN_REFUSAL_KUNIT_H

#include <linux/anon_inodes.h>
#include <linux/mount.h>
#include <linux/page-isolation.h>

#include <linux/cred.h>
#include <linux/sched/user.h>

#include "pin_kunit.h"

#include <trace/events/mmap_lock.h>

/**
 * struct refusal_test - what each test starts with
 * @base: a process
 * @acct: an account for its mm
 * @owner: this thread, without CAP_IPC_LOCK
 */
struct refusal_test {
	struct pin_test base;
	struct pin_account *acct;
	struct pin_owner owner;
};

static int refusal_test_init(struct kunit *test)
{
	struct refusal_test *t = kunit_kzalloc(test, sizeof(*t), GFP_KERNEL);

	KUNIT_ASSERT_NOT_NULL(test, t);
	test->priv = t;
	t->owner.task = current;
	pin_test_limit(ULONG_MAX >> PAGE_SHIFT);
	pin_test_begin(test, &t->base);
	t->acct = pin_account_get(t->base.mm, NULL, "test",
				  PIN_COUNT_LOCKED, NULL);
	if (IS_ERR(t->acct))
		t->acct = NULL;
	KUNIT_ASSERT_NOT_NULL(test, t->acct);
	return 0;
}

static void refusal_test_exit(struct kunit *test)
{
	struct refusal_test *t = test->priv;

	if (!t)
		return;
	if (t->acct) {
		KUNIT_EXPECT_EQ(test, t->acct->pages, 0);
		pin_account_put(t->acct);
	}
	pin_test_end(test, &t->base);
}

/* @reason and no other has been counted; PIN_REASON_NR for none */
static void expect_refused(struct kunit *test, enum pin_reason reason)
{
	struct refusal_test *t = test->priv;
	int i;

	for (i = 0; i < PIN_REASON_NR; i++)
		KUNIT_EXPECT_EQ_MSG(test, t->acct->refused[i], i == reason,
				    "reason %s", pin_reason_names[i]);
}

static long refusal_pin(struct kunit *test, unsigned long addr,
			unsigned int gup_flags)
{
	struct refusal_test *t = test->priv;
	struct page *page;
	long ret;

	ret = pin_user_pages_account(t->acct, &t->owner, addr, 1, gup_flags,
				     &page);
	if (ret == 1)
		put_user_pages_account(t->acct, &page, 1, false);
	return ret;
}

static vm_fault_t refusal_fault(struct vm_fault *vmf)
{
	vmf->page = alloc_page(GFP_KERNEL | __GFP_ZERO);
	return vmf->page ? 0 : VM_FAULT_OOM;
}

static vm_fault_t refusal_mkwrite(struct vm_fault *vmf)
{
	return VM_FAULT_SIGBUS;
}

static const struct vm_operations_struct plain_vm_ops = {
	.fault = refusal_fault,
};

/* As of a file system that must know of each write */
static const struct vm_operations_struct tracked_vm_ops = {
	.fault = refusal_fault,
	.page_mkwrite = refusal_mkwrite,
};

static vm_fault_t beyond_fault(struct vm_fault *vmf)
{
	return VM_FAULT_SIGBUS;
}

/* As of a file that is shorter than its mapping */
static const struct vm_operations_struct beyond_vm_ops = {
	.fault = beyond_fault,
};

static int beyond_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &beyond_vm_ops;
	return 0;
}

static int plain_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &plain_vm_ops;
	return 0;
}

static int tracked_mmap(struct file *file, struct vm_area_struct *vma)
{
	vma->vm_ops = &tracked_vm_ops;
	return 0;
}

static int pfnmap_mmap(struct file *file, struct vm_area_struct *vma)
{
	vm_flags_set(vma, VM_PFNMAP);
	return 0;
}

static int io_mmap(struct file *file, struct vm_area_struct *vma)
{
	vm_flags_set(vma, VM_IO);
	return 0;
}

static const struct file_operations beyond_fops = { .mmap = beyond_mmap };
static const struct file_operations io_fops = { .mmap = io_mmap };
static const struct file_operations plain_fops = { .mmap = plain_mmap };
static const struct file_operations tracked_fops = { .mmap = tracked_mmap };
static const struct file_operations pfnmap_fops = { .mmap = pfnmap_mmap };

/*
 * A page of a file of the kind that @fops tells. The mapping has the only
 * reference on the file, which is returned.
 */
static unsigned long refusal_map_file_at(struct kunit *test, unsigned long addr,
					 const struct file_operations *fops,
					 unsigned int inode_flags,
					 unsigned long map_flags,
					 struct file **filep)
{
	struct file *file;

	file = anon_inode_create_getfile("[pin_test]", fops, NULL, O_RDWR,
					 NULL);
	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	file_inode(file)->i_flags |= inode_flags;
	addr = vm_mmap(file, addr, PAGE_SIZE, PROT_READ | PROT_WRITE, map_flags,
		       0);
	fput(file);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));
	*filep = file;
	return addr;
}

static unsigned long refusal_map_file(struct kunit *test,
				      const struct file_operations *fops,
				      unsigned int inode_flags,
				      unsigned long map_flags,
				      struct file **filep)
{
	return refusal_map_file_at(test, 0, fops, inode_flags, map_flags,
				   filep);
}

static void each_reason_has_name_and_text(struct kunit *test)
{
	int i, j;

	for (i = 0; i < PIN_REASON_NR; i++) {
		KUNIT_ASSERT_NOT_NULL(test, pin_reason_names[i]);
		KUNIT_ASSERT_NOT_NULL(test, reason_texts[i]);
		/* A word: it is a column's header */
		KUNIT_EXPECT_EQ(test, strcspn(pin_reason_names[i], " \t\n"),
				strlen(pin_reason_names[i]));
		for (j = 0; j < i; j++)
			KUNIT_EXPECT_STRNEQ(test, pin_reason_names[i],
					    pin_reason_names[j]);
	}
}

static void nothing_mapped_is_fault(struct kunit *test)
{
	KUNIT_EXPECT_EQ(test, refusal_pin(test, PMD_SIZE, FOLL_WRITE), -EFAULT);
	expect_refused(test, PIN_REASON_FAULT);
}

static void write_to_readonly_mapping_is_fault(struct kunit *test)
{
	unsigned long addr;

	addr = vm_mmap(NULL, 0, PAGE_SIZE, PROT_READ,
		       MAP_PRIVATE | MAP_ANONYMOUS, 0);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));
	KUNIT_EXPECT_EQ(test, refusal_pin(test, addr, 0), 1);
	KUNIT_EXPECT_EQ(test, refusal_pin(test, addr, FOLL_WRITE), -EFAULT);
	expect_refused(test, PIN_REASON_FAULT);
}

static void shared_file_with_dirty_tracking_is_file(struct kunit *test)
{
	struct file *file;
	unsigned long addr;

	addr = refusal_map_file(test, &tracked_fops, 0, MAP_SHARED, &file);
	KUNIT_EXPECT_EQ(test, refusal_pin(test, addr, FOLL_WRITE), -EOPNOTSUPP);
	expect_refused(test, PIN_REASON_FILE);
	/* What was named in the log is not kept */
	KUNIT_EXPECT_EQ(test, file_count(file), 1);
}

static void private_file_with_dirty_tracking_is_pinned(struct kunit *test)
{
	struct file *file;
	unsigned long addr;

	addr = refusal_map_file(test, &tracked_fops, 0, MAP_PRIVATE, &file);
	KUNIT_EXPECT_EQ(test, refusal_pin(test, addr, FOLL_WRITE), 1);
	expect_refused(test, PIN_REASON_NR);
}

/* Pinned for reading, but for somebody who writes */
static void shared_file_that_guest_writes_is_file(struct kunit *test)
{
	struct refusal_test *t = test->priv;
	struct file *file;
	unsigned long addr;

	addr = refusal_map_file(test, &tracked_fops, 0, MAP_SHARED, &file);
	KUNIT_EXPECT_EQ(test, refusal_pin(test, addr, 0), 1);
	expect_refused(test, PIN_REASON_NR);

	t->acct->flags |= PIN_ACCOUNT_WRITES;
	KUNIT_EXPECT_EQ(test, refusal_pin(test, addr, 0), -EOPNOTSUPP);
	expect_refused(test, PIN_REASON_FILE);
	KUNIT_EXPECT_EQ(test, file_count(file), 1);
	KUNIT_EXPECT_EQ(test, pin_test_pins(pin_test_page(test, addr)), 0);
}

static void other_memory_that_guest_writes_is_pinned(struct kunit *test)
{
	struct refusal_test *t = test->priv;
	struct file *file;
	unsigned long addr;

	t->acct->flags |= PIN_ACCOUNT_WRITES;
	addr = refusal_map_file(test, &tracked_fops, 0, MAP_PRIVATE, &file);
	KUNIT_EXPECT_EQ(test, refusal_pin(test, addr, 0), 1);
	addr = refusal_map_file(test, &plain_fops, 0, MAP_SHARED, &file);
	KUNIT_EXPECT_EQ(test, refusal_pin(test, addr, 0), 1);
	expect_refused(test, PIN_REASON_NR);
}

/* What lies before the file is pinned, then the file tells why it is not */
static void file_that_guest_writes_ends_pin(struct kunit *test)
{
	unsigned long addr = pin_test_map_small(test, PMD_SIZE);
	struct refusal_test *t = test->priv;
	struct page *pages[4];
	struct file *file;

	t->acct->flags |= PIN_ACCOUNT_WRITES;
	refusal_map_file_at(test, addr + 2 * PAGE_SIZE, &tracked_fops, 0,
			    MAP_SHARED | MAP_FIXED, &file);
	KUNIT_EXPECT_EQ(test, pin_user_pages_account(t->acct, &t->owner, addr,
						     4, 0, pages), 2);
	put_user_pages_account(t->acct, pages, 2, false);
	expect_refused(test, PIN_REASON_NR);
	KUNIT_EXPECT_EQ(test, pin_user_pages_account(t->acct, &t->owner,
						     addr + 2 * PAGE_SIZE, 2,
						     0, pages), -EOPNOTSUPP);
	expect_refused(test, PIN_REASON_FILE);
	KUNIT_EXPECT_EQ(test, pin_test_pins(pin_test_page(test, addr +
							  3 * PAGE_SIZE)), 0);
}

/**
 * struct remap_test - another thread that maps something else
 * @task: as soon as this one has
 * @page: pinned, and takes the mmap_lock again
 * @vma: the mapping
 */
struct remap_test {
	struct task_struct *task;
	struct page *page;
	struct vm_area_struct *vma;
};

static void remap_probe(void *data, struct mm_struct *mm,
			const char *memcg_path, bool write)
{
	struct remap_test *r = data;

	if (current == r->task && pin_test_pins(r->page))
		r->vma->vm_ops = &plain_vm_ops;
}

/* The file is looked for where it is pinned, not in what is mapped afterwards */
static void file_that_is_mapped_over_is_file(struct kunit *test)
{
	struct refusal_test *t = test->priv;
	struct remap_test r = { .task = current };
	struct file *file;
	unsigned long addr;
	long ret;

	t->acct->flags |= PIN_ACCOUNT_WRITES;
	addr = refusal_map_file(test, &tracked_fops, 0, MAP_SHARED, &file);
	r.page = pin_test_page(test, addr);
	mmap_read_lock(current->mm);
	r.vma = vma_lookup(current->mm, addr);
	mmap_read_unlock(current->mm);

	if (register_trace_mmap_lock_start_locking(remap_probe, &r))
		kunit_skip(test, "no tracepoints in this kernel");
	ret = refusal_pin(test, addr, 0);
	unregister_trace_mmap_lock_start_locking(remap_probe, &r);
	tracepoint_synchronize_unregister();

	KUNIT_EXPECT_EQ(test, ret, -EOPNOTSUPP);
	expect_refused(test, PIN_REASON_FILE);
	KUNIT_EXPECT_EQ(test, pin_test_pins(r.page), 0);
}

static void shared_fsdax_is_fsdax(struct kunit *test)
{
	struct refusal_test *t = test->priv;
	struct file *file;
	unsigned long addr;

	if (!IS_ENABLED(CONFIG_FS_DAX))
		kunit_skip(test, "no FS_DAX in this kernel");
	addr = refusal_map_file(test, &plain_fops, S_DAX, MAP_SHARED, &file);
	KUNIT_EXPECT_EQ(test, refusal_pin(test, addr, FOLL_WRITE), -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, refusal_pin(test, addr, 0), -EOPNOTSUPP);
	KUNIT_EXPECT_EQ(test, t->acct->refused[PIN_REASON_FSDAX], 2);
	KUNIT_EXPECT_EQ(test, file_count(file), 1);
}

static void private_fsdax_is_pinned_as_a_copy(struct kunit *test)
{
	struct file *file;
	unsigned long addr;
	struct page *page;

	if (!IS_ENABLED(CONFIG_FS_DAX))
		kunit_skip(test, "no FS_DAX in this kernel");
	addr = refusal_map_file(test, &plain_fops, S_DAX, MAP_PRIVATE, &file);
	KUNIT_EXPECT_FALSE(test, PageAnon(pin_test_page(test, addr)));
	KUNIT_EXPECT_EQ(test, refusal_pin(test, addr, 0), 1);
	page = pin_test_page(test, addr);
	KUNIT_EXPECT_TRUE(test, PageAnon(page));
	/* It is the process's own already */
	KUNIT_EXPECT_EQ(test, refusal_pin(test, addr, FOLL_WRITE), 1);
	KUNIT_EXPECT_PTR_EQ(test, pin_test_page(test, addr), page);
	expect_refused(test, PIN_REASON_NR);

	addr = refusal_map_file(test, &plain_fops, S_DAX, MAP_PRIVATE, &file);
	KUNIT_EXPECT_EQ(test, refusal_pin(test, addr, FOLL_WRITE), 1);
	KUNIT_EXPECT_TRUE(test, PageAnon(pin_test_page(test, addr)));
	expect_refused(test, PIN_REASON_NR);
}

static void private_fsdax_beyond_its_end_is_eof(struct kunit *test)
{
	struct refusal_test *t = test->priv;
	struct file *file;
	unsigned long addr;

	addr = refusal_map_file(test, &beyond_fops, S_DAX, MAP_PRIVATE, &file);
	file_inode(file)->i_mode |= S_IFREG;
	KUNIT_EXPECT_EQ(test, refusal_pin(test, addr, FOLL_WRITE), -EFAULT);
	KUNIT_EXPECT_EQ(test, refusal_pin(test, addr, 0), -EFAULT);
	KUNIT_EXPECT_EQ(test, t->acct->refused[PIN_REASON_EOF], 2);
}

/* Its size is 0, and means nothing */
static void driver_without_a_page_is_fault(struct kunit *test)
{
	struct file *file;
	unsigned long addr;

	addr = refusal_map_file(test, &beyond_fops, 0, MAP_SHARED, &file);
	KUNIT_EXPECT_EQ(test, refusal_pin(test, addr, FOLL_WRITE), -EFAULT);
	expect_refused(test, PIN_REASON_FAULT);
}

/*
 * Four pages of a file of @n pages on tmpfs, which @mnt is, or the kernel's own
 * one without. The mapping has the only reference on the file.
 */
static unsigned long refusal_map_shmem(struct kunit *test, struct vfsmount *mnt,
				       unsigned long n, unsigned long prot)
{
	struct file *file;
	unsigned long addr;

	file = mnt ? shmem_file_setup_with_mnt(mnt, "pin_test", n * PAGE_SIZE,
					       VM_NORESERVE) :
		     shmem_file_setup("pin_test", n * PAGE_SIZE, VM_NORESERVE);
	KUNIT_ASSERT_FALSE(test, IS_ERR(file));
	addr = vm_mmap(file, 0, 4 * PAGE_SIZE, prot, MAP_SHARED, 0);
	fput(file);
	KUNIT_ASSERT_FALSE(test, IS_ERR_VALUE(addr));
	return addr;
}

/* Two of four pages are pinned, and the third tells why it is not */
static void expect_two_pages(struct kunit *test, unsigned long addr,
			     enum pin_reason reason)
{
	struct refusal_test *t = test->priv;
	struct page *pages[4];

	KUNIT_ASSERT_EQ(test, pin_user_pages_account(t->acct, &t->owner, addr,
						     4, FOLL_WRITE, pages), 2);
	expect_refused(test, PIN_REASON_NR);
	put_user_pages_account(t->acct, pages, 2, false);
	KUNIT_EXPECT_EQ(test, pin_user_pages_account(t->acct, &t->owner,
						     addr + 2 * PAGE_SIZE, 2,
						     FOLL_WRITE, pages),
			-EFAULT);
	expect_refused(test, reason);
}

static void file_that_is_too_short_is_eof(struct kunit *test)
{
	if (!IS_ENABLED(CONFIG_SHMEM))
		kunit_skip(test, "no SHMEM in this kernel");
	expect_two_pages(test, refusal_map_shmem(test, NULL, 2,
						 PROT_READ | PROT_WRITE),
			 PIN_REASON_EOF);
}

/* A longer file would not help */
static void rights_come_before_the_size(struct kunit *test)
{
	unsigned long addr;

	if (!IS_ENABLED(CONFIG_SHMEM))
		kunit_skip(test, "no SHMEM in this kernel");
	addr = refusal_map_shmem(test, NULL, 2, PROT_READ) + 2 * PAGE_SIZE;
	KUNIT_EXPECT_EQ(test, refusal_pin(test, addr, FOLL_WRITE), -EFAULT);
	expect_refused(test, PIN_REASON_FAULT);
}

static void full_tmpfs_is_nospace(struct kunit *test)
{
	struct file_system_type *type;
	struct vfsmount *mnt;
	unsigned long addr;
	char options[32];

	if (!IS_ENABLED(CONFIG_TMPFS))
		kunit_skip(test, "no TMPFS in this kernel");
	type = get_fs_type("tmpfs");
	KUNIT_ASSERT_NOT_NULL(test, type);
	snprintf(options, sizeof(options), "size=%lu", 2 * PAGE_SIZE);
	mnt = vfs_kern_mount(type, 0, "pin_test", options);
	put_filesystem(type);
	KUNIT_ASSERT_FALSE(test, IS_ERR(mnt));
	addr = refusal_map_shmem(test, mnt, 4, PROT_READ | PROT_WRITE);
	mntput(mnt);
	expect_two_pages(test, addr, PIN_REASON_NOSPACE);
}

static void pfnmap_is_pfnmap(struct kunit *test)
{
	struct file *file;
	unsigned long addr;

	addr = refusal_map_file(test, &pfnmap_fops, 0, MAP_SHARED, &file);
	KUNIT_EXPECT_EQ(test, refusal_pin(test, addr, FOLL_WRITE), -EFAULT);
	expect_refused(test, PIN_REASON_PFNMAP);
}

/* Not before it says so by itself */
static void pfnmap_is_no_refusal_to_holder_that_maps_it(struct kunit *test)
{
	struct refusal_test *t = test->priv;
	struct file *file;
	unsigned long addr;

	t->acct->flags |= PIN_ACCOUNT_PFNMAP;
	addr = refusal_map_file(test, &pfnmap_fops, 0, MAP_SHARED, &file);
	KUNIT_EXPECT_EQ(test, refusal_pin(test, addr, FOLL_WRITE), -EFAULT);
	expect_refused(test, PIN_REASON_NR);
	KUNIT_EXPECT_EQ(test, file_count(file), 1);
	pin_account_refused(t->acct, &t->owner, addr, 1, FOLL_WRITE, -EFAULT,
			    PIN_REASON_PFNMAP);
	expect_refused(test, PIN_REASON_PFNMAP);

	/* Other memory is refused as to anybody */
	KUNIT_EXPECT_EQ(test, refusal_pin(test, PMD_SIZE, FOLL_WRITE), -EFAULT);
	KUNIT_EXPECT_EQ(test, t->acct->refused[PIN_REASON_FAULT], 1);
}

/* That flag is about VM_PFNMAP, this mapping has none */
static void io_mapping_is_pfnmap_to_every_holder(struct kunit *test)
{
	struct refusal_test *t = test->priv;
	struct file *file;
	unsigned long addr;

	t->acct->flags |= PIN_ACCOUNT_PFNMAP;
	addr = refusal_map_file(test, &io_fops, 0, MAP_SHARED, &file);
	KUNIT_EXPECT_EQ(test, refusal_pin(test, addr, FOLL_WRITE), -EFAULT);
	expect_refused(test, PIN_REASON_PFNMAP);
}

static enum pin_reason refusal_find(struct mm_struct *mm, unsigned long addr,
				    int err)
{
	struct pin_finding found = find_reason(mm, addr, 1, FOLL_WRITE, 0,
					       err);

	if (found.file)
		fput(found.file);
	return found.reason;
}

static void no_memory_is_nomem_and_busy_is_migrate(struct kunit *test)
{
	struct refusal_test *t = test->priv;
	unsigned long addr = pin_test_map_small(test, PMD_SIZE);

	KUNIT_EXPECT_EQ(test, refusal_find(t->base.mm, addr, -ENOMEM),
			PIN_REASON_NOMEM);
	KUNIT_EXPECT_EQ(test, refusal_find(t->base.mm, addr, -EBUSY),
			PIN_REASON_MIGRATE);
}

/* All of its page block is one huge page of ours, so that nobody minds */
static void movable_page_left_is_migrate(struct kunit *test)
{
#ifdef CONFIG_CMA
	struct refusal_test *t = test->priv;
	unsigned long addr = pin_test_map_huge(test, PMD_SIZE);
	struct page *page = pin_test_page(test, addr);
	int type = get_pageblock_migratetype(page);

	if (pageblock_order > PMD_ORDER)
		kunit_skip(test, "page blocks are larger than huge pages");
	KUNIT_EXPECT_EQ(test, refusal_find(t->base.mm, addr, -ENOMEM),
			PIN_REASON_NOMEM);
	set_pageblock_migratetype(page, MIGRATE_CMA);
	KUNIT_EXPECT_EQ(test, refusal_find(t->base.mm, addr, -ENOMEM),
			PIN_REASON_MIGRATE);
	set_pageblock_migratetype(page, type);
	KUNIT_EXPECT_EQ(test, pin_test_pins(page), 0);
#else
	kunit_skip(test, "no CMA in this kernel");
#endif
}

static void known_reason_is_taken(struct kunit *test)
{
	struct refusal_test *t = test->priv;

	KUNIT_EXPECT_EQ(test, pin_refuse(t->acct, &t->owner, PMD_SIZE, 1, 0,
					 -ENOMEM, PIN_REASON_CGROUP, NULL),
			-ENOMEM);
	expect_refused(test, PIN_REASON_CGROUP);
}

static void interruption_is_no_refusal(struct kunit *test)
{
	static const int errs[] = { -EINTR, -ESRCH, -EAGAIN };
	struct refusal_test *t = test->priv;
	int i;

	for (i = 0; i < ARRAY_SIZE(errs); i++) {
		KUNIT_EXPECT_EQ(test, pin_refuse(t->acct, &t->owner, PMD_SIZE,
						 1, 0, errs[i], PIN_REASON_NR,
						 NULL), errs[i]);
		KUNIT_EXPECT_EQ(test, pin_refuse(t->acct, &t->owner, PMD_SIZE,
						 1, 0, errs[i],
						 PIN_REASON_MEMLOCK, NULL),
				errs[i]);
	}
	expect_refused(test, PIN_REASON_NR);
}

static void dead_mm_is_no_refusal(struct kunit *test)
{
	struct refusal_test *t = test->priv;

	pin_test_mm_dies(test, &t->base);
	KUNIT_EXPECT_EQ(test, pin_refuse(t->acct, &t->owner, PMD_SIZE, 1, 0,
					 -EFAULT, PIN_REASON_NR, NULL), -ESRCH);
	expect_refused(test, PIN_REASON_NR);
}

/* The log has its limit, the counters have none */
static void each_refusal_is_counted(struct kunit *test)
{
	struct refusal_test *t = test->priv;
	int i;

	for (i = 0; i < 3 * DEFAULT_RATELIMIT_BURST; i++)
		refusal_pin(test, PMD_SIZE, FOLL_WRITE);
	KUNIT_EXPECT_EQ(test, t->acct->refused[PIN_REASON_FAULT],
			3 * DEFAULT_RATELIMIT_BURST);
}

/* RLIMIT_MEMLOCK is compared with different counters */
static void memlock_text_names_the_counter(struct kunit *test)
{
	const enum pin_reason reason = PIN_REASON_MEMLOCK;
	struct refusal_test *t = test->priv;
	struct user_struct *user = get_uid(current_user());
	struct pin_account *pinned, *users;

	pinned = pin_account_get(t->base.mm, NULL, "test", PIN_COUNT_PINNED,
				 NULL);
	users = pin_account_get(t->base.mm, NULL, "test",
				PIN_COUNT_USER | PIN_COUNT_PINNED, user);
	KUNIT_ASSERT_FALSE(test, IS_ERR(pinned) || IS_ERR(users));
	KUNIT_EXPECT_NOT_NULL(test, strstr(reason_text(t->acct, reason),
					   "RLIMIT_MEMLOCK, its limit"));
	KUNIT_EXPECT_NOT_NULL(test, strstr(reason_text(pinned, reason),
					   "VmPin"));
	KUNIT_EXPECT_NOT_NULL(test, strstr(reason_text(users, reason),
					   "the user's"));
	KUNIT_EXPECT_STREQ(test, reason_text(users, PIN_REASON_NOMEM),
			   reason_text(t->acct, PIN_REASON_NOMEM));
	pin_account_put(pinned);
	pin_account_put(users);
	free_uid(user);
}

/* However many uids it has, and containers inside it */
static void container_is_one_user_of_the_log(struct kunit *test)
{
	struct user_namespace *ns = kunit_kcalloc(test, 2, sizeof(*ns), GFP_KERNEL);
	struct cred cred = { .uid = KUIDT_INIT(1001), .user_ns = &init_user_ns };

	KUNIT_ASSERT_NOT_NULL(test, ns);
	ns[0] = (struct user_namespace){ .parent = &init_user_ns, .ns.inum = 4711 };
	ns[1] = (struct user_namespace){ .parent = &ns[0], .ns.inum = 4712,
					 .owner = KUIDT_INIT(100000) };
	KUNIT_EXPECT_EQ(test, log_user(&cred), 1001);
	cred.user_ns = &ns[0];
	KUNIT_EXPECT_EQ(test, log_user(&cred), 4711);
	cred.user_ns = &ns[1];
	cred.uid = KUIDT_INIT(1002);
	KUNIT_EXPECT_EQ(test, log_user(&cred), 4711);
	/* A user of the host has made it */
	ns[0].owner = KUIDT_INIT(1003);
	KUNIT_EXPECT_EQ(test, log_user(&cred), 1003);
	cred.user_ns = &ns[0];
	KUNIT_EXPECT_EQ(test, log_user(&cred), 1003);
}

static struct kunit_case pin_refusal_test_cases[] = {
	KUNIT_CASE(each_reason_has_name_and_text),
	KUNIT_CASE(nothing_mapped_is_fault),
	KUNIT_CASE(write_to_readonly_mapping_is_fault),
	KUNIT_CASE(shared_file_with_dirty_tracking_is_file),
	KUNIT_CASE(private_file_with_dirty_tracking_is_pinned),
	KUNIT_CASE(shared_file_that_guest_writes_is_file),
	KUNIT_CASE(other_memory_that_guest_writes_is_pinned),
	KUNIT_CASE(file_that_guest_writes_ends_pin),
	KUNIT_CASE(file_that_is_mapped_over_is_file),
	KUNIT_CASE(shared_fsdax_is_fsdax),
	KUNIT_CASE(private_fsdax_is_pinned_as_a_copy),
	KUNIT_CASE(private_fsdax_beyond_its_end_is_eof),
	KUNIT_CASE(driver_without_a_page_is_fault),
	KUNIT_CASE(file_that_is_too_short_is_eof),
	KUNIT_CASE(rights_come_before_the_size),
	KUNIT_CASE(full_tmpfs_is_nospace),
	KUNIT_CASE(pfnmap_is_pfnmap),
	KUNIT_CASE(pfnmap_is_no_refusal_to_holder_that_maps_it),
	KUNIT_CASE(io_mapping_is_pfnmap_to_every_holder),
	KUNIT_CASE(no_memory_is_nomem_and_busy_is_migrate),
	KUNIT_CASE(movable_page_left_is_migrate),
	KUNIT_CASE(known_reason_is_taken),
	KUNIT_CASE(interruption_is_no_refusal),
	KUNIT_CASE(dead_mm_is_no_refusal),
	KUNIT_CASE(each_refusal_is_counted),
	KUNIT_CASE(memlock_text_names_the_counter),
	KUNIT_CASE(container_is_one_user_of_the_log),
	{},
};

static struct kunit_suite pin_refusal_test_suite = {
	.name = "pin_refusal",
	.init = refusal_test_init,
	.exit = refusal_test_exit,
	.test_cases = pin_refusal_test_cases,
};

kunit_test_suite(pin_refusal_test_suite);

#endif /* _MM_TESTS_PIN_REFUSAL_KUNIT_H */

#endif /* CONFIG_LONGTERM_PIN_KUNIT_TEST */
