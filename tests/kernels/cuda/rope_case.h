// What a rotation of queries and keys can vary in.
#pragma once

namespace bifocal::kernels::cuda {

struct RopeCase {
  int num_heads;
  int num_kv_heads;
  int head_dim;
  int rotary_dim;
  bool interleaved;
  bool bias;
  bool norm;
};

}  // namespace bifocal::kernels::cuda
