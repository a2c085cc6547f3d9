// One attention problem that a line of text describes completely, so that a failure can be rerun alone:
//   attention_tests --case="backend=tiled isa=avx2 phase=prefill heads=8/2 dims=64/64 ...
//   seqs=0:3/10,1:1/20:7/16"
// A sequence is identity:q_len/kv_len, and :prefix_identity/prefix_len where its first keys are another's.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "attention/backend.h"

namespace bifocal::attention {

// A sequence whose values follow from `identity`: the same in any batch, at any place in it, under any
// chunking.
struct CaseSequence {
  uint32_t identity = 0;
  int32_t q_len = 0;
  int32_t kv_len = 0;
  // Keys before prefix_len are those of sequence prefix_identity.
  uint32_t prefix_identity = 0;
  int32_t prefix_len = 0;
};

struct CaseSpec {
  std::string backend = "tiled";
  std::string isa = "auto";
  Phase phase = Phase::prefill;
  AttentionDesc desc;
  int num_threads = 1;
  float q_spread = 1.0F;  // standard deviation of the queries
  uint64_t seed = 1;
  bool causal = true;
  bool share_pages = false;  // pages that lie wholly in an equal prefix are the same pages
  std::vector<CaseSequence> sequences;

  int64_t num_rows() const;
  int max_kv_len() const;
  PlanLimits limits() const;
};

std::string to_string(const CaseSpec& spec);
Expected<CaseSpec> parse_case(std::string_view line);
// A random problem within what every backend offers, small enough for thousands of them.
CaseSpec random_case(uint64_t seed);

// The tensors of a problem. Slots that no query may read, and pages that no sequence owns, hold NaN; table
// entries of pages that lie wholly before every window hold -1.
class CaseData {
 public:
  static constexpr float kPadding = 12345.0F;  // between the rows of out

  explicit CaseData(const CaseSpec& spec);
  CaseData(const CaseData&) = delete;
  CaseData& operator=(const CaseData&) = delete;

  const AttentionBatch& batch() const { return batch_; }
  const LayerInputs& inputs() const { return inputs_; }
  int64_t num_rows() const { return num_rows_; }
  std::vector<float> out() const;  // [T, H, Dv] without the padding between rows
  const std::vector<float>& lse() const { return lse_; }
  // True when nothing was written between the rows.
  bool padding_untouched() const;

 private:
  void fill_pages(const CaseSpec& spec);
  void fill_queries(const CaseSpec& spec);

  AttentionDesc desc_;
  int64_t num_rows_;
  std::vector<int32_t> q_begin_, q_len_, kv_len_, page_table_;
  std::vector<uint8_t> k_, v_;
  std::vector<float> q_, out_, lse_, sinks_;
  AttentionBatch batch_;
  LayerInputs inputs_;
};

struct CaseResult {
  std::vector<float> out;  // [T, H, Dv]
  std::vector<float> lse;  // [T, H]
};

// Plans and runs the problem on its backend and instruction set. Fails the test when the backend refuses or
// writes between its rows.
CaseResult run_case(const CaseSpec& spec);
// The same problem on `reference`.
CaseResult run_reference(CaseSpec spec);

// Empty when the result is within the bound of the reference; otherwise the first element that is not.
std::string compare(const CaseSpec& spec, const CaseResult& result, const CaseResult& reference);

}  // namespace bifocal::attention
