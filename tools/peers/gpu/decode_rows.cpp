#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <numeric>
#include <random>

#include "rows.h"
#include "tensor/dtype.h"

namespace bifocal::peers {
namespace {

using namespace kernels::cuda;  // NOLINT

constexpr int kHeadDim = 128;
constexpr int kPageSize = 64;

template <class T>
T unwrap(Expected<T> value) {
  if (value.ok()) return std::move(*value);
  std::fprintf(stderr, "%s\n", value.status().message().c_str());
  std::exit(1);
}

void unwrap(const Status& status) {
  if (status.ok()) return;
  std::fprintf(stderr, "%s\n", status.message().c_str());
  std::exit(1);
}

template <class T>
DeviceMemory upload(const std::vector<T>& host) {
  DeviceMemory memory = unwrap(DeviceMemory::allocate(host.size() * sizeof(T)));
  CUDA_OK(cudaMemcpy(memory.as<T>(), host.data(), memory.bytes(), cudaMemcpyHostToDevice));
  return memory;
}

// A decode batch over rotating sets of random pages.
class DecodeRow {
 public:
  DecodeRow(const Options& options, const Pools& pools, int heads, int kv_heads, std::vector<int> lengths)
      : lengths_(std::move(lengths)) {
    desc_.num_heads = heads;
    desc_.num_kv_heads = kv_heads;
    desc_.head_dim = kHeadDim;
    desc_.page_size = kPageSize;
    desc_.scale = 1.0F / std::sqrt(static_cast<float>(kHeadDim));
    desc_.spans = options.spans;
    const int longest = *std::max_element(lengths_.begin(), lengths_.end());
    const int num_seqs = static_cast<int>(lengths_.size());
    const int64_t page_elements = int64_t{kv_heads} * kPageSize * kHeadDim;
    const auto num_pages = static_cast<int64_t>(pools.bytes) / (page_elements * 2);
    int64_t set_pages = 0;
    for (const int length : lengths_) set_pages += (length + kPageSize - 1) / kPageSize;
    bytes_ = static_cast<size_t>(std::accumulate(lengths_.begin(), lengths_.end(), int64_t{0}) * kv_heads *
                                 kHeadDim * 4);
    const auto wanted = static_cast<int64_t>((size_t{1} << 30) / bytes_) + 1;
    const int64_t sets = std::min({num_pages / set_pages, std::max<int64_t>(2, wanted), int64_t{640}});
    calls_ = static_cast<int>(std::max<int64_t>(4, sets));

    std::vector<int32_t> order(static_cast<size_t>(num_pages));
    std::iota(order.begin(), order.end(), 0);
    std::shuffle(order.begin(), order.end(), std::mt19937(7));
    const int64_t stride = (longest + kPageSize - 1) / kPageSize;
    std::vector<int32_t> tables(static_cast<size_t>(sets * num_seqs * stride));
    size_t next = 0;
    for (int64_t set = 0; set < sets; ++set) {
      for (int seq = 0; seq < num_seqs; ++seq) {
        const int pages = (lengths_[static_cast<size_t>(seq)] + kPageSize - 1) / kPageSize;
        for (int p = 0; p < pages; ++p) {
          tables[static_cast<size_t>((set * num_seqs + seq) * stride + p)] = order[next++];
        }
      }
    }
    tables_ = upload(tables);
    kv_len_ = upload(std::vector<int32_t>(lengths_.begin(), lengths_.end()));
    q_ = unwrap(DeviceMemory::allocate(static_cast<size_t>(num_seqs * heads * kHeadDim) * 2));
    out_ = unwrap(DeviceMemory::allocate(q_.bytes()));
    fill_random(q_.as<uint16_t>(), q_.bytes() / 2, 3, 1.0F, nullptr);
    buffers_ = unwrap(make_decode_buffers(desc_, {num_seqs, longest}));

    kernels::PagedKv kv;
    kv.k = pools.k;
    kv.v = pools.v;
    kv.dtype = DType::bf16;
    kv.num_kv_heads = kv_heads;
    kv.head_dim_k = kv.head_dim_v = kHeadDim;
    kv.page_size = kPageSize;
    kv.k_token_stride = kv.v_token_stride = kHeadDim;
    kv.k_head_stride = kv.v_head_stride = int64_t{kPageSize} * kHeadDim;
    kv.k_page_stride = kv.v_page_stride = page_elements;
    unwrap(make_kv_maps(kv, static_cast<int>(num_pages), &maps_));
    for (int64_t set = 0; set < sets; ++set) {
      DecodeBatch batch;
      batch.num_seqs = num_seqs;
      batch.kv_len = kv_len_.as<int32_t>();
      batch.page_table = tables_.as<int32_t>() + set * num_seqs * stride;
      batch.page_table_stride = stride;
      plans_.push_back(unwrap(plan_decode(desc_, batch, buffers_, {})));
    }
  }

  size_t bytes() const { return bytes_; }

  Timing time(bool programmatic) const {
    DecodeLayer layer;
    layer.q = q_.as<uint16_t>();
    layer.q_stride = int64_t{desc_.num_heads} * kHeadDim;
    layer.kv = &maps_;
    layer.out = out_.as<uint16_t>();
    layer.out_stride = layer.q_stride;
    return time_graph(calls_, [&](int i, cudaStream_t stream) {
      LaunchOptions launch;
      launch.stream = stream;
      launch.programmatic = programmatic;
      unwrap(run_decode(plans_[static_cast<size_t>(i) % plans_.size()], layer, launch));
    });
  }

 private:
  DecodeDesc desc_;
  std::vector<int> lengths_;
  size_t bytes_ = 0;
  int calls_ = 0;
  DeviceMemory tables_, kv_len_, q_, out_;
  DecodeBuffers buffers_;
  KvMaps maps_{};
  std::vector<DecodePlan> plans_;
};

const char* bucket(size_t bytes) {
  const double mb = static_cast<double>(bytes) / 1e6;
  if (mb < 8) return "< 8 MB";
  if (mb < 64) return "8-64 MB";
  if (mb < 512) return "64-512 MB";
  return "> 0.5 GB";
}

void print_header(const char* shape) {
  std::printf("| heads | %s | KV MB | cold read us | us | GB/s | ratio | PDL us | PDL ratio | spread %% |\n",
              shape);
  std::printf("|---|---|---|---|---|---|---|---|---|---|\n");
}

double print_row(const char* heads, const char* shape, const DecodeRow& row, ColdRead& cold,
                 double* plain_ratio) {
  const double limit = cold.us(row.bytes());
  const Timing plain = row.time(false);
  const Timing pdl = row.time(true);
  std::printf("| %s | %s | %.1f | %.2f | %.2f | %.0f | %.2f | %.2f | %.2f | %.1f |\n", heads, shape,
              static_cast<double>(row.bytes()) / 1e6, limit, plain.us,
              static_cast<double>(row.bytes()) / plain.us / 1e3, limit / plain.us, pdl.us, limit / pdl.us,
              100 * std::max(plain.spread, pdl.spread));
  *plain_ratio = limit / plain.us;
  return limit / pdl.us;
}

}  // namespace

void bench_decode(const Options& options, const Pools& pools, ColdRead& cold, int /*num_sms*/) {
  print_header("batch x len");
  std::map<std::string, std::vector<double>> plain;
  std::map<std::string, std::vector<double>> pdl;
  const std::vector<std::pair<int, int>> all_heads = {{64, 8}, {32, 8}, {32, 4}, {8, 1}};
  const std::vector<int> batches =
      options.quick ? std::vector<int>{1, 16, 64} : std::vector<int>{1, 4, 16, 32, 64, 128};
  const std::vector<int> lens =
      options.quick ? std::vector<int>{512, 2048, 8192} : std::vector<int>{512, 2048, 4096, 8192, 32768};
  for (const auto& [heads, kv_heads] : all_heads) {
    if (options.quick && heads == 32) continue;
    for (const int len : lens) {
      for (const int batch : batches) {
        const size_t bytes = static_cast<size_t>(batch) * static_cast<size_t>(len * kv_heads * kHeadDim) * 4;
        if (bytes > pools.bytes * 2 || bytes > size_t{4500} << 20) continue;
        const DecodeRow row(options, pools, heads, kv_heads,
                            std::vector<int>(static_cast<size_t>(batch), len));
        const std::string name = std::to_string(heads) + "," + std::to_string(kv_heads);
        const std::string shape = std::to_string(batch) + " x " + std::to_string(len);
        double ratio = 0.0;
        pdl[bucket(bytes)].push_back(print_row(name.c_str(), shape.c_str(), row, cold, &ratio));
        plain[bucket(bytes)].push_back(ratio);
      }
    }
  }
  std::printf("\n| KV | shapes | median ratio | min | PDL median | PDL min |\n|---|---|---|---|---|---|\n");
  for (const auto& [name, ratios] : plain) {
    const auto& p = pdl[name];
    std::printf("| %s | %zu | %.3f | %.3f | %.3f | %.3f |\n", name.c_str(), ratios.size(), median(ratios),
                *std::min_element(ratios.begin(), ratios.end()), median(p),
                *std::min_element(p.begin(), p.end()));
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
    double ratio = 0.0;
    print_row(name.c_str(), "one of 32768 among 63 of 512",
              DecodeRow(options, pools, heads, kv_heads, one_long), cold, &ratio);
    print_row(name.c_str(), "64 lognormal", DecodeRow(options, pools, heads, kv_heads, lognormal), cold,
              &ratio);
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
    desc.spans = options.spans;
    DecodeBuffers buffers = unwrap(make_decode_buffers(desc, {1024, 32768}));
    std::vector<int32_t> lengths;
    std::mt19937 random(9);
    for (int i = 0; i < batch; ++i) lengths.push_back(static_cast<int32_t>(random() % 8192));
    const DeviceMemory kv_len = upload(lengths);
    DecodeBatch plan_batch;
    plan_batch.num_seqs = batch;
    plan_batch.kv_len = kv_len.as<int32_t>();
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
