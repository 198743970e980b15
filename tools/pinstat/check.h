/* SPDX-License-Identifier: GPL-2.0 */
/* pinstat check: can the memory of a VM be pinned? argv[0] is "check". */
#ifndef PINSTAT_CHECK_H
#define PINSTAT_CHECK_H

struct format;

/* @format: the options before `check`, to which its own are added */
int check_main(int argc, char **argv, struct format *format);

#endif
