/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The files of the system, below the folder that --sysroot says, and names from
 * them made fit for a terminal. All of it is untrusted: processes choose their
 * names, end between two reads, and write to files while they are read.
 */
#ifndef PINSTAT_SYSROOT_H
#define PINSTAT_SYSROOT_H

#include <dirent.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/stat.h>

/* Without a slash at its end; "" for the running system */
extern const char *sysroot;

/* Most take a path as printf does. They set errno, and print nothing. */
char *sysroot_path(const char *fmt, ...)
	__attribute__((format(printf, 1, 2)));
DIR *sysroot_opendir(const char *folder);
bool sysroot_exists(const char *fmt, ...)
	__attribute__((format(printf, 1, 2)));
char *sysroot_read(size_t *len, const char *fmt, ...)
	__attribute__((format(printf, 2, 3)));
/* The same for a file that shows memory of a process, with a deadline */
char *sysroot_read_memory(size_t *len, long pid, const char *file);
/* Milliseconds that they may take; somewhat more while they wait for a CPU */
#define PATIENCE	2000
/*
 * Have a child do @work, which looks at files that others chose: one on FUSE or NFS may
 * never answer. False: not in time, and @answer is as it was. @work may change nothing
 * but the answer.
 */
bool in_time(void *answer, size_t size, int patience,
	     void (*work)(void *answer, const void *arg), const void *arg);
/* Of a file that is open, below the folder or not */
char *read_fd(size_t *len, int fd);

/*
 * The same text with bytes that could harm as \xHH, as libsmartcols writes them;
 * for free(): control characters, no UTF-8, orders to the terminal. A backslash
 * that looks like the beginning of such a byte is one, too; others stay, so that
 * names of cgroups can be pasted.
 */
char *escape(const char *text, size_t len);
/* Undo it, in place; up to a 0, if one was escaped */
char *unescape(char *text);
/* Of text that the kernel has escaped as \ooo; it is trusted no more than other text */
char *escape_kernels(const char *text);
/* Of escaped text: JSON has an escape of its own for control characters; for free() */
char *json_text(const char *escaped);

void *xcalloc(size_t n, size_t size);
char *xstrdup(const char *text);
char *xasprintf(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

#endif
