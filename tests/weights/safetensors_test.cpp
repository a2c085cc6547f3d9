#include "weights/safetensors.h"

#include <gtest/gtest.h>

#include <cstring>
#include <memory>

#include "base/hash.h"
#include "weights/checkpoint_files.h"

namespace bifocal::weights {
namespace {

// Parses from a heap block of exactly the file's size, so that a sanitizer sees any read past the end.
Expected<SafetensorsHeader> parse(std::string_view file) {
  const auto block = std::make_unique<std::byte[]>(file.size());
  if (!file.empty()) std::memcpy(block.get(), file.data(), file.size());
  return parse_safetensors({block.get(), file.size()}, "m.safetensors");
}

std::string with_length(uint64_t length, std::string_view rest) {
  std::string file = safetensors_bytes("", "");
  for (size_t i = 0; i < 8; ++i) file[i] = static_cast<char>(length >> (8 * i) & 0xff);
  return file + std::string(rest);
}

// What every accepted header guarantees, whatever the input was.
void expect_tiled(const SafetensorsHeader& header, uint64_t file_bytes) {
  uint64_t at = 0;
  for (const TensorInfo& tensor : header.tensors) {
    EXPECT_EQ(tensor.begin, at);
    uint64_t bytes = size_of(tensor.dtype);
    for (const int64_t dim : tensor.shape) bytes *= static_cast<uint64_t>(dim);
    EXPECT_EQ(tensor.num_bytes(), bytes);
    at = tensor.end;
  }
  EXPECT_EQ(header.data_begin + at, file_bytes);
}

const std::string kTwoTensors =
    safetensors_bytes({f32_tensor("a", {2, 3}, {1, 2, 3, 4, 5, 6}), f32_tensor("b", {1}, {7})});

TEST(Safetensors, ReadsNamesShapesAndOffsets) {
  const auto header = parse(kTwoTensors);
  ASSERT_TRUE(header.ok()) << header.status().message();
  ASSERT_EQ(header->tensors.size(), 2U);
  EXPECT_EQ(header->tensors[0].name, "a");
  EXPECT_EQ(header->tensors[0].shape, (std::vector<int64_t>{2, 3}));
  EXPECT_EQ(header->tensors[0].dtype, DType::f32);
  EXPECT_EQ(header->tensors[1].begin, 24U);
  EXPECT_EQ(header->tensors[1].end, 28U);
}

TEST(Safetensors, AcceptsWhatTheFormatAllows) {
  const std::string valid[] = {
      safetensors_bytes("{}", ""),
      safetensors_bytes("{\"__metadata__\":{}}", ""),
      safetensors_bytes("{}       ", ""),                                                     // padded header
      safetensors_bytes(R"({"s":{"dtype":"F32","shape":[],"data_offsets":[0,4]}})", "1234"),  // scalar
      safetensors_bytes(R"({"e":{"dtype":"F32","shape":[0],"data_offsets":[0,0]}})", ""),     // empty
      safetensors_bytes(R"({"e":{"dtype":"F32","shape":[3,0,5],"data_offsets":[0,0]}})", ""),  //
      safetensors_bytes(R"({"b":{"shape":[2],"data_offsets":[4,8],"dtype":"BF16"},
                            "a":{"dtype":"I16","shape":[2],"data_offsets":[0,4]}})",
                        "12345678"),  // in any order
      safetensors_bytes(R"({"e":{"dtype":"U8","shape":[0],"data_offsets":[2,2]},
                            "a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]}})",
                        "12"),  // empty tensor at the end
      safetensors_bytes("{\"\":{\"dtype\":\"BOOL\",\"shape\":[1],\"data_offsets\":[0,1]}}", "1"),
  };
  for (const std::string& file : valid) {
    const auto header = parse(file);
    ASSERT_TRUE(header.ok()) << file.substr(8) << ": " << header.status().message();
    expect_tiled(*header, file.size());
  }
}

struct Corrupt {
  const char* what;
  std::string file;
  const char* message;  // a part of the error
};

std::string one(std::string_view entry, std::string_view data = "12345678") {
  return safetensors_bytes("{\"t\":" + std::string(entry) + "}", data);
}

std::vector<Corrupt> corrupt_files() {
  const std::string good = R"({"t":{"dtype":"F32","shape":[2],"data_offsets":[0,8]}})";
  const std::string rest = good + "12345678";
  const uint64_t total = 8 + rest.size();
  std::string not_utf8 = good;
  not_utf8[2] = '\xff';
  std::string ten_thousand = R"({"t":{"dtype":"F32","shape":[1)";
  for (int i = 1; i < 10000; ++i) ten_thousand += ",1";
  ten_thousand += R"(],"data_offsets":[0,4]}})";
  const std::string deep = std::string(100000, '[') + std::string(100000, ']');
  std::vector<Corrupt> files = {
      {"empty file", "", "header's length"},
      {"seven bytes", "1234567", "header's length"},
      {"length 0", with_length(0, rest), "JSON"},
      {"length 1", with_length(1, rest), "JSON"},
      {"length file-8 (the header takes the data)", with_length(total - 8, rest), "JSON"},
      {"length file-7", with_length(total - 7, rest), "truncated"},
      {"length file", with_length(total, rest), "truncated"},
      {"length 2^31", with_length(uint64_t{1} << 31, rest), "at most"},
      {"length 2^32", with_length(uint64_t{1} << 32, rest), "at most"},
      {"length 2^63", with_length(uint64_t{1} << 63, rest), "at most"},
      {"length 2^64-1", with_length(UINT64_MAX, rest), "at most"},
      {"length 2^64-8 (wraps when 8 is added)", with_length(UINT64_MAX - 7, rest), "at most"},
      {"length 10^8+1", with_length(100'000'001, rest), "at most"},
      {"length 10^8", with_length(100'000'000, rest), "truncated"},
      {"no header behind the length", with_length(2, ""), "truncated"},
      {"header not UTF-8", safetensors_bytes(not_utf8, "12345678"), "UTF-8"},
      {"header not JSON", safetensors_bytes("hello", ""), "JSON"},
      {"header cut in a string", safetensors_bytes(good.substr(0, 10), "12345678"), "JSON"},
      {"header is an array", safetensors_bytes("[]", ""), "expected object"},
      {"header is null", safetensors_bytes("null", ""), "expected object"},
      {"header is a number", safetensors_bytes("7", ""), "expected object"},
      {"header is a string", safetensors_bytes("\"x\"", ""), "expected object"},
      {"bytes after the JSON", safetensors_bytes(good + "x", "12345678"), "JSON"},
      {"two documents", safetensors_bytes(good + "{}", "12345678"), "JSON"},
      {"zero bytes after the JSON", safetensors_bytes(good + std::string(3, '\0'), "12345678"), "zero byte"},
      {"10^5 levels of nesting", safetensors_bytes(deep, ""), "deeper"},
      {"nested entry", one(R"({"dtype":"F32","shape":[[2]],"data_offsets":[0,8]})"), "integer"},
      {"metadata is an array", safetensors_bytes(R"({"__metadata__":[]})", ""), "__metadata__"},
      {"metadata value is a number", safetensors_bytes(R"({"__metadata__":{"a":1}})", ""), "__metadata__"},
      {"metadata value is null", safetensors_bytes(R"({"__metadata__":{"a":null}})", ""), "__metadata__"},
      {"the same name twice",
       safetensors_bytes(R"({"t":{"dtype":"U8","shape":[1],"data_offsets":[0,1]},
                             "t":{"dtype":"U8","shape":[1],"data_offsets":[1,2]}})",
                         "12"),
       "twice"},
      {"entry is an array", one("[]"), "\"t\""},
      {"entry is null", one("null"), "\"t\""},
      {"unknown member", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8],"strides":[1]})"), "strides"},
      {"no dtype", one(R"({"shape":[2],"data_offsets":[0,8]})"), "missing"},
      {"no shape", one(R"({"dtype":"F32","data_offsets":[0,8]})"), "missing"},
      {"no offsets", one(R"({"dtype":"F32","shape":[2]})"), "missing"},
      {"shape is null", one(R"({"dtype":"F32","shape":null,"data_offsets":[0,8]})"), "missing"},
      {"shape is a number", one(R"({"dtype":"F32","shape":2,"data_offsets":[0,8]})"), "array"},
      {"shape negative", one(R"({"dtype":"F32","shape":[-1],"data_offsets":[0,8]})"), "shape[0]"},
      {"shape fractional", one(R"({"dtype":"F32","shape":[1.5],"data_offsets":[0,8]})"), "integer"},
      {"shape 2.0", one(R"({"dtype":"F32","shape":[2.0],"data_offsets":[0,8]})"), "integer"},
      {"shape a string", one(R"({"dtype":"F32","shape":["2"],"data_offsets":[0,8]})"), "integer"},
      {"shape [2^32,2^32] (wraps to 0)",
       one(R"({"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,0]})", ""), "overflows"},
      {"shape 2^62 of 4 bytes",
       one(R"({"dtype":"F32","shape":[4611686018427387904],"data_offsets":[0,0]})", ""), "overflows"},
      {"shape 2^64", one(R"({"dtype":"F32","shape":[18446744073709551616],"data_offsets":[0,0]})", ""),
       "64 bits"},
      {"10^4 dimensions", safetensors_bytes(ten_thousand, "1234"), "shape"},
      {"shape too small", one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,8]})"), "8 bytes, expected 4"},
      {"shape too large", one(R"({"dtype":"F32","shape":[3],"data_offsets":[0,8]})"), "8 bytes, expected 12"},
      {"shape [0] with bytes", one(R"({"dtype":"F32","shape":[0],"data_offsets":[0,8]})"), "expected 0"},
      {"one offset", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0]})"), "expected 2"},
      {"three offsets", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8,8]})"), "data_offsets"},
      {"no offsets in the list", one(R"({"dtype":"F32","shape":[2],"data_offsets":[]})"), "expected 2"},
      {"offsets reversed", one(R"({"dtype":"F32","shape":[2],"data_offsets":[8,0]})"), "before they begin"},
      {"offset negative", one(R"({"dtype":"F32","shape":[2],"data_offsets":[-8,0]})"), "data_offsets[0]"},
      {"offset fractional", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8.0]})"), "integer"},
      {"offset 2^63", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,9223372036854775808]})"),
       "64 bits"},
      {"ends past the file", one(R"({"dtype":"F32","shape":[4],"data_offsets":[0,16]})"), "truncated"},
      {"far past the file",
       one(R"({"dtype":"U8","shape":[9223372036854775807],"data_offsets":[0,9223372036854775807]})"),
       "truncated"},
      {"both offsets far past the file",
       one(R"({"dtype":"F32","shape":[2],"data_offsets":[9223372036854775799,9223372036854775807]})"),
       "begins at"},
      {"gap at the beginning", one(R"({"dtype":"F32","shape":[1],"data_offsets":[4,8]})"), "begins at"},
      {"gap between",
       safetensors_bytes(R"({"a":{"dtype":"U8","shape":[2],"data_offsets":[0,2]},
                             "b":{"dtype":"U8","shape":[2],"data_offsets":[3,5]}})",
                         "12345"),
       "\"b\""},
      {"overlap",
       safetensors_bytes(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
                             "b":{"dtype":"U8","shape":[4],"data_offsets":[2,6]}})",
                         "123456"),
       "\"b\""},
      {"two tensors over the same bytes",
       safetensors_bytes(R"({"a":{"dtype":"U8","shape":[4],"data_offsets":[0,4]},
                             "b":{"dtype":"U8","shape":[4],"data_offsets":[0,4]}})",
                         "1234"),
       "begins at"},
      {"bytes after the last tensor", one(R"({"dtype":"F32","shape":[1],"data_offsets":[0,4]})"), "longer"},
      {"data without tensors", safetensors_bytes("{}", "1"), "longer"},
      {"empty body", one(R"({"dtype":"F32","shape":[2],"data_offsets":[0,8]})", ""), "truncated"},
      {"dtype F33", one(R"({"dtype":"F33","shape":[2],"data_offsets":[0,8]})"), "F33"},
      {"dtype in lower case", one(R"({"dtype":"f32","shape":[2],"data_offsets":[0,8]})"), "f32"},
      {"dtype empty", one(R"({"dtype":"","shape":[2],"data_offsets":[0,8]})"), "dtype"},
      {"dtype a number", one(R"({"dtype":4,"shape":[2],"data_offsets":[0,8]})"), "string"},
      {"BF16 of an odd size", one(R"({"dtype":"BF16","shape":[2],"data_offsets":[0,3]})", "123"),
       "3 bytes, expected 4"},
  };
  return files;
}

TEST(Safetensors, RefusesCorruptFilesAndSaysWhy) {
  const auto files = corrupt_files();
  EXPECT_GE(files.size(), 60U);
  for (const Corrupt& corrupt : files) {
    const auto header = parse(corrupt.file);
    ASSERT_FALSE(header.ok()) << corrupt.what;
    EXPECT_EQ(header.status().code(), StatusCode::data_loss) << corrupt.what;
    EXPECT_TRUE(header.status().message().starts_with("m.safetensors: ")) << header.status().message();
    EXPECT_NE(header.status().message().find(corrupt.message), std::string::npos)
        << corrupt.what << ": " << header.status().message();
  }
}

TEST(Safetensors, NamesTheTensor) {
  const auto header = parse(one(R"({"dtype":"F33","shape":[2],"data_offsets":[0,8]})"));
  EXPECT_NE(header.status().message().find("tensor \"t\""), std::string::npos) << header.status().message();
}

TEST(Safetensors, MessagesStayShortAndPrintable) {
  const std::string name(5000, 'n');
  const auto header = parse(safetensors_bytes(
      "{\"" + name + "\\n\\u001b[31m\":{\"dtype\":\"F33\",\"shape\":[],\"data_offsets\":[0,4]}}", "1234"));
  ASSERT_FALSE(header.ok());
  EXPECT_LT(header.status().message().size(), 400U);
  EXPECT_EQ(quoted("a\nb\x1b"), "\"a\\nb\\u001b\"");
}

TEST(Safetensors, EveryTruncationIsAnError) {
  std::vector<FileTensor> tensors;
  for (int i = 0; i < 12; ++i) {
    tensors.push_back(
        f32_tensor("model.layers." + std::to_string(i) + ".weight", {4, 6}, std::vector<float>(24, 1.0F)));
  }
  const std::string file = safetensors_bytes(tensors, 5);
  ASSERT_GT(file.size(), 2048U);
  ASSERT_TRUE(parse(file).ok());
  for (size_t size = 0; size < file.size(); ++size) {
    ASSERT_FALSE(parse(std::string_view(file).substr(0, size)).ok()) << size << " bytes";
  }
  EXPECT_FALSE(parse(file + "x").ok());
}

// Mutants either fail or keep every guarantee; under the sanitizers they also read nothing outside the file.
TEST(Safetensors, MutantsAreRefusedOrTiled) {
  const std::string seeds[] = {
      kTwoTensors,
      safetensors_bytes({f32_tensor("model.embed_tokens.weight", {4, 2}, std::vector<float>(8, 0.5F)),
                         FileTensor{"e", "BF16", {0, 3}, ""}, FileTensor{"s", "U8", {}, "x"},
                         FileTensor{"i", "I64", {2}, std::string(16, 'i')}},
                        3),
  };
  const std::string_view alphabet = "0123456789[]{},:\"-.eF \\\x80\xff\x00";
  SplitMix64 random(2024);
  int accepted = 0;
  constexpr int kMutants = 20000;
  for (int i = 0; i < kMutants; ++i) {
    std::string file = seeds[random.below(std::size(seeds))];
    const uint64_t edits = 1 + random.below(4);
    for (uint64_t edit = 0; edit < edits; ++edit) {
      const size_t at = random.below(file.size());
      switch (random.below(5)) {
        case 0:
          file[at] = static_cast<char>(random.below(256));
          break;
        case 1:
          file[at] = alphabet[random.below(alphabet.size())];
          break;
        case 2:
          file.erase(at, 1 + random.below(3));
          break;
        case 3:
          file.insert(at, 1, alphabet[random.below(alphabet.size())]);
          break;
        default:
          file[at] = static_cast<char>(file[at] ^ (1 << random.below(8)));
      }
      if (file.empty()) break;
    }
    // Half of the mutants keep a true header length, or most would die on the first check.
    const size_t data_at = file.rfind('}');
    if (random.below(2) == 0 && file.size() > 9 && data_at != std::string::npos && data_at > 8) {
      const std::string fixed = safetensors_bytes(std::string_view(file).substr(8, data_at - 7), "");
      file.replace(0, 8, fixed.substr(0, 8));
    }
    const auto header = parse(file);
    if (!header.ok()) continue;
    ++accepted;
    expect_tiled(*header, file.size());
  }
  EXPECT_GT(accepted, kMutants / 100);  // edits in the data and in names
  EXPECT_LT(accepted, kMutants);
}

TEST(SafetensorsFile, GivesTheBytes) {
  const TemporaryDirectory directory;
  write_text(directory.file("m.safetensors"), kTwoTensors);
  const auto file = SafetensorsFile::open(directory.file("m.safetensors"));
  ASSERT_TRUE(file.ok()) << file.status().message();
  const auto bytes = file->bytes(file->tensors()[1]);
  float value = 0;
  ASSERT_EQ(bytes.size(), sizeof(value));
  std::memcpy(&value, bytes.data(), sizeof(value));
  EXPECT_EQ(value, 7.0F);
}

TEST(SafetensorsFile, MissingEmptyAndOddFiles) {
  const TemporaryDirectory directory;
  EXPECT_EQ(SafetensorsFile::open(directory.file("none")).status().code(), StatusCode::not_found);
  write_text(directory.file("empty"), "");
  EXPECT_EQ(SafetensorsFile::open(directory.file("empty")).status().code(), StatusCode::data_loss);
  EXPECT_FALSE(SafetensorsFile::open(directory.path()).ok());
}

}  // namespace
}  // namespace bifocal::weights
