/* SPDX-License-Identifier: GPL-2.0 */
/* What comes of a VM's memory, and of its limit, when devices pin it */
#ifndef PINSTAT_JUDGE_H
#define PINSTAT_JUDGE_H

#include "vm.h"

/* The host's ram-pin-fallback, of all its QEMUs: one word */
#define POLICY_FILE	"/etc/qemu/ram-pin-fallback"

/* Where it runs */
struct host {
	bool kernel;		/* is one of userpin */
	bool qemu;		/* is patched */
	struct mounts mounts;
	const char *maps;	/* of a QEMU that runs; NULL if they cannot be read */
	bool policy_file;	/* the VM's policy is that of POLICY_FILE, */
	const char *policy_wrong;	/* of which this is wrong; NULL: nothing */
	bool limited;		/* its limit is known, */
	uint64_t limit;		/* RLIMIT_MEMLOCK or MEMLOCK_NONE */
	unsigned int libvirt;	/* 11003 is 11.3; 0: unknown, taken for the newest */
	/* Of a QEMU that runs: */
	bool unreadable;	/* some of it may not be read, */
	bool untracked;		/* it has pins that are not in the ledger, */
	struct pinners hidden;	/* and devices that its command line does not show; */
	unsigned int vduse;	/* it is the daemon of these devices */
	const char *cgroup;	/* its pins are charged to this one; NULL: unknown */
	uint64_t held;		/* and this is charged already */
};

/* Since then libvirt counts an nvme:// disk like a container of its own */
#define LIBVIRT_NVME	9003

enum pin { PIN_YES, PIN_NO, PIN_UNKNOWN };

/* From good to bad */
enum outcome {
	OUTCOME_STARTS,
	OUTCOME_MOVES,
	OUTCOME_MOVED,		/* it runs, and has moved */
	OUTCOME_WARNS,		/* of the whole VM: it may not go well */
	OUTCOME_UNKNOWN,
	OUTCOME_FAILS,		/* QEMU starts, and the device does not work */
	OUTCOME_REFUSES,
};

struct verdict {
	struct memfile file;
	enum pin pin;
	const char *reason;	/* the kernel's word for it, or NULL */
	enum outcome outcome;
	const char *now;	/* of a VM that runs: where it is; NULL: unknown */
	char *why;		/* a sentence, or NULL */
	uint64_t no_pages;	/* huge pages that are missing, */
	uint64_t pagesize;	/* of this size */
	uint64_t no_room;	/* how large its tmpfs must be at least; 0: it is */
};

struct memlock {
	/* With room for what else is mapped; 0: none is needed */
	uint64_t stock, ledger;
	uint64_t set;		/* MEMLOCK_NONE: no limit */
	const char *set_by;	/* NULL: nobody raises it, or it is not known */
	uint64_t least;		/* without the room: what is pinned in any case */
	bool low;
	/* What QEMU and its tables take: a hard_limit is memory.max, too */
	uint64_t memory;
};

/* Text, and the XML or command for it, if any */
struct advice {
	char *text, *code;
};

struct advices {
	struct advice *list;
	size_t nr;
};

struct judgement {
	struct verdict *verdicts;	/* one for each backend */
	struct memlock memlock;
	bool pinned;			/* is there anything that pins? */
	enum outcome worst;
	struct advices todo, warnings, notes;
};

void judge(struct judgement *j, const struct vm *vm, const struct host *host);
void judgement_free(struct judgement *j, const struct vm *vm);

const char *use_name(enum backend_use use);
/* "SEV-SNP"; NULL: it is not encrypted */
const char *secret_name(enum secret secret);
bool held_twice(const struct verdict *v, const struct backend *b);
bool on_huge_pages(const struct verdict *v, const struct backend *b);
struct pinners pinners_sum(const struct vm *vm);
/* Takes @code; a text that is there already is not added again */
void advise(struct advices *list, char *code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4)));
/* It may not go well: @fmt says why */
void warn_of(struct judgement *j, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));

/* room.c: is there as much memory, of each kind? */
void judge_room(struct judgement *j, const struct vm *vm,
		const struct host *host);
void refuse_room(struct verdict *v, char *why);
uint64_t page_size(const struct verdict *v, const struct backend *b);
/* partition.c: does the limit of its cgroup let them be held? */
void judge_cgroup(struct judgement *j, const struct vm *vm,
		  const struct host *host);
/* limit.c: RLIMIT_MEMLOCK, hard_limit, the number of mappings */
void judge_limit(struct judgement *j, const struct vm *vm,
		 const struct host *host);

#endif
