// Memory that ends at guard pages, and stacks to switch between: by a few instructions on x86-64, by the C library elsewhere.
#pragma once
#include <cstddef>
#include <sys/mman.h>
#ifndef __x86_64__
#include <ucontext.h>
#endif

namespace emulator {

const size_t STACK = 128 * 1024, PAGE = 4096;

// Where something goes on that runs on a stack of its own.
struct Context {
#ifdef __x86_64__
  void* stack_pointer;
#else
  ucontext_t registers;
#endif
};

#ifdef __x86_64__
// noipa: otherwise gcc keeps values in registers across the call that it knows this function not to name.
__attribute__((naked, noinline, noipa)) static void switch_stacks(void**, void*) {
  asm volatile(
      "pushq %rbp; pushq %rbx; pushq %r12; pushq %r13; pushq %r14; pushq %r15;"
      "movq %rsp, (%rdi); movq %rsi, %rsp;"
      "popq %r15; popq %r14; popq %r13; popq %r12; popq %rbx; popq %rbp; ret");
}
static void change(Context& from, Context& to) { switch_stacks(&from.stack_pointer, to.stack_pointer); }
#else
static void change(Context& from, Context& to) { swapcontext(&from.registers, &to.registers); }
#endif

// The context starts with `entry`, which never returns, on an empty stack.
static void start(Context& context, char* stack, void (*entry)()) {
#ifdef __x86_64__
  void** top = (void**)(stack + STACK) - 1;   // a function expects to be entered 8 bytes off a multiple of 16
  *--top = (void*)entry;
  for (int i = 0; i < 6; i++) *--top = nullptr;
  context.stack_pointer = top;
#else
  getcontext(&context.registers);
  context.registers.uc_stack.ss_sp = stack;
  context.registers.uc_stack.ss_size = STACK;
  context.registers.uc_link = nullptr;
  makecontext(&context.registers, entry, 0);
#endif
}

// Below it lies a page without access.
static char* new_stack() {
  char* start = (char*)mmap(nullptr, STACK + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  mprotect(start, PAGE, PROT_NONE);
  return start + PAGE;
}
static void free_stack(char* stack) { munmap(stack - PAGE, STACK + PAGE); }

// Memory that ends, up to alignment, where a page without access begins; another one lies in front of it.
static unsigned char* guarded(size_t bytes) {
  size_t room = (bytes + PAGE - 1) / PAGE * PAGE;
  char* start = (char*)mmap(nullptr, room + 2 * PAGE, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
  mprotect(start + PAGE, room, PROT_READ | PROT_WRITE);
  return (unsigned char*)start + PAGE + room - (bytes + 127) / 128 * 128;
}

}  // namespace emulator
