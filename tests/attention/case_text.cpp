// The line that describes a problem, its parser, and the generator of random ones.
#include <fmt/format.h>

#include <algorithm>
#include <charconv>
#include <cmath>
#include <vector>

#include "attention/attention_case.h"
#include "base/hash.h"
#include "kernels/cpu/isa.h"

namespace bifocal::attention {
namespace {

std::vector<std::string_view> split(std::string_view text, char separator) {
  std::vector<std::string_view> parts;
  while (!text.empty()) {
    const size_t end = std::min(text.find(separator), text.size());
    if (end > 0) parts.push_back(text.substr(0, end));
    text.remove_prefix(std::min(end + 1, text.size()));
  }
  return parts;
}

template <class T>
bool parse_number(std::string_view text, T* value) {
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), *value);
  return error == std::errc() && end == text.data() + text.size();
}

// "a/b"
template <class A, class B>
bool parse_two(std::string_view text, A* a, B* b) {
  const auto parts = split(text, '/');
  return parts.size() == 2 && parse_number(parts[0], a) && parse_number(parts[1], b);
}

bool parse_sequences(std::string_view text, std::vector<CaseSequence>* sequences) {
  for (const std::string_view item : split(text, ',')) {
    const auto parts = split(item, ':');
    CaseSequence seq;
    if (parts.size() < 2 || parts.size() > 3 || !parse_number(parts[0], &seq.identity) ||
        !parse_two(parts[1], &seq.q_len, &seq.kv_len)) {
      return false;
    }
    if (parts.size() == 3 && !parse_two(parts[2], &seq.prefix_identity, &seq.prefix_len)) return false;
    sequences->push_back(seq);
  }
  return true;
}

bool parse_field(std::string_view name, std::string_view value, CaseSpec* spec) {
  AttentionDesc& desc = spec->desc;
  if (name == "backend") return spec->backend = value, true;
  if (name == "isa") return spec->isa = value, true;
  if (name == "kind") return desc.kind = value == "mla" ? Kind::mla : Kind::gqa, true;
  if (name == "heads") return parse_two(value, &desc.num_heads, &desc.num_kv_heads);
  if (name == "dims") return parse_two(value, &desc.head_dim_k, &desc.head_dim_v);
  if (name == "page") return parse_number(value, &desc.page_size);
  if (name == "window") return parse_number(value, &desc.window);
  if (name == "softcap") return parse_number(value, &desc.softcap);
  if (name == "scale") return parse_number(value, &desc.scale);
  if (name == "sinks") return desc.sinks = value == "1", true;
  if (name == "threads") return parse_number(value, &spec->num_threads);
  if (name == "spread") return parse_number(value, &spec->q_spread);
  if (name == "seed") return parse_number(value, &spec->seed);
  if (name == "causal") return spec->causal = value == "1", true;
  if (name == "share") return spec->share_pages = value == "1", true;
  if (name == "seqs") return parse_sequences(value, &spec->sequences);
  if (name == "phase") {
    for (int p = 0; p < kNumPhases; ++p) {
      if (to_string(static_cast<Phase>(p)) == value) return spec->phase = static_cast<Phase>(p), true;
    }
    return false;
  }
  if (name == "kv") {
    const auto dtype = parse_dtype(value);
    if (dtype.ok()) desc.kv_dtype = *dtype;
    return dtype.ok();
  }
  return false;
}

template <class T, size_t N>
T pick(SplitMix64& random, const T (&values)[N]) {
  return values[random.below(N)];
}

int between(SplitMix64& random, int low, int high) {
  return low + static_cast<int>(random.below(static_cast<uint64_t>(high - low + 1)));
}

// Some of the sequences begin with up to two spans of common keys.
void share_prefix(SplitMix64& random, CaseSpec* spec) {
  const int prefix_len = between(random, 512, 1100);
  spec->share_pages = random.below(8) != 0;
  spec->sequences.resize(std::max<size_t>(spec->sequences.size(), 2));
  for (size_t i = 0; i < spec->sequences.size(); ++i) {
    CaseSequence& seq = spec->sequences[i];
    seq.identity = static_cast<uint32_t>(i);
    if (random.below(5) == 0) continue;
    seq.q_len = std::clamp(seq.q_len, 1, 4);
    seq.prefix_identity = 100;
    seq.prefix_len = random.below(4) == 0 ? between(random, 1, prefix_len) : prefix_len;
    seq.kv_len = seq.prefix_len + seq.q_len + between(random, 0, 40);
  }
}

}  // namespace

std::string to_string(const CaseSpec& spec) {
  const AttentionDesc& d = spec.desc;
  std::string sequences;
  for (const CaseSequence& seq : spec.sequences) {
    sequences += fmt::format("{}{}:{}/{}", sequences.empty() ? "" : ",", seq.identity, seq.q_len, seq.kv_len);
    if (seq.prefix_len > 0) sequences += fmt::format(":{}/{}", seq.prefix_identity, seq.prefix_len);
  }
  return fmt::format(
      "backend={} isa={} phase={} kind={} heads={}/{} dims={}/{} kv={} page={} window={} sinks={} softcap={} "
      "scale={} "
      "threads={} spread={} seed={} causal={} share={} seqs={}",
      spec.backend, spec.isa, to_string(spec.phase), d.kind == Kind::mla ? "mla" : "gqa", d.num_heads,
      d.num_kv_heads, d.head_dim_k, d.head_dim_v, to_string(d.kv_dtype), d.page_size, d.window,
      d.sinks ? 1 : 0, d.softcap, d.scale, spec.num_threads, spec.q_spread, spec.seed, spec.causal ? 1 : 0,
      spec.share_pages ? 1 : 0, sequences);
}

Expected<CaseSpec> parse_case(std::string_view line) {
  CaseSpec spec;
  for (const std::string_view field : split(line, ' ')) {
    const size_t equals = field.find('=');
    if (equals == std::string_view::npos ||
        !parse_field(field.substr(0, equals), field.substr(equals + 1), &spec)) {
      return invalid_argument(fmt::format("attention case: \"{}\" is not understood", field));
    }
  }
  BIFOCAL_RETURN_IF_ERROR(validate(spec.desc));
  return spec;
}

CaseSpec random_case(uint64_t seed) {
  SplitMix64 random(seed);
  CaseSpec spec;
  AttentionDesc& desc = spec.desc;
  spec.seed = seed;
  const auto isas = kernels::cpu::supported_isas();
  spec.backend = pick(random, {"tiled", "streaming", "unified"});
  spec.isa = std::string(to_string(isas[random.below(isas.size())]));
  spec.phase = static_cast<Phase>(random.below(kNumPhases));

  constexpr int kGroups[] = {1, 2, 3, 4, 5, 6, 7, 8, 12, 16};
  constexpr int kDims[] = {64, 64, 80, 96, 112, 128, 128, 256, 8, 24, 40, 72, 104};
  desc.num_kv_heads = between(random, 1, 3);
  desc.num_heads = desc.num_kv_heads * pick(random, kGroups);
  desc.head_dim_k = desc.head_dim_v = pick(random, kDims);
  if (random.below(8) == 0) {
    desc.head_dim_k = 192;
    desc.head_dim_v = 128;
  }
  if (random.below(24) == 0) {
    desc.kind = Kind::mla;
    desc.num_heads = between(random, 1, 16);
    desc.num_kv_heads = 1;
    desc.head_dim_k = 576;
    desc.head_dim_v = 512;
  }
  constexpr DType kDTypes[] = {DType::f32, DType::f32, DType::bf16, DType::bf16, DType::f16, DType::f8_e4m3};
  constexpr int kPages[] = {1, 2, 3, 7, 16, 16, 32, 64, 100, 128, 256};
  desc.kv_dtype = pick(random, kDTypes);
  desc.page_size = pick(random, kPages);
  if (random.below(3) == 0) desc.window = between(random, 1, 200);
  desc.sinks = random.below(4) == 0;
  if (random.below(4) == 0) desc.softcap = pick(random, {1.0F, 30.0F, 50.0F});
  desc.scale = random.below(4) == 0 ? 0.25F : 1.0F / std::sqrt(static_cast<float>(desc.head_dim_k));
  spec.num_threads = between(random, 1, 2);
  // Logits of a deviation of up to 3: beyond that the rounding of a float logit alone shows in its
  // exponential.
  spec.q_spread =
      pick(random, {0.0F, 1.0F, 1.0F, 3.0F}) / (desc.scale * std::sqrt(static_cast<float>(desc.head_dim_k)));

  const int max_rows = spec.phase == Phase::prefill ? 70 : spec.phase == Phase::decode ? 1 : 8;
  const int num_sequences = between(random, 1, 4);
  for (int i = 0; i < num_sequences; ++i) {
    CaseSequence seq;
    seq.identity = static_cast<uint32_t>(i);
    seq.q_len = random.below(6) == 0 ? 0 : between(random, 1, max_rows);
    // Mostly short; some past the end of a span.
    const int prefix = random.below(4) == 0 ? between(random, 400, 1200) : between(random, 0, 150);
    // The reference takes a few nanoseconds per product; a problem shall take it about 10 ms.
    const int64_t work_per_row =
        int64_t{seq.q_len + prefix + 1} * desc.num_heads * (desc.head_dim_k + desc.head_dim_v);
    seq.q_len = static_cast<int32_t>(
        std::clamp<int64_t>(2'000'000 / work_per_row, std::min(seq.q_len, 1), seq.q_len));
    seq.kv_len = random.below(4) == 0 ? seq.q_len : seq.q_len + prefix;
    spec.sequences.push_back(seq);
  }
  if (random.below(5) == 0) share_prefix(random, &spec);
  if (desc.window == 0 && random.below(6) == 0) {
    // As for one chunk of several prefixes: some are shorter than the queries are many, some are empty.
    spec.causal = false;
    for (CaseSequence& seq : spec.sequences) {
      if (random.below(3) == 0) seq.kv_len = seq.prefix_len + between(random, 0, std::max(1, seq.q_len));
    }
  }
  return spec;
}

}  // namespace bifocal::attention
