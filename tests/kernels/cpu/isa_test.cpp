#include "kernels/cpu/isa.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "kernels/cpu/cpu_isa_guard.h"

namespace bifocal::kernels::cpu {
namespace {

TEST(Isa, ScalarIsAlwaysThereAndComesFirst) {
  ASSERT_FALSE(supported_isas().empty());
  EXPECT_EQ(supported_isas().front(), Isa::scalar);
  EXPECT_TRUE(is_supported(current_isa()));
}

TEST(Isa, NamesGoThereAndBack) {
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512, Isa::avx512_bf16, Isa::amx}) {
    const auto parsed = parse_isa(to_string(isa));
    ASSERT_TRUE(parsed.ok());
    EXPECT_EQ(*parsed, isa);
  }
  EXPECT_EQ(*parse_isa("auto"), supported_isas().back());
  const auto unknown = parse_isa("sse9");
  EXPECT_EQ(unknown.status().code(), StatusCode::invalid_argument);
  EXPECT_NE(unknown.status().message().find("avx512_bf16"), std::string::npos) << "should list the choices";
}

TEST(Isa, SetIsaRefusesWhatTheProcessorLacks) {
  for (const Isa isa : {Isa::scalar, Isa::avx2, Isa::avx512, Isa::avx512_bf16, Isa::amx}) {
    CpuIsaGuard guard(current_isa());
    const Isa before = current_isa();
    const Status status = set_isa(isa);
    EXPECT_EQ(status.ok(), is_supported(isa));
    EXPECT_EQ(current_isa(), status.ok() ? isa : before);
  }
}

TEST(Isa, EachSetImpliesThePlainerOnes) {
  const auto isas = supported_isas();
  for (size_t i = 0; i < isas.size(); ++i) EXPECT_EQ(static_cast<size_t>(isas[i]), i);
}

}  // namespace
}  // namespace bifocal::kernels::cpu
