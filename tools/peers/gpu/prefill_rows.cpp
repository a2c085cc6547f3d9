// Prefill attention beside a large matrix product, both after the same rest.
#include <chrono>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <numeric>
#include <random>
#include <thread>

#include "device.h"
#include "gemm.h"
#include "kernels/cuda/prefill.h"
#include "paged_rows.h"

namespace bifocal::peers {
namespace {

using namespace kernels::cuda;  // NOLINT(google-build-using-namespace)

// A prefill step, planned once. Pages in random order.
class PrefillRow {
 public:
  PrefillRow(const Pools& pools, int heads, int kv_heads, int head_dim, const std::vector<int>& q_len,
             const std::vector<int>& kv_len) {
    desc_.num_heads = heads;
    desc_.num_kv_heads = kv_heads;
    desc_.head_dim = head_dim;
    desc_.page_size = kPageSize;
    desc_.scale = 1.0F / std::sqrt(static_cast<float>(head_dim));
    const auto num_seqs = q_len.size();
    std::vector<int32_t> q_begin(num_seqs);
    std::exclusive_scan(q_len.begin(), q_len.end(), q_begin.begin(), 0);
    num_tokens_ = q_begin.back() + q_len.back();
    for (size_t i = 0; i < num_seqs; ++i) {
      const double keys = kv_len[i] - q_len[i] / 2.0;  // that a row sees, half of its own chunk on average
      flops_ += 4.0 * heads * head_dim * q_len[i] * keys;
    }
    const PageTables tables = shuffled_pages(kv_len);
    const kernels::PagedKv kv = paged_kv(pools, kv_heads, head_dim);
    if (tables.num_pages * kv.k_page_stride * 2 > static_cast<int64_t>(pools.bytes)) {
      std::fprintf(stderr, "prefill: more keys than the benchmark's pool holds\n");
      std::exit(1);
    }
    table_ = upload(tables.pages);
    q_len_ = upload(std::vector<int32_t>(q_len.begin(), q_len.end()));
    kv_len_ = upload(std::vector<int32_t>(kv_len.begin(), kv_len.end()));
    q_begin_ = upload(q_begin);
    q_ = unwrap(
        DeviceMemory::allocate(static_cast<size_t>(num_tokens_) * static_cast<size_t>(heads * head_dim) * 2));
    out_ = unwrap(DeviceMemory::allocate(q_.bytes()));
    fill_random(q_.as<uint16_t>(), q_.bytes() / 2, 3, 1.0F, nullptr);
    buffers_ = unwrap(make_prefill_buffers(desc_, {static_cast<int>(num_seqs), num_tokens_}));
    batch_.num_seqs = static_cast<int>(num_seqs);
    batch_.q_begin = q_begin_.as<int32_t>();
    batch_.q_len = q_len_.as<int32_t>();
    batch_.kv_len = kv_len_.as<int32_t>();
    batch_.page_table = table_.as<int32_t>();
    batch_.page_table_stride = tables.stride;
    plan_ = unwrap(plan_prefill(desc_, batch_, buffers_, {}));
    maps_ = unwrap(make_kv_maps(kv, static_cast<int>(tables.num_pages)));
    CUDA_OK(cudaDeviceSynchronize());
  }

  double flops() const { return flops_; }

  void run(cudaStream_t stream) const {
    PrefillLayer layer;
    layer.q = q_.as<uint16_t>();
    layer.q_stride = int64_t{desc_.num_heads} * desc_.head_dim;
    layer.num_tokens = num_tokens_;
    layer.kv = &maps_;
    layer.out = out_.as<uint16_t>();
    layer.out_stride = layer.q_stride;
    LaunchOptions launch;
    launch.stream = stream;
    unwrap(run_prefill(plan_, layer, launch));
  }

  Timing time_plan() {
    return time_graph(200, [&](int, cudaStream_t stream) {
      LaunchOptions launch;
      launch.stream = stream;
      unwrap(plan_prefill(desc_, batch_, buffers_, launch));
    });
  }

 private:
  PrefillDesc desc_;
  PrefillBatch batch_;
  int num_tokens_ = 0;
  double flops_ = 0.0;
  DeviceMemory table_, q_len_, kv_len_, q_begin_, q_, out_;
  PrefillBuffers buffers_;
  PrefillPlan plan_;
  KvMaps maps_;
};

// One call to warm up and the median of six, right after a rest; twice.
Timing time_rested(const std::function<void(cudaStream_t)>& call) {
  const auto measure = [&] {
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    return time_stream_once(call, 1, 6);
  };
  const double first = measure();
  const double second = measure();
  return {(first + second) / 2, std::abs(first - second) / ((first + second) / 2)};
}

double tera(double flops, const Timing& timing) {
  return flops / timing.us / 1e6;
}

struct Shape {
  const char* name;
  int heads;
  int kv_heads;
  int head_dim;
  std::vector<int> q_len;
  std::vector<int> kv_len;
};

Shape equal(const char* name, int heads, int kv_heads, int head_dim, int count, int length, int cached = 0) {
  const auto size = static_cast<size_t>(count);
  return {name,
          heads,
          kv_heads,
          head_dim,
          std::vector<int>(size, length),
          std::vector<int>(size, length + cached)};
}

std::vector<Shape> shapes(bool quick) {
  std::vector<Shape> all = {equal("32 x 1024", 32, 8, 128, 32, 1024), equal("8 x 4096", 32, 8, 128, 8, 4096),
                            equal("2 x 16384", 32, 8, 128, 2, 16384)};
  all.push_back(equal("128 x 256", 32, 8, 128, 128, 256));
  if (quick) {
    all.push_back(equal("8 x 4096", 32, 8, 64, 8, 4096));
    return all;
  }
  std::vector<int> mixed;
  std::mt19937 random(5);
  for (int left = 32768; left > 0; left -= mixed.back()) {
    mixed.push_back(std::min<int>(left, 1 + static_cast<int>(random() % 4096)));
  }
  all.push_back({"mixed, 1 to 4096", 32, 8, 128, mixed, mixed});
  all.push_back(equal("64 x 512", 32, 8, 128, 64, 512));
  all.push_back(equal("1 x 32768", 32, 8, 128, 1, 32768));
  all.push_back(equal("4 x 2048 after 30720", 32, 8, 128, 4, 2048, 30720));
  all.push_back(equal("32 x 1024", 64, 8, 128, 32, 1024));
  all.push_back(equal("8 x 4096", 64, 8, 128, 8, 4096));
  all.push_back(equal("8 x 4096", 32, 32, 128, 8, 4096));
  all.push_back(equal("8 x 4096", 32, 8, 64, 8, 4096));
  all.push_back(equal("8 x 4096", 16, 4, 256, 8, 4096));
  return all;
}

}  // namespace

void bench_prefill(const Options& options, const Pools& pools) {
  std::string why;
  const std::unique_ptr<Gemm> gemm = Gemm::load(&why);
  if (gemm == nullptr) std::printf("no matrix product to compare with: %s\n\n", why.c_str());
  const auto time_gemm = [&] {
    if (gemm == nullptr) return 0.0;
    return tera(Gemm::flops(), time_rested([&](cudaStream_t stream) { gemm->run(stream); }));
  };
  const double gemm_before = time_gemm();
  std::printf("bf16 GEMM 8192^3, cuBLAS, rested: %.0f TFLOP/s\n\n", gemm_before);
  std::printf(
      "| heads | head dim | tokens | TFLOP/s rested | of GEMM | spread %% | back to back | plan us |\n");
  std::printf("|---|---|---|---|---|---|---|---|\n");
  for (const Shape& shape : shapes(options.quick)) {
    PrefillRow row(pools, shape.heads, shape.kv_heads, shape.head_dim, shape.q_len, shape.kv_len);
    const auto call = [&](cudaStream_t stream) { row.run(stream); };
    std::this_thread::sleep_for(std::chrono::milliseconds(500));
    const double plan_us = row.time_plan().us;
    const Timing rested = time_rested(call);
    const int sustained = static_cast<int>(3e5 / rested.us) + 1;  // 0.3 s
    const double hot = options.quick ? 0.0 : tera(row.flops(), {time_stream_once(call, sustained, 20), 0.0});
    std::printf("| %d,%d | %d | %s | %.0f | %.3f | %.1f | %.0f | %.2f |\n", shape.heads, shape.kv_heads,
                shape.head_dim, shape.name, tera(row.flops(), rested),
                gemm == nullptr ? 0.0 : tera(row.flops(), rested) / gemm_before, rested.spread * 100, hot,
                plan_us);
    std::fflush(stdout);
  }
  std::printf("\nbf16 GEMM again: %.0f TFLOP/s\n\n", time_gemm());
}

}  // namespace bifocal::peers
