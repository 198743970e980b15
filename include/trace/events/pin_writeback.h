/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM pin_writeback

#if !defined(_TRACE_PIN_WRITEBACK_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_PIN_WRITEBACK_H

#include <linux/fs.h>
#include <linux/kdev_t.h>
#include <linux/mm.h>
#include <linux/tracepoint.h>

/* The file is told by device and inode number; index and npages are in pages */

TRACE_EVENT(pin_noted,
	TP_PROTO(struct folio *folio),
	TP_ARGS(folio),

	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(unsigned long, index)
		__field(unsigned long, npages)
	),

	TP_fast_assign(
		struct inode *inode = folio->mapping->host;

		__entry->dev = inode->i_sb->s_dev;
		__entry->ino = inode->i_ino;
		__entry->index = folio->index;
		__entry->npages = folio_nr_pages(folio);
	),

	TP_printk("dev=%d:%d ino=%llu index=%lu npages=%lu", MAJOR(__entry->dev),
		  MINOR(__entry->dev), __entry->ino, __entry->index, __entry->npages)
);

TRACE_EVENT(pin_noticed,
	TP_PROTO(struct inode *inode, struct folio *folio, int error),
	TP_ARGS(inode, folio, error),

	TP_STRUCT__entry(
		__field(dev_t, dev)
		__field(u64, ino)
		__field(unsigned long, index)
		__field(unsigned long, npages)
		__field(int, error)
	),

	TP_fast_assign(
		__entry->dev = inode->i_sb->s_dev;
		__entry->ino = inode->i_ino;
		__entry->index = folio->index;
		__entry->npages = folio_nr_pages(folio);
		__entry->error = error;
	),

	TP_printk("dev=%d:%d ino=%llu index=%lu npages=%lu error=%d", MAJOR(__entry->dev),
		  MINOR(__entry->dev), __entry->ino, __entry->index, __entry->npages,
		  __entry->error)
);

#endif

#include <trace/define_trace.h>
