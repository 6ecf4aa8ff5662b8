"""The life of the walker's worker threads as LLVM IR: how they are made, sleep, join a run, and end.

A run is open while `open` holds its epoch. A worker first counts itself `active`, then looks whether the run is still open; the
caller first closes the run, then waits until nobody is active: one of the two always sees the other.
Everything a pool knows is in its control block and changes in native code only, where no Python signal handler can interrupt.
"""

MOST_WORKERS = 1023
CONTROL_BYTES = 16384
IDLE_SPINS = 20000
"""How often an idle worker looks for the next run before it goes to sleep: about a fifth of a millisecond, enough for runs that follow
each other from Python. Waking a sleeping one costs up to a tenth of a millisecond, in which the first steps go at the speed of one thread.
"""

POOL = """
; each on a cache line of its own: 0 epoch (the futex), 1 sleepers, 2 active, 3 open, 4 busy, 5 the job, whether to stop, and
; the processor that the workers keep off, counted from 1; then 6 how many workers there are, 7 how many have taken their number,
; 8 their handles, 9 how many have been told to keep off
%line = type { i32, [60 x i8] }
%pool = type { %line, %line, %line, %line, %line, { ptr, i32, i32, [48 x i8] }, i64, i64, [$most_workers x i64], i64 }

declare i32 @sched_yield()
declare i64 @syscall(i64, ...)
declare i32 @pthread_create(ptr, ptr, ptr, ptr)
declare i32 @pthread_join(i64, ptr)
declare i32 @pthread_sigmask(i32, ptr, ptr)
declare i32 @sigfillset(ptr)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)
$declare_pause

define internal void @wake(ptr %pool) {
  %status = call i64 (i64, ...) @syscall(i64 $futex, ptr %pool, i32 129, i32 2147483647, ptr null, ptr null, i32 0)
  ret void
}

; wait until the 32 bits at %word are %value
define internal void @await(ptr %word, i32 %value) {
entry:
  br label %head
head:
  %spins = phi i64 [0, %entry], [%next, %spin], [%next, %yield]
  %now = load atomic i32, ptr %word seq_cst, align 4
  %met = icmp eq i32 %now, %value
  br i1 %met, label %done, label %wait
wait:
  $pause
  %next = add i64 %spins, 1
  %short = icmp slt i64 %next, $step_spins
  br i1 %short, label %spin, label %yield
spin:
  br label %head
yield:
  %status = call i32 @sched_yield()
  br label %head
done:
  ret void
}
"""

WORKER = """
define internal ptr @worker(ptr %pool) {
entry:
  %sleepers = getelementptr %pool, ptr %pool, i32 0, i32 1
  %active = getelementptr %pool, ptr %pool, i32 0, i32 2
  %open = getelementptr %pool, ptr %pool, i32 0, i32 3
  %place = getelementptr %pool, ptr %pool, i32 0, i32 5, i32 0
  %stop = getelementptr %pool, ptr %pool, i32 0, i32 5, i32 1
  %numbers = getelementptr %pool, ptr %pool, i32 0, i32 7
  %number = atomicrmw add ptr %numbers, i64 1 acq_rel
  %thread = add i64 %number, 1
  br label %idle
idle:
  %known = phi i32 [0, %entry], [%epoch, %leave]
  br label %look
look:
  %spins = phi i64 [0, %idle], [%next, %again]
  %seen = load atomic i32, ptr %pool acquire, align 4
  %new = icmp ne i32 %seen, %known
  br i1 %new, label %go, label %spin
spin:
  $pause
  %next = add i64 %spins, 1
  %short = icmp slt i64 %next, $idle_spins
  br i1 %short, label %again, label %sleep
again:
  br label %look
sleep:
  %asleep = atomicrmw add ptr %sleepers, i32 1 seq_cst
  br label %doze
doze:
  %woken = call i64 (i64, ...) @syscall(i64 $futex, ptr %pool, i32 128, i32 %known, ptr null, ptr null, i32 0)
  %found = load atomic i32, ptr %pool seq_cst, align 4
  %changed = icmp ne i32 %found, %known
  br i1 %changed, label %awake, label %doze
awake:
  %rising = atomicrmw sub ptr %sleepers, i32 1 seq_cst
  br label %go
go:
  %stopped = load atomic i32, ptr %stop acquire, align 4
  %end = icmp ne i32 %stopped, 0
  br i1 %end, label %done, label %join
join:
  %epoch = load atomic i32, ptr %pool acquire, align 4
  %joined = atomicrmw add ptr %active, i32 1 seq_cst
  %running = load atomic i32, ptr %open seq_cst, align 4
  %in = icmp eq i32 %running, %epoch
  br i1 %in, label %ask, label %leave
ask:
  %job = load ptr, ptr %place
  %field = getelementptr %job, ptr %job, i32 0, i32 4
  %threads = load i64, ptr %field
  %wanted = icmp slt i64 %thread, %threads
  br i1 %wanted, label %work, label %leave
work:
  call void @walk(ptr %job, i64 %thread, ptr null)
  br label %leave
leave:
  %left = atomicrmw sub ptr %active, i32 1 seq_cst
  br label %idle
done:
  ret ptr null
}
"""

LIFE = """
; make workers until there are %wanted, all signals blocked in them; a system that refuses leaves the run with fewer
define internal void @hire(ptr %pool, i64 %wanted) {
entry:
  %every = alloca [16 x i64]
  %old = alloca [16 x i64]
  %place = getelementptr %pool, ptr %pool, i32 0, i32 6
  %have = load i64, ptr %place
  %enough = icmp sge i64 %have, %wanted
  br i1 %enough, label %done, label %block
block:
  %filled = call i32 @sigfillset(ptr %every)
  %blocked = call i32 @pthread_sigmask(i32 2, ptr %every, ptr %old)
  br label %head
head:
  %count = phi i64 [%have, %block], [%next, %made]
  %more = icmp slt i64 %count, %wanted
  br i1 %more, label %create, label %restore
create:
  %handle = getelementptr %pool, ptr %pool, i32 0, i32 8, i64 %count
  %status = call i32 @pthread_create(ptr %handle, ptr null, ptr @worker, ptr %pool)
  %failed = icmp ne i32 %status, 0
  br i1 %failed, label %restore, label %made
made:
  %next = add i64 %count, 1
  store i64 %next, ptr %place
  br label %head
restore:
  %restored = call i32 @pthread_sigmask(i32 2, ptr %old, ptr null)
  br label %done
done:
  ret void
}

; take the pool when it is free, then end all workers and wait for them; the pool stays taken, so that runs go alone
define void @tilewright_stop(ptr %pool) {
entry:
  %busy = getelementptr %pool, ptr %pool, i32 0, i32 4
  %stop = getelementptr %pool, ptr %pool, i32 0, i32 5, i32 1
  %workers = getelementptr %pool, ptr %pool, i32 0, i32 6
  %numbers = getelementptr %pool, ptr %pool, i32 0, i32 7
  br label %try
try:
  call void @await(ptr %busy, i32 0)
  %pair = cmpxchg ptr %busy, i32 0, i32 1 acquire monotonic
  %taken = extractvalue { i32, i1 } %pair, 1
  br i1 %taken, label %end, label %try
end:
  store atomic i32 1, ptr %stop seq_cst, align 4
  %epoch = atomicrmw add ptr %pool, i32 1 seq_cst
  call void @wake(ptr %pool)
  %count = load i64, ptr %workers
  br label %head
head:
  %index = phi i64 [0, %end], [%next, %join]
  %more = icmp slt i64 %index, %count
  br i1 %more, label %join, label %forget
join:
  %place = getelementptr %pool, ptr %pool, i32 0, i32 8, i64 %index
  %handle = load i64, ptr %place
  %status = call i32 @pthread_join(i64 %handle, ptr null)
  %next = add i64 %index, 1
  br label %head
forget:
  %placed = getelementptr %pool, ptr %pool, i32 0, i32 9
  store i64 0, ptr %placed
  store i64 0, ptr %workers
  store i64 0, ptr %numbers
  store atomic i32 0, ptr %stop seq_cst, align 4
  ret void
}

; the pool may be used again; the next run makes new workers
define void @tilewright_release(ptr %pool) {
  %busy = getelementptr %pool, ptr %pool, i32 0, i32 4
  store atomic i32 0, ptr %busy release, align 4
  ret void
}
"""

LEAD = """
define internal void @lead(ptr %pool, ptr %job) {
entry:
  %sleepers = getelementptr %pool, ptr %pool, i32 0, i32 1
  %active = getelementptr %pool, ptr %pool, i32 0, i32 2
  %open = getelementptr %pool, ptr %pool, i32 0, i32 3
  %place = getelementptr %pool, ptr %pool, i32 0, i32 5, i32 0
  %work = load %job, ptr %job
  %count = extractvalue %job %work, 1
  %counters = extractvalue %job %work, 3
  %threads = extractvalue %job %work, 4
  %times = extractvalue %job %work, 5
  %lines = add i64 %threads, 1
  %stride = shl i64 %lines, 6
  %bytes = mul i64 %count, %stride
  call void @llvm.memset.p0.i64(ptr %counters, i8 0, i64 %bytes, i1 0)
  store ptr %job, ptr %place
  %epoch = load i32, ptr %pool
  %plus = add i32 %epoch, 1
  %zero = icmp eq i32 %plus, 0
  %new = select i1 %zero, i32 1, i32 %plus
  call void @stamp(ptr %times, i64 0)
  store atomic i32 %new, ptr %open seq_cst, align 4
  store atomic i32 %new, ptr %pool seq_cst, align 4
  %asleep = load atomic i32, ptr %sleepers seq_cst, align 4
  %any = icmp ne i32 %asleep, 0
  br i1 %any, label %call, label %go
call:
  call void @wake(ptr %pool)
  br label %go
go:
  call void @walk(ptr %job, i64 0, ptr %times)
  store atomic i32 0, ptr %open seq_cst, align 4
  call void @await(ptr %active, i32 0)
  ret void
}

define void @tilewright_run(ptr %pool, ptr %steps, i64 %count, ptr %bases, ptr %counters, i64 %threads, ptr %times) {
entry:
  %job = alloca %job
  %a = insertvalue %job poison, ptr %steps, 0
  %b = insertvalue %job %a, i64 %count, 1
  %c = insertvalue %job %b, ptr %bases, 2
  %d = insertvalue %job %c, ptr %counters, 3
  %e = insertvalue %job %d, i64 %threads, 4
  %f = insertvalue %job %e, ptr %times, 5
  store %job %f, ptr %job
  %several = icmp sgt i64 %threads, 1
  br i1 %several, label %ask, label %alone
ask:
  %busy = getelementptr %pool, ptr %pool, i32 0, i32 4
  %pair = cmpxchg ptr %busy, i32 0, i32 1 acquire monotonic
  %taken = extractvalue { i32, i1 } %pair, 1
  br i1 %taken, label %together, label %alone
together:
  %workers = sub i64 %threads, 1
  call void @hire(ptr %pool, i64 %workers)
  call void @spread(ptr %pool)
  call void @lead(ptr %pool, ptr %job)
  call void @tilewright_release(ptr %pool)
  ret void
alone:
  call void @walk_alone(ptr %job)
  ret void
}
"""
