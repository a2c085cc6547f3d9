#include "base/file.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

namespace bifocal {
namespace {

class FileTest : public testing::Test {
 protected:
  FileTest() { std::filesystem::create_directories(directory_); }
  ~FileTest() override { std::filesystem::remove_all(directory_); }
  std::string path(const char* name) const { return (directory_ / name).string(); }

  std::filesystem::path directory_ =
      std::filesystem::temp_directory_path() / ("bifocal_file_test_" + std::to_string(::getpid()));
};

TEST_F(FileTest, ReadsWhatWasWritten) {
  const std::string content = "line\n" + std::string(1, '\0') + "end";
  ASSERT_TRUE(write_file_atomically(path("a"), content).ok());
  EXPECT_EQ(*read_file(path("a"), 100), content);
  const auto mapped = MappedFile::open(path("a"));
  ASSERT_TRUE(mapped.ok());
  EXPECT_EQ(mapped->bytes().size(), content.size());
}

TEST_F(FileTest, SaysWhatIsWrong) {
  EXPECT_EQ(read_file(path("absent"), 100).status().code(), StatusCode::not_found);
  EXPECT_FALSE(read_file(directory_.string(), 100).ok());
  ASSERT_TRUE(write_file_atomically(path("big"), std::string(101, 'x')).ok());
  EXPECT_NE(read_file(path("big"), 100).status().message().find("101 bytes, expected at most 100"),
            std::string::npos);
  EXPECT_FALSE(MappedFile::open(path("absent")).ok());
}

TEST_F(FileTest, MapsAnEmptyFile) {
  ASSERT_TRUE(write_file_atomically(path("empty"), "").ok());
  const auto mapped = MappedFile::open(path("empty"));
  ASSERT_TRUE(mapped.ok());
  EXPECT_TRUE(mapped->bytes().empty());
}

TEST_F(FileTest, AFailedWriteLeavesTheOldFileAndNoLitter) {
  ASSERT_TRUE(write_file_atomically(path("profile"), "old").ok());
  std::filesystem::create_directory(path("directory"));
  EXPECT_FALSE(write_file_atomically(path("directory"), "new").ok());  // can't rename over a directory
  EXPECT_FALSE(write_file_atomically(path("no/such/folder"), "new").ok());
  EXPECT_EQ(*read_file(path("profile"), 100), "old");
  size_t entries = 0;
  for ([[maybe_unused]] const auto& entry : std::filesystem::directory_iterator(directory_)) ++entries;
  EXPECT_EQ(entries, 2U);
}

}  // namespace
}  // namespace bifocal
