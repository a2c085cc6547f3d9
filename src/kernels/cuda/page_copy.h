// Copies the first tokens of a page of keys and values into another one, in all layers at once.
#pragma once

#include <cstdint>

#include "base/status.h"
#include "kernels/cuda/launch_options.h"

namespace bifocal::kernels::cuda {

struct PageCopy {
  uint16_t* k = nullptr;  // bf16 [L, P, HK, S, D]
  uint16_t* v = nullptr;  // likewise
  int num_layers = 0;     // L
  int num_pages = 0;      // P, of one layer
  int num_kv_heads = 0;   // HK
  int page_size = 0;      // S
  int head_dim = 0;       // D, a multiple of 8
  int32_t source = 0;     // pages of a layer, not the same
  int32_t target = 0;
  int num_tokens = 0;  // at most S
};
Status copy_page(const PageCopy& args, const LaunchOptions& launch);

}  // namespace bifocal::kernels::cuda
