// SPDX-License-Identifier: GPL-2.0
/*
 * /proc/<pid>/longterm_pins: who keeps memory of the process pinned for long.
 * Whoever may read smaps may read it; that is checked at open.
 */

#include <linux/err.h>
#include <linux/fs.h>
#include <linux/ptrace.h>
#include <linux/sched/mm.h>
#include <linux/sched/task.h>
#include <linux/seq_file.h>
#include <linux/user_pages.h>

#include "internal.h"

static int longterm_pins_show_file(struct seq_file *m, void *unused)
{
	struct task_struct *task = get_proc_task(file_inode(m->file));

	longterm_pins_show(m, m->private, task);
	if (task)
		put_task_struct(task);
	return 0;
}

static int longterm_pins_release(struct inode *inode, struct file *file)
{
	struct seq_file *m = file->private_data;

	if (m->private)
		mmdrop(m->private);
	return single_release(inode, file);
}

static int longterm_pins_open(struct inode *inode, struct file *file)
{
	struct mm_struct *mm = proc_mem_open(inode, PTRACE_MODE_READ);
	int ret;

	if (IS_ERR(mm))
		return PTR_ERR(mm);

	/* Kernel threads and zombies have no mm, and hold nothing */
	ret = single_open(file, longterm_pins_show_file, mm);
	if (ret && mm)
		mmdrop(mm);
	return ret;
}

const struct file_operations proc_pid_longterm_pins_operations = {
	.open		= longterm_pins_open,
	.read		= seq_read,
	.llseek		= seq_lseek,
	.release	= longterm_pins_release,
};
