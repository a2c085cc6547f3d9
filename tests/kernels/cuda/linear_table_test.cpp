#include "kernels/cuda/linear_table.h"

#include <gtest/gtest.h>

namespace bifocal::kernels::cuda {
namespace {

LinearTable example() {
  LinearTable table;
  table.device = "NVIDIA H200";
  table.cublaslt_version = 130001;
  LinearChoice choice;
  choice.shape = {16, 5120, 8192, false};
  choice.kind = LinearKind::skinny;
  choice.us = 20.5;
  table.add(choice);
  choice.shape.in_order = true;
  choice.kind = LinearKind::cublaslt;
  choice.algorithm = {0xFFFFFFFFFFFFFFFFULL, 1, 2, 3, 4, 5, 6, 0x0123456789ABCDEFULL};
  table.add(choice);
  choice.shape.gated = true;
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
  EXPECT_EQ(read->device, "NVIDIA H200");
  ASSERT_EQ(read->choices.size(), 3U);
  EXPECT_EQ(read->find({16, 5120, 8192})->kind, LinearKind::skinny);
  EXPECT_EQ(read->find({16, 5120, 8192})->us, 20.5);
  EXPECT_EQ(read->find({16, 5120, 8192, false, true})->algorithm, table.choices[1].algorithm);
  EXPECT_NE(read->find({16, 5120, 8192, true, true}), nullptr);
  EXPECT_EQ(read->find({32, 5120, 8192}), nullptr);
  EXPECT_EQ(read->find({16, 5120, 8192, true}), nullptr);
}

TEST(LinearTable, AShapeHasOneChoice) {
  LinearTable table = example();
  LinearChoice other = table.choices[0];
  other.us = 1.0;
  table.add(other);
  EXPECT_EQ(table.choices.size(), 3U);
  EXPECT_EQ(table.find({16, 5120, 8192})->us, 1.0);
}

TEST(LinearTable, RefusesWhatIsNoTable) {
  const auto with_choices = [](const std::string& choices) {
    return R"({"device": "x", "cublaslt_version": 1, "choices": )" + choices + "}";
  };
  ASSERT_TRUE(parse_linear_table(with_choices("[]")).ok());
  const std::string digits(128, '0');
  const std::string algorithm = R"([{"m_bucket": 8, "n": 8, "k": 8, "kind": "cublaslt", "algorithm": ")";
  ASSERT_TRUE(parse_linear_table(with_choices(algorithm + digits + "\"}]")).ok());
  for (const std::string& text :
       {std::string(""), std::string("{}"), std::string("[]"), with_choices("[{}]"), with_choices("7"),
        with_choices("[7]"), with_choices(R"([{"m_bucket": 0, "n": 8, "k": 8, "kind": "skinny"}])"),
        with_choices(R"([{"m_bucket": 8, "n": 0, "k": 8, "kind": "skinny"}])"),
        with_choices(R"([{"m_bucket": 8, "n": 8, "k": 99999999999, "kind": "skinny"}])"),
        with_choices(R"([{"m_bucket": 8, "n": 8, "k": 8, "kind": "other"}])"),
        with_choices(R"([{"m_bucket": 8, "n": 8, "k": 8, "gated": 1, "kind": "skinny"}])"),
        with_choices(R"([{"m_bucket": 8, "n": 8, "k": 8, "in_order": 1, "kind": "skinny"}])"),
        with_choices(R"([{"m_bucket": 8, "n": 8, "k": 8, "kind": "cublaslt"}])"),
        with_choices(algorithm + "x" + digits.substr(1) + "\"}]"), with_choices(algorithm + digits + "0\"}]"),
        std::string(R"({"device": "x", "cublaslt_version": -1, "choices": []})"),
        std::string(R"({"device": "x", "choices": []})"),
        std::string(R"({"cublaslt_version": 1, "choices": []})")}) {
    EXPECT_FALSE(parse_linear_table(text).ok()) << text;
  }
  const std::string whole = to_json(example());
  for (size_t length = 0; length < whole.size(); ++length) {
    EXPECT_FALSE(parse_linear_table(whole.substr(0, length)).ok()) << length << " bytes of it";
  }
}

TEST(LinearTable, IsOfUseWhereItWasMeasured) {
  const LinearTable table = example();
  EXPECT_TRUE(check_linear_table(table, "NVIDIA H200", 130001).ok());
  const Status other = check_linear_table(table, "NVIDIA H100", 130001);
  EXPECT_EQ(other.message(), "it was measured on NVIDIA H200, this is NVIDIA H100");
  const Status older = check_linear_table(table, "NVIDIA H200", 130000);
  EXPECT_EQ(older.message(), "it was measured with cuBLASLt 130001, this is 130000");
}

}  // namespace
}  // namespace bifocal::kernels::cuda
