// SPDX-License-Identifier: GPL-2.0
/*
 * The kernel's rules are in docs/architecture.md, QEMU's in docs/qemu.md.
 */
#include "judge.h"

#include <err.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include "columns.h"
#include "pins.h"
#include "sysroot.h"

/* Is it said already, or is its code there? Then it is said with that */
static bool said(struct advice *a, const char *code, const char *text)
{
	char *both;

	if (strcmp(a->text, text) && !(code && a->code && !strcmp(a->code, code)))
		return false;
	if (!strstr(a->text, text)) {
		both = xasprintf("%s. %s", a->text, text);
		free(a->text);
		a->text = both;
	}
	return true;
}

static void vadvise(struct advices *list, char *code, const char *fmt,
		    va_list ap)
{
	char *text;
	size_t i;

	if (vasprintf(&text, fmt, ap) < 0)
		err(2, "no memory");
	/* Several backends may need the same */
	for (i = 0; i < list->nr; i++)
		if (said(&list->list[i], code, text)) {
			free(text);
			free(code);
			return;
		}
	list->list = reallocarray(list->list, list->nr + 1,
				  sizeof(*list->list));
	if (!list->list)
		err(2, "no memory");
	list->list[list->nr++] = (struct advice){ text, code };
}

void advise(struct advices *list, char *code, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vadvise(list, code, fmt, ap);
	va_end(ap);
}

void warn_of(struct judgement *j, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vadvise(&j->warnings, NULL, fmt, ap);
	va_end(ap);
	if (j->worst < OUTCOME_WARNS)
		j->worst = OUTCOME_WARNS;
}

static void advices_free(struct advices *list)
{
	size_t i;

	for (i = 0; i < list->nr; i++) {
		free(list->list[i].text);
		free(list->list[i].code);
	}
	free(list->list);
}

const char *use_name(enum backend_use use)
{
	static const char * const names[] = {
		[USE_RAM] = "ram", [USE_VIRTIO_MEM] = "virtio-mem",
		[USE_NVDIMM] = "nvdimm", [USE_VIRTIO_PMEM] = "virtio-pmem",
		[USE_IVSHMEM] = "ivshmem",
	};

	return names[use];
}

const char *secret_name(enum secret secret)
{
	static const char * const names[] = {
		[SECRET_SEV] = "SEV", [SECRET_SNP] = "SEV-SNP",
		[SECRET_TDX] = "TDX",
	};

	return names[secret];
}

static bool is_storage(const struct backend *b)
{
	return b->use == USE_NVDIMM || b->use == USE_VIRTIO_PMEM;
}

struct pinners pinners_sum(const struct vm *vm)
{
	const struct pinners *a = &vm->pinners[0], *b = &vm->pinners[1];

	return (struct pinners){
		.vfio = a->vfio + b->vfio, .mdev = a->mdev + b->mdev,
		.iommufd = a->iommufd + b->iommufd,
		.nvme = a->nvme + b->nvme, .vdpa = a->vdpa + b->vdpa,
		.by_user = a->by_user + b->by_user,
	};
}

/* --- The kernel ---------------------------------------------------------------- */

static void refuse(struct verdict *v, const char *reason)
{
	v->pin = PIN_NO;
	v->reason = reason;
}

static void judge_pin(struct verdict *v, const struct backend *b,
		      const struct host *host)
{
	bool written = b->share && !b->readonly;

	v->pin = PIN_YES;
	if (b->kind != BACKEND_FILE || b->hugetlb)
		return;
	v->file = memfile_look(&host->mounts, b->path);
	switch (v->file.kind) {
	case FILE_MEMORY:
	case FILE_DEVDAX:
		break;
	case FILE_TRACKED:
	case FILE_DISK:
		if (written)
			refuse(v, "file");
		break;
	case FILE_DAX:
		if (b->share || !host->kernel)
			refuse(v, "fsdax");
		break;
	case FILE_DEVICE:
		v->pin = PIN_UNKNOWN;
		v->outcome = OUTCOME_UNKNOWN;
		v->why = xstrdup("it is a character device: only its driver knows whether it can be pinned");
		break;
	case FILE_UNKNOWN:
		v->pin = PIN_UNKNOWN;
		v->outcome = OUTCOME_UNKNOWN;
		v->why = xstrdup(v->file.late ?
				 "its file system does not answer (a FUSE daemon, or a server)" :
				 "its file system is not known");
		break;
	}
}

/* Why the kernel refuses it */
static char *reason_text(const struct verdict *v, const struct backend *b)
{
	const char *fs = v->file.fs ?: "its file system";

	if (v->file.kind == FILE_DISK)
		return xstrdup("it is a disk, and the kernel must track each write to it");
	if (v->file.kind == FILE_TRACKED)
		return xasprintf("%s must track each write to a shared file",
				 fs);
	if (b->share)
		return xasprintf("%s with DAX must be able to move the file's blocks",
				 fs);
	return xasprintf("%s with DAX, which only a kernel of userpin pins when it is private",
			 fs);
}

/* --- QEMU ---------------------------------------------------------------------- */

/*
 * Is memory that was in a file at @path on a memfd now? QEMU names that after the
 * backend, with or without its way there.
 */
static bool has_moved(const struct host *host, const struct backend *b)
{
	const char *at = host->maps;
	size_t len = strlen(b->name);

	while ((at = strstr(at, "/memfd:"))) {
		at += strlen("/memfd:");
		if (!strncmp(at, "/objects/", 9))
			at += 9;
		if (!strncmp(at, b->name, len) && at[len] == ' ')
			return true;
	}
	return false;
}

static bool is_mapped(const struct host *host, const char *path)
{
	const char *at = host->maps;
	size_t len = strlen(path);

	if (!len)
		return false;
	while ((at = strstr(at, path))) {
		if (at > host->maps && at[-1] == ' ' &&
		    (at[len] == '\n' || !strncmp(at + len, " (deleted)", 10)))
			return true;
		at++;
	}
	return false;
}

/*
 * Does QEMU learn at start what cannot be pinned? VFIO pins then; for vhost-vdpa,
 * patched QEMU tries.
 */
static bool seen_at_start(const struct vm *vm, const struct host *host,
			  const struct pinners *p)
{
	return p->vfio || p->iommufd || (p->vdpa && host->qemu) ||
		!(p->mdev || p->vdpa || p->nvme || vm->secret == SECRET_SEV);
}

static bool qemu_makes(const struct verdict *v, const struct backend *b)
{
	return b->made || v->file.maker == MAKER_QEMU;
}

/* Why patched QEMU would leave it where it is; NULL: it moves */
static char *why_stay(const struct verdict *v, const struct backend *b,
		      const struct vm *vm, const struct host *host)
{
	if (!b->share)
		return xstrdup("nothing but shared memory moves");
	if (vm->policy == POLICY_OFF)
		return xasprintf("ram-pin-fallback is off%s", host->policy_file ?
				 " in " POLICY_FILE : "");
	if (b->readonly)
		return xstrdup("its file is open for reading only");
	if (vm->pid)
		return xstrdup("memory moves only when a VM starts: start the VM with the device");
	if (vm->secret == SECRET_SEV)
		return xstrdup("the guest is encrypted");
	if (vm->proxy)
		return xstrdup("x-pci-proxy-dev has given the file to another process");
	if (b->use == USE_IVSHMEM)
		return xstrdup("ivshmem shares it with other processes");
	if (v->file.kind == FILE_DISK)
		return xstrdup("it is a disk");
	if (vm->policy == POLICY_ON)
		return NULL;
	if (is_storage(b))
		return xasprintf("%s keeps data in it, which only ram-pin-fallback=on copies",
				 use_name(b->use));
	if (!qemu_makes(v, b))
		return xasprintf("QEMU %s the file, which only ram-pin-fallback=on copies",
				 v->file.maker == MAKER_OTHER ?
				 "has not made" : "may not have made");
	return NULL;
}

/* It does not have ram-pin-fallback=on: would it move with that, from the start? */
static bool on_helps(const struct verdict *v, const struct backend *b,
		     const struct vm *vm, const struct host *host)
{
	struct pinners p = pinners_sum(vm);
	struct vm with = *vm;
	char *stay;

	if (!host->qemu || vm->policy == POLICY_ON || p.nvme ||
	    !seen_at_start(vm, host, &p))
		return false;
	with.policy = POLICY_ON;
	with.pid = 0;
	stay = why_stay(v, b, &with, host);
	free(stay);
	return !stay;
}

static void judge_qemu(struct verdict *v, const struct backend *b,
		       const struct vm *vm, const struct host *host,
		       const struct pinners *p)
{
	char *reason, *stay = NULL, *then;

	if (v->pin != PIN_NO)
		return;
	reason = reason_text(v, b);
	/* SEV registers all memory as it starts; a kernel without us takes files */
	if (vm->secret == SECRET_SEV && !vm->pid && (host->kernel || v->file.kind == FILE_DAX)) {
		v->outcome = OUTCOME_REFUSES;
		then = xstrdup("QEMU does not start, as SEV cannot register it");
	} else if (p->nvme && !vm->pid) {
		v->outcome = OUTCOME_REFUSES;
		then = xstrdup("the nvme:// drive cannot be opened");
	} else if (!seen_at_start(vm, host, p)) {
		v->outcome = OUTCOME_FAILS;
		then = xasprintf("QEMU starts, and %s", p->mdev ?
				 "the mediated device fails when its driver pins" :
				 p->vdpa ? "the vhost-vdpa device does not work" :
				 "the guest runs");
		if (!p->mdev && !p->vdpa)
			v->outcome = OUTCOME_STARTS;
	} else if (!host->qemu) {
		v->outcome = OUTCOME_REFUSES;
		then = xasprintf("QEMU, unpatched, %s", vm->pid ?
				 "refuses to add a device" : "does not start");
	} else {
		stay = why_stay(v, b, vm, host);
		v->outcome = stay ? OUTCOME_REFUSES : OUTCOME_MOVES;
		then = stay ? xasprintf("QEMU refuses the device, as %s", stay) :
			xstrdup(qemu_makes(v, b) ?
				"QEMU moves it to anonymous memory" :
				"QEMU copies it to anonymous memory, and the file keeps its content, but does not follow the guest");
	}
	v->why = xasprintf("%s; %s", reason, then);
	free(reason);
	free(stay);
	free(then);
}

/*
 * A private page of a file is a copy, and the page that it was copied from stays in
 * the file. Private huge pages are never in the file, DAX has no other page.
 */
bool held_twice(const struct verdict *v, const struct backend *b)
{
	if (b->share || b->readonly || b->hugetlb)
		return false;
	return b->kind == BACKEND_MEMFD ||
		(b->kind == BACKEND_FILE && v->file.fs &&
		 (v->file.kind == FILE_MEMORY || v->file.kind == FILE_TRACKED) &&
		 strcmp(v->file.fs, "hugetlbfs"));
}

/* By an option, or since its file is on a hugetlbfs */
bool on_huge_pages(const struct verdict *v, const struct backend *b)
{
	return b->hugetlb ||
	       (v->file.fs && !strcmp(v->file.fs, "hugetlbfs"));
}

static char *twice_text(const struct verdict *v, const struct backend *b)
{
	if (b->kind == BACKEND_MEMFD)
		return xstrdup("the host holds this RAM twice once a device pins it: in the memfd, and as the private copy that the guest uses");
	return xasprintf("the host holds this RAM twice once a device pins it: in the file on %s%s, and as the private copy that the guest uses",
			 v->file.fs, v->file.kind == FILE_TRACKED ?
			 ", whose pages the kernel can drop" : "");
}

/* Where memory of a VM that runs is */
static void judge_now(struct verdict *v, const struct backend *b,
		      const struct host *host)
{
	if (b->kind != BACKEND_FILE) {
		v->now = b->kind == BACKEND_MEMFD ? "memfd" : "memory";
	} else if (host->maps && has_moved(host, b)) {
		v->now = "moved";
		v->outcome = OUTCOME_MOVED;
		free(v->why);
		v->why = xstrdup("has moved to anonymous memory (memfd), and its file does not follow the guest");
	} else if (host->maps && is_mapped(host, b->path)) {
		v->now = "file";
	}
}

/* Encrypted memory that is in a guest_memfd may be discarded, and VFIO forbids that */
static void judge_secret(struct judgement *j, const struct vm *vm,
			 const struct host *host, const struct pinners *p)
{
	bool snp = vm->secret == SECRET_SNP;
	const char *name = secret_name(vm->secret);
	size_t i;

	if (vm->secret <= SECRET_SEV || vm->pid ||
	    !(p->vfio || p->mdev || p->iommufd || p->nvme || p->vdpa))
		return;
	for (i = 0; i < vm->nr; i++) {
		struct verdict *v = &j->verdicts[i];

		v->outcome = host->qemu ? OUTCOME_REFUSES : OUTCOME_UNKNOWN;
		free(v->why);
		v->why = !host->qemu ?
			xasprintf("pinstat does not know what this QEMU does with an assigned device in a guest of %s",
				  name) :
			xstrdup(snp ?
				"QEMU 10.0 refuses an assigned device in a guest of SEV-SNP, whatever its memory is (\"Cannot set discarding of RAM broken\")" :
				"QEMU 10.0 does not know TDX, and does not start");
	}
	advise(&j->todo, NULL, "Remove the device, or %s", name);
}

/* --- What to do ------------------------------------------------------------------ */

#define FALLBACK_XML \
	"<qemu:commandline>\n" \
	"  <qemu:arg value='-machine'/>\n" \
	"  <qemu:arg value='ram-pin-fallback=on'/>\n" \
	"</qemu:commandline>"

static void advise_fallback(struct advices *todo, const struct vm *vm,
			    const char *what, const char *who)
{
	if (vm->libvirt)
		advise(todo, xstrdup(FALLBACK_XML),
		       "%s, if nobody needs %s: put this before </domain>, with xmlns:qemu='http://libvirt.org/schemas/domain/qemu/1.0' on <domain>",
		       who, what);
	else
		advise(todo, xstrdup("-machine ram-pin-fallback=on"),
		       "%s, if nobody needs %s", who, what);
}

/* Shared, or it is held twice */
#define MEMFD_XML \
	"<memoryBacking>\n" \
	"  <source type='memfd'/>\n" \
	"  <access mode='shared'/>\n" \
	"</memoryBacking>"

static const char *parts_text(const struct vm *vm)
{
	return vm->private_parts ?
		"; a cell or DIMM that says private must say shared" : "";
}

static void advise_memfd(struct advices *todo, const struct vm *vm,
			 const struct backend *b, bool must)
{
	const char *how = must ? "Use" : "Better: use";

	if (!vm->libvirt || !b->made)
		advise(todo, NULL, "%s memory-backend-memfd with share=on for %s instead of memory-backend-file",
		       how, b->name);
	else if (vm->source)
		advise(todo, xstrdup(MEMFD_XML),
		       "%s a memfd, so that there is no file, instead of <source type='%s'/>%s",
		       how, vm->source, parts_text(vm));
	else
		advise(todo, xstrdup(MEMFD_XML), "%s a memfd, so that there is no file%s",
		       how, parts_text(vm));
}

static void advise_shared(struct advices *todo, const struct vm *vm,
			  const struct backend *b)
{
	if (!vm->libvirt || !b->made)
		advise(todo, NULL, "Better: use memory-backend-memfd with share=on for %s, which the host holds once",
		       b->name);
	else
		advise(todo, xstrdup(MEMFD_XML),
		       "Better: use shared memory, which the host holds once%s",
		       parts_text(vm));
}

static void advise_hugetlbfs(struct advices *todo, const struct backend *b)
{
	unsigned long long kib = b->pagesize >> 10;

	advise(todo, kib ? xasprintf("mkdir /dev/hugepages-%lluK\n"
				     "mount -t hugetlbfs -o pagesize=%lluK none /dev/hugepages-%lluK",
				     kib, kib, kib) :
			   xstrdup("mount -t hugetlbfs none /dev/hugepages"),
	       "Mount a hugetlbfs for these pages, then restart libvirtd");
}

static void advise_pages(struct advices *todo, const struct backend *b,
			 const struct verdict *v)
{
	unsigned long long kib = v->pagesize >> 10, n = v->no_pages;

	if (b->nodes)
		advise(todo, NULL, "Reserve %llu more huge pages on the host's nodes %s (nr_hugepages below /sys/devices/system/node)",
		       n, b->nodes);
	else
		advise(todo, xasprintf("n=$(cat /sys/kernel/mm/hugepages/hugepages-%llukB/nr_hugepages)\n"
				       "echo $((n + %llu)) >/sys/kernel/mm/hugepages/hugepages-%llukB/nr_hugepages",
				       kib, n, kib),
		       "Reserve more huge pages, best at boot (hugepagesz=, hugepages=)");
}

static void advise_backend(struct judgement *j, const struct vm *vm,
			   const struct host *host, size_t i)
{
	const struct backend *b = &vm->backends[i];
	const struct verdict *v = &j->verdicts[i];
	struct advices *todo = &j->todo;
	bool must = v->outcome != OUTCOME_MOVES &&
		    v->outcome != OUTCOME_MOVED;

	if (b->kind == BACKEND_FILE && !b->path) {
		advise_hugetlbfs(todo, b);
		return;
	}
	if (v->no_pages)
		advise_pages(todo, b, v);
	if (v->no_room)
		advise(todo, NULL, "Enlarge the tmpfs (mount -o remount,size=), or remove files from it: %llu MiB must be free",
		       (unsigned long long)(v->no_room >> 20));
	/* For storage, private has another meaning: it forgets */
	if (v->pin == PIN_YES && held_twice(v, b) && !is_storage(b))
		advise_shared(todo, vm, b);
	/* SEV on a kernel that does not mind */
	if (v->pin != PIN_NO || (j->pinned && v->outcome == OUTCOME_STARTS))
		return;
	if (!b->share)
		advise(todo, NULL, "%s: use a userpin kernel, which pins private memory of DAX files",
		       b->name);
	if (b->use == USE_IVSHMEM) {
		advise(todo, NULL, "%s: use a file on tmpfs, such as /dev/shm",
		       b->name);
		return;
	}
	if (is_storage(b) && b->share && must) {
		if (vm->libvirt && (host->kernel || v->file.kind != FILE_DAX))
			advise(todo, xasprintf("<memory model='%s' access='private'>",
					       use_name(b->use)),
			       "%s, if what the guest writes need not outlive it",
			       b->name);
		if (v->file.kind == FILE_DAX)
			advise(todo, NULL, "%s: use a device-dax (/dev/daxX.Y) instead of a file on DAX",
			       b->name);
		if (on_helps(v, b, vm, host))
			advise_fallback(todo, vm, "what the guest will write there",
					b->name);
		return;
	}
	if (is_storage(b))
		return;
	advise_memfd(todo, vm, b, must);
	if (must && !vm->pid && !qemu_makes(v, b) &&
	    vm->policy == POLICY_AUTO && on_helps(v, b, vm, host))
		advise_fallback(todo, vm, "its file to follow the guest",
				b->name);
}

/* "1 VFIO container, 2 iommufds" */
static char *hidden_text(const struct pinners *hidden)
{
	const struct {
		unsigned int n;
		const char *what;
	} parts[] = {
		{ hidden->vfio, "VFIO container" },
		{ hidden->iommufd, "iommufd" },
		{ hidden->vdpa, "vhost-vdpa device" },
	};
	char *text = xstrdup(""), *more;
	size_t i;

	for (i = 0; i < sizeof(parts) / sizeof(*parts); i++) {
		if (!parts[i].n)
			continue;
		more = xasprintf("%s%s%u %s%s", text, *text ? ", " : "",
				 parts[i].n, parts[i].what,
				 parts[i].n == 1 ? "" : "s");
		free(text);
		text = more;
	}
	return text;
}

static void note_hidden(struct judgement *j, const struct vm *vm,
			const struct host *host)
{
	char *text = hidden_text(&host->hidden);

	if (*text)
		advise(&j->notes, NULL, "It has %s%s that its command line does not show: of hot-plugged devices, or of -readconfig.",
		       vm->changes_user && host->hidden.iommufd ?
		       "at least " : "", text);
	if (host->vduse)
		advise(&j->notes, NULL, "It is the daemon of %u VDUSE device%s, which pin%s buffers of it.",
		       host->vduse, host->vduse == 1 ? "" : "s",
		       host->vduse == 1 ? "s" : "");
	free(text);
}

static void note(struct judgement *j, const struct vm *vm,
		 const struct host *host, const struct pinners *p)
{
	bool devdax = false, refused = false;
	size_t i;

	for (i = 0; i < vm->nr; i++) {
		devdax |= j->verdicts[i].file.kind == FILE_DEVDAX;
		refused |= j->verdicts[i].pin == PIN_NO;
	}
	if (host->policy_wrong)
		advise(&j->notes, NULL, POLICY_FILE " %s: QEMU takes off.",
		       host->policy_wrong);
	if (devdax && !host->kernel)
		advise(&j->notes, NULL, "This kernel leaks pins of device-dax memory.");
	if (p->iommufd > p->by_user)
		advise(&j->notes, NULL, host->kernel ?
		       "iommufd counts for the process, memory that other devices have pinned once with them: libvirt sets IOMMU_OPTION_RLIMIT_MODE to 1." :
		       "iommufd counts its pins separately, for the process: libvirt sets IOMMU_OPTION_RLIMIT_MODE to 1.");
	if (p->by_user)
		advise(&j->notes, NULL, "iommufd%s counts for the user: it adds up all processes, and compares the sum with the limit of each (IOMMU_OPTION_RLIMIT_MODE 0, the default).",
		       p->iommufd > p->by_user ? " that QEMU opens itself" : "");
	if (p->vdpa && !host->kernel)
		advise(&j->notes, NULL, "vhost-vdpa counts its pins separately, once for each device, and those of iommufd with them.");
	if (p->vdpa && refused)
		advise(&j->notes, NULL, "A vDPA device that uses virtual addresses pins nothing: alone, it works with memory in any file.");
	if (vm->locked && j->memlock.set != MEMLOCK_NONE &&
	    (p->vfio || p->mdev || p->nvme))
		advise(&j->notes, NULL, "Memory of <locked/> counts twice, as locked and as pinned; huge pages and DAX do not.");
	if (vm->network)
		advise(&j->notes, NULL, "pinstat cannot read the XML of network '%s'. If it is a pool of virtual functions, they pin, too: add --device.",
		       vm->network);
	note_hidden(j, vm, host);
	if (host->untracked && ((!p->iommufd && !p->vdpa) || host->kernel))
		advise(&j->notes, NULL, host->kernel ?
		       "It has pins outside the ledger (VmPin), of RDMA for instance." :
		       "It has pins outside the ledger (VmPin), of devices that its command line does not show, or of io_uring.");
	if (vm->config_file)
		advise(&j->notes, NULL, "pinstat does not read the file of -readconfig.");
	if (vm->ppc64 && j->pinned)
		advise(&j->notes, NULL, "On POWER the limit that the VM needs is not exact: the kernel registers memory outside the ledger.");
	if (p->mdev)
		advise(&j->notes, NULL, "Mediated devices pin what their driver asks for, at most all memory once.");
}

void judge(struct judgement *j, const struct vm *vm, const struct host *host)
{
	struct pinners p = pinners_sum(vm);
	size_t i;

	*j = (struct judgement){ 0 };
	j->verdicts = xcalloc(vm->nr, sizeof(*j->verdicts));
	j->pinned = p.vfio || p.mdev || p.iommufd || p.nvme || p.vdpa ||
		    vm->secret == SECRET_SEV || host->untracked || host->held;

	for (i = 0; i < vm->nr; i++) {
		const struct backend *b = &vm->backends[i];
		struct verdict *v = &j->verdicts[i];

		if (b->kind == BACKEND_FILE && !b->path) {
			v->outcome = OUTCOME_REFUSES;
			v->why = xstrdup("no hugetlbfs for pages of this size is mounted, and libvirt refuses the VM");
			continue;
		}
		judge_pin(v, b, host);
		judge_qemu(v, b, vm, host, &p);
		if (v->pin == PIN_YES && held_twice(v, b))
			v->why = twice_text(v, b);
		if (vm->pid)
			judge_now(v, b, host);
	}
	judge_room(j, vm, host);
	judge_cgroup(j, vm, host);
	judge_secret(j, vm, host, &p);
	if (vm->policy_set && !host->qemu) {
		advise(&j->todo, NULL, "Remove ram-pin-fallback: this QEMU does not know it, and does not start");
		j->worst = OUTCOME_REFUSES;
	}
	for (i = 0; i < vm->nr; i++) {
		struct verdict *v = &j->verdicts[i];

		/* Without its pages it does not start, with a device or not */
		if (v->outcome > j->worst && (j->pinned || v->pin == PIN_YES))
			j->worst = v->outcome;
		advise_backend(j, vm, host, i);
	}
	judge_limit(j, vm, host);
	if (host->unreadable && j->worst < OUTCOME_UNKNOWN)
		j->worst = OUTCOME_UNKNOWN;
	note(j, vm, host, &p);
}

void judgement_free(struct judgement *j, const struct vm *vm)
{
	size_t i;

	for (i = 0; i < vm->nr; i++) {
		free(j->verdicts[i].why);
		memfile_free(&j->verdicts[i].file);
	}
	free(j->verdicts);
	advices_free(&j->todo);
	advices_free(&j->warnings);
	advices_free(&j->notes);
}
