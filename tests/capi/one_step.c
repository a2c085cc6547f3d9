#include "capi/one_step.h"

#include "capi/bifocal_attention.h"

int attend_to_one_key(float value, float* out) {
  enum { kHeadDim = 8, kPageSize = 16 };
  float k[kPageSize * kHeadDim] = {0};
  float v[kPageSize * kHeadDim] = {0};
  float q[kHeadDim] = {1.0F};
  float row[kHeadDim] = {0};
  const int32_t zero = 0;
  const int32_t one = 1;
  for (int d = 0; d < kHeadDim; ++d) v[d] = value;

  bifocal_attention_options options;
  bifocal_attention_defaults(&options);
  options.num_heads = options.num_kv_heads = 1;
  options.head_dim = kHeadDim;
  options.page_size = kPageSize;
  options.cache_dtype = BIFOCAL_F32;
  options.max_tokens = options.max_seqs = options.max_kv_len = 1;
  options.num_threads = 1;
  bifocal_attention* attention = 0;
  int code = bifocal_attention_create(&options, &attention);
  if (code == BIFOCAL_OK) code = bifocal_attention_set_cache(attention, k, v, 1);

  bifocal_attention_batch batch = {0};
  batch.num_decode = 1;
  batch.q_begin = &zero;
  batch.q_len = &one;
  batch.kv_len = &one;
  batch.page_table = &zero;
  batch.page_table_stride = 1;
  if (code == BIFOCAL_OK) code = bifocal_attention_plan(attention, &batch, 0);

  bifocal_attention_layer layer = {0};
  layer.q = q;
  layer.out = row;
  layer.num_tokens = 1;
  if (code == BIFOCAL_OK) code = bifocal_attention_run(attention, &layer, 0);
  bifocal_attention_destroy(attention);
  *out = row[0];
  return code;
}
