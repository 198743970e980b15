// SPDX-License-Identifier: GPL-2.0
/*
 * Who holds which long-term pins: the text of /proc/<pid>/longterm_pins, and a
 * list of all holders of the system in debugfs, with those whose process is
 * gone. Formats: docs/, one word a column, counts in pages.
 */

#include <linux/debugfs.h>
#include <linux/mm.h>
#include <linux/module.h>
#include <linux/nsproxy.h>
#include <linux/sched/signal.h>
#include <linux/seq_file.h>
#include <linux/slab.h>

#include "pin_ledger.h"

static void show_columns(struct seq_file *m)
{
	int i;

	seq_puts(m, "holder pages peak acquired released");
	for (i = 0; i < PIN_REASON_NR; i++)
		seq_printf(m, " %s", pin_reason_names[i]);
}

static void show_account(struct seq_file *m, struct pin_account *acct)
{
	int i;

	seq_printf(m, "%s %llu %llu %llu %llu", acct->name,
		   READ_ONCE(acct->pages), READ_ONCE(acct->peak),
		   READ_ONCE(acct->acquired), READ_ONCE(acct->released));
	for (i = 0; i < PIN_REASON_NR; i++)
		seq_printf(m, " %llu", READ_ONCE(acct->refused[i]));
}

static void show_limit(struct seq_file *m, struct task_struct *task)
{
	unsigned long limit;

	if (!task) {
		seq_puts(m, "limit -\n");
		return;
	}
	limit = task_rlimit(task, RLIMIT_MEMLOCK);
	if (limit == RLIM_INFINITY)
		seq_puts(m, "limit unlimited\n");
	else
		seq_printf(m, "limit %lu\n", limit >> PAGE_SHIFT);
}

static void show_name(struct seq_file *m, const char *name, const char *more)
{
	char *buf;
	size_t size = seq_get_buf(m, &buf);
	size_t len = pin_escape(buf, size, name, more);

	seq_commit(m, len < size ? len : -1);
}

/* As the reader would find it; to the end of the line, so blanks stay */
static void show_cgroup(struct seq_file *m, struct misc_cg *cg)
{
	char *buf = NULL;
	const char *path = "-";

	if (cg) {
		buf = kmalloc(PATH_MAX, GFP_KERNEL);
		path = buf ? pin_cgroup_path(cg, current->nsproxy->cgroup_ns,
					     buf, PATH_MAX) : "?";
	}
	seq_puts(m, "cgroup ");
	show_name(m, path, "");
	seq_putc(m, '\n');
	if (cg && pin_cgroup_removed(cg))
		seq_puts(m, "cgroup-state removed\n");
	kfree(buf);
}

/**
 * longterm_pins_show() - write the text of /proc/<pid>/longterm_pins
 * @m: where to
 * @mm: the memory; the caller keeps the mm_struct; NULL if there is none
 * @task: the process, for its limit; NULL if it has ended
 *
 * Context: Process context. May sleep.
 */
void longterm_pins_show(struct seq_file *m, struct mm_struct *mm,
			struct task_struct *task)
{
	struct pin_ledger *ledger = mm ? pin_ledger_find(mm) : NULL;
	unsigned long charge = 0, held = 0;
	struct pin_account *acct;

	show_columns(m);
	seq_putc(m, '\n');
	if (ledger) {
		mutex_lock(&ledger->lock);
		list_for_each_entry(acct, &ledger->accounts, in_ledger) {
			show_account(m, acct);
			seq_putc(m, '\n');
		}
		charge = ledger->charge;
		held = ledger->held;
		mutex_unlock(&ledger->lock);
	}
	seq_printf(m, "charge %lu\nheld %lu\n", charge, held);
	show_limit(m, task);
	show_cgroup(m, ledger ? ledger->cgroup : NULL);
	if (ledger)
		pin_ledger_put(ledger);
}

#ifdef CONFIG_DEBUG_FS
static int longterm_pins_list_show(struct seq_file *m, void *unused)
{
	struct pin_account *acct;

	seq_puts(m, "pid comm state ");
	show_columns(m);
	seq_puts(m, " charge held ledger\n");

	/*
	 * Without the ledgers' locks: the list is of the whole system, and must
	 * not wait for the process that is in trouble. The counters of a line
	 * may be of different moments.
	 */
	guard(mutex)(&pin_ledgers_lock);
	list_for_each_entry(acct, &pin_accounts, in_system) {
		struct pin_ledger *ledger = acct->ledger;

		seq_printf(m, "%d ", acct->pid);
		show_name(m, *acct->comm ? acct->comm : "?", " ");
		seq_printf(m, " %s ",
			   atomic_read(&ledger->mm->mm_users) ? "alive" :
								"gone");
		show_account(m, acct);
		seq_printf(m, " %lu %lu %llu\n", READ_ONCE(ledger->charge),
			   READ_ONCE(ledger->held), ledger->number);
	}
	return 0;
}
DEFINE_SHOW_ATTRIBUTE(longterm_pins_list);

static int __init longterm_pins_debugfs_init(void)
{
	debugfs_create_file("longterm_pins", 0400, NULL, NULL,
			    &longterm_pins_list_fops);
	return 0;
}
late_initcall(longterm_pins_debugfs_init);
#endif

#include "tests/pin_report_kunit.h"
