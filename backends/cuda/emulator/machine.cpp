// An emulated multiprocessor: runs kernels that were compiled as C++, one fiber for each thread, and notices what a GPU would not say.
#include "machine.h"
#include "stacks.h"

#include <csetjmp>
#include <csignal>
#include <cstdarg>
#include <cstdint>
#include <cstdio>
#include <cstring>
#include <utility>
#include <vector>

namespace {

using namespace emulator;

const size_t RESIDENT = 3;
const unsigned WARP = 32;
const long MOST_PAUSES = 20'000'000;

enum Order { FORWARD, REVERSE, RANDOM, PRIORITY };
enum State { READY, AT_BARRIER, AT_COLLECTIVE, DONE };

struct Copy { void* to; const void* from; int bytes, valid; };

struct Fiber {
  Context context;
  char* stack;
  Index index;
  unsigned number;
  State state;
  int line;
  Collective operation;
  void* argument;
  std::vector<Copy> copies;
  std::vector<size_t> groups;   // how many copies each closed group ends after
};

struct Block {
  Index index;
  unsigned char* shared;
  std::vector<Fiber> fibers;
  bool live;
};

struct Launch {
  void (*kernel)(void**);
  void** pointers;
  unsigned threads;
  size_t shared_bytes;
  Order order;
  bool lazy;
};

Machine machine;
Launch launch;
Block blocks[RESIDENT];
Fiber* running;
Block* running_block;
long pauses;
uint32_t random_state;
char* message;
size_t message_bytes;
uintptr_t fault_address;
sigjmp_buf end_of_launch;
Context scheduler;

uint32_t next_random() {
  random_state = random_state * 1664525u + 1013904223u;
  return random_state >> 8;
}

[[noreturn]] void stop(const char* format, ...) {
  char text[400];
  va_list values;
  va_start(values, format);
  vsnprintf(text, sizeof text, format, values);
  va_end(values);
  Index b = machine.block, t = machine.thread;
  if (running) snprintf(message, message_bytes, "%s in thread (%u, %u, %u) of block (%u, %u, %u)", text, t.x, t.y, t.z, b.x, b.y, b.z);
  else snprintf(message, message_bytes, "%s in block (%u, %u, %u)", text, b.x, b.y, b.z);
  siglongjmp(end_of_launch, 1);
}

// ---- fibers

void leave() { change(running->context, scheduler); }

void live() {
  launch.kernel(launch.pointers);
  running->state = DONE;
  leave();
}

void prepare(Fiber& fiber) {
  fiber.state = READY;
  fiber.copies.clear();
  fiber.groups.clear();
  start(fiber.context, fiber.stack, live);
}

void run(Block& block, Fiber& fiber) {
  running = &fiber;
  running_block = &block;
  machine.thread = fiber.index;
  machine.number = fiber.number;
  machine.block = block.index;
  machine.shared = block.shared;
  change(scheduler, fiber.context);
  running = nullptr;
}

// ---- what a kernel calls

void wait(State state, int line) {
  running->state = state;
  running->line = line;
  leave();
}
void wait_for_block(int line) { wait(AT_BARRIER, line); }
void wait_for_warp(Collective operation, int line, void* argument) {
  running->operation = operation;
  running->argument = argument;
  wait(AT_COLLECTIVE, line);
}
void let_others_run() {
  if (++pauses > MOST_PAUSES) stop("no progress: threads wait for each other in loops");
  leave();
}
void fail(const char* text, int line) {
  if (line) stop("%s, line %d,", text, line);
  stop("%s", text);
}

void carry_out(const Copy& copy) {
  memcpy(copy.to, copy.from, copy.valid);
  memset((char*)copy.to + copy.valid, 0, copy.bytes - copy.valid);
}
void copy(void* to, const void* from, int bytes, int valid) {
  unsigned char *start = machine.shared, *end = start + launch.shared_bytes;
  if ((unsigned char*)to < start || (unsigned char*)to + bytes > end) stop("cp_async to outside the block's %zu bytes of shared memory", launch.shared_bytes);
  Copy asked = {to, from, bytes, valid};
  if (launch.lazy) running->copies.push_back(asked);
  else carry_out(asked);
}
void commit() { running->groups.push_back(running->copies.size()); }
void wait_for_copies(int pending) {
  Fiber& own = *running;
  if (own.groups.size() <= (size_t)pending) return;
  size_t closed = own.groups.size() - pending, done = own.groups[closed - 1];
  for (size_t i = 0; i < done; i++) carry_out(own.copies[i]);
  own.copies.erase(own.copies.begin(), own.copies.begin() + done);
  own.groups.erase(own.groups.begin(), own.groups.begin() + closed);
  for (size_t& end : own.groups) end -= done;
}

// ---- one warp, one block, several resident blocks

int lanes_of(unsigned warp) { return std::min(WARP, launch.threads - warp * WARP); }

// Lets every lane that can go on do so until it waits; then does what they wait for together.
void run_warp(Block& block, unsigned warp) {
  Fiber* lanes = &block.fibers[warp * WARP];
  int count = lanes_of(warp), order[WARP], arrived = 0;
  for (int i = 0; i < count; i++) order[i] = launch.order == REVERSE ? count - 1 - i : i;
  if (launch.order >= RANDOM)
    for (int i = count - 1; i > 0; i--) std::swap(order[i], order[next_random() % (i + 1)]);
  for (int i = 0; i < count; i++)
    if (lanes[order[i]].state == READY) run(block, lanes[order[i]]);
  for (int i = 0; i < count; i++) {
    if (lanes[i].state == READY) return;
    arrived += lanes[i].state == AT_COLLECTIVE;
  }
  if (!arrived) return;
  Fiber* first = lanes;
  while (first->state != AT_COLLECTIVE) first++;
  if (arrived != count) stop("only %d of %d lanes of a warp arrive at line %d, where they act together,", arrived, count, first->line);
  void* arguments[WARP];
  for (int i = 0; i < count; i++) {
    if (lanes[i].operation != first->operation || lanes[i].line != first->line)
      stop("lanes of a warp act together at different lines, %d and %d,", first->line, lanes[i].line);
    arguments[i] = lanes[i].argument;
  }
  first->operation(arguments, count);
  for (int i = 0; i < count; i++) lanes[i].state = READY;
}

// When all threads of a block have stopped: opens the barrier, or ends the block.
void release(Block& block) {
  unsigned waiting = 0, done = 0;
  for (Fiber& fiber : block.fibers) {
    waiting += fiber.state == AT_BARRIER;
    done += fiber.state == DONE;
  }
  if (waiting + done < launch.threads) return;
  if (!waiting) {
    block.live = false;
    return;
  }
  machine.block = block.index;
  Fiber* first = &block.fibers[0];
  while (first->state != AT_BARRIER) first++;
  if (done) stop("%u threads have ended while %u wait at the barrier of line %d", done, waiting, first->line);
  for (Fiber& fiber : block.fibers)
    if (fiber.line != first->line) stop("threads wait at different barriers, of lines %d and %d,", first->line, fiber.line);
  for (Fiber& fiber : block.fibers) fiber.state = READY;
}

bool can_run(Block& block, unsigned warp) {
  for (int i = 0; i < lanes_of(warp); i++)
    if (block.fibers[warp * WARP + i].state == READY) return true;
  return false;
}

void run_blocks(unsigned count) {
  unsigned warps = (launch.threads + WARP - 1) / WARP;
  static std::vector<std::pair<unsigned, unsigned>> able;
  static std::vector<uint32_t> priority;
  priority.resize(count * warps);
  for (uint32_t& one : priority) one = next_random();
  for (;;) {
    able.clear();
    for (unsigned b = 0; b < count; b++)
      for (unsigned w = 0; blocks[b].live && w < warps; w++)
        if (can_run(blocks[b], w)) able.push_back({b, w});
    if (able.empty()) return;
    auto chosen = launch.order == FORWARD ? able.front() : launch.order == REVERSE ? able.back() : able[next_random() % able.size()];
    if (launch.order == PRIORITY)   // some warps wait as long as they can
      for (auto one : able)
        if (priority[one.first * warps + one.second] > priority[chosen.first * warps + chosen.second]) chosen = one;
    long before = pauses;
    run_warp(blocks[chosen.first], chosen.second);
    if (pauses > before) priority[chosen.first * warps + chosen.second] = next_random();
    release(blocks[chosen.first]);
  }
}

// ---- launching

void make_room(const unsigned* extent, size_t shared_bytes) {
  static size_t shared_room = 0;
  for (Block& block : blocks) {
    if (!block.shared || shared_room != shared_bytes) block.shared = guarded(shared_bytes);
    size_t had = block.fibers.size();
    for (size_t i = launch.threads; i < had; i++) free_stack(block.fibers[i].stack);
    block.fibers.resize(launch.threads);
    for (unsigned i = 0; i < launch.threads; i++) {
      Fiber& fiber = block.fibers[i];
      if (i >= had) fiber.stack = new_stack();
      fiber.number = i;
      fiber.index = {i % extent[0], i / extent[0] % extent[1], i / (extent[0] * extent[1])};
    }
  }
  shared_room = shared_bytes;
}

void run_grid(const unsigned* grid, uint32_t seed) {
  unsigned count = grid[0] * grid[1] * grid[2], resident = launch.order >= RANDOM ? RESIDENT : 1;
  std::vector<unsigned> order(count);
  for (unsigned i = 0; i < count; i++) order[i] = launch.order == REVERSE ? count - 1 - i : i;
  random_state = seed * 2654435761u + 12345u;
  if (launch.order >= RANDOM)
    for (unsigned i = count - 1; i > 0; i--) std::swap(order[i], order[next_random() % (i + 1)]);
  for (unsigned first = 0; first < count; first += resident) {
    unsigned together = std::min(resident, count - first);
    for (unsigned i = 0; i < together; i++) {
      unsigned number = order[first + i];
      blocks[i].index = {number % grid[0], number / grid[0] % grid[1], number / (grid[0] * grid[1])};
      blocks[i].live = true;
      memset(blocks[i].shared, 0xFF, (launch.shared_bytes + 127) / 128 * 128);   // NaN in every format
      for (Fiber& fiber : blocks[i].fibers) prepare(fiber);
    }
    run_blocks(together);
  }
}

void at_fault(int signal, siginfo_t* info, void*) {
  if (signal == SIGFPE) stop("a division of integers by zero");
  if (signal == SIGILL) stop("a misaligned access or an index out of bounds");
  fault_address = (uintptr_t)info->si_addr;
  char* bottom = running ? running->stack : nullptr;
  if (bottom && (char*)info->si_addr < bottom && (char*)info->si_addr >= bottom - PAGE) stop("more than %zu bytes of local arrays", STACK);
  stop("an access to memory that is not there");
}

const int SIGNALS[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL};

}  // namespace

// 0, or 1 with a message; *fault is the address of a forbidden access, or 0.
extern "C" int emulator_launch(void (*kernel)(void**), void (*introduce)(Machine*), void** pointers, const unsigned* grid, const unsigned* block,
                               size_t shared_bytes, int order, unsigned seed, int lazy, char* text, size_t text_bytes, uintptr_t* fault) {
  launch = {kernel, pointers, block[0] * block[1] * block[2], shared_bytes, (Order)order, lazy != 0};
  message = text;
  message_bytes = text_bytes;
  machine = {};
  machine.block_extent = {block[0], block[1], block[2]};
  machine.grid_extent = {grid[0], grid[1], grid[2]};
  machine.wait_for_block = wait_for_block;
  machine.wait_for_warp = wait_for_warp;
  machine.let_others_run = let_others_run;
  machine.copy = copy;
  machine.commit = commit;
  machine.wait_for_copies = wait_for_copies;
  machine.fail = fail;
  introduce(&machine);
  running = nullptr;
  pauses = 0;
  fault_address = 0;
  make_room(block, shared_bytes);
  static char handler_stack[64 * 1024];   // that of a thread may be full
  stack_t ours_stack = {}, stack_before;
  ours_stack.ss_sp = handler_stack;
  ours_stack.ss_size = sizeof handler_stack;
  sigaltstack(&ours_stack, &stack_before);
  struct sigaction ours = {}, before[4];
  ours.sa_sigaction = at_fault;
  ours.sa_flags = SA_SIGINFO | SA_ONSTACK;
  for (int i = 0; i < 4; i++) sigaction(SIGNALS[i], &ours, &before[i]);
  int failed = sigsetjmp(end_of_launch, 1);
  if (!failed) run_grid(grid, seed);
  for (int i = 0; i < 4; i++) sigaction(SIGNALS[i], &before[i], nullptr);
  sigaltstack(&stack_before, nullptr);
  *fault = fault_address;
  return failed;
}
