#include "weights/checkpoint.h"

#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include "weights/checkpoint_files.h"

namespace bifocal::weights {
namespace {

std::string index_text(const std::vector<std::pair<std::string, std::string>>& entries) {
  std::string map;
  for (const auto& [tensor, shard] : entries) {
    map += fmt::format("{}\"{}\":\"{}\"", map.empty() ? "" : ",", tensor, shard);
  }
  return fmt::format(R"({{"metadata":{{"total_size":1}},"weight_map":{{{}}}}})", map);
}

constexpr const char* kShard1 = "model-00001-of-00002.safetensors";
constexpr const char* kShard2 = "model-00002-of-00002.safetensors";
constexpr const char* kIndex = "model.safetensors.index.json";

class Sharded : public ::testing::Test {
 protected:
  Sharded() {
    write_text(directory.file(kShard1), safetensors_bytes({f32_tensor("a", {2}, {1, 2})}));
    write_text(directory.file(kShard2),
               safetensors_bytes({f32_tensor("b", {1}, {3}), f32_tensor("c", {1}, {4})}));
    write_text(directory.file(kIndex), index_text({{"a", kShard1}, {"b", kShard2}, {"c", kShard2}}));
  }
  Status open() { return Checkpoint::open(directory.path()).status(); }
  void expect_error(const std::string& part) {
    const Status status = open();
    ASSERT_FALSE(status.ok()) << part;
    EXPECT_NE(status.message().find(part), std::string::npos) << status.message();
  }
  TemporaryDirectory directory;
};

std::vector<float> values(const TensorView& view) {
  return {view.as<float>(), view.as<float>() + view.num_elements()};
}

TEST(Checkpoint, ReadsASingleFile) {
  const TemporaryDirectory directory;
  write_text(directory.file("model.safetensors"), safetensors_bytes({f32_tensor("w", {2, 2}, {1, 2, 3, 4})}));
  auto checkpoint = Checkpoint::open(directory.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_TRUE(checkpoint->has("w"));
  EXPECT_FALSE(checkpoint->has("v"));
  EXPECT_EQ(checkpoint->num_bytes(), 16U);
  Tensor staging;
  const std::vector<int64_t> shape = {2, 2};
  const auto view = checkpoint->read("w", shape, staging);
  ASSERT_TRUE(view.ok()) << view.status().message();
  EXPECT_EQ(values(*view), (std::vector<float>{1, 2, 3, 4}));
}

TEST(Checkpoint, CopiesTensorsThatTheFileDoesNotAlign) {
  for (size_t padding = 0; padding < 8; ++padding) {
    const TemporaryDirectory directory;
    write_text(
        directory.file("model.safetensors"),
        safetensors_bytes({FileTensor{"byte", "U8", {1}, "x"}, f32_tensor("w", {3}, {1, 2, 3})}, padding));
    auto checkpoint = Checkpoint::open(directory.path());
    ASSERT_TRUE(checkpoint.ok());
    Tensor staging;
    const std::vector<int64_t> shape = {3};
    const auto view = checkpoint->read("w", shape, staging);
    ASSERT_TRUE(view.ok());
    EXPECT_EQ(reinterpret_cast<uintptr_t>(view->data) % 4, 0U);
    EXPECT_EQ(values(*view), (std::vector<float>{1, 2, 3}));
  }
}

TEST(Checkpoint, ReadChecksNameAndShape) {
  const TemporaryDirectory directory;
  write_text(directory.file("model.safetensors"), safetensors_bytes({f32_tensor("w", {2, 2}, {1, 2, 3, 4})}));
  auto checkpoint = Checkpoint::open(directory.path());
  ASSERT_TRUE(checkpoint.ok());
  Tensor staging;
  for (const std::vector<int64_t>& shape : {std::vector<int64_t>{4}, {2, 2, 1}, {2, 3}, {}}) {
    const auto view = checkpoint->read("w", shape, staging);
    ASSERT_FALSE(view.ok());
    EXPECT_NE(view.status().message().find("tensor \"w\" has shape [2,2], expected"), std::string::npos)
        << view.status().message();
  }
  EXPECT_EQ(checkpoint->read("v", std::vector<int64_t>{4}, staging).status().code(), StatusCode::not_found);
}

TEST(Checkpoint, ComparesTensors) {
  const TemporaryDirectory directory;
  write_text(directory.file("model.safetensors"),
             safetensors_bytes({f32_tensor("a", {2}, {1, 2}), f32_tensor("b", {2}, {1, 2}),
                                f32_tensor("c", {2}, {1, 3}), f32_tensor("d", {1, 2}, {1, 2})}));
  auto checkpoint = Checkpoint::open(directory.path());
  ASSERT_TRUE(checkpoint.ok());
  EXPECT_TRUE(checkpoint->same_values("a", "b"));
  EXPECT_FALSE(checkpoint->same_values("a", "c"));
  EXPECT_FALSE(checkpoint->same_values("a", "d"));
}

TEST(Checkpoint, NoWeightsAtAll) {
  const TemporaryDirectory directory;
  const auto checkpoint = Checkpoint::open(directory.path());
  EXPECT_EQ(checkpoint.status().code(), StatusCode::not_found);
  EXPECT_NE(checkpoint.status().message().find("model.safetensors"), std::string::npos);
}

TEST_F(Sharded, ReadsAllShards) {
  auto checkpoint = Checkpoint::open(directory.path());
  ASSERT_TRUE(checkpoint.ok()) << checkpoint.status().message();
  EXPECT_EQ(checkpoint->entries().size(), 3U);
  EXPECT_NE(checkpoint->path_of("c").find(kShard2), std::string::npos);
  Tensor staging;
  const auto view = checkpoint->read("c", std::vector<int64_t>{1}, staging);
  ASSERT_TRUE(view.ok());
  EXPECT_EQ(values(*view), std::vector<float>{4});
}

TEST_F(Sharded, FollowsSymbolicLinksOfADownloadCache) {
  const std::string blob = directory.file("blob");
  ASSERT_EQ(::rename(directory.file(kShard1).c_str(), blob.c_str()), 0);
  ASSERT_EQ(::symlink("blob", directory.file(kShard1).c_str()), 0);
  EXPECT_TRUE(open().ok());
}

TEST_F(Sharded, SingleFileComesFirst) {
  write_text(directory.file("model.safetensors"), safetensors_bytes({f32_tensor("only", {1}, {1})}));
  const auto checkpoint = Checkpoint::open(directory.path());
  ASSERT_TRUE(checkpoint.ok());
  EXPECT_TRUE(checkpoint->has("only"));
  EXPECT_FALSE(checkpoint->has("a"));
}

TEST_F(Sharded, MissingShard) {
  ASSERT_EQ(::unlink(directory.file(kShard2).c_str()), 0);
  expect_error(std::string(kShard2) + ": the index names this shard");
}

TEST_F(Sharded, TruncatedShard) {
  ASSERT_EQ(::truncate(directory.file(kShard2).c_str(), 150), 0);
  expect_error(kShard2);
}

TEST_F(Sharded, IndexNamesATensorThatIsNowhere) {
  write_text(directory.file(kIndex),
             index_text({{"a", kShard1}, {"b", kShard2}, {"c", kShard2}, {"d", kShard1}}));
  expect_error("tensor \"d\" should be in");
}

TEST_F(Sharded, IndexPutsATensorInTheWrongShard) {
  write_text(directory.file(kIndex), index_text({{"a", kShard1}, {"b", kShard1}, {"c", kShard2}}));
  expect_error("tensor \"b\" should be in");
}

TEST_F(Sharded, ShardHasATensorThatTheIndexLacks) {
  write_text(directory.file(kIndex), index_text({{"a", kShard1}, {"b", kShard2}}));
  expect_error("tensor \"c\" is not in");
}

TEST_F(Sharded, SameTensorInTwoShards) {
  write_text(directory.file(kShard1),
             safetensors_bytes({f32_tensor("a", {2}, {1, 2}), f32_tensor("b", {1}, {9})}));
  expect_error("tensor \"b\" is also in");
}

TEST_F(Sharded, ShardNamesStayInTheDirectory) {
  const std::string outside = directory.path() + "_outside.safetensors";
  write_text(outside, safetensors_bytes({f32_tensor("a", {2}, {1, 2})}));
  const std::string base = outside.substr(outside.rfind('/') + 1);
  for (const std::string& name :
       {"../" + base, outside, std::string("./") + kShard1, "x/../" + std::string(kShard1),
        std::string(".safetensors"), std::string("..safetensors"), std::string(""), std::string("model.bin"),
        std::string("a\\\\b.safetensors"), std::string("a\\u0000.safetensors"),
        std::string(300, 'a') + ".safetensors"}) {
    write_text(directory.file(kIndex), index_text({{"a", name}, {"b", kShard2}, {"c", kShard2}}));
    expect_error("plain name");
  }
  ::unlink(outside.c_str());
}

TEST_F(Sharded, BrokenIndexFiles) {
  const std::pair<const char*, const char*> cases[] = {
      {"", "JSON"},
      {"[]", "expected object"},
      {"{}", "weight_map"},
      {R"({"weight_map":[]})", "weight_map"},
      {R"({"weight_map":{}})", "empty"},
      {R"({"weight_map":{"a":1}})", "expected string"},
      {R"({"weight_map":{"a":"x.safetensors","a":"x.safetensors"}})", "twice"},
      {R"({"weight_map":{"a":"x.safetensors"}} x)", "JSON"},
  };
  for (const auto& [text, part] : cases) {
    write_text(directory.file(kIndex), text);
    expect_error(part);
    expect_error(kIndex);
  }
}

TEST_F(Sharded, TooManyShards) {
  std::vector<std::pair<std::string, std::string>> entries;
  for (int i = 0; i < 5000; ++i)
    entries.emplace_back(fmt::format("t{}", i), fmt::format("{}.safetensors", i));
  write_text(directory.file(kIndex), index_text(entries));
  expect_error("5000 shards");
}

}  // namespace
}  // namespace bifocal::weights
