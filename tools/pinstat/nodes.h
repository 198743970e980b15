/* SPDX-License-Identifier: GPL-2.0 */
/* Sets of the host's NUMA nodes, as libvirt and QEMU write them: "0-3,^2,7" */
#ifndef PINSTAT_NODES_H
#define PINSTAT_NODES_H

#include <stdbool.h>

#define MAX_NODES	1024

/* False: it is none */
bool nodes_parse(const char *list, bool set[MAX_NODES]);
/*
 * The same set has the same text: "0-1,3". If it is none, the text that it was,
 * escaped. For free().
 */
char *nodes_text(const char *list);

#endif
