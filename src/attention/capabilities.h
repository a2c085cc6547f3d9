// What a backend can do, as data: the router, `bifocal backends`, the docs' matrix and the tests read this
// struct.
#pragma once

#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "attention/desc.h"
#include "attention/phase.h"
#include "tensor/device.h"

namespace bifocal::attention {

struct HeadDims {
  int k = 0;
  int v = 0;
  int max_group = 0;  // query heads on one KV head; 0: any number
};

struct Capabilities {
  std::string_view name;     // "tiled"
  std::string_view summary;  // one sentence for people
  DeviceKind device = DeviceKind::cpu;
  std::vector<Phase> phases;
  std::vector<HeadDims> head_dims;  // empty: any multiple of head_dim_multiple
  int head_dim_multiple = 8;
  std::vector<DType> q_dtypes = {DType::f32};
  std::vector<DType> kv_dtypes;
  int min_page_size = 1;
  int max_page_size = 256;
  bool page_power_of_two = false;
  bool window = false;
  bool sinks = false;
  bool softcap = false;
  bool mla = false;
  bool lse_out = false;
  bool shared_prefix = false;  // reads a prefix that several sequences share once
  bool graph = false;          // may be captured (CUDA)
  bool deterministic = false;  // same bits whatever the batch, chunking and thread count
};

std::string describe_head_dims(const Capabilities& capabilities);  // "any", "multiples of 8", "64, 192/128"

// Why the backend can't read a pool of keys and values with the class's page size and dtype; nullopt when it
// can. All phases of a class share one pool, so all their backends have to agree with it.
std::optional<std::string> pool_objection(const Capabilities& capabilities, const AttentionDesc& desc);

// Why the backend can't serve this class in this phase, naming the property: "head dims 20/20: takes only
// multiples of 8"; nullopt when it can.
std::optional<std::string> ineligible_reason(const Capabilities& capabilities, const AttentionDesc& desc,
                                             Phase phase, bool need_deterministic,
                                             DeviceKind device = DeviceKind::cpu);

}  // namespace bifocal::attention
