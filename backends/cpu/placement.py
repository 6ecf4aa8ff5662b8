"""Where the walker's workers run, as LLVM IR: on any processor that the process may use, but not on the caller's."""

SPREAD = """
declare i32 @sched_getcpu()
declare i32 @sched_getaffinity(i32, i64, ptr)
declare i32 @pthread_setaffinity_np(i64, i64, ptr)
declare i64 @llvm.vector.reduce.or.v16i64(<16 x i64>)

; keep the workers off the caller's processor: woken after a rest, a worker is often put there, and waits behind the caller for
; milliseconds while another processor idles
define internal void @spread(ptr %pool) {
entry:
  %mask = alloca [16 x i64]
  %avoided = getelementptr %pool, ptr %pool, i32 0, i32 5, i32 2
  %workers = getelementptr %pool, ptr %pool, i32 0, i32 6
  %placed = getelementptr %pool, ptr %pool, i32 0, i32 9
  %processor = call i32 @sched_getcpu()
  %number = add i32 %processor, 1
  %before = load i32, ptr %avoided
  %count = load i64, ptr %workers
  %told = load i64, ptr %placed
  %stayed = icmp eq i32 %number, %before
  %all = icmp eq i64 %count, %told
  %known = and i1 %stayed, %all
  %small = icmp ult i32 %processor, 1024
  %new = xor i1 %known, true
  %look = and i1 %new, %small
  br i1 %look, label %ask, label %done
ask:
  store i32 %number, ptr %avoided
  store i64 %count, ptr %placed
  call void @llvm.memset.p0.i64(ptr %mask, i8 0, i64 128, i1 0)
  %status = call i32 @sched_getaffinity(i32 0, i64 128, ptr %mask)
  %index = lshr i32 %processor, 6
  %word = getelementptr i64, ptr %mask, i32 %index
  %bits = load i64, ptr %word
  %low = and i32 %processor, 63
  %shift = zext i32 %low to i64
  %bit = shl i64 1, %shift
  %keep = xor i64 %bit, -1
  %left = and i64 %bits, %keep
  store i64 %left, ptr %word
  %wide = load <16 x i64>, ptr %mask, align 8
  %any = call i64 @llvm.vector.reduce.or.v16i64(<16 x i64> %wide)
  %others = icmp ne i64 %any, 0
  br i1 %others, label %head, label %done
head:
  %worker = phi i64 [0, %ask], [%next, %tell]
  %more = icmp slt i64 %worker, %count
  br i1 %more, label %tell, label %done
tell:
  %place = getelementptr %pool, ptr %pool, i32 0, i32 8, i64 %worker
  %handle = load i64, ptr %place
  %moved = call i32 @pthread_setaffinity_np(i64 %handle, i64 128, ptr %mask)
  %next = add i64 %worker, 1
  br label %head
done:
  ret void
}
"""
