/* SPDX-License-Identifier: GPL-2.0 */
#undef TRACE_SYSTEM
#define TRACE_SYSTEM user_pages

#if !defined(_TRACE_USER_PAGES_H) || defined(TRACE_HEADER_MULTI_READ)
#define _TRACE_USER_PAGES_H

#include <linux/tracepoint.h>

/*
 * All counts are in pages; charge and held are those of the whole ledger. Names
 * are longterm_*: each event is a function trace_NAME() of the whole kernel.
 */

TRACE_EVENT(longterm_pin,
	TP_PROTO(const char *holder, unsigned long start, unsigned long npages,
		 unsigned long charge, unsigned long held),
	TP_ARGS(holder, start, npages, charge, held),

	TP_STRUCT__entry(
		__string(holder, holder)
		__field(unsigned long, start)
		__field(unsigned long, npages)
		__field(unsigned long, charge)
		__field(unsigned long, held)
	),

	TP_fast_assign(
		__assign_str(holder);
		__entry->start = start;
		__entry->npages = npages;
		__entry->charge = charge;
		__entry->held = held;
	),

	TP_printk("holder=%s start=0x%lx npages=%lu charge=%lu held=%lu",
		  __get_str(holder), __entry->start, __entry->npages,
		  __entry->charge, __entry->held)
);

TRACE_EVENT(longterm_put,
	TP_PROTO(const char *holder, unsigned long npages, unsigned long charge,
		 unsigned long held),
	TP_ARGS(holder, npages, charge, held),

	TP_STRUCT__entry(
		__string(holder, holder)
		__field(unsigned long, npages)
		__field(unsigned long, charge)
		__field(unsigned long, held)
	),

	TP_fast_assign(
		__assign_str(holder);
		__entry->npages = npages;
		__entry->charge = charge;
		__entry->held = held;
	),

	TP_printk("holder=%s npages=%lu charge=%lu held=%lu",
		  __get_str(holder), __entry->npages, __entry->charge,
		  __entry->held)
);

TRACE_EVENT(longterm_refuse,
	TP_PROTO(const char *holder, unsigned long start, unsigned long npages,
		 const char *reason, int err),
	TP_ARGS(holder, start, npages, reason, err),

	TP_STRUCT__entry(
		__string(holder, holder)
		__field(unsigned long, start)
		__field(unsigned long, npages)
		__string(reason, reason)
		__field(int, err)
	),

	TP_fast_assign(
		__assign_str(holder);
		__entry->start = start;
		__entry->npages = npages;
		__assign_str(reason);
		__entry->err = err;
	),

	TP_printk("holder=%s start=0x%lx npages=%lu reason=%s err=%d",
		  __get_str(holder), __entry->start, __entry->npages,
		  __get_str(reason), __entry->err)
);

#endif /* _TRACE_USER_PAGES_H */

#include <trace/define_trace.h>
