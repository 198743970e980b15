// SPDX-License-Identifier: GPL-2.0
/*
 * Who holds which long-term pins: the text of /proc/<pid>/longterm_pins, and of
 * /proc/longterm_pins, with all holders of the system, also those whose process
 * is gone, and all refusals since boot. Formats: docs/, one word a column, counts
 * in pages.
 *
 * Readers take no lock of the ledgers, so that they hold up no pin, and none holds
 * them up: whatever a process waits for, its pins can be read. Only when the last
 * account goes meanwhile, a reader frees the ledger, under pin_ledgers_lock, in which
 * nobody waits. Counters of a line may be of different moments.
 */

#include <linux/mm.h>
#include <linux/module.h>
#include <linux/nsproxy.h>
#include <linux/proc_fs.h>
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

/* So many lines of /proc/<pid>/longterm_pins, and others may run */
#define LINES_AT_ONCE	64

static struct pin_account *next_account(struct pin_account *acct)
{
	return list_next_or_null_rcu(&acct->ledger->accounts, &acct->in_ledger,
				     struct pin_account, in_ledger);
}

/* The account after that with @id, which may have ended; 0: the first. RCU */
static struct pin_account *account_after(struct pin_ledger *ledger,
					 unsigned long id)
{
	struct pin_account *acct = id ? xa_load(&pin_accounts, id) : NULL;

	if (acct && acct->ledger == ledger)
		return next_account(acct);
	/* Later ones have larger ids */
	list_for_each_entry_rcu(acct, &ledger->accounts, in_ledger)
		if (acct->id > id)
			return acct;
	return NULL;
}

/* A process may have thousands, as each ring is one */
static void show_accounts(struct seq_file *m, struct pin_ledger *ledger)
{
	unsigned long last = 0;
	unsigned int n;

	do {
		struct pin_account *acct;

		rcu_read_lock();
		acct = account_after(ledger, last);
		for (n = 0; acct && n < LINES_AT_ONCE; n++) {
			show_account(m, acct);
			seq_putc(m, '\n');
			last = acct->id;
			acct = next_account(acct);
		}
		rcu_read_unlock();
		cond_resched();
		/* If there is no room, all of it comes again with more */
	} while (n == LINES_AT_ONCE && !seq_has_overflowed(m));
}

/* What is charged and what is held, of one moment; pins go on meanwhile */
static unsigned long read_counters(struct pin_ledger *ledger, unsigned long *counters)
{
	unsigned int i, tries = 1000;
	unsigned long held;

	do {
		held = READ_ONCE(ledger->held_now);
		/* Both sides of the barriers in pin_ledger_publish() */
		smp_rmb();
		for (i = 0; i < PIN_COUNTER_NR; i++)
			counters[i] = pin_ledger_published(ledger, i);
		counters[PIN_COUNTER_USER] += READ_ONCE(ledger->second_charged);
		/* As above */
		smp_rmb();
	} while (held != READ_ONCE(ledger->held_now) && --tries);
	return held;
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
	unsigned long counters[PIN_COUNTER_NR] = {}, held = 0;
	struct misc_cg *cg;

	show_columns(m);
	seq_putc(m, '\n');
	if (ledger) {
		show_accounts(m, ledger);
		held = read_counters(ledger, counters);
	}
	seq_printf(m, "charge %lu\nheld %lu\npinned %lu\nuser %lu\n",
		   counters[PIN_COUNTER_LOCKED], held,
		   counters[PIN_COUNTER_PINNED], counters[PIN_COUNTER_USER]);
	show_limit(m, task);
	cg = ledger ? pin_ledger_cgroup(ledger) : NULL;
	show_cgroup(m, cg);
	put_misc_cg(cg);
	if (ledger)
		pin_ledger_put(ledger);
}

#ifdef CONFIG_PROC_FS
/* Positions in /proc/longterm_pins: the columns, accounts by id, refusals */
#define POS_COLUMNS	0
#define POS_REFUSALS	(LLONG_MAX - 1)

static const char columns[] = "columns", refusals[] = "refusals";

/* The first account whose id is not below that, or what comes after them */
static const void *account_from(loff_t *pos, unsigned long id)
{
	struct pin_account *acct = xa_find(&pin_accounts, &id, ULONG_MAX,
					   XA_PRESENT);

	*pos = acct ? id : POS_REFUSALS;
	return acct ?: (const void *)refusals;
}

static void *pins_start(struct seq_file *m, loff_t *pos) __acquires(RCU)
{
	rcu_read_lock();
	if (*pos == POS_COLUMNS)
		return (void *)columns;
	if (*pos < POS_REFUSALS)
		return (void *)account_from(pos, *pos);
	return *pos == POS_REFUSALS ? (void *)refusals : NULL;
}

static void *pins_next(struct seq_file *m, void *v, loff_t *pos)
{
	if (v == refusals) {
		++*pos;
		return NULL;
	}
	return (void *)account_from(pos, *pos + 1);
}

static void pins_stop(struct seq_file *m, void *v) __releases(RCU)
{
	rcu_read_unlock();
}

static void show_system_account(struct seq_file *m, struct pin_account *acct)
{
	struct pin_ledger *ledger = acct->ledger;
	struct mm_struct *mm = READ_ONCE(ledger->mm);
	char comm[TASK_COMM_LEN];

	/* Adoption may change the name meanwhile; its last byte is always 0 */
	data_race(memcpy(comm, acct->comm, sizeof(comm)));
	seq_printf(m, "%d ", READ_ONCE(acct->pid));
	show_name(m, *comm ? comm : "?", " ");
	seq_printf(m, " %s ", pin_account_is_dead(acct) ? "gone" : "alive");
	show_account(m, acct);
	seq_printf(m, " %lu %lu %llu\n", READ_ONCE(mm->pin_charge),
		   READ_ONCE(ledger->held_now), ledger->number);
}

static int pins_show(struct seq_file *m, void *v)
{
	int i;

	if (v == columns) {
		seq_puts(m, "pid comm state ");
		show_columns(m);
		seq_puts(m, " charge held ledger\n");
	} else if (v == refusals) {
		for (i = 0; i < PIN_REASON_NR; i++)
			seq_printf(m, "refused %s %lu\n", pin_reason_names[i],
				   atomic_long_read(&pin_refused[i]));
	} else {
		show_system_account(m, v);
	}
	return 0;
}

static const struct seq_operations pins_ops = {
	.start	= pins_start,
	.next	= pins_next,
	.stop	= pins_stop,
	.show	= pins_show,
};

/* Not for root of a container, which has a /proc of the host's as well */
static int pins_open(struct inode *inode, struct file *file)
{
	return capable(CAP_SYS_ADMIN) ? seq_open(file, &pins_ops) : -EPERM;
}

static const struct proc_ops pins_proc_ops = {
	.proc_open	= pins_open,
	.proc_read	= seq_read,
	.proc_lseek	= seq_lseek,
	.proc_release	= seq_release,
};

static int __init pins_init(void)
{
	proc_create("longterm_pins", 0400, NULL, &pins_proc_ops);
	return 0;
}
fs_initcall(pins_init);
#endif

#include "tests/pin_report_kunit.h"
