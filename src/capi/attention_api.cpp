// The C functions: arguments checked, errors and exceptions turned into codes.
#include <fmt/format.h>

#include <cmath>
#include <exception>
#include <new>
#include <string>
#include <string_view>

#include "capi/bifocal_attention.h"
#include "capi/device_attention.h"

using bifocal::DType;
using bifocal::Expected;
using bifocal::invalid_argument;
using bifocal::Status;
using bifocal::StatusCode;
namespace attention = bifocal::attention;

struct bifocal_attention {
  attention::AttentionDesc desc;
  attention::PlanLimits limits;
  std::string prefill;  // explanations
  std::string decode;
  bool has_cache = false;
  std::unique_ptr<bifocal::capi::DeviceAttention> device;
};

namespace {

thread_local std::string last_error;

bifocal_code code_of(StatusCode code) {
  switch (code) {
    case StatusCode::ok:
      return BIFOCAL_OK;
    case StatusCode::invalid_argument:
    case StatusCode::not_found:
      return BIFOCAL_INVALID_ARGUMENT;
    case StatusCode::unsupported:
      return BIFOCAL_UNSUPPORTED;
    case StatusCode::resource_exhausted:
      return BIFOCAL_OUT_OF_MEMORY;
    case StatusCode::unavailable:
      return BIFOCAL_UNAVAILABLE;
    default:
      return BIFOCAL_INTERNAL;
  }
}

template <class Call>
bifocal_code guarded(const Call& call) {
  try {
    const Status status = call();
    if (!status.ok()) last_error = status.message();
    return code_of(status.code());
  } catch (const std::bad_alloc&) {
    last_error = "out of memory";
    return BIFOCAL_OUT_OF_MEMORY;
  } catch (const std::exception& error) {
    last_error = error.what();
    return BIFOCAL_INTERNAL;
  }
}

Status check_not_null(const void* pointer, std::string_view name) {
  return pointer != nullptr ? Status() : invalid_argument(fmt::format("{} is null", name));
}

Expected<DType> dtype_of(int32_t dtype) {
  switch (dtype) {
    case BIFOCAL_F32:
      return DType::f32;
    case BIFOCAL_F16:
      return DType::f16;
    case BIFOCAL_BF16:
      return DType::bf16;
  }
  return invalid_argument(fmt::format("cache_dtype {} is none", dtype));
}

Expected<bifocal::DeviceKind> device_of(const bifocal_attention_options& options) {
  const std::string_view name = options.device == nullptr ? "cpu" : options.device;
  if (name == "cpu") return bifocal::DeviceKind::cpu;
  if (name == "cuda") return bifocal::DeviceKind::cuda;
  return invalid_argument(fmt::format("device is \"{}\", expected \"cpu\" or \"cuda\"", name));
}

Expected<attention::AttentionDesc> describe(const bifocal_attention_options& options,
                                            bifocal::DeviceKind device) {
  attention::AttentionDesc desc;
  desc.num_heads = options.num_heads;
  desc.num_kv_heads = options.num_kv_heads;
  desc.head_dim_k = desc.head_dim_v = options.head_dim;
  desc.window = options.window;
  desc.sinks = options.sinks != 0;
  desc.softcap = options.softcap;
  if (!(options.head_dim > 0)) return invalid_argument(fmt::format("head_dim is {}", options.head_dim));
  desc.scale = options.scale != 0.0F ? options.scale : 1.0F / std::sqrt(static_cast<float>(options.head_dim));
  desc.q_dtype = device == bifocal::DeviceKind::cuda ? DType::bf16 : DType::f32;
  BIFOCAL_ASSIGN_OR_RETURN(desc.kv_dtype, dtype_of(options.cache_dtype));
  desc.page_size = options.page_size;
  BIFOCAL_RETURN_IF_ERROR(attention::validate(desc));
  return desc;
}

Expected<attention::PlanLimits> limits_of(const bifocal_attention_options& options) {
  struct Limit {
    const char* name;
    int32_t value;
    int32_t least;
  };
  for (const auto& [name, value, least] :
       {Limit{"max_tokens", options.max_tokens, 1}, Limit{"max_seqs", options.max_seqs, 1},
        Limit{"max_kv_len", options.max_kv_len, 1}, Limit{"num_threads", options.num_threads, 0}}) {
    if (value < least) {
      return invalid_argument(fmt::format("{} is {}, expected at least {}", name, value, least));
    }
  }
  return attention::PlanLimits{options.max_tokens, options.max_seqs, options.max_kv_len, options.num_threads};
}

std::string explain(const attention::Decision& decision) {
  return fmt::format("{} ({})", decision.backend->name(), decision.reason);
}

Status create(const bifocal_attention_options& options, std::unique_ptr<bifocal_attention>* out) {
  BIFOCAL_ASSIGN_OR_RETURN(const bifocal::DeviceKind device, device_of(options));
  auto made = std::make_unique<bifocal_attention>();
  BIFOCAL_ASSIGN_OR_RETURN(made->desc, describe(options, device));
  BIFOCAL_ASSIGN_OR_RETURN(made->limits, limits_of(options));
  attention::RouterOptions wishes;
  wishes.backend = options.backend == nullptr ? "auto" : options.backend;
  wishes.deterministic = options.deterministic != 0;
  wishes.device = device;
  BIFOCAL_ASSIGN_OR_RETURN(const attention::Router router,
                           attention::Router::create(wishes, {&made->desc, 1}));
  made->prefill = explain(router.decide(0, attention::Phase::prefill));
  made->decode = explain(router.decide(0, attention::Phase::decode));
  const auto make = device == bifocal::DeviceKind::cuda ? bifocal::capi::make_cuda_attention
                                                        : bifocal::capi::make_cpu_attention;
  BIFOCAL_ASSIGN_OR_RETURN(made->device, make(router, made->desc, made->limits));
  *out = std::move(made);
  return {};
}

Status check_batch(const bifocal_attention& attention, const bifocal_attention_batch& batch) {
  if (batch.num_prefill < 0 || batch.num_decode < 0 ||
      int64_t{batch.num_prefill} + batch.num_decode > attention.limits.max_seqs) {
    return invalid_argument(fmt::format("a step of {} and {} sequences, made for at most {} (max_seqs)",
                                        batch.num_prefill, batch.num_decode, attention.limits.max_seqs));
  }
  if (batch.page_table_stride < 0) {
    return invalid_argument(fmt::format("page_table_stride is {}", batch.page_table_stride));
  }
  if (batch.num_prefill + batch.num_decode == 0) return {};
  BIFOCAL_RETURN_IF_ERROR(check_not_null(batch.q_begin, "q_begin"));
  BIFOCAL_RETURN_IF_ERROR(check_not_null(batch.q_len, "q_len"));
  BIFOCAL_RETURN_IF_ERROR(check_not_null(batch.kv_len, "kv_len"));
  return check_not_null(batch.page_table, "page_table");
}

Status check_layer(const bifocal_attention& attention, const bifocal_attention_layer& layer) {
  if (!attention.has_cache) return invalid_argument("there is no cache: call bifocal_attention_set_cache");
  if (layer.num_tokens < 0 || layer.num_tokens > attention.limits.max_tokens || layer.first_page < 0) {
    return invalid_argument(fmt::format("num_tokens is {} (at most {}), first_page {}", layer.num_tokens,
                                        attention.limits.max_tokens, layer.first_page));
  }
  if (attention.desc.sinks != (layer.sinks != nullptr)) {
    return invalid_argument(attention.desc.sinks ? "sinks is null, the class has sinks"
                                                 : "sinks are given, the class was made without");
  }
  if (layer.num_tokens == 0) return {};
  BIFOCAL_RETURN_IF_ERROR(check_not_null(layer.q, "q"));
  return check_not_null(layer.out, "out");
}

}  // namespace

extern "C" {

void bifocal_attention_defaults(bifocal_attention_options* options) {
  if (options == nullptr) return;
  *options = {};
  options->device = "cpu";
  options->backend = "auto";
  options->page_size = 64;
  options->cache_dtype = BIFOCAL_BF16;
}

bifocal_code bifocal_attention_create(const bifocal_attention_options* options, bifocal_attention** out) {
  return guarded([&]() -> Status {
    BIFOCAL_RETURN_IF_ERROR(check_not_null(out, "out"));
    *out = nullptr;
    BIFOCAL_RETURN_IF_ERROR(check_not_null(options, "options"));
    std::unique_ptr<bifocal_attention> made;
    BIFOCAL_RETURN_IF_ERROR(create(*options, &made));
    *out = made.release();
    return {};
  });
}

void bifocal_attention_destroy(bifocal_attention* attention) {
  delete attention;
}

bifocal_code bifocal_attention_set_cache(bifocal_attention* attention, void* k, void* v, int32_t num_pages) {
  return guarded([&]() -> Status {
    BIFOCAL_RETURN_IF_ERROR(check_not_null(attention, "attention"));
    BIFOCAL_RETURN_IF_ERROR(check_not_null(k, "k"));
    BIFOCAL_RETURN_IF_ERROR(check_not_null(v, "v"));
    if (num_pages <= 0) return invalid_argument(fmt::format("num_pages is {}", num_pages));
    BIFOCAL_RETURN_IF_ERROR(attention->device->set_cache(k, v, num_pages));
    attention->has_cache = true;
    return {};
  });
}

bifocal_code bifocal_attention_plan(bifocal_attention* attention, const bifocal_attention_batch* batch,
                                    void* stream) {
  return guarded([&]() -> Status {
    BIFOCAL_RETURN_IF_ERROR(check_not_null(attention, "attention"));
    BIFOCAL_RETURN_IF_ERROR(check_not_null(batch, "batch"));
    BIFOCAL_RETURN_IF_ERROR(check_batch(*attention, *batch));
    return attention->device->plan(*batch, stream);
  });
}

bifocal_code bifocal_attention_run(bifocal_attention* attention, const bifocal_attention_layer* layer,
                                   void* stream) {
  return guarded([&]() -> Status {
    BIFOCAL_RETURN_IF_ERROR(check_not_null(attention, "attention"));
    BIFOCAL_RETURN_IF_ERROR(check_not_null(layer, "layer"));
    BIFOCAL_RETURN_IF_ERROR(check_layer(*attention, *layer));
    return attention->device->run(*layer, stream);
  });
}

const char* bifocal_attention_explain(const bifocal_attention* attention, bifocal_phase phase) {
  if (attention == nullptr) return "";
  return (phase == BIFOCAL_PREFILL ? attention->prefill : attention->decode).c_str();
}

const char* bifocal_last_error(void) {
  return last_error.c_str();
}

}  // extern "C"
