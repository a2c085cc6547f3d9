#include "base/function_name.h"

#include <gtest/gtest.h>

namespace bifocal {
namespace {

TEST(FunctionName, IsShort) {
  // void ns::(anonymous namespace)::copy<(int)128, (bool)1>(float*)
  EXPECT_EQ(short_function_name("_ZN2ns12_GLOBAL__N_14copyILi128ELb1EEEvPf"), "copy<128, true>");
  EXPECT_EQ(short_function_name("_ZN2ns4copyEPf"), "copy");
  EXPECT_EQ(short_function_name("_Z4copyIN2ns4TypeEEvT_"), "copy<Type>");
}

TEST(FunctionName, OfAMemberKeepsItsOwnName) {
  // ns::Outer<int>::run(int)
  EXPECT_EQ(short_function_name("_ZN2ns5OuterIiE3runEi"), "Outer<int>::run");
}

TEST(FunctionName, LosesItsTemplateArgumentsWhenTheyAreLong) {
  // f<std::array<...>> of seven arrays in one another
  EXPECT_EQ(short_function_name(
                "_ZN2ns1fISt5arrayIS1_IS1_IS1_IS1_IS1_IS1_IiLm1EELm2EELm3EELm4EELm5EELm6EELm7EEEEvT_"),
            "f<...>");
}

TEST(FunctionName, ThatIsNotMangledStays) {
  EXPECT_EQ(short_function_name("nvjet_tst_64x8_64x16_4x1_v_bz_TNT"), "nvjet_tst_64x8_64x16_4x1_v_bz_TNT");
  EXPECT_EQ(short_function_name(""), "");
  EXPECT_EQ(short_function_name("_Z"), "_Z");
}

}  // namespace
}  // namespace bifocal
