#include "kernels/cuda/linear_table.h"

#include <gtest/gtest.h>

namespace bifocal::kernels::cuda {
namespace {

LinearTable example() {
  LinearTable table;
  table.cublaslt_version = 130001;
  LinearChoice choice;
  choice.m_bucket = 16;
  choice.n = 5120;
  choice.k = 8192;
  choice.kind = LinearKind::skinny;
  choice.us = 20.5;
  table.add(choice);
  choice.m_bucket = 0;
  choice.kind = LinearKind::cublaslt;
  choice.algorithm = {0xFFFFFFFFFFFFFFFFULL, 1, 2, 3, 4, 5, 6, 0x0123456789ABCDEFULL};
  table.add(choice);
  return table;
}

TEST(LinearTable, BucketsArePowersOfTwoFromEight) {
  EXPECT_EQ(linear_bucket(1), 8);
  EXPECT_EQ(linear_bucket(8), 8);
  EXPECT_EQ(linear_bucket(9), 16);
  EXPECT_EQ(linear_bucket(4097), 8192);
}

TEST(LinearTable, ReadsBackWhatItWrites) {
  const LinearTable table = example();
  const auto read = parse_linear_table(to_json(table));
  ASSERT_TRUE(read.ok()) << read.status().message();
  EXPECT_EQ(read->cublaslt_version, 130001U);
  ASSERT_EQ(read->choices.size(), 2U);
  EXPECT_EQ(read->find(16, 5120, 8192)->kind, LinearKind::skinny);
  EXPECT_EQ(read->find(0, 5120, 8192)->algorithm, table.choices[1].algorithm);
  EXPECT_EQ(read->find(32, 5120, 8192), nullptr);
}

TEST(LinearTable, AShapeHasOneChoice) {
  LinearTable table = example();
  LinearChoice other = table.choices[0];
  other.us = 1.0;
  table.add(other);
  EXPECT_EQ(table.choices.size(), 2U);
  EXPECT_EQ(table.find(16, 5120, 8192)->us, 1.0);
}

TEST(LinearTable, RefusesWhatIsNoTable) {
  const std::string digits(128, '0');
  for (const std::string& text :
       {std::string(""), std::string("{}"), std::string("[]"), std::string(R"({"choices": [{}]})"),
        std::string(R"({"choices": [{"m_bucket": 8, "n": 0, "k": 8, "kind": "skinny"}]})"),
        std::string(R"({"choices": [{"m_bucket": 8, "n": 8, "k": 8, "kind": "other"}]})"),
        std::string(R"({"choices": [{"m_bucket": 8, "n": 8, "k": 8, "kind": "cublaslt"}]})"),
        R"({"choices": [{"m_bucket": 8, "n": 8, "k": 8, "kind": "cublaslt", "algorithm": "x)" +
            digits.substr(1) + R"("}]})",
        R"({"cublaslt_version": -1, "choices": []})" + std::string()}) {
    EXPECT_FALSE(parse_linear_table(text).ok()) << text;
  }
}

}  // namespace
}  // namespace bifocal::kernels::cuda
