// SPDX-License-Identifier: GPL-2.0
#include "cgroups.h"

#include <err.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "memfile.h"
#include "pins.h"
#include "sysroot.h"

/* Deeper than any tree of cgroups */
#define MAX_DEPTH	128

/* The value of a line such as "longterm_pin 4096" in a file of the controller */
static bool value_of(struct cgroups *cgs, const char *folder, const char *file,
		     const char *key, uint64_t *value)
{
	char *text = sysroot_read(NULL, "%s/%s", folder, file), *at = text;
	bool found = false;
	char *line, *word;

	while (at && (line = strsep(&at, "\n"))) {
		word = strsep(&line, " ");
		if (strcmp(word, key) || !line)
			continue;
		if (!strcmp(line, "max")) {
			*value = CGROUP_MAX;
			found = true;
		} else {
			found = parse_number(line, value);
		}
		if (!found) {
			warnx("%s/%s: '%s' is not understood", folder, file,
			      key);
			cgs->broken++;
		}
		break;
	}
	free(text);
	return found;
}

static void cgroup_read(struct cgroups *cgs, const char *root,
			const char *folder)
{
	struct cgroup cg = { .max = CGROUP_MAX };
	const char *path = folder + strlen(root);

	if (!value_of(cgs, folder, "misc.current", "longterm_pin",
		      &cg.current))
		return;
	cgs->seen++;
	value_of(cgs, folder, "misc.max", "longterm_pin", &cg.max);
	value_of(cgs, folder, "misc.peak", "longterm_pin", &cg.peak);
	cg.counts = value_of(cgs, folder, "misc.events", "longterm_pin.max",
			     &cg.refused);
	if (!cg.current && cg.max == CGROUP_MAX && !cg.peak && !cg.refused)
		return;

	cg.path = *path ? escape(path, strlen(path)) : xstrdup("/");
	cgs->list = reallocarray(cgs->list, cgs->nr + 1, sizeof(cg));
	if (!cgs->list)
		err(2, "no memory");
	cgs->list[cgs->nr++] = cg;
}

static int by_name(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void tree_read(struct cgroups *cgs, const char *root,
		      const char *folder, unsigned int depth)
{
	char **names = NULL;
	struct dirent *entry;
	size_t nr = 0, i;
	DIR *dir;

	cgroup_read(cgs, root, folder);
	dir = depth ? sysroot_opendir(folder) : NULL;
	if (!dir)
		return;		/* removed meanwhile */
	while ((entry = readdir(dir))) {
		if (entry->d_type != DT_DIR || *entry->d_name == '.')
			continue;
		names = reallocarray(names, nr + 1, sizeof(*names));
		if (!names)
			err(2, "no memory");
		names[nr++] = xstrdup(entry->d_name);
	}
	closedir(dir);

	if (nr)
		qsort(names, nr, sizeof(*names), by_name);
	for (i = 0; i < nr; i++) {
		char *child = xasprintf("%s/%s", folder, names[i]);

		tree_read(cgs, root, child, depth - 1);
		free(child);
		free(names[i]);
	}
	free(names);
}

/* Where the unified hierarchy is mounted; systemd has it elsewhere beside v1's */
static char *cgroup_root(void)
{
	struct mounts m;
	char *root = NULL;

	if (mounts_read(&m, 0)) {
		root = mount_dir(&m, "cgroup2", 0);
		mounts_free(&m);
	}
	return root ?: xstrdup("/sys/fs/cgroup");
}

void cgroups_read(struct cgroups *cgs)
{
	char *root = cgroup_root();

	memset(cgs, 0, sizeof(*cgs));
	tree_read(cgs, root, root, MAX_DEPTH);
	free(root);
}

bool cgroup_exists(const char *path)
{
	char *root = cgroup_root();
	bool ret = sysroot_exists("%s%s%s", root, *path == '/' ? "" : "/", path);

	free(root);
	return ret;
}

/* Not out of the tree, which is another system's or a namespace's there */
static bool goes_up(const char *path)
{
	const char *at;

	for (at = path; (at = strstr(at, "..")); at++)
		if ((at == path || at[-1] == '/') && (!at[2] || at[2] == '/'))
			return true;
	return false;
}

/* False: it has no limit, or is not there */
static bool limit_read(struct cgroup *cg, const char *root, const char *path)
{
	char *folder = xasprintf("%s%s", root, path);
	struct cgroups told = { 0 };
	bool ret;

	*cg = (struct cgroup){ .max = CGROUP_MAX };
	ret = value_of(&told, folder, "misc.max", "longterm_pin", &cg->max) &&
	      cg->max != CGROUP_MAX &&
	      value_of(&told, folder, "misc.current", "longterm_pin",
		       &cg->current);
	free(folder);
	return ret;
}

static uint64_t room_in(const struct cgroup *cg)
{
	return cg->max > cg->current ? cg->max - cg->current : 0;
}

bool cgroup_tightest(struct cgroup *cg, const char *path)
{
	char *root = cgroup_root(), *at = xstrdup(path), *slash;
	struct cgroup one;
	bool found = false;

	/* From the deepest up; the root has no limit */
	while (!goes_up(path) && *at) {
		if (limit_read(&one, root, at) &&
		    (!found || room_in(&one) < room_in(cg))) {
			if (found)
				free(cg->path);
			*cg = one;
			cg->path = escape(at, strlen(at));
			found = true;
		}
		slash = strrchr(at, '/');
		*(slash ?: at) = '\0';
	}
	free(root);
	free(at);
	return found;
}

void cgroups_free(struct cgroups *cgs)
{
	size_t i;

	for (i = 0; i < cgs->nr; i++)
		free(cgs->list[i].path);
	free(cgs->list);
}
