/* For building llama.cpp with GCC 12: its _tile_loadconfig tells the compiler that it reads 8 bytes, so that the
   other 56 of a configuration made on the stack are never written, and ldtilecfg faults on what lay there. */
#include <immintrin.h>

static inline void load_whole_tile_config(const void *config) {
  __asm__ volatile("" : : "m"(*(const char(*)[64])config));
  _tile_loadconfig(config);
}
#define _tile_loadconfig load_whole_tile_config
