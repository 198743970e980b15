/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A virtual machine, as far as pins are concerned: from libvirt's XML, or from the
 * command line of a QEMU. Names are escaped, paths are not.
 */
#ifndef PINSTAT_VM_H
#define PINSTAT_VM_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "memfile.h"

#define GIB		(1ull << 30)
/* More than any VM has: what we read may be hostile */
#define MAX_BACKENDS	1024
/* Since then libvirt knows <driver iommufd='yes'/> */
#define LIBVIRT_IOMMUFD	12001
/* and <iommufd enabled='yes'/>, for all devices that do not say otherwise */
#define LIBVIRT_IOMMUFD_VM	12002
#define MEMLOCK_NONE	UINT64_MAX	/* unlimited */

enum backend_kind {
	BACKEND_ANON,
	BACKEND_MEMFD,
	BACKEND_FILE,
};

/* What it is to the guest */
enum backend_use {
	USE_RAM,
	USE_VIRTIO_MEM,
	USE_NVDIMM,
	USE_VIRTIO_PMEM,
	USE_IVSHMEM,
};

struct backend {
	char *name;
	char *path;		/* of BACKEND_FILE; NULL: there is no such file system */
	uint64_t size, needed;	/* needed: how much of it at once */
	enum backend_kind kind;
	enum backend_use use;
	bool share, readonly, hugetlb;
	uint64_t pagesize;	/* of huge pages; 0: the default */
	uint64_t block;		/* of virtio-mem, bytes; 0: QEMU's default */
	char *nodes;		/* of the host, and no others: "0-1"; NULL: any */
	bool by_cpuset;		/* by that of the cgroup: small pages only */
	bool made;		/* libvirt has QEMU make the file, or the memfd */
	bool unmapped;		/* a device's store: the guest has no address for it */
};

/* Guests whose memory is encrypted; those after SEV have it in a guest_memfd */
enum secret { SECRET_NONE, SECRET_SEV, SECRET_SNP, SECRET_TDX };

/* What memory QEMU moves: ram-pin-fallback, of the machine or of the host */
enum policy { POLICY_AUTO, POLICY_ON, POLICY_OFF };

/*
 * Who pins; [1]: behind libvirt's back, in <qemu:commandline>, or of a QEMU that
 * runs, not on its command line
 */
struct pinners {
	unsigned int vfio, mdev, iommufd, nvme, vdpa;
	/* Of the iommufd, those by one that QEMU opens itself: it counts for the user */
	unsigned int by_user;
};

struct vm {
	char *name, *emulator;
	long pid;			/* 0: it does not run */
	struct backend *backends;
	size_t nr;
	struct pinners pinners[2];
	unsigned int iommufds;		/* by which some of these pin */
	uint64_t total;			/* RAM as libvirt counts it */
	uint64_t extra;			/* ROMs and video memory, which are pinned, too */
	bool libvirt;			/* which will set the limit */
	char *partition;		/* of <resource>, not escaped; NULL: none */
	unsigned int libvirt_version;	/* 11003 is 11.3; 0: unknown */
	unsigned int unassigned;	/* hostdevs that libvirt counts all the same */
	unsigned int vdpa_disks;	/* of the vdpa */
	bool kvm, ppc64;
	uint64_t max_memory;		/* ppc64: of which libvirt makes its limit, */
	unsigned int phbs;		/* and the PCI host bridges */
	bool hard_limited, locked;
	uint64_t hard_limit;
	bool viommu[2];
	enum secret secret;
	bool config_file;		/* -readconfig: there may be more devices */
	bool changes_user;		/* -run-with user=, -runas: once all is set up */
	char *network;			/* one of which nothing is known; escaped */
	enum policy policy;
	bool policy_set;		/* by the machine option */
	bool proxy;			/* x-pci-proxy-dev: a device in another process */
	/* What <memoryBacking> has now, for the remedy */
	char *source;			/* escaped; NULL: no <source> */
	bool private_parts;		/* a cell or DIMM says so, of small pages */
};

struct backend *vm_backend(struct vm *vm, char *name);
/* False: it is none of the words */
bool policy_parse(enum policy *policy, const char *word);
void vm_free(struct vm *vm);

/*
 * A domain's XML. NULL, or what is wrong with it, for free(). @backing_dir: where
 * libvirt has files made; @mounts: where it finds hugetlbfs
 */
char *domain_parse(struct vm *vm, const char *xml, size_t len,
		   const char *file, const char *backing_dir,
		   const struct mounts *mounts);

/*
 * QEMU's arguments; @more: they come after those that libvirt makes. NULL, or what
 * is wrong with them, for free().
 */
char *qemu_parse(struct vm *vm, char **argv, size_t argc, bool more);

#endif
