// SPDX-License-Identifier: GPL-2.0-only
/*
 * Holds what lasts for microseconds otherwise, for as long as a program wants
 *
 * A reference to a page, as direct I/O has one: with it a page cannot move. And
 * a copy-on-write fault, after it has copied the page: there a mmu notifier is
 * called, which waits.
 *
 *	insmod mm_hold.ko
 *	... open /dev/mm_hold, MM_HOLD_* of mm_hold.h ...
 *
 * When the file is closed, all that it holds goes on. A fault that is held keeps
 * the mmap_lock of its process for reading.
 */

#include <linux/fs.h>
#include <linux/miscdevice.h>
#include <linux/mm.h>
#include <linux/mmu_notifier.h>
#include <linux/module.h>
#include <linux/mutex.h>
#include <linux/sched.h>
#include <linux/slab.h>
#include <linux/user_pages.h>
#include <linux/wait.h>

#include "mm_hold.h"

/**
 * struct mm_hold - an open file
 * @lock: protects @pages, @nr, and the registration of @notifier
 * @pages: those with a reference
 * @nr: how many
 * @notifier: registered if its mm is set
 * @faulter: whose next fault is to stop; NULL once it has
 * @stopped: it has
 * @go: it may go on
 * @wait: for changes of @stopped and @go
 */
struct mm_hold {
	struct mutex lock;	/* also for calls */
	struct page *pages[MM_HOLD_PAGES_MAX];
	unsigned int nr;
	struct mmu_notifier notifier;
	struct task_struct *faulter;
	bool stopped;
	bool go;
	wait_queue_head_t wait;
};

static int stop_fault(struct mmu_notifier *notifier,
		      const struct mmu_notifier_range *range)
{
	struct mm_hold *hold = container_of(notifier, struct mm_hold, notifier);

	if (READ_ONCE(hold->faulter) != current ||
	    range->event != MMU_NOTIFY_CLEAR ||
	    !mmu_notifier_range_blockable(range))
		return 0;
	WRITE_ONCE(hold->faulter, NULL);
	WRITE_ONCE(hold->stopped, true);
	wake_up_all(&hold->wait);
	wait_event_killable(hold->wait, READ_ONCE(hold->go));
	return 0;
}

static const struct mmu_notifier_ops stop_ops = {
	.invalidate_range_start = stop_fault,
};

static long hold_page(struct mm_hold *hold, unsigned long addr)
{
	int ret;

	if (hold->nr == MM_HOLD_PAGES_MAX)
		return -ENOSPC;
	ret = get_user_pages_fast(addr, 1, FOLL_WRITE, &hold->pages[hold->nr]);
	if (ret != 1)
		return ret ?: -EFAULT;
	hold->nr++;
	return 0;
}

static void put_pages_held(struct mm_hold *hold)
{
	while (hold->nr)
		put_user_page_ref(hold->pages[--hold->nr]);
}

static long hold_fault(struct mm_hold *hold)
{
	int ret;

	if (hold->notifier.mm)
		return -EBUSY;
	hold->notifier.ops = &stop_ops;
	ret = mmu_notifier_register(&hold->notifier, current->mm);
	if (ret) {
		hold->notifier.mm = NULL;
		return ret;
	}
	WRITE_ONCE(hold->faulter, current);
	return 0;
}

static void go(struct mm_hold *hold)
{
	WRITE_ONCE(hold->go, true);
	wake_up_all(&hold->wait);
}

static long hold_ioctl(struct file *file, unsigned int cmd, unsigned long arg)
{
	struct mm_hold *hold = file->private_data;
	int ret;

	switch (cmd) {
	case MM_HOLD_WAIT:
		ret = wait_event_interruptible(hold->wait,
					       READ_ONCE(hold->stopped) ||
					       READ_ONCE(hold->go));
		if (!ret && !READ_ONCE(hold->stopped))
			ret = -ECANCELED;
		return ret;
	case MM_HOLD_GO:
		go(hold);
		return 0;
	}

	guard(mutex)(&hold->lock);
	switch (cmd) {
	case MM_HOLD_PAGE:
		return hold_page(hold, arg);
	case MM_HOLD_PUT_PAGES:
		put_pages_held(hold);
		return 0;
	case MM_HOLD_FAULT:
		return hold_fault(hold);
	}
	return -ENOTTY;
}

static int hold_open(struct inode *inode, struct file *file)
{
	struct mm_hold *hold = kzalloc(sizeof(*hold), GFP_KERNEL);

	if (!hold)
		return -ENOMEM;
	mutex_init(&hold->lock);
	init_waitqueue_head(&hold->wait);
	file->private_data = hold;
	return 0;
}

static int hold_release(struct inode *inode, struct file *file)
{
	struct mm_hold *hold = file->private_data;

	go(hold);
	if (hold->notifier.mm)
		mmu_notifier_unregister(&hold->notifier, hold->notifier.mm);
	put_pages_held(hold);
	mutex_destroy(&hold->lock);
	kfree(hold);
	return 0;
}

static const struct file_operations hold_fops = {
	.owner = THIS_MODULE,
	.open = hold_open,
	.release = hold_release,
	.unlocked_ioctl = hold_ioctl,
};

static struct miscdevice hold_device = {
	.minor = MISC_DYNAMIC_MINOR,
	.name = "mm_hold",
	.fops = &hold_fops,
	.mode = 0600,
};

module_misc_device(hold_device);

MODULE_DESCRIPTION("Holds pages and faults for tests");
MODULE_LICENSE("GPL");
