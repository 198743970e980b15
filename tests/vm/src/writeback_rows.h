/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The functions of the rows of writeback, by the files that have them. Each is a case: it
 * runs with the file open and mapped, and says how that ends. What differs between the
 * rows of one function is in @how.
 */
#ifndef USERPIN_WRITEBACK_ROWS_H
#define USERPIN_WRITEBACK_ROWS_H

/* writeback_sync.c: what the device writes is not lost, and is on the disk after a sync */
const char *lost(void);
const char *fsync_while_pinned(void);
const char *vhost_scsi(void);
const char *overlay(void);
const char *stale(void);
const char *file_to_file(void);
const char *swap_file(void);

/* writeback_remap.c: blocks of the file are cloned, compared, exchanged or moved */
const char *clone_before(void);
const char *clone_in_submit(void);
const char *clone_after(void);
const char *dedupe(void);
const char *dedupe_done(void);
const char *shift(void);
const char *move(void);
const char *exchange(void);
const char *swap_extents(void);
const char *swap_boot(void);

/* writeback_parts.c: somebody else writes to a part of a page or folio, takes it, or cuts it off */
const char *buffers(void);
const char *beside(void);
const char *clone_beside(void);
const char *pin_in_write(void);
const char *cut(void);
const char *cut_arrived(void);

/* writeback_umount.c: the file system is full, frozen, read-only, shut down or unmounted */
const char *full(void);
const char *room_never(void);
const char *frozen(void);
const char *frozen_immutable(void);
const char *frozen_aio(void);
const char *unmounted(void);
const char *remounted(void);
const char *remounted_at_once(void);
const char *shut_down(void);
const char *shut_down_many(void);
const char *locked(void);

/* writeback_in_flight.c: the device writes, or pins, while the page is being written */
const char *in_flight(void);
const char *in_flight_pi(void);
const char *in_flight_zoned(void);
const char *in_flight_crash(void);
const char *checkpoint(void);
const char *of_cgroup(void);
const char *compressed(void);
const char *pin_waits(void);
const char *copies_without_memory(void);
const char *no_memory(void);

/* writeback_race.c: many pins and reads race with writeback */
const char *loop(void);
const char *race(void);
const char *race_read(void);

#endif
