"""The walker as LLVM IR: goes through a table of steps with one native call, alone or together with a pool of native threads.

A step is done in units. Each thread owns a range of them, so that it meets the same data again in the next step; it claims its
range in grains with an atomic addition, then steals from the ranges of the others. A step is over when its counter of finished
units is full. There is no barrier: nobody ever waits for a thread that holds no grain, so a late worker costs nothing.
"""

from __future__ import annotations

import dataclasses as dc
import time
from string import Template

from .placement import SPREAD
from .target import Target
from .workers import IDLE_SPINS, LEAD, LIFE, MOST_WORKERS, POOL, WORKER

STEP_SPINS = 10000
"""How often a thread looks whether a step is over before it offers its processor to others: about a tenth of a millisecond.

Beside busy processes a thread that offers too early loses whole time slices at every step.
"""


@dc.dataclass(frozen=True)
class Walker:
    """A kernel in the sense of codegen: `symbol(pool, steps, count, bases, counters, threads, times)` does the steps.

    times: null, or room for (seconds, nanoseconds) before the first step and after each.
    With workers, `tilewright_stop(pool)` ends them and keeps the pool taken, `tilewright_release(pool)` gives it back.
    """

    workers: bool
    """Whether this system has the threads and futexes of Linux; without them the caller always walks alone."""

    @property
    def symbol(self) -> str:
        return "tilewright_run" if self.workers else "tilewright_run_alone"

    @property
    def exports(self) -> tuple[str, ...]:
        return ("tilewright_stop", "tilewright_release") if self.workers else ()

    def emit(self, target: Target) -> str:
        parts = TYPES + ALONE + (POOL + TOGETHER + WORKER + LIFE + SPREAD + LEAD if self.workers else RUN_ALONE)
        x86 = target.architecture == "x86_64"
        return Template(parts).substitute(
            pause="call void @llvm.x86.sse2.pause()" if x86 else "call void @llvm.aarch64.hint(i32 1)",
            declare_pause="declare void @llvm.x86.sse2.pause()" if x86 else "declare void @llvm.aarch64.hint(i32)",
            clock=time.CLOCK_MONOTONIC,
            futex=202 if x86 else 98,
            idle_spins=IDLE_SPINS,
            step_spins=STEP_SPINS,
            most_workers=MOST_WORKERS,
        )


TYPES = """
; kernel, arguments, units, grain
%step = type { ptr, ptr, i64, i64 }
; steps, count, bases, counters, threads, times
%job = type { ptr, i64, ptr, ptr, i64, ptr }

declare i32 @clock_gettime(i32, ptr)

define internal void @stamp(ptr %times, i64 %index) {
entry:
  %none = icmp eq ptr %times, null
  br i1 %none, label %done, label %take
take:
  %time = getelementptr { i64, i64 }, ptr %times, i64 %index
  %status = call i32 @clock_gettime(i32 $clock, ptr %time)
  br label %done
done:
  ret void
}
"""

ALONE = """
define internal void @walk_alone(ptr %job) {
entry:
  %work = load %job, ptr %job
  %steps = extractvalue %job %work, 0
  %count = extractvalue %job %work, 1
  %bases = extractvalue %job %work, 2
  %times = extractvalue %job %work, 5
  call void @stamp(ptr %times, i64 0)
  br label %head
head:
  %index = phi i64 [0, %entry], [%next, %over]
  %more = icmp slt i64 %index, %count
  br i1 %more, label %body, label %done
body:
  %place = getelementptr %step, ptr %steps, i64 %index
  %step = load %step, ptr %place
  %kernel = extractvalue %step %step, 0
  %args = extractvalue %step %step, 1
  %units = extractvalue %step %step, 2
  %any = icmp sgt i64 %units, 0
  br i1 %any, label %call, label %over
call:
  call void %kernel(ptr %args, ptr %bases, i64 0, i64 %units, i64 0)
  br label %over
over:
  %next = add i64 %index, 1
  call void @stamp(ptr %times, i64 %next)
  br label %head
done:
  ret void
}
"""

RUN_ALONE = """
define void @tilewright_run_alone(ptr %pool, ptr %steps, i64 %count, ptr %bases, ptr %counters, i64 %threads, ptr %times) {
  %job = alloca %job
  %a = insertvalue %job poison, ptr %steps, 0
  %b = insertvalue %job %a, i64 %count, 1
  %c = insertvalue %job %b, ptr %bases, 2
  %d = insertvalue %job %c, ptr %counters, 3
  %e = insertvalue %job %d, i64 %threads, 4
  %f = insertvalue %job %e, ptr %times, 5
  store %job %f, ptr %job
  call void @walk_alone(ptr %job)
  ret void
}
"""

TOGETHER = """
; counters: for each step one cache line a thread with the units claimed of its range, and one with the units finished.
; A step of one grain has one range that belongs to nobody: whoever comes first does it.
define internal void @walk(ptr %job, i64 %thread, ptr %times) {
entry:
  %work = load %job, ptr %job
  %steps = extractvalue %job %work, 0
  %count = extractvalue %job %work, 1
  %bases = extractvalue %job %work, 2
  %counters = extractvalue %job %work, 3
  %threads = extractvalue %job %work, 4
  %lines = add i64 %threads, 1
  %stride = shl i64 %lines, 6
  %last = shl i64 %threads, 6
  br label %head
head:
  %index = phi i64 [0, %entry], [%following, %over]
  %more = icmp slt i64 %index, %count
  br i1 %more, label %body, label %done
body:
  %place = getelementptr %step, ptr %steps, i64 %index
  %step = load %step, ptr %place
  %kernel = extractvalue %step %step, 0
  %args = extractvalue %step %step, 1
  %units = extractvalue %step %step, 2
  %grain = extractvalue %step %step, 3
  %offset = mul i64 %index, %stride
  %claims = getelementptr i8, ptr %counters, i64 %offset
  %finished = getelementptr i8, ptr %claims, i64 %last
  %whole = icmp sge i64 %grain, %units
  %ranges = select i1 %whole, i64 1, i64 %threads
  %own = select i1 %whole, i64 0, i64 %thread
  %round = sub i64 %ranges, 1
  br label %visit
visit:
  %visited = phi i64 [0, %body], [%visits, %leave]
  %sum = add i64 %own, %visited
  %past = icmp sge i64 %sum, %ranges
  %wrapped = sub i64 %sum, %ranges
  %owner = select i1 %past, i64 %wrapped, i64 %sum
  %product = mul i64 %units, %owner
  %low = add i64 %product, %round
  %first = udiv i64 %low, %ranges
  %high = add i64 %low, %units
  %end = udiv i64 %high, %ranges
  %size = sub i64 %end, %first
  %skip = shl i64 %owner, 6
  %claim = getelementptr i8, ptr %claims, i64 %skip
  br label %look
look:
  %taken = load atomic i64, ptr %claim monotonic, align 8
  %empty = icmp sge i64 %taken, %size
  br i1 %empty, label %leave, label %take
take:
  %mine = atomicrmw add ptr %claim, i64 %grain acq_rel
  %left = icmp slt i64 %mine, %size
  br i1 %left, label %do, label %leave
do:
  %from = add i64 %first, %mine
  %until = add i64 %from, %grain
  %beyond = icmp sgt i64 %until, %end
  %to = select i1 %beyond, i64 %end, i64 %until
  call void %kernel(ptr %args, ptr %bases, i64 %from, i64 %to, i64 %thread)
  %did = sub i64 %to, %from
  %before = atomicrmw add ptr %finished, i64 %did acq_rel
  br label %look
leave:
  %visits = add i64 %visited, 1
  %others = icmp slt i64 %visits, %ranges
  br i1 %others, label %visit, label %wait
wait:
  %spins = phi i64 [0, %leave], [%spun, %spin], [%spun, %yield]
  %ready = load atomic i64, ptr %finished acquire, align 8
  %full = icmp sge i64 %ready, %units
  br i1 %full, label %over, label %rest
rest:
  $pause
  %spun = add i64 %spins, 1
  %short = icmp slt i64 %spun, $step_spins
  br i1 %short, label %spin, label %yield
spin:
  br label %wait
yield:
  %status = call i32 @sched_yield()
  br label %wait
over:
  %following = add i64 %index, 1
  call void @stamp(ptr %times, i64 %following)
  br label %head
done:
  ret void
}
"""
