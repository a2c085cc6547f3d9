#include "attention/desc.h"

#include <gtest/gtest.h>

#include <cmath>

#include "attention/capabilities.h"

namespace bifocal::attention {
namespace {

AttentionDesc qwen() {
  AttentionDesc desc;
  desc.num_heads = 32;
  desc.num_kv_heads = 8;
  desc.head_dim_k = desc.head_dim_v = 128;
  desc.scale = 1.0F / std::sqrt(128.0F);
  desc.kv_dtype = DType::bf16;
  return desc;
}

TEST(Desc, Key) {
  EXPECT_EQ(to_string(qwen()), "gqa_h32_kv8_d128_bf16_p16");

  AttentionDesc oss;
  oss.num_heads = 64;
  oss.num_kv_heads = 8;
  oss.head_dim_k = oss.head_dim_v = 64;
  oss.scale = 0.125F;
  oss.window = 128;
  oss.sinks = true;
  EXPECT_EQ(to_string(oss), "gqa_h64_kv8_d64_w128_sinks_f32_p16");

  AttentionDesc mla;
  mla.kind = Kind::mla;
  mla.num_heads = 16;
  mla.num_kv_heads = 1;
  mla.head_dim_k = 576;
  mla.head_dim_v = 512;
  mla.scale = 0.5F;
  mla.softcap = 50;
  mla.page_size = 64;
  EXPECT_EQ(to_string(mla), "mla_h16_kv1_d576v512_cap50_scale0.5_f32_p64");
}

TEST(Desc, Validate) {
  EXPECT_TRUE(validate(qwen()).ok());
  const auto refused = [](auto change) {
    AttentionDesc desc = qwen();
    change(desc);
    const Status status = validate(desc);
    EXPECT_EQ(status.code(), StatusCode::invalid_argument);
    return status.message();
  };
  EXPECT_NE(refused([](auto& d) { d.num_kv_heads = 5; }).find("32 heads and 5 KV heads"), std::string::npos);
  refused([](auto& d) { d.num_heads = 0; });
  refused([](auto& d) { d.head_dim_v = 0; });
  refused([](auto& d) { d.page_size = 0; });
  refused([](auto& d) { d.window = -1; });
  refused([](auto& d) { d.softcap = -1; });
  refused([](auto& d) { d.scale = NAN; });
}

Capabilities narrow() {
  Capabilities c;
  c.name = "narrow";
  c.phases = {Phase::decode};
  c.head_dims = {{128, 128}, {192, 128}};
  c.kv_dtypes = {DType::bf16, DType::f16};
  c.min_page_size = 16;
  c.max_page_size = 64;
  return c;
}

// Every property is named, with what was asked and what is offered.
TEST(Capabilities, IneligibleReasonNamesTheProperty) {
  const auto reason = [](auto change, Phase phase = Phase::decode, bool deterministic = false,
                         DeviceKind device = DeviceKind::cpu) {
    AttentionDesc desc = qwen();
    change(desc);
    return ineligible_reason(narrow(), desc, phase, deterministic, device).value_or("eligible");
  };
  const auto same = [](AttentionDesc&) {};
  EXPECT_EQ(reason(same), "eligible");
  EXPECT_EQ(reason([](auto& d) { d.head_dim_k = 192; }), "eligible");
  EXPECT_EQ(reason(same, Phase::prefill), "phase prefill: serves only decode");
  EXPECT_EQ(reason(same, Phase::decode, false, DeviceKind::cuda), "device: runs on cpu, not on cuda");
  EXPECT_EQ(reason(same, Phase::decode, true), "determinism: results depend on the batch");
  EXPECT_EQ(reason([](auto& d) { d.head_dim_v = 64; }), "head dims 128/64: takes only 128, 192/128");
  EXPECT_EQ(reason([](auto& d) { d.kv_dtype = DType::f32; }), "KV dtype f32: takes only bf16, f16");
  EXPECT_EQ(reason([](auto& d) { d.q_dtype = DType::bf16; }), "query dtype bf16: takes only f32");
  EXPECT_EQ(reason([](auto& d) { d.page_size = 8; }), "page size 8: takes only 16 to 64");
  EXPECT_EQ(reason([](auto& d) { d.page_size = 128; }), "page size 128: takes only 16 to 64");
  EXPECT_EQ(reason([](auto& d) { d.window = 99; }), "sliding window 99 is not offered");
  EXPECT_EQ(reason([](auto& d) { d.sinks = true; }), "attention sinks are not offered");
  EXPECT_EQ(reason([](auto& d) { d.softcap = 30; }), "logit softcap 30 is not offered");
  EXPECT_EQ(reason([](auto& d) { d.kind = Kind::mla; }), "multi-head latent attention is not offered");
}

TEST(Capabilities, HeadDimMultiple) {
  Capabilities c = narrow();
  c.head_dims.clear();
  AttentionDesc desc = qwen();
  desc.head_dim_k = desc.head_dim_v = 20;
  EXPECT_EQ(ineligible_reason(c, desc, Phase::decode, false), "head dims 20/20: takes only multiples of 8");
  desc.head_dim_k = desc.head_dim_v = 24;
  EXPECT_EQ(ineligible_reason(c, desc, Phase::decode, false), std::nullopt);
}

}  // namespace
}  // namespace bifocal::attention
