/* SPDX-License-Identifier: GPL-2.0 */
#ifndef PINSTAT_SELFTEST_H
#define PINSTAT_SELFTEST_H

/* The arguments begin with `selftest`; returns the exit code */
int selftest_main(int argc, char **argv);

#endif
