#include "server/api_keys.h"

#include <gtest/gtest.h>

namespace bifocal::server {
namespace {

http::Request with_header(std::string name, std::string value) {
  http::Request request;
  request.headers.push_back({std::move(name), std::move(value)});
  return request;
}

// FIPS 180-4's examples and block boundaries.
TEST(Sha256, KnownDigests) {
  EXPECT_EQ(to_hex(sha256("")), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
  EXPECT_EQ(to_hex(sha256("abc")), "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad");
  EXPECT_EQ(to_hex(sha256("abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq")),
            "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1");
  EXPECT_EQ(to_hex(sha256(std::string(1'000'000, 'a'))),
            "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0");
}

TEST(Sha256, EveryDifferenceCounts) {
  const Sha256 a = sha256("key");
  EXPECT_TRUE(equal_in_constant_time(a, a));
  for (size_t i = 0; i < a.size(); ++i) {
    Sha256 b = a;
    b[i] ^= 1;
    EXPECT_FALSE(equal_in_constant_time(a, b));
  }
}

TEST(ApiKeys, FoundInEitherHeader) {
  const std::vector<ApiKey> keys = {make_api_key("first"), make_api_key("second")};
  EXPECT_EQ(find_api_key(keys, with_header("authorization", "Bearer first")), 0);
  EXPECT_EQ(find_api_key(keys, with_header("authorization", "bearer second")), 1);
  EXPECT_EQ(find_api_key(keys, with_header("x-api-key", "second")), 1);
  EXPECT_EQ(find_api_key(keys, with_header("authorization", "Bearer firs")), -1);
  EXPECT_EQ(find_api_key(keys, with_header("authorization", "Bearer first2")), -1);
  EXPECT_EQ(find_api_key(keys, with_header("authorization", "Bearer ")), -1);
  EXPECT_EQ(find_api_key(keys, with_header("authorization", "Basic first")), -1);
  EXPECT_EQ(find_api_key(keys, with_header("x-api-key", "")), -1);
  EXPECT_EQ(find_api_key(keys, {}), -1);
}

TEST(ApiKeys, AreNamedByTheirDigest) {
  EXPECT_EQ(make_api_key("secret").id, to_hex(sha256("secret")).substr(0, 8));
}

TEST(ApiKeys, FileOfNamesAndDigests) {
  const std::string digest = to_hex(sha256("k"));
  const auto keys = parse_api_key_file("# people\n\nalice:" + digest + "\r\n  bob : " + digest + "\n");
  ASSERT_TRUE(keys.ok()) << keys.status().message();
  ASSERT_EQ(keys->size(), 2U);
  EXPECT_EQ((*keys)[0].id, "alice");
  EXPECT_EQ((*keys)[1].id, "bob");
  EXPECT_EQ(find_api_key(*keys, with_header("x-api-key", "k")), 1);
}

TEST(ApiKeys, FileErrorsNameTheLineAndNotTheSecret) {
  for (const std::string& line : {std::string("hunter2"), std::string("a:hunter2"), ":" + to_hex(sha256("x")),
                                  "a:" + to_hex(sha256("x")) + "0"}) {
    const auto keys = parse_api_key_file("# ok\n" + line + "\n");
    ASSERT_FALSE(keys.ok()) << line;
    EXPECT_NE(keys.status().message().find("line 2"), std::string::npos);
    EXPECT_EQ(keys.status().message().find("hunter2"), std::string::npos);
  }
}

}  // namespace
}  // namespace bifocal::server
