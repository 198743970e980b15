/* SPDX-License-Identifier: GPL-2.0 */
#ifndef PINSTAT_METRICS_H
#define PINSTAT_METRICS_H

#include "cgroups.h"
#include "processes.h"

/*
 * Prometheus' text format on stdout. @per_holder: with series for each holder and
 * each reason of a refusal, which are many.
 */
void metrics_print(const struct processes *ps, const struct cgroups *cgs,
		   bool per_holder);
/* Of a kernel that has no figures */
void metrics_print_none(void);

#endif
