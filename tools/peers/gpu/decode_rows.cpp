#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <numeric>
#include <random>

#include "device.h"
#include "paged_rows.h"
#include "tensor/dtype.h"

namespace bifocal::peers {
namespace {

using namespace kernels::cuda;  // NOLINT(google-build-using-namespace)

constexpr int kHeadDim = 128;

// A decode batch, planned once, over the layers of a model that together are larger than the L2. Pages in
// random order.
class DecodeRow {
 public:
  DecodeRow(const Options& options, const Pools& pools, int heads, int kv_heads, std::vector<int> lengths)
      : lengths_(std::move(lengths)) {
    desc_.num_heads = heads;
    desc_.num_kv_heads = kv_heads;
    desc_.head_dim = kHeadDim;
    desc_.page_size = kPageSize;
    desc_.scale = 1.0F / std::sqrt(static_cast<float>(kHeadDim));
    desc_.spans = options.spans.min_log2 > 0 ? options.spans : default_span_rule(kv_heads);
    const int longest = *std::max_element(lengths_.begin(), lengths_.end());
    const int num_seqs = static_cast<int>(lengths_.size());
    const PageTables tables = shuffled_pages(lengths_);
    bytes_ = static_cast<size_t>(std::accumulate(lengths_.begin(), lengths_.end(), int64_t{0}) * kv_heads *
                                 kHeadDim * 4);
    const kernels::PagedKv kv = paged_kv(pools, kv_heads, kHeadDim);
    const auto pool_pages = static_cast<int64_t>(pools.bytes) / (kv.k_page_stride * 2);
    const auto wanted = static_cast<int64_t>((size_t{1} << 30) / bytes_) + 1;
    const int64_t layers =
        std::min({pool_pages / tables.num_pages, std::max<int64_t>(2, wanted), int64_t{640}});
    calls_ = static_cast<int>(std::max<int64_t>(4, layers));
    table_ = upload(tables.pages);
    kv_len_ = upload(std::vector<int32_t>(lengths_.begin(), lengths_.end()));
    q_ = unwrap(DeviceMemory::allocate(static_cast<size_t>(num_seqs * heads * kHeadDim) * 2));
    out_ = unwrap(DeviceMemory::allocate(q_.bytes()));
    fill_random(q_.as<uint16_t>(), q_.bytes() / 2, 3, 1.0F, nullptr);
    buffers_ = unwrap(make_decode_buffers(desc_, {num_seqs, longest}));
    DecodeBatch batch;
    batch.num_seqs = num_seqs;
    batch.kv_len = kv_len_.as<int32_t>();
    batch.page_table = table_.as<int32_t>();
    batch.page_table_stride = tables.stride;
    plan_ = unwrap(plan_decode(desc_, batch, buffers_, {}));
    maps_ = unwrap(make_kv_maps(kv, static_cast<int>(pool_pages)));
    layers_ = static_cast<int>(layers);
    layer_pages_ = static_cast<int>(tables.num_pages);
  }

  size_t bytes() const { return bytes_; }

  Timing time(bool programmatic, bool early) const {
    DecodeLayer layer;
    layer.q = q_.as<uint16_t>();
    layer.q_stride = int64_t{desc_.num_heads} * kHeadDim;
    layer.kv = &maps_;
    layer.out = out_.as<uint16_t>();
    layer.out_stride = layer.q_stride;
    return time_graph(calls_, [&](int i, cudaStream_t stream) {
      layer.first_page = i % layers_ * layer_pages_;
      unwrap(run_decode(plan_, layer, {stream, programmatic, early}));
    });
  }

 private:
  DecodeDesc desc_;
  std::vector<int> lengths_;
  size_t bytes_ = 0;
  int calls_ = 0;
  DeviceMemory table_, kv_len_, q_, out_;
  DecodeBuffers buffers_;
  DecodePlan plan_;
  KvMaps maps_;
  int layers_ = 0;
  int layer_pages_ = 0;
};

const char* bucket(size_t bytes) {
  const double mb = static_cast<double>(bytes) / 1e6;
  if (mb < 8) return "< 8 MB";
  if (mb < 64) return "8-64 MB";
  if (mb < 512) return "64-512 MB";
  return "> 0.5 GB";
}

// Three ways to follow the kernel before: after it, with programmatic dependent launch, reading old keys
// early.
struct Ratios {
  double plain;
  double pdl;
  double early;
};

void print_header(const char* shape) {
  std::printf(
      "| heads | %s | KV MB | cold read us | us | ratio | PDL us | ratio | early us | ratio | spread %% |\n",
      shape);
  std::printf("|---|---|---|---|---|---|---|---|---|---|---|\n");
}

Ratios print_row(const std::string& heads, const std::string& shape, const DecodeRow& row, ColdRead& cold) {
  const double limit = cold.us(row.bytes());
  const Timing plain = row.time(false, false);
  const Timing pdl = row.time(true, false);
  const Timing early = row.time(true, true);
  std::printf("| %s | %s | %.1f | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f | %.2f | %.1f |\n", heads.c_str(),
              shape.c_str(), static_cast<double>(row.bytes()) / 1e6, limit, plain.us, limit / plain.us,
              pdl.us, limit / pdl.us, early.us, limit / early.us,
              100 * std::max({plain.spread, pdl.spread, early.spread}));
  return {limit / plain.us, limit / pdl.us, limit / early.us};
}

}  // namespace

void bench_decode(const Options& options, const Pools& pools, ColdRead& cold) {
  print_header("batch x len");
  std::map<std::string, std::vector<Ratios>> buckets;
  std::vector<std::pair<int, int>> all_heads = {{64, 8}, {32, 8}, {32, 4}, {8, 1}};
  std::vector<int> batches = {1, 4, 16, 32, 64, 128};
  std::vector<int> lens = {512, 2048, 4096, 8192, 32768};
  if (options.quick) {
    all_heads = {{64, 8}, {8, 1}};
    batches = {1, 16, 64};
    lens = {512, 2048, 8192};
  }
  if (options.heads > 0) {
    all_heads = {{options.heads, options.kv_heads}};
    batches = {options.batch};
    lens = {options.len};
  }
  for (const auto& [heads, kv_heads] : all_heads) {
    for (const int len : lens) {
      for (const int batch : batches) {
        const size_t bytes = static_cast<size_t>(batch) * static_cast<size_t>(len * kv_heads * kHeadDim) * 4;
        if (bytes > pools.bytes * 2 || bytes > size_t{4500} << 20) continue;
        const DecodeRow row(options, pools, heads, kv_heads,
                            std::vector<int>(static_cast<size_t>(batch), len));
        const std::string name = std::to_string(heads) + "," + std::to_string(kv_heads);
        const std::string shape = std::to_string(batch) + " x " + std::to_string(len);
        buckets[bucket(bytes)].push_back(print_row(name, shape, row, cold));
      }
    }
  }
  std::printf(
      "\n| KV | shapes | median ratio, min | PDL median, min | early median, min |\n|---|---|---|---|---|\n");
  for (const auto& [name, rows] : buckets) {
    std::printf("| %s | %zu |", name.c_str(), rows.size());
    for (double Ratios::*member : {&Ratios::plain, &Ratios::pdl, &Ratios::early}) {
      std::vector<double> values;
      for (const Ratios& row : rows) values.push_back(row.*member);
      std::printf(" %.3f, %.3f |", median(values), *std::min_element(values.begin(), values.end()));
    }
    std::printf("\n");
  }
  std::printf("\n");
}

void bench_mixed(const Options& options, const Pools& pools, ColdRead& cold) {
  print_header("lengths");
  std::mt19937 random(5);
  for (const auto& [heads, kv_heads] : std::vector<std::pair<int, int>>{{64, 8}, {32, 4}, {8, 1}}) {
    const std::string name = std::to_string(heads) + "," + std::to_string(kv_heads);
    std::vector<int> one_long(64, 512);
    one_long[static_cast<size_t>(random() % 64)] = 32768;
    std::vector<int> lognormal;
    std::lognormal_distribution<double> distribution(std::log(3000.0), 1.0);
    for (int i = 0; i < 64; ++i)
      lognormal.push_back(static_cast<int>(std::clamp(distribution(random), 64.0, 32768.0)));
    print_row(name, "one of 32768 among 63 of 512", DecodeRow(options, pools, heads, kv_heads, one_long),
              cold);
    print_row(name, "64 lognormal", DecodeRow(options, pools, heads, kv_heads, lognormal), cold);
  }
  std::printf("\n");
}

void bench_plan(const Options& options) {
  std::printf("| plan kernel | us | PDL us |\n|---|---|---|\n");
  for (const int batch : {1, 16, 128, 512}) {
    DecodeDesc desc;
    desc.num_heads = 64;
    desc.num_kv_heads = 8;
    desc.head_dim = kHeadDim;
    desc.spans = options.spans.min_log2 > 0 ? options.spans : default_span_rule(desc.num_kv_heads);
    DecodeBuffers buffers = unwrap(make_decode_buffers(desc, {1024, 32768}));
    std::vector<int32_t> lengths;
    std::mt19937 random(9);
    for (int i = 0; i < batch; ++i) lengths.push_back(static_cast<int32_t>(random() % 8192));
    const DeviceMemory kv_len = upload(lengths);
    const DeviceMemory page_table = upload(std::vector<int32_t>(static_cast<size_t>(batch) * 128, 1));
    DecodeBatch plan_batch;
    plan_batch.num_seqs = batch;
    plan_batch.kv_len = kv_len.as<int32_t>();
    plan_batch.page_table = page_table.as<int32_t>();
    plan_batch.page_table_stride = 128;
    const auto time = [&](bool programmatic) {
      return time_graph(200,
                        [&](int, cudaStream_t stream) {
                          LaunchOptions launch;
                          launch.stream = stream;
                          launch.programmatic = programmatic;
                          unwrap(plan_decode(desc, plan_batch, buffers, launch));
                        })
          .us;
    };
    const double plain = time(false);
    std::printf("| %d sequences | %.2f | %.2f |\n", batch, plain, time(true));
  }
  std::printf("\n");
}

}  // namespace bifocal::peers
