// What the emulated multiprocessor (machine.cpp, compiled once) and an emulated kernel know of each other.
#pragma once

namespace emulator {

struct Index { unsigned x, y, z; };

// Does to `lanes` arguments what a warp does together; they are in the order of the lanes.
typedef void (*Collective)(void** arguments, int lanes);

struct Machine {
  // Of the thread that is running.
  Index thread, block, block_extent, grid_extent;
  unsigned number;         // of the thread in its block
  unsigned char* shared;   // its block's memory
  // Each of these comes back when the other threads have come as far; `line` is where the kernel calls it.
  void (*wait_for_block)(int line);
  void (*wait_for_warp)(Collective operation, int line, void* argument);
  void (*let_others_run)();
  // Copies `valid` of `bytes` bytes and zeros the others, now or when they are waited for.
  void (*copy)(void* to, const void* from, int bytes, int valid);
  void (*commit)();
  void (*wait_for_copies)(int pending);
  // Ends the launch.
  void (*fail)(const char* message, int line);
};

}  // namespace emulator
