/* SPDX-License-Identifier: GPL-2.0 */
/* IOMMU groups of the running system, and which of them VFIO would give us. */
#ifndef PINSTAT_GROUPS_H
#define PINSTAT_GROUPS_H

struct group {
	long number;
	char *devices;	/* "0000:01:00.0 (vfio-pci), 0000:01:00.1 (no driver)" */
	int fd;		/* of /dev/vfio/NUMBER */
};

/*
 * Open a group: that of @which, a number, /dev/vfio/NUMBER or the address of a PCI
 * device; NULL: the first that can be had. Exits with 2 if none can, says why
 * of each, and prints the commands that make one. It changes no driver.
 */
struct group group_take(const char *which);

#endif
