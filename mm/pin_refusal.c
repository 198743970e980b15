// SPDX-License-Identifier: GPL-2.0
/*
 * Why a long-term pin was refused.
 *
 * GUP decides, and its errno says little: EFAULT stands for seven reasons. After
 * a failure the mapping is looked at, best effort, since it may have changed
 * meanwhile; the finding goes into the holder's counters, a trace event and the
 * log. Nothing is decided here.
 */

#define pr_fmt(fmt) "longterm_pin: " fmt

#include <linux/cred.h>
#include <linux/dax.h>
#include <linux/file.h>
#include <linux/fs.h>
#include <linux/hash.h>
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/pagemap.h>
#include <linux/ratelimit.h>
#include <linux/sched/mm.h>
#include <linux/sched/signal.h>
#include <linux/secretmem.h>
#include <linux/shmem_fs.h>
#include <linux/slab.h>
#include <linux/user_namespace.h>
#include <linux/userfaultfd_k.h>

#include "internal.h"
#include "pin_ledger.h"

#define CREATE_TRACE_POINTS
#include <trace/events/user_pages.h>

const char * const pin_reason_names[PIN_REASON_NR] = {
	[PIN_REASON_FSDAX]	= "fsdax",
	[PIN_REASON_FILE]	= "file",
	[PIN_REASON_SECRETMEM]	= "secretmem",
	[PIN_REASON_PFNMAP]	= "pfnmap",
	[PIN_REASON_MEMLOCK]	= "memlock",
	[PIN_REASON_CGROUP]	= "cgroup",
	[PIN_REASON_MIGRATE]	= "migrate",
	[PIN_REASON_OVERFLOW]	= "overflow",
	[PIN_REASON_NOMEM]	= "nomem",
	[PIN_REASON_FAULT]	= "fault",
	[PIN_REASON_EOF]	= "eof",
	[PIN_REASON_NOSPACE]	= "nospace",
	[PIN_REASON_NOHUGETLB]	= "nohugetlb",
};

/* Since boot, of all holders */
atomic_long_t pin_refused[PIN_REASON_NR];

/* What it means, and what helps */
static const char * const reason_texts[PIN_REASON_NR] = {
	[PIN_REASON_FSDAX] =
		"a DAX file system must be able to move its blocks; use anonymous memory, a memfd, hugetlbfs, device-dax, or map the file private",
	[PIN_REASON_FILE] =
		"the file system must see each write to a shared file, and does not see those of a device; use anonymous memory, a memfd, tmpfs, hugetlbfs, or map the file private",
	[PIN_REASON_SECRETMEM] =
		"no device may access memory of memfd_secret(); use other memory",
	[PIN_REASON_PFNMAP] =
		"memory of a device or driver can be pinned only where it has struct pages that are not reserved, and is mapped with these rights",
	[PIN_REASON_MEMLOCK] =
		"the process would exceed RLIMIT_MEMLOCK, its limit of locked memory; raise it, or grant CAP_IPC_LOCK",
	[PIN_REASON_CGROUP] =
		"the cgroup would exceed longterm_pin, its limit of pinned memory; to raise it, write \"longterm_pin BYTES\" to its misc.max",
	[PIN_REASON_MIGRATE] =
		"the kernel could not move a page out of CMA or movable memory: somebody has a reference to it, or no other memory is free",
	[PIN_REASON_OVERFLOW] =
		"the page has as many pins as the kernel can count; unmap it elsewhere",
	[PIN_REASON_NOMEM] =
		"out of memory",
	[PIN_REASON_FAULT] =
		"the address has no mapping, or one without these rights, or its page could not be read",
	[PIN_REASON_EOF] =
		"the file ends before this address; make it as long as its mapping",
	[PIN_REASON_NOSPACE] =
		"the tmpfs has no room for the page; enlarge it (mount -o remount,size=) or free some of it, or raise the user's quota or the commit limit",
	[PIN_REASON_NOHUGETLB] =
		"no huge page of this size is free; raise nr_hugepages, also of the NUMA nodes, or the mount's size=, or the cgroup's hugetlb limit",
};

/* Of PIN_REASON_MEMLOCK, where it is compared with other counters than VmLck */
static const char * const counter_texts[PIN_COUNTER_NR] = {
	[PIN_COUNTER_PINNED] =
		"the process would pin more (VmPin) than RLIMIT_MEMLOCK, its limit of locked memory, allows; raise it",
	[PIN_COUNTER_USER] =
		"the user's locked pages, those of all processes, would exceed this one's RLIMIT_MEMLOCK; raise it, or grant CAP_IPC_LOCK",
};

static const char *reason_text(struct pin_account *acct, enum pin_reason reason)
{
	if (reason == PIN_REASON_MEMLOCK && acct->user)
		return counter_texts[PIN_COUNTER_USER];
	if (reason == PIN_REASON_MEMLOCK && acct->limit == PIN_COUNTER_PINNED)
		return counter_texts[PIN_COUNTER_PINNED];
	return reason_texts[reason];
}

/* Whether one of the pages that are mapped there must stay movable */
static bool movable_page_in(struct mm_struct *mm, unsigned long start,
			    unsigned long npages)
{
	unsigned long addr = start;
	bool found = false;

	for (; npages && !found; npages--, addr += PAGE_SIZE) {
		struct page *page;

		if (get_user_pages_remote(mm, addr, 1, FOLL_NOFAULT, &page,
					  NULL) != 1)
			continue;
		found = !folio_is_longterm_pinnable(page_folio(page)) &&
			!folio_is_fsdax(page_folio(page));
		put_user_page_ref(page);
	}
	return found;
}

/**
 * struct pin_finding - what was found where a pin failed
 * @reason: why, most likely
 * @pfnmap: it is a VM_PFNMAP mapping, which some holders map by themselves
 * @file: the file that is mapped, with a reference; or NULL
 */
struct pin_finding {
	enum pin_reason reason;
	bool pfnmap;
	struct file *file;
};

/*
 * Whether a file ends before an address of its mapping. The size of a driver's
 * file says nothing.
 */
static bool is_beyond_eof(struct vm_area_struct *vma, unsigned long addr)
{
	struct inode *inode = vma->vm_file->f_mapping->host;
	loff_t size = i_size_read(inode);

	if (!S_ISREG(inode->i_mode) && !S_ISBLK(inode->i_mode))
		return false;
	/* A huge page that the file has in part only is not mapped */
	if (is_vm_hugetlb_page(vma))
		size = round_down(size, huge_page_size(hstate_vma(vma)));
	return (loff_t)linear_page_index(vma, addr) << PAGE_SHIFT >= size;
}

/*
 * Whether no page can be had there. GUP is asked again, for it tells memory that
 * has failed only if it is told to.
 */
static bool has_no_page(struct mm_struct *mm, unsigned long addr,
			unsigned int gup_flags)
{
	struct page *page;
	long ret;

	gup_flags |= FOLL_LONGTERM | FOLL_HWPOISON;
	ret = pin_user_pages_remote(mm, addr, 1, gup_flags, &page, NULL);
	if (ret == 1)
		put_user_page(page);
	return ret == -EFAULT;
}

/*
 * Why a page of a file could not be faulted in, though the mapping allows it. A
 * fault does not tell ENOSPC from other errors. And tmpfs and hugetlbfs have many
 * limits: size=, quotas, NUMA nodes, cgroups. So no limit is looked at, but all
 * other causes are ruled out.
 */
static enum pin_reason why_no_page(struct mm_struct *mm,
				   struct vm_area_struct *vma,
				   unsigned long addr, unsigned int gup_flags)
{
	struct address_space *mapping = vma->vm_file->f_mapping;

	if (is_beyond_eof(vma, addr))
		return PIN_REASON_EOF;
	/* GUP does not wait until somebody fills the page */
	if (userfaultfd_armed(vma))
		return PIN_REASON_FAULT;
	/* A page or a swap entry needs no more room */
	if (shmem_mapping(mapping) &&
	    !xa_load(&mapping->i_pages, linear_page_index(vma, addr)))
		return PIN_REASON_NOSPACE;
	if (is_vm_hugetlb_page(vma) && has_no_page(mm, addr, gup_flags))
		return PIN_REASON_NOHUGETLB;
	return PIN_REASON_FAULT;
}

/* GUP stops at the first page that it cannot have: @start is that one */
static struct pin_finding find_reason(struct mm_struct *mm, unsigned long start,
				      unsigned long npages,
				      unsigned int gup_flags,
				      unsigned int acct_flags, int err)
{
	struct pin_finding found = { .reason = PIN_REASON_FAULT };
	bool write = gup_flags & FOLL_WRITE;
	struct vm_area_struct *vma;
	unsigned long addr;

	/* Who is killed needs no reason */
	if (mmap_read_lock_killable(mm))
		return found;
	addr = untagged_addr_remote(mm, start);
	vma = vma_lookup(mm, addr);
	if (err == -ENOMEM || err == -EBUSY) {
		/* What GUP moves at once is one batch, of a page table */
		npages = min(npages, PIN_BATCH_PAGES);
		found.reason = err == -EBUSY ||
			       movable_page_in(mm, start, npages) ?
			       PIN_REASON_MIGRATE : PIN_REASON_NOMEM;
	} else if (err == -EOPNOTSUPP) {
		/* Also for such a page in another mapping */
		found.reason = PIN_REASON_FSDAX;
	} else if (!vma) {
		found.reason = PIN_REASON_FAULT;
	} else if (vma->vm_flags & (VM_IO | VM_PFNMAP)) {
		found.reason = PIN_REASON_PFNMAP;
		found.pfnmap = vma->vm_flags & VM_PFNMAP;
	} else if (vma_is_fsdax(vma) && !is_cow_mapping(vma->vm_flags)) {
		found.reason = PIN_REASON_FSDAX;
	} else if (vma_is_secretmem(vma)) {
		found.reason = PIN_REASON_SECRETMEM;
	} else if ((write || acct_flags & PIN_ACCOUNT_WRITES) &&
		   vma_needs_dirty_tracking(vma)) {
		found.reason = PIN_REASON_FILE;
	} else if (vma->vm_file &&
		   vma->vm_flags & (write ? VM_WRITE : VM_READ)) {
		found.reason = why_no_page(mm, vma, addr, gup_flags);
	}
	if (vma && vma->vm_file)
		found.file = get_file(vma->vm_file);
	mmap_read_unlock(mm);
	return found;
}

/*
 * Bytes of the character that a text begins with. 0 if they are no UTF-8, or if
 * it is no letter but an order: to begin a line, to write from right to left.
 */
static size_t harmless_char(const u8 *text)
{
	static const u32 least[] = { [2] = 0xa0, [3] = 0x800, [4] = 0x10000 };
	u32 c = *text;
	size_t n, i;

	if (c < 0x80)
		return c >= ' ' && c != 0x7f;
	if (c < 0xc2 || c > 0xf4)
		return 0;
	n = c < 0xe0 ? 2 : c < 0xf0 ? 3 : 4;
	c &= 0x7f >> n;
	for (i = 1; i < n; i++) {
		if ((text[i] & 0xc0) != 0x80)
			return 0;
		c = c << 6 | (text[i] & 0x3f);
	}
	if (c < least[n] || c > 0x10ffff || (c >= 0xd800 && c <= 0xdfff) ||
	    (c >= 0x2028 && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069))
		return 0;
	return n;
}

static bool looks_escaped(const char *text)
{
	return text[0] == '\\' && text[1] >= '0' && text[1] <= '3' &&
	       text[2] >= '0' && text[2] <= '7' &&
	       text[3] >= '0' && text[3] <= '7';
}

/**
 * pin_escape() - make a name that a user chose fit for one line of text
 * @buf: receives the text, and a 0; may be NULL if @size is 0
 * @size: bytes in @buf
 * @name: the name of a process, file or cgroup, any bytes
 * @more: ASCII characters to be escaped as well, such as what the name is
 *	between
 *
 * Bytes that could harm become \ooo. All others stay as they are, so that a
 * name can be pasted: backslashes, too, but for one that would look like such an
 * escape. So \ooo is an escape wherever it stands, and no two names have one
 * text.
 *
 * Context: Any context; does not sleep.
 * Return: bytes of the whole text, without the 0. If that is not less than @size,
 * the text in @buf ends before the first character that has no room.
 */
size_t pin_escape(char *buf, size_t size, const char *name, const char *more)
{
	size_t used = 0, whole = 0, bytes, len;

	for (; *name; name += bytes) {
		const char *text = name;
		char octal[5];

		bytes = harmless_char(name);
		len = bytes;
		if (!bytes || strchr(more, *name) || looks_escaped(name)) {
			bytes = 1;
			len = snprintf(octal, sizeof(octal), "\\%03o",
				       (u8)*name);
			text = octal;
		}
		if (used == whole && used + len < size) {
			memcpy(buf + used, text, len);
			used += len;
		}
		whole += len;
	}
	if (size)
		buf[used] = '\0';
	return whole;
}

/* Bytes of an escaped path in the log; a line of it holds about 1000 */
#define LOG_PATH_MAX		320

/* Lines in five seconds: of all users, and of one. They share by a hash */
#define LOG_HOST		50
#define LOG_USER		10
#define LOG_USERS		64

static struct ratelimit_state log_host =
	RATELIMIT_STATE_INIT(log_host, DEFAULT_RATELIMIT_INTERVAL, LOG_HOST);
static struct ratelimit_state log_users[LOG_USERS];

static int __init log_users_init(void)
{
	int i;

	for (i = 0; i < LOG_USERS; i++)
		ratelimit_state_init(&log_users[i], DEFAULT_RATELIMIT_INTERVAL,
				     LOG_USER);
	return 0;
}
subsys_initcall(log_users_init);

/*
 * Who has the lines. The root of a container may have thousands of uids there, and make
 * containers in it: all of them are that container, or if a user of the host made it,
 * are that user.
 */
static u32 log_user(const struct cred *cred)
{
	const struct user_namespace *ns = cred->user_ns;

	if (ns == &init_user_ns)
		return __kuid_val(cred->uid);
	while (ns->parent != &init_user_ns)
		ns = ns->parent;
	return uid_eq(ns->owner, GLOBAL_ROOT_UID) ? ns->ns.inum :
						    __kuid_val(ns->owner);
}

/* The host's last: a user with many refusals does not use up what others have */
static bool may_log(struct task_struct *task)
{
	u32 user;

	scoped_guard(rcu)
		user = hash_32(log_user(__task_cred(task)), ilog2(LOG_USERS));
	return __ratelimit(&log_users[user]) && __ratelimit(&log_host);
}

/* The path of a file or a cgroup, escaped; to be freed; NULL without memory */
static char *escaped_path(struct file *file, struct misc_cg *cg)
{
	char *name = kmalloc(PATH_MAX, GFP_KERNEL | __GFP_NOWARN);
	char *buf = kmalloc(LOG_PATH_MAX, GFP_KERNEL | __GFP_NOWARN);
	const char *path = "?";

	if (name && file)
		path = file_path(file, name, PATH_MAX);
	else if (name)
		path = pin_cgroup_path(cg, NULL, name, PATH_MAX);
	if (buf)
		pin_escape(buf, LOG_PATH_MAX, IS_ERR(path) ? "?" : path, "\"");
	kfree(name);
	return buf;
}

/* Which file, or whose limit; to be freed; NULL for nothing, or without memory */
static char *log_about(struct misc_cg *cg, struct file *file)
{
	char *path, *about = NULL;

	if (!cg && !file)
		return NULL;
	path = escaped_path(file, cg);
	if (path && file)
		about = kasprintf(GFP_KERNEL | __GFP_NOWARN,
				  ", file \"%s\" on %s", path,
				  file_inode(file)->i_sb->s_type->name);
	else if (path)
		about = kasprintf(GFP_KERNEL | __GFP_NOWARN,
				  ", limit %llu bytes of \"%s\"%s",
				  pin_cgroup_limit(cg), path,
				  pin_cgroup_removed(cg) ? " (removed)" : "");
	kfree(path);
	return about;
}

/*
 * One line; what users choose, names of processes, files and cgroups, is
 * escaped. Addresses stay out of the log: they are in the trace event.
 */
static void log_refusal(struct pin_account *acct, const struct pin_owner *owner,
			enum pin_reason reason, struct misc_cg *full,
			struct file *file)
{
	struct misc_cg *cg;
	char task_comm[TASK_COMM_LEN], comm[4 * TASK_COMM_LEN];
	char *about, *cgroup = NULL;

	if (!may_log(owner->task))
		return;

	about = log_about(full, file);
	cg = pin_ledger_cgroup(acct->ledger);
	if (cg)
		cgroup = escaped_path(NULL, cg);
	put_misc_cg(cg);
	get_task_comm(task_comm, owner->task);
	pin_escape(comm, sizeof(comm), task_comm, "\"");
	pr_warn("refused %s: %s of \"%s\" [%d], uid %u, cgroup \"%s\"%s: %s\n",
		pin_reason_names[reason], acct->name, comm,
		task_tgid_nr(owner->task),
		from_kuid(&init_user_ns, task_uid(owner->task)), cgroup ?: "-",
		about ?: "", reason_text(acct, reason));
	kfree(cgroup);
	kfree(about);
}

/**
 * pin_refuse() - find out why a pin failed, and report it
 * @acct: the holder
 * @owner: on whose behalf
 * @start: address of the first page that could not be pinned
 * @npages: how many pages were asked for
 * @gup_flags: FOLL_*
 * @err: the error of GUP or of the ledger
 * @reason: the reason where it is known, else PIN_REASON_NR
 * @full: for PIN_REASON_CGROUP, the cgroup that has no room; else NULL
 *
 * Context: Process context. May sleep; takes the mmap_lock of the account's mm
 * and ledger->lock.
 * Return: the error for the holder to return.
 */
int pin_refuse(struct pin_account *acct, const struct pin_owner *owner,
	       unsigned long start, unsigned long npages,
	       unsigned int gup_flags, int err, enum pin_reason reason,
	       struct misc_cg *full)
{
	struct pin_finding found = { .reason = reason };
	struct mm_struct *mm;

	/* The caller was killed, its memory is gone, or it should try again */
	if (err == -EINTR || err == -ESRCH || err == -EAGAIN)
		return err;

	if (reason == PIN_REASON_NR) {
		mm = pin_account_mm(acct);
		if (!mm)
			return -ESRCH;
		found = find_reason(mm, start, npages, gup_flags, acct->flags,
				    err);
		mmput(mm);
		reason = found.reason;

		/* The holder will try by itself */
		if (found.pfnmap && acct->flags & PIN_ACCOUNT_PFNMAP)
			goto out;
	}
	if (err == -EFAULT && !(acct->flags & PIN_ACCOUNT_EFAULT) &&
	    (reason == PIN_REASON_FSDAX || reason == PIN_REASON_FILE))
		err = -EOPNOTSUPP;

	atomic_long_inc(&pin_refused[reason]);
	mutex_lock(&acct->ledger->lock);
	WRITE_ONCE(acct->refused[reason], acct->refused[reason] + 1);
	mutex_unlock(&acct->ledger->lock);
	trace_longterm_refuse(acct->name, start, npages,
			      pin_reason_names[reason], err);
	log_refusal(acct, owner, reason, full, found.file);
out:
	if (found.file)
		fput(found.file);
	return err;
}

#include "tests/pin_refusal_kunit.h"
