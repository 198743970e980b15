/* SPDX-License-Identifier: GPL-2.0 */
#ifndef PINSTAT_METRICS_H
#define PINSTAT_METRICS_H

#include "cgroups.h"
#include "processes.h"

/* OpenMetrics text on stdout */
void metrics_print(const struct processes *ps, const struct cgroups *cgs);

#endif
